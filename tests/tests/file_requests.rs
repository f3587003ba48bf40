//! Requests about files through a whole bridge: every action is answered in its own shape, in the
//! order that tasks rely on, also when there are very many.

#![cfg(unix)]

use std::{cell::RefCell, collections::BTreeSet, fs, os::unix::fs::symlink, time::Duration};

use bridge_testkit::{
    bridge::{Bridge, Setup},
    fake_plane::{FakePlane, Heard, Manners, Order, frame},
    home::Home,
    wire,
};
use bridge_workspace::ContentsPolicy;
use serde_json::{Value, json};

struct World {
    home: Home,
    plane: FakePlane,
    bridge: Bridge,
}

async fn world(contents: ContentsPolicy) -> World {
    let (home, plane) = (Home::new(), FakePlane::start(Manners::plain()).await);
    let mut setup = Setup::new(&home, plane.url());
    setup.contents = contents;
    let bridge = setup.start();
    plane.sync(&["fake"]).await;
    World {
        home,
        plane,
        bridge,
    }
}

impl World {
    async fn ask(&self, request: &Value) -> Value {
        let before = self.plane.seen();
        self.plane.send(request).await;
        let id = &request["requestId"];
        let reply = |frame: &Value| frame["requestId"] == *id;
        self.plane.heard_after(before, reply).await.1
    }

    async fn finish(self) {
        assert!(self.bridge.stop().await.clean);
    }
}

#[tokio::test]
async fn every_action_is_answered_in_its_own_shape() {
    let world = world(ContentsPolicy::Workspace).await;
    let base = world.home.workspace();
    let done = |action: &str| json!({ "action": action, "requestId": "q", "success": true, "error": null });
    let failed = |action: &str, error: &str| json!({ "action": action, "requestId": "q", "success": false, "error": error });
    for (request, answer) in [
        (
            json!({ "action": "create_folder", "useBasePath": true, "path": "web/src" }),
            done("create_folder_ack"),
        ),
        (
            json!({ "action": "create_folder", "useBasePath": true }),
            failed("create_folder_ack", "MISSING_PATH"),
        ),
        (
            json!({ "action": "delete_folder", "useBasePath": true, "path": "web" }),
            failed("delete_folder_ack", "FOLDER_NOT_EMPTY"),
        ),
        (
            json!({ "action": "rename_folder", "useBasePath": true, "path": "web", "newPath": "code\\web" }),
            done("rename_folder_ack"),
        ),
        (
            json!({ "action": "rename_folder", "useBasePath": true, "path": "web", "newPath": "x" }),
            failed("rename_folder_ack", "FOLDER_NOT_FOUND"),
        ),
        (
            json!({ "action": "delete_folder", "useBasePath": true, "path": "code/web/src" }),
            done("delete_folder_ack"),
        ),
        (
            json!({ "action": "delete_path", "useBasePath": true, "path": "code" }),
            done("delete_path_ack"),
        ),
        (
            json!({ "action": "delete_path", "useBasePath": true, "path": "a/.." }),
            failed("delete_path_ack", "INVALID_PATH"),
        ),
        (
            json!({ "action": "delete_path", "useBasePath": true }),
            failed("delete_path_ack", "INVALID_REQUEST"),
        ),
        (
            json!({ "action": "create_workspace", "folderName": "w" }),
            json!({ "action": "create_workspace_response", "requestId": "q", "workspacePath": null, "success": true, "error": null }),
        ),
        (
            json!({ "action": "create_workspace" }),
            json!({ "action": "create_workspace_response", "requestId": "q", "workspacePath": null, "success": false, "error": "MISSING_FOLDER_NAME" }),
        ),
        (
            json!({ "action": "delete_agent_folders", "agentId": "A", "folderName": "/app/../etc" }),
            json!({ "action": "delete_agent_folders_response", "requestId": "q", "agentId": "A", "success": false, "deleted": [], "errors": ["UNSAFE_PATH: /app/../etc"] }),
        ),
    ] {
        let mut request = request;
        request["requestId"] = json!("q");
        assert_eq!(world.ask(&request).await, answer, "{request}");
    }
    assert!(base.is_dir() && !base.join("code").exists() && !base.join("web").exists());
    world.finish().await;
}

#[tokio::test]
async fn a_read_that_the_policy_refuses_is_answered_with_the_documented_error() {
    let world = world(ContentsPolicy::TaskOutputs).await;
    fs::write(world.home.workspace().join("code.rs"), "hush").unwrap();
    fs::create_dir_all(world.home.root().join("tasks/t/output")).unwrap();
    symlink(
        "../../../../code.rs",
        world.home.root().join("tasks/t/output/link.rs"),
    )
    .unwrap();
    for (flag, path) in [
        ("useBasePath", "code.rs"),
        ("useBasePath", "not-there.rs"),
        ("useCtrlnode", "tasks/t/output/link.rs"),
        ("useCtrlnode", "journal/runs.jsonl"),
        ("useBasePath", ".ctrlnode/.env"),
    ] {
        let mut read =
            json!({ "action": "read_file", "requestId": path, "agentId": "Fake", "path": path });
        read[flag] = json!(true);
        let answer = json!({
            "action": "read_file_response", "requestId": path, "agentId": "fake", "path": path,
            "content": null, "error": "INVALID_PATH",
        });
        assert_eq!(world.ask(&read).await, answer);
    }
    world.finish().await;
}

#[tokio::test]
async fn what_was_deleted_before_a_task_is_not_there_when_it_starts() {
    let world = world(ContentsPolicy::TaskOutputs).await;
    let input = world.home.root().join("tasks/t/input");
    fs::create_dir_all(&input).unwrap();
    for n in 0..2000 {
        fs::write(input.join(format!("{n}.md")), "x").unwrap();
    }
    let delete = json!({
        "action": "delete_path", "requestId": "d", "useCtrlnode": true, "path": "tasks/t/input",
    });
    let write = json!({
        "action": "write_file", "useCtrlnode": true, "path": "tasks/t/input/new.md", "content": "x",
    });
    world.plane.send(&delete).await;
    world.plane.send(&write).await;
    world
        .plane
        .send(&wire::dispatch("t", "r", "fake", "@say well"))
        .await;
    assert_eq!(world.plane.end_of("t", "r").await.status, "completed");
    let names: Vec<_> = fs::read_dir(&input)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["new.md"]);
    world.finish().await;
}

#[tokio::test]
async fn a_burst_of_ten_thousand_requests_is_answered_to_the_last_one() {
    let world = world(ContentsPolicy::TaskOutputs).await;
    let output = world.home.root().join("tasks/t/output");
    fs::create_dir_all(&output).unwrap();
    fs::write(output.join("x.md"), "x".repeat(200)).unwrap();
    for n in 0..BURST {
        let request = match n % 4 {
            0 | 1 => json!({
                "action": "read_file", "requestId": n.to_string(), "agentId": "fake",
                "useCtrlnode": true, "path": "tasks/t/output/x.md",
            }),
            2 => json!({
                "action": "list_files", "requestId": n.to_string(), "useCtrlnode": true,
                "subpath": "tasks/t",
            }),
            _ => json!({
                "action": "create_folder", "requestId": n.to_string(), "useCtrlnode": true,
                "path": format!("tasks/t/made-{}", n % 100),
            }),
        };
        world.plane.send(&request).await;
    }
    let missing: RefCell<BTreeSet<String>> =
        RefCell::new((0..BURST).map(|n| n.to_string()).collect());
    let mut looked = 0;
    // In parts, each of which has a minute: on a busy machine all of it takes longer.
    for left in [BURST * 3 / 4, BURST / 2, BURST / 4, 0] {
        let more = world.plane.see_after(looked, |heard| {
            let Some(id) = frame(heard).and_then(|frame| frame["requestId"].as_str()) else {
                return false;
            };
            assert!(heard_well(heard), "{heard:?}");
            missing.borrow_mut().remove(id);
            missing.borrow().len() <= left
        });
        (looked, _) = more.await;
    }
    world.finish().await;
}

fn heard_well(heard: &Heard) -> bool {
    frame(heard).is_some_and(|frame| frame["error"].is_null())
}

/// Answers die with their connection; what asks on the next one is answered.
#[tokio::test]
async fn a_connection_that_is_cut_in_the_middle_of_a_burst_holds_nobody_up() {
    let world = world(ContentsPolicy::TaskOutputs).await;
    let output = world.home.root().join("tasks/t/output");
    fs::create_dir_all(&output).unwrap();
    fs::write(output.join("x.md"), "x".repeat(1 << 20)).unwrap();
    let read = |n: usize| {
        json!({
            "action": "read_file", "requestId": format!("r{n}"), "agentId": "fake",
            "useCtrlnode": true, "path": "tasks/t/output/x.md",
        })
    };
    for n in 0..100 {
        world.plane.send(&read(n)).await;
    }
    world.plane.cut();
    world.plane.opened(2).await;
    let answer = tokio::time::timeout(Duration::from_secs(60), world.ask(&read(1000))).await;
    assert!(answer.expect("an answer in time")["error"].is_null());
    world.finish().await;
}

#[tokio::test]
async fn json_that_is_too_deep_is_answered() {
    let world = world(ContentsPolicy::TaskOutputs).await;
    let before = world.plane.seen();
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let text = format!(r#"{{"action":"list_files","x":{deep},"requestId":"deep"}}"#);
    world.plane.order(Order::Text(text)).await;
    let reply = |frame: &Value| frame["requestId"] == "deep";
    let (_, answer) = world.plane.heard_after(before, reply).await;
    let refused = json!({
        "action": "list_files_response", "requestId": "deep", "files": [],
        "error": "INVALID_REQUEST",
    });
    assert_eq!(answer, refused);
    world.finish().await;
}

const BURST: usize = 10_000;
