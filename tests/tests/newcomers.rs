//! What somebody who is new here runs into, each with the word that leads on.

#![cfg(unix)]

use std::fs;

use bridge_testkit::home::{Finished, Home, Running, finish};
use serde_json::Value;

fn json(done: &Finished) -> Value {
    serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"))
}

async fn up(home: &Home, more: &[&str]) -> (Running, String) {
    let work = home.workspace().display().to_string();
    let args = ["up", "--port", "0", "--workspace", &work];
    let running = Running::start(home.ctrlnode(&[&args[..], more].concat()));
    let address = running.line(|line| line.contains("/login?code=")).await;
    let page = address.trim().split("/login").next().unwrap_or_default();
    (running, page.to_owned())
}

#[tokio::test]
async fn doctor_and_status_tell_of_a_broken_file_and_go_on() {
    let home = Home::new();
    let folder = home.path().join(".ctrlnode");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("rules.toml"), "[[rule]]\ndecision = \"alow\"\n").unwrap();
    fs::write(folder.join("agents.toml"), "[[agent]]\nnonsense = 1\n").unwrap();
    let doctor = home.run(&["doctor"], "").await;
    assert_eq!(doctor.code, Some(7), "{doctor:?}");
    for told in [
        "rules.toml cannot be used",
        "agents.toml",
        "demo",
        "not paired",
    ] {
        assert!(doctor.stdout.contains(told), "{told}: {doctor:?}");
    }
    let broken = json(&home.run(&["doctor", "--json"], "").await)["broken"].clone();
    assert_eq!(broken.as_array().map(Vec::len), Some(2), "{broken}");
    let status = home.run(&["status"], "").await;
    assert_eq!(status.code, Some(7), "{status:?}");
    assert!(
        status.stdout.contains("rules.toml cannot be used"),
        "{status:?}"
    );
    assert!(status.stdout.contains("not running"), "{status:?}");
}

#[tokio::test]
async fn status_sees_the_hub_and_bridge_of_up() {
    let home = Home::new();
    let none = json(&home.run(&["status", "--json"], "").await);
    assert_eq!(none["up"], Value::Null, "{none}");
    let (mut running, page) = up(&home, &[]).await;
    let status = json(&home.run(&["status", "--json"], "").await);
    assert_eq!(status["up"]["page"], page.as_str(), "{status}");
    assert_eq!(status["up"]["pid"], running.pid(), "{status}");
    let told = home.run(&["status"], "").await.stdout;
    assert!(told.contains(&format!("its page is at {page}")), "{told}");
    assert_eq!(running.terminate().await, Some(0));
    let after = json(&home.run(&["status", "--json"], "").await);
    assert_eq!(after["up"], Value::Null, "{after}");
}

#[tokio::test]
async fn a_second_up_names_the_address_of_the_first() {
    let home = Home::new();
    let (mut running, page) = up(&home, &[]).await;
    for command in [&["up", "--port", "0"][..], &["hub", "serve"]] {
        let second = home.run(command, "").await;
        assert_eq!(second.code, Some(1), "{second:?}");
        assert!(second.stderr.contains(&page), "{second:?}");
        assert!(
            second.stderr.contains("hub login --hub-state"),
            "{second:?}"
        );
    }
    assert_eq!(running.terminate().await, Some(0));
}

#[tokio::test]
async fn commands_that_are_printed_name_the_hub_that_was_named() {
    let home = Home::new();
    let state = home.path().join("my state").display().to_string();
    let (mut running, _) = up(&home, &["--state", &state]).await;
    let printed = running.told();
    assert!(
        printed.contains(&format!("--hub-state '{state}'")),
        "{printed}"
    );
    let make = [
        "hub",
        "token",
        "--hub-state",
        &state,
        "create",
        "this machine",
    ];
    let done = home.run(&make, "").await;
    assert_eq!(done.code, Some(1), "{done:?}");
    let option = format!(" --hub-state '{state}'`");
    assert!(done.stderr.contains("hub token revoke "), "{done:?}");
    assert!(done.stderr.contains(&option), "{done:?}");
    assert_eq!(running.terminate().await, Some(0));
}

#[tokio::test]
async fn a_misspelt_setting_is_warned_about_with_the_nearest_name() {
    let home = Home::new();
    let folder = home.path().join(".ctrlnode");
    fs::create_dir(&folder).unwrap();
    fs::write(
        folder.join(".env"),
        "CTRLNODE_EDIT=ask\nCTRLNODE_AGENT_MINE=x\n",
    )
    .unwrap();
    let mut doctor = home.ctrlnode(&["doctor"]);
    doctor.env("CTRLNODE_CONTENT", "never");
    let done = finish(doctor, "").await;
    for told in [
        "did you mean CTRLNODE_CONTENTS?",
        "did you mean CTRLNODE_EDITS?",
    ] {
        assert!(done.stdout.contains(told), "{done:?}");
        assert!(done.stderr.contains(told), "{done:?}");
    }
    assert!(
        !done.stdout.contains("AGENT_MINE is no setting"),
        "{done:?}"
    );
}

#[tokio::test]
async fn the_address_in_a_projects_file_is_not_paired_with() {
    let home = Home::new();
    let project = home.workspace();
    fs::write(project.join(".env"), "SAAS_URL=ws://127.0.0.1:1/evil\n").unwrap();
    let mut setup = home.ctrlnode(&["setup", "--token-stdin", "--workspace", "."]);
    setup.current_dir(&project);
    let done = finish(setup, "a-pairing-token\n").await;
    let saved = fs::read_to_string(home.path().join(".ctrlnode/.env")).unwrap();
    assert!(!saved.contains("evil"), "{saved} {done:?}");
    assert!(saved.contains("a-pairing-token"), "{saved} {done:?}");
}

#[tokio::test]
async fn results_and_attachments_work_where_the_state_lies_in_its_usual_folder() {
    let home = Home::new();
    let work = home.workspace().display().to_string();
    let usual = |args: &[&str]| {
        let mut command = home.ctrlnode(args);
        command.env_remove("CTRLNODE_STATE");
        command
    };
    let mut running = Running::start(usual(&["up", "--port", "0", "--workspace", &work]));
    running.line(|line| line.contains("/login?code=")).await;
    let attached = home.workspace().join("facts.txt");
    fs::write(&attached, "The sky is blue.").unwrap();
    let attached = attached.display().to_string();
    let run = [
        "task",
        "run",
        "--agent",
        "demo",
        "--attach",
        &attached,
        "--json",
        "#demo fast",
    ];
    let done = loop {
        let done = finish(usual(&run), "").await;
        if done.code == Some(0) {
            break done;
        }
        // The page is there before the bridge has said hello.
        assert_ne!(done.code, Some(3), "{done:?}");
    };
    let task = done.stdout.lines().find_map(|line| {
        let said: Value = serde_json::from_str(line).ok()?;
        said["event"]["run"]["task"].as_str().map(str::to_owned)
    });
    let task = task.unwrap_or_else(|| panic!("{done:?}"));
    let shown = finish(usual(&["task", "show", &task]), "").await;
    assert!(shown.stdout.contains("answer.md"), "{shown:?}");
    assert_eq!(running.terminate().await, Some(0), "{}", running.told());
}
