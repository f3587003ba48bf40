//! Commands with numbers: each is carried out once, whatever dies and however often it comes.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt as _,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bridge_proto::{
    ProviderKey,
    model::{Health, Outcome},
};
use bridge_providers::provider::{
    Abilities, Conversation, Found, Heard, ListError, Provider, RunSpec, StartError, Steer, TurnEnd,
};
use bridge_testkit::{
    bridge::Setup,
    fake_plane::{FakePlane, Manners, Order, What, frame},
    home::Home,
    wire,
};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

/// An agent that counts what it is asked, and is done at once.
struct Counting {
    key: ProviderKey,
    prompts: watch::Sender<BTreeMap<String, u32>>,
}

impl Counting {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            key: ProviderKey::parse("counting").unwrap(),
            prompts: watch::Sender::default(),
        })
    }
}

#[async_trait]
impl Provider for Counting {
    fn key(&self) -> &ProviderKey {
        &self.key
    }

    fn abilities(&self) -> Abilities {
        Abilities::default()
    }

    fn find(&self) -> Found {
        let health = Health {
            available: true,
            reason: None,
            version: None,
            hint: None,
        };
        Found {
            health,
            program: None,
        }
    }

    async fn probe(&self, _: Duration) -> Health {
        self.find().health
    }

    async fn models(&self, _: Duration) -> Result<Vec<String>, ListError> {
        Ok(Vec::new())
    }

    async fn open(&self, spec: RunSpec) -> Result<Conversation, StartError> {
        let (say, heard) = mpsc::channel(8);
        let (steer, mut told) = mpsc::channel(8);
        let prompts = self.prompts.clone();
        tokio::spawn(async move {
            while let Some(word) = told.recv().await {
                if matches!(word, Steer::Prompt(_)) {
                    let task = spec.run.task.to_string();
                    prompts.send_modify(|prompts| *prompts.entry(task).or_default() += 1);
                    let outcome = Outcome::Completed;
                    let answer = String::new();
                    let over = Heard::TurnOver(TurnEnd { outcome, answer });
                    if say.send(over).await.is_err() {
                        return;
                    }
                }
                if matches!(word, Steer::Close) {
                    break;
                }
            }
            drop(say.send(Heard::Gone).await);
        });
        Ok(Conversation {
            heard,
            steer,
            pid: None,
        })
    }
}

fn task(n: usize) -> String {
    format!("task-{n}")
}

/// How many runs the plane knows to have ended, and how: by run, each once.
fn ends(plane: &FakePlane) -> BTreeMap<String, String> {
    let mut ends = BTreeMap::new();
    for frame in plane.frames() {
        let event = &frame["event"];
        let body = &event["body"];
        if let (Some(task), Some("ended")) = (event["run"]["task"].as_str(), body["type"].as_str())
        {
            let status = body["outcome"]["status"].as_str().unwrap_or_default();
            ends.insert(task.to_owned(), status.to_owned());
        }
    }
    ends
}

fn is_event(frame: Option<&Value>, kind: &str) -> bool {
    frame.is_some_and(|frame| frame["event"]["body"]["type"] == kind)
}

async fn until_ends(plane: &FakePlane, from: usize, count: usize) {
    let mut seen = from;
    while ends(plane).len() < count {
        (seen, _) = plane
            .see_after(seen, |heard| is_event(frame(heard), "ended"))
            .await;
    }
}

#[tokio::test]
async fn a_thousand_dispatches_that_come_again_and_again_run_each_task_once() {
    const TASKS: usize = 1000;
    let (home, plane) = (Home::new(), FakePlane::start(Manners::extended()).await);
    let agent = Counting::new();
    plane.set_agents(&["counting"]);
    let start = || {
        let mut setup = Setup::new(&home, plane.url());
        setup.providers = vec![Arc::clone(&agent) as Arc<dyn Provider>];
        setup.start()
    };
    let bridge = start();
    plane.opened(1).await;
    for n in 0..TASKS {
        plane.command(&wire::dispatch(&task(n), "r", "counting", "go"));
        if n % 300 == 299 {
            plane.cut();
        }
    }
    until_ends(&plane, 0, TASKS).await;
    plane.all_acknowledged().await;
    // Under other numbers, to the same process.
    plane.start_over();
    plane.cut();
    plane.all_acknowledged().await;
    assert!(bridge.stop().await.clean);
    // And to the next one.
    plane.start_over();
    let bridge = start();
    plane.all_acknowledged().await;
    assert!(bridge.stop().await.clean);
    let prompts = agent.prompts.borrow().clone();
    let once: BTreeMap<String, u32> = (0..TASKS).map(|n| (task(n), 1)).collect();
    assert_eq!(prompts, once);
}

#[tokio::test]
async fn a_number_that_was_carried_out_is_not_asked_for_by_the_next_process() {
    let (home, plane) = (Home::new(), FakePlane::start(Manners::extended()).await);
    let agent = Counting::new();
    plane.set_agents(&["counting"]);
    let start = || {
        let mut setup = Setup::new(&home, plane.url());
        setup.providers = vec![Arc::clone(&agent) as Arc<dyn Provider>];
        setup.start()
    };
    let bridge = start();
    plane.command(&wire::dispatch("t", "r", "counting", "go"));
    assert_eq!(plane.end_of("t", "r").await.status, "completed");
    plane.command(&wire::cancel("t", "counting"));
    plane.all_acknowledged().await;
    assert!(bridge.stop().await.clean);
    let bridge = start();
    plane.opened(2).await;
    plane.command(&wire::dispatch("u", "r", "counting", "go"));
    assert_eq!(plane.end_of("u", "r").await.status, "completed");
    assert!(bridge.stop().await.clean);
    let odd = plane.log();
    let odd: Vec<_> = odd
        .iter()
        .filter(|heard| matches!(heard.what, What::Odd(_)))
        .collect();
    assert!(odd.is_empty(), "{odd:?}");
}

#[tokio::test]
async fn a_large_file_holds_up_neither_an_answer_nor_another_task_and_is_there_before_its_own() {
    let (home, plane) = (Home::new(), FakePlane::start(Manners::extended()).await);
    let agent = Counting::new();
    plane.set_agents(&["counting"]);
    let mut setup = Setup::new(&home, plane.url());
    setup.providers = vec![Arc::clone(&agent) as Arc<dyn Provider>];
    let bridge = setup.start();
    plane
        .heard(|frame| frame["action"] == "sync_counting_agents_ack")
        .await;
    let content = "x".repeat(15 << 20);
    let path = "tasks/large/input/file.txt";
    let write = json!({
        "action": "write_file", "agentId": "counting", "provider": "counting", "path": path,
        "content": content, "taskId": "large",
    });
    plane.command(&write);
    plane.command(&wire::dispatch("large", "r", "counting", "go"));
    plane.command(&wire::dispatch("small", "r", "counting", "go"));
    assert_eq!(plane.end_of("small", "r").await.status, "completed");
    assert_eq!(plane.end_of("large", "r").await.status, "completed");
    let log = plane.log();
    let place = |task: &str| {
        let started = |heard: &&bridge_testkit::fake_plane::Heard| {
            is_event(frame(heard), "started")
                && frame(heard).is_some_and(|frame| frame["event"]["run"]["task"] == task)
        };
        log.iter().position(|heard| started(&heard)).unwrap()
    };
    assert!(place("small") < place("large"), "{}", plane.told());
    let written = fs::read(home.root().join(path)).unwrap();
    assert_eq!(written.len(), 15 << 20);
    plane.all_acknowledged().await;
    assert!(bridge.stop().await.clean);
}

/// The frames of two commands; of the first one only a part where it is cut.
fn two(cut: bool) -> Order {
    let write = |name: &str| {
        let path = format!("tasks/t/input/{name}");
        json!({ "action": "write_file", "provider": "demo", "path": path, "content": name })
    };
    let list = json!([write("first")]).to_string();
    let (head, tail) = list.split_at(list.len() / 2);
    let part = |part: u32, more: bool, text: &str| {
        let text = json!(text);
        format!("{{\"part\":{part},\"more\":{more},\"seq\":1,\"text\":{text}}}")
    };
    let mut frames = vec![part(0, true, head)];
    if !cut {
        frames.push(part(1, false, tail));
    }
    frames.push(format!("{{\"seq\":2,\"messages\":[{}]}}", write("second")));
    Order::Texts(frames)
}

#[tokio::test]
async fn a_command_that_was_carried_out_before_an_earlier_one_is_not_repeated_by_the_next_process()
{
    let (home, plane) = (Home::new(), FakePlane::start(Manners::extended()).await);
    let journal = home.root().join("journal/runs.jsonl");
    let file = |name: &str| home.root().join("tasks/t/input").join(name);
    let start = || Setup::new(&home, plane.url()).start();
    let bridge = start();
    plane.sync(&["demo"]).await;
    plane.order(two(true)).await;
    while !fs::read_to_string(&journal).unwrap().contains("done") {
        tokio::task::yield_now().await;
    }
    assert_eq!(fs::read_to_string(file("second")).unwrap(), "second");
    fs::write(file("second"), "as the agent left it").unwrap();
    assert!(bridge.stop().await.clean);
    let bridge = start();
    plane.opened(2).await;
    plane.sync(&["demo"]).await;
    plane.order(two(false)).await;
    // The acknowledgement of both, which this plane did not number itself.
    let both = |heard: &bridge_testkit::fake_plane::Heard| matches!(&heard.what, What::Odd(text) if text.contains("\"ack\",\"seq\":2"));
    plane.see(both).await;
    assert_eq!(fs::read_to_string(file("first")).unwrap(), "first");
    let left = fs::read_to_string(file("second")).unwrap();
    assert_eq!(left, "as the agent left it");
    assert!(bridge.stop().await.clean);
}

/// The agent writes down which run it is for before anything else; exec, so that each run is a
/// process of its own.
fn counting_program(home: &Home) {
    let folder = home.path().join(".ctrlnode");
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    let file = folder.join("agents.toml");
    let notes = home.path().join("began").display().to_string();
    let script = format!("echo $CTRLNODE_RUN >> {notes}; cat > /dev/null; echo done");
    let text = format!(
        "[[agent]]\nname = \"counting\"\nprotocol = \"exec\"\ncommand = \"/bin/sh\"\n\
         args = [\"-c\", \"{script}\"]\n"
    );
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test]
async fn a_bridge_that_is_killed_again_and_again_runs_each_task_once_and_none_is_forgotten() {
    const TASKS: usize = 150;
    let (home, plane) = (Home::new(), FakePlane::start(Manners::extended()).await);
    counting_program(&home);
    plane.set_agents(&["counting"]);
    let mut seen = 0;
    // Early, so that most commands are in the middle of being taken, and later.
    let lives = [1, 1, 2, 5, 15, 20];
    for (life, started) in lives.into_iter().enumerate() {
        let mut bridge = home.bridge(&plane.url());
        let each = TASKS / lives.len();
        for n in life * each..(life + 1) * each {
            plane.command(&wire::dispatch(&task(n), "r", "counting", "go"));
        }
        for _ in 0..started {
            (seen, _) = plane
                .see_after(seen, |heard| is_event(frame(heard), "started"))
                .await;
        }
        bridge.kill().await;
    }
    let mut bridge = home.bridge(&plane.url());
    plane.all_acknowledged().await;
    until_ends(&plane, 0, TASKS).await;
    // Whatever was acknowledged is commanded once more.
    plane.start_over();
    plane.cut();
    plane.all_acknowledged().await;
    assert_eq!(bridge.terminate().await, Some(0), "{}", bridge.told());
    let began = fs::read_to_string(home.path().join("began")).unwrap();
    let began: Vec<&str> = began.lines().collect();
    let once: BTreeSet<&str> = began.iter().copied().collect();
    assert_eq!(began.len(), once.len(), "a task ran twice");
    let ends = ends(&plane);
    let completed = ends.values().filter(|status| *status == "completed");
    assert!(completed.count() <= once.len(), "{ends:?}");
    assert_eq!(ends.len(), TASKS);
}

#[tokio::test]
async fn a_plane_that_gives_no_numbers_is_obeyed_as_ever() {
    let (home, plane) = (Home::new(), FakePlane::start(Manners::extended()).await);
    let agent = Counting::new();
    let mut setup = Setup::new(&home, plane.url());
    setup.providers = vec![Arc::clone(&agent) as Arc<dyn Provider>];
    let bridge = setup.start();
    plane.sync(&["counting"]).await;
    let dispatch = wire::dispatch("t", "r", "counting", "go").to_string();
    plane
        .order(Order::Texts(vec![dispatch.clone(), dispatch]))
        .await;
    assert_eq!(plane.end_of("t", "r").await.status, "completed");
    assert_eq!(agent.prompts.borrow().get("t"), Some(&1));
    assert!(bridge.stop().await.clean);
}
