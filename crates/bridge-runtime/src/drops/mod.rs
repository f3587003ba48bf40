//! Dropped tasks: when a folder is complete, which of them are begun, ended or put off. Pure; the
//! [`porter`] looks at the disk and carries out what is decided here.
//!
//! ```text
//!  changed ──► seen ──(nothing changes for SETTLED)──► taken ──► open ──► over
//!                ▲                                       │                  │
//!                └──────────── later ◄── not possible ◄──┘     edited again ┘
//! ```

pub(crate) mod porter;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use bridge_proto::{AgentId, RunKey, model::Outcome};
use bridge_workspace::{DropState, Dropped};

/// What the daemon is told about dropped tasks.
#[derive(Debug, Clone, Default)]
pub struct DropSettings {
    /// Who does those that name nobody.
    pub agent: Option<AgentId>,
}

/// What the supervisor says of a run that came from a folder.
#[derive(Debug)]
pub(crate) struct DropWord {
    pub(crate) run: RunKey,
    pub(crate) news: DropNews,
}

/// What has become of it.
#[derive(Debug)]
pub(crate) enum DropNews {
    /// It is at work.
    Begun,
    /// It has ended.
    Ended(Outcome),
    /// It was never accepted.
    Rejected {
        /// Why, and what there is instead.
        reason: String,
        /// Whether it may be possible later, with the same folder.
        may_mend: bool,
    },
}

/// The folders that are not as they were dealt with.
#[derive(Debug, Default)]
pub(crate) struct Drops {
    seen: BTreeMap<String, Seen>,
    open: BTreeMap<String, Open>,
    later: BTreeMap<String, Later>,
}

#[derive(Debug)]
struct Seen {
    print: String,
    since: Instant,
}

#[derive(Debug)]
struct Open {
    run: RunKey,
    agent: AgentId,
    cancelled: bool,
}

#[derive(Debug)]
struct Later {
    print: String,
    until: Instant,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Read the task and hand it on.
    Take { folder: String, print: String },
    /// Say what is wrong with it.
    Refuse {
        folder: String,
        print: String,
        fault: String,
    },
    /// End its run.
    Cancel(RunKey),
}

impl Drops {
    /// Takes what a look found; gives what is to be done now.
    pub(crate) fn on_look(&mut self, now: Instant, found: &[Dropped]) -> Vec<Step> {
        let there: BTreeSet<&str> = found.iter().map(|it| it.folder.as_str()).collect();
        let there = |folder: &String| there.contains(folder.as_str());
        self.seen.retain(|folder, _| there(folder));
        self.later
            .retain(|folder, later| there(folder) && now < later.until);
        let mut steps = Vec::new();
        let mut room = AT_ONCE.saturating_sub(self.open.len());
        for dropped in found {
            if self.open.contains_key(&dropped.folder) {
                continue;
            }
            let (folder, print) = (dropped.folder.clone(), dropped.print.clone());
            let handed_on = dropped
                .record
                .as_ref()
                .is_some_and(|record| matches!(record.state, DropState::Working { .. }));
            if handed_on {
                // By a process that is gone; it was complete then.
                if room > 0 {
                    room -= 1;
                    steps.push(Step::Take { folder, print });
                }
                continue;
            }
            let record = dropped.record.as_ref();
            if dropped.cancel || record.is_some_and(|record| record.print == print) {
                self.seen.remove(&folder);
                continue;
            }
            let later = self.later.get(&folder);
            if later.is_some_and(|later| later.print == print) {
                continue;
            }
            let seen = self.seen.get(&folder).filter(|seen| seen.print == print);
            let Some(seen) = seen else {
                let since = now;
                self.seen.insert(folder, Seen { print, since });
                continue;
            };
            if now.saturating_duration_since(seen.since) < SETTLED {
                continue;
            }
            if let Some(fault) = dropped.fault.clone() {
                self.seen.remove(&folder);
                steps.push(Step::Refuse {
                    folder,
                    print,
                    fault,
                });
            } else if room > 0 {
                room -= 1;
                self.seen.remove(&folder);
                self.later.remove(&folder);
                steps.push(Step::Take { folder, print });
            }
        }
        steps
    }

    /// The task in this folder was handed on as this run.
    pub(crate) fn begun(&mut self, folder: String, run: RunKey, agent: AgentId) {
        let open = Open {
            run,
            agent,
            cancelled: false,
        };
        self.open.insert(folder, open);
    }

    /// The folder of this run, wherever it is now, wants it ended; that is done once.
    pub(crate) fn cancel(&mut self, run: &RunKey) -> Option<Step> {
        let open = self.open.values_mut().find(|open| open.run == *run)?;
        let was_cancelled = std::mem::replace(&mut open.cancelled, true);
        (!was_cancelled).then(|| Step::Cancel(run.clone()))
    }

    /// What is in this folder cannot be done now; it is tried again after [`AGAIN`], and before
    /// that when it changes.
    pub(crate) fn put_off(&mut self, now: Instant, folder: String, print: String) {
        let until = now + AGAIN;
        self.later.insert(folder, Later { print, until });
    }

    /// The folder and the agent of a run that is handed on.
    pub(crate) fn open_of(&self, run: &RunKey) -> Option<(String, AgentId)> {
        let mut open = self.open.iter();
        let found = open.find(|(_, open)| open.run == *run);
        found.map(|(folder, open)| (folder.clone(), open.agent.clone()))
    }

    /// The run of this folder has ended.
    pub(crate) fn over(&mut self, folder: &str) {
        self.open.remove(folder);
    }

    /// When to look again, if nothing changes.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let has_room = self.open.len() < AT_ONCE;
        let settled = self.seen.values().map(|seen| seen.since + SETTLED);
        let settled = settled.filter(|_| has_room).min();
        let later = self.later.values().map(|later| later.until).min();
        settled.into_iter().chain(later).min()
    }
}

/// A folder is complete when nothing in its `input/` has changed for this long.
pub(crate) const SETTLED: Duration = Duration::from_secs(2);
/// Tasks that are handed on and not over; more wait in their folders. The supervisor queues them
/// like all others.
pub(crate) const AT_ONCE: usize = 32;
/// How long until something that was not possible is tried again.
const AGAIN: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
