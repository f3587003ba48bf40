//! A hub at the end of a way that can be cut, and bridges that are real links with a few words to
//! say.

use std::{fmt::Display, net::SocketAddr, ops::Deref, time::Duration};

use bridge_proto::TaskId;
use bridge_transport::{
    CarrierKind, CloseReason, Endpoint, Greeting, Handle, Inbound, Inbox, Limits, LinkState, Text,
    Timings,
};
use serde_json::{Value, json};
use tokio::sync::watch;

pub(crate) use crate::paired::{Run, soon};
use crate::{
    cutting::Way,
    paired::{Paired, texts},
};

/// A hub, one paired machine and the way between them.
pub(crate) struct World {
    paired: Paired,
    pub(crate) way: Way,
    pub(crate) kind: CarrierKind,
}

impl Deref for World {
    type Target = Paired;

    fn deref(&self) -> &Paired {
        &self.paired
    }
}

impl World {
    pub(crate) async fn new(kind: CarrierKind) -> Self {
        let mut way = Way::bound().await;
        let paired = Paired::with(|config| {
            let origin = format!("http://{}", way.address);
            config.public_origins.push(origin);
            config.lines = Some("127.0.0.1:0".parse().unwrap());
        })
        .await;
        way.lead_to(if kind == CarrierKind::Lines {
            paired.running.lines_address().unwrap()
        } else {
            paired.running.address()
        });
        Self { paired, way, kind }
    }

    /// The door for lines itself.
    pub(crate) fn lines(&self) -> SocketAddr {
        self.running.lines_address().unwrap()
    }

    /// Stops the hub and gives the way, on which its last words may be.
    pub(crate) async fn stop(self) -> Way {
        drop(self.paired.stop().await);
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
        let task = self.new_task(prompt);
        soon(self.hub().create(task)).await.unwrap()
    }

    /// A task that was sent to the bridge.
    pub(crate) async fn task(&self, bridge: &mut Bridge) -> Run {
        let task = self.create("write a haiku").await;
        let dispatch = bridge.expect("dispatch_task").await;
        Run::of(task, &dispatch)
    }

    /// The texts of a run, once there are so many.
    pub(crate) async fn texts(&self, run: &Run, count: usize) -> Vec<String> {
        texts(&self.events(&run.task, count).await)
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

    pub(crate) async fn push(&self, message: &impl Display) {
        let text = Text(message.to_string());
        soon(self.handle.push(text)).await.unwrap();
    }
}
