//! Frames packed together: several texts in one binary message, compressed (feature `deflate`).
//!
//! Used on a connection whose peer accepted the [header](HEADER). A binary message there is a raw
//! deflate stream (RFC 1951) and nothing behind it; inflated, it is a row of frames, each a length
//! of four bytes, big-endian, and that many bytes of UTF-8. A message has at least one frame and at
//! most [`MOST_FRAMES`]; its frames count in their order, as if each had come as a text message.
//!
//! Every message is compressed on its own: no window is shared with what was sent before. That
//! costs little where batches are sent, needs no memory between messages, and what somebody else
//! can put into a stream of messages meets only what is sent in the same write.

use std::collections::VecDeque;

use bytes::Bytes;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use crate::payload::TextFrame;

/// The header of the upgrade that offers and accepts packed messages; its value is `1`.
pub const HEADER: &str = "x-bridge-deflate";

/// The most frames in one message.
pub const MOST_FRAMES: usize = 1024;

/// Packs what is to be sent. Takes about 300 KiB once it has compressed something.
#[derive(Debug, Default)]
pub struct Packer {
    state: Option<Box<Compress>>,
    plain: Vec<u8>,
}

/// One message to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packed {
    /// As it is: a text message.
    Text(TextFrame),
    /// Packed: a binary message.
    Binary(Bytes),
}

impl Packer {
    /// Prepares a packer, without memory so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// Turns the frames of one write into messages, in the same order. Less than 1 KiB stays text,
    /// and so does a frame of more than 256 KiB, which would take the time of others.
    pub fn pack(&mut self, frames: impl IntoIterator<Item = TextFrame>) -> VecDeque<Packed> {
        let mut messages = VecDeque::new();
        let mut together = Vec::new();
        let mut bytes = 0;
        for frame in frames {
            let full = bytes + frame.len() > TOGETHER || together.len() == MOST_FRAMES;
            if full && !together.is_empty() {
                self.finish(&mut together, bytes, &mut messages);
                bytes = 0;
            }
            bytes += frame.len();
            together.push(frame);
        }
        self.finish(&mut together, bytes, &mut messages);
        messages
    }

    fn finish(
        &mut self,
        together: &mut Vec<TextFrame>,
        bytes: usize,
        messages: &mut VecDeque<Packed>,
    ) {
        if (SMALLEST..=LARGEST).contains(&bytes) {
            let mut plain = std::mem::take(&mut self.plain);
            plain.clear();
            for frame in &*together {
                let len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
                plain.extend(len.to_be_bytes());
                plain.extend(frame.as_str().as_bytes());
            }
            let packed = self.deflate(&plain);
            self.plain = plain;
            together.clear();
            messages.push_back(Packed::Binary(packed.into()));
        } else {
            messages.extend(together.drain(..).map(Packed::Text));
        }
    }

    /// Compresses bytes on their own.
    pub fn deflate(&mut self, plain: &[u8]) -> Vec<u8> {
        let state = self
            .state
            .get_or_insert_with(|| Box::new(Compress::new(Compression::new(LEVEL), false)));
        state.reset();
        let mut packed = Vec::with_capacity(plain.len() / 3 + 64);
        loop {
            let taken = usize::try_from(state.total_in()).unwrap_or(usize::MAX);
            let rest = plain.get(taken..).unwrap_or_default();
            let status = state
                .compress_vec(rest, &mut packed, FlushCompress::Finish)
                .expect("a stream that was reset takes any bytes");
            match status {
                Status::StreamEnd => return packed,
                Status::Ok | Status::BufError => packed.reserve(plain.len() / 3 + 64),
            }
        }
    }
}

/// Why a packed message is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnpackError {
    /// It is no deflate stream, is cut off or has something behind its end.
    #[error("packed message is damaged")]
    Damaged,
    /// Its frames are none, too many or longer than what is there.
    #[error("packed message is no row of frames")]
    NoFrames,
    /// It would inflate to more than this many bytes.
    #[error("packed message has more than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// A frame is not UTF-8.
    #[error("frame of a packed message is not UTF-8")]
    NotUtf8,
}

impl UnpackError {
    /// The close code that tells the peer.
    pub fn code(self) -> u16 {
        match self {
            Self::Damaged | Self::NoFrames => 1002,
            Self::NotUtf8 => 1007,
            Self::TooLarge { .. } => 1009,
        }
    }
}

/// Gives the frames of a packed message, which may have `limit` bytes inflated. Never takes much
/// more memory than that, whatever the message says.
///
/// # Errors
/// Fails for every message that breaks a rule of this module; the connection should then end.
pub fn unpack(packed: &[u8], limit: usize) -> Result<Vec<TextFrame>, UnpackError> {
    let plain = Bytes::from(inflate(packed, limit)?);
    let mut frames = Vec::new();
    let mut rest = &plain[..];
    while !rest.is_empty() {
        let (len, behind) = rest.split_first_chunk().ok_or(UnpackError::NoFrames)?;
        let len = usize::try_from(u32::from_be_bytes(*len)).unwrap_or(usize::MAX);
        let (frame, behind) = behind.split_at_checked(len).ok_or(UnpackError::NoFrames)?;
        if frames.len() == MOST_FRAMES {
            return Err(UnpackError::NoFrames);
        }
        // One frame of many must not keep the memory of all.
        let alone = frames.is_empty() && behind.is_empty();
        let frame = if alone {
            plain.slice_ref(frame)
        } else {
            Bytes::copy_from_slice(frame)
        };
        frames.push(TextFrame::try_from(frame).map_err(|_| UnpackError::NotUtf8)?);
        rest = behind;
    }
    if frames.is_empty() {
        return Err(UnpackError::NoFrames);
    }
    Ok(frames)
}

/// Gives back what was compressed on its own, of which there may be `limit` bytes.
///
/// # Errors
/// Fails with [`UnpackError::Damaged`] or [`UnpackError::TooLarge`].
pub fn inflate(packed: &[u8], limit: usize) -> Result<Vec<u8>, UnpackError> {
    let mut state = Decompress::new(false);
    // One byte above the limit tells that there is more.
    let most = limit.saturating_add(1);
    let mut plain = Vec::with_capacity(packed.len().saturating_mul(4).min(most));
    loop {
        let before = (state.total_in(), state.total_out());
        let taken = usize::try_from(state.total_in()).unwrap_or(usize::MAX);
        let rest = packed.get(taken..).unwrap_or_default();
        let status = state
            .decompress_vec(rest, &mut plain, FlushDecompress::None)
            .map_err(|_| UnpackError::Damaged)?;
        if plain.len() > limit {
            return Err(UnpackError::TooLarge { limit });
        }
        match status {
            Status::StreamEnd => {
                let all = usize::try_from(state.total_in()) == Ok(packed.len());
                return if all {
                    Ok(plain)
                } else {
                    Err(UnpackError::Damaged)
                };
            }
            Status::Ok | Status::BufError if plain.len() == plain.capacity() => {
                let more = plain.capacity().max(1024).min(most - plain.len());
                plain.reserve_exact(more);
            }
            Status::Ok | Status::BufError => {
                // There is room and nothing left to read: the end is missing.
                if before == (state.total_in(), state.total_out()) {
                    return Err(UnpackError::Damaged);
                }
            }
        }
    }
}

/// Of fewer bytes in one write little would be saved.
const SMALLEST: usize = 1 << 10;
/// More than the window of deflate sees at once only delays the first frames.
const TOGETHER: usize = 64 << 10;
/// A longer frame would be worked on for more than a few milliseconds.
const LARGEST: usize = 256 << 10;
/// Of batches this gives four fifths of what twice and thrice the time would.
const LEVEL: u32 = 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(messages: VecDeque<Packed>) -> Vec<String> {
        let frames = messages.into_iter().flat_map(|message| match message {
            Packed::Text(frame) => vec![frame],
            Packed::Binary(packed) => unpack(&packed, 1 << 20).unwrap(),
        });
        frames.map(|frame| frame.as_str().to_owned()).collect()
    }

    fn packed_of(plain: &[u8]) -> Vec<u8> {
        Packer::new().deflate(plain)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn frames_come_back_in_their_order(
            frames in prop::collection::vec(("\\PC{0,40}", 0..300_usize), 0..40),
        ) {
            let frames: Vec<String> =
                frames.into_iter().map(|(text, times)| text.repeat(times)).collect();
            let mut packer = Packer::new();
            for _ in 0..2 {
                let all = frames.iter().map(|text| text.as_str().into());
                prop_assert_eq!(&texts(packer.pack(all)), &frames);
            }
        }

        #[test]
        fn no_bytes_are_trouble(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(frames) = unpack(&bytes, 10_000) {
                let all: usize = frames.iter().map(TextFrame::len).sum();
                prop_assert!(all <= 10_000);
            }
            if let Ok(frames) = unpack(&packed_of(&bytes), 10_000) {
                prop_assert!(!frames.is_empty());
            }
        }

        #[test]
        fn a_message_with_a_flipped_bit_is_never_more_than_the_limit(
            at in 0..200_usize,
            bit in 0..8_u8,
        ) {
            let frames = (0..50).map(|n| format!("{{\"n\":{n},\"text\":\"a b c\"}}").into());
            let mut messages = Packer::new().pack(frames);
            let Some(Packed::Binary(packed)) = messages.pop_front() else {
                panic!("not packed");
            };
            let mut packed = packed.to_vec();
            let at = at % packed.len();
            packed[at] ^= 1 << bit;
            if let Ok(frames) = unpack(&packed, 5000) {
                prop_assert!(frames.iter().map(TextFrame::len).sum::<usize>() <= 5000);
            }
        }
    }

    #[test]
    fn little_and_what_is_huge_stay_text() {
        let huge = "x".repeat(LARGEST + 1);
        for plain in ["{\"a\":1}", "", &"x".repeat(SMALLEST - 1), &huge] {
            let packed = Packer::new().pack([plain.into()]);
            assert_eq!(
                packed,
                [Packed::Text(plain.into())],
                "{} bytes",
                plain.len()
            );
        }
        let packed = Packer::new().pack(["x".repeat(SMALLEST).as_str().into()]);
        assert!(matches!(&packed[0], Packed::Binary(packed) if packed.len() < 100));
    }

    #[test]
    fn a_write_becomes_messages_of_bounded_size() {
        let frames = (0..3000).map(|n| format!("{{\"n\":{n}}}").into());
        let counts: Vec<usize> = Packer::new()
            .pack(frames)
            .iter()
            .map(|message| match message {
                Packed::Text(_) => 1,
                Packed::Binary(packed) => unpack(packed, 1 << 20).unwrap().len(),
            })
            .collect();
        assert_eq!(counts, [MOST_FRAMES, MOST_FRAMES, 3000 - 2 * MOST_FRAMES]);
        let large = "y".repeat(TOGETHER);
        let frames = [large.as_str(), "z", large.as_str()].map(TextFrame::from);
        let sizes = Packer::new().pack(frames);
        let sizes = sizes.iter().map(|message| match message {
            Packed::Text(text) => text.len(),
            Packed::Binary(packed) => inflate(packed, 1 << 20).unwrap().len(),
        });
        assert_eq!(sizes.collect::<Vec<_>>(), [TOGETHER + 4, 1, TOGETHER + 4]);
    }

    #[test]
    fn a_bomb_is_refused_at_the_limit() {
        let bomb = packed_of(&vec![0; 64 << 20]);
        assert!(bomb.len() < 1 << 20, "{}", bomb.len());
        let limit = 1 << 20;
        assert_eq!(unpack(&bomb, limit), Err(UnpackError::TooLarge { limit }));
        let just = packed_of(&vec![b'x'; limit]);
        assert_eq!(inflate(&just, limit).unwrap().len(), limit);
        let limit = limit - 1;
        assert_eq!(inflate(&just, limit), Err(UnpackError::TooLarge { limit }));
        assert_eq!(inflate(&just, 0), Err(UnpackError::TooLarge { limit: 0 }));
    }

    #[test]
    fn what_breaks_a_rule_is_told_by_its_close_code() {
        let row = |frames: &[&[u8]]| {
            let mut row = Vec::new();
            for frame in frames {
                row.extend(u32::try_from(frame.len()).unwrap().to_be_bytes());
                row.extend(*frame);
            }
            row
        };
        let good = packed_of(&row(&[b"{}"]));
        let code = |packed: &[u8]| unpack(packed, 1 << 20).map_err(UnpackError::code);
        assert_eq!(code(&good), Ok(vec!["{}".into()]));
        let cut_off = &good[..good.len() - 1];
        let with_more = [&good[..], b"x"].concat();
        let mut too_long = row(&[b"{}"]);
        too_long[3] = 3;
        let mut endless = row(&[b"{}"]);
        endless[0] = 0xff;
        let empty_frames: Vec<&[u8]> = vec![b""; MOST_FRAMES + 1];
        for (packed, expected) in [
            (Vec::new(), 1002),
            (b"{\"action\":\"x\"}".to_vec(), 1002),
            (cut_off.to_vec(), 1002),
            (with_more, 1002),
            (packed_of(b""), 1002),
            (packed_of(b"\0\0"), 1002),
            (packed_of(&too_long), 1002),
            (packed_of(&endless), 1002),
            (packed_of(&row(&empty_frames)), 1002),
            (packed_of(&row(&[b"{}", b"\xff\xfe"])), 1007),
            (packed_of(&vec![0; 2 << 20]), 1009),
        ] {
            assert_eq!(code(&packed), Err(expected), "{packed:?}");
        }
        assert_eq!(
            code(&packed_of(&row(&empty_frames[1..]))).map(|it| it.len()),
            Ok(MOST_FRAMES)
        );
    }
}
