//! What the link says and hears on a connection with the [envelope](crate::delivery).

#[cfg(test)]
mod tests;

use std::{borrow::Cow, time::Instant};

use bytes::Bytes;

use super::{Action, Link, Stage, breaker::Open};
use crate::{
    delivery::{Gap, Heard, Position, Violation},
    inbound::{CloseReason, ConnId, Inbound, Receipt},
    payload::Payload,
};

impl<P: Payload> Link<P> {
    pub(super) fn on_frame(&mut self, now: Instant, random: u64, conn: ConnId, text: Bytes) {
        let Some(online) = self.online(conn) else {
            return;
        };
        online.heard_frame = true;
        let judged = self.breaker.on_frame(now, &text);
        let of_texts = self.take_frame(now, random, conn, text);
        self.judge(now, random, conn, judged.and(of_texts));
    }

    fn take_frame(
        &mut self,
        now: Instant,
        random: u64,
        conn: ConnId,
        text: Bytes,
    ) -> Result<(), Open> {
        let Some(online) = self.online(conn) else {
            return Ok(());
        };
        let Some(reader) = &mut online.reader else {
            self.liveness.on_heard(now);
            self.on_sign();
            let frame = Inbound::Frame {
                conn,
                text,
                receipt: None,
            };
            self.actions.push_back(Action::Deliver(frame));
            return Ok(());
        };
        let heard = match std::str::from_utf8(&text) {
            Ok(words) => reader
                .hear(words)
                .map(|heard| heard.map_texts(|it| slice(&text, it))),
            Err(_) => return Ok(()),
        };
        self.liveness.on_heard(now);
        let judged = match &heard {
            Ok(Heard::Message {
                texts,
                seq: Some(_),
                ..
            }) => self.breaker.on_texts(now, texts),
            Ok(_) | Err(_) => Ok(()),
        };
        if let Err(violation) = heard.and_then(|heard| self.on_heard(conn, heard)) {
            self.violated(now, random, conn, &violation);
        }
        judged
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
                let gap = match self.writer.on_resume(epoch, last) {
                    Err(Violation::NeverSent { seq, last }) => {
                        let spare = self.spare.take();
                        let spare = spare.ok_or(Violation::NeverSent { seq, last })?;
                        self.writer.rename(spare);
                        self.writer.on_resume(None, 0)?;
                        epoch.map(|epoch| Gap {
                            epoch,
                            from: last + 1,
                            to: seq,
                            why: SET_BACK.to_owned(),
                        })
                    }
                    known => known?,
                };
                if let Some(gap) = gap {
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

    fn violated(&mut self, now: Instant, random: u64, conn: ConnId, violation: &Violation) {
        let code = Some(PROTOCOL_ERROR);
        self.actions.push_back(Action::HangUp { conn, code });
        self.lose(now, random, CloseReason::Protocol(violation.to_string()));
    }
}

/// The part of a frame that one of its texts is, without a copy where it is most of it. A short one
/// must not keep a long frame in memory, which it would not be counted with.
fn slice(frame: &Bytes, text: Cow<'_, str>) -> Bytes {
    match text {
        Cow::Borrowed(text) if text.len() < frame.len() / 2 => {
            Bytes::copy_from_slice(text.as_bytes())
        }
        Cow::Borrowed(text) => frame.slice_ref(text.as_bytes()),
        Cow::Owned(text) => text.into(),
    }
}

const PROTOCOL_ERROR: u16 = 1002;
const SET_BACK: &str = "known to the other end and not to this one, whose disk was set back";
