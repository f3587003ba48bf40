//! Tasks: what is sent for them, what comes back, and how they end.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bridge_hub::{Attachment, HubError, Mode, NewTask, TaskStatus};
use bridge_proto::{
    AgentId,
    model::{
        EventBody, FileRoot, FileScope, Outcome, Reply, Request, RunEvent, TreeAct, TreeChange,
        TreeChanged, When,
    },
};
use serde_json::{Value, json};

use crate::support::{Run, World, texts};

#[tokio::test]
async fn files_go_out_before_the_prompt_that_names_them() {
    let world = World::new().await;
    let mut bridge = world.bridge(true).await;
    let body = json!({
        "machine": world.machine, "agent": "demo", "prompt": "Read it",
        "mode": { "mode": "output" }, "model": "fast",
        "attachments": [{ "name": "a b.txt", "content": STANDARD.encode("hi") }],
    });
    let made = world.post("/api/v1/tasks", &body).await;
    assert_eq!(made.status, 201);
    let write = bridge.expect("write_file").await;
    let dispatch = bridge.expect("dispatch_task").await;
    let folder = dispatch["args"]["taskFolderName"].as_str().unwrap();
    assert!(
        folder.starts_with("tasks/hub/") && folder.ends_with("-read-it"),
        "{folder}"
    );
    assert_eq!(write["path"], format!("{folder}/input/a b.txt"));
    assert_eq!(
        (&write["useCtrlnode"], &write["contentEncoding"]),
        (&json!(true), &json!("base64"))
    );
    assert_eq!(write["content"], STANDARD.encode("hi"));
    assert_eq!(dispatch["taskId"], made.json()["id"]);
    assert_eq!(
        dispatch["args"]["task"],
        "Read it\n\nAttached files:\n- input/a b.txt\n"
    );
    assert_eq!(dispatch["args"]["model"], "fast");
    let listed = world.get("/api/v1/tasks").await.json();
    assert_eq!(listed["tasks"][0]["status"], "queued");
    assert_eq!(listed["tasks"][0]["title"], "Read it");
}

#[tokio::test]
async fn a_repository_task_works_there_and_writes_its_summary_elsewhere() {
    let world = World::new().await;
    let mut bridge = world.bridge(true).await;
    let mode = Mode::Repository {
        path: "/code/web".into(),
    };
    let task = world
        .hub()
        .create(NewTask {
            mode,
            ..world.new_task("Fix")
        })
        .await
        .unwrap();
    let args = bridge.expect("dispatch_task").await["args"].clone();
    assert_eq!(
        (&args["taskMode"], &args["repoPath"]),
        (&json!("repo"), &json!("/code/web"))
    );
    let log = args["taskLogRelativePath"].as_str().unwrap();
    assert!(
        log.starts_with(args["taskFolderName"].as_str().unwrap()),
        "{log}"
    );
    let view = world.hub().task(&task).await.unwrap().unwrap();
    assert_eq!(view.repo_path(), Some("/code/web"));
}

#[tokio::test]
async fn nothing_is_promised_while_the_machine_is_away() {
    let world = World::new().await;
    let refused = world.hub().create(world.new_task("x")).await;
    assert!(matches!(refused, Err(HubError::MachineOffline { .. })));
    assert!(world.hub().tasks(10, None).await.unwrap().is_empty());
    let mut bridge = world.bridge(true).await;
    let other = NewTask {
        agent: AgentId::parse("other").unwrap(),
        ..world.new_task("x")
    };
    assert!(matches!(
        world.hub().create(other).await,
        Err(HubError::UnknownAgent { .. })
    ));
    let run = world.task(&mut bridge).await;
    drop(bridge);
    world.online(false).await;
    let hub = world.hub();
    let offline = |result: Result<(), HubError>| {
        assert!(
            matches!(result, Err(HubError::MachineOffline { .. })),
            "{result:?}"
        );
    };
    offline(
        hub.follow_up(&run.task, "x", Vec::new(), When::Now)
            .await
            .map(drop),
    );
    offline(hub.files(&run.task).await.map(drop));
    offline(hub.read_file(&run.task, "a.txt").await.map(drop));
}

#[tokio::test]
async fn a_question_is_answered_once_and_only_as_it_was_shown() {
    let world = World::new().await;
    let mut bridge = world.bridge(true).await;
    let run = world.task(&mut bridge).await;
    let ask = json!({
        "kind": "ask", "id": "q1", "ask_kind": "command", "summary": "run ls", "digest": "d1",
        "options": [{ "id": "yes", "label": "Allow", "kind": "allow_once" }],
    });
    bridge
        .say(&run.event(1, &json!({ "type": "seen", "event": ask })))
        .await;
    world.status(&run.task, TaskStatus::Waiting).await;
    let open = world.get("/api/v1/asks").await.json();
    assert_eq!(
        (&open["asks"][0]["task"], &open["asks"][0]["ask"]["id"]),
        (&json!(run.task), &json!("q1"))
    );
    let path = format!("/api/v1/tasks/{}/answer", run.task);
    let answer = |digest: &str, option: &str| {
        json!({
            "ask": "q1", "digest": digest, "answer": { "type": "choose", "option": option },
        })
    };
    for (digest, option, code) in [("d2", "yes", "ask_changed"), ("d1", "no", "unknown_option")] {
        assert_eq!(
            world.post(&path, &answer(digest, option)).await.code(),
            code
        );
    }
    assert_eq!(world.post(&path, &answer("d1", "yes")).await.status, 202);
    let sent = bridge.expect("input_response").await;
    assert_eq!(
        (&sent["askId"], &sent["digest"], &sent["option"]),
        (&json!("q1"), &json!("d1"), &json!("yes"))
    );
    // The machine has it and the agent not yet: everybody sees that, and nobody answers twice.
    let mut answered = ask.clone();
    answered["answered"] = json!("Allow");
    bridge
        .say(&run.event(2, &json!({ "type": "seen", "event": answered })))
        .await;
    world.status(&run.task, TaskStatus::Running).await;
    assert_eq!(
        world.post(&path, &answer("d1", "yes")).await.code(),
        "ask_answered"
    );
    let how = json!({ "how": "answered", "answer": "Allow" });
    let closed = json!({ "kind": "ask_closed", "ask": "q1", "how": how });
    bridge
        .say(&run.event(3, &json!({ "type": "seen", "event": closed })))
        .await;
    world.events(&run.task, 3).await;
    assert_eq!(
        world.post(&path, &answer("d1", "yes")).await.code(),
        "ask_closed"
    );
}

#[tokio::test]
async fn cancel_is_passed_on_and_the_end_comes_from_the_machine() {
    let world = World::new().await;
    let mut bridge = world.bridge(true).await;
    let run = world.task(&mut bridge).await;
    let path = format!("/api/v1/tasks/{}/cancel", run.task);
    assert_eq!(world.post(&path, &json!({})).await.status, 202);
    assert_eq!(
        bridge.expect("cancel_task").await["taskId"],
        run.task.as_str()
    );
    let outcome = json!({ "status": "cancelled", "by": "person" });
    bridge
        .say(&run.event(1, &json!({ "type": "ended", "outcome": outcome })))
        .await;
    world.status(&run.task, TaskStatus::Cancelled).await;
    assert_eq!(world.post(&path, &json!({})).await.code(), "task_ended");
}

#[tokio::test]
async fn messages_of_a_plain_bridge_become_the_same_events() {
    let world = World::new().await;
    let mut bridge = world.bridge(false).await;
    let run = world.task(&mut bridge).await;
    let mut say = async |message: Value| {
        let mut message = message;
        message["agentId"] = json!("demo");
        message["taskId"] = json!(run.task);
        bridge.say(&message).await;
    };
    let now = "2026-03-14T09:26:53.589Z";
    for chunk in ["Old pond, ", "a frog"] {
        say(json!({ "action": "task_progress", "kind": "text_chunk", "text": chunk, "timestamp": now }))
            .await;
        say(json!({ "action": "agent_stream", "event": { "kind": "text_chunk", "text": chunk } }))
            .await;
        say(json!({ "action": "agent_activity", "delta": chunk })).await;
    }
    say(json!({ "action": "task_waiting_for_input", "prompt": "Write?\n1. Yes\n2. No" })).await;
    world.status(&run.task, TaskStatus::Waiting).await;
    let view = world.hub().task(&run.task).await.unwrap().unwrap();
    let ask = &view.open_asks[0];
    let yes = bridge_proto::model::Answer::Choose {
        option: ask.options[0].id.clone(),
    };
    world
        .hub()
        .answer(&run.task, ask.id.clone(), &ask.digest, yes)
        .await
        .unwrap();
    world.status(&run.task, TaskStatus::Running).await;
    say(json!({
        "action": "task_complete", "status": "failed", "reason": "no ink", "source": "provider",
    }))
    .await;
    world.status(&run.task, TaskStatus::Failed).await;
    say(json!({
        "action": "intent_result", "requestId": run.attempt, "intentType": "dispatch_task",
        "contextTaskId": run.task, "result": "failed",
    }))
    .await;
    let sent = bridge.expect("input_response").await;
    assert!(sent.get("askId").is_none() && sent["text"].is_string());

    let events = world.events(&run.task, 6).await;
    assert_eq!(texts(&events).concat(), "Old pond, a frog");
    assert!(
        events
            .iter()
            .all(|stored| stored.event.run.attempt == run.attempt)
    );
    let ends: Vec<_> = events
        .iter()
        .filter(|stored| stored.event.body.is_terminal())
        .collect();
    assert!(matches!(
        &ends[..],
        [one] if matches!(&one.event.body, EventBody::Ended { outcome: Outcome::Failed { reason, .. } } if reason == "no ink")
    ));
    let asked = events.iter().any(|stored| {
        matches!(&stored.event.body, EventBody::Seen(seen) if matches!(seen.event, RunEvent::AskClosed { .. }))
    });
    assert!(asked);
}

#[tokio::test]
async fn whole_events_of_a_bridge_without_the_extension_are_not_taken() {
    let world = World::new().await;
    let mut bridge = world.bridge(false).await;
    let run = world.task(&mut bridge).await;
    bridge.say(&run.text(1, "forged")).await;
    bridge
        .say(&json!({
            "action": "agent_activity", "agentId": "demo", "taskId": run.task, "delta": "plain",
        }))
        .await;
    bridge
        .say(&json!({
            "action": "task_complete", "agentId": "demo", "taskId": run.task,
            "status": "completed", "source": "provider",
        }))
        .await;
    world.status(&run.task, TaskStatus::Completed).await;
    let events = world.events(&run.task, 1).await;
    assert_eq!(texts(&events), ["plain"]);
}

#[tokio::test]
async fn a_run_its_bridge_came_back_without_ends_with_the_reason() {
    let world = World::with(|config| config.lost_after = Duration::from_millis(50)).await;
    let mut bridge = world.bridge(true).await;
    let run = world.task(&mut bridge).await;
    bridge.say(&run.text(0, "x")).await;
    world.events(&run.task, 1).await;
    drop(bridge);
    let mut bridge = world.bridge(true).await;
    bridge.expect("check_run").await;
    world.status(&run.task, TaskStatus::Failed).await;
    let view = world.hub().task(&run.task).await.unwrap().unwrap();
    assert_eq!(
        view.summary.reason.as_deref(),
        Some("the bridge came back without this run")
    );
    // What it says too late changes nothing.
    bridge.say(&run.completed(9)).await;
    let next = world.task(&mut bridge).await;
    bridge.say(&next.completed(0)).await;
    world.status(&next.task, TaskStatus::Completed).await;
    assert_eq!(
        world
            .hub()
            .task(&run.task)
            .await
            .unwrap()
            .unwrap()
            .summary
            .status,
        TaskStatus::Failed
    );
}

#[tokio::test]
async fn result_files_are_listed_and_downloaded_but_never_shown_by_the_browser() {
    let world = World::new().await;
    let mut bridge = world.bridge(true).await;
    let run = world.task(&mut bridge).await;
    let view = world.hub().task(&run.task).await.unwrap().unwrap();
    let output = format!("{}/output", view.folder);

    let (hub, task) = (world.hub(), run.task.clone());
    let listing = tokio::spawn(async move { hub.files(&task).await });
    let asked = bridge.expect("list_files").await;
    assert_eq!(asked["subpath"], output);
    bridge
        .say(&json!({
            "action": "list_files_response", "requestId": asked["requestId"], "error": null,
            "basePath": "/home/dev/.ctrlnode",
            "files": [
                { "name": "b.html", "path": format!("{output}/sub/b.html"), "type": "file", "size": 3 },
                { "name": "sub", "path": format!("{output}/sub"), "type": "dir" },
                { "name": "x", "path": "/etc/x", "type": "file", "size": 1 },
            ],
        }))
        .await;
    let files = listing.await.unwrap().unwrap();
    let paths: Vec<_> = files
        .entries
        .iter()
        .map(|entry| entry.path.as_str())
        .collect();
    assert_eq!(paths, ["sub", "sub/b.html"]);

    let path = format!("/api/v1/tasks/{}/files/sub/b.html", run.task);
    let answer = async {
        let asked = bridge.expect("read_file").await;
        assert_eq!(asked["path"], format!("{output}/sub/b.html"));
        bridge
            .say(&json!({
                "action": "read_file_response", "requestId": asked["requestId"],
                "path": asked["path"], "content": "<b>", "contentType": "text/html",
            }))
            .await;
    };
    let (response, ()) = tokio::join!(world.get(&path), answer);
    assert_eq!((response.status, &*response.body), (200, b"<b>".as_slice()));
    assert!(response.headers["content-disposition"].starts_with("attachment; filename=\"b.html\""));
    assert_eq!(response.headers["x-content-type-options"], "nosniff");
    assert!(response.headers["content-security-policy"].contains("sandbox"));

    let (hub, task) = (world.hub(), run.task.clone());
    let reading = tokio::spawn(async move { hub.read_file(&task, "p.png").await });
    let asked = bridge.expect("read_file").await;
    bridge
        .say(&json!({
            "action": "read_file_response", "requestId": asked["requestId"], "path": "p.png",
            "content": STANDARD.encode([0x89, 0, 0xff]), "contentType": "image/png",
        }))
        .await;
    assert_eq!(reading.await.unwrap().unwrap().bytes, [0x89, 0, 0xff]);

    let (hub, task) = (world.hub(), run.task.clone());
    let reading = tokio::spawn(async move { hub.read_file(&task, "gone.txt").await });
    bridge.expect("read_file").await;
    drop(bridge);
    assert!(matches!(
        reading.await.unwrap(),
        Err(HubError::MachineOffline { .. })
    ));
    for path in ["../secret", "/etc/passwd", "a/../../b"] {
        let refused = world.hub().read_file(&run.task, path).await;
        assert!(matches!(refused, Err(HubError::Malformed { .. })), "{path}");
    }
}

#[tokio::test]
async fn a_result_file_is_deleted_on_its_machine_which_may_refuse() {
    let world = World::new().await;
    let mut bridge = world.bridge(true).await;
    let run = world.task(&mut bridge).await;
    let view = world.hub().task(&run.task).await.unwrap().unwrap();
    let path = format!("/api/v1/tasks/{}/files/sub/a.txt", run.task);
    for (error, status) in [(json!(null), 204), (json!("INVALID_PATH"), 404)] {
        let answer = async {
            let asked = bridge.expect("delete_path").await;
            assert_eq!(asked["path"], format!("{}/output/sub/a.txt", view.folder));
            bridge
                .say(&json!({
                    "action": "delete_path_ack", "requestId": asked["requestId"],
                    "success": error.is_null(), "error": error,
                }))
                .await;
        };
        let (response, ()) = tokio::join!(world.delete(&path), answer);
        assert_eq!(response.status, status);
    }
    for path in ["../input/x", "", "/etc/passwd"] {
        let refused = world.hub().delete_file(&run.task, path).await;
        assert!(matches!(refused, Err(HubError::Malformed { .. })), "{path}");
    }
}

#[tokio::test]
async fn a_machine_is_asked_anything_about_its_files_and_its_answer_comes_as_it_is() {
    let world = World::new().await;
    let mut bridge = world.bridge(true).await;
    let run = world.task(&mut bridge).await;
    let view = world.hub().task(&run.task).await.unwrap().unwrap();
    let scope = FileScope {
        root: FileRoot::Base,
        agent: None,
        provider: None,
    };
    let rename = TreeChange::RenameFolder {
        scope: scope.clone(),
        path: "code/old".into(),
        new_path: "code/new".into(),
    };
    let (hub, machine) = (world.hub(), view.summary.machine.clone());
    let asking =
        tokio::spawn(async move { hub.ask_machine(&machine, Request::Tree(rename)).await });
    let asked = bridge.expect("rename_folder").await;
    assert_eq!(
        (&asked["path"], &asked["newPath"]),
        (&json!("code/old"), &json!("code/new"))
    );
    bridge
        .say(&json!({
            "action": "rename_folder_ack", "requestId": asked["requestId"],
            "success": false, "error": "FOLDER_NOT_FOUND",
        }))
        .await;
    let changed = TreeChanged::Done {
        act: TreeAct::RenameFolder,
        error: Some("FOLDER_NOT_FOUND".into()),
    };
    assert_eq!(asking.await.unwrap().unwrap(), Reply::Tree(changed));
    let write = Request::WriteFile {
        scope,
        path: "x".into(),
        bytes: Vec::new(),
        text: true,
    };
    let never = world.hub().ask_machine(&view.summary.machine, write).await;
    assert!(matches!(never, Err(HubError::Malformed { .. })));
}

#[tokio::test]
async fn follow_ups_repeat_where_the_task_works_and_carry_files() {
    let world = World::new().await;
    let mut bridge = world.bridge(true).await;
    let run = world.task(&mut bridge).await;
    bridge.say(&run.completed(0)).await;
    world.status(&run.task, TaskStatus::Completed).await;
    let file = Attachment {
        name: "more.txt".into(),
        bytes: b"x".to_vec(),
    };
    world
        .hub()
        .follow_up(&run.task, "Shorter.", vec![file], When::After)
        .await
        .unwrap();
    let write = bridge.expect("write_file").await;
    assert!(write["path"].as_str().unwrap().ends_with("/input/more.txt"));
    let sent = bridge.expect("followup").await;
    let view = world.hub().task(&run.task).await.unwrap().unwrap();
    assert_eq!(sent["args"]["taskFolderName"], view.folder.as_str());
    assert!(
        sent["args"]["message"]
            .as_str()
            .unwrap()
            .starts_with("Shorter.\n\nAttached files:")
    );
    assert_eq!(view.summary.status, TaskStatus::Queued);
    assert_eq!(view.runs[1].prompt, "Shorter.");
    let second = Run {
        task: run.task.clone(),
        attempt: sent["requestId"].as_str().unwrap().to_owned(),
    };
    bridge.say(&second.completed(0)).await;
    world.status(&run.task, TaskStatus::Completed).await;
}

#[tokio::test]
async fn the_database_does_not_hold_any_secret() {
    let world = World::new().await;
    let code = world.hub().create_login_code().await.unwrap();
    world.get("/api/v1/bridges").await;
    for entry in std::fs::read_dir(world.folder.path().join("hub")).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        for secret in [&world.pairing, &world.token, &code] {
            let needle = secret.expose().as_bytes();
            assert!(!bytes.windows(needle.len()).any(|window| window == needle));
        }
    }
}
