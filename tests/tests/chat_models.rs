//! Models behind an endpoint, as a real process of the binary: endpoints that misbehave, limits,
//! keys, files that are none of the model's business, and a conversation that goes on in another
//! process.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use std::{fs, os::unix::fs::symlink, path::PathBuf, sync::Arc, time::Duration};

use bridge_proto::{
    ProviderKey, ResumeId, RunKey, TaskId,
    model::{Actor, Answer, AskKind, Fault, Fix, HealthReason, Outcome, RunEvent, ToolStatus},
};
use bridge_providers::{
    chat::{Api, BaseUrl, ChatProvider, ChatSettings},
    provider::{Asking, Conversation, Heard, Provider, RunSpec, Steer, TurnEnd},
};
use bridge_testkit::{
    home::Home,
    mock_model::MockModel,
    program::ctrlnode,
    raw_endpoint::{Asked, Part, RawEndpoint},
};
use serde_json::{Value, json};
use tokio::time::timeout;

const KEY: &str = "hush-hush-key";

/// An endpoint as a provider, with a key.
fn provider(
    home: &Home,
    address: &str,
    change: impl FnOnce(&mut ChatSettings),
) -> Arc<dyn Provider> {
    let mut settings = ChatSettings::new("Endpoint", BaseUrl::parse(address).unwrap());
    settings.model = Some("mock-model".into());
    settings.quiet_limit = Duration::from_secs(20);
    change(&mut settings);
    Arc::new(ChatProvider::named(
        ProviderKey::parse("endpoint").unwrap(),
        settings,
        Some("ENDPOINT_KEY".into()),
        home.host(&[("ENDPOINT_KEY", KEY)]),
        ctrlnode().to_owned(),
        vec!["chat-agent".into()],
    ))
}

struct Talk {
    conversation: Conversation,
    directory: PathBuf,
    seen: Vec<RunEvent>,
    resume: Option<ResumeId>,
}

impl Talk {
    async fn open(home: &Home, provider: &Arc<dyn Provider>) -> Self {
        Self::resume(home, provider, None).await
    }

    async fn resume(home: &Home, provider: &Arc<dyn Provider>, resume: Option<ResumeId>) -> Self {
        let directory = home.workspace().join("chat");
        let temp = home.path().join("tmp");
        fs::create_dir_all(&directory).unwrap();
        let spec = RunSpec {
            agent: None,
            run: RunKey {
                task: TaskId::parse("chat").unwrap(),
                attempt: "1".into(),
            },
            directory: directory.clone(),
            extra_directories: vec![home.workspace().join("task")],
            model: None,
            asking: Asking::Answered,
            instructions: String::new(),
            resume,
            trusted: false,
            temp: Some(temp),
        };
        Self {
            conversation: provider.open(spec).await.unwrap(),
            directory,
            seen: Vec::new(),
            resume: None,
        }
    }

    async fn steer(&self, steer: Steer) {
        self.conversation.steer.send(steer).await.unwrap();
    }

    async fn say(&self, prompt: &str) {
        self.steer(Steer::Prompt(prompt.into())).await;
    }

    /// Reads until something fits, and notes all events.
    async fn until<T>(&mut self, fits: impl Fn(&Heard) -> Option<T>) -> T {
        loop {
            let heard = timeout(Duration::from_secs(60), self.conversation.heard.recv()).await;
            let Ok(Some(heard)) = heard else {
                panic!("nothing more after {:?}", self.seen);
            };
            let found = fits(&heard);
            match heard {
                Heard::Seen(seen) => self.seen.push(seen.event),
                Heard::Resumable(id) => self.resume = Some(id),
                Heard::Prompted
                | Heard::TurnOver(_)
                | Heard::Gone
                | Heard::Applied(_)
                | Heard::Injected(_) => {}
            }
            if let Some(found) = found {
                return found;
            }
        }
    }

    async fn over(&mut self) -> TurnEnd {
        self.until(|heard| {
            if let Heard::TurnOver(end) = heard {
                Some(end.clone())
            } else {
                None
            }
        })
        .await
    }

    async fn turn(&mut self, prompt: &str) -> TurnEnd {
        self.say(prompt).await;
        self.over().await
    }

    /// As [`Talk::turn`], with every question answered by yes.
    async fn turn_allowing(&mut self, prompt: &str) -> TurnEnd {
        self.say(prompt).await;
        loop {
            let next = self.until(|heard| match heard {
                Heard::TurnOver(end) => Some(Ok(end.clone())),
                Heard::Seen(seen) => {
                    if let RunEvent::Ask(ask) = &seen.event {
                        Some(Err(ask.clone()))
                    } else {
                        None
                    }
                }
                Heard::Prompted
                | Heard::Resumable(_)
                | Heard::Applied(_)
                | Heard::Injected(_)
                | Heard::Gone => None,
            });
            match next.await {
                Ok(end) => return end,
                Err(ask) => {
                    assert_eq!(ask.kind, AskKind::Edit);
                    let option = ask.options[0].id.clone();
                    self.steer(Steer::Answer(ask.id, Answer::Choose { option }))
                        .await;
                }
            }
        }
    }

    async fn close(mut self) {
        self.steer(Steer::Close).await;
        self.until(|heard| (*heard == Heard::Gone).then_some(()))
            .await;
    }
}

/// An endpoint that lists one model and answers the requests for answers so.
async fn endpoint(
    answer: impl Fn(usize, &Value) -> Vec<Part> + Send + Sync + 'static,
) -> RawEndpoint {
    let before = std::sync::atomic::AtomicUsize::new(0);
    let started = RawEndpoint::start(move |_, asked: &Asked| {
        if asked.line.starts_with("GET") {
            let list = json!({ "data": [{ "id": "mock-model" }] }).to_string();
            return Part::response(200, &["Content-Type: application/json"], &list);
        }
        let number = before.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        answer(number, &serde_json::from_str(&asked.body).unwrap())
    });
    started.await.unwrap()
}

fn text(text: &str) -> Part {
    Part::event(&json!({ "choices": [{ "delta": { "content": text } }] }).to_string())
}

fn stop() -> Part {
    let end = json!({ "choices": [{ "delta": {}, "finish_reason": "stop" }] });
    Part::event(&end.to_string())
}

fn call(name: &str, arguments: &Value) -> Vec<Part> {
    let call = json!({ "index": 0, "id": "c", "function":
        { "name": name, "arguments": arguments.to_string() } });
    let delta = json!({ "choices": [{ "delta": { "tool_calls": [call] } }] });
    vec![Part::stream_head(), Part::event(&delta.to_string()), stop()]
}

fn said(parts: &[Part]) -> Vec<Part> {
    let mut all = vec![Part::stream_head()];
    all.extend_from_slice(parts);
    all
}

/// Waits until the client has hung up on an answer that was still to come.
async fn hung_up(server: &RawEndpoint) {
    let mut seen = server.seen();
    let hung_up = seen.wait_for(|seen| seen.hung_up == 1);
    timeout(Duration::from_secs(30), hung_up)
        .await
        .unwrap()
        .unwrap();
}

fn failure(end: &TurnEnd) -> &str {
    let Outcome::Failed { fault, reason } = &end.outcome else {
        panic!("{end:?}")
    };
    assert_eq!(*fault, Fault::Model, "{reason}");
    reason
}

#[tokio::test]
async fn an_endless_answer_is_ended_by_us() {
    let home = Home::new();
    let piece = "x".repeat(256 << 10);
    let document = json!({ "choices": [{ "delta": { "content": piece } }] });
    let event = format!("data: {document}\n\n").into_bytes();
    let server = endpoint(move |_, _| said(&[Part::Repeat(event.clone(), 100_000)])).await;
    let mut talk = Talk::open(&home, &provider(&home, &server.address(), |_| {})).await;
    let end = talk.turn("go").await;
    assert!(
        failure(&end).contains("longer than 32 MiB"),
        "{:?}",
        end.outcome
    );
    hung_up(&server).await;
    talk.close().await;
}

#[tokio::test]
async fn a_line_of_a_hundred_megabytes_is_not_read_to_its_end() {
    let home = Home::new();
    let server = endpoint(|_, _| {
        let block = vec![b'x'; 1 << 20];
        said(&[Part::Bytes(b"data: ".to_vec()), Part::Repeat(block, 100)])
    })
    .await;
    let mut talk = Talk::open(&home, &provider(&home, &server.address(), |_| {})).await;
    let end = talk.turn("go").await;
    assert!(
        failure(&end).contains("one event is longer"),
        "{:?}",
        end.outcome
    );
    hung_up(&server).await;
    talk.close().await;
}

#[tokio::test]
async fn bytes_that_are_no_text_and_json_that_is_none_do_not_end_a_turn() {
    let home = Home::new();
    let server = endpoint(|_, _| {
        said(&[
            Part::Bytes(b"data: {\"choices\":[{\"delta\":{\"content\":\"caf\xe9 \"}}]}\n\n".into()),
            Part::event("{\"choices\":[{\"del"),
            Part::event("[1,2,3]"),
            Part::event("{\"type\":\"ping\"}"),
            Part::Bytes(b"\xff\xfe\x00\n\n: comment\n\nevent: x\n\n".into()),
            text("good"),
            stop(),
        ])
    })
    .await;
    let mut talk = Talk::open(&home, &provider(&home, &server.address(), |_| {})).await;
    let end = talk.turn("go").await;
    assert_eq!(end.outcome, Outcome::Completed);
    assert_eq!(end.answer, "caf\u{fffd} good");
    let odd = |event: &&RunEvent| matches!(event, RunEvent::Other { .. });
    assert_eq!(talk.seen.iter().filter(odd).count(), 3, "{:?}", talk.seen);
    talk.close().await;
}

#[tokio::test]
async fn what_is_no_endpoint_of_models_is_told_from_one_that_broke_off() {
    let home = Home::new();
    let page = "<html>welcome</html>";
    for (parts, wanted) in [
        (
            Part::response(200, &["Content-Type: text/html"], page),
            "no answer of a model",
        ),
        (
            Part::response(200, &["Content-Type: application/json"], "{\"a\":"),
            "broken JSON",
        ),
        (said(&[]), "not as an OpenAI-compatible endpoint"),
        (
            said(&[text("I was"), Part::Bytes(b"data: {".to_vec())]),
            "broke off",
        ),
    ] {
        let server = endpoint(move |_, _| parts.clone()).await;
        let mut talk = Talk::open(&home, &provider(&home, &server.address(), |_| {})).await;
        let end = talk.turn("go").await;
        assert!(
            failure(&end).contains(wanted),
            "{wanted}: {:?}",
            end.outcome
        );
        talk.close().await;
    }
}

#[tokio::test]
async fn an_endpoint_that_never_answers_is_waited_for_no_longer_than_told() {
    let home = Home::new();
    let server = endpoint(|_, _| vec![Part::Wait]).await;
    let quick = |settings: &mut ChatSettings| settings.quiet_limit = Duration::from_millis(300);
    let mut talk = Talk::open(&home, &provider(&home, &server.address(), quick)).await;
    let end = talk.turn("go").await;
    assert!(
        failure(&end).contains("no answer within"),
        "{:?}",
        end.outcome
    );
    hung_up(&server).await;
    talk.close().await;
}

#[tokio::test]
async fn a_redirect_takes_neither_key_nor_prompt_to_another_host() {
    let home = Home::new();
    let other = RawEndpoint::start(|_, _| Part::response(200, &[], "{}"))
        .await
        .unwrap();
    let location = format!("Location: {}/v1/chat/completions", other.address());
    for status in [301, 302, 307, 308] {
        let location = location.clone();
        let server = endpoint(move |_, _| Part::response(status, &[&location], "")).await;
        let mut talk = Talk::open(&home, &provider(&home, &server.address(), |_| {})).await;
        let end = talk.turn("the secret plan").await;
        assert!(
            failure(&end).contains("sends us elsewhere"),
            "{:?}",
            end.outcome
        );
        let seen = server.seen().borrow().clone();
        let authorized = |asked: &Asked| {
            let header = format!("authorization: Bearer {KEY}");
            asked
                .headers
                .iter()
                .any(|line| line.eq_ignore_ascii_case(&header))
        };
        assert!(
            seen.requests.iter().all(authorized),
            "the key goes where it belongs"
        );
        talk.close().await;
    }
    assert!(other.seen().borrow().requests.is_empty());
}

#[tokio::test]
async fn refusals_say_what_to_mend() {
    let home = Home::new();
    for (status, fix) in [(401, Fix::Login), (403, Fix::Login), (402, Fix::Credit)] {
        let server = endpoint(move |_, _| {
            Part::response(
                status,
                &[],
                r#"{"error":{"message":"the service says no"}}"#,
            )
        })
        .await;
        let mut talk = Talk::open(&home, &provider(&home, &server.address(), |_| {})).await;
        let end = talk.turn("go").await;
        let Outcome::Blocked { fix: found, reason } = &end.outcome else {
            panic!("{status}: {end:?}")
        };
        assert_eq!(*found, fix, "{status}");
        assert!(reason.contains("the service says no"), "{reason}");
        let told = fix != Fix::Login || reason.contains("ENDPOINT_KEY");
        assert!(told && !reason.contains(KEY), "{reason}");
        assert_eq!(server.seen().borrow().requests.len(), 2, "asked once");
        talk.close().await;
    }
}

#[tokio::test]
async fn a_busy_endpoint_is_asked_again_when_it_wants_and_that_is_told() {
    let home = Home::new();
    let server = endpoint(|before, _| match before {
        0 => Part::response(429, &["Retry-After: 0"], "slow down"),
        1 => Part::response(503, &["Retry-After: 0"], "overloaded"),
        2 => vec![],
        _ => said(&[text("here"), stop()]),
    })
    .await;
    let mut talk = Talk::open(&home, &provider(&home, &server.address(), |_| {})).await;
    let end = talk.turn("go").await;
    assert_eq!(
        (end.outcome, end.answer.as_str()),
        (Outcome::Completed, "here")
    );
    let mut retries = Vec::new();
    for event in &talk.seen {
        if let RunEvent::Retrying(retry) = event {
            retries.push((retry.attempt, retry.limit, retry.reason.clone()));
        }
    }
    assert_eq!(retries.len(), 3, "{retries:?}");
    assert_eq!(retries[0], (1, Some(4), "slow down".into()));
    talk.close().await;
}

#[tokio::test]
async fn a_cancel_hangs_up_at_once() {
    let home = Home::new();
    let server = endpoint(|_, _| said(&[text("I begin"), Part::Wait])).await;
    let mut talk = Talk::open(&home, &provider(&home, &server.address(), |_| {})).await;
    talk.say("go").await;
    talk.until(|heard| {
        matches!(heard, Heard::Seen(seen) if matches!(seen.event, RunEvent::Text { .. }))
            .then_some(())
    })
    .await;
    talk.steer(Steer::Interrupt).await;
    let end = timeout(Duration::from_secs(2), talk.over()).await.unwrap();
    assert_eq!(end.outcome, Outcome::Cancelled { by: Actor::Person });
    hung_up(&server).await;
    talk.close().await;
}

#[tokio::test]
async fn a_model_that_never_comes_to_an_end_is_stopped() {
    let home = Home::new();
    let server = endpoint(|_, _| call("glob_files", &json!({ "pattern": "*" }))).await;
    let few = |settings: &mut ChatSettings| settings.max_turns = 3;
    let mut talk = Talk::open(&home, &provider(&home, &server.address(), few)).await;
    let end = talk.turn("go").await;
    let Outcome::Blocked {
        fix: Fix::Limit,
        reason,
    } = &end.outcome
    else {
        panic!("{end:?}")
    };
    assert!(
        reason.contains("max turns reached without a final answer"),
        "{reason}"
    );
    assert_eq!(server.seen().borrow().requests.len(), 1 + 3);
    talk.close().await;
}

#[tokio::test]
async fn a_model_leaves_the_working_directory_by_no_path() {
    let home = Home::new();
    let inside = home.workspace().join("chat");
    let secret = home.workspace().join("secret.txt");
    fs::create_dir_all(inside.join(".git")).unwrap();
    fs::write(&secret, "hush").unwrap();
    fs::write(inside.join(".env"), "TOKEN=hush").unwrap();
    symlink(&secret, inside.join("link.txt")).unwrap();
    symlink(home.workspace(), inside.join("up")).unwrap();
    let paths = [
        "../secret.txt".to_owned(),
        "....//secret.txt".to_owned(),
        "a/../../secret.txt".to_owned(),
        secret.display().to_string(),
        "/etc/passwd".to_owned(),
        "link.txt".to_owned(),
        "up/secret.txt".to_owned(),
        ".git/config".to_owned(),
        ".env".to_owned(),
    ];
    let tried = paths.clone();
    let server = endpoint(move |before, _| {
        let path = tried.get(before / 2);
        match (path, before % 2) {
            (Some(path), 0) => call("read_file", &json!({ "path": path })),
            (Some(path), _) => call("write_file", &json!({ "path": path, "content": "owned" })),
            (None, _) => said(&[text("done"), stop()]),
        }
    })
    .await;
    let many = |settings: &mut ChatSettings| settings.max_turns = 100;
    let mut talk = Talk::open(&home, &provider(&home, &server.address(), many)).await;
    let end = talk.turn_allowing("go").await;
    assert_eq!(end.outcome, Outcome::Completed);
    let mut failed = 0;
    for event in &talk.seen {
        if let RunEvent::Tool(tool) = event {
            assert_ne!(tool.status, ToolStatus::Completed, "{tool:?}");
            failed += usize::from(tool.status == ToolStatus::Failed);
        }
    }
    assert_eq!(failed, 2 * paths.len());
    assert!(
        !talk
            .seen
            .iter()
            .any(|event| matches!(event, RunEvent::Ask(_)))
    );
    assert_eq!(fs::read_to_string(&secret).unwrap(), "hush");
    let sent = server.seen().borrow().clone();
    assert!(
        sent.requests
            .iter()
            .all(|asked| !asked.body.contains("hush"))
    );
    assert_eq!(fs::read_dir(inside.join(".git")).unwrap().count(), 0);
    talk.close().await;
}

#[tokio::test]
async fn a_file_is_read_edited_and_told_as_written() {
    let home = Home::new();
    let model = MockModel::start().await.unwrap();
    let mut talk = Talk::open(&home, &provider(&home, &model.address(), |_| {})).await;
    fs::write(talk.directory.join("a.md"), "one before two\n").unwrap();
    let end = talk.turn_allowing("@mock edit a.md").await;
    assert_eq!(end.outcome, Outcome::Completed);
    let path = talk.directory.join("a.md");
    assert_eq!(fs::read_to_string(&path).unwrap(), "one after two\n");
    let written = RunEvent::FileWritten {
        path: path.display().to_string(),
    };
    assert!(talk.seen.contains(&written), "{:?}", talk.seen);
    let usage = talk
        .seen
        .iter()
        .any(|event| matches!(event, RunEvent::Usage(_)));
    assert!(usage, "{:?}", talk.seen);
    talk.close().await;
}

#[tokio::test]
async fn the_task_folder_beside_a_repository_may_be_written_too() {
    let home = Home::new();
    let task = home.workspace().join("task");
    fs::create_dir(&task).unwrap();
    let path = task.join("output/summary.md").display().to_string();
    let server = endpoint(move |before, _| match before {
        0 => call("write_file", &json!({ "path": path, "content": "short\n" })),
        _ => said(&[text("done"), stop()]),
    })
    .await;
    let mut talk = Talk::open(&home, &provider(&home, &server.address(), |_| {})).await;
    let end = talk.turn_allowing("go").await;
    assert_eq!(end.outcome, Outcome::Completed);
    let written = fs::read_to_string(task.join("output/summary.md")).unwrap();
    assert_eq!(written, "short\n");
    talk.close().await;
}

#[tokio::test]
async fn a_model_without_tools_works_by_fenced_calls() {
    let home = Home::new();
    let server = endpoint(|before, body| {
        let messages = body["messages"].as_array().unwrap().len();
        match before {
            0 => Part::response(400, &[], r#"{"error":"m does not support tools"}"#),
            1 => {
                assert_eq!(body.get("tools"), None);
                let call = json!({ "name": "write_file",
                    "arguments": { "path": "a.md", "content": "hello\n" } });
                said(&[text(&format!("```json\n{call}\n```")), stop()])
            }
            _ => {
                assert_eq!(body["messages"][messages - 1]["role"], "user");
                said(&[text("written"), stop()])
            }
        }
    })
    .await;
    let mut talk = Talk::open(&home, &provider(&home, &server.address(), |_| {})).await;
    let end = talk.turn_allowing("go").await;
    assert_eq!(
        (end.outcome, end.answer.as_str()),
        (Outcome::Completed, "written")
    );
    assert_eq!(
        fs::read_to_string(talk.directory.join("a.md")).unwrap(),
        "hello\n"
    );
    talk.close().await;
}

#[tokio::test]
async fn a_conversation_goes_on_in_another_process() {
    let home = Home::new();
    let model = MockModel::start().await.unwrap();
    let provider = provider(&home, &model.address(), |_| {});
    let mut talk = Talk::open(&home, &provider).await;
    talk.turn("the blue whale").await;
    let id = talk.resume.clone().unwrap();
    talk.close().await;
    let mut talk = Talk::resume(&home, &provider, Some(id)).await;
    let end = talk.turn("@mock recall").await;
    assert!(end.answer.contains("[the blue whale]"), "{}", end.answer);
    talk.close().await;
    let unknown = ResumeId::parse("chat-0").unwrap();
    let mut talk = Talk::resume(&home, &provider, Some(unknown)).await;
    let end = talk.turn("hello").await;
    assert!(matches!(end.outcome, Outcome::Failed { .. }), "{end:?}");
}

#[tokio::test]
async fn a_model_that_is_not_there_or_not_allowed_fails_with_what_to_do() {
    let home = Home::new();
    let model = MockModel::start().await.unwrap();
    let ollama = |settings: &mut ChatSettings| {
        settings.api = Api::Ollama;
        settings.model = Some("absent".into());
    };
    let allowed = |settings: &mut ChatSettings| settings.allowed = vec!["other".into()];
    let pulled = provider(&home, &model.address(), ollama);
    let allowed = provider(&home, &model.address(), allowed);
    for (provider, wanted) in [
        (pulled, "`ollama pull absent`"),
        (allowed, "(allowed_models): other"),
    ] {
        let mut talk = Talk::open(&home, &provider).await;
        let end = talk.turn("go").await;
        let Outcome::Failed { reason, .. } = &end.outcome else {
            panic!("{end:?}")
        };
        assert!(reason.contains(wanted), "{reason}");
    }
    let asked = model.log();
    assert!(
        asked.iter().all(|asked| !asked.path.contains("chat")),
        "{asked:?}"
    );
}

#[tokio::test]
async fn the_key_stands_in_no_argument_and_in_no_file() {
    let home = Home::new();
    let model = MockModel::start().await.unwrap();
    let mut talk = Talk::open(&home, &provider(&home, &model.address(), |_| {})).await;
    talk.turn("hello").await;
    let pid = talk.conversation.pid.unwrap();
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
    assert!(
        arguments.contains("chat-agent") && !arguments.contains(KEY),
        "{arguments}"
    );
    let remembered: Vec<String> = fs::read_dir(home.path().join("tmp"))
        .unwrap()
        .filter_map(|file| fs::read_to_string(file.unwrap().path()).ok())
        .collect();
    assert!(
        remembered.iter().any(|text| text.contains("hello")),
        "{remembered:?}"
    );
    assert!(remembered.iter().all(|text| !text.contains(KEY)));
    talk.close().await;
}

#[tokio::test]
async fn a_look_at_an_endpoint_says_whether_it_is_there_and_lets_us_in() {
    let home = Home::new();
    let limit = Duration::from_secs(20);
    let model = MockModel::start().await.unwrap();
    let ollama = provider(&home, &model.address(), |settings| {
        settings.api = Api::Ollama;
    });
    let health = ollama.probe(limit).await;
    assert_eq!(
        (health.available, health.version.as_deref()),
        (true, Some("0.0.0-mock"))
    );
    assert_eq!(ollama.models(limit).await.unwrap(), ["mock-model:latest"]);
    let plain = provider(&home, &model.address(), |_| {});
    assert!(plain.probe(limit).await.available);
    assert_eq!(plain.models(limit).await.unwrap(), ["mock-model"]);

    let refusing = RawEndpoint::start(|_, _| Part::response(401, &[], "no key"))
        .await
        .unwrap();
    let health = provider(&home, &refusing.address(), |_| {})
        .probe(limit)
        .await;
    assert_eq!(health.reason, Some(HealthReason::AuthRequired));
    assert!(health.hint.unwrap().contains("ENDPOINT_KEY"));

    let gone = model.address();
    model.shutdown().await.unwrap();
    let gone = provider(&home, &gone, |_| {});
    let health = gone.probe(limit).await;
    assert_eq!(health.reason, Some(HealthReason::ServiceUnreachable));
    assert!(health.hint.unwrap().contains("cannot be reached"));
    assert!(gone.models(limit).await.is_err());
}
