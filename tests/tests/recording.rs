//! A recording of a bridge's frames, and the comparison of another bridge with it.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use std::{fs, path::Path, process::Stdio};

use bridge_testkit::{
    fake_plane::{FakePlane, Manners},
    home::{Home, Running},
    program,
};
use serde_json::{Value, json};

/// A bridge that was recorded while it answered a few questions and ran a task.
async fn recorded(home: &Home, file: &Path) -> Vec<Value> {
    let plane = FakePlane::start(Manners::plain()).await;
    let mut command = home.ctrlnode(&["bridge", "start", "--record"]);
    command
        .arg(file)
        .env("PAIRING_TOKEN", "a-token-that-is-secret");
    command
        .env("SAAS_URL", plane.url())
        .env("BASE_PATH", home.workspace())
        .env("CTRLNODE_SIDE_CHANNEL", "off");
    let mut bridge = Running::start(command);
    plane.sync(&["demo"]).await;
    let content = "remember a-token-that-is-secret";
    plane
        .send(&json!({ "action": "write_file", "path": "tasks/t/input/a.txt", "content": content }))
        .await;
    for (request, path) in [("r1", "tasks/t/input/a.txt"), ("r2", "tasks/t/none.txt")] {
        plane
            .send(&json!({ "action": "read_file", "requestId": request, "path": path }))
            .await;
        plane.heard(|frame| frame["requestId"] == request).await;
    }
    plane
        .run("t", "d1", "demo", "#demo fast\nthe blue whale")
        .await;
    assert_eq!(bridge.terminate().await, Some(0), "{}", bridge.told());
    let text = fs::read_to_string(file).unwrap();
    assert!(!text.contains("a-token-that-is-secret"), "{text}");
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Compares another bridge with a recording: what was said, and the exit code.
async fn compared(file: &Path) -> (String, Option<i32>) {
    let home = Home::new();
    let mut command = tokio::process::Command::from(program::command(program::replay_frames()));
    command.arg(file).arg("0").stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut replay = Running::start(command);
    let line = replay.line(|line| line.starts_with("listening on ")).await;
    let mut bridge = home.bridge(line.trim_start_matches("listening on "));
    replay.line(|line| line.ends_with(" differ")).await;
    let code = replay.ended().await;
    assert_eq!(bridge.terminate().await, Some(0), "{}", bridge.told());
    home.none_left().await;
    (replay.told(), code)
}

#[tokio::test]
async fn a_bridge_is_the_same_as_itself_and_not_the_same_as_another() {
    let home = Home::new();
    let file = home.path().join("recording.jsonl");
    let lines = recorded(&home, &file).await;
    assert_eq!(lines[0]["event"], "opened");
    let said = lines.iter().find(|line| line["way"] == "out").unwrap();
    assert_eq!(said["frame"]["action"], "handshake");
    let place = |fits: &dyn Fn(&Value) -> bool| lines.iter().position(fits).unwrap();
    let asked = place(&|line| line["way"] == "in" && line["frame"]["requestId"] == "r1");
    let answered = place(&|line| line["way"] == "out" && line["frame"]["requestId"] == "r1");
    assert!(asked < answered);
    assert_eq!(lines[answered]["frame"]["content"], "remember [masked]");
    home.none_left().await;

    let (told, code) = compared(&file).await;
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("same    read_file_response r1"), "{told}");
    assert!(told.contains("same    task_complete - t"), "{told}");

    let text = fs::read_to_string(&file).unwrap();
    let other = home.path().join("other.jsonl");
    fs::write(&other, text.replace("FILE_NOT_FOUND", "NO_SUCH_FILE")).unwrap();
    let (told, code) = compared(&other).await;
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("DIFFERS read_file_response r2"), "{told}");
    assert!(
        told.contains("recorded \"NO_SUCH_FILE\", now \"FILE_NOT_FOUND\""),
        "{told}"
    );
}
