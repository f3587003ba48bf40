//! Items that are tool calls: what each is called for, what it gave, how far it got.

use bridge_proto::model::{FileDiff, Location, ToolKind, ToolStatus};
use serde_json::{Map, Value, json};

use super::{
    commands,
    patch::{self, Change, Deed},
};
use crate::plain::{one_line, readable, shorten};

/// What an item says of a tool call.
#[derive(Debug)]
pub(super) struct Description {
    pub(super) title: String,
    pub(super) kind: ToolKind,
    pub(super) input: Option<Value>,
    /// What it gave; `None` while nothing is known.
    pub(super) output: Option<String>,
    pub(super) locations: Vec<Location>,
    pub(super) diffs: Vec<FileDiff>,
    /// The files that are there or changed when it is done.
    pub(super) writes: Vec<String>,
}

/// Reads an item; `None` if it is no tool call. Titles are relative to `directory`.
pub(super) fn describe(item: &Value, directory: &str) -> Option<Description> {
    let text = |name: &str| item.get(name).and_then(Value::as_str);
    match text("type")? {
        "commandExecution" => Some(command(item)),
        "fileChange" => Some(file_change(item, directory)),
        "mcpToolCall" => {
            let name = format!(
                "{}.{}",
                text("server").unwrap_or("?"),
                text("tool").unwrap_or("?")
            );
            Some(named(&name, ToolKind::Other, item))
        }
        "dynamicToolCall" => Some(named(text("tool").unwrap_or("tool"), ToolKind::Other, item)),
        "collabAgentToolCall" => {
            let mut call = named(text("tool").unwrap_or("agent"), ToolKind::Think, item);
            call.input = text("prompt").map(|prompt| json!({ "prompt": bounded(prompt) }));
            Some(call)
        }
        "webSearch" => {
            let query = text("query").unwrap_or_default();
            let mut call = named(&format!("Search the web: {query}"), ToolKind::Fetch, item);
            call.input = Some(json!({ "query": bounded(query) }));
            Some(call)
        }
        "imageView" => {
            let path = text("path").unwrap_or_default();
            let title = format!("Look at {}", relative(path, directory));
            let mut call = named(&title, ToolKind::Read, item);
            call.locations = vec![location(path)];
            Some(call)
        }
        _ => None,
    }
}

/// How far the call got, by the item's own word.
pub(super) fn status(item: &Value, over: bool) -> ToolStatus {
    match item.get("status").and_then(Value::as_str) {
        Some("completed") => ToolStatus::Completed,
        Some("failed" | "declined") => ToolStatus::Failed,
        Some("inProgress" | "in_progress") if !over => ToolStatus::InProgress,
        Some(_) | None if over => ToolStatus::Completed,
        Some(_) | None => ToolStatus::InProgress,
    }
}

/// What a person reads about each file of a change.
pub(super) fn deeds(changes: &[Change], directory: &str) -> Vec<String> {
    let deed = |change: &Change| {
        let path = relative(&change.path, directory);
        match (change.deed, &change.moved) {
            (Deed::Add, _) => format!("Write {path} (a new file)"),
            (Deed::Delete, _) => format!("Delete {path}"),
            (Deed::Update, None) => format!("Change {path}"),
            (Deed::Update, Some(moved)) => format!("Move {path} to {}", relative(moved, directory)),
        }
    };
    changes.iter().map(deed).collect()
}

/// A path as it is shown: relative to the working directory where it lies in it.
pub(super) fn relative<'a>(path: &'a str, directory: &str) -> &'a str {
    let rest = path.strip_prefix(directory);
    match rest.map(|rest| rest.strip_prefix(['/', '\\'])) {
        Some(Some(rest)) if !rest.is_empty() => rest,
        Some(_) | None => path,
    }
}

/// Output as far as it goes into one event: both ends.
pub(super) fn bounded(text: &str) -> String {
    shorten(text, MAX_OUTPUT).into_owned()
}

fn command(item: &Value) -> Description {
    let text = |name: &str| item.get(name).and_then(Value::as_str);
    let wrapped = text("command").unwrap_or_default();
    let plain = commands::unwrapped(wrapped);
    let mut input = Map::new();
    input.insert("command".into(), bounded(&plain).into());
    if let Some(directory) = text("cwd") {
        input.insert("directory".into(), readable(directory, MAX_PATH).into());
    }
    let code = item.get("exitCode").and_then(Value::as_i64);
    let output = text("aggregatedOutput").map(bounded);
    let output = match code.filter(|code| *code != 0) {
        Some(code) => Some(with_code(output.unwrap_or_default(), code)),
        None => output,
    };
    let actions = item.get("commandActions").unwrap_or(&Value::Null);
    Description {
        title: one_line(&plain, MAX_TITLE),
        kind: commands::kind(actions),
        input: Some(Value::Object(input)),
        output: output.filter(|output| !output.is_empty()),
        locations: Vec::new(),
        diffs: Vec::new(),
        writes: Vec::new(),
    }
}

fn with_code(mut output: String, code: i64) -> String {
    if !output.is_empty() && !output.ends_with('\n') {
        output.push('\n');
    }
    output + &format!("exit code {code}")
}

fn file_change(item: &Value, directory: &str) -> Description {
    let changes = patch::changes(item.get("changes").unwrap_or(&Value::Null));
    let title = match &deeds(&changes, directory)[..] {
        [] => "Change files".to_owned(),
        [one] => one_line(one, MAX_TITLE),
        [first, rest @ ..] => format!("{} and {} more", one_line(first, MAX_TITLE), rest.len()),
    };
    let moved = changes.iter().filter_map(|change| change.moved.as_deref());
    let places = changes
        .iter()
        .map(|change| change.path.as_str())
        .chain(moved);
    let written = changes.iter().filter_map(Change::written);
    Description {
        title,
        kind: patch::kind(&changes),
        input: None,
        output: None,
        locations: places.map(location).collect(),
        writes: written.map(str::to_owned).collect(),
        diffs: changes
            .into_iter()
            .flat_map(|change| change.diffs)
            .collect(),
    }
}

/// A call that is known by its name, arguments and result.
fn named(title: &str, kind: ToolKind, item: &Value) -> Description {
    let arguments = item.get("arguments").filter(|value| !value.is_null());
    let error = item.pointer("/error/message").and_then(Value::as_str);
    let result = item.get("result").or_else(|| item.get("contentItems"));
    let output = error.map(bounded).or_else(|| result.and_then(result_text));
    Description {
        title: one_line(title, MAX_TITLE),
        kind,
        input: arguments.map(slim),
        output,
        locations: Vec::new(),
        diffs: Vec::new(),
        writes: Vec::new(),
    }
}

fn result_text(result: &Value) -> Option<String> {
    let parts = result.get("content").unwrap_or(result).as_array();
    let texts: Vec<&str> = parts
        .into_iter()
        .flatten()
        .filter_map(|part| part.get("text").and_then(Value::as_str))
        .collect();
    if !texts.is_empty() {
        return Some(bounded(&texts.join("\n")));
    }
    (!result.is_null()).then(|| bounded(&result.to_string()))
}

/// Arguments without their bulk.
fn slim(arguments: &Value) -> Value {
    let text = arguments.to_string();
    if text.len() > MAX_INPUT {
        Value::String(bounded(&text))
    } else {
        arguments.clone()
    }
}

fn location(path: &str) -> Location {
    Location {
        path: readable(path, MAX_PATH),
        line: None,
    }
}

/// Most bytes of a tool's output in an event.
pub(super) const MAX_OUTPUT: usize = 64 << 10;
/// Most bytes of arguments in an event.
const MAX_INPUT: usize = 256 << 10;
/// Longest title.
pub(super) const MAX_TITLE: usize = 200;
/// Longest path shown.
const MAX_PATH: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn of(item: &Value) -> Description {
        describe(item, "/home/user/project").unwrap()
    }

    #[test]
    fn a_command_is_shown_without_its_shell_and_a_failure_with_its_code() {
        let call = of(
            &json!({"type": "commandExecution", "command": "/bin/bash -lc 'ls\nrm x'",
            "cwd": "/home/user/project", "commandActions": [{"type": "unknown"}],
            "aggregatedOutput": "out", "exitCode": 3}),
        );
        assert_eq!(
            (call.title.as_str(), call.kind),
            ("ls …", ToolKind::Execute)
        );
        assert_eq!(call.output.as_deref(), Some("out\nexit code 3"));
        assert_eq!(call.input.unwrap()["command"], "ls\nrm x");
    }

    #[test]
    fn a_change_of_files_names_them_relative_to_the_working_directory() {
        let change = |path: &str, kind: &str| json!({"path": path, "kind": {"type": kind}});
        let one = change("/home/user/project/a/b.txt", "add");
        let call = of(&json!({"type": "fileChange", "changes": [one]}));
        assert_eq!(call.title, "Write a/b.txt (a new file)");
        assert_eq!(call.writes, ["/home/user/project/a/b.txt"]);
        let outside = change("/home/user/project2/c", "delete");
        let call = of(&json!({"type": "fileChange", "changes": [outside, one]}));
        assert_eq!(call.title, "Delete /home/user/project2/c and 1 more");
        assert_eq!(call.writes.len(), 1);
        assert_eq!(of(&json!({"type": "fileChange"})).title, "Change files");
    }

    #[test]
    fn other_tools_are_named_and_their_results_read() {
        let call = of(
            &json!({"type": "mcpToolCall", "server": "db", "tool": "query",
            "arguments": {"q": 1}, "result": {"content": [{"text": "one"}, {"text": "two"}]}}),
        );
        assert_eq!(
            (call.title.as_str(), call.output.as_deref()),
            ("db.query", Some("one\ntwo"))
        );
        let call = of(&json!({"type": "mcpToolCall", "error": {"message": "no"}}));
        assert_eq!(
            (call.title.as_str(), call.output.as_deref()),
            ("?.?", Some("no"))
        );
        let call = of(&json!({"type": "webSearch", "query": "rust"}));
        assert_eq!(call.title, "Search the web: rust");
        assert!(describe(&json!({"type": "agentMessage"}), "/").is_none());
    }

    #[test]
    fn a_declined_call_failed_and_an_odd_one_is_over_when_it_is() {
        let word = |status: &str, over| super::status(&json!({"status": status}), over);
        assert_eq!(word("declined", true), ToolStatus::Failed);
        assert_eq!(word("inProgress", false), ToolStatus::InProgress);
        assert_eq!(word("inProgress", true), ToolStatus::Completed);
        assert_eq!(word("brand_new", false), ToolStatus::InProgress);
    }
}
