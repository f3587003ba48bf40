//! The rules of the protocol's client, in virtual time against an agent that is a list of lines.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that meets something else shall fail"
)]

mod bench;
mod copilot_traps;
mod cursor_traps;
mod hermes_traps;

use std::time::Duration;

use bridge_proto::{
    ResumeId,
    model::{Answer, Ask, AskEnd, Fault, Fix, Outcome, Retry, RunEvent, ToolStatus, Tuning},
};
use bridge_providers::{
    acp::{AcpQuirks, AcpStart},
    dialogue::{Dialogue as _, Step},
    provider::Steer,
};
use serde_json::{Value, json};

use self::bench::{Bench, reason, seconds};

fn plain() -> Bench {
    Bench::with(quirks())
}

/// With an open session and, if there is one, this prompt running.
fn open(prompt: Option<&str>) -> Bench {
    let mut bench = plain();
    bench.reply(&json!({"protocolVersion": 1, "agentCapabilities": {"loadSession": true}}));
    bench.reply(&json!({"sessionId": "s"}));
    if let Some(prompt) = prompt {
        bench.prompt(prompt);
        assert_eq!(bench.sent.back().unwrap()["method"], "session/prompt");
    }
    bench.steps.clear();
    bench
}

fn resuming(hold: Option<Duration>) -> Bench {
    Bench::resuming(quirks(), hold)
}

fn permission(bench: &mut Bench, id: &Value) -> Ask {
    let call = json!({"toolCallId": "c", "kind": "execute", "title": "ls"});
    let options = json!([{"optionId": "y", "name": "Yes", "kind": "allow_once"}]);
    bench.permission(id, &call, &options)
}

fn quirks() -> AcpQuirks {
    let mut quirks = AcpQuirks::plain("Agent", "run `agent login`");
    quirks.login_prompts = vec!["Enter the authorization code".into()];
    quirks.login_exit_codes = vec![41];
    quirks.mode_chunk = Some("[MODE_UPDATE] ".into());
    quirks
}

fn is_login(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Blocked {
            fix: Fix::Login,
            ..
        }
    )
}

#[test]
fn an_agent_that_ignores_a_cancel_is_asked_again_and_ended_within_ten_seconds() {
    let mut bench = open(Some("work"));
    let start = bench.now;
    bench.steer(Steer::Interrupt);
    bench.pass(seconds(4));
    assert_eq!(bench.methods()[3..], ["session/cancel", "session/cancel"]);
    assert!(bench.outcomes().is_empty());
    bench.pass(seconds(2));
    let ladder: Vec<_> = bench
        .steps
        .iter()
        .filter(|step| matches!(step, Step::CloseInput(_) | Step::Terminate(_)))
        .cloned()
        .collect();
    assert_eq!(
        ladder,
        [Step::CloseInput(seconds(1)), Step::Terminate(seconds(2))]
    );
    bench.pass(seconds(4));
    assert!(matches!(bench.outcomes()[..], [Outcome::Cancelled { .. }]));
    assert!(bench.now <= start + seconds(10));
    bench.end(137, "");
    assert_eq!(bench.outcomes().len(), 1);
}

#[test]
fn a_cancelled_turn_is_cancelled_whatever_the_agent_says_of_it() {
    type Ending = fn(&mut Bench);
    let endings: [Ending; 5] = [
        |bench| bench.reply(&json!({"stopReason": "cancelled"})),
        |bench| bench.reply(&json!({"stopReason": "end_turn"})),
        |bench| bench.reply(&json!(null)),
        |bench| bench.reply_error(-32603, "Internal service failure"),
        |bench| bench.end(1, "killed"),
    ];
    for ending in endings {
        let mut bench = open(Some("work"));
        bench.update(&json!({"sessionUpdate": "tool_call", "toolCallId": "c"}));
        let prompt = bench.last_request()["id"].clone();
        bench.steer(Steer::Interrupt);
        assert_eq!(bench.last_request()["id"], prompt);
        ending(&mut bench);
        assert!(matches!(bench.outcomes()[..], [Outcome::Cancelled { .. }]));
        let last = bench.events().pop();
        assert!(
            matches!(&last, Some(RunEvent::Tool(call)) if call.status == ToolStatus::Cancelled),
            "{last:?}"
        );
    }
}

#[test]
fn an_interrupt_when_nothing_runs_does_nothing() {
    let mut bench = open(None);
    bench.steer(Steer::Interrupt);
    assert_eq!(bench.steps, []);
}

#[test]
fn silence_is_told_every_minute_but_not_while_a_person_is_asked() {
    let mut bench = open(Some("work"));
    bench.pass(seconds(150));
    assert_eq!(
        bench.events(),
        [
            RunEvent::Silent { seconds: 60 },
            RunEvent::Silent { seconds: 120 }
        ]
    );
    let ask = permission(&mut bench, &json!("p"));
    bench.steps.clear();
    bench.pass(seconds(1000));
    assert_eq!(bench.events(), []);
    bench.steer(Steer::Answer(ask.id, Answer::Choose { option: "y".into() }));
    bench.steps.clear();
    bench.pass(seconds(60));
    assert_eq!(bench.events(), [RunEvent::Silent { seconds: 60 }]);
}

#[test]
fn a_start_that_hangs_fails_with_what_it_was_waiting_for() {
    let mut bench = plain();
    bench.steer(Steer::Prompt("one".into()));
    bench.steer(Steer::Prompt("two".into()));
    bench.pass(seconds(20));
    let [first, second] = &bench.outcomes()[..] else {
        panic!("{:?}", bench.steps)
    };
    assert_eq!(first, second);
    assert!(matches!(
        first,
        Outcome::Failed {
            fault: Fault::Agent,
            ..
        }
    ));
    assert_eq!(
        reason(first),
        "Agent did not answer within 20 s of its start"
    );
    assert!(matches!(bench.steps.last(), Some(Step::Terminate(_))));

    let mut bench = plain();
    bench.steer(Steer::Prompt("one".into()));
    bench.reply(&json!({"protocolVersion": 1}));
    bench.pass(seconds(30));
    assert_eq!(
        reason(&bench.outcomes()[0]),
        "Agent opened no session within 30 s"
    );

    let mut bench = resuming(None);
    bench.steer(Steer::Prompt("one".into()));
    bench.reply(&json!({"protocolVersion": 1, "agentCapabilities": {"loadSession": true}}));
    bench.pass(seconds(59));
    assert!(bench.outcomes().is_empty());
    bench.pass(seconds(1));
    assert_eq!(
        reason(&bench.outcomes()[0]),
        "Agent did not continue the conversation within 60 s"
    );
}

#[test]
fn a_login_prompt_instead_of_the_protocol_is_blocked_and_quoted() {
    let mut bench = plain();
    bench.steer(Steer::Prompt("work".into()));
    bench.text("\u{1b}[2JPlease visit the following URL");
    assert!(bench.outcomes().is_empty(), "one line may be a warning");
    bench.text("Enter the authorization code: {\"jsonrpc\":\"2.0\"}");
    let outcome = bench.outcomes().pop().unwrap();
    assert!(is_login(&outcome), "{outcome:?}");
    assert!(reason(&outcome).contains("run `agent login`"));
    assert!(
        reason(&outcome).contains("Please visit the following URL"),
        "{outcome:?}"
    );

    let mut bench = plain();
    bench.steer(Steer::Prompt("work".into()));
    bench.text("not logged in");
    bench.pass(seconds(20));
    assert!(is_login(&bench.outcomes()[0]), "no answer behind it");

    let mut bench = plain();
    bench.steer(Steer::Prompt("work".into()));
    bench.end(41, "no key");
    assert!(is_login(&bench.outcomes()[0]), "its exit code says so");
}

#[test]
fn a_program_that_says_something_else_is_no_login_and_is_quoted() {
    let mut handful = plain();
    handful.steer(Steer::Prompt("work".into()));
    for n in 0..5 {
        handful.text(&format!("line {n}"));
    }
    let mut silent = plain();
    silent.steer(Steer::Prompt("work".into()));
    silent.text("line 4");
    silent.pass(seconds(20));
    for bench in [handful, silent] {
        let outcome = bench.outcomes().pop().unwrap();
        assert!(
            matches!(
                outcome,
                Outcome::Failed {
                    fault: Fault::Agent,
                    ..
                }
            ),
            "{outcome:?}"
        );
        let said = reason(&outcome);
        assert!(
            said.starts_with("Agent does not speak the Agent Client Protocol; it said: line")
                && said.ends_with("line 4"),
            "{said}"
        );
    }
}

#[test]
fn a_failed_start_is_told_to_a_prompt_that_comes_later() {
    let mut bench = plain();
    bench.reply(&json!({"protocolVersion": 1}));
    bench.reply_error(-32000, "key is missing");
    assert!(bench.outcomes().is_empty());
    bench.steer(Steer::Prompt("work".into()));
    assert!(is_login(&bench.outcomes()[0]));
    assert!(matches!(bench.steps.last(), Some(Step::Terminate(_))));
}

#[test]
fn another_version_or_a_session_without_an_id_fails_the_start() {
    let mut bench = plain();
    bench.steer(Steer::Prompt("work".into()));
    bench.reply(&json!({"protocolVersion": 2}));
    assert!(reason(&bench.outcomes()[0]).contains("version 2"));

    let mut bench = plain();
    bench.steer(Steer::Prompt("work".into()));
    bench.reply(&json!({}));
    bench.reply(&json!({"sessionId": 7}));
    assert!(reason(&bench.outcomes()[0]).contains("without an id"));
}

#[test]
fn history_is_swallowed_until_it_has_been_quiet() {
    let mut bench = resuming(None);
    bench.steer(Steer::Prompt("go on".into()));
    bench.reply(&json!({"protocolVersion": 1, "agentCapabilities": {"loadSession": true}}));
    let chunk =
        json!({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "old"}});
    bench.update(&chunk);
    bench.reply(&json!({}));
    for _ in 0..10 {
        bench.pass(Duration::from_millis(150));
        bench.update(&chunk);
    }
    assert_eq!(bench.methods(), ["initialize", "session/load"]);
    bench.pass(Duration::from_millis(200));
    assert_eq!(
        bench.methods(),
        ["initialize", "session/load", "session/prompt"]
    );
    assert_eq!(bench.events(), []);
    bench.update(&chunk);
    assert!(matches!(&bench.events()[..], [RunEvent::Text { delta, .. }] if delta == "old"));
    assert!(
        bench
            .steps
            .contains(&Step::Resumable(ResumeId::parse("old").unwrap()))
    );
}

#[test]
fn a_replay_that_never_ends_does_not_hold_the_prompt_for_ever() {
    let mut bench = resuming(None);
    bench.steer(Steer::Prompt("go on".into()));
    bench.reply(&json!({"protocolVersion": 1, "agentCapabilities": {"loadSession": true}}));
    bench.reply(&json!({}));
    for _ in 0..101 {
        bench.pass(Duration::from_millis(100));
        bench.update(&json!({"sessionUpdate": "user_message_chunk"}));
    }
    assert_eq!(bench.methods().last(), Some(&"session/prompt"));
}

#[test]
fn resuming_without_replay_is_preferred_and_may_be_held_back() {
    let mut bench = resuming(Some(seconds(40)));
    bench.steer(Steer::Prompt("go on".into()));
    bench.pass(seconds(1));
    bench.reply(&json!({"protocolVersion": 1,
        "agentCapabilities": {"loadSession": true, "sessionCapabilities": {"resume": {}}}}));
    bench.pass(seconds(38));
    assert_eq!(bench.methods(), ["initialize"]);
    bench.pass(seconds(1));
    assert_eq!(bench.methods(), ["initialize", "session/resume"]);
    bench.reply(&json!({}));
    assert_eq!(bench.methods().last(), Some(&"session/prompt"));
}

#[test]
fn an_agent_that_cannot_continue_a_conversation_says_so_instead_of_forgetting() {
    let mut bench = resuming(None);
    bench.steer(Steer::Prompt("go on".into()));
    bench.reply(&json!({"protocolVersion": 1}));
    assert_eq!(
        reason(&bench.outcomes()[0]),
        "Agent cannot continue a conversation"
    );
}

#[test]
fn every_request_of_the_agent_is_answered_with_its_own_id() {
    let mut bench = open(Some("work"));
    for id in [json!(3), json!("three"), json!(null)] {
        bench.line(
            &json!({"jsonrpc": "2.0", "id": id, "method": "fs/write_text_file",
            "params": {"path": "/p/x", "content": "x"}}),
        );
        let answer = bench.sent.back().unwrap();
        assert_eq!(
            (&answer["id"], &answer["error"]["code"]),
            (&id, &json!(-32601))
        );
    }
}

#[test]
fn permissions_outside_a_running_turn_are_cancelled_at_once() {
    for cancelled in [false, true] {
        let mut bench = open(cancelled.then_some("work"));
        bench.steer(Steer::Interrupt);
        bench.line(
            &json!({"jsonrpc": "2.0", "id": 5, "method": "session/request_permission",
            "params": {}}),
        );
        let answer = bench.sent.back().unwrap();
        assert_eq!(answer["result"]["outcome"]["outcome"], "cancelled");
        assert_eq!(bench.events(), []);
    }
}

#[test]
fn the_agent_may_take_a_question_back() {
    let mut bench = open(Some("work"));
    let ask = permission(&mut bench, &json!("p"));
    bench.line(&json!({"jsonrpc": "2.0", "method": "$/cancel_request",
        "params": {"requestId": "p"}}));
    assert_eq!(bench.sent.back().unwrap()["error"]["code"], -32800);
    let closed = RunEvent::AskClosed {
        ask: ask.id.clone(),
        how: AskEnd::Withdrawn,
    };
    assert_eq!(bench.events().pop(), Some(closed));
    let sent = bench.sent.len();
    bench.steer(Steer::Answer(ask.id, Answer::Choose { option: "y".into() }));
    assert_eq!(bench.sent.len(), sent, "a late answer goes nowhere");
}

#[test]
fn a_rejected_call_is_closed_at_once_because_agents_may_never_mention_it_again() {
    let mut bench = open(Some("work"));
    let ask = permission(&mut bench, &json!(0));
    bench.steer(Steer::Answer(
        ask.id.clone(),
        Answer::Deny {
            reason: "no".into(),
        },
    ));
    let last = bench.events().pop();
    assert!(matches!(&last, Some(RunEvent::Tool(call)) if call.status == ToolStatus::Failed));
    assert!(bench.steps.contains(&Step::Applied(ask.id)));
    bench.reply(&json!({"stopReason": "end_turn"}));
    assert_eq!(bench.outcomes(), [Outcome::Completed]);
}

#[test]
fn stop_reasons_become_outcomes() {
    for (stop, expected) in [
        ("end_turn", "completed"),
        ("a reason of tomorrow", "completed"),
        ("max_tokens", "limit"),
        ("max_turn_requests", "limit"),
        ("refusal", "model"),
        ("cancelled", "cancelled"),
    ] {
        let mut bench = open(Some("work"));
        bench.reply(&json!({"stopReason": stop}));
        let told = match &bench.outcomes()[0] {
            Outcome::Completed => "completed",
            Outcome::Blocked {
                fix: Fix::Limit, ..
            } => "limit",
            Outcome::Failed {
                fault: Fault::Model,
                ..
            } => "model",
            Outcome::Cancelled { .. } => "cancelled",
            other => panic!("{other:?}"),
        };
        assert_eq!(told, expected, "{stop}");
    }
}

#[test]
fn a_mode_chunk_is_a_mode_and_not_an_answer() {
    let mut bench = open(Some("work"));
    let chunk = |text: &str| json!({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}});
    bench.update(&chunk("[MODE_UPDATE] yolo"));
    bench.update(&chunk("[MODE_UPDATE] is what it is called"));
    let events = bench.events();
    assert_eq!(
        events[0],
        RunEvent::Mode {
            mode: "yolo".into()
        }
    );
    assert!(matches!(&events[1], RunEvent::Text { .. }));
}

#[test]
fn tuning_asks_in_the_way_the_session_offers() {
    let mut bench = plain();
    bench.steer(Steer::Tune(Tuning {
        model: None,
        mode: Some("plan".into()),
        ..Tuning::default()
    }));
    bench.reply(&json!({"protocolVersion": 1}));
    bench.reply(&json!({"sessionId": "s",
        "models": {"currentModelId": "a", "availableModels": [{"modelId": "a"}, {"modelId": "b"}]},
        "configOptions": [{"id": "mode", "currentValue": "build",
            "options": [{"value": "build"}, {"value": "plan"}]}]}));
    assert_eq!(bench.methods().last(), Some(&"session/set_config_option"));
    bench.reply(&json!({}));
    bench.steer(Steer::Tune(Tuning {
        model: Some("b".into()),
        mode: None,
        ..Tuning::default()
    }));
    assert_eq!(bench.methods().last(), Some(&"session/set_model"));
    bench.reply_error(-32602, "not today");
    let events = bench.events();
    assert!(events.contains(&RunEvent::Mode {
        mode: "plan".into()
    }));
    assert!(matches!(
        events.last(),
        Some(RunEvent::Status { text }) if text == "Agent did not take the model b: not today"
    ));
    assert_eq!(bench.dialogue.models(), ["a", "b"]);
}

#[test]
fn a_process_that_ends_by_itself_fails_the_turn_and_what_waits_behind_it() {
    let mut bench = open(Some("work"));
    bench.steer(Steer::Prompt("more".into()));
    bench.end(1, "Error: out of memory\n");
    let outcomes = bench.outcomes();
    assert_eq!(outcomes.len(), 2);
    assert_eq!(
        reason(&outcomes[0]),
        "Agent ended during the turn (exit code 1): Error: out of memory"
    );
    bench.steer(Steer::Prompt("and more".into()));
    assert_eq!(bench.outcomes().len(), 3, "every prompt gets its end");
}

#[test]
fn closing_waits_for_the_turn_and_for_what_waits_behind_it() {
    let mut bench = open(Some("work"));
    bench.steer(Steer::Close);
    assert_eq!(bench.steps, []);
    bench.reply(&json!({"stopReason": "end_turn"}));
    assert_eq!(bench.steps.last(), Some(&Step::CloseInput(seconds(3))));

    let mut bench = plain();
    bench.steer(Steer::Close);
    assert_eq!(bench.steps.last(), Some(&Step::CloseInput(seconds(3))));
}

#[test]
fn a_line_over_the_limit_is_told_and_does_not_end_the_turn() {
    let mut bench = open(Some("work"));
    bench.dialogue.on_oversized(bench.now, 100_000_000);
    bench.drain();
    assert!(
        matches!(&bench.events()[..], [RunEvent::Status { text }] if text.contains("100000000"))
    );
    bench.reply(&json!({"stopReason": "end_turn"}));
    assert_eq!(bench.outcomes(), [Outcome::Completed]);
}

#[test]
fn an_agent_with_a_hosted_default_is_not_sent_a_prompt_that_nobody_chose_to_send_there() {
    let mut strict = quirks();
    strict.model_or_nothing = true;
    strict.refused_default = Some("hosted/".into());
    let offer = json!({"sessionId": "s", "models": {"currentModelId": "hosted/free",
        "availableModels": [{"modelId": "hosted/free"}, {"modelId": "mine/a"}]}});
    for (wanted, answered) in [
        (None, false),
        (Some("mine/b"), false),
        (Some("mine/a"), true),
        (Some("hosted/free"), true),
    ] {
        let start = AcpStart {
            directory: "/p".into(),
            model: wanted.map(str::to_owned),
            ..AcpStart::default()
        };
        let mut bench = Bench::new(start, strict.clone());
        bench.steer(Steer::Prompt("secret".into()));
        bench.reply(&json!({"protocolVersion": 1}));
        bench.reply(&offer);
        if wanted == Some("mine/a") {
            assert_eq!(bench.methods().last(), Some(&"session/set_model"));
            bench.reply(&json!({}));
        }
        assert_eq!(
            bench.methods().contains(&"session/prompt"),
            answered,
            "{wanted:?}"
        );
        let refused = matches!(
            bench.outcomes()[..],
            [Outcome::Blocked {
                fix: Fix::Setup,
                ..
            }]
        );
        assert_eq!(refused, !answered, "{wanted:?}");
    }

    let start = AcpStart {
        directory: "/p".into(),
        model: Some("mine/a".into()),
        ..AcpStart::default()
    };
    let mut bench = Bench::new(start, strict);
    bench.steer(Steer::Prompt("secret".into()));
    bench.reply(&json!({"protocolVersion": 1}));
    bench.reply(&offer);
    bench.reply_error(-32602, "no key for it");
    assert!(reason(&bench.outcomes()[0]).contains("no key for it"));
    assert!(!bench.methods().contains(&"session/prompt"));
}

#[test]
fn a_retry_is_told_and_a_notification_that_is_none_is_passed_on() {
    let mut bench = Bench::running(AcpQuirks::plain("Agent", "log in"));
    let method = "_ctrlnode/retrying";
    let retry = json!({"sessionId": "s", "attempt": 2, "limit": 4, "delayMs": 1500,
        "reason": "the service is \u{1b}[31mbusy"});
    bench.line(&json!({"jsonrpc": "2.0", "method": method, "params": retry}));
    for odd in [
        json!({"sessionId": "other", "attempt": 1, "reason": "x"}),
        json!({"sessionId": "s", "attempt": -1, "reason": "x"}),
        json!({"sessionId": "s", "attempt": 1}),
        json!(null),
    ] {
        bench.line(&json!({"jsonrpc": "2.0", "method": method, "params": odd}));
    }
    let mut retries = Vec::new();
    let mut others = 0;
    for step in &bench.steps {
        if let Step::Emit(seen) = step {
            match &seen.event {
                RunEvent::Retrying(retry) => retries.push(retry.clone()),
                RunEvent::Other { .. } => others += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    let wanted = Retry {
        attempt: 2,
        limit: Some(4),
        delay: Some(Duration::from_millis(1500)),
        reason: "the service is busy".into(),
    };
    assert_eq!((retries, others), (vec![wanted], 4));
}
