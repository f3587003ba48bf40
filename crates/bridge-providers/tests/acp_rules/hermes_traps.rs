//! The traps of Hermes Agent, one test each.

use bridge_proto::model::{Answer, AskEnd, AskKind, Fix, Outcome, RunEvent, ToolState, ToolStatus};
use bridge_providers::{
    dialogue::{Dialogue as _, Step},
    hermes::quirks,
    provider::Steer,
};
use serde_json::{Value, json};

use crate::bench::{Bench, reason, seconds};

fn running() -> Bench {
    Bench::running(quirks())
}

fn done() -> Value {
    json!({"stopReason": "end_turn", "usage": {"inputTokens": 1, "outputTokens": 1}})
}

fn call(id: &str, kind: &str, path: Option<&str>) -> Value {
    let locations: Vec<_> = path.iter().map(|path| json!({"path": path})).collect();
    let preview = json!({"type": "content", "content": {"type": "text", "text": "$ preview"}});
    json!({"sessionUpdate": "tool_call", "toolCallId": id, "title": format!("{kind} {id}"),
        "kind": kind, "locations": locations, "content": [preview]})
}

fn asks_to_remove(bench: &mut Bench) -> bridge_proto::model::Ask {
    let options = json!([
        {"optionId": "allow_once", "name": "Allow once", "kind": "allow_once"},
        {"optionId": "allow_session", "name": "Allow for session", "kind": "allow_always"},
        {"optionId": "allow_always", "name": "Allow always", "kind": "allow_always"},
        {"optionId": "deny", "name": "Deny", "kind": "reject_once"}]);
    let request = json!({"toolCallId": "perm-check-1", "kind": "execute",
        "title": "recursive delete: rm -rf x", "rawInput": {"command": "rm -rf x"}});
    bench.permission(&json!(0), &request, &options)
}

fn tools(bench: &Bench) -> Vec<ToolState> {
    let tool = |event| match event {
        RunEvent::Tool(state) => Some(state),
        _ => None,
    };
    bench.events().into_iter().filter_map(tool).collect()
}

fn last_of(bench: &Bench, id: &str) -> ToolState {
    let mut all = tools(bench).into_iter();
    all.rfind(|tool| tool.id.as_str() == id).unwrap()
}

#[test]
fn an_http_error_that_ends_the_turn_well_is_a_failure_and_no_answer() {
    for (words, fix) in [
        ("HTTP 401: Incorrect API key provided", Some(Fix::Login)),
        (
            "API call failed after 3 retries: HTTP 429: slow down",
            Some(Fix::Credit),
        ),
        ("API call failed after 3 retries: HTTP 500: down", None),
        ("Error: no such model", None),
    ] {
        let mut bench = running();
        bench.says(words);
        bench.update(&json!({"sessionUpdate": "usage_update", "used": 1, "size": 2}));
        bench.reply(&json!({"stopReason": "end_turn"}));
        let end = bench.end_of_turn();
        let told = match &end.outcome {
            Outcome::Blocked { fix, .. } => Some(*fix),
            Outcome::Failed { .. } => None,
            other => panic!("{other:?}"),
        };
        assert_eq!(told, fix, "{words}");
        assert_eq!(
            (end.answer.as_str(), bench.page().as_str()),
            ("", ""),
            "{words}"
        );
    }
}

#[test]
fn the_words_of_a_failure_that_came_in_pieces_are_taken_back() {
    let mut bench = running();
    bench.says("Looking.");
    bench.update(&call("c", "execute", None));
    for piece in ["\n\nHTTP", " 50", "3: overloaded"] {
        bench.says(piece);
    }
    assert_eq!(
        bench.page(),
        "Looking.\n\nHTTP 503: overloaded",
        "told as it comes"
    );
    bench.reply(&json!({"stopReason": "end_turn"}));
    let end = bench.end_of_turn();
    assert!(reason(&end.outcome).contains("HTTP 503: overloaded"));
    assert_eq!(
        (end.answer.as_str(), bench.page().as_str()),
        ("Looking.", "Looking.")
    );
}

#[test]
fn a_turn_without_usage_has_failed_even_if_nothing_was_said_about_it() {
    let mut bench = running();
    bench.says("Calling a tool.");
    bench.reply(&json!({"stopReason": "end_turn"}));
    let end = bench.end_of_turn();
    assert!(reason(&end.outcome).contains("no reason was given"));
    assert_eq!(end.answer, "Calling a tool.", "what was answered stays");
}

#[test]
fn an_empty_answer_of_the_model_is_a_failure_although_there_is_usage() {
    let mut bench = running();
    bench.says("⚠️ No reply: the model returned empty content");
    bench.reply(&done());
    assert!(reason(&bench.end_of_turn().outcome).contains("No reply"));
}

#[test]
fn an_answer_that_begins_like_an_error_completes_when_there_is_usage() {
    let mut bench = running();
    bench.says("HTTP 404 means that there is no such page.");
    bench.reply(&done());
    let end = bench.end_of_turn();
    assert_eq!(end.outcome, Outcome::Completed);
    assert_eq!(end.answer, "HTTP 404 means that there is no such page.");
    assert_eq!(bench.page(), end.answer);
}

#[test]
fn a_question_that_nobody_answers_expires_after_a_minute() {
    let mut bench = running();
    bench.update(&call("c", "execute", None));
    let ask = asks_to_remove(&mut bench);
    let expires = bench.dialogue.ask_expires(&ask.id);
    assert_eq!(expires, Some(bench.now + seconds(60)));
    bench.pass(seconds(59));
    assert!(
        !bench
            .events()
            .iter()
            .any(|event| matches!(event, RunEvent::AskClosed { .. }))
    );
    bench.pass(seconds(1));
    let closed = RunEvent::AskClosed {
        ask: ask.id.clone(),
        how: AskEnd::Expired,
    };
    assert!(bench.events().contains(&closed));
    assert_eq!(
        bench.sent.back().unwrap()["result"]["outcome"]["outcome"],
        "cancelled"
    );
    assert_eq!(last_of(&bench, "c").status, ToolStatus::Failed);
    let sent = bench.sent.len();
    let option = "allow_once".into();
    bench.steer(Steer::Answer(ask.id, Answer::Choose { option }));
    assert_eq!(bench.sent.len(), sent, "too late");
    bench.steps.clear();
    bench.pass(seconds(60));
    assert_eq!(bench.events(), [RunEvent::Silent { seconds: 60 }]);
}

#[test]
fn a_question_belongs_to_the_call_that_waits_although_its_id_is_another() {
    let mut bench = running();
    bench.update(&call("tc-1", "execute", None));
    let ask = asks_to_remove(&mut bench);
    assert_eq!(ask.tool.unwrap().as_str(), "tc-1");
    assert_eq!(
        (ask.kind, ask.summary.as_str()),
        (AskKind::Command, "Run: rm -rf x")
    );
    let ids: Vec<_> = tools(&bench).into_iter().map(|tool| tool.id).collect();
    assert!(ids.iter().all(|id| id.as_str() == "tc-1"), "{ids:?}");
}

#[test]
fn of_two_edits_each_question_finds_its_own_by_the_file() {
    let mut bench = running();
    bench.update(&call("a", "edit", Some("a.md")));
    bench.update(&call("b", "edit", Some("b.md")));
    let options = json!([{"optionId": "allow_once", "name": "Allow", "kind": "allow_once"}]);
    for (path, id) in [("b.md", "b"), ("a.md", "a")] {
        let request = json!({"toolCallId": format!("edit-approval-{id}"), "kind": "edit",
            "content": [{"type": "diff", "path": path, "newText": "x"}]});
        let ask = bench.permission(&json!(id), &request, &options);
        assert_eq!(ask.tool.unwrap().as_str(), id);
    }
}

#[test]
fn two_options_of_one_kind_are_told_apart_by_their_ids() {
    let mut bench = running();
    bench.update(&call("c", "execute", None));
    let ask = asks_to_remove(&mut bench);
    let option = "allow_session".into();
    bench.steer(Steer::Answer(ask.id, Answer::Choose { option }));
    let outcome = &bench.sent.back().unwrap()["result"]["outcome"];
    assert_eq!(outcome["optionId"], "allow_session");
}

#[test]
fn calls_whose_end_is_never_told_are_over_when_the_agent_goes_on() {
    let mut bench = running();
    bench.update(&call("read", "read", Some("a.md")));
    bench.update(&call("next", "execute", None));
    assert_eq!(last_of(&bench, "read").status, ToolStatus::Completed);
    assert_eq!(
        last_of(&bench, "next").status,
        ToolStatus::Pending,
        "its end is told"
    );
    bench.update(&call("write", "edit", Some("b.md")));
    bench.says("Written.");
    assert_eq!(last_of(&bench, "write").status, ToolStatus::Completed);
    let path = "b.md".into();
    assert!(bench.events().contains(&RunEvent::FileWritten { path }));
    bench.update(&call("last", "edit", Some("c.md")));
    bench.reply(&done());
    assert_eq!(last_of(&bench, "last").status, ToolStatus::Completed);
    assert_eq!(last_of(&bench, "next").status, ToolStatus::Unknown);
}

#[test]
fn what_was_taken_for_the_end_of_a_call_gives_way_to_its_real_end() {
    let mut bench = running();
    bench.update(&call("a", "edit", Some("a.md")));
    bench.update(&call("b", "edit", Some("b.md")));
    bench.update(
        &json!({"sessionUpdate": "tool_call_update", "toolCallId": "a",
        "status": "failed"}),
    );
    assert_eq!(last_of(&bench, "a").status, ToolStatus::Failed);
}

#[test]
fn a_refused_edit_was_not_done_although_the_agent_goes_on() {
    let mut bench = running();
    bench.update(&call("a", "edit", Some("a.md")));
    let request = json!({"toolCallId": "edit-approval-1", "kind": "edit",
        "content": [{"type": "diff", "path": "a.md", "newText": "x"}]});
    let options = json!([{"optionId": "deny", "name": "Deny", "kind": "reject_once"}]);
    let ask = bench.permission(&json!(0), &request, &options);
    bench.steer(Steer::Answer(
        ask.id,
        Answer::Deny {
            reason: "no".into(),
        },
    ));
    bench.says("It was denied.");
    bench.reply(&done());
    assert_eq!(last_of(&bench, "a").status, ToolStatus::Failed);
    let written = |event: &RunEvent| matches!(event, RunEvent::FileWritten { .. });
    assert!(!bench.events().iter().any(written));
}

#[test]
fn what_will_be_done_is_not_taken_for_what_came_of_it() {
    let mut bench = running();
    bench.update(&call("c", "execute", None));
    assert_eq!(last_of(&bench, "c").output, None);
}

#[test]
fn a_cancel_that_is_answered_with_an_error_retires_the_process() {
    let mut bench = running();
    bench.update(&call("c", "execute", None));
    bench.steer(Steer::Interrupt);
    bench.reply_error(-32603, "Internal error");
    assert!(matches!(
        bench.end_of_turn().outcome,
        Outcome::Cancelled { .. }
    ));
    assert!(
        matches!(bench.steps.last(), Some(Step::CloseInput(_))),
        "{:?}",
        bench.steps
    );
    let sent = bench.sent.len();
    bench.prompt("and now?");
    assert_eq!(bench.sent.len(), sent, "nothing would run in that session");
    bench.end(0, "");
    assert_eq!(bench.outcomes().len(), 2);
}

#[test]
fn a_cancel_that_is_answered_well_leaves_the_conversation_as_it_is() {
    let mut bench = running();
    bench.steer(Steer::Interrupt);
    bench.reply(&json!({"stopReason": "cancelled"}));
    bench.prompt("and now?");
    assert_eq!(bench.sent.back().unwrap()["method"], "session/prompt");
}

#[test]
fn an_error_without_a_cancel_does_not_end_the_process() {
    let mut bench = running();
    bench.reply_error(-32603, "Internal error");
    assert!(
        !bench
            .steps
            .iter()
            .any(|step| matches!(step, Step::CloseInput(_)))
    );
    bench.prompt("again");
    assert_eq!(bench.sent.back().unwrap()["method"], "session/prompt");
}

#[test]
fn a_conversation_is_loaded_and_never_resumed_because_that_would_begin_another() {
    let mut bench = Bench::resuming(quirks(), None);
    bench.reply(
        &json!({"protocolVersion": 1, "agentCapabilities": {"loadSession": true,
        "sessionCapabilities": {"resume": {}}}}),
    );
    assert_eq!(bench.methods().last(), Some(&"session/load"));
}

#[test]
fn a_conversation_that_is_not_there_any_more_is_told_and_nothing_is_sent_to_another() {
    let mut bench = Bench::resuming(quirks(), None);
    bench.prompt("go on");
    bench.reply(&json!({"protocolVersion": 1, "agentCapabilities": {"loadSession": true}}));
    bench.reply(&json!({}));
    assert_eq!(
        reason(&bench.end_of_turn().outcome),
        "Hermes does not know the conversation any more"
    );
    assert!(!bench.methods().contains(&"session/prompt"));
}

#[test]
fn a_prompt_that_begins_with_a_slash_reaches_the_model() {
    for prompt in ["/reset", "  /model x"] {
        let mut bench = running();
        bench.reply(&done());
        bench.prompt(prompt);
        let text = &bench.sent.back().unwrap()["params"]["prompt"][0]["text"];
        let text = text.as_str().unwrap();
        assert!(!text.trim_start().starts_with('/'), "{text}");
        assert!(text.ends_with(prompt), "{text}");
    }
}

#[test]
fn one_prompt_is_in_flight_at_a_time_so_that_none_is_queued_by_the_agent() {
    let mut bench = running();
    bench.prompt("second");
    bench.prompt("third");
    let prompts = |bench: &Bench| {
        let methods = bench.methods();
        methods
            .iter()
            .filter(|method| **method == "session/prompt")
            .count()
    };
    assert_eq!(prompts(&bench), 1);
    bench.reply(&done());
    assert_eq!(prompts(&bench), 2);
    bench.reply(&done());
    bench.reply(&done());
    assert_eq!(bench.outcomes(), vec![Outcome::Completed; 3]);
}

#[test]
fn a_title_that_comes_after_the_turn_belongs_to_nobody_and_harms_nobody() {
    let mut bench = running();
    bench.reply(&done());
    bench.update(&json!({"sessionUpdate": "session_info_update", "title": "A title"}));
    assert_eq!(bench.outcomes().len(), 1);
    assert!(bench.dialogue.is_idle());
}

#[test]
fn hermes_without_a_provider_of_models_wants_a_login() {
    let mut bench = Bench::with(quirks());
    bench.prompt("work");
    bench.reply(&json!({"protocolVersion": 1}));
    bench.reply_error(
        -32603,
        "Internal error: No LLM provider configured. Run `hermes model`.",
    );
    let outcome = bench.end_of_turn().outcome;
    assert!(
        matches!(
            outcome,
            Outcome::Blocked {
                fix: Fix::Login,
                ..
            }
        ),
        "{outcome:?}"
    );
}
