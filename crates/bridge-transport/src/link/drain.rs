//! The end: what is still waited for when the embedder wants to stop.
//!
//! Invariant: it ends when everything has arrived, as far as the peer lets it be known, or at the
//! limit, and says which of both.

use super::{Action, Link, NORMAL_CLOSURE, Online, Stage};
use crate::{
    handle::Flushed,
    inbound::{CloseReason, Inbound},
    payload::Payload,
};

impl<P: Payload> Link<P> {
    pub(super) fn finish_if_drained(&mut self) {
        let Some(limit) = self.drain_limit else {
            return;
        };
        let sent = self.is_sent() && (self.outbox.is_empty() || self.proof_given_up());
        if !sent && self.last_seen.at < limit {
            return;
        }
        match std::mem::replace(&mut self.stage, Stage::Stopped) {
            Stage::Online(Online { conn, .. }) => {
                let code = sent.then_some(NORMAL_CLOSURE);
                self.actions.push_back(Action::HangUp { conn, code });
                let reason = CloseReason::ShutDown;
                self.actions
                    .push_back(Action::Deliver(Inbound::Closed { conn, reason }));
            }
            Stage::Dialing { conn } => {
                self.actions.push_back(Action::HangUp { conn, code: None });
            }
            Stage::Waiting { .. } => {}
            Stage::Stopped => return,
        }
        let (messages, bytes) = self.outbox.held();
        let flushed = match (messages + self.writer.len(), bytes + self.writer.bytes()) {
            _ if sent => Flushed::Everything,
            (messages, bytes) => Flushed::Left { messages, bytes },
        };
        self.publish(self.last_seen.at);
        self.actions.push_back(Action::Stopped(flushed));
    }

    /// Whether all there is was written.
    pub(super) fn is_sent(&self) -> bool {
        let writing = matches!(&self.stage, Stage::Online(online) if online.writing);
        self.outbox.is_written() && self.writer.is_empty() && !writing
    }
}
