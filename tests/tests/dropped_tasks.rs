//! Tasks that somebody on the machine drops into a folder: done once, answered there, and no
//! control plane is needed for it.

#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set its scene has failed"
)]

use std::{fs, path::PathBuf, time::Duration};

use bridge_testkit::{
    fake_plane::{FakePlane, Manners},
    home::{Home, Running},
    wire,
};
use serde_json::{Value, json};

/// Where nobody listens.
const NOBODY: &str = "ws://127.0.0.1:9/ws/bridge";

fn start(home: &Home, url: &str, more: &[(&str, &str)]) -> Running {
    let mut command = home.ctrlnode(&["bridge", "start", "--watch-tasks", "--log", "debug"]);
    command
        .env("PAIRING_TOKEN", "test-token")
        .env("SAAS_URL", url)
        .env("CTRLNODE_SIDE_CHANNEL", "off")
        .env("BASE_PATH", home.workspace())
        .env("RECONNECT_MS", "100")
        .envs(more.iter().copied());
    Running::start(command)
}

/// A dropped folder.
struct Folder(PathBuf);

impl Folder {
    /// Made elsewhere and moved into place in one step.
    fn drop(home: &Home, name: &str, task: &str) -> Self {
        let made = home.path().join(format!("made-{name}"));
        fs::create_dir_all(made.join("input")).unwrap();
        fs::write(made.join("input/TASK.md"), task).unwrap();
        let folder = Self::named(home, name);
        fs::create_dir_all(folder.0.parent().unwrap()).unwrap();
        fs::rename(made, &folder.0).unwrap();
        folder
    }

    fn named(home: &Home, name: &str) -> Self {
        Self(home.root().join("tasks").join(name))
    }

    /// Gives it another name while it is looked after.
    fn moved(&self, home: &Home, name: &str) -> Self {
        let to = Self::named(home, name);
        fs::create_dir_all(to.0.parent().unwrap()).unwrap();
        fs::rename(&self.0, &to.0).unwrap();
        to
    }

    fn rewrite(&self, task: &str) {
        fs::write(self.0.join("input/TASK.md"), task).unwrap();
    }

    fn output(&self, name: &str) -> String {
        fs::read_to_string(self.0.join("output").join(name)).unwrap_or_default()
    }

    /// The value of a line that is told.
    fn line(&self, name: &str) -> String {
        self.line_of("output/TASK.md", name)
    }

    fn line_of(&self, file: &str, name: &str) -> String {
        let told = fs::read_to_string(self.0.join(file)).unwrap_or_default();
        let value = told
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name}: ")));
        value.unwrap_or_default().to_owned()
    }

    /// Waits until this is told. A file makes no event here, so it is looked for.
    async fn until(&self, status: &str) {
        self.until_in("output/TASK.md", status).await;
    }

    async fn until_in(&self, file: &str, status: &str) {
        for _ in 0..1200 {
            if self.line_of(file, "status") == status {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let told = fs::read_to_string(self.0.join(file)).unwrap_or_default();
        panic!("{}: not {status}:\n{told}", self.0.display());
    }

    /// The folder's log has so many runs, the first and its follow-ups.
    fn runs(&self) -> usize {
        let Ok(entries) = fs::read_dir(self.0.join("output")) else {
            return 0;
        };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("agent_log")).count()
    }
}

fn demo(task: &str) -> String {
    format!("---\nagent: demo\n---\n{task}\n")
}

#[tokio::test]
async fn a_dropped_task_is_done_and_answered_with_no_control_plane_in_reach() {
    let home = Home::new();
    // One lies there before the bridge is started, one comes later, one is written piece by piece.
    let early = Folder::drop(&home, "early", &demo("#demo fast"));
    let mut bridge = start(&home, NOBODY, &[]);
    early.until("completed").await;
    assert!(!early.output("early-output.md").trim().is_empty());
    assert!(!early.output("agent_log.md").is_empty());
    assert_eq!(early.line("agent"), "demo");
    assert_eq!(early.line("reason"), "");

    let late = Folder::drop(&home, "web/03-14/1a2b3c4d-late", &demo("#demo fast"));
    late.until("completed").await;
    assert!(!late.output("1a2b3c4d-late-output.md").trim().is_empty());

    let slow = Folder::named(&home, "slow");
    fs::create_dir_all(slow.0.join("input")).unwrap();
    for text in ["", "---\nagent: demo\n", &demo("#demo fast")] {
        slow.rewrite(text);
    }
    slow.until("completed").await;
    assert_eq!((early.runs(), late.runs(), slow.runs()), (1, 1, 1));
    assert_eq!(bridge.terminate().await, Some(0), "{}", bridge.told());
}

#[tokio::test]
async fn without_the_setting_nothing_is_done() {
    let (home, plane) = (Home::new(), FakePlane::start(Manners::extended()).await);
    let folder = Folder::drop(&home, "a", &demo("#demo fast"));
    let mut bridge = home.bridge(&plane.url());
    plane.sync(&["demo"]).await;
    plane.run("other", "r1", "demo", "#demo fast").await;
    assert_eq!(bridge.terminate().await, Some(0));
    assert_eq!(folder.line("status"), "");
    assert!(!folder.0.join("output").exists());
}

#[tokio::test]
async fn a_task_in_the_middle_of_which_the_bridge_was_killed_is_told_as_failed_and_not_begun_again()
{
    let home = Home::new();
    let mut bridge = start(&home, NOBODY, &[]);
    let folder = Folder::drop(&home, "a", &demo("#demo shell 600"));
    let done = Folder::drop(&home, "done", &demo("#demo fast"));
    folder.until("working").await;
    done.until("completed").await;
    let task = folder.line("task");
    let sleeping = || {
        let all = home.processes().into_iter();
        all.filter(|pid| {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            command.starts_with(b"sleep\x00600")
        })
        .count()
    };
    for _ in 0..1200 {
        if sleeping() > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(sleeping(), 1);
    bridge.kill().await;

    let mut bridge = start(&home, NOBODY, &[]);
    folder.until("failed").await;
    let reason = folder.line("reason");
    assert!(reason.contains("bridge was stopped"), "{reason}");
    assert_eq!(sleeping(), 0);
    // Whatever would have been begun again was begun before this one.
    Folder::drop(&home, "later", &demo("#demo fast"))
        .until("completed")
        .await;
    assert_eq!(folder.line("status"), "failed");
    assert_eq!((folder.runs(), done.runs()), (1, 1));
    // Written anew it goes on, as a follow-up of the same task.
    folder.rewrite(&demo("#demo fast"));
    folder.until("completed").await;
    assert_eq!(folder.line("task"), task);
    assert!(!folder.output("a-followup-1-output.md").is_empty());
    assert_eq!(bridge.terminate().await, Some(0), "{}", bridge.told());
}

#[tokio::test]
async fn what_changes_while_a_task_is_at_work_begins_nothing() {
    let home = Home::new();
    let mut bridge = start(&home, NOBODY, &[]);
    let folder = Folder::drop(&home, "a", &demo("#demo slow 3"));
    folder.until("working").await;
    folder.rewrite(&demo("- [x] what an agent ticks off in its own task"));
    folder.until("completed").await;
    Folder::drop(&home, "later", &demo("#demo fast"))
        .until("completed")
        .await;
    assert_eq!(
        (folder.line("status").as_str(), folder.runs()),
        ("completed", 1)
    );
    // Whoever takes the answer away wants it done anew.
    folder.rewrite(&demo("#demo fast"));
    fs::remove_dir_all(folder.0.join("output")).unwrap();
    folder.until("completed").await;
    assert!(!folder.output("a-output.md").is_empty());
    assert_eq!(bridge.terminate().await, Some(0), "{}", bridge.told());
}

#[tokio::test]
async fn a_folder_of_the_control_plane_is_no_dropped_task() {
    let (home, plane) = (Home::new(), FakePlane::start(Manners::plain()).await);
    let mut bridge = start(&home, &plane.url(), &[]);
    plane.sync(&["demo"]).await;
    let write = |folder: &str| {
        json!({
            "action": "write_file", "agentId": "demo", "provider": "demo", "useCtrlnode": true,
            "path": format!("tasks/{folder}/input/TASK.md"), "content": demo("#demo fast"),
        })
    };
    plane.send(&write("only-written")).await;
    plane.send(&write("planes")).await;
    plane.run("planes", "r1", "demo", "#demo fast").await;
    // One that it writes gets another name.
    plane.send(&write("web/first")).await;
    plane
        .send(&json!({
            "action": "rename_folder", "requestId": "m", "agentId": "demo", "provider": "demo",
            "useCtrlnode": true, "path": "tasks/web/first", "newPath": "tasks/web/moved",
        }))
        .await;
    let ack = plane
        .heard(|frame| frame["action"] == "rename_folder_ack")
        .await;
    assert_eq!(ack["success"], true, "{ack}");
    let dropped = Folder::drop(&home, "dropped", &demo("#demo fast"));
    dropped.until("completed").await;
    for name in ["planes", "only-written", "web/moved"] {
        assert_eq!(Folder::named(&home, name).line("status"), "", "{name}");
    }
    assert_eq!(
        plane.ends_of("planes").len(),
        2,
        "its own run alone: {}",
        plane.told()
    );
    // The events of a dropped task go out as those of any task.
    let task = dropped.line("task");
    let end = plane
        .heard(|frame| frame["action"] == "task_complete" && frame["taskId"] == task.as_str())
        .await;
    assert_eq!(end["status"], "completed");
    assert_eq!(bridge.terminate().await, Some(0), "{}", bridge.told());
}

#[tokio::test]
async fn several_at_once_keep_to_the_limit() {
    let home = Home::new();
    let mut bridge = start(&home, NOBODY, &[("CTRLNODE_PARALLEL", "2")]);
    let folders: Vec<Folder> = (0..6)
        .map(|n| Folder::drop(&home, &format!("t{n}"), &demo("#demo slow 2")))
        .collect();
    let working = || {
        folders
            .iter()
            .filter(|it| it.line("status") == "working")
            .count()
    };
    let mut most = 0;
    for _ in 0..1200 {
        most = most.max(working());
        if folders.iter().all(|it| it.line("status") == "completed") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for folder in &folders {
        folder.until("completed").await;
    }
    assert!((1..=2).contains(&most), "{most} at once");
    assert_eq!(bridge.terminate().await, Some(0), "{}", bridge.told());
}

#[tokio::test]
async fn what_cannot_be_done_is_answered_with_the_reason() {
    let (home, plane) = (Home::new(), FakePlane::start(Manners::plain()).await);
    let mut bridge = start(&home, &plane.url(), &[]);
    plane.opened(1).await;
    let nobody = Folder::drop(&home, "nobody", "Do it.");
    let stranger = Folder::drop(&home, "stranger", "---\nagent: writer\n---\nDo it.");
    let outside = Folder::drop(
        &home,
        "outside",
        "---\nagent: demo\nrepository: /etc\n---\nDo it.",
    );
    let link = Folder::named(&home, "link");
    let secret = home.path().join("secret");
    fs::write(&secret, demo("#demo fast")).unwrap();
    fs::create_dir_all(link.0.join("input")).unwrap();
    std::os::unix::fs::symlink(&secret, link.0.join("input/TASK.md")).unwrap();

    for (folder, status, reason) in [
        (&nobody, "refused", "names no agent"),
        (&stranger, "blocked", "no agent is called writer here, only"),
        (&outside, "blocked", "not allowed"),
        (&link, "refused", "input/TASK.md is a symbolic link"),
    ] {
        folder.until(status).await;
        let told = folder.line("reason");
        assert!(told.contains(reason), "{told}");
    }
    assert!(stranger.line("reason").contains("demo"));
    // The plane asked for none of them.
    let heard = plane
        .frames()
        .iter()
        .any(|it| it["action"] == "intent_result");
    assert!(!heard, "{}", plane.told());
    // Mended they are done.
    nobody.rewrite(&demo("#demo fast"));
    outside.rewrite(&demo("#demo fast"));
    fs::remove_file(link.0.join("input/TASK.md")).unwrap();
    link.rewrite(&demo("#demo fast"));
    for folder in [&nobody, &outside, &link] {
        folder.until("completed").await;
    }
    assert_eq!(bridge.terminate().await, Some(0), "{}", bridge.told());
}

#[tokio::test]
async fn a_task_whose_output_is_a_link_is_told_so_beside_it_and_done_when_that_is_mended() {
    let home = Home::new();
    let mut bridge = start(&home, NOBODY, &[]);
    let outside = home.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let made = home.path().join("made-a");
    fs::create_dir(&made).unwrap();
    std::os::unix::fs::symlink(&outside, made.join("output")).unwrap();
    let folder = Folder::drop(&home, "a", &demo("#demo fast"));
    folder.until_in("STATUS.md", "refused").await;
    let reason = folder.line_of("STATUS.md", "reason");
    assert_eq!(reason, "output is a symbolic link");
    fs::remove_file(folder.0.join("output")).unwrap();
    folder.until("completed").await;
    assert!(!folder.0.join("STATUS.md").exists());

    // Its agent may put one there as well: how it ended is told all the same.
    let swapped = Folder::drop(&home, "b", &demo("#demo slow 3"));
    swapped.until("working").await;
    fs::rename(swapped.0.join("output"), home.path().join("taken")).unwrap();
    std::os::unix::fs::symlink(&outside, swapped.0.join("output")).unwrap();
    swapped.until_in("STATUS.md", "completed").await;
    Folder::drop(&home, "later", &demo("#demo fast"))
        .until("completed")
        .await;
    assert_eq!(swapped.line_of("STATUS.md", "status"), "completed");
    // What went there went by the agent.
    for ours in ["TASK.md", "agent_log.md", "b-output.md"] {
        assert!(!outside.join(ours).exists(), "{ours}");
    }
    assert_eq!(bridge.terminate().await, Some(0), "{}", bridge.told());
}

#[tokio::test]
async fn a_task_whose_folder_is_moved_while_it_is_at_work_ends_where_the_folder_is() {
    let home = Home::new();
    let mut bridge = start(&home, NOBODY, &[("CTRLNODE_PARALLEL", "1")]);
    let at_work = Folder::drop(&home, "a", &demo("#demo shell 600"));
    at_work.until("working").await;
    let task = at_work.line("task");
    let waiting = Folder::drop(&home, "b", &demo("#demo fast"));
    waiting.until("waiting").await;
    let moved = at_work.moved(&home, "web/a");
    let second = waiting.moved(&home, "web/b");
    // Its name is free for another one, which is begun when this one has ended.
    let other = Folder::drop(&home, "a", &demo("#demo fast"));
    // What is wanted of it is looked for where it is.
    fs::write(moved.0.join("input/CANCEL"), "").unwrap();
    moved.until("cancelled").await;
    assert_eq!(moved.line("task"), task);
    // The place that an agent was to work in is gone.
    second.until("failed").await;
    other.until("completed").await;
    let reason = second.line("reason");
    assert!(reason.ends_with("/tasks/b does not exist"), "{reason}");
    assert_eq!((moved.runs(), second.runs(), other.runs()), (1, 0, 1));
    assert!(!waiting.0.exists(), "made again");
    assert_eq!(bridge.terminate().await, Some(0), "{}", bridge.told());
}

#[tokio::test]
async fn a_task_whose_folder_was_moved_before_the_bridge_was_killed_is_told_as_failed() {
    let home = Home::new();
    let mut bridge = start(&home, NOBODY, &[("CTRLNODE_PARALLEL", "1")]);
    let at_work = Folder::drop(&home, "a", &demo("#demo slow 600"));
    at_work.until("working").await;
    let waiting = Folder::drop(&home, "b", &demo("#demo fast"));
    waiting.until("waiting").await;
    let moved = [
        at_work.moved(&home, "moved-a"),
        waiting.moved(&home, "moved-b"),
    ];
    bridge.kill().await;
    // Another one has the name of the first before the next start.
    let other = Folder::drop(&home, "a", &demo("#demo fast"));
    let mut bridge = start(&home, NOBODY, &[]);
    for folder in &moved {
        folder.until("failed").await;
        let reason = folder.line("reason");
        assert!(reason.contains("bridge was stopped"), "{reason}");
    }
    Folder::drop(&home, "later", &demo("#demo fast"))
        .until("completed")
        .await;
    other.until("completed").await;
    assert!(moved.iter().all(|it| it.line("status") == "failed"));
    assert!(!waiting.0.exists(), "made again");
    assert_eq!(bridge.terminate().await, Some(0), "{}", bridge.told());
}

#[tokio::test]
async fn a_task_that_names_nobody_is_done_by_whom_the_setting_names() {
    let home = Home::new();
    let mut bridge = start(&home, NOBODY, &[("CTRLNODE_WATCH_AGENT", "demo")]);
    let folder = Folder::drop(&home, "a", "#demo fast\n");
    folder.until("completed").await;
    assert_eq!(folder.line("agent"), "demo");
    assert_eq!(bridge.terminate().await, Some(0), "{}", bridge.told());
}

#[tokio::test]
async fn a_file_in_the_folder_cancels_its_task() {
    let home = Home::new();
    let mut bridge = start(&home, NOBODY, &[]);
    let folder = Folder::drop(&home, "a", &demo("#demo slow 600"));
    folder.until("working").await;
    fs::write(folder.0.join("input/CANCEL"), "").unwrap();
    folder.until("cancelled").await;
    assert_eq!(bridge.terminate().await, Some(0), "{}", bridge.told());
    assert_eq!(home.processes(), Vec::<u32>::new());
}

#[tokio::test]
async fn a_stop_tells_the_folder_and_the_next_start_does_not_begin_it_again() {
    let home = Home::new();
    let mut bridge = start(&home, NOBODY, &[]);
    let folder = Folder::drop(&home, "a", &demo("#demo slow 600"));
    folder.until("working").await;
    assert_eq!(bridge.terminate().await, Some(0), "{}", bridge.told());
    assert_eq!(folder.line("status"), "cancelled");
    let mut bridge = start(&home, NOBODY, &[]);
    Folder::drop(&home, "later", &demo("#demo fast"))
        .until("completed")
        .await;
    assert_eq!(folder.line("status"), "cancelled");
    assert_eq!(bridge.terminate().await, Some(0), "{}", bridge.told());
}

#[tokio::test]
async fn nobody_is_asked_on_a_hub_that_does_not_know_the_task() {
    let (home, plane) = (Home::new(), FakePlane::start(Manners::extended()).await);
    let mut bridge = start(&home, &plane.url(), &[]);
    plane.sync(&["demo"]).await;
    let folder = Folder::drop(&home, "a", &demo("#demo ask"));
    folder.until("completed").await;
    let frames = plane.frames();
    let kinds = frames
        .iter()
        .map(|frame| &frame["event"]["body"]["event"]["kind"]);
    let kinds: Vec<&Value> = kinds.filter(|kind| !kind.is_null()).collect();
    assert!(
        kinds.contains(&&json!("ask_closed")),
        "by a rule of this machine: {kinds:?}"
    );
    assert!(!kinds.contains(&&json!("ask")), "{kinds:?}");
    assert_eq!(bridge.terminate().await, Some(0), "{}", bridge.told());
}

#[tokio::test]
async fn a_cancel_of_the_plane_ends_a_dropped_task_as_well() {
    let (home, plane) = (Home::new(), FakePlane::start(Manners::plain()).await);
    let mut bridge = start(&home, &plane.url(), &[]);
    plane.opened(1).await;
    let folder = Folder::drop(&home, "a", &demo("#demo slow 600"));
    folder.until("working").await;
    plane
        .send(&wire::cancel(&folder.line("task"), "demo"))
        .await;
    folder.until("cancelled").await;
    assert_eq!(bridge.terminate().await, Some(0), "{}", bridge.told());
}
