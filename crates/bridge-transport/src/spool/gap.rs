//! What a spool gives back: records, and what stands for those that are missing.

use bytes::Bytes;

/// Numbers that have no record, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The first of them.
    pub from: u64,
    /// The last of them.
    pub to: u64,
    /// What became of them.
    pub why: Cause,
}

/// Why numbers have no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// They may have been given out before a crash of the machine, and nothing of them was on the
    /// disk. Most of a wide gap was never used: numbers are reserved in blocks.
    LostUnsynced,
    /// Their records were written, and the disk does not give them back.
    Damaged,
    /// They were dropped because of their age; see [`Spool::expire`](super::Spool::expire).
    Expired,
    /// They lie before everything that is here: acknowledged, or lost with a ledger or a segment
    /// in a crash.
    Trimmed,
}

/// One thing in a spool, in the order of the numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A record, as it was appended.
    Record {
        /// Its number.
        seq: u64,
        /// What the caller said of it.
        flags: u8,
        /// The time the caller gave, in milliseconds.
        at_ms: u64,
        /// Its bytes. They share memory with the records read along with it.
        payload: Bytes,
    },
    /// Numbers without records.
    Gap {
        /// The first of them.
        from: u64,
        /// The last of them.
        to: u64,
        /// What became of them.
        why: Cause,
    },
}

impl From<Gap> for Item {
    fn from(Gap { from, to, why }: Gap) -> Self {
        Self::Gap { from, to, why }
    }
}

/// What [`Spool::open`](super::Spool::open) found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Names the stream: the one that was found, or the fresh one.
    pub epoch: [u8; 16],
    /// There was no stream, or nothing of it could be read; the epoch is the fresh one.
    pub fresh: bool,
    /// The spool was closed before; nothing can be missing but by damage.
    pub clean: bool,
    /// The oldest number that was not acknowledged.
    pub first: u64,
    /// The number the next record gets.
    pub next: u64,
    /// How many records wait.
    pub records: u64,
    /// What is missing among them, oldest first; the first [`MAX_TOLD`] of it.
    pub gaps: Vec<Gap>,
    /// How many gaps are not told in `gaps`; reading tells them all.
    pub more_gaps: u64,
    /// Bytes of an unfinished write that were cut from the end.
    pub cut: u64,
    /// Bytes that are no record and lie among records.
    pub damaged: u64,
    /// Segments of another stream, or of one that cannot be read any more; they were removed.
    pub strangers: u64,
}

/// What a spool holds at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Records that were not acknowledged. After damage in a segment that is acknowledged in
    /// part, it may be too low by what is missing there.
    pub records: u64,
    /// Their bytes on the disk, to within 16 KiB.
    pub bytes: u64,
    /// Bytes of all files. [`SpoolConfig::max_bytes`](super::SpoolConfig::max_bytes) bounds those
    /// of segments.
    pub disk_bytes: u64,
    /// Files with records.
    pub segments: u64,
}

/// How many gaps are told by [`Found`].
pub const MAX_TOLD: usize = 1000;
