//! Whole histories of a link against a hostile network, from a seed, in virtual time.
//!
//! The network refuses, drops, stalls, falls silent, dies in one direction, confirms writes that
//! die with their connection, tells of closes when nobody asks any more, ends connections over frames
//! that are too long for it (1009), and lets the machine sleep for three hours. The far end reads in
//! order, answers pings when it has read what came before, knows the envelope or not, or changes its
//! mind; with the envelope it may die with what it has not stored. With a spool this process dies as
//! well, and what was written down arrives, but for what has waited there for too long; or the disk
//! takes nothing any more.
//!
//! A [model](model) says what must have arrived: everything pushed to a stream, in order, once with
//! the envelope; without it terminal messages at least once and text unless a connection took it
//! with it; answers only on their own connection; the newest of every slot; the greeting first; and
//! nothing is given up but what a plain far end does not take for its length, and that is told. A
//! failure prints its seed, and the command that tells its history.

mod actions;
mod disk;
mod item;
mod model;
mod network;

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;

use self::{
    disk::spooled,
    item::Item,
    model::{Model, Promise},
    network::{Fate, Socket},
};
use super::*;
use crate::{handle::Flushed, jitter::Jitter, payload::Class};

/// One of the tests below, each with its share of the seeds.
fn histories(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let history = std::panic::catch_unwind(|| World::new(seed).run());
        assert!(
            history.is_ok(),
            "history of seed {seed} broke a promise; `cargo xtask sim --seed {seed}` tells it"
        );
    }
}

#[test]
fn everything_promised_arrives_whatever_the_network_does_1() {
    histories(0..256);
}

#[test]
fn everything_promised_arrives_whatever_the_network_does_2() {
    histories(256..512);
}

#[test]
fn everything_promised_arrives_whatever_the_network_does_3() {
    histories(512..768);
}

#[test]
fn everything_promised_arrives_whatever_the_network_does_4() {
    histories(768..1024);
}

#[test]
fn the_same_seed_tells_the_same_history() {
    let digest = |seed| World::new(seed).run();
    assert_eq!(digest(7), digest(7));
    assert_ne!(digest(7), digest(8));
}

/// `cargo xtask sim --seed N` runs this one.
#[test]
fn the_history_that_was_asked_for_keeps_its_promises() {
    let Ok(seed) = std::env::var("CTRLNODE_SIM_SEED") else {
        return;
    };
    let seed = seed.parse().expect("a seed is a number");
    let mut world = World::new(seed);
    world.aloud = true;
    world.run();
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
    FarReads(ConnId),
    /// Something the far end said arrives.
    Said(ConnId, Said),
    /// The end of a connection that was left long ago is told, with a code.
    LateClose(ConnId, u16),
    /// The disk has taken what was to be written down.
    Appended(u64),
    /// The disk gives what it was asked for.
    DiskGives(u64, u64, usize),
    /// This process dies, and another goes on.
    Crash,
    /// The disk takes nothing any more.
    SpoolLost,
    /// The oldest on the disk has waited for too long.
    Expire,
    Credential,
    Sleep,
    /// The process stood still for a moment, or a clock was set.
    Jump,
    Produce,
}

struct World {
    link: Link<Item>,
    random: Jitter,
    now: Now,
    began: Instant,
    /// Whether the history is told as it goes.
    aloud: bool,
    calm: bool,
    agenda: BTreeMap<(Instant, u64), Event>,
    planned: u64,
    dialling: Option<ConnId>,
    socket: Option<Socket>,
    answers_pings: bool,
    /// A producer whose message was not admitted waits with it.
    waiting: Option<Item>,
    model: Model,
    /// The disk, if there is a spool: numbers and what was written down under them.
    disk: Option<BTreeMap<u64, Bytes>>,
    /// Whether it takes nothing any more after a while.
    disk_fails: bool,
    /// Whether what is on it can be too old.
    ages: bool,
    /// Whether there are frames that the way does not take for their length.
    limited: bool,
    /// How many messages of a length of their own there were.
    lengths: usize,
    acked: u64,
    last_number: u64,
    /// Not on the disk yet: lost when the process dies.
    unwritten: Vec<Record>,
    far: Far,
    /// Up to where the far end has stored.
    position: Position,
    /// Taken by the far end and not stored.
    unstored: Vec<(String, Option<Position>)>,
    connections: u64,
    stopped: Option<Flushed>,
}

/// Whether the far end knows the envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Far {
    Plain,
    Extended,
    /// Sometimes: another version now and then.
    Wavering,
}

const OUTBOX: usize = 2000;
const STREAMS: u64 = 3;
/// What a plain far end takes of a frame, if it is limited; a longer message is given up.
const FRAME_LIMIT: usize = 100;
/// What the way to one with the envelope takes, if it is limited; a longer message goes in parts.
const NARROW: usize = 8 << 10;
/// Between the lengths of two messages that are given up, so that they are told apart by it.
const LENGTHS: usize = 32;
/// How many there are of them, so that the longest still fits into the outbox.
const MOST_LONG: usize = 50;

/// One with nothing on its disk.
fn link(epoch: Epoch, now: Now) -> Link<Item> {
    let limits = Limits {
        outbox: OUTBOX,
        ..Limits::default()
    };
    let greeting = Greeting {
        frames: vec!["greeting".into()],
        ..Greeting::default()
    };
    Link::new(
        CloseRules::ctrlnode(),
        Timings::default(),
        &limits,
        greeting,
        epoch,
        now,
    )
}

impl World {
    fn new(seed: u64) -> Self {
        let now = Now {
            at: Instant::now(),
            boot: Duration::from_secs(1000),
        };
        let mut link = link(Epoch(1), now);
        if seed % 4 > 1 {
            link = link.with_spool(spooled(&BTreeMap::new(), 1));
        }
        let mut random = Jitter::seeded(seed);
        let answers_pings = !random.next().is_multiple_of(4);
        let disk_fails = seed % 16 > 13;
        let far = match (seed % 32, seed % 2) {
            (26..30, _) => Far::Wavering,
            (_, 1) => Far::Extended,
            (_, _) => Far::Plain,
        };
        let promise = match far {
            Far::Extended if disk_fails => Promise::AtLeastOnce,
            Far::Extended => Promise::Once,
            Far::Plain | Far::Wavering => Promise::Terminal,
        };
        Self {
            link,
            random,
            now,
            began: now.at,
            aloud: false,
            calm: false,
            agenda: BTreeMap::new(),
            planned: 0,
            dialling: None,
            socket: None,
            answers_pings,
            waiting: None,
            model: Model::new(promise),
            disk: (seed % 4 > 1).then(BTreeMap::new),
            disk_fails,
            ages: matches!(seed % 16, 6 | 7),
            limited: seed % 8 > 3,
            lengths: 0,
            acked: 0,
            last_number: 0,
            unwritten: Vec::new(),
            far,
            position: Position::default(),
            unstored: Vec::new(),
            connections: 0,
            stopped: None,
        }
    }

    /// Runs half an hour of trouble and then a calm end; returns a digest of what happened.
    fn run(mut self) -> (u64, (Vec<usize>, usize), Duration) {
        self.begin();
        self.perform();
        for _ in 0..3000 {
            self.step();
        }
        self.calm_down();
        for stream in 0..STREAMS {
            self.produce(Class::Durable { stream });
        }
        let mut steps = 0;
        while self.waiting.is_some()
            || !self.link.outbox.is_empty()
            || !self.link.writer.is_empty()
            || self.is_unread()
        {
            self.step();
            steps += 1;
            assert!(steps < 100_000, "it does not come to an end");
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
        self.model.check();
        let unproven = self.link.outbox.held().0 > 0;
        assert!(
            !unproven || !self.answers_pings,
            "left before it was proven"
        );
        assert_eq!((self.link.writer.len(), self.link.writer.bytes()), (0, 0));
        let passed = self.now.at - self.began;
        (self.connections, self.model.sizes(), passed)
    }

    fn tell(&self, what: impl FnOnce() -> String) {
        if self.aloud {
            say(self.now.at - self.began, &what());
        }
    }

    fn begin(&mut self) {
        self.plan(10, Event::Produce);
        self.plan(60_000, Event::Credential);
        self.plan(600_000, Event::Sleep);
        self.plan(200_000, Event::Jump);
        if self.disk.is_some() && self.disk_fails {
            self.plan(600_000, Event::SpoolLost);
        } else if self.disk.is_some() {
            self.plan(300_000, Event::Crash);
        }
        if self.ages {
            self.plan(100_000, Event::Expire);
        }
    }

    /// No trouble from now on; a connection that is in some ends.
    fn calm_down(&mut self) {
        self.tell(|| "calm".to_owned());
        self.calm = true;
        let broken = self.socket.as_ref().filter(|it| it.fate != Fate::Works);
        if let Some(conn) = broken.map(|socket| socket.conn) {
            self.end(conn, CloseReason::Lost("reset".to_owned()));
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
            Event::Wrote(conn) if self.fate(conn).is_some_and(|fate| fate != Fate::Stuck) => {
                self.on_wrote(conn);
            }
            Event::FarReads(conn) if self.fate(conn).is_some_and(Fate::carries_out) => {
                self.on_far_reads(conn);
            }
            // What one end says arrives in its order.
            Event::Said(conn, Said::Ack(_))
                if self.fate(conn).is_some() && !self.link.writer.is_resumed() =>
            {
                self.plan(100, Event::Said(conn, Said::Ack(self.position)));
            }
            Event::Said(conn, said) if self.fate(conn).is_some_and(Fate::carries_back) => {
                let text = match said {
                    Said::Resume(position) => position.resume(),
                    Said::Ack(position) => position.ack(),
                };
                self.bring(conn, text.into());
            }
            Event::Pong(conn, id) if self.fate(conn).is_some_and(Fate::carries_back) => {
                self.tell(|| format!("pong {id} on {conn}"));
                self.received();
                self.input(Input::Pong { conn, id });
            }
            Event::Command(conn) if self.fate(conn).is_some_and(Fate::carries_back) => {
                self.bring(conn, Bytes::from_static(b"{}"));
                self.plan(20_000, Event::Command(conn));
                self.produce(Class::Reply { conn });
            }
            Event::Trouble(conn) if self.fate(conn).is_some() && !self.calm => {
                self.on_trouble(conn);
            }
            Event::LateClose(conn, code) => {
                let reason = String::new();
                let reason = CloseReason::Code { code, reason };
                self.input(Input::Closed { conn, reason });
            }
            Event::Appended(upto) => self.on_appended(upto),
            Event::DiskGives(from, upto, bytes) => self.on_disk_gives(from, upto, bytes),
            Event::Crash if !self.calm => self.crash(),
            Event::SpoolLost => self.on_spool_lost(),
            Event::Expire if !self.calm => self.expire(),
            Event::Credential => {
                self.input(Input::CredentialChanged);
                self.plan(300_000, Event::Credential);
            }
            Event::Jump if !self.calm => {
                let moment = Duration::from_millis(self.random.next() % 12_000);
                match self.random.next() % 3 {
                    0 => self.now.boot = self.now.boot.saturating_sub(moment),
                    1 => self.now.boot += moment,
                    _ => self.pass_until(self.now.at + moment),
                }
                self.tell(|| format!("clocks jump by {moment:?}"));
                self.plan(200_000, Event::Jump);
            }
            Event::Sleep if !self.calm => {
                self.tell(|| "sleeps for three hours".to_owned());
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
            | Event::FarReads(_)
            | Event::Said(..)
            | Event::Crash
            | Event::Expire
            | Event::Sleep
            | Event::Jump
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
                self.on_accepted(conn);
                return;
            }
        };
        self.input(Input::DialFailed {
            conn,
            disposition,
            reason: "refused".to_owned(),
        });
    }
}

fn say(passed: Duration, what: &str) {
    println!("{:>12.3} {what}", passed.as_secs_f64());
}
