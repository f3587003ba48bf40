//! The messages of the Agent Client Protocol that tell of a turn. Pure.

use serde_json::{Value, json};

use super::{files::Change, tools::Deed};

/// More of the answer.
pub(super) fn text(delta: &str) -> Value {
    chunk("agent_message_chunk", delta)
}

/// More of what the model thinks.
pub(super) fn thought(delta: &str) -> Value {
    chunk("agent_thought_chunk", delta)
}

/// What a person wrote before.
pub(super) fn prompt(text: &str) -> Value {
    chunk("user_message_chunk", text)
}

fn chunk(kind: &str, text: &str) -> Value {
    json!({ "sessionUpdate": kind, "content": { "type": "text", "text": text } })
}

/// The model begins to call a tool; with what is not known yet.
pub(super) fn calling(id: &str, name: &str) -> Value {
    let kind = match name {
        "read_file" => "read",
        "write_file" | "edit_file" => "edit",
        "glob_files" | "grep_files" => "search",
        _ => "other",
    };
    json!({
        "sessionUpdate": "tool_call", "toolCallId": id, "title": name, "kind": kind,
        "status": "pending",
    })
}

/// A tool that only looks is at work.
pub(super) fn looking(id: &str, deed: &Deed, path: &str) -> Value {
    json!({
        "sessionUpdate": "tool_call_update", "toolCallId": id, "title": deed.title(),
        "kind": deed.kind(), "status": "in_progress", "locations": [{ "path": path }],
    })
}

/// A change, as a person is asked about it.
pub(super) fn change(id: &str, deed: &Deed, change: &Change) -> Value {
    json!({
        "toolCallId": id, "title": deed.title(), "kind": "edit", "status": "pending",
        "locations": [{ "path": change.shown }],
        "content": [{
            "type": "diff", "path": change.shown, "oldText": change.old, "newText": change.new,
        }],
    })
}

/// As an update of the session.
pub(super) fn update(mut call: Value, status: &str) -> Value {
    call["sessionUpdate"] = json!("tool_call_update");
    call["status"] = json!(status);
    call
}

/// A tool call is over; `output` is what it gave or why it failed.
pub(super) fn done(id: &str, status: &str, output: &str) -> Value {
    json!({
        "sessionUpdate": "tool_call_update", "toolCallId": id, "status": status,
        "rawOutput": output,
    })
}

/// Something of the endpoint that has no place.
pub(super) fn odd(part: &Value) -> Value {
    json!({ "sessionUpdate": "unknown_answer_part", "part": part })
}

/// The cost of the conversation so far, and how much the model read last.
pub(super) fn cost(dollars: f64, used: u64, size: u64) -> Value {
    json!({
        "sessionUpdate": "usage_update", "used": used, "size": size,
        "cost": { "amount": dollars, "currency": "USD" },
    })
}

/// What may be answered to a question about a change.
pub(super) fn options() -> Value {
    json!([
        { "optionId": ALLOW, "name": "Allow", "kind": "allow_once" },
        { "optionId": ALWAYS, "name": "Allow all changes in this conversation",
          "kind": "allow_always" },
        { "optionId": REJECT, "name": "Reject", "kind": "reject_once" },
    ])
}

/// What a person said to a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Yes.
    Once,
    /// Yes, and do not ask again in this conversation.
    Always,
    /// No, or nothing.
    No,
}

/// Reads the result of a permission request; everything but a clear yes is a no.
pub(super) fn verdict(result: &Value) -> Verdict {
    let selected = result.pointer("/outcome/outcome").and_then(Value::as_str) == Some("selected");
    let option = result.pointer("/outcome/optionId").and_then(Value::as_str);
    match option.filter(|_| selected) {
        Some(ALLOW) => Verdict::Once,
        Some(ALWAYS) => Verdict::Always,
        Some(_) | None => Verdict::No,
    }
}

const ALLOW: &str = "allow";
const ALWAYS: &str = "allow_always";
const REJECT: &str = "reject";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_yes_is_one() {
        let selected = |option: &str| {
            verdict(&json!({ "outcome": { "outcome": "selected", "optionId": option } }))
        };
        assert_eq!(selected(ALLOW), Verdict::Once);
        assert_eq!(selected(ALWAYS), Verdict::Always);
        for odd in [
            json!({ "outcome": { "outcome": "cancelled", "optionId": ALLOW } }),
            json!({ "outcome": { "outcome": "selected" } }),
            json!(null),
            json!("allow"),
        ] {
            assert_eq!(verdict(&odd), Verdict::No, "{odd}");
        }
        assert_eq!(selected(REJECT), Verdict::No);
        let offered = options();
        let offered: Vec<_> = offered.as_array().unwrap().iter().collect();
        assert_eq!(offered.len(), 3);
    }
}
