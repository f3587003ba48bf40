//! One machine: its connection, its agents, and the runs it has to account for.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use bridge_proto::{
    AgentId, ProviderKey, RunKey, TaskId, Timestamp,
    ctrlnode::plane::{PlainRun, Translator},
    model::{
        AgentProfile, AgentStatus, Can, Event, EventBody, Health, Hello, Notice, ProviderReport,
    },
};

use super::{ConnId, Effect, Now};
use crate::{
    store::{BridgeRecord, LiveRun},
    view::{AgentView, Machine},
};

/// A paired machine.
#[derive(Debug)]
pub(super) struct MachineState {
    pub(super) record: BridgeRecord,
    pub(super) since: Timestamp,
    pub(super) connection: Option<Connection>,
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
    greet_by: Instant,
    providers: BTreeMap<ProviderKey, ProviderReport>,
    models: BTreeMap<ProviderKey, Vec<String>>,
    /// What the hub made.
    synced: BTreeMap<AgentId, AgentProfile>,
    /// What the machine told; wins.
    announced: BTreeMap<AgentId, AgentProfile>,
    statuses: BTreeMap<AgentId, AgentStatus>,
    /// Runs the machine has not mentioned since it came back.
    unheard: Vec<LiveRun>,
    lost_at: Option<Instant>,
}

impl Connection {
    pub(super) fn new(id: ConnId, extended: bool, greet_by: Instant) -> Self {
        Self {
            id,
            extended,
            greeted: false,
            greet_by,
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
        self.unheard.retain(|unheard| unheard.key != *run);
        if self.unheard.is_empty() {
            self.lost_at = None;
        }
    }

    /// A machine whose agent works may be silent about the run; a run that was not started yet may
    /// wait behind those of any agent.
    fn may_still_run(&self, run: &LiveRun) -> bool {
        let works = |status: &AgentStatus| *status == AgentStatus::Running;
        if run.started {
            self.statuses.get(&run.agent).is_some_and(works)
        } else {
            self.statuses.values().any(works)
        }
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
        } else {
            Some((connection.greet_by, "a handshake"))
        }
    }

    /// The connection, when its handshake is overdue.
    pub(super) fn ungreeted(&self, now: Instant) -> Option<ConnId> {
        let connection = self.connection.as_ref()?;
        (!connection.greeted && connection.greet_by <= now).then_some(connection.id)
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
        connection.synced = agents
            .iter()
            .map(|profile| (profile.id.clone(), profile.clone()))
            .collect();
        self.record.version = Some(hello.version).filter(|version| !version.is_empty());
        if !hello.hostname.is_empty() {
            self.record.hostname = Some(hello.hostname);
        }
        self.record.seen = Some(now.wall);
        effects.push(Effect::Remember(self.record.clone()));
        effects.push(Effect::Changed);
        agents
    }

    /// These runs are open in the hub's books. What the machine never mentioned may have been lost
    /// on the way, so one that knows a run when it is asked for again is asked again.
    pub(super) fn on_runs(
        &mut self,
        conn: ConnId,
        lost_at: Instant,
        runs: Vec<LiveRun>,
    ) -> Vec<Effect> {
        let Some(connection) = self.connection.as_mut() else {
            return Vec::new();
        };
        let mut resend = Vec::new();
        if connection.extended {
            let never_heard_of = runs.iter().filter(|run| run.last_n.is_none());
            resend.extend(never_heard_of.map(|run| Effect::Resend {
                conn,
                run: run.key.clone(),
            }));
        }
        if !connection.extended {
            for run in &runs {
                self.translator.open(run.key.clone());
                let next = run.last_n.map_or(0, |n| n + 1);
                let number = self.numbers.entry(run.key.clone()).or_insert(next);
                *number = next.max(*number);
            }
        }
        connection.lost_at = (!runs.is_empty()).then_some(lost_at);
        connection.unheard = runs;
        resend
    }

    /// Runs the machine will never end; the others are asked about again later.
    pub(super) fn lost_runs(&mut self, now: Instant, again: Duration) -> Vec<Effect> {
        let Some(connection) = self.connection.as_mut() else {
            return Vec::new();
        };
        if connection.lost_at.is_none_or(|at| at > now) {
            return Vec::new();
        }
        let (wait, lost): (Vec<_>, Vec<_>) = std::mem::take(&mut connection.unheard)
            .into_iter()
            .partition(|run| connection.may_still_run(run));
        connection.lost_at = (!wait.is_empty()).then_some(now + again);
        connection.unheard = wait;
        lost.into_iter()
            .map(|run| Effect::Fail {
                run: run.key,
                reason: LOST,
            })
            .collect()
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
            Notice::Hello(_) => {}
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

const LOST: &str = "the bridge came back without this run";
