//! The way to each kind of peer: which message is next, and in which words it goes.
//!
//! Invariant: the messages of one stream go in the order they came, whether they wait here or the
//! writer lends them; a message that may be too big for the peer goes alone.

use std::{num::NonZero, time::Instant};

use super::{
    Batch, Entry, Outbox, Patience,
    flight::give_back,
    numbered::{Numbered, write_list},
};
use crate::{
    delivery::{MOST_TEXTS, Writer},
    inbound::FrameRefused,
    payload::{Class, Frames, Payload, TextFrame},
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
    /// Whether it acknowledges nothing, and may refuse a message for its length.
    fn is_plain(&self) -> bool {
        match self {
            Self::Plain | Self::Spooled(_) => true,
            Self::Behind(_) | Self::Current(_) => false,
        }
    }

    /// Whether messages of streams may go now.
    fn takes_streams(&self) -> bool {
        match self {
            Self::Plain | Self::Current(_) => true,
            Self::Spooled(_) | Self::Behind(_) => false,
        }
    }

    /// Whether what came before is on its way, so that the next message may follow.
    fn is_current(&self) -> bool {
        match self {
            Self::Plain | Self::Spooled(_) | Self::Behind(_) => true,
            Self::Current(writer) => writer.is_caught_up(),
        }
    }

    /// The message of the writer that goes before the one at this place, if there is one.
    fn lends(&self, own: Option<u64>) -> Option<&Numbered<P>> {
        let numbered = match self {
            Self::Spooled(writer) => writer.waiting()?,
            Self::Plain | Self::Behind(_) | Self::Current(_) => return None,
        };
        own.is_none_or(|at| numbered.at < at).then_some(numbered)
    }
}

impl<P: Payload> Outbox<P> {
    /// Adds to a batch what may go to this peer. What has no number of the envelope stays in flight
    /// until [`on_wrote`](Self::on_wrote) or [`on_closed`](Self::on_closed).
    pub(in crate::link) fn take(
        &mut self,
        batch: &mut Batch,
        now: Instant,
        patience: Patience,
        mut peer: Peer<'_, P>,
        frame_limit: usize,
    ) {
        self.waits_alone = false;
        self.width.forget(now);
        if patience.proof && self.proves_alone() {
            return;
        }
        let plain = peer.is_plain();
        let first = self.queue.first();
        let held = plain && first.is_some_and(|(_, entry)| self.goes_alone(entry));
        if peer.takes_streams() && !held {
            batch.expect(self.queue.len());
        }
        if matches!(peer, Peer::Plain) {
            self.send_first(batch, now, patience.pace, frame_limit);
        }
        let mut from = 0;
        while !batch.is_full() {
            let own = if peer.takes_streams() {
                self.next_from(from, now, patience.pace, |_| true)
            } else {
                let next = self.bare.range(from..).next();
                next.and_then(|at| Some((*at, self.queue.get(*at)?)))
            };
            let own = own.map(|(at, entry)| (at, self.goes_alone(entry)));
            let lent = peer.lends(own.map(|(at, _)| at));
            let unfit = |length: NonZero<u32>| !self.width.is_good(length.get());
            let lent = lent.map(|numbered| numbered.suspect.is_some_and(unfit));
            let Some(suspect) = lent.or_else(|| own.map(|(_, suspect)| suspect)) else {
                break;
            };
            let alone = plain && suspect;
            let quiet = self.is_quiet() || !patience.proof;
            if alone && !(quiet && batch.frames.is_empty()) {
                self.waits_alone = true;
                break;
            }
            if lent.is_some() {
                self.take_lent(batch, &mut peer, frame_limit);
            } else if let Some((at, _)) = own {
                from = at + 1;
                if let Some(entry) = self.take_out(at, now)
                    && let Some(kept) = self.send(batch, at, entry, &mut peer, frame_limit)
                {
                    from = at;
                    self.keep_back(at, kept);
                }
            }
            let sent = !batch.frames.is_empty();
            if alone && sent || !peer.is_current() {
                break;
            }
        }
    }

    /// Sends the first messages to a plain peer, as far as they may go together. Nearly always that is
    /// all there is to send, and a loop that looks for nothing else sends some per cent more.
    fn send_first(&mut self, batch: &mut Batch, now: Instant, paced: bool, limit: usize) {
        while !batch.is_full()
            && let Some((at, entry)) = self.queue.first()
            && !self.goes_alone(entry)
            && (!paced || self.waits(at, entry, now).is_none())
        {
            let frames = entry.payload.seal(false);
            let longest = batch.longest(&frames, limit);
            if longest.is_some_and(|longest| self.width.is_too_long(length(longest))) {
                break;
            }
            let Some((at, entry)) = self.queue.pop_first() else {
                break;
            };
            self.on_taken(at, entry.class, entry.size, now);
            if let Some(longest) = longest {
                self.fly(batch, at, entry, frames, longest);
            }
        }
    }

    /// Hands the frames of a message to the socket of a plain peer.
    #[inline]
    fn fly(
        &mut self,
        batch: &mut Batch,
        at: u64,
        mut entry: Entry<P>,
        frames: Frames,
        longest: usize,
    ) {
        entry.size = batch.add_all(frames);
        (entry.sealed, entry.longest) = (true, length(longest));
        self.longest_in_flight = self.longest_in_flight.max(entry.longest);
        self.used += entry.size;
        self.in_flight.push((at, entry));
    }

    /// Puts back a message that has to go alone.
    fn keep_back(&mut self, at: u64, mut entry: Entry<P>) {
        entry.suspect = true;
        self.used += entry.size;
        self.queue.put_back(vec![(at, entry)]);
    }

    /// Sends a message that has left the queue. One that does not go is let go, or given back because
    /// it has to go alone.
    #[inline]
    fn send(
        &mut self,
        batch: &mut Batch,
        at: u64,
        entry: Entry<P>,
        peer: &mut Peer<'_, P>,
        limit: usize,
    ) -> Option<Entry<P>> {
        match peer {
            Peer::Plain | Peer::Spooled(_) => return self.send_plain(batch, at, entry, limit),
            Peer::Behind(writer) => self.send_bare(batch, at, entry, writer, limit),
            Peer::Current(writer) => match entry.class.stream() {
                Some(stream) => number(batch, at, stream, entry, writer, limit),
                None => self.send_bare(batch, at, entry, writer, limit),
            },
        }
        None
    }

    /// To a plain peer.
    #[inline]
    fn send_plain(
        &mut self,
        batch: &mut Batch,
        at: u64,
        mut entry: Entry<P>,
        limit: usize,
    ) -> Option<Entry<P>> {
        let frames = entry.payload.seal(false);
        let bytes = batch.longest(&frames, limit)?;
        entry.longest = length(bytes);
        match self.allows(entry.longest, entry.suspect, entry.class) {
            Allowed::Yes => {}
            Allowed::Alone => return Some(entry),
            Allowed::No => {
                batch.refused.push(FrameRefused::TooLargeToSend { bytes });
                return None;
            }
        }
        self.fly(batch, at, entry, frames, bytes);
        None
    }

    /// How a message may go to a plain peer. What is known to be too long is given up; but what has
    /// to arrive is tried once by itself.
    #[inline]
    fn allows(&self, longest: u32, suspect: bool, class: Class) -> Allowed {
        if suspect || !self.width.is_too_long(longest) {
            return Allowed::Yes;
        }
        match class {
            Class::Durable { .. } => Allowed::Alone,
            Class::Coalesce { .. }
            | Class::Paced { .. }
            | Class::Latest { .. }
            | Class::Reply { .. } => Allowed::No,
        }
    }

    /// The next message that the writer lends, to a plain peer. One that does not go is settled, or
    /// given back because it has to go alone.
    fn take_lent(&mut self, batch: &mut Batch, peer: &mut Peer<'_, P>, limit: usize) {
        let Peer::Spooled(writer) = peer else { return };
        let Some((
            seq,
            Numbered {
                at,
                class,
                payload,
                suspect,
            },
        )) = writer.lend()
        else {
            return;
        };
        let frames = payload.seal(false);
        let Some(bytes) = batch.longest(&frames, limit) else {
            writer.settle(seq);
            return;
        };
        let mut entry = Entry {
            class,
            payload,
            size: 0,
            sealed: true,
            longest: length(bytes),
            suspect: suspect.is_some(),
            lent: NonZero::new(seq),
        };
        match self.allows(entry.longest, entry.suspect, class) {
            Allowed::Yes => self.fly(batch, at, entry, frames, bytes),
            Allowed::Alone => {
                entry.suspect = true;
                give_back(at, entry, writer);
            }
            Allowed::No => {
                batch.refused.push(FrameRefused::TooLargeToSend { bytes });
                writer.settle(seq);
            }
        }
    }

    /// A message without a number, to a peer with the envelope.
    fn send_bare(
        &mut self,
        batch: &mut Batch,
        at: u64,
        mut entry: Entry<P>,
        writer: &mut Writer<Numbered<P>>,
        limit: usize,
    ) {
        let frames = entry.payload.seal(true);
        if batch.longest(&frames, limit).is_none() {
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
#[inline]
fn number<P: Payload>(
    batch: &mut Batch,
    at: u64,
    stream: u64,
    entry: Entry<P>,
    writer: &mut Writer<Numbered<P>>,
    limit: usize,
) {
    let frames = entry.payload.seal(true);
    if frames.is_empty() {
        return;
    }
    if let Some(reason) = refused(&frames, limit) {
        batch.refused.push(reason);
        return;
    }
    let numbered = Numbered {
        at,
        class: entry.class,
        payload: entry.payload,
        suspect: None,
    };
    let messages = |list: &mut String| write_list(list, &frames);
    if let Some(frame) = writer.number(numbered, stream, entry.size, messages) {
        batch.add(frame.into());
    }
}

/// Why no peer takes these as one message.
fn refused(frames: &[TextFrame], limit: usize) -> Option<FrameRefused> {
    let texts = frames.len();
    if texts > MOST_TEXTS {
        return Some(FrameRefused::TooManyToSend { texts });
    }
    let longest = |frame: &TextFrame| frame.len() * ESCAPED + 3;
    if frames.iter().map(longest).sum::<usize>() < limit {
        return None;
    }
    let mut list = String::new();
    write_list(&mut list, frames);
    let bytes = list.len();
    (bytes > limit).then_some(FrameRefused::TooLargeToSend { bytes })
}

/// How many bytes a byte of a text may become in a list.
const ESCAPED: usize = 6;

/// How a message may go.
enum Allowed {
    Yes,
    Alone,
    No,
}

/// The length of a frame, as it is remembered of a message.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
