//! Numbered messages on their way to a peer that knows no numbers.
//!
//! Invariant: a number counts as acknowledged only when every message up to it was acknowledged or
//! [settled](Writer::settle).

use super::{Taken, Writer};

impl<P> Writer<P> {
    /// The oldest message that is written down, and neither lent nor acknowledged.
    pub fn waiting(&self) -> Option<&P> {
        let stored = self.stored?;
        let first = self.unacked.front()?;
        (first.seq <= stored).then_some(&first.payload)
    }

    /// Lends the oldest message that is [waiting](Self::waiting), with its number. It is
    /// [settled](Self::settle) in the end, or [taken back](Self::take_back).
    pub fn lend(&mut self) -> Option<(u64, P)> {
        self.waiting()?;
        let lent = self.unacked.pop_front()?;
        self.bytes -= lent.size;
        self.lent.insert(lent.seq);
        Some((lent.seq, lent.payload))
    }

    /// What was lent under this number has arrived, or never will.
    pub fn settle(&mut self, seq: u64) {
        self.lent.remove(&seq);
        let here = self.elsewhere.unwrap_or(self.next);
        let waits = self.unacked.front().map_or(here, |it| it.seq);
        let open = self.lent.first().map_or(waits, |lent| waits.min(*lent));
        self.acked = self.acked.max(open - 1);
    }

    /// Takes back what was lent, to lend it again, or to send it under its number.
    pub fn take_back(&mut self, taken: Taken<P>) {
        if !self.lent.remove(&taken.seq) {
            return;
        }
        let place = self.unacked.partition_point(|it| it.seq < taken.seq);
        self.bytes += taken.size;
        self.unacked.insert(place, taken);
    }
}
