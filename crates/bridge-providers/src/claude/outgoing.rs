//! The lines written to the program.

use bridge_proto::Digest;
use serde_json::{Value, json};

/// A prompt. The uuid lets the program's own bookkeeping be followed.
pub(super) fn prompt(text: &str, uuid: &str) -> String {
    json!({
        "type": "user",
        "message": {"role": "user", "content": [{"type": "text", "text": text}]},
        "parent_tool_use_id": null,
        "uuid": uuid,
    })
    .to_string()
}

/// A control request of ours.
pub(super) fn request(id: &str, request: &Value) -> String {
    json!({"type": "control_request", "request_id": id, "request": request}).to_string()
}

/// Yes, with the input to run; `permissions` only for "do not ask again".
pub(super) fn allow(id: &str, input: &Value, permissions: &[Value]) -> String {
    let mut response = json!({"behavior": "allow", "updatedInput": input});
    if !permissions.is_empty()
        && let Some(fields) = response.as_object_mut()
    {
        fields.insert(
            "updatedPermissions".into(),
            Value::Array(permissions.to_vec()),
        );
    }
    success(id, &response)
}

/// No; the agent reads the message and goes on.
pub(super) fn deny(id: &str, message: &str) -> String {
    success(id, &json!({"behavior": "deny", "message": message}))
}

/// A control request of the program that this side does not serve.
pub(super) fn unsupported(id: &str, subtype: &str) -> String {
    json!({"type": "control_response", "response": {
        "subtype": "error",
        "request_id": id,
        "error": format!("unsupported control request: {subtype}"),
    }})
    .to_string()
}

fn success(id: &str, response: &Value) -> String {
    json!({"type": "control_response", "response": {
        "subtype": "success",
        "request_id": id,
        "response": response,
    }})
    .to_string()
}

/// A UUID made from names: the same names give the same one, everywhere.
pub(super) fn uuid_of(names: &[&str]) -> String {
    let digest = Digest::of(names);
    let mut hex: Vec<char> = digest.as_str().chars().take(32).collect();
    if let Some(version) = hex.get_mut(12) {
        *version = '8';
    }
    if let Some(variant) = hex.get_mut(16) {
        *variant = 'a';
    }
    let mut text = String::with_capacity(36);
    for (at, digit) in hex.into_iter().enumerate() {
        if matches!(at, 8 | 12 | 16 | 20) {
            text.push('-');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_have_the_shape_and_follow_from_the_names() {
        let one = uuid_of(&["task", "1"]);
        assert_eq!(one, uuid_of(&["task", "1"]));
        assert_ne!(one, uuid_of(&["task", "2"]));
        let parts: Vec<usize> = one.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
    }

    #[test]
    fn an_answer_always_carries_the_input() {
        let line = allow("r", &json!({"a": 1}), &[]);
        assert_eq!(
            line,
            r#"{"type":"control_response","response":{"subtype":"success","request_id":"r","response":{"behavior":"allow","updatedInput":{"a":1}}}}"#
        );
    }
}
