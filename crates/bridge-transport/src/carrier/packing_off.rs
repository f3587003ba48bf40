//! Without the feature `deflate` every frame is a message of its own.

use std::{convert::Infallible, vec};

use http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::Message;

use crate::{inbound::FrameRefused, payload::TextFrame};

/// Nothing can be agreed on.
pub(super) struct Packing;

/// The messages of a batch.
pub(super) struct Messages(vec::IntoIter<TextFrame>);

impl Iterator for Messages {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        self.0.next().map(|frame| Message::Text(frame.0))
    }
}

/// What only packed messages can be.
pub(super) struct Broken {
    pub(super) code: u16,
    pub(super) refused: Option<FrameRefused>,
    pub(super) reason: String,
    _never: Infallible,
}

#[expect(
    clippy::unused_self,
    reason = "with the feature there is something to ask"
)]
impl Packing {
    pub(super) fn offer(_: bool) -> Option<(HeaderName, HeaderValue)> {
        None
    }

    pub(super) fn new(_: bool) -> Self {
        Self
    }

    pub(super) fn messages(&mut self, frames: Vec<TextFrame>) -> Messages {
        Messages(frames.into_iter())
    }

    pub(super) fn frames(&self, _: &[u8], _: usize) -> Option<Result<Vec<TextFrame>, Broken>> {
        None
    }
}
