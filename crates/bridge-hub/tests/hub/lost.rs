//! Words that were lost on the way, in either direction: what the hub asks and says again when a
//! machine comes back.

use bridge_hub::{Attachment, TaskStatus, Told};
use bridge_proto::model::When;
use serde_json::{Value, json};

use crate::support::{FakeBridge, Run, World};

/// The question about a run, answered.
pub(crate) async fn checked(bridge: &mut FakeBridge, run: &Run, known: bool) {
    let asked = bridge.expect("check_run").await;
    assert_eq!(
        (&asked["taskId"], &asked["executionId"], &asked["agentId"]),
        (&json!(run.task), &json!(run.attempt), &json!("demo"))
    );
    bridge
        .say(&json!({
            "action": "run_checked", "requestId": asked["requestId"],
            "taskId": run.task, "executionId": run.attempt, "known": known,
        }))
        .await;
}

async fn reason(world: &World, run: &Run) -> Option<String> {
    let task = world.hub().task(&run.task).await.unwrap().unwrap();
    task.summary.reason
}

/// A frame that is one of these actions.
async fn sent(bridge: &mut FakeBridge, action: &str, run: &Run) -> Value {
    let frame = bridge.expect(action).await;
    assert_eq!(frame["taskId"], run.task.as_str());
    frame
}

#[tokio::test]
async fn an_end_that_did_not_arrive_is_asked_for_and_the_run_is_not_called_failed() {
    let world = World::new().await;
    let mut bridge = world.bridge(true).await;
    let run = world.task(&mut bridge).await;
    bridge.say(&run.text(0, "x")).await;
    world.events(&run.task, 1).await;
    drop(bridge);
    let mut bridge = world.bridge(true).await;
    sent(&mut bridge, "check_run", &run).await;
    bridge.say(&run.completed(7)).await;
    world.status(&run.task, TaskStatus::Completed).await;
    assert_eq!(reason(&world, &run).await, None);
}

#[tokio::test]
async fn a_run_is_given_up_at_once_when_its_machine_does_not_know_it() {
    let world = World::new().await;
    let mut bridge = world.bridge(true).await;
    let run = world.task(&mut bridge).await;
    bridge.say(&run.text(0, "x")).await;
    world.events(&run.task, 1).await;
    drop(bridge);
    let mut bridge = world.bridge(true).await;
    checked(&mut bridge, &run, false).await;
    world.status(&run.task, TaskStatus::Failed).await;
    assert_eq!(
        reason(&world, &run).await.as_deref(),
        Some("the bridge came back without this run")
    );
}

#[tokio::test]
async fn what_did_not_reach_its_machine_is_sent_again_in_order_and_word_for_word() {
    let world = World::new().await;
    let mut bridge = world.bridge(true).await;
    let task = world.hub().create(world.new_task("write a haiku")).await;
    let task = task.unwrap();
    world
        .hub()
        .follow_up(&task, "Shorter.", Vec::new(), When::After)
        .await
        .unwrap();
    let lost = [
        bridge.expect("dispatch_task").await,
        bridge.expect("followup").await,
    ];
    drop(bridge);
    let mut bridge = world.bridge(true).await;
    let runs = lost.clone().map(|frame| Run {
        task: task.clone(),
        attempt: frame["requestId"].as_str().unwrap().to_owned(),
    });
    // Both were asked about before the first answer came.
    let asked = [
        bridge.expect("check_run").await,
        bridge.expect("check_run").await,
    ];
    for (question, run) in asked.iter().zip(&runs) {
        bridge
            .say(&json!({
                "action": "run_checked", "requestId": question["requestId"],
                "taskId": run.task, "executionId": run.attempt, "known": false,
            }))
            .await;
    }
    assert_eq!(bridge.expect("dispatch_task").await, lost[0]);
    assert_eq!(bridge.expect("followup").await, lost[1]);
    for run in &runs {
        bridge.say(&run.completed(0)).await;
    }
    world.status(&task, TaskStatus::Completed).await;
}

#[tokio::test]
async fn a_run_whose_files_were_lost_says_so() {
    let world = World::new().await;
    let mut bridge = world.bridge(true).await;
    let mut order = world.new_task("Read it");
    order.attachments = vec![Attachment {
        name: "a.txt".into(),
        bytes: b"x".to_vec(),
    }];
    let task = world.hub().create(order).await.unwrap();
    bridge.expect("write_file").await;
    let lost = bridge.expect("dispatch_task").await;
    let attempt = lost["requestId"].as_str().unwrap().to_owned();
    let run = Run { task, attempt };
    drop(bridge);
    let mut bridge = world.bridge(true).await;
    checked(&mut bridge, &run, false).await;
    world.status(&run.task, TaskStatus::Failed).await;
    let reason = reason(&world, &run).await.unwrap();
    assert!(reason.contains("its files"), "{reason}");
}

#[tokio::test]
async fn a_machine_without_numbers_that_is_away_is_told_of_a_cancel_once_it_is_back() {
    for extended in [true, false] {
        let world = World::new().await;
        let mut bridge = world.bridge(extended).await;
        let run = world.task(&mut bridge).await;
        drop(bridge);
        world.online(false).await;
        assert_eq!(world.hub().cancel(&run.task).await.unwrap(), Told::OnReturn);
        let mut bridge = world.bridge(extended).await;
        let told = bridge.expect("cancel_task").await;
        assert_eq!(told["taskId"], run.task.as_str());
    }
}

#[tokio::test]
async fn a_cancel_that_was_accepted_outlives_its_connection_and_a_restart_of_the_hub() {
    let world = World::new().await;
    let mut bridge = world.bridge(true).await;
    let [working, lost] = [world.task(&mut bridge).await, world.task(&mut bridge).await];
    bridge.say(&working.text(0, "x")).await;
    world.events(&working.task, 1).await;
    for run in [&working, &lost] {
        let path = format!("/api/v1/tasks/{}/cancel", run.task);
        assert_eq!(world.post(&path, &json!({})).await.status, 202);
    }
    drop(bridge);
    let world = world.restarted().await;
    for _ in 0..2 {
        let mut bridge = world.bridge(true).await;
        for run in [&working, &lost] {
            sent(&mut bridge, "cancel_task", run).await;
            sent(&mut bridge, "check_run", run).await;
        }
    }
    let mut bridge = world.bridge(true).await;
    sent(&mut bridge, "cancel_task", &working).await;
    checked(&mut bridge, &working, true).await;
    sent(&mut bridge, "cancel_task", &lost).await;
    checked(&mut bridge, &lost, false).await;
    world.status(&lost.task, TaskStatus::Cancelled).await;
    let outcome = json!({ "status": "cancelled", "by": "person" });
    let ended = working.event(1, &json!({ "type": "ended", "outcome": outcome }));
    bridge.say(&ended).await;
    world.status(&working.task, TaskStatus::Cancelled).await;
}
