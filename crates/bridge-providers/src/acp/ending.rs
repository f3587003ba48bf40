//! How a turn ends: what its answer means, which failures hide behind a good one, what is closed
//! with it, and what is done when it does not end.

use std::time::Instant;

use bridge_proto::model::{Actor, AskEnd, Fault, Outcome, RunEvent, ToolStatus};
use serde_json::Value;

use super::{
    dialogue::{AcpDialogue, Phase},
    jsonrpc::{self, RpcError},
    outcome, permissions,
    turn::{CLOSE_GRACE, CancelStep, LastWords, TERMINATE_GRACE},
};
use crate::dialogue::Step;

impl AcpDialogue {
    pub(super) fn on_prompt_answered(&mut self, now: Instant, outcome: Result<Value, RpcError>) {
        let cancelled = matches!(&self.phase, Phase::Running(turn) if turn.cancel.is_some());
        let wedged = self.quirks.turn.wedged_by_cancel && cancelled && outcome.is_err();
        let outcome = match outcome {
            Ok(result) => {
                self.on_turn_usage(&result);
                let reason = result.get("stopReason").and_then(Value::as_str);
                match outcome::of_stop_reason(&self.quirks, reason) {
                    Outcome::Completed => self.hidden_failure(&result),
                    told @ (Outcome::Failed { .. }
                    | Outcome::Blocked { .. }
                    | Outcome::Cancelled { .. }) => told,
                }
            }
            Err(error) => outcome::of_error(&self.quirks, &error, Fault::Model),
        };
        let next = if self.ending || wedged {
            closed_phase()
        } else {
            Phase::Idle
        };
        self.finish_turn(outcome, next);
        if wedged && !self.ending {
            self.ending = true;
            self.push(Step::CloseInput(CLOSE_GRACE));
        }
        self.proceed(now);
    }

    /// Some agents end a turn whose model call failed as if all were well, with the error as the
    /// last words of the answer, or with none at all.
    fn hidden_failure(&mut self, result: &Value) -> Outcome {
        let has_usage = result.get("usage").is_some_and(Value::is_object);
        let Phase::Running(turn) = &mut self.phase else {
            return Outcome::Completed;
        };
        let words = match turn.last_words(&self.quirks.text, has_usage) {
            Some(LastWords::Held(words, update)) => {
                let what = "words of a failed model call".to_owned();
                self.emit(RunEvent::Other { what }, Some(update));
                words
            }
            Some(LastWords::Told(words, block)) => {
                let text = String::new();
                self.emit(RunEvent::TextReplaced { block, text }, None);
                words
            }
            None if self.quirks.turn.usage_or_failed && !has_usage => String::new(),
            None => return Outcome::Completed,
        };
        outcome::of_words(&self.quirks, &words)
    }

    /// The turn goes on: text that was kept back is part of the answer after all.
    pub(super) fn release_text(&mut self) {
        if let Phase::Running(turn) = &mut self.phase
            && let Some(held) = turn.release()
        {
            self.tell_text(held.delta, held.update);
        }
    }

    /// Calls of which the agent never tells the end are over now.
    pub(super) fn went_on(&mut self) {
        if !self.asks.is_empty() {
            return;
        }
        for done in self.tools.went_on() {
            self.emit(RunEvent::Tool(done.state), None);
            for path in done.written {
                self.emit(RunEvent::FileWritten { path }, None);
            }
        }
    }

    /// The running turn is over. What a cancelled turn says of itself does not count.
    pub(super) fn finish_turn(&mut self, outcome: Outcome, next: Phase) {
        self.release_text();
        let Phase::Running(turn) = std::mem::replace(&mut self.phase, next) else {
            return;
        };
        let cancelled = Outcome::Cancelled { by: Actor::Person };
        let outcome = if turn.cancel.is_some() {
            cancelled.clone()
        } else {
            outcome
        };
        self.withdraw_asks();
        let end = match outcome {
            Outcome::Cancelled { .. } => ToolStatus::Cancelled,
            Outcome::Failed { .. } | Outcome::Blocked { .. } => ToolStatus::Unknown,
            Outcome::Completed => {
                self.went_on();
                ToolStatus::Unknown
            }
        };
        for state in self.tools.finish(end) {
            self.emit(RunEvent::Tool(state), None);
        }
        self.turn_over(outcome, turn.into_answer());
        for _ in 0..std::mem::take(&mut self.withdrawn) {
            self.turn_over(cancelled.clone(), String::new());
        }
        if let Phase::Over(outcome) = &self.phase {
            let outcome = outcome.clone();
            for _ in std::mem::take(&mut self.waiting) {
                self.turn_over(outcome.clone(), String::new());
            }
        }
    }

    pub(super) fn on_turn_deadline(&mut self, now: Instant) {
        let Phase::Running(turn) = &mut self.phase else {
            return;
        };
        let Some(cancel) = &mut turn.cancel else {
            if !self.asks.is_empty() {
                self.expire_asks(now);
            } else if let Some(silent) = turn.silence(now) {
                self.emit(
                    RunEvent::Silent {
                        seconds: silent.as_secs(),
                    },
                    None,
                );
            }
            return;
        };
        match cancel.step(now) {
            Some(CancelStep::Resend) => self.send_cancel(),
            Some(CancelStep::CloseInput) => {
                self.ending = true;
                self.push(Step::CloseInput(CLOSE_GRACE));
            }
            Some(CancelStep::Terminate) => self.push(Step::Terminate(TERMINATE_GRACE)),
            Some(CancelStep::GiveUp) => {
                self.finish_turn(Outcome::Completed, closed_phase());
            }
            Some(CancelStep::Done) | None => {}
        }
    }

    pub(super) fn withdraw_asks(&mut self) {
        for (ask, rpc_id) in self.asks.withdraw_all() {
            self.push(Step::Send(jsonrpc::result(
                &rpc_id,
                &permissions::cancelled(),
            )));
            self.emit(
                RunEvent::AskClosed {
                    ask,
                    how: AskEnd::Withdrawn,
                },
                None,
            );
        }
    }

    /// The agent has taken these questions as denied; it is told so as well, should its clock be
    /// slower than ours.
    fn expire_asks(&mut self, now: Instant) {
        for expired in self.asks.expire(now) {
            self.push(Step::Send(jsonrpc::result(
                &expired.rpc_id,
                &permissions::cancelled(),
            )));
            self.emit(
                RunEvent::AskClosed {
                    ask: expired.ask,
                    how: AskEnd::Expired,
                },
                None,
            );
            if let Some(state) = expired.tool.and_then(|tool| self.tools.reject(&tool)) {
                self.emit(RunEvent::Tool(state), None);
            }
        }
        if let Phase::Running(turn) = &mut self.phase {
            turn.heard(now);
        }
    }
}

fn closed_phase() -> Phase {
    let reason = "the agent had to be ended".to_owned();
    Phase::Over(Outcome::Failed {
        fault: Fault::Agent,
        reason,
    })
}
