//! Events of runs, and the frames they become.

use bridge_proto::{
    AskId, BlockId, Timestamp, ToolCallId,
    ctrlnode::{
        CANCELLED_REASON, Profile, RunFacts, encode_event,
        plane::{self, FromBridge},
    },
    model::{
        Action, Actor, Ask, AskKind, Choice, ChoiceKind, Event, EventBody, Fault, FileDiff, Fix,
        Location, Observed, Outcome, Rejection, RunEvent, RunKind, Source, ToolKind, ToolState,
        ToolStatus,
    },
};
use serde_json::{Value, json};

use crate::{TASK, agent, golden, golden_names, goldens, origin, provider, run};

fn facts(key: &str, kind: RunKind) -> RunFacts {
    RunFacts {
        agent: agent("dev-1"),
        provider: provider(key),
        kind,
        origin: origin("dispatch_task", Source::Plane),
        log_thinking: true,
    }
}

fn event(body: EventBody) -> Event {
    let at = Timestamp::from_millis(1_773_480_413_589);
    Event {
        run: run(TASK, "e1"),
        n: 7,
        at,
        body,
    }
}

fn seen(event: RunEvent, raw: Option<Value>) -> EventBody {
    EventBody::Seen(Box::new(Observed { event, raw }))
}

fn text(delta: &str, raw: Option<Value>) -> EventBody {
    seen(
        RunEvent::Text {
            block: BlockId::parse("b1").unwrap(),
            delta: delta.into(),
        },
        raw,
    )
}

fn tool(status: ToolStatus) -> ToolState {
    ToolState {
        id: ToolCallId::parse("c1").unwrap(),
        title: "write intro.md".into(),
        kind: ToolKind::Edit,
        status,
        input: Some(json!({"path": "intro.md"})),
        output: Some("ok".into()),
        locations: vec![Location {
            path: "intro.md".into(),
            line: Some(1),
        }],
        diffs: vec![FileDiff {
            path: "intro.md".into(),
            old: None,
            new: "# Intro".into(),
        }],
    }
}

#[track_caller]
fn plain(body: EventBody, facts: &RunFacts, names: &[&str]) {
    assert_eq!(
        encode_event(&event(body), facts, Profile::Plain),
        goldens(names)
    );
}

#[test]
fn one_chunk_of_text_becomes_progress_then_stream_then_activity() {
    let raw = json!({"sessionUpdate": "agent_message_chunk",
        "content": {"type": "text", "text": "Reading "}});
    let facts = facts("gemini", RunKind::Dispatch);
    let names = ["task_progress", "agent_stream", "agent_activity"];
    plain(text("Reading ", Some(raw)), &facts, &names);
    let names = ["task_progress", "agent_stream_no_raw", "agent_activity"];
    plain(text("Reading ", None), &facts, &names);
    plain(text("", None), &facts, &[]);
}

#[test]
fn claude_text_is_activity_and_its_assistant_messages_pass_unmodified() {
    let assistant: Value = serde_json::from_str(&golden("out/agent_stream_claude")).unwrap();
    let assistant = assistant["event"].clone();
    for key in ["claude", "claude-sdk"] {
        let facts = facts(key, RunKind::Dispatch);
        let delta = json!({"type": "stream_event", "event": {"type": "content_block_delta"}});
        plain(text("Reading ", Some(delta)), &facts, &["agent_activity"]);
        let call = RunEvent::Tool(tool(ToolStatus::InProgress));
        plain(
            seen(call.clone(), Some(assistant.clone())),
            &facts,
            &["agent_stream_claude"],
        );
        plain(seen(call, None), &facts, &[]);
        let other = RunEvent::Other {
            what: "assistant".into(),
        };
        plain(
            seen(other, Some(assistant.clone())),
            &facts,
            &["agent_stream_claude"],
        );
        let replaced = RunEvent::TextReplaced {
            block: BlockId::parse("b1").unwrap(),
            text: "Reading ".into(),
        };
        plain(
            seen(replaced, Some(assistant.clone())),
            &facts,
            &["agent_stream_claude"],
        );
    }
}

#[test]
fn tools_become_progress_and_stream_with_the_agents_own_message_or_one_like_it() {
    let facts = facts("gemini", RunKind::Dispatch);
    let raw = json!({"sessionUpdate": "tool_call", "toolCallId": "c1", "title": "write intro.md"});
    let names = ["task_progress_tool_call", "agent_stream_tool_call"];
    plain(
        seen(RunEvent::Tool(tool(ToolStatus::Pending)), Some(raw)),
        &facts,
        &names,
    );
    let names = ["task_progress_tool_result", "agent_stream_tool_result"];
    plain(
        seen(RunEvent::Tool(tool(ToolStatus::Completed)), None),
        &facts,
        &names,
    );
}

#[test]
fn thinking_leaves_the_machine_only_when_allowed() {
    let thinking = || {
        seen(
            RunEvent::Thinking {
                delta: "Hm.".into(),
            },
            Some(json!({"t": "Hm."})),
        )
    };
    let mut facts = facts("gemini", RunKind::Dispatch);
    plain(thinking(), &facts, &["task_progress_thinking"]);
    facts.log_thinking = false;
    plain(thinking(), &facts, &["task_progress_thinking_withheld"]);
    let frames = encode_event(&event(thinking()), &facts, Profile::Extended);
    assert!(!frames.concat().contains("Hm."), "{frames:?}");
}

#[test]
fn withheld_thinking_is_taken_out_of_claudes_messages_too() {
    let raw = |content: Value| json!({"type": "assistant", "message": {"content": content}});
    let thought = json!({"type": "thinking", "thinking": "secret thought"});
    let said = json!({"type": "text", "text": "Hello"});
    let mut facts = facts("claude", RunKind::Dispatch);
    facts.log_thinking = false;
    for profile in [Profile::Plain, Profile::Extended] {
        let call = RunEvent::Tool(tool(ToolStatus::InProgress));
        let both = seen(call.clone(), Some(raw(json!([thought, said]))));
        let frames = encode_event(&event(both), &facts, profile).concat();
        assert!(
            frames.contains("Hello") && !frames.contains("secret"),
            "{frames}"
        );
        let only = seen(call, Some(raw(json!([thought]))));
        let frames = encode_event(&event(only), &facts, profile).concat();
        assert!(!frames.contains("secret"), "{frames}");
    }
}

#[test]
fn files_models_questions_and_states_have_their_messages() {
    let facts = facts("gemini", RunKind::Dispatch);
    let path = format!("/home/dev/.ctrlnode/{}/output/intro.md", crate::FOLDER);
    let written = RunEvent::FileWritten { path };
    plain(seen(written, None), &facts, &["task_progress_file_written"]);
    let model = || {
        seen(
            RunEvent::Model {
                model: "gemini-2.5-pro".into(),
            },
            None,
        )
    };
    plain(model(), &facts, &["task_model_update"]);
    plain(model(), &self::facts("gemini", RunKind::FollowUp), &[]);
    let status = RunEvent::Status {
        text: "Waiting for the service".into(),
    };
    plain(seen(status, None), &facts, &["task_progress_run_status"]);
    plain(
        seen(RunEvent::Ask(question()), None),
        &facts,
        &["task_waiting_for_input"],
    );
    // That an answer is on its way is no second question.
    let answered = Ask {
        answered: Some("Allow once".into()),
        ..question()
    };
    plain(seen(RunEvent::Ask(answered), None), &facts, &[]);
}

fn question() -> Ask {
    let choice = |id: &str, label: &str, kind| Choice {
        id: id.into(),
        label: label.into(),
        kind,
    };
    Ask {
        id: AskId::parse("ask-1").unwrap(),
        kind: AskKind::Command,
        summary: "Run `cargo test`?".into(),
        options: vec![
            choice("once", "Allow once", ChoiceKind::AllowOnce),
            choice("no", "Reject", ChoiceKind::RejectOnce),
        ],
        digest: serde_json::from_str("\"00ff\"").unwrap(),
        tool: None,
        expires: None,
        answered: None,
        action: None,
    }
}

#[test]
fn the_exact_action_behind_a_question_is_for_this_machine_alone() {
    let action = Some(Box::new(Action {
        tool: Some("Bash".into()),
        command: Some("cat secret".into()),
        paths: vec!["/secret".into()],
    }));
    let ask = RunEvent::Ask(Ask {
        action,
        ..question()
    });
    for profile in [Profile::Plain, Profile::Extended] {
        let frames = encode_event(
            &event(seen(ask.clone(), None)),
            &facts("demo", RunKind::Dispatch),
            profile,
        );
        assert!(!frames.concat().contains("secret"), "{frames:?}");
    }
}

#[test]
fn what_the_plain_wire_has_no_word_for_is_not_sent() {
    let facts = facts("gemini", RunKind::Dispatch);
    plain(EventBody::Queued { ahead: 2 }, &facts, &[]);
    plain(EventBody::Started { conversation: None }, &facts, &[]);
    plain(seen(RunEvent::Silent { seconds: 30 }, None), &facts, &[]);
    plain(
        seen(RunEvent::Plan { items: Vec::new() }, None),
        &facts,
        &[],
    );
    plain(
        seen(
            RunEvent::Other { what: "x".into() },
            Some(json!({"type": "x"})),
        ),
        &facts,
        &[],
    );
}

#[test]
fn the_end_is_task_complete_then_intent_result() {
    let ended = |outcome| EventBody::Ended { outcome };
    let failed = |fault, reason: &str| {
        ended(Outcome::Failed {
            fault,
            reason: reason.into(),
        })
    };
    let blocked = || {
        ended(Outcome::Blocked {
            fix: Fix::Limit,
            reason: "Task timed out".into(),
        })
    };
    let own = || failed(Fault::Bridge, "the bridge stopped during the run");
    let dispatch = facts("gemini", RunKind::Dispatch);
    plain(
        ended(Outcome::Completed),
        &dispatch,
        &["task_complete", "intent_result"],
    );
    plain(
        blocked(),
        &dispatch,
        &["task_complete_blocked", "intent_result_blocked"],
    );
    let reported = failed(Fault::Task, "Agent reported failure");
    plain(
        reported,
        &dispatch,
        &["task_complete_failed", "intent_result_failed"],
    );
    plain(
        own(),
        &dispatch,
        &["task_complete_bridge", "intent_result_bridge"],
    );
    let cancelled = ended(Outcome::Cancelled { by: Actor::Person });
    plain(
        cancelled,
        &dispatch,
        &["task_complete_cancelled", "intent_result_failed"],
    );
    assert!(golden("out/task_complete_cancelled").contains(CANCELLED_REASON));

    let follow_up = facts("gemini", RunKind::FollowUp);
    plain(
        ended(Outcome::Completed),
        &follow_up,
        &["task_complete", "intent_result_followup"],
    );
    plain(
        blocked(),
        &follow_up,
        &["task_complete_blocked", "intent_result_followup_blocked"],
    );
    plain(
        own(),
        &follow_up,
        &["task_complete_bridge", "intent_result_followup_bridge"],
    );
    let command = facts("gemini", RunKind::AgentCommand);
    plain(
        blocked(),
        &command,
        &[
            "task_complete_blocked",
            "intent_result_agent_command_blocked",
        ],
    );
}

#[test]
fn a_message_that_was_read_in_another_run_is_an_intent_result_alone() {
    let joined = EventBody::Joined { into: "e0".into() };
    let facts = facts("gemini", RunKind::FollowUp);
    plain(joined, &facts, &["intent_result_followup"]);
}

#[test]
fn a_rejection_is_an_intent_result_alone() {
    let facts = facts("gemini", RunKind::Dispatch);
    let reason = "the folder leaves the workspace".into();
    let follow_up = self::facts("gemini", RunKind::FollowUp);
    for (rejection, facts, name) in [
        (
            Rejection::AgentNotFound,
            &facts,
            "intent_result_agent_not_found",
        ),
        (
            Rejection::AgentNotFound,
            &follow_up,
            "intent_result_followup_agent_not_found",
        ),
        (
            Rejection::MissingIntentPayload,
            &facts,
            "intent_result_no_prompt",
        ),
        (
            Rejection::ProviderNotActive {
                provider: "gemini".into(),
            },
            &facts,
            "intent_result_not_active",
        ),
        (
            Rejection::PlaceRefused { reason },
            &facts,
            "intent_result_place_refused",
        ),
    ] {
        plain(EventBody::Rejected(rejection), facts, &[name]);
    }
}

#[test]
fn the_extended_profile_sends_each_event_whole_and_once() {
    let facts = facts("demo", RunKind::Dispatch);
    for (body, name) in [
        (text("Reading ", None), "bridge_event"),
        (
            EventBody::Ended {
                outcome: Outcome::Cancelled { by: Actor::Person },
            },
            "bridge_event_ended",
        ),
        (
            EventBody::Joined { into: "e0".into() },
            "bridge_event_joined",
        ),
        (
            seen(
                RunEvent::Injected {
                    text: "In English, please.".into(),
                },
                None,
            ),
            "bridge_event_injected",
        ),
        (
            seen(
                RunEvent::Ask(Ask {
                    expires: Some("2026-03-14T09:27:53.589Z".parse().unwrap()),
                    answered: Some("Allow once".into()),
                    ..question()
                }),
                None,
            ),
            "bridge_event_ask_answered",
        ),
    ] {
        let event = event(body);
        let frames = encode_event(&event, &facts, Profile::Extended);
        assert_eq!(frames, goldens(&[name]));
        assert_eq!(
            plane::decode(frames[0].as_bytes()),
            Ok(FromBridge::Event {
                agent: agent("dev-1"),
                provider: Some(provider("demo")),
                event
            })
        );
    }
}

#[test]
fn the_hub_understands_every_golden_frame() {
    for name in golden_names("out") {
        let read = plane::decode(golden(&format!("out/{name}")).as_bytes());
        let read = read.unwrap_or_else(|error| panic!("{name}: {error}"));
        let unknown = matches!(read, FromBridge::Unknown { .. });
        assert_eq!(unknown, name == "openclaw_output_file", "{name}: {read:?}");
    }
}
