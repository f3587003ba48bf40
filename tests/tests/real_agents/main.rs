//! The real product with the real agents, offline: `ctrlnode up`, seen through its API, with
//! Claude Code, Codex, Gemini CLI and opencode as their vendors ship them, against the model
//! server of the test kit.
//!
//! Runs where `CTRLNODE_E2E_AGENTS` names the folder the agents are installed in; `cargo xtask
//! e2e` installs them and sets it. Each test starts a product in a home of its own and ends
//! everything that lives there, also when it fails.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod agents;
mod product;
mod remains;
mod story;

use std::{
    fs,
    io::Write as _,
    path::Path,
    pin::pin,
    time::{Duration, Instant},
};

use bridge_proto::model::{Actor, AskKind, Outcome};
use bridge_testkit::{
    mock_model::{AFTER, BEFORE, WRITTEN},
    program,
};
use futures_util::future::{Either, select};
use serde_json::{Value, json};

use self::{
    agents::Agent,
    product::Product,
    story::{Person, Story, follow},
};

macro_rules! promises {
    ($($name:ident: $promise:ident($agent:ident);)*) => {
        $(#[test]
        fn $name() {
            check(stringify!($name), Agent::$agent, $promise);
        })*
    };
}

promises! {
    claude_text_arrives_while_it_works: text_arrives_while_it_works(Claude);
    codex_text_arrives_while_it_works: text_arrives_while_it_works(Codex);
    gemini_text_arrives_while_it_works: text_arrives_while_it_works(Gemini);
    opencode_text_arrives_while_it_works: text_arrives_while_it_works(Opencode);

    claude_results_can_be_downloaded: results_can_be_downloaded(Claude);
    codex_results_can_be_downloaded: results_can_be_downloaded(Codex);
    gemini_results_can_be_downloaded: results_can_be_downloaded(Gemini);
    opencode_results_can_be_downloaded: results_can_be_downloaded(Opencode);

    claude_edits_a_repository_and_leaves_nothing_else: edits_only_what_was_asked(Claude);
    codex_edits_a_repository_and_leaves_nothing_else: edits_only_what_was_asked(Codex);
    gemini_edits_a_repository_and_leaves_nothing_else: edits_only_what_was_asked(Gemini);
    opencode_edits_a_repository_and_leaves_nothing_else: edits_only_what_was_asked(Opencode);

    claude_does_not_obey_a_repository: does_not_obey_a_repository(Claude);
    codex_does_not_obey_a_repository: does_not_obey_a_repository(Codex);
    gemini_does_not_obey_a_repository: does_not_obey_a_repository(Gemini);
    opencode_does_not_obey_a_repository: does_not_obey_a_repository(Opencode);

    claude_runs_a_command_when_a_person_allows_it: runs_what_is_allowed(Claude);
    codex_runs_a_command_when_a_person_allows_it: runs_what_is_allowed(Codex);
    gemini_runs_a_command_when_a_person_allows_it: runs_what_is_allowed(Gemini);
    opencode_runs_a_command_when_a_person_allows_it: runs_what_is_allowed(Opencode);

    claude_does_not_run_a_rejected_command: leaves_what_is_rejected(Claude);
    codex_does_not_run_a_rejected_command: leaves_what_is_rejected(Codex);
    gemini_does_not_run_a_rejected_command: leaves_what_is_rejected(Gemini);
    opencode_does_not_run_a_rejected_command: leaves_what_is_rejected(Opencode);

    claude_leaves_nobody_behind_when_cancelled: leaves_nobody_behind(Claude);
    codex_leaves_nobody_behind_when_cancelled: leaves_nobody_behind(Codex);
    gemini_leaves_nobody_behind_when_cancelled: leaves_nobody_behind(Gemini);
    opencode_leaves_nobody_behind_when_cancelled: leaves_nobody_behind(Opencode);

    claude_ends_what_a_command_left_running: ends_what_was_left_running(Claude);
    // Codex and Gemini CLI themselves end what a command leaves running.
    opencode_ends_what_a_command_left_running: ends_what_was_left_running(Opencode);

    claude_goes_on_after_a_cancel: goes_on_after_a_cancel(Claude);
    codex_goes_on_after_a_cancel: goes_on_after_a_cancel(Codex);
    gemini_goes_on_after_a_cancel: goes_on_after_a_cancel(Gemini);
    opencode_goes_on_after_a_cancel: goes_on_after_a_cancel(Opencode);

    claude_ends_with_a_reason_when_the_bridge_was_killed: survives_a_killed_bridge(Claude);
    codex_ends_with_a_reason_when_the_bridge_was_killed: survives_a_killed_bridge(Codex);
    gemini_ends_with_a_reason_when_the_bridge_was_killed: survives_a_killed_bridge(Gemini);
    opencode_ends_with_a_reason_when_the_bridge_was_killed: survives_a_killed_bridge(Opencode);

    claude_remembers_the_conversation: remembers(Claude);
    codex_remembers_the_conversation: remembers(Codex);
    gemini_remembers_the_conversation: remembers(Gemini);
    opencode_remembers_the_conversation: remembers(Opencode);

    claude_says_why_a_refused_key_ends_a_task: says_why_the_key_is_refused(Claude);
    codex_says_why_a_refused_key_ends_a_task: says_why_the_key_is_refused(Codex);
    gemini_says_why_a_refused_key_ends_a_task: says_why_the_key_is_refused(Gemini);
    opencode_says_why_a_refused_key_ends_a_task: says_why_the_key_is_refused(Opencode);

    claude_says_why_a_broken_model_ends_a_task: says_why_the_model_is_broken(Claude);
    codex_says_why_a_broken_model_ends_a_task: says_why_the_model_is_broken(Codex);
}

async fn text_arrives_while_it_works(product: &mut Product) -> String {
    let task = product
        .give("Tell me something long.\n@mock text 200", output())
        .await;
    let story = follow(product, &task, 0, Person::Absent).await;
    story.assert_completed(product);
    assert!(story.increments > 20, "{story}");
    let wanted: Vec<String> = (1..=200).map(|n| format!("word{n}")).collect();
    assert_eq!(story.answer().trim(), wanted.join(" "), "{story}");
    assert!(
        story.first_before_end > Duration::from_millis(500),
        "{story:?}"
    );
    format!(
        "{story}, the first {:?} before the end",
        story.first_before_end
    )
}

async fn results_can_be_downloaded(product: &mut Product) -> String {
    let task = product
        .give("Write it down.\n@mock write output/notes/a.md", output())
        .await;
    let story = follow(product, &task, 0, Person::Absent).await;
    story.assert_completed(product);
    let files = product.files(&task).await;
    let files = files["files"].as_array().cloned().unwrap_or_default();
    let found = files.iter().any(|file| file["path"] == "notes/a.md");
    assert!(found, "{files:?} {}", story.answer());
    assert_eq!(product.file(&task, "notes/a.md").await, WRITTEN);
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
    let task = product
        .give("Make a file.\n@mock shell touch made.txt", mode)
        .await;
    let story = follow(product, &task, 0, Person::Rejects).await;
    story.assert_completed(product);
    assert_eq!(story.asks.len(), 1, "{:?}", story.asks);
    assert!(!repository.join("made.txt").exists(), "{}", story.answer());
    assert!(
        !trap.exists(),
        "the repository's settings started a program"
    );
    format!("{story}")
}

async fn runs_what_is_allowed(product: &mut Product) -> String {
    let (task, story) = ask_for_a_command(product, Person::Allows).await;
    assert!(
        product.task_folder(&task).await.join("made.txt").is_file(),
        "{}",
        story.answer()
    );
    format!("{story}")
}

async fn leaves_what_is_rejected(product: &mut Product) -> String {
    let (task, story) = ask_for_a_command(product, Person::Rejects).await;
    assert!(
        !product.task_folder(&task).await.join("made.txt").exists(),
        "{}",
        story.answer()
    );
    format!("{story}")
}

async fn ask_for_a_command(product: &Product, person: Person) -> (String, Story) {
    let prompt = "Make a file.\n@mock shell touch made.txt";
    let task = product.give(prompt, output()).await;
    let story = follow(product, &task, 0, person).await;
    story.assert_completed(product);
    let kinds: Vec<AskKind> = story.asks.iter().map(|ask| ask.kind).collect();
    assert_eq!(kinds, [AskKind::Command], "{:?}", story.asks);
    assert!(
        story.asks[0].summary.contains("touch made.txt"),
        "{:?}",
        story.asks
    );
    (task, story)
}

async fn leaves_nobody_behind(product: &mut Product) -> String {
    let prompt = format!("Take your time.\n@mock shell {LONG}");
    let task = product.give(&prompt, output()).await;
    let (story, took) = cancel_while_it_sleeps(product, &task).await;
    format!("{story}, cancelled in {took:?}")
}

async fn ends_what_was_left_running(product: &mut Product) -> String {
    let command = "nohup sleep 321 >/dev/null 2>&1 &";
    let task = product
        .give(&format!("Leave it on.\n@mock linger {command}"), output())
        .await;
    let (story, took) = cancel_while_it_sleeps(product, &task).await;
    format!("{story}, cancelled in {took:?}")
}

async fn goes_on_after_a_cancel(product: &mut Product) -> String {
    let prompt = format!("The word is heron-2986.\n@mock shell {LONG}");
    let task = product.give(&prompt, output()).await;
    let (first, _) = cancel_while_it_sleeps(product, &task).await;
    product
        .follow_up(&task, "What was the word?\n@mock recall")
        .await;
    let second = follow(product, &task, first.last, Person::Absent).await;
    second.assert_completed(product);
    assert!(
        second.answer().contains("The word is heron-2986."),
        "{}",
        second.answer()
    );
    format!("{first}; then {second}")
}

async fn survives_a_killed_bridge(product: &mut Product) -> String {
    let prompt = format!("Take your time.\n@mock shell {LONG}");
    let task = product.give(&prompt, output()).await;
    let following = Box::pin(follow(product, &task, 0, Person::Allows));
    drop(until_it_sleeps(product, following).await);
    product.kill_and_start_again().await;
    let story = follow(product, &task, 0, Person::Away).await;
    let left = product.processes();
    let Outcome::Failed { fault, reason } = &story.outcome else {
        panic!("{story:?}\n{}", product.diagnosis());
    };
    assert!(!reason.trim().is_empty(), "{story:?}");
    assert!(
        left.iter().all(|one| one.run.is_none()),
        "{left:#?}\n{}",
        product.diagnosis()
    );
    format!("{story}, failed by the {fault:?}: {reason}")
}

/// Allows the command, cancels the task once its `sleep 321` is there, and looks who is left.
async fn cancel_while_it_sleeps(product: &Product, task: &str) -> (Story, Duration) {
    let following = pin!(follow(product, task, 0, Person::Allows));
    let following = until_it_sleeps(product, following).await;
    let asked = Instant::now();
    product.cancel(task).await;
    let story = following.await;
    let took = asked.elapsed();
    let left = product.processes();
    assert_eq!(
        story.outcome,
        Outcome::Cancelled { by: Actor::Person },
        "{story}"
    );
    assert_eq!(product.task(task).await["summary"]["status"], "cancelled");
    assert!(
        !left.iter().any(|one| one.command.starts_with("sleep")),
        "{left:#?}"
    );
    assert!(
        left.iter().all(|one| one.run.is_none()),
        "{left:#?}\n{}",
        product.diagnosis()
    );
    assert!(took < Duration::from_secs(10), "{took:?}");
    (story, took)
}

/// Follows a run until its `sleep 321` is there.
async fn until_it_sleeps<F>(product: &Product, following: F) -> F
where
    F: Future<Output = Story> + Unpin,
{
    let sleeps = async {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        while !product
            .processes()
            .iter()
            .any(|one| one.command == "sleep 321")
        {
            tick.tick().await;
        }
    };
    match select(following, pin!(sleeps)).await {
        Either::Left((story, _)) => panic!("it did not sleep: {story:?}"),
        Either::Right(((), following)) => following,
    }
}

async fn remembers(product: &mut Product) -> String {
    let task = product
        .give("The word is pelican-7341.\n@mock text 3", output())
        .await;
    let first = follow(product, &task, 0, Person::Absent).await;
    first.assert_completed(product);
    product
        .follow_up(&task, "What was the word?\n@mock recall")
        .await;
    let second = follow(product, &task, first.last, Person::Absent).await;
    second.assert_completed(product);
    let answer = second.answer();
    assert!(answer.contains("The word is pelican-7341."), "{answer}");
    format!("{first}; then {second}")
}

async fn says_why_the_key_is_refused(product: &mut Product) -> String {
    says_why_it_ends(product, 401).await
}

async fn says_why_the_model_is_broken(product: &mut Product) -> String {
    says_why_it_ends(product, 500).await
}

async fn says_why_it_ends(product: &Product, status: u16) -> String {
    let task = product
        .give(&format!("Try.\n@mock error {status}"), output())
        .await;
    let story = follow(product, &task, 0, Person::Absent).await;
    let why = match &story.outcome {
        Outcome::Failed { fault, reason } => format!("failed by the {fault:?}: {reason}"),
        Outcome::Blocked { fix, reason } => format!("blocked until {fix:?}: {reason}"),
        Outcome::Completed | Outcome::Cancelled { .. } => {
            panic!("{:?}\n{}", story.outcome, product.diagnosis())
        }
    };
    let view = product.task(&task).await;
    let reason = view["summary"]["reason"].as_str().unwrap_or_default();
    assert!(!reason.trim().is_empty(), "{view}");
    format!("{story}, {why}")
}

/// Runs a promise with a product of its own and within a limit, and prints its figures.
fn check(name: &str, agent: Agent, promise: impl AsyncFnOnce(&mut Product) -> String) {
    let Some(installed) = agents::installed() else {
        tell(&format!("{name}: skipped, CTRLNODE_E2E_AGENTS is not set"));
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let figures = runtime.block_on(async {
        let product = Product::start(agent, &installed);
        let product = tokio::time::timeout(START_LIMIT, product).await;
        let mut product = product.expect("the product starts and finds its agent in time");
        let figures = tokio::time::timeout(LIMIT, promise(&mut product)).await;
        figures.unwrap_or_else(|late| panic!("{late} after {LIMIT:?}\n{}", product.diagnosis()))
    });
    tell(&format!("{name}: {figures}"));
}

/// A line that is seen although the test passes.
fn tell(line: &str) {
    let mut stderr = std::io::stderr().lock();
    writeln!(stderr, "{line}").unwrap();
}

fn output() -> Value {
    json!({ "mode": "output" })
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

/// Claude Code refuses a command that begins with `sleep`.
const LONG: &str = "for i in 1 2 3; do sleep 321; done";
/// Until the agent is found and said to be healthy.
const START_LIMIT: Duration = Duration::from_secs(60);
/// For what a test does with it; Gemini CLI can resume only when the minute of the clock has changed.
const LIMIT: Duration = Duration::from_secs(120);
