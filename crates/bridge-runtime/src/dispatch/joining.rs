//! Messages for the turn at work.
//!
//! A message that shall be read at once is a run like any other: it is journalled before the agent
//! hears of it, and asked for again it is answered and not said again. Whether the agent read it
//! in the turn at work or it waits as a follow-up is decided here alone, once. Three races meet:
//!
//! - The turn ends while the message is on its way to the agent. An agent's word that it has the
//!   message comes before the end of that turn ([`Injection::Taken`]), so at the end everything
//!   unanswered was not read, and waits. An answer that comes later finds nothing to decide.
//! - The task is cancelled meanwhile. What was read is part of the cancelled run; what was not is
//!   cancelled with everything else of the task. An interrupt of the turn leaves it waiting.
//! - The conversation is abandoned, because it does not obey. Nothing it still says is heard, so
//!   the same rule holds.
//!
//! [`Injection::Taken`]: bridge_providers::provider::Injection::Taken

use std::time::Instant;

use bridge_proto::{RunKey, model::Outcome};

use super::{Dispatch, Effect, Waiting, Working};

impl<W> Dispatch<W> {
    /// The conversation says whether the turn at work has the message of this run.
    pub fn injected(&mut self, now: Instant, run: &RunKey, taken: bool) -> Vec<Effect<W>> {
        let Some(working) = self.working.get_mut(&run.task) else {
            return Vec::new();
        };
        let at = working.joining.iter().position(|one| one.job.run == *run);
        let Some(waiting) = at.and_then(|at| working.joining.remove(at)) else {
            return Vec::new();
        };
        if taken {
            return vec![Effect::Joined {
                run: waiting.job.run,
                into: working.run.clone(),
            }];
        }
        let ends_all = working.ends_all.clone();
        self.not_read(now, [waiting], ends_all)
    }

    /// Sends a message on its way into the turn at work, if there is one that is not being
    /// stopped.
    pub(super) fn put_into_turn(&mut self, waiting: Waiting<W>) -> Result<Effect<W>, Waiting<W>> {
        let Some(text) = waiting.job.message.clone() else {
            return Err(waiting);
        };
        let works = |working: &&mut Working<W>| {
            working.stopping.is_none() && working.joining.len() < MOST_JOINING
        };
        let Some(working) = self.working.get_mut(&waiting.job.run.task).filter(works) else {
            return Err(waiting);
        };
        let (run, into) = (waiting.job.run.clone(), working.run.clone());
        working.joining.push_back(waiting);
        Ok(Effect::Inject { run, into, text })
    }

    /// What becomes of messages that the turn at work did not read.
    pub(super) fn not_read(
        &mut self,
        now: Instant,
        messages: impl IntoIterator<Item = Waiting<W>>,
        ends_all: Option<Outcome>,
    ) -> Vec<Effect<W>> {
        let Some(outcome) = ends_all else {
            return self.wait(now, messages);
        };
        let ended = messages.into_iter().map(|waiting| Effect::End {
            run: waiting.job.run,
            outcome: outcome.clone(),
        });
        let mut effects: Vec<_> = ended.collect();
        effects.extend(self.start_what_can(now));
        effects
    }
}

/// More messages than anybody writes while one turn goes on; further ones wait.
const MOST_JOINING: usize = 100;
