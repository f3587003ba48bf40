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
fn a_run_that_is_given_up_fails_unless_a_person_cancels_it() {
    let outcome = || Outcome::Failed {
        fault: Fault::Model,
        reason: "the model did not answer".into(),
    };
    let (mut table, now) = table();
    let run = key("a", "1");
    let interrupt = || {
        [Effect::Interrupt {
            task: run.task.clone(),
        }]
    };
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
