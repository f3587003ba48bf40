//! What goes out together, and when that is enough.

use crate::{
    inbound::FrameRefused,
    payload::{Frames, TextFrame},
};

#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::link) struct Batch {
    pub(in crate::link) frames: Vec<TextFrame>,
    /// What is wrong with each message that was taken out.
    pub(in crate::link) refused: Vec<FrameRefused>,
    bytes: usize,
    half: bool,
}

impl Batch {
    /// Whether the other half of it is for something else.
    pub(in crate::link) fn only_half(&mut self, half: bool) {
        self.half = half;
    }

    #[inline]
    pub(in crate::link) fn add(&mut self, frame: TextFrame) {
        self.bytes += frame.len();
        self.frames.push(frame);
    }

    /// Adds what a message is sent as, and gives its bytes.
    #[inline]
    pub(in crate::link) fn add_all(&mut self, frames: Frames) -> usize {
        let before = self.bytes;
        for frame in frames {
            self.add(frame);
        }
        self.bytes - before
    }

    /// The bytes of the longest frame. Gives nothing where there is none, or one above the limit.
    #[inline]
    pub(in crate::link) fn longest(&mut self, frames: &Frames, limit: usize) -> Option<usize> {
        let bytes = frames.iter().map(TextFrame::len).max()?;
        if bytes > limit {
            self.refused.push(FrameRefused::TooLargeToSend { bytes });
            return None;
        }
        Some(bytes)
    }

    /// Makes room for what comes of so many messages.
    pub(in crate::link) fn expect(&mut self, messages: usize) {
        self.frames.reserve(messages.min(BATCH_MESSAGES));
    }

    /// Large enough to fill a fast network, small enough that text behind it can still be merged.
    #[inline]
    pub(in crate::link) fn is_full(&self) -> bool {
        let parts = if self.half { 2 } else { 1 };
        self.bytes >= BATCH_BYTES / parts || self.frames.len() >= BATCH_MESSAGES / parts
    }
}

pub(super) const BATCH_BYTES: usize = 256 << 10;
/// Bounds what is written again to a plain peer when a connection dies.
const BATCH_MESSAGES: usize = 1024;
