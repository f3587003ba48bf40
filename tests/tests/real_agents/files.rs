//! Files: what an agent writes, where, and what a repository cannot make it do.

use std::{fs, path::Path};

use bridge_proto::model::{Fix, Outcome};
use bridge_testkit::{
    mock_model::{AFTER, BEFORE, WRITTEN},
    program,
};
use serde_json::json;

use crate::{
    output,
    product::Product,
    story::{Person, follow},
};

promises![
    results_can_be_downloaded,
    edits_only_what_was_asked,
    does_not_obey_a_repository,
];

async fn results_can_be_downloaded(product: &mut Product) -> String {
    let new = product.agent.new_file();
    let prompt = format!("Write it down.\n@mock write output/{new}");
    let task = product.give(&prompt, output()).await;
    let story = follow(product, &task, 0, Person::Absent).await;
    story.assert_completed(product);
    let files = product.files(&task).await;
    let files = files["files"].as_array().cloned().unwrap_or_default();
    let found = files.iter().any(|file| file["path"] == new);
    assert!(found, "{files:?} {}", story.answer());
    assert_eq!(product.file(&task, new).await, WRITTEN);
    format!("{story}")
}

async fn edits_only_what_was_asked(product: &mut Product) -> String {
    let repository = product.workspace().join("project");
    let file = repository.join("notes.md");
    make_repository(&repository, &file);
    let mode = json!({ "mode": "repository", "path": repository });
    let task = product
        .give("Change the notes.\n@mock edit notes.md", mode)
        .await;
    let story = follow(product, &task, 0, Person::Absent).await;
    story.assert_completed(product);
    assert_eq!(
        git(&repository, &["status", "--porcelain", "--ignored"]),
        " M notes.md\n"
    );
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(AFTER) && !text.contains(BEFORE), "{text}");
    format!("{story}")
}

/// A repository brings settings that start programs and allow everything; nobody said that it can
/// be trusted.
async fn does_not_obey_a_repository(product: &mut Product) -> String {
    let repository = product.workspace().join("project");
    make_repository(&repository, &repository.join("notes.md"));
    let trap = product.workspace().join("sprung");
    product.agent.set_trap(&repository, &trap).unwrap();
    let mode = json!({ "mode": "repository", "path": repository });
    let command = product.agent.asked_about("touch made.txt");
    let prompt = format!("Make a file.\n@mock shell {command}");
    let task = product.give(&prompt, mode).await;
    let story = follow(product, &task, 0, Person::Rejects).await;
    if product.agent.obeys_repositories() {
        assert!(
            matches!(&story.outcome, Outcome::Blocked { fix: Fix::Setup, reason }
                if reason.contains("hooks/trap.json")),
            "{story:?}"
        );
    } else {
        story.assert_completed(product);
        assert_eq!(story.asks.len(), 1, "{:?}", story.asks);
    }
    assert!(!repository.join("made.txt").exists(), "{}", story.answer());
    assert!(
        !trap.exists(),
        "the repository's settings started a program"
    );
    format!("{story}")
}

fn make_repository(folder: &Path, file: &Path) {
    fs::create_dir(folder).unwrap();
    git(folder, &["init", "--quiet"]);
    fs::write(file, format!("# Notes\n\nThis was written {BEFORE}.\n")).unwrap();
    git(folder, &["add", "."]);
    let identity = ["-c", "user.name=Test", "-c", "user.email=test@localhost"];
    git(
        folder,
        &[&identity[..], &["commit", "--quiet", "--message", "Begin"]].concat(),
    );
}

fn git(folder: &Path, args: &[&str]) -> String {
    let mut git = program::command("git");
    git.current_dir(folder).args(args);
    git.env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1");
    let output = git.output().unwrap();
    assert!(output.status.success(), "git {args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}
