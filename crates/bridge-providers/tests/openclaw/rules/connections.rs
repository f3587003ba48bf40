//! Connections that are not made, are lost, and come back.

use std::time::Duration;

use bridge_proto::model::{Answer, AskEnd, Fault, Fix, Outcome, RunEvent};
use bridge_providers::{
    openclaw::{Act, Lost, Plan, Work},
    provider::Steer,
};
use serde_json::json;

use super::{CANCELLED, approval, asked, begun, blocked, failed, is_over, says, seconds, settled};
use crate::play::{EVERYTHING, Play, SESSION, plan, working};

fn broken() -> Lost {
    Lost::Broken("connection reset".into())
}

fn back(play: &mut Play, boot: &str) {
    play.wait(Duration::from_millis(300));
    play.let_in(boot, &EVERYTHING);
}

#[test]
fn a_gateway_that_is_not_there_blocks_at_once_and_says_how_to_start_it() {
    let mut play = Play::new(plan());
    play.lost(&Lost::Refused("Connection refused".into()));
    assert!(is_over(&play), "before anything was said");
    play.say("go");
    let reason = blocked(&play, Fix::Setup);
    assert!(reason.contains("openclaw gateway"), "{reason}");
}

#[test]
fn a_gateway_that_is_starting_is_waited_for_and_not_for_ever() {
    let starts = |play: &mut Play| {
        play.open_line();
        play.event("connect.challenge", json!({ "nonce": "n", "ts": 1 }));
        play.refuse("connect", "UNAVAILABLE", "startup-sidecars");
        let reason = "startup-sidecars".to_owned();
        play.lost(&Lost::Closed { code: 1013, reason });
        play.wait(seconds(1));
    };
    let mut play = Play::new(plan());
    play.say("go");
    for _ in 0..10 {
        starts(&mut play);
    }
    play.let_in("boot-1", &EVERYTHING);
    play.ready(SESSION);
    assert_eq!(play.sent("chat.send").len(), 1);
    let mut never = Play::new(plan());
    never.say("go");
    for _ in 0..200 {
        if is_over(&never) {
            break;
        }
        starts(&mut never);
    }
    assert!(blocked(&never, Fix::Setup).contains("still starting"));
    assert!(never.now - never.begin <= seconds(62));
}

#[test]
fn a_gateway_that_closes_before_it_lets_in_is_told_with_its_code() {
    let mut play = Play::new(plan());
    play.say("go");
    play.open_line();
    let reason = "go away".to_owned();
    play.lost(&Lost::Closed { code: 1008, reason });
    assert!(blocked(&play, Fix::Setup).contains("1008: go away"));
}

#[test]
fn a_gateway_that_says_nothing_is_not_waited_for() {
    let mut play = Play::new(plan());
    play.say("go");
    play.open_line();
    play.wait(seconds(20));
    assert!(blocked(&play, Fix::Setup).contains("says nothing"));
    let mut play = Play::new(plan());
    play.say("go");
    play.let_in("boot-1", &EVERYTHING);
    for _ in 0..7 {
        play.wait(seconds(10));
        play.event("tick", json!({}));
    }
    assert!(failed(&play, Fault::Agent).contains("does not open a session"));
}

#[test]
fn another_protocol_is_answered_over_http_only_where_that_was_allowed() {
    let refused = |fallback: Result<(), String>| {
        let mut play = Play::new(Plan { fallback, ..plan() });
        play.say("go");
        play.open_line();
        play.event("connect.challenge", json!({ "nonce": "n", "ts": 1 }));
        play.refuse("connect", "INVALID_REQUEST", "PROTOCOL_MISMATCH");
        play
    };
    let allowed = refused(Ok(()));
    assert_eq!(allowed.acts.last(), Some(&Act::Fallback(vec!["go".into()])));
    assert_eq!(allowed.turns.len(), 0);
    let why = "because".to_owned();
    let not = refused(Err(why));
    assert!(blocked(&not, Fix::Setup).ends_with("; because"));
    let mut newer = Play::new(Plan {
        fallback: Ok(()),
        ..plan()
    });
    newer.open_line();
    newer.event("connect.challenge", json!({ "nonce": "n", "ts": 1 }));
    newer.answer("connect", &json!({ "protocol": 5 }));
    assert_eq!(newer.acts.last(), Some(&Act::Fallback(vec![])));
}

#[test]
fn a_lost_connection_is_made_again_and_no_message_is_sent_twice() {
    let (mut play, run) = working("go");
    begun(&mut play, &run);
    says(&mut play, &run, 2, "one");
    play.lost(&broken());
    back(&mut play, "boot-1");
    let events = json!([{ "runId": run, "seq": 2, "stream": "assistant", "data": {} }]);
    let in_flight = json!({ "runId": run, "text": "one two", "events": events });
    play.answer(
        "chat.history",
        &json!({ "inFlightRun": in_flight, "messages": [] }),
    );
    says(&mut play, &run, 4, "one two three");
    play.event("agent", settled(&run, 5, "end", &json!({})));
    assert_eq!(play.turns[0].answer, "one two three");
    assert_eq!(play.texts(), ["one two three"]);
    assert_eq!(play.sent("chat.send").len(), 1);
    assert_eq!(play.sent("sessions.messages.subscribe").len(), 2);
}

#[test]
fn a_run_that_ended_while_nobody_listened_is_told_with_its_answer() {
    let (mut play, run) = working("go");
    begun(&mut play, &run);
    play.lost(&broken());
    back(&mut play, "boot-1");
    play.answer(
        "chat.history",
        &json!({ "sessionInfo": { "activeRunIds": [] } }),
    );
    let reply = json!({ "disposition": "visible", "text": "Done." });
    play.answer(
        "agent.wait",
        &json!({ "status": "ok", "terminalReply": reply }),
    );
    assert_eq!(play.outcomes(), [Outcome::Completed]);
    assert_eq!(play.turns[0].answer, "Done.");
    let (mut play, _) = working("go");
    play.lost(&broken());
    back(&mut play, "boot-1");
    play.answer("chat.history", &json!({}));
    play.answer(
        "agent.wait",
        &json!({ "status": "error", "error": "it broke" }),
    );
    assert_eq!(failed(&play, Fault::Agent), "it broke");
}

#[test]
fn a_message_that_never_arrived_is_sent_again_under_the_same_name() {
    let mut play = Play::new(plan());
    play.say("go");
    play.let_in("boot-1", &EVERYTHING);
    play.ready(SESSION);
    play.lost(&broken());
    back(&mut play, "boot-1");
    play.answer("chat.history", &json!({ "messages": [] }));
    play.answer("agent.wait", &json!({ "status": "timeout" }));
    let sent = play.sent("chat.send");
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[0], sent[1]);
}

#[test]
fn a_message_that_may_have_run_is_never_sent_again() {
    let mut play = Play::new(plan());
    play.say("go");
    play.let_in("boot-1", &EVERYTHING);
    play.ready(SESSION);
    let key = play.sent("chat.send")[0]["idempotencyKey"].clone();
    play.lost(&broken());
    back(&mut play, "boot-2");
    let own = format!("{}:user", key.as_str().unwrap());
    let messages = json!([{ "role": "user", "idempotencyKey": own }]);
    play.answer("chat.history", &json!({ "messages": messages }));
    play.answer("agent.wait", &json!({ "status": "timeout" }));
    assert_eq!(play.sent("chat.send").len(), 1);
    assert!(failed(&play, Fault::Agent).contains("lost the run"));
}

#[test]
fn a_run_the_gateway_begins_again_after_a_crash_is_followed() {
    let (mut play, run) = working("go");
    begun(&mut play, &run);
    play.lost(&broken());
    back(&mut play, "boot-2");
    let active = json!({ "activeRunIds": ["recovered"] });
    play.answer("chat.history", &json!({ "sessionInfo": active }));
    play.answer("agent.wait", &json!({ "status": "timeout" }));
    let work = Work {
        session: SESSION.into(),
        run: "recovered".into(),
    };
    assert!(play.acts.contains(&Act::Guard(Some(work))));
    says(&mut play, "recovered", 1, "again");
    play.event("agent", settled("recovered", 2, "end", &json!({})));
    assert_eq!(play.turns[0].answer, "again");
}

#[test]
fn approvals_are_compared_after_a_connection_was_lost() {
    let (mut play, run) = asked();
    play.event("exec.approval.requested", approval("a2", SESSION, &run));
    let first = play.asks[0].id.clone();
    let option = "allow-once".to_owned();
    let second = play.asks[1].id.clone();
    play.steer(Steer::Answer(second, Answer::Choose { option }));
    play.lost(&broken());
    back(&mut play, "boot-1");
    let list = json!([
        approval("a2", SESSION, &run),
        approval("a3", SESSION, &run),
        approval("x", "agent:main:main", "r")
    ]);
    play.answer("exec.approval.list", &list);
    let how = AskEnd::Withdrawn;
    assert!(play.seen.contains(&RunEvent::AskClosed { ask: first, how }));
    let asked: Vec<&str> = play.asks.iter().map(|ask| ask.id.as_str()).collect();
    assert_eq!(asked, ["a1", "a2", "a3"]);
    let sent = play.sent("exec.approval.resolve");
    assert_eq!(
        (sent.len(), &sent[1]["id"]),
        (2, &json!("a2")),
        "said again"
    );
}

#[test]
fn a_connection_that_falls_silent_is_made_again() {
    let (mut play, run) = working("go");
    begun(&mut play, &run);
    let dials = |play: &Play| play.acts.iter().filter(|act| **act == Act::Dial).count();
    play.wait(seconds(59));
    assert_eq!(dials(&play), 1);
    play.wait(seconds(2));
    assert_eq!(dials(&play), 2);
}

#[test]
fn an_owner_that_does_not_listen_does_not_make_the_gateway_silent() {
    let (mut play, run) = working("go");
    begun(&mut play, &run);
    for _ in 0..10 {
        play.now += seconds(59);
        play.dialogue.on_unread(play.now);
        assert_eq!(play.dialogue.next_act(), None);
    }
}

#[test]
fn a_gateway_that_is_gone_fails_the_turn_with_both_reasons() {
    let (mut play, run) = working("go");
    begun(&mut play, &run);
    let reason = "exit 3".to_owned();
    play.lost(&Lost::Closed { code: 4003, reason });
    for _ in 0..100 {
        if is_over(&play) {
            break;
        }
        play.wait(seconds(2));
        play.lost(&Lost::Refused("Connection refused".into()));
    }
    let reason = failed(&play, Fault::Agent);
    assert!(
        reason.contains("4003: exit 3") && reason.contains("refused"),
        "{reason}"
    );
    assert!(play.now - play.begin <= seconds(15));
}

#[test]
fn a_gateway_that_restarts_is_waited_for() {
    let (mut play, run) = working("go");
    begun(&mut play, &run);
    play.event("shutdown", json!({ "reason": "update" }));
    let reason = "service restart".to_owned();
    play.lost(&Lost::Closed { code: 1012, reason });
    for _ in 0..15 {
        play.wait(seconds(2));
        play.lost(&Lost::Refused("Connection refused".into()));
    }
    assert!(!is_over(&play));
    back(&mut play, "boot-2");
    assert!(play.statuses().iter().any(|text| text.contains("update")));
    play.answer("chat.history", &json!({}));
    let reply = json!({ "text": "Done." });
    play.answer(
        "agent.wait",
        &json!({ "status": "ok", "terminalReply": reply }),
    );
    assert_eq!(play.outcomes(), [Outcome::Completed]);
}

#[test]
fn an_interrupt_during_an_outage_is_said_when_the_connection_is_back() {
    let (mut play, run) = working("go");
    begun(&mut play, &run);
    play.lost(&broken());
    play.steer(Steer::Interrupt);
    assert_eq!(play.sent("chat.abort").len(), 0);
    back(&mut play, "boot-1");
    assert_eq!(play.sent("chat.abort").len(), 1);
    play.event(
        "agent",
        settled(&run, 9, "error", &json!({ "aborted": true })),
    );
    assert_eq!(play.outcomes(), [CANCELLED]);
}

#[test]
fn an_idle_conversation_that_is_hung_up_on_is_over() {
    let (mut play, run) = working("go");
    play.event("agent", settled(&run, 2, "end", &json!({})));
    play.lost(&broken());
    assert!(is_over(&play));
    play.say("too late");
    assert!(failed(&play, Fault::Agent).contains("between two turns"));
}

#[test]
fn a_close_waits_for_the_turn_and_an_interrupt_before_the_session_cancels() {
    let (mut play, run) = working("go");
    play.steer(Steer::Close);
    assert!(!is_over(&play));
    play.event("agent", settled(&run, 2, "end", &json!({})));
    assert!(is_over(&play));
    let mut early = Play::new(plan());
    early.say("one");
    early.say("two");
    early.steer(Steer::Interrupt);
    assert_eq!(early.outcomes(), [CANCELLED, CANCELLED]);
}

#[test]
fn folders_out_of_reach_are_told_once() {
    let mut play = Play::new(Plan {
        further: true,
        ..plan()
    });
    play.say("go");
    play.let_in("boot-1", &EVERYTHING);
    play.ready(SESSION);
    assert!(play.statuses()[0].contains("out of their reach"));
}

#[test]
fn a_prompt_the_gateway_would_hang_up_on_is_not_sent() {
    let (mut play, run) = working("go");
    play.say(&"x".repeat(9 << 20));
    play.say("next");
    play.event("agent", settled(&run, 2, "end", &json!({})));
    assert_eq!(play.sent("chat.send").len(), 2);
    assert!(failed(&play, Fault::Task).contains("9437184 bytes"));
}
