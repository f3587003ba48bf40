//! Places that are protected by where they were put, in a bridge as its user starts it: what
//! variables move into the workspace is kept from the control plane all the same.

#![cfg(unix)]

use std::fs;

use bridge_testkit::{
    fake_plane::{FakePlane, Manners},
    home::{Home, Running},
};
use serde_json::{Value, json};

async fn ask(plane: &FakePlane, mut request: Value) -> Value {
    request["requestId"] = request.to_string().into();
    let id = request["requestId"].clone();
    let before = plane.seen();
    plane.send(&request).await;
    let reply = |frame: &Value| frame["requestId"] == id;
    plane.heard_after(before, reply).await.1
}

#[tokio::test]
async fn state_and_logins_in_the_workspace_are_kept_from_the_plane() {
    let (home, plane) = (Home::new(), FakePlane::start(Manners::plain()).await);
    let work = home.workspace();
    for (file, text) in [
        ("state/hub.lock", "secret"),
        ("state/data/part", "secret"),
        ("xdg/ctrlnode/agents/key", "secret"),
        ("cx/auth.json", "secret"),
        ("cx/config.toml", "plain"),
        ("plain.txt", "plain"),
        ("my-rules.toml", "# plain"),
    ] {
        let file = work.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    let mut command = home.ctrlnode(&["bridge", "start"]);
    command
        .env("PAIRING_TOKEN", "test-token")
        .env("SAAS_URL", plane.url())
        .env("CTRLNODE_SIDE_CHANNEL", "off")
        .env("CTRLNODE_CONTENTS", "workspace")
        .env("CTRLNODE_STATE", work.join("state"))
        .env("CTRLNODE_RULES_FILE", work.join("my-rules.toml"))
        .env("XDG_STATE_HOME", work.join("xdg"))
        .env("CODEX_HOME", work.join("cx"))
        .env("BASE_PATH", &work);
    let mut bridge = Running::start(command);
    plane.sync(&["demo"]).await;
    for path in [
        "state/hub.lock",
        "state/data/part",
        "xdg/ctrlnode/agents/key",
        "cx/auth.json",
    ] {
        let request = json!({ "action": "read_file", "useBasePath": true, "path": path });
        let reply = ask(&plane, request).await;
        assert!(!reply.to_string().contains("\"secret\""), "{reply}");
        assert_eq!(reply["error"], "INVALID_PATH", "{reply}");
    }
    for path in ["state/new", "cx/config.toml", "my-rules.toml", "plain.txt"] {
        let request = json!({ "action": "write_file", "useBasePath": true, "path": path, "content": "theirs" });
        plane.send(&request).await;
    }
    let request = json!({ "action": "read_file", "useBasePath": true, "path": "plain.txt" });
    assert_eq!(ask(&plane, request).await["content"], "theirs");
    assert!(!work.join("state/new").exists());
    assert_eq!(
        fs::read_to_string(work.join("cx/config.toml")).unwrap(),
        "plain"
    );
    assert_eq!(
        fs::read_to_string(work.join("my-rules.toml")).unwrap(),
        "# plain"
    );
    assert_eq!(bridge.terminate().await, Some(0), "{}", bridge.told());
}
