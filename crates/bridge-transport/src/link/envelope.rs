//! What the link says and hears on a connection with the [envelope](crate::delivery), and what it
//! writes down of it.

#[cfg(test)]
mod tests;

use std::{borrow::Cow, time::Instant};

use bytes::Bytes;

use super::{Action, Link, Stage};
use crate::{
    delivery::{Epoch, Heard, Position, Violation, Writer},
    inbound::{CloseReason, ConnId, Inbound, Receipt},
    payload::Payload,
};

impl<P: Payload> Link<P> {
    pub(super) fn on_frame(&mut self, now: Instant, random: u64, conn: ConnId, text: Bytes) {
        let Some(online) = self.online(conn) else {
            return;
        };
        online.heard_frame = true;
        let Some(reader) = &mut online.reader else {
            self.liveness.on_heard(now);
            let frame = Inbound::Frame {
                conn,
                text,
                receipt: None,
            };
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
            Heard::Message { texts, seq, upto } => {
                let receipt = seq.zip(upto);
                let receipt = receipt.map(|(seq, upto)| Receipt { seq, upto });
                self.deliver(conn, texts, receipt);
            }
            Heard::Gap { gap, upto } => {
                let missed = Inbound::Missed { conn, gap, upto };
                self.actions.push_back(Action::Deliver(missed));
            }
            Heard::Nothing => {}
            Heard::Resume { epoch, last } => {
                if let Some(gap) = self.writer.on_resume(epoch, last)? {
                    self.actions
                        .push_back(Action::Deliver(Inbound::Gap { conn, gap }));
                }
                self.trim();
            }
            Heard::Ack { seq } => {
                self.writer.on_ack(seq)?;
                self.trim();
            }
        }
        Ok(())
    }

    fn deliver(&mut self, conn: ConnId, mut texts: Vec<Bytes>, receipt: Option<Receipt>) {
        if texts.is_empty() && receipt.is_some() {
            texts.push(Bytes::new());
        }
        let last = texts.len().saturating_sub(1);
        for (index, text) in texts.into_iter().enumerate() {
            let receipt = receipt.filter(|_| index == last);
            let frame = Inbound::Frame {
                conn,
                text,
                receipt,
            };
            self.actions.push_back(Action::Deliver(frame));
        }
    }

    /// The embedder has kept everything up to here.
    pub(super) fn on_committed(&mut self, upto: Position) {
        let reader = match &mut self.stage {
            Stage::Online(online) => online.reader.as_mut(),
            Stage::Waiting { .. } | Stage::Dialing { .. } | Stage::Stopped => None,
        };
        self.hearing.on_committed(upto, reader);
    }

    /// What has a number gets another: the next start must not give it away a second time.
    pub(super) fn on_spool_lost(&mut self, now: Instant, random: u64, epoch: Epoch) {
        self.spooling = None;
        self.outbox.take_back(self.writer.give_up());
        self.writer = Writer::new(epoch);
        let conn = match &self.stage {
            Stage::Online(online) if online.extended() => online.conn,
            Stage::Online(_) | Stage::Waiting { .. } | Stage::Dialing { .. } | Stage::Stopped => {
                return;
            }
        };
        self.actions.push_back(Action::HangUp { conn, code: None });
        let reason = "to number anew what the disk does not take".to_owned();
        self.lose(now, random, CloseReason::Lost(reason));
    }

    /// What was acknowledged, or is sent another way, is given back to the disk.
    pub(super) fn trim(&mut self) {
        if self.spooling.is_some() {
            let upto = self.writer.first() - 1;
            self.actions.push_back(Action::Trim { upto });
        }
    }

    pub(super) fn spool(&mut self, now: Instant) {
        let plain = matches!(&self.stage, Stage::Online(online) if !online.extended());
        let Some(spooling) = self.spooling.as_mut().filter(|it| !it.appending && !plain) else {
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
