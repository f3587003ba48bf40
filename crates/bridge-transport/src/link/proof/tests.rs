//! What a plain peer is sent again, and what is let go.

use super::{
    super::{
        Input, ReadBack, Record, Spooled, Timer,
        tests::{Bench, FIRST, Note, SECOND, closed, durable, opened, push, write},
    },
    *,
};
use crate::{
    delivery::{Epoch, Frame, Position},
    handle::Flushed,
    inbound::FrameRefused,
    payload::Class,
};

fn text(text: &'static str) -> Input<Note> {
    push(Note(Class::Coalesce { stream: 0 }, text))
}

fn pings(actions: &[Action]) -> Vec<u64> {
    let ids = actions.iter().filter_map(|action| match action {
        Action::Ping { id, .. } => Some(*id),
        Action::Dial { .. }
        | Action::Write { .. }
        | Action::Append { .. }
        | Action::Read { .. }
        | Action::Trim { .. }
        | Action::HangUp { .. }
        | Action::Deliver(_)
        | Action::State(_)
        | Action::Stopped(_) => None,
    });
    ids.collect()
}

/// Up, greeted, and its first ping answered.
fn answering() -> Bench {
    let mut bench = Bench::online();
    bench.answer_ping();
    bench
}

/// Pushes, and has the write confirmed.
fn sent(bench: &mut Bench, message: Input<Note>) {
    bench.tell(message);
    bench.tell(Input::Wrote { conn: FIRST });
}

/// What the next connection is sent first.
fn sent_again(bench: &mut Bench) -> Vec<Action> {
    bench.tell(closed(FIRST, 1006));
    bench.wait();
    bench.tell(opened(SECOND));
    bench.tell(Input::Wrote { conn: SECOND })
}

#[test]
fn a_terminal_message_whose_connection_dies_before_the_pong_is_sent_again_in_its_place() {
    let mut bench = answering();
    sent(&mut bench, durable("a"));
    sent(&mut bench, text("t"));
    sent(&mut bench, durable("b"));
    bench.tell(durable("c"));
    let again = sent_again(&mut bench);
    // The text was confirmed, which is enough for text.
    assert_eq!(again, [write(SECOND, &["a", "b", "c"])]);
}

#[test]
fn a_ping_that_was_out_before_the_write_proves_nothing_and_the_next_one_does() {
    let mut bench = answering();
    sent(&mut bench, durable("a"));
    bench.tell(Input::Pong { conn: FIRST, id: 1 });
    assert_eq!(bench.link.outbox.held(), (1, 1));
    let (waited, actions) = bench.wait();
    assert!(waited <= Duration::from_secs(1), "{waited:?}");
    assert_eq!(pings(&actions), [2]);
    bench.tell(Input::Pong { conn: FIRST, id: 2 });
    assert_eq!(bench.link.outbox.held(), (0, 0));
    assert_eq!(sent_again(&mut bench), []);
}

#[test]
fn a_pong_nobody_asked_for_proves_nothing() {
    let mut bench = answering();
    sent(&mut bench, durable("a"));
    let id = u64::MAX;
    bench.tell(Input::Pong { conn: FIRST, id });
    assert_eq!(sent_again(&mut bench), [write(SECOND, &["a"])]);
}

#[test]
fn many_messages_are_proven_by_few_pings() {
    let mut bench = answering();
    let begun = bench.now.at;
    let mut asked = 0;
    while bench.now.at < begun + Duration::from_secs(2) {
        sent(&mut bench, durable("one of many"));
        bench.pass_millis(1);
        for id in pings(&bench.tell(Input::Timeout)) {
            asked += 1;
            bench.tell(Input::Pong { conn: FIRST, id });
        }
    }
    assert!((3..=5).contains(&asked), "{asked} pings in 2 s");
    bench.answer_ping();
    assert!(bench.link.outbox.is_empty());
}

#[test]
fn a_link_that_writes_without_a_pause_pings_between_two_writes() {
    let mut bench = answering();
    bench.tell(durable("a"));
    let mut asked = Vec::new();
    for _ in 0..20 {
        bench.tell(durable("more"));
        bench.pass_millis(100);
        asked.extend(pings(&bench.tell(Input::Wrote { conn: FIRST })));
    }
    assert!((3..=4).contains(&asked.len()), "{asked:?}");
}

#[test]
fn what_is_not_proven_counts_against_the_bound() {
    let mut bench = answering();
    let long = "fifty bytes, as many as one frame may have in here";
    sent(&mut bench, durable(long));
    sent(&mut bench, durable(long));
    let full = bench.link.handle(bench.now, 0, text("no room"));
    assert!(full.is_err());
    bench.answer_ping();
    assert_eq!(bench.tell(text("room")), [write(FIRST, &["room"])]);
}

#[test]
fn a_peer_that_answers_no_ping_proves_by_a_frame_once_that_is_known() {
    let mut bench = Bench::online();
    let frame = || Input::Frame {
        conn: FIRST,
        text: "{}".into(),
    };
    sent(&mut bench, durable("a"));
    bench.tell(frame());
    assert_eq!(bench.link.outbox.held().0, 1, "it may still answer");
    let begun = bench.now.at;
    while !bench.link.outbox.is_empty() {
        bench.step();
    }
    assert_eq!(
        bench.now.at - begun,
        bench.link.timings.silence,
        "it outlived the write"
    );
    sent(&mut bench, durable("b"));
    assert_eq!(bench.link.outbox.held().0, 1);
    bench.tell(frame());
    assert!(bench.link.outbox.is_empty());
    let reason = FrameRefused::Binary { bytes: 1 };
    sent(&mut bench, durable("c"));
    bench.tell(Input::Refused {
        conn: FIRST,
        reason,
    });
    assert!(bench.link.outbox.is_empty());
}

#[test]
fn a_shutdown_waits_for_the_pong_and_at_most_as_long_as_it_was_given() {
    let limit = Duration::from_secs(5);
    let mut bench = answering();
    sent(&mut bench, durable("a"));
    assert_eq!(bench.tell(Input::Drain { limit }), []);
    assert_eq!(bench.link.deadline().map(|(at, _)| at), Some(bench.now.at));
    let ping = bench.tell(Input::Timeout);
    assert_eq!(pings(&ping), [2]);
    let done = bench.tell(Input::Pong { conn: FIRST, id: 2 });
    assert_eq!(done.last(), Some(&Action::Stopped(Flushed::Everything)));

    let mut bench = answering();
    sent(&mut bench, durable("a"));
    let begun = bench.now.at;
    let mut last = bench.tell(Input::Drain { limit });
    while bench.link.deadline().is_some() {
        last = bench.step();
    }
    assert_eq!(bench.now.at - begun, limit);
    let (messages, bytes) = (1, 1);
    let left = Action::Stopped(Flushed::Left { messages, bytes });
    assert_eq!(last.last(), Some(&left));
}

#[test]
fn a_peer_that_never_answers_holds_up_a_shutdown_for_a_second() {
    let mut bench = Bench::online();
    sent(&mut bench, durable("a"));
    let limit = Duration::from_secs(60);
    let begun = bench.now.at;
    let mut last = bench.tell(Input::Drain { limit });
    while bench.link.deadline().is_some() {
        last = bench.step();
    }
    assert_eq!(bench.now.at - begun, GIVE_UP);
    assert_eq!(last.last(), Some(&Action::Stopped(Flushed::Everything)));
}

#[test]
fn of_several_that_may_be_too_big_only_the_one_that_is_goes_lost() {
    let mut bench = answering();
    sent(&mut bench, durable("good"));
    sent(&mut bench, durable("poison"));
    bench.tell(closed(FIRST, 1009));
    bench.wait();
    bench.tell(opened(SECOND));
    let shorter = bench.tell(Input::Wrote { conn: SECOND });
    assert_eq!(shorter, [write(SECOND, &["good"])]);
    // The longest may be it, and waits until it is the only one that may.
    assert_eq!(bench.tell(Input::Wrote { conn: SECOND }), []);
    assert_eq!(bench.answer_ping(), [write(SECOND, &["poison"])]);
    bench.tell(Input::Wrote { conn: SECOND });
    let told = bench.tell(closed(SECOND, 1009));
    let (conn, reason) = (SECOND, FrameRefused::TooLargeToSend { bytes: 6 });
    let refused = Action::Deliver(crate::inbound::Inbound::Refused { conn, reason });
    assert!(told.contains(&refused), "{told:?}");
    assert!(bench.link.outbox.is_empty());
}

#[test]
fn at_the_end_a_peer_that_never_answers_is_sent_suspects_without_waiting() {
    let mut bench = Bench::online();
    sent(&mut bench, durable("one"));
    sent(&mut bench, durable("other"));
    bench.tell(closed(FIRST, 1009));
    bench.wait();
    bench.tell(opened(SECOND));
    let limit = Duration::from_secs(60);
    let wrote = || Input::Wrote { conn: SECOND };
    assert_eq!(bench.tell(wrote()), [write(SECOND, &["one"])]);
    assert_eq!(bench.tell(wrote()), [], "only time can prove it");
    let begun = bench.now.at;
    let suspect = bench.tell(Input::Drain { limit });
    assert!(suspect.contains(&write(SECOND, &["other"])), "{suspect:?}");
    let mut last = bench.tell(wrote());
    while bench.link.deadline().is_some() {
        last = bench.step();
    }
    assert_eq!(bench.now.at - begun, GIVE_UP);
    assert_eq!(last.last(), Some(&Action::Stopped(Flushed::Everything)));
}

#[test]
fn the_wait_for_a_proof_has_a_timer_of_its_own_where_only_time_can_tell() {
    let mut bench = Bench::online();
    sent(&mut bench, durable("a"));
    let due = bench.link.proof_due();
    assert_eq!(due, Some(bench.now.at + bench.link.timings.silence));
    bench.tell(Input::Pong { conn: FIRST, id: 0 });
    assert_eq!(bench.link.proof_due(), None);
    let first = bench.link.deadline().map(|(_, timer)| timer);
    assert_eq!(first, Some(Timer::Ping));
}

/// As `answering`, with a spool that is empty.
fn spooled() -> Bench {
    let mut bench = Bench::new();
    bench.link = bench.link.with_spool(Spooled {
        epoch: Epoch(7),
        first: 1,
        next: 1,
        read: ReadBack {
            from: 1,
            upto: 1,
            messages: Vec::new(),
        },
        store: |note: &Note| Some(note.1.into()),
        expired: None,
    });
    bench.tell(opened(FIRST));
    bench.tell(Input::Wrote { conn: FIRST });
    bench.answer_ping();
    bench
}

fn record(seq: u64, text: &str) -> Record {
    let stored = text.to_owned().into();
    Record { seq, stored }
}

#[test]
fn with_a_spool_a_plain_peer_is_sent_only_what_is_on_the_disk_and_it_stays_there_until_the_pong() {
    let mut bench = spooled();
    let records = vec![record(1, "a")];
    assert_eq!(bench.tell(durable("a")), [Action::Append { records }]);
    let written = bench.tell(Input::Appended { upto: 1 });
    assert_eq!(written, [write(FIRST, &["a"])]);
    assert_eq!(bench.tell(Input::Wrote { conn: FIRST }), []);
    assert_eq!(bench.answer_ping(), [Action::Trim { upto: 1 }]);
    assert_eq!(bench.link.writer.first(), 2);
}

#[test]
fn with_a_spool_what_was_not_proven_is_sent_again_and_holds_the_disk_of_what_came_after_it() {
    let mut bench = spooled();
    for (seq, message) in (1..).zip([durable("a"), text("t"), durable("b")]) {
        bench.tell(message);
        bench.tell(Input::Appended { upto: seq });
        let confirmed = bench.tell(Input::Wrote { conn: FIRST });
        assert_eq!(confirmed, [], "{seq} is not given back");
    }
    let again = sent_again(&mut bench);
    assert_eq!(again, [write(SECOND, &["a", "b"])]);
    bench.tell(Input::Wrote { conn: SECOND });
    assert_eq!(bench.answer_ping(), [Action::Trim { upto: 3 }]);
    assert!(bench.link.outbox.is_empty() && bench.link.writer.is_empty());
}

#[test]
fn what_a_plain_peer_did_not_prove_goes_to_one_with_the_envelope_under_its_number() {
    let mut bench = spooled();
    bench.tell(durable("a"));
    bench.tell(Input::Appended { upto: 1 });
    bench.tell(Input::Wrote { conn: FIRST });
    bench.tell(closed(FIRST, 1006));
    bench.wait();
    let (conn, extended) = (SECOND, true);
    bench.tell(Input::Opened { conn, extended });
    bench.tell(Input::Wrote { conn });
    let text = Position::default().resume().into();
    let begin = Frame::Begin {
        epoch: Epoch(7),
        next: 1,
    };
    let numbered = "{\"seq\":1,\"messages\":[\"a+\"]}";
    assert_eq!(
        bench.tell(Input::Frame { conn, text }),
        [write(SECOND, &[&begin.text(), numbered])]
    );
}

#[test]
fn a_spool_that_is_lost_meanwhile_costs_nothing() {
    let mut bench = spooled();
    bench.tell(durable("a"));
    bench.tell(Input::Appended { upto: 1 });
    bench.tell(Input::Wrote { conn: FIRST });
    bench.tell(durable("b"));
    let left = bench.tell(Input::SpoolLost { epoch: Epoch(8) });
    assert_eq!(
        left.first(),
        Some(&Action::HangUp {
            conn: FIRST,
            code: None
        })
    );
    bench.wait();
    bench.tell(opened(SECOND));
    let again = bench.tell(Input::Wrote { conn: SECOND });
    assert_eq!(again, [write(SECOND, &["a", "b"])]);
}
