//! Memory: what the bridge needs while many agents work.

use bridge_testkit::wire;

use crate::{Figure, world::World};

/// Twenty tasks that have said something and go on.
pub(crate) async fn of_twenty_tasks() -> Vec<Figure> {
    let world = World::start(TASKS).await;
    let idle = world.memory("VmRSS");
    for n in 0..TASKS {
        let task = wire::dispatch(
            &format!("t{n}"),
            "r",
            "fake",
            "@stream 2000\n@say there\n@hang",
        );
        world.plane.send(&task).await;
    }
    for n in 0..TASKS {
        world.plane.says(&format!("t{n}"), "there").await;
    }
    let busy = world.memory("VmRSS");
    world.stop().await;
    vec![
        Figure::plain("memory of the bridge before any task", idle, "MiB"),
        Figure::plain("memory of the bridge with 20 running tasks", busy, "MiB").at_most(25.0),
    ]
}

const TASKS: u32 = 20;
