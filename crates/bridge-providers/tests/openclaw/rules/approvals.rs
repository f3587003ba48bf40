//! Questions of the gateway and their answers.

use bridge_proto::model::{Answer, AskEnd, RunEvent};
use bridge_providers::{
    openclaw::Act,
    provider::{Heard, Steer},
};
use serde_json::json;

use super::{approval, asked, seconds, settled};
use crate::play::SESSION;

#[test]
fn an_answer_is_applied_when_the_gateway_says_so() {
    for confirmed_by_event in [true, false] {
        let (mut play, _) = asked();
        let ask = play.asks[0].id.clone();
        let option = "allow-once".to_owned();
        play.steer(Steer::Answer(ask.clone(), Answer::Choose { option }));
        let applied = Act::Tell(Heard::Applied(ask));
        assert!(!play.acts.contains(&applied));
        if confirmed_by_event {
            let payload = json!({ "id": "a1", "decision": "allow-once", "resolvedBy": "us" });
            play.event("exec.approval.resolved", payload);
        }
        play.answer("exec.approval.resolve", &json!({ "ok": true }));
        assert_eq!(play.acts.iter().filter(|act| **act == applied).count(), 1);
    }
}

#[test]
fn while_a_person_is_waited_for_nothing_is_called_silent() {
    let (mut play, _) = asked();
    for _ in 0..20 {
        play.wait(seconds(30));
        play.event("tick", json!({}));
    }
    assert!(
        !play
            .seen
            .iter()
            .any(|event| matches!(event, RunEvent::Silent { .. }))
    );
}

#[test]
fn a_question_answered_elsewhere_or_overtaken_by_a_cancel_is_closed() {
    let (mut play, run) = asked();
    let payload = json!({ "id": "a1", "decision": "deny", "resolvedBy": "cli" });
    play.event("exec.approval.resolved", payload);
    play.event("exec.approval.requested", approval("a2", SESSION, &run));
    play.steer(Steer::Interrupt);
    play.event(
        "agent",
        settled(&run, 9, "error", &json!({ "aborted": true })),
    );
    let ends: Vec<AskEnd> = play
        .seen
        .iter()
        .filter_map(|event| {
            let RunEvent::AskClosed { how, .. } = event else {
                return None;
            };
            Some(how.clone())
        })
        .collect();
    let elsewhere = AskEnd::Answered {
        answer: "Deny in OpenClaw itself".into(),
    };
    assert_eq!(ends, [elsewhere, AskEnd::Withdrawn]);
}

#[test]
fn an_answer_that_came_too_late_closes_the_question() {
    let (mut play, _) = asked();
    let ask = play.asks[0].id.clone();
    let reason = "no".to_owned();
    play.steer(Steer::Answer(ask.clone(), Answer::Deny { reason }));
    assert_eq!(play.sent("exec.approval.resolve")[0]["decision"], "deny");
    play.refuse(
        "exec.approval.resolve",
        "INVALID_REQUEST",
        "APPROVAL_ALREADY_RESOLVED",
    );
    let how = AskEnd::Withdrawn;
    assert!(play.seen.contains(&RunEvent::AskClosed { ask, how }));
}
