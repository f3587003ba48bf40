//! Without the feature `deflate` every frame is a message of its own.

use std::{collections::VecDeque, convert::Infallible};

use http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::Message;

use crate::{inbound::FrameRefused, payload::TextFrame};

/// Nothing can be agreed on.
pub(super) struct Packing;

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

    pub(super) fn messages(&mut self, frames: Vec<TextFrame>) -> VecDeque<Message> {
        let frames = frames.into_iter();
        frames.map(|frame| Message::Text(frame.0)).collect()
    }

    pub(super) fn frames(&self, _: &[u8], _: usize) -> Option<Result<Vec<TextFrame>, Broken>> {
        None
    }
}
