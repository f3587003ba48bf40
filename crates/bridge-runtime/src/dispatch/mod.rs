//! Which run may work when: a pure machine over the table of runs.
//!
//! ```text
//!  submit ──► queued ──► working ──► ended          a run, exactly one end each
//!    │  ▲        │          │ interrupt, cancel, silence: interrupt, then 12 s, then abandoned
//!    │  │        └─ cancel ─┴──► ended
//!    │  │ refused, or the turn was over first
//!    └─► joining ──► joined                          its message was read in the turn at work
//!
//!  a task's conversation:  working ──► idle (5 min, at most 4) ──► closed
//! ```
//!
//! Contract: one call, then carry out the effects it returned in order, then wait for the next
//! input or for [`Dispatch::deadline`] and call [`Dispatch::on_timeout`]. `W` is what is needed
//! to do the work; the machine never looks into it. How messages get into a turn at work is in
//! [`joining`].

mod joining;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    time::{Duration, Instant},
};

use bridge_proto::{
    RunKey, TaskId,
    model::{Actor, Fault, Fix, Outcome},
};

use crate::policy::Policy;

/// One accepted run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job<W> {
    /// Which run.
    pub run: RunKey,
    /// The canonical repository it writes to, in work-directory mode: one writer each.
    pub repository: Option<PathBuf>,
    /// What the turn at work is told instead, if the task has one that can be told.
    pub message: Option<String>,
    /// What is needed to do it.
    pub work: W,
}

/// What has to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect<W> {
    /// Say that the run waits behind `ahead` others.
    Queued {
        /// Which run.
        run: RunKey,
        /// How many.
        ahead: u32,
    },
    /// Journal the run, then give it to its task's conversation, opening one if there is none.
    Begin {
        /// Which run.
        run: RunKey,
        /// How.
        work: W,
    },
    /// Put the message of a run into the turn at work, and call [`Dispatch::injected`].
    Inject {
        /// Whose message.
        run: RunKey,
        /// The run at work, of the same task.
        into: RunKey,
        /// The message.
        text: String,
    },
    /// Report that the message of a run was read in another one: the last thing about it.
    Joined {
        /// Whose message.
        run: RunKey,
        /// The run that has it.
        into: RunKey,
    },
    /// Ask the conversation to end its turn.
    Interrupt {
        /// Whose conversation.
        task: TaskId,
        /// What else ends.
        extent: Extent,
    },
    /// Drop the conversation with its processes: it did not obey.
    Abandon {
        /// Whose conversation.
        task: TaskId,
    },
    /// Report the end: once per accepted run, the last thing about it.
    End {
        /// Which run.
        run: RunKey,
        /// How it ended.
        outcome: Outcome,
    },
    /// Close a conversation nobody needs now; it can be resumed later.
    CloseIdle {
        /// Whose conversation.
        task: TaskId,
    },
    /// Nothing runs or waits any more and nothing new will: said once, after [`Dispatch::drain`].
    Drained,
}

/// How much an interrupt ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extent {
    /// The turn; the conversation is there for the next one, unless the turn left something at
    /// work behind.
    Turn,
    /// The conversation with all it started.
    Conversation,
}

/// The table of runs.
#[derive(Debug)]
pub struct Dispatch<W> {
    policy: Policy,
    queue: VecDeque<Waiting<W>>,
    /// Counts what was submitted, so that a message that was not read waits where it would have
    /// waited from the beginning.
    submitted: u64,
    working: BTreeMap<TaskId, Working<W>>,
    idle: VecDeque<(TaskId, Instant)>,
    /// Places of conversations that were dropped: their processes are still being ended.
    dying: Vec<Dying>,
    draining: bool,
    drained: bool,
}

#[derive(Debug)]
struct Dying {
    task: TaskId,
    repository: Option<PathBuf>,
    until: Instant,
}

#[derive(Debug)]
struct Waiting<W> {
    place: u64,
    job: Job<W>,
}

#[derive(Debug)]
struct Working<W> {
    run: RunKey,
    repository: Option<PathBuf>,
    heard: Instant,
    asks_person: bool,
    gone: bool,
    stopping: Option<Stopping>,
    /// Messages on their way to the agent.
    joining: VecDeque<Waiting<W>>,
    /// What ends everything of the task.
    ends_all: Option<Outcome>,
}

#[derive(Debug, Clone)]
struct Stopping {
    outcome: Outcome,
    extent: Extent,
    give_up: Instant,
}

impl<W> Dispatch<W> {
    /// An empty table.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            queue: VecDeque::new(),
            submitted: 0,
            working: BTreeMap::new(),
            idle: VecDeque::new(),
            dying: Vec::new(),
            draining: false,
            drained: false,
        }
    }

    /// Whether this run is queued, at work or on its way into another one.
    pub fn knows(&self, run: &RunKey) -> bool {
        let is = |waiting: &Waiting<W>| waiting.job.run == *run;
        let works = |working: &Working<W>| working.run == *run || working.joining.iter().any(is);
        self.queue.iter().any(is) || self.working.values().any(works)
    }

    /// The run of this task that is at work.
    pub fn run_of(&self, task: &TaskId) -> Option<&RunKey> {
        self.working.get(task).map(|working| &working.run)
    }

    /// Whether a run of this task is at work.
    pub fn is_working(&self, task: &TaskId) -> bool {
        self.working.contains_key(task)
    }

    /// Whether this task's conversation is at work or kept for a follow-up.
    pub fn keeps(&self, task: &TaskId) -> bool {
        self.is_working(task) || self.idle.iter().any(|(idle, _)| idle == task)
    }

    /// The work of what waits for this task.
    pub fn waiting<'a>(&'a mut self, task: &'a TaskId) -> impl Iterator<Item = &'a mut W> {
        let queued = self.queue.iter_mut();
        let joining = self.working.get_mut(task).into_iter();
        queued
            .chain(joining.flat_map(|working| working.joining.iter_mut()))
            .filter(|waiting| waiting.job.run.task == *task)
            .map(|waiting| &mut waiting.job.work)
    }

    /// Takes a run. A run that is already known is not taken twice.
    pub fn submit(&mut self, now: Instant, job: Job<W>) -> Vec<Effect<W>> {
        if self.knows(&job.run) {
            return Vec::new();
        }
        if self.draining {
            let outcome = Outcome::Failed {
                fault: Fault::Bridge,
                reason: "the bridge is stopping and takes no new work".into(),
            };
            return vec![Effect::End {
                run: job.run,
                outcome,
            }];
        }
        if self.queue.len() >= MOST_QUEUED {
            let outcome = Outcome::Failed {
                fault: Fault::Bridge,
                reason: format!("{MOST_QUEUED} tasks wait already; send it again later"),
            };
            return vec![Effect::End {
                run: job.run,
                outcome,
            }];
        }
        let waiting = Waiting {
            place: self.submitted,
            job,
        };
        self.submitted += 1;
        match self.put_into_turn(waiting) {
            Ok(inject) => vec![inject],
            Err(waiting) => self.wait(now, [waiting]),
        }
    }

    /// Stops everything of a task, on a person's word.
    pub fn cancel(&mut self, now: Instant, task: &TaskId) -> Vec<Effect<W>> {
        let mut effects = self.end_queued(|job| job.run.task == *task, &BY_PERSON);
        if let Some(working) = self.working.get_mut(task) {
            working.ends_all.get_or_insert(BY_PERSON);
        }
        effects.extend(self.stop(now, task, BY_PERSON, Extent::Conversation));
        effects
    }

    /// Stops the turn at work, on a person's word; what waits for the task goes on after it.
    pub fn interrupt(&mut self, now: Instant, task: &TaskId) -> Vec<Effect<W>> {
        self.stop(now, task, BY_PERSON, Extent::Turn)
    }

    /// Stops a run that will come to nothing; it ends with this outcome, unless it was being
    /// stopped before.
    pub fn give_up(&mut self, now: Instant, run: &RunKey, outcome: Outcome) -> Vec<Effect<W>> {
        if self.run_of(&run.task) == Some(run) {
            self.stop(now, &run.task, outcome, Extent::Conversation)
        } else {
            Vec::new()
        }
    }

    /// The run gave a sign of life.
    pub fn heard(&mut self, now: Instant, run: &RunKey) {
        if let Some(working) = self.working.get_mut(&run.task)
            && working.run == *run
        {
            working.heard = now;
        }
    }

    /// Whether the run waits for a person, whose silence is not the agent's.
    pub fn asks_person(&mut self, now: Instant, run: &RunKey, asks: bool) {
        if let Some(working) = self.working.get_mut(&run.task)
            && working.run == *run
        {
            working.asks_person = asks;
            working.heard = now;
        }
    }

    /// The conversation says that the turn of this run is over.
    pub fn turn_over(&mut self, now: Instant, run: &RunKey, outcome: Outcome) -> Vec<Effect<W>> {
        let Some(working) = self
            .working
            .get(&run.task)
            .filter(|working| working.run == *run)
        else {
            return Vec::new();
        };
        let outcome = working
            .stopping
            .as_ref()
            .map_or(outcome, |stop| stop.outcome.clone());
        let mut effects = vec![Effect::End {
            run: run.clone(),
            outcome,
        }];
        let Some(over) = self.working.remove(&run.task) else {
            return effects;
        };
        if !over.gone {
            self.idle
                .push_back((run.task.clone(), now + self.policy.idle));
            while self.idle.len() > self.policy.idle_processes {
                if let Some((task, _)) = self.idle.pop_front() {
                    effects.push(Effect::CloseIdle { task });
                }
            }
        }
        // Whatever of it had been read would have been told before.
        effects.extend(self.not_read(now, over.joining, over.ends_all));
        effects.extend(self.drained_now());
        effects
    }

    /// The task has no conversation any more.
    pub fn conversation_gone(&mut self, task: &TaskId) {
        self.idle.retain(|(idle, _)| idle != task);
        if let Some(working) = self.working.get_mut(task) {
            working.gone = true;
        }
    }

    /// Takes no new work, ends what waits and stops what runs.
    pub fn drain(&mut self, now: Instant) -> Vec<Effect<W>> {
        self.draining = true;
        let outcome = Outcome::Cancelled {
            by: Actor::Shutdown,
        };
        let mut effects = self.end_queued(|_| true, &outcome);
        let tasks: Vec<TaskId> = self.working.keys().cloned().collect();
        for task in tasks {
            if let Some(working) = self.working.get_mut(&task) {
                working.ends_all.get_or_insert_with(|| outcome.clone());
            }
            effects.extend(self.stop(now, &task, outcome.clone(), Extent::Conversation));
        }
        let idle = std::mem::take(&mut self.idle);
        effects.extend(idle.into_iter().map(|(task, _)| Effect::CloseIdle { task }));
        effects.extend(self.drained_now());
        effects
    }

    /// Does what is due.
    pub fn on_timeout(&mut self, now: Instant) -> Vec<Effect<W>> {
        let mut effects = Vec::new();
        let lost: Vec<(RunKey, Outcome)> = self
            .working
            .values()
            .filter_map(|working| {
                let stop = working
                    .stopping
                    .as_ref()
                    .filter(|stop| stop.give_up <= now)?;
                Some((working.run.clone(), stop.outcome.clone()))
            })
            .collect();
        for (run, outcome) in lost {
            let working = self.working.get(&run.task);
            self.dying.push(Dying {
                task: run.task.clone(),
                repository: working.and_then(|working| working.repository.clone()),
                until: now + DYING,
            });
            self.conversation_gone(&run.task);
            effects.push(Effect::Abandon {
                task: run.task.clone(),
            });
            effects.extend(self.turn_over(now, &run, outcome));
        }
        let silent: Vec<TaskId> = self
            .working
            .iter()
            .filter(|(_, working)| self.silent_at(working).is_some_and(|at| at <= now))
            .map(|(task, _)| task.clone())
            .collect();
        for task in silent {
            let minutes = self.policy.silence.as_secs().div_ceil(60);
            let outcome = Outcome::Blocked {
                fix: Fix::Limit,
                reason: format!("Task timed out after {minutes} minutes"),
            };
            effects.extend(self.stop(now, &task, outcome, Extent::Conversation));
        }
        let dying = self.dying.len();
        self.dying.retain(|dying| dying.until > now);
        if self.dying.len() < dying {
            effects.extend(self.start_what_can(now));
        }
        while let Some((_, due)) = self.idle.front()
            && *due <= now
        {
            if let Some((task, _)) = self.idle.pop_front() {
                effects.push(Effect::CloseIdle { task });
            }
        }
        effects
    }

    /// When [`Dispatch::on_timeout`] is due, if nothing happens before.
    pub fn deadline(&self) -> Option<Instant> {
        let stops = self
            .working
            .values()
            .filter_map(|w| w.stopping.as_ref().map(|s| s.give_up));
        let silences = self
            .working
            .values()
            .filter_map(|working| self.silent_at(working));
        let idles = self.idle.iter().map(|(_, due)| *due);
        let deaths = self.dying.iter().map(|dying| dying.until);
        stops.chain(silences).chain(idles).chain(deaths).min()
    }

    fn silent_at(&self, working: &Working<W>) -> Option<Instant> {
        let quiet = working.stopping.is_none() && !working.asks_person;
        quiet.then(|| working.heard + self.policy.silence)
    }

    fn stop(
        &mut self,
        now: Instant,
        task: &TaskId,
        outcome: Outcome,
        extent: Extent,
    ) -> Vec<Effect<W>> {
        let Some(working) = self.working.get_mut(task) else {
            return Vec::new();
        };
        if let Some(stopping) = &mut working.stopping {
            // What a person cancelled is cancelled, whatever stopped it first.
            if outcome == BY_PERSON {
                stopping.outcome = outcome;
            }
            if extent <= stopping.extent {
                return Vec::new();
            }
            stopping.extent = extent;
        } else {
            working.stopping = Some(Stopping {
                outcome,
                extent,
                give_up: now + GIVE_UP,
            });
        }
        let task = task.clone();
        vec![Effect::Interrupt { task, extent }]
    }

    /// Lets runs wait where they belong, starts what can start, and says who waits now.
    fn wait(&mut self, now: Instant, runs: impl IntoIterator<Item = Waiting<W>>) -> Vec<Effect<W>> {
        let mut fresh = Vec::new();
        for waiting in runs {
            fresh.push(waiting.job.run.clone());
            let at = self.queue.partition_point(|one| one.place < waiting.place);
            self.queue.insert(at, waiting);
        }
        let mut effects = self.start_what_can(now);
        for (place, waiting) in self.queue.iter().enumerate() {
            if fresh.contains(&waiting.job.run) {
                let ahead = u32::try_from(place + self.working.len()).unwrap_or(u32::MAX);
                let run = waiting.job.run.clone();
                effects.push(Effect::Queued { run, ahead });
            }
        }
        effects
    }

    fn end_queued(&mut self, over: impl Fn(&Job<W>) -> bool, outcome: &Outcome) -> Vec<Effect<W>> {
        let mut effects = Vec::new();
        self.queue.retain(|waiting| {
            let ends = over(&waiting.job);
            if ends {
                effects.push(Effect::End {
                    run: waiting.job.run.clone(),
                    outcome: outcome.clone(),
                });
            }
            !ends
        });
        effects
    }

    /// Starts the first runs in the queue whose task and repository are free.
    fn start_what_can(&mut self, now: Instant) -> Vec<Effect<W>> {
        let mut effects = Vec::new();
        while self.working.len() < self.policy.parallel.max(1) {
            let free = self.queue.iter().position(|Waiting { job, .. }| {
                let busy = |working: &Working<W>| {
                    job.repository.is_some() && working.repository == job.repository
                };
                let held = |dying: &Dying| {
                    dying.task == job.run.task
                        || (job.repository.is_some() && dying.repository == job.repository)
                };
                !self.working.contains_key(&job.run.task)
                    && !self.working.values().any(busy)
                    && !self.dying.iter().any(held)
            });
            let Some(Waiting { job, .. }) = free.and_then(|place| self.queue.remove(place)) else {
                break;
            };
            self.idle.retain(|(task, _)| *task != job.run.task);
            self.working.insert(
                job.run.task.clone(),
                Working {
                    run: job.run.clone(),
                    repository: job.repository,
                    heard: now,
                    asks_person: false,
                    gone: false,
                    stopping: None,
                    joining: VecDeque::new(),
                    ends_all: None,
                },
            );
            effects.push(Effect::Begin {
                run: job.run,
                work: job.work,
            });
        }
        effects
    }

    fn drained_now(&mut self) -> Option<Effect<W>> {
        let now = self.draining && !self.drained && self.working.is_empty();
        self.drained |= now;
        now.then_some(Effect::Drained)
    }
}

const BY_PERSON: Outcome = Outcome::Cancelled { by: Actor::Person };

/// Every provider's cancel ladder ends within 10 s (decision 13); two more for slow machines.
const GIVE_UP: Duration = Duration::from_secs(12);

/// A conversation that is dropped ends its processes within the same 10 s; until then nobody else
/// works where they do.
const DYING: Duration = Duration::from_secs(10);

/// More runs than anybody means to wait for; each keeps its prompt in memory.
const MOST_QUEUED: usize = 1000;
