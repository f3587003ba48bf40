//! Tool calls from their beginning to their end, and the output of commands while it comes.
//!
//! Output is told at most every [`PACE`] per call: a command may print a million lines, and each
//! event carries the whole call.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use bridge_proto::{
    Digest, ToolCallId,
    model::{RunEvent, ToolState, ToolStatus},
};
use serde_json::Value;

use super::{
    items::{self, Description, MAX_OUTPUT},
    patch,
    raw_calls::RawCalls,
};
use crate::plain::tail;

/// The calls that are not over, and what is known of them.
#[derive(Debug)]
pub(super) struct Tools {
    /// The working directory; titles are relative to it.
    directory: String,
    open: HashMap<String, Call>,
    /// Items begun so far; open calls are told about in this order.
    begun: u64,
    /// Ids of the running turn.
    of_turn: BTreeSet<String>,
    raw: RawCalls,
}

#[derive(Debug)]
struct Call {
    number: u64,
    state: ToolState,
    /// What a change of files wants, whole.
    changes: Value,
    /// When output was told last.
    told: Option<Instant>,
    /// Output came that was not told.
    untold: bool,
    /// Its turn is over.
    outlived: bool,
}

/// What a change of files is about, for the question whether it may be made.
#[derive(Debug)]
pub(super) struct Wanted {
    /// What a person reads, one line per file.
    pub(super) deeds: Vec<String>,
    /// Of the exact change.
    pub(super) digest: Digest,
    /// Every path it touches; empty when not all of them are known.
    pub(super) paths: Vec<String>,
}

impl Tools {
    pub(super) fn new(directory: &str) -> Self {
        Self {
            directory: directory.to_owned(),
            open: HashMap::new(),
            begun: 0,
            of_turn: BTreeSet::new(),
            raw: RawCalls::default(),
        }
    }

    /// Whether this item is a call that is followed.
    pub(super) fn follows(&self, id: &str) -> bool {
        self.open.contains_key(id)
    }

    /// An item began; `None` if it is no tool call.
    pub(super) fn started(&mut self, item: &Value) -> Option<RunEvent> {
        let id = item.get("id").and_then(Value::as_str)?;
        let described = items::describe(item, &self.directory)?;
        let call_id = ToolCallId::parse(id).ok()?;
        if !self.open.contains_key(id) {
            self.begun += 1;
        }
        if self.of_turn.len() < MAX_OPEN {
            self.of_turn.insert(id.to_owned());
        }
        let number = self.open.get(id).map_or(self.begun, |call| call.number);
        let status = items::status(item, false);
        let call = Call {
            number,
            state: state(call_id, described, status).0,
            changes: item.get("changes").cloned().unwrap_or_default(),
            told: None,
            untold: false,
            outlived: false,
        };
        let event = RunEvent::Tool(call.state.clone());
        if self.open.contains_key(id) || self.open.len() < MAX_OPEN {
            self.open.insert(id.to_owned(), call);
        }
        Some(event)
    }

    /// The files a change is about are other ones now.
    pub(super) fn changed(&mut self, id: &str, changes: &Value) -> Option<RunEvent> {
        let call = self.open.get_mut(id)?;
        let item = serde_json::json!({ "type": "fileChange", "changes": changes });
        let described = items::describe(&item, &self.directory)?;
        call.state = state(call.state.id.clone(), described, call.state.status).0;
        call.changes = changes.clone();
        Some(RunEvent::Tool(call.state.clone()))
    }

    /// More output of a command.
    pub(super) fn output(&mut self, now: Instant, id: &str, delta: &str) -> Option<RunEvent> {
        let call = self.open.get_mut(id)?;
        let output = call.state.output.get_or_insert_default();
        output.push_str(delta);
        if output.len() > 2 * MAX_OUTPUT {
            *output = tail(output, MAX_OUTPUT).to_owned();
        }
        call.untold = true;
        if call.state.status == ToolStatus::Pending {
            call.state.status = ToolStatus::InProgress;
        }
        (call.due() <= Some(now)).then(|| call.tell(now))
    }

    /// When output has to be told that was held back.
    pub(super) fn due(&self) -> Option<Instant> {
        let held = self.open.values().filter(|call| call.untold);
        held.filter_map(Call::due).min()
    }

    /// The output that is due.
    pub(super) fn flush(&mut self, now: Instant) -> Vec<RunEvent> {
        let held = self.open.values_mut().filter(|call| call.untold);
        let mut due: Vec<&mut Call> = held.filter(|call| call.due() <= Some(now)).collect();
        due.sort_by_key(|call| call.number);
        due.into_iter().map(|call| call.tell(now)).collect()
    }

    /// An item is over, and this is all of it: its output replaces what was shown, which is never
    /// complete. Empty if it is no tool call.
    pub(super) fn completed(&mut self, item: &Value) -> Vec<RunEvent> {
        let Some(id) = item.get("id").and_then(Value::as_str) else {
            return Vec::new();
        };
        let Some(described) = items::describe(item, &self.directory) else {
            return Vec::new();
        };
        let Ok(call_id) = ToolCallId::parse(id) else {
            return Vec::new();
        };
        let before = self.open.remove(id);
        if before.is_none() {
            self.begun += 1;
            if self.of_turn.len() < MAX_OPEN {
                self.of_turn.insert(id.to_owned());
            }
        }
        let (mut state, writes) = state(call_id, described, items::status(item, true));
        let failed = state.status == ToolStatus::Failed;
        if let Some(before) = before {
            state.input = state.input.or(before.state.input);
            if state.output.is_none() && !before.outlived {
                state.output = before.state.output;
            }
        }
        if failed {
            state.diffs.clear();
        }
        let written = writes.into_iter().filter(|_| !failed);
        let written: Vec<RunEvent> = written.map(|path| RunEvent::FileWritten { path }).collect();
        let mut events = vec![RunEvent::Tool(state)];
        events.extend(written);
        events
    }

    /// One raw item of the model's conversation.
    pub(super) fn raw(&mut self, item: &Value) -> Option<RunEvent> {
        let of_turn = &self.of_turn;
        let told = self
            .raw
            .on_item(item, self.begun, |id| of_turn.contains(id))?;
        Some(RunEvent::Tool(told))
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

    /// What the change of files with this id wants.
    pub(super) fn wanted(&self, id: &str) -> Option<Wanted> {
        let call = self.open.get(id)?;
        let changes = patch::changes(&call.changes);
        let complete = call
            .changes
            .as_array()
            .is_some_and(|all| all.len() == changes.len());
        (complete && !changes.is_empty()).then(|| Wanted {
            deeds: items::deeds(&changes, &self.directory),
            digest: Digest::of(&["change files", &call.changes.to_string()]),
            paths: patch::paths(&call.changes),
        })
    }

    /// The turn is over: what is still open is told with this status. Commands that go on by
    /// themselves are followed further when `go_on`; gives what they are.
    pub(super) fn turn_over(
        &mut self,
        status: ToolStatus,
        go_on: bool,
    ) -> (Vec<RunEvent>, Vec<String>) {
        self.raw.clear();
        self.of_turn.clear();
        let mut left: Vec<(String, Call)> = self.open.drain().collect();
        left.sort_by_key(|(_, call)| call.number);
        let (mut events, mut running) = (Vec::new(), Vec::new());
        for (id, mut call) in left {
            if !call.outlived {
                call.state.status = status;
                events.push(RunEvent::Tool(call.state.clone()));
                running.push(call.state.title.clone());
            }
            if go_on {
                call.outlived = true;
                call.untold = false;
                self.open.insert(id, call);
            }
        }
        (events, running)
    }
}

impl Call {
    /// When its output may be told.
    fn due(&self) -> Option<Instant> {
        self.told.map(|told| told + PACE)
    }

    fn tell(&mut self, now: Instant) -> RunEvent {
        self.told = Some(now);
        self.untold = false;
        RunEvent::Tool(self.state.clone())
    }
}

fn state(id: ToolCallId, of: Description, status: ToolStatus) -> (ToolState, Vec<String>) {
    let state = ToolState {
        id,
        title: of.title,
        kind: of.kind,
        status,
        input: of.input,
        output: of.output,
        locations: of.locations,
        diffs: of.diffs,
    };
    (state, of.writes)
}

/// How often the output of one call is told at most.
const PACE: Duration = Duration::from_millis(250);
/// Most calls followed at once; later ones are shown and not followed.
const MAX_OPEN: usize = 1024;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn command(output: &Value, status: &str) -> Value {
        json!({"type": "commandExecution", "id": "c", "command": "make", "status": status,
            "aggregatedOutput": output})
    }

    fn shown(event: Option<&RunEvent>) -> &ToolState {
        match event {
            Some(RunEvent::Tool(state)) => state,
            other => panic!("not a tool: {other:?}"),
        }
    }

    #[test]
    fn output_deltas_are_incomplete_and_replaced_at_the_end() {
        let now = Instant::now();
        let mut tools = Tools::new("/w");
        tools.started(&command(&json!(null), "inProgress"));
        let event = tools.output(now, "c", "tick 2\n");
        assert_eq!(shown(event.as_ref()).output.as_deref(), Some("tick 2\n"));
        let events = tools.completed(&command(&json!("tick 1\ntick 2\n"), "completed"));
        assert_eq!(
            shown(events.first()).output.as_deref(),
            Some("tick 1\ntick 2\n")
        );
        assert!(!tools.follows("c"));
    }

    #[test]
    fn a_flood_of_output_is_told_at_a_pace_and_to_its_end() {
        let mut now = Instant::now();
        let mut tools = Tools::new("/w");
        tools.started(&command(&json!(null), "inProgress"));
        let mut events = 0;
        for _ in 0..100_000 {
            events += usize::from(tools.output(now, "c", "line of output\n").is_some());
            now += Duration::from_micros(10);
        }
        assert!((2..=6).contains(&events), "{events}");
        let due = tools.due().unwrap();
        let last = tools.flush(due);
        let output = shown(last.first()).output.as_deref().unwrap();
        assert!(output.ends_with("output\n") && output.len() <= 2 * MAX_OUTPUT);
        assert_eq!(tools.due(), None);
    }

    #[test]
    fn a_refused_change_writes_no_file() {
        let item = |status: &str| {
            json!({"type": "fileChange", "id": "f", "status": status,
            "changes": [{"path": "/w/a", "kind": {"type": "add"}, "diff": "x\n"}]})
        };
        let mut tools = Tools::new("/w");
        let begun = tools.started(&item("inProgress"));
        assert_eq!(shown(begun.as_ref()).diffs.len(), 1);
        let events = tools.completed(&item("declined"));
        assert_eq!(events.len(), 1);
        assert_eq!(shown(events.first()).status, ToolStatus::Failed);
        tools.started(&item("inProgress"));
        let events = tools.completed(&item("completed"));
        let written = RunEvent::FileWritten {
            path: "/w/a".into(),
        };
        assert_eq!(events.get(1), Some(&written));
    }

    #[test]
    fn a_command_that_outlives_its_turn_is_told_as_unknown_and_then_as_it_ended() {
        let mut tools = Tools::new("/w");
        tools.started(&command(&json!(null), "inProgress"));
        let (events, running) = tools.turn_over(ToolStatus::Unknown, true);
        assert_eq!(shown(events.first()).status, ToolStatus::Unknown);
        assert_eq!(running, ["make"]);
        assert_eq!(tools.turn_over(ToolStatus::Unknown, true).0, []);
        let events = tools.completed(&command(&json!("done\n"), "completed"));
        assert_eq!(shown(events.first()).status, ToolStatus::Completed);
    }

    #[test]
    fn the_digest_follows_the_exact_change() {
        let item = |diff: &str| {
            json!({"type": "fileChange", "id": "f",
            "changes": [{"path": "/w/a", "kind": {"type": "add"}, "diff": diff}]})
        };
        let digest = |diff: &str| {
            let mut tools = Tools::new("/w");
            tools.started(&item(diff));
            tools.wanted("f").unwrap().digest
        };
        assert_eq!(digest("x"), digest("x"));
        assert_ne!(digest("x"), digest("y"));
        let mut tools = Tools::new("/w");
        tools.started(&json!({"type": "fileChange", "id": "f", "changes": [{"path": 1}]}));
        assert!(tools.wanted("f").is_none(), "a file that cannot be shown");
    }
}
