//! What a control plane may ask of a bridge and what comes back, on the plain wire and on our own
//! hub's: one bridge with real agents in this process, one fake plane.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use std::{collections::BTreeSet, fs, path::Path};

use bridge_testkit::{
    bridge::{Bridge, Setup},
    fake_plane::{FakePlane, Manners},
    home::Home,
    wire,
};
use serde_json::{Value, json};

struct World {
    home: Home,
    plane: FakePlane,
    bridge: Bridge,
    extended: bool,
}

async fn world(extended: bool) -> World {
    let manners = Manners::Accept {
        extended,
        token: None,
    };
    let (home, plane) = (Home::new(), FakePlane::start(manners).await);
    let bridge = Setup::new(&home, plane.url()).start();
    plane.sync(&["demo", "fake"]).await;
    World {
        home,
        plane,
        bridge,
        extended,
    }
}

impl World {
    async fn finish(self) {
        assert!(self.bridge.stop().await.clean, "{}", self.plane.told());
        self.home.none_left().await;
    }

    /// The names of the terminal frames of a task, in order.
    fn ends(&self, task: &str) -> Vec<String> {
        let words = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let ends = self.plane.ends_of(task);
        ends.iter().map(|frame| words(&frame["action"])).collect()
    }

    /// What one ended run looks like on this wire.
    fn one_end(&self) -> Vec<&'static str> {
        if self.extended {
            vec!["bridge_event"]
        } else {
            vec!["task_complete", "intent_result"]
        }
    }

    fn cancelled(&self) -> &'static str {
        if self.extended { "cancelled" } else { "failed" }
    }

    /// Waits until the run is at work.
    async fn started(&self, task: &str) {
        self.plane.says(task, "Step 1").await;
    }
}

/// Every file and folder below, relative.
fn tree(folder: &Path) -> BTreeSet<String> {
    fn walk(at: &Path, top: &Path, all: &mut BTreeSet<String>) {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            all.insert(path.strip_prefix(top).unwrap().display().to_string());
            if path.is_dir() && !path.is_symlink() {
                walk(&path, top, all);
            }
        }
    }
    let mut all = BTreeSet::new();
    walk(folder, folder, &mut all);
    all
}

/// Runs a promise on both wires.
macro_rules! on_both_wires {
    ($promise:ident, |$world:ident| $body:expr) => {
        mod $promise {
            use super::*;

            async fn check(extended: bool) {
                let $world = world(extended).await;
                $body;
                $world.finish().await;
            }

            #[tokio::test]
            async fn plain() {
                check(false).await;
            }

            #[tokio::test]
            async fn extended() {
                check(true).await;
            }
        }
    };
}

on_both_wires!(output_mode_leaves_a_file_a_log_and_one_end, |world| {
    let folder = "tasks/web/03-14/1a2b-intro";
    let mut task = wire::dispatch("1a2b", "r1", "demo", "#demo fast\nsay it");
    task["args"]["taskFolderName"] = json!(folder);
    world.plane.send(&task).await;
    let end = world.plane.end_of("1a2b", "r1").await;
    assert_eq!(
        (end.status.as_str(), end.reason.as_str()),
        ("completed", "")
    );
    assert_eq!(world.ends("1a2b"), world.one_end());

    let folder = world.home.root().join(folder);
    let answer = fs::read_to_string(folder.join("output/answer.md")).unwrap();
    assert_eq!(
        answer,
        world.plane.text_of("1a2b"),
        "the streamed text is the file"
    );
    assert!(answer.contains("> say it"), "{answer}");
    let log = fs::read_to_string(folder.join("output/agent_log.md")).unwrap();
    assert!(log.contains("TEXT") && log.contains("say it"), "{log}");
    assert!(log.trim_end().ends_with("completed"), "{log}");
    assert!(folder.join("output/1a2b-intro-output.md").is_file());

    // The end is the last that is said of the run.
    let frames = world.plane.frames();
    let about =
        |frame: &Value| frame["taskId"] == "1a2b" || frame["event"]["run"]["task"] == "1a2b";
    let last = frames.iter().rev().find(|frame| about(frame)).unwrap();
    assert_eq!(last["action"], world.one_end()[0]);
});

on_both_wires!(
    work_directory_mode_edits_the_repository_and_leaves_nothing_of_ours,
    |world| {
        let repo = world.home.repository("web");
        let mut expected = tree(&repo);
        let path = repo.display().to_string();
        let mut task = wire::dispatch_in(&path, "t", "r1", "demo", "#demo fast");
        task["args"]["taskLogRelativePath"] = json!("tasks/t/output/t-output.md");
        world.plane.send(&task).await;
        assert_eq!(world.plane.end_of("t", "r1").await.status, "completed");
        expected.insert("answer.md".into());
        assert_eq!(tree(&repo), expected);
        assert_eq!(fs::read_to_string(repo.join("main.txt")).unwrap(), "one\n");
        let log = world.home.root().join("tasks/t/output/agent_log.md");
        assert!(log.is_file(), "the log is in the task folder");
    }
);

on_both_wires!(
    a_follow_up_goes_to_the_same_process_and_remembers,
    |world| {
        let end = world
            .plane
            .run("t", "r1", "demo", "#demo fast\nthe blue whale")
            .await;
        assert_eq!(end.status, "completed");
        let process = world.home.of_run("t", "r1");
        assert!(!process.is_empty(), "the agent waits for a follow-up");
        world
            .plane
            .send(&wire::follow_up("t", "r2", "demo", "#demo remember"))
            .await;
        let end = world.plane.end_of("t", "r2").await;
        assert_eq!(end.status, "completed", "{end:?}");
        let text = world.plane.text_of("t");
        assert!(
            text.contains("Before this you wrote") && text.contains("the blue whale"),
            "{text}"
        );
        assert_eq!(world.home.of_run("t", "r1"), process, "the same process");
        let log = world
            .home
            .root()
            .join("tasks/t/output/agent_log.followup-1.md");
        assert!(log.is_file(), "a log of its own");
    }
);

on_both_wires!(
    a_run_that_is_sent_again_is_started_once_and_answered_again,
    |world| {
        let task = wire::dispatch("t", "r1", "demo", "#demo fast\n#demo slow 1");
        world.plane.send(&task).await;
        world.plane.send(&task).await;
        assert_eq!(world.plane.end_of("t", "r1").await.status, "completed");
        let text = world.plane.text_of("t");
        assert_eq!(text.matches("Step 1 of").count(), 1, "{text}");
        let once = world.ends("t");
        assert_eq!(once, world.one_end());
        world.plane.send(&task).await;
        world
            .plane
            .see(|_| world.ends("t").len() == 2 * once.len())
            .await;
        assert_eq!(world.plane.text_of("t"), text, "nothing ran");
    }
);

on_both_wires!(
    a_new_request_for_an_ended_task_is_a_retry_and_runs,
    |world| {
        for request in ["r1", "r2"] {
            let end = world.plane.run("t", request, "fake", "@say again").await;
            assert_eq!(end.status, "completed");
        }
        assert_eq!(world.plane.text_of("t"), "againagain");
    }
);

on_both_wires!(
    beyond_four_tasks_wait_in_order_and_can_be_cancelled_there,
    |world| {
        let tasks = ["a", "b", "c", "d"];
        for task in tasks {
            world
                .plane
                .send(&wire::dispatch(task, "r", "demo", "#demo slow 600"))
                .await;
        }
        for task in tasks {
            world.started(task).await;
        }
        for task in ["e", "f", "g"] {
            world
                .plane
                .send(&wire::dispatch(task, "r", "demo", "#demo fast"))
                .await;
        }
        if world.extended {
            for (task, ahead) in [("e", 4), ("f", 5), ("g", 6)] {
                let queued = world.plane.heard(|frame| {
                    frame["event"]["run"]["task"] == task
                        && frame["event"]["body"]["type"] == "queued"
                });
                assert_eq!(queued.await["event"]["body"]["ahead"], ahead);
            }
        }
        world.plane.send(&wire::cancel("f", "demo")).await;
        let cancelled = world.plane.end_of("f", "r").await;
        assert_eq!(cancelled.status, world.cancelled(), "{cancelled:?}");
        assert!(world.home.of_run("e", "r").is_empty(), "it waits");
        world.plane.send(&wire::cancel("b", "demo")).await;
        assert_eq!(world.plane.end_of("b", "r").await.status, world.cancelled());
        let first = world.plane.end_of("e", "r").await;
        let second = world.plane.end_of("g", "r").await;
        assert_eq!(
            (first.status.as_str(), second.status.as_str()),
            ("completed", "completed")
        );
        assert!(first.at < second.at, "first in, first out");
        assert_eq!(
            world.plane.text_of("f"),
            "",
            "what was cancelled in the queue never ran"
        );
    }
);

on_both_wires!(
    a_repository_has_one_writer_and_others_do_not_wait_for_it,
    |world| {
        let shared = world.home.repository("shared").display().to_string();
        let other = world.home.repository("other").display().to_string();
        let slow = "#demo slow 600";
        world
            .plane
            .send(&wire::dispatch_in(&shared, "a", "r", "demo", slow))
            .await;
        world.started("a").await;
        world
            .plane
            .send(&wire::dispatch_in(&shared, "b", "r", "demo", "#demo fast"))
            .await;
        world
            .plane
            .send(&wire::dispatch_in(&other, "c", "r", "demo", "#demo fast"))
            .await;
        assert_eq!(world.plane.end_of("c", "r").await.status, "completed");
        assert_eq!(world.plane.text_of("b"), "", "the repository is busy");
        world.plane.send(&wire::cancel("a", "demo")).await;
        assert_eq!(world.plane.end_of("b", "r").await.status, "completed");
    }
);

on_both_wires!(agents_are_told_then_acknowledged, |world| {
    let before = world.plane.seen();
    let agents = json!([{
        "id": " Writer", "name": "Writer", "role": "Editor", "model": "fake", "workspace": "",
        "description": "Be brief.",
    }]);
    let sync = json!({
        "action": "sync_fake_agents", "requestId": "s1", "agents": agents.to_string(),
    });
    world.plane.send(&sync).await;
    let root = world.home.root().display().to_string();
    let agent = |id: &str, name: &str, role: &str, provider: &str, description: &str| {
        json!({
            "id": id, "workspace": root, "name": name, "model": provider, "role": role, "emoji": "",
            "description": description, "provider": provider, "exists": true, "hostname": "box",
        })
    };
    let agents = json!([
        agent("demo", "demo", "", "demo", ""),
        agent("writer", "Writer", "Editor", "fake", "Be brief."),
    ]);
    let is_update = |frame: &Value| frame["action"] == "agent_update" && frame["agents"] == agents;
    let (told, _) = world.plane.heard_after(before, is_update).await;
    let ack = json!({
        "action": "sync_fake_agents_ack", "requestId": "s1", "success": true, "error": null,
    });
    let (acknowledged, _) = world.plane.heard_after(before, |frame| *frame == ack).await;
    assert!(
        told < acknowledged,
        "the list comes before the ack:\n{}",
        world.plane.told()
    );
    let (_, whole) = world
        .plane
        .heard_after(before, |frame| {
            is_update(frame) && frame["version"] == "v0.0.0-test"
        })
        .await;
    let keys: Vec<&String> = whole.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["action", "version", "agents"]);
    let beat = world.plane.heard_after(before, |frame| {
        frame["action"] == "heartbeat" && frame["agents"] == json!(["demo", "writer"])
    });
    let (_, beat) = beat.await;
    assert_eq!(beat["status"], "idle");
    // The former list is gone: its agent is unknown now.
    let end = world.plane.run("t", "r", "fake", "hello").await;
    assert_eq!(end.status, "AGENT_NOT_FOUND");
});

on_both_wires!(
    what_cannot_run_is_rejected_without_an_end_of_a_run,
    |world| {
        let unknown = world.plane.run("t1", "r", "nobody", "hello").await;
        assert_eq!(unknown.status, "AGENT_NOT_FOUND");
        let empty = world.plane.run("t2", "r", "demo", "  ").await;
        assert_eq!(empty.status, "MISSING_INTENT_PAYLOAD");
        world.plane.sync(&["gemini"]).await;
        let inactive = world.plane.run("t3", "r", "gemini", "hello").await;
        assert!(
            inactive.status.starts_with("PROVIDER_NOT_ACTIVE"),
            "{inactive:?}"
        );
        for task in ["t1", "t2", "t3"] {
            let ends = world.plane.ends_of(task);
            assert_eq!(ends.len(), 1, "{ends:?}");
            assert_ne!(ends[0]["action"], "task_complete");
        }
    }
);

on_both_wires!(a_cancel_at_work_ends_the_run_and_its_processes, |world| {
    world
        .plane
        .send(&wire::dispatch("t", "r", "demo", "#demo shell 600"))
        .await;
    world
        .plane
        .heard(|frame| frame.to_string().contains("sleep 600"))
        .await;
    world.plane.send(&wire::cancel("t", "demo")).await;
    let end = world.plane.end_of("t", "r").await;
    assert_eq!(end.status, world.cancelled());
    if !world.extended {
        assert_eq!(end.reason, "Task was cancelled");
    }
    // A cancel of something that is over, or never was, changes nothing.
    world.plane.send(&wire::cancel("t", "demo")).await;
    world.plane.send(&wire::cancel("never", "demo")).await;
    let end = world.plane.run("u", "r", "demo", "#demo fast").await;
    assert_eq!(end.status, "completed");
    assert_eq!(world.ends("t"), world.one_end());
});

#[tokio::test]
async fn a_question_is_answered_on_the_hub_by_its_option() {
    let world = world(true).await;
    world
        .plane
        .send(&wire::dispatch(
            "t",
            "r",
            "demo",
            "#demo fast\n#demo ask command",
        ))
        .await;
    let asked = world
        .plane
        .heard(|frame| frame["event"]["body"]["event"]["kind"] == "ask")
        .await;
    let ask = &asked["event"]["body"]["event"];
    let mut answer = wire::answer("t", "");
    answer["askId"] = ask["id"].clone();
    answer["option"] = json!("yes");
    answer["digest"] = json!("00".repeat(32));
    world.plane.send(&answer).await;
    let refused = world
        .plane
        .heard(|frame| frame["event"]["body"]["event"]["kind"] == "status");
    assert!(
        refused
            .await
            .to_string()
            .contains("changed since it was shown")
    );
    answer["digest"] = ask["digest"].clone();
    world.plane.send(&answer).await;
    assert_eq!(world.plane.end_of("t", "r").await.status, "completed");
    let closed = world
        .plane
        .heard(|frame| frame["event"]["body"]["event"]["kind"] == "ask_closed");
    assert_eq!(
        closed.await["event"]["body"]["event"]["how"]["how"],
        "answered"
    );
    world.finish().await;
}

#[tokio::test]
async fn a_command_is_denied_where_nobody_can_answer() {
    let world = world(false).await;
    world
        .plane
        .send(&wire::dispatch(
            "t",
            "r",
            "demo",
            "#demo fast\n#demo ask command",
        ))
        .await;
    assert_eq!(world.plane.end_of("t", "r").await.status, "completed");
    let text = world.plane.text_of("t");
    assert!(text.contains("You said no"), "{text}");
    world.finish().await;
}

#[tokio::test]
async fn a_question_on_the_plain_wire_is_answered_by_its_number() {
    let (home, plane) = (Home::new(), FakePlane::start(Manners::plain()).await);
    let mut setup = Setup::new(&home, plane.url());
    setup.policy.commands = bridge_runtime::CommandRule::Ask;
    let bridge = setup.start();
    plane.sync(&["fake"]).await;
    plane.send(&wire::dispatch("t", "r", "fake", "@ask")).await;
    let waits = plane
        .heard(|frame| frame["action"] == "task_waiting_for_input")
        .await;
    let prompt = waits["prompt"].as_str().unwrap();
    assert!(prompt.ends_with("\n1. Allow once\n2. Deny"), "{prompt}");
    plane.send(&wire::answer("t", "1")).await;
    assert_eq!(plane.end_of("t", "r").await.status, "completed");
    assert_eq!(plane.text_of("t"), "It was allowed.");
    assert!(bridge.stop().await.clean);
}

#[tokio::test]
async fn a_plain_plane_is_not_told_of_agents_it_does_not_know() {
    let (home, plane) = (Home::new(), FakePlane::start(Manners::plain()).await);
    let bridge = Setup::new(&home, plane.url()).start();
    let hello = plane.heard(|_| true).await;
    assert_eq!(
        hello,
        json!({
            "action": "handshake", "version": "v0.0.0-test", "agents": [],
            "providers": ["claude"],
        })
    );
    assert_eq!(plane.opened(1).await["authorization"], "Bearer test-token");
    assert!(bridge.stop().await.clean);
}

#[tokio::test]
async fn our_hub_is_told_of_every_agent() {
    let (home, plane) = (Home::new(), FakePlane::start(Manners::extended()).await);
    let bridge = Setup::new(&home, plane.url()).start();
    let hello = plane.heard(|_| true).await;
    assert_eq!(
        hello,
        json!({
            "action": "handshake", "version": "v0.0.0-test", "agents": [],
            "providers": ["demo", "fake", "claude"], "hostname": "box",
        })
    );
    assert!(bridge.stop().await.clean);
}
