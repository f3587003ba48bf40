//! What the machine promises on a connection with the delivery envelope.

use std::time::Duration;

use super::{
    super::{
        Full, Input, Timer,
        tests::{Bench, FIRST, Note, SECOND, closed, durable, opened, paced, push, write},
    },
    *,
};
use crate::{
    delivery::{Epoch, Frame, MOST_TEXTS},
    handle::Flushed,
    payload::{Class, TextFrame},
};

fn extended(conn: ConnId) -> Input<Note> {
    Input::Opened {
        conn,
        extended: true,
    }
}

fn said(conn: ConnId, text: impl Into<Bytes>) -> Input<Note> {
    Input::Frame {
        conn,
        text: text.into(),
    }
}

fn begin(next: u64) -> String {
    let epoch = Epoch(1);
    Frame::Begin { epoch, next }.text()
}

fn numbered(seq: u64, text: &str) -> String {
    format!("{{\"seq\":{seq},\"messages\":[\"{text}+\"]}}")
}

fn written(actions: &[Action]) -> Vec<&str> {
    let frames = actions.iter().flat_map(|action| match action {
        Action::Write { frames, .. } => frames.as_slice(),
        Action::Dial { .. }
        | Action::Ping { .. }
        | Action::HangUp { .. }
        | Action::Read { .. }
        | Action::Append { .. }
        | Action::Trim { .. }
        | Action::Deliver(_)
        | Action::State(_)
        | Action::Stopped(_) => &[],
    });
    frames.map(TextFrame::as_str).collect()
}

/// Greeted and resumed at this position; what is written is confirmed.
fn online(bench: &mut Bench, conn: ConnId, position: Position) -> Vec<String> {
    bench.tell(extended(conn));
    bench.tell(Input::Wrote { conn });
    let actions = bench.tell(said(conn, position.resume()));
    let frames = written(&actions).into_iter().map(str::to_owned).collect();
    bench.tell(Input::Wrote { conn });
    frames
}

fn stored(last: u64) -> Position {
    Position {
        epoch: Some(Epoch(1)),
        last,
    }
}

#[test]
fn a_message_that_was_written_and_not_stored_is_sent_again_under_its_number() {
    let mut bench = Bench::new();
    bench.tell(durable("a"));
    let first = online(&mut bench, FIRST, Position::default());
    assert_eq!(first, [begin(1), numbered(1, "a")]);
    let second = bench.tell(durable("b"));
    assert_eq!(written(&second), [numbered(2, "b")]);
    bench.tell(Input::Wrote { conn: FIRST });
    bench.tell(said(FIRST, stored(1).ack()));
    bench.tell(closed(FIRST, 1006));
    bench.tell(durable("c"));
    bench.wait();
    let again = online(&mut bench, SECOND, stored(1));
    assert_eq!(again, [begin(2), numbered(2, "b"), numbered(3, "c")]);
    bench.tell(said(SECOND, stored(3).ack()));
    assert!(bench.link.writer.is_empty());
}

#[test]
fn what_is_not_stored_counts_against_the_bound_and_is_waited_for_at_the_end() {
    let mut bench = Bench::new();
    online(&mut bench, FIRST, Position::default());
    let long = "forty bytes and not a single one more...";
    for _ in 0..2 {
        assert_eq!(written(&bench.tell(text(long))).len(), 1);
        bench.tell(Input::Wrote { conn: FIRST });
    }
    let Err(Full(_)) = bench.link.handle(bench.now, 0, text(long)) else {
        panic!("two of them fill the outbox")
    };
    let limit = Duration::from_secs(5);
    assert_eq!(bench.tell(Input::Drain { limit }), []);
    bench.tell(said(FIRST, stored(1).ack()));
    let done = bench.tell(said(FIRST, stored(2).ack()));
    assert_eq!(done.last(), Some(&Action::Stopped(Flushed::Everything)));
}

#[test]
fn answers_and_lists_do_not_wait_for_the_resume_and_events_do() {
    let mut bench = Bench::new();
    bench.tell(extended(FIRST));
    bench.tell(Input::Wrote { conn: FIRST });
    assert_eq!(bench.tell(durable("event")), []);
    assert_eq!(bench.tell(paced("increment")), []);
    let reply = Note(Class::Reply { conn: FIRST }, "reply");
    assert_eq!(written(&bench.tell(push(reply))), ["reply+"]);
    let due = bench.link.deadline().map(|(_, timer)| timer);
    assert_ne!(due, Some(Timer::Pace), "nothing may go, so nothing is due");
}

#[test]
fn a_peer_that_never_says_where_to_go_on_is_left() {
    let mut bench = Bench::new();
    bench.tell(extended(FIRST));
    bench.tell(Input::Wrote { conn: FIRST });
    let begun = bench.now.at;
    let left = loop {
        for action in bench.step() {
            if let Action::Ping { conn, id } = action {
                bench.tell(Input::Pong { conn, id });
            }
        }
        if !matches!(bench.link.stage, Stage::Online(_)) {
            break bench.now.at - begun;
        }
    };
    assert_eq!(left, bench.link.timings.silence);
    let error = bench.state().last_error.clone().unwrap_or_default();
    assert!(error.contains("where to go on"), "{error}");
}

#[test]
fn a_peer_that_breaks_the_rules_of_the_envelope_is_left_and_dialled_again() {
    for frame in ["{\"seq\":", "{\"delivery\":\"ack\",\"seq\":1}"] {
        let mut bench = Bench::new();
        online(&mut bench, FIRST, Position::default());
        let actions = bench.tell(said(FIRST, frame));
        let code = Some(PROTOCOL_ERROR);
        assert_eq!(actions[0], Action::HangUp { conn: FIRST, code });
        assert!(matches!(bench.link.stage, Stage::Waiting { .. }));
    }
}

#[test]
fn a_plain_peer_after_one_with_the_envelope_is_sent_what_was_not_stored() {
    let mut bench = Bench::new();
    bench.tell(durable("a"));
    online(&mut bench, FIRST, Position::default());
    bench.tell(durable("b"));
    bench.tell(closed(FIRST, 1006));
    bench.tell(durable("c"));
    bench.wait();
    bench.tell(opened(SECOND));
    let frames = bench.tell(Input::Wrote { conn: SECOND });
    assert_eq!(frames, [write(SECOND, &["a", "b", "c"])]);
    bench.tell(Input::Wrote { conn: SECOND });
    bench.answer_ping();
    assert_eq!(bench.link.outbox.held(), (0, 0));
    assert!(bench.link.writer.is_empty());
}

#[test]
fn what_the_peer_forgot_is_told_and_not_made_up() {
    let mut bench = Bench::new();
    bench.tell(durable("a"));
    online(&mut bench, FIRST, Position::default());
    bench.tell(said(FIRST, stored(1).ack()));
    bench.tell(closed(FIRST, 1006));
    bench.wait();
    bench.tell(extended(SECOND));
    let actions = bench.tell(said(SECOND, Position::default().resume()));
    let Some(Action::Deliver(Inbound::Gap { gap, .. })) = actions.first() else {
        panic!("{actions:?}")
    };
    assert_eq!((gap.from, gap.to), (1, 1));
}

#[test]
fn commands_in_parts_are_put_together() {
    let mut bench = Bench::new();
    online(&mut bench, FIRST, Position::default());
    let part = |part, more, text| {
        format!("{{\"part\":{part},\"more\":{more},\"id\":1,\"text\":\"{text}\"}}")
    };
    assert_eq!(bench.tell(said(FIRST, part(0, true, "wri"))), []);
    let frame = Inbound::Frame {
        conn: FIRST,
        text: Bytes::from_static(b"write"),
        receipt: None,
    };
    assert_eq!(
        bench.tell(said(FIRST, part(1, false, "te"))),
        [Action::Deliver(frame)]
    );
}

#[test]
fn what_has_no_number_does_not_wait_behind_a_backlog_nor_hold_it_up() {
    let mut bench = Bench::new();
    online(&mut bench, FIRST, Position::default());
    for _ in 0..2000 {
        bench.tell(durable("event"));
    }
    bench.tell(Input::Wrote { conn: FIRST });
    bench.tell(Input::Wrote { conn: FIRST });
    bench.tell(closed(FIRST, 1006));
    bench.wait();
    bench.tell(extended(SECOND));
    bench.tell(Input::Wrote { conn: SECOND });
    bench.tell(said(SECOND, Position::default().resume()));
    for slot in 0..2000 {
        bench.tell(push(Note(Class::Latest { slot }, "list")));
    }
    let actions = bench.tell(Input::Wrote { conn: SECOND });
    let frames = written(&actions);
    let lists = frames.iter().filter(|frame| **frame == "list+").count();
    assert_eq!((frames.len(), lists), (1024, 512));
    assert_eq!(frames.first(), Some(&"list+"));
    assert_eq!(frames.get(512), Some(&numbered(1024, "event").as_str()));
}

fn text(text: &'static str) -> Input<Note> {
    push(Note(Class::Coalesce { stream: 0 }, text))
}

#[test]
fn acknowledgements_of_what_was_sent_are_read_as_fast_as_they_come() {
    let mut bench = Bench::new();
    online(&mut bench, FIRST, Position::default());
    for seq in 1..=30_000 {
        bench.tell(durable("a"));
        bench.tell(Input::Wrote { conn: FIRST });
        bench.tell(said(FIRST, stored(seq).ack()));
    }
    assert!(bench.link.takes_frames());
}

#[test]
fn a_message_of_too_many_texts_ends_the_connection_and_none_of_it_is_delivered() {
    let mut bench = Bench::new();
    online(&mut bench, FIRST, Position::default());
    bench.tell(said(FIRST, begin(1)));
    let texts = vec!["\"\""; MOST_TEXTS + 1].join(",");
    let actions = bench.tell(said(FIRST, format!("{{\"seq\":1,\"messages\":[{texts}]}}")));
    let code = Some(PROTOCOL_ERROR);
    assert_eq!(actions[0], Action::HangUp { conn: FIRST, code });
    let Some(Action::Deliver(Inbound::Closed { reason, .. })) = actions.get(1) else {
        panic!("{actions:?}")
    };
    assert!(
        reason.to_string().contains("more than 4096 texts"),
        "{reason}"
    );
}

#[test]
fn texts_of_numbered_messages_pause_the_reading_as_frames_do() {
    let mut bench = Bench::new();
    online(&mut bench, FIRST, Position::default());
    bench.tell(said(FIRST, begin(1)));
    let mut taken = 0;
    while bench.link.takes_frames() {
        let seq = taken + 1;
        let texts = (0..MOST_TEXTS).map(|text| format!("\"{seq} {text}\""));
        let texts = texts.collect::<Vec<_>>().join(",");
        bench.tell(said(
            FIRST,
            format!("{{\"seq\":{seq},\"messages\":[{texts}]}}"),
        ));
        taken = seq;
    }
    assert_eq!(taken, 5, "20,000 at once are agreed");
    assert!(
        matches!(bench.link.stage, Stage::Online(_)),
        "none is useless"
    );
}

#[test]
fn a_server_that_repeats_a_text_in_numbered_messages_is_left() {
    let mut bench = Bench::new();
    online(&mut bench, FIRST, Position::default());
    bench.tell(said(FIRST, begin(1)));
    let texts = vec!["\"\""; MOST_TEXTS].join(",");
    let actions = bench.tell(said(FIRST, format!("{{\"seq\":1,\"messages\":[{texts}]}}")));
    let left = |action: &Action| {
        matches!(
            action,
            Action::Deliver(Inbound::Closed {
                reason: CloseReason::Flooded { .. },
                ..
            })
        )
    };
    assert!(actions.iter().any(left));
}

#[test]
fn a_short_text_does_not_keep_the_long_frame_it_came_in() {
    let pad = " ".repeat(1 << 20);
    let frame = Bytes::from(format!("{{\"seq\":1,\"messages\":[{{}}{pad}]}}"));
    let words = std::str::from_utf8(&frame).unwrap();
    let short = words.matches("{}").next().unwrap();
    let text = slice(&frame, Cow::Borrowed(short));
    assert_eq!(text, "{}");
    assert!(frame.is_unique(), "nothing else holds it");
}
