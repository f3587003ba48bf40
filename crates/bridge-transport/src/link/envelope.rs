//! What the link says and hears on a connection with the [envelope](crate::delivery), and what it
//! writes down of it.

#[cfg(test)]
mod tests;

use std::{borrow::Cow, time::Instant};

use bytes::Bytes;

use super::{Action, Link, Read, Stage};
use crate::{
    delivery::{Epoch, Gap, Heard, Violation, Writer},
    inbound::{CloseReason, ConnId, Inbound},
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
                self.writer.on_ack(seq)?;
                self.trim();
            }
        }
        Ok(())
    }

    /// What has a number gets another: the next start must not give it away a second time.
    pub(super) fn on_spool_lost(&mut self, now: Instant, random: u64, epoch: Epoch) {
        self.spooling = None;
        self.outbox.take_back(self.writer.give_up());
        self.writer = Writer::new(epoch);
        let conn = match &self.stage {
            Stage::Online(online) => online.conn,
            Stage::Waiting { .. } | Stage::Dialing { .. } | Stage::Stopped => return,
        };
        self.actions.push_back(Action::HangUp { conn, code: None });
        let reason = "to number anew what the disk does not take".to_owned();
        self.lose(now, random, CloseReason::Lost(reason));
    }

    /// What has arrived is given back to the disk.
    pub(super) fn trim(&mut self) {
        if self.spooling.is_some() {
            let upto = self.writer.first() - 1;
            self.actions.push_back(Action::Trim { upto });
        }
    }

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
        for bytes in records.refused {
            self.refuse_own(conn, bytes);
        }
    }

    /// What was handed to a peer of the published wire leaves the spool.
    pub(super) fn on_wrote_published(&mut self) {
        if let Some(upto) = self.plain.on_wrote(&mut self.writer) {
            self.writer.settle(upto);
            self.trim();
        }
    }

    /// Asks the disk for what waits on it alone, when there is room for it here.
    pub(super) fn read_on(&mut self) {
        let Some(spooling) = self.spooling.as_mut().filter(|it| !it.reading) else {
            return;
        };
        let room = spooling.window.saturating_sub(self.writer.bytes());
        if room > spooling.window / 2
            && let Some((from, upto)) = self.writer.wants()
        {
            spooling.reading = true;
            self.actions.push_back(Action::Read {
                from,
                upto,
                bytes: room,
            });
        }
    }

    pub(super) fn on_read(&mut self, read: Read<P>) {
        if let Some(spooling) = &mut self.spooling {
            spooling.reading = false;
            self.writer.on_read(read.from, read.upto, read.taken());
        }
    }

    /// Whether everything that has a number is here, and not on the disk alone.
    pub(crate) fn is_all_here(&self) -> bool {
        self.writer.is_all_here()
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
const SET_BACK: &str = "known to the other end and not to this one, whose disk was set back";
