//! Tool calls: what each is called for, how far it got, what it changed.

use std::collections::HashMap;

use bridge_proto::{
    ToolCallId,
    model::{FileDiff, Location, RunEvent, ToolKind, ToolState, ToolStatus},
};
use serde_json::Value;

use crate::plain::{one_line, readable, shorten};

/// The calls of one turn that are not over yet.
#[derive(Debug, Default)]
pub(super) struct Tools {
    open: HashMap<String, Call>,
    /// Begun so far; open calls are told about in this order.
    begun: u64,
    /// Where the session works; titles are shown relative to it.
    root: Option<String>,
}

#[derive(Debug)]
struct Call {
    number: u64,
    name: String,
    state: ToolState,
}

impl Tools {
    /// The calls of a session that works there.
    pub(super) fn in_folder(root: Option<String>) -> Self {
        Self {
            root,
            ..Self::default()
        }
    }

    /// One message of the stream `tool`; `None` when it says nothing that is shown.
    pub(super) fn on(&mut self, data: &Value) -> Option<Vec<RunEvent>> {
        let id = data.get("toolCallId").and_then(Value::as_str)?;
        let name = data.get("name").and_then(Value::as_str).unwrap_or("tool");
        match data.get("phase").and_then(Value::as_str)? {
            "start" => {
                let input = data.get("args").unwrap_or(&Value::Null);
                Some(self.begin(id, name, input).into_iter().collect())
            }
            "update" => {
                let partial = data.get("partialResult").unwrap_or(&Value::Null);
                Some(self.update(id, name, partial).into_iter().collect())
            }
            "result" => Some(self.result(id, name, data)),
            // The gateway's own review of a command, told again by the question that follows.
            "review" => Some(Vec::new()),
            _ => None,
        }
    }

    /// The call waits for a permission, or goes on after one.
    pub(super) fn status(&mut self, id: &str, status: ToolStatus) -> Option<RunEvent> {
        let call = self.open.get_mut(id)?;
        if call.state.status == status {
            return None;
        }
        call.state.status = status;
        Some(RunEvent::Tool(call.state.clone()))
    }

    /// The turn is over: what is still open ends with this status.
    pub(super) fn close(&mut self, status: ToolStatus) -> Vec<RunEvent> {
        let mut left: Vec<Call> = self.open.drain().map(|(_, call)| call).collect();
        left.sort_by_key(|call| call.number);
        left.into_iter()
            .map(|mut call| {
                call.state.status = status;
                RunEvent::Tool(call.state)
            })
            .collect()
    }

    fn begin(&mut self, id: &str, name: &str, input: &Value) -> Option<RunEvent> {
        let state = ToolState {
            id: ToolCallId::parse(id).ok()?,
            title: self.title(name, input),
            kind: kind(name),
            status: ToolStatus::InProgress,
            input: (!input.is_null()).then(|| slim(input)),
            output: None,
            locations: locations(input),
            diffs: intended_diffs(name, input),
        };
        let event = RunEvent::Tool(state.clone());
        if self.open.contains_key(id) || self.open.len() < MAX_OPEN {
            self.begun += 1;
            let number = self.open.get(id).map_or(self.begun, |call| call.number);
            let name = name.to_owned();
            let call = Call {
                number,
                name,
                state,
            };
            self.open.insert(id.to_owned(), call);
        }
        Some(event)
    }

    /// Output so far; whole each time.
    fn update(&mut self, id: &str, name: &str, partial: &Value) -> Option<RunEvent> {
        if !self.open.contains_key(id) {
            self.begin(id, name, &Value::Null)?;
        }
        let call = self.open.get_mut(id)?;
        let output = output_of(partial).filter(|output| !output.is_empty())?;
        if call.state.output.as_ref() == Some(&output) {
            return None;
        }
        call.state.output = Some(output);
        call.state.status = ToolStatus::InProgress;
        Some(RunEvent::Tool(call.state.clone()))
    }

    fn result(&mut self, id: &str, name: &str, data: &Value) -> Vec<RunEvent> {
        if !self.open.contains_key(id) {
            self.begin(id, name, &Value::Null);
        }
        let Some(mut call) = self.open.remove(id) else {
            return Vec::new();
        };
        let result = data.get("result").unwrap_or(&Value::Null);
        let exit = result.pointer("/details/exitCode").and_then(Value::as_i64);
        let is_error = data.get("isError").and_then(Value::as_bool) == Some(true);
        let failed = is_error || exit.is_some_and(|code| code != 0);
        call.state.status = if failed {
            ToolStatus::Failed
        } else {
            ToolStatus::Completed
        };
        call.state.output = output_of(result).filter(|output| !output.is_empty());
        let patch = result.pointer("/details/patch").and_then(Value::as_str);
        let created = result.pointer("/details/created").and_then(Value::as_bool);
        if failed {
            call.state.diffs.clear();
        } else if let Some(patch) = patch.filter(|_| created != Some(true)) {
            call.state.diffs = patch_diffs(patch);
        }
        let written = !failed
            && kind(&call.name) == ToolKind::Edit
            && result.pointer("/details/changed").and_then(Value::as_bool) != Some(false);
        let mut events = vec![RunEvent::Tool(call.state.clone())];
        if result.pointer("/details/status").and_then(Value::as_str) == Some("running") {
            events.push(goes_on(&call.state.title, result.pointer("/details/pid")));
        }
        if written {
            let mut paths: Vec<String> = call.state.diffs.into_iter().map(|d| d.path).collect();
            if paths.is_empty() {
                paths.extend(call.state.locations.into_iter().map(|place| place.path));
            }
            paths.dedup();
            events.extend(paths.into_iter().map(|path| RunEvent::FileWritten { path }));
        }
        events
    }

    /// What a person reads: the tool and the one thing that matters about the call.
    fn title(&self, name: &str, input: &Value) -> String {
        let text = |field: &str| input.get(field).and_then(Value::as_str);
        if let (ToolKind::Execute, Some(command)) = (kind(name), text("command")) {
            return one_line(command, MAX_TITLE);
        }
        let subject = PATHS
            .into_iter()
            .chain(["pattern", "query", "url", "action", "title"])
            .find_map(text);
        let name = one_line(name, 80);
        match subject {
            Some(subject) => format!("{name} {}", one_line(self.relative(subject), MAX_TITLE)),
            None => name,
        }
    }

    fn relative<'a>(&self, path: &'a str) -> &'a str {
        let Some(root) = self.root.as_deref() else {
            return path;
        };
        match path
            .strip_prefix(root)
            .map(|rest| rest.strip_prefix(['/', '\\']))
        {
            Some(Some(rest)) if !rest.is_empty() => rest,
            Some(_) | None => path,
        }
    }
}

/// A command that works for more than some seconds is put into the background by the gateway, where
/// no abort reaches it: whoever stops the task has to know what is left.
fn goes_on(command: &str, pid: Option<&Value>) -> RunEvent {
    let process = pid
        .and_then(Value::as_u64)
        .map_or_else(String::new, |pid| format!(" (process {pid})"));
    RunEvent::Status {
        text: format!(
            "OpenClaw goes on with this command in the background, also after the end of the task: \
             {command}{process}"
        ),
    }
}

/// Sorts a tool by its name.
pub(super) fn kind(name: &str) -> ToolKind {
    match name {
        "read" | "image" | "pdf" => ToolKind::Read,
        "write" | "edit" | "apply_patch" => ToolKind::Edit,
        "exec" | "process" | "bash" | "code_execution" => ToolKind::Execute,
        "ls" | "find" | "grep" | "glob" | "memory_search" | "web_search" => ToolKind::Search,
        "web_fetch" | "browser" => ToolKind::Fetch,
        "sessions_spawn" | "subagents" | "progress_card" => ToolKind::Think,
        _ => ToolKind::Other,
    }
}

pub(super) fn locations(input: &Value) -> Vec<Location> {
    let path = PATHS
        .into_iter()
        .find_map(|field| input.get(field).and_then(Value::as_str));
    path.map(|path| Location {
        path: readable(path, MAX_PATH),
        line: None,
    })
    .into_iter()
    .collect()
}

/// The changes a call wants to make, from its input.
fn intended_diffs(name: &str, input: &Value) -> Vec<FileDiff> {
    let text = |value: &Value, field: &str| {
        let text = value.get(field).and_then(Value::as_str);
        text.map(str::to_owned)
    };
    let Some(path) = PATHS.into_iter().find_map(|field| text(input, field)) else {
        return Vec::new();
    };
    match name {
        "write" => text(input, "content")
            .and_then(|new| diff(&path, None, new))
            .into_iter()
            .collect(),
        "edit" => input
            .get("edits")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .take(MAX_HUNKS)
            .filter_map(|edit| diff(&path, text(edit, "oldText"), text(edit, "newText")?))
            .collect(),
        _ => Vec::new(),
    }
}

/// The hunks of a unified patch, with their context.
fn patch_diffs(patch: &str) -> Vec<FileDiff> {
    let mut diffs = Vec::new();
    let mut path = String::new();
    let (mut old, mut new, mut inside) = (String::new(), String::new(), false);
    let mut finish = |path: &str, old: &mut String, new: &mut String| {
        let (old, new) = (std::mem::take(old), std::mem::take(new));
        if diffs.len() < MAX_HUNKS && !(old.is_empty() && new.is_empty()) {
            let old = Some(old).filter(|old| !old.is_empty());
            diffs.extend(diff(path, old, new));
        }
    };
    let mut lines = patch.lines().peekable();
    while let Some(line) = lines.next() {
        // A removed line may begin like a header; a real one is followed by its other half.
        let header = line
            .strip_prefix("--- ")
            .filter(|_| lines.peek().is_some_and(|next| next.starts_with("+++ ")));
        if let Some(before) = header {
            finish(&path, &mut old, &mut new);
            inside = false;
            let after = lines.next().and_then(|next| next.strip_prefix("+++ "));
            let name = after.filter(|name| *name != "/dev/null").unwrap_or(before);
            name.split('\t')
                .next()
                .unwrap_or(name)
                .clone_into(&mut path);
        } else if line.starts_with("@@") {
            finish(&path, &mut old, &mut new);
            inside = true;
        } else if inside {
            let mut rest = line.chars();
            let sides: &mut [&mut String] = match rest.next() {
                Some('-') => &mut [&mut old],
                Some('+') => &mut [&mut new],
                Some(' ') => &mut [&mut old, &mut new],
                Some(_) | None => &mut [],
            };
            for side in sides {
                side.push_str(rest.as_str());
                side.push('\n');
            }
        }
    }
    finish(&path, &mut old, &mut new);
    diffs
}

/// A diff whose sides are whole; one that is too long is left out, because half of it would lie.
fn diff(path: &str, old: Option<String>, new: String) -> Option<FileDiff> {
    let longest = old.as_ref().map_or(0, String::len).max(new.len());
    (longest <= MAX_DIFF && !path.is_empty()).then(|| FileDiff {
        path: readable(path, MAX_PATH),
        old,
        new,
    })
}

fn output_of(result: &Value) -> Option<String> {
    if let Some(text) = result.as_str() {
        return Some(shorten(text, MAX_OUTPUT).into_owned());
    }
    let parts = result.get("content").and_then(Value::as_array)?;
    let mut all = String::new();
    for part in parts {
        if !all.is_empty() {
            all.push('\n');
        }
        if let Some(text) = part.get("text").and_then(Value::as_str) {
            all.push_str(&shorten(text, MAX_OUTPUT));
        } else {
            let sort = part.get("type").and_then(Value::as_str).unwrap_or("part");
            all.extend(["[", &one_line(sort, 40), "]"]);
        }
        if all.len() > MAX_OUTPUT {
            break;
        }
    }
    Some(shorten(&all, MAX_OUTPUT).into_owned())
}

/// The input without its bulk: long texts keep both ends.
fn slim(input: &Value) -> Value {
    let slimmed = match input {
        Value::String(text) => Value::String(shorten(text, MAX_OUTPUT).into_owned()),
        Value::Array(items) => Value::Array(items.iter().take(MAX_ITEMS).map(slim).collect()),
        Value::Object(fields) => {
            let short = fields.iter().take(MAX_ITEMS);
            Value::Object(short.map(|(name, one)| (name.clone(), slim(one))).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => return input.clone(),
    };
    let text = slimmed.to_string();
    if text.len() > MAX_INPUT {
        Value::String(shorten(&text, MAX_OUTPUT).into_owned())
    } else {
        slimmed
    }
}

/// Fields that name the file or folder a tool works on.
const PATHS: [&str; 3] = ["path", "file_path", "filePath"];
/// Most bytes of a tool's output, and of one text of its input, in an event.
const MAX_OUTPUT: usize = 64 << 10;
/// Most bytes of a whole input in an event.
const MAX_INPUT: usize = 256 << 10;
/// Most bytes of one side of a diff.
const MAX_DIFF: usize = 256 << 10;
/// Most hunks or edits of one call that are shown.
const MAX_HUNKS: usize = 200;
/// Most entries of one list or object of an input in an event.
const MAX_ITEMS: usize = 1000;
/// Longest subject of a title.
const MAX_TITLE: usize = 200;
/// Longest path shown.
const MAX_PATH: usize = 4096;
/// Most calls followed at once; later ones are shown once and not followed.
const MAX_OPEN: usize = 1024;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn state(events: &[RunEvent]) -> ToolState {
        match events.first() {
            Some(RunEvent::Tool(state)) => state.clone(),
            other => panic!("not a tool: {other:?}"),
        }
    }

    fn start(tools: &mut Tools, name: &str, args: &Value) -> ToolState {
        let data = json!({ "phase": "start", "name": name, "toolCallId": "c", "args": args });
        state(&tools.on(&data).unwrap())
    }

    fn result(tools: &mut Tools, is_error: bool, text: &str, details: &Value) -> Vec<RunEvent> {
        let result = json!({ "content": [{ "type": "text", "text": text }], "details": details });
        let data = json!({ "phase": "result", "name": "x", "toolCallId": "c",
            "isError": is_error, "result": result });
        tools.on(&data).unwrap()
    }

    #[test]
    fn an_edit_is_shown_with_the_hunks_it_made() {
        let mut tools = Tools::in_folder(Some("/w".into()));
        let args = json!({ "path": "/w/notes.md",
            "edits": [{ "oldText": "hello", "newText": "bye" }] });
        let begun = start(&mut tools, "edit", &args);
        assert_eq!(
            (begun.title.as_str(), begun.kind),
            ("edit notes.md", ToolKind::Edit)
        );
        assert_eq!(begun.diffs[0].new, "bye");
        let patch = "--- notes.md\n+++ notes.md\n@@ -1,2 +1,2 @@\n # notes\n-hello\n--- x\n+bye\n";
        let events = result(
            &mut tools,
            false,
            "ok",
            &json!({ "changed": true, "patch": patch }),
        );
        let done = state(&events);
        let hunk = FileDiff {
            path: "notes.md".into(),
            old: Some("# notes\nhello\n-- x\n".into()),
            new: "# notes\nbye\n".into(),
        };
        assert_eq!(
            (done.status, done.diffs),
            (ToolStatus::Completed, vec![hunk])
        );
        let path = "notes.md".to_owned();
        assert_eq!(events[1..], [RunEvent::FileWritten { path }]);
    }

    #[test]
    fn a_new_file_is_shown_whole_and_a_refused_one_is_not_written() {
        let mut tools = Tools::default();
        let args = json!({ "path": "a.txt", "content": "in" });
        start(&mut tools, "write", &args);
        let details = json!({ "created": true, "patch": "--- a.txt\n+++ a.txt\n@@ @@\n+in\n" });
        let done = state(&result(&mut tools, false, "ok", &details));
        assert_eq!(done.diffs[0].old, None);
        assert_eq!(done.diffs[0].new, "in");
        start(&mut tools, "write", &args);
        let events = result(&mut tools, true, "Path escapes sandbox root", &Value::Null);
        assert_eq!(events.len(), 1, "{events:?}");
        assert_eq!(state(&events).status, ToolStatus::Failed);
    }

    #[test]
    fn a_command_that_goes_on_in_the_background_is_told() {
        let mut tools = Tools::default();
        start(&mut tools, "exec", &json!({ "command": "npm start" }));
        let details = json!({ "status": "running", "pid": 42 });
        let events = result(&mut tools, false, "Command still running", &details);
        let told = |event: &RunEvent| {
            matches!(event, RunEvent::Status { text }
                if text.contains("npm start") && text.contains("process 42"))
        };
        assert!(told(&events[1]), "{events:?}");
    }

    #[test]
    fn a_command_that_fails_is_a_failed_call_although_it_is_no_error_to_the_gateway() {
        let mut tools = Tools::default();
        let begun = start(&mut tools, "exec", &json!({ "command": "false" }));
        assert_eq!(
            (begun.title.as_str(), begun.kind),
            ("false", ToolKind::Execute)
        );
        let done = state(&result(
            &mut tools,
            false,
            "code 3",
            &json!({ "exitCode": 3 }),
        ));
        assert_eq!(done.status, ToolStatus::Failed);
        assert_eq!(done.output.as_deref(), Some("code 3"));
    }

    #[test]
    fn output_grows_and_a_call_that_was_never_begun_is_still_shown() {
        let mut tools = Tools::default();
        let update = |text: &str| {
            json!({ "phase": "update", "name": "exec", "toolCallId": "c",
                "partialResult": { "content": [{ "type": "text", "text": text }] } })
        };
        assert_eq!(
            state(&tools.on(&update("a")).unwrap()).output.as_deref(),
            Some("a")
        );
        assert_eq!(tools.on(&update("a")), Some(vec![]), "said twice");
        let done = state(&result(&mut tools, false, "ab", &Value::Null));
        assert_eq!(done.status, ToolStatus::Completed);
        assert_eq!(
            tools.on(&json!({ "phase": "dance", "toolCallId": "c" })),
            None
        );
        assert_eq!(tools.on(&json!({ "phase": "start" })), None, "no id");
    }

    #[test]
    fn a_megabyte_of_output_is_cut_and_a_megabyte_of_diff_left_out() {
        let mut tools = Tools::default();
        let big = "x".repeat(1 << 20);
        let begun = start(
            &mut tools,
            "write",
            &json!({ "path": "/a", "content": big }),
        );
        assert!(begun.diffs.is_empty());
        assert!(begun.input.unwrap().to_string().len() < 70_000);
        let done = state(&result(&mut tools, false, &big, &Value::Null));
        assert!(done.output.unwrap().len() < 66_000);
    }
}
