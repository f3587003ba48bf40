//! What the link writes down, reads back and gives back to the disk.
//!
//! Invariant: what has a number is on the disk before it goes, and stays there until it has arrived;
//! beyond a window of bytes it is there alone, and is read back in order. The window is a part of the
//! outbox off line, and all of it while a peer takes what there is.

#[cfg(test)]
mod tests;

use std::time::Instant;

use bytes::Bytes;

use super::{Action, Link, ReadBack, Spooled, Stage};
use crate::{
    delivery::{Epoch, Gap, Writer},
    inbound::{CloseReason, ConnId, Inbound},
    payload::Payload,
};

#[derive(Debug)]
pub(super) struct Spooling<P> {
    pub(super) store: fn(&P) -> Option<Bytes>,
    /// What was numbered is not on the disk yet.
    pub(super) appending: bool,
    /// The disk was asked for what waits on it.
    pub(super) reading: bool,
    /// Off line, beyond these bytes here, what waits is on the disk alone.
    pub(super) window: usize,
}

impl<P: Payload> Link<P> {
    /// Takes over what a spool holds; before the first input.
    pub(crate) fn with_spool(mut self, spooled: Spooled<P>) -> Self {
        let Spooled {
            epoch,
            first,
            next,
            read,
            store,
            expired,
        } = spooled;
        self.trimmed = first - 1;
        self.spare = Some(self.writer.epoch());
        self.writer = Writer::restored_in_part(epoch, first, read.upto, next, read.taken());
        self.spooling = Some(Spooling {
            store,
            appending: false,
            reading: false,
            window: window(self.outbox.limit()),
        });
        if let Some((from, to)) = expired {
            self.tell_gap(Gap {
                epoch,
                from,
                to,
                why: TOO_OLD.to_owned(),
            });
        }
        self
    }

    /// What has a number gets another: the next start must not give it away a second time.
    pub(super) fn on_spool_lost(&mut self, now: Instant, random: u64, epoch: Epoch) {
        if let Stage::Online(online) = &self.stage {
            let conn = online.conn;
            self.actions.push_back(Action::HangUp { conn, code: None });
            let reason = "to number anew what the disk does not take".to_owned();
            self.lose(now, random, CloseReason::Lost(reason));
        }
        self.spooling = None;
        self.outbox.take_back(self.writer.give_up());
        self.writer = Writer::new(epoch);
    }

    /// What was acknowledged, or arrived another way, is given back to the disk.
    pub(super) fn trim(&mut self) {
        let upto = self.writer.first() - 1;
        if self.spooling.is_some() && upto > self.trimmed {
            self.trimmed = upto;
            self.actions.push_back(Action::Trim { upto });
        }
    }

    /// Numbers what may go, and has it written down.
    pub(super) fn spool(&mut self, now: Instant) {
        let Some(spooling) = self.spooling.as_mut().filter(|it| !it.appending) else {
            return;
        };
        let paced = self.drain_limit.is_none();
        // A peer that takes what there is holds up producers rather than being a detour over the disk.
        let window = match &self.stage {
            Stage::Online(_) => self.outbox.limit(),
            Stage::Waiting { .. } | Stage::Dialing { .. } | Stage::Stopped => spooling.window,
        };
        let records = self.outbox.store(
            now,
            paced,
            &mut self.writer,
            window,
            spooling.store,
            self.frame_limit,
        );
        if !records.taken.is_empty() {
            spooling.appending = true;
            self.actions.push_back(Action::Append {
                records: records.taken,
            });
        }
        let conn = ConnId(self.last_conn);
        for reason in records.refused {
            self.refuse_own(conn, reason);
        }
    }

    /// Everything up to this number is on the disk, and may go.
    pub(super) fn on_appended(&mut self, upto: u64) {
        self.writer.on_stored(upto);
        if let Some(spooling) = &mut self.spooling {
            spooling.appending = false;
        }
    }

    /// Asks the disk for what waits on it alone, when there is room for it here.
    pub(super) fn read_on(&mut self) {
        let Some(spooling) = self.spooling.as_mut().filter(|it| !it.reading) else {
            return;
        };
        let Some((from, upto)) = self.writer.wants() else {
            return;
        };
        // What waits for the disk does not count: on a full one it waits for what is read here.
        let held = self.outbox.under_way() + self.writer.bytes();
        let room = spooling.window.saturating_sub(held);
        if room > spooling.window / 2 {
            spooling.reading = true;
            self.actions.push_back(Action::Read {
                from,
                upto,
                bytes: room,
            });
        }
    }

    /// The disk gave what it was asked for.
    pub(super) fn on_read(&mut self, read: ReadBack<P>) {
        if let Some(spooling) = &mut self.spooling {
            spooling.reading = false;
            self.writer.on_read(read.from, read.upto, read.taken());
        }
    }

    /// What waited for too long is let go. On line it is on its way, as far as it is here; what is not
    /// is missing when it is read.
    pub(super) fn on_expired(&mut self, upto: u64) {
        match &self.stage {
            Stage::Online(_) | Stage::Stopped => return,
            Stage::Waiting { .. } | Stage::Dialing { .. } => {}
        }
        if let Some(gap) = self.writer.let_go(upto, TOO_OLD) {
            self.tell_gap(gap);
            self.trim();
        }
    }

    fn tell_gap(&mut self, gap: Gap) {
        let conn = ConnId(self.last_conn);
        let gap = Inbound::Gap { conn, gap };
        self.actions.push_back(Action::Deliver(gap));
    }

    /// Whether everything that has a number is here, and not on the disk alone.
    pub(crate) fn is_all_here(&self) -> bool {
        self.writer.is_all_here()
    }
}

const TOO_OLD: &str = "waited for longer than the spool keeps messages";

/// What is held here of what waits on the disk, of the bytes that may wait: a message takes more
/// memory than it counts for.
pub(crate) fn window(limit: usize) -> usize {
    limit / 4
}
