//! The spool of the transport: what the disk alone does, and how much of that is left with it.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    time::Instant,
};

use bridge_transport::spool::{Folder, Spool, SpoolConfig};

use crate::{Figure, world::seconds};

/// Everything, one after the other in a folder of its own. All messages have 200 bytes.
pub(crate) fn all() -> Vec<Figure> {
    let dir = tempfile::tempdir().expect("a folder can be made");
    let at = |name: &str| dir.path().join(name);
    let mut figures = Vec::new();
    // Memory first: what was freed later stays with the process.
    figures.extend(queue_of_a_million(&at("million")));
    figures.extend(buffered(&at("raw"), &at("buffered")));
    figures.extend(synced(&at("raw"), &at("synced")));
    figures.extend(one_by_one(&at("raw"), &at("single")));
    let took = reopening(&at("reopened"));
    figures.push(Figure::plain("a spool with 100,000 messages opened", took, "ms").at_most(50.0));
    figures
}

/// A million messages wait: memory, disk, and what comes back when they are acknowledged.
fn queue_of_a_million(path: &Path) -> Vec<Figure> {
    let mut spool = open(path);
    append(&mut spool, 1);
    let before = resident();
    append(&mut spool, MILLION / BATCH);
    let memory = resident() - before;
    let full = spool.usage();
    let begun = Instant::now();
    let read = read_all(&mut spool);
    let reading = per_second(read, begun);
    spool
        .trim(spool.next_seq() - 1)
        .expect("the disk can be written");
    let left = spool.usage();
    let a_message = part(full.disk_bytes, full.records);
    vec![
        Figure::plain("memory for 1,000,000 waiting messages", memory, "MiB").at_most(8.0),
        Figure::plain("disk for a message of 200 bytes", a_message, "B").at_most(230.0),
        Figure::plain("messages read", reading, "/s"),
        Figure::plain(
            "disk left after all were acknowledged",
            part(left.disk_bytes, 1024),
            "KiB",
        )
        .at_most(128.0),
    ]
}

/// Batches without a sync, beside a file that the same bytes are appended to.
fn buffered(raw: &Path, path: &Path) -> Vec<Figure> {
    let rounds = (0..ROUNDS).map(|_| {
        let raw_rate = raw_appends(raw, BATCHES, false);
        let mut spool = open(path);
        let begun = Instant::now();
        append(&mut spool, BATCHES);
        let rate = per_second(BATCHES * BATCH, begun);
        drop(spool);
        fs::remove_dir_all(path).expect("our own folder");
        (rate, raw_rate)
    });
    let (rate, raw_rate) = best(rounds);
    vec![
        Figure::plain("messages appended, batches of 1,000", rate, "/s"),
        Figure::plain("  a plain file takes", raw_rate, "/s"),
        Figure::plain("  of that", 100.0 * rate / raw_rate, "%"),
    ]
}

/// Batches with a sync each, beside a file with the same bytes and syncs.
fn synced(raw: &Path, path: &Path) -> Vec<Figure> {
    let rounds = (0..ROUNDS).map(|_| {
        let raw_rate = raw_appends(raw, SYNCED, true);
        let mut spool = open(path);
        // The first one makes the files.
        append(&mut spool, 1);
        let begun = Instant::now();
        for _ in 0..SYNCED {
            append(&mut spool, 1);
            spool.sync().expect("the disk can be synced");
        }
        let rate = per_second(SYNCED * BATCH, begun);
        drop(spool);
        fs::remove_dir_all(path).expect("our own folder");
        (rate, raw_rate)
    });
    let (rate, raw_rate) = best(rounds);
    vec![
        Figure::plain("messages appended, a sync each batch of 1,000", rate, "/s"),
        Figure::plain("  a plain file with as many syncs takes", raw_rate, "/s"),
        Figure::plain("  of that", 100.0 * rate / raw_rate, "%"),
        Figure::plain("  syncs of this disk", raw_rate / number(BATCH), "/s"),
    ]
}

/// One message a call.
fn one_by_one(raw: &Path, path: &Path) -> Vec<Figure> {
    let mut file = File::create(raw).expect("a file can be made");
    let begun = Instant::now();
    for _ in 0..SINGLE {
        file.write_all(&[b'x'; RECORD]).expect("the disk has room");
    }
    let raw_rate = per_second(SINGLE, begun);
    let mut spool = open(path);
    let payload = [b'x'; PAYLOAD];
    let begun = Instant::now();
    for n in 0..SINGLE {
        spool.append(0, n, &payload).expect("the disk has room");
    }
    let rate = per_second(SINGLE, begun);
    vec![
        Figure::plain("messages appended one by one", rate, "/s"),
        Figure::plain("  a plain file takes", raw_rate, "/s"),
    ]
}

/// Opening with 100,000 waiting, the fastest of some, in milliseconds.
pub(crate) fn reopening(path: &Path) -> f64 {
    let mut spool = open(path);
    append(&mut spool, 100_000 / BATCH);
    drop(spool);
    let times = (0..REOPENED).map(|_| {
        let begun = Instant::now();
        let spool = open(path);
        let took = seconds(begun.elapsed()) * 1000.0;
        assert_eq!(spool.next_seq(), 100_001);
        took
    });
    times.fold(f64::INFINITY, f64::min)
}

fn open(path: &Path) -> Spool<Folder> {
    let folder = Folder::open(path).expect("a folder can be made");
    let config = SpoolConfig::default();
    let (spool, _) = Spool::open(folder, config, [7; 16]).expect("the disk can be read");
    spool
}

fn append(spool: &mut Spool<Folder>, batches: u64) {
    let payload = [b'x'; PAYLOAD];
    for n in 0..batches {
        let batch = spool.append_batch((0..BATCH).map(|_| (0, n, &payload[..])));
        assert!(batch.stopped.is_none(), "{:?}", batch.stopped);
    }
}

fn read_all(spool: &mut Spool<Folder>) -> u64 {
    let mut at = spool.first_seq();
    loop {
        let items = spool.read(at, 256 * 1024, 1000);
        let items = items.expect("the disk can be read");
        if items.is_empty() {
            return at - 1;
        }
        at += u64::try_from(items.len()).expect("a count");
    }
}

/// The same bytes at the end of one file.
fn raw_appends(path: &Path, batches: u64, sync: bool) -> f64 {
    let bytes = vec![b'x'; RECORD * usize::try_from(BATCH).expect("a count")];
    let mut file = File::create(path).expect("a file can be made");
    let begun = Instant::now();
    for _ in 0..batches {
        file.write_all(&bytes).expect("the disk has room");
        if sync {
            file.sync_data().expect("the disk can be synced");
        }
    }
    let rate = per_second(batches * BATCH, begun);
    drop(file);
    fs::remove_file(path).expect("our own file");
    rate
}

/// The round with the best rate; both rates of one round.
fn best(rounds: impl Iterator<Item = (f64, f64)>) -> (f64, f64) {
    rounds.fold(
        (0.0, 1.0),
        |best, next| {
            if next.0 > best.0 { next } else { best }
        },
    )
}

fn per_second(count: u64, begun: Instant) -> f64 {
    number(count) / seconds(begun.elapsed())
}

pub(crate) fn part(whole: u64, parts: u64) -> f64 {
    number(whole) / number(parts)
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn number(count: u64) -> f64 {
    count as f64
}

/// `VmRSS` of this process in MiB.
pub(crate) fn resident() -> f64 {
    let status = fs::read_to_string("/proc/self/status").expect("the kernel tells of us");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: Option<f64> = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.expect("the kernel tells memory in KiB") / 1024.0
}

const PAYLOAD: usize = 200;
/// A payload with what the spool puts before it.
const RECORD: usize = 224;
const BATCH: u64 = 1000;
const MILLION: u64 = 1_000_000;
const BATCHES: u64 = 500;
const SYNCED: u64 = 100;
const SINGLE: u64 = 200_000;
const ROUNDS: usize = 5;
const REOPENED: usize = 5;
