//! Recorded conversations with Claude Code, replayed against the dialogue: what a person sees,
//! what is sent, how turns end. One test per trap of the recorded protocol.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "in a test a panic is the failure, and other events do not matter"
)]

mod claude_support;

use std::time::Duration;

use bridge_proto::model::{Actor, AskEnd, Fault, FileDiff, Fix, Outcome, RunEvent, ToolStatus};
use claude_support::{
    Random, Recorded, damage, is_interrupt, lines_of, read, recorded_answers, recordings, replay,
    run,
};
use serde_json::{Value, json};

#[test]
fn no_text_is_shown_twice_and_none_is_missing() {
    for name in recordings() {
        let seen = replay(&name);
        let results: Vec<String> = lines_of(&name, "in")
            .filter(|line| line["type"] == "result" && line["is_error"] == json!(false))
            .map(|line| line["result"].as_str().unwrap().to_owned())
            .collect();
        let shown = seen.texts().join("\n");
        for result in &results {
            assert_eq!(
                shown.matches(result.as_str()).count(),
                1,
                "{name}: {result:?} in {shown:?}"
            );
        }
        let finished: Vec<String> = lines_of(&name, "in")
            .filter(|line| line["type"] == "assistant" && line["message"]["model"] != "<synthetic>")
            .filter(|line| line["parent_tool_use_id"].is_null())
            .flat_map(|line| line["message"]["content"].as_array().unwrap().clone())
            .filter_map(|block| Some(block.get("text")?.as_str()?.to_owned()))
            .collect();
        let whole = !matches!(name.as_str(), "sigkill-mid-stream");
        assert!(
            !whole || seen.texts() == finished,
            "{name}: {:?} != {finished:?}",
            seen.texts()
        );
    }
}

#[test]
fn every_prompt_ends_with_exactly_one_turn_over() {
    for name in recordings() {
        let seen = replay(&name);
        assert_eq!(seen.turns.len(), seen.prompts, "{name}: {:?}", seen.turns);
    }
}

#[test]
fn a_plain_answer_is_streamed_and_completes() {
    let seen = replay("oneshot-text");
    assert_eq!(seen.outcomes(), [Outcome::Completed]);
    assert!(seen.deltas > 3, "{} increments", seen.deltas);
    assert_eq!(
        seen.replaced, 0,
        "the finished block said what was streamed"
    );
    assert_eq!(seen.turns[0].answer, seen.texts().join("\n"));
    assert_eq!(seen.resumable.len(), 1);
    let model = RunEvent::Model {
        model: "claude-opus-5-5".into(),
    };
    assert!(seen.events.contains(&model));
    assert!(seen.events.contains(&RunEvent::Mode {
        mode: "default".into()
    }));
}

#[test]
fn assistant_messages_are_passed_on_unchanged() {
    for name in recordings() {
        let sent: Vec<Value> = lines_of(&name, "in")
            .filter(|line| line["type"] == "assistant")
            .collect();
        assert_eq!(replay(&name).raw, sent, "{name}");
    }
}

#[test]
fn an_allowed_write_is_asked_answered_and_reported() {
    let seen = replay("perm-allow-write");
    let ask = &seen.asks[0];
    assert_eq!(ask.summary, "Write hello.txt");
    let labels: Vec<&str> = ask
        .options
        .iter()
        .map(|choice| choice.label.as_str())
        .collect();
    assert_eq!(
        labels,
        ["Allow once", "Allow in this session: all edits", "Deny"]
    );
    assert_eq!(seen.applied, 1);
    assert_eq!(seen.answers("allow"), recorded_answers("perm-allow-write"));
    let states: Vec<ToolStatus> = seen.tools().iter().map(|tool| tool.status).collect();
    assert_eq!(
        states,
        [
            ToolStatus::Pending,
            ToolStatus::InProgress,
            ToolStatus::Pending,
            ToolStatus::InProgress,
            ToolStatus::Completed,
        ]
    );
    let last = seen.tools().pop().unwrap();
    let path = "/home/user/project/hello.txt".to_owned();
    assert_eq!(
        last.diffs,
        [FileDiff {
            path: path.clone(),
            old: None,
            new: "hello\n".into()
        }]
    );
    assert!(seen.events.contains(&RunEvent::FileWritten { path }));
    assert_eq!(seen.outcomes(), [Outcome::Completed]);
}

#[test]
fn what_is_answered_is_what_was_recorded() {
    for name in [
        "perm-allow-write",
        "perm-allow-shell",
        "perm-allow-for-session",
        "perm-deny-write",
        "ask-user-question",
        "shell-fails",
        "state-events",
    ] {
        assert_eq!(
            replay(name).sent_responses(),
            recorded_answers(name),
            "{name}"
        );
    }
}

#[test]
fn rules_for_the_session_are_never_written_to_the_repository() {
    let sent = replay("perm-addrules-localsettings").sent_responses();
    assert_eq!(
        sent[0].pointer("/updatedPermissions/0/destination"),
        Some(&json!("session")),
        "{sent:?}"
    );
}

#[test]
fn a_denial_reaches_the_agent_and_the_turn_goes_on() {
    let seen = replay("perm-deny-write");
    assert_eq!(seen.tools().pop().unwrap().status, ToolStatus::Failed);
    assert!(
        !seen
            .events
            .iter()
            .any(|event| matches!(event, RunEvent::FileWritten { .. }))
    );
    assert_eq!(seen.outcomes(), [Outcome::Completed]);
}

#[test]
fn a_change_of_mode_by_an_answer_is_reported() {
    let seen = replay("perm-allow-for-session");
    assert!(seen.events.contains(&RunEvent::Mode {
        mode: "acceptEdits".into()
    }));
    assert_eq!(seen.asks.len(), 1, "the second write was not asked");
}

#[test]
fn a_question_of_the_agent_is_answered_with_a_label() {
    let seen = replay("ask-user-question");
    assert_eq!(
        seen.asks[0].summary,
        "Which colour?\n- Red: warm\n- Blue: cool"
    );
    assert_eq!(
        seen.sent_responses()[0].pointer("/updatedInput/answers"),
        Some(&json!({"Which colour?": "Blue"}))
    );
}

#[test]
fn an_edit_shows_its_hunks() {
    let tool = replay("edit-diff").tools().pop().unwrap();
    assert_eq!(
        tool.diffs,
        [FileDiff {
            path: "/home/user/project/hello.txt".into(),
            old: Some("hello\nworld\n".into()),
            new: "goodbye\nworld\n".into(),
        }]
    );
}

#[test]
fn a_failed_command_shows_its_output() {
    let tool = replay("shell-fails").tools().pop().unwrap();
    assert_eq!(tool.status, ToolStatus::Failed);
    assert_eq!(
        tool.output.as_deref(),
        Some("Exit code 3\nto-stdout\nto-stderr")
    );
}

#[test]
fn a_denial_without_a_question_is_told() {
    let seen = replay("oneshot-shell-denied");
    assert!(
        seen.statuses()
            .iter()
            .any(|text| text.starts_with("Bash was not allowed: "))
    );
}

#[test]
fn text_of_a_cut_connection_is_withdrawn() {
    let seen = replay("error-stream-cut");
    assert_eq!(seen.texts(), Vec::<String>::new());
    assert_eq!(seen.replaced, 2, "both tries");
    assert!(
        seen.events
            .iter()
            .any(|event| matches!(event, RunEvent::Retrying(_)))
    );
    match &seen.outcomes()[..] {
        [
            Outcome::Failed {
                fault: Fault::Model,
                reason,
            },
        ] => {
            assert!(
                reason.starts_with("API Error: Connection dropped"),
                "{reason}"
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_refused_key_is_final_at_the_first_retry() {
    let seen = replay("error-401-default-retries");
    assert_eq!(
        seen.sent.iter().filter(|line| is_interrupt(line)).count(),
        1
    );
    assert!(seen.terminated, "no result within five seconds");
    assert!(
        !seen
            .events
            .iter()
            .any(|event| matches!(event, RunEvent::Retrying(_)))
    );
    assert!(
        matches!(
            &seen.outcomes()[..],
            [Outcome::Blocked {
                fix: Fix::Login,
                ..
            }]
        ),
        "{:?}",
        seen.turns
    );
}

#[test]
fn nobody_logged_in_asks_for_a_login() {
    match &replay("error-no-key").outcomes()[..] {
        [
            Outcome::Blocked {
                fix: Fix::Login,
                reason,
            },
        ] => {
            assert_eq!(reason, "Not logged in · Please run /login");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_unknown_model_fails() {
    let outcomes = replay("error-unknown-model").outcomes();
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
fn retries_that_succeed_are_told_and_the_turn_completes() {
    let seen = replay("error-429-retry-after");
    let retry = seen.events.iter().find_map(|event| match event {
        RunEvent::Retrying(retry) => Some(retry.clone()),
        _ => None,
    });
    let retry = retry.unwrap();
    assert_eq!((retry.attempt, retry.limit), (1, Some(10)));
    assert_eq!(retry.delay, Some(Duration::from_millis(1124)));
    assert_eq!(retry.reason, "rate_limit (429)");
    assert_eq!(seen.outcomes(), [Outcome::Completed]);
    assert_eq!(
        replay("error-500-once-then-ok").outcomes(),
        [Outcome::Completed]
    );
}

#[test]
fn too_many_turns_block_with_the_limit() {
    let outcomes = replay("max-turns").outcomes();
    let reason = "Reached maximum number of turns (1)".to_owned();
    assert_eq!(
        outcomes,
        [Outcome::Blocked {
            fix: Fix::Limit,
            reason
        }]
    );
}

#[test]
fn an_interrupt_ends_the_turn_and_the_next_prompt_works() {
    let seen = replay("interrupt-stream");
    let cancelled = Outcome::Cancelled { by: Actor::Person };
    assert_eq!(seen.outcomes(), [cancelled, Outcome::Completed]);
    assert_eq!(seen.turns[1].answer, "Still here.");
    assert!(!seen.terminated);
}

#[test]
fn an_interrupt_withdraws_the_open_question() {
    let seen = replay("interrupt-pending-permission");
    let closed: Vec<&RunEvent> = seen
        .events
        .iter()
        .filter(|event| matches!(event, RunEvent::AskClosed { .. }))
        .collect();
    let ask = seen.asks[0].id.clone();
    assert_eq!(
        closed,
        [&RunEvent::AskClosed {
            ask,
            how: AskEnd::Withdrawn
        }]
    );
    assert_eq!(seen.outcomes(), [Outcome::Cancelled { by: Actor::Person }]);
}

#[test]
fn a_turn_waits_for_its_background_command() {
    let seen = replay("oneshot-background");
    assert_eq!(seen.turns.len(), 1);
    assert_eq!(seen.turns[0].answer, "Started it.\nDone.");
    assert!(
        seen.statuses()
            .contains(&"waiting for background work: Background loop".to_owned())
    );
    let states: Vec<ToolStatus> = seen.tools().iter().map(|tool| tool.status).collect();
    assert_eq!(
        states,
        [
            ToolStatus::Pending,
            ToolStatus::InProgress,
            ToolStatus::InProgress,
            ToolStatus::Completed,
        ]
    );
}

#[test]
fn a_subagent_that_ends_before_the_result_still_gets_its_own_turn() {
    let seen = replay("subagent");
    assert_eq!(seen.turns.len(), 1);
    assert_eq!(seen.turns[0].answer, "The subagent has finished.\nDone.");
    let said = Some("The small job is done.".to_owned());
    assert!(seen.tools().iter().any(|tool| tool.output == said));
    let usage = seen.usages().pop().unwrap();
    assert_eq!(
        usage,
        (Some(17431), Some(78), "0.071284".to_owned()),
        "both results of the turn"
    );
}

#[test]
fn costs_are_counted_per_turn() {
    let turn = |input, output, cost: &str| (Some(input), Some(output), cost.to_owned());
    let costs = [turn(4396, 6, "0.017704"), turn(4435, 6, "0.017860")];
    assert_eq!(replay("duplex-two-turns").usages(), costs);
    let resumed = replay("session-resume").usages();
    assert_eq!(resumed, [turn(4437, 6, "0.017868")], "only this turn");
}

#[test]
fn prompts_wait_until_the_turn_before_is_over() {
    let seen = replay("queue-while-busy");
    assert_eq!(seen.outcomes(), [Outcome::Completed, Outcome::Completed]);
    assert!(
        seen.turns[0].answer.ends_with("s0029 "),
        "{}",
        seen.turns[0].answer
    );
    assert_eq!(seen.turns[1].answer, "Answer to the follow-up.");
    let prompts: Vec<&Value> = seen
        .sent
        .iter()
        .filter(|line| line["type"] == "user")
        .collect();
    assert_ne!(prompts[0]["uuid"], prompts[1]["uuid"]);
}

#[test]
fn changes_of_mode_and_model_report_what_is_in_force() {
    let seen = replay("control-requests");
    assert!(seen.events.contains(&RunEvent::Mode {
        mode: "acceptEdits".into()
    }));
    assert!(
        seen.statuses()
            .iter()
            .any(|text| text.starts_with("the model was not changed: "))
    );
}

#[test]
fn a_process_that_dies_fails_the_turn_with_its_last_words() {
    let failed = |name: &str| match &replay(name).outcomes()[..] {
        [
            ..,
            Outcome::Failed {
                fault: Fault::Agent,
                reason,
            },
        ] => reason.clone(),
        other => panic!("{name}: {other:?}"),
    };
    assert_eq!(
        failed("error-bad-flag"),
        "Claude Code ended with code 1: error: unknown option '--no-such-flag'"
    );
    assert!(failed("session-id-reused").contains("is already in use"));
    assert!(failed("session-resume-unknown").starts_with("No conversation found"));
    assert_eq!(
        failed("sigkill-mid-stream"),
        "Claude Code was ended by signal 9 before it was done"
    );
    assert!(failed("oneshot-bypass-root").contains("root"));
}

#[test]
fn damaged_recordings_never_panic() {
    for (number, name) in recordings().iter().enumerate() {
        let whole = read(name);
        for round in 0..6 {
            let mut random = Random(0x9e37_79b9 ^ (number as u64) << 16 ^ round);
            let damaged: Vec<Recorded> = whole
                .iter()
                .flat_map(|line| damage(line, &mut random))
                .collect();
            let seen = run(&damaged);
            assert!(seen.turns.len() <= seen.prompts, "{name}, round {round}");
        }
    }
}
