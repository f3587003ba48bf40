//! The promises of the spool, on a disk in memory.

mod codec;
mod damage;
mod histories;
mod rules;

use super::{
    Cause, Found, Gap, Item, Spool, SpoolConfig, SpoolError,
    disk::Name,
    simulation::{End, Fault, SimulatedDisk},
};

const EPOCH: [u8; 16] = *b"an epoch of test";

fn small() -> SpoolConfig {
    SpoolConfig {
        max_bytes: 1024 * 1024,
        segment_bytes: 4096,
        max_age: None,
    }
}

fn open(disk: &mut SimulatedDisk) -> (Spool<&mut SimulatedDisk>, Found) {
    Spool::open(disk, small(), EPOCH).unwrap()
}

/// Everything from a number on.
fn all(spool: &mut Spool<&mut SimulatedDisk>, from: u64) -> Vec<Item> {
    try_all(spool, from).unwrap()
}

fn try_all(spool: &mut Spool<&mut SimulatedDisk>, from: u64) -> Result<Vec<Item>, SpoolError> {
    let mut items = Vec::new();
    let mut at = from;
    loop {
        let more = spool.read(at, 1000, 7)?;
        let Some(last) = more.last() else {
            return Ok(items);
        };
        at = match last {
            Item::Record { seq, .. } => seq + 1,
            Item::Gap { to, .. } => to + 1,
        };
        items.extend(more);
    }
}

fn numbers(items: &[Item]) -> Vec<u64> {
    items
        .iter()
        .filter_map(|item| match item {
            Item::Record { seq, .. } => Some(*seq),
            Item::Gap { .. } => None,
        })
        .collect()
}

fn gaps(items: &[Item]) -> Vec<Gap> {
    items
        .iter()
        .filter_map(|item| match item {
            Item::Record { .. } => None,
            Item::Gap { from, to, why } => Some(Gap {
                from: *from,
                to: *to,
                why: *why,
            }),
        })
        .collect()
}

/// Appends `count` records that tell their number.
fn fill(spool: &mut Spool<&mut SimulatedDisk>, count: u64) {
    for _ in 0..count {
        let n = spool.next_seq();
        spool.append(0, n, text(n).as_bytes()).unwrap();
    }
}

fn text(n: u64) -> String {
    format!("record {n}")
}
