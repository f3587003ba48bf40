//! Finding Claude Code by look-ups only, and talking with a made-up one, in a made-up home.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "in a test a panic is the failure")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use bridge_proto::{
    ProviderKey, ResumeId, RunKey, TaskId,
    model::{HealthReason, Outcome, RunEvent},
};
use bridge_providers::{
    claude::ClaudeProvider,
    host::Host,
    provider::{Asking, Found, Heard, ListError, Provider as _, RunSpec, StartError, Steer},
};
use tempfile::TempDir;

#[test]
fn it_is_found_in_the_search_path_before_its_own_folder() {
    let home = TempDir::new().unwrap();
    let own = program(&home.path().join(".claude/local/claude"));
    assert_eq!(find(&home, &[]).program, Some(own));
    let first = program(&home.path().join("tools/claude"));
    let path = home.path().join("tools");
    assert_eq!(
        find(&home, &[("PATH", path.to_str().unwrap())]).program,
        Some(first)
    );
}

#[test]
fn a_named_program_wins_and_must_exist() {
    let home = TempDir::new().unwrap();
    program(&home.path().join(".claude/local/claude"));
    let named = program(&home.path().join("my-claude"));
    let found = find(&home, &[("CLAUDE_SDK_EXECUTABLE", named.to_str().unwrap())]);
    assert_eq!(found.program, Some(named));
    let found = find(&home, &[("CLAUDE_SDK_EXECUTABLE", "/nowhere/claude")]);
    assert_eq!(found.program, None);
    assert_eq!(found.health.reason, Some(HealthReason::BinaryMissing));
    assert!(found.health.hint.unwrap().contains("CLAUDE_SDK_EXECUTABLE"));
}

#[test]
#[cfg(not(target_os = "macos"))]
fn credentials_count_by_their_existence() {
    let home = TempDir::new().unwrap();
    program(&home.path().join(".claude/local/claude"));
    assert_eq!(
        find(&home, &[]).health.reason,
        Some(HealthReason::AuthRequired)
    );
    for name in [
        "ANTHROPIC_API_KEY",
        "CLAUDE_CODE_OAUTH_TOKEN",
        "ANTHROPIC_AUTH_TOKEN",
    ] {
        assert!(find(&home, &[(name, "x")]).health.available, "{name}");
    }
    assert!(
        find(&home, &[("CLAUDE_CODE_USE_VERTEX", "1")])
            .health
            .available
    );
    let config = home.path().join("config");
    fs::create_dir(&config).unwrap();
    fs::write(config.join(".credentials.json"), "never read").unwrap();
    let elsewhere = [("CLAUDE_CONFIG_DIR", config.to_str().unwrap())];
    assert!(find(&home, &elsewhere).health.available);
    fs::write(home.path().join(".claude/.credentials.json"), "never read").unwrap();
    assert!(find(&home, &[]).health.available);
}

#[tokio::test]
async fn the_program_is_asked_for_version_login_and_models() {
    let home = TempDir::new().unwrap();
    script(&home, FAKE);
    let provider = provider(&home, &[]);
    let health = provider.probe(LIMIT).await;
    assert!(health.available, "{health:?}");
    assert_eq!(health.version.as_deref(), Some("2.1.328"));
    assert_eq!(provider.models(LIMIT).await.unwrap(), ["default", "opus"]);
}

#[tokio::test]
async fn a_program_that_is_not_logged_in_or_broken_is_told_apart() {
    let home = TempDir::new().unwrap();
    script(
        &home,
        "case $1 in --version) echo 2.0.0;; *) echo '{\"loggedIn\":false}'; exit 1;; esac",
    );
    let health = provider(&home, &[("ANTHROPIC_API_KEY", "x")])
        .probe(LIMIT)
        .await;
    assert_eq!(health.reason, Some(HealthReason::AuthRequired));
    assert_eq!(health.version.as_deref(), Some("2.0.0"));

    script(&home, "echo broken library >&2; exit 127");
    let broken = provider(&home, &[]);
    let health = broken.probe(LIMIT).await;
    assert_eq!(health.reason, Some(HealthReason::BinaryMissing));
    assert!(health.hint.unwrap().contains("broken library"));
    assert!(matches!(
        broken.models(LIMIT).await,
        Err(ListError::NoAnswer { .. })
    ));
}

#[tokio::test]
async fn a_conversation_takes_prompts_one_after_another_and_closes() {
    let home = TempDir::new().unwrap();
    script(&home, FAKE);
    let mut talk = provider(&home, &[]).open(spec(&home)).await.unwrap();
    for prompt in ["one", "two"] {
        talk.steer.send(Steer::Prompt(prompt.into())).await.unwrap();
    }
    let (mut turns, mut conversations, mut texts) = (Vec::new(), Vec::new(), String::new());
    while let Some(heard) = talk.heard.recv().await {
        match heard {
            Heard::TurnOver(end) => {
                turns.push(end.outcome);
                if turns.len() == 2 {
                    talk.steer.send(Steer::Close).await.unwrap();
                }
            }
            Heard::Resumable(id) => conversations.push(id),
            Heard::Seen(seen) => {
                if let RunEvent::Text { delta, .. } = seen.event {
                    texts.push_str(&delta);
                }
            }
            Heard::Prompted | Heard::Applied(_) | Heard::Injected(_) | Heard::Gone => {}
        }
    }
    assert_eq!(turns, [Outcome::Completed, Outcome::Completed]);
    assert_eq!(conversations, [ResumeId::parse("c1").unwrap()]);
    assert_eq!(texts, "Hello.Hello.");
}

#[tokio::test]
async fn what_is_not_installed_cannot_be_opened() {
    let home = TempDir::new().unwrap();
    let provider = provider(&home, &[("CLAUDE_SDK_EXECUTABLE", "/nowhere/claude")]);
    let opened = provider.open(spec(&home)).await;
    assert!(matches!(opened, Err(StartError::Missing { .. })));
    assert!(matches!(
        provider.models(LIMIT).await,
        Err(ListError::Start(_))
    ));
    assert_eq!(
        provider.probe(LIMIT).await.reason,
        Some(HealthReason::BinaryMissing)
    );
}

/// Answers as the real program does, in shell.
const FAKE: &str = r#"
case $1 in
--version) echo "2.1.328 (Claude Code)"; exit ;;
auth) echo '{"loggedIn":true,"authMethod":"api_key"}'; exit ;;
esac
while read -r line; do
  case $line in
  *initialize*)
    id=models
    case $line in *bridge-1*) id=bridge-1 ;; esac
    echo '{"type":"control_response","response":{"subtype":"success","request_id":"'$id'","response":{"models":[{"value":"default"},{"value":"opus"}]}}}' ;;
  *'"type":"user"'*)
    n=$((n + 1))
    echo '{"type":"system","subtype":"init","session_id":"c1","model":"m","cwd":"/"}'
    echo '{"type":"assistant","message":{"id":"m'$n'","model":"m","content":[{"type":"text","text":"Hello."}]},"parent_tool_use_id":null}'
    echo '{"subtype":"success","is_error":false,"terminal_reason":"completed","result":"Hello.","type":"result"}' ;;
  esac
done
"#;
const LIMIT: Duration = Duration::from_secs(20);

fn script(home: &TempDir, body: &str) {
    let file = program(&home.path().join(".claude/local/claude"));
    fs::write(file, format!("#!/bin/sh\n{body}")).unwrap();
}

fn spec(home: &TempDir) -> RunSpec {
    RunSpec {
        agent: None,
        run: RunKey {
            task: TaskId::parse("task").unwrap(),
            attempt: "1".into(),
        },
        directory: home.path().to_owned(),
        extra_directories: Vec::new(),
        model: None,
        asking: Asking::Answered,
        instructions: String::new(),
        resume: None,
        trusted: false,
        temp: None,
    }
}

fn find(home: &TempDir, vars: &[(&str, &str)]) -> Found {
    provider(home, vars).find()
}

fn provider(home: &TempDir, vars: &[(&str, &str)]) -> ClaudeProvider {
    let home = [("HOME", home.path().to_str().unwrap())];
    let path = [("PATH", "/nowhere")];
    let all = home.iter().chain(&path).chain(vars);
    let host = Host::new(all.map(|(name, value)| (name.into(), value.into())));
    ClaudeProvider::new(ProviderKey::parse("claude").unwrap(), host)
}

fn program(file: &Path) -> PathBuf {
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, "#!/bin/sh\n").unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
    file.to_owned()
}
