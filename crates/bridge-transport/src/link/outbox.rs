//! What waits to be sent.
//!
//! Invariant: to a plain peer a durable message leaves only when a write was confirmed (or the peer
//! refused it as too big), to one with the envelope a message of a stream leaves when it gets its
//! number; messages of one stream leave in the order they came; the bytes held, here and under
//! numbers, stay under the limit but for durable messages, one per slot, and a single message
//! larger than the limit. What is paced waits only while it is the last of its stream.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, btree_map},
    time::{Duration, Instant},
};

use super::pace::Pace;
use crate::{
    delivery::{self, Writer},
    inbound::ConnId,
    payload::{Class, Payload, TextFrame},
};

#[derive(Debug)]
pub(super) struct Outbox<P> {
    /// By position; smaller is older. Positions are never reused.
    queue: BTreeMap<u64, Entry<P>>,
    next: u64,
    /// The newest unsealed entry of each stream.
    tails: HashMap<u64, u64>,
    /// The waiting entry of each slot.
    slots: HashMap<u64, u64>,
    /// Where entries of no stream are: they go where thousands of others have to wait.
    bare: BTreeSet<u64>,
    /// Handed to the socket, not yet confirmed, in order.
    in_flight: Vec<(u64, Entry<P>)>,
    used: usize,
    limit: usize,
    pace: Pace,
}

#[derive(Debug)]
struct Entry<P> {
    class: Class,
    held: Held<P>,
    size: usize,
    /// Sent by itself, because a batch it was in was refused as too big.
    alone: bool,
}

#[derive(Debug)]
enum Held<P> {
    Waiting(P),
    /// As it went, or may have gone, to a plain peer.
    Sealed(P, Vec<TextFrame>),
}

impl<P> Held<P> {
    fn payload(self) -> P {
        match self {
            Self::Waiting(payload) | Self::Sealed(payload, _) => payload,
        }
    }
}

/// The outbox has no room; the message comes back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full<P>(pub(crate) P);

/// What goes out together.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) frames: Vec<TextFrame>,
    /// The length of each message that was taken out because it is too long.
    pub(super) refused: Vec<usize>,
    bytes: usize,
    half: bool,
}

impl Batch {
    /// Whether the other half of it is for something else.
    pub(super) fn only_half(&mut self, half: bool) {
        self.half = half;
    }

    pub(super) fn add(&mut self, frame: TextFrame) {
        self.bytes += frame.len();
        self.frames.push(frame);
    }

    /// Large enough to fill a fast network, small enough that text behind it can still be merged.
    pub(super) fn is_full(&self) -> bool {
        let parts = if self.half { 2 } else { 1 };
        self.bytes >= BATCH_BYTES / parts || self.frames.len() >= BATCH_MESSAGES / parts
    }
}

/// What has to be written down.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) taken: Vec<Record>,
    /// The length of each message that was taken out because it is too long.
    pub(super) refused: Vec<usize>,
}

/// A message with its number, as it is written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) seq: u64,
    pub(crate) stored: Vec<u8>,
}

/// A message under a number, with what the outbox knew of it.
#[derive(Debug)]
pub(super) struct Numbered<P> {
    at: u64,
    class: Class,
    size: usize,
    payload: P,
}

impl<P: Payload> Numbered<P> {
    /// One from an earlier life, before everything this one has.
    pub(super) fn earlier(payload: P) -> Option<(Self, u64)> {
        let (class, size) = (payload.class(), payload.size());
        let stream = class.stream()?;
        let numbered = Self {
            at: 0,
            class,
            size,
            payload,
        };
        Some((numbered, stream))
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    pub(super) fn messages(&self) -> String {
        list(&self.payload.seal(true))
    }

    pub(super) fn plain(&self) -> Vec<TextFrame> {
        self.payload.seal(false)
    }

    pub(super) fn is_durable(&self) -> bool {
        matches!(self.class, Class::Durable { .. })
    }
}

/// What the peer of the connection takes.
pub(super) enum Peer<'a, P> {
    /// The published wire.
    Plain,
    /// The published wire, where messages of streams go over a spool.
    Published,
    /// The envelope; it has not taken what came before yet, so that nothing may get a number.
    Behind(&'a mut Writer<Numbered<P>>),
    /// The envelope.
    Current(&'a mut Writer<Numbered<P>>),
}

impl<P> Peer<'_, P> {
    /// Whether messages of streams may go now.
    fn takes_streams(&self) -> bool {
        match self {
            Self::Plain | Self::Current(_) => true,
            Self::Published | Self::Behind(_) => false,
        }
    }
}

impl<P: Payload> Outbox<P> {
    pub(super) fn new(limit: usize, pace: Duration) -> Self {
        Self {
            queue: BTreeMap::new(),
            next: FIRST_POSITION,
            tails: HashMap::new(),
            slots: HashMap::new(),
            bare: BTreeSet::new(),
            in_flight: Vec::new(),
            used: 0,
            limit,
            pace: Pace::new(pace),
        }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.in_flight.is_empty()
    }

    /// Returns the number of messages held and their bytes.
    pub(super) fn held(&self) -> (usize, usize) {
        (self.queue.len() + self.in_flight.len(), self.used)
    }

    /// Takes a message in, or gives it back when it has to wait for room.
    ///
    /// `current` is the connection that is up; answers to any other are discarded. `elsewhere` are
    /// the bytes of messages that count but are not here any more.
    pub(super) fn push(
        &mut self,
        payload: P,
        current: Option<ConnId>,
        elsewhere: usize,
    ) -> Result<(), Full<P>> {
        let class = payload.class();
        match class {
            Class::Durable { .. } => self.append(class, payload),
            Class::Latest { slot } => {
                if let Some(entry) = self.slots.get(&slot).and_then(|at| self.queue.get_mut(at)) {
                    let size = payload.size();
                    self.used = self.used - entry.size + size;
                    entry.size = size;
                    entry.held = Held::Waiting(payload);
                } else {
                    self.append(class, payload);
                }
            }
            Class::Reply { conn } if Some(conn) != current => {}
            Class::Reply { .. } => {
                if !self.has_room(payload.size(), elsewhere) {
                    return Err(Full(payload));
                }
                self.append(class, payload);
            }
            Class::Coalesce { stream } | Class::Paced { stream } => {
                if !self.has_room(payload.size(), elsewhere) {
                    return Err(Full(payload));
                }
                if let Err(payload) = self.absorb(class, stream, payload) {
                    self.append(class, payload);
                }
            }
        }
        Ok(())
    }

    /// Returns when the first message that waits for its pace may go.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let last = self.tails.values();
        let waiting = last.filter_map(|at| self.waits(*at, self.queue.get(at)?, now));
        waiting.min()
    }

    /// Adds to a batch what may go to this peer. What has no number stays in flight until
    /// [`on_wrote`](Self::on_wrote) or [`on_closed`](Self::on_closed).
    ///
    /// Without `paced` nothing waits for its pace.
    pub(super) fn take(
        &mut self,
        batch: &mut Batch,
        now: Instant,
        paced: bool,
        mut peer: Peer<'_, P>,
        frame_limit: usize,
    ) {
        let mut from = 0;
        loop {
            let next = if peer.takes_streams() {
                self.next_from(from, now, paced, |_| true)
            } else {
                self.bare.range(from..).next().copied()
            };
            let Some(at) = next else { break };
            from = at + 1;
            let btree_map::Entry::Occupied(place) = self.queue.entry(at) else {
                break;
            };
            let alone = place.get().alone;
            if batch.is_full() || (alone && !batch.frames.is_empty()) {
                break;
            }
            let entry = place.remove();
            self.forget(at, entry.class);
            self.used -= entry.size;
            if let Class::Paced { stream } = entry.class {
                self.pace.on_written(stream, now);
            }
            match &mut peer {
                Peer::Plain | Peer::Published => self.take_plain(batch, at, entry, frame_limit),
                Peer::Behind(writer) => self.take_bare(batch, at, entry, writer, frame_limit),
                Peer::Current(writer) => match entry.class.stream() {
                    Some(stream) => number(batch, at, stream, entry, writer, frame_limit),
                    None => self.take_bare(batch, at, entry, writer, frame_limit),
                },
            }
            let current = match &peer {
                Peer::Plain | Peer::Published | Peer::Behind(_) => true,
                Peer::Current(writer) => writer.is_caught_up(),
            };
            if alone || !current {
                break;
            }
        }
    }

    fn take_plain(&mut self, batch: &mut Batch, at: u64, mut entry: Entry<P>, limit: usize) {
        let (payload, frames) = match entry.held {
            Held::Waiting(payload) => {
                let frames = payload.seal(false);
                (payload, frames)
            }
            Held::Sealed(payload, frames) => (payload, frames),
        };
        let Some(longest) = frames.iter().map(TextFrame::len).max() else {
            return;
        };
        if longest > limit {
            batch.refused.push(longest);
            return;
        }
        entry.size = frames.iter().map(TextFrame::len).sum();
        self.used += entry.size;
        for frame in &frames {
            batch.add(frame.clone());
        }
        entry.held = Held::Sealed(payload, frames);
        self.in_flight.push((at, entry));
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
        let payload = entry.held.payload();
        let frames = payload.seal(true);
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
        entry.held = Held::Waiting(payload);
        self.in_flight.push((at, entry));
    }

    /// Gives numbers to what may go, to be written down before it goes. What does not fit into a
    /// window of bytes is then on the disk alone.
    pub(super) fn store(
        &mut self,
        now: Instant,
        paced: bool,
        writer: &mut Writer<Numbered<P>>,
        window: usize,
        store: fn(&P) -> Option<Vec<u8>>,
        limit: usize,
    ) -> Records {
        let mut records = Records::default();
        let mut from = 0;
        let mut bytes = 0;
        let of_stream = |class: Class| class.stream().is_some();
        while records.taken.len() < STORED_MESSAGES
            && bytes < BATCH_BYTES
            && let Some(at) = self.next_from(from, now, paced, of_stream)
            && let Some(entry) = self.queue.remove(&at)
        {
            from = at + 1;
            self.forget(at, entry.class);
            self.used -= entry.size;
            if let Class::Paced { stream } = entry.class {
                self.pace.on_written(stream, now);
            }
            let Entry {
                class, held, size, ..
            } = entry;
            let payload = held.payload();
            let (Some(stored), Some(stream)) = (store(&payload), class.stream()) else {
                continue;
            };
            if stored.len() > limit {
                records.refused.push(stored.len());
                continue;
            }
            bytes += stored.len();
            let used = writer.bytes();
            let fits = used == 0 || used.saturating_add(size) <= window;
            let seq = if fits && writer.is_all_here() {
                let numbered = Numbered {
                    at,
                    class,
                    size,
                    payload,
                };
                writer.keep(numbered, stream, size)
            } else {
                writer.leave()
            };
            records.taken.push(Record { seq, stored });
        }
        records
    }

    /// Takes back, in their old places, what was numbered for a peer that is no longer one with the
    /// envelope.
    pub(super) fn take_back(&mut self, numbered: Vec<Numbered<P>>) {
        for (earlier, message) in (1..).zip(numbered) {
            let frames = message.payload.seal(false);
            self.used += message.size;
            let entry = Entry {
                class: message.class,
                // It may have arrived before: what is merged into it would arrive twice.
                held: Held::Sealed(message.payload, frames),
                size: message.size,
                alone: false,
            };
            // Those of an earlier life have no place of their own, and come before all others.
            let at = if message.at == 0 { earlier } else { message.at };
            self.queue.insert(at, entry);
        }
    }

    /// The socket has taken the batch.
    pub(super) fn on_wrote(&mut self) {
        for (_, entry) in self.in_flight.drain(..) {
            self.used -= entry.size;
        }
    }

    /// The connection is gone: answers die, the rest of an unconfirmed batch waits again.
    ///
    /// With `too_big` the peer refused the batch for its size: its messages go out one by one
    /// next time, and a message that was alone is taken out. Returns that one's size.
    pub(super) fn on_closed(&mut self, too_big: bool) -> Option<usize> {
        let in_flight = std::mem::take(&mut self.in_flight);
        let lone = in_flight.len() == 1;
        let mut refused = None;
        for (at, mut entry) in in_flight.into_iter().rev() {
            self.used -= entry.size;
            if too_big && lone {
                refused = Some(entry.size);
                continue;
            }
            match entry.class {
                Class::Durable { .. } | Class::Coalesce { .. } | Class::Paced { .. } => {}
                Class::Latest { slot } if self.slots.contains_key(&slot) => continue,
                Class::Latest { slot } => {
                    self.slots.insert(slot, at);
                    self.bare.insert(at);
                    entry.held = Held::Waiting(entry.held.payload());
                }
                Class::Reply { .. } => continue,
            }
            entry.alone |= too_big;
            self.used += entry.size;
            self.queue.insert(at, entry);
        }
        let mut freed = 0;
        self.queue.retain(|_, entry| {
            let reply = matches!(entry.class, Class::Reply { .. });
            freed += if reply { entry.size } else { 0 };
            !reply
        });
        self.used -= freed;
        let queue = &self.queue;
        self.bare.retain(|at| queue.contains_key(at));
        refused
    }

    fn has_room(&self, size: usize, elsewhere: usize) -> bool {
        let used = self.used.saturating_add(elsewhere);
        used == 0 || used.saturating_add(size) <= self.limit
    }

    /// The oldest message from that position on that may go.
    fn next_from(
        &self,
        from: u64,
        now: Instant,
        paced: bool,
        takes: impl Fn(Class) -> bool,
    ) -> Option<u64> {
        let mut rest = self.queue.range(from..);
        let next = rest.find(|(at, entry)| {
            takes(entry.class) && (!paced || self.waits(**at, entry, now).is_none())
        });
        next.map(|(at, _)| *at)
    }

    /// Until when a message has to wait for its pace.
    fn waits(&self, at: u64, entry: &Entry<P>, now: Instant) -> Option<Instant> {
        let (Class::Paced { stream }, Held::Waiting(_)) = (entry.class, &entry.held) else {
            return None;
        };
        let last = self.tails.get(&stream) == Some(&at);
        last.then(|| self.pace.waits(stream, now)).flatten()
    }

    fn absorb(&mut self, class: Class, stream: u64, next: P) -> Result<(), P> {
        let Some(tail) = self
            .tails
            .get(&stream)
            .and_then(|at| self.queue.get_mut(at))
        else {
            return Err(next);
        };
        if tail.size + next.size() > MERGED_BYTES || tail.class != class {
            return Err(next);
        }
        match &mut tail.held {
            Held::Waiting(payload) => {
                payload.absorb(next)?;
                let size = payload.size();
                self.used = self.used - tail.size + size;
                tail.size = size;
                Ok(())
            }
            Held::Sealed(..) => Err(next),
        }
    }

    fn append(&mut self, class: Class, payload: P) {
        let at = self.next;
        self.next += 1;
        match class {
            Class::Durable { stream } | Class::Coalesce { stream } | Class::Paced { stream } => {
                self.tails.insert(stream, at);
            }
            Class::Latest { slot } => {
                self.slots.insert(slot, at);
                self.bare.insert(at);
            }
            Class::Reply { .. } => {
                self.bare.insert(at);
            }
        }
        let size = payload.size();
        self.used += size;
        self.queue.insert(
            at,
            Entry {
                class,
                held: Held::Waiting(payload),
                size,
                alone: false,
            },
        );
    }

    fn forget(&mut self, at: u64, class: Class) {
        let (index, key) = match class {
            Class::Durable { stream } | Class::Coalesce { stream } | Class::Paced { stream } => {
                (&mut self.tails, stream)
            }
            Class::Latest { slot } => {
                self.bare.remove(&at);
                (&mut self.slots, slot)
            }
            Class::Reply { .. } => {
                self.bare.remove(&at);
                return;
            }
        };
        if index.get(&key) == Some(&at) {
            index.remove(&key);
        }
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
        class, held, size, ..
    } = entry;
    let payload = held.payload();
    let frames = payload.seal(true);
    if frames.is_empty() {
        return;
    }
    let messages = list(&frames);
    if messages.len() > limit {
        batch.refused.push(messages.len());
        return;
    }
    let numbered = Numbered {
        at,
        class,
        size,
        payload,
    };
    if let Some(frame) = writer.number(numbered, stream, size, messages) {
        batch.add(frame.into());
    }
}

fn list(frames: &[TextFrame]) -> String {
    delivery::list(frames.iter().map(TextFrame::as_str))
}

const BATCH_BYTES: usize = 256 << 10;
/// Bounds what has to be kept for sending again.
const BATCH_MESSAGES: usize = 256;
/// Written down together; more than go out together, because each time may cost a sync.
const STORED_MESSAGES: usize = 1024;
/// Below it is room for what an earlier life left.
const FIRST_POSITION: u64 = 1 << 32;
/// A merged message stays far below any frame limit.
const MERGED_BYTES: usize = 256 << 10;
