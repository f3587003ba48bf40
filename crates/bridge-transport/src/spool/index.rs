//! What is known in memory of the segments: a few numbers each, and where to begin reading. Pure.

use std::collections::BTreeMap;

use super::{
    disk::wide,
    gap::{Cause, Gap},
    record::{HEAD, SEGMENT_HEAD, Salt},
};

/// One segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Its records have this number or greater ones.
    pub(crate) first: u64,
    /// What its records' sums start from.
    pub(crate) salt: Salt,
    /// The last number written before it; see [`SegmentHead`](super::record::SegmentHead).
    pub(crate) after: u64,
    /// Its last record's number, `first - 1` while it has none.
    pub(crate) last: u64,
    /// Where its last record ends.
    pub(crate) end: u64,
    /// How many records it has.
    pub(crate) records: u64,
    /// The latest time of a record.
    pub(crate) newest_ms: u64,
    /// Something in it may not be on the disk yet.
    pub(crate) unsynced: bool,
    /// A sync of it failed; the file has to be written anew.
    pub(crate) distrusted: bool,
    /// Place and offset of a record now and then.
    marks: Vec<(u32, u32)>,
}

impl Segment {
    pub(crate) fn new(epoch: &[u8; 16], first: u64, after: u64) -> Self {
        Self {
            first,
            salt: Salt::new(epoch, first),
            after,
            last: first.saturating_sub(1),
            end: wide(SEGMENT_HEAD),
            records: 0,
            newest_ms: 0,
            unsynced: true,
            distrusted: false,
            marks: Vec::new(),
        }
    }

    /// A record is in it: its number, its payload's length, its time.
    pub(crate) fn note(&mut self, seq: u64, start: u64, payload: usize, at_ms: u64) {
        let marked = self
            .marks
            .last()
            .map_or(0, |(_, offset)| u64::from(*offset));
        if (self.marks.is_empty() || start - marked >= MARK_EVERY)
            && let Ok(offset) = u32::try_from(start)
            && let Some(place) = self.place(seq)
        {
            self.marks.push((place, offset));
        }
        self.last = seq;
        self.end = start + wide(HEAD + payload);
        self.records += 1;
        self.newest_ms = self.newest_ms.max(at_ms);
    }

    /// A number counted from the segment's first.
    pub(crate) fn place(&self, seq: u64) -> Option<u32> {
        u32::try_from(seq.checked_sub(self.first)?).ok()
    }

    /// A place to begin reading that is not behind the record.
    pub(crate) fn seek(&self, seq: u64) -> (u32, u64) {
        let place = self.place(seq).unwrap_or_default();
        let behind = self.marks.partition_point(|(marked, _)| *marked <= place);
        match behind.checked_sub(1).and_then(|n| self.marks.get(n)) {
            Some((place, offset)) => (*place, u64::from(*offset)),
            None => (0, wide(SEGMENT_HEAD)),
        }
    }
}

/// All segments, by their first number.
#[derive(Debug, Default)]
pub(crate) struct Index {
    segments: BTreeMap<u64, Segment>,
    bytes: u64,
}

impl Index {
    pub(crate) fn insert(&mut self, segment: Segment) {
        self.remove(segment.first);
        self.bytes += segment.end;
        self.segments.insert(segment.first, segment);
    }

    pub(crate) fn remove(&mut self, first: u64) {
        if let Some(gone) = self.segments.remove(&first) {
            self.bytes -= gone.end;
        }
    }

    /// What lies behind a number may not be on the disk, and the system may believe that it is.
    /// Sealed segments are left alone.
    pub(crate) fn distrust_behind(&mut self, synced: u64, sealed: &[u64]) {
        for segment in self.segments.values_mut() {
            segment.unsynced = segment.last > synced && !sealed.contains(&segment.first);
            segment.distrusted = segment.unsynced;
        }
    }

    /// Bytes of all segments.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Records are in a segment from a number on: the payload's length and the time of each.
    pub(crate) fn note(&mut self, first: u64, from: u64, records: &[(usize, u64)]) {
        if let Some(segment) = self.segments.get_mut(&first) {
            let before = segment.end;
            for (seq, (payload, at_ms)) in (from..).zip(records) {
                segment.note(seq, segment.end, *payload, *at_ms);
            }
            segment.unsynced = true;
            self.bytes += segment.end - before;
        }
    }

    pub(crate) fn get(&self, first: u64) -> Option<&Segment> {
        self.segments.get(&first)
    }

    pub(crate) fn get_mut(&mut self, first: u64) -> Option<&mut Segment> {
        self.segments.get_mut(&first)
    }

    pub(crate) fn oldest(&self) -> Option<&Segment> {
        self.segments.values().next()
    }

    pub(crate) fn newest(&self) -> Option<&Segment> {
        self.segments.values().next_back()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Segment> {
        self.segments.values()
    }

    pub(crate) fn len(&self) -> usize {
        self.segments.len()
    }

    /// Bytes of memory, more or less.
    #[cfg(test)]
    pub(crate) fn memory(&self) -> usize {
        let marks = self.all().map(|segment| segment.marks.capacity() * 8);
        marks.sum::<usize>() + self.len() * 2 * size_of::<Segment>()
    }

    /// The segment that a number lies in, or in the hole behind.
    pub(crate) fn before(&self, seq: u64) -> Option<&Segment> {
        self.segments.range(..=seq).next_back().map(|(_, it)| it)
    }

    /// The segment that follows a number.
    pub(crate) fn behind(&self, seq: u64) -> Option<&Segment> {
        let after = seq.checked_add(1)?;
        self.segments.range(after..).next().map(|(_, it)| it)
    }
}

/// What became of the numbers from `from` to `to`, which have no records: those up to `written`
/// had some once.
pub(crate) fn hole(from: u64, to: u64, written: u64) -> impl Iterator<Item = Gap> {
    let damaged = Gap {
        from,
        to: to.min(written),
        why: Cause::Damaged,
    };
    let lost = Gap {
        from: from.max(written.saturating_add(1)),
        to,
        why: Cause::LostUnsynced,
    };
    [damaged, lost].into_iter().filter(|gap| gap.from <= gap.to)
}

/// Bytes between two marks; what is read in vain at most before the record that was wanted.
const MARK_EVERY: u64 = 16 * 1024;
