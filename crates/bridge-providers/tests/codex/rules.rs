//! Rules of the conversation that recordings do not show: time limits, hostile and broken lines,
//! the order of things.

use std::time::Duration;

use bridge_proto::model::{
    Actor, Answer, AskEnd, AskKind, Fault, Outcome, PlanItem, PlanStatus, RunEvent, ToolStatus,
    Tuning,
};
use bridge_providers::{
    dialogue::{Dialogue as _, Step},
    provider::{Injection, Steer},
};
use serde_json::json;

use crate::talk::{Talk, approval, command, exit, thread};

const CANCELLED: Outcome = Outcome::Cancelled { by: Actor::Person };

#[test]
fn a_prompt_waits_until_the_conversation_is_open() {
    let mut talk = Talk::new();
    talk.prompt("Hi");
    assert_eq!(talk.told.said(), ["initialize"]);
    talk.answer("initialize", &json!({}));
    assert_eq!(talk.told.said()[1..], ["initialized", "thread/start"]);
    talk.answer("thread/start", &thread());
    let sent = talk.told.sent();
    assert_eq!(sent[3]["params"]["input"][0]["text"], "Hi");
    assert_eq!(sent[3]["params"]["threadId"], "thread-1");
}

#[test]
fn a_program_that_does_not_answer_the_greeting_fails_every_prompt() {
    let mut talk = Talk::new();
    talk.prompt("one");
    talk.prompt("two");
    talk.pass(Duration::from_secs(31));
    assert!(
        talk.told
            .steps
            .iter()
            .any(|step| matches!(step, Step::CloseInput(_)))
    );
    assert_eq!(talk.told.outcomes().len(), 2);
    talk.end(exit(0, ""));
    talk.prompt("three");
    let outcomes = talk.told.outcomes();
    let Outcome::Failed {
        fault: Fault::Agent,
        reason,
    } = &outcomes[2]
    else {
        panic!()
    };
    assert!(reason.contains("did not answer"), "{reason}");
}

#[test]
fn a_prompt_that_is_cancelled_before_the_conversation_is_open_is_never_said() {
    let mut talk = Talk::new();
    talk.prompt("one");
    talk.steer(Steer::Interrupt);
    assert_eq!(talk.told.outcomes(), [CANCELLED]);
    talk.prompt("two");
    talk.answer("initialize", &json!({}));
    talk.answer("thread/start", &thread());
    let sent = talk.told.sent();
    assert_eq!(sent.last().unwrap()["params"]["input"][0]["text"], "two");
    assert_eq!(talk.count("turn/start"), 1);
}

#[test]
fn a_turn_is_interrupted_as_soon_as_it_has_an_id() {
    let mut talk = Talk::open();
    talk.prompt("Hi");
    talk.steer(Steer::Interrupt);
    assert_eq!(talk.count("turn/interrupt"), 0);
    talk.begin();
    let sent = talk.told.sent();
    let interrupt = sent
        .iter()
        .find(|sent| sent["method"] == "turn/interrupt")
        .unwrap();
    assert_eq!(
        interrupt["params"],
        json!({"threadId": "thread-1", "turnId": "turn-1"})
    );
}

#[test]
fn an_interrupt_that_is_not_obeyed_is_said_again_and_then_costs_the_process_within_ten_seconds() {
    let mut talk = Talk::working();
    let asked = talk.now;
    talk.steer(Steer::Interrupt);
    talk.wait();
    assert_eq!(talk.count("turn/interrupt"), 2);
    talk.wait();
    let Some(Step::CloseInput(patience)) = talk.told.steps.last() else {
        panic!("{:?}", talk.told.steps)
    };
    // SIGTERM follows, then two seconds to SIGKILL.
    assert!(talk.now + *patience + Duration::from_secs(2) < asked + Duration::from_secs(10));
    assert_eq!(talk.told.outcomes(), []);
    talk.end(exit(0, ""));
    assert_eq!(talk.told.outcomes(), [CANCELLED]);
}

#[test]
fn an_interrupt_wins_over_whatever_the_program_says() {
    for (status, error) in [
        ("completed", json!(null)),
        ("failed", json!({"message": "no"})),
        ("brand_new", json!(null)),
    ] {
        let mut talk = Talk::working();
        talk.steer(Steer::Interrupt);
        talk.complete(status, &error);
        talk.answer("thread/backgroundTerminals/clean", &json!({}));
        assert_eq!(talk.told.outcomes(), [CANCELLED], "{status}");
    }
    let mut talk = Talk::working();
    talk.steer(Steer::Interrupt);
    talk.end(exit(1, "boom"));
    assert_eq!(talk.told.outcomes(), [CANCELLED]);
}

#[test]
fn an_interrupt_of_a_turn_the_program_does_not_know_still_ends_it() {
    let mut talk = Talk::working();
    talk.steer(Steer::Interrupt);
    talk.refuse("turn/interrupt", "no active turn to interrupt");
    assert_eq!(
        talk.count("thread/backgroundTerminals/clean"),
        0,
        "it may only begin"
    );
    talk.wait();
    talk.refuse("turn/interrupt", "no active turn to interrupt");
    talk.answer("thread/backgroundTerminals/clean", &json!({}));
    assert_eq!(talk.told.outcomes(), [CANCELLED]);
}

#[test]
fn a_question_that_comes_after_the_interrupt_is_declined() {
    let mut talk = Talk::working();
    talk.steer(Steer::Interrupt);
    talk.ask(4, "item/commandExecution/requestApproval", &approval());
    talk.ask(5, "item/tool/requestUserInput", &json!({"questions": []}));
    assert_eq!(talk.told.asks().len(), 0);
    assert_eq!(
        talk.told.said()[5..],
        ["answer decline", r#"answer {"answers":{}}"#]
    );
}

#[test]
fn an_interrupt_without_a_turn_says_nothing() {
    let mut talk = Talk::open();
    talk.steer(Steer::Interrupt);
    assert_eq!((talk.told.said().len(), talk.told.outcomes()), (3, vec![]));
}

#[test]
fn messages_for_a_turn_are_answered_in_the_order_they_were_said() {
    let mut talk = Talk::open();
    talk.steer(Steer::Inject("no turn".into()));
    assert_eq!(talk.told.injected(), [Injection::Refused]);
    talk.prompt("Hi");
    talk.steer(Steer::Inject("one".into()));
    assert_eq!(talk.count("turn/steer"), 0, "the turn has no id yet");
    talk.begin();
    talk.steer(Steer::Inject("two".into()));
    assert_eq!(talk.count("turn/steer"), 2);
    talk.refuse("turn/steer", "not now");
    assert_eq!(
        talk.told.injected(),
        [Injection::Refused],
        "the first is not answered"
    );
    let first = talk
        .told
        .sent()
        .iter()
        .find(|sent| sent["method"] == "turn/steer")
        .unwrap()["id"]
        .clone();
    talk.line(&json!({"id": first, "result": {"turnId": "turn-1"}}));
    let all = [Injection::Refused, Injection::Taken, Injection::Refused];
    assert_eq!(talk.told.injected(), all);
}

#[test]
fn a_message_that_was_not_confirmed_when_the_turn_ends_is_refused() {
    let mut talk = Talk::working();
    talk.steer(Steer::Inject("one".into()));
    talk.complete("completed", &json!(null));
    assert_eq!(talk.told.injected(), [Injection::Refused]);
    let over = talk
        .told
        .steps
        .iter()
        .position(|step| matches!(step, Step::TurnOver(_)));
    let told = talk
        .told
        .steps
        .iter()
        .position(|step| matches!(step, Step::Injected(_)));
    assert!(told < over);
}

#[test]
fn settings_are_for_the_next_turn_and_what_is_in_force_is_told() {
    let mut talk = Talk::working();
    let tune = |model: Option<&str>, effort: Option<&str>, mode: Option<&str>| {
        Steer::Tune(Tuning {
            model: model.map(Into::into),
            effort: effort.map(Into::into),
            mode: mode.map(Into::into),
        })
    };
    talk.steer(tune(Some("gpt-6"), Some("high"), None));
    talk.complete("completed", &json!(null));
    talk.prompt("next");
    let sent = talk.told.sent().pop().unwrap();
    assert_eq!(
        (&sent["params"]["model"], &sent["params"]["effort"]),
        (&json!("gpt-6"), &json!("high"))
    );
    let settings = json!({"threadSettings": {"model": "gpt-6-mini", "effort": "medium"}});
    talk.tell("thread/settings/updated", settings);
    talk.begin();
    let has = |talk: &Talk, event: &RunEvent| talk.told.events().contains(&event);
    assert!(has(
        &talk,
        &RunEvent::Model {
            model: "gpt-6-mini".into()
        }
    ));
    assert!(has(
        &talk,
        &RunEvent::Effort {
            effort: "medium".into()
        }
    ));
    assert!(!has(
        &talk,
        &RunEvent::Model {
            model: "gpt-6".into()
        }
    ));
    talk.steer(tune(Some("gpt-7"), Some("a lot"), Some("plan")));
    let refused = talk.told.events().into_iter().rev().take(2);
    assert!(
        refused
            .clone()
            .all(|event| matches!(event, RunEvent::Status { .. }))
    );
    talk.complete("completed", &json!(null));
    talk.prompt("last");
    assert!(!has(
        &talk,
        &RunEvent::Model {
            model: "gpt-7".into()
        }
    ));
    talk.begin();
    assert!(
        has(
            &talk,
            &RunEvent::Model {
                model: "gpt-7".into()
            }
        ),
        "an older version says nothing"
    );
    let sent = talk.told.sent();
    let last = sent
        .iter()
        .rfind(|sent| sent["method"] == "turn/start")
        .unwrap();
    assert_eq!(last["params"].get("effort"), None);
}

#[test]
fn questions_of_the_agent_are_asked_one_after_another() {
    let mut talk = Talk::working();
    let params = json!({"itemId": "call_1", "isBlocking": true, "questions": [
        {"id": "a", "question": "Which colour?", "options": [{"label": "Red"}, {"label": "Blue"}]},
        {"id": "b", "question": "How many?", "options": null}]});
    talk.ask(3, "item/tool/requestUserInput", &params);
    let first = talk.told.asks()[0].clone();
    assert_eq!(
        (first.kind, first.summary.as_str()),
        (AskKind::Question, "Which colour?")
    );
    talk.choose(&first, "2");
    assert!(talk.told.steps.contains(&Step::Applied(first.id)));
    let second = talk.told.asks()[1].clone();
    talk.steer(Steer::Answer(
        second.id.clone(),
        Answer::Text {
            text: "three".into(),
        },
    ));
    let answer = talk.told.sent().pop().unwrap();
    let answers = json!({"a": {"answers": ["Blue"]}, "b": {"answers": ["three"]}});
    assert_eq!(answer, json!({"id": 3, "result": {"answers": answers}}));
    talk.tell("serverRequest/resolved", json!({"requestId": 3}));
    assert!(talk.told.steps.contains(&Step::Applied(second.id)));
}

#[test]
fn a_question_the_program_withdrew_is_closed_and_a_late_answer_not_sent() {
    let mut talk = Talk::working();
    talk.ask(0, "item/commandExecution/requestApproval", &approval());
    let ask = talk.told.asks()[0].clone();
    talk.tell("serverRequest/resolved", json!({"requestId": 0}));
    let closed = RunEvent::AskClosed {
        ask: ask.id.clone(),
        how: AskEnd::Withdrawn,
    };
    assert!(talk.told.events().contains(&&closed));
    let before = talk.told.steps.len();
    talk.choose(&ask, "accept");
    assert_eq!(talk.told.steps.len(), before);
}

#[test]
fn a_plan_is_told_whole() {
    let mut talk = Talk::working();
    talk.tell(
        "turn/plan/updated",
        json!({"explanation": null, "plan": [{"step": "look", "status": "completed"},
            {"step": "change", "status": "inProgress"}, {"step": 7}, {"step": "check"}]}),
    );
    let item = |text: &str, status| PlanItem {
        text: text.into(),
        status,
    };
    let items = vec![
        item("look", PlanStatus::Completed),
        item("change", PlanStatus::InProgress),
        item("check", PlanStatus::Pending),
    ];
    assert!(talk.told.events().contains(&&RunEvent::Plan { items }));
}

#[test]
fn the_diff_of_the_turn_is_passed_on_when_it_changes() {
    let mut talk = Talk::working();
    for diff in ["a", "a", "b"] {
        talk.tell("turn/diff/updated", json!({ "diff": diff }));
    }
    let passed = |step: &&Step| match step {
        Step::Emit(seen) => {
            seen.event
                == RunEvent::Other {
                    what: "turn/diff/updated".into(),
                }
                && seen.raw.is_some()
        }
        _ => false,
    };
    assert_eq!(talk.told.steps.iter().filter(passed).count(), 2);
}

#[test]
fn what_a_subagent_does_is_shown_and_what_it_says_is_passed_on() {
    let mut talk = Talk::working();
    let about = |item: serde_json::Value| json!({"threadId": "other", "turnId": "x", "item": item});
    let line =
        |method: &str, params: serde_json::Value| json!({"method": method, "params": params});
    talk.line(&line(
        "item/started",
        about(command("inProgress", &json!(null))),
    ));
    assert_eq!(talk.told.tools().len(), 1);
    let said = json!({"type": "agentMessage", "id": "m", "text": "hello"});
    talk.line(&line("item/completed", about(said)));
    assert!(talk.told.has(|event| *event
        == RunEvent::Other {
            what: "agentMessage".into()
        }));
    let usage = json!({"threadId": "other", "turnId": "x", "tokenUsage": {"total":
        {"inputTokens": 5, "outputTokens": 5}}});
    talk.line(&line("thread/tokenUsage/updated", usage));
    assert!(!talk.told.has(|event| matches!(event, RunEvent::Usage(_))));
    let over = json!({"threadId": "other", "turn": {"id": "x", "status": "completed"}});
    talk.line(&line("turn/completed", over));
    assert_eq!(talk.told.outcomes(), []);
}

#[test]
fn silence_is_told_every_minute_but_not_while_a_person_is_waited_for() {
    let mut talk = Talk::working();
    talk.wait();
    talk.wait();
    let silent: Vec<u64> = talk
        .told
        .events()
        .into_iter()
        .filter_map(|event| match event {
            RunEvent::Silent { seconds } => Some(*seconds),
            _ => None,
        })
        .collect();
    assert_eq!(silent, [60, 120]);
    talk.ask(0, "item/commandExecution/requestApproval", &approval());
    assert_eq!(talk.dialogue.deadline(), None);
    let ask = talk.told.asks()[0].clone();
    talk.choose(&ask, "decline");
    assert_eq!(
        talk.dialogue.deadline(),
        Some(talk.now + Duration::from_secs(60))
    );
}

#[test]
fn a_final_error_without_an_end_of_the_turn_ends_it() {
    let mut talk = Talk::working();
    let error = json!({"message": "gone", "codexErrorInfo": "modelNotFound"});
    talk.tell("error", json!({"error": error, "willRetry": false}));
    assert_eq!(talk.told.outcomes(), []);
    talk.pass(Duration::from_secs(10));
    let reason = "gone".to_owned();
    let fault = Fault::Model;
    assert_eq!(talk.told.outcomes(), [Outcome::Failed { fault, reason }]);
}

#[test]
fn a_turn_that_was_refused_fails_with_the_reason() {
    let mut talk = Talk::open();
    talk.prompt("Hi");
    talk.refuse("turn/start", "thread not found: thread-1");
    let outcomes = talk.told.outcomes();
    let [Outcome::Failed { reason, .. }] = &outcomes[..] else {
        panic!()
    };
    assert!(reason.contains("thread not found"), "{reason}");
}

#[test]
fn what_it_does_not_know_is_named_and_skipped() {
    let mut talk = Talk::working();
    let before = talk.told.steps.len();
    for line in [
        &b"not json"[..],
        b"[1,2]",
        b"{}",
        b"",
        b"\xff\xfe",
        br#"{"method":"brand/new","params":{"a":1}}"#,
        br#"{"method":"codex/event/item_started","params":{}}"#,
        br#"{"method":7}"#,
        br#"{"id":99,"result":{}}"#,
        br#"{"id":"x","result":{}}"#,
        br#"{"method":"item/completed","params":{"item":{"type":"brand_new","id":"i"}}}"#,
        br#"{"method":"item/started","params":{"item":[]}}"#,
        br#"{"method":"item/completed"}"#,
        br#"{"method":"error"}"#,
        br#"{"method":"turn/completed","params":{"turn":{"id":"another"}}}"#,
        br#"{"method":"serverRequest/resolved","params":{"requestId":{}}}"#,
        br#"{"method":"thread/tokenUsage/updated","params":{"tokenUsage":[]}}"#,
        br#"{"method":"item/agentMessage/delta","params":{"delta":{}}}"#,
    ] {
        talk.raw_line(line);
    }
    let others: Vec<&str> = talk.told.steps[before..]
        .iter()
        .map(|step| match step {
            Step::Emit(seen) => match &seen.event {
                RunEvent::Other { what } => what.as_str(),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        others,
        [
            "a line that is no message",
            "a line that is no message",
            "a line that is no message",
            "a line that is no message",
            "brand/new",
            "a line that is no message",
            "an answer to no request",
            "an answer to no request",
            "brand_new",
            "an item without a type",
            "turn/completed of another turn",
        ]
    );
    talk.complete("completed", &json!(null));
    assert_eq!(talk.told.outcomes(), [Outcome::Completed]);
}

#[test]
fn a_line_that_was_too_long_is_told() {
    let mut talk = Talk::working();
    talk.dialogue.on_oversized(talk.now, 100_000_000);
    talk.told.drain(&mut talk.dialogue);
    let told =
        |event: &RunEvent| matches!(event, RunEvent::Status { text } if text.contains("100000000"));
    assert!(talk.told.has(told));
}

#[test]
fn closing_waits_for_the_turn_and_closes_the_input() {
    let mut talk = Talk::working();
    talk.steer(Steer::Close);
    let closes = |talk: &Talk| {
        let steps = talk.told.steps.iter();
        steps
            .filter(|step| matches!(step, Step::CloseInput(_)))
            .count()
    };
    assert_eq!(closes(&talk), 0);
    talk.complete("completed", &json!(null));
    assert_eq!(closes(&talk), 1);
    talk.prompt("late");
    assert!(matches!(
        &talk.told.outcomes()[..],
        [Outcome::Completed, Outcome::Failed { .. }]
    ));
}

#[test]
fn waiting_prompts_are_answered_when_the_process_dies() {
    let mut talk = Talk::working();
    talk.prompt("second");
    talk.steer(Steer::Inject("third".into()));
    talk.end(exit(3, "boom"));
    assert_eq!(
        (talk.told.outcomes().len(), talk.told.injected().len()),
        (2, 1)
    );
    assert_eq!(talk.dialogue.deadline(), None);
    let Outcome::Failed { reason, .. } = &talk.told.outcomes()[1] else {
        panic!()
    };
    assert_eq!(reason, "Codex ended with code 3: boom");
}

#[test]
fn a_command_waits_for_its_permission_and_goes_on_when_it_has_it() {
    let mut talk = Talk::working();
    talk.item(false, &command("inProgress", &json!(null)));
    talk.ask(0, "item/commandExecution/requestApproval", &approval());
    let ask = talk.told.asks()[0].clone();
    talk.choose(&ask, "accept");
    talk.tell("serverRequest/resolved", json!({"requestId": 0}));
    talk.item(true, &command("completed", &json!("ok\n")));
    let states: Vec<ToolStatus> = talk.told.tools().iter().map(|tool| tool.status).collect();
    let wanted = [
        ToolStatus::InProgress,
        ToolStatus::Pending,
        ToolStatus::InProgress,
        ToolStatus::Completed,
    ];
    assert_eq!(states, wanted);
}
