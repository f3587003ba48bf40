//! Tool calls as far as they are known: every update merged into one whole [`ToolState`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bridge_proto::{
    ToolCallId,
    model::{ToolKind, ToolState, ToolStatus},
};
use serde_json::Value;

use super::{
    quirks::ToolQuirks,
    tool_content::{self, says_something},
};
use crate::plain::sentence;

/// The tool calls of one turn.
#[derive(Debug, Default)]
pub(crate) struct ToolBook {
    quirks: ToolQuirks,
    own_ids: bool,
    calls: BTreeMap<ToolCallId, Call>,
    order: VecDeque<ToolCallId>,
}

#[derive(Debug)]
struct Call {
    state: ToolState,
    reported: BTreeSet<String>,
    /// A person was asked about it.
    asked: bool,
    /// A person said no: whatever the agent says, it was not done.
    rejected: bool,
    /// Its end was not told but follows from what the agent did next.
    presumed: bool,
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

/// What a permission request is about.
#[derive(Debug, PartialEq)]
pub(crate) struct Asked {
    /// The call as far as it is known, as for every update.
    pub(crate) merged: Merged,
    /// The call in the words of the request, which are what a person answers to.
    pub(crate) question: ToolState,
}

impl ToolBook {
    /// An empty book; `own_ids` as in [`super::quirks::AskQuirks`].
    pub(crate) fn new(quirks: ToolQuirks, own_ids: bool) -> Self {
        Self {
            quirks,
            own_ids,
            ..Self::default()
        }
    }

    /// Merges a `tool_call`, a `tool_call_update` or the `toolCall` of a permission request;
    /// `None` if it has no usable id. A call that is not known yet begins here, whatever the
    /// update is named. A call that has ended stays ended.
    pub(crate) fn merge(&mut self, update: &Value) -> Option<Merged> {
        let text = |name: &str| update.get(name).and_then(Value::as_str);
        let open = matches!(text("status"), None | Some("pending"));
        self.take(update, open && text("sessionUpdate") == Some("tool_call"))
    }

    /// Before a call runs its text says what will be done, not what came of it.
    fn take(&mut self, update: &Value, preview: bool) -> Option<Merged> {
        let id = id_of(update)?;
        let known = self.calls.contains_key(&id);
        if !known {
            self.begin(&id);
        }
        let call = self.calls.get_mut(&id)?;
        let before = known.then(|| call.state.clone());
        call.absorb(update, &self.quirks, preview);
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

    /// Takes the `toolCall` of a permission request; `None` if it has no usable id. Of a call that
    /// is known already only what was missing is taken over, because requests tell it in other
    /// words; a call that is not known begins here.
    pub(crate) fn ask(&mut self, request: &Value) -> Option<Asked> {
        let id = id_of(request)?;
        let known = if self.calls.contains_key(&id) {
            Some(id)
        } else if self.own_ids {
            self.unasked(request)
        } else {
            None
        };
        let Some(id) = known else {
            let merged = self.take(request, true)?;
            self.calls.get_mut(&merged.state.id)?.asked = true;
            let question = merged.state.clone();
            return Some(Asked { merged, question });
        };
        let call = self.calls.get_mut(&id)?;
        let before = call.state.clone();
        call.be_asked(request, &self.quirks);
        let state = call.state.clone();
        let mut question = state.clone();
        if let Some(title) = request.get("title").and_then(Value::as_str) {
            question.title = sentence(title, TITLE_CHARS);
        }
        if let Some(kind) = request.get("kind").and_then(Value::as_str) {
            question.kind = kind_of(kind);
        }
        if let Some(input) = request
            .get("rawInput")
            .filter(|input| says_something(input))
        {
            question.input = Some(input.clone());
        }
        let merged = Merged {
            news: before != state,
            written: Vec::new(),
            state,
        };
        Some(Asked { merged, question })
    }

    /// The oldest open call of the kind of a request that nobody was asked about, rather one that
    /// touches the same file.
    fn unasked(&self, request: &Value) -> Option<ToolCallId> {
        let kind = request.get("kind").and_then(Value::as_str).map(kind_of);
        let open = || {
            self.order.iter().filter(move |id| {
                self.calls.get(*id).is_some_and(|call| {
                    let open = call.presumed || !is_final(call.state.status);
                    open && !call.asked && kind.is_none_or(|kind| kind == call.state.kind)
                })
            })
        };
        let paths = tool_content::paths(request, &self.quirks);
        let same_file = |id: &&ToolCallId| {
            self.calls.get(*id).is_some_and(|call| {
                let places = &call.state.locations;
                places.iter().any(|place| paths.contains(&place.path))
            })
        };
        open().find(same_file).or_else(|| open().next()).cloned()
    }

    /// A person said no to this call; agents need not mention it again.
    pub(crate) fn reject(&mut self, id: &ToolCallId) -> Option<ToolState> {
        let call = self.calls.get_mut(id)?;
        if is_final(call.state.status) {
            return None;
        }
        call.rejected = true;
        call.state.status = ToolStatus::Failed;
        Some(call.state.clone())
    }

    /// The agent goes on: calls of which it tells no end are done. Must not be called while a
    /// person is asked.
    pub(crate) fn went_on(&mut self) -> Vec<Merged> {
        let mut done = Vec::new();
        for id in &self.order {
            let Some(call) = self.calls.get_mut(id) else {
                continue;
            };
            if !is_final(call.state.status) && self.quirks.silent.contains(&call.state.kind) {
                call.presumed = true;
                call.state.status = ToolStatus::Completed;
                done.push(Merged {
                    written: call.newly_written(),
                    state: call.state.clone(),
                    news: true,
                });
            }
        }
        done
    }

    /// Whether the update begins a call.
    pub(crate) fn is_new(&self, update: &Value) -> bool {
        id_of(update).is_some_and(|id| !self.calls.contains_key(&id))
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
                asked: false,
                rejected: false,
                presumed: false,
            },
        );
    }
}

impl Call {
    fn absorb(&mut self, update: &Value, quirks: &ToolQuirks, preview: bool) {
        let text = |name: &str| update.get(name).and_then(Value::as_str);
        let state = &mut self.state;
        if let Some(title) = text("title") {
            state.title = sentence(title, TITLE_CHARS);
        }
        if let Some(kind) = text("kind") {
            state.kind = kind_of(kind);
        }
        if state.title.is_empty() {
            "tool call".clone_into(&mut state.title);
        }
        if let Some(status) = text("status").and_then(status_of) {
            self.proceed(status);
        }
        let state = &mut self.state;
        if let Some(input) = update.get("rawInput").filter(|input| says_something(input)) {
            state.input = Some(input.clone());
        }
        let places = tool_content::locations(update);
        if !places.is_empty() {
            state.locations = places;
        }
        // Some agents show the change only when they ask for it, not when it is done.
        let diffs = tool_content::diffs(update, quirks);
        if !diffs.is_empty() {
            state.diffs = diffs;
        }
        if !preview && let Some(output) = tool_content::text(update) {
            state.output = Some(output);
        }
        let raw = update.get("rawOutput");
        if state.output.is_none()
            && let Some(output) = raw.and_then(tool_content::raw_output)
        {
            state.output = Some(output);
        }
        let failed = |raw: &Value| {
            let mut signs = quirks.failed_by.iter();
            signs.any(|sign| raw.get(sign).is_some_and(says_something))
        };
        if state.status == ToolStatus::Completed && raw.is_some_and(failed) {
            state.status = ToolStatus::Failed;
        }
    }

    /// A call that has ended stays ended, and one that was refused was not done.
    fn proceed(&mut self, status: ToolStatus) {
        let open = self.presumed || !is_final(self.state.status);
        if !self.rejected && (open || is_final(status)) {
            self.presumed = false;
            self.state.status = status;
        }
    }

    /// Takes from a permission request about a call that is known what nobody has told yet, and
    /// every file it names: what lies outside the place of a run is decided by them.
    fn be_asked(&mut self, request: &Value, quirks: &ToolQuirks) {
        self.asked = true;
        if std::mem::take(&mut self.presumed) {
            self.state.status = ToolStatus::Pending;
        }
        let state = &mut self.state;
        let diffs = tool_content::diffs(request, quirks);
        if !diffs.is_empty() {
            state.diffs = diffs;
        }
        for place in tool_content::locations(request) {
            if !state.locations.contains(&place) {
                state.locations.push(place);
            }
        }
        let input = request.get("rawInput");
        if state.input.is_none() {
            state.input = input.filter(|input| says_something(input)).cloned();
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

/// The id of a call. Some agents put line ends into theirs.
fn id_of(update: &Value) -> Option<ToolCallId> {
    let id = update.get("toolCallId")?.as_str()?;
    ToolCallId::parse(&id.replace(char::is_control, "_")).ok()
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
const TITLE_CHARS: usize = 500;

#[cfg(test)]
mod tests {
    use bridge_proto::model::FileDiff;
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
