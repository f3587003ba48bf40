//! What the link is given, and what becomes of all that it asks for.

use super::{
    Event, FRAME_LIMIT, Far, Fate, LENGTHS, MOST_LONG, NARROW, OUTBOX, World, item::Item,
    network::Sent,
};
use crate::{
    inbound::{ConnId, FrameRefused, Inbound},
    link::{Action, Full, Input, NORMAL_CLOSURE},
    payload::{Class, TextFrame},
    state::Phase,
};

impl World {
    pub(super) fn produce(&mut self, class: Class) {
        if self.waiting.is_some() {
            return;
        }
        let long = self.length(class);
        let too_long = (self.far != Far::Extended && long > FRAME_LIMIT).then_some(long);
        let item = match class {
            Class::Durable { stream } | Class::Coalesce { stream } | Class::Paced { stream } => {
                self.model.produce(stream, too_long)
            }
            Class::Latest { slot } => {
                let value = self.random.next();
                self.model.newest.insert(slot, value);
                if let Some(long) = too_long {
                    self.model.never_fits(long);
                }
                value
            }
            Class::Reply { .. } => 0,
        };
        self.push(Item {
            class,
            items: vec![item],
            long,
        });
    }

    /// How much longer than others a message of this class is.
    fn length(&mut self, class: Class) -> usize {
        let (short, long) = match class {
            Class::Durable { .. } => (true, true),
            // It has to wait for room, and would be too much for all of it.
            Class::Coalesce { .. } => (true, self.far != Far::Extended),
            Class::Latest { .. } => (true, self.far != Far::Extended && !self.calm),
            Class::Paced { .. } | Class::Reply { .. } => (false, false),
        };
        if !short || !self.limited || !self.chance(30) {
            return 0;
        }
        match self.random.next() % 3 {
            0 => FRAME_LIMIT / 4,
            1 => FRAME_LIMIT / 2,
            _ if long && self.far == Far::Extended => NARROW * 2,
            _ if long && self.lengths < MOST_LONG => {
                self.lengths += 1;
                FRAME_LIMIT + self.lengths * LENGTHS
            }
            _ => FRAME_LIMIT / 3,
        }
    }

    pub(super) fn push(&mut self, item: Item) {
        let random = self.random.next();
        let class = item.class;
        match self
            .link
            .handle(self.now, random, Input::Push([item].into()))
        {
            Ok(()) => {
                let held = self.link.outbox.held().1 + self.link.writer.bytes();
                let bounded = matches!(class, Class::Coalesce { .. } | Class::Paced { .. });
                assert!(!bounded || held <= OUTBOX, "{held} bytes held");
            }
            Err(Full(mut waiting)) => {
                let patient = matches!(
                    class,
                    Class::Coalesce { .. } | Class::Paced { .. } | Class::Reply { .. }
                );
                assert!(patient, "{class:?} had to wait");
                self.waiting = waiting.pop_front();
            }
        }
        self.perform();
    }

    pub(super) fn input(&mut self, input: Input<Item>) {
        let random = self.random.next();
        self.link
            .handle(self.now, random, input)
            .expect("only a push can be refused");
        self.perform();
    }

    pub(super) fn perform(&mut self) {
        while let Some(action) = self.link.next_action() {
            match action {
                Action::Dial { conn, .. } => {
                    assert!(
                        self.dialling.is_none() && self.socket.is_none(),
                        "two at a time"
                    );
                    self.dialling = Some(conn);
                    self.plan(3000, Event::Dialled(conn));
                }
                Action::Write { conn, frames } => self.on_write(conn, frames),
                Action::Ping { conn, id } => {
                    self.tell(|| format!("ping {id} on {conn}"));
                    if let Some(socket) = self.socket.as_mut()
                        && socket.fate.carries_out()
                    {
                        socket.under_way.push_back(Sent::Ping(id));
                        self.plan(200, Event::FarReads(conn));
                    }
                }
                Action::HangUp { conn, code } => {
                    self.tell(|| format!("hangs up {conn} with {code:?}"));
                    let reads = code == Some(NORMAL_CLOSURE) || self.chance(50);
                    if reads && self.fate(conn).is_some_and(Fate::carries_out) {
                        let read_all = self.take_in();
                        self.tell(|| format!("what was there is read: {read_all:?}"));
                    }
                    self.dialling.take_if(|dialling| *dialling == conn);
                    if self.fate(conn).is_some() {
                        self.take_away();
                        let late = 1000 + u16::from(self.random.next().to_be_bytes()[0] % 13);
                        self.plan(10_000, Event::LateClose(conn, late));
                    }
                    if code == Some(NORMAL_CLOSURE) {
                        self.store();
                    }
                }
                Action::Stopped(flushed) => self.stopped = Some(flushed),
                Action::Append { records } => self.append(records),
                Action::Read { from, upto, bytes } => {
                    self.plan(5, Event::DiskGives(from, upto, bytes));
                }
                Action::Trim { upto } => self.trim(upto),
                Action::Deliver(Inbound::Gap { gap, .. }) => {
                    assert!(self.far == Far::Wavering || self.ages, "{gap:?}");
                }
                Action::Deliver(Inbound::Refused { reason, .. }) => {
                    let FrameRefused::TooLargeToSend { bytes } = reason else {
                        panic!("{reason:?}");
                    };
                    self.model.refuse(bytes);
                }
                Action::Deliver(_) => {}
                Action::State(state) => {
                    self.tell(|| format!("{:?}, {:?}", state.phase, state.last_error));
                    assert!(
                        state.phase != Phase::Online || self.link.liveness.is_proven(self.now.at)
                    );
                }
            }
        }
    }

    pub(super) fn on_write(&mut self, conn: ConnId, frames: Vec<TextFrame>) {
        let socket = self
            .socket
            .as_mut()
            .expect("writes only to an open connection");
        assert_eq!(socket.conn, conn);
        assert!(socket.in_flight.is_empty(), "two writes at a time");
        if !socket.greeted {
            assert_eq!(frames, ["greeting".into()]);
            socket.greeted = true;
        }
        let answer_to = format!("r {conn} 0");
        for frame in frames.iter().filter(|_| !socket.extended) {
            let is_answer = frame.as_str().starts_with('r');
            assert!(
                !is_answer || frame.as_str() == answer_to,
                "answer on another connection"
            );
        }
        socket.in_flight = frames;
        self.tell_frames(conn);
        self.plan(1500, Event::Wrote(conn));
    }

    pub(super) fn tell_frames(&self, conn: ConnId) {
        let frames = self.socket.iter().flat_map(|socket| &socket.in_flight);
        let frames: Vec<&str> = frames.map(TextFrame::as_str).collect();
        self.tell(|| format!("writes to {conn}: {frames:?}"));
    }
}
