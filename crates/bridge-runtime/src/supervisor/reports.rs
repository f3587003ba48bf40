//! What runners report, and what becomes due when they report nothing: questions whose time is up,
//! runs that are silent, runners that failed.

use std::time::{Duration, Instant};

use bridge_proto::{
    RunKey, Timestamp,
    model::{AskEnd, Fault, Outcome, RunEvent},
};
use tokio::task::JoinError;

use super::{Daemon, RunnerRef, Settings};
use crate::{
    approvals::Decision,
    clock,
    dispatch::Effect,
    policy::Surroundings,
    rules::Doer,
    runner::{FromRunner, ToRunner, Turn},
};

impl Daemon {
    pub(super) fn on_report(&mut self, report: FromRunner) -> Vec<Effect<Box<Turn>>> {
        let now = Instant::now();
        match report {
            FromRunner::Alive(run) => {
                self.dispatch.heard(now, &run);
                Vec::new()
            }
            FromRunner::Asked {
                run,
                ask,
                inside,
                directory,
            } => {
                let Some(facts) = self.tickets.get(&run).map(|ticket| &ticket.facts) else {
                    return Vec::new();
                };
                let left = |at: Timestamp| {
                    let left = at.as_millis().saturating_sub(clock::now().as_millis());
                    Duration::from_millis(left.try_into().unwrap_or(0))
                };
                let around = Surroundings {
                    doer: Doer {
                        agent: facts.agent.as_str(),
                        provider: facts.provider.as_str(),
                        directory: &directory,
                    },
                    inside,
                    viewer: self.is_watched(facts),
                    patience: ask.expires.map(left),
                };
                let Settings { policy, rules, .. } = &self.settings;
                match self
                    .approvals
                    .raise(now, &run, (*ask).clone(), around, policy, rules)
                {
                    Decision::ByPolicy { answer, rule } => {
                        let how = AskEnd::ByPolicy { rule };
                        let closed = RunEvent::AskClosed {
                            ask: ask.id.clone(),
                            how,
                        };
                        self.tell(&run.task, ToRunner::Answer(ask.id, answer));
                        self.tell(&run.task, ToRunner::Publish(closed));
                    }
                    Decision::Show => {
                        self.dispatch.asks_person(now, &run, true);
                        self.tell(&run.task, ToRunner::Publish(RunEvent::Ask(*ask)));
                    }
                    Decision::Wait => self.dispatch.asks_person(now, &run, true),
                }
                Vec::new()
            }
            FromRunner::Applied { run, ask, closed } => {
                let applied = self.approvals.applied(&run, &ask);
                let event = applied.map(|closed| RunEvent::AskClosed {
                    ask: closed.ask,
                    how: closed.how,
                });
                if closed.send(event).is_err() {
                    tracing::debug!(%run, "the runner is gone");
                }
                self.ask_closed(&run);
                Vec::new()
            }
            FromRunner::Withdrawn { run, ask } => {
                self.approvals.withdrawn(&run, &ask);
                self.ask_closed(&run);
                Vec::new()
            }
            FromRunner::Injected { run, taken } => self.dispatch.injected(now, &run, taken),
            FromRunner::GivenUp { run, outcome } => {
                tracing::info!(%run, ?outcome, "the model is not waited for any longer");
                self.dispatch.give_up(now, &run, outcome)
            }
            FromRunner::TurnOver { run, outcome } => {
                let effects = self.dispatch.turn_over(now, &run, outcome);
                if !self.dispatch.keeps(&run.task) {
                    self.close_runner(&run.task);
                }
                effects
            }
            FromRunner::Gone(task) => {
                self.dispatch.conversation_gone(&task);
                if !self.dispatch.keeps(&task) {
                    self.close_runner(&task);
                }
                Vec::new()
            }
        }
    }

    /// The run of a runner that panicked has its end as well.
    pub(super) fn on_panic(&mut self, error: &JoinError) -> Vec<Effect<Box<Turn>>> {
        tracing::error!(%error, "a runner panicked");
        let of = |runner: &RunnerRef| runner.abort.id() == error.id();
        let task = self.runners.iter().find(|(_, runner)| of(runner));
        let Some(task) = task.map(|(task, _)| task.clone()) else {
            return Vec::new();
        };
        self.runners.remove(&task);
        self.dispatch.conversation_gone(&task);
        let Some(run) = self.dispatch.run_of(&task).cloned() else {
            return Vec::new();
        };
        let outcome = Outcome::Failed {
            fault: Fault::Bridge,
            reason: "the bridge failed while it followed the agent".into(),
        };
        self.dispatch.turn_over(Instant::now(), &run, outcome)
    }

    fn ask_closed(&mut self, run: &RunKey) {
        if let Some((of, ask)) = self.approvals.show_next(&run.task) {
            self.tell(&of.task, ToRunner::Publish(RunEvent::Ask(ask)));
        }
        let waits = self.approvals.is_waiting(run);
        self.dispatch.asks_person(Instant::now(), run, waits);
    }

    pub(super) fn on_due(&mut self) -> Vec<Effect<Box<Turn>>> {
        let now = Instant::now();
        for (closed, answer) in self.approvals.expire(now) {
            let event = RunEvent::AskClosed {
                ask: closed.ask.clone(),
                how: closed.how,
            };
            self.tell(&closed.run.task, ToRunner::Answer(closed.ask, answer));
            self.tell(&closed.run.task, ToRunner::Publish(event));
            self.ask_closed(&closed.run);
        }
        self.dispatch.on_timeout(now)
    }
}
