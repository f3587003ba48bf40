//! What was heard of the peer's stream, over all connections of this process, and how much of it
//! the embedder has kept.
//!
//! Invariant: a number is delivered once; nothing is acknowledged, or named as stored to the next
//! connection, that the embedder has not committed.

#[cfg(test)]
mod tests;

use crate::{
    delivery::{Position, Reader},
    payload::TextFrame,
};

#[derive(Debug, Default)]
pub(super) struct Hearing {
    /// Of the last connection, while there is none.
    reader: Option<Reader>,
    /// Up to where the embedder has kept; `None` when it keeps nothing.
    kept: Option<Position>,
    /// The peer has not been told of it yet.
    untold: bool,
}

impl Hearing {
    pub(super) fn new(kept: Option<Position>) -> Self {
        Self {
            reader: None,
            kept,
            untold: false,
        }
    }

    /// What a connection begins with; nothing when the embedder keeps nothing.
    pub(super) fn resume(&mut self) -> Option<TextFrame> {
        self.untold = false;
        self.kept.map(|kept| kept.resume().into())
    }

    /// The reader of a new connection; it holds so many bytes of messages in parts.
    pub(super) fn open(&mut self, parts: usize) -> Reader {
        let known = self.reader.take();
        known.unwrap_or_else(|| Reader::new(self.kept.unwrap_or_default(), parts))
    }

    pub(super) fn close(&mut self, reader: Option<Reader>) {
        let Some(mut reader) = reader.filter(|_| self.kept.is_some()) else {
            return;
        };
        reader.on_closed();
        self.reader = Some(reader);
    }

    /// The embedder has kept everything up to here; `current` is the reader of the connection.
    pub(super) fn on_committed(&mut self, upto: Position, current: Option<&mut Reader>) {
        let (Some(kept), Some(reader)) = (&mut self.kept, current.or(self.reader.as_mut())) else {
            return;
        };
        let known = kept.epoch == upto.epoch && upto.last <= kept.last;
        if known || upto.epoch != reader.position().epoch {
            return;
        }
        reader.on_kept(upto.last);
        *kept = upto;
        self.untold = true;
    }

    /// Tells the peer once, when it has said which numbers it speaks of.
    pub(super) fn next_ack(&mut self, reader: &Reader) -> Option<TextFrame> {
        let kept = self.kept.filter(|_| self.untold && reader.is_begun())?;
        self.untold = false;
        (kept.epoch == reader.position().epoch).then(|| kept.ack().into())
    }
}
