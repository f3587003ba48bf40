//! Who is connected, what they said of themselves, and what is expected of them. Pure.
//!
//! Contract: one input, then carry out the effects in order; wait for the next input or the
//! deadline. Nothing here reads a clock, rolls dice, or knows a socket.
//!
//! ```text
//!            Opened            handshake                 Closed, superseded, revoked
//!  off line ────────► greeting ─────────► on line ─────────────────────────────────► off line
//!                        │ none within 30 s: hang up        a machine that came back is asked
//!                        ▼                                  about its runs; unknown ones are
//!                                                           sent again, stopped or failed
//! ```

mod machine;
#[cfg(test)]
mod tests;
mod words;

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use bridge_proto::{
    AgentId, BridgeId, ProviderKey, RunKey, TaskId,
    ctrlnode::plane::{FromBridge, encode},
    model::{AgentChange, AgentProfile, Can, CommandBody, Reply},
};
use bridge_transport::delivery::Position;

use self::machine::{Connection, MachineState};
pub(crate) use self::words::{AgentRoute, ConnId, Effect, HangUp, Input, Now, Route, Unanswered};
use crate::{error::HubError, store::BridgeRecord, view::Machine};

/// The machine; see the module's contract.
#[derive(Debug)]
pub(crate) struct HubState {
    lost_after: Duration,
    machines: BTreeMap<BridgeId, MachineState>,
    connections: HashMap<ConnId, BridgeId>,
    pending: HashMap<String, Pending>,
    last_request: u64,
}

#[derive(Debug)]
struct Pending {
    conn: ConnId,
    until: Instant,
}

impl HubState {
    pub(crate) fn new(lost_after: Duration, paired: Vec<BridgeRecord>) -> Self {
        let machines = paired
            .into_iter()
            .map(|record| (record.id.clone(), MachineState::new(record)));
        Self {
            lost_after,
            machines: machines.collect(),
            connections: HashMap::new(),
            pending: HashMap::new(),
            last_request: 0,
        }
    }

    /// Names requests from this number on. Commands outlive the hub, and the answer to one of an
    /// earlier life must not be taken for that to another.
    pub(crate) fn counting_from(mut self, request: u64) -> Self {
        self.last_request = request;
        self
    }

    pub(crate) fn handle(&mut self, now: Now, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        match input {
            Input::Opened {
                conn,
                bridge,
                extended,
            } => {
                self.on_opened(now, conn, &bridge, extended, &mut effects);
            }
            Input::Said { conn, message } => self.on_said(now, conn, message, &mut effects),
            Input::Resume { conn, from } => self.on_resume(now, conn, from, &mut effects),
            Input::Resumed { conn, known } => {
                if let Some(machine) = self.machine_of(conn) {
                    machine.on_resumed(conn, known);
                }
            }
            Input::Closed { conn } => self.on_closed(now, conn, &mut effects),
            Input::Runs { conn, runs } => {
                if let Some(machine) = self.machine_of(conn) {
                    machine.on_runs(runs);
                }
                self.ask_about_runs(now, conn, &mut effects);
            }
            Input::Paired(record) => {
                self.machines
                    .insert(record.id.clone(), MachineState::new(record));
                effects.push(Effect::Changed);
            }
            Input::Unpaired(bridge) => {
                if let Some(machine) = self.machines.remove(&bridge) {
                    if let Some(connection) = machine.connection {
                        self.drop_connection(connection.id, HangUp::Revoked, &mut effects);
                    }
                    effects.push(Effect::Changed);
                }
            }
            Input::Timeout => self.on_timeout(now, &mut effects),
            Input::Stop => {
                let all: Vec<ConnId> = self.connections.keys().copied().collect();
                for conn in all {
                    self.drop_connection(conn, HangUp::Stopping, &mut effects);
                }
            }
        }
        effects
    }

    /// When [`Input::Timeout`] is wanted, and what for.
    pub(crate) fn deadline(&self) -> Option<(Instant, &'static str)> {
        let requests = self
            .pending
            .values()
            .map(|pending| (pending.until, "a reply"));
        let machines = self.machines.values().filter_map(MachineState::deadline);
        requests.chain(machines).min_by_key(|(at, _)| *at)
    }

    /// All paired machines, by name.
    pub(crate) fn machines(&self) -> Vec<Machine> {
        let mut machines: Vec<Machine> = self.machines.values().map(MachineState::view).collect();
        machines.sort_by_cached_key(|machine| (machine.name.to_lowercase(), machine.id.clone()));
        machines
    }

    /// The way to a machine.
    pub(crate) fn route(&self, bridge: &BridgeId) -> Result<Route, HubError> {
        let machine = self
            .machines
            .get(bridge)
            .ok_or_else(|| HubError::UnknownMachine { id: bridge.clone() })?;
        let name = machine.record.name.clone();
        match &machine.connection {
            Some(connection) if connection.greeted => Ok(Route {
                conn: connection.id,
                name,
                extended: connection.extended,
            }),
            Some(_) | None => Err(HubError::MachineOffline { name }),
        }
    }

    /// What can be done while a conversation of this provider goes on; `None` when the machine is
    /// not on line or did not say.
    pub(crate) fn can(&self, bridge: &BridgeId, provider: &ProviderKey) -> Option<Can> {
        let connection = self.machines.get(bridge)?.connection.as_ref()?;
        connection.can(provider)
    }

    /// The way to an agent.
    pub(crate) fn agent(&self, bridge: &BridgeId, agent: &AgentId) -> Result<AgentRoute, HubError> {
        let route = self.route(bridge)?;
        let found = self
            .machines
            .get(bridge)
            .and_then(|machine| machine.connection.as_ref())
            .and_then(|connection| connection.agent(agent));
        match found {
            Some(profile) => {
                let (provider, root) = (profile.provider.clone(), profile.workspace.clone());
                Ok(AgentRoute {
                    route,
                    provider,
                    root,
                })
            }
            None => Err(HubError::UnknownAgent {
                agent: agent.clone(),
                machine: route.name,
            }),
        }
    }

    /// A run was sent to a machine.
    pub(crate) fn on_run_sent(&mut self, route: &Route, run: &RunKey) {
        if let Some(machine) = self.machine_of(route.conn)
            && !route.extended
        {
            machine.open_run(run.clone(), 0);
        }
    }

    /// A cancel was sent to a machine.
    pub(crate) fn on_cancel_sent(&mut self, bridge: &BridgeId, task: &TaskId) {
        if let Some(machine) = self.machines.get_mut(bridge) {
            machine.on_cancel(task);
        }
    }

    /// An answer was sent to a machine; the plain wire does not confirm it.
    pub(crate) fn on_answer_sent(
        &mut self,
        now: Now,
        route: &Route,
        task: &TaskId,
        words: &str,
    ) -> Vec<Effect> {
        match self.machine_of(route.conn) {
            Some(machine) if !route.extended => machine.on_answer(now.wall, task, words),
            Some(_) | None => Vec::new(),
        }
    }

    /// A run was ended in the hub's name.
    pub(crate) fn on_run_ended(&mut self, run: &RunKey) {
        for machine in self.machines.values_mut() {
            machine.close_run(run);
        }
    }

    /// A request goes out; its id, or a later [`Effect::Settle`] says what came of it.
    pub(crate) fn on_request(&mut self, now: Now, conn: ConnId, wait: Duration) -> String {
        let request = self.next_request();
        let pending = Pending {
            conn,
            until: now.instant + wait,
        };
        self.pending.insert(request.clone(), pending);
        request
    }

    /// An id for a command whose answer nobody waits for.
    pub(crate) fn next_request(&mut self) -> String {
        self.last_request += 1;
        format!("hub-{}", self.last_request)
    }

    /// Whose connection it is.
    pub(crate) fn bridge_of(&self, conn: ConnId) -> Option<BridgeId> {
        self.connections.get(&conn).cloned()
    }

    /// Whether the newest connection of a machine, if it is this one, has the extension.
    pub(crate) fn is_extended(&self, conn: ConnId) -> bool {
        let machine = self.connections.get(&conn);
        let machine = machine.and_then(|bridge| self.machines.get(bridge));
        let connection = machine.and_then(|machine| machine.connection.as_ref());
        connection.is_some_and(|it| it.id == conn && it.extended)
    }

    fn machine_of(&mut self, conn: ConnId) -> Option<&mut MachineState> {
        let bridge = self.connections.get(&conn)?;
        self.machines.get_mut(bridge)
    }

    fn on_opened(
        &mut self,
        now: Now,
        conn: ConnId,
        bridge: &BridgeId,
        extended: bool,
        effects: &mut Vec<Effect>,
    ) {
        let Some(machine) = self.machines.get_mut(bridge) else {
            // Revoked between the check at the door and now.
            effects.push(Effect::HangUp {
                conn,
                why: HangUp::Revoked,
            });
            return;
        };
        let listen_by = now.instant + LAST_WORDS_WITHIN;
        let new = Connection::new(conn, extended, listen_by);
        let old = machine.connection.replace(new);
        machine.since = now.wall;
        self.connections.insert(conn, bridge.clone());
        if let Some(old) = old {
            let may_have_words = old.extended && old.greeted;
            if may_have_words {
                machine.late.push(old.id);
            }
            self.drop_connection(old.id, HangUp::Superseded, effects);
            if may_have_words {
                self.connections.insert(old.id, bridge.clone());
            }
        }
        self.listen(now, bridge, effects);
        effects.push(Effect::Changed);
    }

    /// Begins to read the newest connection of a machine, if nothing of an older one is on the way.
    ///
    /// What a bridge wrote into the older connection it wrote before what it writes into this one.
    /// The store takes the events of a run by rising numbers, so what came in the other order would
    /// be dropped: text that has reached this machine, and is written down nowhere else.
    fn listen(&mut self, now: Now, bridge: &BridgeId, effects: &mut Vec<Effect>) {
        let Some(machine) = self.machines.get_mut(bridge) else {
            return;
        };
        if let Some(conn) = machine.listen(now.instant, now.instant + HANDSHAKE_WITHIN) {
            effects.push(Effect::Listen { conn });
        }
    }

    fn on_said(&mut self, now: Now, conn: ConnId, message: FromBridge, effects: &mut Vec<Effect>) {
        let Some(bridge) = self.connections.get(&conn).cloned() else {
            return; // hung up on
        };
        let Some(machine) = self.machines.get_mut(&bridge) else {
            return;
        };
        if machine.late.contains(&conn) {
            on_late(bridge, message, effects);
            return;
        }
        let Some(connection) = machine.connection.as_mut() else {
            return;
        };
        match message {
            FromBridge::Handshake(hello) => {
                let agents = machine.on_hello(now, hello, effects);
                let from = machine.take_resume();
                // Commands come behind the agents they are for, and questions behind commands.
                self.sync_agents(conn, agents, effects);
                effects.extend(from.map(|from| Effect::GoOn {
                    conn,
                    bridge: bridge.clone(),
                    from,
                }));
                effects.push(Effect::LoadRuns { conn, bridge });
            }
            message if !connection.greeted => {
                tracing::debug!(machine = %bridge, kind = kind(&message), "before the handshake");
            }
            FromBridge::Notice(notice) => {
                let agents = machine.on_notice(notice, effects);
                self.sync_agents(conn, agents, effects);
            }
            FromBridge::Event {
                agent: _,
                provider: _,
                event,
            } => {
                if connection.extended {
                    connection.on_heard(&event.run);
                    effects.push(Effect::Append {
                        bridge,
                        events: vec![event],
                    });
                    self.ask_about_runs(now, conn, effects);
                } else {
                    tracing::debug!(machine = %bridge, "event without the extension");
                }
            }
            FromBridge::Run(run) => {
                if connection.extended {
                    tracing::debug!(machine = %bridge, "plain message despite the extension");
                } else {
                    effects.extend(machine.on_plain(now.wall, run));
                }
            }
            FromBridge::Reply {
                request_id: _,
                reply: Reply::RunChecked { run, known },
            } => {
                effects.extend(machine.on_checked(&run, known));
                self.ask_about_runs(now, conn, effects);
            }
            FromBridge::Reply { request_id, reply } => {
                let ours = self
                    .pending
                    .get(&request_id)
                    .is_some_and(|one| one.conn == conn);
                if ours {
                    self.pending.remove(&request_id);
                    effects.push(Effect::Settle {
                        request: request_id,
                        answer: Ok(reply),
                    });
                } else if let Reply::AgentsSynced {
                    provider,
                    error: Some(error),
                } = reply
                {
                    tracing::warn!(machine = %bridge, %provider, error, "agents were not taken");
                }
            }
            FromBridge::Unknown { kind } => {
                tracing::debug!(machine = %bridge, kind, "unknown action");
            }
        }
    }

    /// Tells a bridge of one agent each for their providers.
    fn sync_agents(&mut self, conn: ConnId, agents: Vec<AgentProfile>, effects: &mut Vec<Effect>) {
        let changes = agents.into_iter().map(|profile| AgentChange::Sync {
            provider: profile.provider.clone(),
            agents: Ok(vec![profile]),
        });
        self.tell(conn, changes.map(CommandBody::Agents), effects);
    }

    /// Goes on asking a bridge that came back about the runs it has not mentioned.
    fn ask_about_runs(&mut self, now: Now, conn: ConnId, effects: &mut Vec<Effect>) {
        let answer_by = now.instant + self.lost_after;
        let questions = match self.machine_of(conn) {
            Some(machine) => machine.next_questions(answer_by),
            None => return,
        };
        self.tell(conn, questions.into_iter(), effects);
    }

    fn tell(
        &mut self,
        conn: ConnId,
        commands: impl Iterator<Item = CommandBody>,
        effects: &mut Vec<Effect>,
    ) {
        for command in commands {
            match encode(&command, &self.next_request()) {
                Ok(frame) => effects.push(Effect::Send { conn, frame }),
                Err(error) => tracing::error!(%error, "a command has no frame"),
            }
        }
    }

    /// Said once, before the handshake, by a bridge that takes numbers.
    fn on_resume(&mut self, now: Now, conn: ConnId, from: Position, effects: &mut Vec<Effect>) {
        let Some(machine) = self.machine_of(conn) else {
            return; // hung up on
        };
        if machine.late.contains(&conn) {
            return;
        }
        if !machine.on_resume(conn, from) {
            self.on_closed(now, conn, effects);
            effects.push(Effect::HangUp {
                conn,
                why: HangUp::OutOfTurn,
            });
        }
    }

    fn on_closed(&mut self, now: Now, conn: ConnId, effects: &mut Vec<Effect>) {
        if let Some(bridge) = self.connections.remove(&conn)
            && let Some(machine) = self.machines.get_mut(&bridge)
        {
            machine.late.retain(|late| *late != conn);
            let current = machine.connection.as_ref();
            if current.is_some_and(|connection| connection.id == conn) {
                machine.connection = None;
                machine.since = now.wall;
                machine.record.seen = Some(now.wall);
                effects.push(Effect::Remember(machine.record.clone()));
                effects.push(Effect::Changed);
            }
            self.listen(now, &bridge, effects);
        }
        self.give_up(
            |pending| pending.conn == conn,
            Unanswered::Disconnected,
            effects,
        );
    }

    fn on_timeout(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.give_up(
            |pending| pending.until <= now.instant,
            Unanswered::TimedOut,
            effects,
        );
        let (mut silent, mut connected) = (Vec::new(), Vec::new());
        for machine in self.machines.values_mut() {
            let greet_by = now.instant + HANDSHAKE_WITHIN;
            let conn = machine.listen(now.instant, greet_by);
            effects.extend(conn.map(|conn| Effect::Listen { conn }));
            effects.extend(machine.lost_runs(now.instant));
            silent.extend(machine.ungreeted(now.instant));
            connected.extend(machine.connection.as_ref().map(|it| it.id));
        }
        for conn in connected {
            self.ask_about_runs(now, conn, effects);
        }
        for conn in silent {
            self.on_closed(now, conn, effects);
            effects.push(Effect::HangUp {
                conn,
                why: HangUp::NoHandshake,
            });
        }
    }

    fn drop_connection(&mut self, conn: ConnId, why: HangUp, effects: &mut Vec<Effect>) {
        self.connections.remove(&conn);
        effects.push(Effect::HangUp { conn, why });
        self.give_up(
            |pending| pending.conn == conn,
            Unanswered::Disconnected,
            effects,
        );
    }

    fn give_up(
        &mut self,
        which: impl Fn(&Pending) -> bool,
        why: Unanswered,
        effects: &mut Vec<Effect>,
    ) {
        let mut gone: Vec<String> = Vec::new();
        self.pending.retain(|request, pending| {
            let over = which(pending);
            if over {
                gone.push(request.clone());
            }
            !over
        });
        gone.sort();
        effects.extend(gone.into_iter().map(|request| Effect::Settle {
            request,
            answer: Err(why),
        }));
    }
}

/// What a superseded connection still brings: events of runs are as good as ever, because their
/// numbers say whether they are new. Anything else has been said again on the newer connection, or
/// died with this one. A message of the plain wire has no number and would be taken twice; such
/// connections are not listened to.
fn on_late(bridge: BridgeId, message: FromBridge, effects: &mut Vec<Effect>) {
    match message {
        FromBridge::Event { event, .. } => effects.push(Effect::Append {
            bridge,
            events: vec![event],
        }),
        other @ (FromBridge::Handshake(_)
        | FromBridge::Notice(_)
        | FromBridge::Run(_)
        | FromBridge::Reply { .. }
        | FromBridge::Unknown { .. }) => {
            tracing::debug!(machine = %bridge, kind = kind(&other), "from an older connection");
        }
    }
}

fn kind(message: &FromBridge) -> &'static str {
    match message {
        FromBridge::Handshake(_) => "handshake",
        FromBridge::Notice(_) => "notice",
        FromBridge::Event { .. } => "event",
        FromBridge::Run(_) => "run",
        FromBridge::Reply { .. } => "reply",
        FromBridge::Unknown { .. } => "unknown",
    }
}

/// A bridge greets at once; this only bounds what a stranger with a token can hold open.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(30);
/// A superseded connection is read for some seconds at most, see `endpoint/connection.rs`; this only
/// bounds how long a newer one waits for it whatever happens.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(10);
