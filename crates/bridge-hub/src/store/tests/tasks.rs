//! What is told of a task: how it stands, what waits for a person, in which order.

use super::*;

#[tokio::test]
async fn a_message_that_was_read_in_another_run_never_makes_the_task_look_ended() {
    let world = World::new().await;
    world.take(vec![event(run("t1", "r1"), 0, started())]).await;
    for attempt in ["r2", "r3"] {
        let record = run_record(run("t1", attempt), RunKind::FollowUp, at(2));
        world.store.add_run(record, None).await.unwrap();
    }
    let joined = || EventBody::Joined { into: "r1".into() };
    let taken = vec![
        event(run("t1", "r2"), 0, joined()),
        event(run("t1", "r2"), 0, joined()),
        event(run("t1", "r2"), 1, started()),
    ];
    let committed = world.take(taken).await;
    assert_eq!((committed.old, committed.refused), (2, 0), "one end each");
    let statuses =
        |view: TaskView| -> Vec<TaskStatus> { view.runs.iter().map(|run| run.status).collect() };
    assert_eq!(
        statuses(world.view("t1").await),
        [TaskStatus::Running, TaskStatus::Joined, TaskStatus::Queued]
    );
    world.take(vec![event(run("t1", "r3"), 0, joined())]).await;
    let view = world.view("t1").await;
    assert_eq!(view.summary.status, TaskStatus::Running);
    world
        .take(vec![event(run("t1", "r1"), 1, ended(Outcome::Completed))])
        .await;
    let view = world.view("t1").await;
    assert_eq!(view.summary.status, TaskStatus::Completed);
    assert_eq!(
        statuses(view)[1..],
        [TaskStatus::Joined, TaskStatus::Joined]
    );
}

#[tokio::test]
async fn open_questions_of_all_tasks_are_listed_until_they_are_closed() {
    let world = World::new().await;
    world.create("t2", 1).await;
    let raised = |task: &str, n, id: &str, answered: Option<&str>| {
        let asked = RunEvent::Ask(Ask {
            answered: answered.map(str::to_owned),
            ..ask(id)
        });
        event(run(task, "r1"), n, seen(asked))
    };
    world
        .take(vec![
            raised("t1", 0, "a", None),
            raised("t2", 0, "a", None),
            raised("t1", 1, "b", None),
        ])
        .await;
    let listed = async || -> Vec<(String, String, Option<String>)> {
        let asks = world.store.asks(10).await.unwrap().into_iter();
        asks.map(|open| {
            let (task, id) = (open.task.to_string(), open.ask.id.to_string());
            (task, id, open.ask.answered)
        })
        .collect()
    };
    let open = |task: &str, id: &str, answered: Option<&str>| {
        (task.to_owned(), id.to_owned(), answered.map(str::to_owned))
    };
    assert_eq!(
        listed().await,
        [
            open("t1", "a", None),
            open("t2", "a", None),
            open("t1", "b", None)
        ]
    );
    let status = async |id: &str| world.view(id).await.summary.status;
    // A question that is answered waits for the agent and for nobody else.
    world.take(vec![raised("t1", 2, "a", Some("Yes"))]).await;
    assert_eq!(
        status("t1").await,
        TaskStatus::Waiting,
        "the other one is open"
    );
    world.take(vec![raised("t1", 3, "b", Some("No"))]).await;
    assert_eq!(status("t1").await, TaskStatus::Running);
    assert_eq!(listed().await[0], open("t1", "a", Some("Yes")));
    let closed = RunEvent::AskClosed {
        ask: ask("a").id,
        how: AskEnd::Expired,
    };
    world
        .take(vec![event(run("t1", "r1"), 4, seen(closed))])
        .await;
    world
        .take(vec![event(run("t2", "r1"), 1, ended(Outcome::Completed))])
        .await;
    assert_eq!(listed().await, [open("t1", "b", Some("No"))]);
}

#[tokio::test]
async fn settings_are_taken_over_one_by_one() {
    let world = World::new().await;
    let tune = |mode: Option<&str>, effort: Option<&str>| Tuning {
        model: None,
        mode: mode.map(str::to_owned),
        effort: effort.map(str::to_owned),
    };
    for tuning in [tune(Some("plan"), None), tune(None, Some("high"))] {
        world.store.tune(&task("t1"), tuning, None).await.unwrap();
    }
    let expected = Tuning {
        model: Some("m".into()),
        ..tune(Some("plan"), Some("high"))
    };
    assert_eq!(world.view("t1").await.tuning, expected);
}

#[tokio::test]
async fn a_wish_to_cancel_is_kept_for_the_runs_there_were_and_no_later_one() {
    let world = World::new().await;
    world.store.want_cancel(&task("t1"), None).await.unwrap();
    let follow_up = run_record(run("t1", "r2"), RunKind::FollowUp, at(2));
    world.store.add_run(follow_up, None).await.unwrap();
    let world = world.reopen();
    let live = world.store.live_runs(&bridge("b1")).await.unwrap();
    let wishes: Vec<_> = live
        .iter()
        .map(|run| (run.key.attempt.as_str(), run.cancel))
        .collect();
    assert_eq!(wishes, [("r1", true), ("r2", false)]);
}

#[tokio::test]
async fn every_end_is_told_with_its_reason() {
    let world = World::new().await;
    let reason = || "no credit".to_owned();
    let cases = [
        (ended(Outcome::Completed), TaskStatus::Completed, None),
        (
            ended(Outcome::Failed {
                fault: Fault::Task,
                reason: reason(),
            }),
            TaskStatus::Failed,
            Some("no credit"),
        ),
        (
            ended(Outcome::Blocked {
                fix: Fix::Credit,
                reason: reason(),
            }),
            TaskStatus::Blocked,
            Some("no credit"),
        ),
        (
            ended(Outcome::Cancelled { by: Actor::Person }),
            TaskStatus::Cancelled,
            Some("cancelled by a person"),
        ),
        (
            EventBody::Rejected(Rejection::AgentNotFound),
            TaskStatus::Rejected,
            Some("the machine has no such agent"),
        ),
    ];
    for (index, (body, status, reason)) in cases.into_iter().enumerate() {
        let id = format!("end-{index}");
        world.create(&id, 0).await;
        world.take(vec![event(run(&id, "r1"), 0, body)]).await;
        let summary = world.view(&id).await.summary;
        assert_eq!(
            (summary.status, summary.reason.as_deref()),
            (status, reason)
        );
    }
}

#[tokio::test]
async fn a_question_makes_the_task_wait_until_it_is_closed() {
    let world = World::new().await;
    let key = run("t1", "r1");
    let closed = |id: &str| {
        let ask = AskId::parse(id).unwrap();
        seen(RunEvent::AskClosed {
            ask,
            how: AskEnd::Withdrawn,
        })
    };
    world
        .take(vec![
            event(key.clone(), 0, seen(RunEvent::Ask(ask("a1")))),
            event(key.clone(), 1, seen(RunEvent::Ask(ask("a2")))),
            event(key.clone(), 2, closed("a1")),
        ])
        .await;
    assert_eq!(world.view("t1").await.summary.status, TaskStatus::Waiting);
    let open = world
        .store
        .open_ask(&task("t1"), &ask("a1").id)
        .await
        .unwrap();
    assert_eq!(open, None);
    world.take(vec![event(key.clone(), 3, closed("a2"))]).await;
    assert_eq!(world.view("t1").await.summary.status, TaskStatus::Running);
    world
        .take(vec![
            event(key.clone(), 4, seen(RunEvent::Ask(ask("a3")))),
            event(key, 5, ended(Outcome::Completed)),
        ])
        .await;
    assert_eq!(world.view("t1").await.open_asks, []);
}

#[tokio::test]
async fn a_follow_up_makes_the_task_live_again_and_counts_on() {
    let world = World::new().await;
    world
        .take(vec![event(run("t1", "r1"), 0, ended(Outcome::Completed))])
        .await;
    let second = run_record(run("t1", "r2"), RunKind::FollowUp, at(5));
    world.store.add_run(second, None).await.unwrap();
    assert_eq!(world.view("t1").await.summary.status, TaskStatus::Queued);
    world.take(vec![event(run("t1", "r2"), 0, started())]).await;
    assert_eq!(world.view("t1").await.summary.status, TaskStatus::Running);
    let lost = Outcome::Failed {
        fault: Fault::Bridge,
        reason: "lost".into(),
    };
    assert_eq!(
        world
            .store
            .end_run(&run("t1", "r2"), lost, at(6))
            .await
            .unwrap(),
        Some(3)
    );
    let view = world.view("t1").await;
    assert_eq!(view.summary.status, TaskStatus::Failed);
    assert_eq!(view.runs.len(), 2);
    assert_eq!(view.runs[0].status, TaskStatus::Completed);
}

#[tokio::test]
async fn pages_of_tasks_go_back_in_time_without_gaps() {
    let world = World::new().await;
    for id in ["t2", "t3", "t4"] {
        world.create(id, 1).await;
    }
    let ids = |tasks: Vec<TaskSummary>| {
        tasks
            .into_iter()
            .map(|task| task.id.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        ids(world.store.tasks(3, None).await.unwrap()),
        ["t4", "t3", "t2"]
    );
    assert_eq!(
        ids(world.store.tasks(3, Some(task("t2"))).await.unwrap()),
        ["t1"]
    );
    assert_eq!(
        ids(world.store.tasks(3, Some(task("none"))).await.unwrap()),
        [""; 0]
    );
}
