//! The traps of Cursor CLI over the protocol, one test each.

use bridge_proto::model::{
    Answer, AskKind, Fix, Outcome, PlanStatus, RunEvent, ToolState, ToolStatus, Tuning,
};
use bridge_providers::{cursor::quirks, provider::Steer};
use serde_json::{Value, json};

use crate::bench::Bench;

fn running() -> Bench {
    Bench::running(quirks())
}

fn tool(bench: &Bench) -> ToolState {
    let tool = |event| match event {
        RunEvent::Tool(state) => Some(state),
        _ => None,
    };
    bench.events().into_iter().rev().find_map(tool).unwrap()
}

fn options() -> Value {
    json!([{"optionId": "allow-once", "name": "Allow", "kind": "allow_once"},
        {"optionId": "allow-always", "name": "Always", "kind": "allow_always"},
        {"optionId": "reject-once", "name": "Reject", "kind": "reject_once"}])
}

fn plans(bench: &Bench) -> Vec<Vec<PlanStatus>> {
    let plan = |event| match event {
        RunEvent::Plan { items } => Some(items.iter().map(|item| item.status).collect()),
        _ => None,
    };
    bench.events().into_iter().filter_map(plan).collect()
}

#[test]
fn an_id_with_a_line_end_still_names_its_call() {
    let mut bench = running();
    for update in ["tool_call", "tool_call_update"] {
        bench.update(
            &json!({"sessionUpdate": update, "toolCallId": "call_1\nfc_2",
            "title": "ls", "kind": "execute", "status": "completed"}),
        );
    }
    assert_eq!(tool(&bench).id.as_str(), "call_1_fc_2");
    let others = |event: &RunEvent| matches!(event, RunEvent::Other { .. });
    assert!(!bench.events().iter().any(others));
}

#[test]
fn a_rejected_tool_that_reports_completed_has_failed() {
    let mut bench = running();
    let call = json!({"toolCallId": "c", "kind": "execute", "title": "ls",
        "rawInput": {"command": "ls"}});
    let ask = bench.permission(&json!(0), &call, &options());
    let reason = "no".into();
    bench.steer(Steer::Answer(ask.id, Answer::Deny { reason }));
    let sent = &bench.sent.back().unwrap()["result"]["outcome"];
    assert_eq!(sent["optionId"], "reject-once");
    bench.update(
        &json!({"sessionUpdate": "tool_call_update", "toolCallId": "c",
        "status": "completed"}),
    );
    assert_eq!(tool(&bench).status, ToolStatus::Failed);
}

#[test]
fn a_tool_that_reports_completed_with_an_error_in_its_output_has_failed() {
    for (raw, status) in [
        (json!({"error": "no such file"}), ToolStatus::Failed),
        (json!({"rejected": {"reason": "x"}}), ToolStatus::Failed),
        (
            json!({"error": null, "rejected": false}),
            ToolStatus::Completed,
        ),
    ] {
        let mut bench = running();
        bench.update(
            &json!({"sessionUpdate": "tool_call", "toolCallId": "c", "kind": "edit",
            "status": "pending"}),
        );
        bench.update(
            &json!({"sessionUpdate": "tool_call_update", "toolCallId": "c",
            "status": "completed", "rawOutput": raw, "locations": [{"path": "/p/a"}]}),
        );
        assert_eq!(tool(&bench).status, status, "{raw}");
        let written = |event: &RunEvent| matches!(event, RunEvent::FileWritten { .. });
        let told = bench.events().iter().any(written);
        assert_eq!(told, status == ToolStatus::Completed, "{raw}");
    }
}

#[test]
fn what_a_command_printed_stands_only_in_its_raw_output() {
    let mut bench = running();
    bench.update(
        &json!({"sessionUpdate": "tool_call", "toolCallId": "c", "kind": "execute",
        "status": "pending"}),
    );
    bench.update(
        &json!({"sessionUpdate": "tool_call_update", "toolCallId": "c",
        "status": "completed", "rawOutput": {"exitCode": 1, "stdout": "a\n", "stderr": "b"}}),
    );
    assert_eq!(tool(&bench).output.unwrap(), "a\nb\n(exit code 1)");
}

#[test]
fn a_broken_diff_is_mended_or_left_out() {
    let diff = |old: &str, new: &str| {
        json!({"sessionUpdate": "tool_call_update", "toolCallId": "c", "status": "completed",
            "content": [{"type": "diff", "path": "/p/a.md", "oldText": old, "newText": new}]})
    };
    let mut bench = running();
    bench.update(&diff("-- /dev/null", "++ b/a.md\nhello\n"));
    let [change] = &tool(&bench).diffs[..] else {
        panic!("one change")
    };
    assert_eq!(
        (change.old.as_deref(), change.new.as_str()),
        (None, "hello\n")
    );
    let mut bench = running();
    bench.update(&diff("hello", "++ b/a.md\nhello\n"));
    assert!(tool(&bench).diffs.is_empty());
}

#[test]
fn a_question_is_put_to_a_person_and_answered_by_the_ids_of_its_options() {
    let mut bench = running();
    bench.request(
        7,
        "cursor/ask_question",
        &json!({"toolCallId": "c", "questions": [
            {"id": "q", "prompt": "Which?", "allowMultiple": false,
             "options": [{"id": "a", "label": "This"}, {"id": "b", "label": "That"}]}]}),
    );
    let ask = bench.last_ask().unwrap();
    assert_eq!(
        (ask.kind, ask.summary.as_str()),
        (AskKind::Question, "Which?")
    );
    let sent = bench.sent.len();
    let text = "that".into();
    bench.steer(Steer::Answer(ask.id, Answer::Text { text }));
    assert_eq!(bench.sent.len(), sent + 1);
    let answer = bench.sent.back().unwrap();
    assert_eq!(answer["id"], 7);
    let selected = json!([{"questionId": "q", "selectedOptionIds": ["b"]}]);
    let outcome = json!({"outcome": "answered", "answers": selected});
    assert_eq!(answer["result"]["outcome"], outcome);
}

#[test]
fn several_questions_of_one_request_are_asked_in_turn_and_answered_once() {
    let question =
        |id: &str| json!({"id": id, "prompt": id, "options": [{"id": "y", "label": "Yes"}]});
    let mut bench = running();
    let questions = json!({"questions": [question("one"), question("two")]});
    bench.request(7, "cursor/ask_question", &questions);
    let sent = bench.sent.len();
    for prompt in ["one", "two"] {
        assert_eq!(bench.sent.len(), sent, "not answered yet");
        let ask = bench.last_ask().unwrap();
        assert_eq!(ask.summary, prompt);
        let option = "y".into();
        bench.steer(Steer::Answer(ask.id, Answer::Choose { option }));
    }
    assert_eq!(bench.sent.len(), sent + 1);
}

#[test]
fn a_question_that_cannot_be_shown_is_skipped_at_once() {
    let mut bench = running();
    bench.request(7, "cursor/ask_question", &json!({"questions": "what?"}));
    let answer = bench.sent.back().unwrap();
    assert_eq!(answer["result"]["outcome"]["outcome"], "skipped");
    assert_eq!(bench.last_ask(), None);
}

#[test]
fn a_plan_waits_for_approval_and_its_steps_are_the_to_do_list() {
    for (answer, outcome) in [("Go ahead", "accepted"), ("rather not", "rejected")] {
        let mut bench = running();
        let plan = json!({"plan": "# Do it", "todos": [{"id": "1", "content": "a"}]});
        bench.request(7, "cursor/create_plan", &plan);
        assert_eq!(plans(&bench), [[PlanStatus::Pending]]);
        let ask = bench.last_ask().unwrap();
        assert_eq!(
            ask.kind,
            AskKind::Question,
            "no rule of a machine answers it"
        );
        assert_eq!(ask.summary, "Go ahead with this plan?\n# Do it");
        let text = answer.into();
        bench.steer(Steer::Answer(ask.id, Answer::Text { text }));
        let sent = &bench.sent.back().unwrap()["result"]["outcome"];
        assert_eq!(sent["outcome"], outcome);
        if outcome == "rejected" {
            assert_eq!(sent["reason"], "rather not");
        }
    }
}

#[test]
fn a_cancel_takes_back_questions_and_plans() {
    let mut bench = running();
    bench.request(7, "cursor/create_plan", &json!({"plan": "x"}));
    bench.steer(Steer::Interrupt);
    let answer = bench.sent.back().unwrap();
    assert_eq!(answer["id"], 7);
    assert_eq!(answer["result"]["outcome"]["outcome"], "cancelled");
}

#[test]
fn a_to_do_list_may_be_a_request_or_not_and_whole_or_in_part() {
    let mut bench = running();
    let todos = |status: &str, merge: bool| json!({"merge": merge, "todos": [{"id": "1", "content": "a", "status": status}]});
    bench.request(7, "cursor/update_todos", &todos("pending", false));
    assert_eq!(bench.sent.back().unwrap()["result"], json!({}));
    let sent = bench.sent.len();
    bench.line(&json!({"jsonrpc": "2.0", "method": "cursor/update_todos",
        "params": todos("completed", true)}));
    assert_eq!(bench.sent.len(), sent, "nothing to answer");
    let told = [[PlanStatus::Pending], [PlanStatus::Completed]];
    assert_eq!(plans(&bench), told);
}

#[test]
fn no_other_request_of_its_own_is_left_unanswered() {
    let mut bench = running();
    for method in ["cursor/task", "cursor/generate_image", "cursor/novelty"] {
        bench.request(9, method, &json!({"x": 1}));
        let answer = bench.sent.back().unwrap();
        assert_eq!((&answer["id"], &answer["result"]), (&json!(9), &json!({})));
    }
    bench.request(10, "other/thing", &json!({}));
    assert_eq!(bench.sent.back().unwrap()["error"]["code"], -32601);
}

#[test]
fn it_is_never_asked_to_authenticate_and_a_missing_login_says_what_to_run() {
    let mut bench = Bench::with(quirks());
    bench.prompt("work");
    bench.reply(&json!({"protocolVersion": 1, "authMethods": [{"id": "cursor_login"}]}));
    assert_eq!(bench.methods(), ["initialize", "session/new"]);
    bench.reply_error(-32000, "Authentication required");
    let Outcome::Blocked {
        fix: Fix::Login,
        reason,
    } = bench.end_of_turn().outcome
    else {
        panic!("{:?}", bench.steps)
    };
    assert!(reason.contains("cursor-agent login"), "{reason}");
}

#[test]
fn models_are_asked_for_under_the_names_its_other_commands_have() {
    let mut bench = Bench::with(quirks());
    let meta = &bench.sent[0]["params"]["clientCapabilities"]["_meta"];
    assert_eq!(meta["parameterizedModelPicker"], true);
    bench.reply(&json!({"protocolVersion": 1}));
    bench.reply(
        &json!({"sessionId": "s", "models": {"currentModelId": "auto",
        "availableModels": [{"modelId": "auto"}, {"modelId": "opus"}]}}),
    );
    bench.steer(Steer::Tune(Tuning {
        model: Some("opus".into()),
        ..Tuning::default()
    }));
    assert_eq!(bench.methods().last(), Some(&"session/set_model"));
}

#[test]
fn a_conversation_is_loaded_with_the_directory_of_the_run() {
    let mut bench = Bench::resuming(quirks(), None);
    bench.reply(&json!({"protocolVersion": 1, "agentCapabilities": {"loadSession": true}}));
    let sent = bench.sent.back().unwrap();
    assert_eq!(sent["method"], "session/load");
    assert_eq!(sent["params"]["cwd"], "/p");
}

#[test]
fn a_turn_without_usage_is_a_good_one() {
    let mut bench = running();
    bench.says("Error: is a word as any other.");
    bench.reply(&json!({"stopReason": "end_turn"}));
    let end = bench.end_of_turn();
    assert_eq!(end.outcome, Outcome::Completed);
    assert_eq!(end.answer, "Error: is a word as any other.");
}
