//! How far the end of a turn got that was asked for from outside.
//!
//! ```text
//!  turn/interrupt ─► turn/completed ─► thread/backgroundTerminals/clean ─► over
//!      └── 2 s: said again ── 5 s: input closed ─► the process ends, and with it what it started
//! ```
//!
//! An interrupt alone leaves commands running; the second request ends them. A version that does
//! not know it has its input closed instead.

use std::time::{Duration, Instant};

use bridge_proto::model::Outcome;
use serde_json::json;

use super::dialogue::{CodexDialogue, Request, Stage, Turn};

/// An end that was asked for.
#[derive(Debug)]
pub(super) struct Cancel {
    asked: Instant,
    next: Option<Rung>,
    /// What is waited for.
    pub(super) stage: CancelStage,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CancelStage {
    /// The id of the turn, without which it cannot be interrupted.
    TurnId,
    /// The end of the turn.
    TurnOver,
    /// The end of its commands.
    Cleaned,
}

/// What is to be done when it takes too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rung {
    /// Say it again: it may have come before there was anything to interrupt.
    Repeat,
    /// Close the program's input.
    CloseInput,
}

impl Cancel {
    /// Asked for now.
    pub(super) fn new(now: Instant, stage: CancelStage) -> Self {
        Self {
            asked: now,
            next: Some(Rung::Repeat),
            stage,
        }
    }

    /// When the next rung is due.
    pub(super) fn due(&self) -> Option<Instant> {
        Some(self.asked + after(self.next?))
    }

    /// The rung that is due, if one is; each is given once.
    pub(super) fn rung(&mut self, now: Instant) -> Option<Rung> {
        let rung = self.next?;
        if now < self.asked + after(rung) {
            return None;
        }
        self.next = match rung {
            Rung::Repeat => Some(Rung::CloseInput),
            Rung::CloseInput => None,
        };
        Some(rung)
    }

    /// Whether it was said a second time.
    pub(super) fn is_repeated(&self) -> bool {
        self.next != Some(Rung::Repeat)
    }
}

impl CodexDialogue {
    /// Stops the running turn; it ends with this outcome whatever the program says.
    pub(super) fn stop(&mut self, now: Instant, outcome: Outcome) {
        let Some(turn) = &mut self.turn else { return };
        match &mut turn.stage {
            // Nothing was said yet that could be stopped.
            Stage::Waiting(_) => self.end_turn(now, outcome),
            Stage::Working => {
                let known = turn.id.is_some();
                let stage = if known {
                    CancelStage::TurnOver
                } else {
                    CancelStage::TurnId
                };
                let cancel = Cancel::new(now, stage);
                turn.stage = Stage::Stopping { outcome, cancel };
                self.withdraw_asks();
                if known {
                    self.interrupt();
                }
            }
            Stage::Stopping {
                outcome: before, ..
            }
            | Stage::Ending { outcome: before } => *before = outcome,
        }
    }

    pub(super) fn interrupt(&mut self) {
        let params = json!({ "threadId": self.thread, "turnId": self.turn_id() });
        self.request("turn/interrupt", &params, Request::Interrupt);
    }

    /// Ends the commands that an interrupt leaves running.
    pub(super) fn clean(&mut self) {
        let params = json!({ "threadId": self.thread });
        self.request("thread/backgroundTerminals/clean", &params, Request::Clean);
    }

    /// The interrupt was not taken: there is no such turn, or not yet.
    pub(super) fn interrupt_refused(&mut self, now: Instant) {
        let repeated = matches!(&self.turn, Some(Turn {
            stage: Stage::Stopping { cancel, .. }, ..
        }) if cancel.is_repeated());
        if repeated {
            self.turn_completed(now, Outcome::Completed);
        }
    }

    /// The commands of the stopped turn have ended, or this version cannot end them.
    pub(super) fn cleaned(&mut self, now: Instant, done: bool) {
        let Some(Turn {
            stage: Stage::Stopping { outcome, cancel },
            ..
        }) = &self.turn
        else {
            return;
        };
        if cancel.stage != CancelStage::Cleaned {
            return;
        }
        let outcome = outcome.clone();
        if done {
            self.end_turn(now, outcome);
        } else {
            self.end_process(outcome);
        }
    }

    /// Ends the process, and with it what it started; the turn is over when it is gone.
    fn end_process(&mut self, outcome: Outcome) {
        if let Some(turn) = &mut self.turn {
            turn.stage = Stage::Ending { outcome };
        }
        self.withdraw_asks();
        self.close_input();
    }

    /// The next rung, if it is due.
    pub(super) fn on_cancel_due(&mut self, now: Instant) {
        let Some(Turn {
            stage: Stage::Stopping { outcome, cancel },
            ..
        }) = &mut self.turn
        else {
            return;
        };
        match cancel.rung(now) {
            Some(Rung::Repeat) => match cancel.stage {
                CancelStage::TurnId => {}
                CancelStage::TurnOver => self.interrupt(),
                CancelStage::Cleaned => self.clean(),
            },
            Some(Rung::CloseInput) => {
                let outcome = outcome.clone();
                self.end_process(outcome);
            }
            None => {}
        }
    }
}

fn after(rung: Rung) -> Duration {
    match rung {
        Rung::Repeat => Duration::from_secs(2),
        Rung::CloseInput => Duration::from_secs(5),
    }
}

/// How long the program may take to end by itself once its input is closed; seen are 40 ms. With
/// the signals after it within the ten seconds of decision 13.
pub(super) const CLOSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ladder_is_climbed_once() {
        let start = Instant::now();
        let mut cancel = Cancel::new(start, CancelStage::TurnOver);
        let mut rungs = Vec::new();
        while let Some(due) = cancel.due() {
            assert!(due + CLOSE <= start + Duration::from_secs(7));
            let early = due.checked_sub(Duration::from_millis(1)).unwrap();
            assert_eq!(cancel.rung(early), None);
            rungs.extend(cancel.rung(due));
        }
        assert_eq!(rungs, [Rung::Repeat, Rung::CloseInput]);
    }
}
