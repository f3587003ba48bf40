//! Tool calls of the print mode: an object with one key, which names the tool, holds what it was
//! called with and, in the end, what came of it.

use std::collections::{BTreeMap, VecDeque};

use bridge_proto::{
    ToolCallId,
    model::{Location, ToolKind, ToolState, ToolStatus},
};
use serde_json::Value;

use crate::plain::{head, sentence};

/// The tool calls of the turn.
#[derive(Debug, Default)]
pub(super) struct Tools {
    calls: BTreeMap<ToolCallId, ToolState>,
    order: VecDeque<ToolCallId>,
}

/// What a message came to.
#[derive(Debug, PartialEq)]
pub(super) struct Told {
    /// The whole call.
    pub(super) state: ToolState,
    /// The file that was written by it.
    pub(super) written: Option<String>,
}

impl Tools {
    /// Takes a `tool_call` message; `None` if it names no call.
    pub(super) fn take(&mut self, message: &Value) -> Option<Told> {
        let id = message.get("call_id")?.as_str()?;
        let id = ToolCallId::parse(&id.replace(char::is_control, "_")).ok()?;
        let call = message.get("tool_call").and_then(Value::as_object);
        let (name, call) = call
            .and_then(|call| call.iter().next())
            .map_or(("tool", &Value::Null), |(name, call)| (name.as_str(), call));
        let known = self.calls.remove(&id);
        if known.is_none() {
            if self.order.len() == MAX_CALLS
                && let Some(oldest) = self.order.pop_front()
            {
                self.calls.remove(&oldest);
            }
            self.order.push_back(id.clone());
        }
        let mut state = known.unwrap_or_else(|| begun(id.clone(), name, call));
        let completed = message.get("subtype").and_then(Value::as_str) == Some("completed");
        let mut written = None;
        if completed {
            let (status, output) = ended(call.get("result"));
            state.status = status;
            state.output = output;
            if status == ToolStatus::Completed && state.kind == ToolKind::Edit {
                written = state.locations.first().map(|place| place.path.clone());
            }
        }
        self.calls.insert(id, state.clone());
        Some(Told { state, written })
    }

    /// Gives every call without an end this one, and forgets all.
    pub(super) fn finish(&mut self, end: ToolStatus) -> Vec<ToolState> {
        let mut calls = std::mem::take(&mut self.calls);
        std::mem::take(&mut self.order)
            .into_iter()
            .filter_map(|id| calls.remove(&id))
            .filter(|state| state.status == ToolStatus::InProgress)
            .map(|state| ToolState {
                status: end,
                ..state
            })
            .collect()
    }
}

fn begun(id: ToolCallId, name: &str, call: &Value) -> ToolState {
    let name = name.strip_suffix("ToolCall").unwrap_or(name);
    let args = call.get("args");
    let text = |key: &str| args.and_then(|args| args.get(key)).and_then(Value::as_str);
    let path = text("path").map(str::to_owned);
    let about = text("command")
        .or_else(|| text("path"))
        .or_else(|| text("pattern"))
        .or_else(|| text("query"))
        .or_else(|| call.get("name").and_then(Value::as_str));
    ToolState {
        id,
        title: sentence(
            &format!("{name} {}", about.unwrap_or_default()),
            TITLE_CHARS,
        ),
        kind: kind_of(name),
        status: ToolStatus::InProgress,
        input: args.or_else(|| call.get("arguments")).cloned(),
        output: None,
        locations: path
            .into_iter()
            .map(|path| Location { path, line: None })
            .collect(),
        diffs: Vec::new(),
    }
}

fn kind_of(name: &str) -> ToolKind {
    match name {
        "read" => ToolKind::Read,
        "write" | "edit" => ToolKind::Edit,
        "delete" => ToolKind::Delete,
        "grep" | "glob" | "ls" | "semSearch" | "codebaseSearch" => ToolKind::Search,
        "shell" => ToolKind::Execute,
        "webFetch" | "webSearch" | "fetch" => ToolKind::Fetch,
        _ => ToolKind::Other,
    }
}

/// Good is only what says `success`; a result in a form nobody knows is not known.
fn ended(result: Option<&Value>) -> (ToolStatus, Option<String>) {
    let Some(result) = result.and_then(Value::as_object) else {
        return (ToolStatus::Unknown, None);
    };
    if let Some(success) = result.get("success") {
        return (ToolStatus::Completed, Some(output_of(success)));
    }
    let bad = [
        "error",
        "failure",
        "rejected",
        "permissionDenied",
        "timeout",
    ];
    match bad.iter().find_map(|name| result.get(*name)) {
        Some(why) => (ToolStatus::Failed, Some(output_of(why))),
        None => (
            ToolStatus::Unknown,
            Some(output_of(&Value::Object(result.clone()))),
        ),
    }
}

fn output_of(value: &Value) -> String {
    let field = |name: &str| value.get(name).and_then(Value::as_str);
    let streams: Vec<&str> = [field("stdout"), field("stderr")]
        .into_iter()
        .flatten()
        .map(str::trim_end)
        .filter(|text| !text.is_empty())
        .collect();
    let text = if streams.is_empty() {
        ["content", "message", "error", "reason"]
            .iter()
            .find_map(|name| field(name))
            .map_or_else(|| value.to_string(), str::to_owned)
    } else {
        streams.join("\n")
    };
    let text = value.as_str().map_or(text, str::to_owned);
    head(&text, OUTPUT_BYTES).to_owned()
}

/// Far more than a turn has; the oldest are forgotten.
const MAX_CALLS: usize = 2000;
const TITLE_CHARS: usize = 500;
/// Of the text a tool gave; the agent's own message has all of it.
const OUTPUT_BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(id: &str, subtype: &str, name: &str, call: Value) -> Value {
        let mut tool = serde_json::Map::new();
        tool.insert(name.into(), call);
        json!({"type": "tool_call", "subtype": subtype, "call_id": id, "tool_call": tool})
    }

    #[test]
    fn a_written_file_is_told_when_the_call_says_success() {
        let mut tools = Tools::default();
        let args = json!({"path": "/p/a.md", "fileText": "x"});
        let begun = tools
            .take(&message(
                "c\n1",
                "started",
                "writeToolCall",
                json!({"args": args}),
            ))
            .unwrap();
        assert_eq!(begun.state.id.as_str(), "c_1");
        assert_eq!(begun.state.title, "write /p/a.md");
        assert_eq!(begun.written, None);
        let done = json!({"args": args, "result": {"success": {"linesCreated": 1}}});
        let done = tools
            .take(&message("c\n1", "completed", "writeToolCall", done))
            .unwrap();
        assert_eq!(done.written.as_deref(), Some("/p/a.md"));
        assert_eq!(done.state.status, ToolStatus::Completed);
    }

    #[test]
    fn what_does_not_say_success_has_failed_or_is_unknown() {
        for (result, status, output) in [
            (
                json!({"rejected": {"reason": "not allowed"}}),
                ToolStatus::Failed,
                "not allowed",
            ),
            (json!({"error": "gone"}), ToolStatus::Failed, "gone"),
            (
                json!({"failure": {"exitCode": 1, "stdout": "a\n", "stderr": "b"}}),
                ToolStatus::Failed,
                "a\nb",
            ),
            (json!({"novel": 1}), ToolStatus::Unknown, "{\"novel\":1}"),
        ] {
            let call = json!({"args": {"command": "x"}, "result": result});
            let told = Tools::default()
                .take(&message("c", "completed", "shellToolCall", call))
                .unwrap();
            assert_eq!(told.state.status, status, "{result}");
            assert_eq!(told.state.output.as_deref(), Some(output));
        }
    }

    #[test]
    fn odd_messages_neither_panic_nor_grow_without_bound() {
        let mut tools = Tools::default();
        assert_eq!(tools.take(&json!({})), None);
        assert!(
            tools
                .take(&json!({"call_id": "c", "tool_call": 3}))
                .is_some()
        );
        for n in 0..MAX_CALLS + 10 {
            tools.take(&message(&format!("c{n}"), "started", "x", json!(null)));
        }
        assert_eq!(tools.calls.len(), MAX_CALLS);
        assert_eq!(tools.finish(ToolStatus::Cancelled).len(), MAX_CALLS);
    }
}
