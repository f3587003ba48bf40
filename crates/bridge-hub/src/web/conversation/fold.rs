//! The order of a conversation: events, as they were stored, become items. Pure: the same function
//! stands behind the first page and behind every later fragment, so the two cannot differ.

use std::collections::HashMap;

use bridge_proto::model::{Event, EventBody, RunEvent, Usage};

use super::{Body, Conversation, Prompt};
use crate::web::run::Run;

/// Folds prompts (in the order of their runs) and events (in the order of their sequence numbers)
/// into what a person reads.
pub(crate) fn fold<'a>(
    prompts: &[Prompt],
    events: impl IntoIterator<Item = (u64, &'a Event)>,
) -> Conversation {
    let mut fold = Fold::default();
    for prompt in prompts {
        fold.on_prompt(prompt);
    }
    for (seq, event) in events {
        fold.on_event(seq, event);
    }
    fold.finish()
}

#[derive(Default)]
struct Fold {
    runs: Vec<Run>,
    index: HashMap<String, usize>,
    seq: u64,
    model: Option<String>,
    mode: Option<String>,
    effort: Option<String>,
}

impl Fold {
    fn on_prompt(&mut self, prompt: &Prompt) {
        let run = self.run(&prompt.attempt);
        let (text, attachments) = (prompt.text.clone(), prompt.attachments.clone());
        let joined = false;
        let body = Body::Prompt {
            text,
            attachments,
            joined,
        };
        run.push(u64::MAX, prompt.at, body);
    }

    fn run(&mut self, attempt: &str) -> &mut Run {
        let at = if let Some(at) = self.index.get(attempt) {
            *at
        } else {
            let at = self.runs.len();
            self.index.insert(attempt.to_owned(), at);
            self.runs.push(Run::new(attempt, at as u64));
            at
        };
        &mut self.runs[at]
    }

    fn on_event(&mut self, seq: u64, event: &Event) {
        self.seq = self.seq.max(seq);
        if let EventBody::Seen(seen) = &event.body {
            match &seen.event {
                RunEvent::Model { model } => self.model = Some(model.clone()),
                RunEvent::Mode { mode } => self.mode = Some(mode.clone()),
                RunEvent::Effort { effort } => self.effort = Some(effort.clone()),
                RunEvent::Text { .. }
                | RunEvent::TextReplaced { .. }
                | RunEvent::Thinking { .. }
                | RunEvent::Tool(_)
                | RunEvent::Plan { .. }
                | RunEvent::FileWritten { .. }
                | RunEvent::Ask(_)
                | RunEvent::AskClosed { .. }
                | RunEvent::Injected { .. }
                | RunEvent::Usage(_)
                | RunEvent::Retrying(_)
                | RunEvent::Silent { .. }
                | RunEvent::Status { .. }
                | RunEvent::Other { .. } => {}
            }
        }
        let attempt = &event.run.attempt;
        let at = self.index.get(attempt).copied();
        let before = at.and_then(|at| self.runs.get(at.checked_sub(1)?));
        let behind_own = before.is_some_and(Run::goes_on);
        self.run(attempt).on_event(seq, event, behind_own);
    }

    fn finish(self) -> Conversation {
        let usage = self
            .runs
            .iter()
            .fold(Usage::default(), |sum, run| add(sum, run.usage));
        Conversation {
            items: self.runs.into_iter().flat_map(|run| run.items).collect(),
            model: self.model,
            mode: self.mode,
            effort: self.effort,
            usage,
            seq: self.seq,
        }
    }
}

fn add(a: Usage, b: Usage) -> Usage {
    fn both<T: std::ops::Add<Output = T>>(a: Option<T>, b: Option<T>) -> Option<T> {
        match (a, b) {
            (Some(a), Some(b)) => Some(a + b),
            (one, None) | (None, one) => one,
        }
    }
    Usage {
        input_tokens: both(a.input_tokens, b.input_tokens),
        output_tokens: both(a.output_tokens, b.output_tokens),
        cost_usd: both(a.cost_usd, b.cost_usd),
    }
}
