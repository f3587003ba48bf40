//! Appending: numbers are reserved, records are written, and what could not be written is cut.

use std::{io, mem, ops::Range};

use super::{
    disk::{Disk, Name, append_all, is_full, wide},
    index::Segment,
    ledger::Entry,
    record::{HEAD, MAX_PAYLOAD, SEGMENT_HEAD, SegmentHead, head},
    store::Spool,
};

/// Why a record was not accepted. Nothing of it is in the spool, and its number was not given out.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The spool is at its bound; there is room after acknowledgements.
    #[error("the spool has {bytes} bytes, the limit is {limit}")]
    Full {
        /// Bytes of its segments.
        bytes: u64,
        /// [`SpoolConfig::max_bytes`](super::SpoolConfig::max_bytes).
        limit: u64,
    },
    /// The record does not fit at all.
    #[error("the record has {bytes} bytes, the limit is {limit}")]
    TooLarge {
        /// Bytes of its payload.
        bytes: usize,
        /// [`MAX_PAYLOAD`], or what the bound of the spool leaves.
        limit: u64,
    },
    /// The disk is full, or the quota is used up.
    #[error("there is no room on the disk of the spool")]
    NoSpace(#[source] io::Error),
    /// The disk does not take it.
    #[error("the spool cannot be written")]
    Io(#[source] io::Error),
}

impl From<io::Error> for AppendError {
    fn from(error: io::Error) -> Self {
        if is_full(&error) {
            Self::NoSpace(error)
        } else {
            Self::Io(error)
        }
    }
}

/// What became of several records.
#[derive(Debug)]
#[must_use]
pub struct Batch {
    /// The numbers of those that were accepted, which are the first ones.
    pub seqs: Range<u64>,
    /// Why the next one was not. Nothing behind it was looked at for long.
    pub stopped: Option<AppendError>,
}

impl<D: Disk> Spool<D> {
    /// Accepts a record and gives its number.
    ///
    /// `flags` and `at_ms` come back as they are; the time matters to
    /// [`expire`](Self::expire) alone.
    ///
    /// # Errors
    /// The record was not accepted; the next one may be, as soon as there is room.
    pub fn append(&mut self, flags: u8, at_ms: u64, payload: &[u8]) -> Result<u64, AppendError> {
        let batch = self.append_batch([(flags, at_ms, payload)]);
        match batch.stopped {
            Some(error) => Err(error),
            None => Ok(batch.seqs.start),
        }
    }

    /// Accepts records one after the other with as few writes as possible, up to the first one
    /// that cannot be accepted.
    pub fn append_batch<'a>(
        &mut self,
        records: impl IntoIterator<Item = (u8, u64, &'a [u8])>,
    ) -> Batch {
        let first = self.next;
        let mut stopped = None;
        for (flags, at_ms, payload) in records {
            if let Err(error) = self.stage(flags, at_ms, payload) {
                stopped = Some(error);
                break;
            }
        }
        if let Err(error) = self.flush() {
            stopped = Some(error);
        }
        Batch {
            seqs: first..self.next,
            stopped,
        }
    }

    /// Puts a record into the buffer, or right away into the segment when it is large.
    fn stage(&mut self, flags: u8, at_ms: u64, payload: &[u8]) -> Result<(), AppendError> {
        let size = wide(HEAD + payload.len());
        self.check_bounds(payload.len(), size)?;
        let mut seq = self.next + wide(self.staged.len());
        if !self.fits(seq, size) {
            self.flush()?;
            seq = self.next;
            if !self.fits(seq, size) {
                self.roll()?;
            }
        }
        let segment = self.active.and_then(|first| self.index.get(first));
        let (first, salt, place) = segment
            .and_then(|segment| Some((segment.first, segment.salt, segment.place(seq)?)))
            .ok_or_else(|| AppendError::Io(io::ErrorKind::InvalidData.into()))?;
        if seq > self.reserved || self.told_segment != first {
            self.reserve(seq)?;
        }
        let head = head(salt, place, flags, at_ms, payload)
            .ok_or_else(|| AppendError::Io(io::ErrorKind::InvalidData.into()))?;
        if payload.len() > LARGE {
            self.flush()?;
            self.staged.push((payload.len(), at_ms));
            return self.write(&[&head, payload]);
        }
        self.staged.push((payload.len(), at_ms));
        self.buffer.extend_from_slice(&head);
        self.buffer.extend_from_slice(payload);
        if self.buffer.len() >= WRITE_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn check_bounds(&mut self, payload: usize, size: u64) -> Result<(), AppendError> {
        let limit = self.config.max_bytes;
        let largest = limit
            .saturating_sub(wide(HEAD + SEGMENT_HEAD))
            .min(wide(MAX_PAYLOAD));
        if wide(payload) > largest {
            return Err(AppendError::TooLarge {
                bytes: payload,
                limit: largest,
            });
        }
        // A new segment may be needed for it.
        let more = wide(self.buffer.len() + SEGMENT_HEAD) + size;
        if self.index.bytes() + more > limit && self.staged.is_empty() {
            // Nothing may be waiting in the segment that takes the room.
            if let Err(error) = self.drop_heads(0) {
                tracing::debug!(%error, "acknowledged records stay");
            }
        }
        let bytes = self.index.bytes() + wide(self.buffer.len());
        if bytes + size + wide(SEGMENT_HEAD) > limit {
            return Err(AppendError::Full { bytes, limit });
        }
        Ok(())
    }

    /// Whether a record may go into the active segment.
    fn fits(&self, seq: u64, size: u64) -> bool {
        let Some(segment) = self.active.and_then(|first| self.index.get(first)) else {
            return false;
        };
        let target = self
            .config
            .segment_bytes
            .clamp(LEAST_SEGMENT, LARGEST_SEGMENT);
        let end = segment.end + wide(self.buffer.len());
        let empty = segment.records == 0 && self.staged.is_empty();
        let dense = segment.last + 1 + wide(self.staged.len()) == seq;
        dense && (empty || end + size <= target) && segment.place(seq).is_some()
    }

    /// Begins a segment with the next number.
    fn roll(&mut self) -> Result<(), AppendError> {
        let first = self.next;
        let name = Name::Segment(first);
        let header = SegmentHead {
            epoch: self.epoch,
            first,
            after: self.after,
        };
        self.active = None;
        self.index.remove(first);
        if let Err(error) = self.make(name, &header) {
            if let Err(error) = self.disk.remove(name) {
                tracing::debug!(%error, "an unfinished segment stays until the next one");
            }
            return Err(error.into());
        }
        self.index
            .insert(Segment::new(&self.epoch, first, self.after));
        self.active = Some(first);
        self.unsynced_names = true;
        Ok(())
    }

    fn make(&mut self, name: Name, header: &SegmentHead) -> io::Result<()> {
        self.disk.create(name)?;
        append_all(&mut self.disk, name, &header.encode())?;
        if self.may_come_back {
            // From here on the end of the segment before is told by this one's name.
            self.disk.sync(name)?;
            self.disk.sync_folder()?;
            self.may_come_back = false;
        }
        Ok(())
    }

    /// Makes the ledger promise that numbers from `seq` on may have been given out after a crash,
    /// and know the newest segment.
    fn reserve(&mut self, seq: u64) -> Result<(), AppendError> {
        let more = seq > self.reserved;
        let block = (seq - self.opened_at).clamp(LEAST_BLOCK, LARGEST_BLOCK);
        let entry = Entry {
            reserved: if more { seq - 1 + block } else { self.reserved },
            ..self.entry()
        };
        self.ledger.write(&mut self.disk, &entry, more)?;
        self.reserved = entry.reserved;
        self.told(&entry);
        Ok(())
    }

    /// Writes what is staged; nothing of it is there after an error.
    fn flush(&mut self) -> Result<(), AppendError> {
        let mut buffer = mem::take(&mut self.buffer);
        let written = self.write(&[&buffer]);
        buffer.clear();
        self.buffer = buffer;
        written
    }

    fn write(&mut self, parts: &[&[u8]]) -> Result<(), AppendError> {
        let Some(first) = self.active else {
            return Ok(());
        };
        let mut staged = mem::take(&mut self.staged);
        let name = Name::Segment(first);
        let written = parts
            .iter()
            .try_for_each(|part| append_all(&mut self.disk, name, part));
        if written.is_ok() {
            self.index.note(first, self.next, &staged);
            self.next += wide(staged.len());
            if !staged.is_empty() {
                self.after = self.next - 1;
            }
        } else {
            self.cut(first);
        }
        staged.clear();
        self.staged = staged;
        written.map_err(AppendError::from)
    }

    /// Takes what was half written from the end of a segment, or leaves the segment alone from now
    /// on. The cut is synced: the numbers are used again, and what was cut must not come back.
    fn cut(&mut self, first: u64) {
        let Some(segment) = self.index.get_mut(first) else {
            return;
        };
        let name = Name::Segment(first);
        let cut = self.disk.truncate(name, segment.end);
        let synced = cut.is_ok().then(|| self.disk.sync(name));
        if let Some(Err(_)) = synced {
            segment.distrusted = true;
            segment.unsynced = true;
        }
        if !matches!(synced, Some(Ok(()))) {
            self.active = None;
            self.may_come_back = true;
        }
    }
}

/// A payload above this is written from where it lies.
const LARGE: usize = 64 * 1024;

/// What is gathered for one write.
const WRITE_BYTES: usize = 256 * 1024;

/// How many numbers are reserved at a time: as many as were used since the spool was opened, so
/// that a gap is not wide where little was said, and few syncs are needed where much is.
const LEAST_BLOCK: u64 = 1024;
const LARGEST_BLOCK: u64 = 1024 * 1024;

/// What a segment may be told to have.
const LEAST_SEGMENT: u64 = 4 * 1024;
const LARGEST_SEGMENT: u64 = 64 * 1024 * 1024;
