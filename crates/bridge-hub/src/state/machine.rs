//! One machine: its connection, its agents, and the runs it has to account for.

use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

use bridge_proto::{
    AgentId, ProviderKey, RunKey, TaskId, Timestamp,
    ctrlnode::plane::{PlainRun, Translator},
    model::{
        Actor, AgentProfile, AgentStatus, Can, CommandBody, Event, EventBody, Fault, Health, Hello,
        Notice, Outcome, ProviderReport,
    },
};
use bridge_transport::delivery::Position;

use super::{ConnId, Effect, Now};
use crate::{
    store::{BridgeRecord, LiveRun},
    view::{AgentView, Machine},
    visible::visible,
};

/// A paired machine.
#[derive(Debug)]
pub(super) struct MachineState {
    pub(super) record: BridgeRecord,
    pub(super) since: Timestamp,
    pub(super) connection: Option<Connection>,
    /// Superseded connections that may still have events for us.
    pub(super) late: Vec<ConnId>,
    /// Of a plain bridge; outlives its connections, because runs do.
    translator: Translator,
    /// The next number of every plain run that is open.
    numbers: HashMap<RunKey, u64>,
}

/// One connection of a machine.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnId,
    pub(super) extended: bool,
    pub(super) greeted: bool,
    /// From where on it wants the hub's stream.
    resume: Option<Position>,
    /// It has what it acknowledged; so a cancel is not said again.
    keeps: bool,
    /// Whether what it says is read.
    listened_to: bool,
    /// Until then it has to be listened to, and then to greet.
    due: Instant,
    providers: BTreeMap<ProviderKey, ProviderReport>,
    models: BTreeMap<ProviderKey, Vec<String>>,
    /// What the hub made.
    synced: BTreeMap<AgentId, AgentProfile>,
    /// What the machine told; wins.
    announced: BTreeMap<AgentId, AgentProfile>,
    statuses: BTreeMap<AgentId, AgentStatus>,
    /// Runs the machine has not mentioned since it came back, oldest first.
    unheard: Vec<Unheard>,
    lost_at: Option<Instant>,
}

/// A run the machine has to account for.
#[derive(Debug)]
struct Unheard {
    run: LiveRun,
    /// Whether it was told what is wanted of it. Only then its silence means something.
    asked: bool,
}

impl Connection {
    pub(super) fn new(id: ConnId, extended: bool, listen_by: Instant) -> Self {
        Self {
            id,
            extended,
            greeted: false,
            resume: None,
            keeps: false,
            listened_to: false,
            due: listen_by,
            providers: BTreeMap::new(),
            models: BTreeMap::new(),
            synced: BTreeMap::new(),
            announced: BTreeMap::new(),
            statuses: BTreeMap::new(),
            unheard: Vec::new(),
            lost_at: None,
        }
    }

    pub(super) fn agent(&self, id: &AgentId) -> Option<&AgentProfile> {
        self.announced.get(id).or_else(|| self.synced.get(id))
    }

    pub(super) fn can(&self, provider: &ProviderKey) -> Option<Can> {
        self.providers.get(provider)?.can
    }

    /// The machine mentioned a run.
    pub(super) fn on_heard(&mut self, run: &RunKey) {
        self.unheard.retain(|unheard| unheard.run.key != *run);
        if self.unheard.is_empty() {
            self.lost_at = None;
        }
    }

    /// A bridge that answers no questions may be silent about the run of an agent that works; a run
    /// that was not started yet may wait behind those of any agent.
    fn may_still_run(&self, run: &LiveRun) -> bool {
        let works = |status: &AgentStatus| *status == AgentStatus::Running;
        if run.started {
            self.statuses.get(&run.agent).is_some_and(works)
        } else {
            self.statuses.values().any(works)
        }
    }

    /// Whether a cancel of this task must be said again. One that was followed by a run which the
    /// machine knows has arrived before it, and would stop that run as well.
    fn needs_cancel(&self, task: &TaskId) -> bool {
        let runs = self.unheard.iter().map(|unheard| &unheard.run);
        let mut runs = runs.filter(|run| run.key.task == *task);
        runs.all(|run| run.cancel || run.last_n.is_none())
    }

    fn agents(&self) -> Vec<AgentView> {
        let mut all: BTreeMap<&AgentId, &AgentProfile> = self.synced.iter().collect();
        all.extend(&self.announced);
        all.into_iter()
            .map(|(id, profile)| {
                let report = self.providers.get(&profile.provider).cloned();
                let ProviderReport {
                    health,
                    can,
                    trouble,
                } = report.unwrap_or(UNCHECKED);
                AgentView {
                    status: self.statuses.get(id).copied().unwrap_or(AgentStatus::Idle),
                    health,
                    can,
                    trouble,
                    profile: profile.clone(),
                }
            })
            .collect()
    }
}

impl MachineState {
    pub(super) fn new(record: BridgeRecord) -> Self {
        Self {
            since: record.seen.unwrap_or(record.created),
            record,
            connection: None,
            late: Vec::new(),
            translator: Translator::default(),
            numbers: HashMap::new(),
        }
    }

    pub(super) fn view(&self) -> Machine {
        let connection = self
            .connection
            .as_ref()
            .filter(|connection| connection.greeted);
        Machine {
            id: self.record.id.clone(),
            name: self.record.name.clone(),
            hostname: self.record.hostname.clone(),
            online: connection.is_some(),
            since: self.since,
            version: self.record.version.clone(),
            extended: connection.is_some_and(|connection| connection.extended),
            providers: connection
                .map(|connection| connection.providers.clone())
                .unwrap_or_default(),
            models: connection
                .map(|connection| connection.models.clone())
                .unwrap_or_default(),
            agents: connection.map(Connection::agents).unwrap_or_default(),
        }
    }

    pub(super) fn deadline(&self) -> Option<(Instant, &'static str)> {
        let connection = self.connection.as_ref()?;
        if connection.greeted {
            connection.lost_at.map(|at| (at, "a word about runs"))
        } else if connection.listened_to {
            Some((connection.due, "a handshake"))
        } else {
            Some((connection.due, "the last words of an older connection"))
        }
    }

    /// The connection, when it is its turn to be read; it has to greet in time then.
    pub(super) fn listen(&mut self, now: Instant, greet_by: Instant) -> Option<ConnId> {
        let connection = self.connection.as_mut()?;
        let waits = !self.late.is_empty() && connection.due > now;
        if connection.listened_to || waits {
            return None;
        }
        connection.listened_to = true;
        connection.due = greet_by;
        Some(connection.id)
    }

    /// The connection, when its handshake is overdue.
    pub(super) fn ungreeted(&self, now: Instant) -> Option<ConnId> {
        let connection = self.connection.as_ref()?;
        (!connection.greeted && connection.due <= now).then_some(connection.id)
    }

    /// The machine takes the hub's stream; whether it may say so now.
    pub(super) fn on_resume(&mut self, conn: ConnId, from: Position) -> bool {
        let Some(connection) = self.connection.as_mut().filter(|it| it.id == conn) else {
            return true;
        };
        let may = connection.extended && !connection.greeted && connection.resume.is_none();
        if may {
            connection.resume = Some(from);
        }
        may
    }

    pub(super) fn take_resume(&mut self) -> Option<Position> {
        self.connection.as_mut()?.resume.take()
    }

    pub(super) fn on_resumed(&mut self, conn: ConnId, known: bool) {
        if let Some(connection) = self.connection.as_mut().filter(|it| it.id == conn) {
            connection.keeps = known;
        }
    }

    /// The machine is on line; gives the agents it shall have, one for each provider.
    pub(super) fn on_hello(
        &mut self,
        now: Now,
        hello: Hello,
        effects: &mut Vec<Effect>,
    ) -> Vec<AgentProfile> {
        let Some(connection) = self.connection.as_mut() else {
            return Vec::new();
        };
        if !connection.greeted {
            connection.greeted = true;
            self.since = now.wall;
        }
        let agents = default_agents(&hello.providers);
        connection
            .providers
            .retain(|key, _| hello.providers.contains(key));
        for key in hello.providers {
            connection.providers.entry(key).or_insert(UNCHECKED);
        }
        connection.announced = hello
            .agents
            .into_iter()
            .map(|profile| (profile.id.clone(), profile))
            .collect();
        connection.synced = agents
            .iter()
            .map(|profile| (profile.id.clone(), profile.clone()))
            .collect();
        let version = visible(&hello.version);
        self.record.version = Some(version).filter(|version| !version.is_empty());
        let hostname = visible(&hello.hostname);
        if !hostname.is_empty() {
            self.record.hostname = Some(hostname);
        }
        self.record.seen = Some(now.wall);
        effects.push(Effect::Remember(self.record.clone()));
        effects.push(Effect::Changed);
        agents
    }

    /// The runs that have not ended: each has to be accounted for.
    pub(super) fn on_runs(&mut self, runs: Vec<LiveRun>) {
        let Some(connection) = self.connection.as_mut() else {
            return;
        };
        if !connection.extended {
            for run in &runs {
                self.translator.open(run.key.clone());
                let next = run.last_n.map_or(0, |n| n + 1);
                let number = self.numbers.entry(run.key.clone()).or_insert(next);
                *number = next.max(*number);
            }
        }
        let unheard = runs.into_iter().map(|run| Unheard { run, asked: false });
        connection.unheard = unheard.collect();
        connection.lost_at = None;
    }

    /// What the machine is to be told of the next runs it has not mentioned: that one shall stop,
    /// which may have been lost on the way, and a question what became of each. Few at a time, so
    /// that a thousand runs fit through the connection. The plain wire has no such question.
    pub(super) fn next_questions(&mut self, answer_by: Instant) -> Vec<CommandBody> {
        let Some(connection) = self.connection.as_mut() else {
            return Vec::new();
        };
        let open = connection.unheard.iter().filter(|one| one.asked).count();
        let room = if connection.extended {
            QUESTIONS.saturating_sub(open)
        } else {
            usize::MAX
        };
        let mut commands = Vec::new();
        let next = connection.unheard.iter_mut().filter(|one| !one.asked);
        let mut runs = Vec::new();
        for unheard in next.take(room) {
            unheard.asked = true;
            runs.push(unheard.run.clone());
        }
        if !runs.is_empty() {
            connection.lost_at = Some(answer_by);
        }
        for LiveRun {
            key: run,
            agent,
            cancel,
            ..
        } in runs
        {
            let stop = CommandBody::Cancel {
                task: run.task.clone(),
            };
            let again = cancel && !connection.keeps && connection.needs_cancel(&run.task);
            if again && !commands.contains(&stop) {
                commands.push(stop);
            }
            if connection.extended {
                commands.push(CommandBody::Check { run, agent });
            }
        }
        commands
    }

    /// The answer to a question; nothing when the run is where it should be.
    pub(super) fn on_checked(&mut self, run: &RunKey, known: bool) -> Option<Effect> {
        let connection = self.connection.as_mut()?;
        let asked = |one: &Unheard| one.asked && one.run.key == *run;
        let LiveRun {
            key: run,
            cancel,
            last_n,
            ..
        } = connection
            .unheard
            .iter()
            .find(|one| asked(one))?
            .run
            .clone();
        connection.on_heard(&run);
        if known {
            return None;
        }
        Some(match last_n {
            None if !cancel => Effect::Resend {
                conn: connection.id,
                run,
            },
            None | Some(_) => Effect::End {
                run,
                outcome: given_up(cancel),
            },
        })
    }

    /// A person wants the runs of this task stopped.
    pub(super) fn on_cancel(&mut self, task: &TaskId) {
        let unheard = self.connection.iter_mut().flat_map(|it| &mut it.unheard);
        for one in unheard.filter(|one| one.run.key.task == *task) {
            one.run.cancel = true;
        }
    }

    /// Runs about which the machine was asked and said nothing in time, and which it will never
    /// end. The others are asked about once more, when all have had their turn.
    pub(super) fn lost_runs(&mut self, now: Instant) -> Vec<Effect> {
        let Some(connection) = self.connection.as_mut() else {
            return Vec::new();
        };
        if connection.lost_at.is_none_or(|at| at > now) {
            return Vec::new();
        }
        connection.lost_at = None;
        let (asked, mut wait): (Vec<_>, Vec<_>) = std::mem::take(&mut connection.unheard)
            .into_iter()
            .partition(|one| one.asked);
        let mut effects = Vec::new();
        for Unheard { run, .. } in asked {
            if !run.cancel && connection.may_still_run(&run) {
                wait.push(Unheard { run, asked: false });
            } else {
                effects.push(Effect::End {
                    run: run.key,
                    outcome: given_up(run.cancel),
                });
            }
        }
        connection.unheard = wait;
        effects
    }

    /// The machine says something of itself; gives the agents it shall have in addition, because
    /// their program has become available.
    pub(super) fn on_notice(
        &mut self,
        notice: Notice,
        effects: &mut Vec<Effect>,
    ) -> Vec<AgentProfile> {
        let mut found = Vec::new();
        let Some(connection) = self.connection.as_mut() else {
            return found;
        };
        match notice {
            // The page shows files when they are asked for.
            Notice::Hello(_) | Notice::FileChanged { .. } => {}
            Notice::Heartbeat(beat) => {
                let statuses: BTreeMap<_, _> = beat.agents.into_iter().collect();
                if statuses != connection.statuses {
                    connection.statuses = statuses;
                    effects.push(Effect::Changed);
                }
            }
            Notice::Agents {
                agents, hostname, ..
            } => {
                let announced: BTreeMap<_, _> = agents
                    .into_iter()
                    .map(|profile| (profile.id.clone(), profile))
                    .collect();
                if announced != connection.announced {
                    connection.announced = announced;
                    effects.push(Effect::Changed);
                }
                let hostname = visible(&hostname);
                if !hostname.is_empty() && self.record.hostname.as_deref() != Some(&*hostname) {
                    self.record.hostname = Some(hostname);
                    effects.push(Effect::Remember(self.record.clone()));
                    effects.push(Effect::Changed);
                }
            }
            Notice::ProviderHealth { health } => {
                connection.providers.extend(health);
                let available = connection.providers.iter();
                let available = available.filter(|(_, report)| report.health.available);
                let available: Vec<ProviderKey> = available.map(|(key, _)| key.clone()).collect();
                found = default_agents(&available);
                found.retain(|agent| !connection.synced.contains_key(&agent.id));
                let synced = found.iter().map(|agent| (agent.id.clone(), agent.clone()));
                connection.synced.extend(synced);
                effects.push(Effect::Changed);
            }
            Notice::AvailableModels { models } => {
                connection.models.extend(models);
                effects.push(Effect::Changed);
            }
        }
        found
    }

    /// A run of a plain bridge begins to be followed.
    pub(super) fn open_run(&mut self, run: RunKey, next: u64) {
        self.translator.open(run.clone());
        self.numbers.entry(run).or_insert(next);
    }

    /// A run was ended by the hub.
    pub(super) fn close_run(&mut self, run: &RunKey) {
        self.translator.close(run);
        self.numbers.remove(run);
        if let Some(connection) = self.connection.as_mut() {
            connection.on_heard(run);
        }
    }

    pub(super) fn on_plain(&mut self, at: Timestamp, message: PlainRun) -> Vec<Effect> {
        let said = self.translator.on(message);
        self.numbered(at, said)
    }

    pub(super) fn on_answer(&mut self, at: Timestamp, task: &TaskId, words: &str) -> Vec<Effect> {
        let said = self.translator.on_answer(task, words);
        self.numbered(at, said)
    }

    fn numbered(&mut self, at: Timestamp, said: Vec<(RunKey, EventBody)>) -> Vec<Effect> {
        let mut events = Vec::with_capacity(said.len());
        for (run, body) in said {
            if let Some(connection) = self.connection.as_mut() {
                connection.on_heard(&run);
            }
            let n = self.numbers.entry(run.clone()).or_insert(0);
            let event = Event {
                run: run.clone(),
                n: *n,
                at,
                body,
            };
            *n += 1;
            if event.body.is_terminal() {
                self.numbers.remove(&run);
            }
            events.push(event);
        }
        if events.is_empty() {
            return Vec::new();
        }
        vec![Effect::Append {
            bridge: self.record.id.clone(),
            events,
        }]
    }
}

/// One agent for each provider (decision 17). Where a machine lists Claude under both of its keys,
/// one of them is enough.
fn default_agents(providers: &[ProviderKey]) -> Vec<AgentProfile> {
    let has_claude = providers.iter().any(|key| key.as_str() == "claude");
    let mut agents: Vec<AgentProfile> = Vec::new();
    for key in providers {
        let twin = has_claude && key.as_str() == "claude-sdk";
        let Ok(id) = AgentId::parse(key.as_str()) else {
            continue;
        };
        if twin || agents.iter().any(|agent| agent.id == id) {
            continue;
        }
        agents.push(AgentProfile {
            id,
            name: display_name(key.as_str()).to_owned(),
            provider: key.clone(),
            model: None,
            workspace: None,
            role: String::new(),
            description: String::new(),
            emoji: String::new(),
            from_filesystem: false,
        });
    }
    agents
}

fn display_name(key: &str) -> &str {
    match key {
        "demo" => "Demo",
        "claude" | "claude-sdk" => "Claude Code",
        "gemini" => "Gemini CLI",
        "codex" => "Codex",
        "copilot" => "GitHub Copilot",
        "cursor" => "Cursor",
        "hermes" => "Hermes",
        "openclaw" => "OpenClaw",
        "openrouter" => "OpenRouter",
        "ollama" => "Ollama",
        other => other,
    }
}

const UNCHECKED: ProviderReport = ProviderReport {
    health: Health {
        available: true,
        reason: None,
        version: None,
        hint: None,
    },
    can: None,
    trouble: None,
};

/// How the hub ends a run its machine does not have. What a person wanted stopped is stopped.
fn given_up(cancel: bool) -> Outcome {
    if cancel {
        return Outcome::Cancelled { by: Actor::Person };
    }
    Outcome::Failed {
        fault: Fault::Bridge,
        reason: "the bridge came back without this run".to_owned(),
    }
}

/// Questions about runs that wait for their answer at the same time; a fraction of the frames that
/// may wait for a bridge.
const QUESTIONS: usize = 32;
