//! What can be said to a task that goes on, and when it counts: a bridge with agents in this
//! process, one fake plane.

#![cfg(unix)]

use std::sync::Arc;

use bridge_providers::provider::{Asking, Provider};
use bridge_testkit::{
    bridge::{self, Bridge, Setup},
    fake_plane::{FakePlane, Manners},
    home::Home,
    recorder::Recorder,
    wire,
};

struct World {
    home: Home,
    plane: FakePlane,
    bridge: Bridge,
    demo: Arc<Recorder>,
}

/// A bridge whose demo agent is watched.
async fn world(manners: Manners, change: impl FnOnce(&mut Setup<'_>)) -> World {
    let (home, plane) = (Home::new(), FakePlane::start(manners).await);
    let demo = Recorder::of(bridge::demo(&home));
    let mut setup = Setup::new(&home, plane.url());
    let watched: Arc<dyn Provider> = demo.clone();
    setup.providers[0] = watched;
    change(&mut setup);
    let bridge = setup.start();
    plane.sync(&["demo", "fake", "claude"]).await;
    World {
        home,
        plane,
        bridge,
        demo,
    }
}

impl World {
    async fn finish(self) {
        assert!(self.bridge.stop().await.clean, "{}", self.plane.told());
        self.home.none_left().await;
    }

    fn asking(&self) -> Vec<Asking> {
        self.demo.opened().iter().map(|spec| spec.asking).collect()
    }

    /// Drops the connection and waits for the next one, received like this.
    async fn reconnected(&self, conn: u64, manners: Manners) {
        self.plane.set_manners(manners);
        self.plane.cut();
        self.plane.opened(conn).await;
    }
}

#[tokio::test]
async fn a_viewer_that_came_while_a_run_waited_counts_for_it() {
    let world = world(Manners::plain(), |setup| setup.policy.parallel = 1).await;
    let plane = &world.plane;
    plane
        .send(&wire::dispatch("a", "r", "demo", "#demo slow 600"))
        .await;
    plane.says("a", "Step 1").await;
    plane
        .send(&wire::dispatch("b", "r", "demo", "#demo fast"))
        .await;
    world.reconnected(2, Manners::extended()).await;
    // The answer to the sync comes behind the opening, so the bridge knows who listens.
    plane.sync(&["demo"]).await;
    plane.send(&wire::cancel("a", "demo")).await;
    assert_eq!(plane.end_of("b", "r").await.status, "completed");
    assert_eq!(world.asking(), [Asking::Unanswered, Asking::Answered]);
    world.finish().await;
}

#[tokio::test]
async fn a_follow_up_is_asked_as_things_stand_then_and_forgets_nothing() {
    let world = world(Manners::extended(), |_| {}).await;
    let plane = &world.plane;
    plane
        .run("t", "r1", "demo", "#demo fast\nthe blue whale")
        .await;
    world.reconnected(2, Manners::plain()).await;
    plane.sync(&["demo"]).await;
    plane
        .send(&wire::follow_up("t", "r2", "demo", "#demo remember"))
        .await;
    assert_eq!(plane.end_of("t", "r2").await.status, "completed");
    assert_eq!(world.asking(), [Asking::Answered, Asking::Unanswered]);
    let text = plane.text_of("t");
    assert!(text.contains("Before this you wrote"), "{text}");
    world.finish().await;
}
