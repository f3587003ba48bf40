//! The items of one run, as its events make them. Pure.
//!
//! ```text
//! push ──► the item is last, and open while its run goes on and text may still be added
//!   └──► the next push closes it (rev says so)
//! ```

use std::collections::HashMap;

use bridge_proto::{
    Timestamp,
    model::{Ask, Event, EventBody, Observed, PlanItem, RunEvent, ToolState, ToolStatus, Usage},
};

use super::conversation::{Body, Closed, End, Item, Note, Written};

/// One run while it is folded.
pub(crate) struct Run {
    attempt: String,
    place: u64,
    /// In reading order.
    pub(crate) items: Vec<Item>,
    blocks: HashMap<String, usize>,
    tools: HashMap<String, usize>,
    asks: HashMap<String, usize>,
    plan: Option<usize>,
    /// As last reported.
    pub(crate) usage: Usage,
    started: Option<Timestamp>,
    ended: bool,
}

impl Run {
    /// The run at this place among the runs of its task.
    pub(crate) fn new(attempt: &str, place: u64) -> Self {
        Self {
            attempt: attempt.to_owned(),
            place,
            items: Vec::new(),
            blocks: HashMap::new(),
            tools: HashMap::new(),
            asks: HashMap::new(),
            plan: None,
            usage: Usage::default(),
            started: None,
            ended: false,
        }
    }

    /// Appends an item; whatever was being written before it is finished by that.
    pub(crate) fn push(&mut self, seq: u64, at: Timestamp, body: Body) -> usize {
        self.close_last(seq);
        let place = self.items.len();
        self.items.push(Item {
            key: format!("r{}-{place}", self.place),
            order: self.place * ITEMS_OF_A_RUN + place as u64,
            rev: seq,
            at,
            body,
        });
        place
    }

    fn close_last(&mut self, seq: u64) {
        if let Some(last) = self.items.last_mut() {
            match &mut last.body {
                Body::Answer { open, .. } | Body::Thinking { open, .. } => {
                    *open = false;
                    last.rev = seq;
                }
                Body::Note { note, gone } => match note {
                    Note::Queued(_) | Note::AfterAnswer | Note::Silent(_) if !*gone => {
                        *gone = true;
                        last.rev = seq;
                    }
                    Note::Queued(_)
                    | Note::AfterAnswer
                    | Note::Silent(_)
                    | Note::Status(_)
                    | Note::Retrying(_) => {}
                },
                Body::Prompt { .. }
                | Body::Tool { .. }
                | Body::Plan { .. }
                | Body::Files { .. }
                | Body::Ask { .. }
                | Body::End { .. } => {}
            }
        }
    }

    /// Whether its end is still to come.
    pub(crate) fn goes_on(&self) -> bool {
        !self.ended
    }

    /// The next event of this run. `behind_own`: the run before it in the task goes on.
    pub(crate) fn on_event(&mut self, seq: u64, event: &Event, behind_own: bool) {
        if let Some(first) = self.items.first_mut()
            && first.rev == u64::MAX
        {
            first.rev = seq;
        }
        match &event.body {
            EventBody::Queued { .. } if behind_own => {
                self.on_note(seq, event.at, Note::AfterAnswer);
            }
            EventBody::Queued { ahead } => self.on_note(seq, event.at, Note::Queued(*ahead)),
            EventBody::Started { .. } => {
                self.started = Some(event.at);
                self.close_last(seq);
            }
            EventBody::Seen(seen) => self.on_seen(seq, event.at, seen),
            EventBody::Joined { .. } => self.on_joined(seq),
            EventBody::Ended { outcome } => {
                self.on_end(seq, event.at, End::Ran(outcome.clone()));
            }
            EventBody::Rejected(why) => self.on_end(seq, event.at, End::Rejected(why.clone())),
        }
    }

    fn on_seen(&mut self, seq: u64, at: Timestamp, seen: &Observed) {
        if !matches!(seen.event, RunEvent::Silent { .. }) {
            self.end_silence(seq);
        }
        match &seen.event {
            RunEvent::Text { block, delta } => self.on_text(seq, at, block.as_str(), |text| {
                text.push_str(delta);
            }),
            RunEvent::TextReplaced { block, text: whole } => {
                self.on_text(seq, at, block.as_str(), |text| text.clone_from(whole));
            }
            RunEvent::Thinking { delta } => self.on_thinking(seq, at, delta),
            RunEvent::Tool(state) => self.on_tool(seq, at, state),
            RunEvent::Plan { items } => self.on_plan(seq, at, items),
            RunEvent::FileWritten { path } => self.on_file(seq, at, path),
            RunEvent::Ask(ask) if self.asks.contains_key(ask.id.as_str()) => {
                self.change_ask(seq, ask);
            }
            RunEvent::Ask(ask) => {
                self.mark_asking(seq, ask, true);
                let body = Body::Ask {
                    ask: Box::new(ask.clone()),
                    end: None,
                };
                let place = self.push(seq, at, body);
                self.asks.insert(ask.id.as_str().to_owned(), place);
            }
            RunEvent::AskClosed { ask, how } => {
                if let Some(place) = self.asks.get(ask.as_str()).copied() {
                    self.close_ask(place, seq, Closed::Told(how.clone()));
                }
            }
            RunEvent::Usage(usage) => self.usage = *usage,
            RunEvent::Retrying(retry) => self.on_note(seq, at, Note::Retrying(retry.clone())),
            RunEvent::Silent { seconds } => self.on_note(seq, at, Note::Silent(*seconds)),
            RunEvent::Status { text } => self.on_note(seq, at, Note::Status(text.clone())),
            RunEvent::Injected { text } => {
                let body = Body::Prompt {
                    text: text.clone(),
                    attachments: Vec::new(),
                    joined: false,
                };
                self.push(seq, at, body);
            }
            RunEvent::Model { .. }
            | RunEvent::Mode { .. }
            | RunEvent::Effort { .. }
            | RunEvent::Other { .. } => {}
        }
    }

    /// The message stands in the run that read it; nothing is left to be seen of this one.
    fn on_joined(&mut self, seq: u64) {
        self.ended = true;
        self.close_last(seq);
        if let Some(first) = self.items.first_mut()
            && let Body::Prompt { joined, .. } = &mut first.body
        {
            *joined = true;
            first.rev = seq;
        }
    }

    fn end_silence(&mut self, seq: u64) {
        if let Some(last) = self.items.last_mut()
            && let Body::Note {
                note: Note::Silent(_),
                gone,
            } = &mut last.body
            && !*gone
        {
            *gone = true;
            last.rev = seq;
        }
    }

    /// The last item that can be seen: what is being written, if anything is.
    fn last_shown(&self) -> Option<usize> {
        self.items
            .iter()
            .rposition(|item| !matches!(item.body, Body::Note { gone: true, .. }))
    }

    fn change(&mut self, place: usize, seq: u64, body: Body) {
        if let Some(item) = self.items.get_mut(place) {
            item.body = body;
            item.rev = seq;
        }
    }

    fn on_text(&mut self, seq: u64, at: Timestamp, block: &str, edit: impl FnOnce(&mut String)) {
        let place = if let Some(place) = self.blocks.get(block) {
            *place
        } else {
            let attempt = self.attempt.clone();
            let open = !self.ended;
            let (block, text) = (block.to_owned(), String::new());
            let body = Body::Answer {
                attempt,
                block: block.clone(),
                text,
                open,
            };
            let place = self.push(seq, at, body);
            self.blocks.insert(block, place);
            place
        };
        let goes_on = !self.ended && self.last_shown() == Some(place);
        if let Some(item) = self.items.get_mut(place)
            && let Body::Answer { text, open, .. } = &mut item.body
        {
            edit(text);
            *open = goes_on;
            item.rev = seq;
        }
    }

    fn on_thinking(&mut self, seq: u64, at: Timestamp, delta: &str) {
        let ended = self.ended;
        if let Some(last) = self
            .last_shown()
            .and_then(|place| self.items.get_mut(place))
            && let Body::Thinking { text, open, .. } = &mut last.body
        {
            text.push_str(delta);
            *open = !ended;
            last.rev = seq;
            return;
        }
        let (attempt, text, open) = (self.attempt.clone(), delta.to_owned(), !self.ended);
        self.push(
            seq,
            at,
            Body::Thinking {
                attempt,
                text,
                open,
            },
        );
    }

    fn on_tool(&mut self, seq: u64, at: Timestamp, state: &ToolState) {
        let id = state.id.as_str();
        let place = self.tools.get(id).copied();
        let asking = place
            .and_then(|place| self.items.get(place))
            .and_then(|item| match &item.body {
                Body::Tool { asking, .. } => asking.clone(),
                Body::Prompt { .. }
                | Body::Answer { .. }
                | Body::Thinking { .. }
                | Body::Plan { .. }
                | Body::Files { .. }
                | Body::Ask { .. }
                | Body::Note { .. }
                | Body::End { .. } => None,
            });
        let body = Body::Tool {
            state: Box::new(state.clone()),
            asking,
        };
        if let Some(place) = place {
            self.change(place, seq, body);
        } else {
            let place = self.push(seq, at, body);
            self.tools.insert(id.to_owned(), place);
        }
    }

    fn on_plan(&mut self, seq: u64, at: Timestamp, items: &[PlanItem]) {
        let body = Body::Plan {
            items: items.to_vec(),
            over: self.ended,
        };
        if let Some(place) = self.plan {
            self.change(place, seq, body);
        } else {
            self.plan = Some(self.push(seq, at, body));
        }
    }

    fn on_file(&mut self, seq: u64, at: Timestamp, path: &str) {
        let written = Written {
            path: path.to_owned(),
            address: None,
        };
        if let Some(last) = self.items.last_mut()
            && let Body::Files { files } = &mut last.body
        {
            if !files.iter().any(|known| known.path == path) {
                files.push(written);
                last.rev = seq;
            }
            return;
        }
        self.push(
            seq,
            at,
            Body::Files {
                files: vec![written],
            },
        );
    }

    /// A line of the same sort as the last one takes its place, except for sentences.
    fn on_note(&mut self, seq: u64, at: Timestamp, note: Note) {
        let replaces = self
            .items
            .last()
            .is_some_and(|last| match (&last.body, &note) {
                (Body::Note { note: old, .. }, Note::Status(_)) => *old == note,
                (
                    Body::Note { note: old, .. },
                    Note::Queued(_) | Note::AfterAnswer | Note::Retrying(_) | Note::Silent(_),
                ) => std::mem::discriminant(old) == std::mem::discriminant(&note),
                (
                    Body::Prompt { .. }
                    | Body::Answer { .. }
                    | Body::Thinking { .. }
                    | Body::Tool { .. }
                    | Body::Plan { .. }
                    | Body::Files { .. }
                    | Body::Ask { .. }
                    | Body::End { .. },
                    _,
                ) => false,
            });
        let body = Body::Note { note, gone: false };
        if replaces {
            self.change(self.items.len() - 1, seq, body);
        } else {
            self.push(seq, at, body);
        }
    }

    /// The question as it is now; one that was closed is asked anew.
    fn change_ask(&mut self, seq: u64, ask: &Ask) {
        let Some(place) = self.asks.get(ask.id.as_str()).copied() else {
            return;
        };
        let body = Body::Ask {
            ask: Box::new(ask.clone()),
            end: None,
        };
        self.change(place, seq, body);
        self.mark_asking(seq, ask, ask.answered.is_none());
    }

    fn close_ask(&mut self, place: usize, seq: u64, closed: Closed) {
        let Some(item) = self.items.get_mut(place) else {
            return;
        };
        let Body::Ask { ask, end } = &mut item.body else {
            return;
        };
        if end.is_some() {
            return;
        }
        *end = Some(closed);
        item.rev = seq;
        let ask = ask.clone();
        self.mark_asking(seq, &ask, false);
    }

    fn mark_asking(&mut self, seq: u64, ask: &Ask, now: bool) {
        let place = ask.tool.as_ref().and_then(|id| self.tools.get(id.as_str()));
        if let Some(item) = place.and_then(|place| self.items.get_mut(*place))
            && let Body::Tool { asking, .. } = &mut item.body
        {
            *asking = now.then(|| ask.summary.clone());
            item.rev = seq;
        }
    }

    fn on_end(&mut self, seq: u64, at: Timestamp, end: End) {
        self.ended = true;
        let open: Vec<usize> = self.asks.values().copied().collect();
        for place in open {
            self.close_ask(place, seq, Closed::RunOver);
        }
        for item in &mut self.items {
            match &mut item.body {
                Body::Tool { state, .. } => match state.status {
                    ToolStatus::Pending | ToolStatus::InProgress => {
                        state.status = ToolStatus::Unknown;
                        item.rev = seq;
                    }
                    ToolStatus::Completed
                    | ToolStatus::Failed
                    | ToolStatus::Cancelled
                    | ToolStatus::Unknown => {}
                },
                Body::Plan { over, .. } => {
                    *over = true;
                    item.rev = seq;
                }
                Body::Prompt { .. }
                | Body::Answer { .. }
                | Body::Thinking { .. }
                | Body::Files { .. }
                | Body::Ask { .. }
                | Body::Note { .. }
                | Body::End { .. } => {}
            }
        }
        let took_millis = self
            .started
            .map(|from| (at.as_millis() - from.as_millis()).max(0));
        self.push(seq, at, Body::End { end, took_millis });
    }
}

/// Room between the sort keys of two runs; far beyond the items a page can show.
const ITEMS_OF_A_RUN: u64 = 1 << 32;
