//! File requests: from the request to its reply, what they cost, and what a burst of them needs.

use std::{cell::Cell, fs, time::Instant};

use bridge_testkit::fake_plane::{Order, frame};
use serde_json::{Value, json};

use crate::{
    Figure,
    world::{World, percentile, seconds},
};

/// One request after the other, each sent when the reply to the one before has come. A write has no
/// reply, so a read of the same file goes right behind it and both are measured together.
pub(crate) async fn one_after_the_other() -> Vec<Figure> {
    let world = World::start(4).await;
    task_folder(&world);
    let mut figures = Vec::new();
    for (kind, p50, p99) in [
        (
            Kind::List,
            "list to its reply, p50",
            "list to its reply, p99",
        ),
        (
            Kind::Read,
            "read to its reply, p50",
            "read to its reply, p99",
        ),
        (
            Kind::Write,
            "write, and a read behind it to its reply, p50",
            "write, and a read behind it to its reply, p99",
        ),
    ] {
        let mut times = Vec::with_capacity(SEQUENTIAL);
        for n in 0..SEQUENTIAL {
            let id = format!("{kind:?}-{n}");
            let before = world.plane.seen();
            let begun = Instant::now();
            if let Kind::Write = kind {
                world.plane.send(&write(n)).await;
            }
            world.plane.send(&request(kind, &id)).await;
            let reply = |frame: &Value| frame["requestId"] == id.as_str();
            let (_, reply) = world.plane.heard_after(before, reply).await;
            times.push(seconds(begun.elapsed()) * 1000.0);
            assert!(reply["error"].is_null(), "{reply}");
        }
        times.sort_by(f64::total_cmp);
        figures.push(Figure::plain(p50, percentile(&times, 50), "ms"));
        figures.push(Figure::plain(p99, percentile(&times, 99), "ms"));
    }
    world.stop().await;
    figures
}

/// Many reads of a small file at once: what a thousand of them cost the bridge.
pub(crate) async fn pipelined() -> Vec<Figure> {
    let world = World::start(4).await;
    task_folder(&world);
    // The first ones warm it up.
    answered(&world, "warm", PIPELINED).await;
    let before = world.processor();
    for round in 0..ROUNDS {
        answered(&world, &format!("p{round}"), PIPELINED).await;
    }
    let cost = (world.processor() - before) * 1000.0 / f64::from(ROUNDS);
    world.stop().await;
    vec![Figure::plain(
        "processor time for 1,000 pipelined reads of 200 bytes",
        cost,
        "ms",
    )]
}

/// Ten thousand requests as fast as they can be sent; all are answered.
pub(crate) async fn in_a_burst() -> Vec<Figure> {
    let world = World::start(4).await;
    task_folder(&world);
    let before = world.memory("VmHWM");
    let begun = Instant::now();
    answered(&world, "burst", BURST).await;
    let took = seconds(begun.elapsed());
    let more = world.memory("VmHWM") - before;
    world.stop().await;
    vec![
        Figure::plain("a burst of 10,000 reads, to the last reply", took, "s"),
        Figure::plain("  more memory of the bridge at its most", more, "MiB").at_most(32.0),
    ]
}

/// Sends that many reads without waiting, then waits for all replies.
async fn answered(world: &World, name: &str, count: usize) {
    let before = world.plane.seen();
    let frames = (0..count).map(|n| request(Kind::Read, &format!("{name}-{n}")).to_string());
    let frames: Vec<String> = frames.collect();
    for some in frames.chunks(TOGETHER) {
        world.plane.order(Order::Texts(some.to_vec())).await;
    }
    let (open, of_these) = (Cell::new(count), format!("{name}-"));
    let last = world.plane.see_after(before, |heard| {
        let id = frame(heard).and_then(|frame| frame["requestId"].as_str());
        if id.is_some_and(|id| id.starts_with(&of_these)) {
            open.set(open.get() - 1);
        }
        open.get() == 0
    });
    last.await;
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    List,
    Read,
    Write,
}

fn request(kind: Kind, id: &str) -> Value {
    match kind {
        Kind::List => json!({
            "action": "list_files", "requestId": id, "agentId": "fake", "useCtrlnode": true,
            "subpath": FOLDER,
        }),
        Kind::Read | Kind::Write => json!({
            "action": "read_file", "requestId": id, "agentId": "fake", "useCtrlnode": true,
            "path": format!("{FOLDER}/output/small.md"),
        }),
    }
}

fn write(n: usize) -> Value {
    json!({
        "action": "write_file", "agentId": "fake", "useCtrlnode": true,
        "path": format!("{FOLDER}/output/small.md"), "content": format!("{n:0>200}"),
    })
}

/// A task folder as they are: a dozen files, one of them of 200 bytes.
fn task_folder(world: &World) {
    let output = world.home.root().join(FOLDER).join("output");
    fs::create_dir_all(&output).expect("a home can be written");
    for n in 0..10 {
        fs::write(output.join(format!("{n}.md")), "text").expect("a home can be written");
    }
    fs::write(output.join("small.md"), "x".repeat(200)).expect("a home can be written");
}

const FOLDER: &str = "tasks/web/03-14/1a2b3c4d-fix-login";
const SEQUENTIAL: usize = 5_000;
const PIPELINED: usize = 1_000;
const ROUNDS: u32 = 30;
/// Requests that a plane writes to its socket in one go.
const TOGETHER: usize = 100;
const BURST: usize = 10_000;
