//! Records and segment headers as bytes, and reading a damaged segment. Pure.
//!
//! ```text
//! segment  b"spool\0\0\x01" │ epoch 16 │ first number 8 │ last number written before it 8 │ crc 4
//!          record, record, …
//! record   0xFF │ flags 1 │ length 4 │ number − first 4 │ unix time in ms 8 │ check 2 │ crc 4
//!          payload
//! ```
//!
//! All integers are little-endian. Both sums start from a salt made of the epoch and the first
//! number: what lies in another segment, or was left by another stream, or was written into a
//! payload by somebody who would like it to be a record, is none. `check` covers the header
//! alone, so that a length is believed before the payload is looked at; `crc` covers both.

use std::ops::Range;

use crc32fast::Hasher;

/// What every record's sums start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Salt(u32);

impl Salt {
    pub(crate) fn new(epoch: &[u8; 16], first: u64) -> Self {
        let mut sum = Hasher::new();
        sum.update(epoch);
        sum.update(&first.to_le_bytes());
        Self(sum.finalize())
    }
}

/// What stands before a payload.
pub(crate) fn head(
    salt: Salt,
    place: u32,
    flags: u8,
    at_ms: u64,
    payload: &[u8],
) -> Option<[u8; HEAD]> {
    let len = u32::try_from(payload.len()).ok()?;
    let mut head = [0; HEAD];
    head[0] = MARK;
    head[1] = flags;
    head[2..6].copy_from_slice(&len.to_le_bytes());
    head[6..10].copy_from_slice(&place.to_le_bytes());
    head[10..18].copy_from_slice(&at_ms.to_le_bytes());
    let (check, crc) = sums(salt, &head[..COVERED], payload);
    head[18..20].copy_from_slice(&check.to_le_bytes());
    head[20..24].copy_from_slice(&crc.to_le_bytes());
    Some(head)
}

fn sums(salt: Salt, covered: &[u8], payload: &[u8]) -> (u16, u32) {
    let mut sum = Hasher::new_with_initial(salt.0);
    sum.update(covered);
    let check = fold(sum.clone().finalize());
    sum.update(payload);
    (check, sum.finalize())
}

fn fold(sum: u32) -> u16 {
    let [a, b, c, d] = sum.to_le_bytes();
    u16::from_le_bytes([a ^ c, b ^ d])
}

/// One record in a segment's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// Where its header begins, in the bytes that are scanned.
    pub(crate) start: usize,
    /// Where its payload lies.
    pub(crate) payload: Range<usize>,
    /// Its number, counted from the segment's first.
    pub(crate) place: u32,
    pub(crate) flags: u8,
    pub(crate) at_ms: u64,
}

/// What comes next in a segment's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    Record(Record),
    /// These bytes are no record, but one follows.
    Damage(Range<usize>),
    /// The bytes end here, on a record's border.
    End,
    /// The rest is no record. `cut_short`: it is the beginning of one, as an interrupted write
    /// leaves it.
    Torn {
        from: usize,
        cut_short: bool,
    },
    /// What begins here needs this many bytes to be judged, and there are more in the segment.
    More {
        from: usize,
        bytes: usize,
    },
}

/// Reads records one after the other, and finds the next whole one where there is damage.
#[derive(Debug)]
pub(crate) struct Scan<'a> {
    bytes: &'a [u8],
    salt: Salt,
    at: usize,
    /// The next record has this place or a later one.
    least: u32,
    /// All have an earlier place than this.
    below: u64,
    whole: bool,
}

impl<'a> Scan<'a> {
    /// Scans bytes that begin on a record's border. Records have places from `least` to `below`;
    /// `whole` tells that nothing of the segment stands behind the bytes.
    pub(crate) fn new(bytes: &'a [u8], salt: Salt, least: u32, below: u64, whole: bool) -> Self {
        Self {
            bytes,
            salt,
            at: 0,
            least,
            below,
            whole,
        }
    }

    /// The next piece; after [`Piece::End`], [`Piece::Torn`] or [`Piece::More`] the same again.
    pub(crate) fn next(&mut self) -> Piece {
        if self.at >= self.bytes.len() {
            return Piece::End;
        }
        let found = self.examine(self.at);
        let cut_short = match found {
            Examined::Record(record) => {
                self.at = record.payload.end;
                self.least = record.place.saturating_add(1);
                return Piece::Record(record);
            }
            Examined::CutShort { bytes } if !self.whole => {
                return Piece::More {
                    from: self.at,
                    bytes,
                };
            }
            Examined::CutShort { .. } => true,
            Examined::None => false,
        };
        let from = self.at;
        for candidate in self.marks_behind(from) {
            match self.examine(candidate) {
                Examined::Record(_) => {
                    self.at = candidate;
                    return Piece::Damage(from..candidate);
                }
                Examined::CutShort { .. } if !self.whole => break,
                Examined::CutShort { .. } | Examined::None => {}
            }
        }
        if self.whole {
            Piece::Torn { from, cut_short }
        } else {
            Piece::More {
                from,
                bytes: usize::MAX,
            }
        }
    }

    fn marks_behind(&self, from: usize) -> impl Iterator<Item = usize> + use<'a> {
        let rest = self.bytes.get(from + 1..).unwrap_or_default();
        rest.iter()
            .enumerate()
            .filter(|(_, byte)| **byte == MARK)
            .map(move |(n, _)| from + 1 + n)
    }

    fn examine(&self, start: usize) -> Examined {
        let rest = self.bytes.get(start..).unwrap_or_default();
        if rest.first() != Some(&MARK) {
            return Examined::None;
        }
        let Some((head, behind)) = rest.split_first_chunk::<HEAD>() else {
            return Examined::CutShort { bytes: HEAD };
        };
        let [_, flags, head @ ..] = head;
        let (len, head) = take_u32(head);
        let (place, head) = take_u32(head);
        let (at_ms, head) = take_u64(head);
        let Some((check, crc)) = head.split_first_chunk::<2>() else {
            return Examined::None;
        };
        let check = u16::from_le_bytes(*check);
        let (crc, _) = take_u32(crc);
        let Ok(len) = usize::try_from(len) else {
            return Examined::None;
        };
        if len > MAX_PAYLOAD || place < self.least || u64::from(place) >= self.below {
            return Examined::None;
        }
        let covered = rest.get(..COVERED).unwrap_or_default();
        let Some(payload) = behind.get(..len) else {
            let (expected, _) = sums(self.salt, covered, &[]);
            return if check == expected {
                Examined::CutShort { bytes: HEAD + len }
            } else {
                Examined::None
            };
        };
        let mut sum = Hasher::new_with_initial(self.salt.0);
        sum.update(covered);
        if check != fold(sum.clone().finalize()) {
            return Examined::None;
        }
        sum.update(payload);
        if crc != sum.finalize() {
            return Examined::None;
        }
        Examined::Record(Record {
            start,
            payload: start + HEAD..start + HEAD + len,
            place,
            flags: *flags,
            at_ms,
        })
    }
}

enum Examined {
    Record(Record),
    /// The beginning of one.
    CutShort {
        bytes: usize,
    },
    None,
}

/// What a segment says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHead {
    pub(crate) epoch: [u8; 16],
    /// No record has a smaller number.
    pub(crate) first: u64,
    /// The last number that was written to the stream before; what lies between the two was given
    /// out at most.
    pub(crate) after: u64,
}

impl SegmentHead {
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEAD] {
        let mut bytes = [0; SEGMENT_HEAD];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..24].copy_from_slice(&self.epoch);
        bytes[24..32].copy_from_slice(&self.first.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.after.to_le_bytes());
        let sum = crc32fast::hash(&bytes[..40]);
        bytes[40..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// `None` for a header that is damaged or of another version.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, _) = bytes.split_first_chunk::<SEGMENT_HEAD>()?;
        let (covered, sum) = head.split_last_chunk::<4>()?;
        if crc32fast::hash(covered) != u32::from_le_bytes(*sum) {
            return None;
        }
        let rest = covered.strip_prefix(MAGIC)?;
        let (epoch, rest) = rest.split_first_chunk::<16>()?;
        let (first, rest) = take_u64(rest);
        let (after, _) = take_u64(rest);
        Some(Self {
            epoch: *epoch,
            first,
            after,
        })
    }
}

/// The integer at the beginning, zero when there are too few bytes, and what follows.
fn take_u32(bytes: &[u8]) -> (u32, &[u8]) {
    bytes
        .split_first_chunk::<4>()
        .map_or((0, &[]), |(taken, rest)| (u32::from_le_bytes(*taken), rest))
}

/// As [`take_u32`], of eight bytes.
pub(crate) fn take_u64(bytes: &[u8]) -> (u64, &[u8]) {
    bytes
        .split_first_chunk::<8>()
        .map_or((0, &[]), |(taken, rest)| (u64::from_le_bytes(*taken), rest))
}

/// Bytes before a payload.
pub(crate) const HEAD: usize = 24;

/// Bytes before a segment's first record.
pub(crate) const SEGMENT_HEAD: usize = 44;

/// Largest payload in bytes, which is the largest frame of the plain wire.
pub const MAX_PAYLOAD: usize = 32 * 1024 * 1024;

/// Begins a record: a byte that no text has.
const MARK: u8 = 0xFF;

/// The bytes of a header that its sums cover.
const COVERED: usize = 18;

/// Begins a segment; the last byte is the version of the format.
const MAGIC: &[u8; 8] = b"spool\0\0\x01";
