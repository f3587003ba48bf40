//! The way to each kind of peer: which message is next, and in which words it goes.
//!
//! Invariant: the messages of one stream go in the order they came, whether they wait here or the
//! writer lends them; a message that may be too big for the peer goes alone.

use std::{num::NonZero, time::Instant};

use super::{
    Batch, Entry, Outbox,
    numbered::{Numbered, write_list},
};
use crate::{
    delivery::{MOST_TEXTS, Writer},
    payload::{Payload, TextFrame},
};

/// What the peer of the connection takes.
pub(in crate::link) enum Peer<'a, P> {
    /// Plain frames.
    Plain,
    /// Plain frames, with a spool: messages of streams come from the writer, which has them
    /// on the disk.
    Spooled(&'a mut Writer<Numbered<P>>),
    /// The envelope; it has not taken what came before yet, so that nothing may get a number.
    Behind(&'a mut Writer<Numbered<P>>),
    /// The envelope.
    Current(&'a mut Writer<Numbered<P>>),
}

impl<P: Payload> Peer<'_, P> {
    /// Whether messages of streams may go now.
    fn takes_streams(&self) -> bool {
        match self {
            Self::Plain | Self::Current(_) => true,
            Self::Spooled(_) | Self::Behind(_) => false,
        }
    }

    /// Whether the writer has a message that goes before the one at this place, and then whether it
    /// goes alone.
    fn lends(&self, own: Option<u64>) -> Option<bool> {
        let numbered = match self {
            Self::Spooled(writer) => writer.waiting()?,
            Self::Plain | Self::Behind(_) | Self::Current(_) => return None,
        };
        own.is_none_or(|at| numbered.at < at)
            .then_some(numbered.alone)
    }

    fn lend(&mut self) -> Option<(u64, Entry<P>)> {
        match self {
            Self::Spooled(writer) => {
                let (seq, numbered) = writer.lend()?;
                let entry = Entry {
                    class: numbered.class,
                    size: numbered.size(),
                    payload: numbered.payload,
                    sealed: false,
                    alone: numbered.alone,
                    lent: NonZero::new(seq),
                };
                Some((numbered.at, entry))
            }
            Self::Plain | Self::Behind(_) | Self::Current(_) => None,
        }
    }
}

impl<P: Payload> Outbox<P> {
    /// Adds to a batch what may go to this peer. What has no number of the envelope stays in flight
    /// until [`on_wrote`](Self::on_wrote) or [`on_closed`](Self::on_closed).
    ///
    /// Without `paced` nothing waits for its pace.
    pub(in crate::link) fn take(
        &mut self,
        batch: &mut Batch,
        now: Instant,
        paced: bool,
        mut peer: Peer<'_, P>,
        frame_limit: usize,
    ) {
        if self.proving.iter().any(|(.., entry)| entry.alone) {
            return;
        }
        batch.expect(self.queue.len());
        let mut from = 0;
        while !batch.is_full() {
            let own = if peer.takes_streams() {
                let next = self.next_from(from, now, paced, |_| true);
                next.map(|(at, entry)| (at, entry.alone))
            } else {
                let next = self.bare.range(from..).next();
                next.and_then(|at| Some((*at, self.queue.get(*at)?.alone)))
            };
            let lent = peer.lends(own.map(|(at, _)| at));
            let alone = match (lent, own) {
                (Some(alone), _) | (None, Some((_, alone))) => alone,
                (None, None) => break,
            };
            if alone && !batch.frames.is_empty() {
                break;
            }
            let next = match (lent, own) {
                (Some(_), _) => peer.lend(),
                (None, Some((at, _))) => {
                    from = at + 1;
                    self.take_out(at, now).map(|entry| (at, entry))
                }
                (None, None) => None,
            };
            let Some((at, entry)) = next else { break };
            match &mut peer {
                Peer::Plain => {
                    self.take_plain(batch, at, entry, frame_limit);
                }
                Peer::Spooled(writer) => {
                    let lent = entry.lent;
                    let goes = self.take_plain(batch, at, entry, frame_limit);
                    if let Some(seq) = lent.filter(|_| !goes) {
                        writer.settle(seq.get());
                    }
                }
                Peer::Behind(writer) => self.take_bare(batch, at, entry, writer, frame_limit),
                Peer::Current(writer) => match entry.class.stream() {
                    Some(stream) => number(batch, at, stream, entry, writer, frame_limit),
                    None => self.take_bare(batch, at, entry, writer, frame_limit),
                },
            }
            let current = match &peer {
                Peer::Plain | Peer::Spooled(_) | Peer::Behind(_) => true,
                Peer::Current(writer) => writer.is_caught_up(),
            };
            if alone || !current {
                break;
            }
        }
    }

    /// Tells whether it goes; one that does not is let go.
    fn take_plain(
        &mut self,
        batch: &mut Batch,
        at: u64,
        mut entry: Entry<P>,
        limit: usize,
    ) -> bool {
        let frames = entry.payload.seal(false);
        let Some(longest) = frames.iter().map(TextFrame::len).max() else {
            return false;
        };
        if longest > limit {
            batch.refused.push(longest);
            return false;
        }
        entry.size = frames.iter().map(TextFrame::len).sum();
        entry.sealed = true;
        self.used += entry.size;
        for frame in frames {
            batch.add(frame);
        }
        self.in_flight.push((at, entry));
        true
    }

    /// A message without a number, to a peer with the envelope.
    fn take_bare(
        &mut self,
        batch: &mut Batch,
        at: u64,
        mut entry: Entry<P>,
        writer: &mut Writer<Numbered<P>>,
        limit: usize,
    ) {
        let frames = entry.payload.seal(true);
        let Some(longest) = frames.iter().map(TextFrame::len).max() else {
            return;
        };
        if longest > limit {
            batch.refused.push(longest);
            return;
        }
        entry.size = 0;
        for frame in frames {
            if !writer.bare(frame.as_str()) {
                entry.size += frame.len();
                batch.add(frame);
            }
        }
        self.used += entry.size;
        self.in_flight.push((at, entry));
    }
}

/// Gives a message its number. One that was sealed for a plain peer before is new to this one.
fn number<P: Payload>(
    batch: &mut Batch,
    at: u64,
    stream: u64,
    entry: Entry<P>,
    writer: &mut Writer<Numbered<P>>,
    limit: usize,
) {
    let Entry {
        class,
        payload,
        size,
        ..
    } = entry;
    let frames = payload.seal(true);
    if frames.is_empty() {
        return;
    }
    if let Some(length) = refused(&frames, limit) {
        batch.refused.push(length);
        return;
    }
    let numbered = Numbered {
        at,
        class,
        payload,
        alone: false,
    };
    if let Some(frame) = writer.number(numbered, stream, size, |list| write_list(list, &frames)) {
        batch.add(frame.into());
    }
}

/// The length of a list that no peer takes.
fn refused(frames: &[TextFrame], limit: usize) -> Option<usize> {
    let longest = |frame: &TextFrame| frame.len() * ESCAPED + 3;
    let fits = frames.iter().map(longest).sum::<usize>() < limit;
    if fits && frames.len() <= MOST_TEXTS {
        return None;
    }
    let mut list = String::new();
    write_list(&mut list, frames);
    (list.len() > limit || frames.len() > MOST_TEXTS).then_some(list.len())
}

/// How many bytes a byte of a text may become in a list.
const ESCAPED: usize = 6;
