//! What is promised about the peer's stream: every number once in a process, none acknowledged that
//! was not kept, over connections and lives of both sides.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::super::{
    Action, Input,
    tests::{Bench, FIRST, Note, SECOND, closed},
};
use crate::{
    delivery::{Epoch, Frame, Key, Part, Position, Taken, Writer, write_list},
    inbound::{ConnId, Inbound, Receipt},
    jitter::Jitter,
    payload::TextFrame,
};

const HUB: Epoch = Epoch(7);

fn at(last: u64) -> Position {
    Position {
        epoch: Some(HUB),
        last,
    }
}

fn keeping(heard: Position) -> Bench {
    let mut bench = Bench::new();
    bench.link = bench.link.with_heard(Some(heard));
    bench.link.frame_limit = 1 << 20;
    bench
}

fn extended(conn: ConnId) -> Input<Note> {
    let extended = true;
    Input::Opened { conn, extended }
}

fn said(conn: ConnId, text: impl Into<Bytes>) -> Input<Note> {
    let text = text.into();
    Input::Frame { conn, text }
}

fn begin(epoch: Epoch, next: u64) -> String {
    Frame::Begin { epoch, next }.text()
}

fn numbered(seq: u64) -> String {
    let messages = &format!("[\"{seq}\"]");
    Frame::Numbered { seq, messages }.text()
}

fn written(actions: &[Action]) -> Vec<String> {
    let frames = actions.iter().flat_map(|action| match action {
        Action::Write { frames, .. } => frames.as_slice(),
        Action::Dial { .. }
        | Action::Ping { .. }
        | Action::HangUp { .. }
        | Action::Append { .. }
        | Action::Read { .. }
        | Action::Trim { .. }
        | Action::Deliver(_)
        | Action::State(_)
        | Action::Stopped(_) => &[],
    });
    frames.map(TextFrame::as_str).map(str::to_owned).collect()
}

/// What was delivered, with its number and where it left the stream.
fn delivered(actions: Vec<Action>) -> Vec<(String, Option<Receipt>)> {
    let mut all = Vec::new();
    for action in actions {
        if let Action::Deliver(Inbound::Frame { text, receipt, .. }) = action {
            all.push((String::from_utf8(text.to_vec()).unwrap(), receipt));
        }
    }
    all
}

fn taken(text: &str, seq: u64, last: u64) -> (String, Option<Receipt>) {
    let upto = at(last);
    (text.to_owned(), Some(Receipt { seq, upto }))
}

fn commit(bench: &mut Bench, upto: Position) -> Vec<String> {
    written(&bench.tell(Input::Committed { upto }))
}

#[test]
fn a_connection_begins_with_where_the_embedder_was_and_then_the_greeting() {
    let mut bench = keeping(at(4));
    assert_eq!(
        written(&bench.tell(extended(FIRST))),
        [at(4).resume(), "hello+".to_owned()]
    );
}

#[test]
fn who_keeps_nothing_asks_for_no_numbers_and_who_is_plain_neither() {
    let mut bench = Bench::new();
    assert_eq!(written(&bench.tell(extended(FIRST))), ["hello+"]);
    let mut bench = keeping(at(4));
    let plain = Input::Opened {
        conn: FIRST,
        extended: false,
    };
    assert_eq!(written(&bench.tell(plain)), ["hello"]);
    let mut actions = bench.tell(said(FIRST, numbered(5)));
    let frame = (numbered(5), None);
    assert_eq!(delivered(std::mem::take(&mut actions)), [frame]);
}

#[test]
fn a_number_comes_once_in_a_process_and_is_acknowledged_when_it_is_kept() {
    let mut bench = keeping(at(0));
    bench.tell(extended(FIRST));
    bench.tell(Input::Wrote { conn: FIRST });
    bench.tell(said(FIRST, begin(HUB, 1)));
    let first = bench.tell(said(FIRST, numbered(1)));
    assert_eq!(written(&first), Vec::<String>::new(), "not kept yet");
    assert_eq!(delivered(first), [taken("1", 1, 1)]);
    assert_eq!(
        delivered(bench.tell(said(FIRST, numbered(2)))),
        [taken("2", 2, 2)]
    );
    assert_eq!(commit(&mut bench, at(1)), [at(1).ack()]);
    bench.tell(Input::Wrote { conn: FIRST });
    bench.tell(closed(FIRST, 1006));
    bench.wait();
    let again = written(&bench.tell(extended(SECOND)));
    assert_eq!(again.first(), Some(&at(1).resume()));
    bench.tell(Input::Wrote { conn: SECOND });
    bench.tell(said(SECOND, begin(HUB, 2)));
    assert_eq!(delivered(bench.tell(said(SECOND, numbered(2)))), []);
    assert_eq!(
        delivered(bench.tell(said(SECOND, numbered(3)))),
        [taken("3", 3, 3)]
    );
    assert_eq!(commit(&mut bench, at(3)), [at(3).ack()]);
}

#[test]
fn what_is_kept_while_a_write_is_under_way_or_nobody_listens_is_told_once_then() {
    let mut bench = keeping(at(0));
    bench.tell(extended(FIRST));
    bench.tell(said(FIRST, begin(HUB, 1)));
    for seq in 1..=3 {
        bench.tell(said(FIRST, numbered(seq)));
        assert_eq!(commit(&mut bench, at(seq)), Vec::<String>::new());
    }
    let wrote = written(&bench.tell(Input::Wrote { conn: FIRST }));
    assert_eq!(wrote, [at(3).ack()]);
    bench.tell(Input::Wrote { conn: FIRST });
    bench.tell(said(FIRST, numbered(4)));
    bench.tell(closed(FIRST, 1006));
    assert_eq!(commit(&mut bench, at(4)), Vec::<String>::new());
    bench.wait();
    let again = written(&bench.tell(extended(SECOND)));
    assert_eq!(again.first(), Some(&at(4).resume()));
    bench.tell(Input::Wrote { conn: SECOND });
    let begun = bench.tell(said(SECOND, begin(HUB, 5)));
    assert_eq!(written(&begun), Vec::<String>::new(), "told by the resume");
}

#[test]
fn a_number_behind_a_large_one_is_not_acknowledged_before_it() {
    let mut bench = keeping(at(0));
    bench.tell(extended(FIRST));
    bench.tell(Input::Wrote { conn: FIRST });
    bench.tell(said(FIRST, begin(HUB, 1)));
    let part = |part, more, text: &str| {
        let of = Key::Seq(1);
        let text = text.to_owned().into();
        Frame::Part(Part {
            of,
            part,
            more,
            text,
        })
        .text()
    };
    bench.tell(said(FIRST, part(0, true, "[\"la")));
    assert_eq!(
        delivered(bench.tell(said(FIRST, numbered(2)))),
        [taken("2", 2, 0)]
    );
    assert_eq!(commit(&mut bench, at(0)), Vec::<String>::new());
    let whole = bench.tell(said(FIRST, part(1, false, "rge\"]")));
    assert_eq!(delivered(whole), [taken("large", 1, 2)]);
    assert_eq!(commit(&mut bench, at(2)), [at(2).ack()]);
}

#[test]
fn another_numbering_is_a_gap_for_the_embedder_and_its_old_words_change_nothing() {
    let mut bench = keeping(at(9));
    bench.tell(extended(FIRST));
    bench.tell(Input::Wrote { conn: FIRST });
    let new = Epoch(8);
    let told = bench.tell(said(FIRST, begin(new, 6)));
    let [Action::Deliver(Inbound::Missed { gap, upto, .. })] = told.as_slice() else {
        panic!("{told:?}")
    };
    assert_eq!((gap.epoch, gap.from, gap.to), (new, 1, 5));
    assert_eq!(commit(&mut bench, at(10)), Vec::<String>::new());
    assert_eq!(commit(&mut bench, *upto), [upto.ack()]);
}

#[test]
fn what_was_kept_out_of_order_in_an_earlier_life_is_not_heard_again() {
    let mut bench = keeping(at(0));
    bench.tell(extended(FIRST));
    bench.tell(Input::Wrote { conn: FIRST });
    bench.tell(said(FIRST, begin(HUB, 1)));
    bench.tell(said(FIRST, numbered(1)));
    assert_eq!(commit(&mut bench, at(2)), [at(2).ack()]);
    assert_eq!(delivered(bench.tell(said(FIRST, numbered(2)))), []);
    let next = bench.tell(said(FIRST, numbered(3)));
    assert_eq!(delivered(next), [taken("3", 3, 3)]);
}

/// Both sides live, die and lose connections at any moment; the embedder writes down what it did
/// and commits it late, in no order but that of the disk.
#[test]
fn every_command_is_carried_out_once_over_cuts_and_deaths_of_both_sides() {
    for seed in 0..60 {
        World::new(seed).run();
    }
}

struct World {
    seed: u64,
    random: Jitter,
    bench: Bench,
    conn: u64,
    online: bool,
    /// The hub's disk: what was not acknowledged, and the numbers around it.
    hub: BTreeMap<u64, String>,
    acked: u64,
    sent: u64,
    writer: Option<Writer<String>>,
    /// The machine's disk.
    done: BTreeSet<u64>,
    /// Delivered in this life.
    heard: BTreeSet<u64>,
    /// Handled in memory, not on the disk.
    at_work: Vec<u64>,
    runs: BTreeMap<u64, u32>,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            seed,
            random: Jitter::seeded(seed),
            bench: keeping(Position::default()),
            conn: 1,
            online: false,
            hub: BTreeMap::new(),
            acked: 0,
            sent: 0,
            writer: None,
            done: BTreeSet::new(),
            heard: BTreeSet::new(),
            at_work: Vec::new(),
            runs: BTreeMap::new(),
        }
    }

    fn run(mut self) {
        for _ in 0..200 {
            match self.random.next() % 12 {
                0 => self.cut(),
                1 if self.random.next().is_multiple_of(3) => self.machine_dies(),
                2 if self.random.next().is_multiple_of(3) => self.hub_dies(),
                3..=5 => self.command(),
                6..=7 => self.keep_one(),
                _ => self.go_on(),
            }
        }
        for _ in 0..2000 {
            self.go_on();
            self.keep_one();
            if self.acked == self.sent {
                break;
            }
        }
        assert_eq!(self.acked, self.sent, "lost in seed {}", self.seed);
        let once = (1..=self.sent).map(|seq| (seq, 1)).collect();
        assert_eq!(self.runs, once, "seed {}", self.seed);
    }

    fn command(&mut self) {
        self.sent += 1;
        let long = self.random.next().is_multiple_of(16);
        let text = if long {
            format!("{}:{}", self.sent, "x".repeat(120_000))
        } else {
            format!("{}:", self.sent)
        };
        self.hub.insert(self.sent, text.clone());
        if let Some(writer) = &mut self.writer {
            let stream = self.sent % 3;
            assert_eq!(writer.keep(text, stream, 1), self.sent);
        }
    }

    /// One step of the connection: a dial, or a frame of the hub.
    fn go_on(&mut self) {
        if !self.online {
            let waits = self.bench.link.deadline();
            if self.conn > 1 || waits.is_none() {
                self.bench.wait();
            }
            self.online = true;
            let actions = self.bench.tell(extended(ConnId(self.conn)));
            return self.after(actions);
        }
        let Some(writer) = &mut self.writer else {
            return;
        };
        let frame = writer.next_frame(|text, list| write_list(list, [text.as_str()]));
        if let Some(frame) = frame.or_else(|| writer.next_part()) {
            let actions = self.bench.tell(said(ConnId(self.conn), frame));
            self.after(actions);
        }
    }

    fn after(&mut self, actions: Vec<Action>) {
        let frames = written(&actions);
        for (text, receipt) in delivered(actions) {
            let receipt = receipt.expect("every command has a number");
            let (seq, _) = text.split_once(':').unwrap();
            assert_eq!(seq, receipt.seq.to_string());
            assert!(self.heard.insert(receipt.seq), "twice in one life");
            if !self.done.contains(&receipt.seq) {
                self.at_work.push(receipt.seq);
            }
        }
        for frame in &frames {
            self.hub_hears(frame);
        }
        if !frames.is_empty() {
            let conn = ConnId(self.conn);
            let actions = self.bench.tell(Input::Wrote { conn });
            self.after(actions);
        }
    }

    fn hub_hears(&mut self, frame: &str) {
        match Frame::parse(frame).unwrap() {
            Frame::Resume { epoch, last } => {
                let kept = self.hub.iter().map(|(seq, text)| Taken {
                    seq: *seq,
                    payload: text.clone(),
                    stream: seq % 3,
                    size: 1,
                });
                let mut writer = Writer::restored(HUB, self.acked + 1, self.sent + 1, kept);
                writer.on_stored(1 << 60);
                writer.on_opened();
                assert_eq!(writer.on_resume(epoch, last), Ok(None));
                self.writer = Some(writer);
                self.let_go(last);
            }
            Frame::Ack { seq } => {
                self.writer.as_mut().unwrap().on_ack(seq).unwrap();
                self.let_go(seq);
            }
            Frame::Bare(_) => {}
            other @ (Frame::Numbered { .. }
            | Frame::Part(_)
            | Frame::Begin { .. }
            | Frame::Gap { .. }) => panic!("{other:?}"),
        }
    }

    fn let_go(&mut self, upto: u64) {
        assert!((1..=upto).all(|seq| self.done.contains(&seq)), "not kept");
        self.acked = self.acked.max(upto);
        self.hub = self.hub.split_off(&(self.acked + 1));
    }

    /// Writes down one of those at work, which is when it counts as carried out.
    fn keep_one(&mut self) {
        if self.at_work.is_empty() {
            return;
        }
        if self.random.next().is_multiple_of(2) {
            self.at_work.reverse();
        }
        let seq = self.at_work.remove(0);
        self.done.insert(seq);
        *self.runs.entry(seq).or_default() += 1;
        let upto = self.kept();
        if upto.last > 0 {
            let actions = self.bench.tell(Input::Committed { upto });
            self.after(actions);
        }
    }

    fn kept(&self) -> Position {
        let dense = self.done.iter().zip(1..).take_while(|(seq, n)| *seq == n);
        let last = dense.count() as u64;
        if last == 0 {
            return Position::default();
        }
        at(last)
    }

    fn cut(&mut self) {
        if self.online {
            self.online = false;
            self.writer = None;
            let actions = self.bench.tell(closed(ConnId(self.conn), 1006));
            self.after(actions);
            self.conn += 1;
        }
    }

    fn machine_dies(&mut self) {
        self.bench = keeping(self.kept());
        (self.conn, self.online, self.writer) = (1, false, None);
        self.heard.clear();
        self.at_work.clear();
    }

    /// What it keeps on its disk is all it has anyway, but for the connection.
    fn hub_dies(&mut self) {
        self.cut();
    }
}
