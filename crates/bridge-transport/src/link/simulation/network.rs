//! The network and the far end: what a connection brings, what dies with it, and what is stored.

use std::{collections::VecDeque, time::Instant};

use bytes::Bytes;

use super::{Event, FRAME_LIMIT, Far, NARROW, Said, World};
use crate::{
    carrier::Traffic,
    config::Timings,
    delivery::{Heard, Reader},
    inbound::{CloseReason, ConnId},
    link::Input,
    payload::TextFrame,
};

/// What became of a connection that is not closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Works,
    /// Not a byte moves, and no write is confirmed.
    Stuck,
    /// Writes are confirmed and vanish.
    Deaf,
    /// What the far end says vanishes.
    Dumb,
    /// Both.
    Gone,
}

impl Fate {
    pub(super) fn carries_out(self) -> bool {
        match self {
            Self::Works | Self::Dumb => true,
            Self::Stuck | Self::Deaf | Self::Gone => false,
        }
    }

    pub(super) fn carries_back(self) -> bool {
        match self {
            Self::Works | Self::Deaf => true,
            Self::Stuck | Self::Dumb | Self::Gone => false,
        }
    }
}

/// What is on its way to the far end, in order.
#[derive(Debug)]
pub(super) enum Sent {
    Frame(Written),
    Ping(u64),
}

/// The far end does not take a frame for its length, nor anything behind it.
#[derive(Debug)]
pub(super) struct TooLong;

/// A frame whose write was confirmed.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) frame: TextFrame,
    pub(super) at: Instant,
    /// The link had not heard a pong of this far end yet, and had to believe in less.
    pub(super) credulous: bool,
}

impl Written {
    /// Whether the link has reason to believe that it arrived, without a pong behind it.
    fn is_believed_in(&self, heard: Option<Instant>, now: Instant) -> bool {
        let aged = self.at + Timings::default().silence <= now;
        let spoken = heard.is_some_and(|heard| heard >= self.at);
        self.credulous && (aged || spoken)
    }
}

#[derive(Debug)]
pub(super) struct Socket {
    pub(super) conn: ConnId,
    pub(super) extended: bool,
    pub(super) fate: Fate,
    pub(super) greeted: bool,
    pub(super) in_flight: Vec<TextFrame>,
    /// Written, and not read by the far end yet: lost when the connection dies.
    pub(super) under_way: VecDeque<Sent>,
    /// Written, and never to be read.
    pub(super) swallowed: Vec<Written>,
    pub(super) far: Option<Reader>,
    /// When the link was last brought a frame.
    pub(super) heard: Option<Instant>,
    pub(super) traffic: Traffic,
}

impl World {
    pub(super) fn on_accepted(&mut self, conn: ConnId) {
        let extended = match self.far {
            Far::Plain => false,
            Far::Extended => true,
            Far::Wavering => self.chance(50),
        };
        self.tell(|| format!("{conn} is up, extended: {extended}"));
        self.store();
        let traffic = Traffic {
            received: self.now.at,
            sent: self.now.at,
        };
        self.socket = Some(Socket {
            conn,
            extended,
            fate: Fate::Works,
            greeted: false,
            in_flight: Vec::new(),
            under_way: VecDeque::new(),
            swallowed: Vec::new(),
            far: extended.then(|| Reader::new(self.position, 1 << 20)),
            heard: None,
            traffic,
        });
        self.connections += 1;
        self.plan(90_000, Event::Trouble(conn));
        self.plan(20_000, Event::Command(conn));
        if extended {
            self.plan(500, Event::Said(conn, Said::Resume(self.position)));
        }
        self.input(Input::Opened { conn, extended });
    }

    pub(super) fn on_wrote(&mut self, conn: ConnId) {
        // After sleep the link leaves the connection before it hears of the write.
        let confirmed = !self.link.slept(self.now);
        let (at, credulous) = (self.now.at, !self.link.liveness.answers_pings());
        if let Some(socket) = self.socket.as_mut().filter(|_| confirmed) {
            socket.traffic.sent = at;
            let written = std::mem::take(&mut socket.in_flight).into_iter();
            let written = written.map(|frame| Written {
                frame,
                at,
                credulous,
            });
            if socket.fate.carries_out() {
                socket.under_way.extend(written.map(Sent::Frame));
            } else {
                socket.swallowed.extend(written);
            }
            self.plan(200, Event::FarReads(conn));
        }
        self.input(Input::Wrote { conn });
    }

    pub(super) fn on_trouble(&mut self, conn: ConnId) {
        let (fate, code) = match self.random.next() % 10 {
            0 => (Some(Fate::Stuck), 0),
            1 => (Some(Fate::Deaf), 0),
            2 => (Some(Fate::Dumb), 0),
            3 => (Some(Fate::Gone), 0),
            4 => (None, 1008),
            5 => (None, 1002),
            6 => (None, 1012),
            _ => (None, 1006),
        };
        // What is broken does not mend.
        let works = self.fate(conn) == Some(Fate::Works);
        if let Some(fate) = fate.filter(|_| works) {
            self.tell(|| format!("{conn} is {fate:?}"));
            if let Some(socket) = &mut self.socket {
                socket.fate = fate;
            }
            // TCP gives up in the end, if the link did not before.
            self.plan(1_000_000, Event::Trouble(conn));
            return;
        }
        let code = if code == 0 { 1006 } else { code };
        let reason = String::new();
        self.end(conn, CloseReason::Code { code, reason });
    }

    /// The network ends a connection, and the link is told.
    pub(super) fn end(&mut self, conn: ConnId, reason: CloseReason) {
        self.tell(|| format!("{conn} ends: {reason}"));
        self.take_away();
        self.input(Input::Closed { conn, reason });
    }

    /// A connection is no more, and with it what it had not brought.
    pub(super) fn take_away(&mut self) {
        let Some(socket) = self.socket.take() else {
            return;
        };
        if socket.extended {
            return;
        }
        // The beginning of a write may have got through that nobody heard of.
        if socket.fate.carries_out() && socket.under_way.is_empty() && self.chance(30) {
            let some = self.random.next() % (socket.in_flight.len() as u64 + 1);
            for frame in socket.in_flight.iter().zip(0..some).map(|(frame, _)| frame) {
                self.model.may_come_again(frame);
                self.model.arrive(frame);
            }
        }
        let under_way = socket.under_way.into_iter().filter_map(|sent| match sent {
            Sent::Frame(written) => Some(written),
            Sent::Ping(_) => None,
        });
        for written in socket.swallowed.into_iter().chain(under_way) {
            let proven = written.is_believed_in(socket.heard, self.now.at);
            self.tell(|| format!("{:?} is gone, proven: {proven}", written.frame));
            self.model.take(&written.frame, proven);
        }
    }

    /// The far end takes what is there; with the envelope it stores it now and then, and dies now
    /// and then.
    pub(super) fn on_far_reads(&mut self, conn: ConnId) {
        if let Err(TooLong) = self.take_in() {
            // What was being written may have been it, and its arrival is waited for from now on.
            if let Some(socket) = &mut self.socket {
                let frames = std::mem::take(&mut socket.in_flight);
                for frame in frames.iter().filter(|_| !socket.extended) {
                    self.model.may_come_again(frame);
                }
            }
            let (code, reason) = (1009, String::new());
            return self.end(conn, CloseReason::Code { code, reason });
        }
        if !self.socket.as_ref().is_some_and(|socket| socket.extended) {
            return;
        }
        if !self.calm && self.chance(3) {
            self.unstored.clear();
            self.end(conn, CloseReason::Lost("the far end died".to_owned()));
        } else if self.chance(70) {
            // Nothing is acknowledged on a connection before something of it is stored.
            let numbered = self.unstored.iter().any(|(_, upto)| upto.is_some());
            self.store();
            if numbered {
                self.plan(300, Event::Said(conn, Said::Ack(self.position)));
            }
        } else {
            self.plan(200, Event::FarReads(conn));
        }
    }

    /// The far end reads what is there, up to a frame that is too long for it.
    pub(super) fn take_in(&mut self) -> Result<(), TooLong> {
        while let Some(socket) = &mut self.socket {
            let conn = socket.conn;
            let limit = match (self.limited, socket.extended) {
                (false, _) => usize::MAX,
                (true, false) => FRAME_LIMIT,
                (true, true) => NARROW,
            };
            match socket.under_way.pop_front() {
                None => break,
                Some(Sent::Ping(id)) if self.answers_pings => self.plan(400, Event::Pong(conn, id)),
                Some(Sent::Ping(_)) => {}
                Some(Sent::Frame(written)) if written.frame.len() > limit => {
                    if !socket.extended {
                        let proven = written.is_believed_in(socket.heard, self.now.at);
                        self.model.take(&written.frame, proven);
                    }
                    return Err(TooLong);
                }
                Some(Sent::Frame(written)) => self.take_frame(conn, &written.frame),
            }
        }
        Ok(())
    }

    fn take_frame(&mut self, conn: ConnId, frame: &TextFrame) {
        let reader = self.socket.as_mut().and_then(|socket| socket.far.as_mut());
        let Some(reader) = reader else {
            self.model.arrive(frame);
            return;
        };
        match reader.hear(frame.as_str()).expect("no rule is broken") {
            Heard::Message { texts, seq, upto } => {
                // What overtook the parts of another comes again, if the connection ends before it.
                let early = upto.is_some_and(|upto| seq > Some(upto.last));
                for text in texts {
                    if early {
                        self.model.may_come_again(&(*text).into());
                    }
                    let answer = text.starts_with('r');
                    assert!(
                        !answer || *text == format!("r {conn} 0"),
                        "{text} on {conn}"
                    );
                    self.unstored.push((text.into_owned(), upto));
                }
            }
            Heard::Nothing => {}
            other @ Heard::Gap { .. } => {
                assert!(self.far == Far::Wavering || self.ages, "{other:?}");
            }
            other @ (Heard::Resume { .. } | Heard::Ack { .. }) => panic!("{other:?}"),
        }
    }

    /// The far end stores what it has taken.
    pub(super) fn store(&mut self) {
        for (text, upto) in std::mem::take(&mut self.unstored) {
            let frame = text.as_str().into();
            if self.far == Far::Wavering {
                self.model.may_come_again(&frame);
            }
            self.tell(|| format!("stored: {text}, {upto:?}"));
            self.model.arrive(&frame);
            self.position = upto.unwrap_or(self.position);
        }
    }

    /// A frame of the far end arrives.
    pub(super) fn bring(&mut self, conn: ConnId, text: Bytes) {
        self.tell(|| format!("{conn} brings {}", String::from_utf8_lossy(&text)));
        self.received();
        if let Some(socket) = &mut self.socket {
            socket.heard = Some(self.now.at);
        }
        self.input(Input::Frame { conn, text });
    }

    pub(super) fn received(&mut self) {
        if let Some(socket) = &mut self.socket {
            socket.traffic.received = self.now.at;
        }
    }

    /// Whether something is on its way that may end the connection yet.
    pub(super) fn is_unread(&self) -> bool {
        let socket = self.socket.as_ref();
        socket.is_some_and(|socket| !socket.under_way.is_empty())
    }

    /// What became of this connection, unless it is closed.
    pub(super) fn fate(&self, conn: ConnId) -> Option<Fate> {
        let socket = self.socket.as_ref();
        socket.filter(|it| it.conn == conn).map(|it| it.fate)
    }
}
