//! Files that change in the workspaces of OpenClaw's agents, as a plane hears of them.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use bridge_providers::openclaw::OpenclawProvider;
use bridge_testkit::{
    bridge::{Bridge, Setup},
    fake_plane::{FakePlane, Manners, frame},
    home::Home,
};
use bridge_workspace::{ContentsPolicy, Watching};
use serde_json::{Value, json};

/// Until a file is written once more: it may have been too early to be noticed.
const PATIENCE: Duration = Duration::from_secs(3);

struct World {
    home: Home,
    plane: FakePlane,
    bridge: Bridge,
}

/// A machine with one agent of OpenClaw in its usual workspace.
async fn world(contents: ContentsPolicy, manners: Manners) -> World {
    let (home, plane) = (Home::new(), FakePlane::start(manners).await);
    let claw = home.path().join(".openclaw");
    fs::create_dir_all(claw.join("workspace")).unwrap();
    let config = json!({ "agents": { "list": [{ "id": "scout" }] } });
    fs::write(claw.join("openclaw.json"), config.to_string()).unwrap();
    let mut setup = Setup::new(&home, plane.url());
    let openclaw = OpenclawProvider::new(home.host(&[]), &home.path().join("state"));
    setup.providers.push(Arc::new(openclaw));
    setup.contents = contents;
    setup.openclaw = Some(claw);
    setup.watching = Some(Watching::default());
    let bridge = setup.start();
    plane.heard(|frame| frame["action"] == "agent_update").await;
    World {
        home,
        plane,
        bridge,
    }
}

fn is_change(frame: &Value) -> bool {
    frame["action"] == "file_changed"
}

impl World {
    fn own(&self, path: &str) -> PathBuf {
        self.home.path().join(".openclaw/workspace").join(path)
    }

    fn put(&self, path: &str, content: &str) {
        fs::create_dir_all(self.own(path).parent().unwrap()).unwrap();
        fs::write(self.own(path), content).unwrap();
    }

    /// Writes a file until the plane hears of it: what was before it has been told then.
    async fn settle(&self, name: &str) -> Vec<Value> {
        let before = self.plane.seen();
        loop {
            self.put(name, name);
            let told = |frame: &Value| is_change(frame) && frame["path"] == name;
            let heard = self
                .plane
                .try_see_after(before, PATIENCE, |heard| frame(heard).is_some_and(told));
            if heard.await.is_some() {
                break;
            }
        }
        let log = self.plane.log();
        let frames = log.iter().skip(before).filter_map(frame);
        let others = |frame: &&Value| is_change(frame) && frame["path"] != name;
        frames.filter(others).cloned().collect()
    }
}

fn changed(path: &str, event: &str, content: Option<&str>) -> Value {
    json!({ "action": "file_changed", "agentId": "scout", "path": path, "event": event,
        "content": content })
}

#[tokio::test]
async fn what_an_agent_writes_is_told_and_what_the_plane_wrote_is_not() {
    let world = world(ContentsPolicy::Workspace, Manners::plain()).await;
    world.settle("ready").await;
    let write = json!({ "action": "write_file", "agentId": "scout", "provider": "openclaw",
        "path": "tasks/t/input/a.md", "content": "from the plane" });
    world.plane.send(&write).await;
    // Answered after the write, because requests keep their order.
    let read = json!({ "action": "read_file", "requestId": "r", "agentId": "scout",
        "provider": "openclaw", "path": "tasks/t/input/a.md" });
    world.plane.send(&read).await;
    let answer = world.plane.heard(|frame| frame["requestId"] == "r").await;
    assert_eq!(answer["content"], "from the plane");
    world.put("notes/today.md", "# Today\n");
    world.put("logo.png", "\u{0}PNG");
    let mut told = world.settle("after").await;
    told.sort_by_key(|frame| frame["path"].to_string());
    assert_eq!(
        told,
        [
            changed("logo.png", "add", None),
            changed("notes/today.md", "add", Some("# Today\n")),
        ]
    );
    assert!(world.bridge.stop().await.clean);
}

#[tokio::test]
async fn contents_stay_here_unless_the_policy_lets_them_go() {
    let world = world(ContentsPolicy::TaskOutputs, Manners::plain()).await;
    world.settle("ready").await;
    world.put("plans.md", "hush");
    let told = world.settle("after").await;
    assert_eq!(told, [changed("plans.md", "add", None)]);
    let frames = world.plane.frames();
    assert!(
        frames
            .iter()
            .all(|frame| !frame.to_string().contains("hush"))
    );
    assert!(world.bridge.stop().await.clean);
}

#[tokio::test]
async fn a_file_of_an_output_says_that_its_agent_works() {
    let world = world(ContentsPolicy::TaskOutputs, Manners::plain()).await;
    world.settle("ready").await;
    world.put("tasks/t/output/report.md", "done");
    let works = |frame: &Value| {
        let statuses = frame["agentStatuses"].as_array().into_iter().flatten();
        let mut statuses = statuses.filter(|it| it["status"] == "running");
        frame["action"] == "heartbeat" && statuses.any(|it| it["id"] == "scout")
    };
    world.plane.heard(works).await;
    let told = |frame: &Value| is_change(frame) && frame["path"] == "tasks/t/output/report.md";
    assert_eq!(world.plane.heard(told).await["content"], "done");
    assert!(world.bridge.stop().await.clean);
}

#[tokio::test]
async fn a_connection_that_comes_back_hears_what_changes_then() {
    let mut world = world(ContentsPolicy::Workspace, Manners::plain()).await;
    world.settle("ready").await;
    world.plane.cut();
    world.plane.opened(1).await;
    world
        .bridge
        .state(|state| state.phase == bridge_transport::Phase::Online)
        .await;
    world.settle("back").await;
    assert!(world.bridge.stop().await.clean);
}

#[tokio::test]
async fn our_own_hub_is_not_told_of_single_files() {
    let world = world(ContentsPolicy::Workspace, Manners::extended()).await;
    world.put("tasks/t/output/report.md", "done");
    // The same file says that its agent works: so it was seen.
    loop {
        world.put("tasks/t/output/report.md", "done");
        let works = |frame: &Value| frame["action"] == "heartbeat" && frame["status"] == "running";
        let heard = world
            .plane
            .try_see_after(0, PATIENCE, |heard| frame(heard).is_some_and(works));
        if heard.await.is_some() {
            break;
        }
    }
    assert!(!world.plane.frames().iter().any(is_change));
    assert!(world.bridge.stop().await.clean);
}
