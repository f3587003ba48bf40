//! What the machine promises of a spool, to peers of either wire.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::super::{
    Action, Epoch, Input, Position, ReadBack, Record, Spooled,
    tests::{Bench, FIRST, Note, SECOND, closed, opened, push},
};
use crate::{
    delivery::Frame,
    inbound::{ConnId, Inbound},
    payload::Class,
};

/// A machine with a disk that does at once what it is asked for.
struct Kept {
    bench: Bench,
    disk: BTreeMap<u64, Bytes>,
    /// What was written to the network.
    sent: Vec<String>,
}

/// Nothing is to be sent of an empty one.
fn store(note: &Note) -> Option<Bytes> {
    (!note.1.is_empty()).then(|| note.1.into())
}

fn note(text: &[u8]) -> Note {
    let text = String::from_utf8(text.to_vec()).unwrap();
    Note(class(&text), text.leak())
}

fn class(text: &str) -> Class {
    if text.starts_with('+') {
        Class::Coalesce { stream: 0 }
    } else {
        Class::Durable { stream: 0 }
    }
}

impl Kept {
    fn new() -> Self {
        let mut bench = Bench::new();
        let (from, upto) = (1, 1);
        let messages = Vec::new();
        bench.link = bench.link.with_spool(Spooled {
            epoch: Epoch(1),
            first: 1,
            next: 1,
            read: ReadBack {
                from,
                upto,
                messages,
            },
            store,
            expired: None,
        });
        Self {
            bench,
            disk: BTreeMap::new(),
            sent: Vec::new(),
        }
    }

    fn push(&mut self, text: &str) {
        self.tell(push(note(text.as_bytes())));
    }

    /// Gives an input, and does what the machine wants of the disk; what it writes is confirmed,
    /// and its pings are answered.
    fn tell(&mut self, input: Input<Note>) {
        let actions = self.bench.tell(input);
        self.perform(actions);
    }

    /// Lets time pass until everything has arrived.
    fn settle(&mut self) {
        while !(self.bench.link.writer.is_empty() && self.bench.link.outbox.is_empty()) {
            let actions = self.bench.step();
            self.perform(actions);
        }
    }

    fn perform(&mut self, actions: Vec<Action>) {
        let mut todo = VecDeque::from([actions]);
        while let Some(actions) = todo.pop_front() {
            let mut inputs = Vec::new();
            for action in actions {
                match action {
                    Action::Append { records } => {
                        let upto = records.last().map_or(0, |record| record.seq);
                        let record = |Record { seq, stored }| (seq, stored);
                        self.disk.extend(records.into_iter().map(record));
                        inputs.push(Input::Appended { upto });
                    }
                    Action::Read { from, upto, bytes } => {
                        inputs.push(Input::Read(self.read(from, upto, bytes)));
                    }
                    Action::Trim { upto } => self.disk.retain(|seq, _| *seq > upto),
                    Action::Write { conn, frames } => {
                        let frames = frames.iter().map(|frame| frame.as_str().to_owned());
                        self.sent.extend(frames);
                        inputs.push(Input::Wrote { conn });
                    }
                    Action::Ping { conn, id } => inputs.push(Input::Pong { conn, id }),
                    Action::Dial { .. }
                    | Action::HangUp { .. }
                    | Action::Deliver(_)
                    | Action::State(_)
                    | Action::Stopped(_) => {}
                }
            }
            for input in inputs {
                todo.push_back(self.bench.tell(input));
            }
        }
    }

    fn read(&self, from: u64, upto: u64, bytes: usize) -> ReadBack<Note> {
        let mut messages = Vec::new();
        let (mut reached, mut size) = (from, 0);
        for (seq, stored) in self.disk.range(from..upto) {
            if size >= bytes {
                break;
            }
            size += stored.len();
            messages.push((*seq, note(stored)));
            reached = seq + 1;
        }
        ReadBack {
            from,
            upto: reached,
            messages,
        }
    }

    fn connect(&mut self, conn: ConnId, extended: bool) {
        self.sent.clear();
        self.tell(Input::Opened { conn, extended });
    }
}

#[test]
fn what_does_not_fit_into_memory_waits_on_the_disk_and_keeps_its_order() {
    let mut kept = Kept::new();
    let texts: Vec<String> = (0..100).map(|n| format!("number {n:03}")).collect();
    for text in &texts {
        kept.push(text);
        assert!(
            kept.bench.link.writer.bytes() <= 25,
            "a quarter of the outbox"
        );
    }
    assert_eq!(kept.disk.len(), 100);
    assert_eq!(kept.bench.link.outbox.held(), (0, 0));
    kept.connect(FIRST, true);
    let resume = Position::default().resume();
    kept.tell(Input::Frame {
        conn: FIRST,
        text: resume.into(),
    });
    for seq in 1..=100 {
        assert!(kept.bench.link.writer.bytes() <= 35, "and what is read");
        let ack = Position {
            epoch: Some(Epoch(1)),
            last: seq,
        };
        kept.tell(Input::Frame {
            conn: FIRST,
            text: ack.ack().into(),
        });
    }
    let numbered = (1..).zip(&texts);
    let expected: Vec<String> = numbered
        .map(|(seq, text)| format!("{{\"seq\":{seq},\"messages\":[\"{text}+\"]}}"))
        .collect();
    assert_eq!(kept.sent[2..], expected, "behind greeting and begin");
    assert!(kept.bench.link.writer.is_empty() && kept.disk.is_empty());
}

#[test]
fn a_peer_of_the_published_wire_gets_everything_in_order_and_gives_the_disk_back() {
    let mut kept = Kept::new();
    let texts: Vec<String> = (0..50).map(|n| format!("number {n:02}")).collect();
    for text in &texts {
        kept.push(text);
    }
    kept.connect(FIRST, false);
    kept.settle();
    assert_eq!(kept.sent[1..], texts);
    kept.push("one more");
    assert_eq!(kept.sent.last().map(String::as_str), Some("one more"));
    assert_eq!(kept.disk.len(), 1, "it is not proven yet");
    kept.settle();
    assert!(kept.disk.is_empty());
}

#[test]
fn what_waited_for_too_long_is_a_gap_to_both_ends() {
    let mut kept = Kept::new();
    for n in 0..100 {
        kept.push(&format!("number {n:03}"));
    }
    // Some of it is in memory, some on the disk alone.
    kept.disk = kept.disk.split_off(&91);
    let actions = kept.bench.tell(Input::Expired { upto: 90 });
    let Some(Action::Deliver(Inbound::Gap { gap, .. })) = actions.first() else {
        panic!("{actions:?}");
    };
    assert_eq!((gap.from, gap.to), (1, 90));
    kept.perform(actions);
    assert_eq!(kept.bench.link.writer.len(), 10);
    kept.connect(FIRST, true);
    let resume = Position::default().resume();
    kept.tell(Input::Frame {
        conn: FIRST,
        text: resume.into(),
    });
    assert!(kept.sent[1].contains("\"next\":91"), "{:?}", kept.sent);
    for last in 91..=100 {
        let epoch = Some(Epoch(1));
        kept.tell(Input::Frame {
            conn: FIRST,
            text: Position { epoch, last }.ack().into(),
        });
    }
    let sent: Vec<&str> = kept.sent[2..].iter().map(String::as_str).collect();
    let expected: Vec<String> = (90..100)
        .map(|n| format!("{{\"seq\":{},\"messages\":[\"number {n:03}+\"]}}", n + 1))
        .collect();
    assert_eq!(sent, expected);
}

#[test]
fn what_is_on_its_way_is_not_taken_back_for_its_age() {
    let mut kept = Kept::new();
    kept.push("under way");
    kept.connect(FIRST, true);
    let resume = Position::default().resume();
    kept.tell(Input::Frame {
        conn: FIRST,
        text: resume.into(),
    });
    kept.disk.clear();
    kept.tell(Input::Expired { upto: 1 });
    assert_eq!(kept.bench.link.writer.len(), 1);
}

#[test]
fn what_was_being_written_when_the_connection_died_is_written_again_before_what_came_later() {
    let mut kept = Kept::new();
    kept.push("first");
    kept.bench.tell(opened(FIRST));
    // The greeting is out, the message is not confirmed.
    kept.bench.tell(Input::Wrote { conn: FIRST });
    kept.tell(closed(FIRST, 1006));
    kept.push("second");
    kept.bench.wait();
    kept.connect(SECOND, false);
    assert_eq!(kept.sent, ["hello", "first", "second"]);
}

#[test]
fn a_message_the_peer_refuses_as_too_big_is_taken_out_and_no_other() {
    let mut kept = Kept::new();
    for text in ["first", "too big", "third"] {
        kept.push(text);
    }
    let mut conn = FIRST;
    let mut arrived: Vec<String> = Vec::new();
    for _ in 0..3 {
        kept.bench.tell(opened(conn));
        let mut actions = kept.bench.tell(Input::Wrote { conn });
        if written(&actions).is_none() {
            actions = kept.bench.answer_ping();
        }
        while let Some(texts) = written(&actions) {
            if texts.iter().any(|text| text == "too big") {
                kept.tell(closed(conn, 1009));
                kept.bench.wait();
                break;
            }
            arrived.extend(texts);
            actions = kept.bench.tell(Input::Wrote { conn });
            actions.extend(kept.bench.answer_ping());
        }
        conn = ConnId(conn.0 + 1);
    }
    assert_eq!(arrived, ["first", "third"]);
    assert!(kept.bench.link.writer.is_empty());
}

fn written(actions: &[Action]) -> Option<Vec<String>> {
    actions.iter().find_map(|action| match action {
        Action::Write { frames, .. } => {
            let texts = frames.iter().map(|frame| frame.as_str().to_owned());
            Some(texts.collect())
        }
        Action::Dial { .. }
        | Action::Append { .. }
        | Action::Read { .. }
        | Action::Trim { .. }
        | Action::Ping { .. }
        | Action::HangUp { .. }
        | Action::Deliver(_)
        | Action::State(_)
        | Action::Stopped(_) => None,
    })
}

#[test]
fn one_that_no_frame_holds_is_refused_and_what_is_behind_it_goes_on() {
    let mut kept = Kept::new();
    kept.push("first");
    kept.push(&"long".repeat(20));
    kept.push("last");
    kept.connect(FIRST, false);
    assert_eq!(kept.sent, ["hello", "first", "last"]);
}

#[test]
fn a_disk_that_fails_costs_nothing_that_is_on_it_alone() {
    let mut kept = Kept::new();
    for n in 0..20 {
        kept.push(&format!("number {n:02}"));
    }
    assert!(!kept.bench.link.is_all_here(), "the driver goes on trying");
    kept.connect(FIRST, false);
    kept.settle();
    assert!(kept.bench.link.is_all_here());
    assert_eq!(kept.sent.len(), 21);
}

#[test]
fn a_disk_that_is_lost_leaves_what_was_read_back_behind_what_never_left() {
    let mut kept = Kept::new();
    for n in 0..4 {
        kept.push(&format!("number {n:02}"));
    }
    kept.connect(FIRST, true);
    for text in [
        Position::default().resume(),
        Position {
            epoch: Some(Epoch(1)),
            last: 1,
        }
        .ack(),
    ] {
        let text = text.into();
        kept.tell(Input::Frame { conn: FIRST, text });
    }
    assert!(kept.bench.link.is_all_here(), "the last two were read back");
    kept.tell(Input::SpoolLost { epoch: Epoch(2) });
    kept.bench.wait();
    kept.connect(SECOND, false);
    assert_eq!(kept.sent[1..], ["number 01", "number 02", "number 03"]);
}

#[test]
fn a_disk_that_was_set_back_counts_under_another_name() {
    let mut kept = Kept::new();
    kept.bench.link.spare = Some(Epoch(9));
    kept.push("after");
    kept.connect(FIRST, true);
    let later = Position {
        epoch: Some(Epoch(1)),
        last: 7,
    };
    let text = later.resume().into();
    kept.tell(Input::Frame { conn: FIRST, text });
    let begin = Frame::Begin {
        epoch: Epoch(9),
        next: 1,
    };
    let message = "{\"seq\":1,\"messages\":[\"after+\"]}";
    assert_eq!(kept.sent[1..], [begin.text().as_str(), message]);
}
