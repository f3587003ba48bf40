//! A turn over HTTP, where the gateway says nothing of its tools: the log of its session does.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::PathBuf,
    time::Duration,
};

use bridge_proto::{
    RunKey, TaskId,
    model::{Actor, Outcome, RunEvent, ToolState, ToolStatus},
};
use bridge_providers::{
    openclaw::OpenclawProvider,
    provider::{Asking, Conversation, Heard, Provider as _, RunSpec, Steer},
};
use bridge_testkit::{
    fake_gateway::{FakeGateway, Manners},
    home::Home,
};
use serde_json::{Value, json};
use tokio::time::timeout;

struct Talk {
    home: Home,
    conversation: Conversation,
    session: String,
    _gateway: FakeGateway,
}

impl Talk {
    /// A turn that works until it is interrupted, with its log looked at so often.
    async fn open(millis: &str) -> Self {
        let (home, gateway) = (
            Home::new(),
            FakeGateway::start(Manners {
                protocol: 5,
                ..Manners::default()
            }),
        );
        let file = home.path().join("openclaw.json");
        let config = json!({ "gateway": { "http": { "endpoints": {
            "chatCompletions": { "enabled": true } } } } });
        fs::write(&file, config.to_string()).unwrap();
        fs::create_dir_all(home.path().join("agents/main/sessions")).unwrap();
        let named = gateway.variables();
        let file = file.to_str().unwrap();
        let mut variables = vec![
            ("OPENCLAW_CONFIG_PATH", file),
            ("OPENCLAW_HTTP_FALLBACK", "1"),
            ("SESSION_HISTORY_POLL_MS", millis),
        ];
        variables.extend(
            named
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str())),
        );
        let provider = OpenclawProvider::new(home.host(&variables), &home.path().join("state"));
        let spec = RunSpec {
            agent: None,
            run: RunKey {
                task: TaskId::parse("task").unwrap(),
                attempt: "1".into(),
            },
            directory: home.workspace(),
            extra_directories: Vec::new(),
            model: None,
            asking: Asking::Answered,
            instructions: String::new(),
            resume: None,
            trusted: false,
            temp: None,
        };
        let conversation = provider.open(spec).await.unwrap();
        let mut talk = Self {
            home,
            conversation,
            session: String::new(),
            _gateway: gateway,
        };
        talk.tell(Steer::Prompt("@say working\n@hang".into())).await;
        loop {
            match talk.heard().await {
                Heard::Resumable(session) => session.as_str().clone_into(&mut talk.session),
                Heard::Seen(seen) if matches!(seen.event, RunEvent::Text { .. }) => return talk,
                Heard::Seen(_)
                | Heard::Prompted
                | Heard::Applied(_)
                | Heard::Injected(_)
                | Heard::TurnOver(_)
                | Heard::Gone => {}
            }
        }
    }

    async fn tell(&self, steer: Steer) {
        self.conversation.steer.send(steer).await.unwrap();
    }

    async fn heard(&mut self) -> Heard {
        let heard = timeout(Duration::from_secs(60), self.conversation.heard.recv()).await;
        heard.expect("something is heard in time").unwrap()
    }

    fn sessions(&self, name: &str) -> PathBuf {
        self.home.path().join("agents/main/sessions").join(name)
    }

    /// The gateway notes in which file the session is.
    fn note(&self, id: &str) {
        let key = format!("agent:main:{}", self.session);
        let notes = json!({ key: { "sessionId": id }, "agent:main:main": { "sessionId": "x" } });
        fs::write(self.sessions("sessions.json"), notes.to_string()).unwrap();
    }

    fn append(&self, id: &str, message: &Value) {
        let line = json!({ "type": "message", "message": message });
        let file = self.sessions(&format!("{id}.jsonl"));
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(file)
            .unwrap();
        writeln!(file, "{line}").unwrap();
    }

    /// The next tool that is seen.
    async fn tool(&mut self) -> ToolState {
        loop {
            if let Heard::Seen(seen) = self.heard().await
                && let RunEvent::Tool(tool) = seen.event
            {
                return tool;
            }
        }
    }
}

fn call(id: &str) -> Value {
    json!({ "role": "assistant", "content": [{ "type": "toolCall", "id": id, "name": "exec",
        "arguments": { "command": "ls" } }] })
}

#[tokio::test]
async fn tools_are_seen_while_the_turn_is_at_work() {
    let mut talk = Talk::open("100").await;
    talk.append("x", &call("of another session"));
    talk.append("s1", &call("c1"));
    talk.note("s1");
    let tool = talk.tool().await;
    assert_eq!((tool.id.as_str(), tool.title.as_str()), ("c1", "ls"));
    let done = json!({ "role": "toolResult", "toolCallId": "c1", "content": "a.md" });
    talk.append("s1", &done);
    let tool = talk.tool().await;
    assert_eq!(
        (tool.status, tool.output.as_deref()),
        (ToolStatus::Completed, Some("a.md"))
    );
    // The gateway goes on in another file.
    talk.append("s2", &call("c2"));
    talk.note("s2");
    assert_eq!(talk.tool().await.id.as_str(), "c2");
    talk.tell(Steer::Interrupt).await;
    assert_eq!(
        talk.tool().await.status,
        ToolStatus::Unknown,
        "nobody knows more of it"
    );
    let Heard::TurnOver(end) = talk.heard().await else {
        panic!("the turn is over then");
    };
    assert_eq!(end.outcome, Outcome::Cancelled { by: Actor::Person });
}

#[tokio::test]
async fn what_came_since_the_last_look_is_told_before_the_end() {
    let mut talk = Talk::open("60000").await;
    talk.append("s1", &call("c1"));
    talk.note("s1");
    talk.tell(Steer::Interrupt).await;
    assert_eq!(talk.tool().await.id.as_str(), "c1");
    assert_eq!(talk.tool().await.status, ToolStatus::Unknown);
    assert!(matches!(talk.heard().await, Heard::TurnOver(_)));
}

#[tokio::test]
async fn a_session_without_a_log_ends_as_it_would_without_one() {
    let mut talk = Talk::open("100").await;
    fs::write(talk.sessions("sessions.json"), "{ half").unwrap();
    talk.tell(Steer::Interrupt).await;
    loop {
        match talk.heard().await {
            Heard::TurnOver(end) => {
                assert_eq!(end.outcome, Outcome::Cancelled { by: Actor::Person });
                return;
            }
            Heard::Seen(_)
            | Heard::Resumable(_)
            | Heard::Prompted
            | Heard::Applied(_)
            | Heard::Injected(_)
            | Heard::Gone => {}
        }
    }
}
