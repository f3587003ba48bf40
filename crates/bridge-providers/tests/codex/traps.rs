//! One test per trap of the real program, against what it really said where that was recorded.

use std::time::Duration;

use bridge_proto::model::{
    Actor, AskEnd, Fault, FileDiff, Fix, Outcome, RunEvent, ToolStatus, Usage,
};
use bridge_providers::{
    codex::CodexStart,
    dialogue::Step,
    provider::{Asking, Injection, Steer},
};
use serde_json::json;

use crate::{
    recording::names,
    replay::replay,
    talk::{Talk, approval, command, exit, thread},
};

#[test]
fn output_deltas_are_not_complete_and_are_replaced_by_the_aggregated_output() {
    let told = replay("appserver-command-outlives-yield");
    let outputs: Vec<&str> = told
        .tools()
        .iter()
        .filter_map(|tool| tool.output.as_deref())
        .collect();
    assert_eq!(
        outputs.first(),
        Some(&"tick 2\n"),
        "the first piece never comes"
    );
    assert_eq!(
        outputs.last(),
        Some(&"tick 1\ntick 2\ntick 3\ntick 4\ntick 5\n")
    );
}

#[test]
fn a_command_that_the_sandbox_refused_without_an_item_is_shown_all_the_same() {
    let told = replay("appserver-raw-command-refused");
    let [tool] = told.tools()[..] else { panic!() };
    assert_eq!(
        (tool.title.as_str(), tool.status),
        ("touch /opt/outside.txt", ToolStatus::Failed)
    );
    let output = tool.output.as_deref().unwrap();
    assert!(output.ends_with("Read-only file system\n"), "{output}");
    let patch = replay("appserver-raw-patch-refused");
    let output = patch.tools()[0].output.clone().unwrap();
    assert!(
        output.starts_with("patch rejected: writing outside of the project"),
        "{output}"
    );
}

#[test]
fn a_command_can_outlive_its_turn_and_does_not_hold_it_up() {
    let told = replay("appserver-command-outlives-yield");
    assert_eq!(told.outcomes(), [Outcome::Completed]);
    let over = told
        .steps
        .iter()
        .position(|step| matches!(step, Step::TurnOver(_)))
        .unwrap();
    let state = |step: &Step| match step {
        Step::Emit(seen) => match &seen.event {
            RunEvent::Tool(tool) => Some(tool.status),
            _ => None,
        },
        _ => None,
    };
    let before = told.steps[..over].iter().filter_map(state).next_back();
    assert_eq!(before, Some(ToolStatus::Unknown));
    let after = told.steps[over..].iter().filter_map(state).next_back();
    assert_eq!(after, Some(ToolStatus::Completed));
    let running = |event: &RunEvent| matches!(event, RunEvent::Status { text } if text.starts_with("still running in the"));
    assert!(told.has(running));
}

#[test]
fn a_message_that_was_cut_off_is_withdrawn_when_it_comes_again_and_stays_when_steered() {
    let lost = replay("appserver-error-stream-cut");
    let withdrawn = |event: &RunEvent| {
        matches!(event, RunEvent::TextReplaced { block, text }
            if block.as_str() == "msg_mock_126" && text.is_empty())
    };
    assert!(lost.has(withdrawn));
    assert_eq!(lost.ends()[0].answer, "x0000 x0001 x0002 x0003 x0004 ");
    let steered = replay("appserver-steer");
    assert!(!steered.has(|event| matches!(event, RunEvent::TextReplaced { .. })));
}

#[test]
fn newer_models_call_tools_from_scripts_and_the_calls_are_told_once() {
    let told = replay("appserver-raw-script");
    let mut ids: Vec<&str> = told.tools().iter().map(|tool| tool.id.as_str()).collect();
    ids.dedup();
    assert_eq!(ids.len(), 2, "{ids:?}");
    let refused = replay("appserver-raw-script-refused");
    let [tool] = refused.tools()[..] else {
        panic!()
    };
    assert_eq!(tool.status, ToolStatus::Failed);
}

#[test]
fn a_model_the_program_does_not_know_costs_a_warning_and_no_more() {
    let told = replay("appserver-error-unknown-model");
    let warned = |event: &RunEvent| matches!(event, RunEvent::Status { text } if text.starts_with("Model metadata for"));
    assert!(told.has(warned));
}

#[test]
fn an_accepted_command_runs_outside_the_sandbox_and_the_question_says_so() {
    for name in [
        "appserver-approved-runs-unsandboxed",
        "appserver-escalation",
    ] {
        let told = replay(name);
        let [ask] = told.asks()[..] else {
            panic!("{name}")
        };
        assert!(
            ask.summary.contains("outside the sandbox"),
            "{name}: {}",
            ask.summary
        );
    }
    let edit = replay("appserver-readonly-onrequest-patch");
    assert!(!edit.asks()[0].summary.contains("sandbox"));
}

#[test]
fn a_question_about_files_shows_the_change_that_its_item_said_before() {
    let told = replay("appserver-untrusted-accept");
    let ask = told.asks()[0];
    let tool = told
        .tools()
        .into_iter()
        .find(|tool| Some(&tool.id) == ask.tool.as_ref())
        .unwrap();
    let path = "/home/user/project/hello.txt".to_owned();
    let diff = FileDiff {
        path: path.clone(),
        old: None,
        new: "hello\n".into(),
    };
    assert_eq!(
        (&tool.diffs[..], tool.locations[0].path.as_str()),
        (&[diff][..], path.as_str())
    );
}

#[test]
fn a_lasting_rule_is_offered_by_the_program_and_never_given() {
    let offered = "acceptWithExecpolicyAmendment";
    for name in names("appserver-") {
        let told = replay(&name);
        let options = told.asks().into_iter().flat_map(|ask| &ask.options);
        assert!(options.clone().all(|option| option.id != offered), "{name}");
        assert_eq!(
            told.said()
                .iter()
                .filter(|said| said.contains(offered))
                .count(),
            0
        );
    }
}

#[test]
fn newer_versions_ask_before_every_look_at_a_file_and_nobody_is_bothered_with_that() {
    let told = replay("appserver-untrusted-read");
    assert_eq!(told.asks().len(), 0);
    assert!(told.said().contains(&"answer accept".to_owned()));
    let output = told.tools().last().unwrap().output.clone();
    assert_eq!(output.as_deref(), Some("# Notes\n"));
}

#[test]
fn a_second_question_about_the_same_is_not_asked_after_yes_for_the_session() {
    let told = replay("appserver-accept-for-session");
    assert_eq!(told.asks().len(), 1);
    assert!(told.said().contains(&"answer acceptForSession".to_owned()));
}

#[test]
fn an_answer_counts_when_the_program_resolved_it_or_failing_that_when_its_item_goes_on() {
    for resolves in [true, false] {
        let mut talk = Talk::working();
        talk.item(false, &command("inProgress", &json!(null)));
        talk.ask(0, "item/commandExecution/requestApproval", &approval());
        let ask = talk.told.asks()[0].clone();
        talk.choose(&ask, "accept");
        let applied = Step::Applied(ask.id.clone());
        assert!(!talk.told.steps.contains(&applied));
        if resolves {
            talk.tell("serverRequest/resolved", json!({"requestId": 0}));
        } else {
            let params = json!({"itemId": "call_1", "delta": "x"});
            talk.tell("item/commandExecution/outputDelta", params);
        }
        assert_eq!(
            talk.told
                .steps
                .iter()
                .filter(|step| **step == applied)
                .count(),
            1
        );
        talk.item(true, &command("completed", &json!("x")));
        assert_eq!(
            talk.told
                .steps
                .iter()
                .filter(|step| **step == applied)
                .count(),
            1
        );
    }
}

#[test]
fn requests_that_nobody_serves_are_answered_and_never_left_in_silence() {
    let mut talk = Talk::working();
    for (id, method) in [
        "item/permissions/requestApproval",
        "mcpServer/elicitation/request",
        "item/tool/call",
        "brand/new",
    ]
    .into_iter()
    .enumerate()
    {
        talk.ask(id as u64, method, &json!({}));
        let answer = talk.told.sent().pop().unwrap();
        assert_eq!(
            (answer["id"].as_u64(), &answer["error"]["code"]),
            (Some(id as u64), &json!(-32601))
        );
    }
}

#[test]
fn a_prompt_during_a_turn_would_steer_it_so_it_waits_for_its_end() {
    let mut talk = Talk::working();
    talk.prompt("second");
    assert_eq!(talk.count("turn/start"), 1);
    talk.complete("completed", &json!(null));
    assert_eq!(talk.count("turn/start"), 2);
    talk.begin();
    talk.complete("completed", &json!(null));
    assert_eq!(
        talk.told.outcomes(),
        [Outcome::Completed, Outcome::Completed]
    );
}

#[test]
fn a_message_for_the_running_turn_is_taken_when_the_program_says_so() {
    assert_eq!(replay("appserver-steer").injected(), [Injection::Taken]);
    assert_eq!(
        replay("appserver-turn-start-while-active").injected(),
        [Injection::Taken]
    );
    let mut talk = Talk::working();
    talk.steer(Steer::Inject("one".into()));
    let sent = talk.told.sent().pop().unwrap();
    assert_eq!(sent["params"]["expectedTurnId"], "turn-1");
    talk.refuse("turn/steer", "no active turn to steer");
    assert_eq!(talk.told.injected(), [Injection::Refused]);
}

#[test]
fn resume_keeps_full_access_unless_everything_is_given_anew() {
    for name in ["appserver-session-resume", "appserver-resume-after-sigkill"] {
        let told = replay(name);
        let sent = told.sent();
        let resume = sent
            .iter()
            .find(|sent| sent["method"] == "thread/resume")
            .unwrap();
        let params = &resume["params"];
        assert_eq!(params["sandbox"], "workspace-write", "{name}");
        assert_eq!(params["approvalPolicy"], "never", "{name}");
        assert_eq!(params["excludeTurns"], true, "{name}");
        assert_eq!(told.outcomes(), [Outcome::Completed], "{name}");
    }
}

#[test]
fn a_continued_conversation_is_not_charged_for_its_past() {
    let told = replay("appserver-resume-after-sigkill");
    let usage = told.events().into_iter().find_map(|event| match event {
        RunEvent::Usage(usage) => Some(*usage),
        _ => None,
    });
    let spent = Usage {
        input_tokens: Some(8352),
        output_tokens: Some(42),
        cost_usd: None,
    };
    assert_eq!(usage, Some(spent), "the thread has 16583 and 80 in all");
}

#[test]
fn a_conversation_has_one_owner_and_the_second_is_told_to_close_the_first() {
    let outcomes = replay("appserver-two-owners-second").outcomes();
    let [
        Outcome::Blocked {
            fix: Fix::Setup,
            reason,
        },
    ] = &outcomes[..]
    else {
        panic!("{outcomes:?}")
    };
    assert!(reason.contains("already has an active writer"), "{reason}");
}

#[test]
fn an_unknown_conversation_fails_the_prompt_and_begins_no_turn() {
    let told = replay("appserver-session-resume-unknown");
    assert!(!told.said().contains(&"turn/start".to_owned()));
    let outcomes = told.outcomes();
    let [
        Outcome::Failed {
            fault: Fault::Agent,
            reason,
        },
    ] = &outcomes[..]
    else {
        panic!("{outcomes:?}")
    };
    assert!(reason.contains("no rollout found"), "{reason}");
}

#[test]
fn an_interrupt_leaves_commands_running_so_they_are_ended_before_the_turn_is_over() {
    let mut talk = Talk::working();
    talk.item(false, &command("inProgress", &json!(null)));
    talk.steer(Steer::Interrupt);
    talk.answer("turn/interrupt", &json!({}));
    talk.complete("interrupted", &json!(null));
    assert_eq!(talk.told.outcomes(), [], "its commands still run");
    let said = talk.told.said();
    assert_eq!(said.last().unwrap(), "thread/backgroundTerminals/clean");
    talk.answer("thread/backgroundTerminals/clean", &json!({}));
    assert_eq!(
        talk.told.outcomes(),
        [Outcome::Cancelled { by: Actor::Person }]
    );
    let told = replay("appserver-interrupt-then-clean-terminals");
    assert_eq!(told.outcomes(), [Outcome::Cancelled { by: Actor::Person }]);
    assert_eq!(told.tools().last().unwrap().status, ToolStatus::Cancelled);
}

#[test]
fn a_version_that_cannot_end_commands_has_its_input_closed() {
    let mut talk = Talk::working();
    talk.steer(Steer::Interrupt);
    talk.complete("interrupted", &json!(null));
    talk.refuse(
        "thread/backgroundTerminals/clean",
        "requires experimentalApi capability",
    );
    assert!(matches!(talk.told.steps.last(), Some(Step::CloseInput(_))));
    assert_eq!(talk.told.outcomes(), []);
    talk.end(exit(0, ""));
    assert_eq!(
        talk.told.outcomes(),
        [Outcome::Cancelled { by: Actor::Person }]
    );
}

#[test]
fn an_interrupt_withdraws_the_open_question() {
    let told = replay("appserver-interrupt-pending-approval");
    let ask = told.asks()[0].id.clone();
    let withdrawn = RunEvent::AskClosed {
        ask,
        how: AskEnd::Withdrawn,
    };
    assert_eq!(
        told.events()
            .into_iter()
            .filter(|event| **event == withdrawn)
            .count(),
        1
    );
    assert_eq!(told.outcomes(), [Outcome::Cancelled { by: Actor::Person }]);
}

#[test]
fn a_cancelled_conversation_stays_usable() {
    let told = replay("appserver-interrupt-stream");
    let cancelled = Outcome::Cancelled { by: Actor::Person };
    assert_eq!(told.outcomes(), [cancelled, Outcome::Completed]);
    assert_eq!(told.ends()[1].answer, "Still here.");
}

#[test]
fn a_refused_key_is_certain_at_the_first_retry() {
    let told = replay("appserver-error-401");
    assert!(!told.has(|event| matches!(event, RunEvent::Retrying(_))));
    let outcomes = told.outcomes();
    assert!(
        matches!(
            &outcomes[..],
            [Outcome::Blocked {
                fix: Fix::Login,
                ..
            }]
        ),
        "{outcomes:?}"
    );
    let words = replay("exec-error-401").outcomes();
    assert!(
        matches!(
            &words[..],
            [Outcome::Blocked {
                fix: Fix::Login,
                ..
            }]
        ),
        "{words:?}"
    );
}

#[test]
fn the_missing_variable_of_a_key_asks_for_a_login() {
    let outcomes = replay("appserver-error-missing-key").outcomes();
    assert!(
        matches!(
            &outcomes[..],
            [Outcome::Blocked {
                fix: Fix::Login,
                ..
            }]
        ),
        "{outcomes:?}"
    );
}

#[test]
fn an_unknown_model_is_the_models_fault() {
    let outcomes = replay("appserver-error-unknown-model").outcomes();
    assert!(
        matches!(
            &outcomes[..],
            [Outcome::Failed {
                fault: Fault::Model,
                ..
            }]
        ),
        "{outcomes:?}"
    );
}

#[test]
fn a_bad_request_comes_without_a_code_and_with_its_body() {
    let mut talk = Talk::working();
    let error = json!({"message": "{\"error\":{\"message\":\"bad\"}}", "codexErrorInfo": "other"});
    talk.tell("error", json!({"error": error, "willRetry": false}));
    talk.complete("failed", &error);
    let outcomes = talk.told.outcomes();
    let [
        Outcome::Failed {
            fault: Fault::Model,
            reason,
        },
    ] = &outcomes[..]
    else {
        panic!("{outcomes:?}")
    };
    assert!(reason.contains("bad"));
}

#[test]
fn a_retry_that_succeeds_is_told_and_the_turn_completes() {
    let told = replay("appserver-error-429-once");
    let retry = told.events().into_iter().find_map(|event| match event {
        RunEvent::Retrying(retry) => Some((retry.attempt, retry.limit)),
        _ => None,
    });
    assert_eq!(
        (retry, told.outcomes()),
        (Some((1, Some(1))), vec![Outcome::Completed])
    );
}

#[test]
fn the_servers_own_words_for_a_broken_model_are_lost_and_the_fault_is_not() {
    let outcomes = replay("exec-error-500-always").outcomes();
    assert!(
        matches!(
            &outcomes[..],
            [Outcome::Failed {
                fault: Fault::Model,
                ..
            }]
        ),
        "{outcomes:?}"
    );
}

#[test]
fn a_stream_that_is_lost_twice_fails_and_shows_its_text_once() {
    let told = replay("appserver-error-stream-cut");
    let outcomes = told.outcomes();
    assert!(
        matches!(
            &outcomes[..],
            [Outcome::Failed {
                fault: Fault::Model,
                ..
            }]
        ),
        "{outcomes:?}"
    );
    assert_eq!(told.ends()[0].answer.matches("x0000").count(), 1);
}

#[test]
fn retries_without_end_are_ended() {
    let mut talk = Talk::working();
    let error = json!({"message": "Reconnecting... waiting for network",
        "codexErrorInfo": {"responseStreamDisconnected": {"httpStatusCode": null}}});
    for _ in 0..4 {
        talk.tell("error", json!({"error": error, "willRetry": true}));
        talk.pass(Duration::from_secs(44));
    }
    assert_eq!(talk.count("turn/interrupt"), 0);
    talk.pass(Duration::from_secs(5));
    assert_eq!(talk.count("turn/interrupt"), 1);
    talk.complete("interrupted", &json!(null));
    talk.answer("thread/backgroundTerminals/clean", &json!({}));
    let outcomes = talk.told.outcomes();
    let [
        Outcome::Failed {
            fault: Fault::Model,
            reason,
        },
    ] = &outcomes[..]
    else {
        panic!("{outcomes:?}")
    };
    assert!(reason.contains("waiting for network"), "{reason}");
}

#[test]
fn a_process_that_dies_in_a_turn_fails_it_and_its_commands_are_unknown() {
    let told = replay("appserver-sigterm-tool-workspace-write");
    let outcomes = told.outcomes();
    let [
        Outcome::Failed {
            fault: Fault::Agent,
            reason,
        },
    ] = &outcomes[..]
    else {
        panic!("{outcomes:?}")
    };
    assert!(reason.starts_with("Codex ended with code 0: "), "{reason}");
    assert!(!reason.contains("bubblewrap"), "it says that in every run");
    assert_eq!(told.tools().last().unwrap().status, ToolStatus::Unknown);
}

#[test]
fn exec_reads_its_prompt_to_the_end_of_the_input() {
    let told = replay("exec-prompt-on-stdin");
    assert_eq!(told.steps[0], Step::EndInput);
    assert_eq!(told.outcomes(), [Outcome::Completed]);
}

#[test]
fn exec_counts_a_continued_conversation_from_its_beginning_so_that_is_not_told() {
    let counted = |name: &str| replay(name).has(|event| matches!(event, RunEvent::Usage(_)));
    assert!(counted("exec-session-first"));
    assert!(!counted("exec-session-resume"));
}

#[test]
fn a_conversation_is_kept_from_its_first_turn_on_and_not_before() {
    let mut talk = Talk::open();
    let resumable = |talk: &Talk| {
        let told = talk.told.steps.iter();
        told.filter(|step| matches!(step, Step::Resumable(_)))
            .count()
    };
    assert_eq!(resumable(&talk), 0);
    talk.prompt("one");
    talk.begin();
    talk.complete("completed", &json!(null));
    talk.prompt("two");
    talk.begin();
    assert_eq!(resumable(&talk), 1);
}

#[test]
fn nothing_is_asked_where_nobody_answers() {
    let mut talk = Talk::with(CodexStart {
        directory: "/work".into(),
        asking: Asking::Unanswered,
        ..CodexStart::default()
    });
    talk.answer("initialize", &json!({}));
    talk.answer("thread/start", &thread());
    let sent = talk.told.sent();
    assert_eq!(sent[2]["params"]["approvalPolicy"], "never");
    assert_eq!(sent[2]["params"]["sandbox"], "workspace-write");
}
