//! What leaves the outbox, in which order, and what is never lost in it.

use super::*;
use crate::{
    delivery::{Epoch, Writer},
    inbound::FrameRefused,
    payload::{Frames, TextFrame},
};

#[derive(Debug, PartialEq)]
struct Note(Class, String);

impl Payload for Note {
    fn class(&self) -> Class {
        self.0
    }
    fn size(&self) -> usize {
        self.1.len()
    }
    fn absorb(&mut self, next: Self) -> Result<(), Self> {
        self.1.push_str(&next.1);
        Ok(())
    }
    fn seal(&self, _extended: bool) -> Frames {
        TextFrame::from(self.1.as_str()).into()
    }
}

const CONN: ConnId = ConnId(1);
const PACE: Duration = Duration::from_millis(30);
const PATIENT: Patience = Patience {
    pace: true,
    proof: true,
};

fn durable(stream: u64, text: &str) -> Note {
    Note(Class::Durable { stream }, text.to_owned())
}
fn text(stream: u64, text: &str) -> Note {
    Note(Class::Coalesce { stream }, text.to_owned())
}
fn paced(stream: u64, text: &str) -> Note {
    Note(Class::Paced { stream }, text.to_owned())
}
fn latest(slot: u64, text: &str) -> Note {
    Note(Class::Latest { slot }, text.to_owned())
}
fn reply(conn: ConnId, text: &str) -> Note {
    Note(Class::Reply { conn }, text.to_owned())
}

fn filled(limit: usize, notes: Vec<Note>) -> Outbox<Note> {
    let mut outbox = Outbox::new(limit, PACE);
    for note in notes {
        outbox.push(note, Some(CONN), 0).unwrap();
    }
    outbox
}

fn sent(outbox: &mut Outbox<Note>) -> Vec<String> {
    sent_at(outbox, Instant::now())
}

fn sent_at(outbox: &mut Outbox<Note>, now: Instant) -> Vec<String> {
    let mut batch = Batch::default();
    outbox.take(&mut batch, now, PATIENT, Peer::Plain, 1 << 20);
    batch
        .frames
        .iter()
        .map(|frame| frame.as_str().to_owned())
        .collect()
}

/// The peer has what was written.
fn wrote(outbox: &mut Outbox<Note>) {
    let (ping, wrote) = (1, Instant::now());
    let mut none = Writer::new(Epoch(1));
    outbox.on_wrote(Some(Proof { ping, wrote }), &mut none);
    outbox.on_proof(|_| true, &mut none);
}

fn closed(outbox: &mut Outbox<Note>, too_big: bool) -> Option<usize> {
    let (at, guess) = (Instant::now(), false);
    let too_big = too_big.then_some(TooBig { at, guess });
    let refused = outbox.on_closed(too_big, &mut Writer::new(Epoch(1)));
    assert!(refused.len() < 2, "{refused:?}");
    refused.first().copied()
}

#[test]
fn merges_text_only_with_its_streams_tail() {
    let mut outbox = filled(
        1000,
        vec![
            text(1, "a"),
            text(2, "x"),
            text(1, "b"),
            durable(1, "end"),
            text(1, "c"),
        ],
    );
    assert_eq!(sent(&mut outbox), ["ab", "x", "end", "c"]);
    wrote(&mut outbox);
    assert!(outbox.is_empty());
    assert_eq!(outbox.held(), (0, 0));
}

#[test]
fn does_not_merge_into_what_was_sealed() {
    let mut outbox = filled(1000, vec![text(1, "a")]);
    assert_eq!(sent(&mut outbox), ["a"]);
    outbox.push(text(1, "b"), None, 0).unwrap();
    closed(&mut outbox, false);
    outbox.push(text(1, "c"), None, 0).unwrap();
    assert_eq!(sent(&mut outbox), ["a", "bc"]);
    closed(&mut outbox, false);
    outbox.push(text(1, "d"), None, 0).unwrap();
    assert_eq!(sent(&mut outbox), ["a", "bc", "d"]);
}

#[test]
fn keeps_the_newest_of_a_slot_in_the_place_of_the_oldest() {
    let mut outbox = filled(
        1000,
        vec![latest(1, "old"), durable(0, "d"), latest(1, "newer")],
    );
    assert_eq!(outbox.held(), (2, 6));
    assert_eq!(sent(&mut outbox), ["newer", "d"]);
    outbox.push(latest(1, "newest"), None, 0).unwrap();
    closed(&mut outbox, false);
    assert_eq!(sent(&mut outbox), ["d", "newest"]);
}

#[test]
fn answers_die_with_their_connection() {
    let mut outbox = filled(1000, vec![reply(CONN, "one"), reply(ConnId(0), "stale")]);
    assert_eq!(sent(&mut outbox), ["one"]);
    outbox.push(reply(CONN, "two"), Some(CONN), 0).unwrap();
    closed(&mut outbox, false);
    assert!(outbox.is_empty());
    assert_eq!(outbox.held(), (0, 0));
}

#[test]
fn a_full_outbox_gives_back_all_but_durable_and_latest() {
    let mut outbox = filled(10, vec![text(1, "12345678")]);
    assert_eq!(
        outbox.push(text(2, "abc"), None, 0),
        Err(Full(text(2, "abc")))
    );
    let answer = || reply(CONN, "abc");
    assert_eq!(outbox.push(answer(), Some(CONN), 0), Err(Full(answer())));
    outbox.push(durable(1, "terminal"), None, 0).unwrap();
    outbox.push(latest(1, "heartbeat"), None, 0).unwrap();
    assert_eq!(sent(&mut outbox), ["12345678", "terminal", "heartbeat"]);
    wrote(&mut outbox);
    outbox
        .push(text(2, "larger than the whole limit"), None, 0)
        .unwrap();
}

#[test]
fn sends_an_unconfirmed_batch_again_before_what_came_later() {
    let mut outbox = filled(1000, vec![durable(1, "a"), durable(2, "b")]);
    assert_eq!(sent(&mut outbox), ["a", "b"]);
    outbox.push(durable(1, "c"), None, 0).unwrap();
    closed(&mut outbox, false);
    assert_eq!(sent(&mut outbox), ["a", "b", "c"]);
}

#[test]
fn takes_out_what_no_peer_will_accept() {
    let mut outbox = filled(1000, vec![durable(1, "much too long"), durable(1, "ok")]);
    let mut batch = Batch::default();
    outbox.take(&mut batch, Instant::now(), PATIENT, Peer::Plain, 5);
    assert_eq!(batch.frames, ["ok".into()]);
    assert_eq!(batch.refused, [FrameRefused::TooLargeToSend { bytes: 13 }]);
}

#[test]
fn isolates_the_message_a_peer_refuses_as_too_big() {
    let mut outbox = filled(1000, vec![durable(1, "good"), durable(1, "poison")]);
    assert_eq!(sent(&mut outbox), ["good", "poison"]);
    assert_eq!(closed(&mut outbox, true), None);
    assert_eq!(sent(&mut outbox), ["good"]);
    wrote(&mut outbox);
    assert_eq!(sent(&mut outbox), ["poison"]);
    assert_eq!(closed(&mut outbox, true), Some(6));
    assert!(outbox.is_empty());
}

#[test]
fn what_is_no_longer_than_what_fitted_is_no_suspect() {
    let good = || durable(1, "good");
    let mut outbox = filled(1000, vec![good()]);
    assert_eq!(sent(&mut outbox), ["good"]);
    wrote(&mut outbox);
    for note in [good(), durable(2, "poison"), good(), good()] {
        outbox.push(note, None, 0).unwrap();
    }
    assert_eq!(sent(&mut outbox), ["good", "poison", "good", "good"]);
    assert_eq!(closed(&mut outbox, true), None);
    assert_eq!(sent(&mut outbox), ["good"]);
    // It waits for what went before.
    assert_eq!(sent(&mut outbox), [""; 0]);
    wrote(&mut outbox);
    assert_eq!(sent(&mut outbox), ["poison"]);
    assert_eq!(closed(&mut outbox, true), Some(6));
    assert_eq!(sent(&mut outbox), ["good", "good"]);
}

#[test]
fn where_everything_fitted_before_everything_is_a_suspect_again() {
    let mut outbox = filled(1000, vec![durable(1, "long")]);
    assert_eq!(sent(&mut outbox), ["long"]);
    wrote(&mut outbox);
    outbox.push(durable(1, "same"), None, 0).unwrap();
    assert_eq!(sent(&mut outbox), ["same"]);
    assert_eq!(closed(&mut outbox, true), None);
    assert_eq!(sent(&mut outbox), ["same"]);
    assert_eq!(closed(&mut outbox, true), Some(4));
}

#[test]
fn a_value_in_the_place_of_a_suspect_is_none() {
    let mut outbox = filled(1000, vec![latest(1, "older")]);
    assert_eq!(sent(&mut outbox), ["older"]);
    assert_eq!(closed(&mut outbox, true), None);
    for note in [latest(1, "newer"), durable(1, "another")] {
        outbox.push(note, None, 0).unwrap();
    }
    assert_eq!(sent(&mut outbox), ["newer", "another"]);
}

#[test]
fn text_that_needs_no_proof_tells_how_much_fits() {
    let mut outbox = filled(1000, vec![text(1, "12345678")]);
    assert_eq!(sent(&mut outbox), ["12345678"]);
    wrote(&mut outbox);
    for note in [durable(1, "good"), durable(2, "much too long")] {
        outbox.push(note, None, 0).unwrap();
    }
    assert_eq!(sent(&mut outbox), ["good", "much too long"]);
    assert_eq!(closed(&mut outbox, true), None);
    outbox.push(durable(1, "behind"), None, 0).unwrap();
    assert_eq!(sent(&mut outbox), ["good"], "no suspect");
    wrote(&mut outbox);
    assert_eq!(sent(&mut outbox), ["much too long"]);
}

#[test]
fn a_suspect_waits_for_a_proof_of_what_needs_none_itself() {
    let mut outbox = filled(1000, vec![durable(1, "good")]);
    assert_eq!(sent(&mut outbox), ["good"]);
    assert_eq!(closed(&mut outbox, true), None);
    let mut none = Writer::new(Epoch(1));
    let (ping, wrote) = (1, Instant::now());
    // A greeting, say, that may be what the peer refuses.
    outbox.on_wrote(Some(Proof { ping, wrote }), &mut none);
    assert_eq!(sent(&mut outbox), [""; 0]);
    assert!(outbox.is_held_up() && outbox.proving().is_some());
    outbox.on_proof(|proof| proof.ping == ping, &mut none);
    assert_eq!(sent(&mut outbox), ["good"]);
}

#[test]
fn a_list_that_was_refused_is_given_up_before_it_goes_again() {
    let mut outbox = filled(1000, vec![durable(1, "good"), latest(1, "a long list")]);
    assert_eq!(sent(&mut outbox), ["good", "a long list"]);
    // The list is let go, and the peer takes only what was before it.
    let proof = Proof {
        ping: 1,
        wrote: Instant::now(),
    };
    outbox.on_wrote(Some(proof), &mut Writer::new(Epoch(1)));
    assert_eq!(closed(&mut outbox, true), None);
    outbox.push(latest(1, "a long list"), None, 0).unwrap();
    outbox.push(latest(2, "a short one"), None, 0).unwrap();
    let mut batch = Batch::default();
    let now = Instant::now();
    outbox.take(&mut batch, now, PATIENT, Peer::Plain, 1 << 20);
    assert_eq!(batch.frames, ["good".into()]);
    let bytes = "a long list".len();
    assert_eq!(
        batch.refused,
        vec![FrameRefused::TooLargeToSend { bytes }; 2]
    );
    wrote(&mut outbox);
    // Some time later the way may be a wider one.
    outbox.push(latest(1, "a long list"), None, 0).unwrap();
    let later = now + Duration::from_secs(600);
    assert_eq!(sent_at(&mut outbox, later), ["a long list"]);
}

#[test]
fn an_answer_that_dies_with_its_connection_tells_how_long_is_too_long() {
    let mut outbox = filled(1000, vec![durable(1, "good"), reply(CONN, "a long answer")]);
    assert_eq!(sent(&mut outbox), ["good", "a long answer"]);
    // Before the write is confirmed.
    assert_eq!(closed(&mut outbox, true), None);
    let next = ConnId(CONN.0 + 1);
    outbox
        .push(reply(next, "a long answer"), Some(next), 0)
        .unwrap();
    assert_eq!(sent(&mut outbox), ["good"]);
}

#[test]
fn what_must_arrive_is_given_up_only_when_it_was_refused_itself() {
    let mut outbox = filled(1000, vec![durable(1, "poison")]);
    assert_eq!(sent(&mut outbox), ["poison"]);
    assert_eq!(closed(&mut outbox, true), None);
    assert_eq!(sent(&mut outbox), ["poison"]);
    assert_eq!(closed(&mut outbox, true), Some(6));
    for note in [
        text(1, "longer"),
        durable(1, "good"),
        durable(1, "venomous"),
        text(1, "a"),
    ] {
        outbox.push(note, None, 0).unwrap();
    }
    assert_eq!(sent(&mut outbox), ["good"]);
    wrote(&mut outbox);
    assert_eq!(sent(&mut outbox), ["venomous"]);
    wrote(&mut outbox);
    // The way is wider than it was.
    outbox.push(text(1, "longer"), None, 0).unwrap();
    assert_eq!(sent(&mut outbox), ["alonger"]);
}

#[test]
fn an_increment_after_a_pause_goes_at_once_and_those_behind_it_go_together() {
    let (mut outbox, begun) = (filled(1000, vec![paced(1, "a")]), Instant::now());
    assert_eq!(sent_at(&mut outbox, begun), ["a"]);
    wrote(&mut outbox);
    for text in ["b", "c", "d"] {
        outbox.push(paced(1, text), None, 0).unwrap();
        assert_eq!(sent_at(&mut outbox, begun + PACE / 2), [""; 0]);
    }
    assert_eq!(outbox.due(begun + PACE / 2), Some(begun + PACE));
    assert_eq!(sent_at(&mut outbox, begun + PACE), ["bcd"]);
    wrote(&mut outbox);
    assert_eq!(outbox.due(begun + PACE), None);
    outbox.push(paced(1, "e"), None, 0).unwrap();
    assert_eq!(sent_at(&mut outbox, begun + PACE * 3), ["e"]);
}

#[test]
fn anything_else_of_a_stream_lets_its_increments_go_first() {
    for other in [durable(1, "end"), text(1, "end")] {
        let (mut outbox, begun) = (filled(1000, vec![paced(1, "a")]), Instant::now());
        assert_eq!(sent_at(&mut outbox, begun), ["a"]);
        wrote(&mut outbox);
        outbox.push(paced(1, "b"), None, 0).unwrap();
        outbox.push(other, None, 0).unwrap();
        assert_eq!(sent_at(&mut outbox, begun), ["b", "end"]);
        wrote(&mut outbox);
        // What was let go counts for the pace as well.
        outbox.push(paced(1, "c"), None, 0).unwrap();
        assert_eq!(sent_at(&mut outbox, begun + PACE / 2), [""; 0]);
    }
}

#[test]
fn the_pace_of_one_stream_holds_up_no_other() {
    let (mut outbox, begun) = (filled(1000, vec![paced(1, "a")]), Instant::now());
    assert_eq!(sent_at(&mut outbox, begun), ["a"]);
    wrote(&mut outbox);
    for note in [
        paced(1, "b"),
        paced(2, "x"),
        durable(3, "d"),
        latest(0, "l"),
    ] {
        outbox.push(note, None, 0).unwrap();
    }
    assert_eq!(sent_at(&mut outbox, begun), ["x", "d", "l"]);
    wrote(&mut outbox);
    assert_eq!(sent_at(&mut outbox, begun + PACE), ["b"]);
}

#[test]
fn what_is_sent_again_and_what_is_in_a_hurry_waits_for_no_pace() {
    let (mut outbox, begun) = (filled(1000, vec![paced(1, "a")]), Instant::now());
    assert_eq!(sent_at(&mut outbox, begun), ["a"]);
    closed(&mut outbox, false);
    assert_eq!(sent_at(&mut outbox, begun), ["a"]);
    wrote(&mut outbox);
    outbox.push(paced(1, "b"), None, 0).unwrap();
    assert_eq!(sent_at(&mut outbox, begun), [""; 0]);
    let mut hurried = Batch::default();
    let patience = Patience {
        pace: false,
        ..PATIENT
    };
    outbox.take(&mut hurried, begun, patience, Peer::Plain, 1 << 20);
    assert_eq!(hurried.frames, ["b".into()]);
}
