//! The lines written to the program: JSON-RPC without its version field.

use serde_json::{Value, json};

/// A request of ours.
pub(super) fn request(id: u64, method: &str, params: &Value) -> String {
    json!({ "id": id, "method": method, "params": params }).to_string()
}

/// Something told without wanting an answer.
pub(super) fn notification(method: &str) -> String {
    json!({ "method": method }).to_string()
}

/// The answer to a request of the program.
pub(super) fn result(id: &Value, result: &Value) -> String {
    json!({ "id": id, "result": result }).to_string()
}

/// The refusal of a request that this side does not serve.
pub(super) fn unsupported(id: &Value, method: &str) -> String {
    let message = format!("unsupported request: {method}");
    json!({ "id": id, "error": { "code": METHOD_NOT_FOUND, "message": message } }).to_string()
}

/// The greeting. Without `experimentalApi` what a cancelled turn leaves running could not be
/// ended; what is opted out of has no place in the events of a run.
pub(super) fn greeting() -> Value {
    json!({
        "clientInfo": {
            "name": "ctrlnode",
            "title": "ctrlnode",
            "version": env!("CARGO_PKG_VERSION"),
        },
        "capabilities": {
            "experimentalApi": true,
            "requestAttestation": false,
            "optOutNotificationMethods": SILENCED,
        },
    })
}

/// Text of a person as the input of a turn.
pub(super) fn input(text: &str) -> Value {
    json!([{ "type": "text", "text": text, "text_elements": [] }])
}

const METHOD_NOT_FOUND: i64 = -32601;
const SILENCED: [&str; 4] = [
    "account/rateLimits/updated",
    "rawResponse/completed",
    "remoteControl/status/changed",
    "thread/readState/changed",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_carry_no_version_and_ids_go_back_as_they_came() {
        assert_eq!(
            request(3, "turn/interrupt", &json!({"threadId": "t"})),
            r#"{"id":3,"method":"turn/interrupt","params":{"threadId":"t"}}"#
        );
        assert_eq!(
            result(&json!("odd"), &json!({"decision": "accept"})),
            r#"{"id":"odd","result":{"decision":"accept"}}"#
        );
        assert!(unsupported(&json!(0), "item/tool/call").contains(r#""code":-32601"#));
    }
}
