//! Carrying out what the machines want: runners started, told and let go, ends reported.

use std::{collections::VecDeque, time::Instant};

use bridge_proto::{
    RunKey, TaskId,
    model::{EventBody, Fault, Observed, Outcome, RunEvent},
};
use tokio::sync::mpsc;

use super::{Daemon, RunnerRef, Settings};
use crate::{
    clock::now,
    dispatch::Effect,
    drops::DropNews,
    outgoing::Outgoing,
    runner::{FromRunner, Runner, Ticket, ToRunner, Turn},
};

impl Daemon {
    /// Does what the machine wants; true when it wants nothing more ever.
    pub(super) async fn carry_out(&mut self, effects: Vec<Effect<Box<Turn>>>) -> bool {
        let mut drained = false;
        let changes = !effects.is_empty();
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Queued { run, ahead } => {
                    if let Some(ticket) = self.tickets.get(&run).cloned() {
                        self.publish(&ticket, EventBody::Queued { ahead }).await;
                    }
                }
                Effect::Begin { run, work } => self.begin(&run, work),
                Effect::Inject { run, into, text } => {
                    let message = ToRunner::Inject {
                        run: run.clone(),
                        text,
                    };
                    if !self.tell(&into.task, message) {
                        effects.extend(self.dispatch.injected(Instant::now(), &run, false));
                    }
                }
                Effect::Joined { run, into } => self.join(run, into.attempt).await,
                Effect::Interrupt { task, extent } => {
                    self.tell(&task, ToRunner::Interrupt(extent));
                }
                Effect::Abandon { task } => {
                    if let Some(runner) = self.runners.remove(&task) {
                        tracing::warn!(%task, "the agent did not end its turn; its processes are ended");
                        runner.abort.abort();
                    }
                }
                Effect::End { run, outcome } => self.end(run, outcome).await,
                Effect::CloseIdle { task } => self.close_runner(&task),
                Effect::Drained => drained = true,
            }
        }
        if changes {
            self.heartbeat().await;
        }
        drained
    }

    fn begin(&mut self, run: &RunKey, work: Box<Turn>) {
        let task = run.task.clone();
        let Settings { policy, rules, .. } = &self.settings;
        let facts = &work.ticket.facts;
        self.tell_folder(run, facts, DropNews::Begun);
        let leaning = rules.leaning(facts.agent.as_str(), facts.provider.as_str());
        let turn = ToRunner::Turn {
            asking: policy.asking(self.is_watched(facts), leaning),
            turn: work,
        };
        let runner = self.runners.entry(task.clone()).or_insert_with(|| {
            let (inbox, from_supervisor) = mpsc::channel(RUNNER_INBOX);
            let runner = Runner {
                task,
                link: self.link.clone(),
                scribe: self.scribe.clone(),
                inbox: from_supervisor,
                supervisor: self.reports.clone(),
                send_thinking: self.settings.policy.send_thinking,
                patience: self.settings.policy.patience,
            };
            RunnerRef {
                inbox,
                abort: self.closing.spawn(runner.run()),
            }
        });
        if runner.inbox.try_send(turn).is_err() {
            tracing::error!(%run, "the runner of the task does not take its turn");
            let outcome = Outcome::Failed {
                fault: Fault::Bridge,
                reason: "the task's runner ended unexpectedly".into(),
            };
            let report = FromRunner::TurnOver {
                run: run.clone(),
                outcome,
            };
            let reports = self.reports.clone();
            self.runners.remove(&run.task);
            self.closing.spawn(async move {
                if reports.send(report).await.is_err() {
                    tracing::debug!("stopped meanwhile");
                }
            });
        }
    }

    async fn end(&mut self, run: RunKey, outcome: Outcome) {
        let Some(ticket) = self.tickets.remove(&run) else {
            return;
        };
        tracing::info!(%run, ?outcome, "run ended");
        for closed in self.approvals.run_ended(&run) {
            let event = RunEvent::AskClosed {
                ask: closed.ask,
                how: closed.how,
            };
            let seen = EventBody::Seen(Box::new(Observed::from(event)));
            self.publish(&ticket, seen).await;
        }
        let body = EventBody::Ended {
            outcome: outcome.clone(),
        };
        self.tell_folder(&run, &ticket.facts, DropNews::Ended(outcome.clone()));
        let provider = ticket.facts.provider.clone();
        let told = self.health.on_end(&provider, &outcome, now());
        self.last_word(ticket, body, outcome).await;
        if told {
            self.health_changed().await;
        }
    }

    /// The message of a run was read in another one.
    async fn join(&mut self, run: RunKey, into: String) {
        let Some(ticket) = self.tickets.remove(&run) else {
            return;
        };
        tracing::info!(%run, into, "message read in the run at work");
        if let Err(error) = self.scribe.join(run.clone(), into.clone()).await {
            tracing::warn!(%run, %error, "where a message went could not be journalled");
        }
        let body = EventBody::Joined { into };
        self.last_word(ticket, body, Outcome::Completed).await;
    }

    async fn last_word(&mut self, ticket: Ticket, body: EventBody, outcome: Outcome) {
        let run = ticket.run.clone();
        let event = ticket.event(body.clone());
        let (n, at) = (event.n, event.at);
        self.push(Outgoing::event(event, ticket.facts)).await;
        if let Err(error) = self.scribe.close(run.clone(), outcome, n, at).await {
            tracing::warn!(%run, %error, "the end of a run could not be journalled");
        }
        self.ends.insert(run, body, n);
    }

    pub(super) fn close_runner(&mut self, task: &TaskId) {
        if let Some(runner) = self.runners.remove(task)
            && runner.inbox.try_send(ToRunner::Close).is_err()
        {
            runner.abort.abort();
        }
    }

    /// Whether the runner has the message; `false` too when the task has none.
    pub(super) fn tell(&mut self, task: &TaskId, message: ToRunner) -> bool {
        let Some(runner) = self.runners.get(task) else {
            return false;
        };
        let urgent = matches!(message, ToRunner::Interrupt(_));
        let sent = runner.inbox.try_send(message).is_ok();
        if !sent {
            tracing::warn!(%task, urgent, "a runner does not read its messages");
        }
        sent
    }

    pub(super) async fn publish(&self, ticket: &Ticket, body: EventBody) {
        self.push(ticket.outgoing(body)).await;
    }

    pub(super) async fn push(&self, outgoing: Outgoing) {
        if self.link.push(outgoing).await.is_err() {
            tracing::debug!("the link is closed");
        }
    }
}

/// Messages a runner may have waiting; it reads them at any time.
const RUNNER_INBOX: usize = 256;
