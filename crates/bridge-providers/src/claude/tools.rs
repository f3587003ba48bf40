//! Tool calls: what each is called for, how far it got, what it changed.

use std::collections::HashMap;

use bridge_proto::{
    ToolCallId,
    model::{FileDiff, Location, PlanItem, PlanStatus, RunEvent, ToolKind, ToolState, ToolStatus},
};
use serde_json::Value;

use crate::plain::{one_line, readable, shorten};

/// The calls that are not over yet.
#[derive(Debug, Default)]
pub(super) struct Tools {
    open: HashMap<String, Call>,
    /// Begun so far; open calls are told about in this order.
    begun: u64,
    /// The working directory as the program named it; titles are shown relative to it.
    directory: Option<String>,
}

#[derive(Debug)]
struct Call {
    number: u64,
    name: String,
    state: ToolState,
    /// Goes on behind the tool's result, until a `task_notification`.
    background: bool,
}

impl Tools {
    /// The working directory was told.
    pub(super) fn directory(&mut self, directory: &str) {
        self.directory = Some(directory.to_owned());
    }

    /// A call is announced; its input follows.
    pub(super) fn announce(&mut self, id: &str, name: &str) -> Option<RunEvent> {
        if self.open.contains_key(id) {
            return None;
        }
        self.begin(id, name, None)
    }

    /// The whole input is known; the call is run unless a permission is asked first.
    pub(super) fn called(&mut self, id: &str, name: &str, input: &Value) -> Vec<RunEvent> {
        let mut events: Vec<RunEvent> = self.begin(id, name, Some(input)).into_iter().collect();
        if name == "TodoWrite"
            && let Some(items) = input.get("todos").and_then(Value::as_array)
        {
            let items = items.iter().take(MAX_PLAN).filter_map(plan_item).collect();
            events.push(RunEvent::Plan { items });
        }
        events
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

    /// The result of a call. `detail` is the tool's own structured output.
    pub(super) fn result(&mut self, block: &Value, detail: Option<&Value>) -> Vec<RunEvent> {
        let Some(id) = block.get("tool_use_id").and_then(Value::as_str) else {
            return Vec::new();
        };
        let Some(mut call) = self.open.remove(id) else {
            return Vec::new();
        };
        let failed = block
            .get("is_error")
            .and_then(Value::as_bool)
            .unwrap_or(false);
        let mut events = Vec::new();
        call.state.output = block
            .get("content")
            .map(output_text)
            .filter(|text| !text.is_empty());
        call.background = !failed && detail.is_some_and(is_background);
        call.state.status = match (failed, call.background) {
            (true, _) => ToolStatus::Failed,
            (false, true) => ToolStatus::InProgress,
            (false, false) => ToolStatus::Completed,
        };
        if failed {
            call.state.diffs.clear();
        } else if let Some(diffs) = detail.and_then(result_diffs) {
            call.state.diffs = diffs;
        }
        events.push(RunEvent::Tool(call.state.clone()));
        if !failed && writes_a_file(&call.name) {
            let path = detail
                .and_then(|detail| detail.get("filePath").and_then(Value::as_str))
                .map(str::to_owned)
                .or_else(|| call.state.locations.first().map(|place| place.path.clone()));
            events.extend(path.map(|path| RunEvent::FileWritten { path }));
        }
        if call.background {
            self.open.insert(id.to_owned(), call);
        }
        events
    }

    /// A subagent said something; it is shown as the output of the call that started it.
    pub(super) fn subagent_said(&mut self, id: &str, text: &str) -> Option<RunEvent> {
        let call = self.open.get_mut(id)?;
        call.state.output = Some(shorten(text, MAX_OUTPUT).into_owned());
        Some(RunEvent::Tool(call.state.clone()))
    }

    /// Work in the background has ended.
    pub(super) fn background_over(
        &mut self,
        id: &str,
        status: &str,
        summary: &str,
    ) -> Option<RunEvent> {
        let mut call = self.open.remove(id)?;
        call.state.status = match status {
            "completed" => ToolStatus::Completed,
            "killed" | "stopped" | "cancelled" => ToolStatus::Cancelled,
            _ => ToolStatus::Failed,
        };
        if !summary.is_empty() {
            call.state.output = Some(shorten(summary, MAX_OUTPUT).into_owned());
        }
        Some(RunEvent::Tool(call.state))
    }

    /// A call will never be heard of again.
    pub(super) fn abandon(&mut self, id: &str) -> Option<RunEvent> {
        let mut call = self.open.remove(id)?;
        call.state.status = ToolStatus::Cancelled;
        Some(RunEvent::Tool(call.state))
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

    fn begin(&mut self, id: &str, name: &str, input: Option<&Value>) -> Option<RunEvent> {
        let call_id = ToolCallId::parse(id).ok()?;
        let none = Value::Null;
        let known = input.unwrap_or(&none);
        let state = ToolState {
            id: call_id,
            title: self.title(name, known),
            kind: kind(name),
            status: if input.is_some() {
                ToolStatus::InProgress
            } else {
                ToolStatus::Pending
            },
            input: input.map(slim),
            output: None,
            locations: locations(known),
            diffs: intended_diffs(name, known),
        };
        let event = RunEvent::Tool(state.clone());
        if self.open.contains_key(id) || self.open.len() < MAX_OPEN {
            self.begun += 1;
            let number = self.open.get(id).map_or(self.begun, |call| call.number);
            let name = name.to_owned();
            self.open.insert(
                id.to_owned(),
                Call {
                    number,
                    name,
                    state,
                    background: false,
                },
            );
        }
        Some(event)
    }

    /// What a person reads: the tool and the one thing that matters about the call.
    pub(super) fn title(&self, name: &str, input: &Value) -> String {
        let text = |field: &str| input.get(field).and_then(Value::as_str);
        let subject = match name {
            "Bash" | "PowerShell" => text("command"),
            _ => PATHS
                .into_iter()
                .chain(["pattern", "query", "url", "description", "subject", "skill"])
                .find_map(text),
        };
        let name = one_line(name, 80);
        match subject {
            Some(command) if kind(&name) == ToolKind::Execute => one_line(command, MAX_TITLE),
            Some(subject) => format!("{name} {}", one_line(self.relative(subject), MAX_TITLE)),
            None => name,
        }
    }

    fn relative<'a>(&self, path: &'a str) -> &'a str {
        let Some(directory) = self.directory.as_deref() else {
            return path;
        };
        match path
            .strip_prefix(directory)
            .map(|rest| rest.strip_prefix(['/', '\\']))
        {
            Some(Some(rest)) if !rest.is_empty() => rest,
            Some(_) | None => path,
        }
    }
}

/// Sorts a tool by its name.
pub(super) fn kind(name: &str) -> ToolKind {
    match name {
        "Read" | "NotebookRead" => ToolKind::Read,
        "Write" | "Edit" | "MultiEdit" | "NotebookEdit" => ToolKind::Edit,
        "Bash" | "PowerShell" | "BashOutput" | "KillBash" | "KillShell" | "Monitor" => {
            ToolKind::Execute
        }
        "Glob" | "Grep" | "LS" | "ToolSearch" => ToolKind::Search,
        "WebFetch" | "WebSearch" => ToolKind::Fetch,
        "Task" | "Agent" | "TodoWrite" => ToolKind::Think,
        "EnterPlanMode" | "ExitPlanMode" => ToolKind::SwitchMode,
        _ => ToolKind::Other,
    }
}

fn writes_a_file(name: &str) -> bool {
    kind(name) == ToolKind::Edit
}

fn is_background(detail: &Value) -> bool {
    detail.get("isAsync").and_then(Value::as_bool) == Some(true)
        || detail.get("backgroundTaskId").is_some_and(Value::is_string)
}

fn locations(input: &Value) -> Vec<Location> {
    let path = PATHS
        .into_iter()
        .find_map(|field| input.get(field).and_then(Value::as_str));
    let line = input
        .get("offset")
        .and_then(Value::as_u64)
        .and_then(|line| u32::try_from(line).ok())
        .filter(|line| *line > 0);
    path.map(|path| Location {
        path: readable(path, MAX_PATH),
        line,
    })
    .into_iter()
    .collect()
}

/// The changes a call wants to make, from its input.
fn intended_diffs(name: &str, input: &Value) -> Vec<FileDiff> {
    let text =
        |value: &Value, field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
    let Some(path) = text(input, "file_path") else {
        return Vec::new();
    };
    let pair = |value: &Value| {
        let (old, new) = (text(value, "old_string"), text(value, "new_string")?);
        diff(&path, old, new)
    };
    match name {
        "Write" => text(input, "content")
            .and_then(|new| diff(&path, None, new))
            .into_iter()
            .collect(),
        "Edit" => pair(input).into_iter().collect(),
        "MultiEdit" => {
            let edits = input.get("edits").and_then(Value::as_array);
            edits
                .into_iter()
                .flatten()
                .take(MAX_HUNKS)
                .filter_map(pair)
                .collect()
        }
        _ => Vec::new(),
    }
}

/// The changes a call has made, from the tool's structured output: its hunks with their context,
/// or the whole of a new file.
fn result_diffs(detail: &Value) -> Option<Vec<FileDiff>> {
    let path = detail.get("filePath")?.as_str()?;
    let hunks = detail.get("structuredPatch").and_then(Value::as_array);
    if let Some(hunks) = hunks.filter(|hunks| !hunks.is_empty()) {
        return Some(
            hunks
                .iter()
                .take(MAX_HUNKS)
                .filter_map(|hunk| hunk_diff(path, hunk))
                .collect(),
        );
    }
    let text = |field: &str| detail.get(field).and_then(Value::as_str).map(str::to_owned);
    let new_file = detail.get("originalFile").is_some_and(Value::is_null);
    let (old, new) = match text("content") {
        Some(content) if new_file => (None, content),
        Some(content) => (Some(text("originalFile")?), content),
        None => (Some(text("oldString")?), text("newString")?),
    };
    if old.as_ref() == Some(&new) {
        return Some(Vec::new());
    }
    Some(diff(path, old, new).into_iter().collect())
}

fn hunk_diff(path: &str, hunk: &Value) -> Option<FileDiff> {
    let (mut old, mut new) = (String::new(), String::new());
    for line in hunk
        .get("lines")?
        .as_array()?
        .iter()
        .filter_map(Value::as_str)
    {
        let mut rest = line.chars();
        let mark = rest.next();
        let sides: &mut [&mut String] = match mark {
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
    diff(path, Some(old), new)
}

/// A diff whose sides are whole; one that is too long is left out, because half of it would lie.
fn diff(path: &str, old: Option<String>, new: String) -> Option<FileDiff> {
    let longest = old.as_ref().map_or(0, String::len).max(new.len());
    (longest <= MAX_DIFF).then(|| FileDiff {
        path: readable(path, MAX_PATH),
        old,
        new,
    })
}

fn output_text(content: &Value) -> String {
    if let Some(text) = content.as_str() {
        return shorten(text, MAX_OUTPUT).into_owned();
    }
    let mut all = String::new();
    for part in content.as_array().into_iter().flatten() {
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
    shorten(&all, MAX_OUTPUT).into_owned()
}

fn plan_item(item: &Value) -> Option<PlanItem> {
    let text = readable(item.get("content")?.as_str()?, MAX_TITLE);
    let status = match item.get("status").and_then(Value::as_str) {
        Some("completed") => PlanStatus::Completed,
        Some("in_progress") => PlanStatus::InProgress,
        Some(_) | None => PlanStatus::Pending,
    };
    Some(PlanItem { text, status })
}

/// The input without its bulk: long texts keep both ends.
fn slim(input: &Value) -> Value {
    if let Some(text) = input.as_str() {
        Value::String(shorten(text, MAX_OUTPUT).into_owned())
    } else if let Some(items) = input.as_array() {
        Value::Array(items.iter().take(MAX_ITEMS).map(slim).collect())
    } else if let Some(fields) = input.as_object() {
        let short = fields
            .iter()
            .take(MAX_ITEMS)
            .map(|(name, value)| (name.clone(), slim(value)));
        let slimmed = Value::Object(short.collect());
        let text = slimmed.to_string();
        if text.len() > MAX_INPUT {
            Value::String(shorten(&text, MAX_OUTPUT).into_owned())
        } else {
            slimmed
        }
    } else {
        input.clone()
    }
}

/// Fields that name the file or folder a tool works on.
const PATHS: [&str; 3] = ["file_path", "notebook_path", "path"];
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
/// Most items of a to-do list.
const MAX_PLAN: usize = 200;
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

    fn state(event: Option<&RunEvent>) -> ToolState {
        match event {
            Some(RunEvent::Tool(state)) => state.clone(),
            other => panic!("not a tool: {other:?}"),
        }
    }

    #[test]
    fn titles_are_short_and_relative() {
        let mut tools = Tools::default();
        tools.directory("/home/user/project");
        let write = json!({"file_path": "/home/user/project/a/b.txt"});
        assert_eq!(tools.title("Write", &write), "Write a/b.txt");
        assert_eq!(tools.title("Bash", &json!({"command": "ls\nrm x"})), "ls …");
        let beside = json!({"file_path": "/home/user/project2/b"});
        assert_eq!(tools.title("Read", &beside), "Read /home/user/project2/b");
        assert_eq!(tools.title("Odd", &json!([1])), "Odd");
    }

    #[test]
    fn an_edit_is_shown_with_the_hunks_it_made() {
        let mut tools = Tools::default();
        tools.called(
            "t",
            "Edit",
            &json!({"file_path": "/a", "old_string": "x", "new_string": "y"}),
        );
        let block = json!({"tool_use_id": "t", "content": "ok"});
        let detail = json!({"filePath": "/a", "structuredPatch": [
            {"lines": [" a", "-x", "+y", " b", "\\ No newline at end of file"]}]});
        let events = tools.result(&block, Some(&detail));
        let state = state(events.first());
        assert_eq!(
            state.diffs,
            [FileDiff {
                path: "/a".into(),
                old: Some("a\nx\nb\n".into()),
                new: "a\ny\nb\n".into()
            }]
        );
        assert_eq!(
            events.get(1),
            Some(&RunEvent::FileWritten { path: "/a".into() })
        );
        assert!(tools.open.is_empty());
    }

    #[test]
    fn a_megabyte_of_output_is_cut_and_a_megabyte_of_diff_left_out() {
        let mut tools = Tools::default();
        let big = "x".repeat(1 << 20);
        let events = tools.called("t", "Write", &json!({"file_path": "/a", "content": big}));
        let begun = state(events.first());
        assert!(begun.diffs.is_empty());
        assert!(begun.input.unwrap().to_string().len() < 70_000);
        let events = tools.result(&json!({"tool_use_id": "t", "content": big}), None);
        assert!(state(events.first()).output.unwrap().len() < 66_000);
    }

    #[test]
    fn a_failed_write_writes_no_file() {
        let mut tools = Tools::default();
        tools.called("t", "Write", &json!({"file_path": "/a", "content": "x"}));
        let block = json!({"tool_use_id": "t", "is_error": true, "content": "no"});
        let events = tools.result(&block, Some(&json!("Error: no")));
        assert_eq!(events.len(), 1);
        assert_eq!(state(events.first()).status, ToolStatus::Failed);
    }

    #[test]
    fn to_do_lists_become_plans() {
        let input = json!({"todos": [{"content": "a", "status": "in_progress"}, {"content": 1}]});
        let events = Tools::default().called("t", "TodoWrite", &input);
        let items = vec![PlanItem {
            text: "a".into(),
            status: PlanStatus::InProgress,
        }];
        assert_eq!(events.last(), Some(&RunEvent::Plan { items }));
    }
}
