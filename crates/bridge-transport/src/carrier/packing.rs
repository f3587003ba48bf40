//! What a WebSocket does with batches: packed where both ends agreed on that, plain otherwise.

use std::{collections::VecDeque, vec};

use http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::Message;

use super::deflate::{HEADER, Packed, Packer, UnpackError, unpack};
use crate::{inbound::FrameRefused, payload::TextFrame};

/// The packing of one connection.
pub(super) struct Packing(Option<Packer>);

/// The messages of a batch.
pub(super) enum Messages {
    Plain(vec::IntoIter<TextFrame>),
    Packed(VecDeque<Packed>),
}

impl Iterator for Messages {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        match self {
            Self::Plain(frames) => frames.next().map(|frame| Message::Text(frame.0)),
            Self::Packed(messages) => Some(match messages.pop_front()? {
                Packed::Text(frame) => Message::Text(frame.0),
                Packed::Binary(bytes) => Message::Binary(bytes),
            }),
        }
    }
}

/// A message that breaks the rules of packing.
pub(super) struct Broken {
    /// What to close with.
    pub(super) code: u16,
    pub(super) refused: Option<FrameRefused>,
    pub(super) reason: String,
}

impl Packing {
    /// What offers it, where that is wanted.
    pub(super) fn offer(wanted: bool) -> Option<(HeaderName, HeaderValue)> {
        let name = HeaderName::from_static(HEADER);
        wanted.then_some((name, HeaderValue::from_static("1")))
    }

    pub(super) fn new(agreed: bool) -> Self {
        Self(agreed.then(Packer::new))
    }

    pub(super) fn messages(&mut self, frames: Vec<TextFrame>) -> Messages {
        match &mut self.0 {
            None => Messages::Plain(frames.into_iter()),
            Some(packer) => Messages::Packed(packer.pack(frames)),
        }
    }

    /// The frames of a binary message; `None` where they mean nothing.
    pub(super) fn frames(
        &self,
        packed: &[u8],
        limit: usize,
    ) -> Option<Result<Vec<TextFrame>, Broken>> {
        self.0.as_ref()?;
        Some(unpack(packed, limit).map_err(|error| Broken {
            code: error.code(),
            refused: match error {
                UnpackError::TooLarge { limit } => Some(FrameRefused::TooLarge {
                    bytes: limit.saturating_add(1),
                }),
                UnpackError::NotUtf8 => Some(FrameRefused::NotUtf8),
                UnpackError::Damaged | UnpackError::NoFrames => None,
            },
            reason: error.to_string(),
        }))
    }
}
