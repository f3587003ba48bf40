//! Bridges behind a gateway that limits the size of requests, or how often they come, go on with the
//! link they have.

use std::time::Duration;

use bridge_transport::{CarrierKind, CloseReason, FrameRefused, Inbound};

use crate::{
    gateway::{Asked, Gateway},
    links::OF_HTTP,
    support::{Bridge, Run, World, soon},
};

/// A bridge at work behind a gateway.
struct Behind {
    world: World,
    gateway: Gateway,
    bridge: Bridge,
    run: Run,
}

impl Behind {
    async fn new(kind: CarrierKind) -> Self {
        let world = World::new(kind).await;
        let gateway = Gateway::to(world.way.address).await;
        let mut bridge = Bridge::start(world.endpoint_at(gateway.address));
        bridge.expect("sync_demo_agents").await;
        let run = world.task(&mut bridge).await;
        Self {
            world,
            gateway,
            bridge,
            run,
        }
    }

    async fn push(&self, n: u64, text: &str) {
        self.bridge.push(&self.run.text(n, text)).await;
    }

    /// How long the request that was refused with 503 took to come again.
    async fn came_again(&mut self, is: fn(&Asked) -> bool) -> Duration {
        let refused = self.gateway.saw(|asked| asked.refused == Some(503));
        let refused = soon(refused).await.at;
        soon(self.gateway.saw(is)).await.at - refused
    }
}

#[tokio::test]
async fn batches_that_are_too_large_for_the_way_are_halved_until_they_fit() {
    for kind in OF_HTTP {
        let mut behind = Behind::new(kind).await;
        let most = 4_000;
        behind.gateway.narrow(Some(most));
        behind.gateway.so_far();
        // What is said meanwhile goes together.
        behind.world.way.hold(true);
        for n in 0..400 {
            behind.push(n, &format!("{n} ")).await;
        }
        behind.world.way.hold(false);
        let expected: Vec<String> = (0..400).map(|n| format!("{n} ")).collect();
        assert_eq!(behind.world.texts(&behind.run, 400).await, expected);
        let said = behind.gateway.so_far().into_iter().filter(Asked::says);
        let (refused, taken): (Vec<_>, Vec<_>) = said.partition(|asked| asked.refused == Some(413));
        let bytes = |all: Vec<Asked>| -> Vec<usize> { all.iter().map(|it| it.bytes).collect() };
        let (refused, taken) = (bytes(refused), bytes(taken));
        assert!((1..=8).contains(&refused.len()), "{kind:?} {refused:?}");
        assert!(
            taken.iter().any(|bytes| *bytes > most / 4),
            "{kind:?} {taken:?}"
        );
        assert_eq!(behind.bridge.ends, [], "{kind:?}");
    }
}

#[tokio::test]
async fn a_line_that_is_too_long_for_the_way_arrives_in_shorter_ones_over_the_next_connection() {
    for kind in OF_HTTP {
        let mut behind = Behind::new(kind).await;
        behind.gateway.narrow(Some(60 << 10));
        let long = "x".repeat(70 << 10);
        behind.push(0, &long).await;
        let end = behind.bridge.end().await;
        assert!(
            matches!(end, CloseReason::Code { code: 1009, .. }),
            "{kind:?} {end:?}"
        );
        behind.push(1, "after").await;
        let expected = [long, "after".to_owned()];
        assert_eq!(behind.world.texts(&behind.run, 2).await, expected);
    }
}

#[tokio::test]
async fn a_message_that_is_refused_while_it_is_written_is_told_and_does_not_come_again() {
    let kept_by = async |kind| {
        let world = World::new(kind).await;
        let mut gateway = Gateway::to(world.way.address).await;
        // What has the envelope goes in parts.
        let endpoint = world.endpoint_at(gateway.address).offer_extension(false);
        let mut bridge = Bridge::start(endpoint);
        bridge.expect("sync_demo_agents").await;
        gateway.narrow(Some(1 << 20));
        // More than the buffers of a connection hold that nobody reads.
        let bytes = 12 << 20;
        bridge.push(&"x".repeat(bytes)).await;
        let refused = loop {
            if let Inbound::Refused { reason, .. } = bridge.next().await {
                break reason;
            }
        };
        assert_eq!(refused, FrameRefused::TooLargeToSend { bytes }, "{kind:?}");
        bridge.expect("sync_demo_agents").await;
        // Among others, then alone.
        let too_big = |end: &CloseReason| matches!(end, CloseReason::Code { code: 1009, .. });
        assert!(
            bridge.ends.iter().all(too_big),
            "{kind:?} {:?}",
            bridge.ends
        );
        assert_eq!(bridge.ends.len(), 2, "{kind:?}");
        let seen = gateway.so_far().into_iter();
        let refused = seen.filter(|asked| asked.refused == Some(413));
        assert_eq!(refused.count(), 2, "{kind:?}");
    };
    let [one, two, three] = OF_HTTP;
    tokio::join!(kept_by(one), kept_by(two), kept_by(three));
}

#[tokio::test]
async fn a_gateway_that_is_busy_is_asked_again_when_it_said_and_the_link_goes_on() {
    // Longer than a link would wait by itself.
    let wait = 2;
    let kept_by = async |kind| {
        let mut behind = Behind::new(kind).await;
        behind.gateway.so_far();
        behind.gateway.busy("POST", wait);
        behind.push(0, "said").await;
        let waited = behind.came_again(Asked::says).await;
        assert!(waited >= Duration::from_secs(wait), "{kind:?} {waited:?}");
        assert_eq!(behind.world.texts(&behind.run, 1).await, ["said"]);

        behind.gateway.busy("GET", wait);
        behind.world.way.cut();
        behind.world.create("read").await;
        let waited = behind.came_again(Asked::reads).await;
        assert!(waited >= Duration::from_secs(wait), "{kind:?} {waited:?}");
        let dispatch = behind.bridge.expect("dispatch_task").await;
        assert!(dispatch["args"].to_string().contains("read"), "{kind:?}");
        assert_eq!(behind.bridge.ends, [], "{kind:?}");
    };
    let [one, two, three] = OF_HTTP;
    tokio::join!(kept_by(one), kept_by(two), kept_by(three));
}

#[tokio::test]
async fn a_gateway_that_is_busy_for_too_long_ends_the_link_and_nothing_is_lost() {
    for kind in OF_HTTP {
        let mut behind = Behind::new(kind).await;
        behind.gateway.busy("POST", 60);
        behind.push(0, "said").await;
        let end = behind.bridge.end().await;
        let CloseReason::Lost(why) = end else {
            panic!("{kind:?} {end:?}");
        };
        assert!(why.contains("503"), "{kind:?} {why}");
        assert_eq!(behind.world.texts(&behind.run, 1).await, ["said"]);
    }
}
