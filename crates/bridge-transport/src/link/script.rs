//! A script of inputs to a link, from any bytes: what happens to it, and what must never.
//!
//! The driver of the script keeps its side of the contract, as the real one does: it confirms only
//! writes that were asked for and numbers that were to be appended. Everything else is up to the
//! bytes: which connection an input names, what frames say, when time passes and how.

use std::time::{Duration, Instant};

use super::{Action, Input, Link, ReadBack, Record, Spooled};
use crate::{
    carrier::Traffic,
    clock::Now,
    config::{Limits, Rate, Timings},
    delivery::{Epoch, Position},
    dial::Disposition,
    inbound::{CloseReason, ConnId, FrameRefused},
    link::close::CloseRules,
    payload::{Class, Frames, Greeting, Payload},
    state::Phase,
};

/// Runs a script.
///
/// # Panics
/// Panics when the link breaks a promise.
pub fn run(script: &[u8]) {
    let mut bytes = Bytes(script);
    let mut driver = Driver::new(bytes.next());
    driver.perform();
    while !bytes.0.is_empty() && !driver.stopped {
        driver.step(&mut bytes);
    }
    driver.end();
}

/// Scripts in which things happen, to begin with.
pub fn examples() -> Vec<Vec<u8>> {
    let resume = Position::default().resume();
    let ack = "{\"delivery\":\"ack\",\"seq\":1}";
    let frame = |text: &str| {
        let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
        let mut op = vec![3, 0, length];
        op.extend(text.as_bytes());
        op
    };
    let plain = vec![
        0, 0, 0, 5, 1, 0, 0, 6, 0, 6, 0, 13, 5, 0, 0, 0, 1, 9, 6, 0, 7, 0, 3, 238, 13, 13, 1, 0, 0,
        6, 0, 6, 0, 13, 5, 0, 0, 11, 5, 6, 0, 5, 0, 0,
    ];
    let spooled = vec![
        1, 0, 0, 5, 8, 1, 0, 0, 6, 0, 6, 0, 13, 5, 0, 0, 0, 0, 7, 8, 6, 0, 9, 13, 13, 1, 0, 0, 6,
        0, 6, 0, 11, 2, 13, 13, 13,
    ];
    let mut extended = vec![1, 0, 0, 5, 8, 1, 0, 1, 6, 0];
    extended.extend(frame(&resume));
    extended.extend([6, 0, 0, 2, 40, 8, 6, 0]);
    extended.extend(frame(ack));
    extended.extend([
        7, 0, 4, 0, 13, 1, 0, 0, 6, 0, 6, 0, 13, 5, 0, 0, 14, 200, 13, 13,
    ]);
    vec![plain, spooled, extended]
}

/// What means something in a script.
pub const WORDS: &[&[u8]] = &[
    &[0, 0, 9],
    &[0, 4, 9],
    &[1, 0, 0],
    &[1, 0, 1],
    &[6, 0],
    &[8],
    &[9],
    &[11, 3],
    &[13],
    &[13, 13, 13],
    &[5, 0, 0],
    &[7, 0, 3, 241],
    &[14, 255],
    b"{\"delivery\":\"ack\",\"seq\":2}",
    b"{\"delivery\":\"resume\",\"epoch\":null,\"last\":0}",
    b"{\"seq\":1,\"messages\":[\"a\"]}",
    b"{\"part\":0,\"more\":true,\"id\":1,\"text\":\"a\"}",
];

struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    fn text(&mut self) -> String {
        let length = usize::from(self.next()).min(self.0.len());
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        String::from_utf8_lossy(text).into_owned()
    }
}

/// A message of this length.
#[derive(Debug)]
struct Note(Class, usize);

impl Payload for Note {
    fn class(&self) -> Class {
        self.0
    }
    fn size(&self) -> usize {
        self.1
    }
    fn absorb(&mut self, next: Self) -> Result<(), Self> {
        self.1 += next.1;
        Ok(())
    }
    fn seal(&self, _extended: bool) -> Frames {
        // Now and then there is nothing to say to a peer.
        let frames = usize::from(self.1 != 7);
        vec!["x".repeat(self.1).into(); frames].into()
    }
}

struct Driver {
    link: Link<Note>,
    now: Now,
    random: u64,
    dialled: u64,
    dialling: Option<ConnId>,
    open: Option<ConnId>,
    writing: bool,
    pinged: u64,
    /// What the disk was asked for.
    wanted: Option<(u64, u64)>,
    /// What is to be appended, and the last number that was.
    appending: Option<u64>,
    appended: Option<u64>,
    trimmed: u64,
    stopped: bool,
}

impl Driver {
    fn new(options: u8) -> Self {
        let now = Now {
            at: Instant::now(),
            boot: Duration::from_secs(1000),
        };
        let limits = Limits {
            outbox: OUTBOX,
            frame: 200,
            useless: Rate {
                each_second: 1,
                burst: 10,
            },
            frames: Rate {
                each_second: 10,
                burst: 20,
            },
            ..Limits::default()
        };
        let greeting = Greeting {
            frames: vec!["greeting".into()],
            ..Greeting::default()
        };
        let (rules, timings) = (CloseRules::ctrlnode(), Timings::default());
        let mut link = Link::new(rules, timings, &limits, greeting, Epoch(1), now);
        let spool = options % 2 == 1;
        if spool {
            let class = Class::Durable { stream: 1 };
            link = link.with_spool(Spooled {
                epoch: Epoch(7),
                first: 3,
                next: 6,
                read: ReadBack {
                    from: 3,
                    upto: 6,
                    messages: vec![(3, Note(class, 10)), (5, Note(class, 20))],
                },
                store: |note| (note.1 != 7).then(|| vec![0; note.1].into()),
                expired: None,
            });
        }
        Self {
            link,
            now,
            random: 0,
            dialled: 0,
            dialling: None,
            open: None,
            writing: false,
            pinged: 0,
            appending: None,
            wanted: None,
            appended: spool.then_some(5),
            trimmed: 2,
            stopped: false,
        }
    }

    fn step(&mut self, bytes: &mut Bytes<'_>) {
        match bytes.next() % 19 {
            0 => {
                let class = self.class(bytes);
                let length = usize::from(bytes.next());
                self.push(Note(class, length));
            }
            1 => {
                let conn = self.conn(bytes);
                let extended = bytes.next() % 2 == 1;
                if self.dialling.take_if(|it| *it == conn).is_some() {
                    (self.open, self.writing) = (Some(conn), false);
                }
                self.input(Input::Opened { conn, extended });
            }
            2 => {
                let conn = self.conn(bytes);
                let disposition = match bytes.next() % 4 {
                    0 => Disposition::Retry,
                    1 => Disposition::RetryAfter(Duration::from_secs(u64::from(bytes.next()))),
                    2 => Disposition::RetryFor(Duration::from_secs(1)),
                    _ => Disposition::NeedsNewToken,
                };
                self.dialling.take_if(|dialling| *dialling == conn);
                let reason = "refused".to_owned();
                self.input(Input::DialFailed {
                    conn,
                    disposition,
                    reason,
                });
            }
            3 => {
                let conn = self.conn(bytes);
                let text = bytes.text().into();
                self.input(Input::Frame { conn, text });
            }
            4 => {
                let conn = self.conn(bytes);
                let reason = FrameRefused::NotUtf8;
                self.input(Input::Refused { conn, reason });
            }
            5 => {
                let conn = self.conn(bytes);
                let id = match bytes.next() {
                    255 => u64::MAX,
                    before => self.pinged.saturating_sub(u64::from(before)),
                };
                self.input(Input::Pong { conn, id });
            }
            6 => {
                let conn = self.conn(bytes);
                if self.open != Some(conn) || std::mem::take(&mut self.writing) {
                    self.input(Input::Wrote { conn });
                }
            }
            7 => {
                let conn = self.conn(bytes);
                let code = u16::from_be_bytes([bytes.next(), bytes.next()]);
                let reason = String::new();
                self.open.take_if(|open| *open == conn);
                let reason = CloseReason::Code { code, reason };
                self.input(Input::Closed { conn, reason });
            }
            8 => {
                if let Some(upto) = self.appending.take() {
                    self.input(Input::Appended { upto });
                }
            }
            9 => {
                // The driver goes on trying as long as something is on the disk alone.
                if self.link.is_all_here() && self.appended.take().is_some() {
                    self.appending = None;
                    self.input(Input::SpoolLost { epoch: Epoch(8) });
                }
            }
            10 => self.input(Input::CredentialChanged),
            11 => {
                let limit = Duration::from_secs(u64::from(bytes.next()));
                self.input(Input::Drain { limit });
            }
            12 => {
                self.pass(Duration::from_millis(u64::from(bytes.next()) * 20));
                self.input(Input::Timeout);
            }
            13 => self.on_deadline(),
            14 => {
                let jump = Duration::from_secs(u64::from(bytes.next()) * 60);
                match bytes.next() % 3 {
                    0 => self.now.boot += jump,
                    1 => self.pass(jump),
                    _ => self.now.boot = self.now.boot.saturating_sub(jump),
                }
                self.input(Input::Timeout);
            }
            15 => {
                let reading = bytes.next() % 2 == 1;
                self.input(Input::Reading { reading });
            }
            16 => {
                let conn = self.conn(bytes);
                self.input(Input::Useless { conn });
            }
            17 => {
                if let Some((from, upto)) = self.wanted.take() {
                    let upto = upto.min(from + 1 + u64::from(bytes.next()));
                    let class = self.class(bytes);
                    // What is not there has no stream.
                    let messages = (from..upto).map(|seq| (seq, Note(class, 10))).collect();
                    self.input(Input::Read(ReadBack {
                        from,
                        upto,
                        messages,
                    }));
                }
            }
            _ => {
                let (received, sent) = (self.now.at, self.now.at);
                self.input(Input::Traffic(Traffic { received, sent }));
            }
        }
    }

    fn class(&self, bytes: &mut Bytes<'_>) -> Class {
        let kind = bytes.next();
        let stream = u64::from(kind / 5 % 3);
        match kind % 5 {
            0 => Class::Durable { stream },
            1 => Class::Coalesce { stream },
            2 => Class::Paced { stream },
            3 => Class::Latest { slot: stream },
            _ => Class::Reply {
                conn: ConnId(self.dialled),
            },
        }
    }

    /// The newest connection, or one before it, or one that never was.
    fn conn(&self, bytes: &mut Bytes<'_>) -> ConnId {
        match bytes.next() {
            255 => ConnId(u64::MAX),
            before => ConnId(self.dialled.saturating_sub(u64::from(before % 4))),
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now.at += time;
        self.now.boot += time;
    }

    /// Lets the deadline come, and those that come with it: there is an end to them.
    fn on_deadline(&mut self) {
        for _ in 0..MOST_AT_ONCE {
            let Some((at, _)) = self.link.deadline() else {
                assert!(self.stopped, "a running link waits for something");
                return;
            };
            let passed = at.saturating_duration_since(self.now.at);
            self.pass(passed);
            self.input(Input::Timeout);
            if self.link.deadline().is_none_or(|(at, _)| at > self.now.at) {
                return;
            }
        }
        panic!(
            "it asks for the same moment without end: {:?}",
            self.link.deadline()
        );
    }

    fn push(&mut self, note: Note) {
        let (class, size) = (note.0, note.1);
        let before = self.link.outbox.held().1 + self.link.writer.bytes();
        self.random = self.random.wrapping_add(STEP);
        let refused = self
            .link
            .handle(self.now, self.random, Input::Push([note].into()));
        match class {
            Class::Durable { .. } | Class::Latest { .. } => assert!(refused.is_ok(), "{class:?}"),
            Class::Coalesce { .. } | Class::Paced { .. } => assert!(
                refused.is_err() || before == 0 || before + size <= OUTBOX,
                "{size} more than {before} bytes were taken"
            ),
            // One to a connection that is gone is taken and dropped.
            Class::Reply { .. } => {}
        }
        self.perform();
    }

    fn input(&mut self, input: Input<Note>) {
        if self.stopped {
            return;
        }
        self.random = self.random.wrapping_add(STEP);
        let taken = self.link.handle(self.now, self.random, input);
        assert!(taken.is_ok(), "only a push can be refused");
        self.perform();
    }

    fn perform(&mut self) {
        while let Some(action) = self.link.next_action() {
            assert!(!self.stopped, "{action:?} after the end");
            match action {
                Action::Dial { conn, .. } => {
                    assert!(conn.0 > self.dialled, "{conn} again");
                    assert!(self.dialling.is_none() && self.open.is_none(), "{conn}");
                    (self.dialled, self.dialling) = (conn.0, Some(conn));
                }
                Action::Write { conn, frames } => {
                    assert!(self.open == Some(conn) && !self.writing, "{conn}");
                    assert!(!frames.is_empty());
                    self.writing = true;
                }
                Action::Ping { conn, id } => {
                    assert_eq!(self.open, Some(conn));
                    assert!(id > self.pinged);
                    self.pinged = id;
                }
                Action::HangUp { conn, .. } => {
                    self.dialling.take_if(|dialling| *dialling == conn);
                    self.open.take_if(|open| *open == conn);
                }
                Action::Append { records } => self.append(&records),
                Action::Read { from, upto, .. } => {
                    assert!(self.wanted.is_none(), "two at a time");
                    let last = self.appended.expect("there is a spool");
                    assert!(
                        from < upto && upto <= last + 1,
                        "{from} to {upto} of {last}"
                    );
                    self.wanted = Some((from, upto));
                }
                Action::Trim { upto } => {
                    assert!(upto > self.trimmed, "{upto} after {}", self.trimmed);
                    self.trimmed = upto;
                }
                Action::State(state) => {
                    let proven = self.link.liveness.is_proven(self.now.at);
                    assert!(state.phase != Phase::Online || proven);
                }
                Action::Deliver(_) => {}
                Action::Stopped(_) => self.stopped = true,
            }
        }
    }

    fn append(&mut self, records: &[Record]) {
        assert!(self.appending.is_none(), "two at a time");
        for record in records {
            let last = self.appended.as_mut().expect("there is a spool");
            *last += 1;
            assert_eq!(record.seq, *last, "numbers are dense");
        }
        self.appending = self.appended;
    }

    /// Whatever happened, it can be ended.
    fn end(mut self) {
        let limit = Duration::from_secs(5);
        self.input(Input::Drain { limit });
        let begun = self.now.at;
        while !self.stopped {
            self.on_deadline();
            assert!(self.now.at <= begun + limit, "it does not end");
        }
        assert_eq!(self.link.deadline(), None);
    }
}

const OUTBOX: usize = 500;
/// Deadlines that may come at one moment.
const MOST_AT_ONCE: usize = 50;
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jitter::Jitter;

    #[test]
    fn examples_and_whatever_else_keep_the_promises_of_the_contract() {
        for example in examples() {
            run(&example);
        }
        let mut random = Jitter::seeded(1);
        for _ in 0..2000 {
            let length = random.next() % 400;
            let script = (0..length).flat_map(|_| {
                let word = random.next();
                let small = !word.is_multiple_of(3);
                let byte = word.to_be_bytes()[0];
                [if small { byte % 20 } else { byte }]
            });
            let script: Vec<u8> = script.collect();
            run(&script);
        }
    }
}
