//! How soon a dead connection is noticed, how soon a link is back, and how links that were dropped
//! together spread.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use bridge_transport::{
    Carrier, CloseReason, DialError, Endpoint, Handle, Inbox, Phase, Text, TextFrame, Timings,
    carrier::{Connection, FrameSink, FrameSource, Received, SinkClosed, Target, TrafficMeter},
    connect, connect_over,
};
use tokio::sync::{mpsc, watch};

use super::{
    PATIENCE, endpoint,
    far_end::{FarEnd, Manner, Ways},
    on_one_thread,
    table::Row,
};
use crate::world::{percentile, seconds};

/// A far end that keeps its connection and says nothing any more.
pub(super) fn black_hole() -> Vec<Row> {
    let short = Timings {
        ping: Duration::from_secs(1),
        silence: Duration::from_secs(2),
        ..Timings::default()
    };
    let (default, short) =
        on_one_thread(async { tokio::join!(unheard(Timings::default()), unheard(short)) });
    vec![
        Row::time("black hole noticed, defaults", default, "s", 25.0),
        Row::time(
            "black hole noticed, ping 1 s and silence 2 s",
            short,
            "s",
            3.0,
        ),
    ]
}

async fn unheard(timings: Timings) -> f64 {
    let far = FarEnd::start(Ways::enveloped());
    let (link, _inbox) = connect::<Text>(endpoint(&far).timings(timings));
    let mut state = link.state();
    let online = state.wait_for(|state| state.phase == Phase::Online).await;
    drop(online.expect("the link is there"));
    // Somewhere between two signs of life.
    tokio::time::sleep(Duration::from_millis(300)).await;
    far.be(Manner::Deaf);
    let begun = Instant::now();
    let gone = state.wait_for(|state| state.phase != Phase::Online).await;
    drop(gone.expect("the link is there"));
    seconds(begun.elapsed())
}

/// Links of one far end that goes away and comes back, with all timings at their defaults.
pub(super) fn back() -> Vec<Row> {
    let long = after(Duration::from_secs(5));
    let short = after(Duration::from_millis(200));
    vec![
        Row::time(
            "back after an outage of 5 s, p50",
            percentile(&long, 50),
            "s",
            1.5,
        ),
        Row::time(
            "back after an outage of 5 s, p99",
            percentile(&long, 99),
            "s",
            4.0,
        ),
        Row::time(
            "back after a blip of 0.2 s, p50",
            percentile(&short, 50),
            "s",
            0.6,
        ),
    ]
}

fn after(outage: Duration) -> Vec<f64> {
    let far = FarEnd::start(Ways::default());
    on_one_thread(async {
        let links: Vec<(Handle<Text>, Inbox)> =
            (0..LINKS).map(|_| connect(endpoint(&far))).collect();
        all_are(&links, |phase| phase == Phase::Online).await;
        far.be(Manner::Away);
        let gone = Instant::now();
        all_are(&links, |phase| phase != Phase::Online).await;
        tokio::time::sleep(outage.saturating_sub(gone.elapsed())).await;
        far.be(Manner::Here);
        let begun = Instant::now();
        let mut times = Vec::new();
        for (link, _) in &links {
            let mut state = link.state();
            let online = state.wait_for(|state| state.phase == Phase::Online).await;
            let since = online.expect("the link is there").since;
            times.push(seconds(since.saturating_duration_since(begun)));
        }
        times.sort_by(f64::total_cmp);
        times
    })
}

async fn all_are(links: &[(Handle<Text>, Inbox)], wanted: impl Fn(Phase) -> bool) {
    for (link, _) in links {
        let mut state = link.state();
        let there = state.wait_for(|state| wanted(state.phase));
        let there = tokio::time::timeout(PATIENCE, there).await;
        drop(there.expect("in time").expect("the link is there"));
    }
}

/// Links over a carrier without sockets lose their connections at one moment; when each dials again.
pub(super) fn storm() -> Vec<Row> {
    let dials = on_one_thread(async {
        let (note, mut dialled) = mpsc::unbounded_channel();
        let (cut, cuts) = watch::channel(false);
        let wires = || {
            let (dialled, cut) = (note.clone(), cuts.clone());
            Box::new(Wires { dialled, cut })
        };
        let endpoint = Endpoint::new("ws://127.0.0.1:9/").expect("an address of loopback");
        let links: Vec<(Handle<Text>, Inbox)> = (0..BRIDGES)
            .map(|_| connect_over(endpoint.clone(), wires()))
            .collect();
        all_are(&links, |phase| phase == Phase::Online).await;
        while dialled.try_recv().is_ok() {}
        let begun = Instant::now();
        cut.send_replace(true);
        let mut dials = Vec::new();
        while dials.len() < BRIDGES {
            let at: Instant = dialled.recv().await.expect("every link dials again");
            dials.push(at.duration_since(begun));
        }
        dials
    });
    let mut buckets = [0_u32; 20];
    for dial in &dials {
        let bucket = usize::try_from(dial.as_millis() / 100).expect("a small number");
        let last = buckets.len() - 1;
        buckets[bucket.min(last)] += 1;
    }
    let fullest = buckets.iter().max().copied().unwrap_or_default();
    let bridges = u32::try_from(BRIDGES).expect("a small number");
    let share = 100.0 * f64::from(fullest) / f64::from(bridges);
    vec![Row::at_most(
        "1,000 links dropped together, in the fullest 100 ms",
        share,
        "%",
        14.0,
    )]
}

/// Carries nothing: opens at once until all are cut, and never after.
struct Wires {
    dialled: mpsc::UnboundedSender<Instant>,
    cut: watch::Receiver<bool>,
}

#[async_trait]
impl Carrier for Wires {
    async fn open(&self, _target: &Target) -> Result<Connection, DialError> {
        let noted = self.dialled.send(Instant::now());
        if *self.cut.borrow() || noted.is_err() {
            return std::future::pending().await;
        }
        Ok(Connection {
            sink: Box::new(Nowhere),
            source: Box::new(UntilCut(self.cut.clone())),
            extended: false,
            traffic: TrafficMeter::new(),
        })
    }
}

struct Nowhere;

#[async_trait]
impl FrameSink for Nowhere {
    async fn send(&mut self, _frames: Vec<TextFrame>) -> Result<(), SinkClosed> {
        Ok(())
    }

    async fn ping(&mut self, _id: u64) -> Result<(), SinkClosed> {
        Ok(())
    }

    async fn close(&mut self, _code: u16) {}
}

struct UntilCut(watch::Receiver<bool>);

#[async_trait]
impl FrameSource for UntilCut {
    async fn next(&mut self) -> Received {
        let cut = self.0.wait_for(|cut| *cut).await.is_ok();
        let reason = if cut { "cut" } else { "over" };
        Received::Closed(CloseReason::Lost(reason.to_owned()))
    }
}

const LINKS: usize = 200;
const BRIDGES: usize = 1000;
