//! What commands become: runs that are accepted or rejected, cancels, answers, agents.

use std::{future::poll_fn, task::Poll, time::Instant};

use bridge_proto::{
    AgentId, ProviderKey, RunKey,
    ctrlnode::RunFacts,
    model::{
        AgentChange, AgentProfile, Command, CommandBody, Event, EventBody, Fault, Origin, Outcome,
        Rejection, Reply, RunEvent, RunKind, Source, When,
    },
};
use bridge_providers::provider::Provider;
use bridge_transport::ConnId;
use bridge_workspace::{CommandId, RunEntry, journal::RESERVE_BLOCK};

use super::Daemon;
use crate::{
    clock::now,
    dispatch::{Effect, Job},
    intake::{Asked, send_reply},
    outgoing::Outgoing,
    runner::{Site, Ticket, ToRunner, Turn},
};

impl Daemon {
    pub(super) async fn on_asked(
        &mut self,
        asked: Asked,
        site: Result<Box<Site>, String>,
        id: Option<CommandId>,
    ) -> Vec<Effect<Box<Turn>>> {
        if self.dispatch.knows(&asked.run) {
            tracing::debug!(run = %asked.run, "asked again for a run at work");
            return Vec::new();
        }
        let agent = self.agent_for(&asked.agent, asked.origin.source);
        let key = agent.as_ref().map(|agent| agent.provider.clone());
        let provider = key
            .as_ref()
            .and_then(|key| self.providers.get(key))
            .cloned();
        let facts = RunFacts {
            agent: asked.agent.clone(),
            provider: key.clone().unwrap_or_else(no_provider),
            kind: asked.kind,
            origin: asked.origin.clone(),
            log_thinking: self.settings.policy.send_thinking,
        };
        let ticket = Ticket::new(asked.run.clone(), facts);
        if let Some((body, n)) = self.ends.get(&asked.run).cloned() {
            // Asked again for a run that has ended: the answer comes from the journal.
            let event = Event {
                n,
                ..ticket.event(body)
            };
            self.push(Outgoing::event(event, ticket.facts)).await;
            return Vec::new();
        }
        let rejection = match (&agent, &provider, &site) {
            (None, _, _) => Some(Rejection::AgentNotFound),
            (Some(_), _, _) if asked.kind == RunKind::Dispatch && asked.text.trim().is_empty() => {
                Some(Rejection::MissingIntentPayload)
            }
            (Some(agent), None, _) => {
                let provider = agent.provider.to_string();
                Some(Rejection::ProviderNotActive { provider })
            }
            (Some(_), Some(_), Err(reason)) => Some(Rejection::PlaceRefused {
                reason: reason.clone(),
            }),
            (Some(_), Some(_), Ok(_)) => None,
        };
        let (Some(agent), Some(provider), Ok(site), None) = (agent, provider, site, &rejection)
        else {
            if let Some(rejection) = rejection {
                tracing::info!(run = %asked.run, ?rejection, "run rejected");
                if asked.origin.source == Source::Folder {
                    // The plane did not ask for it.
                    let news = self.rejection_of_a_folder(&asked.agent, &rejection);
                    self.tell_folder(&asked.run, &ticket.facts, news);
                } else {
                    self.publish(&ticket, EventBody::Rejected(rejection)).await;
                }
            }
            return Vec::new();
        };
        tracing::info!(run = %asked.run, agent = %agent.id, provider = %provider.key(), "run accepted");
        let entry = RunEntry {
            run: asked.run.clone(),
            agent: agent.id.clone(),
            provider: provider.key().clone(),
            kind: asked.kind,
            origin: asked.origin.clone(),
            started: now(),
            pid: None,
            marker: asked.run.marker(),
            folder: Some(site.dir.relative()),
            repository: site
                .repository
                .as_ref()
                .map(|it| it.path().display().to_string()),
            reserved: RESERVE_BLOCK,
            joined: None,
        };
        self.tickets.insert(asked.run.clone(), ticket.clone());
        if let Err(error) = self.scribe.record(entry, id).await {
            let reason = format!("nothing was started: {}", with_causes(&error));
            let outcome = Outcome::Failed {
                fault: Fault::Bridge,
                reason,
            };
            return vec![Effect::End {
                run: asked.run,
                outcome,
            }];
        }
        let repository = site
            .repository
            .as_ref()
            .map(|it| it.writer_key().to_owned());
        let message = self.can_join(&ticket, &*provider, asked.when);
        let message = message.then(|| asked.text.clone());
        let turn = Turn {
            ticket,
            kind: asked.kind,
            agent,
            provider,
            text: asked.text,
            focus_files: asked.focus_files,
            tuning: asked.tuning,
            site: *site,
        };
        let job = Job {
            run: asked.run,
            repository,
            message,
            work: Box::new(turn),
        };
        self.dispatch.submit(Instant::now(), job)
    }

    /// Whether a message may be read in the turn at work, instead of in a run of its own: the person
    /// wants it now, and the one who works is who would get it.
    fn can_join(&self, ticket: &Ticket, provider: &dyn Provider, when: When) -> bool {
        let now = when == When::Now && provider.abilities().inject;
        let working = self.dispatch.run_of(&ticket.run.task);
        let working = working.and_then(|run| self.tickets.get(run));
        now && working.is_some_and(|working| {
            let (one, other) = (&working.facts, &ticket.facts);
            one.agent == other.agent && one.provider == other.provider
        })
    }

    pub(super) async fn on_command(
        &mut self,
        command: Command,
        conn: ConnId,
    ) -> Vec<Effect<Box<Turn>>> {
        let Command { origin, body } = command;
        match body {
            CommandBody::Cancel { task } => {
                let effects = self.dispatch.cancel(Instant::now(), &task);
                if !effects.is_empty() {
                    tracing::info!(%task, "cancel asked for");
                }
                effects
            }
            CommandBody::Interrupt { task } => {
                tracing::info!(%task, "interrupt asked for");
                self.dispatch.interrupt(Instant::now(), &task)
            }
            CommandBody::Answer {
                task,
                ask,
                digest,
                answer,
            } => {
                let taken = self
                    .approvals
                    .answer(&task, ask.as_ref(), digest.as_ref(), &answer);
                match taken {
                    Ok(accepted) => {
                        let message = ToRunner::Answer(accepted.ask.id.clone(), accepted.answer);
                        self.tell(&accepted.run.task, message);
                        // Whoever else sees the question sees that it waits for the agent now.
                        let answered = RunEvent::Ask(accepted.ask);
                        self.tell(&accepted.run.task, ToRunner::Publish(answered));
                        let waits = self.approvals.is_waiting(&accepted.run);
                        self.dispatch
                            .asks_person(Instant::now(), &accepted.run, waits);
                    }
                    Err(error) => {
                        tracing::info!(%task, %error, "an answer was not taken");
                        let text = format!("The answer was not taken: {error}.");
                        self.tell(&task, ToRunner::Publish(RunEvent::Status { text }));
                    }
                }
                Vec::new()
            }
            CommandBody::Check { run, agent } => {
                self.on_check(run, agent, origin, conn).await;
                Vec::new()
            }
            CommandBody::Tune { task, tuning } => {
                for waiting in self.dispatch.waiting(&task) {
                    waiting.tuning.update(tuning.clone());
                }
                if !self.tell(&task, ToRunner::Tune(tuning)) {
                    // Our hub sends them again with the next run.
                    tracing::debug!(%task, "settings for a conversation that is not open");
                }
                Vec::new()
            }
            CommandBody::Agents(AgentChange::Sync { provider, agents }) => {
                self.on_sync(provider, agents, &origin, conn).await;
                Vec::new()
            }
            CommandBody::Plan(plan) => {
                self.on_plan(*plan, origin, conn).await;
                Vec::new()
            }
            CommandBody::Capabilities(query) => {
                self.on_skills_asked(query, origin, conn);
                Vec::new()
            }
            CommandBody::Gateway(request) => {
                self.on_gateway(request, origin, conn).await;
                Vec::new()
            }
            CommandBody::Models(manifest) => {
                self.on_manifest(manifest).await;
                Vec::new()
            }
            CommandBody::Agents(AgentChange::Update { agent, patch }) => {
                self.on_update(agent, patch).await;
                Vec::new()
            }
            CommandBody::Agents(AgentChange::Delete { agent }) => {
                self.on_delete(agent).await;
                Vec::new()
            }
            CommandBody::Start(_)
            | CommandBody::FollowUp(_)
            | CommandBody::Request(_)
            | CommandBody::Git(_)
            | CommandBody::Pipeline(_)
            | CommandBody::Unknown { .. } => Vec::new(),
        }
    }

    /// What became of a run, for a hub that may have missed it: the end once more under its own
    /// number, so that whoever has it already can tell, or else whether the run is here.
    async fn on_check(&mut self, run: RunKey, agent: AgentId, origin: Origin, conn: ConnId) {
        let Some((body, n)) = self.ends.get(&run).cloned() else {
            let known = self.dispatch.knows(&run);
            self.answer(Reply::RunChecked { run, known }, &origin, conn)
                .await;
            return;
        };
        let provider = self.agents.find(&agent);
        let facts = RunFacts {
            provider: provider.map_or_else(no_provider, |agent| agent.provider.clone()),
            agent,
            // Not said by the extension, in which alone checks are asked.
            kind: RunKind::Dispatch,
            origin,
            log_thinking: self.settings.policy.send_thinking,
        };
        let event = Event {
            run,
            n,
            at: now(),
            body,
        };
        self.push(Outgoing::event(event, facts.into())).await;
    }

    async fn on_sync(
        &mut self,
        provider: ProviderKey,
        list: Result<Vec<AgentProfile>, String>,
        origin: &Origin,
        conn: ConnId,
    ) {
        let error = match list {
            Ok(list) => match self.agents.sync(&provider, list) {
                Ok(()) => {
                    self.announce_agents(false).await;
                    None
                }
                Err(error) => Some(error.to_string()),
            },
            Err(error) => Some(error),
        };
        let good = error.is_none();
        self.answer(Reply::AgentsSynced { provider, error }, origin, conn)
            .await;
        if good {
            self.agents_changed().await;
        }
    }

    /// Hands an answer over before what is said next, so that it also goes out before it; a full
    /// outbox must not hold up the loop.
    pub(super) async fn answer(&mut self, reply: Reply, origin: &Origin, conn: ConnId) {
        self.answer_all(vec![reply], origin, conn).await;
    }

    /// The same for several, in their order.
    pub(super) async fn answer_all(&mut self, replies: Vec<Reply>, origin: &Origin, conn: ConnId) {
        let (link, origin) = (self.link.clone(), origin.clone());
        let mut sending = Box::pin(async move {
            for reply in replies {
                send_reply(&link, &reply, &origin, conn).await;
            }
        });
        let sent = poll_fn(|cx| Poll::Ready(sending.as_mut().poll(cx).is_ready())).await;
        if !sent {
            self.closing.spawn(sending);
        }
    }
}

pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Stands where a provider is wanted for an agent nobody knows.
fn no_provider() -> ProviderKey {
    ProviderKey::parse("unknown").expect("a constant that is a key")
}
