//! `cargo xtask bench link`: what the delivery layer promises, over its public API alone, beside raw
//! tokio-tungstenite in the same run. Everything is on loopback and ends by itself.
//!
//! The far end speaks the delivery envelope, has a thread of its own, and acknowledges what it has
//! committed; what it has not when a connection is cut is forgotten, as in a transaction.

mod account;
mod backlog;
mod far_end;
mod latency;
mod lost;
mod memory;
mod message;
mod table;
mod throughput;
mod times;
mod wire;

use std::{path::Path, process::ExitCode, time::Duration};

use bridge_transport::{
    Endpoint, Handle, Inbox, ProxySource, Stored, SyncPolicy, WebSocket, connect_spooled,
    spool::{Folder, Spool, SpoolConfig},
};

use self::{
    far_end::FarEnd,
    table::{Row, Verdict},
};
use crate::say;

/// Measures the sections whose name contains one of the words; all of them without any.
pub(crate) fn run(words: &[String]) -> ExitCode {
    if let Some((first, words)) = words.split_first()
        && first == "child"
    {
        child(words);
        return ExitCode::SUCCESS;
    }
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word));
    say(&table::head());
    let mut rows = Vec::new();
    for (_, measure) in SECTIONS.iter().filter(|(name, _)| wanted(name)) {
        for row in measure() {
            say(&row.told());
            rows.push(row);
        }
    }
    let count = |verdict| rows.iter().filter(|row| row.verdict == verdict).count();
    let (missed, late) = (count(Verdict::Missed), count(Verdict::Late));
    let figures = rows.len();
    say(&format!(
        "{figures} figures, {missed} missed, {late} times over their limit"
    ));
    if missed == 0 && figures > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

type Measure = fn() -> Vec<Row>;

/// Each with the name it is asked for by.
const SECTIONS: [(&str, Measure); 13] = [
    ("outages", lost::in_outages),
    ("cuts", lost::in_cuts),
    ("kills", lost::in_kills),
    ("hole", times::black_hole),
    ("back", times::back),
    ("storm", times::storm),
    ("throughput", throughput::all),
    ("latency", latency::all),
    ("backlog", backlog::all),
    ("queue", memory::queue),
    ("answers", memory::answers),
    ("reopened", reopened),
    ("wire", wire::all),
];

/// What this program does as a process of its own that it has started for a measurement.
fn child(words: &[String]) {
    match words
        .split_first()
        .map(|(what, words)| (what.as_str(), words))
    {
        Some(("bridge", words)) => lost::child(words),
        Some(("queue", _)) => memory::queue_child(),
        Some(("answers", _)) => memory::answers_child(),
        Some(_) | None => panic!("no such measurement"),
    }
}

fn reopened() -> Vec<Row> {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let took = crate::spool::reopening(folder.path());
    vec![Row::time(
        "a spool of 100,000 messages reopened",
        took,
        "ms",
        50.0,
    )]
}

/// The far end as a link sees it.
fn endpoint(far: &FarEnd) -> Endpoint {
    endpoint_at(&far.url())
}

/// An address of loopback; the extension is offered.
fn endpoint_at(url: &str) -> Endpoint {
    let endpoint = Endpoint::new(url).expect("an address of loopback");
    endpoint.proxy(ProxySource::None).offer_extension(true)
}

/// A link over a spool in that folder.
fn spooled<P: Stored>(endpoint: Endpoint, folder: &Path, sync: SyncPolicy) -> (Handle<P>, Inbox) {
    let carrier = Box::new(WebSocket::new(&endpoint));
    connect_spooled(endpoint, carrier, spool(folder), sync).expect("the spool can be read")
}

/// A spool in a fresh folder, or what a process before this one left of it.
fn spool(folder: &Path) -> Spool<Folder> {
    let folder = Folder::open(folder).expect("a folder can be made");
    let (spool, _) = Spool::open(folder, SpoolConfig::default(), [7; 16]).expect("it can be read");
    spool
}

/// Runs something on a runtime that has this thread alone.
fn on_one_thread<T>(what: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().expect("a runtime can be made");
    runtime.block_on(what)
}

/// How long anything is waited for.
const PATIENCE: Duration = Duration::from_secs(120);
