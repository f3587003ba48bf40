//! Which run may work when: a pure machine over the table of runs.
//!
//! ```text
//!  submit ──► queued ──► working ──► ended          a run, exactly one end each
//!                │          │ cancel, silence: interrupt, then 12 s, then abandoned
//!                └─ cancel ─┴──► ended
//!
//!  a task's conversation:  working ──► idle (5 min, at most 4) ──► closed
//! ```
//!
//! Contract: one call, then carry out the effects it returned in order, then wait for the next
//! input or for [`Dispatch::deadline`] and call [`Dispatch::on_timeout`]. `W` is what is needed
//! to do the work; the machine never looks into it.

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
    /// Ask the conversation to end its turn.
    Interrupt {
        /// Whose conversation.
        task: TaskId,
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

/// The table of runs.
#[derive(Debug)]
pub struct Dispatch<W> {
    policy: Policy,
    queue: VecDeque<Job<W>>,
    working: BTreeMap<TaskId, Working>,
    idle: VecDeque<(TaskId, Instant)>,
    draining: bool,
    drained: bool,
}

#[derive(Debug)]
struct Working {
    run: RunKey,
    repository: Option<PathBuf>,
    heard: Instant,
    asks_person: bool,
    gone: bool,
    stopping: Option<Stopping>,
}

#[derive(Debug, Clone)]
struct Stopping {
    outcome: Outcome,
    give_up: Instant,
}

impl<W> Dispatch<W> {
    /// An empty table.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            queue: VecDeque::new(),
            working: BTreeMap::new(),
            idle: VecDeque::new(),
            draining: false,
            drained: false,
        }
    }

    /// Whether this run is queued or at work now.
    pub fn knows(&self, run: &RunKey) -> bool {
        self.queue.iter().any(|job| job.run == *run)
            || self.working.values().any(|working| working.run == *run)
    }

    /// Whether a run of this task is at work.
    pub fn is_working(&self, task: &TaskId) -> bool {
        self.working.contains_key(task)
    }

    /// Whether this task's conversation is at work or kept for a follow-up.
    pub fn keeps(&self, task: &TaskId) -> bool {
        self.is_working(task) || self.idle.iter().any(|(idle, _)| idle == task)
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
        let run = job.run.clone();
        self.queue.push_back(job);
        let mut effects = self.start_what_can(now);
        if let Some(place) = self.queue.iter().position(|job| job.run == run) {
            let ahead = u32::try_from(place + self.working.len()).unwrap_or(u32::MAX);
            effects.push(Effect::Queued { run, ahead });
        }
        effects
    }

    /// Stops everything of a task, on a person's word.
    pub fn cancel(&mut self, now: Instant, task: &TaskId) -> Vec<Effect<W>> {
        let outcome = Outcome::Cancelled { by: Actor::Person };
        let mut effects = self.end_queued(|job| job.run.task == *task, &outcome);
        effects.extend(self.stop(now, task, outcome));
        effects
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
        let gone = working.gone;
        let outcome = working
            .stopping
            .as_ref()
            .map_or(outcome, |stop| stop.outcome.clone());
        self.working.remove(&run.task);
        let mut effects = vec![Effect::End {
            run: run.clone(),
            outcome,
        }];
        if !gone {
            self.idle
                .push_back((run.task.clone(), now + self.policy.idle));
            while self.idle.len() > self.policy.idle_processes {
                if let Some((task, _)) = self.idle.pop_front() {
                    effects.push(Effect::CloseIdle { task });
                }
            }
        }
        effects.extend(self.start_what_can(now));
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
            effects.extend(self.stop(now, &task, outcome.clone()));
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
            effects.extend(self.stop(now, &task, outcome));
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
        stops.chain(silences).chain(idles).min()
    }

    fn silent_at(&self, working: &Working) -> Option<Instant> {
        let quiet = working.stopping.is_none() && !working.asks_person;
        quiet.then(|| working.heard + self.policy.silence)
    }

    fn stop(&mut self, now: Instant, task: &TaskId, outcome: Outcome) -> Vec<Effect<W>> {
        match self.working.get_mut(task) {
            Some(working) if working.stopping.is_none() => {
                working.stopping = Some(Stopping {
                    outcome,
                    give_up: now + GIVE_UP,
                });
                vec![Effect::Interrupt { task: task.clone() }]
            }
            Some(_) | None => Vec::new(),
        }
    }

    fn end_queued(&mut self, over: impl Fn(&Job<W>) -> bool, outcome: &Outcome) -> Vec<Effect<W>> {
        let mut effects = Vec::new();
        self.queue.retain(|job| {
            let ends = over(job);
            if ends {
                effects.push(Effect::End {
                    run: job.run.clone(),
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
            let free = self.queue.iter().position(|job| {
                let busy = |working: &Working| {
                    job.repository.is_some() && working.repository == job.repository
                };
                !self.working.contains_key(&job.run.task) && !self.working.values().any(busy)
            });
            let Some(job) = free.and_then(|place| self.queue.remove(place)) else {
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

/// Every provider's cancel ladder ends within 10 s (decision 13); two more for slow machines.
const GIVE_UP: Duration = Duration::from_secs(12);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn key(task: &str, attempt: &str) -> RunKey {
        RunKey {
            task: TaskId::parse(task).unwrap(),
            attempt: attempt.into(),
        }
    }

    fn job(task: &str, attempt: &str) -> Job<()> {
        Job {
            run: key(task, attempt),
            repository: None,
            work: (),
        }
    }

    fn in_repository(task: &str, repository: &str) -> Job<()> {
        Job {
            repository: Some(repository.into()),
            ..job(task, "1")
        }
    }

    fn begin(task: &str, attempt: &str) -> Effect<()> {
        Effect::Begin {
            run: key(task, attempt),
            work: (),
        }
    }

    fn end(task: &str, attempt: &str, outcome: Outcome) -> Effect<()> {
        Effect::End {
            run: key(task, attempt),
            outcome,
        }
    }

    const BY_PERSON: Outcome = Outcome::Cancelled { by: Actor::Person };

    fn table() -> (Dispatch<()>, Instant) {
        (
            Dispatch::new(Policy {
                parallel: 2,
                ..Policy::default()
            }),
            Instant::now(),
        )
    }

    #[test]
    fn beyond_the_limit_runs_wait_and_start_first_in_first_out() {
        let (mut table, now) = table();
        assert_eq!(table.submit(now, job("a", "1")), [begin("a", "1")]);
        assert_eq!(table.submit(now, job("b", "1")), [begin("b", "1")]);
        assert_eq!(
            table.submit(now, job("c", "1")),
            [Effect::Queued {
                run: key("c", "1"),
                ahead: 2
            }]
        );
        assert_eq!(
            table.submit(now, job("d", "1")),
            [Effect::Queued {
                run: key("d", "1"),
                ahead: 3
            }]
        );
        assert_eq!(
            table.turn_over(now, &key("b", "1"), Outcome::Completed),
            [end("b", "1", Outcome::Completed), begin("c", "1")]
        );
    }

    #[test]
    fn the_same_run_is_never_started_twice() {
        let (mut table, now) = table();
        table.submit(now, job("a", "1"));
        assert_eq!(table.submit(now, job("a", "1")), []);
        assert_eq!(
            table.submit(now, job("a", "2")),
            [Effect::Queued {
                run: key("a", "2"),
                ahead: 1
            }],
            "a new request for the task is a run of its own, after the first"
        );
    }

    #[test]
    fn a_repository_has_one_writer_and_does_not_hold_up_others() {
        let (mut table, now) = table();
        table.submit(now, in_repository("a", "/r"));
        let waits = table.submit(now, in_repository("b", "/r"));
        assert_eq!(
            waits,
            [Effect::Queued {
                run: key("b", "1"),
                ahead: 1
            }]
        );
        assert_eq!(
            table.submit(now, in_repository("c", "/s")),
            [begin("c", "1")]
        );
        let next = table.turn_over(now, &key("a", "1"), Outcome::Completed);
        assert_eq!(next, [end("a", "1", Outcome::Completed), begin("b", "1")]);
    }

    #[test]
    fn a_cancelled_run_is_cancelled_whatever_the_agent_answers() {
        let (mut table, now) = table();
        table.submit(now, job("a", "1"));
        let task = key("a", "1").task;
        assert_eq!(
            table.cancel(now, &task),
            [Effect::Interrupt { task: task.clone() }]
        );
        assert_eq!(
            table.cancel(now, &task),
            [],
            "a second cancel changes nothing"
        );
        assert_eq!(
            table.turn_over(now, &key("a", "1"), Outcome::Completed),
            [end("a", "1", BY_PERSON)]
        );
        assert_eq!(
            table.turn_over(now, &key("a", "1"), Outcome::Completed),
            [],
            "one end only"
        );
    }

    #[test]
    fn a_run_can_be_cancelled_while_it_waits() {
        let (mut table, now) = table();
        for task in ["a", "b", "c"] {
            table.submit(now, job(task, "1"));
        }
        assert_eq!(
            table.cancel(now, &key("c", "1").task),
            [end("c", "1", BY_PERSON)]
        );
    }

    #[test]
    fn a_conversation_that_ignores_a_cancel_is_abandoned() {
        let (mut table, now) = table();
        table.submit(now, job("a", "1"));
        let task = key("a", "1").task;
        table.cancel(now, &task);
        assert_eq!(table.deadline(), Some(now + GIVE_UP));
        assert_eq!(
            table.on_timeout(now + GIVE_UP),
            [Effect::Abandon { task }, end("a", "1", BY_PERSON)]
        );
        assert_eq!(table.deadline(), None);
    }

    #[test]
    fn silence_blocks_a_run_unless_a_person_is_asked() {
        let (mut table, now) = table();
        let (silence, run) = (Policy::default().silence, key("a", "1"));
        table.submit(now, job("a", "1"));
        table.asks_person(now, &run, true);
        assert_eq!(table.on_timeout(now + silence * 2), []);
        let later = now + silence * 2;
        table.asks_person(later, &run, false);
        assert_eq!(
            table.on_timeout(later + silence),
            [Effect::Interrupt {
                task: run.task.clone()
            }]
        );
        let outcome = Outcome::Blocked {
            fix: Fix::Limit,
            reason: "Task timed out after 30 minutes".into(),
        };
        assert_eq!(
            table.turn_over(later + silence, &run, Outcome::Completed),
            [end("a", "1", outcome)]
        );
    }

    #[test]
    fn idle_conversations_are_few_and_short_lived() {
        let now = Instant::now();
        let mut table = Dispatch::new(Policy {
            idle_processes: 1,
            ..Policy::default()
        });
        for task in ["a", "b"] {
            table.submit(now, job(task, "1"));
        }
        table.turn_over(now, &key("a", "1"), Outcome::Completed);
        assert_eq!(
            table.turn_over(now, &key("b", "1"), Outcome::Completed),
            [
                end("b", "1", Outcome::Completed),
                Effect::CloseIdle {
                    task: key("a", "1").task
                }
            ]
        );
        let due = now + Policy::default().idle;
        assert_eq!(
            table.on_timeout(due),
            [Effect::CloseIdle {
                task: key("b", "1").task
            }]
        );
    }

    #[test]
    fn a_follow_up_keeps_the_idle_conversation_from_being_closed() {
        let (mut table, now) = table();
        table.submit(now, job("a", "1"));
        table.turn_over(now, &key("a", "1"), Outcome::Completed);
        table.submit(now, job("a", "2"));
        assert_eq!(table.on_timeout(now + Policy::default().idle), []);
    }

    #[test]
    fn draining_ends_everything_and_says_so_once() {
        let (mut table, now) = table();
        for task in ["a", "b", "c"] {
            table.submit(now, job(task, "1"));
        }
        let by_shutdown = Outcome::Cancelled {
            by: Actor::Shutdown,
        };
        assert_eq!(
            table.drain(now),
            [
                end("c", "1", by_shutdown.clone()),
                Effect::Interrupt {
                    task: key("a", "1").task
                },
                Effect::Interrupt {
                    task: key("b", "1").task
                },
            ]
        );
        table.turn_over(now, &key("a", "1"), Outcome::Completed);
        assert_eq!(
            table.turn_over(now, &key("b", "1"), Outcome::Completed),
            [end("b", "1", by_shutdown), Effect::Drained]
        );
        assert!(matches!(
            &table.submit(now, job("d", "1"))[..],
            [Effect::End { .. }]
        ));
    }

    /// Whatever the order of inputs, every accepted run ends exactly once.
    #[test]
    fn every_accepted_run_ends_exactly_once_in_random_histories() {
        for seed in 0..500_u64 {
            let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
            let mut roll = move |sides: u64| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state % sides
            };
            let start = Instant::now();
            let mut now = start;
            let mut table = Dispatch::new(Policy {
                parallel: 2,
                ..Policy::default()
            });
            let (mut submitted, mut ended) = (BTreeSet::new(), BTreeSet::new());
            let mut working: Vec<RunKey> = Vec::new();
            for step in 0..60_u64 {
                now += Duration::from_secs(roll(400));
                let effects = match roll(5) {
                    0 | 1 => {
                        let repository = (roll(2) == 0).then(|| PathBuf::from("/r"));
                        let run = key(&format!("t{}", roll(5)), &step.to_string());
                        submitted.insert(run.clone());
                        table.submit(
                            now,
                            Job {
                                run,
                                repository,
                                work: (),
                            },
                        )
                    }
                    2 => table.cancel(now, &key(&format!("t{}", roll(5)), "").task),
                    3 if !working.is_empty() => {
                        let at = usize::try_from(roll(working.len() as u64)).unwrap();
                        table.turn_over(now, &working[at].clone(), Outcome::Completed)
                    }
                    _ => table.on_timeout(now),
                };
                follow(effects, &mut working, &mut ended, seed);
                assert!(working.len() <= 2, "seed {seed}");
            }
            follow(table.drain(now), &mut working, &mut ended, seed);
            let effects = table.on_timeout(now + GIVE_UP);
            let drained = effects.contains(&Effect::Drained);
            follow(effects, &mut working, &mut ended, seed);
            assert!(working.is_empty() || drained, "seed {seed}");
            assert_eq!(submitted.len(), ended.len(), "seed {seed}");
        }
    }

    fn follow(
        effects: Vec<Effect<()>>,
        working: &mut Vec<RunKey>,
        ended: &mut BTreeSet<RunKey>,
        seed: u64,
    ) {
        for effect in effects {
            match effect {
                Effect::Begin { run, .. } => working.push(run),
                Effect::End { run, .. } => {
                    working.retain(|other| *other != run);
                    assert!(ended.insert(run), "seed {seed}: ended twice");
                }
                Effect::Queued { .. }
                | Effect::Interrupt { .. }
                | Effect::Abandon { .. }
                | Effect::CloseIdle { .. }
                | Effect::Drained => {}
            }
        }
    }
}
