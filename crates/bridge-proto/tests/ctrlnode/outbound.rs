//! Events, notices and replies, and the frames they become.

use std::collections::BTreeMap;

use bridge_proto::{
    AskId, BlockId, Digest, Timestamp, ToolCallId,
    ctrlnode::{
        CANCELLED_REASON, Profile, RunFacts, decode, encode_event, encode_notice, encode_reply,
        plane::{self, FromBridge},
    },
    model::{
        Actor, AgentProfile, AgentStatus, Ask, AskKind, Choice, ChoiceKind, Event, EventBody,
        Fault, FileDiff, FileEntry, Fix, Health, HealthReason, Heartbeat, Hello, Location, Notice,
        Observed, Origin, Outcome, ReadOutcome, Rejection, Reply, ReplyToken, RunEvent, RunKind,
        Source, ToolKind, ToolState, ToolStatus,
    },
};
use serde_json::{Value, json};

use crate::{TASK, agent, golden, golden_names, provider, run};

fn origin(frame: &str, source: Source) -> Origin {
    decode(golden(&format!("in/{frame}")).as_bytes(), source)
        .unwrap()
        .origin
}

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

fn goldens(names: &[&str]) -> Vec<String> {
    names
        .iter()
        .map(|name| golden(&format!("out/{name}")))
        .collect()
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
    let choice = |id: &str, label: &str, kind| Choice {
        id: id.into(),
        label: label.into(),
        kind,
    };
    let ask = Ask {
        id: AskId::parse("ask-1").unwrap(),
        kind: AskKind::Command,
        summary: "Run `cargo test`?".into(),
        options: vec![
            choice("once", "Allow once", ChoiceKind::AllowOnce),
            choice("no", "Reject", ChoiceKind::RejectOnce),
        ],
        digest: Digest::of(&["cargo test"]),
        tool: None,
        expires: None,
    };
    plain(
        seen(RunEvent::Ask(ask), None),
        &facts,
        &["task_waiting_for_input"],
    );
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

/// Provider, why not, version, hint.
type Entry = (
    &'static str,
    Option<HealthReason>,
    Option<&'static str>,
    Option<&'static str>,
);

fn notices() -> Vec<(&'static str, Profile, Notice)> {
    let keys = |keys: &[&str]| keys.iter().map(|key| provider(key)).collect();
    let hello = |version: &str, providers, hostname: &str| {
        Notice::Hello(Hello {
            version: version.into(),
            providers,
            hostname: hostname.into(),
        })
    };
    let writer = AgentProfile {
        id: agent("writer"),
        name: "Writer".into(),
        provider: provider("gemini"),
        model: Some("gemini-2.5-pro".into()),
        workspace: Some("/home/dev/.ctrlnode".into()),
        role: "Editor".into(),
        description: "Be brief.".into(),
        emoji: String::new(),
        from_filesystem: false,
    };
    let local = AgentProfile {
        id: agent("local"),
        name: "Local".into(),
        provider: provider("hermes"),
        model: None,
        workspace: Some("/home/dev/x".into()),
        role: String::new(),
        description: String::new(),
        emoji: "🦊".into(),
        from_filesystem: true,
    };
    let agents = |version: Option<&str>, agents| Notice::Agents {
        version: version.map(str::to_owned),
        agents,
        default_workspace: String::new(),
        existing: vec![agent("writer")],
        hostname: "box".into(),
    };
    let health = |entries: &[Entry]| {
        let entries = entries.iter().map(|(key, reason, version, hint)| {
            let health = Health {
                available: reason.is_none(),
                reason: *reason,
                version: version.map(str::to_owned),
                hint: hint.map(str::to_owned),
            };
            (provider(key), health)
        });
        Notice::ProviderHealth {
            health: entries.collect(),
        }
    };
    vec![
        (
            "handshake",
            Profile::Plain,
            hello(
                "v2026.3.1",
                keys(&["claude", "claude-sdk", "codex", "gemini"]),
                "",
            ),
        ),
        (
            "handshake_extended",
            Profile::Extended,
            hello("v0.1.0", keys(&["claude", "claude-sdk", "demo"]), "box"),
        ),
        (
            "heartbeat",
            Profile::Plain,
            Notice::Heartbeat(Heartbeat {
                agents: vec![
                    (agent("writer"), AgentStatus::Idle),
                    (agent("dev-1"), AgentStatus::Running),
                ],
                at: "2026-03-14T09:00:00Z".parse().unwrap(),
            }),
        ),
        (
            "agent_update",
            Profile::Plain,
            agents(Some("v2026.3.1"), vec![writer.clone(), local]),
        ),
        (
            "agent_update_sync",
            Profile::Plain,
            agents(None, vec![writer]),
        ),
        (
            "provider_health",
            Profile::Plain,
            health(&[
                ("claude-sdk", Some(HealthReason::AuthRequired), None, None),
                ("codex", None, None, None),
                ("gemini", Some(HealthReason::BinaryMissing), None, None),
                ("ollama", Some(HealthReason::ServiceUnreachable), None, None),
            ]),
        ),
        (
            "provider_health_extended",
            Profile::Extended,
            health(&[
                ("claude", None, Some("2.1.0"), None),
                (
                    "gemini",
                    Some(HealthReason::AuthRequired),
                    Some("0.9.0"),
                    Some("run gemini and log in"),
                ),
            ]),
        ),
        (
            "available_models",
            Profile::Plain,
            Notice::AvailableModels {
                models: BTreeMap::from([
                    (provider("claude-sdk"), vec!["claude-sonnet-4-5".into()]),
                    (provider("gemini"), vec!["gemini-2.5-pro".into()]),
                ]),
            },
        ),
    ]
}

#[test]
fn notices_are_written_as_the_reference_shows_them_and_read_back_by_the_hub() {
    for (name, profile, notice) in notices() {
        let frames = encode_notice(&notice, profile);
        assert_eq!(frames, goldens(&[name]), "{name}");
        let read = plane::decode(frames[0].as_bytes()).unwrap();
        let expected = match notice {
            Notice::Hello(hello) => FromBridge::Handshake(hello),
            other => FromBridge::Notice(other),
        };
        assert_eq!(read, expected, "{name}");
    }
}

#[test]
fn the_plain_profile_tells_neither_hostname_nor_versions_nor_hints() {
    let plain = |index: usize| encode_notice(&notices()[index].2, Profile::Plain).concat();
    assert!(!plain(1).contains("box"));
    assert!(!plain(6).contains("0.9.0") && !plain(6).contains("log in"));
}

#[test]
fn an_agent_without_workspace_lives_in_the_default_one() {
    let Notice::Agents {
        mut agents,
        existing,
        hostname,
        version,
        ..
    } = notices()[4].2.clone()
    else {
        panic!("not agents");
    };
    agents[0].workspace = None;
    let default_workspace = "/home/dev/.ctrlnode".to_owned();
    let notice = Notice::Agents {
        version,
        agents,
        default_workspace,
        existing,
        hostname,
    };
    assert_eq!(
        encode_notice(&notice, Profile::Plain),
        goldens(&["agent_update_sync"])
    );
}

#[test]
fn nothing_is_sent_when_there_is_nothing_to_tell() {
    let at = Timestamp::from_millis(0);
    let models = BTreeMap::from([(provider("gemini"), Vec::new())]);
    for notice in [
        Notice::Heartbeat(Heartbeat {
            agents: Vec::new(),
            at,
        }),
        Notice::ProviderHealth {
            health: BTreeMap::new(),
        },
        Notice::AvailableModels { models },
    ] {
        assert_eq!(
            encode_notice(&notice, Profile::Extended),
            Vec::<String>::new()
        );
    }
}

#[test]
fn replies_are_written_as_the_reference_shows_them_and_read_back_by_the_hub() {
    let path = "tasks/blog/03-14/9f8e7d6c-intro/output/intro.md";
    let read = |outcome| Reply::ReadFile {
        path: path.into(),
        outcome,
    };
    let entry = |name: &str, path: &str, is_dir, size| FileEntry {
        name: name.into(),
        path: path.into(),
        is_dir,
        size,
    };
    let entries = vec![
        entry("output", "output", true, None),
        entry("intro.md", "output/intro.md", false, Some(8)),
        entry("gone.md", "output/gone.md", false, None),
    ];
    let content = ReadOutcome::Content {
        content: "# Intro\n".into(),
        content_type: "text/markdown".into(),
    };
    let too_large = ReadOutcome::TooLarge {
        bytes: 15_728_641,
        content_type: "application/pdf".into(),
    };
    let synced = |key: &str, error: Option<&str>| Reply::AgentsSynced {
        provider: provider(key),
        error: error.map(str::to_owned),
    };
    for (frame, name, reply) in [
        (
            "sync_missing_agents",
            "sync_gemini_agents_ack",
            synced("gemini", None),
        ),
        (
            "sync_claude_sdk_agents",
            "sync_claude-sdk_agents_ack",
            synced("claude-sdk", Some("MISSING_AGENTS")),
        ),
        ("read_file", "read_file_response", read(content)),
        (
            "read_file",
            "read_file_response_no_root",
            read(ReadOutcome::NoRoot),
        ),
        (
            "read_file",
            "read_file_response_invalid_path",
            read(ReadOutcome::InvalidPath),
        ),
        (
            "read_file",
            "read_file_response_not_found",
            read(ReadOutcome::NotFound),
        ),
        ("read_file", "read_file_response_too_large", read(too_large)),
        (
            "read_file",
            "read_file_response_unreadable",
            read(ReadOutcome::Unreadable),
        ),
        (
            "list_files",
            "list_files_response",
            Reply::ListFiles {
                listing: Ok(("/home/dev/.ctrlnode".into(), entries)),
            },
        ),
        (
            "list_files",
            "list_files_response_error",
            Reply::ListFiles {
                listing: Err("INVALID_PATH".into()),
            },
        ),
        (
            "unknown_action",
            "unknown_action",
            Reply::Unknown {
                kind: "brew_coffee".into(),
            },
        ),
    ] {
        let written = encode_reply(&reply, &origin(frame, Source::Hub)).unwrap();
        assert_eq!(written, golden(&format!("out/{name}")), "{name}");
        let FromBridge::Reply { reply: read, .. } = plane::decode(written.as_bytes()).unwrap()
        else {
            panic!("{name} is not a reply");
        };
        let expected = match reply {
            // That frame does not say which path it is about.
            Reply::ReadFile {
                outcome: ReadOutcome::NoRoot,
                ..
            } => Reply::ReadFile {
                path: String::new(),
                outcome: ReadOutcome::NoRoot,
            },
            other => other,
        };
        assert_eq!(read, expected, "{name}");
    }
}

#[test]
fn unknown_actions_are_answered_to_our_own_hub_only() {
    let reply = Reply::Unknown {
        kind: "brew_coffee".into(),
    };
    assert_eq!(
        encode_reply(&reply, &origin("unknown_action", Source::Plane)),
        None
    );
    assert!(encode_reply(&reply, &origin("unknown_action", Source::Hub)).is_some());
}

#[test]
fn commands_from_this_machine_itself_get_no_reply_frame() {
    let origin = Origin {
        source: Source::Local,
        reply: ReplyToken::default(),
    };
    let reply = Reply::AgentsSynced {
        provider: provider("gemini"),
        error: None,
    };
    assert_eq!(encode_reply(&reply, &origin), None);
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
