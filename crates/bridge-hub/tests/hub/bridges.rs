//! Machines: how they are let in, what they may say, and what hostile ones achieve.

use bridge_hub::HubError;
use bridge_proto::Secret;
use serde_json::json;
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};

use crate::support::{FakeBridge, World, texts};

#[tokio::test]
async fn a_bad_pairing_token_is_named_in_the_refusal() {
    let world = World::new().await;
    for token in [Secret::new("wrong"), Secret::new(""), world.token.clone()] {
        let refused = FakeBridge::connect(world.address(), &token, true).await;
        let Err(Error::Http(response)) = refused.map(|_| ()).map_err(|error| *error) else {
            panic!("it was let in");
        };
        assert_eq!(response.status(), 401);
        let body = String::from_utf8(response.body().clone().unwrap()).unwrap();
        assert!(
            body.contains("{\"error\":\"pairing token not accepted"),
            "{body}"
        );
    }
}

#[tokio::test]
async fn the_extension_is_accepted_where_it_is_offered() {
    let world = World::new().await;
    assert!(world.bridge(true).await.accepted_extension);
    assert!(world.hub().machines().await.unwrap()[0].extended);
    assert!(!world.bridge(false).await.accepted_extension);
    assert!(!world.hub().machines().await.unwrap()[0].extended);
}

#[tokio::test]
async fn a_machine_is_listed_with_what_it_said_of_itself() {
    let world = World::new().await;
    let mut bridge = world.bridge(true).await;
    let hub = world.hub();
    let mut watch = hub.watch_all();
    bridge
        .say(&json!({
            "action": "provider_health",
            "providerHealth": { "demo": { "available": false, "reason": "auth_required" } },
        }))
        .await;
    while hub.machines().await.unwrap()[0].agents[0].health.available {
        assert!(watch.changed().await);
    }
    let machine = &hub.machines().await.unwrap()[0];
    assert_eq!(machine.hostname.as_deref(), Some("testbox"));
    assert_eq!(machine.version.as_deref(), Some("v1.0.0"));
    let listed = world.get("/api/v1/bridges").await.json();
    assert_eq!(listed["bridges"][0]["name"], "box");
    assert_eq!(listed["bridges"][0]["agents"][0]["profile"]["id"], "demo");
    let agents = world.get("/api/v1/agents").await.json();
    assert_eq!(agents["agents"][0]["health"]["reason"], "auth_required");

    drop(bridge);
    world.online(false).await;
    let machine = &hub.machines().await.unwrap()[0];
    assert_eq!(machine.hostname.as_deref(), Some("testbox"));
    assert!(machine.agents.is_empty());
}

#[tokio::test]
async fn a_second_connection_with_the_same_token_takes_over() {
    let world = World::new().await;
    let mut first = world.bridge(true).await;
    let mut second = world.bridge(true).await;
    assert_eq!(first.closed().await, Some(4001));
    world.task(&mut second).await;
}

#[tokio::test]
async fn nothing_that_arrived_on_an_older_connection_is_overtaken_by_a_newer_one() {
    let world = World::new().await;
    let mut first = world.bridge(true).await;
    let run = world.task(&mut first).await;
    for n in 0..500 {
        first.say(&run.text(n, &format!("{n} "))).await;
    }
    let mut second = world.connect(true).await;
    second
        .say(&json!({ "action": "handshake", "version": "v1.0.0", "providers": ["demo"] }))
        .await;
    second.say(&run.text(500, "500 ")).await;
    second.say(&run.completed(501)).await;
    world
        .status(&run.task, bridge_hub::TaskStatus::Completed)
        .await;
    let expected: Vec<String> = (0..=500).map(|n| format!("{n} ")).collect();
    assert_eq!(texts(&world.events(&run.task, 502).await), expected);
}

#[tokio::test]
async fn hostile_frames_change_nothing_and_the_connection_goes_on() {
    let world = World::new().await;
    let mut bridge = world.bridge(true).await;
    let run = world.task(&mut bridge).await;
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let frames = [
        "",
        "{",
        "null",
        "[]",
        "42",
        "\"x\"",
        "{}",
        "{\"action\":1}",
        "{\"action\":\"\"}",
        "{\"action\":\"no_such_thing\",\"x\":1}",
        "{\"action\":\"bridge_event\"}",
        "{\"action\":\"bridge_event\",\"agentId\":\"demo\",\"event\":{\"run\":1}}",
        "{\"action\":\"heartbeat\",\"agentStatuses\":\"x\",\"timestamp\":7}",
        "{\"action\":\"provider_health\",\"providerHealth\":[1]}",
        "{\"action\":\"available_models\",\"models\":{\"demo\":{\"a\":1}}}",
        "{\"action\":\"agent_update\",\"agents\":{\"a\":1}}",
        "{\"action\":\"read_file_response\",\"requestId\":\"hub-1\",\"path\":7}",
        "{\"action\":\"list_files_response\",\"requestId\":\"nobody\",\"files\":[]}",
        &deep,
    ];
    for frame in frames {
        bridge.send(Message::text(frame)).await;
    }
    bridge
        .send(Message::Binary(Bytes::from_static(b"\0\xff binary")))
        .await;
    bridge.say(&run.text(1, "still here")).await;
    let events = world.events(&run.task, 1).await;
    assert_eq!(texts(&events), ["still here"]);
    assert_eq!(world.get("/api/v1/tasks").await.status, 200);
}

#[tokio::test]
async fn a_frame_over_the_limit_ends_its_connection_and_nothing_else() {
    let world = World::new().await;
    let mut bridge = world.bridge(true).await;
    let run = world.task(&mut bridge).await;
    let huge = vec![b' '; (32 << 20) + 1024];
    // The hub may close before everything is written.
    let sent = bridge.try_send(Message::Binary(huge.into())).await;
    if sent {
        bridge.closed().await;
    }
    drop(bridge);
    let mut again = world.bridge(true).await;
    again.say(&run.text(1, "back")).await;
    assert_eq!(texts(&world.events(&run.task, 1).await), ["back"]);
}

#[tokio::test]
async fn a_machine_cannot_speak_for_tasks_of_another() {
    let world = World::new().await;
    let mut bridge = world.bridge(true).await;
    let run = world.task(&mut bridge).await;
    let token = world
        .hub()
        .create_bridge_token("other")
        .await
        .unwrap()
        .secret;
    let mut other = FakeBridge::connect(world.address(), &token, true)
        .await
        .unwrap();
    other.greet().await;
    other.say(&run.text(1, "forged")).await;
    other.say(&run.completed(2)).await;
    // Its own files question proves that everything before was handled.
    let own = bridge_hub::NewTask {
        machine: bridge_proto::BridgeId::parse(&world.hub().bridge_tokens().await.unwrap()[1].id)
            .unwrap(),
        ..world.new_task("own")
    };
    let task = world.hub().create(own).await.unwrap();
    let attempt = other.expect("dispatch_task").await["requestId"]
        .as_str()
        .unwrap()
        .to_owned();
    let own = crate::support::Run { task, attempt };
    other.say(&own.text(1, "own")).await;
    world.events(&own.task, 1).await;
    bridge.say(&run.text(1, "genuine")).await;
    let events = world.events(&run.task, 1).await;
    assert_eq!(texts(&events), ["genuine"]);
}

#[tokio::test]
async fn a_revoked_machine_is_thrown_out_and_its_runs_end() {
    let world = World::new().await;
    let mut bridge = world.bridge(true).await;
    let run = world.task(&mut bridge).await;
    let path = format!("/api/v1/bridge-tokens/{}", world.machine);
    assert_eq!(
        world
            .ask("DELETE", &path, &[world.authorization()], "")
            .await
            .status,
        204
    );
    assert_eq!(bridge.closed().await, Some(1008));
    world
        .status(&run.task, bridge_hub::TaskStatus::Failed)
        .await;
    let cancel = format!("/api/v1/tasks/{}/cancel", run.task);
    let refused = world.post(&cancel, &json!({})).await;
    assert_eq!((refused.status, &*refused.code()), (409, "task_ended"));
    assert!(
        FakeBridge::connect(world.address(), &world.pairing, true)
            .await
            .is_err()
    );
    let refused = world.hub().create(world.new_task("x")).await;
    assert!(matches!(refused, Err(HubError::UnknownMachine { .. })));
}
