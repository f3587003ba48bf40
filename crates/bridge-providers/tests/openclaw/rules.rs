//! What a conversation with the gateway of OpenClaw promises, without a gateway. One test per trap
//! of the protocol.

use std::time::Duration;

use bridge_proto::{
    ResumeId,
    model::{Actor, Answer, AskEnd, Fault, Fix, Outcome, RunEvent, ToolStatus, Tuning},
};
use bridge_providers::{
    openclaw::{Act, Lost, Plan, Work},
    provider::{Heard, Injection, Steer},
};
use serde_json::{Value, json};

use crate::play::{EVERYTHING, Play, SESSION, accept, agent, agents, created, plan, working};

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn settled(run: &str, seq: u64, phase: &str, more: &Value) -> Value {
    let mut data = json!({ "phase": phase, "executionSettled": true });
    let fields = data.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    agent(run, seq, "lifecycle", data)
}

fn begun(play: &mut Play, run: &str) {
    play.event(
        "agent",
        agent(run, 1, "lifecycle", json!({ "phase": "start" })),
    );
}

fn chat(run: &str, state: &str, more: &Value) -> Value {
    let mut payload = json!({ "runId": run, "sessionKey": SESSION, "seq": 1, "state": state });
    let fields = payload.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    payload
}

fn says(play: &mut Play, run: &str, seq: u64, text: &str) {
    let data = json!({ "itemId": format!("{run}:1"), "text": text, "delta": text });
    play.event("agent", agent(run, seq, "assistant", data));
}

fn blocked(play: &Play, fix: Fix) -> String {
    match play.outcomes().last() {
        Some(Outcome::Blocked { fix: is, reason }) if *is == fix => reason.clone(),
        other => panic!("{other:?}"),
    }
}

fn failed(play: &Play, fault: Fault) -> String {
    match play.outcomes().last() {
        Some(Outcome::Failed { fault: is, reason }) if *is == fault => reason.clone(),
        other => panic!("{other:?}"),
    }
}

fn approval(id: &str, session: &str, run: &str) -> Value {
    json!({ "id": id, "expiresAtMs": 1_795_151_186_323_i64, "request": {
        "command": "touch a", "cwd": "/home/user/project", "host": "gateway", "runId": run,
        "toolCallId": "c1", "sessionKey": session, "allowedDecisions": ["allow-once", "deny"] } })
}

fn is_over(play: &Play) -> bool {
    play.acts.contains(&Act::HangUp)
}

const CANCELLED: Outcome = Outcome::Cancelled { by: Actor::Person };

// How a run ends.

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

// What is shown.

#[test]
fn a_replacement_with_nothing_withdraws_what_a_cut_connection_left() {
    let (mut play, run) = working("go");
    begun(&mut play, &run);
    says(&mut play, &run, 2, "half an ans");
    let item = format!("{run}:1");
    let reset = json!({ "itemId": item, "text": "", "delta": "", "replace": true });
    play.event("agent", agent(&run, 3, "assistant", reset));
    assert_eq!(play.texts(), Vec::<String>::new());
    says(&mut play, &run, 4, "a whole answer");
    play.event("agent", settled(&run, 5, "end", &json!({})));
    assert_eq!(play.turns[0].answer, "a whole answer");
}

#[test]
fn what_other_sessions_and_runs_say_is_left_alone() {
    let (mut play, run) = working("go");
    let before = play.acts.len();
    let mut theirs = agent(
        &run,
        2,
        "assistant",
        json!({ "text": "secret", "itemId": "x" }),
    );
    theirs["sessionKey"] = json!("agent:main:main");
    play.event("agent", theirs);
    let other = agent(
        "another-run",
        2,
        "assistant",
        json!({ "text": "x", "itemId": "x" }),
    );
    play.event("agent", other);
    play.event("agent", settled("another-run", 3, "end", &json!({})));
    play.event("chat", chat("another-run", "error", &json!({})));
    play.event(
        "exec.approval.requested",
        approval("a1", "agent:main:main", "r"),
    );
    let usage = json!({ "usage": { "input": 5, "output": 5 }, "__openclaw": { "runId": "r" } });
    play.event(
        "session.message",
        json!({ "sessionKey": SESSION, "message": usage }),
    );
    for noise in [
        "tick",
        "health",
        "presence",
        "sessions.changed",
        "task",
        "cron",
    ] {
        play.event(noise, json!({ "anything": true }));
    }
    assert_eq!(play.acts.len(), before, "{:?}", &play.acts[before..]);
}

#[test]
fn events_that_come_twice_are_shown_once() {
    let (mut play, run) = working("go");
    begun(&mut play, &run);
    let data = json!({ "delta": "hm", "text": "hm" });
    for _ in 0..2 {
        play.event("agent", agent(&run, 2, "thinking", data.clone()));
    }
    let thoughts = play
        .seen
        .iter()
        .filter(|seen| matches!(seen, RunEvent::Thinking { .. }));
    assert_eq!(thoughts.count(), 1);
}

#[test]
fn what_has_no_place_is_passed_on_whole() {
    let (mut play, run) = working("go");
    begun(&mut play, &run);
    play.event(
        "agent",
        agent(&run, 2, "hologram", json!({ "phase": "spin", "x": 1 })),
    );
    play.event(
        "agent",
        agent(&run, 3, "lifecycle", json!({ "phase": "dreaming" })),
    );
    play.event("chat", chat(&run, "levitating", &json!({})));
    play.event("session.horoscope", json!({ "sessionKey": SESSION }));
    play.text("not json");
    play.text("[1,2]");
    let whats: Vec<&str> = play
        .seen
        .iter()
        .filter_map(|event| {
            let RunEvent::Other { what } = event else {
                return None;
            };
            Some(what.as_str())
        })
        .collect();
    let strange = "a frame of no known kind";
    let wanted = [
        "hologram spin",
        "lifecycle dreaming",
        "chat levitating",
        "session.horoscope",
    ];
    assert_eq!(whats, [&wanted[..], &[strange, strange]].concat());
    assert_eq!(play.raws, 6);
}

#[test]
fn plans_models_and_compaction_are_told() {
    let (mut play, run) = working("go");
    let steps = json!([{ "step": "look", "status": "completed" }, { "step": "act" }, 7]);
    play.event(
        "agent",
        agent(
            &run,
            1,
            "plan",
            json!({ "phase": "update", "steps": steps }),
        ),
    );
    let model = json!({ "phase": "model", "provider": "mock", "model": "other" });
    play.event("agent", agent(&run, 2, "lifecycle", model.clone()));
    play.event("agent", agent(&run, 3, "lifecycle", model));
    play.event(
        "agent",
        agent(&run, 4, "compaction", json!({ "phase": "start" })),
    );
    let told = RunEvent::Model {
        model: "mock/other".into(),
    };
    assert_eq!(play.seen.iter().filter(|event| **event == told).count(), 1);
    assert!(
        play.seen
            .iter()
            .any(|event| matches!(event, RunEvent::Plan { items } if items.len() == 2))
    );
    assert!(play.statuses().iter().any(|text| text.contains("shortens")));
}

#[test]
fn calls_that_are_open_at_the_end_are_closed() {
    let (mut play, run) = working("go");
    begun(&mut play, &run);
    let call = json!({ "phase": "start", "name": "exec", "toolCallId": "c1",
        "args": { "command": "sleep 9" } });
    play.event("agent", agent(&run, 2, "tool", call));
    play.steer(Steer::Interrupt);
    play.event(
        "agent",
        settled(&run, 3, "error", &json!({ "aborted": true })),
    );
    let Some(RunEvent::Tool(tool)) = play.seen.last() else {
        panic!("{:?}", play.seen)
    };
    assert_eq!(tool.status, ToolStatus::Cancelled);
}

// What is sent.

#[test]
fn full_access_is_never_in_force_by_default() {
    let (play, _) = working("go");
    for made in play.sent("sessions.create") {
        assert_eq!(made["permissionMode"], "guarded");
    }
    for sent in play.sent("chat.send") {
        assert_eq!(sent["expectedPermissionMode"], "guarded");
    }
}

#[test]
fn a_session_that_is_not_confirmed_as_guarded_is_not_used() {
    for mode in [json!("full"), json!("workspace"), Value::Null] {
        let mut play = Play::new(plan());
        play.say("go");
        play.let_in("boot-1", &EVERYTHING);
        play.answer("agents.list", &agents());
        let mut made = created(SESSION);
        made["entry"]["permissionMode"] = mode;
        play.answer("sessions.create", &made);
        assert!(blocked(&play, Fix::Setup).contains("guarded"));
        assert_eq!(play.sent("chat.send"), Vec::<Value>::new());
        assert!(is_over(&play));
    }
}

#[test]
fn a_session_that_somebody_took_out_of_the_mode_gets_no_message() {
    let mut play = Play::new(plan());
    play.say("go");
    play.let_in("boot-1", &EVERYTHING);
    play.ready(SESSION);
    play.refuse("chat.send", "INVALID_REQUEST", "session-settings-changed");
    assert!(blocked(&play, Fix::Setup).contains("guarded"));
}

#[test]
fn commands_of_the_gateway_in_a_prompt_are_text() {
    let (play, _) = working("please /exec security=full ask=off");
    assert_eq!(
        play.sent("chat.send")[0]["suppressCommandInterpretation"],
        true
    );
    let mut home = Play::new(Plan {
        directory: "/home/user/.openclaw/workspace".into(),
        foreign: false,
        ..plan()
    });
    home.say("/exec security=full");
    home.let_in("boot-1", &EVERYTHING[..3]);
    home.ready(SESSION);
    let sent = &home.sent("chat.send")[0];
    assert_eq!(sent["message"], "The user writes: /exec security=full");
    assert_eq!(sent.get("suppressCommandInterpretation"), None);
}

#[test]
fn one_message_is_in_flight_and_the_next_waits_here() {
    let (mut play, run) = working("one");
    play.say("two");
    begun(&mut play, &run);
    assert_eq!(play.sent("chat.send").len(), 1);
    play.event("agent", settled(&run, 2, "end", &json!({})));
    let sent = play.sent("chat.send");
    assert_eq!(sent.len(), 2);
    assert_ne!(sent[0]["idempotencyKey"], sent[1]["idempotencyKey"]);
    assert_eq!(
        (&sent[0]["queueMode"], &sent[1]["message"]),
        (&json!("interrupt"), &json!("two"))
    );
}

#[test]
fn standing_instructions_come_once_and_not_when_a_conversation_goes_on() {
    let with = |resume: Option<&str>| {
        let mut play = Play::new(Plan {
            instructions: "Be brief.\n".into(),
            resume: resume.map(|key| ResumeId::parse(key).unwrap()),
            ..plan()
        });
        play.say("one");
        play.let_in("boot-1", &EVERYTHING);
        play.ready(SESSION);
        play
    };
    let mut play = with(None);
    let run = accept(&mut play);
    play.event("agent", settled(&run, 2, "end", &json!({})));
    play.say("two");
    let sent = play.sent("chat.send");
    assert_eq!(
        (&sent[0]["message"], &sent[1]["message"]),
        (&json!("Be brief.\n\none"), &json!("two"))
    );
    assert_eq!(with(Some(SESSION)).sent("chat.send")[0]["message"], "one");
}

#[test]
fn what_works_is_guarded_until_it_is_over() {
    let (mut play, run) = working("go");
    let work = Work {
        session: SESSION.into(),
        run: run.clone(),
    };
    let guards = |play: &Play| {
        let guards = play.acts.iter().filter_map(|act| {
            let Act::Guard(work) = act else { return None };
            Some(work.clone())
        });
        guards.collect::<Vec<_>>()
    };
    assert_eq!(guards(&play), [Some(work.clone())]);
    play.event("agent", settled(&run, 2, "end", &json!({})));
    assert_eq!(guards(&play), [Some(work), None]);
}

// Agents, folders and rights.

#[test]
fn the_default_agent_works_unless_another_is_named() {
    let (play, _) = working("go");
    assert_eq!(play.sent("sessions.create")[0]["agentId"], "main");
    let named = |agent: &str, resume: Option<&str>| {
        let mut play = Play::new(Plan {
            agent: Some(agent.into()),
            resume: resume.map(|key| ResumeId::parse(key).unwrap()),
            ..plan()
        });
        play.say("go");
        play.let_in("boot-1", &EVERYTHING);
        play.answer("agents.list", &agents());
        play
    };
    let play = named("reviewer", None);
    let made = &play.sent("sessions.create")[0];
    assert_eq!(made["key"], "agent:reviewer:task:task-1");
    let reason = blocked(&named("nobody", None), Fix::Setup);
    assert!(
        reason.contains("OPENCLAW_AGENT") && reason.contains("main, reviewer"),
        "{reason}"
    );
    let mut resumed = named("reviewer", Some("agent:main:task:old"));
    resumed.answer("sessions.resolve", &json!({ "ok": true }));
    assert_eq!(
        resumed.sent("sessions.create")[0]["key"],
        "agent:main:task:old"
    );
}

#[test]
fn the_right_to_work_anywhere_is_asked_for_only_where_it_is_needed() {
    let mut home = Play::new(Plan {
        directory: "/home/user/.openclaw/workspace".into(),
        foreign: false,
        ..plan()
    });
    home.say("go");
    home.let_in("boot-1", &EVERYTHING[..3]);
    home.ready(SESSION);
    assert_eq!(home.sent("connect")[0]["scopes"], json!(EVERYTHING[..3]));
    assert_eq!(home.sent("sessions.create")[0].get("cwd"), None);
    // No file told that the folder is somebody else's.
    let mut elsewhere = Play::new(Plan {
        foreign: false,
        ..plan()
    });
    elsewhere.say("go");
    elsewhere.let_in("boot-1", &EVERYTHING[..3]);
    elsewhere.answer("agents.list", &agents());
    elsewhere.let_in("boot-1", &EVERYTHING);
    elsewhere.ready(SESSION);
    assert_eq!(elsewhere.sent("connect")[1]["scopes"], json!(EVERYTHING));
    assert_eq!(
        elsewhere.sent("sessions.create")[0]["cwd"],
        "/home/user/project"
    );
}

#[test]
fn without_that_right_only_the_agents_own_folder_is_worked_in() {
    let refused = |directory: &str| {
        let mut play = Play::new(Plan {
            directory: directory.into(),
            ..plan()
        });
        play.say("go");
        play.open_line();
        play.event("connect.challenge", json!({ "nonce": "n", "ts": 1 }));
        play.refuse("connect", "NOT_PAIRED", "PAIRING_REQUIRED");
        play.let_in("boot-1", &EVERYTHING[..3]);
        play.answer("agents.list", &agents());
        play
    };
    let mut home = refused("/home/user/.openclaw/workspace");
    home.answer("sessions.create", &created(SESSION));
    assert_eq!(home.sent("chat.send").len(), 1);
    let elsewhere = refused("/home/user/project");
    let reason = blocked(&elsewhere, Fix::Setup);
    assert!(
        reason.contains("operator.admin") && reason.contains("devices approve"),
        "{reason}"
    );
    assert_eq!(elsewhere.sent("sessions.create"), Vec::<Value>::new());
}

#[test]
fn a_gateway_that_grants_less_than_was_asked_for_counts_as_a_refusal() {
    let mut play = Play::new(plan());
    play.say("go");
    play.let_in("boot-1", &EVERYTHING[..3]);
    play.answer("agents.list", &agents());
    assert!(blocked(&play, Fix::Setup).contains("operator.admin"));
}

#[test]
fn a_model_the_gateway_does_not_know_leaves_its_own_in_force() {
    let mut play = Play::new(Plan {
        model: Some("nope/none".into()),
        ..plan()
    });
    play.say("go");
    play.let_in("boot-1", &EVERYTHING);
    play.answer("agents.list", &agents());
    play.refuse("sessions.create", "INVALID_REQUEST", "unknown provider");
    play.answer("sessions.create", &created(SESSION));
    let made = play.sent("sessions.create");
    assert_eq!(
        (&made[0]["model"], made[1].get("model")),
        (&json!("nope/none"), None)
    );
    assert!(play.statuses()[0].contains("its own stays in force"));
    assert_eq!(play.sent("chat.send").len(), 1);
}

#[test]
fn a_folder_the_gateway_cannot_open_blocks_with_its_reason() {
    let mut play = Play::new(plan());
    play.say("go");
    play.let_in("boot-1", &EVERYTHING);
    play.answer("agents.list", &agents());
    play.refuse("sessions.create", "INVALID_REQUEST", "cwd is unavailable");
    assert!(blocked(&play, Fix::Setup).contains("cwd is unavailable"));
}

#[test]
fn a_conversation_the_gateway_forgot_begins_anew_and_says_so() {
    let mut play = Play::new(Plan {
        resume: Some(ResumeId::parse(SESSION).unwrap()),
        ..plan()
    });
    play.say("go on");
    play.let_in("boot-1", &EVERYTHING);
    play.answer("agents.list", &agents());
    play.answer("sessions.resolve", &json!({ "ok": false }));
    play.answer("sessions.create", &created(SESSION));
    assert!(play.statuses()[0].contains("begins anew"));
    assert_eq!(play.sent("sessions.create")[0]["key"], SESSION);
}

// Approvals.

fn asked() -> (Play, String) {
    let (mut play, run) = working("go");
    begun(&mut play, &run);
    let call = json!({ "phase": "start", "name": "exec", "toolCallId": "c1",
        "args": { "command": "touch a" } });
    play.event("agent", agent(&run, 2, "tool", call));
    play.event("exec.approval.requested", approval("a1", SESSION, &run));
    (play, run)
}

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

// Messages and settings for a running turn.

#[test]
fn a_message_for_a_running_turn_is_taken_when_its_own_run_ends_empty() {
    let (mut play, run) = working("go");
    begun(&mut play, &run);
    play.steer(Steer::Inject("also this".into()));
    let sent = play.sent("chat.send");
    assert_eq!((&sent[1]["queueMode"], sent.len()), (&json!("steer"), 2));
    let injected = accept(&mut play);
    let taken = Act::Tell(Heard::Injected(Injection::Taken));
    assert!(!play.acts.contains(&taken), "it may still come too late");
    play.event("chat", chat(&injected, "final", &json!({})));
    assert!(play.acts.contains(&taken));
    play.event("agent", settled(&run, 9, "end", &json!({})));
    assert_eq!(play.outcomes(), [Outcome::Completed]);
}

#[test]
fn a_message_that_came_too_late_for_the_turn_is_stopped_and_refused() {
    let (mut play, run) = working("go");
    begun(&mut play, &run);
    play.steer(Steer::Inject("also this".into()));
    let injected = accept(&mut play);
    play.event("agent", settled(&run, 9, "end", &json!({})));
    assert_eq!(play.outcomes(), [], "whoever sent it would say it again");
    play.say("next");
    assert_eq!(
        play.sent("chat.send").len(),
        2,
        "the next prompt waits for the verdict"
    );
    let status = agent(
        &injected,
        1,
        "run_status",
        json!({ "phase": "preparing_context" }),
    );
    play.event("agent", status);
    assert_eq!(play.sent("chat.abort")[0]["runId"], json!(injected));
    assert!(
        play.acts
            .contains(&Act::Tell(Heard::Injected(Injection::Refused)))
    );
    assert_eq!(play.sent("chat.send").len(), 3);
}

#[test]
fn a_turn_is_not_over_before_it_is_known_what_it_has_read() {
    for taken in [true, false] {
        let (mut play, run) = working("go");
        begun(&mut play, &run);
        play.steer(Steer::Inject("also this".into()));
        let injected = accept(&mut play);
        play.event("agent", settled(&run, 9, "end", &json!({})));
        assert_eq!(play.outcomes(), []);
        let expected = if taken {
            play.event("chat", chat(&injected, "final", &json!({})));
            Injection::Taken
        } else {
            play.wait(seconds(5));
            Injection::Refused
        };
        let place = |wanted: fn(&Act) -> bool| play.acts.iter().position(wanted).unwrap();
        let told = place(|act| matches!(act, Act::Tell(Heard::Injected(_))));
        assert_eq!(play.acts[told], Act::Tell(Heard::Injected(expected)));
        assert!(told < place(|act| matches!(act, Act::Tell(Heard::TurnOver(_)))));
        assert_eq!(play.outcomes(), [Outcome::Completed]);
    }
}

#[test]
fn a_turn_is_over_when_all_its_messages_are_decided_in_the_order_they_were_said() {
    let (mut play, run) = working("go");
    begun(&mut play, &run);
    play.steer(Steer::Inject("first".into()));
    let first = accept(&mut play);
    play.steer(Steer::Inject("second".into()));
    let second = accept(&mut play);
    let told = |play: &Play| {
        let told = play.acts.iter().filter_map(|act| match act {
            Act::Tell(Heard::Injected(what)) => Some(Some(*what)),
            Act::Tell(Heard::TurnOver(_)) => Some(None),
            _ => None,
        });
        told.collect::<Vec<_>>()
    };
    play.event("chat", chat(&second, "final", &json!({})));
    assert_eq!(told(&play), [], "it would be taken for the first one's");
    play.event("agent", settled(&run, 9, "end", &json!({})));
    assert_eq!(told(&play), []);
    play.event("chat", chat(&first, "final", &json!({})));
    let (taken, refused) = (Some(Injection::Taken), Some(Injection::Refused));
    assert_eq!(told(&play), [taken, taken, None]);

    let (mut play, run) = working("go");
    begun(&mut play, &run);
    play.steer(Steer::Inject("nobody says what became of it".into()));
    accept(&mut play);
    play.event("agent", settled(&run, 9, "end", &json!({})));
    play.wait(Duration::from_secs(6));
    assert_eq!(told(&play), [refused, None]);
}

#[test]
fn a_message_without_a_running_turn_is_refused_and_never_sent() {
    let mut play = Play::new(plan());
    play.steer(Steer::Inject("early".into()));
    assert!(
        play.acts
            .contains(&Act::Tell(Heard::Injected(Injection::Refused)))
    );
    let (mut play, run) = working("go");
    play.event("agent", settled(&run, 9, "end", &json!({})));
    play.steer(Steer::Inject("late".into()));
    assert!(
        play.acts
            .contains(&Act::Tell(Heard::Injected(Injection::Refused)))
    );
    assert_eq!(play.sent("chat.send").len(), 1);
}

fn tune(model: Option<&str>, mode: Option<&str>, effort: Option<&str>) -> Steer {
    Steer::Tune(Tuning {
        model: model.map(str::to_owned),
        mode: mode.map(str::to_owned),
        effort: effort.map(str::to_owned),
    })
}

#[test]
fn settings_are_told_as_the_gateway_resolved_them() {
    let (mut play, _) = working("go");
    play.steer(tune(Some("mock/two"), Some("full"), Some("high")));
    let patches = play.sent("sessions.patch");
    assert_eq!(patches[0], json!({ "key": SESSION, "model": "mock/two" }));
    assert_eq!(
        patches[1],
        json!({ "key": SESSION, "thinkingLevel": "high" })
    );
    let resolved = json!({ "modelProvider": "mock", "model": "two", "thinkingLevel": "low" });
    play.answer("sessions.patch", &json!({ "resolved": resolved }));
    play.answer("sessions.patch", &json!({ "resolved": resolved }));
    let model = RunEvent::Model {
        model: "mock/two".into(),
    };
    let effort = RunEvent::Effort {
        effort: "low".into(),
    };
    assert!(play.seen.contains(&model) && play.seen.contains(&effort));
    assert!(
        play.statuses()
            .iter()
            .any(|text| text.starts_with("the mode stays guarded"))
    );
    play.steer(tune(Some("nope/x"), None, None));
    play.refuse("sessions.patch", "INVALID_REQUEST", "unknown provider");
    assert!(
        play.statuses()
            .last()
            .unwrap()
            .contains("did not take the model nope/x")
    );
}

#[test]
fn settings_that_come_before_the_session_are_part_of_it() {
    let mut play = Play::new(plan());
    play.steer(tune(Some("mock/two"), None, Some("high")));
    play.say("go");
    play.let_in("boot-1", &EVERYTHING);
    play.answer("agents.list", &agents());
    let made = &play.sent("sessions.create")[0];
    assert_eq!(
        (&made["model"], &made["thinkingLevel"]),
        (&json!("mock/two"), &json!("high"))
    );
}

// Connections.

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
