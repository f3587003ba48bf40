//! What the store has to take, in its order, and again until it does.
//!
//! Events of one round of messages are committed together, and only then shown. While the store
//! cannot take them, because the disk is full or the file is locked, they wait here, and behind
//! them the ends the hub itself gave to runs. No bridge is asked for more events in the meantime,
//! which bounds what waits: the agents wait in the end.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use bridge_proto::{
    BridgeId, RunKey,
    model::{Event, Outcome},
};
use bridge_transport::delivery::Position;
use tokio::sync::watch;

use crate::{
    clock::now,
    owner::{Owner, report},
    state::{ConnId, HangUp},
    store::{Committed, StoreError},
};

/// What waits for the store.
#[derive(Debug)]
pub(crate) struct Backlog {
    /// Of this round.
    round: Option<Round>,
    events: VecDeque<Kept>,
    /// Behind the events, which may hold an end of the same run.
    ends: VecDeque<(RunKey, Outcome)>,
    /// The store failed; when it is tried again.
    retry_at: Option<Instant>,
    /// Who sent events of runs that are not known; said once of each.
    strange: BTreeSet<BridgeId>,
    /// Whether events of bridges are wanted.
    storable: watch::Sender<bool>,
}

/// What one bridge said in a row.
#[derive(Debug)]
struct Round {
    from: BridgeId,
    events: Vec<Event>,
    upto: Option<(ConnId, Position)>,
}

/// The same, as the store is given it, again and again if need be.
#[derive(Debug, Clone)]
struct Kept {
    from: BridgeId,
    events: Arc<[Event]>,
    /// Up to where the bridge was heard with it, and who has to be told.
    upto: Option<(ConnId, Position)>,
}

impl From<Round> for Kept {
    fn from(round: Round) -> Self {
        Self {
            from: round.from,
            events: round.events.into(),
            upto: round.upto,
        }
    }
}

impl Backlog {
    pub(crate) fn new(storable: watch::Sender<bool>) -> Self {
        Self {
            round: None,
            events: VecDeque::new(),
            ends: VecDeque::new(),
            retry_at: None,
            strange: BTreeSet::new(),
            storable,
        }
    }

    pub(crate) fn add_events(&mut self, from: BridgeId, events: Vec<Event>) {
        self.round_of(from).events.extend(events);
    }

    /// Once what was added so far is kept, the bridge was heard up to here.
    pub(crate) fn add_position(&mut self, from: BridgeId, conn: ConnId, upto: Position) {
        self.round_of(from).upto = Some((conn, upto));
    }

    fn round_of(&mut self, from: BridgeId) -> &mut Round {
        if self.round.as_ref().is_some_and(|round| round.from != from) {
            self.close_round();
        }
        self.round.get_or_insert_with(|| Round {
            from,
            events: Vec::new(),
            upto: None,
        })
    }

    /// Whether the hub has ended this run, in words that wait.
    pub(crate) fn ends_run(&self, run: &RunKey) -> bool {
        self.ends.iter().any(|(waiting, _)| waiting == run)
    }

    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    fn close_round(&mut self) {
        let round = self.round.take();
        self.events.extend(round.map(Kept::from));
    }

    fn is_empty(&self) -> bool {
        self.events.is_empty() && self.ends.is_empty()
    }

    fn on_failure(&mut self, error: &StoreError) {
        if self.retry_at.is_none() {
            report("store what happens; it waits and is tried again", error);
        }
        self.retry_at = Some(Instant::now() + RETRY);
        self.storable
            .send_if_modified(|storable| std::mem::replace(storable, false));
    }

    fn on_success(&mut self) {
        if self.retry_at.take().is_some() {
            tracing::info!("what happens is stored again");
            self.storable.send_replace(true);
        }
    }
}

impl Owner {
    /// Ends a run in the hub's name.
    pub(crate) async fn end(&mut self, run: RunKey, outcome: Outcome) {
        self.state.on_run_ended(&run);
        if !self.backlog.ends_run(&run) {
            self.backlog.ends.push_back((run, outcome));
        }
        self.keep().await;
    }

    /// Commits what waits, then shows it.
    pub(crate) async fn keep(&mut self) {
        self.backlog.close_round();
        let soon = self.backlog.retry_at.is_some_and(|at| at > Instant::now());
        if soon || self.backlog.is_empty() {
            return;
        }
        while let Some(Kept { from, events, upto }) = self.backlog.events.front().cloned() {
            let position = upto.map(|(_, position)| position);
            match self.store.append(&from, events, position, now()).await {
                Ok(committed) => {
                    self.on_committed(&from, &committed);
                    if let Some((conn, position)) = upto {
                        self.send(conn, position.ack());
                    }
                }
                Err(error) if error.may_pass() => return self.backlog.on_failure(&error),
                Err(error) => {
                    report("keep events", &error);
                    if let Ok(route) = self.route(&from) {
                        self.hang_up(route.conn, HangUp::NotKept);
                    }
                }
            }
            self.backlog.events.pop_front();
        }
        while let Some((run, outcome)) = self.backlog.ends.front().cloned() {
            match self.store.end_run(&run, outcome.clone(), now()).await {
                Ok(Some(_)) => {
                    tracing::warn!(task = %run.task, ?outcome, "run ended by the hub");
                    self.wake(&run.task);
                    self.tick();
                }
                Ok(None) => {}
                Err(error) if error.may_pass() => return self.backlog.on_failure(&error),
                Err(error) => report("end a run", &error),
            }
            self.backlog.ends.pop_front();
        }
        self.backlog.on_success();
    }

    /// The hub stops: one last try.
    pub(crate) async fn keep_at_last(&mut self) {
        self.backlog.close_round();
        self.backlog.retry_at = self.backlog.retry_at.map(|_| Instant::now());
        self.keep().await;
        let lost: usize = self.backlog.events.iter().map(|it| it.events.len()).sum();
        if lost > 0 {
            tracing::error!(events = lost, "lost, because the store did not take them");
        }
    }

    fn on_committed(&mut self, bridge: &BridgeId, committed: &Committed) {
        if committed.refused > 0 {
            let events = committed.refused;
            if self.backlog.strange.insert(bridge.clone()) {
                tracing::warn!(machine = %bridge, events, "events of runs this hub does not know are dropped");
            } else {
                tracing::debug!(machine = %bridge, events, "events of runs this hub does not know");
            }
        }
        if committed.dropped > 0 {
            tracing::debug!(machine = %bridge, events = committed.dropped, "events of dropped tasks, which are told on their machine alone");
        }
        if committed.old > 0 {
            tracing::debug!(machine = %bridge, events = committed.old, "events that were known");
        }
        for (task, _) in &committed.tasks {
            self.wake(task);
        }
        if committed.listed {
            self.tick();
        }
    }
}

/// Between two tries of a store that fails.
const RETRY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
