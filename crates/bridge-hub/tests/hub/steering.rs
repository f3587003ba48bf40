//! What is said to a task while its agent works: messages, interrupts, settings.

use bridge_hub::TaskStatus;
use serde_json::{Value, json};

use crate::{
    lost::checked,
    support::{FakeBridge, Run, World},
};

/// A task whose agent works and can do it all.
async fn at_work(extended: bool) -> (World, FakeBridge, Run) {
    let world = World::new().await;
    let mut bridge = world.bridge(extended).await;
    if extended {
        bridge.can_do_it_all(&world).await;
    }
    let run = world.task(&mut bridge).await;
    if extended {
        let started = json!({ "type": "started", "conversation": null });
        bridge.say(&run.event(0, &started)).await;
        world.status(&run.task, TaskStatus::Running).await;
    }
    (world, bridge, run)
}

impl Run {
    fn path(&self, what: &str) -> String {
        format!("/api/v1/tasks/{}/{what}", self.task)
    }

    /// Another run of the same task.
    fn other(&self, attempt: &Value) -> Self {
        Self {
            task: self.task.clone(),
            attempt: attempt.as_str().unwrap().to_owned(),
        }
    }
}

async fn statuses(world: &World, run: &Run) -> Vec<TaskStatus> {
    let view = world.hub().task(&run.task).await.unwrap().unwrap();
    view.runs.iter().map(|run| run.status).collect()
}

async fn say_now(world: &World, run: &Run, text: &str) -> Value {
    let body = json!({ "text": text, "when": "now" });
    let sent = world.post(&run.path("followups"), &body).await;
    assert_eq!(sent.status, 202, "{sent:?}");
    sent.json()["attempt"].clone()
}

#[tokio::test]
async fn a_message_for_the_turn_at_work_is_read_there_or_becomes_a_run_as_the_machine_says() {
    let (world, mut bridge, run) = at_work(true).await;
    let attempt = say_now(&world, &run, "In English").await;
    let frame = bridge.expect("followup").await;
    assert_eq!(
        (&frame["requestId"], &frame["args"]["when"]),
        (&attempt, &json!("now"))
    );
    let message = run.other(&attempt);
    let injected = json!({ "kind": "injected", "text": "In English" });
    let seen = json!({ "type": "seen", "event": injected });
    bridge.say(&run.event(1, &seen)).await;
    let joined = json!({ "type": "joined", "into": run.attempt });
    bridge.say(&message.event(0, &joined)).await;
    world.events(&run.task, 3).await;
    assert_eq!(
        statuses(&world, &run).await,
        [TaskStatus::Running, TaskStatus::Joined]
    );
    let refused = say_now(&world, &run, "And shorter").await;
    bridge.expect("followup").await;
    let queued = json!({ "type": "queued", "ahead": 1 });
    bridge.say(&run.other(&refused).event(0, &queued)).await;
    bridge.say(&run.completed(2)).await;
    world.status(&run.task, TaskStatus::Queued).await;
    assert_eq!(
        statuses(&world, &run).await,
        [
            TaskStatus::Completed,
            TaskStatus::Joined,
            TaskStatus::Queued
        ]
    );
}

#[tokio::test]
async fn a_message_lost_on_the_way_is_sent_again_as_the_same_run_and_a_known_one_is_not() {
    let (world, mut bridge, run) = at_work(true).await;
    let known = say_now(&world, &run, "one").await;
    let queued = json!({ "type": "queued", "ahead": 1 });
    bridge.say(&run.other(&known).event(0, &queued)).await;
    world.events(&run.task, 2).await;
    let lost = say_now(&world, &run, "two").await;
    drop(bridge);
    world.online(false).await;

    let mut bridge = world.bridge(true).await;
    checked(&mut bridge, &run, true).await;
    checked(&mut bridge, &run.other(&known), true).await;
    checked(&mut bridge, &run.other(&lost), false).await;
    let again = bridge.expect("followup").await;
    assert_eq!(
        (&again["requestId"], &again["args"]["message"]),
        (&lost, &json!("two"))
    );
    // It had arrived after all and was read; the machine says so again.
    let joined = json!({ "type": "joined", "into": run.attempt });
    for _ in 0..2 {
        bridge.say(&run.other(&lost).event(0, &joined)).await;
    }
    bridge.say(&run.completed(1)).await;
    world.events(&run.task, 4).await;
    assert_eq!(
        statuses(&world, &run).await,
        [
            TaskStatus::Completed,
            TaskStatus::Queued,
            TaskStatus::Joined
        ]
    );
}

#[tokio::test]
async fn a_plain_bridge_gets_a_message_as_the_follow_up_it_knows() {
    let (world, mut bridge, run) = at_work(false).await;
    say_now(&world, &run, "In English").await;
    let frame = bridge.expect("followup").await;
    assert_eq!(frame["args"].get("when"), None, "{frame}");
    let interrupt = world.post(&run.path("interrupt"), &json!({})).await;
    assert_eq!(interrupt.code(), "nothing_works");
    let tune = world
        .post(&run.path("tune"), &json!({ "model": "large" }))
        .await;
    assert_eq!(tune.code(), "not_supported");
}

#[tokio::test]
async fn a_turn_is_stopped_without_its_conversation_only_while_it_works() {
    let (world, mut bridge, run) = at_work(true).await;
    let path = run.path("interrupt");
    assert_eq!(world.post(&path, &json!({})).await.status, 202);
    let frame = bridge.expect("interrupt_task").await;
    assert_eq!(frame["taskId"], run.task.as_str());
    let cancelled =
        json!({ "type": "ended", "outcome": { "status": "cancelled", "by": "person" } });
    bridge.say(&run.event(1, &cancelled)).await;
    world.status(&run.task, TaskStatus::Cancelled).await;
    assert_eq!(world.post(&path, &json!({})).await.code(), "nothing_works");
}

#[tokio::test]
async fn settings_are_kept_for_the_runs_to_come_and_told_to_the_one_at_work() {
    let (world, mut bridge, run) = at_work(true).await;
    let path = run.path("tune");
    for wrong in [
        json!({}),
        json!({ "model": " " }),
        json!({ "effort": "a\nb" }),
    ] {
        assert_eq!(world.post(&path, &wrong).await.code(), "malformed");
    }
    let tuned = world.post(&path, &json!({ "model": "large" })).await;
    assert_eq!(tuned.json()["applies"], "now");
    let frame = bridge.expect("tune_task").await;
    assert_eq!(
        (&frame["taskId"], &frame["model"], frame.get("effort")),
        (&json!(run.task), &json!("large"), None)
    );
    bridge.say(&run.completed(1)).await;
    world.status(&run.task, TaskStatus::Completed).await;
    let tuned = world.post(&path, &json!({ "effort": "high" })).await;
    assert_eq!(tuned.json()["applies"], "next_run");
    let shown = world.get(&format!("/api/v1/tasks/{}", run.task)).await;
    let expected = json!({ "model": "large", "effort": "high" });
    assert_eq!(shown.json()["tuning"], expected);
    world
        .post(&run.path("followups"), &json!({ "text": "more" }))
        .await;
    let args = bridge.expect("followup").await["args"].clone();
    assert_eq!(
        (&args["model"], &args["effort"], args.get("when")),
        (&json!("large"), &json!("high"), None)
    );
}

#[tokio::test]
async fn what_an_agent_cannot_be_set_to_is_refused_and_not_kept() {
    let world = World::new().await;
    let mut bridge = world.bridge(true).await;
    bridge
        .can(&world, &json!({ "model": "at_start", "mode": "never" }))
        .await;
    let run = world.task(&mut bridge).await;
    let path = run.path("tune");
    let refused = world
        .post(&path, &json!({ "model": "large", "mode": "plan" }))
        .await;
    assert_eq!(refused.code(), "not_supported");
    let message = refused.json()["error"]["message"].clone();
    assert_eq!(message, "the agent on box cannot choose a mode");
    let view = world.hub().task(&run.task).await.unwrap().unwrap();
    assert!(view.tuning.is_empty());
    let tuned = world.post(&path, &json!({ "model": "large" })).await;
    assert_eq!(tuned.json()["applies"], "next_run", "not while it works");
}

#[tokio::test]
async fn a_new_task_may_have_its_settings_from_the_beginning() {
    let (world, mut bridge, _) = at_work(true).await;
    let body = json!({
        "machine": world.machine, "agent": "demo", "prompt": "Plan it", "model": "large",
        "tuning": { "mode": "plan", "effort": "low" },
    });
    assert_eq!(world.post("/api/v1/tasks", &body).await.status, 201);
    let args = bridge.expect("dispatch_task").await["args"].clone();
    assert_eq!(
        (&args["model"], &args["mode"], &args["effort"]),
        (&json!("large"), &json!("plan"), &json!("low"))
    );
}
