//! The traps of GitHub Copilot CLI, one test each.

use bridge_proto::model::{Answer, Fault, Fix, Outcome, RunEvent, ToolStatus, Tuning};
use bridge_providers::{copilot::quirks, provider::Steer};
use serde_json::{Value, json};

use crate::bench::{Bench, reason, seconds};

const RETRYING: &str = "Info: Request failed due to a transient API error. Retrying...";

fn running() -> Bench {
    Bench::running(quirks())
}

fn done(usage: bool) -> Value {
    if usage {
        json!({"stopReason": "end_turn", "usage": {"inputTokens": 1, "outputTokens": 1}})
    } else {
        json!({"stopReason": "end_turn"})
    }
}

fn call(id: &str) -> Value {
    json!({"sessionUpdate": "tool_call", "toolCallId": id, "title": "list", "kind": "execute",
        "status": "pending", "rawInput": {"command": "ls", "description": "list"}})
}

fn options() -> Value {
    json!([{"optionId": "allow_once", "kind": "allow_once", "name": "Allow once"},
        {"optionId": "reject_once", "kind": "reject_once", "name": "Deny"}])
}

#[test]
fn a_failed_model_call_that_ends_the_turn_well_is_a_failure_and_no_answer() {
    let mut bench = running();
    bench.says("Error: Failed to get response from the AI model; Last error: 500 down");
    bench.reply(&done(false));
    let end = bench.end_of_turn();
    assert_eq!(
        end.outcome,
        Outcome::Failed {
            fault: Fault::Model,
            reason:
                "GitHub Copilot: Failed to get response from the AI model; Last error: 500 down"
                    .into()
        }
    );
    assert_eq!((end.answer.as_str(), bench.page().as_str()), ("", ""));
}

#[test]
fn a_refused_key_and_a_used_up_quota_are_told_as_what_a_person_can_mend() {
    for (words, fix) in [
        (
            "Error: Authentication failed with provider at http://h (HTTP 401).",
            Fix::Login,
        ),
        (
            "Error: Failed to get response; retried 5 times. Last error: 429 slow down",
            Fix::Credit,
        ),
    ] {
        let mut bench = running();
        bench.says(words);
        bench.reply(&done(false));
        let outcome = bench.end_of_turn().outcome;
        assert!(
            matches!(&outcome, Outcome::Blocked { fix: told, .. } if *told == fix),
            "{outcome:?}"
        );
    }
}

#[test]
fn a_model_call_that_fails_after_others_went_well_is_a_failure_although_there_is_usage() {
    let mut bench = running();
    bench.says("I will look.");
    bench.update(&call("c"));
    bench.update(
        &json!({"sessionUpdate": "tool_call_update", "toolCallId": "c",
        "status": "completed"}),
    );
    bench.says(RETRYING);
    bench.says("Error: Failed to get response from the AI model");
    bench.reply(&done(true));
    let end = bench.end_of_turn();
    assert!(reason(&end.outcome).contains("Failed to get response"));
    assert_eq!(end.answer, "I will look.");
    assert_eq!(bench.page(), "I will look.");
}

#[test]
fn an_empty_answer_of_the_model_is_a_failure_although_there_is_usage() {
    let mut bench = running();
    bench.says("Error: No response was returned. Send your message again to retry.");
    bench.reply(&done(true));
    assert!(reason(&bench.end_of_turn().outcome).contains("No response was returned"));
}

#[test]
fn an_answer_that_only_speaks_of_errors_is_told_as_it_comes_and_completes() {
    let mut bench = running();
    bench.says("Error: ");
    assert_eq!(bench.page(), "", "it may turn out to be one");
    bench.says("is how the line begins, and ");
    assert_eq!(bench.page(), "Error: is how the line begins, and ");
    bench.says("Error: is how it ends");
    bench.reply(&done(true));
    let end = bench.end_of_turn();
    assert_eq!(end.outcome, Outcome::Completed);
    assert_eq!(
        end.answer,
        "Error: is how the line begins, and Error: is how it ends"
    );
    assert_eq!(bench.page(), end.answer);
}

#[test]
fn text_that_is_kept_back_comes_before_what_follows_it() {
    let mut bench = running();
    bench.says("Error: that is what the log says.");
    bench.update(&call("c"));
    let events = bench.events();
    assert!(
        matches!(&events[..], [RunEvent::Text { .. }, RunEvent::Tool(_)]),
        "{events:?}"
    );
}

#[test]
fn remarks_are_status_and_retries_and_never_part_of_the_answer() {
    let mut bench = running();
    bench.says(RETRYING);
    bench.says(RETRYING);
    bench.says("Info: /p/notes.txt");
    bench.says("Done.");
    bench.reply(&done(true));
    let events = bench.events();
    let attempts: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            RunEvent::Retrying(retry) => Some(retry.attempt),
            _ => None,
        })
        .collect();
    assert_eq!(attempts, [1, 2]);
    let status = RunEvent::Status {
        text: "/p/notes.txt".into(),
    };
    assert!(events.contains(&status));
    assert_eq!(bench.end_of_turn().answer, "Done.");
}

#[test]
fn a_rejection_ends_the_turn_without_an_error() {
    let mut bench = running();
    bench.update(&call("c"));
    let ask = bench.permission(&json!(0), &call("c"), &options());
    bench.steer(Steer::Answer(
        ask.id,
        Answer::Deny {
            reason: "no".into(),
        },
    ));
    bench.update(
        &json!({"sessionUpdate": "tool_call_update", "toolCallId": "c",
        "status": "failed", "rawOutput": {"code": "rejected", "message": "rejected"}}),
    );
    bench.says("Info: Operation cancelled by user");
    bench.reply(&done(true));
    let end = bench.end_of_turn();
    assert_eq!((end.outcome, end.answer.as_str()), (Outcome::Completed, ""));
}

#[test]
fn a_permission_repeats_its_call_in_other_words_and_only_the_question_uses_them() {
    let mut bench = running();
    bench.update(
        &json!({"sessionUpdate": "tool_call", "toolCallId": "c", "kind": "edit",
        "title": "Creating /p/a", "status": "pending", "rawInput": {"path": "/p/a"},
        "content": [{"type": "diff", "path": "/p/a", "oldText": "", "newText": "x"}]}),
    );
    let before = bench.events().pop();
    bench.steps.clear();
    let ask = bench.permission(
        &json!(0),
        &json!({"toolCallId": "c", "kind": "edit", "title": "Create file",
            "rawInput": {"fileName": "/p/a", "diff": "+x"}}),
        &options(),
    );
    assert_eq!(ask.summary, "Create /p/a");
    assert_eq!(
        bench.events().len(),
        1,
        "the call itself is as it was: {before:?}"
    );
}

#[test]
fn the_call_of_a_cancelled_turn_gets_its_end_from_us() {
    let mut bench = running();
    bench.update(&call("c"));
    bench.steer(Steer::Interrupt);
    bench.reply(&json!({"stopReason": "cancelled"}));
    let last = bench.events().pop();
    assert!(
        matches!(&last, Some(RunEvent::Tool(call)) if call.status == ToolStatus::Cancelled),
        "{last:?}"
    );
}

#[test]
fn a_cancel_that_was_lost_is_said_again() {
    let mut bench = running();
    bench.steer(Steer::Interrupt);
    bench.pass(seconds(2));
    let cancels = |bench: &Bench| {
        let methods = bench.methods();
        methods
            .iter()
            .filter(|method| **method == "session/cancel")
            .count()
    };
    assert_eq!(cancels(&bench), 2);
}

#[test]
fn modes_are_addresses_and_are_called_by_what_stands_behind_the_sign() {
    let mut bench = Bench::with(quirks());
    bench.reply(&json!({"protocolVersion": 1}));
    bench.reply(
        &json!({"sessionId": "s", "modes": {"currentModeId": "https://x/modes#agent",
        "availableModes": [{"id": "https://x/modes#agent"}, {"id": "https://x/modes#plan"}]}}),
    );
    bench.steer(Steer::Tune(Tuning {
        mode: Some("plan".into()),
        ..Tuning::default()
    }));
    let sent = bench.sent.back().unwrap();
    assert_eq!(sent["params"]["modeId"], "https://x/modes#plan");
    bench.update(&json!({"sessionUpdate": "current_mode_update",
        "currentModeId": "https://x/modes#plan"}));
    bench.reply(&json!({}));
    let modes: Vec<_> = bench
        .events()
        .into_iter()
        .filter(|event| matches!(event, RunEvent::Mode { .. }))
        .collect();
    let mode = |mode: &str| RunEvent::Mode { mode: mode.into() };
    assert_eq!(modes, [mode("agent"), mode("plan")], "each is told once");
}

#[test]
fn a_model_is_never_chosen_in_a_session_where_it_would_do_nothing() {
    let mut bench = running();
    bench.steer(Steer::Tune(Tuning {
        model: Some("gpt".into()),
        ..Tuning::default()
    }));
    assert!(!bench.methods().contains(&"session/set_model"));
    assert!(matches!(
        bench.events().last(),
        Some(RunEvent::Status { text }) if text.contains("does not offer the model gpt")
    ));
}

#[test]
fn an_empty_to_do_list_is_no_plan() {
    let mut bench = running();
    let plan = |entries: Value| json!({"sessionUpdate": "plan", "entries": entries});
    bench.update(&plan(json!([])));
    assert!(matches!(&bench.events()[..], [RunEvent::Other { .. }]));
    bench.update(&plan(json!([{"content": "a"}])));
    bench.update(&plan(json!([])));
    let lists: Vec<_> = bench
        .events()
        .into_iter()
        .filter_map(|event| match event {
            RunEvent::Plan { items } => Some(items.len()),
            _ => None,
        })
        .collect();
    assert_eq!(lists, [1, 0], "one that empties another is told");
}

#[test]
fn slash_text_goes_to_the_model_as_it_is() {
    let mut bench = running();
    bench.reply(&done(true));
    bench.prompt("/nosuchcommand please");
    let text = &bench.sent.back().unwrap()["params"]["prompt"][0]["text"];
    assert_eq!(text, "/nosuchcommand please");
}

#[test]
fn usage_is_that_of_the_whole_conversation_and_not_added_up() {
    let mut bench = running();
    let answer = |tokens: u64| {
        json!({"stopReason": "end_turn",
            "usage": {"inputTokens": tokens, "outputTokens": tokens}})
    };
    bench.reply(&answer(100));
    bench.prompt("more");
    bench.reply(&answer(300));
    let used: Vec<_> = bench
        .events()
        .into_iter()
        .filter_map(|event| match event {
            RunEvent::Usage(usage) => usage.input_tokens,
            _ => None,
        })
        .collect();
    assert_eq!(used, [100, 300]);
}

#[test]
fn news_of_a_session_that_come_before_its_id_are_its_own() {
    let mut bench = Bench::with(quirks());
    bench.reply(&json!({"protocolVersion": 1}));
    bench.update(&json!({"sessionUpdate": "available_commands_update", "availableCommands": []}));
    let what = "available_commands_update".into();
    assert_eq!(bench.events(), [RunEvent::Other { what }]);
}
