//! How long a model is waited for: a pure machine over what is seen of one turn.
//!
//! Agents try a failed model call again for minutes without doing anything a person would notice.
//! So the time counts from the last thing the agent *did*, and it does not count at all while a
//! tool works or a person is asked, nor before the agent has its prompt: some need many seconds to
//! start, and have limits of their own for that.
//!
//! ```text
//!                  seen: text, a tool call, a plan, …
//!                  ┌───────┐
//!         prompted ▼       │                        limit
//!  starting ─────► waiting for the model ─────────────────────► given up, told once
//!                  ▲       │ a tool call or a question is open
//!                  │       ▼
//!                  └── not waiting      retries, silence, sentences and usage change nothing anywhere
//! ```

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use bridge_proto::{
    AskId, ToolCallId,
    model::{Fault, Outcome, Retry, RunEvent, ToolStatus},
};

/// The patience with one turn.
#[derive(Debug)]
pub(crate) struct Patience {
    /// `None`: without end.
    limit: Option<Duration>,
    /// `None`: the agent has no prompt yet.
    since: Option<Instant>,
    tools: BTreeSet<ToolCallId>,
    asks: BTreeSet<AskId>,
    retry: Option<Retry>,
}

impl Patience {
    /// The turn begins; the agent may still have to start.
    pub(crate) fn new(limit: Option<Duration>) -> Self {
        Self {
            limit,
            since: None,
            tools: BTreeSet::new(),
            asks: BTreeSet::new(),
            retry: None,
        }
    }

    /// The agent has its prompt.
    pub(crate) fn prompted(&mut self, now: Instant) {
        self.since = Some(now);
    }

    /// The agent said or did something.
    pub(crate) fn seen(&mut self, now: Instant, event: &RunEvent) {
        match event {
            RunEvent::Retrying(retry) => {
                self.retry = Some(retry.clone());
                return;
            }
            RunEvent::Silent { .. } | RunEvent::Status { .. } | RunEvent::Usage(_) => return,
            RunEvent::Tool(tool) => match tool.status {
                ToolStatus::Pending | ToolStatus::InProgress => {
                    if self.tools.len() < MOST {
                        self.tools.insert(tool.id.clone());
                    }
                }
                ToolStatus::Completed
                | ToolStatus::Failed
                | ToolStatus::Cancelled
                | ToolStatus::Unknown => {
                    self.tools.remove(&tool.id);
                }
            },
            RunEvent::Ask(ask) => {
                if self.asks.len() < MOST {
                    self.asks.insert(ask.id.clone());
                }
            }
            RunEvent::AskClosed { ask, .. } => {
                self.asks.remove(ask);
            }
            RunEvent::Text { .. }
            | RunEvent::TextReplaced { .. }
            | RunEvent::Thinking { .. }
            | RunEvent::Plan { .. }
            | RunEvent::FileWritten { .. }
            | RunEvent::Model { .. }
            | RunEvent::Mode { .. }
            | RunEvent::Effort { .. }
            | RunEvent::Injected { .. }
            | RunEvent::Other { .. } => {}
        }
        self.begin_anew(now);
        self.retry = None;
    }

    /// The agent took the answer to a question.
    pub(crate) fn applied(&mut self, now: Instant, ask: &AskId) {
        self.asks.remove(ask);
        self.begin_anew(now);
    }

    /// What is heard before the prompt was sent is no answer to it.
    fn begin_anew(&mut self, now: Instant) {
        self.since = self.since.map(|_| now);
    }

    /// Nothing more is expected of this turn.
    pub(crate) fn stop(&mut self) {
        self.limit = None;
    }

    /// When [`Patience::on_timeout`] is due, if nothing is seen before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let waits = self.tools.is_empty() && self.asks.is_empty();
        Some(self.since? + self.limit.filter(|_| waits)?)
    }

    /// What the turn ends with, if it is over now; said once.
    pub(crate) fn on_timeout(&mut self, now: Instant) -> Option<Outcome> {
        self.deadline().filter(|at| *at <= now)?;
        let waited = in_words(now.saturating_duration_since(self.since?));
        self.stop();
        let reason = match &self.retry {
            Some(retry) => {
                let of = retry
                    .limit
                    .map_or_else(String::new, |limit| format!(" of {limit}"));
                format!(
                    "the model did not answer for {waited}; its last word was: trying again ({}{of}): {}",
                    retry.attempt, retry.reason
                )
            }
            None => format!("the model did not answer for {waited}"),
        };
        Some(Outcome::Failed {
            fault: Fault::Model,
            reason,
        })
    }
}

fn in_words(time: Duration) -> String {
    match time.as_secs() {
        seconds @ ..120 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    }
}

/// Tool calls and questions that are told apart; an agent with more of them open is not waited for
/// any less.
const MOST: usize = 10_000;

#[cfg(test)]
mod tests {
    use bridge_proto::{
        BlockId, Digest,
        model::{Ask, AskEnd, AskKind, ToolKind, ToolState, Usage},
    };

    use super::*;

    const LIMIT: Duration = Duration::from_secs(300);

    /// A turn in virtual time.
    struct Turn {
        start: Instant,
        patience: Patience,
    }

    impl Turn {
        /// The agent has its prompt from the first second on.
        fn new() -> Self {
            let mut turn = Self::starting();
            turn.patience.prompted(turn.start);
            turn
        }

        fn starting() -> Self {
            Self {
                start: Instant::now(),
                patience: Patience::new(Some(LIMIT)),
            }
        }

        fn at(&self, second: u64) -> Instant {
            self.start + Duration::from_secs(second)
        }

        fn seen(&mut self, second: u64, event: &RunEvent) {
            self.patience.seen(self.at(second), event);
        }

        fn given_up_at(&self) -> Option<u64> {
            let at = self.patience.deadline()?;
            Some(at.duration_since(self.start).as_secs())
        }

        fn reason(&mut self, second: u64) -> Option<String> {
            let now = self.at(second);
            let outcome = self.patience.on_timeout(now)?;
            let Outcome::Failed {
                fault: Fault::Model,
                reason,
            } = outcome
            else {
                panic!("{outcome:?}")
            };
            Some(reason)
        }
    }

    fn text() -> RunEvent {
        RunEvent::Text {
            block: BlockId::parse("b").unwrap(),
            delta: "x".into(),
        }
    }

    fn retrying(attempt: u32, reason: &str) -> RunEvent {
        RunEvent::Retrying(Retry {
            attempt,
            limit: Some(10),
            delay: None,
            reason: reason.into(),
        })
    }

    fn tool(status: ToolStatus) -> RunEvent {
        RunEvent::Tool(ToolState {
            id: ToolCallId::parse("c").unwrap(),
            title: "make".into(),
            kind: ToolKind::Execute,
            status,
            input: None,
            output: None,
            locations: Vec::new(),
            diffs: Vec::new(),
        })
    }

    fn ask() -> Ask {
        Ask {
            id: AskId::parse("q").unwrap(),
            kind: AskKind::Question,
            summary: "which?".into(),
            options: Vec::new(),
            digest: Digest::of(&["which?"]),
            tool: None,
            expires: None,
            answered: None,
            action: None,
        }
    }

    #[test]
    fn what_an_agent_does_begins_the_wait_anew_and_what_it_says_about_waiting_does_not() {
        let mut turn = Turn::new();
        assert_eq!(turn.given_up_at(), Some(300));
        turn.seen(100, &text());
        assert_eq!(turn.given_up_at(), Some(400));
        let status = RunEvent::Status {
            text: "still there".into(),
        };
        for event in [
            retrying(1, "busy"),
            status,
            RunEvent::Silent { seconds: 60 },
            RunEvent::Usage(Usage::default()),
        ] {
            turn.seen(200, &event);
            assert_eq!(turn.given_up_at(), Some(400), "{event:?}");
        }
        assert_eq!(turn.reason(399), None);
    }

    #[test]
    fn an_agent_that_starts_slowly_loses_none_of_its_time() {
        let mut turn = Turn::starting();
        let model = RunEvent::Model { model: "m".into() };
        turn.seen(100, &model);
        turn.seen(200, &retrying(1, "still starting"));
        assert_eq!(turn.given_up_at(), None);
        assert_eq!(turn.reason(400), None);
        turn.patience.prompted(turn.at(500));
        assert_eq!(turn.given_up_at(), Some(800));
    }

    #[test]
    fn the_end_quotes_the_last_retry_and_is_told_once() {
        let mut turn = Turn::new();
        turn.seen(10, &retrying(1, "busy"));
        turn.seen(200, &retrying(4, "overloaded (529)"));
        assert_eq!(
            turn.reason(300).unwrap(),
            "the model did not answer for 5 min; its last word was: trying again (4 of 10): \
             overloaded (529)"
        );
        assert_eq!((turn.reason(9000), turn.given_up_at()), (None, None));
    }

    #[test]
    fn a_retry_that_helped_is_not_quoted_later() {
        let mut turn = Turn::new();
        turn.seen(10, &retrying(1, "busy"));
        turn.seen(20, &text());
        assert_eq!(
            turn.reason(320).unwrap(),
            "the model did not answer for 5 min"
        );
    }

    #[test]
    fn a_tool_at_work_is_waited_for_however_long_it_takes() {
        let mut turn = Turn::new();
        turn.seen(5, &tool(ToolStatus::InProgress));
        assert_eq!(turn.given_up_at(), None);
        assert_eq!(turn.reason(100_000), None);
        turn.seen(100_000, &tool(ToolStatus::Completed));
        assert_eq!(turn.given_up_at(), Some(100_300));
    }

    #[test]
    fn a_person_who_is_asked_is_waited_for_too() {
        let mut turn = Turn::new();
        turn.seen(5, &RunEvent::Ask(ask()));
        assert_eq!(turn.given_up_at(), None);
        turn.patience.applied(turn.at(7200), &ask().id);
        assert_eq!(turn.given_up_at(), Some(7500));
        turn.seen(7210, &RunEvent::Ask(ask()));
        let withdrawn = RunEvent::AskClosed {
            ask: ask().id,
            how: AskEnd::Withdrawn,
        };
        turn.seen(7220, &withdrawn);
        assert_eq!(turn.given_up_at(), Some(7520));
    }

    #[test]
    fn without_a_limit_nothing_is_ever_given_up() {
        let start = Instant::now();
        let mut patience = Patience::new(None);
        patience.prompted(start);
        assert_eq!(patience.deadline(), None);
        assert_eq!(patience.on_timeout(start + LIMIT * 1000), None);
    }
}
