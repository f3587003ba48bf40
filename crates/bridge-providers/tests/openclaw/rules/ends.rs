//! How a run of the gateway ends, whatever it says of it and how often.

use bridge_proto::model::{Fault, Fix, Outcome, RunEvent};
use bridge_providers::provider::Steer;
use serde_json::{Value, json};

use super::{CANCELLED, begun, blocked, chat, failed, says, seconds, settled};
use crate::play::{agent, working};

#[test]
fn a_failure_that_is_told_twice_ends_one_turn() {
    let (mut play, run) = working("go");
    begun(&mut play, &run);
    play.say("and then");
    let error = json!({ "errorMessage": "no", "agentId": "main" });
    play.event("chat", chat(&run, "error", &error));
    play.event(
        "agent",
        settled(&run, 9, "error", &json!({ "error": "no" })),
    );
    play.event(
        "chat",
        chat(&run, "error", &json!({ "errorMessage": "Agent failed" })),
    );
    assert_eq!(play.turns.len(), 1);
    play.wait(seconds(30));
    assert_eq!(
        play.turns.len(),
        1,
        "the second error is not the next turn's"
    );
    assert_eq!(failed(&play, Fault::Agent), "no");
}

#[test]
fn an_empty_completion_is_a_failure_although_it_is_told_as_aborted_first() {
    let (mut play, run) = working("go");
    begun(&mut play, &run);
    play.event("chat", chat(&run, "aborted", &json!({})));
    let detail = json!({ "failoverReason": "empty_response" });
    let error = json!({ "errorMessage": "empty answer", "errorDetail": detail });
    play.event("chat", chat(&run, "error", &error));
    play.wait(seconds(10));
    assert_eq!(failed(&play, Fault::Model), "empty answer");
}

#[test]
fn an_abort_is_followed_by_an_end_and_an_error_and_is_one_cancel() {
    let (mut play, run) = working("go");
    begun(&mut play, &run);
    says(&mut play, &run, 2, "half an answer");
    play.steer(Steer::Interrupt);
    play.event("chat", chat(&run, "aborted", &json!({})));
    let end = json!({ "phase": "end", "status": "cancelled", "aborted": true });
    play.event("agent", agent(&run, 3, "lifecycle", end));
    assert_eq!(play.turns.len(), 0, "its commands may still be ending");
    play.answer("chat.abort", &json!({ "aborted": true, "runIds": [run] }));
    let aborted = json!({ "aborted": true, "error": "This operation was aborted" });
    play.event("agent", settled(&run, 4, "error", &aborted));
    assert_eq!(play.outcomes(), [CANCELLED]);
    assert_eq!(play.turns[0].answer, "half an answer");
}

#[test]
fn a_run_that_was_stopped_before_it_began_never_settles() {
    let (mut play, run) = working("go");
    play.steer(Steer::Interrupt);
    let end = json!({ "phase": "end", "status": "cancelled", "aborted": true });
    play.event("agent", agent(&run, 1, "lifecycle", end));
    assert_eq!(play.outcomes(), [CANCELLED]);
}

#[test]
fn an_abort_of_a_run_that_nobody_knows_ends_the_turn_soon() {
    let (mut play, run) = working("go");
    begun(&mut play, &run);
    play.steer(Steer::Interrupt);
    play.answer("chat.abort", &json!({ "aborted": false, "runIds": [] }));
    play.wait(seconds(1));
    assert_eq!(play.outcomes(), [CANCELLED]);
}

#[test]
fn an_abort_that_is_not_answered_is_said_again() {
    let (mut play, run) = working("go");
    begun(&mut play, &run);
    play.steer(Steer::Interrupt);
    play.steer(Steer::Interrupt);
    assert_eq!(play.sent("chat.abort").len(), 1);
    play.wait(seconds(2));
    assert_eq!(play.sent("chat.abort").len(), 2);
    assert_eq!(play.turns.len(), 0, "the driver ends what does not stop");
}

#[test]
fn what_somebody_stops_in_openclaw_itself_is_cancelled() {
    let (mut play, run) = working("go");
    begun(&mut play, &run);
    let aborted = json!({ "aborted": true, "error": "stopped" });
    play.event("agent", settled(&run, 2, "error", &aborted));
    assert_eq!(play.outcomes(), [CANCELLED]);
}

#[test]
fn a_final_without_a_message_and_without_a_run_was_handed_to_another_run() {
    let (mut play, run) = working("go");
    play.event("chat", chat(&run, "final", &json!({})));
    play.wait(seconds(10));
    assert!(failed(&play, Fault::Agent).contains("another run"));
}

#[test]
fn a_message_that_the_gateway_answers_by_itself_is_an_answer() {
    let (mut play, run) = working("/status");
    let content = json!([{ "type": "text", "text": "All is well." }]);
    let message = json!({ "message": { "role": "assistant", "content": content } });
    play.event("chat", chat(&run, "final", &message));
    play.wait(seconds(10));
    assert_eq!(play.outcomes(), [Outcome::Completed]);
    assert_eq!(play.turns[0].answer, "All is well.");
}

#[test]
fn a_key_in_cooldown_asks_for_a_login_at_once() {
    let (mut play, run) = working("go");
    let said = "Inline API key for provider \"mock\" is temporarily disabled after a provider \
                auth/billing failure. Retry after about 1 minute.";
    play.event(
        "agent",
        settled(&run, 4, "error", &json!({ "error": said })),
    );
    assert_eq!(blocked(&play, Fix::Login), said);
}

#[test]
fn a_failing_model_is_told_and_how_long_it_is_waited_for_is_not_decided_here() {
    let (mut play, run) = working("go");
    begun(&mut play, &run);
    for attempt in 1..=9_u64 {
        let data = json!({ "phase": "retrying", "retryAttempt": attempt, "maxRetries": 9,
            "delayMs": 30_000, "reason": "rate_limit", "message": "Retrying" });
        play.event("agent", agent(&run, attempt + 1, "run_status", data));
        play.wait(seconds(50));
    }
    let told =
        |event: &&RunEvent| matches!(event, RunEvent::Retrying(retry) if retry.limit == Some(9));
    assert_eq!(play.seen.iter().filter(told).count(), 9);
    assert_eq!(play.sent("chat.abort"), Vec::<Value>::new());
}

#[test]
fn events_that_were_missed_are_asked_for_when_it_is_silent() {
    let (mut play, run) = working("go");
    begun(&mut play, &run);
    for _ in 0..3 {
        play.wait(seconds(20));
        play.event("tick", json!({}));
    }
    assert!(play.seen.contains(&RunEvent::Silent { seconds: 60 }));
    assert_eq!(
        play.sent("agent.wait"),
        [json!({ "runId": run, "timeoutMs": 0 })]
    );
    let reply = json!({ "disposition": "visible", "text": "It is done." });
    play.answer(
        "agent.wait",
        &json!({ "status": "ok", "terminalReply": reply }),
    );
    assert_eq!(play.outcomes(), [Outcome::Completed]);
    assert_eq!(play.turns[0].answer, "It is done.");
}
