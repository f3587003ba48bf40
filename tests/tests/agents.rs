//! Agents as the plane sees and changes them: what is found on the machine, what a change writes
//! and what it leaves alone.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use std::{fs, path::PathBuf, sync::Arc};

use bridge_providers::openclaw::OpenclawProvider;
use bridge_testkit::{
    bridge::{self, Bridge, Setup},
    fake_plane::{FakePlane, Manners},
    home::Home,
};
use serde_json::{Value, json};

struct World {
    home: Home,
    plane: FakePlane,
    bridge: Bridge,
}

const CONFIG: &str = r#"{"gateway":{"auth":{"token":"hush"}},"agents":{"list":[{"id":"main"},{"id":"Scout","model":"p/old","sandbox":{"mode":"all"}}]}}"#;

/// A machine with OpenClaw, a profile of Hermes and the fake agent.
async fn world() -> World {
    let (home, plane) = (Home::new(), FakePlane::start(Manners::plain()).await);
    fs::create_dir_all(home.path().join(".openclaw/workspace")).unwrap();
    fs::write(config_of(&home), CONFIG).unwrap();
    fs::create_dir_all(home.path().join(".hermes/profiles/Writer")).unwrap();
    let mut setup = Setup::new(&home, plane.url());
    let openclaw = OpenclawProvider::new(home.host(&[]), &home.path().join("state"));
    setup.providers.push(Arc::new(openclaw));
    setup.providers.push(bridge::hermes(&home));
    setup.providers.push(bridge::cursor(&home));
    let bridge = setup.start();
    World {
        home,
        plane,
        bridge,
    }
}

fn config_of(home: &Home) -> PathBuf {
    home.path().join(".openclaw/openclaw.json")
}

impl World {
    fn config(&self) -> String {
        fs::read_to_string(config_of(&self.home)).unwrap()
    }

    /// Waits for an update of agents that fits, from here on.
    async fn update(&self, before: usize, fits: impl Fn(&Value) -> bool) -> Value {
        let is = |frame: &Value| frame["action"] == "agent_update" && fits(&frame["agents"]);
        self.plane.heard_after(before, is).await.1["agents"].clone()
    }

    async fn tell(&self, frame: Value) -> usize {
        let before = self.plane.seen();
        self.plane.send(&frame).await;
        before
    }
}

fn named<'a>(agents: &'a Value, id: &str) -> Option<&'a Value> {
    agents.as_array()?.iter().find(|agent| agent["id"] == id)
}

#[tokio::test]
async fn what_this_machine_names_is_announced_with_all_its_fields() {
    let world = world().await;
    let agents = world
        .update(0, |agents| named(agents, "writer").is_some())
        .await;
    let root = world.home.path().display();
    let scout = json!({ "id": "scout", "workspace": format!("{root}/.openclaw/workspace"),
        "name": "scout", "model": "p/old", "provider": "openclaw", "exists": true,
        "hostname": "box" });
    assert_eq!(named(&agents, "scout"), Some(&scout));
    let writer = json!({ "id": "writer", "workspace": format!("{root}/.hermes/profiles/Writer"),
        "name": "writer", "model": "default", "role": "", "emoji": "", "description": "",
        "provider": "hermes", "fromFilesystem": true, "exists": true, "hostname": "box" });
    assert_eq!(named(&agents, "writer"), Some(&writer));
    assert_eq!(named(&agents, "main"), None);
    let hello = |frame: &Value| frame["action"] == "handshake";
    let hello = world.plane.heard(hello).await;
    assert_eq!(
        hello["agents"],
        json!([scout]),
        "found before anything is asked"
    );
    assert!(world.bridge.stop().await.clean);
}

#[tokio::test]
async fn a_change_is_written_for_agents_of_openclaw_and_for_no_other() {
    let world = world().await;
    world.plane.sync(&["fake"]).await;
    let before = world
        .tell(json!({ "action": "update_agent_config", "agentId": "FAKE", "name": "Renamed" }))
        .await;
    let renamed =
        |agents: &Value| named(agents, "fake").is_some_and(|agent| agent["name"] == "Renamed");
    world.update(before, renamed).await;
    world
        .tell(json!({ "action": "update_agent_config", "agentId": "nobody", "name": "X" }))
        .await;
    assert_eq!(world.config(), CONFIG);
    let before = world
        .tell(json!({ "action": "update_agent_config", "agentId": "scout", "model": "p/new" }))
        .await;
    let changed =
        |agents: &Value| named(agents, "scout").is_some_and(|agent| agent["model"] == "p/new");
    world.update(before, changed).await;
    let config: Value = serde_json::from_str(&world.config()).unwrap();
    let scout = json!({ "id": "Scout", "model": "p/new", "sandbox": { "mode": "all" } });
    assert_eq!(config["agents"]["list"], json!([{ "id": "main" }, scout]));
    let kept = config_of(&world.home).with_file_name("openclaw.json.ctrlnode-bak");
    assert_eq!(fs::read_to_string(kept).unwrap(), CONFIG);
    assert!(world.bridge.stop().await.clean);
}

#[tokio::test]
async fn a_deleted_agent_is_gone_until_a_sync_lists_it_and_no_profile_is_touched() {
    let world = world().await;
    let profile = world.home.path().join(".hermes/profiles/Writer");
    world
        .update(0, |agents| named(agents, "writer").is_some())
        .await;
    let before = world
        .tell(json!({ "action": "delete_agent_config", "agentId": "writer" }))
        .await;
    world
        .update(before, |agents| named(agents, "writer").is_none())
        .await;
    let before = world
        .tell(json!({ "action": "delete_agent_config", "agentId": "scout" }))
        .await;
    // The last one: an empty list is not told, so there is one that stays.
    world.plane.sync(&["fake"]).await;
    world
        .update(before, |agents| {
            named(agents, "scout").is_none() && named(agents, "fake").is_some()
        })
        .await;
    let config: Value = serde_json::from_str(&world.config()).unwrap();
    assert_eq!(config["agents"]["list"], json!([{ "id": "main" }]));
    assert!(profile.is_dir(), "a profile is the user's own");
    let list = json!([{ "id": "Writer" }]).to_string();
    let before = world
        .tell(json!({ "action": "sync_hermes_agents", "requestId": "s", "agents": list }))
        .await;
    let agents = world
        .update(before, |agents| named(agents, "writer").is_some())
        .await;
    assert_eq!(
        named(&agents, "writer").unwrap().get("fromFilesystem"),
        None
    );
    assert!(world.bridge.stop().await.clean);
}

#[tokio::test]
async fn odd_ids_and_huge_lists_change_nothing_on_the_disk() {
    let world = world().await;
    world.plane.sync(&["fake"]).await;
    for id in [
        "../../etc",
        "a/b",
        "\u{202e}x",
        "..",
        "profiles/Writer",
        "a,b",
    ] {
        world
            .tell(json!({ "action": "update_agent_config", "agentId": id, "name": "x" }))
            .await;
        world
            .tell(json!({ "action": "delete_agent_config", "agentId": id }))
            .await;
    }
    let many: Vec<Value> = (0..1001)
        .map(|n| json!({ "id": format!("a{n}") }))
        .collect();
    let many = Value::Array(many).to_string();
    let before = world
        .tell(json!({ "action": "sync_gemini_agents", "requestId": "s", "agents": many }))
        .await;
    let ack = |frame: &Value| frame["action"] == "sync_gemini_agents_ack";
    let (_, ack) = world.plane.heard_after(before, ack).await;
    assert_eq!(ack["success"], false, "{ack}");
    assert_eq!(world.config(), CONFIG);
    assert!(world.home.path().join(".hermes/profiles/Writer").is_dir());
    let end = world.plane.run("t", "r", "fake", "@say well").await;
    assert_eq!(end.status, "completed", "{end:?}");
    assert!(world.bridge.stop().await.clean);
}

#[tokio::test]
async fn the_planes_list_of_models_helps_out_and_is_there_after_a_restart() {
    let world = world().await;
    let manifest = json!({ "action": "model_manifest", "version": "2026-03-10",
        "providers": { "claude": ["the-planes"], "nobody": ["m"] } });
    let healthy = |frame: &Value| {
        frame["action"] == "provider_health"
            && frame["providerHealth"]["claude"]["available"] == true
    };
    world.plane.heard(healthy).await;
    let before = world.tell(manifest).await;
    let listed = |frame: &Value| frame["action"] == "available_models";
    let (_, models) = world.plane.heard_after(before, listed).await;
    assert_eq!(
        models["models"]["claude"],
        json!(["the-planes"]),
        "{models}"
    );
    assert!(world.bridge.stop().await.clean);
    let kept = fs::read(world.home.root().join("model-manifest.json")).unwrap();
    let kept: Value = serde_json::from_slice(&kept).unwrap();
    assert_eq!(kept["version"], "2026-03-10");
    assert!(kept["fetchedAt"].is_string(), "{kept}");
    let bridge = Setup::new(&world.home, world.plane.url()).start();
    let before = world.plane.seen();
    let (_, models) = world.plane.heard_after(before, listed).await;
    assert_eq!(
        models["models"]["claude"],
        json!(["the-planes"]),
        "{models}"
    );
    assert!(bridge.stop().await.clean);
}

#[tokio::test]
async fn a_question_about_skills_is_always_answered() {
    let world = world().await;
    let skills = world.home.workspace().join("web/.cursor/skills");
    fs::create_dir_all(skills.join("review")).unwrap();
    let text = "---\nname: review\ndescription: Looks at /etc/passwd.\n---\n";
    fs::write(skills.join("review/SKILL.md"), text).unwrap();
    let list = json!([{ "id": "Dev" }]).to_string();
    world
        .tell(json!({ "action": "sync_cursor_agents", "requestId": "s", "agents": list }))
        .await;
    let ask = async |id: Value, more: Value| {
        let mut frame = json!({ "action": "query_provider_capabilities", "requestId": id });
        for (key, value) in more.as_object().unwrap() {
            frame[key] = value.clone();
        }
        let before = world.tell(frame).await;
        let answer = |frame: &Value| {
            frame["action"] == "provider_capabilities_response" && frame["requestId"] == id
        };
        world.plane.heard_after(before, answer).await.1["capabilities"].clone()
    };
    let repo = json!({ "agentId": "Dev", "taskMode": "repo", "repoPath": "web" });
    let found = ask(json!("q1"), repo).await;
    assert_eq!(
        (&found["provider"], &found["agentId"]),
        (&json!("cursor"), &json!("Dev"))
    );
    assert_eq!(found["skills"][0]["name"], "review", "{found}");
    assert_eq!(found["skills"][0]["description"], "Looks at [path]");
    assert_eq!(found["discovery"]["skills"], "static");
    let outside = json!({ "agentId": "dev", "taskMode": "repo", "repoPath": "/etc" });
    let found = ask(json!("q2"), outside).await;
    assert_eq!(
        (&found["workspaceScope"], &found["skills"]),
        (&json!("project"), &json!([]))
    );
    let nobody = ask(json!("q3"), json!({ "agentId": ["x"], "taskMode": 7 })).await;
    assert_eq!(nobody["provider"], "unknown");
    assert_eq!(
        nobody["discovery"]["warnings"],
        json!(["agent_provider_unknown"])
    );
    let before = world.plane.seen();
    for n in 0..500 {
        let frame =
            json!({ "action": "query_provider_capabilities", "requestId": format!("b{n}") });
        world.plane.send(&frame).await;
    }
    let mut seen = before;
    for _ in 0..500 {
        let answer = |frame: &Value| frame["action"] == "provider_capabilities_response";
        seen = world.plane.heard_after(seen, answer).await.0;
    }
    assert!(world.bridge.stop().await.clean);
}
