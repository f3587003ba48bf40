//! Packed messages on the hub's side: agreed on, taken, sent, and refused where they break a rule.

use bridge_transport::carrier::deflate::{HEADER, Packed, Packer};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::support::{FakeBridge, World, texts};

const EPOCH: &str = "000000000000000000000000000000bb";

async fn connect(world: &World, offers: &[&'static str]) -> FakeBridge {
    FakeBridge::connect_offering(world.address(), &world.pairing, offers)
        .await
        .unwrap()
}

/// A bridge that is on line, with the extension and packing.
async fn on_line(world: &World) -> FakeBridge {
    greeted(world, false).await
}

/// The same, which perhaps takes commands with numbers and has none.
async fn greeted(world: &World, numbers: bool) -> FakeBridge {
    let mut bridge = connect(world, &["x-bridge-extension", HEADER]).await;
    assert!(bridge.accepted_packing);
    assert_eq!(bridge.envelope().await["delivery"], "resume");
    if numbers {
        let resume = r#"{"delivery":"resume","epoch":null,"last":0}"#;
        bridge.send(Message::text(resume)).await;
    }
    bridge
        .say(&json!({ "delivery": "begin", "epoch": EPOCH, "next": 1 }))
        .await;
    bridge.greet().await;
    bridge
}

#[tokio::test]
async fn packing_is_accepted_together_with_the_extension_only() {
    let world = World::new().await;
    for (offers, accepted) in [
        (&[][..], false),
        (&[HEADER][..], false),
        (&["x-bridge-extension"][..], false),
        (&["x-bridge-extension", HEADER][..], true),
    ] {
        let bridge = connect(&world, offers).await;
        assert_eq!(bridge.accepted_packing, accepted, "{offers:?}");
    }
}

#[tokio::test]
async fn a_batch_of_events_is_taken_as_if_each_had_come_alone() {
    let world = World::new().await;
    let mut bridge = on_line(&world).await;
    let run = world.task(&mut bridge).await;
    let said: Vec<String> = (0..100).map(|n| format!("word {n} ")).collect();
    let frames = (1_u64..).zip(&said).map(|(seq, text)| {
        let event = run.text(seq - 1, text);
        format!("{{\"seq\":{seq},\"messages\":[{event}]}}").into()
    });
    let mut messages = Packer::new().pack(frames);
    assert_eq!(messages.len(), 1);
    let Some(Packed::Binary(packed)) = messages.pop_front() else {
        panic!("not packed");
    };
    bridge.send(Message::Binary(packed)).await;
    loop {
        let ack = bridge.envelope().await;
        if ack["seq"] == 100 {
            break;
        }
    }
    let events = world.hub().events(&run.task, 0, 1000).await.unwrap();
    assert_eq!(texts(&events), said);
}

#[tokio::test]
async fn what_is_large_goes_packed_to_a_bridge_that_agreed_and_plain_to_others() {
    for (offers, packed) in [
        (&["x-bridge-extension", HEADER][..], 1),
        (&["x-bridge-extension"][..], 0),
    ] {
        let world = World::new().await;
        let mut bridge = if packed == 1 {
            on_line(&world).await
        } else {
            let mut bridge = connect(&world, offers).await;
            bridge.greet().await;
            bridge
        };
        let prompt = "please look at every file of this repository. ".repeat(100);
        world.hub().create(world.new_task(&prompt)).await.unwrap();
        let dispatched = bridge.expect("dispatch_task").await;
        assert!(dispatched.to_string().contains(prompt.trim()));
        assert_eq!(bridge.packed_messages, packed);
    }
}

#[tokio::test]
async fn what_is_to_be_said_at_one_moment_goes_together_in_its_order() {
    let world = World::new().await;
    // Each of them is too small to be packed alone.
    let prompts: Vec<String> = (0..40)
        .map(|n| format!("prompt {n}: write a haiku"))
        .collect();
    let bridge = greeted(&world, true).await;
    for prompt in &prompts {
        world.hub().create(world.new_task(prompt)).await.unwrap();
    }
    // It has taken none of them.
    drop(bridge);
    let mut bridge = greeted(&world, true).await;
    for prompt in &prompts {
        let frame = loop {
            let frame = bridge.any().await;
            if frame.get("seq").is_some() {
                break frame.to_string();
            }
        };
        assert!(frame.contains(prompt), "{prompt} {frame}");
    }
    // One, unless the hub was interrupted between two of them.
    assert!((1..=5).contains(&bridge.packed_messages));
}

#[tokio::test]
async fn a_message_that_breaks_the_rules_ends_the_connection_with_its_code() {
    let world = World::new().await;
    let row = |frame: &[u8]| {
        let len = u32::try_from(frame.len()).unwrap().to_be_bytes();
        Packer::new().deflate(&[&len[..], frame].concat())
    };
    for (packed, code) in [
        (row(&vec![b' '; 33 << 20]), 1009),
        (row(b"{\"action\":\"\xff\"}"), 1007),
        (b"no deflate".to_vec(), 1002),
        (Vec::new(), 1002),
    ] {
        let mut bridge = on_line(&world).await;
        bridge.send(Message::binary(packed)).await;
        assert_eq!(bridge.closed().await, Some(code));
    }
}

#[tokio::test]
async fn a_binary_message_nobody_agreed_on_is_dropped_and_the_connection_goes_on() {
    let world = World::new().await;
    let mut bridge = connect(&world, &["x-bridge-extension"]).await;
    bridge.send(Message::binary(vec![3, 0])).await;
    bridge.greet().await;
}
