//! What is promised of single agents of the Agent Client Protocol beyond what every agent keeps,
//! with real processes.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bridge_proto::{
    ResumeId, RunKey, TaskId,
    model::{Actor, Ask, Outcome, RunEvent},
};
use bridge_providers::{
    cursor::CursorProvider,
    provider::{Asking, Conversation, Heard, Provider, RunSpec, Steer, TurnEnd},
};
use bridge_testkit::{bridge, home::Home};
use tokio::time::timeout;

/// A conversation with the agent of one test.
struct Talk {
    conversation: Conversation,
    resume: Option<ResumeId>,
    asked: Option<Ask>,
}

impl Talk {
    async fn open(home: &Home, provider: &Arc<dyn Provider>, resume: Option<ResumeId>) -> Self {
        let directory = home.workspace().join("project");
        fs::create_dir_all(&directory).unwrap();
        let spec = RunSpec {
            agent: None,
            run: RunKey {
                task: TaskId::parse("acp").unwrap(),
                attempt: "1".into(),
            },
            directory,
            extra_directories: Vec::new(),
            model: None,
            asking: Asking::Answered,
            instructions: String::new(),
            resume,
            trusted: false,
            temp: None,
        };
        Self {
            conversation: provider.open(spec).await.unwrap(),
            resume: None,
            asked: None,
        }
    }

    async fn say(&mut self, prompt: &str) {
        self.steer(Steer::Prompt(prompt.into())).await;
    }

    async fn steer(&mut self, steer: Steer) {
        self.conversation.steer.send(steer).await.unwrap();
    }

    async fn next(&mut self) -> Heard {
        let heard = timeout(Duration::from_secs(60), self.conversation.heard.recv()).await;
        let heard = heard.expect("it says something in time").expect("it lives");
        match &heard {
            Heard::Resumable(resume) => self.resume = Some(resume.clone()),
            Heard::Seen(seen) => {
                if let RunEvent::Ask(ask) = &seen.event {
                    self.asked = Some(ask.clone());
                }
            }
            Heard::Prompted
            | Heard::TurnOver(_)
            | Heard::Injected(_)
            | Heard::Applied(_)
            | Heard::Gone => {}
        }
        heard
    }

    async fn ask(&mut self) -> Ask {
        loop {
            self.next().await;
            if let Some(ask) = self.asked.take() {
                return ask;
            }
        }
    }

    async fn over(&mut self) -> TurnEnd {
        loop {
            if let Heard::TurnOver(end) = self.next().await {
                return end;
            }
        }
    }

    async fn gone(&mut self) {
        while self.next().await != Heard::Gone {}
    }
}

#[tokio::test]
async fn a_permission_that_hermes_waits_a_minute_for_says_until_when() {
    let home = Home::new();
    let mut talk = Talk::open(&home, &bridge::hermes(&home), None).await;
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    talk.say("@ask").await;
    let ask = talk.ask().await;
    let expires = ask.expires.expect("a time");
    let expires = Duration::from_millis(expires.as_millis().unsigned_abs());
    let left = expires.saturating_sub(before).as_secs();
    assert!((45..=75).contains(&left), "{left} s");

    let home = Home::new();
    let mut talk = Talk::open(&home, &bridge::copilot(&home), None).await;
    talk.say("@ask").await;
    assert_eq!(talk.ask().await.expires, None);
}

#[tokio::test]
async fn a_hermes_that_a_cancel_has_wedged_is_left_and_the_conversation_goes_on_in_a_new_one() {
    let home = Home::new();
    let hermes = bridge::hermes(&home);
    let mut talk = Talk::open(&home, &hermes, None).await;
    talk.say("@stream 3\nthe blue whale").await;
    assert_eq!(talk.over().await.outcome, Outcome::Completed);
    talk.say("@ask").await;
    talk.ask().await;
    talk.steer(Steer::Interrupt).await;
    let end = talk.over().await;
    let cancelled = Outcome::Cancelled { by: Actor::Person };
    assert_eq!(end.outcome, cancelled);
    talk.gone().await;
    home.none_left_of("acp", "1").await;

    let resume = talk.resume.take();
    assert!(resume.is_some());
    let mut talk = Talk::open(&home, &hermes, resume).await;
    talk.say("@remember").await;
    let end = talk.over().await;
    assert_eq!(end.outcome, Outcome::Completed);
    assert!(end.answer.contains("the blue whale"), "{}", end.answer);
}

#[tokio::test]
async fn a_prompt_that_begins_with_a_slash_reaches_the_model_of_hermes() {
    let home = Home::new();
    let mut talk = Talk::open(&home, &bridge::hermes(&home), None).await;
    talk.say("/help is what I would like to have").await;
    let end = talk.over().await;
    assert_eq!(end.outcome, Outcome::Completed);
    assert!(end.answer.contains("Hello"), "{}", end.answer);
}

#[tokio::test]
async fn a_cursor_without_the_protocol_is_found_out_and_driven_in_its_print_mode() {
    let home = Home::new();
    let programs = home.path().join("programs");
    fs::create_dir_all(&programs).unwrap();
    let program = programs.join("cursor-agent");
    fs::write(&program, OLD_CURSOR).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", programs.display());
    let host = home.host(&[("PATH", &path), ("CURSOR_API_KEY", "none")]);
    let cursor: Arc<dyn Provider> = Arc::new(CursorProvider::new(host));

    let health = cursor.probe(Duration::from_secs(20)).await;
    assert_eq!(health.version.as_deref(), Some("2025.01.01-old"));
    let mut talk = Talk::open(&home, &cursor, None).await;
    talk.say("how are you?").await;
    let end = talk.over().await;
    assert_eq!(end.outcome, Outcome::Completed);
    assert_eq!(end.answer, "You said how are you?");
    talk.gone().await;
    assert_eq!(talk.resume.as_ref().map(ResumeId::as_str), Some("chat-1"));
}

/// Answers in its print mode alone, with what it was asked.
const OLD_CURSOR: &str = r#"#!/bin/sh
case "$1" in
--version) echo 2025.01.01-old ;;
-p)
    asked=$(cat)
    echo '{"type":"system","subtype":"init","session_id":"chat-1","model":"old"}'
    echo '{"type":"assistant","message":{"role":"assistant","content":[{"type":"text","text":"You said '"$asked"'"}]},"session_id":"chat-1","timestamp_ms":1}'
    echo '{"type":"result","subtype":"success","is_error":false,"result":"You said '"$asked"'","session_id":"chat-1"}'
    ;;
*) echo "error: unknown command '$1'" >&2; exit 1 ;;
esac
"#;
