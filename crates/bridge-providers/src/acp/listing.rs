//! A conversation that only opens a session, reads which models it offers, and ends.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use bridge_proto::model::Outcome;
use tokio::time::timeout_at;

use super::{AcpDialogue, AcpQuirks, AcpStart};
use crate::{
    conversation::converse,
    dialogue::{Dialogue, Exit, Step},
    process::Launch,
    provider::{Heard, ListError, Steer, TurnEnd},
};

/// Starts the program and gives the models its session offers, the current one first. No prompt
/// is sent. The program is ended before this returns, or soon after `limit`.
pub(crate) async fn list_models(
    launch: Launch,
    quirks: AcpQuirks,
    limit: Duration,
) -> Result<Vec<String>, ListError> {
    let provider = quirks.name.clone();
    let until = tokio::time::Instant::now() + limit;
    let dialogue = Listing::new(launch.directory.clone(), quirks);
    let mut conversation = converse(launch, Box::new(dialogue)).await?;
    let mut models = Err("the program ended without an answer".to_owned());
    loop {
        match timeout_at(until, conversation.heard.recv()).await {
            Ok(Some(Heard::TurnOver(end))) => models = read(end),
            Ok(Some(Heard::Gone) | None) => break,
            Ok(Some(
                Heard::Prompted
                | Heard::Resumable(_)
                | Heard::Seen(_)
                | Heard::Injected(_)
                | Heard::Applied(_),
            )) => {}
            Err(_) => {
                models = models.map_err(|_| format!("no answer within {limit:?}"));
                break;
            }
        }
    }
    models.map_err(|reason| ListError::NoAnswer { provider, reason })
}

fn read(end: TurnEnd) -> Result<Vec<String>, String> {
    match end.outcome {
        Outcome::Completed => Ok(end.answer.lines().map(str::to_owned).collect()),
        Outcome::Failed { reason, .. } | Outcome::Blocked { reason, .. } => Err(reason),
        Outcome::Cancelled { .. } => Err("cancelled".to_owned()),
    }
}

/// Tells the list as the answer of its one turn, a model a line.
#[derive(Debug)]
struct Listing {
    inner: AcpDialogue,
    told: bool,
}

impl Listing {
    fn new(directory: PathBuf, quirks: AcpQuirks) -> Self {
        let start = AcpStart {
            directory,
            ..AcpStart::default()
        };
        Self {
            inner: AcpDialogue::new(start, quirks),
            told: false,
        }
    }
}

impl Dialogue for Listing {
    fn on_start(&mut self, now: Instant) {
        self.inner.on_start(now);
    }

    fn on_line(&mut self, now: Instant, line: &[u8]) {
        self.inner.on_line(now, line);
    }

    fn on_oversized(&mut self, now: Instant, bytes: u64) {
        self.inner.on_oversized(now, bytes);
    }

    fn on_steer(&mut self, now: Instant, steer: Steer) {
        self.inner.on_steer(now, steer);
    }

    fn on_end(&mut self, now: Instant, exit: Exit) {
        self.inner.on_end(now, exit);
    }

    fn on_timeout(&mut self, now: Instant) {
        self.inner.on_timeout(now);
    }

    fn next_step(&mut self) -> Option<Step> {
        if let Some(step) = self.inner.next_step() {
            return Some(step);
        }
        if self.told {
            return None;
        }
        let (outcome, answer) = match self.inner.failure() {
            Some(outcome) => (outcome.clone(), String::new()),
            None if self.inner.is_idle() => (Outcome::Completed, self.inner.models().join("\n")),
            None => return None,
        };
        self.told = true;
        self.inner.close();
        Some(Step::TurnOver(TurnEnd { outcome, answer }))
    }

    fn deadline(&self) -> Option<Instant> {
        self.inner.deadline()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(lines: &[&str]) -> Vec<Step> {
        let now = Instant::now();
        let mut listing = Listing::new("/p".into(), AcpQuirks::plain("Agent", "log in"));
        listing.on_start(now);
        let mut steps = Vec::new();
        for line in lines {
            while listing.next_step().is_some() {}
            listing.on_line(now, line.as_bytes());
        }
        while let Some(step) = listing.next_step() {
            steps.push(step);
        }
        steps
    }

    #[test]
    fn tells_the_models_of_the_session_and_closes() {
        let steps = steps(&[
            r#"{"id":0,"result":{"protocolVersion":1}}"#,
            r#"{"id":1,"result":{"sessionId":"s","models":{"currentModelId":"b",
                "availableModels":[{"modelId":"a"},{"modelId":"b"}]}}}"#,
        ]);
        let over = |step: &Step| matches!(step, Step::TurnOver(end) if end.answer == "b\na");
        assert!(steps.iter().any(over), "{steps:?}");
        assert!(matches!(steps.last(), Some(Step::CloseInput(_))));
    }

    #[test]
    fn tells_why_there_is_no_session_and_ends_the_program() {
        let steps = steps(&[
            r#"{"id":0,"result":{"protocolVersion":1}}"#,
            r#"{"id":1,"error":{"code":-32000,"message":"no key"}}"#,
        ]);
        assert!(matches!(
            &steps[..],
            [Step::TurnOver(end), Step::Terminate(_)] if matches!(end.outcome, Outcome::Blocked { .. })
        ));
    }
}
