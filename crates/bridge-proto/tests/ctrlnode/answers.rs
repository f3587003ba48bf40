//! Notices and replies, and the frames they become.

use std::collections::BTreeMap;

use bridge_proto::{
    Timestamp,
    ctrlnode::{
        Profile, encode_notice, encode_reply,
        plane::{self, FromBridge},
    },
    model::{
        AgentProfile, AgentStatus, Can, Capabilities, Choosing, Discovery, FileEntry, Health,
        HealthReason, Heartbeat, Hello, Listing, Notice, Origin, ProviderReport, ReadOutcome,
        Reply, ReplyToken, Skill, SkillScope, SkillSource, Source, TaskMode, Trouble,
    },
};

use crate::{TASK, agent, golden, goldens, origin, provider, run};

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
            agents: Vec::new(),
            existing: Vec::new(),
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
    let scout = AgentProfile {
        id: agent("scout"),
        name: "scout".into(),
        provider: provider("openclaw"),
        model: None,
        workspace: Some("/home/dev/.openclaw/workspace".into()),
        emoji: String::new(),
        from_filesystem: false,
        ..local.clone()
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
            (provider(key), ProviderReport::from(health))
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
            "provider_health_can",
            Profile::Extended,
            Notice::ProviderHealth {
                health: BTreeMap::from([(provider("claude"), steered())]),
            },
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
        (
            "handshake_openclaw",
            Profile::Extended,
            Notice::Hello(Hello {
                version: "v0.1.0".into(),
                providers: keys(&["openclaw"]),
                hostname: "box".into(),
                agents: vec![scout.clone()],
                existing: vec![agent("scout")],
            }),
        ),
        (
            "agent_update_openclaw",
            Profile::Plain,
            Notice::Agents {
                version: None,
                agents: vec![AgentProfile {
                    role: "Finds things".into(),
                    ..scout
                }],
                default_workspace: String::new(),
                existing: Vec::new(),
                hostname: "box".into(),
            },
        ),
    ]
}

/// A provider whose machine tells what can be done with it.
fn steered() -> ProviderReport {
    ProviderReport {
        health: Health {
            available: true,
            reason: None,
            version: Some("2.1.0".into()),
            hint: None,
        },
        can: Some(Can {
            inject: true,
            model: Choosing::AnyTime,
            mode: Choosing::AnyTime,
            effort: Choosing::AtStart,
        }),
        trouble: Some(Trouble {
            at: "2026-03-14T09:26:53.589Z".parse().unwrap(),
            reason: "the credit is used up".into(),
            todo: Some("buy credit, or wait for the limit to reset".into()),
        }),
    }
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
    assert_eq!(
        plain(7),
        r#"{"action":"provider_health","providerHealth":{"claude":{"available":true}}}"#
    );
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
    let review = Skill {
        id: "project:review".into(),
        name: "review".into(),
        description: Some("Looks at a change.".into()),
        argument_hint: Some("[file]".into()),
        invocation: "$review".into(),
        scope: SkillScope::Project,
        user_invocable: true,
        enabled: true,
    };
    let skills = |provider: &str, agent: Option<&str>, found: bool| {
        let (mode, source, warnings) = if found {
            (TaskMode::Repo, SkillSource::Static, Vec::new())
        } else {
            let unknown = vec!["agent_provider_unknown".to_owned()];
            (TaskMode::Output, SkillSource::Unsupported, unknown)
        };
        Reply::Capabilities(Box::new(Capabilities {
            provider: provider.into(),
            agent: agent.map(str::to_owned),
            mode,
            skills: found.then(|| review.clone()).into_iter().collect(),
            discovery: Discovery {
                skills: source,
                warnings,
                observed_at: "2026-03-14T09:26:53.589Z".parse().unwrap(),
            },
        }))
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
        (
            "query_provider_capabilities",
            "provider_capabilities_response",
            skills("codex", Some("Dev-1"), true),
        ),
        (
            "query_provider_capabilities",
            "provider_capabilities_response_unknown",
            skills("unknown", None, false),
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
                listing: Ok(Listing {
                    base: "/home/dev/.ctrlnode".into(),
                    entries,
                    cut: false,
                }),
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
            "check_run",
            "run_checked",
            Reply::RunChecked {
                run: run(TASK, "e1"),
                known: true,
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
fn bytes_that_are_no_text_reach_our_hub_whole_and_a_plain_plane_as_text() {
    let outcome = ReadOutcome::Binary {
        bytes: b"PK\xff\x00".to_vec(),
        content_type: "application/octet-stream".into(),
    };
    let reply = Reply::ReadFile {
        path: "tasks/a/output/x.zip".into(),
        outcome,
    };
    let to_hub = encode_reply(&reply, &origin("read_file", Source::Hub)).unwrap();
    let FromBridge::Reply { reply: read, .. } = plane::decode(to_hub.as_bytes()).unwrap() else {
        panic!("{to_hub} is not a reply");
    };
    assert_eq!(read, reply);
    let plain = encode_reply(&reply, &origin("read_file", Source::Plane)).unwrap();
    assert!(
        plain.contains("PK\u{fffd}") && !plain.contains("encoding"),
        "{plain}"
    );
}

#[test]
fn what_is_for_openclaw_alone_is_refused_as_by_a_bridge_without_it() {
    for action in ["init_ping", "invoke_tool", "sync_config"] {
        let reply = Reply::Unknown {
            kind: action.into(),
        };
        let frame = encode_reply(&reply, &origin(action, Source::Plane)).unwrap();
        if action == "invoke_tool" {
            assert_eq!(frame, golden("out/tool_result_not_supported"));
        }
        let read = plane::decode(frame.as_bytes());
        assert!(matches!(read, Ok(FromBridge::Reply { reply: read, .. }) if read == reply));
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
