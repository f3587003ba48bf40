//! Text: how long an increment takes from the agent to the plane, and that all of it arrives.

use std::{process::Stdio, time::Instant};

use bridge_testkit::{
    fake_plane::{FakePlane, Manners, frame},
    program::{beside, command},
};
use futures_util::SinkExt as _;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio_tungstenite::{connect_async, tungstenite::Message};

use crate::{
    Figure,
    world::{World, millis, nanoseconds, percentile, seconds},
};

/// Increments that come after a pause go out at once.
pub(crate) async fn after_quiet() -> Vec<Figure> {
    let raw = raw_way(QUIET, QUIET_MILLIS).await;
    let world = World::start(4).await;
    let prompt = format!("@clock {QUIET} {QUIET_MILLIS}");
    let end = world.plane.run("quiet", "r", "fake", &prompt).await;
    assert_eq!(end.status, "completed", "{end:?}");
    let texts = world.texts("quiet");
    let latencies = latencies(&texts);
    assert_eq!(latencies.len(), QUIET, "every increment arrived");
    world.stop().await;
    let judged = |what, per_cent, limit| {
        let figure = Figure::plain(what, percentile(&latencies, per_cent), "ms");
        figure.at_most(limit).against(percentile(&raw, per_cent))
    };
    vec![
        judged("first line after quiet to the wire, p50", 50, 1.0),
        judged("first line after quiet to the wire, p99", 99, 10.0),
    ]
}

/// As many as the agent can print: merged, and no increment waits much longer than the pace.
pub(crate) async fn under_flood() -> Vec<Figure> {
    let raw = raw_way(QUIET, QUIET_MILLIS).await;
    let world = World::start(4).await;
    let end = world
        .plane
        .run("flood", "r", "fake", &format!("@clock {FLOOD}"))
        .await;
    assert_eq!(end.status, "completed", "{end:?}");
    let texts = world.texts("flood");
    let all = latencies(&texts);
    assert_eq!(all.len(), FLOOD as usize, "every increment arrived");
    world.stop().await;
    let times: Vec<u128> = texts.iter().map(|(at, _)| *at).collect();
    let first = times.first().copied().unwrap_or_default();
    let lasted = times.last().copied().unwrap_or_default() - first;
    let count = u32::try_from(times.len()).unwrap_or(u32::MAX);
    let per_pace = f64::from(count) / (millis(lasted) / PACE_MILLIS + 1.0);
    vec![
        Figure::plain(
            "under flood, agent to the wire, p50",
            percentile(&all, 50),
            "ms",
        ),
        Figure::plain(
            "under flood, agent to the wire, p99",
            percentile(&all, 99),
            "ms",
        )
        .at_most(35.0)
        .beside(percentile(&raw, 99)),
        Figure::plain("under flood, messages per 30 ms and task", per_pace, "").at_most(1.0),
        Figure::plain(
            "under flood, increments per second",
            f64::from(FLOOD) / (millis(lasted) / 1000.0),
            "",
        ),
    ]
}

/// All of the text, in order.
pub(crate) async fn to_the_last_byte() -> Vec<Figure> {
    let world = World::start(4).await;
    let mut figures = Vec::new();
    for (task, pieces, what) in [
        ("few", 2_000, "2,000 increments, from task to end"),
        ("many", 1_000_000, "1,000,000 increments, from task to end"),
    ] {
        let (begun, before) = (Instant::now(), world.processor());
        let prompt = format!("@stream {pieces}");
        let end = world.plane.run(task, "r", "fake", &prompt).await;
        let took = begun.elapsed();
        assert_eq!(end.status, "completed", "{end:?}");
        let wanted = (1..=pieces).fold(String::new(), |text, n| text + &format!("w{n} "));
        assert!(
            world.plane.text_of(task) == wanted,
            "the text of {task} differs"
        );
        figures.push(Figure::plain(what, seconds(took), "s"));
        let busy = world.processor() - before;
        figures.push(Figure::plain(
            "  processor time of the bridge for it",
            busy,
            "s",
        ));
    }
    let most = world.memory("VmHWM");
    figures.push(Figure::plain("most memory of the bridge meanwhile", most, "MiB").at_most(64.0));
    world.stop().await;
    figures
}

/// Latencies in milliseconds, sorted: texts are times of the agent, each with when it came.
fn latencies(texts: &[(u128, String)]) -> Vec<f64> {
    let each = texts.iter().flat_map(|(at, text)| {
        let said = text
            .split_whitespace()
            .filter_map(|word| word.parse::<u128>().ok());
        said.map(|said| millis(at.saturating_sub(said)))
    });
    let mut all: Vec<f64> = each.collect();
    all.sort_by(f64::total_cmp);
    all
}

/// The same without a bridge: the agent's lines from its pipe to a WebSocket on loopback.
async fn raw_way(pieces: usize, apart: u32) -> Vec<f64> {
    let plane = FakePlane::start(Manners::plain()).await;
    let (mut socket, _) = connect_async(plane.url()).await.expect("our own plane");
    let mut agent = tokio::process::Command::from(command(beside("fake_agent")));
    agent.args(["clock", &pieces.to_string(), &apart.to_string()]);
    let agent = agent.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut agent = agent.kill_on_drop(true).spawn().expect("our own agent");
    let out = agent.stdout.take().expect("a pipe was asked for");
    let mut lines = BufReader::new(out).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        // A frame that can be read as JSON, so that the plane does the same with it.
        let sent = socket
            .send(Message::text(format!("{{\"said\":\"{line}\"}}")))
            .await;
        sent.expect("our own plane listens");
    }
    socket.close(None).await.expect("our own plane listens");
    plane
        .see(|heard| matches!(heard.what, bridge_testkit::fake_plane::What::Closed(_)))
        .await;
    let log = plane.log();
    let texts = log.iter().filter_map(|heard| {
        let said = frame(heard)?["said"].as_str()?;
        Some((nanoseconds(heard.at), said.to_owned()))
    });
    latencies(&texts.collect::<Vec<_>>())
}

/// Increments after a pause.
const QUIET: usize = 300;
/// Longer than the pace.
const QUIET_MILLIS: u32 = 40;
const FLOOD: u32 = 300_000;
/// The least time between two messages with text of one task.
const PACE_MILLIS: f64 = 30.0;
