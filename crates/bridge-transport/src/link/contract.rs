//! What a [`Link`](super::Link) is told and what it asks for.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::outbox::{Numbered, Record};
use crate::{
    carrier::Traffic,
    delivery::{Epoch, Position, Taken},
    dial::Disposition,
    handle::Flushed,
    inbound::{CloseReason, ConnId, FrameRefused, Inbound},
    payload::{Greeting, Payload, TextFrame},
    state::LinkState,
};

/// What happened.
#[derive(Debug)]
pub(crate) enum Input<P> {
    /// The embedder has messages.
    Push(VecDeque<P>),
    /// The embedder has a new greeting.
    Greeting(Greeting),
    /// The embedder has kept everything of the peer up to here.
    Committed { upto: Position },
    /// A dial succeeded.
    Opened { conn: ConnId, extended: bool },
    /// A dial failed.
    DialFailed {
        conn: ConnId,
        disposition: Disposition,
        reason: String,
    },
    /// A text frame arrived.
    Frame { conn: ConnId, text: Bytes },
    /// A frame was refused.
    Refused { conn: ConnId, reason: FrameRefused },
    /// A frame that was delivered turned out to be useless.
    Useless { conn: ConnId },
    /// A ping came back.
    Pong { conn: ConnId, id: u64 },
    /// When bytes last moved on the open connection.
    Traffic(Traffic),
    /// Reading was paused because the inbox is full, or goes on.
    Reading { reading: bool },
    /// The socket has taken the last write.
    Wrote { conn: ConnId },
    /// Everything up to this number is on the disk.
    Appended { upto: u64 },
    /// What the disk holds from a number on.
    Read(ReadBack<P>),
    /// Everything up to this number was too old for the disk, and is not there any more.
    Expired { upto: u64 },
    /// The disk takes nothing any more; numbers are counted anew under this name.
    SpoolLost { epoch: Epoch },
    /// A connection has ended.
    Closed { conn: ConnId, reason: CloseReason },
    /// The credential is a new one.
    CredentialChanged,
    /// The embedder wants to stop; what waits may be sent for this long.
    Drain { limit: Duration },
    /// The deadline has come.
    Timeout,
}

/// What to do, in order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Open a connection; give up one still being opened.
    Dial {
        conn: ConnId,
        headers: Vec<(HeaderName, HeaderValue)>,
    },
    /// Send these frames, then report [`Input::Wrote`]. There is one write at a time.
    Write {
        conn: ConnId,
        frames: Vec<TextFrame>,
    },
    /// Write these down, then report [`Input::Appended`]. There is one such action at a time.
    Append { records: Vec<Record> },
    /// Read what was written down from a number on and before another, until about so many bytes
    /// are together; then report [`Input::Read`]. There is one such action at a time.
    Read { from: u64, upto: u64, bytes: usize },
    /// Nothing up to this number is needed any more.
    Trim { upto: u64 },
    /// Send a ping.
    Ping { conn: ConnId, id: u64 },
    /// Drop the connection or the dial; with a good-bye if a code is given.
    HangUp { conn: ConnId, code: Option<u16> },
    /// Tell the embedder.
    Deliver(Inbound),
    /// Publish the state.
    State(LinkState),
    /// The end; no input is expected any more.
    Stopped(Flushed),
}

/// What a deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    /// The next dial is due.
    Redial,
    /// A ping is due.
    Ping,
    /// The peer has been silent for too long.
    Silence,
    /// Pings have been unanswered for too long.
    Unanswered,
    /// A write has stood still for too long.
    Stall,
    /// The peer has not said where to go on.
    Resume,
    /// The connection has lived long enough to end the outage.
    Healthy,
    /// Increments have waited long enough for others to be merged into them.
    Pace,
    /// Nothing but time proves a message, or nothing will.
    Proof,
    /// The last round trip is too long ago to call it connected.
    Doubt,
    /// Frames may be read again.
    Rate,
    /// The clocks are compared to notice sleep.
    ClockCheck,
    /// The time to send what waits is over.
    DrainLimit,
}

/// What a spool held when it was opened.
#[derive(Debug)]
pub(crate) struct Spooled<P> {
    pub(crate) epoch: Epoch,
    /// The first number that was not acknowledged.
    pub(crate) first: u64,
    /// The number the next message gets.
    pub(crate) next: u64,
    /// The first part of what there is in between.
    pub(crate) read: ReadBack<P>,
    pub(crate) store: fn(&P) -> Option<Bytes>,
    /// The first and the last number of what was too old when it was opened.
    pub(crate) expired: Option<(u64, u64)>,
}

/// What a spool holds from a number on and before another; a number that is not among them is
/// missing.
#[derive(Debug)]
pub(crate) struct ReadBack<P> {
    pub(crate) from: u64,
    pub(crate) upto: u64,
    pub(crate) messages: Vec<(u64, P)>,
}

impl<P: Payload> ReadBack<P> {
    pub(super) fn taken(self) -> impl Iterator<Item = Taken<Numbered<P>>> {
        self.messages.into_iter().filter_map(|(seq, message)| {
            let (payload, stream) = Numbered::read_back(message)?;
            Some(Taken {
                seq,
                size: payload.size(),
                payload,
                stream,
            })
        })
    }
}
