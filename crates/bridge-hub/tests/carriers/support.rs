//! A hub in a folder of its own, and bridges that are real links with a few words to say.

use std::{net::SocketAddr, time::Duration};

use bridge_hub::{Hub, HubConfig, Mode, NewTask, RunningHub, StoredEvent};
use bridge_proto::{
    AgentId, BridgeId, Secret, TaskId,
    model::{EventBody, RunEvent, Tuning},
};
use bridge_transport::{
    CarrierKind, CloseReason, Endpoint, Greeting, Handle, Inbound, Inbox, Limits, LinkState, Text,
    Timings,
};
use serde_json::{Value, json};
use tokio::{sync::watch, time::timeout};

use crate::cutting::Way;

/// Nothing on loopback takes this long.
const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what)
        .await
        .expect("it should have happened by now")
}

/// A hub, one paired machine and the way between them.
pub(crate) struct World {
    _folder: tempfile::TempDir,
    running: RunningHub,
    pub(crate) machine: BridgeId,
    pub(crate) pairing: Secret,
    pub(crate) way: Way,
    pub(crate) kind: CarrierKind,
}

impl World {
    pub(crate) async fn new(kind: CarrierKind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = HubConfig::new(folder.path().join("hub"));
        let mut way = Way::bound().await;
        config
            .public_origins
            .push(format!("http://{}", way.address));
        config.lines = Some("127.0.0.1:0".parse().unwrap());
        let running = bridge_hub::start(config).await.unwrap();
        way.lead_to(if kind == CarrierKind::Lines {
            running.lines_address().unwrap()
        } else {
            running.address()
        });
        let paired = running.hub().create_bridge_token("box").await.unwrap();
        Self {
            machine: BridgeId::parse(&paired.id).unwrap(),
            pairing: paired.secret,
            _folder: folder,
            running,
            way,
            kind,
        }
    }

    pub(crate) fn hub(&self) -> Hub {
        self.running.hub()
    }

    /// The door for lines itself.
    pub(crate) fn lines(&self) -> SocketAddr {
        self.running.lines_address().unwrap()
    }

    /// Stops the hub and gives the way, on which its last words may be.
    pub(crate) async fn stop(self) -> Way {
        soon(self.running.shutdown()).await;
        self.way
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        self.endpoint_at(self.way.address)
    }

    /// The same, of a hub that is found there.
    pub(crate) fn endpoint_at(&self, address: SocketAddr) -> Endpoint {
        let url = if self.kind == CarrierKind::Lines {
            format!("tcp://{address}")
        } else {
            format!("ws://{address}/ws/bridge")
        };
        let handshake = json!({
            "action": "handshake", "version": "v1.0.0", "agents": [], "providers": ["demo"],
            "hostname": "testbox",
        });
        let greeting = Greeting {
            frames: vec![handshake.to_string().into()],
            ..Greeting::default()
        };
        let timings = Timings {
            first_retry: Duration::from_millis(50),
            base: Duration::from_millis(50),
            early_cap: Duration::from_millis(200),
            ..Timings::default()
        };
        Endpoint::new(&url)
            .unwrap()
            .carriers([self.kind])
            .unwrap()
            .bearer(self.pairing.expose())
            .unwrap()
            .offer_extension(true)
            .timings(timings)
            .greeting(greeting)
    }

    /// A bridge that is on line and has the demo agent.
    pub(crate) async fn bridge(&self) -> Bridge {
        let mut bridge = Bridge::start(self.endpoint());
        bridge.expect("sync_demo_agents").await;
        bridge
    }

    /// A bridge that can hold only so many bytes that it did not read.
    pub(crate) async fn small_bridge(&self, inbox: usize) -> Bridge {
        let limits = Limits {
            inbox,
            ..Limits::default()
        };
        let mut bridge = Bridge::start(self.endpoint().limits(limits));
        bridge.expect("sync_demo_agents").await;
        bridge
    }

    pub(crate) async fn create(&self, prompt: &str) -> TaskId {
        let task = NewTask {
            machine: self.machine.clone(),
            agent: AgentId::parse("demo").unwrap(),
            prompt: prompt.into(),
            mode: Mode::Output,
            attachments: Vec::new(),
            tuning: Tuning::default(),
        };
        soon(self.hub().create(task)).await.unwrap()
    }

    /// A task that was sent to the bridge.
    pub(crate) async fn task(&self, bridge: &mut Bridge) -> Run {
        let task = self.create("write a haiku").await;
        let dispatch = bridge.expect("dispatch_task").await;
        assert_eq!(dispatch["taskId"], task.as_str());
        let attempt = dispatch["executionId"]
            .as_str()
            .or_else(|| dispatch["requestId"].as_str());
        Run {
            task,
            attempt: attempt.unwrap().to_owned(),
        }
    }

    /// The texts of a run, once there are so many.
    pub(crate) async fn texts(&self, run: &Run, count: usize) -> Vec<String> {
        let hub = self.hub();
        let mut watch = hub.watch(&run.task).await.unwrap();
        soon(async {
            loop {
                let events = all_events(&hub, &run.task).await;
                if events.len() >= count {
                    return events.iter().filter_map(text_of).collect();
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

fn text_of(stored: &StoredEvent) -> Option<String> {
    if let EventBody::Seen(seen) = &stored.event.body
        && let RunEvent::Text { delta, .. } = &seen.event
    {
        return Some(delta.clone());
    }
    None
}

/// One run as the bridge sees it.
pub(crate) struct Run {
    pub(crate) task: TaskId,
    attempt: String,
}

impl Run {
    pub(crate) fn text(&self, n: u64, delta: &str) -> Text {
        let event = json!({ "kind": "text", "block": "b", "delta": delta });
        let message = json!({
            "action": "bridge_event",
            "agentId": "demo",
            "provider": "demo",
            "requestId": self.attempt,
            "event": {
                "run": { "task": self.task, "attempt": self.attempt },
                "n": n,
                "at": "2026-03-14T09:26:53.589Z",
                "body": { "type": "seen", "event": event },
            },
        });
        Text(message.to_string())
    }
}

/// A link with somebody who reads it.
pub(crate) struct Bridge {
    pub(crate) handle: Handle<Text>,
    inbox: Inbox,
    /// Ends of connections that were read on the way.
    pub(crate) ends: Vec<CloseReason>,
}

impl Bridge {
    pub(crate) fn start(endpoint: Endpoint) -> Self {
        let (handle, inbox) = bridge_transport::connect::<Text>(endpoint);
        Self {
            handle,
            inbox,
            ends: Vec::new(),
        }
    }

    /// The next frame of this action; others are passed over.
    pub(crate) async fn expect(&mut self, action: &str) -> Value {
        loop {
            if let Inbound::Frame { text, .. } = self.next().await {
                let frame: Value = serde_json::from_slice(&text).unwrap();
                if frame["action"] == action {
                    return frame;
                }
            }
        }
    }

    pub(crate) async fn next(&mut self) -> Inbound {
        let inbound = soon(self.inbox.recv()).await.expect("the link has ended");
        if let Inbound::Closed { reason, .. } = &inbound {
            self.ends.push(reason.clone());
        }
        inbound
    }

    /// Why the current connection ends.
    pub(crate) async fn end(&mut self) -> CloseReason {
        loop {
            if let Inbound::Closed { reason, .. } = self.next().await {
                return reason;
            }
        }
    }

    pub(crate) async fn until(&self, fits: impl FnMut(&LinkState) -> bool) -> LinkState {
        let mut state: watch::Receiver<LinkState> = self.handle.state();
        soon(state.wait_for(fits)).await.unwrap().clone()
    }

    pub(crate) async fn push(&self, text: Text) {
        soon(self.handle.push(text)).await.unwrap();
    }
}
