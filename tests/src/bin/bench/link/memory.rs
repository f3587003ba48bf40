//! What the process holds while much waits, each in a process of its own: what was freed before
//! stays with a process, and would be taken for nothing.

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use bridge_testkit::program::command;
use bridge_transport::{Class, Inbound, Phase, SyncPolicy, Timings, connect};
use tokio::time::timeout;

use super::{
    PATIENCE, endpoint,
    far_end::{FarEnd, Manner, Ways},
    message::Message,
    on_one_thread, spooled,
    table::{Row, amount},
};
use crate::{
    say,
    spool::{part, resident},
};

/// A million messages wait for a far end that is away, then it comes back.
pub(super) fn queue() -> Vec<Row> {
    let [taken, memory, a_message, left] = said_by("queue");
    let all = f64::from(MILLION);
    let what = "memory for 1,000,000 queued messages, above idle";
    vec![
        Row::at_least("queued messages taken without a far end", taken, "", all),
        Row::at_most(what, memory, "MiB", 8.0).only_if(taken >= all),
        Row::at_most("  disk for a message", a_message, "B", 230.0).only_if(taken >= all),
        Row::at_most(
            "  disk left after all were acknowledged",
            left,
            "KiB",
            128.0,
        ),
    ]
}

/// The far end does not read 100 MiB of answers.
pub(super) fn answers() -> Vec<Row> {
    let [taken, memory, arrived] = said_by("answers");
    let waits = taken < f64::from(ANSWERS);
    let lost = u64::from(arrived < f64::from(ANSWERS));
    vec![
        Row::at_most(
            "memory while 100 MiB of answers are not read",
            memory,
            "MiB",
            16.0,
        ),
        Row::holds("  the producer waits", amount(taken, "taken"), waits),
        Row::none("  missing when they are read after all", lost),
    ]
}

/// Starts this program again for one measurement, and gives the figures it prints.
fn said_by<const N: usize>(what: &str) -> [f64; N] {
    let this = std::env::current_exe().expect("a program knows its own file");
    let mut child = command(this);
    let child = child.args(["link", "child", what]).stderr(Stdio::inherit());
    let done = child.output().expect("our own program");
    assert!(done.status.success(), "{what} failed: {}", done.status);
    let said = String::from_utf8(done.stdout).expect("our own words");
    let figures: Vec<f64> = said
        .split_whitespace()
        .map(|figure| figure.parse().expect("a figure"))
        .collect();
    figures.try_into().expect("as many figures as wanted")
}

/// Prints how many messages were taken, the memory in MiB, the disk in bytes a message, and what of
/// it is left at the end in KiB.
pub(super) fn queue_child() {
    let far = FarEnd::start(Ways::enveloped());
    let folder = tempfile::tempdir().expect("a folder can be made");
    far.be(Manner::Away);
    let figures = on_one_thread(async {
        let quick = Timings::default().reconnect_within(Duration::from_millis(100));
        let (link, _inbox) = spooled(
            endpoint(&far).timings(quick),
            folder.path(),
            SyncPolicy::Never,
        );
        let push = async |first: u32| {
            let list: Vec<_> = (first..first + BATCH).map(|n| Message::new(0, n)).collect();
            timeout(HELD_UP, link.push_all(list)).await.is_ok()
        };
        assert!(push(0).await, "a thousand have room");
        let idle = resident();
        let mut taken = BATCH;
        while taken < MILLION && push(taken).await {
            taken += BATCH;
        }
        let memory = resident() - idle;
        let a_message = part(disk(folder.path()), u64::from(taken));
        far.be(Manner::Here);
        let all = taken as usize;
        assert!(far.sees(PATIENCE, |seen| seen.taken.len() >= all).await);
        let begun = Instant::now();
        while disk(folder.path()) > LITTLE && begun.elapsed() < HELD_UP {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let left = part(disk(folder.path()), 1024);
        format!("{taken} {memory} {a_message} {left}")
    });
    say(&figures);
}

/// Prints how many answers were taken while nothing was read, the memory in MiB, and how many
/// arrived when it was.
pub(super) fn answers_child() {
    let far = FarEnd::start(Ways::enveloped());
    let figures = on_one_thread(async {
        let (link, mut inbox) = connect::<Message>(endpoint(&far));
        let conn = match inbox.recv().await {
            Some(Inbound::Opened { conn, .. }) => conn,
            other => panic!("{other:?} before a connection"),
        };
        let mut state = link.state();
        let online = state.wait_for(|state| state.phase == Phase::Online).await;
        drop(online.expect("the link is there"));
        far.be(Manner::Deaf);
        let idle = resident();
        let answer = || Message::of(Class::Reply { conn }, "x".repeat(ANSWER));
        let mut taken = 0;
        let mut waiting = Box::pin(link.push(answer()));
        while taken < ANSWERS
            && let Ok(pushed) = timeout(STANDS, &mut waiting).await
        {
            pushed.expect("the link is there");
            taken += 1;
            waiting = Box::pin(link.push(answer()));
        }
        let memory = resident() - idle;
        far.be(Manner::Here);
        let mut sent = taken;
        while sent < ANSWERS {
            waiting.await.expect("the link is there");
            sent += 1;
            waiting = Box::pin(link.push(answer()));
        }
        let all = u64::from(ANSWERS);
        far.sees(PATIENCE, |seen| seen.others >= all).await;
        let arrived = far.ledger().others;
        format!("{taken} {memory} {arrived}")
    });
    say(&figures);
}

/// What the files of a spool take, in bytes.
fn disk(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let files = std::fs::read_dir(folder).expect("our own folder");
    // Files that are given back in this moment count as nothing.
    let sizes = files.filter_map(|file| Some(file.ok()?.metadata().ok()?.blocks() * 512));
    sizes.sum()
}

const MILLION: u32 = 1_000_000;
const BATCH: u32 = 1000;
const ANSWERS: u32 = 1600;
const ANSWER: usize = 64 << 10;
/// Who was not taken for so long is held up.
const HELD_UP: Duration = Duration::from_secs(5);
/// A producer of answers that was not taken for so long waits.
const STANDS: Duration = Duration::from_secs(1);
/// An empty spool has a ledger and one segment.
const LITTLE: u64 = 128 << 10;
