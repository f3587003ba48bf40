//! The envelope's promises, and whole histories of both halves over connections that die.

use std::{borrow::Cow, collections::VecDeque};

use super::*;
use crate::jitter::Jitter;

const EPOCH: Epoch = Epoch(7);
const LIMIT: usize = 64 << 20;

type Texts = Writer<Vec<String>>;

#[expect(clippy::ptr_arg, reason = "what the writer keeps is a vector")]
fn sealed(texts: &Vec<String>, list: &mut String) {
    write_list(list, texts.iter().map(String::as_str));
}

fn number(writer: &mut Texts, stream: u64, text: &str) -> Option<String> {
    let texts = vec![text.to_owned()];
    writer.number(texts.clone(), stream, text.len(), |list| {
        sealed(&texts, list);
    })
}

/// A writer on its first connection, with a reader that knows nothing.
fn resumed() -> (Texts, Reader) {
    let mut writer = Writer::new(EPOCH);
    writer.on_opened();
    writer.on_resume(None, 0).unwrap();
    let mut reader = Reader::new(Position::default(), LIMIT);
    let begin = writer.next_frame(sealed).unwrap();
    assert_eq!(reader.hear(&begin), Ok(Heard::Nothing));
    (writer, reader)
}

fn heard(reader: &mut Reader, frame: &str) -> (Vec<String>, Option<u64>) {
    match reader.hear(frame).unwrap() {
        Heard::Message { texts, upto, .. } => (
            texts.into_iter().map(Cow::into_owned).collect(),
            upto.map(|upto| upto.last),
        ),
        other @ (Heard::Gap { .. } | Heard::Nothing | Heard::Resume { .. } | Heard::Ack { .. }) => {
            panic!("{other:?}")
        }
    }
}

#[test]
fn frames_read_back_as_they_were_written() {
    let frames = [
        Frame::Numbered {
            seq: 17,
            messages: r#"[{"a":1},"b"]"#,
        },
        Frame::Part(Part {
            of: Key::Seq(3),
            part: 0,
            more: true,
            text: "a\"\n\u{1}ü".into(),
        }),
        Frame::Part(Part {
            of: Key::Bare(3),
            part: 1,
            more: false,
            text: "".into(),
        }),
        Frame::Resume {
            epoch: None,
            last: 0,
        },
        Frame::Resume {
            epoch: Some(Epoch(u128::MAX)),
            last: u64::MAX,
        },
        Frame::Begin {
            epoch: EPOCH,
            next: 1,
        },
        Frame::Ack { seq: 9 },
        Frame::Gap {
            to: 5,
            why: "\"full\"".into(),
        },
        Frame::Bare(r#"{"action":"handshake"}"#),
        Frame::Bare("words"),
    ];
    for frame in frames {
        assert_eq!(Frame::parse(&frame.text()).as_ref(), Ok(&frame));
    }
}

#[test]
fn broken_frames_of_the_envelope_are_refused_and_nothing_else_is() {
    let deep = format!("{{\"seq\":1,\"messages\":{}}}", "[".repeat(10_000));
    let broken = [
        "{\"seq\":",
        "{\"seq\":-1,\"messages\":[]}",
        "{\"seq\":18446744073709551616,\"messages\":[]}",
        "{\"seq\":1}",
        "{\"part\":0,\"seq\":1,\"text\":\"\"}",
        "{\"part\":0,\"more\":true,\"text\":\"\"}",
        "{\"part\":0,\"more\":true,\"seq\":1,\"id\":1,\"text\":\"\"}",
        "{\"delivery\":\"dance\"}",
        "{\"delivery\":\"ack\"}",
        "{\"delivery\":\"begin\",\"epoch\":\"12\",\"next\":1}",
        "{\"delivery\":\"resume\",\"epoch\":\"+0000000000000000000000000000007\",\"last\":1}",
        &deep,
    ];
    for text in broken {
        assert!(Frame::parse(text).is_err(), "{text}");
    }
    for text in ["", "{", "{\"sequel\":1}", "{ \"seq\":1}", "[1]"] {
        assert_eq!(Frame::parse(text), Ok(Frame::Bare(text)));
    }
}

#[test]
fn texts_of_every_kind_come_back_as_they_were() {
    let texts = [
        "{\"a\": 1}",
        "{not json}",
        "\"quoted\"",
        "",
        "[1]",
        "ü\u{0}",
    ];
    let list = list(texts);
    assert_eq!(frame::texts(&list).unwrap(), texts);
    assert!(frame::texts("[1]").is_err());
    assert!(frame::texts("{}").is_err());
}

#[test]
fn nothing_with_a_number_goes_out_before_the_reader_has_said_where_to_go_on() {
    let mut writer: Texts = Writer::new(EPOCH);
    assert!(!writer.is_caught_up());
    writer.on_opened();
    assert!(!writer.is_caught_up());
    assert_eq!(writer.next_frame(sealed), None);
    let early = Err(Violation::OutOfTurn { what: "ack" });
    assert_eq!(writer.on_ack(0), early);
    writer.on_resume(None, 0).unwrap();
    let twice = Err(Violation::OutOfTurn { what: "resume" });
    assert_eq!(writer.on_resume(None, 0), twice);
}

#[test]
fn what_was_not_acknowledged_is_sent_again_and_heard_once() {
    let (mut writer, mut reader) = resumed();
    let frames: Vec<String> = ["{\"n\":1}", "two", "three"]
        .iter()
        .filter_map(|text| number(&mut writer, 0, text))
        .collect();
    assert_eq!(frames[0], "{\"seq\":1,\"messages\":[{\"n\":1}]}");
    assert_eq!(
        heard(&mut reader, &frames[0]),
        (vec!["{\"n\":1}".to_owned()], Some(1))
    );
    assert_eq!(
        heard(&mut reader, &frames[1]),
        (vec!["two".to_owned()], Some(2))
    );
    writer.on_ack(1).unwrap();
    assert_eq!((writer.len(), writer.bytes()), (2, 8));
    writer.on_opened();
    let mut again = Reader::new(reader.position(), LIMIT);
    let resume = again.position().resume();
    let Ok(Frame::Resume { epoch, last }) = Frame::parse(&resume) else {
        panic!("{resume}")
    };
    let outcome = writer.on_resume(epoch, last).unwrap();
    assert_eq!((outcome, writer.len()), (None, 1));
    let begin = writer.next_frame(sealed).unwrap();
    assert_eq!(again.hear(&begin), Ok(Heard::Nothing));
    let third = writer.next_frame(sealed).unwrap();
    assert_eq!(third, frames[2]);
    assert_eq!(heard(&mut again, &third).1, Some(3));
    assert_eq!(again.hear(&frames[1]), Ok(Heard::Nothing));
    assert!(writer.is_caught_up());
    writer.on_ack(3).unwrap();
    assert!(writer.is_empty());
    assert_eq!(writer.bytes(), 0);
}

#[test]
fn a_large_message_lets_others_pass_and_keeps_its_own_stream_in_order() {
    let (mut writer, mut reader) = resumed();
    let large = "x".repeat(3 * PART_BYTES - 10);
    assert_eq!(number(&mut writer, 1, &large), None);
    assert_eq!(number(&mut writer, 1, "behind"), None);
    let beside = number(&mut writer, 2, "beside").unwrap();
    assert_eq!(
        heard(&mut reader, &beside),
        (vec!["beside".to_owned()], Some(0))
    );
    for _ in 0..2 {
        let part = writer.next_part().unwrap();
        assert!(part.len() < 100 << 10, "{}", part.len());
        assert_eq!(reader.hear(&part), Ok(Heard::Nothing));
        assert_eq!(writer.next_frame(sealed), None);
    }
    let last = writer.next_part().unwrap();
    assert_eq!(heard(&mut reader, &last), (vec![large], Some(1)));
    let behind = writer.next_frame(sealed).unwrap();
    assert_eq!(
        heard(&mut reader, &behind),
        (vec!["behind".to_owned()], Some(3))
    );
    assert_eq!(writer.next_part(), None);
    assert!(writer.is_caught_up());
}

#[test]
fn where_the_way_is_narrow_parts_are_short() {
    let mut writer = Texts::new(EPOCH);
    let mut reader = Reader::new(Position::default(), LIMIT);
    let text = "x".repeat(60 << 10);
    for narrowed in 0..8 {
        writer.on_opened();
        let position = reader.position();
        reader = Reader::new(position, LIMIT);
        writer.on_resume(position.epoch, position.last).unwrap();
        reader.hear(&writer.next_frame(sealed).unwrap()).unwrap();
        let longest = (PART_BYTES >> narrowed).max(4 << 10);
        let whole = number(&mut writer, 1, &text);
        assert_eq!(whole.is_some(), longest > text.len());
        let mut arrived = false;
        if let Some(whole) = whole {
            arrived = reader.hear(&whole) != Ok(Heard::Nothing);
        }
        while let Some(part) = writer.next_part() {
            assert!(part.len() < longest + 100, "{} of {longest}", part.len());
            arrived = reader.hear(&part) != Ok(Heard::Nothing);
        }
        assert!(arrived);
        writer.narrow();
    }
}

#[test]
fn a_large_text_without_a_number_goes_in_parts_and_dies_with_its_connection() {
    let (mut writer, mut reader) = resumed();
    assert!(!writer.bare("short"));
    assert!(writer.bare("{\"seq\":1}"), "would be misread");
    let part = writer.next_part().unwrap();
    assert_eq!(heard(&mut reader, &part).0, ["{\"seq\":1}"]);
    let large = "ü".repeat(PART_BYTES);
    assert!(writer.bare(&large));
    assert_eq!(writer.bytes(), large.len());
    assert!(!writer.is_empty());
    reader.hear(&writer.next_part().unwrap()).unwrap();
    writer.on_opened();
    assert_eq!(writer.bytes(), 0);
    assert_eq!(writer.next_part(), None);
}

#[test]
fn many_large_messages_at_once_stay_below_what_a_reader_holds() {
    let (mut writer, _) = resumed();
    let mut reader = Reader::new(Position::default(), 20 << 20);
    let begin = Frame::Begin {
        epoch: EPOCH,
        next: 1,
    };
    reader.hear(&begin.text()).unwrap();
    let large = "x".repeat(5 << 20);
    for stream in 0..6 {
        assert_eq!(number(&mut writer, stream, &large), None);
    }
    let mut whole = 0;
    while let Some(part) = writer.next_part() {
        match reader.hear(&part).unwrap() {
            Heard::Nothing => {}
            Heard::Message { .. } => whole += 1,
            other @ (Heard::Gap { .. } | Heard::Resume { .. } | Heard::Ack { .. }) => {
                panic!("{other:?}")
            }
        }
    }
    assert_eq!((whole, reader.position().last), (6, 6));
}

#[test]
fn a_reader_that_forgot_is_told_of_the_gap_on_both_sides() {
    let (mut writer, _) = resumed();
    for text in ["a", "b", "c"] {
        number(&mut writer, 0, text).unwrap();
    }
    writer.on_ack(2).unwrap();
    writer.on_opened();
    let gap = writer.on_resume(None, 0).unwrap().unwrap();
    assert_eq!((gap.from, gap.to), (1, 2));
    let mut reader = Reader::new(Position::default(), LIMIT);
    let begin = writer.next_frame(sealed).unwrap();
    let Ok(Heard::Gap { gap, upto }) = reader.hear(&begin) else {
        panic!("{begin}")
    };
    assert_eq!((gap.from, gap.to, upto.last), (1, 2, 2));
    let third = writer.next_frame(sealed).unwrap();
    assert_eq!(heard(&mut reader, &third).1, Some(3));
}

#[test]
fn a_writer_that_counts_anew_is_followed_and_numbers_that_never_come_are_passed_over() {
    let (mut writer, reader) = resumed();
    number(&mut writer, 0, "a").unwrap();
    let mut reader = Reader::new(reader.position(), LIMIT);
    let begin = |epoch, next| Frame::Begin { epoch, next }.text();
    assert_eq!(reader.hear(&begin(Epoch(8), 1)), Ok(Heard::Nothing));
    let gap = Frame::Gap {
        to: 4,
        why: "disk".into(),
    };
    let gap = gap.text();
    let Ok(Heard::Gap { gap, upto }) = reader.hear(&gap) else {
        panic!("no gap")
    };
    assert_eq!((gap.from, gap.to, upto.last), (1, 4, 4));
    assert_eq!(upto.epoch, Some(Epoch(8)));
    assert_eq!(
        heard(&mut reader, "{\"seq\":5,\"messages\":[\"x\"]}").1,
        Some(5)
    );
}

#[test]
fn numbers_without_messages_are_told_as_gaps_however_many_they_are() {
    let taken = |seq, text: &str| Taken {
        seq,
        payload: vec![text.to_owned()],
        stream: 0,
        size: text.len(),
    };
    let next = 1 << 33;
    let mut writer = Writer::restored(EPOCH, 3, next, [taken(5, "five"), taken(6, "six")]);
    writer.on_opened();
    writer.on_resume(None, 0).unwrap();
    let mut reader = Reader::new(Position::default(), LIMIT);
    let mut gaps = Vec::new();
    let mut texts = Vec::new();
    while let Some(frame) = writer.next_frame(sealed) {
        match reader.hear(&frame).unwrap() {
            Heard::Gap { gap, upto } => {
                gaps.push((gap.from, gap.to));
                writer.on_ack(upto.last).unwrap();
            }
            Heard::Message { texts: said, .. } => {
                texts.extend(said.into_iter().map(Cow::into_owned));
            }
            other @ (Heard::Nothing | Heard::Resume { .. } | Heard::Ack { .. }) => {
                panic!("{other:?}")
            }
        }
    }
    assert_eq!(gaps, [(1, 2), (3, 4), (7, next - 1)]);
    assert_eq!(texts, ["five", "six"]);
    assert!(writer.is_empty() && writer.is_caught_up());
    assert_eq!(writer.keep(vec!["new".to_owned()], 0, 3), next);
    assert_eq!(writer.next_frame(sealed), None, "it is not written down");
    writer.on_stored(next);
    let new = writer.next_frame(sealed).unwrap();
    assert_eq!(heard(&mut reader, &new).1, Some(next));
}

#[test]
fn what_breaks_the_rules_is_a_violation_and_holds_nothing() {
    let fresh = || Reader::new(Position::default(), 1000);
    let begun = || {
        let mut reader = fresh();
        let begin = Frame::Begin {
            epoch: EPOCH,
            next: 1,
        };
        reader.hear(&begin.text()).unwrap();
        reader
    };
    assert!(fresh().hear("{\"seq\":1,\"messages\":[]}").is_err());
    assert!(begun().hear("{\"seq\":32769,\"messages\":[]}").is_err());
    assert!(begun().hear("{\"seq\":1,\"messages\":[7]}").is_err());
    let part = |part| format!("{{\"part\":{part},\"more\":true,\"seq\":1,\"text\":\"a\"}}");
    assert!(begun().hear(&part(1)).is_err());
    let mut reader = begun();
    reader.hear(&part(0)).unwrap();
    assert!(reader.hear(&part(0)).is_err());
    let large = Frame::Part(Part {
        of: Key::Bare(1),
        part: 0,
        more: true,
        text: "x".repeat(1001).into(),
    });
    assert!(begun().hear(&large.text()).is_err());
    let (mut writer, _) = resumed();
    number(&mut writer, 0, "a").unwrap();
    let never = Err(Violation::NeverSent { seq: 2, last: 1 });
    assert_eq!(writer.on_ack(2), never);
}

#[test]
fn everything_is_heard_once_and_in_order_whatever_dies_in_between() {
    for seed in 0..60 {
        let history = std::panic::catch_unwind(|| History::new(seed).run());
        assert!(history.is_ok(), "history of seed {seed} broke a promise");
    }
}

/// A writer, the far end's stored truth, and a connection that loses what is on it when it dies.
struct History {
    random: Jitter,
    writer: Texts,
    reader: Option<Reader>,
    wire: VecDeque<String>,
    back: VecDeque<String>,
    /// By stream, what was pushed and what was stored.
    pushed: Vec<Vec<String>>,
    stored: Vec<Vec<String>>,
    position: Position,
    /// Heard, not stored: lost when the far end dies.
    uncommitted: Vec<(String, Option<Position>)>,
    waiting: VecDeque<(u64, String)>,
}

impl History {
    fn new(seed: u64) -> Self {
        Self {
            random: Jitter::seeded(seed),
            writer: Writer::new(Epoch(u128::from(seed))),
            reader: None,
            wire: VecDeque::new(),
            back: VecDeque::new(),
            pushed: vec![Vec::new(); 3],
            stored: vec![Vec::new(); 3],
            position: Position::default(),
            uncommitted: Vec::new(),
            waiting: VecDeque::new(),
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.next() % bound
    }

    fn run(mut self) {
        for _ in 0..400 {
            self.step(true);
        }
        while !(self.waiting.is_empty() && self.writer.is_empty()) {
            self.step(false);
        }
        assert_eq!(self.stored, self.pushed);
        assert_eq!(self.writer.bytes(), 0);
    }

    fn step(&mut self, trouble: bool) {
        if self.reader.is_none() {
            self.open();
        }
        match self.below(if trouble { 100 } else { 80 }) {
            0..20 if trouble => self.push(),
            0..40 => self.write(),
            40..65 => self.read(),
            65..75 => self.commit(),
            75..90 => self.hear_back(),
            90..96 => self.cut(),
            _ => self.far_end_dies(),
        }
    }

    fn open(&mut self) {
        self.writer.on_opened();
        self.reader = Some(Reader::new(self.position, LIMIT));
        self.back.push_back(self.position.resume());
    }

    fn push(&mut self) {
        let stream = self.below(3);
        let n = self.pushed[usize::try_from(stream).unwrap()].len();
        let length = match self.below(10) {
            0 if n.is_multiple_of(8) => usize::try_from(self.below(300_000)).unwrap(),
            _ => 1,
        };
        let text = format!("{stream} {n} {}", "y".repeat(length));
        self.pushed[usize::try_from(stream).unwrap()].push(text.clone());
        self.waiting.push_back((stream, text));
    }

    fn write(&mut self) {
        while let Some(frame) = self.writer.next_frame(sealed) {
            self.wire.push_back(frame);
        }
        while self.writer.is_caught_up()
            && let Some((stream, text)) = self.waiting.pop_front()
        {
            self.wire.extend(number(&mut self.writer, stream, &text));
        }
        self.wire.extend(self.writer.next_part());
    }

    fn read(&mut self) {
        let (Some(frame), Some(reader)) = (self.wire.pop_front(), &mut self.reader) else {
            return;
        };
        match reader.hear(&frame).expect("no rule is broken") {
            Heard::Message { texts, upto, .. } => {
                for text in texts {
                    self.uncommitted.push((text.into_owned(), upto));
                }
            }
            Heard::Nothing => {}
            other @ (Heard::Gap { .. } | Heard::Resume { .. } | Heard::Ack { .. }) => {
                panic!("{other:?}")
            }
        }
    }

    /// As a store does that knows what it has: by the number within the stream.
    fn commit(&mut self) {
        for (text, upto) in std::mem::take(&mut self.uncommitted) {
            let mut words = text.split(' ');
            let stream: usize = words.next().unwrap().parse().unwrap();
            let n: usize = words.next().unwrap().parse().unwrap();
            let stored = &mut self.stored[stream];
            assert!(n <= stored.len(), "a message of the stream is missing");
            if n == stored.len() {
                stored.push(text);
            }
            self.position = upto.unwrap_or(self.position);
        }
        if self.reader.is_some() && self.position.epoch.is_some() {
            self.back.push_back(self.position.ack());
        }
    }

    fn hear_back(&mut self) {
        let Some(frame) = self.back.pop_front() else {
            return;
        };
        match Frame::parse(&frame).unwrap() {
            Frame::Resume { epoch, last } => {
                let outcome = self.writer.on_resume(epoch, last).unwrap();
                assert_eq!(outcome, None);
            }
            Frame::Ack { seq } => self.writer.on_ack(seq).unwrap(),
            other @ (Frame::Numbered { .. }
            | Frame::Part(_)
            | Frame::Begin { .. }
            | Frame::Gap { .. }
            | Frame::Bare(_)) => panic!("{other:?}"),
        }
    }

    fn cut(&mut self) {
        self.commit();
        self.drop_connection();
    }

    fn far_end_dies(&mut self) {
        self.uncommitted.clear();
        self.drop_connection();
    }

    fn drop_connection(&mut self) {
        self.writer.on_closed();
        self.reader = None;
        self.wire.clear();
        self.back.clear();
    }
}

#[test]
fn what_a_peer_says_of_a_gap_goes_into_a_log_in_brief() {
    let brief = |why: &str| {
        let epoch = Epoch(1);
        let why = why.to_owned();
        let gap = Gap {
            epoch,
            from: 1,
            to: 2,
            why,
        };
        gap.why_in_brief().to_owned()
    };
    assert_eq!(brief("full"), "full");
    assert_eq!(brief(&"ü".repeat(100_000)), "ü".repeat(200));
}

#[test]
fn a_message_of_too_many_texts_is_refused_in_one_frame_and_in_parts() {
    let (_, mut reader) = resumed();
    let many = |count| format!("[{}]", vec!["\"\""; count].join(","));
    let most = format!("{{\"seq\":1,\"messages\":{}}}", many(MOST_TEXTS));
    assert_eq!(heard(&mut reader, &most).0.len(), MOST_TEXTS);
    let more = format!("{{\"seq\":2,\"messages\":{}}}", many(1_000_000));
    let refused = Err(Violation::Frame(FrameError::TooManyTexts));
    assert_eq!(reader.hear(&more), refused);
    let list = many(MOST_TEXTS + 1);
    let part = Frame::Part(Part {
        of: Key::Seq(2),
        part: 0,
        more: false,
        text: list.into(),
    });
    assert_eq!(reader.hear(&part.text()), refused);
}
