//! Finding Codex by look-ups only, and talking with a made-up one, in a made-up home.

#![cfg(unix)]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use bridge_proto::{
    ResumeId, RunKey, TaskId,
    model::{HealthReason, Outcome, RunEvent},
};
use bridge_providers::{
    codex::CodexProvider,
    host::Host,
    provider::{Asking, Conversation, Heard, ListError, Provider as _, RunSpec, StartError, Steer},
};
use tempfile::TempDir;

#[test]
fn a_named_program_wins_and_must_exist() {
    let home = TempDir::new().unwrap();
    let usual = program(&home.path().join(".local/bin/codex"));
    assert_eq!(provider(&home, &[]).find().program, Some(usual));
    let named = program(&home.path().join("my-codex"));
    let found = provider(&home, &[("CODEX_BIN_PATH", named.to_str().unwrap())]).find();
    assert_eq!(found.program, Some(named));
    let found = provider(&home, &[("CODEX_BIN_PATH", "/nowhere/codex")]).find();
    assert_eq!(found.health.reason, Some(HealthReason::BinaryMissing));
    assert!(found.health.hint.unwrap().contains("CODEX_BIN_PATH"));
}

#[test]
fn a_login_counts_by_the_existence_of_its_file_and_a_provider_of_ones_own_by_its_name() {
    let home = TempDir::new().unwrap();
    program(&home.path().join(".local/bin/codex"));
    let health = |vars: &[(&str, &str)]| provider(&home, vars).find().health;
    assert_eq!(health(&[]).reason, Some(HealthReason::AuthRequired));
    // The program itself does not look at this one.
    assert!(!health(&[("OPENAI_API_KEY", "x")]).available);
    assert!(health(&[("CODEX_API_KEY", "x")]).available);
    let elsewhere = home.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let there = [("CODEX_HOME", elsewhere.to_str().unwrap())];
    fs::write(elsewhere.join("auth.json"), "never read").unwrap();
    assert!(health(&there).available);
    fs::remove_file(elsewhere.join("auth.json")).unwrap();
    fs::write(elsewhere.join("config.toml"), "model_provider = \"openai\"").unwrap();
    assert!(!health(&there).available);
    fs::write(elsewhere.join("config.toml"), "model_provider = \"mine\"").unwrap();
    assert!(health(&there).available);
}

#[tokio::test]
async fn one_start_tells_login_and_models() {
    let home = TempDir::new().unwrap();
    script(&home, FAKE);
    let provider = provider(&home, &[]);
    let health = provider.probe(LIMIT).await;
    assert!(health.available, "{health:?}");
    assert_eq!(health.version.as_deref(), Some("0.169.0"));
    assert_eq!(provider.models(LIMIT).await.unwrap(), ["gpt-b", "gpt-a"]);
}

#[tokio::test]
async fn a_program_that_is_not_logged_in_or_broken_is_told_apart() {
    let home = TempDir::new().unwrap();
    script(
        &home,
        &FAKE.replace(
            r#""requiresOpenaiAuth":false"#,
            r#""requiresOpenaiAuth":true"#,
        ),
    );
    fs::create_dir_all(home.path().join(".codex")).unwrap();
    fs::write(home.path().join(".codex/auth.json"), "expired").unwrap();
    let provider = provider(&home, &[]);
    assert!(provider.find().health.available);
    let health = provider.probe(LIMIT).await;
    assert_eq!(health.reason, Some(HealthReason::AuthRequired));
    assert_eq!(health.version.as_deref(), Some("0.169.0"));

    script(&home, "echo broken library >&2; exit 127");
    let health = provider.probe(LIMIT).await;
    assert_eq!(health.reason, Some(HealthReason::BinaryMissing));
    assert!(health.hint.unwrap().contains("broken library"));
    let models = provider.models(LIMIT).await;
    assert!(matches!(models, Err(ListError::NoAnswer { .. })));
}

#[tokio::test]
async fn a_conversation_takes_prompts_one_after_another_and_closes() {
    let home = TempDir::new().unwrap();
    script(&home, FAKE);
    let talk = provider(&home, &[]).open(spec(&home)).await.unwrap();
    let heard = talk_to(talk, &["one", "two"]).await;
    assert_eq!(heard.turns, [Outcome::Completed, Outcome::Completed]);
    assert_eq!(heard.conversations, [ResumeId::parse("c1").unwrap()]);
    assert_eq!(heard.text, "Hello.Hello.");
}

#[tokio::test]
async fn no_start_leaves_it_to_the_program_whether_the_folder_is_trusted() {
    let home = TempDir::new().unwrap();
    script(&home, &format!("echo \"$@\" >> \"$HOME/starts\"\n{FAKE}"));
    let config = home.path().join(".codex/config.toml");
    fs::create_dir_all(config.parent().unwrap()).unwrap();
    fs::write(&config, "model = \"m\"\n").unwrap();
    for (trusted, level) in [(false, "untrusted"), (true, "trusted")] {
        let spec = RunSpec {
            trusted,
            ..spec(&home)
        };
        let talk = provider(&home, &[]).open(spec).await.unwrap();
        talk_to(talk, &["one"]).await;
        let starts = fs::read_to_string(home.path().join("starts")).unwrap();
        let folder = home.path().display();
        let entry = format!("\"{folder}\"={{trust_level=\"{level}\"}}");
        let last = starts.lines().last().unwrap();
        assert!(
            last.starts_with("app-server ") && last.contains(&entry),
            "{last}"
        );
    }
    assert_eq!(fs::read_to_string(&config).unwrap(), "model = \"m\"\n");
}

#[tokio::test]
async fn a_key_in_a_variable_is_used_where_no_login_is_stored() {
    let home = TempDir::new().unwrap();
    script(&home, &format!("echo \"$@\" >> \"$HOME/starts\"\n{FAKE}"));
    let provider = provider(&home, &[("CODEX_API_KEY", "hush")]);
    let starts = || fs::read_to_string(home.path().join("starts")).unwrap();
    provider.models(LIMIT).await.unwrap();
    assert!(starts().contains("env_key=\"CODEX_API_KEY\"") && !starts().contains("hush"));
    fs::create_dir_all(home.path().join(".codex")).unwrap();
    fs::write(home.path().join(".codex/auth.json"), "a login").unwrap();
    provider.models(LIMIT).await.unwrap();
    let last = starts().lines().last().unwrap().to_owned();
    assert!(!last.contains("env_key"), "{last}");
}

#[tokio::test]
async fn a_version_without_an_app_server_works_by_exec_and_is_found_out_once() {
    let home = TempDir::new().unwrap();
    script(&home, &format!("echo \"$@\" >> \"$HOME/starts\"\n{OLD}"));
    let provider = provider(&home, &[EXEC]);
    let talk = provider.open(spec(&home)).await.unwrap();
    let heard = talk_to(talk, &["first\nline"]).await;
    assert_eq!(heard.turns, [Outcome::Completed]);
    assert_eq!(heard.conversations, [ResumeId::parse("c7").unwrap()]);
    assert_eq!(heard.text, "You said: first line");

    let resume = heard.conversations.into_iter().next();
    let again = RunSpec {
        resume,
        ..spec(&home)
    };
    let talk = provider.open(again).await.unwrap();
    let heard = talk_to(talk, &["more"]).await;
    assert_eq!(heard.text, "You said: more");
    let starts = fs::read_to_string(home.path().join("starts")).unwrap();
    let count = |word: &str| starts.lines().filter(|line| line.starts_with(word)).count();
    assert_eq!((count("app-server"), count("exec")), (1, 2), "{starts}");
    assert!(
        starts.lines().last().unwrap().ends_with("resume -- c7 -"),
        "{starts}"
    );

    // Another version is looked at again.
    script(&home, FAKE);
    let talk = provider.open(spec(&home)).await.unwrap();
    assert_eq!(talk_to(talk, &["x"]).await.text, "Hello.");
}

#[tokio::test]
async fn what_would_ask_nobody_is_not_started_unless_the_user_allows_it() {
    let home = TempDir::new().unwrap();
    script(&home, &format!("echo \"$@\" >> \"$HOME/starts\"\n{OLD}"));
    let plain = provider(&home, &[("CODEX_API_KEY", "k")]);
    let asked = [Asking::Answered, Asking::Unanswered, Asking::Unneeded];
    for asking in asked {
        let spec = RunSpec {
            asking,
            ..spec(&home)
        };
        let refused = plain.open(spec).await.unwrap_err();
        assert!(matches!(refused, StartError::Unasked { .. }), "{refused:?}");
        let said = refused.to_string();
        assert!(said.contains("CODEX_EXEC_FALLBACK=1"), "{said}");
    }
    let health = plain.probe(LIMIT).await;
    assert_eq!(health.reason, Some(HealthReason::BinaryMissing));
    assert!(health.hint.unwrap().contains("CODEX_EXEC_FALLBACK=1"));
    let starts = fs::read_to_string(home.path().join("starts")).unwrap();
    assert!(!starts.contains("exec"), "{starts}");

    let allowed = provider(&home, &[("CODEX_API_KEY", "k"), EXEC]);
    assert!(allowed.probe(LIMIT).await.available);
}

#[tokio::test]
async fn a_cancelled_exec_ends_at_once_as_cancelled() {
    let home = TempDir::new().unwrap();
    script(
        &home,
        &OLD.replace(
            "echo '{\"type\":\"item",
            "sleep 321; echo '{\"type\":\"item",
        ),
    );
    let mut talk = provider(&home, &[EXEC]).open(spec(&home)).await.unwrap();
    talk.steer.send(Steer::Prompt("work".into())).await.unwrap();
    let mut outcome = None;
    while let Some(heard) = talk.heard.recv().await {
        match heard {
            Heard::Resumable(_) => talk.steer.send(Steer::Interrupt).await.unwrap(),
            Heard::TurnOver(end) => outcome = Some(end.outcome),
            _ => {}
        }
    }
    assert!(
        matches!(outcome, Some(Outcome::Cancelled { .. })),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn what_is_not_installed_cannot_be_opened() {
    let home = TempDir::new().unwrap();
    let provider = provider(&home, &[("CODEX_BIN_PATH", "/nowhere/codex")]);
    let opened = provider.open(spec(&home)).await;
    assert!(matches!(opened, Err(StartError::Missing { .. })));
    assert!(matches!(
        provider.models(LIMIT).await,
        Err(ListError::Start(_))
    ));
    let health = provider.probe(LIMIT).await;
    assert_eq!(health.reason, Some(HealthReason::BinaryMissing));
}

/// What came of a whole conversation.
#[derive(Default)]
struct Whole {
    turns: Vec<Outcome>,
    conversations: Vec<ResumeId>,
    text: String,
}

/// Says the prompts, closes after the last, and listens to the end.
async fn talk_to(mut talk: Conversation, prompts: &[&str]) -> Whole {
    for prompt in prompts {
        talk.steer
            .send(Steer::Prompt((*prompt).into()))
            .await
            .unwrap();
    }
    let mut whole = Whole::default();
    while let Some(heard) = talk.heard.recv().await {
        match heard {
            Heard::TurnOver(end) => {
                whole.turns.push(end.outcome);
                if whole.turns.len() == prompts.len() {
                    // One that is gone already needs no closing.
                    drop(talk.steer.send(Steer::Close).await);
                }
            }
            Heard::Resumable(id) => whole.conversations.push(id),
            Heard::Seen(seen) => {
                if let RunEvent::Text { delta, .. } = seen.event {
                    whole.text.push_str(&delta);
                }
            }
            Heard::Prompted | Heard::Applied(_) | Heard::Injected(_) | Heard::Gone => {}
        }
    }
    whole
}

/// Answers as the real program does, in shell.
const FAKE: &str = r#"
case $1 in --version) echo "codex-cli 0.169.0"; exit ;; esac
while read -r line; do
  id=${line#*:}; id=${id%%,*}
  case $line in
  *'"initialize"'*) echo '{"id":'$id',"result":{"userAgent":"ctrlnode/0.169.0"}}' ;;
  *account/read*) echo '{"id":'$id',"result":{"account":null,"requiresOpenaiAuth":false}}' ;;
  *model/list*) echo '{"id":'$id',"result":{"data":[{"model":"gpt-a"},{"model":"gpt-b","isDefault":true}]}}' ;;
  *config/read*) echo '{"id":'$id',"error":{"code":-32600,"message":"no such method"}}' ;;
  *thread/start*) echo '{"id":'$id',"result":{"thread":{"id":"c1"},"model":"m"}}' ;;
  *turn/start*)
    n=$((n + 1))
    echo '{"id":'$id',"result":{"turn":{"id":"t'$n'"}}}'
    echo '{"method":"item/completed","params":{"threadId":"c1","turnId":"t'$n'","item":{"type":"agentMessage","id":"m'$n'","text":"Hello."}}}'
    echo '{"method":"turn/completed","params":{"threadId":"c1","turn":{"id":"t'$n'","status":"completed","error":null}}}' ;;
  esac
done
"#;
/// A version that takes `app-server` for a prompt.
const OLD: &str = r#"
case $1 in
--version) echo "codex-cli 0.20.0"; exit ;;
exec) ;;
*) echo "Error: stdin is not a terminal" >&2; exit 1 ;;
esac
prompt=$(cat | tr '\n' ' ' | sed 's/ *$//')
echo '{"type":"thread.started","thread_id":"c7"}'
echo '{"type":"turn.started"}'
echo '{"type":"item.completed","item":{"id":"item_0","type":"agent_message","text":"You said: '"$prompt"'"}}'
echo '{"type":"turn.completed","usage":{"input_tokens":1,"output_tokens":1}}'
"#;
const LIMIT: Duration = Duration::from_secs(20);
/// The user's word for it.
const EXEC: (&str, &str) = ("CODEX_EXEC_FALLBACK", "1");

fn script(home: &TempDir, body: &str) {
    let file = program(&home.path().join(".local/bin/codex"));
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

fn provider(home: &TempDir, vars: &[(&str, &str)]) -> CodexProvider {
    let home = [("HOME", home.path().to_str().unwrap())];
    let path = [("PATH", "/usr/bin:/bin")];
    let all = home.iter().chain(&path).chain(vars);
    CodexProvider::new(Host::new(
        all.map(|(name, value)| (name.into(), value.into())),
    ))
}

fn program(file: &Path) -> PathBuf {
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, "#!/bin/sh\n").unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
    file.to_owned()
}
