//! Server-sent events: no loss, no doubles, whatever happens to the reader.

use std::time::Duration;

use bridge_hub::TaskStatus;
use bridge_proto::model::When;
use serde_json::{Value, json};

use crate::support::{Sse, World, soon};

#[tokio::test]
async fn a_stream_resumes_where_the_reader_was_without_loss_or_doubles() {
    let world = World::new().await;
    let mut bridge = world.bridge(true).await;
    let run = world.task(&mut bridge).await;
    let path = format!("/api/v1/tasks/{}/events", run.task);

    let mut stream = Sse::open(&world, &path, None).await;
    for n in 0..5 {
        bridge.say(&run.text(n, "x")).await;
    }
    let mut ids = stream.ids(3).await;
    drop(stream);
    // More happens while nobody listens, some of it twice.
    for n in 3..8 {
        bridge.say(&run.text(n, "x")).await;
    }
    let mut stream = Sse::open(&world, &path, ids.last().copied()).await;
    ids.extend(stream.ids(5).await);
    bridge.say(&run.completed(8)).await;
    let (id, data) = stream.next().await.unwrap();
    ids.extend(id);
    assert_eq!(ids, (1..=9).collect::<Vec<u64>>());
    let data: Value = serde_json::from_str(&data).unwrap();
    assert_eq!(data["seq"], 9);
    assert_eq!(data["event"]["body"]["outcome"]["status"], "completed");

    // It goes on after the end, because a follow-up may come.
    world
        .hub()
        .follow_up(&run.task, "more", Vec::new(), When::After)
        .await
        .unwrap();
    let attempt = bridge.expect("followup").await["requestId"]
        .as_str()
        .unwrap()
        .to_owned();
    let second = crate::support::Run {
        task: run.task.clone(),
        attempt,
    };
    bridge.say(&second.text(0, "y")).await;
    assert_eq!(stream.ids(1).await, [10]);
}

#[tokio::test]
async fn the_header_of_a_reconnecting_browser_wins_over_the_address() {
    let world = World::new().await;
    let mut bridge = world.bridge(true).await;
    let run = world.task(&mut bridge).await;
    for n in 0..4 {
        bridge.say(&run.text(n, "x")).await;
    }
    world.events(&run.task, 4).await;
    let path = format!("/api/v1/tasks/{}/events?after=1", run.task);
    assert_eq!(Sse::open(&world, &path, None).await.ids(3).await, [2, 3, 4]);
    assert_eq!(Sse::open(&world, &path, Some(3)).await.ids(1).await, [4]);
    let page = format!("/api/v1/tasks/{}/events/page?after=1&limit=2", run.task);
    let page = world.get(&page).await.json();
    let seqs: Vec<_> = page["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["seq"])
        .collect();
    assert_eq!(seqs, [2, 3]);
}

#[tokio::test]
async fn a_reader_that_sleeps_holds_nobody_up() {
    let world = World::new().await;
    let mut bridge = world.bridge(true).await;
    let run = world.task(&mut bridge).await;
    let path = format!("/api/v1/tasks/{}/events", run.task);
    let mut sleeper = Sse::open(&world, &path, None).await;
    let big = "x".repeat(64 * 1024);
    for n in 0..200 {
        bridge.say(&run.text(n, &big)).await;
    }
    bridge.say(&run.completed(200)).await;
    world.status(&run.task, TaskStatus::Completed).await;
    assert_eq!(sleeper.ids(201).await, (1..=201).collect::<Vec<u64>>());
}

#[tokio::test]
async fn tasks_events_and_tokens_survive_a_restart() {
    let world = World::new().await;
    let mut bridge = world.bridge(true).await;
    let run = world.task(&mut bridge).await;
    bridge.say(&run.text(0, "before")).await;
    let before = world.events(&run.task, 1).await;
    let world = world.restarted().await;
    assert_eq!(bridge.closed().await, Some(1001));
    assert_eq!(world.events(&run.task, 1).await, before);
    let mut bridge = world.bridge(true).await;
    bridge.say(&run.text(0, "before")).await;
    bridge.say(&run.completed(1)).await;
    world.status(&run.task, TaskStatus::Completed).await;
    assert_eq!(world.events(&run.task, 2).await.len(), 2);
    let shown = world
        .get(&format!("/api/v1/tasks/{}", run.task))
        .await
        .json();
    assert_eq!(shown["summary"]["status"], "completed");
    assert_eq!(shown["runs"][0]["prompt"], "write a haiku");
}

#[tokio::test]
async fn stopping_ends_every_stream() {
    let world = World::new().await;
    let mut bridge = world.bridge(true).await;
    let run = world.task(&mut bridge).await;
    let mut events = Sse::open(&world, &format!("/api/v1/tasks/{}/events", run.task), None).await;
    let mut changes = Sse::open(&world, "/api/v1/changes", None).await;
    let hub = world.hub();
    world.stop().await;
    assert_eq!(bridge.closed().await, Some(1001));
    assert_eq!(events.next().await, None);
    assert_eq!(changes.next().await, None);
    assert!(matches!(
        hub.machines().await,
        Err(bridge_hub::HubError::Stopping)
    ));
}

#[tokio::test]
async fn lists_are_marked_when_a_task_changes() {
    let world = World::new().await;
    let mut bridge = world.bridge(true).await;
    let mut changes = Sse::open(&world, "/api/v1/changes", None).await;
    let made = world
        .post("/api/v1/tasks", &json!({ "agent": "demo", "prompt": "x" }))
        .await;
    assert_eq!(made.status, 201);
    assert_eq!(changes.next().await.unwrap().1, "{}");
    bridge.expect("dispatch_task").await;
}

#[tokio::test]
async fn old_ended_tasks_are_removed_at_the_start_and_live_ones_stay() {
    let world = World::new().await;
    let mut bridge = world.bridge(true).await;
    let ended = world.task(&mut bridge).await;
    bridge.say(&ended.completed(0)).await;
    world.status(&ended.task, TaskStatus::Completed).await;
    let live = world.task(&mut bridge).await;
    let world = world
        .restarted_with(|config| config.retention = Duration::ZERO)
        .await;
    let hub = world.hub();
    let mut watch = hub.watch_all();
    while hub.task(&ended.task).await.unwrap().is_some() {
        assert!(soon(watch.changed()).await);
    }
    assert!(hub.task(&live.task).await.unwrap().is_some());
}

#[tokio::test]
async fn what_comes_after_large_events_stands_on_the_page_too() {
    let world = World::new().await;
    let mut bridge = world.bridge(true).await;
    let run = world.task(&mut bridge).await;
    for n in 0..3 {
        let large = format!("{} words{n} ", "x".repeat(3 * 1024 * 1024));
        bridge.say(&run.text(n, &large)).await;
    }
    bridge.say(&run.completed(3)).await;
    world.status(&run.task, TaskStatus::Completed).await;
    let page = world.get(&format!("/tasks/{}", run.task)).await;
    let text = String::from_utf8(page.body).unwrap();
    for n in 0..3 {
        assert!(text.contains(&format!("words{n}")), "{n}");
    }
}
