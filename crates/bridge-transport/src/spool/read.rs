//! Reading forward, with a gap for everything that is missing.

use std::io;

use bytes::Bytes;

use super::{
    disk::{Disk, Loaded, Name, load, wide},
    gap::{Cause, Gap, Item},
    index::{Segment, hole},
    record::{Piece, Scan},
    store::{Cursor, Spool, SpoolError},
};

impl<D: Disk> Spool<D> {
    /// Reads what begins with a number: records and gaps, in order and without a hole between
    /// them, up to `max_bytes` of payload and `max_records` items. At least one item is given
    /// when there is any. Nothing is given from [`next_seq`](Self::next_seq) on.
    ///
    /// Going on where the last call stopped costs no search. What can no longer be read is a gap:
    /// later calls tell the same unless the disk gets better.
    ///
    /// # Errors
    /// Fails when the disk gives nothing at all of a segment; it may later.
    pub fn read(
        &mut self,
        from: u64,
        max_bytes: usize,
        max_records: usize,
    ) -> Result<Vec<Item>, SpoolError> {
        let mut taken = Taken {
            items: Vec::new(),
            bytes: max_bytes,
            records: max_records.max(1),
            stopped: false,
        };
        let mut at = from.max(1);
        for (gone, why) in [(self.acked, Cause::Trimmed), (self.expired, Cause::Expired)] {
            if at <= gone {
                taken.gap(Gap {
                    from: at,
                    to: gone,
                    why,
                });
                at = gone + 1;
            }
        }
        while at < self.next && !taken.is_full(0) {
            let inside = self.index.before(at).filter(|segment| at <= segment.last);
            let Some(segment) = inside.cloned() else {
                at = self.pass_hole(at, &mut taken);
                continue;
            };
            match self.read_segment(&segment, at, &mut taken) {
                Ok(reached) => at = reached,
                Err(_) if !taken.items.is_empty() => break,
                Err(source) => {
                    return Err(SpoolError::Read {
                        name: Name::Segment(segment.first).to_string(),
                        source,
                    });
                }
            }
            if taken.stopped {
                break;
            }
        }
        Ok(taken.items)
    }

    /// Tells what lies between two segments, or behind the last one; gives the number behind it.
    fn pass_hole(&self, at: u64, taken: &mut Taken) -> u64 {
        let (end, written) = match self.index.behind(at) {
            Some(segment) => (segment.first, segment.after),
            None => (self.next, self.after),
        };
        for gap in hole(at, end - 1, written) {
            taken.gap(gap);
        }
        end
    }

    /// Reads from a number that the segment has or had; gives the number to go on with.
    fn read_segment(
        &mut self,
        segment: &Segment,
        mut at: u64,
        taken: &mut Taken,
    ) -> io::Result<u64> {
        let below = segment.last - segment.first + 1;
        let (mut place, mut offset) = match self.cursor {
            Some(cursor) if cursor.seq == at && cursor.segment == segment.first => {
                (cursor.place, cursor.offset)
            }
            Some(_) | None => segment.seek(at),
        };
        let mut want = taken.chunk();
        while offset < segment.end {
            let rest = usize::try_from(segment.end - offset).unwrap_or(usize::MAX);
            let len = want.min(rest);
            let mut bytes = Vec::new();
            match load(
                &mut self.disk,
                Name::Segment(segment.first),
                offset,
                len,
                &mut bytes,
            ) {
                Ok(Loaded::Whole | Loaded::InPart) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            }
            // A file that is shorter than it was is all there is.
            let whole = len == rest || bytes.len() < len;
            let bytes = Bytes::from(bytes);
            let mut scan = Scan::new(&bytes, segment.salt, place, below, whole);
            let ended = loop {
                match scan.next() {
                    Piece::Record(record) => {
                        let seq = segment.first + u64::from(record.place);
                        if seq < at {
                            place = record.place.saturating_add(1);
                            continue;
                        }
                        if taken.is_full(record.payload.len()) {
                            taken.stopped = true;
                            if seq == at {
                                self.cursor = Some(Cursor {
                                    seq: at,
                                    segment: segment.first,
                                    place: record.place,
                                    offset: offset + wide(record.start),
                                });
                            }
                            return Ok(at);
                        }
                        if seq > at {
                            taken.gap(damaged(at, seq - 1));
                        }
                        taken.record(Item::Record {
                            seq,
                            flags: record.flags,
                            at_ms: record.at_ms,
                            payload: bytes.slice(record.payload.clone()),
                        });
                        at = seq + 1;
                        place = record.place.saturating_add(1);
                        self.cursor = Some(Cursor {
                            seq: at,
                            segment: segment.first,
                            place,
                            offset: offset + wide(record.payload.end),
                        });
                    }
                    Piece::Damage(_) => {}
                    Piece::End if whole => break None,
                    Piece::End => break Some((bytes.len(), 0)),
                    Piece::Torn { .. } => break None,
                    Piece::More { from, bytes } => break Some((from, bytes)),
                }
            };
            match ended {
                Some((read, needed)) => {
                    offset += wide(read);
                    want = taken.chunk().max(needed);
                }
                None => break,
            }
        }
        if at <= segment.last {
            taken.gap(damaged(at, segment.last));
            at = segment.last + 1;
        }
        Ok(at)
    }
}

fn damaged(from: u64, to: u64) -> Gap {
    Gap {
        from,
        to,
        why: Cause::Damaged,
    }
}

/// What was read so far, and what may still be.
struct Taken {
    items: Vec<Item>,
    bytes: usize,
    records: usize,
    /// The next record is there and does not fit any more.
    stopped: bool,
}

impl Taken {
    fn is_full(&self, more: usize) -> bool {
        !self.items.is_empty() && (self.items.len() >= self.records || more > self.bytes)
    }

    fn record(&mut self, item: Item) {
        if let Item::Record { payload, .. } = &item {
            self.bytes = self.bytes.saturating_sub(payload.len());
        }
        self.items.push(item);
    }

    /// Takes a gap; one that goes on with the last item becomes part of it.
    fn gap(&mut self, gap: Gap) {
        if let Some(Item::Gap { to, why, .. }) = self.items.last_mut()
            && *why == gap.why
            && to.checked_add(1) == Some(gap.from)
        {
            *to = gap.to;
        } else {
            self.items.push(gap.into());
        }
    }

    /// How much to read from the disk for what may still be taken.
    fn chunk(&self) -> usize {
        let records = self.records.saturating_sub(self.items.len());
        let bytes = self.bytes.saturating_add(self.bytes / 8);
        bytes
            .min(records.saturating_mul(LIKELY_RECORD))
            .clamp(LEAST_CHUNK, LARGEST_CHUNK)
    }
}

/// What a record has more or less.
const LIKELY_RECORD: usize = 1024;

/// What is read at once.
const LEAST_CHUNK: usize = 4 * 1024;
const LARGEST_CHUNK: usize = 256 * 1024;
