//! A gateway of OpenClaw in this process, on 127.0.0.1: the part of its WebSocket protocol and of
//! its HTTP endpoint that a bridge uses. Its agents do what their prompt says, line by line, as
//! the fake agent does (`bin/fake_agent/script.rs` lists the directives).
//!
//! ```no_run
//! # async fn example() {
//! use bridge_testkit::fake_gateway::{FakeGateway, Manners};
//!
//! let gateway = FakeGateway::start(Manners::default());
//! // … give a provider gateway.variables() …
//! let sent = gateway.heard(|request| request["method"] == "chat.send").await;
//! gateway.cut();
//! # }
//! ```

use std::{net::SocketAddr, time::Duration};

use axum::{
    Router,
    routing::{any, get, post},
};
use serde_json::Value;
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

mod brain;
mod connection;
mod endpoint;
mod odd;
mod run;
#[path = "bin/fake_agent/script.rs"]
mod script;

use brain::Brain;

/// How the gateway receives those who connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manners {
    /// The protocol it speaks.
    pub protocol: u64,
    /// Connections are refused as long as it has refused fewer than this, because it is starting.
    pub starts_after: u64,
    /// The right to work anywhere has to be approved first.
    pub strict: bool,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            protocol: 4,
            starts_after: 0,
            strict: false,
        }
    }
}

/// What a connection has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Line {
    Open,
    /// The end of all connections of this generation or an older one.
    Cut(u64),
    /// The end of the gateway.
    Dead(Option<i32>),
}

impl Line {
    /// Waits for the end of the connections of a generation.
    async fn end(mut watched: watch::Receiver<Self>, generation: u64) -> Self {
        let is_over = |line: &Self| match line {
            Self::Open => false,
            Self::Cut(n) => *n > generation,
            Self::Dead(_) => true,
        };
        let end = watched.wait_for(is_over).await;
        end.map_or(Self::Dead(None), |line| line.clone())
    }
}

/// A running fake gateway; ends when it is dropped.
#[derive(Debug)]
pub struct FakeGateway {
    address: SocketAddr,
    line: watch::Sender<Line>,
    log: watch::Receiver<Vec<Value>>,
}

impl FakeGateway {
    /// Starts it on a free port of a tokio runtime.
    ///
    /// # Panics
    /// When there is no free port.
    pub fn start(manners: Manners) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a fresh socket");
        let address = listener.local_addr().expect("a bound socket");
        let listener = tokio::net::TcpListener::from_std(listener).expect("a tokio runtime");
        let (line, _) = watch::channel(Line::Open);
        let (written, log) = watch::channel(Vec::new());
        let (to_brain, inbox) = mpsc::channel(1024);
        let brain = Brain::new(manners, written, to_brain.clone(), line.clone());
        tokio::spawn(brain.run(inbox));
        let doors = endpoint::Doors {
            brain: to_brain,
            line: line.clone(),
        };
        let app = Router::new()
            .route("/", any(connection::upgrade))
            .route("/healthz", get(endpoint::healthz))
            .route("/readyz", get(endpoint::readyz))
            .route("/v1/chat/completions", post(endpoint::completions))
            .with_state(doors);
        let dead = Line::end(line.subscribe(), u64::MAX);
        tokio::spawn(async move {
            let serving = axum::serve(listener, app).into_future();
            tokio::select! {
                served = serving => served.expect("a loopback server"),
                _ = dead => {}
            }
        });
        Self { address, line, log }
    }

    /// The variables by which a provider finds it.
    pub fn variables(&self) -> Vec<(String, String)> {
        vec![
            (
                "OPENCLAW_GATEWAY_URL".into(),
                format!("ws://{}", self.address),
            ),
            ("OPENCLAW_GATEWAY_TOKEN".into(), TOKEN.into()),
        ]
    }

    /// Waits for a request that fits; looks at those that came before as well.
    ///
    /// # Panics
    /// When none comes within a minute.
    pub async fn heard(&self, mut fits: impl FnMut(&Value) -> bool) -> Value {
        let mut log = self.log.clone();
        let found = async {
            loop {
                let found = log
                    .borrow_and_update()
                    .iter()
                    .find(|one| fits(one))
                    .cloned();
                if let Some(found) = found {
                    return found;
                }
                log.changed().await.expect("the gateway lives");
            }
        };
        timeout(DEADLINE, found)
            .await
            .expect("the request comes in time")
    }

    /// All requests so far, in order.
    pub fn log(&self) -> Vec<Value> {
        self.log.borrow().clone()
    }

    /// Drops all connections without a word; what works goes on.
    pub fn cut(&self) {
        self.line.send_modify(|line| {
            *line = match line {
                Line::Open => Line::Cut(1),
                Line::Cut(n) => Line::Cut(*n + 1),
                Line::Dead(code) => Line::Dead(*code),
            };
        });
    }
}

impl Drop for FakeGateway {
    fn drop(&mut self) {
        self.line.send_replace(Line::Dead(None));
    }
}

/// The shared secret.
const TOKEN: &str = "fake-gateway-token";
/// Generous: a busy machine is no failure.
const DEADLINE: Duration = Duration::from_secs(60);
