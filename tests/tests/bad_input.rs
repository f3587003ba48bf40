//! Everything that can come in wrong, end to end: from the plane, from an agent, from the disk.
//! Whatever it is, it has an answer where the wire has one, and the bridge goes on.

#![cfg(unix)]

use std::{fs, os::unix::fs::symlink};

use bridge_testkit::{
    bridge::{self, Bridge, Setup},
    fake_plane::{FakePlane, Manners, Order, What},
    home::{Home, Running},
    wire,
};
use serde_json::{Value, json};

struct World {
    home: Home,
    plane: FakePlane,
    bridge: Bridge,
    good: u32,
}

async fn world() -> World {
    world_with(|_| {}).await
}

async fn world_with(change: impl FnOnce(&mut Setup<'_>)) -> World {
    let (home, plane) = (Home::new(), FakePlane::start(Manners::plain()).await);
    let mut setup = Setup::new(&home, plane.url());
    change(&mut setup);
    let bridge = setup.start();
    plane.sync(&["fake"]).await;
    World {
        home,
        plane,
        bridge,
        good: 0,
    }
}

impl World {
    /// The bridge still does its work, on the same connection.
    async fn works(&mut self) {
        self.good += 1;
        let task = format!("good-{}", self.good);
        let end = self.plane.run(&task, "r", "fake", "@say well").await;
        assert_eq!(end.status, "completed", "{end:?}");
        assert_eq!(self.plane.text_of(&task), "well");
    }

    /// Sends text and waits for the first frame it is answered with.
    async fn answered(&self, text: &str) -> Value {
        let before = self.plane.seen();
        self.plane.order(Order::Text(text.to_owned())).await;
        self.plane.heard_after(before, is_answer).await.1
    }

    /// Sends text that has no answer.
    async fn unanswered(&mut self, text: &str) {
        let before = self.plane.seen();
        self.plane.order(Order::Text(text.to_owned())).await;
        self.works().await;
        let task = format!("good-{}", self.good);
        let log = self.plane.log();
        let answers = log
            .iter()
            .skip(before)
            .filter_map(bridge_testkit::fake_plane::frame);
        let other = |frame: &&Value| is_answer(frame) && frame["contextTaskId"] != task.as_str();
        assert_eq!(answers.filter(other).count(), 0, "{text}");
    }

    async fn finish(mut self) {
        self.works().await;
        assert!(self.bridge.stop().await.clean);
    }

    fn connections(&self) -> usize {
        let log = self.plane.log();
        log.iter()
            .filter(|heard| matches!(heard.what, What::Opened(_)))
            .count()
    }
}

/// What answers a request, unlike what the bridge says by itself.
fn is_answer(frame: &Value) -> bool {
    let action = frame["action"].as_str().unwrap_or_default();
    action == "intent_result" || action.ends_with("_response") || action.ends_with("_ack")
}

#[tokio::test]
async fn frames_that_are_no_message_are_ignored_on_the_same_connection() {
    let mut world = world().await;
    for text in [
        "",
        "nonsense",
        "{",
        "{\"action\":",
        "[]",
        "[1,2]",
        "null",
        "7",
        "\"dispatch_task\"",
        "{}",
        "{\"action\":7}",
        "{\"action\":null}",
        "{\"action\":\"\"}",
        "{\"a\":1}{\"b\":2}",
        "\u{0}",
    ] {
        world.plane.order(Order::Text(text.to_owned())).await;
    }
    world.plane.order(Order::Text("[".repeat(100_000))).await;
    world
        .plane
        .order(Order::Text("{\"action\":".repeat(50_000)))
        .await;
    world
        .unanswered("{\"action\":\"brew_coffee\",\"requestId\":\"b1\",\"args\":[1]}")
        .await;
    assert_eq!(world.connections(), 1);
    world.finish().await;
}

#[tokio::test]
async fn binary_frames_are_ignored_on_the_same_connection() {
    let mut world = world().await;
    world.plane.order(Order::Binary(vec![0xff; 1000])).await;
    world
        .plane
        .order(Order::Binary(b"{\"action\":\"cancel_task\"}".to_vec()))
        .await;
    world.works().await;
    assert_eq!(world.connections(), 1);
    world.finish().await;
}

#[tokio::test]
async fn a_frame_over_the_limit_costs_the_connection_and_nothing_else() {
    let mut world = world_with(|setup| setup.limits.frame = 1 << 20).await;
    world
        .plane
        .send(&wire::dispatch("before", "r", "fake", "@say before\n@hang"))
        .await;
    world.plane.says("before", "before").await;
    let large = json!({ "action": "write_file", "content": "x".repeat(2 << 20) });
    world.plane.send(&large).await;
    world.plane.opened(2).await;
    world.works().await;
    world.plane.send(&wire::cancel("before", "fake")).await;
    assert_eq!(
        world.plane.end_of("before", "r").await.reason,
        "Task was cancelled"
    );
    // A frame that only announces more than there can be.
    let mut header = vec![0x81, 127];
    header.extend((1_u64 << 40).to_be_bytes());
    world.plane.order(Order::Raw(header)).await;
    world.plane.opened(3).await;
    world.finish().await;
}

#[tokio::test]
async fn broken_frames_cost_the_connection_and_nothing_else() {
    let mut world = world().await;
    // Reserved bits, a reserved kind of frame, text that is not UTF-8.
    let not_text = vec![0x81, 0x04, 0xff, 0xfe, 0xc3, 0x28];
    let all = [vec![0xff; 16], vec![0x83, 0x01, 0x61], not_text];
    for (n, bytes) in all.into_iter().enumerate() {
        world.plane.order(Order::Raw(bytes)).await;
        world.plane.opened(n as u64 + 2).await;
        world.works().await;
    }
    world.finish().await;
}

#[tokio::test]
async fn wrong_types_are_answered_in_the_shape_of_their_action() {
    let world = world().await;
    let good = wire::dispatch("t", "q", "fake", "@say x");
    for (field, wrong) in [
        ("taskId", json!(7)),
        ("taskId", json!({})),
        ("args", json!(7)),
        ("args", json!([1])),
        ("args", json!({ "task": 7 })),
        ("args", json!({ "task": "x", "taskFolderName": [] })),
        ("args", json!({ "task": "x", "taskMode": 1 })),
        ("content", json!({})),
        ("executionId", json!(["e"])),
        ("taskId", json!("a\u{0}b")),
        ("taskId", json!("x".repeat(100_000))),
    ] {
        let mut frame = good.clone();
        frame[field] = wrong;
        let answer = world.answered(&frame.to_string()).await;
        assert_eq!(answer["action"], "intent_result", "{frame}");
        assert_eq!(answer["requestId"], "q", "{frame}");
        let error = answer["error"].as_str().unwrap();
        assert!(error.starts_with("BRIDGE_INTERNAL_ERROR: "), "{error}");
    }
    let mut nobody = good.clone();
    nobody["agentId"] = json!(7);
    assert_eq!(
        world.answered(&nobody.to_string()).await["error"],
        "AGENT_NOT_FOUND"
    );
    let read = r#"{"action":"read_file","requestId":"q","path":7}"#;
    assert_eq!(world.answered(read).await["error"], "INVALID_REQUEST");
    let list = r#"{"action":"list_files","requestId":"q","recursive":"yes"}"#;
    assert_eq!(world.answered(list).await["error"], "INVALID_REQUEST");
    for agents in [
        "null",
        "7",
        "\"[{\"",
        "\"{}\"",
        "\"[7]\"",
        "\"[{\\\"id\\\":7}]\"",
    ] {
        let sync =
            format!(r#"{{"action":"sync_gemini_agents","requestId":"q","agents":{agents}}}"#);
        let ack = world.answered(&sync).await;
        assert_eq!(
            (&ack["success"], ack["error"].is_string()),
            (&json!(false), true),
            "{ack}"
        );
    }
    world.finish().await;
}

#[tokio::test]
async fn arguments_that_are_broken_json_leave_the_content_as_the_prompt() {
    let world = world().await;
    let task = json!({
        "action": "dispatch_task", "requestId": "r", "agentId": "fake", "taskId": "t",
        "content": "@say from the content", "args": "{\"task\":",
    });
    world.plane.send(&task).await;
    assert_eq!(world.plane.end_of("t", "r").await.status, "completed");
    assert_eq!(world.plane.text_of("t"), "from the content");
    world.finish().await;
}

#[tokio::test]
async fn an_unknown_agent_and_a_missing_prompt_have_their_codes() {
    let world = world().await;
    assert_eq!(
        world.plane.run("t1", "r", "nobody", "x").await.status,
        "AGENT_NOT_FOUND"
    );
    assert_eq!(
        world.plane.run("t2", "r", "fake", "").await.status,
        "MISSING_INTENT_PAYLOAD"
    );
    let bare = json!({
        "action": "dispatch_task", "requestId": "r", "agentId": "fake", "taskId": "t3",
    });
    world.plane.send(&bare).await;
    assert_eq!(
        world.plane.end_of("t3", "r").await.status,
        "MISSING_INTENT_PAYLOAD"
    );
    world.finish().await;
}

#[tokio::test]
async fn folders_that_escape_are_refused_and_nothing_is_made_outside() {
    let world = world().await;
    let outside = world.home.path().join("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, world.home.root().join("tasks-link")).unwrap();
    let absolute = outside.join("x").display().to_string();
    for (n, folder) in [
        "..",
        "../outside/x",
        "tasks/../../../outside/x",
        "....//outside",
        "tasks/....//x",
        "..\\outside",
        "tasks-link/x",
        absolute.as_str(),
        "a\u{0}b",
        "journal",
        "bridge.lock/x",
    ]
    .into_iter()
    .enumerate()
    {
        let task = format!("t{n}");
        let mut frame = wire::dispatch(&task, "r", "fake", "@say x");
        frame["args"]["taskFolderName"] = json!(folder);
        world.plane.send(&frame).await;
        let status = world.plane.end_of(&task, "r").await.status;
        assert!(
            status.starts_with("INVALID_PATH: ") || status.starts_with("BRIDGE_INTERNAL_ERROR: "),
            "{folder}: {status}"
        );
        assert_eq!(world.plane.text_of(&task), "", "{folder}");
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    world.finish().await;
}

#[tokio::test]
async fn a_task_whose_attachment_could_not_be_saved_is_refused_with_the_reason() {
    let world = world().await;
    let attachment = json!({
        "action": "write_file", "agentId": "fake", "useCtrlnode": true,
        "path": "tasks/t/input/a\u{0}b.md", "content": "x",
    });
    world.plane.send(&attachment).await;
    world
        .plane
        .send(&wire::dispatch("t", "r1", "fake", "@say x"))
        .await;
    let refused = world.plane.end_of("t", "r1").await.status;
    assert!(
        refused.starts_with("INVALID_PATH: attachments could not be saved"),
        "{refused}"
    );
    assert_eq!(world.plane.text_of("t"), "");
    world
        .plane
        .send(&wire::dispatch("t", "r2", "fake", "@say x"))
        .await;
    assert_eq!(world.plane.end_of("t", "r2").await.status, "completed");
    world.finish().await;
}

#[tokio::test]
async fn repositories_outside_or_protected_are_refused() {
    let world = world().await;
    let outside = world.home.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let work = world.home.workspace();
    symlink(&outside, work.join("link")).unwrap();
    fs::create_dir_all(work.join(".ssh")).unwrap();
    fs::write(work.join("file"), "x").unwrap();
    let absolute = outside.display().to_string();
    let root = world.home.root().display().to_string();
    for (n, path) in [
        "..",
        "../outside",
        "link",
        "....//outside",
        "/",
        "/etc",
        absolute.as_str(),
        ".ssh",
        "missing",
        "file",
        root.as_str(),
        "a\u{0}b",
        "",
    ]
    .into_iter()
    .enumerate()
    {
        let task = format!("t{n}");
        world
            .plane
            .send(&wire::dispatch_in(path, &task, "r", "fake", "@say x"))
            .await;
        let end = world.plane.end_of(&task, "r").await;
        if path.is_empty() {
            // No path at all is output mode.
            assert_eq!(end.status, "completed");
            continue;
        }
        assert!(
            end.status.starts_with("INVALID_PATH: "),
            "{path:?}: {end:?}"
        );
        assert_eq!(world.plane.text_of(&task), "", "{path}");
    }
    world.finish().await;
}

#[tokio::test]
async fn file_requests_that_escape_are_refused() {
    let mut world = world().await;
    let secret = world.home.path().join("secret");
    fs::write(&secret, "hush").unwrap();
    symlink(&secret, world.home.root().join("tasks-secret")).unwrap();
    let absolute = secret.display().to_string();
    for path in [
        "../../secret",
        "....//secret",
        "tasks-secret",
        absolute.as_str(),
        "journal",
    ] {
        let read = json!({
            "action": "read_file", "requestId": "q", "agentId": "fake", "useCtrlnode": true,
            "path": path,
        });
        let answer = world.answered(&read.to_string()).await;
        assert!(answer["error"].is_string(), "{path}: {answer}");
        assert!(!answer.to_string().contains("hush"), "{path}");
        let write = json!({
            "action": "write_file", "agentId": "fake", "useCtrlnode": true, "path": path,
            "content": "overwritten",
        });
        world.plane.send(&write).await;
    }
    world.works().await;
    assert_eq!(fs::read_to_string(&secret).unwrap(), "hush");
    world.finish().await;
}

#[tokio::test]
async fn an_agent_that_is_missing_or_will_not_start_ends_its_run_with_a_reason() {
    let mut world = world_with(|setup| {
        let home = setup.home;
        let script = home.path().join("no-program");
        fs::write(&script, "#!/nowhere/interpreter\n").unwrap();
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&script, executable).unwrap();
        let script = script.display().to_string();
        let plain = home.path().join("plain");
        fs::write(&plain, "#!/bin/sh\n").unwrap();
        let plain = plain.display().to_string();
        let folder = home.path().display().to_string();
        setup.providers.extend([
            bridge::custom(home, "folder", &folder, &[]),
            bridge::custom(home, "plain", &plain, &[]),
            bridge::custom(home, "absent", "no-such-program-anywhere", &[]),
            bridge::custom(home, "broken", &script, &[]),
            bridge::fake(home, "quits", &["acp", "--exit", "9"]),
            bridge::fake(home, "banner", &["acp", "--garbage", "3"]),
            bridge::fake(home, "noisy", &["acp", "--garbage", "1000"]),
        ]);
    })
    .await;
    world
        .plane
        .sync(&[
            "absent", "broken", "folder", "plain", "quits", "banner", "noisy",
        ])
        .await;
    for (agent, status, reason) in [
        (
            "absent",
            "blocked",
            "no-such-program-anywhere was not found",
        ),
        ("broken", "failed", "could not be started"),
        ("folder", "blocked", "was not found"),
        ("plain", "blocked", "was not found"),
        ("quits", "failed", "exit code 9"),
        ("banner", "completed", ""),
        (
            "noisy",
            "failed",
            "does not speak the Agent Client Protocol",
        ),
    ] {
        let task = format!("t-{agent}");
        let end = world.plane.run(&task, "r", agent, "@say x").await;
        assert_eq!(end.status, status, "{agent}: {end:?}");
        assert!(end.reason.contains(reason), "{agent}: {end:?}");
        world.works().await;
    }
    world.finish().await;
}

#[tokio::test]
async fn an_agent_that_crashes_ends_its_run_and_the_next_run_gets_a_new_one() {
    let world = world().await;
    let end = world
        .plane
        .run("t", "r1", "fake", "@say some\n@exit 139")
        .await;
    assert_eq!(end.status, "failed");
    assert!(end.reason.contains("exit code 139"), "{end:?}");
    assert_eq!(world.plane.text_of("t"), "some", "what it said is not lost");
    assert_eq!(
        world.plane.run("t", "r2", "fake", "@say more").await.status,
        "completed"
    );
    let end = world
        .plane
        .run("t", "r3", "fake", "@say last\n@exit-after 4")
        .await;
    assert_eq!(end.status, "completed", "what was done was done: {end:?}");
    world.finish().await;
}

#[tokio::test]
async fn a_line_of_100_megabytes_is_skipped() {
    let world = world().await;
    let prompt = format!("@say before \n@bigline {}\n@say after", 100 << 20);
    let end = world.plane.run("t", "r", "fake", &prompt).await;
    assert_eq!(end.status, "completed", "{end:?}");
    let text = world.plane.text_of("t");
    assert!(
        text.starts_with("before") && text.ends_with("after"),
        "{text}"
    );
    world.finish().await;
}

#[tokio::test]
async fn bytes_that_are_no_text_and_a_flood_of_complaints_do_no_harm() {
    let world = world().await;
    let end = world
        .plane
        .run("t", "r", "fake", "@garbage\n@stderr 20000000\n@say after")
        .await;
    assert_eq!(end.status, "completed", "{end:?}");
    assert_eq!(world.plane.text_of("t"), "after");
    world.finish().await;
}

#[tokio::test]
async fn an_agent_that_reads_nothing_any_more_can_be_cancelled() {
    let world = world().await;
    world
        .plane
        .send(&wire::dispatch("t", "r", "fake", "@say on my way\n@deaf"))
        .await;
    world.plane.says("t", "on my way").await;
    world.plane.send(&wire::cancel("t", "fake")).await;
    assert_eq!(
        world.plane.end_of("t", "r").await.reason,
        "Task was cancelled"
    );
    world.home.none_left_of("t", "r").await;
    world.finish().await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_costs_the_log_and_not_the_run() {
    let (home, plane) = (Home::new(), FakePlane::start(Manners::extended()).await);
    fs::create_dir_all(home.root().join("tasks/t")).unwrap();
    let script = "mount -t tmpfs -o size=64k none \"$0\" || exit 77; exec \"$@\"";
    let Some(mut bridge) = in_namespace(&home, &plane, script, &home.root().join("tasks/t")).await
    else {
        return;
    };
    plane.sync(&["demo"]).await;
    let end = plane
        .run("t", "r", "demo", "#demo long 20000\n#demo nofile")
        .await;
    assert_eq!(end.status, "completed", "{end:?}");
    assert_eq!(plane.text_of("t").split_whitespace().count(), 20_000);
    bridge
        .line(|line| line.contains("the task log cannot be written; the run goes on"))
        .await;
    assert_eq!(
        plane.run("u", "r", "demo", "#demo fast").await.status,
        "completed"
    );
    assert_eq!(bridge.terminate().await, Some(0));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_under_the_journal_starts_nothing_and_says_why() {
    let (home, plane) = (Home::new(), FakePlane::start(Manners::extended()).await);
    fs::create_dir_all(home.root().join("journal")).unwrap();
    let script = "mount -t tmpfs -o size=8k none \"$0\" || exit 77; exec \"$@\"";
    let Some(mut bridge) = in_namespace(&home, &plane, script, &home.root().join("journal")).await
    else {
        return;
    };
    plane.sync(&["demo"]).await;
    let mut full = None;
    for n in 0..200 {
        let end = plane
            .run(&format!("t{n}"), "r", "demo", "#demo fast\n#demo nofile")
            .await;
        if end.status == "failed" {
            full = Some(end.reason);
            break;
        }
    }
    let reason = full.expect("8 KiB hold only so many runs");
    assert!(reason.contains("journal cannot be written"), "{reason}");
    assert_eq!(bridge.terminate().await, Some(0));
}

/// Starts the bridge with a small disk at `at`, in namespaces of its own; `None` where the system
/// does not allow that.
#[cfg(target_os = "linux")]
#[expect(clippy::print_stdout, reason = "a skipped test says so")]
async fn in_namespace(
    home: &Home,
    plane: &FakePlane,
    script: &str,
    at: &std::path::Path,
) -> Option<Running> {
    let bridge = home.ctrlnode(&["bridge", "start"]);
    let program = bridge.as_std().get_program().to_owned();
    let mut command = tokio::process::Command::from(bridge_testkit::program::command("unshare"));
    command
        .args(["-rm", "sh", "-c", script])
        .arg(at)
        .arg(program)
        .args(["bridge", "start"]);
    command
        .env_clear()
        .envs(home.variables())
        .envs([("PAIRING_TOKEN", "test-token"), ("SAAS_URL", &plane.url())]);
    command
        .env("BASE_PATH", home.workspace())
        .kill_on_drop(true);
    command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let mut bridge = Running::start(command);
    let opened = tokio::select! {
        _ = plane.opened(1) => true,
        code = bridge.ended() => {
            assert!(matches!(code, Some(1 | 77)), "{}", bridge.told());
            false
        }
    };
    if !opened {
        println!("skipped: no namespace with a tmpfs: {}", bridge.told());
    }
    opened.then_some(bridge)
}
