//! What an embedder says about a message: its class, its size, how it merges, its bytes.

use std::{iter::Chain, ops::Deref, option, slice, vec};

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::inbound::ConnId;

/// A message of the embedder, held by the link until a connection can take it.
///
/// Messages stay unsealed while they wait, so that neighbours can still be merged and the same
/// message can be written for either kind of peer.
pub trait Payload: Send + Sized + 'static {
    /// Says how this message may be treated while it waits.
    ///
    /// Must not change during the life of the message.
    fn class(&self) -> Class;

    /// Estimates the bytes this message holds; the outbox is bounded by the sum.
    ///
    /// Called often, so it should not serialise anything.
    fn size(&self) -> usize;

    /// Merges the next message of the same stream into this one.
    ///
    /// Called only between two waiting neighbours of one class, [`Class::Coalesce`] or
    /// [`Class::Paced`].
    ///
    /// # Errors
    /// Returns `next` untouched when the two cannot be merged; both are then sent.
    fn absorb(&mut self, next: Self) -> Result<(), Self>;

    /// Turns the message into text frames, which travel together and in order. With none there is
    /// nothing to say, and the message is dropped. What is above
    /// [`Limits::frame`](crate::Limits::frame) is taken out and told as
    /// [`Inbound::Refused`](crate::Inbound::Refused); so is a message with a number that has more
    /// frames than [`MOST_TEXTS`](crate::delivery::MOST_TEXTS).
    ///
    /// `extended` tells whether the peer accepted the extension on this connection. There a message
    /// of a stream gets a number and is kept until the peer has stored it. A message is sealed again
    /// where it is sent again, so it has to give a peer of one kind the same frames each time.
    fn seal(&self, extended: bool) -> Frames;
}

/// A message that can be written down, so that another process can go on with it.
pub trait Stored: Payload {
    /// Writes the message down; `None` when there is nothing to send of it. At most
    /// [`Limits::frame`](crate::Limits::frame) bytes, or it is taken out.
    ///
    /// Called for messages of a [stream](Class::stream) only, at most once.
    fn store(&self) -> Option<Bytes>;

    /// Reads what [`store`](Self::store) wrote, perhaps in an earlier version; `None` when it
    /// cannot be read. It has to be of the same stream. What gives `None`, or is of no stream, is a
    /// gap to the other end.
    fn restore(stored: &[u8]) -> Option<Self>;
}

/// How a message may be treated while it waits.
///
/// `Durable`, `Coalesce` and `Paced` messages with the same stream number keep their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Never dropped, never merged, always admitted even to a full outbox, so only its producer
    /// bounds it.
    Durable {
        /// The stream whose order it keeps.
        stream: u64,
    },
    /// May be merged with the last waiting message of its stream; the producer waits when the
    /// outbox is full.
    Coalesce {
        /// The stream whose order it keeps.
        stream: u64,
    },
    /// As `Coalesce`, for increments that may come by the thousand: within
    /// [`Timings::pace`](crate::Timings::pace) of the last one of its stream that was written it
    /// waits, so that those behind it are merged into it. One that comes after a pause is written
    /// at once, and whatever else is pushed to the stream lets the waiting one go first.
    Paced {
        /// The stream whose order it keeps.
        stream: u64,
    },
    /// Only the newest of a slot matters; it takes the place of an older one that still waits.
    /// Always admitted, so slots should be few.
    Latest {
        /// The slot it fills.
        slot: u64,
    },
    /// An answer to a request of one connection, dropped when that connection is gone; the
    /// producer waits when the outbox is full.
    Reply {
        /// The connection it answers on.
        conn: ConnId,
    },
}

impl Class {
    /// The stream whose order it keeps, if it is of one.
    pub fn stream(self) -> Option<u64> {
        match self {
            Self::Durable { stream } | Self::Coalesce { stream } | Self::Paced { stream } => {
                Some(stream)
            }
            Self::Latest { .. } | Self::Reply { .. } => None,
        }
    }
}

/// One text frame: bytes proven to be UTF-8, cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TextFrame(pub(crate) Utf8Bytes);

impl TextFrame {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Returns the length in bytes.
    pub fn len(&self) -> usize {
        self.0.as_str().len()
    }

    /// Tells whether the text is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<String> for TextFrame {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&str> for TextFrame {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<TextFrame> for Bytes {
    fn from(frame: TextFrame) -> Self {
        frame.0.into()
    }
}

impl TryFrom<Bytes> for TextFrame {
    type Error = std::str::Utf8Error;

    /// Checks the bytes and takes them over without copying.
    fn try_from(bytes: Bytes) -> Result<Self, Self::Error> {
        Utf8Bytes::try_from(bytes).map(Self)
    }
}

/// The text frames that a message is sent as: none, several, or nearly always one, which costs no
/// list. Made of a [`TextFrame`], of a list of them, or collected.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frames(Few);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Few {
    One(TextFrame),
    Many(Vec<TextFrame>),
}

impl Default for Few {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Deref for Frames {
    type Target = [TextFrame];

    fn deref(&self) -> &[TextFrame] {
        match &self.0 {
            Few::One(frame) => slice::from_ref(frame),
            Few::Many(frames) => frames,
        }
    }
}

impl IntoIterator for Frames {
    type Item = TextFrame;
    type IntoIter = Chain<option::IntoIter<TextFrame>, vec::IntoIter<TextFrame>>;

    fn into_iter(self) -> Self::IntoIter {
        let (one, many) = match self.0 {
            Few::One(frame) => (Some(frame), Vec::new()),
            Few::Many(frames) => (None, frames),
        };
        one.into_iter().chain(many)
    }
}

impl From<TextFrame> for Frames {
    fn from(frame: TextFrame) -> Self {
        Self(Few::One(frame))
    }
}

impl From<Vec<TextFrame>> for Frames {
    fn from(frames: Vec<TextFrame>) -> Self {
        Self(Few::Many(frames))
    }
}

impl FromIterator<TextFrame> for Frames {
    fn from_iter<I: IntoIterator<Item = TextFrame>>(frames: I) -> Self {
        let mut frames = frames.into_iter();
        let Some(first) = frames.next() else {
            return Self::default();
        };
        match frames.next() {
            None => first.into(),
            Some(second) => {
                let all = [first, second].into_iter().chain(frames);
                all.collect::<Vec<_>>().into()
            }
        }
    }
}

/// What goes first on every connection, before anything queued.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Greeting {
    /// Extra headers of the upgrade request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The first frames of a connection.
    pub frames: Vec<TextFrame>,
    /// The first frames of a connection whose peer accepted the extension; `frames` when `None`.
    pub extended_frames: Option<Vec<TextFrame>>,
}

impl Greeting {
    pub(crate) fn frames_for(&self, extended: bool) -> &[TextFrame] {
        match &self.extended_frames {
            Some(frames) if extended => frames,
            Some(_) | None => &self.frames,
        }
    }
}

/// A plain text message: durable, in order, one frame, the same for every peer.
///
/// Enough for programs that have no classes of their own and a bound of their own on what they say:
/// [`Class::Durable`] makes no producer wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text(pub String);

impl Payload for Text {
    fn class(&self) -> Class {
        Class::Durable { stream: 0 }
    }

    fn size(&self) -> usize {
        self.0.len()
    }

    fn absorb(&mut self, next: Self) -> Result<(), Self> {
        Err(next)
    }

    fn seal(&self, _extended: bool) -> Frames {
        TextFrame::from(self.0.as_str()).into()
    }
}

impl Stored for Text {
    fn store(&self) -> Option<Bytes> {
        Some(self.0.clone().into())
    }

    fn restore(stored: &[u8]) -> Option<Self> {
        String::from_utf8(stored.to_vec()).ok().map(Self)
    }
}
