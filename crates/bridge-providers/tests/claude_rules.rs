//! Rules of the Claude Code conversation that recordings do not show: time limits, hostile and
//! broken lines, the order of closing.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "in a test a panic is the failure, and other events do not matter"
)]

use std::time::{Duration, Instant};

use bridge_proto::{
    AskId,
    model::{Actor, Answer, AskEnd, Fault, Fix, Outcome, RunEvent, ToolStatus, Tuning},
};
use bridge_providers::{
    claude::ClaudeDialogue,
    dialogue::{Dialogue as _, Exit, Step},
    provider::{Injection, Steer, TurnEnd},
};
use serde_json::{Value, json};

#[test]
fn the_first_prompt_does_not_wait_for_initialize() {
    let mut talk = Talk::new();
    talk.steer(Steer::Prompt("Hi".into()));
    let sent = talk.sent();
    assert_eq!(sent[0]["request"]["subtype"], "initialize");
    assert_eq!(sent[1]["message"]["content"][0]["text"], "Hi");
}

#[test]
fn an_interrupt_that_is_not_obeyed_ends_the_process_within_ten_seconds() {
    let mut talk = Talk::working();
    let asked = talk.now;
    talk.steer(Steer::Interrupt);
    assert_eq!(
        talk.sent().last().unwrap()["request"]["subtype"],
        "interrupt"
    );
    talk.wait_for_deadline();
    let Some(Step::Terminate(grace)) = talk.steps.last() else {
        panic!("{:?}", talk.steps)
    };
    assert!(talk.now + *grace <= asked + Duration::from_secs(10));
    talk.end(Exit {
        code: None,
        signal: Some(9),
        stderr_tail: String::new(),
    });
    assert_eq!(talk.outcomes(), [Outcome::Cancelled { by: Actor::Person }]);
}

#[test]
fn an_interrupt_wins_over_whatever_the_result_says() {
    let mut talk = Talk::working();
    talk.steer(Steer::Interrupt);
    talk.line(&good_result());
    assert_eq!(talk.outcomes(), [Outcome::Cancelled { by: Actor::Person }]);
    assert_eq!(talk.dialogue.deadline(), None);
}

#[test]
fn an_interrupt_before_the_first_line_is_said_again_when_the_turn_begins() {
    let mut talk = Talk::new();
    talk.steer(Steer::Prompt("Hi".into()));
    talk.steer(Steer::Interrupt);
    talk.line(&json!({"type": "system", "subtype": "init", "session_id": "c1"}));
    let interrupts = talk
        .sent()
        .into_iter()
        .filter(|line| line["request"]["subtype"] == "interrupt");
    assert_eq!(interrupts.count(), 2);
}

#[test]
fn an_interrupt_does_not_leave_background_work_alive() {
    let mut talk = Talk::working();
    talk.line(&background(&["server"]));
    talk.steer(Steer::Interrupt);
    talk.line(
        &json!({"type": "result", "subtype": "error_during_execution", "is_error": true,
        "terminal_reason": "aborted_tools"}),
    );
    assert!(matches!(talk.steps.last(), Some(Step::Terminate(_))));

    let mut talk = Talk::working();
    talk.line(&background(&["server"]));
    talk.line(&good_result());
    talk.steer(Steer::Interrupt);
    assert!(matches!(talk.steps.last(), Some(Step::Terminate(_))));
    talk.end(Exit {
        code: Some(143),
        signal: None,
        stderr_tail: String::new(),
    });
    assert_eq!(talk.outcomes(), [Outcome::Cancelled { by: Actor::Person }]);
}

#[test]
fn an_interrupt_without_a_turn_says_nothing() {
    let mut talk = Talk::new();
    talk.steer(Steer::Interrupt);
    assert_eq!(talk.sent().len(), 1, "only initialize");
}

#[test]
fn a_turn_is_over_when_no_turn_follows_its_background_work() {
    let mut talk = Talk::working();
    talk.line(&background(&["build"]));
    talk.line(&good_result());
    assert_eq!(talk.outcomes(), []);
    talk.line(&background(&[]));
    assert_eq!(talk.outcomes(), []);
    talk.wait_for_deadline();
    assert_eq!(talk.outcomes(), [Outcome::Completed]);
}

#[test]
fn background_work_that_never_ends_is_not_waited_for_for_ever() {
    let mut talk = Talk::working();
    talk.line(&background(&["server"]));
    talk.line(&good_result());
    talk.wait_for_deadline();
    assert_eq!(talk.outcomes(), [Outcome::Completed]);
}

#[test]
fn a_report_about_earlier_work_does_not_end_the_next_turn() {
    let mut talk = Talk::working();
    let mut report = good_result();
    report["origin"] = json!({"kind": "task-notification"});
    talk.line(&report);
    assert_eq!(talk.outcomes(), []);
    talk.line(&good_result());
    assert_eq!(talk.outcomes(), [Outcome::Completed]);
}

#[test]
fn a_refused_login_stops_the_turn_but_a_cancel_keeps_its_outcome() {
    let retry = json!({"type": "system", "subtype": "api_retry", "attempt": 1,
        "error_status": 401, "error": "authentication_failed"});
    let mut talk = Talk::working();
    talk.line(&retry);
    talk.line(&retry);
    talk.line(&good_result());
    assert!(matches!(
        &talk.outcomes()[..],
        [Outcome::Blocked {
            fix: Fix::Login,
            ..
        }]
    ));

    let mut talk = Talk::working();
    talk.steer(Steer::Interrupt);
    talk.line(&retry);
    talk.line(&good_result());
    assert_eq!(talk.outcomes(), [Outcome::Cancelled { by: Actor::Person }]);
}

#[test]
fn silence_is_told_every_minute_but_not_while_a_person_is_waited_for() {
    let mut talk = Talk::working();
    talk.wait_for_deadline();
    talk.wait_for_deadline();
    let silent: Vec<&RunEvent> = talk
        .events()
        .into_iter()
        .filter(|event| matches!(event, RunEvent::Silent { .. }))
        .collect();
    assert_eq!(
        silent,
        [
            &RunEvent::Silent { seconds: 60 },
            &RunEvent::Silent { seconds: 120 }
        ]
    );
    talk.line(&permission("a1"));
    assert_eq!(talk.dialogue.deadline(), None);
    talk.steer(Steer::Answer(
        ask("a1"),
        Answer::Choose {
            option: "allow".into(),
        },
    ));
    assert_eq!(
        talk.dialogue.deadline(),
        Some(talk.now + Duration::from_secs(60))
    );
}

#[test]
fn an_answer_that_comes_after_the_withdrawal_is_not_sent() {
    let mut talk = Talk::working();
    talk.line(&permission("a1"));
    talk.line(&json!({"type": "control_cancel_request", "request_id": "a1"}));
    assert_eq!(
        talk.events().last(),
        Some(&&RunEvent::AskClosed {
            ask: ask("a1"),
            how: AskEnd::Withdrawn
        })
    );
    let before = talk.steps.len();
    talk.steer(Steer::Answer(
        ask("a1"),
        Answer::Choose {
            option: "allow".into(),
        },
    ));
    assert_eq!(talk.steps.len(), before);
}

#[test]
fn a_permission_asked_without_a_turn_is_denied() {
    let mut talk = Talk::new();
    talk.line(&permission("a1"));
    assert_eq!(
        talk.sent().last().unwrap()["response"]["response"]["behavior"],
        "deny"
    );
}

#[test]
fn requests_of_the_program_that_nobody_serves_are_answered() {
    let mut talk = Talk::working();
    talk.line(&json!({"type": "control_request", "request_id": "h1",
        "request": {"subtype": "hook_callback"}}));
    let answer = talk.sent().pop().unwrap();
    assert_eq!(answer["response"]["subtype"], "error");
    assert_eq!(answer["response"]["request_id"], "h1");
}

#[test]
fn what_it_does_not_know_is_named_and_skipped() {
    let mut talk = Talk::working();
    for line in [
        &b"not json"[..],
        b"[1,2]",
        b"{}",
        br#"{"type":"brand_new"}"#,
        br#"{"type":"system","subtype":"brand_new"}"#,
        b"\xff\xfe",
        b"",
        br#"{"type":7}"#,
        br#"{"type":"assistant","message":"text"}"#,
        br#"{"type":"user","message":{"content":{"a":1}}}"#,
        br#"{"type":"stream_event","event":[]}"#,
        br#"{"type":"control_response","response":[]}"#,
        br#"{"type":"control_request"}"#,
        br#"{"type":"system","subtype":"background_tasks_changed","tasks":7}"#,
    ] {
        talk.raw_line(line);
    }
    let others: Vec<&str> = talk
        .events()
        .into_iter()
        .filter_map(|event| match event {
            RunEvent::Other { what } => Some(what.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(
        others,
        [
            "a line that is no JSON",
            "a line that is no object",
            "a message without a type",
            "brand_new",
            "system/brand_new",
            "a line that is no JSON",
            "a message without a type",
            "assistant",
            "control_request/",
        ]
    );
    talk.line(&good_result());
    assert_eq!(talk.outcomes(), [Outcome::Completed]);
}

#[test]
fn a_line_that_was_too_long_is_told() {
    let mut talk = Talk::working();
    talk.dialogue.on_oversized(talk.now, 100_000_000);
    talk.drain();
    assert!(
        matches!(talk.events().last(), Some(RunEvent::Status { text })
        if text.contains("100000000"))
    );
}

#[test]
fn a_finished_block_that_differs_replaces_what_was_streamed() {
    let mut talk = Talk::working();
    talk.line(&stream(
        &json!({"type": "message_start", "message": {"id": "m1"}}),
    ));
    talk.line(&stream(&json!({"type": "content_block_start", "index": 0,
        "content_block": {"type": "text", "text": ""}})));
    talk.line(&stream(&json!({"type": "content_block_delta", "index": 0,
        "delta": {"type": "text_delta", "text": "Helo"}})));
    talk.line(&assistant("m1", &json!({"type": "text", "text": "Hello"})));
    talk.line(&stream(&json!({"type": "content_block_delta", "index": 0,
        "delta": {"type": "text_delta", "text": " late"}})));
    talk.line(&good_result());
    let replaced = talk.events().into_iter().find_map(|event| match event {
        RunEvent::TextReplaced { block, text } => Some((block.as_str(), text.as_str())),
        _ => None,
    });
    assert_eq!(replaced, Some(("m1-0", "Hello")));
    assert_eq!(talk.turns()[0].answer, "Hello");
}

#[test]
fn thinking_is_shown_once() {
    let mut talk = Talk::working();
    talk.line(&stream(
        &json!({"type": "message_start", "message": {"id": "m1"}}),
    ));
    talk.line(&stream(&json!({"type": "content_block_start", "index": 0,
        "content_block": {"type": "thinking", "thinking": ""}})));
    talk.line(&stream(&json!({"type": "content_block_delta", "index": 0,
        "delta": {"type": "thinking_delta", "thinking": "Hm."}})));
    talk.line(&assistant(
        "m1",
        &json!({"type": "thinking", "thinking": "Hm."}),
    ));
    talk.line(&assistant(
        "m1",
        &json!({"type": "thinking", "thinking": "Unstreamed."}),
    ));
    let thoughts: Vec<&str> = talk
        .events()
        .into_iter()
        .filter_map(|event| match event {
            RunEvent::Thinking { delta } => Some(delta.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(thoughts, ["Hm.", "Unstreamed."]);
}

#[test]
fn the_input_of_a_call_that_was_cut_off_is_put_together_from_its_pieces() {
    let mut talk = Talk::working();
    talk.line(&stream(
        &json!({"type": "message_start", "message": {"id": "m1"}}),
    ));
    talk.line(&stream(&json!({"type": "content_block_start", "index": 0,
        "content_block": {"type": "tool_use", "id": "t1", "name": "Bash", "input": {}}})));
    for piece in ["{\"comm", "and\":\"ls\"}"] {
        talk.line(&stream(&json!({"type": "content_block_delta", "index": 0,
            "delta": {"type": "input_json_delta", "partial_json": piece}})));
    }
    talk.line(&stream(&json!({"type": "content_block_stop", "index": 0})));
    let Some(RunEvent::Tool(state)) = talk.events().last() else {
        panic!("{:?}", talk.steps)
    };
    assert_eq!(
        (state.title.as_str(), state.status),
        ("ls", ToolStatus::InProgress)
    );
    talk.end(Exit {
        code: Some(1),
        signal: None,
        stderr_tail: "out of memory\n".into(),
    });
    let Some(RunEvent::Tool(state)) = talk.events().last() else {
        panic!("{:?}", talk.steps)
    };
    assert_eq!(state.status, ToolStatus::Unknown);
    let reason = "Claude Code ended with code 1: out of memory".to_owned();
    assert_eq!(
        talk.outcomes(),
        [Outcome::Failed {
            fault: Fault::Agent,
            reason
        }]
    );
}

#[test]
fn closing_waits_for_the_turn_and_closes_the_input() {
    let mut talk = Talk::working();
    talk.steer(Steer::Close);
    assert!(
        !talk
            .steps
            .iter()
            .any(|step| matches!(step, Step::CloseInput(_)))
    );
    talk.line(&good_result());
    assert!(matches!(talk.steps.last(), Some(Step::CloseInput(_))));
    talk.steer(Steer::Prompt("late".into()));
    assert!(matches!(
        &talk.outcomes()[..],
        [Outcome::Completed, Outcome::Failed { .. }]
    ));
}

#[test]
fn waiting_prompts_are_answered_when_the_process_dies() {
    let mut talk = Talk::working();
    talk.steer(Steer::Prompt("second".into()));
    talk.end(Exit {
        code: Some(1),
        signal: None,
        stderr_tail: String::new(),
    });
    assert_eq!(talk.outcomes().len(), 2);
}

#[test]
fn the_mode_without_questions_is_never_switched_on() {
    let mut talk = Talk::working();
    let before = talk.sent().len();
    talk.steer(Steer::Tune(Tuning {
        model: None,
        mode: Some("bypassPermissions".into()),
        ..Tuning::default()
    }));
    assert_eq!(talk.sent().len(), before);
    talk.steer(Steer::Tune(Tuning {
        model: Some("opus".into()),
        mode: None,
        ..Tuning::default()
    }));
    let id = talk.sent().last().unwrap()["request_id"].clone();
    talk.line(
        &json!({"type": "control_response", "response": {"subtype": "success",
        "request_id": id, "response": {"model": "opus-5"}}}),
    );
    assert_eq!(
        talk.events().last(),
        Some(&&RunEvent::Model {
            model: "opus-5".into()
        })
    );
}

#[test]
fn a_message_is_put_into_the_turn_that_works_and_into_no_other() {
    let mut talk = Talk::new();
    talk.steer(Steer::Inject("too early".into()));
    assert_eq!(talk.steps.last(), Some(&Step::Injected(Injection::Refused)));
    talk.steer(Steer::Prompt("Hi".into()));
    talk.steer(Steer::Inject("and be quick".into()));
    assert_eq!(talk.steps.last(), Some(&Step::Injected(Injection::Taken)));
    let sent = talk.sent();
    let said = &sent.last().unwrap()["message"]["content"][0]["text"];
    assert_eq!(said, "and be quick");
    let mut result = good_result();
    result["queued_turn_count"] = json!(1);
    talk.line(&result);
    assert_eq!(talk.outcomes(), []);
    talk.steer(Steer::Inject("too late".into()));
    assert_eq!(talk.steps.last(), Some(&Step::Injected(Injection::Refused)));
    talk.line(&json!({"type": "system", "subtype": "init", "session_id": "s"}));
    talk.line(&good_result());
    assert_eq!(talk.outcomes(), [Outcome::Completed]);
}

#[test]
fn a_thinking_effort_is_a_budget_and_what_is_none_is_said() {
    let mut talk = Talk::working();
    let tune = |effort: &str| {
        Steer::Tune(Tuning {
            effort: Some(effort.into()),
            ..Tuning::default()
        })
    };
    talk.steer(tune("high"));
    let sent = talk.sent();
    let request = sent.last().unwrap();
    assert_eq!(request["request"]["max_thinking_tokens"], 24_000);
    talk.line(
        &json!({"type": "control_response", "response": {"subtype": "success",
        "request_id": request["request_id"], "response": {}}}),
    );
    let told = RunEvent::Effort {
        effort: "high".into(),
    };
    assert_eq!(talk.events().last(), Some(&&told));
    talk.steer(tune("a lot"));
    assert!(matches!(
        talk.events().last(),
        Some(RunEvent::Status { .. })
    ));
}

#[test]
fn message_ids_that_cannot_be_block_ids_do_no_harm() {
    let mut talk = Talk::working();
    for id in ["a\nb".to_owned(), "x".repeat(10_000), String::new()] {
        talk.line(&assistant(&id, &json!({"type": "text", "text": "Hi"})));
        talk.line(&assistant(
            &id,
            &json!({"type": "tool_use", "id": id, "name": id}),
        ));
    }
    talk.line(&good_result());
    assert_eq!(talk.outcomes(), [Outcome::Completed]);
}

struct Talk {
    dialogue: ClaudeDialogue,
    now: Instant,
    steps: Vec<Step>,
}

impl Talk {
    fn new() -> Self {
        let now = Instant::now();
        let mut talk = Self {
            dialogue: ClaudeDialogue::new("seed", false),
            now,
            steps: Vec::new(),
        };
        talk.dialogue.on_start(now);
        talk.drain();
        talk
    }

    fn working() -> Self {
        let mut talk = Self::new();
        talk.steer(Steer::Prompt("Do it".into()));
        talk.line(&json!({"type": "system", "subtype": "init", "session_id": "c1"}));
        talk
    }

    fn steer(&mut self, steer: Steer) {
        self.dialogue.on_steer(self.now, steer);
        self.drain();
    }

    fn line(&mut self, line: &Value) {
        self.raw_line(line.to_string().as_bytes());
    }

    fn raw_line(&mut self, line: &[u8]) {
        self.dialogue.on_line(self.now, line);
        self.drain();
    }

    fn end(&mut self, exit: Exit) {
        self.dialogue.on_end(self.now, exit);
        self.drain();
    }

    fn wait_for_deadline(&mut self) {
        self.now = self.dialogue.deadline().unwrap();
        self.dialogue.on_timeout(self.now);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(step) = self.dialogue.next_step() {
            self.steps.push(step);
        }
    }

    fn sent(&self) -> Vec<Value> {
        self.steps
            .iter()
            .filter_map(|step| match step {
                Step::Send(line) => Some(serde_json::from_str(line).unwrap()),
                _ => None,
            })
            .collect()
    }

    fn events(&self) -> Vec<&RunEvent> {
        self.steps
            .iter()
            .filter_map(|step| match step {
                Step::Emit(observed) => Some(&observed.event),
                _ => None,
            })
            .collect()
    }

    fn turns(&self) -> Vec<&TurnEnd> {
        self.steps
            .iter()
            .filter_map(|step| match step {
                Step::TurnOver(end) => Some(end),
                _ => None,
            })
            .collect()
    }

    fn outcomes(&self) -> Vec<Outcome> {
        self.turns()
            .into_iter()
            .map(|turn| turn.outcome.clone())
            .collect()
    }
}

fn good_result() -> Value {
    json!({"subtype": "success", "is_error": false, "terminal_reason": "completed",
        "result": "Done.", "type": "result"})
}

fn background(tasks: &[&str]) -> Value {
    let tasks: Vec<Value> = tasks
        .iter()
        .map(|name| json!({"description": name}))
        .collect();
    json!({"type": "system", "subtype": "background_tasks_changed", "tasks": tasks})
}

fn permission(id: &str) -> Value {
    json!({"type": "control_request", "request_id": id, "request": {
        "subtype": "can_use_tool", "tool_name": "Bash", "input": {"command": "make"}}})
}

fn stream(event: &Value) -> Value {
    json!({"type": "stream_event", "event": event, "parent_tool_use_id": null})
}

fn assistant(id: &str, block: &Value) -> Value {
    json!({"type": "assistant", "message": {"id": id, "model": "m", "content": [block]}})
}

fn ask(id: &str) -> AskId {
    AskId::parse(id).unwrap()
}
