//! The daemon's loop: commands and reports of the runners become inputs of the pure machines,
//! their effects become messages to runners and to the link. Owns no decision of its own.

mod announce;
mod restart;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use bridge_proto::{
    ProviderKey, RunKey, TaskId,
    ctrlnode::RunFacts,
    model::{
        AgentChange, AskEnd, Command, CommandBody, Event, EventBody, Fault, Health, Observed,
        Origin, Outcome, Rejection, Reply, RunEvent, RunKind,
    },
};
use bridge_providers::provider::Provider;
use bridge_transport::{ConnId, Handle, Inbox};
use bridge_workspace::{Journal, RunEntry, Workspace, journal::RESERVE_BLOCK};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::{MissedTickBehavior, interval, sleep_until},
};

use self::announce::Announcer;
pub use self::announce::first_greeting;
use crate::{
    agents::Agents,
    approvals::{Approvals, Decision, Surroundings},
    clock::now,
    dispatch::{Dispatch, Effect, Job},
    ends::Ends,
    health::HealthBoard,
    intake::{Asked, Intake, Taken, send_reply},
    outgoing::Outgoing,
    policy::Policy,
    runner::{FromRunner, Runner, Site, Ticket, ToRunner, Turn},
    scribe::Scribe,
};

/// What the daemon is told once, at its start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What this machine allows.
    pub policy: Policy,
    /// The bridge's version, without a leading `v`.
    pub version: String,
    /// Host name of this machine.
    pub hostname: String,
    /// Between two heartbeats; default 30 s.
    pub heartbeat: Duration,
    /// Between two look-ups of agents and programs; default 60 s.
    pub rescan: Duration,
    /// Repositories whose own agent settings may be in force, canonical paths.
    pub trusted: Vec<PathBuf>,
}

/// How the daemon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// Every run had its end, no process was left, and everything was sent.
    pub clean: bool,
}

/// Why the daemon could not run.
#[derive(Debug, thiserror::Error)]
pub enum SuperviseError {
    /// The journal's thread could not be started.
    #[error("the journal thread could not be started")]
    Journal(#[source] std::io::Error),
}

/// The daemon: everything it needs is handed in.
pub struct Supervisor {
    workspace: Arc<Workspace>,
    journal: Journal,
    providers: BTreeMap<ProviderKey, Arc<dyn Provider>>,
    link: Handle<Outgoing>,
    inbox: Inbox,
    settings: Settings,
}

impl std::fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supervisor")
            .field("providers", &self.providers.keys())
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Supervisor {
    /// Puts the parts together; starts nothing.
    pub fn new(
        workspace: Arc<Workspace>,
        journal: Journal,
        providers: Vec<Arc<dyn Provider>>,
        link: (Handle<Outgoing>, Inbox),
        settings: Settings,
    ) -> Self {
        let providers = providers
            .into_iter()
            .map(|provider| (provider.key().clone(), provider))
            .collect();
        let (link, inbox) = link;
        Self {
            workspace,
            journal,
            providers,
            link,
            inbox,
            settings,
        }
    }

    /// Runs until `stop` resolves, then takes no new work, stops what runs, sends what is left
    /// (at most 5 s) and leaves no process behind.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<Stopped, SuperviseError> {
        let Self {
            workspace,
            journal,
            providers,
            link,
            inbox,
            settings,
        } = self;
        let interrupted: Vec<RunEntry> = journal.open_runs().cloned().collect();
        let mut ends = Ends::default();
        for ended in journal.ended_runs() {
            ends.insert(ended.entry.run.clone(), ended.outcome.clone(), ended.n);
        }
        let scribe = Scribe::start(journal).map_err(SuperviseError::Journal)?;
        let (taken, commands) = mpsc::channel(64);
        let intake = Intake {
            inbox,
            link: link.clone(),
            workspace: Arc::clone(&workspace),
            trusted: settings.trusted.clone().into(),
            supervisor: taken,
        };
        let intake = tokio::spawn(intake.run());
        let (reports, from_runners) = mpsc::channel(256);
        let (scans, from_scans) = mpsc::channel(16);
        let mut daemon = Daemon {
            dispatch: Dispatch::new(settings.policy),
            approvals: Approvals::default(),
            agents: Agents::default(),
            health: HealthBoard::default(),
            models: BTreeMap::new(),
            announcer: Announcer::new(&settings, &workspace),
            tickets: BTreeMap::new(),
            ends,
            runners: BTreeMap::new(),
            closing: JoinSet::new(),
            viewer: false,
            providers,
            link: link.clone(),
            scribe,
            reports,
            scans,
            settings,
        };
        daemon.report_interrupted(interrupted).await;
        daemon.drive(commands, from_runners, from_scans, stop).await;
        let left = daemon.close_everything().await;
        let flushed = link.shutdown(FLUSH).await;
        intake.abort();
        let clean = left && flushed == bridge_transport::Flushed::Everything;
        Ok(Stopped { clean })
    }
}

/// What a look at the machine found.
enum Scan {
    Found(BTreeMap<ProviderKey, Health>),
    Probed(ProviderKey, Health),
    Models(ProviderKey, Vec<String>),
}

struct RunnerRef {
    inbox: mpsc::Sender<ToRunner>,
    abort: AbortHandle,
}

struct Daemon {
    dispatch: Dispatch<Box<Turn>>,
    approvals: Approvals,
    agents: Agents,
    health: HealthBoard,
    models: BTreeMap<ProviderKey, Vec<String>>,
    announcer: Announcer,
    tickets: BTreeMap<RunKey, Ticket>,
    ends: Ends,
    runners: BTreeMap<TaskId, RunnerRef>,
    closing: JoinSet<()>,
    /// Whether our hub is (or last was) on the other end.
    viewer: bool,
    providers: BTreeMap<ProviderKey, Arc<dyn Provider>>,
    link: Handle<Outgoing>,
    scribe: Scribe,
    reports: mpsc::Sender<FromRunner>,
    scans: mpsc::Sender<Scan>,
    settings: Settings,
}

impl Daemon {
    async fn drive(
        &mut self,
        mut commands: mpsc::Receiver<Taken>,
        mut reports: mpsc::Receiver<FromRunner>,
        mut scans: mpsc::Receiver<Scan>,
        stop: impl Future<Output = ()>,
    ) {
        let mut heartbeat = interval(self.settings.heartbeat);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut rescan = interval(self.settings.rescan);
        rescan.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stop = std::pin::pin!(stop);
        let mut stopping = false;
        loop {
            let deadline = [self.dispatch.deadline(), self.approvals.deadline()];
            let deadline = deadline.into_iter().flatten().min();
            let due = async {
                match deadline {
                    Some(at) => sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            let effects = tokio::select! {
                biased;
                () = &mut stop, if !stopping => {
                    stopping = true;
                    self.dispatch.drain(Instant::now())
                }
                Some(report) = reports.recv() => self.on_report(report),
                Some(taken) = commands.recv() => self.on_taken(taken).await,
                Some(scan) = scans.recv() => { self.on_scan(scan).await; Vec::new() }
                () = due => self.on_due(),
                _ = heartbeat.tick() => { self.heartbeat().await; Vec::new() }
                _ = rescan.tick() => { self.look_around(); self.announce_agents(true).await; Vec::new() }
                Some(ended) = self.closing.join_next(), if !self.closing.is_empty() => {
                    if let Err(error) = ended && error.is_panic() {
                        tracing::error!(%error, "a runner panicked");
                    }
                    Vec::new()
                }
            };
            if self.carry_out(effects).await {
                return;
            }
        }
    }

    async fn on_taken(&mut self, taken: Taken) -> Vec<Effect<Box<Turn>>> {
        match taken {
            Taken::Opened { extended } => {
                self.viewer = extended;
                self.announce_agents(false).await;
                self.announce_health().await;
                self.announce_models().await;
                Vec::new()
            }
            Taken::Run { asked, site } => self.on_asked(*asked, site).await,
            Taken::Command { command, conn } => self.on_command(command, conn).await,
        }
    }

    async fn on_asked(
        &mut self,
        asked: Asked,
        site: Result<Box<Site>, String>,
    ) -> Vec<Effect<Box<Turn>>> {
        if self.dispatch.knows(&asked.run) {
            tracing::debug!(run = %asked.run, "asked again for a run at work");
            return Vec::new();
        }
        let agent = self.agents.find(&asked.agent).cloned();
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
        if let Some((outcome, n)) = self.ends.get(&asked.run).cloned() {
            // Asked again for a run that has ended: the answer comes from the journal.
            let body = EventBody::Ended { outcome };
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
                self.publish(&ticket, EventBody::Rejected(rejection)).await;
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
        };
        self.tickets.insert(asked.run.clone(), ticket.clone());
        if let Err(error) = self.scribe.record(entry).await {
            let reason =
                format!("the run journal cannot be written, so nothing was started: {error}");
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
        let turn = Turn {
            ticket,
            kind: asked.kind,
            agent,
            provider,
            text: asked.text,
            focus_files: asked.focus_files,
            model: asked.model,
            site: *site,
        };
        let job = Job {
            run: asked.run,
            repository,
            work: Box::new(turn),
        };
        self.dispatch.submit(Instant::now(), job)
    }

    async fn on_command(&mut self, command: Command, conn: ConnId) -> Vec<Effect<Box<Turn>>> {
        let Command { origin, body } = command;
        match body {
            CommandBody::Cancel { task } => {
                tracing::info!(%task, "cancel asked for");
                self.dispatch.cancel(Instant::now(), &task)
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
                        let message = ToRunner::Answer(accepted.ask, accepted.answer);
                        self.tell(&accepted.run.task, message);
                    }
                    Err(error) => {
                        tracing::info!(%task, %error, "an answer was not taken");
                        let text = format!("The answer was not taken: {error}.");
                        self.tell(&task, ToRunner::Publish(RunEvent::Status { text }));
                    }
                }
                Vec::new()
            }
            CommandBody::Tune { task, model, mode } => {
                self.tell(&task, ToRunner::Tune { model, mode });
                Vec::new()
            }
            CommandBody::Agents(AgentChange::Sync { provider, agents }) => {
                self.on_sync(provider, agents, &origin, conn).await;
                Vec::new()
            }
            CommandBody::Start(_)
            | CommandBody::FollowUp(_)
            | CommandBody::Request(_)
            | CommandBody::Unknown { .. } => Vec::new(),
        }
    }

    async fn on_sync(
        &mut self,
        provider: ProviderKey,
        list: Result<Vec<bridge_proto::model::AgentProfile>, String>,
        origin: &Origin,
        conn: ConnId,
    ) {
        let error = match list {
            Ok(list) => {
                self.agents.sync(&provider, list);
                self.announce_agents(false).await;
                None
            }
            Err(error) => Some(error),
        };
        let good = error.is_none();
        let (link, origin) = (self.link.clone(), origin.clone());
        let reply = Reply::AgentsSynced { provider, error };
        self.closing
            .spawn(async move { send_reply(&link, &reply, &origin, conn).await });
        if good {
            self.greet();
            self.announce_agents(true).await;
            self.heartbeat().await;
        }
    }

    fn on_report(&mut self, report: FromRunner) -> Vec<Effect<Box<Turn>>> {
        let now = Instant::now();
        match report {
            FromRunner::Alive(run) => {
                self.dispatch.heard(now, &run);
                Vec::new()
            }
            FromRunner::Asked { run, ask, inside } => {
                let around = Surroundings {
                    inside,
                    viewer: self.viewer,
                };
                let policy = self.settings.policy;
                match self
                    .approvals
                    .raise(now, &run, (*ask).clone(), around, &policy)
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
            FromRunner::Applied { run, ask } => {
                if let Some(closed) = self.approvals.applied(&run, &ask) {
                    let closed = RunEvent::AskClosed {
                        ask: closed.ask,
                        how: closed.how,
                    };
                    self.tell(&run.task, ToRunner::Publish(closed));
                }
                self.ask_closed(&run);
                Vec::new()
            }
            FromRunner::Withdrawn { run, ask } => {
                self.approvals.withdrawn(&run, &ask);
                self.ask_closed(&run);
                Vec::new()
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

    fn ask_closed(&mut self, run: &RunKey) {
        if let Some((of, ask)) = self.approvals.show_next(&run.task) {
            self.tell(&of.task, ToRunner::Publish(RunEvent::Ask(ask)));
        }
        let waits = self.approvals.is_waiting(run);
        self.dispatch.asks_person(Instant::now(), run, waits);
    }

    fn on_due(&mut self) -> Vec<Effect<Box<Turn>>> {
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

    /// Does what the machine wants; true when it wants nothing more ever.
    async fn carry_out(&mut self, effects: Vec<Effect<Box<Turn>>>) -> bool {
        let mut drained = false;
        let changes = !effects.is_empty();
        for effect in effects {
            match effect {
                Effect::Queued { run, ahead } => {
                    if let Some(ticket) = self.tickets.get(&run).cloned() {
                        self.publish(&ticket, EventBody::Queued { ahead }).await;
                    }
                }
                Effect::Begin { run, work } => self.begin(&run, work),
                Effect::Interrupt { task } => self.tell(&task, ToRunner::Interrupt),
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
        let runner = self.runners.entry(task.clone()).or_insert_with(|| {
            let (inbox, from_supervisor) = mpsc::channel(RUNNER_INBOX);
            let runner = Runner {
                task,
                link: self.link.clone(),
                scribe: self.scribe.clone(),
                inbox: from_supervisor,
                supervisor: self.reports.clone(),
                send_thinking: self.settings.policy.send_thinking,
            };
            RunnerRef {
                inbox,
                abort: self.closing.spawn(runner.run()),
            }
        });
        if runner.inbox.try_send(ToRunner::Turn(work)).is_err() {
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
        let event = ticket.event(EventBody::Ended {
            outcome: outcome.clone(),
        });
        let (n, at) = (event.n, event.at);
        self.push(Outgoing::event(event, ticket.facts)).await;
        if let Err(error) = self.scribe.close(run.clone(), outcome.clone(), n, at).await {
            tracing::warn!(%run, %error, "the end of a run could not be journalled");
        }
        self.ends.insert(run, outcome, n);
    }

    fn close_runner(&mut self, task: &TaskId) {
        if let Some(runner) = self.runners.remove(task)
            && runner.inbox.try_send(ToRunner::Close).is_err()
        {
            runner.abort.abort();
        }
    }

    fn tell(&mut self, task: &TaskId, message: ToRunner) {
        let Some(runner) = self.runners.get(task) else {
            return;
        };
        let urgent = matches!(message, ToRunner::Interrupt);
        if runner.inbox.try_send(message).is_err() {
            tracing::warn!(%task, urgent, "a runner does not read its messages");
        }
    }

    async fn publish(&self, ticket: &Ticket, body: EventBody) {
        self.push(ticket.outgoing(body)).await;
    }

    async fn push(&self, outgoing: Outgoing) {
        if self.link.push(outgoing).await.is_err() {
            tracing::debug!("the link is closed");
        }
    }
}

/// Stands where a provider is wanted for an agent nobody knows.
fn no_provider() -> ProviderKey {
    ProviderKey::parse("unknown").expect("a constant that is a key")
}

/// Messages a runner may have waiting; it reads them at any time.
const RUNNER_INBOX: usize = 256;

/// How long a stop waits for the network to take what is left.
const FLUSH: Duration = Duration::from_secs(5);
