//! Requests of git and of pipelines over the wire: each is answered, whatever there are of them,
//! and nothing else waits for them.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt as _, path::Path};

use bridge_testkit::{
    bridge::{Bridge, Setup},
    fake_plane::{FakePlane, Manners},
    home::{Home, finish},
};
use bridge_workspace::ContentsPolicy;
use serde_json::{Value, json};
use tokio::process::Command;

struct World {
    home: Home,
    plane: FakePlane,
    bridge: Bridge,
}

async fn world(change: impl FnOnce(&mut Setup<'_>)) -> World {
    let (home, plane) = (Home::new(), FakePlane::start(Manners::plain()).await);
    let mut setup = Setup::new(&home, plane.url());
    setup.contents = ContentsPolicy::Workspace;
    change(&mut setup);
    let bridge = setup.start();
    plane.sync(&["fake"]).await;
    World {
        home,
        plane,
        bridge,
    }
}

impl World {
    async fn asked(&self, frame: Value, answer: &str) -> Value {
        let before = self.plane.seen();
        self.plane.send(&frame).await;
        let fits = |heard: &Value| {
            heard["action"] == answer
                && (heard["requestId"] == frame["requestId"] || heard["requestId"].is_null())
        };
        self.plane.heard_after(before, fits).await.1
    }

    async fn works(&self, task: &str) {
        let end = self.plane.run(task, "r", "fake", "@say well").await;
        assert_eq!(end.status, "completed", "{end:?}");
    }
}

async fn repository(home: &Home, name: &str) {
    let path = home.repository(name);
    for args in [
        &["init", "-q", "-b", "main"][..],
        &[
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@t",
            "commit",
            "-q",
            "--allow-empty",
            "-m",
            "x",
        ],
    ] {
        let mut git = git();
        git.args(args).current_dir(&path);
        git.env_clear().envs(home.variables());
        let ended = finish(git, "").await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    fs::write(path.join("größe.txt"), "new\n").unwrap();
}

#[expect(clippy::disallowed_methods, reason = "prepares a repository")]
fn git() -> Command {
    Command::new("git")
}

/// A program called `git` that never ends.
fn hanging_git(home: &Home) -> String {
    let folder = home.path().join("hangs");
    fs::create_dir_all(&folder).unwrap();
    let program = folder.join("git");
    fs::write(&program, "#!/bin/sh\nsleep 1000\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:/usr/bin:/bin", folder.display())
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_requests_at_once_are_all_answered() {
    let world = world(|_| {}).await;
    repository(&world.home, "r").await;
    let count = 300;
    for number in 0..count {
        let frame = match number % 3 {
            0 => json!({"action": "git_status", "path": "r"}),
            1 => {
                json!({"action": "git_diff", "path": "r", "filePath": "größe.txt", "untracked": true})
            }
            _ => {
                json!({"action": "git_operation", "path": "r", "operation": "checkout", "branch": "-f"})
            }
        };
        let mut frame = frame;
        frame["requestId"] = json!(format!("g{number}"));
        world.plane.send(&frame).await;
    }
    // A run is not behind them.
    world.works("t").await;
    let mut missing: BTreeSet<String> = (0..count).map(|number| format!("g{number}")).collect();
    let mut seen = 0;
    while !missing.is_empty() {
        let answers = |heard: &Value| {
            heard["action"]
                .as_str()
                .is_some_and(|action| action.starts_with("git_"))
        };
        let (next, answer) = world.plane.heard_after(seen, answers).await;
        seen = next;
        let id = answer["requestId"].as_str().unwrap();
        assert!(missing.remove(id), "{id} twice");
        match answer["action"].as_str().unwrap() {
            "git_status_response" => assert_eq!(answer["files"][0]["path"], "größe.txt"),
            "git_diff_response" => assert!(answer["diff"].as_str().unwrap().contains("+new")),
            _ => assert_eq!(answer["error"], r#""-f" is not a valid branch name"#),
        }
    }
    assert!(world.bridge.stop().await.clean);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_git_that_hangs_holds_up_nothing_and_ends_with_the_bridge() {
    let world = world(|setup| {
        let path = hanging_git(setup.home);
        setup.host = setup.home.host(&[("PATH", &path)]);
    })
    .await;
    world.home.repository("r");
    for number in 0..50 {
        let id = format!("g{number}");
        let frame = match number % 2 {
            0 => json!({"action": "git_status", "requestId": id, "path": "r"}),
            _ => {
                json!({"action": "git_operation", "requestId": id, "path": "r", "operation": "fetch"})
            }
        };
        world.plane.send(&frame).await;
    }
    world.works("t").await;
    let list = json!({"action": "list_files", "requestId": "l", "useBasePath": true});
    world.asked(list, "list_files_response").await;
    assert!(world.bridge.stop().await.clean);
    world.home.none_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_git_that_cannot_be_read_is_answered_too() {
    let world = world(|_| {}).await;
    let frame = json!({"action": "git_status", "requestId": "q", "path": 7});
    let answer = world.asked(frame, "git_status_response").await;
    assert_eq!(answer["error"], "INVALID_REQUEST");
    let frame = json!({"action": "git_operation", "requestId": "q", "operation": "rebase"});
    let answer = world.asked(frame, "git_operation_ack").await;
    assert_eq!(answer["error"], "UNSUPPORTED_OPERATION");
    assert!(world.bridge.stop().await.clean);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_hands_over_bytes_as_they_are() {
    let world = world(|_| {}).await;
    let root = world.home.root();
    let write = |path: &str, bytes: &[u8]| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    let check = |folder: &str| json!({"action": "check_task_output", "requestId": "c", "agentId": "Fake", "taskFolderName": folder});
    let binary = b"\xff\xd8\x00\r\n<TASK_COMPLETED:ab>  ";
    write("tasks/p/one/output/.gitkeep", b"");
    let none = world
        .asked(check("tasks/p/one"), "check_task_output_result")
        .await;
    assert_eq!(
        none,
        json!({"action": "check_task_output_result", "agentId": "fake", "taskFolderName": "tasks/p/one", "hasOutput": false})
    );
    write("tasks/p/one/output/photo.jpg", binary);
    write(
        "tasks/p/one/output/sub/a.md",
        b"# A\r\n<TASK_COMPLETED:ab>\r\n",
    );
    let some = world
        .asked(check("tasks/p/one"), "check_task_output_result")
        .await;
    assert_eq!(some["hasOutput"], true);
    let activate = json!({
        "action": "activate_pipeline_task", "requestId": "a",
        "predecessorAgentId": "fake", "predecessorTaskFolderName": "tasks/p/one",
        "nextTaskAgentId": "fake", "nextTaskFolderName": "tasks/p/two",
    });
    let answer = world
        .asked(activate.clone(), "activate_pipeline_task_response")
        .await;
    assert_eq!(
        answer,
        json!({"action": "activate_pipeline_task_response", "requestId": "a", "success": true, "error": null, "filesCopied": 2})
    );
    let next = root.join("tasks/p/two");
    let read = |path: &str| fs::read(next.join(path)).unwrap();
    assert_eq!(read("input/one/photo.jpg"), binary);
    assert_eq!(read("input/one/sub/a.md"), b"# A\n");
    assert!(next.join("output/.gitkeep").exists());
    for missing in [
        "predecessorAgentId",
        "predecessorTaskFolderName",
        "nextTaskAgentId",
        "nextTaskFolderName",
    ] {
        let mut frame = activate.clone();
        frame[missing] = Value::Null;
        let answer = world.asked(frame, "activate_pipeline_task_response").await;
        assert_eq!(answer["error"], "INVALID_REQUEST", "{missing}");
    }
    assert!(Path::new(&next).exists());
    assert!(world.bridge.stop().await.clean);
}
