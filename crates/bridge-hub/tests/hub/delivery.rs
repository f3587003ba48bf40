//! The delivery envelope on the hub's side: what is stored is acknowledged, and nothing else.

use bridge_hub::TaskStatus;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{FakeBridge, Run, World, texts};

const EPOCH: &str = "000000000000000000000000000000aa";

/// A bridge with the envelope that is on line; gives what the hub asked it to go on from.
async fn resumed(world: &World, next: u64) -> (FakeBridge, Value) {
    let mut bridge = world.connect(true).await;
    let resume = bridge.envelope().await;
    assert_eq!(resume["delivery"], "resume");
    bridge
        .say(&json!({ "delivery": "begin", "epoch": EPOCH, "next": next }))
        .await;
    bridge.greet().await;
    (bridge, resume)
}

/// As a bridge writes it: the number first.
async fn numbered(bridge: &mut FakeBridge, seq: u64, message: &Value) {
    let frame = format!("{{\"seq\":{seq},\"messages\":[{message}]}}");
    bridge.send(Message::text(frame)).await;
}

/// Waits for the acknowledgement of this number.
async fn acked(bridge: &mut FakeBridge, seq: u64) {
    loop {
        let ack = bridge.envelope().await;
        assert_eq!(ack["delivery"], "ack");
        let last = ack["seq"].as_u64().unwrap();
        assert!(last <= seq, "{ack}");
        if last == seq {
            return;
        }
    }
}

async fn words(world: &World, run: &Run) -> Vec<String> {
    texts(&world.hub().events(&run.task, 0, 1000).await.unwrap())
}

#[tokio::test]
async fn what_is_acknowledged_is_stored_and_named_on_the_next_connection() {
    let world = World::new().await;
    let (mut bridge, resume) = resumed(&world, 1).await;
    assert_eq!(resume["epoch"], Value::Null);
    let run = world.task(&mut bridge).await;
    numbered(&mut bridge, 1, &run.text(0, "one ")).await;
    numbered(&mut bridge, 2, &run.text(1, "two ")).await;
    acked(&mut bridge, 2).await;
    assert_eq!(words(&world, &run).await, ["one ", "two "]);
    drop(bridge);

    let world = world.restarted().await;
    let (mut bridge, resume) = resumed(&world, 3).await;
    assert_eq!(
        (&resume["epoch"], &resume["last"]),
        (&json!(EPOCH), &json!(2))
    );
    numbered(&mut bridge, 2, &run.text(1, "two ")).await;
    numbered(&mut bridge, 3, &run.completed(2)).await;
    acked(&mut bridge, 3).await;
    world.status(&run.task, TaskStatus::Completed).await;
    assert_eq!(words(&world, &run).await, ["one ", "two "]);
}

#[tokio::test]
async fn a_message_in_parts_lets_others_pass_and_is_acknowledged_when_it_is_whole() {
    let world = World::new().await;
    let (mut bridge, _) = resumed(&world, 1).await;
    let [large, small] = [world.task(&mut bridge).await, world.task(&mut bridge).await];
    let message = json!([large.text(0, &"ü".repeat(1000))]).to_string();
    let (first, second) = message.split_at(message.find("üü").unwrap());
    let part = |part: u64, more: bool, text: &str| {
        let text = json!(text);
        format!("{{\"part\":{part},\"more\":{more},\"seq\":1,\"text\":{text}}}")
    };
    bridge.send(Message::text(part(0, true, first))).await;
    numbered(&mut bridge, 2, &small.text(0, "passes")).await;
    world.events(&small.task, 1).await;
    bridge.send(Message::text(part(1, false, second))).await;
    acked(&mut bridge, 2).await;
    assert_eq!(words(&world, &small).await, ["passes"]);
    assert_eq!(words(&world, &large).await, ["ü".repeat(1000)]);
}

#[tokio::test]
async fn what_the_hub_cannot_read_is_passed_over_and_does_not_hold_up_what_follows() {
    let world = World::new().await;
    let (mut bridge, _) = resumed(&world, 1).await;
    let run = world.task(&mut bridge).await;
    let odd = "{\"seq\":1,\"messages\":[\"no JSON\",{\"action\":7}]}";
    bridge.send(Message::text(odd)).await;
    numbered(&mut bridge, 2, &run.text(0, "fine")).await;
    bridge
        .say(&json!({ "delivery": "gap", "to": 5, "why": "the disk was full" }))
        .await;
    acked(&mut bridge, 5).await;
    assert_eq!(words(&world, &run).await, ["fine"]);
}

#[tokio::test]
async fn a_bridge_that_breaks_the_rules_of_the_envelope_is_let_go_and_goes_on_from_what_is_stored()
{
    let world = World::new().await;
    let (mut bridge, _) = resumed(&world, 1).await;
    let run = world.task(&mut bridge).await;
    numbered(&mut bridge, 1, &run.text(0, "kept")).await;
    acked(&mut bridge, 1).await;
    bridge.send(Message::text("{\"seq\":")).await;
    assert_eq!(bridge.closed().await, Some(1002));
    let (_, resume) = resumed(&world, 2).await;
    assert_eq!(resume["last"], 1);
    assert_eq!(words(&world, &run).await, ["kept"]);
}

#[tokio::test]
async fn a_bridge_without_the_extension_hears_nothing_of_the_envelope() {
    let world = World::new().await;
    let mut bridge = world.connect(false).await;
    bridge.greet().await;
    world.hub().create(world.new_task("x")).await.unwrap();
    assert_eq!(bridge.any().await["action"], "dispatch_task");
}
