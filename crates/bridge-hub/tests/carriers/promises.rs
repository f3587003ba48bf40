//! What every carrier promises.

use std::time::Duration;

use bridge_transport::{CarrierKind, CloseReason, Flushed, Limits, Phase};
use tokio::time::sleep;

use crate::support::{Bridge, World, soon};

fn numbered(count: u64) -> Vec<String> {
    (0..count).map(|n| format!("{n} ")).collect()
}

pub(crate) async fn a_greeting_goes_first_and_frames_keep_their_order(kind: CarrierKind) {
    let world = World::new(kind).await;
    let mut bridge = world.bridge().await;
    let hub = world.hub();
    let machine = &hub.machines().await.unwrap()[0];
    assert_eq!(machine.hostname.as_deref(), Some("testbox"));
    assert!(machine.extended);
    let run = world.task(&mut bridge).await;
    for n in 0..1000 {
        bridge.push(&run.text(n, &format!("{n} "))).await;
    }
    assert_eq!(world.texts(&run, 1000).await, numbered(1000));
    let prompts: Vec<String> = (0..20).map(|n| format!("prompt {n}")).collect();
    for prompt in &prompts {
        world.create(prompt).await;
    }
    for prompt in &prompts {
        let dispatch = bridge.expect("dispatch_task").await;
        assert!(dispatch["args"].to_string().contains(prompt.as_str()));
    }
    assert_eq!(bridge.ends, []);
}

pub(crate) async fn a_large_message_arrives_whole_in_both_directions(kind: CarrierKind) {
    let world = World::new(kind).await;
    let mut bridge = world.bridge().await;
    let run = world.task(&mut bridge).await;
    // Larger than a batch, a window and a part; with what has to be escaped.
    let large = "ä\n\"\\ ".repeat(200_000);
    bridge.push(&run.text(0, &large)).await;
    bridge.push(&run.text(1, "small")).await;
    assert!(world.texts(&run, 2).await == [large, "small".to_owned()]);
    let prompt = "ä\n\"\\ ".repeat(150_000);
    world.create(prompt.trim()).await;
    let dispatch = bridge.expect("dispatch_task").await.to_string();
    let escaped = serde_json::to_string(prompt.trim()).unwrap();
    let twice = serde_json::to_string(&escaped).unwrap();
    let inner = |text: &str| text.trim_matches(['"', '\\']).to_owned();
    assert!(dispatch.contains(&inner(&escaped)) || dispatch.contains(&inner(&twice)));
    assert_eq!(bridge.ends, []);
}

pub(crate) async fn nothing_is_lost_or_doubled_when_connections_are_cut_again_and_again(
    kind: CarrierKind,
) {
    let world = World::new(kind).await;
    let mut bridge = world.bridge().await;
    let run = world.task(&mut bridge).await;
    let mut n = 0;
    for round in 0..20_usize {
        // Between two requests, and in the middle of an answer.
        world
            .way
            .cut_after((round % 2 == 1).then_some(300 + 50 * round));
        for _ in 0..20 {
            bridge.push(&run.text(n, &format!("{n} "))).await;
            n += 1;
        }
        sleep(Duration::from_millis(10)).await;
        world.way.cut();
    }
    world.way.cut_after(None);
    world.way.cut();
    sleep(Duration::from_millis(10)).await;
    // What arrives from here on came over a connection that nobody cuts.
    bridge.push(&run.text(n, &format!("{n} "))).await;
    n += 1;
    let count = usize::try_from(n).unwrap();
    assert_eq!(world.texts(&run, count).await, numbered(n));
    // And the other direction lives.
    world.create("after all").await;
    let dispatch = bridge.expect("dispatch_task").await;
    assert!(dispatch["args"].to_string().contains("after all"));
}

pub(crate) async fn a_ping_comes_back(kind: CarrierKind) {
    let world = World::new(kind).await;
    let bridge = world.bridge().await;
    let state = bridge.until(|state| state.round_trip.is_some()).await;
    assert_eq!(state.phase, Phase::Online);
}

pub(crate) async fn a_peer_that_takes_nothing_holds_up_and_loses_nothing(kind: CarrierKind) {
    let world = World::new(kind).await;
    let limits = Limits {
        outbox: 256 << 10,
        ..Limits::default()
    };
    let mut bridge = Bridge::start(world.endpoint().limits(limits));
    bridge.expect("sync_demo_agents").await;
    let run = world.task(&mut bridge).await;
    world.way.hold(true);
    let filler = "x".repeat(10_000);
    let count = 800;
    let pushing = async {
        for n in 0..count {
            bridge.push(&run.text(n, &format!("{n} {filler}"))).await;
        }
    };
    let releasing = async {
        sleep(Duration::from_millis(500)).await;
        world.way.hold(false);
    };
    tokio::join!(pushing, releasing);
    let texts = world.texts(&run, usize::try_from(count).unwrap()).await;
    let numbers = texts
        .iter()
        .map(|text| text.split_once(' ').unwrap().0.to_owned() + " ");
    assert_eq!(numbers.collect::<Vec<_>>(), numbered(count));
}

pub(crate) async fn a_bridge_that_reads_nothing_misses_nothing(kind: CarrierKind) {
    let world = World::new(kind).await;
    let mut bridge = world.small_bridge(64 << 10).await;
    let filler = "y".repeat(100_000);
    let prompts: Vec<String> = (0..40).map(|n| format!("prompt {n}: {filler}")).collect();
    for prompt in &prompts {
        world.create(prompt).await;
    }
    for n in 0..prompts.len() {
        let dispatch = bridge.expect("dispatch_task").await;
        assert!(
            dispatch["args"]
                .to_string()
                .contains(&format!("prompt {n}: "))
        );
    }
    assert_eq!(bridge.ends, []);
}

pub(crate) async fn a_shutdown_sends_what_waits_and_says_good_bye(kind: CarrierKind) {
    let world = World::new(kind).await;
    let mut bridge = world.bridge().await;
    let run = world.task(&mut bridge).await;
    for n in 0..500 {
        bridge.push(&run.text(n, &format!("{n} "))).await;
    }
    let flushed = soon(bridge.handle.shutdown(Duration::from_secs(10))).await;
    assert_eq!(flushed, Flushed::Everything);
    // Long before anybody would be missed.
    soon(world.online(false)).await;
    assert_eq!(world.texts(&run, 500).await, numbered(500));
}

pub(crate) async fn a_refused_token_is_known_as_one(kind: CarrierKind) {
    let world = World::new(kind).await;
    let endpoint = world.endpoint().bearer("wrong").unwrap();
    let bridge = Bridge::start(endpoint);
    let state = bridge
        .until(|state| state.phase == Phase::AuthRequired)
        .await;
    assert!(state.last_error.unwrap().contains("401"));
}

pub(crate) async fn a_revoked_token_ends_the_connection_with_its_code(kind: CarrierKind) {
    let world = World::new(kind).await;
    let mut bridge = world.bridge().await;
    world
        .hub()
        .revoke_bridge_token(&world.machine)
        .await
        .unwrap();
    let expected = CloseReason::Code {
        code: 1008,
        reason: "pairing token revoked".to_owned(),
    };
    assert_eq!(bridge.end().await, expected);
    bridge
        .until(|state| state.phase == Phase::AuthRequired)
        .await;
}

pub(crate) async fn a_newer_connection_takes_over(kind: CarrierKind) {
    let world = World::new(kind).await;
    let mut older = world.bridge().await;
    let mut newer = world.bridge().await;
    let CloseReason::Code { code, .. } = older.end().await else {
        panic!("without a code: {:?}", older.ends);
    };
    assert_eq!(code, 4001);
    world.task(&mut newer).await;
}

pub(crate) async fn a_frame_of_any_text_arrives_as_it_is(kind: CarrierKind) {
    let world = World::new(kind).await;
    let mut bridge = world.bridge().await;
    let run = world.task(&mut bridge).await;
    // The hub drops what it cannot read; the carrier must not stumble over it.
    for odd in [
        "",
        "\n",
        "{\"carrier\":\"close\",\"code\":1000,\"reason\":\"\"}",
        "\r\n\r\n",
        "data: x",
    ] {
        bridge.push(&odd).await;
    }
    bridge
        .push(&run.text(0, "line\r\nfeed \u{2028} \u{feff}"))
        .await;
    assert_eq!(
        world.texts(&run, 1).await,
        ["line\r\nfeed \u{2028} \u{feff}"]
    );
    assert_eq!(bridge.ends, []);
}

pub(crate) async fn a_hub_that_stops_says_so(kind: CarrierKind) {
    let world = World::new(kind).await;
    let mut bridge = world.bridge().await;
    let (_way, end) = tokio::join!(world.stop(), bridge.end());
    let CloseReason::Code { code, .. } = end else {
        panic!("without a code: {end:?}");
    };
    assert_eq!(code, 1001);
}
