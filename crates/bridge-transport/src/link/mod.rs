//! One logical connection over many sockets, as a pure machine: it owns no socket, reads no clock
//! and draws no random number.
//!
//! Contract: give one [`Input`], then take
//! [`next_action`](Link::next_action) until `None`, then wait for the next input or for
//! [`deadline`](Link::deadline), which is answered with [`Input::Timeout`] preceded by
//! [`Input::Traffic`] of the open connection.
//!
//! ```text
//!                 Opened
//!    Dialing ───────────────► Online
//!     ▲    │ DialFailed         │ Closed, silent, stalled
//!     │    ▼                    │
//!     └─ Waiting ◄──────────────┘     Drain, everything sent or out of time: any ──► Stopped
//!   due, woke, new credential
//! ```
//!
//! Every dial gets a [`ConnId`] of its own; inputs that name another than the current one are
//! late news of a superseded socket and change nothing.
//!
//! Messages to the peer: on a connection with the [envelope](crate::delivery) those of streams wait
//! until the peer has said where to go on, are numbered when they are written, and are kept until it
//! has stored them. With a [spool](spooled) they are numbered as soon as they may go, on line or off,
//! are written only when they are on the disk, and beyond a window of bytes are there alone. To a peer
//! without the envelope, over a spool or not, terminal messages are kept until it is [proven](proof)
//! that they arrived.
//!
//! Messages of the peer: those with numbers are delivered once in a process, and acknowledged when the
//! embedder has committed them.
//!
//! Here is the life of connections: dialled, opened, lost, waited for, written to. Beside it, each with
//! an invariant of its own:
//! - what is decided about time and trouble: [`timers`], [`backoff`], [`close`], [`liveness`],
//!   [`breaker`], [`drain`];
//! - what goes out: [`outbox`] with its [`pace`], [`proof`] and [`spooled`];
//! - what comes in: [`envelope`], [`hearing`];
//! - what is told and asked: [`contract`], [`telling`].

mod backoff;
mod breaker;
pub(crate) mod close;
mod contract;
mod drain;
mod envelope;
mod hearing;
mod liveness;
mod outbox;
mod pace;
mod proof;
#[cfg(feature = "simulation")]
pub mod script;
#[cfg(test)]
mod simulation;
mod spooled;
mod telling;
#[cfg(test)]
mod tests;
mod timers;

use std::{collections::VecDeque, time::Instant};

#[cfg(feature = "spool")]
pub(crate) use self::spooled::window;
use self::{
    backoff::Backoff,
    breaker::{Breaker, Open},
    close::{CloseRules, Verdict},
    hearing::Hearing,
    liveness::Liveness,
    outbox::{Batch, Numbered, Outbox, Patience, Peer, TooBig},
    spooled::Spooling,
};
pub(crate) use self::{
    contract::{Action, Input, ReadBack, Spooled, Timer},
    outbox::{Full, Record},
};
use crate::{
    clock::Now,
    config::{Limits, Timings},
    delivery::{Epoch, Position, Reader, Writer},
    dial::Disposition,
    inbound::{CloseReason, ConnId, FrameRefused, Inbound},
    payload::{Greeting, Payload, TextFrame},
    state::LinkState,
};

/// The machine; see the module.
#[derive(Debug)]
pub(crate) struct Link<P> {
    rules: CloseRules,
    timings: Timings,
    frame_limit: usize,
    greeting: Greeting,
    stage: Stage,
    outbox: Outbox<P>,
    /// Messages that have a number.
    writer: Writer<Numbered<P>>,
    hearing: Hearing,
    spooling: Option<Spooling<P>>,
    /// A name for the numbering of a spool that turns out to be one of an earlier time.
    spare: Option<Epoch>,
    backoff: Backoff,
    liveness: Liveness,
    breaker: Breaker,
    /// The inbox has room.
    room: bool,
    last_conn: u64,
    attempt: u32,
    last_error: Option<String>,
    /// Counts credentials, to tell a refusal of the current one from one of its predecessor.
    credential: u64,
    dialled_with: u64,
    drain_limit: Option<Instant>,
    /// Up to where the spool was told that nothing is needed any more.
    trimmed: u64,
    last_seen: Now,
    /// The state as it was last told.
    published: LinkState,
    actions: VecDeque<Action>,
}

#[derive(Debug)]
enum Stage {
    Waiting {
        until: Instant,
        for_credential: bool,
    },
    Dialing {
        conn: ConnId,
    },
    Online(Online),
    Stopped,
}

#[derive(Debug)]
struct Online {
    conn: ConnId,
    /// Reads what comes, if the peer accepted the extension.
    reader: Option<Reader>,
    since: Instant,
    healthy: bool,
    heard_frame: bool,
    writing: bool,
    /// When the last write was confirmed.
    wrote: Instant,
}

impl Online {
    fn extended(&self) -> bool {
        self.reader.is_some()
    }
}

impl<P: Payload> Link<P> {
    /// Starts a link that dials at once.
    pub(crate) fn new(
        rules: CloseRules,
        timings: Timings,
        limits: &Limits,
        greeting: Greeting,
        epoch: Epoch,
        now: Now,
    ) -> Self {
        let mut link = Self {
            rules,
            frame_limit: limits.frame,
            greeting,
            stage: Stage::Waiting {
                until: now.at,
                for_credential: false,
            },
            outbox: Outbox::new(limits.outbox, timings.pace),
            writer: Writer::new(epoch),
            hearing: Hearing::default(),
            spooling: None,
            spare: None,
            backoff: Backoff::new(timings.clone()),
            liveness: Liveness::new(timings.clone(), now.at),
            breaker: Breaker::new(limits, now.at),
            room: true,
            timings,
            last_conn: 0,
            attempt: 0,
            last_error: None,
            credential: 0,
            dialled_with: 0,
            drain_limit: None,
            trimmed: 0,
            last_seen: now,
            published: LinkState::starting(now.at),
            actions: VecDeque::new(),
        };
        link.dial();
        link
    }

    /// Takes frames with numbers, behind these; before the first input.
    pub(crate) fn with_heard(mut self, heard: Option<Position>) -> Self {
        self.hearing = Hearing::new(heard);
        self
    }

    /// Takes one input; `random` is used up for at most one wait.
    ///
    /// Only [`Input::Push`] fails, with the messages that have to wait for room: the first that has,
    /// and all behind it.
    pub(crate) fn handle(
        &mut self,
        now: Now,
        random: u64,
        input: Input<P>,
    ) -> Result<(), Full<VecDeque<P>>> {
        if self.slept(now) {
            self.on_wake(now.at, random);
        }
        self.last_seen = now;
        let result = self.on_input(now.at, random, input);
        self.settle(now);
        result
    }

    /// Decides what is written, and what is told.
    fn settle(&mut self, now: Now) {
        self.prove(now.at);
        self.spool(now.at);
        self.write(now.at);
        self.want_proof(now.at);
        self.read_on();
        self.finish_if_drained();
        self.publish(now.at);
    }

    /// Returns the next thing to do.
    pub(crate) fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    fn on_push(&mut self, mut payloads: VecDeque<P>) -> Result<(), Full<VecDeque<P>>> {
        let current = match &self.stage {
            Stage::Online(online) => Some(online.conn),
            Stage::Waiting { .. } | Stage::Dialing { .. } | Stage::Stopped => None,
        };
        let numbered = self.writer.bytes();
        while let Some(payload) = payloads.pop_front() {
            if let Err(Full(payload)) = self.outbox.push(payload, current, numbered) {
                payloads.push_front(payload);
                return Err(Full(payloads));
            }
        }
        Ok(())
    }

    fn on_input(
        &mut self,
        now: Instant,
        random: u64,
        input: Input<P>,
    ) -> Result<(), Full<VecDeque<P>>> {
        match input {
            Input::Push(payloads) => return self.on_push(payloads),
            Input::Greeting(greeting) => self.greeting = greeting,
            Input::Committed { upto } => self.on_committed(upto),
            Input::Opened { conn, extended } => self.on_opened(now, conn, extended),
            Input::DialFailed {
                conn,
                disposition,
                reason,
            } => {
                if matches!(self.stage, Stage::Dialing { conn: current } if current == conn) {
                    self.last_error = Some(reason);
                    self.wait(now, random, disposition.into());
                }
            }
            Input::Frame { conn, text } => self.on_frame(now, random, conn, text),
            Input::Refused { conn, reason } => {
                if self.online(conn).is_some() {
                    self.liveness.on_heard(now);
                    self.on_sign();
                    self.actions
                        .push_back(Action::Deliver(Inbound::Refused { conn, reason }));
                    let judged = self.breaker.on_refused(now);
                    self.judge(now, random, conn, judged);
                }
            }
            Input::Useless { conn } => {
                if self.online(conn).is_some() {
                    let judged = self.breaker.on_useless(now);
                    self.judge(now, random, conn, judged);
                }
            }
            Input::Pong { conn, id } => {
                if self.online(conn).is_some() {
                    self.liveness.on_pong(now, id);
                }
            }
            Input::Wrote { conn } => {
                if let Some(online) = self.online(conn) {
                    online.writing = false;
                    self.on_wrote(now, random, conn);
                }
            }
            Input::Closed { conn, reason } => {
                if self.online(conn).is_some() {
                    self.lose(now, random, reason);
                }
            }
            Input::Appended { upto } => self.on_appended(upto),
            Input::Read(read) => self.on_read(read),
            Input::Expired { upto } => self.on_expired(upto),
            Input::SpoolLost { epoch } => self.on_spool_lost(now, random, epoch),
            Input::Traffic(traffic) => self.liveness.on_traffic(traffic),
            Input::Reading { reading } => {
                self.room = reading;
                self.liveness
                    .on_reading(now, reading && self.takes_frames());
            }
            Input::CredentialChanged => self.on_credential_changed(),
            Input::Drain { limit } => {
                let until = now + limit;
                self.drain_limit = Some(self.drain_limit.map_or(until, |at| at.min(until)));
            }
            Input::Timeout => self.on_timeout(now, random),
        }
        Ok(())
    }

    /// Whether the socket may be read, as far as its peer is concerned.
    pub(crate) fn takes_frames(&self) -> bool {
        self.breaker.paused_until().is_none()
    }

    /// A frame was counted: reading pauses over the rate, and the circuit may have opened.
    fn judge(&mut self, now: Instant, random: u64, conn: ConnId, judged: Result<(), Open>) {
        if !self.takes_frames() {
            self.liveness.on_reading(now, false);
        }
        if let Err(Open { useless }) = judged {
            let code = Some(POLICY_VIOLATION);
            self.actions.push_back(Action::HangUp { conn, code });
            self.lose(now, random, CloseReason::Flooded { useless });
        }
    }

    fn on_opened(&mut self, now: Instant, conn: ConnId, extended: bool) {
        if !matches!(self.stage, Stage::Dialing { conn: current } if current == conn) {
            return;
        }
        let resume = extended.then(|| self.hearing.resume()).flatten();
        let greeting = self.greeting.frames_for(extended).iter().cloned();
        let frames: Vec<TextFrame> = resume.into_iter().chain(greeting).collect();
        let writing = !frames.is_empty();
        self.liveness.on_opened(now);
        self.breaker.on_opened();
        self.liveness
            .on_reading(now, self.room && self.takes_frames());
        self.actions
            .push_back(Action::Deliver(Inbound::Opened { conn, extended }));
        if writing {
            self.liveness.on_write(now);
            self.actions.push_back(Action::Write { conn, frames });
        }
        if extended {
            self.writer.on_opened();
        } else if self.spooling.is_none() && !self.writer.is_empty() {
            self.outbox.take_back(self.writer.give_up());
        }
        let parts = self.frame_limit.saturating_mul(2);
        self.stage = Stage::Online(Online {
            conn,
            reader: extended.then(|| self.hearing.open(parts)),
            since: now,
            healthy: false,
            heard_frame: false,
            writing,
            wrote: now,
        });
    }

    fn on_credential_changed(&mut self) {
        self.credential += 1;
        self.backoff.on_credential();
        match self.stage {
            Stage::Waiting { .. } => self.dial(),
            Stage::Dialing { .. } | Stage::Online(_) | Stage::Stopped => {}
        }
    }

    /// The machine slept: whatever socket there is, the other side has forgotten it.
    fn on_wake(&mut self, now: Instant, random: u64) {
        self.backoff.on_wake();
        match &self.stage {
            Stage::Online(online) => {
                let conn = online.conn;
                self.actions.push_back(Action::HangUp { conn, code: None });
                self.lose(now, random, CloseReason::Slept);
                self.dial();
            }
            Stage::Dialing { conn } => {
                self.actions.push_back(Action::HangUp {
                    conn: *conn,
                    code: None,
                });
                self.dial();
            }
            Stage::Waiting { .. } => self.dial(),
            Stage::Stopped => {}
        }
    }

    /// Tells whether time went on without this process: between the clocks, or on the one clock
    /// of a platform where both count sleep.
    fn slept(&self, now: Now) -> bool {
        let ticked = now.at.saturating_duration_since(self.last_seen.at);
        let passed = now.boot.saturating_sub(self.last_seen.boot);
        let jump = self.timings.sleep_jump;
        passed.saturating_sub(ticked) > jump || ticked > self.timings.clock_check + jump
    }

    fn dial(&mut self) {
        self.last_conn += 1;
        self.attempt = self.attempt.saturating_add(1);
        self.dialled_with = self.credential;
        let conn = ConnId(self.last_conn);
        self.stage = Stage::Dialing { conn };
        self.actions.push_back(Action::Dial {
            conn,
            headers: self.greeting.headers.clone(),
        });
    }

    fn lose(&mut self, now: Instant, random: u64, reason: CloseReason) {
        let Stage::Online(online) = &mut self.stage else {
            return;
        };
        let extended = online.extended();
        self.hearing.close(online.reader.take());
        let conn = online.conn;
        let verdict = self.rules.of_close(&reason, online.heard_frame);
        let too_big = matches!(
            reason,
            CloseReason::Code {
                code: MESSAGE_TOO_BIG,
                ..
            }
        );
        if too_big && extended {
            self.writer.narrow();
        }
        self.writer.on_closed();
        // With the envelope no message needs a longer frame than a part, and parts are shorter now.
        let too_big = (too_big && !extended).then(|| TooBig {
            at: now,
            guess: self.liveness.is_mute(),
        });
        for bytes in self.outbox.on_closed(too_big, &mut self.writer) {
            self.refuse_own(conn, FrameRefused::TooLargeToSend { bytes });
        }
        self.last_error = Some(reason.to_string());
        self.actions
            .push_back(Action::Deliver(Inbound::Closed { conn, reason }));
        self.wait(now, random, verdict);
    }

    fn wait(&mut self, now: Instant, random: u64, verdict: Verdict) {
        let outdated = self.dialled_with != self.credential;
        if outdated && verdict == Verdict::CredentialRefused {
            self.dial();
            return;
        }
        let wait = self.backoff.on_trouble(now, random, verdict);
        self.stage = Stage::Waiting {
            until: now + wait.delay,
            for_credential: wait.for_credential,
        };
    }

    fn write(&mut self, now: Instant) {
        let Stage::Online(online) = &mut self.stage else {
            return;
        };
        if online.writing {
            return;
        }
        let conn = online.conn;
        let draining = self.drain_limit.is_some();
        let patience = Patience {
            pace: !draining,
            // Of one that never answers pings there is no proof worth it, and at the end nobody waits
            // for one that has not answered yet.
            proof: !self.liveness.is_mute() && (!draining || self.liveness.answers_pings()),
        };
        let mut batch = Batch::default();
        let peer = if let Some(reader) = &online.reader {
            if let Some(ack) = self.hearing.next_ack(reader) {
                batch.add(ack);
            }
            if !self.writer.is_caught_up() {
                // Answers do not wait behind a backlog, nor may many of them hold it up.
                batch.only_half(true);
                let behind = Peer::Behind(&mut self.writer);
                self.outbox
                    .take(&mut batch, now, patience, behind, self.frame_limit);
                batch.only_half(false);
            }
            let mut too_many = Vec::new();
            while !batch.is_full()
                && let Some(frame) = self.writer.next_frame(|message, list| {
                    too_many.extend(message.write_to(list).err());
                })
            {
                batch.add(frame.into());
            }
            batch.refused.append(&mut too_many);
            if self.spooling.is_none() && self.writer.is_caught_up() {
                Peer::Current(&mut self.writer)
            } else {
                Peer::Behind(&mut self.writer)
            }
        } else if self.spooling.is_some() {
            Peer::Spooled(&mut self.writer)
        } else {
            Peer::Plain
        };
        self.outbox
            .take(&mut batch, now, patience, peer, self.frame_limit);
        // Whatever else there is goes before the next part; alone, the parts fill the batch.
        if let Some(part) = self.writer.next_part() {
            let crowded = !batch.frames.is_empty();
            batch.add(part.into());
            while !crowded
                && !batch.is_full()
                && let Some(part) = self.writer.next_part()
            {
                batch.add(part.into());
            }
        }
        if !batch.frames.is_empty() {
            online.writing = true;
            self.liveness.on_write(now);
            self.actions.push_back(Action::Write {
                conn,
                frames: batch.frames,
            });
        }
        for reason in batch.refused {
            self.refuse_own(conn, reason);
        }
        self.trim();
    }

    fn refuse_own(&mut self, conn: ConnId, reason: FrameRefused) {
        self.actions
            .push_back(Action::Deliver(Inbound::Refused { conn, reason }));
    }

    fn online(&mut self, conn: ConnId) -> Option<&mut Online> {
        match &mut self.stage {
            Stage::Online(online) if online.conn == conn => Some(online),
            Stage::Online(_) | Stage::Waiting { .. } | Stage::Dialing { .. } | Stage::Stopped => {
                None
            }
        }
    }
}

impl From<Disposition> for Verdict {
    fn from(disposition: Disposition) -> Self {
        match disposition {
            Disposition::Retry => Self::Transient,
            Disposition::RetryFor(doubt) => Self::TransientFor(doubt),
            Disposition::RetryAfter(wait) => Self::RetryAfter(wait),
            Disposition::NeedsNewToken => Self::CredentialRefused,
        }
    }
}

const NORMAL_CLOSURE: u16 = 1000;
const POLICY_VIOLATION: u16 = 1008;
const MESSAGE_TOO_BIG: u16 = 1009;
