//! What waits to be sent: the queue, and what it admits.
//!
//! Invariant: messages of one stream leave in the order they came. A message leaves
//! - of a stream, to a peer with the envelope or into a spool, when it gets its number: from then on
//!   the [writer](crate::delivery::Writer) keeps it, and may lend it for the way to a plain peer;
//! - else when its write was confirmed; a durable one to a plain peer, and one that the peer may have
//!   refused as too big, only when it is [proven](Proof) that it arrived, or when it was refused.
//!
//! The bytes held, here and by the writer, stay under the limit but for durable messages, one for
//! each slot, and a single message that is larger. What is paced waits only while it is the last of
//! its stream.

mod batch;
mod flight;
mod numbered;
mod queue;
mod tails;
mod take;
#[cfg(test)]
mod tests;
mod width;

use std::{
    collections::{BTreeSet, VecDeque},
    num::NonZero,
    time::{Duration, Instant},
};

use foldhash::{HashMap, HashMapExt as _};

pub(crate) use self::numbered::Record;
pub(super) use self::{batch::Batch, flight::TooBig, numbered::Numbered, take::Peer};
use self::{queue::Queue, tails::Tails, width::Width};
use super::{pace::Pace, proof::Proof};
use crate::{
    inbound::ConnId,
    payload::{Class, Payload},
};

#[derive(Debug)]
pub(super) struct Outbox<P> {
    queue: Queue<Entry<P>>,
    next: u64,
    tails: Tails,
    /// The waiting entry of each slot.
    slots: HashMap<u64, u64>,
    /// Where entries of no stream are: they go where thousands of others have to wait.
    bare: BTreeSet<u64>,
    /// Handed to the socket, not yet confirmed, in order.
    in_flight: Vec<(u64, Entry<P>)>,
    /// The length of the longest frame among them, to a plain peer.
    longest_in_flight: u32,
    /// Written to a plain peer, not proven yet, in order.
    proving: VecDeque<(Proof, u64, Entry<P>)>,
    /// What all that was written to a plain peer waits for, as long as that is not proven, and the
    /// length of its longest frame.
    wrote: Option<(Proof, u32)>,
    /// How long a frame may be for a plain peer.
    width: Width,
    /// A suspect waits until nothing is under way.
    waits_alone: bool,
    used: usize,
    limit: usize,
    pace: Pace,
}

#[derive(Debug)]
struct Entry<P> {
    class: Class,
    payload: P,
    /// What it counts for: an estimate, and the bytes of its frames once it is handed to the socket.
    size: usize,
    /// It went, or may have gone, to a peer: what was merged into it would arrive twice.
    sealed: bool,
    /// The length of its longest frame, once it was handed to the socket.
    longest: u32,
    /// It may be what the peer refused as too big, or is as long as that, and goes alone.
    suspect: bool,
    /// Its number, where the writer lent it to be sent to a plain peer.
    lent: Option<NonZero<u64>>,
}

impl<P> Entry<P> {
    /// Whether a confirmed write is not enough to let it go. A suspect is waited for whatever it is,
    /// or it could not be told which message the peer refuses.
    fn wants_proof(&self) -> bool {
        match self.class {
            Class::Durable { .. } => true,
            Class::Coalesce { .. } | Class::Paced { .. } | Class::Latest { .. } => self.suspect,
            Class::Reply { .. } => false,
        }
    }
}

/// What a message is waited with for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// That the pace of its stream lets it go.
    pub(super) pace: bool,
    /// That what went before a suspect is proven, and then the suspect.
    pub(super) proof: bool,
}

/// The outbox has no room; what has to wait comes back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full<T>(pub(crate) T);

impl<P: Payload> Outbox<P> {
    pub(super) fn new(limit: usize, pace: Duration) -> Self {
        Self {
            queue: Queue::new(),
            next: FIRST_POSITION,
            tails: Tails::default(),
            slots: HashMap::new(),
            bare: BTreeSet::new(),
            in_flight: Vec::new(),
            longest_in_flight: 0,
            proving: VecDeque::new(),
            wrote: None,
            width: Width::default(),
            waits_alone: false,
            used: 0,
            limit,
            pace: Pace::new(pace),
        }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn is_empty(&self) -> bool {
        self.is_written() && self.proving.is_empty()
    }

    /// Tells whether all that is held is written, and only not proven.
    pub(super) fn is_written(&self) -> bool {
        self.queue.is_empty() && self.in_flight.is_empty()
    }

    /// Returns the number of messages held and their bytes.
    pub(super) fn held(&self) -> (usize, usize) {
        let messages = self.queue.len() + self.in_flight.len() + self.proving.len();
        (messages, self.used)
    }

    /// What the oldest and the newest message wait for that are written and have to be proven: where
    /// a suspect waits for it, all of them.
    pub(super) fn proving(&self) -> Option<(Proof, Proof)> {
        let of = |message: &(Proof, u64, Entry<P>)| message.0;
        let written = self.wrote.filter(|_| self.waits_alone);
        let written = written.map(|(proof, _)| proof);
        let oldest = self.proving.front().map(of).or(written)?;
        let newest = written.or_else(|| self.proving.back().map(of))?;
        Some((oldest, newest))
    }

    /// Takes a message in, or gives it back when it has to wait for room.
    ///
    /// `current` is the connection that is up; answers to any other are discarded. `numbered` are
    /// the bytes that the writer holds.
    pub(super) fn push(
        &mut self,
        payload: P,
        current: Option<ConnId>,
        numbered: usize,
    ) -> Result<(), Full<P>> {
        let class = payload.class();
        match class {
            Class::Durable { stream } => {
                *self.tails.of(stream, self.next) = self.next;
                self.append(class, payload);
            }
            Class::Latest { slot } => {
                if let Some(entry) = self.slots.get(&slot).and_then(|at| self.queue.get_mut(*at)) {
                    let size = payload.size();
                    self.used = self.used - entry.size + size;
                    entry.size = size;
                    entry.payload = payload;
                    // What the peer may have refused was the older one.
                    (entry.longest, entry.suspect) = (0, false);
                } else {
                    self.slots.insert(slot, self.next);
                    self.bare.insert(self.next);
                    self.append(class, payload);
                }
            }
            Class::Reply { conn } if Some(conn) != current => {}
            Class::Reply { .. } => {
                if !self.has_room(payload.size(), numbered) {
                    return Err(Full(payload));
                }
                self.bare.insert(self.next);
                self.append(class, payload);
            }
            Class::Coalesce { stream } | Class::Paced { stream } => {
                if !self.has_room(payload.size(), numbered) {
                    return Err(Full(payload));
                }
                self.merge(class, stream, payload);
            }
        }
        Ok(())
    }

    /// Returns when the first message that waits for its pace may go.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let last = self.tails.all();
        let waiting = last.filter_map(|at| self.waits(at, self.queue.get(at)?, now));
        waiting.min()
    }

    /// Takes the message at this place out of the queue, because it goes.
    #[inline]
    fn take_out(&mut self, at: u64, now: Instant) -> Option<Entry<P>> {
        let entry = self.queue.remove(at)?;
        self.on_taken(at, entry.class, entry.size, now);
        Some(entry)
    }

    /// A message of this class has left its place in the queue, where it counted for so many bytes.
    #[inline]
    fn on_taken(&mut self, at: u64, class: Class, size: usize, now: Instant) {
        self.used -= size;
        match class {
            Class::Durable { .. } | Class::Coalesce { .. } => {}
            Class::Paced { stream } => self.pace.on_written(stream, now),
            Class::Latest { slot } => {
                self.bare.remove(&at);
                self.slots.remove(&slot);
            }
            Class::Reply { .. } => {
                self.bare.remove(&at);
            }
        }
        self.tails.forget_gone(&self.queue);
    }

    fn has_room(&self, size: usize, numbered: usize) -> bool {
        let used = self.used.saturating_add(numbered);
        used == 0 || used.saturating_add(size) <= self.limit
    }

    /// The oldest message from that position on that may go.
    #[inline]
    fn next_from(
        &self,
        from: u64,
        now: Instant,
        paced: bool,
        takes: impl Fn(Class) -> bool,
    ) -> Option<(u64, &Entry<P>)> {
        let goes = |(at, entry): &(u64, &Entry<P>)| {
            takes(entry.class) && (!paced || self.waits(*at, entry, now).is_none())
        };
        // Nearly always it is the first, which costs no search.
        let first = self.queue.first().filter(|(at, _)| from <= *at);
        first
            .filter(goes)
            .or_else(|| self.queue.from(from).find(goes))
    }

    /// Until when a message has to wait for its pace.
    #[inline]
    fn waits(&self, at: u64, entry: &Entry<P>, now: Instant) -> Option<Instant> {
        let (Class::Paced { stream }, false) = (entry.class, entry.sealed) else {
            return None;
        };
        let last = self.tails.is_newest(stream, at);
        last.then(|| self.pace.waits(stream, now)).flatten()
    }

    /// Merges a message into the newest of its stream, or adds it.
    fn merge(&mut self, class: Class, stream: u64, mut payload: P) {
        let newest = self.tails.of(stream, self.next);
        if let Some(tail) = self.queue.get_mut(*newest)
            && !tail.sealed
            && tail.class == class
            && tail.size + payload.size() <= MERGED_BYTES
        {
            match tail.payload.absorb(payload) {
                Ok(()) => {
                    let size = tail.payload.size();
                    self.used = self.used - tail.size + size;
                    tail.size = size;
                    return;
                }
                Err(other) => payload = other,
            }
        }
        *newest = self.next;
        self.append(class, payload);
    }

    #[inline]
    fn append(&mut self, class: Class, payload: P) {
        let size = payload.size();
        self.used += size;
        self.queue.push(
            self.next,
            Entry {
                class,
                payload,
                size,
                sealed: false,
                longest: 0,
                suspect: false,
                lent: None,
            },
        );
        self.next += 1;
    }
}

/// Below it is room for what was read from the disk.
const FIRST_POSITION: u64 = 1 << 32;
/// A merged message stays far below any frame limit.
const MERGED_BYTES: usize = 256 << 10;
