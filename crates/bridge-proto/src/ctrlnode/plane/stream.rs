//! What an `agent_stream` event of a plain bridge says: text, or something about tools.

use serde::Deserialize as _;
use serde_json::Value;

use crate::{
    id::ToolCallId,
    model::{FileDiff, Location, ToolKind, ToolState, ToolStatus},
};

/// The meaning of one event.
#[derive(Debug, PartialEq)]
pub(super) enum Streamed<'a> {
    /// More text; it comes as `agent_activity` too.
    Text(&'a str),
    /// Something new about tool calls.
    Tools(Vec<ToolPatch>),
}

/// What one message says about one tool call.
#[derive(Debug, PartialEq)]
pub(super) struct ToolPatch {
    pub(super) id: ToolCallId,
    title: Option<String>,
    kind: Option<ToolKind>,
    status: ToolStatus,
    input: Option<Value>,
    output: Option<String>,
    locations: Vec<Location>,
    diffs: Vec<FileDiff>,
}

impl ToolPatch {
    fn new(id: ToolCallId, status: ToolStatus) -> Self {
        Self {
            id,
            title: None,
            kind: None,
            status,
            input: None,
            output: None,
            locations: Vec::new(),
            diffs: Vec::new(),
        }
    }

    /// The whole call, from what was known of it and this.
    pub(super) fn applied_to(self, known: Option<&ToolState>) -> ToolState {
        let mut tool = known.cloned().unwrap_or_else(|| ToolState {
            id: self.id.clone(),
            title: String::new(),
            kind: ToolKind::Other,
            status: self.status,
            input: None,
            output: None,
            locations: Vec::new(),
            diffs: Vec::new(),
        });
        tool.status = self.status;
        tool.kind = self.kind.unwrap_or(tool.kind);
        tool.title = self.title.unwrap_or(tool.title);
        if tool.title.is_empty() {
            "tool".clone_into(&mut tool.title);
        }
        tool.input = self.input.or(tool.input);
        tool.output = self.output.or(tool.output);
        if !self.locations.is_empty() {
            tool.locations = self.locations;
        }
        if !self.diffs.is_empty() {
            tool.diffs = self.diffs;
        }
        tool
    }
}

/// `None` for events that say nothing the model has a place for.
pub(super) fn read(event: &Value) -> Option<Streamed<'_>> {
    match text(event, "kind").or_else(|| text(event, "type"))? {
        "text_chunk" => text(event, "text").map(Streamed::Text),
        "tool_call" => acp_tool(event.get("raw")?, ToolStatus::Pending).map(one),
        "tool_result" if event.get("kind").is_some() => {
            acp_tool(event.get("raw")?, ToolStatus::Completed).map(one)
        }
        "assistant" => {
            let blocks = event.pointer("/message/content")?.as_array()?;
            let tools: Vec<_> = blocks
                .iter()
                .filter(|block| text(block, "type") == Some("tool_use"))
                .filter_map(claude_tool)
                .collect();
            if tools.is_empty() {
                None
            } else {
                Some(Streamed::Tools(tools))
            }
        }
        "tool_use" => claude_tool(event).map(one),
        "tool_result" => claude_result(event).map(one),
        _ => None,
    }
}

fn one(tool: ToolPatch) -> Streamed<'static> {
    Streamed::Tools(vec![tool])
}

fn acp_tool(update: &Value, default: ToolStatus) -> Option<ToolPatch> {
    let id = ToolCallId::parse(text(update, "toolCallId")?).ok()?;
    let status = match text(update, "status") {
        Some("pending") => ToolStatus::Pending,
        Some("in_progress") => ToolStatus::InProgress,
        Some("completed") => ToolStatus::Completed,
        Some("failed") => ToolStatus::Failed,
        Some(_) | None => default,
    };
    let content = update
        .get("content")
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    let output: String = content
        .iter()
        .filter_map(|item| item.pointer("/content/text")?.as_str())
        .collect();
    let diffs = content
        .iter()
        .filter(|item| text(item, "type") == Some("diff"));
    let locations = update.get("locations").and_then(Value::as_array);
    Some(ToolPatch {
        title: text(update, "title").map(str::to_owned),
        kind: update
            .get("kind")
            .and_then(|kind| ToolKind::deserialize(kind).ok()),
        input: update
            .get("rawInput")
            .filter(|input| !input.is_null())
            .cloned(),
        output: Some(output).filter(|output| !output.is_empty()),
        locations: locations
            .into_iter()
            .flatten()
            .filter_map(|location| Location::deserialize(location).ok())
            .collect(),
        diffs: diffs.filter_map(acp_diff).collect(),
        ..ToolPatch::new(id, status)
    })
}

fn acp_diff(item: &Value) -> Option<FileDiff> {
    Some(FileDiff {
        path: text(item, "path")?.to_owned(),
        old: text(item, "oldText").map(str::to_owned),
        new: text(item, "newText")?.to_owned(),
    })
}

fn claude_tool(block: &Value) -> Option<ToolPatch> {
    const SAYING: [&str; 6] = [
        "file_path",
        "path",
        "command",
        "pattern",
        "url",
        "description",
    ];
    let id = ToolCallId::parse(text(block, "id")?).ok()?;
    let name = text(block, "name").unwrap_or("tool");
    let input = block.get("input");
    let what = input.and_then(|input| SAYING.iter().find_map(|field| text(input, field)));
    let title = what.map_or_else(|| name.to_owned(), |what| format!("{name} {what}"));
    Some(ToolPatch {
        title: Some(title.chars().take(MAX_TITLE_CHARS).collect()),
        kind: Some(match name {
            "Read" | "NotebookRead" => ToolKind::Read,
            "Edit" | "MultiEdit" | "NotebookEdit" | "Write" => ToolKind::Edit,
            "Glob" | "Grep" | "LS" => ToolKind::Search,
            "Bash" => ToolKind::Execute,
            "WebFetch" | "WebSearch" => ToolKind::Fetch,
            _ => ToolKind::Other,
        }),
        input: input.cloned(),
        ..ToolPatch::new(id, ToolStatus::InProgress)
    })
}

fn claude_result(message: &Value) -> Option<ToolPatch> {
    let id = ToolCallId::parse(text(message, "tool_use_id")?).ok()?;
    let failed = message
        .get("is_error")
        .and_then(Value::as_bool)
        .unwrap_or(false);
    Some(ToolPatch {
        output: text(message, "content").map(str::to_owned),
        ..ToolPatch::new(
            id,
            if failed {
                ToolStatus::Failed
            } else {
                ToolStatus::Completed
            },
        )
    })
}

fn text<'a>(value: &'a Value, field: &str) -> Option<&'a str> {
    value.get(field).and_then(Value::as_str)
}

/// A title is one line of a list.
const MAX_TITLE_CHARS: usize = 200;
