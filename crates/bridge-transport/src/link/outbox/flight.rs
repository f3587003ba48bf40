//! What became of the messages that the socket was given.
//!
//! Invariant: each of them is let go, refused, discarded as one that died with its connection, or
//! waits again in its old place; one that was lent waits in the writer's.

use std::{num::NonZero, time::Instant};

use super::{Entry, Numbered, Outbox};
use crate::{
    delivery::{Taken, Writer},
    link::proof::Proof,
    payload::{Class, Payload},
};

/// The peer refused something for its size.
#[derive(Debug, Clone, Copy)]
pub(in crate::link) struct TooBig {
    pub(in crate::link) at: Instant,
    /// It answers no pings, so that what it was is not to be found out.
    pub(in crate::link) guess: bool,
}

/// From which length on a message is to blame for that.
#[derive(Debug, Clone, Copy)]
enum Guilt {
    Known { length: u32 },
    Suspected { length: u32 },
}

impl<P: Payload> Outbox<P> {
    /// The socket has taken the batch. What has to be proven is kept until then; to a peer with the
    /// envelope nothing has, and there is no `proof`.
    pub(in crate::link) fn on_wrote(
        &mut self,
        proof: Option<Proof>,
        writer: &mut Writer<Numbered<P>>,
    ) {
        let unproven = self.wrote.map_or(0, |(_, longest)| longest);
        let longest = std::mem::take(&mut self.longest_in_flight).max(unproven);
        self.wrote = proof.map(|proof| (proof, longest));
        let mut in_flight = std::mem::take(&mut self.in_flight);
        // The next batch finds room; what a burst took is given back by a small one.
        in_flight.shrink_to(in_flight.len() * SPARE);
        for (at, entry) in in_flight.drain(..) {
            match proof.filter(|_| entry.wants_proof()) {
                Some(proof) => self.proving.push_back((proof, at, entry)),
                None => self.let_go(&entry, writer),
            }
        }
        self.in_flight = in_flight;
    }

    /// Lets go, in order, what is proven to have arrived.
    pub(in crate::link) fn on_proof(
        &mut self,
        proves: impl Fn(Proof) -> bool,
        writer: &mut Writer<Numbered<P>>,
    ) {
        let mut arrived = 0;
        while self
            .proving
            .front()
            .is_some_and(|(proof, ..)| proves(*proof))
            && let Some((.., entry)) = self.proving.pop_front()
        {
            arrived = entry.longest.max(arrived);
            self.let_go(&entry, writer);
        }
        if let Some((_, longest)) = self.wrote.take_if(|(proof, _)| proves(*proof)) {
            arrived = longest.max(arrived);
        }
        self.width.on_proven(arrived);
    }

    /// Whether a message that went by itself is not proven, so that nothing follows it.
    pub(in crate::link) fn proves_alone(&self) -> bool {
        // Nothing went before it that is not proven.
        let oldest = self.proving.front();
        oldest.is_some_and(|(.., entry)| self.goes_alone(entry))
    }

    /// Whether what waits is held up until what is under way is proven.
    pub(in crate::link) fn is_held_up(&self) -> bool {
        self.waits_alone || self.proves_alone()
    }

    /// Whether nothing is under way that a plain peer may refuse.
    pub(super) fn is_quiet(&self) -> bool {
        self.in_flight.is_empty() && self.wrote.is_none()
    }

    /// Whether a message may be what the peer refused: none as long as it is known to fit.
    pub(super) fn goes_alone(&self, entry: &Entry<P>) -> bool {
        entry.suspect && !self.width.is_good(entry.longest)
    }

    /// The bytes that were handed to the socket and are not let go.
    pub(in crate::link) fn under_way(&self) -> usize {
        let in_flight = self.in_flight.iter().map(|(_, entry)| entry.size);
        let proving = self.proving.iter().map(|(.., entry)| entry.size);
        in_flight.chain(proving).sum()
    }

    /// Which of the messages that are held the peer may have refused, and learns from it. `let_go` is
    /// the length of the longest frame among those that are not proven and not held any more.
    fn judge(&mut self, held: &[(u64, Entry<P>)], let_go: u32, how: TooBig) -> Guilt {
        let longest_of = |waits: bool| {
            let those = held
                .iter()
                .filter(|(_, entry)| self.waits_again(entry.class) == waits);
            those.map(|(_, entry)| entry.longest).max().unwrap_or(0)
        };
        let longest = longest_of(true);
        let length = longest.max(longest_of(false)).max(let_go);
        let lone = matches!(held, [(_, entry)] if self.goes_alone(entry));
        let guess = how.guess && !self.width.is_good(length);
        if lone || guess || longest < length {
            self.width.on_refused(how.at, length);
        } else {
            self.width.on_suspicion(length);
        }
        if lone || guess {
            Guilt::Known { length }
        } else {
            Guilt::Suspected { length }
        }
    }

    /// Whether a message that a connection took with it goes over the next one.
    fn waits_again(&self, class: Class) -> bool {
        match class {
            Class::Durable { .. } | Class::Coalesce { .. } | Class::Paced { .. } => true,
            Class::Latest { slot } => !self.slots.contains_key(&slot),
            Class::Reply { .. } => false,
        }
    }

    fn let_go(&mut self, entry: &Entry<P>, writer: &mut Writer<Numbered<P>>) {
        self.used -= entry.size;
        if let Some(seq) = entry.lent {
            writer.settle(seq.get());
        }
    }

    /// The connection is gone: answers die, the rest of what is not confirmed or not proven waits
    /// again.
    ///
    /// With `too_big` the peer refused something for its size. The longest of what may have been it
    /// goes out alone next time, and is taken out when it was alone. Returns the lengths of what was.
    pub(in crate::link) fn on_closed(
        &mut self,
        too_big: Option<TooBig>,
        writer: &mut Writer<Numbered<P>>,
    ) -> Vec<usize> {
        let let_go = self.wrote.take().map_or(0, |(_, longest)| longest);
        (self.waits_alone, self.longest_in_flight) = (false, 0);
        let proving = std::mem::take(&mut self.proving);
        let written = proving.into_iter().map(|(_, at, entry)| (at, entry));
        let gone: Vec<_> = written.chain(std::mem::take(&mut self.in_flight)).collect();
        let guilt = too_big.map(|how| self.judge(&gone, let_go, how));
        let (mut refused, mut back) = (Vec::new(), Vec::new());
        for (at, mut entry) in gone.into_iter().rev() {
            match guilt {
                Some(Guilt::Known { length }) if entry.longest >= length => {
                    refused.push(usize::try_from(entry.longest).unwrap_or(usize::MAX));
                    self.let_go(&entry, writer);
                    continue;
                }
                Some(Guilt::Suspected { length }) => entry.suspect |= entry.longest >= length,
                Some(Guilt::Known { .. }) | None => {}
            }
            self.used -= entry.size;
            if !self.waits_again(entry.class) {
                continue;
            }
            if let Class::Latest { slot } = entry.class {
                self.slots.insert(slot, at);
                self.bare.insert(at);
                entry.sealed = false;
            }
            if entry.lent.is_some() {
                give_back(at, entry, writer);
            } else {
                self.used += entry.size;
                back.push((at, entry));
            }
        }
        self.queue.put_back(back);
        let mut freed = 0;
        self.queue.retain(|entry| {
            let reply = matches!(entry.class, Class::Reply { .. });
            freed += if reply { entry.size } else { 0 };
            !reply
        });
        self.used -= freed;
        let queue = &self.queue;
        self.bare.retain(|at| queue.contains(*at));
        refused
    }
}

/// How many times its length a list of messages may keep as room.
const SPARE: usize = 4;

/// Gives a message that was lent back to the writer, to be sent again under its number.
pub(super) fn give_back<P: Payload>(at: u64, entry: Entry<P>, writer: &mut Writer<Numbered<P>>) {
    let (Some(seq), Some(stream)) = (entry.lent, entry.class.stream()) else {
        return;
    };
    let size = entry.payload.size();
    let numbered = Numbered {
        at,
        class: entry.class,
        payload: entry.payload,
        suspect: NonZero::new(entry.longest).filter(|_| entry.suspect),
    };
    writer.take_back(Taken {
        seq: seq.get(),
        payload: numbered,
        stream,
        size,
    });
}
