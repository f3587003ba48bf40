//! Cancel: how long until nobody is left of a run.

use std::time::{Duration, Instant};

use bridge_testkit::wire;
use tokio::time::timeout;

use crate::{
    Figure,
    world::{World, seconds},
};

/// Of an agent that obeys, and of one that no signal but the last ends; both have started programs
/// that are like them in that.
pub(crate) async fn obeyed_and_ignored() -> Vec<Figure> {
    let world = World::start(4).await;
    let mut obeyed = Duration::ZERO;
    for n in 0..TIMES {
        let prompt = "@children\n@say working\n@hang";
        obeyed = obeyed.max(cancelled(&world, &format!("o{n}"), "fake", prompt).await);
    }
    let prompt = "@deaf-children\n@say working\n@deaf";
    let ignored = cancelled(&world, "stubborn", "stubborn", prompt).await;
    world.stop().await;
    vec![
        Figure::plain(
            "cancel to nobody left, agent obeys (slowest of 5)",
            seconds(obeyed),
            "s",
        )
        .at_most(1.0),
        Figure::plain(
            "cancel to nobody left, agent ignores all signals",
            seconds(ignored),
            "s",
        )
        .at_most(12.0),
    ]
}

async fn cancelled(world: &World, task: &str, agent: &str, prompt: &str) -> Duration {
    world
        .plane
        .send(&wire::dispatch(task, "r", agent, prompt))
        .await;
    world.plane.says(task, "working").await;
    let at_work = async {
        while world.home.of_run(task, "r").len() < AT_LEAST {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    let at_work = timeout(Duration::from_secs(60), at_work).await;
    at_work.expect("the agent starts its programs in time");
    let asked = Instant::now();
    world.plane.send(&wire::cancel(task, agent)).await;
    let end = world.plane.end_of(task, "r").await;
    assert_eq!(end.status, "cancelled", "{end:?}");
    world.home.none_left_of(task, "r").await;
    asked.elapsed()
}

const LOOK_AGAIN: Duration = Duration::from_millis(20);
const TIMES: usize = 5;
/// The agent, and two shells with a program each.
const AT_LEAST: usize = 5;
