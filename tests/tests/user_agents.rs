//! Agents the user names in a file: one of each protocol, told through the whole product, and
//! files that are refused.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use bridge_testkit::{
    home::{Finished, Home, Running, finish},
    mock_model::MockModel,
    program::beside,
};
use serde_json::Value;

/// Writes `~/.ctrlnode/agents.toml`.
fn write(home: &Home, text: &str) -> PathBuf {
    let folder = home.path().join(".ctrlnode");
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    let file = folder.join("agents.toml");
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    file
}

fn doctor(done: &Finished) -> Value {
    serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"))
}

/// A file with an agent of each protocol.
fn one_of_each(model: &str) -> String {
    let fake = beside("fake_agent").display().to_string();
    format!(
        "[[agent]]\nname = \"by-acp\"\nprotocol = \"acp\"\ncommand = \"{fake}\"\n\
         args = [\"acp\"]\n\n\
         [[agent]]\nname = \"by-stream\"\nprotocol = \"claude-stream-json\"\ncommand = \"{fake}\"\n\n\
         [[agent]]\nname = \"by-input\"\nprotocol = \"exec\"\ncommand = \"{fake}\"\n\
         args = [\"exec\"]\n\n\
         [[agent]]\nname = \"by-argument\"\nprotocol = \"exec\"\ncommand = \"{fake}\"\n\
         args = [\"exec\"]\nprompt = \"argument\"\n\n\
         [[agent]]\nname = \"by-endpoint\"\nprotocol = \"chat\"\nbase_url = \"{model}/v1\"\n\
         default_model = \"mock-model\"\n"
    )
}

#[tokio::test]
async fn an_agent_of_each_protocol_does_a_task() {
    let home = Home::new();
    let model = MockModel::start().await.unwrap();
    write(&home, &one_of_each(&model.address()));
    let work = home.workspace().display().to_string();
    let up = Running::start(home.ctrlnode(&["up", "--port", "0", "--workspace", &work]));
    up.line(|line| line.contains("/login?code=")).await;
    for (agent, prompt, said) in [
        ("by-acp", "@say one two", "one two"),
        ("by-stream", "@say one two", "one two"),
        ("by-input", "@say one two", "one \ntwo"),
        ("by-argument", "@say one two", "one \ntwo"),
        ("by-endpoint", "@mock text 2", "word1 word2"),
    ] {
        // The page is there before the bridge has said hello.
        let done = loop {
            let args = ["task", "run", "--agent", agent, prompt];
            let done = home.run(&args, "").await;
            if !done.stderr.contains("no machine on line") {
                break done;
            }
        };
        assert_eq!(done.code, Some(0), "{agent}: {done:?}");
        assert!(done.stdout.contains(said), "{agent}: {done:?}");
    }
    let failed = home
        .run(&["task", "run", "--agent", "by-input", "@error boom"], "")
        .await;
    assert_eq!(failed.code, Some(3), "{failed:?}");
    assert!(failed.stderr.contains("exit code 1: boom"), "{failed:?}");
}

#[tokio::test]
async fn doctor_shows_the_file_and_its_agents() {
    let home = Home::new();
    let before = doctor(&home.run(&["doctor", "--json"], "").await);
    assert_eq!(before["agents_file"]["found"], false);
    let file = write(
        &home,
        "[[agent]]\nname = \"here\"\nprotocol = \"exec\"\ncommand = \"/bin/sh\"\n\
         [[agent]]\nname = \"gone\"\nprotocol = \"acp\"\ncommand = \"/no/such/agent\"\n\
         [[agent]]\nname = \"keyless\"\nprotocol = \"chat\"\nbase_url = \"http://127.0.0.1:9\"\n\
         key_env = \"NO_SUCH_KEY\"\nlogin_hint = \"ask the administrator\"\n",
    );
    let report = doctor(&home.run(&["doctor", "--json"], "").await);
    assert_eq!(report["agents_file"]["path"], file.display().to_string());
    assert_eq!(report["agents_file"]["agents"], 3);
    let agent = |name: &str| {
        let agents = report["agents"].as_array().unwrap();
        let found = agents.iter().find(|agent| agent["agent"] == name);
        found.unwrap_or_else(|| panic!("{name}: {report}")).clone()
    };
    assert_eq!(agent("here")["available"], true);
    assert_eq!(agent("gone")["reason"], "binary_missing");
    assert_eq!(agent("keyless")["reason"], "auth_required");
    assert!(
        agent("keyless")["todo"]
            .as_str()
            .unwrap()
            .contains("NO_SUCH_KEY")
    );
    assert_eq!(agent("ollama")["reason"], "binary_missing");
    assert_eq!(agent("openrouter")["reason"], "auth_required");
    let told = home.run(&["doctor"], "").await;
    assert!(told.stdout.contains("agents.toml (3 agents)"), "{told:?}");
}

#[tokio::test]
async fn ollama_is_found_and_asked_by_its_variables() {
    let home = Home::new();
    let model = MockModel::start().await.unwrap();
    let mut command = home.ctrlnode(&["doctor", "--json"]);
    command.env("OLLAMA_HOST", model.address().replace("http://", ""));
    let report = doctor(&finish(command, "").await);
    let agents = report["agents"].as_array().unwrap();
    let ollama = agents.iter().find(|agent| agent["agent"] == "ollama");
    let ollama = ollama.unwrap();
    assert_eq!(ollama["available"], true, "{ollama}");
    assert_eq!(ollama["version"], "0.0.0-mock");
    model.shutdown().await.unwrap();
    let mut command = home.ctrlnode(&["doctor", "--json"]);
    command.env("OLLAMA_HOST", "127.0.0.1:9");
    let report = doctor(&finish(command, "").await);
    let agents = report["agents"].as_array().unwrap();
    let ollama = agents.iter().find(|agent| agent["agent"] == "ollama");
    assert_eq!(ollama.unwrap()["reason"], "service_unreachable");
}

#[tokio::test]
async fn a_file_that_cannot_be_used_stops_the_start_with_its_line() {
    let home = Home::new();
    for (text, said) in [
        (
            "[[agent]]\nname = \"x\"\nprotocol = \"acp\"\n",
            "line 1: protocol = \"acp\" needs `command`",
        ),
        (
            "\n\n[[agent]]\nname = \"gemini\"\nprotocol = \"acp\"\ncommand = \"x\"\n",
            "line 3: an agent named gemini is built in",
        ),
        ("colour = \"red\"\n", "line 1: unknown field `colour`"),
    ] {
        write(&home, text);
        let done = home.run(&["bridge", "start"], "").await;
        assert_eq!(done.code, Some(7), "{done:?}");
        assert!(done.stderr.contains(said), "{said}: {done:?}");
        let told = home.run(&["doctor"], "").await;
        assert!(told.stdout.contains(said), "{said}: {told:?}");
    }
    let file = write(&home, "");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    let done = home.run(&["bridge", "start"], "").await;
    assert_eq!(done.code, Some(7), "{done:?}");
    assert!(done.stderr.contains("can be written by others"), "{done:?}");
    assert!(
        done.stderr.contains("hint: ") && done.stderr.contains("chmod"),
        "{done:?}"
    );
}

#[tokio::test]
async fn the_workspace_names_no_agents_and_no_file_of_them() {
    let home = Home::new();
    let text = "[[agent]]\nname = \"planted\"\nprotocol = \"exec\"\ncommand = \"/bin/sh\"\n";
    let root = home.root();
    fs::create_dir_all(&root).unwrap();
    fs::write(root.join("agents.toml"), text).unwrap();
    let line = format!(
        "CTRLNODE_AGENTS_FILE={}\n",
        root.join("agents.toml").display()
    );
    fs::write(root.join(".env"), line).unwrap();
    let mut command = home.ctrlnode(&["doctor"]);
    command.env("BASE_PATH", home.workspace());
    let done = finish(command, "").await;
    assert!(!done.stdout.contains("planted"), "{done:?}");
    let mut command = home.ctrlnode(&["doctor"]);
    command.env("CTRLNODE_AGENTS_FILE", root.join("agents.toml"));
    let done = finish(command, "").await;
    assert!(
        done.stdout.contains("✓ planted"),
        "the user may name it: {done:?}"
    );
}

#[tokio::test]
async fn a_variable_still_names_an_agent_and_cannot_take_a_name_of_the_file() {
    let home = Home::new();
    write(
        &home,
        "[[agent]]\nname = \"mine\"\nprotocol = \"exec\"\ncommand = \"/bin/sh\"\n",
    );
    let mut command = home.ctrlnode(&["doctor"]);
    command.env("CTRLNODE_AGENT_OTHER", "/bin/sh -c cat");
    let done = finish(command, "").await;
    assert!(
        done.stdout.contains("✓ other") && done.stdout.contains("✓ mine"),
        "{done:?}"
    );
    for name in ["CTRLNODE_AGENT_MINE", "CTRLNODE_AGENT_OLLAMA"] {
        let mut command = home.ctrlnode(&["doctor"]);
        command.env(name, "/bin/sh");
        let done = finish(command, "").await;
        assert_eq!(done.code, Some(7), "{done:?}");
        assert!(done.stderr.contains("another name"), "{done:?}");
    }
}
