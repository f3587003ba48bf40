//! Which events are taken: each once, of the right machine, up to the end of its run.

use super::*;

#[tokio::test]
async fn an_event_that_comes_twice_is_kept_once() {
    let world = World::new().await;
    let key = run("t1", "r1");
    let twice = vec![
        event(key.clone(), 0, started()),
        event(key.clone(), 1, text("a")),
    ];
    world.take(twice.clone()).await;
    let again = world.take(twice).await;
    assert_eq!(
        again,
        Committed {
            old: 2,
            ..Committed::default()
        }
    );
    let mixed = vec![event(key.clone(), 1, text("a")), event(key, 2, text("b"))];
    let committed = world.take(mixed).await;
    assert_eq!((committed.tasks, committed.old), (vec![(task("t1"), 3)], 1));
}

#[tokio::test]
async fn an_event_that_counts_beyond_all_measure_leaves_room_for_the_end() {
    let world = World::new().await;
    let run = run("t1", "r1");
    let event = |n| Event {
        run: run.clone(),
        n,
        at: at(1),
        body: EventBody::Started { conversation: None },
    };
    for n in [u64::MAX, i64::MAX as u64, (1 << 62) + 1] {
        assert_eq!(world.take(vec![event(n)]).await.old, 1, "{n}");
    }
    assert_eq!(world.take(vec![event(1 << 62)]).await.old, 0);
    let outcome = Outcome::Completed;
    let ended = world.store.end_run(&run, outcome, at(2)).await.unwrap();
    assert!(ended.is_some());
}

#[tokio::test]
async fn after_the_end_of_a_run_nothing_more_is_taken_for_it() {
    let world = World::new().await;
    let key = run("t1", "r1");
    world
        .take(vec![event(key.clone(), 0, ended(Outcome::Completed))])
        .await;
    let failed = Outcome::Failed {
        fault: Fault::Agent,
        reason: "late".into(),
    };
    let late = vec![
        event(key.clone(), 1, text("x")),
        event(key.clone(), 2, ended(failed.clone())),
    ];
    assert_eq!(world.take(late).await.old, 2);
    assert_eq!(
        world.store.end_run(&key, failed, at(2)).await.unwrap(),
        None
    );
    let view = world.view("t1").await;
    assert_eq!(
        (view.summary.status, view.last_seq),
        (TaskStatus::Completed, 1)
    );
}

#[tokio::test]
async fn events_of_other_machines_tasks_and_of_unknown_runs_are_refused() {
    let world = World::new().await;
    let theirs = vec![event(run("t1", "r1"), 0, text("forged"))];
    let committed = world
        .store
        .append(&bridge("b2"), theirs.into(), None, at(1))
        .await
        .unwrap();
    assert_eq!(
        committed,
        Committed {
            refused: 1,
            ..Committed::default()
        }
    );
    let unknown = vec![
        event(run("t1", "other"), 0, text("x")),
        event(run("none", "r1"), 0, text("x")),
        event(run("t1", "r1"), u64::MAX, text("x")),
    ];
    let committed = world.take(unknown).await;
    assert_eq!((committed.refused, committed.old), (2, 1));
    assert_eq!(world.view("t1").await.last_seq, 0);
}

#[tokio::test]
async fn events_of_dropped_tasks_are_told_from_those_of_unknown_runs() {
    let world = World::new().await;
    let events = vec![
        event(run("drop-0123456789ab", "1"), 0, text("x")),
        event(run("none", "r1"), 0, text("x")),
        event(run("drop-0123456789ab", "1"), 1, ended(Outcome::Completed)),
    ];
    let wanted = Committed {
        refused: 1,
        dropped: 2,
        ..Committed::default()
    };
    assert_eq!(world.take(events).await, wanted);
}

#[tokio::test]
async fn a_machine_cannot_tell_the_end_of_another_machines_task() {
    let world = World::new().await;
    let status = world.view("t1").await.summary.status;
    for (n, position) in [(0, None), (1_000_000, Some(Position::default()))] {
        let end = vec![event(run("t1", "r1"), n, ended(Outcome::Completed))];
        let committed = world
            .store
            .append(&bridge("b2"), end.into(), position, at(1))
            .await
            .unwrap();
        assert_eq!((committed.refused, committed.tasks.len()), (1, 0));
        assert!(!committed.listed, "nobody hears of it");
    }
    assert_eq!(world.view("t1").await.summary.status, status);
    // The run is still open, from its first event on.
    let own = vec![
        event(run("t1", "r1"), 0, text("on it")),
        event(run("t1", "r1"), 1, ended(Outcome::Completed)),
    ];
    let committed = world.take(own).await;
    assert_eq!((committed.old, committed.tasks.len()), (0, 1));
    assert_eq!(world.view("t1").await.summary.status, TaskStatus::Completed);
}
