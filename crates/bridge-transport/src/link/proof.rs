//! What proves that a message arrived at a peer that acknowledges nothing.
//!
//! Invariant: of a peer that answers pings nothing counts as a proof but the answer to a ping that
//! was sent after the message.
//!
//! ```text
//!             Wrote                    pong of a later ping: arrived
//!  in flight ───────► proving (ping) ──────────────────────────────────► let go
//!      ▲                 │      │       never answers pings: a frame, or
//!      └──── Closed ─────┘      └───────── 25 s on the same connection
//! ```

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use super::{Action, Link, Stage};
use crate::{inbound::ConnId, payload::Payload};

/// What a message that was written waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Proof {
    /// The first ping behind it.
    pub(super) ping: u64,
    /// When the socket had taken it.
    pub(super) wrote: Instant,
}

impl<P: Payload> Link<P> {
    pub(super) fn on_wrote(&mut self, now: Instant, random: u64, conn: ConnId) {
        let ping = self.liveness.next_id();
        let plain = match &mut self.stage {
            Stage::Online(online) => {
                online.wrote = now;
                !online.extended()
            }
            Stage::Waiting { .. } | Stage::Dialing { .. } | Stage::Stopped => false,
        };
        let proof = plain.then_some(Proof { ping, wrote: now });
        self.outbox.on_wrote(proof, &mut self.writer);
        self.liveness.on_wrote(now);
        if let Some(id) = self.liveness.ping_between(now, random) {
            self.actions.push_back(Action::Ping { conn, id });
        }
    }

    /// Lets go what is proven.
    pub(super) fn prove(&mut self, now: Instant) {
        let Stage::Online(_) = &self.stage else {
            return;
        };
        let liveness = &self.liveness;
        self.outbox
            .on_proof(|proof| liveness.proves(now, proof), &mut self.writer);
        self.trim();
    }

    /// Asks for a ping where none is out for what is not proven.
    pub(super) fn want_proof(&mut self, now: Instant) {
        let Stage::Online(_) = &self.stage else {
            return;
        };
        if let Some((_, newest)) = self.outbox.proving()
            && newest.ping == self.liveness.next_id()
        {
            // What waits on the disk alone is read when there is room, so it waits for the proof, and
            // so does what goes by itself, with everything behind it.
            let held_up = !self.writer.is_all_here() || self.outbox.is_held_up();
            let hurry = self.drain_limit.is_some() || held_up;
            let gap = if hurry { Duration::ZERO } else { GAP };
            self.liveness.want_ping(now, gap);
        }
    }

    /// A frame came: from a peer that never answers pings it is all the proof there is.
    pub(super) fn on_sign(&mut self) {
        if self.liveness.is_mute() {
            self.outbox.on_proof(|_| true, &mut self.writer);
        }
    }

    /// Whether what is written and not proven is not waited for any longer at the end: the peer
    /// answers no ping, as far as is known.
    pub(super) fn proof_given_up(&self) -> bool {
        let Stage::Online(online) = &self.stage else {
            return false;
        };
        let over = online.wrote + GIVE_UP <= self.last_seen.at;
        !self.liveness.answers_pings() && (over || self.liveness.is_mute())
    }

    /// When time proves a message, or ends the wait for its proof.
    pub(super) fn proof_due(&self) -> Option<Instant> {
        let (oldest, _) = self.outbox.proving()?;
        let by_age = self.liveness.proves_by_age(oldest)?;
        match &self.stage {
            Stage::Online(online) if self.drain_limit.is_some() && self.is_sent() => {
                Some(by_age.min(online.wrote + GIVE_UP))
            }
            Stage::Online(_) => Some(by_age),
            Stage::Waiting { .. } | Stage::Dialing { .. } | Stage::Stopped => None,
        }
    }

    /// When the connection stops being proven, if it is.
    pub(super) fn doubt_due(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Online(_) => {
                let until = self.liveness.proven_until();
                (until > self.last_seen.at).then_some(until)
            }
            Stage::Waiting { .. } | Stage::Dialing { .. } | Stage::Stopped => None,
        }
    }
}

/// Between two pings for proofs, so that there is not one for every message.
const GAP: Duration = Duration::from_millis(500);
/// How long a link that ends waits for the first pong of a peer that has not answered a ping yet.
const GIVE_UP: Duration = Duration::from_secs(1);
