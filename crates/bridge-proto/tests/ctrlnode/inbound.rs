//! Frames of a control plane, and the commands they are.

use bridge_proto::{
    AskId, Digest,
    ctrlnode::{decode, plane},
    model::{
        AgentChange, AgentPatch, AgentProfile, Answer, CapabilityQuery, CommandBody, FileRoot,
        FileScope, FollowUp, ModelManifest, Place, Request, RunKind, Source, StartRun, TaskMode,
        Tuning, When,
    },
};

use crate::{
    FOLDER, TASK, agent, folder, gateway, golden, golden_names, provider, run, task, tree,
};

/// Every golden frame of this direction with what it means, by name.
fn expected() -> Vec<(&'static str, CommandBody)> {
    let mut all = others();
    all.extend(gateway::expected());
    all.extend(tree::requests());
    all.sort_by_key(|(name, _)| *name);
    all
}

fn others() -> Vec<(&'static str, CommandBody)> {
    let start = StartRun {
        run: run(TASK, "q9"),
        agent: agent("dev-1"),
        prompt: "Fix the login form.".into(),
        place: Place::Output { folder: None },
        task_log: None,
        tuning: Tuning::default(),
    };
    let writer = "9f8e7d6c-1111-4222-8333-444455556666";
    let scope = |id: &str, key: &str| FileScope {
        root: FileRoot::Ctrlnode,
        agent: Some(agent(id)),
        provider: Some(provider(key)),
    };
    let answer = |ask: bool, answer| CommandBody::Answer {
        task: task(TASK),
        ask: ask.then(|| AskId::parse("ask-1").unwrap()),
        digest: ask.then(digest),
        answer,
    };
    let profile = AgentProfile {
        id: agent("dev-1"),
        name: "Dev".into(),
        provider: provider("codex"),
        model: Some("gpt-5.3-codex".into()),
        workspace: None,
        role: String::new(),
        description: "Write tests first.".into(),
        emoji: String::new(),
        from_filesystem: false,
    };
    let lead = AgentProfile {
        id: agent("lead"),
        name: "Lead 2".into(),
        provider: provider("claude-sdk"),
        model: None,
        workspace: Some("/home/dev/web".into()),
        role: "Architect".into(),
        description: String::new(),
        ..profile.clone()
    };
    let sync = |key: &str, agents| {
        CommandBody::Agents(AgentChange::Sync {
            provider: provider(key),
            agents,
        })
    };
    let update = |patch| {
        CommandBody::Agents(AgentChange::Update {
            agent: agent("dev-1"),
            patch,
        })
    };
    let begin = |start| CommandBody::Start(Box::new(start));
    let mut all = vec![
        (
            "agent_command",
            CommandBody::FollowUp(Box::new(FollowUp {
                run: run(TASK, "e2"),
                agent: agent("dev-1"),
                message: "/compact".into(),
                place: Place::Output { folder: None },
                kind: RunKind::AgentCommand,
                focus_files: Vec::new(),
                when: When::After,
                tuning: Tuning::default(),
            })),
        ),
        ("cancel_task", CommandBody::Cancel { task: task(TASK) }),
        (
            "check_run",
            CommandBody::Check {
                run: run(TASK, "e1"),
                agent: agent("dev-1"),
            },
        ),
        (
            "delete_agent_config",
            CommandBody::Agents(AgentChange::Delete {
                agent: agent("dev-1"),
            }),
        ),
        (
            "dispatch_task",
            begin(StartRun {
                run: run(TASK, "e1"),
                prompt: "Fix the login form.\n\n## INSTRUCTIONS\nStep 1 …".into(),
                place: Place::Repository {
                    path: "/home/dev/web".into(),
                    folder: Some(folder(FOLDER)),
                },
                task_log: Some(format!("{FOLDER}/output/1a2b3c4d-fix-login-output.md")),
                ..start.clone()
            }),
        ),
        (
            "dispatch_task_args_broken",
            begin(StartRun {
                place: Place::Output {
                    folder: Some(folder(FOLDER)),
                },
                ..start.clone()
            }),
        ),
        (
            "dispatch_task_args_text",
            begin(StartRun {
                place: Place::Repository {
                    path: "C:/code/web".into(),
                    folder: None,
                },
                ..start.clone()
            }),
        ),
        (
            "dispatch_task_no_prompt",
            begin(StartRun {
                prompt: String::new(),
                ..start.clone()
            }),
        ),
        (
            "dispatch_task_output",
            begin(StartRun {
                run: run(writer, "d1"),
                agent: agent("writer"),
                prompt: "Write an intro.".into(),
                place: Place::Output {
                    folder: Some(folder("tasks/blog/03-14/9f8e7d6c-intro")),
                },
                ..start
            }),
        ),
        (
            "followup",
            CommandBody::FollowUp(Box::new(FollowUp {
                run: run(writer, "f1"),
                agent: agent("writer"),
                message: "Shorter.".into(),
                place: Place::Output {
                    folder: Some(folder("tasks/blog/03-14/9f8e7d6c-intro")),
                },
                kind: RunKind::FollowUp,
                focus_files: vec!["src/app.ts".into()],
                when: When::After,
                tuning: Tuning::default(),
            })),
        ),
        (
            "followup_now",
            CommandBody::FollowUp(Box::new(FollowUp {
                run: run(writer, "f2"),
                agent: agent("writer"),
                message: "In English, please.".into(),
                place: Place::Output {
                    folder: Some(folder("tasks/blog/03-14/9f8e7d6c-intro")),
                },
                kind: RunKind::FollowUp,
                focus_files: Vec::new(),
                when: When::Now,
                tuning: Tuning {
                    effort: Some("low".into()),
                    ..Tuning::default()
                },
            })),
        ),
        (
            "input_response",
            answer(false, Answer::Text { text: "1".into() }),
        ),
        (
            "input_response_deny",
            answer(
                true,
                Answer::Deny {
                    reason: "not in this folder".into(),
                },
            ),
        ),
        (
            "input_response_extended",
            answer(
                true,
                Answer::Choose {
                    option: "once".into(),
                },
            ),
        ),
        (
            "interrupt_task",
            CommandBody::Interrupt { task: task(TASK) },
        ),
        (
            "list_files",
            CommandBody::Request(Request::ListFiles {
                scope: scope("writer", "gemini"),
                subpath: String::new(),
                recursive: true,
                include_files: false,
            }),
        ),
        (
            "list_files_base",
            CommandBody::Request(Request::ListFiles {
                scope: FileScope {
                    root: FileRoot::Base,
                    agent: None,
                    provider: None,
                },
                subpath: "code/web".into(),
                recursive: false,
                include_files: true,
            }),
        ),
        (
            "model_manifest",
            CommandBody::Models(ModelManifest {
                version: Some("2026-03-10".into()),
                providers: [(provider("gemini"), vec!["gemini-2.5-pro".to_owned()])].into(),
            }),
        ),
        (
            "query_provider_capabilities",
            CommandBody::Capabilities(CapabilityQuery {
                agent: Some("Dev-1".into()),
                mode: TaskMode::Repo,
                repository: Some("/home/dev/web".into()),
            }),
        ),
        (
            "read_file",
            CommandBody::Request(Request::ReadFile {
                scope: scope("writer", "gemini"),
                path: "tasks/blog/03-14/9f8e7d6c-intro/output/intro.md".into(),
            }),
        ),
        (
            "sync_broken_agents",
            sync(
                "gemini",
                Err(
                    "agents is not valid JSON: EOF while parsing a value at line 1 column 7".into(),
                ),
            ),
        ),
        ("sync_claude_sdk_agents", sync("claude-sdk", Ok(vec![lead]))),
        ("sync_codex_agents", sync("codex", Ok(vec![profile]))),
        (
            "sync_missing_agents",
            sync("gemini", Err("MISSING_AGENTS".into())),
        ),
        (
            "tune_task",
            CommandBody::Tune {
                task: task(TASK),
                tuning: Tuning {
                    model: Some("gemini-2.5-pro".into()),
                    mode: Some("plan".into()),
                    effort: Some("high".into()),
                },
            },
        ),
        (
            "unknown_action",
            CommandBody::Unknown {
                kind: "brew_coffee".into(),
            },
        ),
        (
            "update_agent_config",
            update(AgentPatch {
                name: Some("Dev".into()),
                model: Some("gpt-5.3-codex".into()),
                workspace: Some("/home/dev/web".into()),
                role: Some(String::new()),
                description: Some("Write tests first.".into()),
            }),
        ),
        (
            "update_agent_config_model",
            update(AgentPatch {
                model: Some(String::new()),
                ..AgentPatch::default()
            }),
        ),
        (
            "write_file",
            CommandBody::Request(Request::WriteFile {
                scope: scope("a1", "claude-sdk"),
                path: format!("{FOLDER}/input/1a2b3c4d-fix-login.md"),
                bytes: b"# Fix login".to_vec(),
                text: true,
            }),
        ),
        (
            "write_file_base64",
            CommandBody::Request(Request::WriteFile {
                scope: scope("a1", "claude-sdk"),
                path: format!("{FOLDER}/input/logo.png"),
                bytes: vec![0x89, b'P', b'N', b'G'],
                text: false,
            }),
        ),
    ];
    all.extend(crate::graph::expected());
    all.extend(crate::git::expected());
    all.sort_by_key(|(name, _)| *name);
    all
}

fn digest() -> Digest {
    serde_json::from_str("\"00ff\"").unwrap()
}

#[test]
fn every_golden_frame_is_the_command_it_names() {
    let expected = expected();
    let names: Vec<&str> = expected.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, golden_names("in"));
    for (name, body) in expected {
        let frame = golden(&format!("in/{name}"));
        let command =
            decode(frame.as_bytes(), Source::Hub).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(command.body, body, "{name}");
        assert_eq!(command.origin.source, Source::Hub);
    }
}

#[test]
fn words_of_our_own_hub_mean_nothing_in_a_run_of_another_plane() {
    for name in golden_names("in") {
        let read = |source| decode(golden(&format!("in/{name}")).as_bytes(), source);
        let (plain, ours) = (read(Source::Plane).unwrap(), read(Source::Hub).unwrap());
        assert_eq!(plain.origin.source, Source::Plane);
        assert_eq!(plain.body == ours.body, name != "followup_now", "{name}");
    }
    let frame = golden("in/followup_now").replace(r#""low""#, "7");
    let CommandBody::FollowUp(follow_up) = decode(frame.as_bytes(), Source::Plane).unwrap().body
    else {
        panic!("not a follow-up")
    };
    assert_eq!(
        (follow_up.when, follow_up.tuning),
        (When::After, Tuning::default())
    );
    assert!(decode(frame.as_bytes(), Source::Hub).is_err());
}

#[test]
fn every_command_survives_the_way_from_the_hub_to_the_bridge() {
    for (name, body) in expected() {
        match &body {
            CommandBody::Unknown { .. }
            | CommandBody::Agents(AgentChange::Sync { agents: Err(_), .. }) => {
                assert!(plane::encode(&body, "r").is_err(), "{name}");
            }
            CommandBody::Start(_)
            | CommandBody::FollowUp(_)
            | CommandBody::Cancel { .. }
            | CommandBody::Interrupt { .. }
            | CommandBody::Answer { .. }
            | CommandBody::Check { .. }
            | CommandBody::Tune { .. }
            | CommandBody::Agents(_)
            | CommandBody::Plan(_)
            | CommandBody::Models(_)
            | CommandBody::Capabilities(_)
            | CommandBody::Request(_)
            | CommandBody::Git(_)
            | CommandBody::Pipeline(_)
            | CommandBody::Gateway(_) => {
                for request_id in ["q9", "another"] {
                    let frame = plane::encode(&body, request_id).unwrap();
                    let command = decode(frame.as_bytes(), Source::Hub).unwrap();
                    assert_eq!(command.body, body, "{name}: {frame}");
                }
            }
        }
    }
}

#[test]
fn the_hub_writes_frames_as_the_reference_shows_them() {
    for name in [
        "activate_pipeline_task",
        "cancel_task",
        "check_run",
        "check_task_output",
        "dispatch_task",
        "dispatch_task_output",
        "followup_now",
        "generate_graph_blueprint",
        "git_diff",
        "git_diff_untracked",
        "git_operation_checkout",
        "git_operation_commit",
        "git_operation_create_branch",
        "git_operation_unsupported",
        "git_status",
        "git_status_base",
        "input_response_deny",
        "input_response_extended",
        "interrupt_task",
        "list_files",
        "model_manifest",
        "query_provider_capabilities",
        "read_file",
        "tune_task",
        "update_agent_config_model",
        "write_file",
        "write_file_base64",
    ] {
        let golden = golden(&format!("in/{name}")).replace(r#","agentId":"dev-1"}"#, "}");
        let value: serde_json::Value = serde_json::from_str(&golden).unwrap();
        let request_id = value["requestId"].as_str().unwrap_or_default();
        let body = decode(golden.as_bytes(), Source::Hub).unwrap().body;
        assert_eq!(plane::encode(&body, request_id).unwrap(), golden, "{name}");
    }
}

#[test]
fn a_question_about_skills_is_understood_whatever_is_odd_about_it() {
    let frame = r#"{"action":"query_provider_capabilities","requestId":"q","agentId":7,"taskMode":[],"repoPath":" "}"#;
    let nothing = CapabilityQuery {
        agent: None,
        mode: TaskMode::Output,
        repository: None,
    };
    let command = decode(frame.as_bytes(), Source::Plane).unwrap();
    assert_eq!(command.body, CommandBody::Capabilities(nothing));
    assert!(command.origin.reply.0.contains("\"q\""), "{command:?}");
}

#[test]
fn an_update_of_an_agent_changes_what_it_carries_and_nothing_else() {
    let patch_of = |fields: &str| {
        let frame = format!(r#"{{"action":"update_agent_config","agentId":" A ",{fields}}}"#);
        match decode(frame.as_bytes(), Source::Plane).unwrap().body {
            CommandBody::Agents(AgentChange::Update { agent: of, patch }) => {
                assert_eq!(of, agent("a"));
                patch
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(patch_of(r#""name":" ","role":null"#), AgentPatch::default());
    let moved = patch_of(r#""workspace":"C:\\web""#);
    assert_eq!(moved.workspace.as_deref(), Some("C:/web"));
    assert_eq!(moved.name, None);
}

#[test]
fn a_denial_says_no_to_a_bridge_that_knows_only_texts() {
    let body = CommandBody::Answer {
        task: task(TASK),
        ask: None,
        digest: None,
        answer: Answer::Deny {
            reason: "because".into(),
        },
    };
    let frame: serde_json::Value =
        serde_json::from_str(&plane::encode(&body, "r").unwrap()).unwrap();
    assert_eq!(frame["text"], "no");
}

#[test]
fn a_blank_repository_path_means_output_mode() {
    let frame = format!(
        r#"{{"action":"dispatch_task","requestId":"q","agentId":"a","taskId":"{TASK}","args":{{"task":"x","taskMode":"repo","repoPath":"  "}}}}"#
    );
    let CommandBody::Start(start) = decode(frame.as_bytes(), Source::Plane).unwrap().body else {
        panic!("not a start");
    };
    assert_eq!(start.place, Place::Output { folder: None });
}

#[test]
fn the_folder_in_the_arguments_wins_for_a_dispatch_and_is_the_only_one_for_a_follow_up() {
    let folder_of = |action: &str, args: &str| {
        let frame = format!(
            r#"{{"action":"{action}","requestId":"q","agentId":"a","taskId":"t","taskFolderName":"tasks/top","args":{args}}}"#
        );
        match decode(frame.as_bytes(), Source::Plane).unwrap().body {
            CommandBody::Start(start) => start.place.folder().cloned(),
            CommandBody::FollowUp(follow_up) => follow_up.place.folder().cloned(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        folder_of("dispatch_task", r#"{"taskFolderName":"tasks\\in"}"#),
        Some(folder("tasks/in"))
    );
    assert_eq!(folder_of("dispatch_task", "{}"), Some(folder("tasks/top")));
    assert_eq!(folder_of("followup", "{}"), None);
}

#[test]
fn any_provider_key_can_be_synced() {
    for (action, key) in [
        ("sync_demo_agents", "demo"),
        ("sync_my_agent_agents", "my_agent"),
        ("sync_claude-sdk_agents", "claude-sdk"),
        ("sync_claude_agents", "claude"),
    ] {
        let frame = format!(r#"{{"action":"{action}","requestId":"q","agents":"[]"}}"#);
        let sync = AgentChange::Sync {
            provider: provider(key),
            agents: Ok(Vec::new()),
        };
        let command = decode(frame.as_bytes(), Source::Hub).unwrap();
        assert_eq!(command.body, CommandBody::Agents(sync), "{action}");
    }
}
