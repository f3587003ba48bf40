//! Tool calls as far as they are known: every update merged into one whole [`ToolState`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bridge_proto::{
    ToolCallId,
    model::{FileDiff, Location, ToolKind, ToolState, ToolStatus},
};
use serde_json::Value;

use crate::plain::sentence;

/// The tool calls of one turn.
#[derive(Debug, Default)]
pub(crate) struct ToolBook {
    calls: BTreeMap<ToolCallId, Call>,
    order: VecDeque<ToolCallId>,
}

#[derive(Debug)]
struct Call {
    state: ToolState,
    reported: BTreeSet<String>,
}

/// What an update came to.
#[derive(Debug, PartialEq)]
pub(crate) struct Merged {
    /// The whole call.
    pub(crate) state: ToolState,
    /// Whether the update said anything that was not known.
    pub(crate) news: bool,
    /// Files that have been written since the last report, each told once per call.
    pub(crate) written: Vec<String>,
}

impl ToolBook {
    /// Merges a `tool_call`, a `tool_call_update` or the `toolCall` of a permission request;
    /// `None` if it has no usable id. A call that is not known yet begins here, whatever the
    /// update is named. A call that has ended stays ended.
    pub(crate) fn merge(&mut self, update: &Value) -> Option<Merged> {
        let id = ToolCallId::parse(update.get("toolCallId")?.as_str()?).ok()?;
        let known = self.calls.contains_key(&id);
        if !known {
            self.begin(&id);
        }
        let call = self.calls.get_mut(&id)?;
        let before = known.then(|| call.state.clone());
        call.absorb(update);
        let strange = update.as_object().is_some_and(|fields| {
            fields
                .keys()
                .any(|key| !KNOWN_FIELDS.contains(&key.as_str()))
        });
        let news = strange || before.as_ref() != Some(&call.state);
        let written = call.newly_written();
        Some(Merged {
            state: call.state.clone(),
            news,
            written,
        })
    }

    /// A person said no to this call; agents need not mention it again.
    pub(crate) fn reject(&mut self, id: &ToolCallId) -> Option<ToolState> {
        let call = self.calls.get_mut(id)?;
        if is_final(call.state.status) {
            return None;
        }
        call.state.status = ToolStatus::Failed;
        Some(call.state.clone())
    }

    /// The turn is over: gives every call without an end this one, and forgets all.
    pub(crate) fn finish(&mut self, end: ToolStatus) -> Vec<ToolState> {
        let mut calls = std::mem::take(&mut self.calls);
        let open = std::mem::take(&mut self.order)
            .into_iter()
            .filter_map(|id| {
                let mut state = calls.remove(&id)?.state;
                if is_final(state.status) {
                    return None;
                }
                state.status = end;
                Some(state)
            });
        open.collect()
    }

    fn begin(&mut self, id: &ToolCallId) {
        if self.order.len() == MAX_CALLS
            && let Some(oldest) = self.order.pop_front()
        {
            self.calls.remove(&oldest);
        }
        self.order.push_back(id.clone());
        let state = ToolState {
            id: id.clone(),
            title: String::new(),
            kind: ToolKind::Other,
            status: ToolStatus::Pending,
            input: None,
            output: None,
            locations: Vec::new(),
            diffs: Vec::new(),
        };
        self.calls.insert(
            id.clone(),
            Call {
                state,
                reported: BTreeSet::new(),
            },
        );
    }
}

impl Call {
    fn absorb(&mut self, update: &Value) {
        let state = &mut self.state;
        if let Some(title) = update.get("title").and_then(Value::as_str) {
            state.title = sentence(title, TITLE_CHARS);
        }
        if let Some(kind) = update.get("kind").and_then(Value::as_str) {
            state.kind = kind_of(kind);
        }
        if state.title.is_empty() {
            "tool call".clone_into(&mut state.title);
        }
        if let Some(status) = update
            .get("status")
            .and_then(Value::as_str)
            .and_then(status_of)
            && (is_final(status) || !is_final(state.status))
        {
            state.status = status;
        }
        if let Some(input) = update.get("rawInput").filter(|input| says_something(input)) {
            state.input = Some(input.clone());
        }
        if let Some(places) = update.get("locations").and_then(Value::as_array)
            && !places.is_empty()
        {
            state.locations = places
                .iter()
                .take(MAX_PLACES)
                .filter_map(location_of)
                .collect();
        }
        if let Some(content) = update.get("content").and_then(Value::as_array) {
            let diffs: Vec<_> = content
                .iter()
                .take(MAX_PLACES)
                .filter_map(diff_of)
                .collect();
            // Some agents show the change only when they ask for it, not when it is done.
            if !diffs.is_empty() {
                state.diffs = diffs;
            }
            let texts: Vec<_> = content.iter().filter_map(text_of).collect();
            if !texts.is_empty() {
                state.output = Some(bounded(&texts.join("\n")));
            }
        }
        if state.output.is_none()
            && let Some(output) = update.get("rawOutput").and_then(output_of)
        {
            state.output = Some(bounded(&output));
        }
    }

    fn newly_written(&mut self) -> Vec<String> {
        let state = &self.state;
        let writes = state.kind == ToolKind::Edit || !state.diffs.is_empty();
        if state.status != ToolStatus::Completed || !writes {
            return Vec::new();
        }
        let paths: Vec<String> = if state.diffs.is_empty() {
            state
                .locations
                .iter()
                .map(|place| place.path.clone())
                .collect()
        } else {
            state.diffs.iter().map(|diff| diff.path.clone()).collect()
        };
        paths
            .into_iter()
            .filter(|path| self.reported.insert(path.clone()))
            .collect()
    }
}

fn is_final(status: ToolStatus) -> bool {
    match status {
        ToolStatus::Pending | ToolStatus::InProgress => false,
        ToolStatus::Completed
        | ToolStatus::Failed
        | ToolStatus::Cancelled
        | ToolStatus::Unknown => true,
    }
}

fn kind_of(name: &str) -> ToolKind {
    match name {
        "read" => ToolKind::Read,
        "edit" => ToolKind::Edit,
        "delete" => ToolKind::Delete,
        "move" => ToolKind::Move,
        "search" => ToolKind::Search,
        "execute" => ToolKind::Execute,
        "think" => ToolKind::Think,
        "fetch" => ToolKind::Fetch,
        "switch_mode" => ToolKind::SwitchMode,
        _ => ToolKind::Other,
    }
}

fn status_of(name: &str) -> Option<ToolStatus> {
    match name {
        "pending" => Some(ToolStatus::Pending),
        "in_progress" => Some(ToolStatus::InProgress),
        "completed" => Some(ToolStatus::Completed),
        "failed" => Some(ToolStatus::Failed),
        "cancelled" => Some(ToolStatus::Cancelled),
        _ => None,
    }
}

fn says_something(input: &Value) -> bool {
    !input.is_null() && input.as_object().is_none_or(|fields| !fields.is_empty())
}

fn location_of(place: &Value) -> Option<Location> {
    let path = place.get("path")?.as_str()?.to_owned();
    let line = place
        .get("line")
        .and_then(Value::as_u64)
        .and_then(|line| u32::try_from(line).ok());
    Some(Location { path, line })
}

fn diff_of(content: &Value) -> Option<FileDiff> {
    if content.get("type")?.as_str()? != "diff" {
        return None;
    }
    Some(FileDiff {
        path: content.get("path")?.as_str()?.to_owned(),
        old: content
            .get("oldText")
            .and_then(Value::as_str)
            .map(str::to_owned),
        new: content
            .get("newText")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned(),
    })
}

fn text_of(content: &Value) -> Option<String> {
    content
        .pointer("/content/text")
        .and_then(Value::as_str)
        .map(str::to_owned)
}

fn output_of(raw: &Value) -> Option<String> {
    if raw.is_null() {
        return None;
    }
    let text = ["output", "content", "error", "stdout"]
        .iter()
        .find_map(|key| raw.get(key).and_then(Value::as_str));
    let text = text.or_else(|| raw.as_str()).map(str::to_owned);
    text.or_else(|| says_something(raw).then(|| raw.to_string()))
}

fn bounded(text: &str) -> String {
    if text.len() <= OUTPUT_BYTES {
        return text.to_owned();
    }
    let end = (0..=OUTPUT_BYTES)
        .rev()
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(0);
    let kept = text.get(..end).unwrap_or_default();
    format!("{kept}\n… ({} more bytes)", text.len() - end)
}

/// Fields that are taken over whole; an update with any other is always passed on.
const KNOWN_FIELDS: [&str; 9] = [
    "sessionUpdate",
    "toolCallId",
    "title",
    "kind",
    "status",
    "content",
    "locations",
    "rawInput",
    "rawOutput",
];
/// Far more than a turn has; the oldest are forgotten.
const MAX_CALLS: usize = 2000;
const MAX_PLACES: usize = 1000;
const TITLE_CHARS: usize = 500;
/// Of the text a tool gave; the agent's own message has all of it.
const OUTPUT_BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_edit_tells_each_written_file_once_and_keeps_the_diff_of_the_question() {
        let mut book = ToolBook::default();
        let asked = json!({"toolCallId": "c", "kind": "edit", "status": "pending", "title": "Write",
            "content": [{"type": "diff", "path": "/a", "oldText": null, "newText": "x"}]});
        assert_eq!(book.merge(&asked).unwrap().written, Vec::<String>::new());
        let done = json!({"toolCallId": "c", "status": "completed",
            "content": [{"type": "content", "content": {"type": "text", "text": "ok"}}]});
        let merged = book.merge(&done).unwrap();
        assert_eq!(merged.written, ["/a"]);
        assert_eq!(
            merged.state.diffs,
            [FileDiff {
                path: "/a".into(),
                old: None,
                new: "x".into()
            }]
        );
        assert_eq!(merged.state.output.as_deref(), Some("ok"));
        let again = book.merge(&done).unwrap();
        assert_eq!((again.news, again.written.len()), (false, 0));
    }

    #[test]
    fn an_ended_call_does_not_come_back_to_life() {
        let mut book = ToolBook::default();
        book.merge(&json!({"toolCallId": "c", "status": "failed"}));
        let merged = book
            .merge(&json!({"toolCallId": "c", "status": "in_progress"}))
            .unwrap();
        assert_eq!(merged.state.status, ToolStatus::Failed);
    }

    #[test]
    fn calls_without_an_end_get_one_when_the_turn_is_over() {
        let mut book = ToolBook::default();
        book.merge(&json!({"toolCallId": "a", "status": "in_progress"}));
        book.merge(&json!({"toolCallId": "b", "status": "completed"}));
        let ends = book.finish(ToolStatus::Cancelled);
        assert_eq!(ends.len(), 1);
        assert_eq!(
            (ends[0].id.as_str(), ends[0].status),
            ("a", ToolStatus::Cancelled)
        );
        assert!(book.finish(ToolStatus::Unknown).is_empty());
    }

    #[test]
    fn odd_updates_neither_panic_nor_grow_without_bound() {
        let mut book = ToolBook::default();
        for odd in [
            json!(null),
            json!({}),
            json!({"toolCallId": 4}),
            json!({"toolCallId": ""}),
        ] {
            assert_eq!(book.merge(&odd), None);
        }
        for n in 0..MAX_CALLS + 10 {
            book.merge(
                &json!({"toolCallId": format!("c{n}"), "kind": 3, "content": "x",
                "locations": [1, {}], "status": "sideways"}),
            );
        }
        assert_eq!(book.calls.len(), MAX_CALLS);
    }
}
