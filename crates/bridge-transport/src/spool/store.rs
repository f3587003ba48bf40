//! The spool itself: its numbers, and everything but appending, reading and opening.

use std::{io, time::Duration};

use super::{
    disk::{Disk, Loaded, Name, append_all, load, wide},
    gap::{Cause, Gap, Item, Usage},
    index::{Index, Segment},
    ledger::{Entry, Ledger},
    record::{Piece, SEGMENT_HEAD, Scan},
};

/// The bounds of a spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolConfig {
    /// Bytes that segments may take on the disk; 1 GiB by default. Beyond it nothing is accepted.
    pub max_bytes: u64,
    /// Size of a segment; 1 MiB by default, kept between 4 KiB and 64 MiB. A record that is larger
    /// gets a segment of its own.
    pub segment_bytes: u64,
    /// How long a message may wait, by the wall clock; without a bound by default. A link lets go of
    /// what has waited longer, terminal messages too, and both ends are told. At least a second.
    pub max_age: Option<Duration>,
}

impl Default for SpoolConfig {
    fn default() -> Self {
        Self {
            max_bytes: 1024 * 1024 * 1024,
            segment_bytes: 1024 * 1024,
            max_age: None,
        }
    }
}

/// Why something could not be done. The spool stays usable; what it holds is unchanged.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// A file or the folder cannot be read.
    #[error("the spool cannot be read: {name}")]
    Read {
        /// The file's name, or that of the folder.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// A file cannot be written or removed.
    #[error("the spool cannot be written: {name}")]
    Write {
        /// The file's name.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// What was written cannot be made durable. The next [`Spool::sync`] writes it anew.
    #[error("the spool cannot be synced: {name}")]
    Sync {
        /// The file's name, or that of the folder.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// A number was acknowledged that was never given out: the far end knows another stream, or
    /// this one went back in time with its disk.
    #[error("number {acked} was acknowledged, the next one to be given out is {next}")]
    NotGivenOut {
        /// The number.
        acked: u64,
        /// [`Spool::next_seq`].
        next: u64,
    },
}

/// A stream of records on a [`Disk`].
///
/// It has one owner, who decides when to [`sync`](Self::sync). A record is read back from the
/// moment it was accepted; it survives the end of the process from then on, and a power cut after
/// the next sync. Dropping the spool is like a crash of the process: nothing is lost.
#[derive(Debug)]
pub struct Spool<D> {
    pub(super) disk: D,
    pub(super) config: SpoolConfig,
    pub(super) epoch: [u8; 16],
    pub(super) boot: Option<[u8; 16]>,
    pub(super) index: Index,
    /// The segment that records are appended to; `None` when the next one needs a new segment.
    pub(super) active: Option<u64>,
    /// What was cut from a segment may come back after a power cut.
    pub(super) may_come_back: bool,
    pub(super) ledger: Ledger,
    /// The newest segment, as far as the ledger knows.
    pub(super) told_segment: u64,
    /// [`acked`](Self::acked), as far as the ledger knows.
    pub(super) told_acked: u64,
    pub(super) acked: u64,
    pub(super) expired: u64,
    pub(super) next: u64,
    pub(super) reserved: u64,
    /// The last number that a record was written for.
    pub(super) after: u64,
    pub(super) synced: u64,
    /// Names in the folder may not be on the disk yet.
    pub(super) unsynced_names: bool,
    /// [`next`](Self::next) when it was opened.
    pub(super) opened_at: u64,
    pub(super) cursor: Option<Cursor>,
    /// Encoded records that are not written yet, and the payload's length and time of each.
    pub(super) buffer: Vec<u8>,
    pub(super) staged: Vec<(usize, u64)>,
}

/// Where reading stopped.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor {
    pub(super) seq: u64,
    pub(super) segment: u64,
    pub(super) place: u32,
    pub(super) offset: u64,
}

impl<D: Disk> Spool<D> {
    /// Names the stream; numbers of another epoch have nothing to do with these.
    pub fn epoch(&self) -> [u8; 16] {
        self.epoch
    }

    /// The number the next record gets; the first one is 1.
    pub fn next_seq(&self) -> u64 {
        self.next
    }

    /// The oldest number that was not acknowledged; [`next_seq`](Self::next_seq) when all were.
    pub fn first_seq(&self) -> u64 {
        self.acked + 1
    }

    /// How it was opened.
    pub fn config(&self) -> SpoolConfig {
        self.config
    }

    /// No number up to this one can be lost to a power cut any more.
    pub fn synced_up_to(&self) -> u64 {
        self.synced.max(self.acked)
    }

    /// What is held.
    pub fn usage(&self) -> Usage {
        let gone = self.acked.max(self.expired);
        let mut usage = Usage {
            disk_bytes: self.index.bytes() + self.ledger.size(),
            segments: wide(self.index.len()),
            ..Usage::default()
        };
        for segment in self.index.all().filter(|segment| segment.last > gone) {
            let passed = (gone + 1).saturating_sub(segment.first);
            let (_, offset) = segment.seek(segment.first + passed);
            usage.records += segment.records.saturating_sub(passed);
            usage.bytes += segment.end.saturating_sub(offset);
        }
        usage
    }

    /// Makes everything accepted so far survive a power cut.
    ///
    /// # Errors
    /// After an error nothing new counts as synced. A system forgets that a sync failed, so the
    /// next call does not try the same again: it writes the segment anew.
    pub fn sync(&mut self) -> Result<(), SpoolError> {
        let unsynced: Vec<u64> = self
            .index
            .all()
            .filter(|segment| segment.unsynced)
            .map(|segment| segment.first)
            .collect();
        for first in unsynced {
            self.sync_segment(first)?;
        }
        if self.unsynced_names {
            self.disk.sync_folder().map_err(|source| SpoolError::Sync {
                name: "folder".to_owned(),
                source,
            })?;
            self.unsynced_names = false;
        }
        if self.synced < self.after {
            self.synced = self.after;
            self.tell();
        }
        Ok(())
    }

    fn sync_segment(&mut self, first: u64) -> Result<(), SpoolError> {
        let Some(segment) = self.index.get(first) else {
            return Ok(());
        };
        let name = Name::Segment(first);
        let synced = if segment.distrusted {
            let segment = segment.clone();
            self.rewrite(&segment)
        } else {
            self.disk.sync(name)
        };
        let Some(segment) = self.index.get_mut(first) else {
            return Ok(());
        };
        segment.distrusted = synced.is_err();
        segment.unsynced = synced.is_err();
        synced.map_err(|source| SpoolError::Sync {
            name: name.to_string(),
            source,
        })
    }

    /// Writes a segment anew, from what the system still gives back of it.
    fn rewrite(&mut self, segment: &Segment) -> io::Result<()> {
        let name = Name::Segment(segment.first);
        let len = usize::try_from(segment.end).map_err(io::Error::other)?;
        let mut bytes = Vec::new();
        if load(&mut self.disk, name, 0, len, &mut bytes)? == Loaded::InPart {
            return Err(io::Error::other("a part of it cannot be read"));
        }
        let records = bytes.get(SEGMENT_HEAD..).unwrap_or_default();
        let mut scan = Scan::new(records, segment.salt, 0, u64::MAX, true);
        let mut whole = 0;
        while let piece @ (Piece::Record(_) | Piece::Damage(_)) = scan.next() {
            whole += u64::from(matches!(piece, Piece::Record(_)));
        }
        if whole < segment.records {
            tracing::warn!(%name, "records of the spool are lost: the disk refused and forgot them");
        }
        self.disk.create(Name::Draft)?;
        append_all(&mut self.disk, Name::Draft, &bytes)?;
        self.disk.sync(Name::Draft)?;
        self.disk.rename(Name::Draft, name)?;
        self.disk.sync_folder()
    }

    /// Everything up to this number has arrived for good: gives its disk back.
    ///
    /// Segments go as a whole; the newest one goes when nothing in it is waiting and it is not
    /// tiny. After a crash the acknowledgement may be forgotten for the last few records.
    ///
    /// # Errors
    /// For a number that was never given out nothing is done. After any other error the number
    /// counts as acknowledged, and the next call tries to remove again.
    pub fn trim(&mut self, acked: u64) -> Result<(), SpoolError> {
        if acked >= self.next {
            return Err(SpoolError::NotGivenOut {
                acked,
                next: self.next,
            });
        }
        self.acked = self.acked.max(acked);
        self.drop_heads(KEPT_BYTES)?;
        if self.acked - self.told_acked >= TOLD_EVERY {
            self.tell();
        }
        Ok(())
    }

    /// Drops what is older than a moment: records from the head on, as long as their time lies
    /// before it and their number below `below`. Gives what was dropped; reading tells it as a gap
    /// until it is acknowledged.
    ///
    /// # Errors
    /// After an error nothing was dropped, or its files could not be removed yet.
    pub fn expire(&mut self, older_than_ms: u64, below: u64) -> Result<Option<Gap>, SpoolError> {
        let from = self.acked.max(self.expired) + 1;
        let to = self.last_older(from, older_than_ms)?;
        let to = to.min(below.saturating_sub(1));
        if to < from {
            return Ok(None);
        }
        let before = std::mem::replace(&mut self.expired, to);
        let entry = self.entry();
        if let Err(source) = self.ledger.write(&mut self.disk, &entry, false) {
            self.expired = before;
            return Err(SpoolError::Write {
                name: Name::Ledger.to_string(),
                source,
            });
        }
        self.drop_heads(KEPT_BYTES)?;
        Ok(Some(Gap {
            from,
            to,
            why: Cause::Expired,
        }))
    }

    /// The last number from `from` on before which all is older; `from - 1` for none.
    fn last_older(&mut self, from: u64, older_than_ms: u64) -> Result<u64, SpoolError> {
        let mut to = from - 1;
        let mut at = from;
        loop {
            if let Some(segment) = self.index.before(at)
                && at <= segment.last
                && segment.newest_ms < older_than_ms
            {
                to = segment.last;
                at = to + 1;
                continue;
            }
            let items = self.read(at, EXPIRE_BYTES, EXPIRE_RECORDS)?;
            if items.is_empty() {
                return Ok(to);
            }
            for item in items {
                match item {
                    Item::Record { seq, at_ms, .. } if at_ms < older_than_ms => {
                        to = seq;
                        at = seq + 1;
                    }
                    Item::Record { .. } => return Ok(to),
                    Item::Gap { to: end, .. } => at = end + 1,
                }
            }
        }
    }

    /// Ends in order: everything is synced, and the next opening goes on with the next number
    /// without doubt, whatever becomes of the system in between.
    ///
    /// # Errors
    /// After an error it is as if the process had died.
    pub fn close(mut self) -> Result<(), SpoolError> {
        self.sync()?;
        self.reserved = self.next - 1;
        let entry = Entry {
            clean: true,
            ..self.entry()
        };
        self.ledger
            .write(&mut self.disk, &entry, true)
            .map_err(|source| SpoolError::Write {
                name: Name::Ledger.to_string(),
                source,
            })
    }

    /// The disk, for tests that let it fail. What the spool knows of its files must not change.
    #[doc(hidden)]
    pub fn disk_mut(&mut self) -> &mut D {
        &mut self.disk
    }

    /// Gives the disk back as it is, without closing.
    pub fn into_disk(self) -> D {
        self.disk
    }

    /// Removes segments from the head on that nobody waits for. The newest one is kept while it
    /// has less than `kept` bytes.
    pub(super) fn drop_heads(&mut self, kept: u64) -> Result<(), SpoolError> {
        let gone = self.acked.max(self.expired);
        let mut told = None;
        while let Some(segment) = self.index.oldest() {
            let first = segment.first;
            let is_active = self.active == Some(first);
            if segment.last > gone || (is_active && segment.end < kept) {
                break;
            }
            // The newest segment may only go when the ledger knows where the numbers are; the
            // others go also when the disk is too full to write that down.
            let newest = self.index.len() == 1;
            if told.is_none() || newest {
                told = Some(self.tell_without(newest));
            }
            if newest && told == Some(false) {
                break;
            }
            let name = Name::Segment(first);
            match self.disk.remove(name) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => {
                    return Err(SpoolError::Write {
                        name: name.to_string(),
                        source,
                    });
                }
            }
            self.index.remove(first);
            if is_active {
                self.active = None;
            }
        }
        if told == Some(false) {
            self.tell();
        }
        Ok(())
    }

    fn tell(&mut self) {
        self.tell_without(false);
    }

    /// Writes down what is acknowledged and synced, and that there is no segment, if so. Whether it worked:
    /// it is not needed to go on, only to forget less after a crash.
    fn tell_without(&mut self, segments: bool) -> bool {
        let mut entry = self.entry();
        if segments {
            entry.segment = 0;
        }
        match self.ledger.write(&mut self.disk, &entry, false) {
            Ok(()) => {
                self.told(&entry);
                true
            }
            Err(error) => {
                tracing::debug!(%error, "the spool's ledger is behind");
                false
            }
        }
    }

    /// The ledger has this entry.
    pub(super) fn told(&mut self, entry: &Entry) {
        self.told_acked = entry.acked;
        self.told_segment = entry.segment;
    }

    /// What the ledger should say now.
    pub(super) fn entry(&self) -> Entry {
        Entry {
            epoch: self.epoch,
            boot: self.boot,
            clean: false,
            acked: self.acked,
            expired: self.expired,
            next: self.next,
            reserved: self.reserved,
            after: self.after,
            synced: self.synced,
            segment: self.index.newest().map_or(0, |segment| segment.first),
        }
    }
}

/// A newest segment that nothing waits in is kept below this, so that a quiet stream does not make
/// and remove a file for every message.
const KEPT_BYTES: u64 = 64 * 1024;

/// Acknowledged records after which the ledger hears of it.
const TOLD_EVERY: u64 = 64;

/// What is read at once when looking for old records.
const EXPIRE_BYTES: usize = 64 * 1024;
const EXPIRE_RECORDS: usize = 256;
