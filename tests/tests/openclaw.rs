//! Conversations with a gateway of OpenClaw, over real sockets: what the thin parts around the
//! dialogue promise.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bridge_proto::{
    ResumeId, RunKey, TaskId,
    model::{Actor, Answer, Fix, HealthReason, Outcome, RunEvent, Tuning},
};
use bridge_providers::{
    openclaw::OpenclawProvider,
    provider::{
        Asking, Conversation, Heard, Injection, ListError, Provider, RunSpec, StartError, Steer,
        TurnEnd,
    },
};
use bridge_testkit::{
    bridge,
    fake_gateway::{FakeGateway, Manners},
    home::Home,
};
use serde_json::{Value, json};
use tokio::time::timeout;

struct Talk {
    conversation: Conversation,
    seen: Vec<RunEvent>,
    resume: Option<ResumeId>,
}

impl Talk {
    async fn open(home: &Home, provider: &Arc<dyn Provider>, asking: Asking) -> Self {
        Self::with(provider, spec(home, asking)).await
    }

    async fn with(provider: &Arc<dyn Provider>, spec: RunSpec) -> Self {
        Self {
            conversation: provider.open(spec).await.unwrap(),
            seen: Vec::new(),
            resume: None,
        }
    }

    async fn tell(&self, steer: Steer) {
        self.conversation.steer.send(steer).await.unwrap();
    }

    async fn say(&self, prompt: &str) {
        self.tell(Steer::Prompt(prompt.into())).await;
    }

    async fn until<T>(&mut self, mut fits: impl FnMut(&Heard) -> Option<T>) -> T {
        loop {
            let heard = timeout(LIMIT, self.conversation.heard.recv()).await;
            let heard = heard
                .expect("something is heard in time")
                .expect("it goes on");
            let found = fits(&heard);
            match heard {
                Heard::Seen(seen) => self.seen.push(seen.event),
                Heard::Resumable(id) => self.resume = Some(id),
                Heard::Gone => assert!(found.is_some(), "gone after {:?}", self.seen),
                Heard::Prompted | Heard::TurnOver(_) | Heard::Injected(_) | Heard::Applied(_) => {}
            }
            if let Some(found) = found {
                return found;
            }
        }
    }

    async fn over(&mut self) -> TurnEnd {
        self.until(|heard| {
            let Heard::TurnOver(end) = heard else {
                return None;
            };
            Some(end.clone())
        })
        .await
    }

    async fn gone(&mut self) {
        self.until(|heard| (*heard == Heard::Gone).then_some(()))
            .await;
    }

    /// Until the agent has said something.
    async fn text(&mut self) {
        self.until(|heard| {
            let Heard::Seen(seen) = heard else {
                return None;
            };
            matches!(seen.event, RunEvent::Text { .. }).then_some(())
        })
        .await;
    }
}

fn spec(home: &Home, asking: Asking) -> RunSpec {
    RunSpec {
        agent: None,
        run: RunKey {
            task: TaskId::parse("task").unwrap(),
            attempt: "1".into(),
        },
        directory: home.workspace(),
        extra_directories: Vec::new(),
        model: None,
        asking,
        instructions: String::new(),
        resume: None,
        trusted: false,
        temp: None,
    }
}

fn start(manners: Manners) -> (Home, FakeGateway, Arc<dyn Provider>) {
    let home = Home::new();
    let gateway = FakeGateway::start(manners);
    let provider = bridge::openclaw(&home, &gateway);
    (home, gateway, provider)
}

fn blocked(end: &TurnEnd, fix: Fix) -> &str {
    match &end.outcome {
        Outcome::Blocked { fix: is, reason } if *is == fix => reason,
        other @ (Outcome::Completed
        | Outcome::Failed { .. }
        | Outcome::Blocked { .. }
        | Outcome::Cancelled { .. }) => panic!("{other:?}"),
    }
}

fn is_abort(request: &Value) -> bool {
    request["method"] == "chat.abort"
}

#[tokio::test]
async fn a_dropped_conversation_stops_its_run() {
    let (home, gateway, provider) = start(Manners::default());
    let mut talk = Talk::open(&home, &provider, Asking::Answered).await;
    talk.say("@say working\n@hang").await;
    talk.text().await;
    let sent = gateway
        .heard(|request| request["method"] == "chat.send")
        .await;
    drop(talk);
    let abort = gateway.heard(is_abort).await;
    assert_eq!(abort["params"]["runId"], sent["params"]["idempotencyKey"]);
    assert_eq!(abort["params"]["sessionKey"], sent["params"]["sessionKey"]);
}

#[tokio::test]
async fn a_finished_conversation_stops_nothing() {
    let (home, gateway, provider) = start(Manners::default());
    let mut talk = Talk::open(&home, &provider, Asking::Answered).await;
    talk.say("@say done").await;
    talk.over().await;
    talk.tell(Steer::Close).await;
    talk.gone().await;
    assert!(!gateway.log().iter().any(is_abort));
    assert_eq!(talk.conversation.pid, None);
}

#[tokio::test]
async fn a_run_that_ignores_its_abort_is_left_within_ten_seconds() {
    let (home, gateway, provider) = start(Manners::default());
    let mut talk = Talk::open(&home, &provider, Asking::Answered).await;
    talk.say("@say working\n@deaf").await;
    talk.text().await;
    let asked = Instant::now();
    talk.tell(Steer::Interrupt).await;
    let end = talk.over().await;
    assert_eq!(end.outcome, Outcome::Cancelled { by: Actor::Person });
    assert!(
        asked.elapsed() < Duration::from_secs(10),
        "{:?}",
        asked.elapsed()
    );
    talk.gone().await;
    let aborts = gateway
        .log()
        .iter()
        .filter(|request| is_abort(request))
        .count();
    assert_eq!(aborts, 3, "twice on its connection, once on another");
}

#[tokio::test]
async fn a_cut_in_the_middle_of_a_turn_is_not_noticed_by_its_owner() {
    let (home, gateway, provider) = start(Manners::default());
    let mut talk = Talk::open(&home, &provider, Asking::Answered).await;
    talk.say("@say one\n@ask").await;
    let ask = talk
        .until(|heard| {
            let Heard::Seen(seen) = heard else {
                return None;
            };
            let RunEvent::Ask(ask) = &seen.event else {
                return None;
            };
            Some(ask.clone())
        })
        .await;
    gateway.cut();
    // What is open is compared once the connection is back; the question is still one.
    gateway
        .heard(|request| request["method"] == "exec.approval.list")
        .await;
    let option = "allow-once".to_owned();
    talk.tell(Steer::Answer(ask.id, Answer::Choose { option }))
        .await;
    let end = talk.over().await;
    assert_eq!(end.outcome, Outcome::Completed);
    assert!(end.answer.ends_with("It was allowed."), "{}", end.answer);
    let sends = gateway
        .log()
        .iter()
        .filter(|r| r["method"] == "chat.send")
        .count();
    assert_eq!(sends, 1);
}

#[tokio::test]
async fn two_thousand_increments_arrive_whole_and_in_order() {
    let (home, _gateway, provider) = start(Manners::default());
    let mut talk = Talk::open(&home, &provider, Asking::Answered).await;
    talk.say("@stream 2000").await;
    let end = talk.over().await;
    let wanted: Vec<String> = (1..=2000).map(|n| format!("w{n} ")).collect();
    let wanted = wanted.concat();
    assert_eq!(end.answer, wanted);
    let shown: String = talk
        .seen
        .iter()
        .filter_map(|event| {
            let RunEvent::Text { delta, .. } = event else {
                return None;
            };
            Some(delta.as_str())
        })
        .collect();
    assert_eq!(shown, wanted);
}

#[tokio::test]
async fn a_message_too_large_for_the_protocol_costs_the_connection_and_not_the_turn() {
    let (home, _gateway, provider) = start(Manners::default());
    let mut talk = Talk::open(&home, &provider, Asking::Answered).await;
    talk.say("@bigline 30000000\n@garbage\n@say still here\n@hang")
        .await;
    // What was said while the connection was made again is lost to it, as with the real one.
    talk.tell(Steer::Interrupt).await;
    let end = talk.over().await;
    assert_eq!(end.outcome, Outcome::Cancelled { by: Actor::Person });
}

#[tokio::test]
async fn a_gateway_that_is_starting_is_waited_for() {
    let (home, gateway, provider) = start(Manners {
        starts_after: 2,
        ..Manners::default()
    });
    let mut talk = Talk::open(&home, &provider, Asking::Answered).await;
    talk.say("@say here").await;
    assert_eq!(talk.over().await.outcome, Outcome::Completed);
    let connects = gateway
        .log()
        .iter()
        .filter(|r| r["method"] == "connect")
        .count();
    assert_eq!(connects, 3);
}

#[tokio::test]
async fn a_wrong_token_asks_for_the_right_one_and_is_not_shown() {
    let home = Home::new();
    let gateway = FakeGateway::start(Manners::default());
    let url = gateway.variables()[0].1.clone();
    let host = home.host(&[
        ("OPENCLAW_GATEWAY_URL", &url),
        ("OPENCLAW_GATEWAY_TOKEN", "hush-hush"),
    ]);
    let state = home.path().join("state");
    let provider = OpenclawProvider::new(host, &state);
    assert!(!format!("{provider:?}").contains("hush-hush"));
    let provider: Arc<dyn Provider> = Arc::new(provider);
    let mut talk = Talk::open(&home, &provider, Asking::Answered).await;
    talk.say("hello").await;
    let end = talk.over().await;
    let reason = blocked(&end, Fix::Login);
    assert!(
        reason.contains("OPENCLAW_GATEWAY_TOKEN") && !reason.contains("hush"),
        "{reason}"
    );
    talk.gone().await;
    let health = provider.probe(LIMIT).await;
    assert_eq!(health.reason, Some(HealthReason::AuthRequired));
}

#[tokio::test]
async fn the_shared_secret_is_shown_once_and_then_what_the_gateway_gave() {
    let (home, gateway, provider) = start(Manners::default());
    for _ in 0..2 {
        let mut talk = Talk::open(&home, &provider, Asking::Answered).await;
        talk.say("@say hi").await;
        talk.over().await;
    }
    let log = gateway.log();
    let shown: Vec<&Value> = log
        .iter()
        .filter(|request| request["method"] == "connect")
        .map(|request| &request["params"])
        .collect();
    assert_eq!(
        shown[0]["auth"].as_object().unwrap().keys().next().unwrap(),
        "token"
    );
    assert_eq!(
        shown[1]["auth"],
        json!({ "deviceToken": "fake-device-token" })
    );
    assert_eq!(shown[0]["device"]["id"], shown[1]["device"]["id"]);
}

#[tokio::test]
async fn without_the_right_to_work_elsewhere_a_person_is_told_how_to_give_it() {
    let (home, _gateway, provider) = start(Manners {
        strict: true,
        ..Manners::default()
    });
    let mut talk = Talk::open(&home, &provider, Asking::Answered).await;
    talk.say("hello").await;
    let end = talk.over().await;
    assert!(blocked(&end, Fix::Setup).contains("openclaw devices approve"));
}

#[tokio::test]
async fn a_conversation_goes_on_in_another_life_of_the_bridge() {
    let (home, gateway, provider) = start(Manners::default());
    let mut talk = Talk::open(&home, &provider, Asking::Answered).await;
    talk.say("@say hi\nthe blue whale").await;
    talk.over().await;
    talk.tell(Steer::Close).await;
    talk.gone().await;
    let provider = bridge::openclaw(&home, &gateway);
    let resumed = RunSpec {
        resume: talk.resume.take(),
        ..spec(&home, Asking::Answered)
    };
    assert!(resumed.resume.is_some());
    let mut talk = Talk::with(&provider, resumed).await;
    talk.say("@remember").await;
    let end = talk.over().await;
    assert!(end.answer.contains("the blue whale"), "{}", end.answer);
}

#[tokio::test]
async fn a_message_for_a_running_turn_is_read_in_it() {
    let (home, _gateway, provider) = start(Manners::default());
    let mut talk = Talk::open(&home, &provider, Asking::Answered).await;
    talk.say("@say working\n@hang\n@say done").await;
    talk.text().await;
    talk.tell(Steer::Inject("more salt".into())).await;
    let taken = Heard::Injected(Injection::Taken);
    talk.until(|heard| (*heard == taken).then_some(())).await;
    let end = talk.over().await;
    assert!(
        end.answer.contains("You added: more salt."),
        "{}",
        end.answer
    );
    assert!(end.answer.ends_with("done"), "{}", end.answer);
}

#[tokio::test]
async fn settings_are_told_as_they_are_in_force() {
    let (home, _gateway, provider) = start(Manners::default());
    let mut talk = Talk::open(&home, &provider, Asking::Answered).await;
    talk.say("@say hi").await;
    talk.over().await;
    let tuning = Tuning {
        model: Some("small".into()),
        mode: None,
        effort: Some("high".into()),
    };
    talk.tell(Steer::Tune(tuning)).await;
    talk.until(|heard| {
        let Heard::Seen(seen) = heard else {
            return None;
        };
        let effort = "high".to_owned();
        (seen.event == RunEvent::Effort { effort }).then_some(())
    })
    .await;
    let model = "fake/small".to_owned();
    assert!(talk.seen.contains(&RunEvent::Model { model }));
}

#[tokio::test]
async fn over_http_it_gives_text_and_says_that_it_is_text_only() {
    let (home, _gateway, _) = start(Manners::default());
    let gateway = FakeGateway::start(Manners {
        protocol: 5,
        ..Manners::default()
    });
    let provider = with_http_endpoint(&home, &gateway, &[]);
    let mut talk = Talk::open(&home, &provider, Asking::Unneeded).await;
    talk.say("@stream 40\nthe blue whale").await;
    let end = talk.over().await;
    assert_eq!(end.outcome, Outcome::Completed);
    assert!(end.answer.ends_with("w40 "), "{}", end.answer);
    let told = talk
        .seen
        .iter()
        .any(|event| matches!(event, RunEvent::Status { text } if text.contains("text only")));
    assert!(told, "{:?}", talk.seen);
    talk.say("@remember").await;
    assert!(talk.over().await.answer.contains("the blue whale"));
    talk.say("@error boom-reason").await;
    let end = talk.over().await;
    assert!(
        matches!(&end.outcome, Outcome::Failed { reason, .. } if reason == "boom-reason"),
        "{end:?}"
    );
    talk.say("@say working\n@hang").await;
    talk.text().await;
    talk.tell(Steer::Interrupt).await;
    let end = talk.over().await;
    assert_eq!(end.outcome, Outcome::Cancelled { by: Actor::Person });
    talk.tell(Steer::Close).await;
    talk.gone().await;
}

#[tokio::test]
async fn http_is_not_used_where_questions_are_wanted_unless_the_user_said_so() {
    let home = Home::new();
    let gateway = FakeGateway::start(Manners {
        protocol: 5,
        ..Manners::default()
    });
    let provider = with_http_endpoint(&home, &gateway, &[]);
    let mut talk = Talk::open(&home, &provider, Asking::Answered).await;
    talk.say("@say hi").await;
    let end = talk.over().await;
    let reason = blocked(&end, Fix::Setup);
    assert!(reason.contains("OPENCLAW_HTTP_FALLBACK=1"), "{reason}");
    let provider = with_http_endpoint(&home, &gateway, &[("OPENCLAW_HTTP_FALLBACK", "1")]);
    let mut talk = Talk::open(&home, &provider, Asking::Answered).await;
    talk.say("@say hi").await;
    assert_eq!(talk.over().await.answer, "hi");
}

#[tokio::test]
async fn nobody_plans_over_http_where_it_would_act() {
    let home = Home::new();
    let gateway = FakeGateway::start(Manners {
        protocol: 5,
        ..Manners::default()
    });
    let provider = with_http_endpoint(&home, &gateway, &[("OPENCLAW_HTTP_FALLBACK", "1")]);
    let mut talk = Talk::open(&home, &provider, Asking::ReadOnly).await;
    talk.say("@say hi").await;
    let end = talk.over().await;
    let reason = blocked(&end, Fix::Setup);
    assert!(reason.contains("only a plan is wanted"), "{reason}");
}

/// A provider whose configuration says that the HTTP endpoint is on.
fn with_http_endpoint(
    home: &Home,
    gateway: &FakeGateway,
    more: &[(&str, &str)],
) -> Arc<dyn Provider> {
    let file = home.path().join("openclaw.json");
    let config = "{ gateway: { http: { endpoints: { chatCompletions: { enabled: true } } } } }";
    std::fs::write(&file, config).unwrap();
    let variables = gateway.variables();
    let file = file.to_str().unwrap();
    let mut all = vec![("OPENCLAW_CONFIG_PATH", file)];
    all.extend(
        variables
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str())),
    );
    all.extend(more);
    let state = home.path().join("state");
    Arc::new(OpenclawProvider::new(home.host(&all), &state))
}

#[tokio::test]
async fn a_probe_tells_the_version_and_models_come_with_the_default_first() {
    let (_home, _gateway, provider) = start(Manners::default());
    let health = provider.probe(LIMIT).await;
    assert!(health.available, "{health:?}");
    assert_eq!(health.version.as_deref(), Some("9.9.9"));
    assert_eq!(
        provider.models(LIMIT).await.unwrap(),
        ["fake/big", "fake/small"]
    );
}

#[tokio::test]
async fn a_gateway_that_is_not_there_is_found_and_not_reachable() {
    let home = Home::new();
    let gateway = FakeGateway::start(Manners::default());
    let provider = bridge::openclaw(&home, &gateway);
    drop(gateway);
    assert!(provider.find().health.available, "files cannot tell");
    let health = timeout(LIMIT, async {
        loop {
            let health = provider.probe(LIMIT).await;
            if !health.available {
                return health;
            }
        }
    });
    let health = health.await.unwrap();
    assert_eq!(health.reason, Some(HealthReason::ServiceUnreachable));
    assert!(health.hint.unwrap().contains("openclaw gateway"));
    let models = provider.models(LIMIT).await;
    assert!(
        matches!(models, Err(ListError::NoAnswer { .. })),
        "{models:?}"
    );
    let mut talk = Talk::open(&home, &provider, Asking::Answered).await;
    talk.say("hello").await;
    assert!(blocked(&talk.over().await, Fix::Setup).contains("openclaw gateway"));
}

/// What a bridge that was killed leaves: an entry that nobody holds.
#[tokio::test]
async fn what_a_killed_bridge_left_at_work_is_stopped_and_nothing_else() {
    let (home, gateway, provider) = start(Manners::default());
    let mut talk = Talk::open(&home, &provider, Asking::Answered).await;
    talk.say("@say working\n@hang").await;
    talk.text().await;
    let sent = gateway
        .heard(|request| request["method"] == "chat.send")
        .await;
    let runs = home.path().join("state/openclaw/openclaw-runs");
    let held: Vec<_> = std::fs::read_dir(&runs).unwrap().collect();
    assert_eq!(held.len(), 1);
    let url = format!("{}/", gateway.variables()[0].1);
    let left = json!({ "gateway": url, "session": "agent:main:task:old", "run": "left" });
    std::fs::write(runs.join("left.json"), left.to_string()).unwrap();
    assert!(provider.probe(LIMIT).await.available);
    let abort = gateway.heard(is_abort).await;
    assert_eq!(abort["params"]["runId"], "left");
    assert!(!runs.join("left.json").exists());
    talk.tell(Steer::Interrupt).await;
    talk.over().await;
    let aborts: Vec<Value> = gateway.log().into_iter().filter(is_abort).collect();
    assert_eq!(aborts.len(), 2, "{aborts:?}");
    assert_eq!(
        aborts[1]["params"]["runId"],
        sent["params"]["idempotencyKey"]
    );
    talk.tell(Steer::Close).await;
    talk.gone().await;
    assert_eq!(std::fs::read_dir(&runs).unwrap().count(), 0);
}

#[tokio::test]
async fn without_any_configuration_nothing_is_opened() {
    let home = Home::new();
    let provider = OpenclawProvider::new(home.host(&[]), &home.path().join("state"));
    assert_eq!(
        provider.find().health.reason,
        Some(HealthReason::BinaryMissing)
    );
    let opened = provider.open(spec(&home, Asking::Answered)).await;
    assert!(matches!(opened, Err(StartError::Missing { .. })));
}

const LIMIT: Duration = Duration::from_secs(60);
