//! A hub in a folder of its own and the machine that is paired with it: what every test of a hub
//! from outside begins with.

use std::time::Duration;

use bridge_hub::{Hub, HubConfig, Mode, NewTask, RunningHub, StoredEvent};
use bridge_proto::{
    AgentId, BridgeId, Secret, TaskId,
    model::{EventBody, RunEvent, Tuning},
};
use serde_json::{Value, json};
use tokio::time::timeout;

/// Nothing on loopback takes this long.
const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what)
        .await
        .expect("it should have happened by now")
}

/// A hub and one paired machine.
pub(crate) struct Paired {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) running: RunningHub,
    pub(crate) machine: BridgeId,
    pub(crate) pairing: Secret,
}

impl Paired {
    pub(crate) async fn with(change: impl FnOnce(&mut HubConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let running = started(&folder, change).await;
        let paired = running.hub().create_bridge_token("box").await.unwrap();
        Self {
            machine: BridgeId::parse(&paired.id).unwrap(),
            pairing: paired.secret,
            folder,
            running,
        }
    }

    /// Stops the hub; gives its folder, for another life on it.
    pub(crate) async fn stop(self) -> tempfile::TempDir {
        soon(self.running.shutdown()).await;
        self.folder
    }

    pub(crate) fn hub(&self) -> Hub {
        self.running.hub()
    }

    /// A task for the demo agent.
    pub(crate) fn new_task(&self, prompt: &str) -> NewTask {
        NewTask {
            machine: self.machine.clone(),
            agent: AgentId::parse("demo").unwrap(),
            prompt: prompt.into(),
            mode: Mode::Output,
            attachments: Vec::new(),
            tuning: Tuning::default(),
        }
    }

    /// All events of a task, once there are so many.
    pub(crate) async fn events(&self, task: &TaskId, count: usize) -> Vec<StoredEvent> {
        let hub = self.hub();
        let mut watch = hub.watch(task).await.unwrap();
        soon(async {
            loop {
                let events = all_events(&hub, task).await;
                if events.len() >= count {
                    return events;
                }
                assert!(watch.changed().await);
            }
        })
        .await
    }

    pub(crate) async fn online(&self, wanted: bool) {
        let hub = self.hub();
        let mut watch = hub.watch_all();
        soon(async {
            while hub.machines().await.unwrap()[0].online != wanted {
                assert!(watch.changed().await);
            }
        })
        .await;
    }
}

/// Starts a hub on what is in a folder.
pub(crate) async fn started(
    folder: &tempfile::TempDir,
    change: impl FnOnce(&mut HubConfig),
) -> RunningHub {
    let mut config = HubConfig::new(folder.path().join("hub"));
    change(&mut config);
    bridge_hub::start(config).await.unwrap()
}

async fn all_events(hub: &Hub, task: &TaskId) -> Vec<StoredEvent> {
    let mut all: Vec<StoredEvent> = Vec::new();
    loop {
        let after = all.last().map_or(0, |last| last.seq);
        let page = hub.events(task, after, 1000).await.unwrap();
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

/// The texts among events.
pub(crate) fn texts(events: &[StoredEvent]) -> Vec<String> {
    let text = |stored: &StoredEvent| {
        if let EventBody::Seen(seen) = &stored.event.body
            && let RunEvent::Text { delta, .. } = &seen.event
        {
            return Some(delta.clone());
        }
        None
    };
    events.iter().filter_map(text).collect()
}

/// One run as the bridge sees it.
#[derive(Clone)]
pub(crate) struct Run {
    pub(crate) task: TaskId,
    pub(crate) attempt: String,
}

impl Run {
    /// The run of a task that was just dispatched.
    pub(crate) fn of(task: TaskId, dispatch: &Value) -> Self {
        assert_eq!(dispatch["taskId"], task.as_str());
        let attempt = dispatch["executionId"]
            .as_str()
            .or_else(|| dispatch["requestId"].as_str());
        Self {
            task,
            attempt: attempt.unwrap().to_owned(),
        }
    }

    /// An event of the extension.
    pub(crate) fn event(&self, n: u64, body: &Value) -> Value {
        json!({
            "action": "bridge_event",
            "agentId": "demo",
            "provider": "demo",
            "requestId": self.attempt,
            "event": {
                "run": { "task": self.task, "attempt": self.attempt },
                "n": n,
                "at": "2026-03-14T09:26:53.589Z",
                "body": body,
            },
        })
    }

    pub(crate) fn text(&self, n: u64, delta: &str) -> Value {
        let event = json!({ "kind": "text", "block": "b", "delta": delta });
        self.event(n, &json!({ "type": "seen", "event": event }))
    }
}
