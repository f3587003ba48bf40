//! What comes in: connections opening and closing, and their frames, in order and bounded.

use std::{fmt, time::Duration};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::delivery::{Gap, Position};

/// Names one connection of a link; never used twice by a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One thing that happened on the link, in the order it happened.
///
/// Every connection starts with `Opened` and ends with exactly one `Closed`; its frames are in
/// between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inbound {
    /// A connection is up; the greeting is on its way.
    Opened {
        /// The new connection.
        conn: ConnId,
        /// Whether the peer accepted the extension.
        extended: bool,
    },
    /// A text frame arrived.
    Frame {
        /// The connection it came on.
        conn: ConnId,
        /// Its text, checked to be UTF-8; empty for a numbered message that says nothing.
        text: Bytes,
        /// What stands for its number, if the peer keeps it until this side has it. Of several
        /// texts under one number the last one has it.
        receipt: Option<Receipt>,
    },
    /// A frame was refused; nothing of it is delivered.
    Refused {
        /// The connection it belongs to.
        conn: ConnId,
        /// Why.
        reason: FrameRefused,
    },
    /// Messages of this side will never come, or are known to one end only: the peer had stored them
    /// and has forgotten them, the disk of this side was set back, or they waited for longer than the
    /// spool keeps messages (`SpoolConfig::max_age`). Nothing is sent again. What a damaged disk does
    /// not give back is told to the peer and the log alone.
    Gap {
        /// The connection it was noticed on, or the last one before.
        conn: ConnId,
        /// Which messages.
        gap: Gap,
    },
    /// Messages of the peer that will never come. To [commit](crate::Handle::commit) the position
    /// says that this side does not wait for them any more.
    Missed {
        /// The connection it was noticed on.
        conn: ConnId,
        /// Which messages.
        gap: Gap,
        /// Where the stream of the peer stands behind them.
        upto: Position,
    },
    /// A connection is gone; the link dials again by itself.
    Closed {
        /// The connection.
        conn: ConnId,
        /// Why.
        reason: CloseReason,
    },
}

/// Stands for a frame that the peer keeps until this side has [committed](crate::Handle::commit)
/// it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The number of the frame. Frames of different tasks may come out of the order of their
    /// numbers, when a large one comes in parts.
    pub seq: u64,
    /// Where the stream of the peer stands once this frame and all before it are taken. Numbers
    /// above it may have come as well.
    pub upto: Position,
}

/// Why a frame was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameRefused {
    /// The peer sent a binary frame; the connection goes on.
    #[error("binary frame of {bytes} bytes")]
    Binary {
        /// Its length.
        bytes: usize,
    },
    /// The peer sent a frame over the limit; the connection ends and is dialled again.
    #[error("frame of {bytes} bytes is over the limit")]
    TooLarge {
        /// Its announced length.
        bytes: usize,
    },
    /// The peer sent a text frame that is not UTF-8; the connection goes on.
    #[error("text frame is not UTF-8")]
    NotUtf8,
    /// One of our own messages has a frame over the limit, or the peer refused it as too big;
    /// it was taken out of the outbox.
    #[error("own frame of {bytes} bytes is over the limit")]
    TooLargeToSend {
        /// Its length.
        bytes: usize,
    },
    /// One of our own messages has more texts than [`MOST_TEXTS`](crate::delivery::MOST_TEXTS); it was
    /// taken out, or its number goes without them.
    #[error("own message of {texts} texts is over the limit")]
    TooManyToSend {
        /// How many.
        texts: usize,
    },
}

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// The peer closed with a code.
    #[error("closed by the peer with code {code}{}", Reason(reason))]
    Code {
        /// The close code.
        code: u16,
        /// The text that came with it, at most 123 bytes on the wire; a link takes its own
        /// credential out.
        reason: String,
    },
    /// The peer went away without a close frame, or the network broke (code 1006).
    #[error("connection lost: {0}")]
    Lost(String),
    /// The peer broke the framing rules.
    #[error("peer broke the protocol: {0}")]
    Protocol(String),
    /// Nothing was heard for the given time although pings were sent.
    #[error("nothing heard for {0:?}")]
    Silent(Duration),
    /// Things arrived, but no answer to the pings that were sent for the given time: the way out is
    /// dead.
    #[error("pings were not answered for {0:?}")]
    Unanswered(Duration),
    /// A write made no progress for the given time.
    #[error("sending made no progress for {0:?}")]
    Stalled(Duration),
    /// The peer sent too many frames that were of no use; see
    /// [`Limits::useless`](crate::Limits::useless).
    #[error("{useless} useless frames, more than are put up with")]
    Flooded {
        /// How many of them came on this connection.
        useless: u64,
    },
    /// The machine slept; the connection was replaced.
    #[error("the machine slept")]
    Slept,
    /// This side shut down.
    #[error("shut down")]
    ShutDown,
}

struct Reason<'a>(&'a str);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, ": {}", self.0.escape_debug())
    }
}

/// The receiving end of a link.
///
/// Holds at most [`Limits::inbox`](crate::Limits::inbox) bytes; beyond that the socket is not
/// read, and the link waits for the embedder instead of blaming the peer. Dropping it discards
/// what arrives, the link goes on.
#[derive(Debug)]
pub struct Inbox {
    pub(crate) receiver: mpsc::UnboundedReceiver<(Inbound, OwnedSemaphorePermit)>,
}

impl Inbox {
    /// Waits for the next thing that happened; `None` once the link has stopped.
    ///
    /// Cancel safe: nothing is lost when the future is dropped.
    pub async fn recv(&mut self) -> Option<Inbound> {
        let (inbound, room) = self.receiver.recv().await?;
        drop(room);
        Some(inbound)
    }
}
