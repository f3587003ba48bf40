//! Whole histories of a link against a hostile network, from a seed, in virtual time.
//!
//! The network refuses, drops, stalls, falls silent and lets the machine sleep for three hours.
//! A reference model says what must have arrived: everything pushed to a stream, once and in
//! order; answers only on their own connection; the newest of every slot; the greeting first. On
//! the plain wire only writes that were confirmed count. With the envelope a confirmed write may
//! be lost with its connection, the far end may die with what it has not stored, and everything
//! has to arrive all the same. With a spool this process dies as well, and what was written down
//! arrives. A failure prints its seed.

use std::collections::BTreeMap;

use super::*;
use crate::{
    delivery::Heard,
    jitter::Jitter,
    payload::{Class, Stored as _},
};

#[test]
fn everything_arrives_once_and_in_order_whatever_the_network_does() {
    for seed in 0..400 {
        let history = std::panic::catch_unwind(|| World::new(seed).run());
        assert!(history.is_ok(), "history of seed {seed} broke a promise");
    }
}

#[test]
fn the_same_seed_tells_the_same_history() {
    let digest = |seed| World::new(seed).run();
    assert_eq!(digest(7), digest(7));
    assert_ne!(digest(7), digest(8));
}

/// A message: the items of a stream it carries, or one value.
#[derive(Debug, Clone)]
struct Item {
    class: Class,
    items: Vec<u64>,
}

impl Payload for Item {
    fn class(&self) -> Class {
        self.class
    }
    fn size(&self) -> usize {
        40 * self.items.len()
    }
    fn absorb(&mut self, next: Self) -> Result<(), Self> {
        assert_eq!(self.class, next.class, "merged across streams");
        if self.items.len() >= 20 {
            return Err(next);
        }
        self.items.extend(next.items);
        Ok(())
    }
    fn seal(&self, _extended: bool) -> Vec<TextFrame> {
        let (kind, key) = match self.class {
            Class::Durable { stream } | Class::Coalesce { stream } | Class::Paced { stream } => {
                ('s', stream)
            }
            Class::Latest { slot } => ('l', slot),
            Class::Reply { conn } => ('r', conn.0),
        };
        self.items
            .iter()
            .map(|item| format!("{kind} {key} {item}").into())
            .collect()
    }
}

/// What the far end of an envelope says.
#[derive(Debug, Clone, Copy)]
enum Said {
    Resume(Position),
    Ack(Position),
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Dialled(ConnId),
    Wrote(ConnId),
    Pong(ConnId, u64),
    Trouble(ConnId),
    Command(ConnId),
    /// The far end reads, and perhaps stores.
    Read(ConnId),
    /// Something the far end said arrives.
    Said(ConnId, Said),
    /// The disk has taken what was to be written down.
    Appended(u64),
    /// The disk gives what it was asked for.
    DiskRead(u64, u64, usize),
    /// This process dies, and another goes on.
    Crash,
    /// The disk takes nothing any more.
    SpoolLost,
    Credential,
    Sleep,
    Produce,
}

impl crate::payload::Stored for Item {
    fn store(&self) -> Option<Vec<u8>> {
        let class = match self.class {
            Class::Durable { stream } => (0, stream),
            Class::Coalesce { stream } => (1, stream),
            Class::Paced { stream } => (2, stream),
            Class::Latest { .. } | Class::Reply { .. } => {
                panic!("{:?} is of no stream", self.class)
            }
        };
        serde_json::to_vec(&(class, &self.items)).ok()
    }

    fn restore(stored: &[u8]) -> Option<Self> {
        let ((kind, stream), items): ((u8, u64), Vec<u64>) = serde_json::from_slice(stored).ok()?;
        let class = match kind {
            0 => Class::Durable { stream },
            1 => Class::Coalesce { stream },
            _ => Class::Paced { stream },
        };
        Some(Self { class, items })
    }
}

fn spooled(disk: &BTreeMap<u64, Vec<u8>>, first: u64) -> Spooled<Item> {
    let next = disk.last_key_value().map_or(first, |(seq, _)| seq + 1);
    Spooled {
        epoch: Epoch(7),
        first,
        next,
        read: read(disk, first, next, OUTBOX / 4),
        store: Item::store,
    }
}

fn read(disk: &BTreeMap<u64, Vec<u8>>, from: u64, upto: u64, bytes: usize) -> Read<Item> {
    let mut messages = Vec::new();
    let mut reached = from;
    let mut size = 0;
    for (seq, stored) in disk.range(from..upto) {
        if size >= bytes {
            break;
        }
        let item = Item::restore(stored).expect("what was written");
        size += item.size();
        messages.push((*seq, item));
        reached = seq + 1;
    }
    Read {
        from,
        upto: if size < bytes { upto } else { reached },
        messages,
    }
}

#[derive(Debug)]
struct Socket {
    conn: ConnId,
    /// The network swallows everything from now on and says nothing.
    dead: bool,
    greeted: bool,
    in_flight: Vec<TextFrame>,
    /// Written, and not read by the far end yet: lost when the connection dies.
    under_way: VecDeque<TextFrame>,
    far: Option<Reader>,
    traffic: Traffic,
}

struct World {
    link: Link<Item>,
    random: Jitter,
    now: Now,
    calm: bool,
    agenda: BTreeMap<(Instant, u64), Event>,
    planned: u64,
    dialling: Option<ConnId>,
    socket: Option<Socket>,
    answers_pings: bool,
    next_item: BTreeMap<u64, u64>,
    /// A producer whose message was not admitted waits with it.
    waiting: Option<Item>,
    arrived: BTreeMap<u64, Vec<u64>>,
    /// The disk, if there is a spool: numbers and what was written down under them.
    disk: Option<BTreeMap<u64, Vec<u8>>>,
    /// Whether it takes nothing any more after a while.
    disk_fails: bool,
    acked: u64,
    last_number: u64,
    /// Not on the disk yet: lost when the process dies.
    unwritten: Vec<Record>,
    /// Whether connections have the envelope, and up to where the far end has stored.
    extended: bool,
    position: Position,
    /// Taken by the far end and not stored.
    unstored: Vec<(String, Option<Position>)>,
    newest: BTreeMap<u64, u64>,
    arrived_newest: BTreeMap<u64, u64>,
    connections: u64,
    stopped: Option<Flushed>,
}

const OUTBOX: usize = 2000;
const STREAMS: u64 = 3;

impl World {
    fn new(seed: u64) -> Self {
        let now = Now {
            at: Instant::now(),
            boot: Duration::from_secs(1000),
        };
        let limits = Limits {
            outbox: OUTBOX,
            ..Limits::default()
        };
        let greeting = Greeting {
            frames: vec!["greeting".into()],
            ..Greeting::default()
        };
        let mut link = Link::new(
            CloseRules::ctrlnode(),
            Timings::default(),
            &limits,
            greeting,
            Epoch(1),
            now,
        );
        if seed % 4 > 1 {
            link = link.with_spool(spooled(&BTreeMap::new(), 1));
        }
        let mut random = Jitter::seeded(seed);
        let answers_pings = !random.next().is_multiple_of(4);
        Self {
            link,
            random,
            now,
            calm: false,
            agenda: BTreeMap::new(),
            planned: 0,
            dialling: None,
            socket: None,
            answers_pings,
            next_item: BTreeMap::new(),
            waiting: None,
            arrived: BTreeMap::new(),
            disk: (seed % 4 > 1).then(BTreeMap::new),
            disk_fails: seed % 16 > 13,
            acked: 0,
            last_number: 0,
            unwritten: Vec::new(),
            extended: seed % 2 == 1,
            position: Position::default(),
            unstored: Vec::new(),
            newest: BTreeMap::new(),
            arrived_newest: BTreeMap::new(),
            connections: 0,
            stopped: None,
        }
    }

    /// Runs half an hour of trouble and then a calm end; returns a digest of what happened.
    fn run(mut self) -> (u64, Vec<usize>, Duration) {
        let began = self.now.at;
        self.begin();
        self.perform();
        for _ in 0..3000 {
            self.step();
        }
        self.calm = true;
        for stream in 0..STREAMS {
            self.produce(Class::Durable { stream });
        }
        while self.waiting.is_some() || !self.link.outbox.is_empty() {
            self.step();
        }
        // What has no number and was lost with its connection is said anew by the embedder.
        for slot in 0..STREAMS {
            self.produce(Class::Latest { slot });
        }
        self.input(Input::Drain {
            limit: Duration::from_secs(3600),
        });
        while self.stopped.is_none() {
            self.step();
        }
        assert_eq!(self.stopped, Some(Flushed::Everything));
        for (stream, next) in &self.next_item {
            let expected: Vec<u64> = (0..*next).collect();
            assert_eq!(self.arrived.get(stream), Some(&expected), "stream {stream}");
        }
        assert_eq!(self.arrived_newest, self.newest);
        assert_eq!(self.link.outbox.held(), (0, 0));
        assert_eq!((self.link.writer.len(), self.link.writer.bytes()), (0, 0));
        let sizes = self.arrived.values().map(Vec::len).collect();
        (self.connections, sizes, self.now.at - began)
    }

    fn begin(&mut self) {
        self.plan(10, Event::Produce);
        self.plan(60_000, Event::Credential);
        self.plan(600_000, Event::Sleep);
        if self.disk.is_some() && self.disk_fails {
            self.plan(600_000, Event::SpoolLost);
        } else if self.disk.is_some() && self.extended {
            self.plan(300_000, Event::Crash);
        }
    }

    fn step(&mut self) {
        let deadline = self.link.deadline().map(|(at, _)| at);
        let event = self.agenda.first_key_value().map(|(key, _)| *key);
        match event {
            Some((at, _)) if deadline.is_none_or(|deadline| at <= deadline) => {
                self.pass_until(at);
                if let Some((_, event)) = self.agenda.pop_first() {
                    self.on_event(event);
                }
            }
            Some(_) | None => {
                self.pass_until(deadline.expect("a running link waits for something"));
                if let Some(socket) = &self.socket {
                    self.input(Input::Traffic(socket.traffic));
                }
                self.input(Input::Timeout);
            }
        }
        if let Some(item) = self.waiting.take() {
            self.push(item);
        }
    }

    fn pass_until(&mut self, at: Instant) {
        let passed = at.saturating_duration_since(self.now.at);
        self.now.at += passed;
        self.now.boot += passed;
    }

    fn plan(&mut self, within_millis: u64, event: Event) {
        let delay = self.random.next() % within_millis.max(1);
        self.planned += 1;
        self.agenda.insert(
            (self.now.at + Duration::from_millis(delay), self.planned),
            event,
        );
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.random.next() % 100 < percent
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Dialled(conn) if self.dialling == Some(conn) => self.on_dialled(conn),
            Event::Wrote(conn) if self.is_alive(conn) => {
                self.move_bytes();
                // After sleep the link leaves the connection before it hears of the write.
                let confirmed = !self.link.slept(self.now);
                let socket = self.socket.as_mut();
                let frames = socket.map(|socket| std::mem::take(&mut socket.in_flight));
                match &mut self.socket {
                    Some(socket) if self.extended => {
                        socket.under_way.extend(frames.unwrap_or_default());
                        self.plan(200, Event::Read(conn));
                    }
                    Some(_) | None if confirmed => self.arrive(&frames.unwrap_or_default()),
                    Some(_) | None => {}
                }
                self.input(Input::Wrote { conn });
            }
            Event::Read(conn) if self.is_alive(conn) => self.read(conn),
            // What one end says arrives in its order.
            Event::Said(conn, Said::Ack(_))
                if self.is_alive(conn) && !self.link.writer.is_resumed() =>
            {
                self.plan(100, Event::Said(conn, Said::Ack(self.position)));
            }
            Event::Said(conn, said) if self.is_alive(conn) => {
                self.move_bytes();
                let text = match said {
                    Said::Resume(position) => position.resume(),
                    Said::Ack(position) => position.ack(),
                };
                self.input(Input::Frame {
                    conn,
                    text: text.into(),
                });
            }
            Event::Pong(conn, id) if self.is_alive(conn) => {
                self.move_bytes();
                self.input(Input::Pong { conn, id });
            }
            Event::Command(conn) if self.is_alive(conn) => {
                self.move_bytes();
                self.input(Input::Frame {
                    conn,
                    text: Bytes::from_static(b"{}"),
                });
                self.plan(20_000, Event::Command(conn));
                self.produce(Class::Reply { conn });
            }
            Event::Trouble(conn) if self.is_alive(conn) && !self.calm => self.on_trouble(conn),
            Event::Appended(upto) => {
                if upto == self.last_number {
                    let written = std::mem::take(&mut self.unwritten);
                    if let Some(disk) = &mut self.disk {
                        disk.extend(written.into_iter().map(|it| (it.seq, it.stored)));
                    }
                    if self.disk.is_some() {
                        self.input(Input::Appended { upto });
                    }
                }
            }
            Event::DiskRead(from, upto, bytes) => {
                let disk = self.disk.as_ref();
                if let Some(disk) = disk {
                    let read = read(disk, from, upto, bytes);
                    self.input(Input::Read(read));
                }
            }
            Event::Crash if !self.calm => self.crash(),
            // The driver goes on trying as long as something is on the disk alone.
            Event::SpoolLost if !self.link.is_all_here() => self.plan(1000, Event::SpoolLost),
            Event::SpoolLost => {
                self.disk = None;
                self.unwritten.clear();
                let epoch = Epoch(8);
                self.input(Input::SpoolLost { epoch });
            }
            Event::Credential => {
                self.input(Input::CredentialChanged);
                self.plan(300_000, Event::Credential);
            }
            Event::Sleep if !self.calm => {
                let hours = Duration::from_secs(3 * 3600);
                self.now.boot += hours;
                if self.chance(50) {
                    self.now.at += hours;
                }
                self.plan(600_000, Event::Sleep);
            }
            Event::Produce if !self.calm => {
                let stream = self.random.next() % STREAMS;
                let class = match self.random.next() % 10 {
                    0 => Class::Durable { stream },
                    1 => Class::Latest { slot: stream },
                    2..5 => Class::Coalesce { stream },
                    _ => Class::Paced { stream },
                };
                self.produce(class);
                // Now and then a burst, so that increments meet within their pace.
                let within = if self.chance(50) { 40 } else { 4000 };
                self.plan(within, Event::Produce);
            }
            // Late news of the network, which the link must not need; some of it is told anyway.
            Event::Wrote(conn) => self.input(Input::Wrote {
                conn: ConnId(conn.0 - 1),
            }),
            Event::Dialled(_)
            | Event::Pong(..)
            | Event::Trouble(_)
            | Event::Command(_)
            | Event::Read(_)
            | Event::Said(..)
            | Event::Crash
            | Event::Sleep
            | Event::Produce => {}
        }
    }

    fn on_dialled(&mut self, conn: ConnId) {
        self.dialling = None;
        let failure = if self.calm {
            100
        } else {
            self.random.next() % 100
        };
        let disposition = match failure {
            0..20 => Disposition::Retry,
            20..24 => Disposition::RetryAfter(Duration::from_secs(self.random.next())),
            24..27 => Disposition::NeedsNewToken,
            27..30 => Disposition::RetryFor(Duration::from_secs(180)),
            _ => {
                let traffic = Traffic {
                    received: self.now.at,
                    sent: self.now.at,
                };
                let in_flight = Vec::new();
                self.socket = Some(Socket {
                    conn,
                    dead: false,
                    greeted: false,
                    in_flight,
                    under_way: VecDeque::new(),
                    far: None,
                    traffic,
                });
                self.connections += 1;
                self.plan(90_000, Event::Trouble(conn));
                self.plan(20_000, Event::Command(conn));
                if self.extended {
                    self.store();
                    let far = Reader::new(self.position, 1 << 20);
                    self.socket
                        .iter_mut()
                        .for_each(|socket| socket.far = Some(far.clone()));
                    self.plan(500, Event::Said(conn, Said::Resume(self.position)));
                }
                self.input(Input::Opened {
                    conn,
                    extended: self.extended,
                });
                return;
            }
        };
        self.input(Input::DialFailed {
            conn,
            disposition,
            reason: "refused".to_owned(),
        });
    }

    fn on_trouble(&mut self, conn: ConnId) {
        let code = match self.random.next() % 8 {
            0..3 => {
                if let Some(socket) = &mut self.socket {
                    socket.dead = true;
                }
                // TCP gives up in the end, if the link did not before.
                self.plan(1_000_000, Event::Trouble(conn));
                return;
            }
            3 => 1008,
            4 => 1002,
            5 => 1012,
            _ => 1006,
        };
        self.socket = None;
        let reason = CloseReason::Code {
            code,
            reason: String::new(),
        };
        self.input(Input::Closed { conn, reason });
    }

    fn produce(&mut self, class: Class) {
        if self.waiting.is_some() {
            return;
        }
        let item = match class {
            Class::Durable { stream } | Class::Coalesce { stream } | Class::Paced { stream } => {
                let next = self.next_item.entry(stream).or_default();
                *next += 1;
                *next - 1
            }
            Class::Latest { slot } => {
                let value = self.random.next();
                self.newest.insert(slot, value);
                value
            }
            Class::Reply { .. } => 0,
        };
        self.push(Item {
            class,
            items: vec![item],
        });
    }

    fn push(&mut self, item: Item) {
        let random = self.random.next();
        let class = item.class;
        match self.link.handle(self.now, random, Input::Push(item)) {
            Ok(()) => {
                let held = self.link.outbox.held().1 + self.link.writer.bytes();
                let bounded = matches!(class, Class::Coalesce { .. } | Class::Paced { .. });
                assert!(!bounded || held <= OUTBOX, "{held} bytes held");
            }
            Err(Full(item)) => {
                let patient = matches!(
                    class,
                    Class::Coalesce { .. } | Class::Paced { .. } | Class::Reply { .. }
                );
                assert!(patient, "{class:?} had to wait");
                self.waiting = Some(item);
            }
        }
        self.perform();
    }

    fn input(&mut self, input: Input<Item>) {
        let random = self.random.next();
        self.link
            .handle(self.now, random, input)
            .expect("only a push can be refused");
        self.perform();
    }

    fn perform(&mut self) {
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
                    if self.answers_pings {
                        self.plan(400, Event::Pong(conn, id));
                    }
                }
                Action::HangUp { conn, code } => {
                    if self.extended && code == Some(NORMAL_CLOSURE) {
                        self.read(conn);
                        self.store();
                    }
                    self.dialling.take_if(|dialling| *dialling == conn);
                    self.socket.take_if(|socket| socket.conn == conn);
                }
                Action::Stopped(flushed) => self.stopped = Some(flushed),
                Action::Append { records } => self.append(records),
                Action::Read { from, upto, bytes } => {
                    self.plan(5, Event::DiskRead(from, upto, bytes));
                }
                Action::Trim { upto } => {
                    self.acked = self.acked.max(upto);
                    if let Some(disk) = &mut self.disk {
                        disk.retain(|seq, _| *seq > upto);
                    }
                }
                Action::Deliver(Inbound::Gap { gap, .. }) => panic!("{gap:?}"),
                Action::Deliver(_) | Action::State(_) => {}
            }
        }
    }

    fn on_write(&mut self, conn: ConnId, frames: Vec<TextFrame>) {
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
        for frame in frames.iter().filter(|_| !self.extended) {
            let is_answer = frame.as_str().starts_with('r');
            assert!(
                !is_answer || frame.as_str() == answer_to,
                "answer on another connection"
            );
        }
        socket.in_flight = frames;
        self.plan(1500, Event::Wrote(conn));
    }

    /// Written down soon; now and then the disk needs a while.
    fn append(&mut self, records: Vec<Record>) {
        for record in records {
            assert_eq!(record.seq, self.last_number + 1, "numbers are dense");
            self.last_number = record.seq;
            self.unwritten.push(record);
        }
        let within = if self.chance(10) { 5000 } else { 1 };
        self.plan(within, Event::Appended(self.last_number));
    }

    /// What was written down and what arrived is a beginning of what was pushed; the producers go
    /// on behind it.
    fn crash(&mut self) {
        let limits = Limits {
            outbox: OUTBOX,
            ..Limits::default()
        };
        let greeting = Greeting {
            frames: vec!["greeting".into()],
            ..Greeting::default()
        };
        self.store();
        let disk = self.disk.clone().expect("only one with a spool dies");
        self.unwritten.clear();
        let last = disk.last_key_value().map(|(seq, _)| *seq);
        self.last_number = last.unwrap_or(self.acked);
        let mut survived: BTreeMap<u64, u64> = BTreeMap::new();
        for (stream, items) in &self.arrived {
            survived.insert(*stream, items.len() as u64);
        }
        for stored in disk.values() {
            let item = Item::restore(stored).expect("what was written");
            if let Some(stream) = item.class.stream() {
                let next = survived.entry(stream).or_default();
                for number in item.items {
                    assert!(number <= *next, "a hole in what was written down");
                    *next = (*next).max(number + 1);
                }
            }
        }
        self.next_item = survived;
        self.waiting = None;
        self.dialling = None;
        self.socket = None;
        let link = Link::new(
            CloseRules::ctrlnode(),
            Timings::default(),
            &limits,
            greeting,
            Epoch(99),
            self.now,
        );
        self.link = link.with_spool(spooled(&disk, self.acked + 1));
        // The new life counts its connections anew; the network knows none of the old ones.
        self.agenda.clear();
        self.begin();
        self.perform();
    }

    /// The far end of an envelope takes what is there, stores it now and then, dies now and then.
    fn read(&mut self, conn: ConnId) {
        let Some(Socket {
            under_way,
            far: Some(reader),
            ..
        }) = &mut self.socket
        else {
            return;
        };
        for frame in std::mem::take(under_way) {
            match reader.hear(frame.as_str()).expect("no rule is broken") {
                Heard::Message { texts, upto } => {
                    for text in texts {
                        let answer = text.starts_with('r');
                        assert!(
                            !answer || *text == format!("r {conn} 0"),
                            "{text} on {conn}"
                        );
                        self.unstored.push((text.into_owned(), upto));
                    }
                }
                Heard::Nothing => {}
                other @ (Heard::Gap { .. } | Heard::Resume { .. } | Heard::Ack { .. }) => {
                    panic!("{other:?}")
                }
            }
        }
        if !self.calm && self.chance(3) {
            self.unstored.clear();
            self.socket = None;
            let reason = CloseReason::Lost("the far end died".to_owned());
            self.input(Input::Closed { conn, reason });
        } else if self.chance(70) {
            self.store();
            self.plan(300, Event::Said(conn, Said::Ack(self.position)));
        } else {
            self.plan(200, Event::Read(conn));
        }
    }

    /// A connection that died without the far end: it stores what it has.
    fn store(&mut self) {
        for (text, upto) in std::mem::take(&mut self.unstored) {
            self.arrive(&[text.as_str().into()]);
            self.position = upto.unwrap_or(self.position);
        }
    }

    fn arrive(&mut self, frames: &[TextFrame]) {
        for frame in frames {
            let words: Vec<&str> = frame.as_str().split(' ').collect();
            match words.as_slice() {
                ["s", stream, item] => {
                    let items = self.arrived.entry(stream.parse().unwrap()).or_default();
                    let item = item.parse().unwrap();
                    // What was numbered anew comes again; a store knows what it has.
                    let known = self.disk_fails && item < items.len() as u64;
                    if !known {
                        items.push(item);
                    }
                }
                ["l", slot, value] => {
                    self.arrived_newest
                        .insert(slot.parse().unwrap(), value.parse().unwrap());
                }
                ["r", ..] | ["greeting"] => {}
                other => panic!("unknown frame {other:?}"),
            }
        }
    }

    fn is_alive(&self, conn: ConnId) -> bool {
        self.socket
            .as_ref()
            .is_some_and(|socket| socket.conn == conn && !socket.dead)
    }

    fn move_bytes(&mut self) {
        if let Some(socket) = &mut self.socket {
            socket.traffic = Traffic {
                received: self.now.at,
                sent: self.now.at,
            };
        }
    }
}
