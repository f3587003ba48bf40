//! Commands with numbers: what must arrive is kept until the machine has it.

use bridge_hub::{Attachment, NewTask, TaskStatus, Told};
use bridge_proto::{TaskId, model::When};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use crate::support::{FakeBridge, Run, World};

fn resume(epoch: &Value, last: u64) -> Value {
    json!({ "delivery": "resume", "epoch": epoch, "last": last })
}

/// As a bridge writes it: what it is first.
async fn envelope(bridge: &mut FakeBridge, frame: &Value) {
    let text = frame.to_string();
    let rest = text.strip_prefix('{').unwrap();
    let kind = frame["delivery"].as_str().unwrap();
    let known = format!("\"delivery\":\"{kind}\"");
    let rest = rest.replace(&format!("{known},"), "").replace(&known, "");
    bridge
        .send(Message::text(format!("{{{known},{rest}")))
        .await;
}

/// A machine that takes numbers from here on, on line; gives what the hub begins with.
async fn online(world: &World, epoch: &Value, last: u64) -> (FakeBridge, Value) {
    let mut bridge = world.connect(true).await;
    let own = bridge.envelope().await;
    assert_eq!(own["delivery"], "resume");
    envelope(&mut bridge, &resume(epoch, last)).await;
    bridge.greet().await;
    let begin = bridge.envelope().await;
    assert_eq!(begin["delivery"], "begin", "{begin}");
    (bridge, begin)
}

/// The next command, which must have a number.
async fn command(bridge: &mut FakeBridge) -> (u64, Value) {
    let frame = bridge.next().await.unwrap();
    let seq = frame["seq"].as_u64();
    let seq = seq.unwrap_or_else(|| panic!("without a number: {frame}"));
    let [message] = frame["messages"].as_array().unwrap().as_slice() else {
        panic!("{frame}")
    };
    (seq, message.clone())
}

async fn told(bridge: &mut FakeBridge) -> (u64, String) {
    let (seq, message) = command(bridge).await;
    (seq, message["action"].as_str().unwrap().to_owned())
}

fn is(seq: u64, action: &str) -> (u64, String) {
    (seq, action.to_owned())
}

async fn ack(bridge: &mut FakeBridge, seq: u64) {
    envelope(bridge, &json!({ "delivery": "ack", "seq": seq })).await;
}

async fn create(world: &World) -> TaskId {
    let task = world.new_task("write a haiku");
    world.hub().create(task).await.unwrap()
}

async fn run(world: &World, task: &TaskId) -> Run {
    let view = world.hub().task(task).await.unwrap().unwrap();
    Run {
        task: task.clone(),
        attempt: view.runs.last().unwrap().attempt.clone(),
    }
}

/// Lets the hub hear everything that was said before.
async fn heard(world: &World, bridge: &mut FakeBridge, run: &Run) {
    bridge.say(&run.text(9, "heard")).await;
    world.events(&run.task, 1).await;
}

#[tokio::test]
async fn a_command_comes_again_under_its_number_until_it_is_acknowledged() {
    let world = World::new().await;
    let (mut bridge, begin) = online(&world, &Value::Null, 0).await;
    assert_eq!(begin["next"], 1);
    let task = create(&world).await;
    let (seq, first) = command(&mut bridge).await;
    assert_eq!((seq, &first["taskId"]), (1, &json!(task)));
    drop(bridge);
    // The first to know nothing of the numbering, the second to know it, the third of another hub.
    let epoch = begin["epoch"].clone();
    let (mut bridge, begin) = online(&world, &Value::Null, 0).await;
    assert_eq!((&begin["epoch"], &begin["next"]), (&epoch, &json!(1)));
    assert_eq!(command(&mut bridge).await, (1, first.clone()));
    drop(bridge);
    let world = world.restarted().await;
    let (mut bridge, begin) = online(&world, &epoch, 0).await;
    assert_eq!((&begin["epoch"], &begin["next"]), (&epoch, &json!(1)));
    assert_eq!(command(&mut bridge).await, (1, first));
    ack(&mut bridge, 1).await;
    let run = run(&world, &task).await;
    heard(&world, &mut bridge, &run).await;
    drop(bridge);
    let world = world.restarted().await;
    let (mut bridge, begin) = online(&world, &epoch, 1).await;
    assert_eq!((&begin["epoch"], &begin["next"]), (&epoch, &json!(2)));
    // Nothing of it again; only the question what became of the run.
    bridge.expect("check_run").await;
    create(&world).await;
    assert_eq!(told(&mut bridge).await, is(2, "dispatch_task"));
}

#[tokio::test]
async fn all_that_must_arrive_has_a_number_and_questions_have_none() {
    let world = World::new().await;
    let (mut bridge, _) = online(&world, &Value::Null, 0).await;
    bridge.can_do_it_all(&world).await;
    let task = create(&world).await;
    assert_eq!(told(&mut bridge).await, is(1, "dispatch_task"));
    let one = run(&world, &task).await;
    let started = json!({ "type": "started", "conversation": null });
    bridge.say(&one.event(0, &started)).await;
    world.status(&task, TaskStatus::Running).await;
    let path = |what: &str| format!("/api/v1/tasks/{task}/{what}");
    let post = async |what: &str, body: Value| {
        let done = world.post(&path(what), &body).await;
        assert!(done.status < 300, "{what}: {done:?}");
    };
    post("tune", json!({ "model": "large" })).await;
    assert_eq!(told(&mut bridge).await, is(2, "tune_task"));
    post("interrupt", json!({})).await;
    assert_eq!(told(&mut bridge).await, is(3, "interrupt_task"));
    post("followups", json!({ "text": "and a second one" })).await;
    assert_eq!(told(&mut bridge).await, is(4, "followup"));
    post("cancel", json!({})).await;
    assert_eq!(told(&mut bridge).await, is(5, "cancel_task"));
    let hub = world.hub();
    let deleting = hub.delete_file(&task, "x.txt");
    let answering = async {
        let (seq, asked) = command(&mut bridge).await;
        assert_eq!((seq, &asked["action"]), (6, &json!("delete_path")));
        let id = asked["requestId"].clone();
        bridge
            .say(&json!({ "action": "delete_path_ack", "requestId": id, "success": true }))
            .await;
    };
    let (deleted, ()) = tokio::join!(deleting, answering);
    deleted.unwrap();
    let listing = hub.files(&task);
    let answering = async {
        let asked = bridge.expect("list_files").await;
        bridge
            .say(&json!({
                "action": "list_files_response", "requestId": asked["requestId"], "files": [],
            }))
            .await;
    };
    let (listed, ()) = tokio::join!(listing, answering);
    listed.unwrap();
}

#[tokio::test]
async fn a_run_on_its_way_is_not_asked_about_and_a_cancel_is_said_once() {
    let world = World::new().await;
    let (mut bridge, begin) = online(&world, &Value::Null, 0).await;
    let task = create(&world).await;
    told(&mut bridge).await;
    drop(bridge);
    world.online(false).await;
    let (mut bridge, _) = online(&world, &begin["epoch"], 0).await;
    assert_eq!(told(&mut bridge).await, is(1, "dispatch_task"));
    world.hub().cancel(&task).await.unwrap();
    assert_eq!(told(&mut bridge).await, is(2, "cancel_task"), "no question");
    let run = run(&world, &task).await;
    ack(&mut bridge, 2).await;
    heard(&world, &mut bridge, &run).await;
    drop(bridge);
    world.online(false).await;
    // It has the cancel, so only what became of the run is asked.
    let (mut bridge, _) = online(&world, &begin["epoch"], 2).await;
    assert_eq!(bridge.expect("check_run").await["taskId"], task.as_str());
    drop(bridge);
    world.online(false).await;
    // One that has forgotten what it had is told again.
    let (mut bridge, begin) = online(&world, &Value::Null, 0).await;
    assert_eq!(begin["next"], 3);
    bridge.expect("cancel_task").await;
    bridge.expect("check_run").await;
}

#[tokio::test]
async fn a_machine_that_is_away_is_told_of_a_cancel_once_it_is_back() {
    let world = World::new().await;
    let (mut bridge, begin) = online(&world, &Value::Null, 0).await;
    let task = create(&world).await;
    told(&mut bridge).await;
    ack(&mut bridge, 1).await;
    let run = run(&world, &task).await;
    heard(&world, &mut bridge, &run).await;
    drop(bridge);
    world.online(false).await;
    let path = format!("/api/v1/tasks/{task}/cancel");
    for _ in 0..3 {
        let answer = world.post(&path, &json!({})).await;
        assert_eq!(
            (answer.status, &answer.json()["told"]),
            (202, &json!("on_return"))
        );
    }
    let shown = world.get(&format!("/api/v1/tasks/{task}")).await.json();
    assert_eq!(shown["runs"][0]["stopping"], true);
    let world = world.restarted().await;
    let (mut bridge, _) = online(&world, &begin["epoch"], 1).await;
    // Once, under the next number; and it is asked what became of the run.
    assert_eq!(told(&mut bridge).await, is(2, "cancel_task"));
    assert_eq!(bridge.next().await.unwrap()["action"], "check_run");
    let answer = world.post(&path, &json!({})).await;
    assert_eq!(
        (answer.status, &answer.json()["told"]),
        (202, &json!("now"))
    );
    assert_eq!(told(&mut bridge).await, is(3, "cancel_task"));
}

#[tokio::test]
async fn a_cancel_is_kept_again_behind_what_was_said_after_the_one_before() {
    let world = World::new().await;
    let (mut bridge, begin) = online(&world, &Value::Null, 0).await;
    let task = create(&world).await;
    let hub = world.hub();
    assert_eq!(hub.cancel(&task).await.unwrap(), Told::Now);
    hub.follow_up(&task, "no, go on", Vec::new(), When::After)
        .await
        .unwrap();
    for (seq, action) in [(1, "dispatch_task"), (2, "cancel_task"), (3, "followup")] {
        assert_eq!(told(&mut bridge).await, is(seq, action));
    }
    drop(bridge);
    world.online(false).await;
    assert_eq!(hub.cancel(&task).await.unwrap(), Told::OnReturn);
    let (mut bridge, _) = online(&world, &begin["epoch"], 3).await;
    assert_eq!(told(&mut bridge).await, is(4, "cancel_task"));
}

#[tokio::test]
async fn a_machine_that_was_hung_up_on_is_away_at_once() {
    let world = World::new().await;
    let (mut bridge, begin) = online(&world, &Value::Null, 0).await;
    let task = create(&world).await;
    told(&mut bridge).await;
    ack(&mut bridge, 99).await;
    assert_eq!(bridge.closed().await, Some(1002));
    // The hub still reads what may have arrived.
    assert_eq!(world.hub().cancel(&task).await.unwrap(), Told::OnReturn);
    drop(bridge);
    let (mut bridge, _) = online(&world, &begin["epoch"], 1).await;
    assert_eq!(told(&mut bridge).await, is(2, "cancel_task"));
}

#[tokio::test]
async fn a_run_that_a_machine_forgot_is_sent_again_under_a_new_number() {
    let world = World::new().await;
    let (mut bridge, begin) = online(&world, &Value::Null, 0).await;
    let task = create(&world).await;
    let (_, first) = command(&mut bridge).await;
    ack(&mut bridge, 1).await;
    drop(bridge);
    world.online(false).await;
    let (mut bridge, again) = online(&world, &Value::Null, 0).await;
    assert_eq!(
        (&again["epoch"], &again["next"]),
        (&begin["epoch"], &json!(2))
    );
    let check = bridge.expect("check_run").await;
    bridge
        .say(&json!({
            "action": "run_checked", "requestId": check["requestId"], "taskId": task,
            "executionId": first["requestId"], "known": false,
        }))
        .await;
    assert_eq!(command(&mut bridge).await, (2, first));
}

#[tokio::test]
async fn a_hub_that_was_set_back_counts_anew_and_loses_nothing_that_waits() {
    let world = World::new().await;
    let (mut bridge, begin) = online(&world, &Value::Null, 0).await;
    create(&world).await;
    told(&mut bridge).await;
    create(&world).await;
    told(&mut bridge).await;
    ack(&mut bridge, 1).await;
    drop(bridge);
    world.online(false).await;
    let (mut bridge, again) = online(&world, &begin["epoch"], 99).await;
    assert_ne!(again["epoch"], begin["epoch"]);
    assert_eq!(again["next"], 1);
    assert_eq!(told(&mut bridge).await, is(1, "dispatch_task"));
}

#[tokio::test]
async fn who_breaks_the_rules_of_the_hubs_stream_is_hung_up_on() {
    let world = World::new().await;
    let (mut bridge, begin) = online(&world, &Value::Null, 0).await;
    ack(&mut bridge, 7).await;
    assert_eq!(bridge.closed().await, Some(1002), "never given");
    world.online(false).await;
    let (mut bridge, _) = online(&world, &begin["epoch"], 0).await;
    envelope(&mut bridge, &resume(&Value::Null, 0)).await;
    assert_eq!(bridge.closed().await, Some(1002), "a second time");
    let mut bridge = world.bridge(true).await;
    envelope(&mut bridge, &resume(&Value::Null, 0)).await;
    assert_eq!(bridge.closed().await, Some(1002), "behind the handshake");
    world.online(false).await;
    let mut bridge = world.bridge(false).await;
    create(&world).await;
    bridge.expect("dispatch_task").await;
}

#[tokio::test]
async fn what_the_way_takes_no_frames_of_comes_in_shorter_ones() {
    let world = World::new().await;
    let (mut bridge, begin) = online(&world, &Value::Null, 0).await;
    let task = NewTask {
        attachments: vec![Attachment {
            name: "large.bin".into(),
            bytes: vec![7; 300 << 10],
        }],
        ..world.new_task("read it")
    };
    world.hub().create(task).await.unwrap();
    let mut longest = 96 << 10;
    for _ in 0..3 {
        let part = bridge.next().await.unwrap();
        let length = part["text"].as_str().unwrap().len();
        assert!((longest * 9 / 10..=longest).contains(&length), "{length}");
        longest /= 2;
        let (code, reason) = (CloseCode::Size, "".into());
        let close = Message::Close(Some(CloseFrame { code, reason }));
        bridge.send(close).await;
        bridge.closed().await;
        (bridge, _) = online(&world, &begin["epoch"], 0).await;
    }
}

#[tokio::test]
async fn a_large_attachment_lets_pass_what_is_about_other_tasks_and_stays_before_its_own() {
    let world = World::new().await;
    let (mut bridge, _) = online(&world, &Value::Null, 0).await;
    let task = NewTask {
        attachments: vec![Attachment {
            name: "large.bin".into(),
            bytes: vec![7; 15 << 20],
        }],
        ..world.new_task("read it")
    };
    let other = create(&world).await;
    assert_eq!(told(&mut bridge).await, is(1, "dispatch_task"));
    let large = world.hub().create(task).await.unwrap();
    world.hub().cancel(&other).await.unwrap();
    let (mut text, mut passed, mut behind) = (String::new(), None, None);
    while behind.is_none() {
        let frame = bridge.next().await.unwrap();
        if let Some(part) = frame["text"].as_str() {
            assert_eq!((&frame["seq"], part.len() <= 96 << 10), (&json!(2), true));
            text.push_str(part);
            continue;
        }
        let message = &frame["messages"][0];
        match message["action"].as_str() {
            Some("cancel_task") => passed = Some((frame["seq"].clone(), text.len())),
            _ => behind = Some((frame["seq"].clone(), message["taskId"].clone())),
        }
    }
    let (seq, at) = passed.unwrap();
    assert_eq!((seq, behind), (json!(4), Some((json!(3), json!(large)))));
    assert!(at < text.len(), "between two parts");
    let list: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(list[0]["action"], "write_file");
}
