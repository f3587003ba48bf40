//! Calls that never became an item: a command the sandbox refused at once, a patch that was
//! rejected. Only the raw items of the model's conversation tell of them.

use std::collections::HashMap;

use bridge_proto::{
    ToolCallId,
    model::{ToolKind, ToolState, ToolStatus},
};
use serde_json::{Value, json};

use super::items::{MAX_TITLE, bounded};
use crate::plain::one_line;

/// Calls the model made whose results are not there yet.
#[derive(Debug, Default)]
pub(super) struct RawCalls {
    open: HashMap<String, Call>,
}

#[derive(Debug)]
struct Call {
    name: String,
    input: String,
    /// How many items had begun before it.
    items_before: u64,
}

impl RawCalls {
    /// One raw item. `begun` is how many tool items have begun so far, `is_item` whether one of
    /// them had this id. Gives the call if it is over and nothing else told of it.
    pub(super) fn on_item(
        &mut self,
        item: &Value,
        begun: u64,
        is_item: impl Fn(&str) -> bool,
    ) -> Option<ToolState> {
        let text = |name: &str| item.get(name).and_then(Value::as_str);
        let id = text("call_id")?;
        match text("type")? {
            "function_call" | "custom_tool_call" => {
                let name = text("name").filter(|name| SHOWN.contains(name))?;
                let input = text("arguments")
                    .or_else(|| text("input"))
                    .unwrap_or_default();
                if self.open.len() < MAX_OPEN {
                    let call = Call {
                        name: name.to_owned(),
                        input: bounded(input),
                        items_before: begun,
                    };
                    self.open.insert(id.to_owned(), call);
                }
                None
            }
            "function_call_output" | "custom_tool_call_output" => {
                let call = self.open.remove(id)?;
                // A script calls tools of its own, whose items have other ids.
                let told = is_item(id) || (call.name == SCRIPT && begun > call.items_before);
                if told {
                    return None;
                }
                call.over(id, item.get("output").unwrap_or(&Value::Null))
            }
            _ => None,
        }
    }

    /// The turn is over.
    pub(super) fn clear(&mut self) {
        self.open.clear();
    }
}

impl Call {
    fn over(self, id: &str, output: &Value) -> Option<ToolState> {
        let output = output_text(output);
        let arguments: Option<Value> = serde_json::from_str(&self.input).ok();
        let argument = |name: &str| {
            let value = arguments.as_ref()?.get(name)?;
            value.as_str().map(str::to_owned)
        };
        let command = argument("cmd").or_else(|| argument("command"));
        let (kind, title) = match (&command, self.name.as_str()) {
            (Some(command), _) => (ToolKind::Execute, one_line(command, MAX_TITLE)),
            (None, "apply_patch") => (ToolKind::Edit, "Change files".to_owned()),
            (None, SCRIPT) => (ToolKind::Execute, one_line(&self.input, MAX_TITLE)),
            (None, name) => (ToolKind::Execute, name.to_owned()),
        };
        let (_, gave) = output.split_once("\nOutput:\n").unwrap_or(("", &output));
        let went_well = ["Process exited with code 0\n", "Script completed\n"];
        let well = went_well.iter().any(|sign| output.contains(sign));
        let input = match command {
            Some(command) => json!({ "command": command }),
            None => json!({ "text": self.input }),
        };
        Some(ToolState {
            id: ToolCallId::parse(id).ok()?,
            title,
            kind,
            status: if well {
                ToolStatus::Completed
            } else {
                ToolStatus::Failed
            },
            input: Some(input),
            output: Some(gave.to_owned()).filter(|gave| !gave.is_empty()),
            locations: Vec::new(),
            diffs: Vec::new(),
        })
    }
}

fn output_text(output: &Value) -> String {
    if let Some(text) = output.as_str() {
        return bounded(text);
    }
    let parts = output.as_array().into_iter().flatten();
    let texts = parts.filter_map(|part| part.get("text").and_then(Value::as_str));
    bounded(&texts.collect::<Vec<_>>().concat())
}

/// The tool by which newer models write scripts that call the others.
const SCRIPT: &str = "exec";
/// Tools whose calls usually become items.
const SHOWN: [&str; 5] = [
    "exec_command",
    "shell",
    "shell_command",
    "apply_patch",
    SCRIPT,
];
/// Most calls followed at once.
const MAX_OPEN: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn call(kind: &str, name: &str, input: &str) -> Value {
        json!({"type": kind, "call_id": "c1", "name": name, "arguments": input, "input": input})
    }

    #[test]
    fn a_call_without_an_item_is_told_with_its_result() {
        let mut calls = RawCalls::default();
        let call = call("function_call", "exec_command", r#"{"cmd":"touch /opt/x"}"#);
        assert_eq!(calls.on_item(&call, 0, |_| false), None);
        let output = json!({"type": "function_call_output", "call_id": "c1",
            "output": "Process exited with code 1\nOutput:\nRead-only file system"});
        let told = calls.on_item(&output, 0, |_| false).unwrap();
        assert_eq!(
            (told.title.as_str(), told.status, told.kind),
            ("touch /opt/x", ToolStatus::Failed, ToolKind::Execute)
        );
        assert_eq!(told.output.as_deref(), Some("Read-only file system"));
        assert_eq!(calls.on_item(&output, 0, |_| false), None, "told once");
    }

    #[test]
    fn a_call_that_is_an_item_or_a_script_whose_calls_are_is_not_told_twice() {
        let output = |kind: &str| json!({"type": kind, "call_id": "c1", "output": "x"});
        let mut calls = RawCalls::default();
        calls.on_item(
            &call("custom_tool_call", "apply_patch", "*** Begin"),
            3,
            |_| false,
        );
        let told = calls.on_item(&output("custom_tool_call_output"), 4, |id| id == "c1");
        assert_eq!(told, None);
        calls.on_item(
            &call("custom_tool_call", SCRIPT, "await tools.x()"),
            4,
            |_| false,
        );
        let told = calls.on_item(&output("custom_tool_call_output"), 5, |_| false);
        assert_eq!(told, None);
        calls.on_item(
            &call("custom_tool_call", SCRIPT, "await tools.x()"),
            5,
            |_| false,
        );
        let parts = json!({"type": "custom_tool_call_output", "call_id": "c1",
            "output": [{"text": "Script failed\n"}, {"text": "patch rejected"}]});
        let told = calls.on_item(&parts, 5, |_| false).unwrap();
        assert_eq!(
            told.output.as_deref(),
            Some("Script failed\npatch rejected")
        );
    }

    #[test]
    fn tools_that_are_no_deeds_are_not_told() {
        let mut calls = RawCalls::default();
        for item in [
            call("function_call", "write_stdin", "{}"),
            call("message", "exec_command", "{}"),
            json!({"type": "function_call", "name": "exec_command"}),
            json!(7),
        ] {
            assert_eq!(calls.on_item(&item, 0, |_| false), None);
        }
        assert!(calls.open.is_empty());
    }
}
