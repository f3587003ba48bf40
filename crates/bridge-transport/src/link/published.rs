//! What goes over a spool to a peer of the published wire, which knows no numbers.
//!
//! Invariant: a message leaves the spool when it is known to have arrived, or can never arrive; it is
//! sent again on the next connection until then, if it is durable, and otherwise until a write of it
//! was confirmed.

#[cfg(test)]
mod tests;

use super::outbox::{Batch, Numbered};
use crate::{
    delivery::Writer,
    payload::{Payload, TextFrame},
};

/// How far a connection is.
#[derive(Debug, Default)]
pub(super) struct Published {
    /// Everything below was handed to the socket.
    next: u64,
    in_flight: Option<InFlight>,
    /// Up to this number messages go one by one, because a batch of them was refused as too big.
    alone: u64,
}

#[derive(Debug)]
struct InFlight {
    first: u64,
    last: u64,
    bytes: usize,
}

impl Published {
    /// A connection is up.
    pub(super) fn on_opened(&mut self) {
        self.next = 0;
    }

    /// Adds to a batch what is next.
    pub(super) fn take<P: Payload>(
        &mut self,
        batch: &mut Batch,
        writer: &mut Writer<Numbered<P>>,
        frame_limit: usize,
    ) {
        while !batch.is_full()
            && let Some((seq, message)) = writer.message(self.next)
        {
            let begun = self.in_flight.is_some();
            if begun && seq <= self.alone {
                break;
            }
            let frames = message.plain();
            self.next = seq + 1;
            let longest = frames.iter().map(TextFrame::len).max();
            if longest.is_none_or(|longest| longest > frame_limit) {
                batch.refused.extend(longest);
                writer.let_go(seq, |other, _| other != seq);
                continue;
            }
            let in_flight = self.in_flight.get_or_insert(InFlight {
                first: seq,
                last: seq,
                bytes: 0,
            });
            in_flight.last = seq;
            for frame in frames {
                in_flight.bytes += frame.len();
                batch.add(frame);
            }
        }
    }

    /// The socket has taken what was handed to it; gives the number up to which.
    pub(super) fn on_wrote<P: Payload>(&mut self, writer: &mut Writer<Numbered<P>>) -> Option<u64> {
        let InFlight { last, .. } = self.in_flight.take()?;
        writer.let_go(last, |_, message| message.is_durable());
        Some(last)
    }

    /// The connection is gone. With `too_big` the peer refused what was in flight for its size: it
    /// goes out one by one next time, and a message that was alone is given up. Returns that one's
    /// size.
    pub(super) fn on_closed<P: Payload>(
        &mut self,
        too_big: bool,
        writer: &mut Writer<Numbered<P>>,
    ) -> Option<usize> {
        let InFlight { first, last, bytes } = self.in_flight.take().filter(|_| too_big)?;
        if first == last {
            writer.let_go(first, |other, _| other != first);
            return Some(bytes);
        }
        self.alone = last;
        None
    }
}
