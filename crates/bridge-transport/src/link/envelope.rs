//! What the link says and hears on a connection with the [envelope](crate::delivery), and what it
//! writes down of it.

#[cfg(test)]
mod tests;

use std::{borrow::Cow, time::Instant};

use bytes::Bytes;

use super::{Action, Link, Stage};
use crate::{
    delivery::{Epoch, Heard, Violation, Writer},
    inbound::{CloseReason, ConnId, Inbound},
    payload::Payload,
};

impl<P: Payload> Link<P> {
    pub(super) fn on_frame(&mut self, now: Instant, random: u64, conn: ConnId, text: Bytes) {
        let Some(online) = self.online(conn) else {
            return;
        };
        online.heard_frame = true;
        let judged = self.breaker.on_frame(now, &text);
        self.take_frame(now, random, conn, text);
        self.judge(now, random, conn, judged);
    }

    fn take_frame(&mut self, now: Instant, random: u64, conn: ConnId, text: Bytes) {
        let Some(online) = self.online(conn) else {
            return;
        };
        let Some(reader) = &mut online.reader else {
            self.liveness.on_heard(now);
            self.on_sign();
            let frame = Inbound::Frame { conn, text };
            self.actions.push_back(Action::Deliver(frame));
            return;
        };
        let heard = match std::str::from_utf8(&text) {
            Ok(words) => reader
                .hear(words)
                .map(|heard| heard.map_texts(|it| slice(&text, it))),
            Err(_) => return,
        };
        self.liveness.on_heard(now);
        if let Err(violation) = heard.and_then(|heard| self.on_heard(conn, heard)) {
            self.violated(now, random, conn, &violation);
        }
    }

    fn on_heard(&mut self, conn: ConnId, heard: Heard<Bytes>) -> Result<(), Violation> {
        match heard {
            // Taken as it comes and not acknowledged: a control plane finds what was lost by asking.
            Heard::Message { texts, upto: _ } => {
                for text in texts {
                    let frame = Inbound::Frame { conn, text };
                    self.actions.push_back(Action::Deliver(frame));
                }
            }
            Heard::Gap { .. } | Heard::Nothing => {}
            Heard::Resume { epoch, last } => {
                if let Some(gap) = self.writer.on_resume(epoch, last)? {
                    self.actions
                        .push_back(Action::Deliver(Inbound::Gap { conn, gap }));
                }
                self.trim();
            }
            Heard::Ack { seq } => {
                let first = self.writer.first();
                self.writer.on_ack(seq)?;
                // There are no more of these than messages were sent.
                if self.writer.first() > first {
                    self.breaker.forgive();
                }
                self.trim();
            }
        }
        Ok(())
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

    pub(super) fn spool(&mut self, now: Instant) {
        let Some(spooling) = self.spooling.as_mut().filter(|it| !it.appending) else {
            return;
        };
        let paced = self.drain_limit.is_none();
        let records = self.outbox.store(
            now,
            paced,
            &mut self.writer,
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
        for bytes in records.refused {
            self.refuse_own(conn, bytes);
        }
    }

    fn violated(&mut self, now: Instant, random: u64, conn: ConnId, violation: &Violation) {
        let code = Some(PROTOCOL_ERROR);
        self.actions.push_back(Action::HangUp { conn, code });
        self.lose(now, random, CloseReason::Protocol(violation.to_string()));
    }
}

/// The part of a frame that one of its texts is, without a copy where it stands in it.
fn slice(frame: &Bytes, text: Cow<'_, str>) -> Bytes {
    match text {
        Cow::Borrowed(text) => frame.slice_ref(text.as_bytes()),
        Cow::Owned(text) => text.into(),
    }
}

const PROTOCOL_ERROR: u16 = 1002;
