//! Promises of the table of runs.

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
        message: None,
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

fn interrupt(task: &str, extent: Extent) -> Effect<()> {
    Effect::Interrupt {
        task: TaskId::parse(task).unwrap(),
        extent,
    }
}

fn queued(task: &str, attempt: &str, ahead: u32) -> Effect<()> {
    Effect::Queued {
        run: key(task, attempt),
        ahead,
    }
}

/// A follow-up that shall be read at once.
fn message(task: &str, attempt: &str) -> Job<()> {
    Job {
        message: Some("psst".into()),
        ..job(task, attempt)
    }
}

fn inject(task: &str, attempt: &str, into: &str) -> Effect<()> {
    Effect::Inject {
        run: key(task, attempt),
        into: key(task, into),
        text: "psst".into(),
    }
}

fn joined(task: &str, attempt: &str, into: &str) -> Effect<()> {
    Effect::Joined {
        run: key(task, attempt),
        into: key(task, into),
    }
}

fn end(task: &str, attempt: &str, outcome: Outcome) -> Effect<()> {
    Effect::End {
        run: key(task, attempt),
        outcome,
    }
}

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
        [interrupt("a", Extent::Conversation)]
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
fn a_run_that_is_given_up_fails_unless_a_person_cancels_it() {
    let outcome = || Outcome::Failed {
        fault: Fault::Model,
        reason: "the model did not answer".into(),
    };
    let (mut table, now) = table();
    let run = key("a", "1");
    let interrupt = || [interrupt("a", Extent::Conversation)];
    table.submit(now, job("a", "1"));
    assert_eq!(
        table.give_up(now, &key("a", "0"), outcome()),
        [],
        "an earlier run of the task"
    );
    assert_eq!(table.give_up(now, &run, outcome()), interrupt());
    let over = table.turn_over(now, &run, Outcome::Completed);
    assert_eq!(over, [end("a", "1", outcome())]);

    for cancel_first in [true, false] {
        table.submit(now, job("a", "1"));
        let mut effects = Vec::new();
        if cancel_first {
            effects.extend(table.cancel(now, &run.task));
            effects.extend(table.give_up(now, &run, outcome()));
        } else {
            effects.extend(table.give_up(now, &run, outcome()));
            effects.extend(table.cancel(now, &run.task));
        }
        assert_eq!(effects, interrupt(), "one interrupt is enough");
        let over = table.turn_over(now, &run, outcome());
        assert_eq!(over, [end("a", "1", BY_PERSON)]);
    }
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
    assert_eq!(table.deadline(), Some(now + GIVE_UP + DYING));
    assert_eq!(table.on_timeout(now + GIVE_UP + DYING), []);
    assert_eq!(table.deadline(), None);
}

#[test]
fn nobody_works_where_the_processes_of_an_abandoned_run_are_still_ending() {
    let (mut table, now) = table();
    table.submit(now, in_repository("a", "/r"));
    let late = now + GIVE_UP;
    table.cancel(now, &key("a", "1").task);
    table.on_timeout(late);
    assert_eq!(
        table.submit(late, in_repository("b", "/r")),
        [queued("b", "1", 0)]
    );
    assert_eq!(table.submit(late, job("a", "2")), [queued("a", "2", 1)]);
    assert_eq!(
        table.submit(late, in_repository("c", "/other")),
        [begin("c", "1")],
        "other places are free"
    );
    assert_eq!(table.deadline(), Some(late + DYING));
    assert_eq!(
        table.on_timeout(late + DYING),
        [begin("b", "1")],
        "two at a time"
    );
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
        [interrupt("a", Extent::Conversation)]
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
            interrupt("a", Extent::Conversation),
            interrupt("b", Extent::Conversation),
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
        let mut submitted = BTreeSet::new();
        let mut world = World {
            seed,
            ..World::default()
        };
        for step in 0..60_u64 {
            now += Duration::from_secs(roll(400));
            let effects = match roll(8) {
                kind @ 0..=2 => {
                    let run = key(&format!("t{}", roll(5)), &step.to_string());
                    submitted.insert(run.clone());
                    let repository = (roll(2) == 0).then(|| PathBuf::from("/r"));
                    let message = (kind == 2).then(|| "psst".to_owned());
                    let job = Job {
                        run,
                        repository,
                        message,
                        work: (),
                    };
                    table.submit(now, job)
                }
                3 => table.cancel(now, &key(&format!("t{}", roll(5)), "").task),
                4 => table.interrupt(now, &key(&format!("t{}", roll(5)), "").task),
                5 if !world.working.is_empty() => {
                    let at = usize::try_from(roll(world.working.len() as u64)).unwrap();
                    table.turn_over(now, &world.working[at].clone(), Outcome::Completed)
                }
                6 if !world.underway.is_empty() => {
                    let at = usize::try_from(roll(world.underway.len() as u64)).unwrap();
                    let (run, into) = world.underway.remove(at);
                    // An agent can read a message only while the turn goes on.
                    let taken = roll(2) == 0 && world.working.contains(&into);
                    if taken {
                        world.read.insert(run.clone());
                    }
                    table.injected(now, &run, taken)
                }
                _ => table.on_timeout(now),
            };
            world.follow(effects);
            assert!(world.working.len() <= 2, "seed {seed}");
        }
        world.follow(table.drain(now));
        let effects = table.on_timeout(now + GIVE_UP);
        let drained = effects.contains(&Effect::Drained);
        world.follow(effects);
        assert!(world.working.is_empty() || drained, "seed {seed}");
        assert_eq!(submitted, world.ended, "seed {seed}");
    }
}

/// What the effects lead to, as an agent and a hub would see it.
#[derive(Debug, Default)]
struct World {
    seed: u64,
    working: Vec<RunKey>,
    ended: BTreeSet<RunKey>,
    /// Messages on their way, and where to.
    underway: Vec<(RunKey, RunKey)>,
    /// Messages an agent read in the turn at work.
    read: BTreeSet<RunKey>,
}

impl World {
    fn follow(&mut self, effects: Vec<Effect<()>>) {
        let seed = self.seed;
        for effect in effects {
            match effect {
                Effect::Begin { run, .. } => {
                    assert!(!self.read.contains(&run), "seed {seed}: said twice");
                    self.working.push(run);
                }
                Effect::End { run, .. } => {
                    self.working.retain(|other| *other != run);
                    assert!(
                        !self.read.contains(&run),
                        "seed {seed}: read, but not joined"
                    );
                    assert!(self.ended.insert(run), "seed {seed}: ended twice");
                }
                Effect::Inject { run, into, .. } => {
                    assert!(self.working.contains(&into), "seed {seed}: into nothing");
                    self.underway.push((run, into));
                }
                Effect::Joined { run, .. } => {
                    assert!(self.read.contains(&run), "seed {seed}: nobody read it");
                    assert!(self.ended.insert(run), "seed {seed}: ended twice");
                }
                Effect::Queued { run, .. } => {
                    assert!(
                        !self.read.contains(&run),
                        "seed {seed}: waits though it was read"
                    );
                }
                Effect::Interrupt { .. }
                | Effect::Abandon { .. }
                | Effect::CloseIdle { .. }
                | Effect::Drained => {}
            }
        }
    }
}

#[test]
fn a_message_that_the_turn_read_is_no_run_of_its_own() {
    let (mut table, now) = table();
    table.submit(now, job("a", "1"));
    assert_eq!(
        table.submit(now, message("a", "2")),
        [inject("a", "2", "1")]
    );
    assert!(table.knows(&key("a", "2")));
    assert_eq!(table.submit(now, message("a", "2")), [], "asked for again");
    let run = key("a", "2");
    assert_eq!(table.injected(now, &run, true), [joined("a", "2", "1")]);
    assert_eq!(table.injected(now, &run, false), [], "said once");
    let over = table.turn_over(now, &key("a", "1"), Outcome::Completed);
    assert_eq!(over, [end("a", "1", Outcome::Completed)]);
}

#[test]
fn a_message_without_a_turn_to_be_read_in_is_a_follow_up() {
    let (mut table, now) = table();
    assert_eq!(
        table.submit(now, message("a", "1")),
        [begin("a", "1")],
        "nothing works"
    );
    table.interrupt(now, &key("a", "1").task);
    assert_eq!(
        table.submit(now, message("a", "2")),
        [queued("a", "2", 1)],
        "the turn is being stopped"
    );
}

#[test]
fn a_refused_message_waits_where_it_would_have_waited_from_the_beginning() {
    let (mut table, now) = table();
    table.submit(now, job("a", "1"));
    table.submit(now, message("a", "2"));
    table.submit(now, job("a", "3"));
    assert_eq!(
        table.injected(now, &key("a", "2"), false),
        [queued("a", "2", 1)]
    );
    let over = table.turn_over(now, &key("a", "1"), Outcome::Completed);
    assert_eq!(over, [end("a", "1", Outcome::Completed), begin("a", "2")]);
}

#[test]
fn a_turn_that_ends_first_leaves_the_message_to_a_run_of_its_own_and_late_words_change_nothing() {
    let (mut table, now) = table();
    table.submit(now, job("a", "1"));
    table.submit(now, message("a", "2"));
    table.submit(now, message("a", "3"));
    let over = table.turn_over(now, &key("a", "1"), Outcome::Completed);
    assert_eq!(
        over,
        [
            end("a", "1", Outcome::Completed),
            begin("a", "2"),
            queued("a", "3", 1)
        ]
    );
    for (late, taken) in [("2", true), ("3", false)] {
        assert_eq!(table.injected(now, &key("a", late), taken), [], "{late}");
    }
}

#[test]
fn a_cancel_ends_what_was_not_read_and_an_interrupt_lets_it_wait() {
    let task = key("a", "1").task;
    for cancel in [true, false] {
        for answered in [true, false] {
            let (mut table, now) = table();
            table.submit(now, job("a", "1"));
            table.submit(now, message("a", "2"));
            let extent = if cancel {
                table.cancel(now, &task);
                Extent::Conversation
            } else {
                table.interrupt(now, &task);
                Extent::Turn
            };
            let mut effects = Vec::new();
            if answered {
                effects.extend(table.injected(now, &key("a", "2"), false));
            }
            effects.extend(table.turn_over(now, &key("a", "1"), Outcome::Completed));
            let last = effects.last().cloned();
            let expected = match (extent, answered) {
                (Extent::Conversation, true) => end("a", "1", BY_PERSON),
                (Extent::Conversation, false) => end("a", "2", BY_PERSON),
                (Extent::Turn, _) => begin("a", "2"),
            };
            assert_eq!(last, Some(expected), "{effects:?}");
            let ends_it = effects.contains(&end("a", "2", BY_PERSON));
            assert_eq!(ends_it, cancel, "{effects:?}");
        }
    }
}

#[test]
fn an_interrupt_that_becomes_a_cancel_ends_the_conversation_too() {
    let (mut table, now) = table();
    table.submit(now, job("a", "1"));
    let task = key("a", "1").task;
    assert_eq!(table.interrupt(now, &task), [interrupt("a", Extent::Turn)]);
    assert_eq!(table.interrupt(now, &task), []);
    assert_eq!(
        table.cancel(now, &task),
        [interrupt("a", Extent::Conversation)]
    );
    assert_eq!(table.interrupt(now, &task), []);
    let over = table.turn_over(now, &key("a", "1"), Outcome::Completed);
    assert_eq!(over, [end("a", "1", BY_PERSON)]);
}

#[test]
fn an_interrupt_stops_the_turn_and_what_waits_for_the_task_goes_on() {
    let (mut table, now) = table();
    table.submit(now, job("a", "1"));
    table.submit(now, job("a", "2"));
    let task = key("a", "1").task;
    assert_eq!(table.interrupt(now, &task), [interrupt("a", Extent::Turn)]);
    let over = table.turn_over(now, &key("a", "1"), Outcome::Completed);
    assert_eq!(over, [end("a", "1", BY_PERSON), begin("a", "2")]);
    assert_eq!(
        table.interrupt(now, &key("b", "1").task),
        [],
        "nothing works there"
    );
}

#[test]
fn the_queue_has_an_end_and_a_run_beyond_it_is_told_so() {
    let (mut table, now) = table();
    for n in 0..MOST_QUEUED + 2 {
        table.submit(now, job(&format!("t{n}"), "1"));
    }
    let effects = table.submit(now, job("late", "1"));
    assert!(
        matches!(&effects[..], [Effect::End { run, outcome: Outcome::Failed { .. } }] if *run == key("late", "1")),
        "{effects:?}"
    );
    assert!(!table.knows(&key("late", "1")));
}
