//! A turn at work: that its message was taken, when its time is up, how it is over.

use std::time::{Duration, Instant};

use bridge_proto::model::{Actor, Fault, Fix, Outcome, RunEvent, ToolStatus};
use serde_json::Value;

use super::{
    dialogue::{Act, MODE, OpenclawDialogue},
    frames::Failure,
};
use crate::{plain::readable, provider::TurnEnd};

impl OpenclawDialogue {
    /// The turn is over, and is told to be once every message for it is known to be read or not:
    /// whoever hears of the end first may say such a message again.
    pub(super) fn finish(&mut self, now: Instant, outcome: Outcome) {
        let Some(mut turn) = self.turn.take() else {
            return;
        };
        self.close_asks(&[]);
        let left = if matches!(outcome, Outcome::Cancelled { .. }) {
            ToolStatus::Cancelled
        } else {
            ToolStatus::Unknown
        };
        let open = turn.tools.close(left);
        self.emit_all(open);
        if self.is_up() {
            self.acts.push_back(Act::Guard(None));
        }
        let answer = turn.texts.answer();
        self.end_of_turn(now, TurnEnd { outcome, answer });
        self.next_turn(now);
    }

    pub(super) fn on_accepted(&mut self, now: Instant, result: Result<Value, Failure>) {
        match result {
            Ok(payload) => {
                if let Some(turn) = &mut self.turn {
                    turn.accepted = true;
                    turn.heard(now);
                }
                // Sent twice, and done in the meantime: there will be no more events.
                if payload.get("status").and_then(Value::as_str) == Some("ok") {
                    self.wait_for(None, false);
                }
            }
            Err(failure) => {
                let said = readable(&failure.message, 500);
                let outcome = if failure.detail() == "session-settings-changed" {
                    Outcome::Blocked {
                        fix: Fix::Setup,
                        reason: format!(
                            "somebody took the session out of the mode {MODE}; set it back in \
                             OpenClaw, or begin a new task"
                        ),
                    }
                } else {
                    Outcome::Failed {
                        fault: Fault::Agent,
                        reason: format!("OpenClaw did not take the message: {said}"),
                    }
                };
                let outcome = self.stopped().unwrap_or(outcome);
                self.finish(now, outcome);
            }
        }
    }

    /// How the turn ends because it was told to.
    pub(super) fn stopped(&self) -> Option<Outcome> {
        self.turn.as_ref()?.stopping.as_ref()?;
        Some(Outcome::Cancelled { by: Actor::Person })
    }

    pub(super) fn on_aborted(&mut self, now: Instant, answer: Option<&Value>) {
        let aborted = answer
            .is_some_and(|payload| payload.get("aborted").and_then(Value::as_bool) == Some(true));
        if !aborted && let Some(outcome) = self.stopped() {
            // It was over already, or never was; what is on its way may still arrive.
            self.verdict(now + SOON, outcome);
        }
    }

    pub(super) fn turn_timeout(&mut self, now: Instant) {
        let waits = !self.asks.is_empty();
        let Some(turn) = &mut self.turn else { return };
        if turn
            .verdict
            .as_ref()
            .is_some_and(|verdict| verdict.at <= now)
            && let Some(verdict) = turn.verdict.take()
        {
            let outcome = self.stopped().unwrap_or(verdict.outcome);
            self.finish(now, outcome);
            return;
        }
        if let Some(stopping) = &mut turn.stopping {
            if stopping.due().is_some_and(|due| due <= now) {
                stopping.again = true;
                self.abort();
            }
            return;
        }
        if !waits && let Some(seconds) = turn.silence(now) {
            self.emit(RunEvent::Silent { seconds });
            // Events may have been missed.
            self.wait_for(None, false);
        }
    }
}

/// For what is on its way when the gateway says that nothing runs.
const SOON: Duration = Duration::from_secs(1);
