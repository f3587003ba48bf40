//! A control plane in this process, on 127.0.0.1, that does what a test tells it: accept or
//! refuse, stall, drop, close with any code, send any bytes. It records everything it hears.
//!
//! ```no_run
//! # async fn example() {
//! use bridge_testkit::fake_plane::{FakePlane, Manners};
//!
//! let plane = FakePlane::start(Manners::plain()).await;
//! // … point a bridge at plane.url() …
//! let hello = plane.heard(|frame| frame["action"] == "handshake").await;
//! plane.send(&serde_json::json!({ "action": "cancel_task", "taskId": "t" })).await;
//! plane.cut();
//! # }
//! ```

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use bridge_transport::delivery::Position;
use serde_json::Value;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};

mod commands;
mod connection;

pub use connection::Order;

use self::commands::Commands;
use crate::wire;

/// How the plane receives those who dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manners {
    /// Upgrades; with the extension where it is offered.
    Accept {
        /// Whether the extension is accepted.
        extended: bool,
        /// The only token that is good, if any other is refused with 401.
        token: Option<String>,
    },
    /// Refuses the upgrade.
    Refuse {
        /// The HTTP status.
        status: u16,
        /// The body of the answer.
        body: String,
        /// Further headers of the answer.
        headers: Vec<(String, String)>,
    },
    /// Takes the connection and never answers.
    Silent,
    /// Closes the connection before it answers.
    HangUp,
}

impl Manners {
    /// The published wire, any token.
    pub fn plain() -> Self {
        Self::Accept {
            extended: false,
            token: None,
        }
    }

    /// Our own hub's wire, any token. What comes in the envelope is noted without it.
    pub fn extended() -> Self {
        Self::Accept {
            extended: true,
            token: None,
        }
    }

    /// Refuses with this status and body.
    pub fn refuse(status: u16, body: &str) -> Self {
        Self::Refuse {
            status,
            body: body.to_owned(),
            headers: Vec::new(),
        }
    }
}

/// Something the plane saw, on one of its connections (1 is the first).
#[derive(Debug, Clone, PartialEq)]
pub struct Heard {
    /// Which connection.
    pub conn: u64,
    /// When it came.
    pub at: SystemTime,
    /// What.
    pub what: What,
}

/// What the plane saw.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// The upgrade succeeded; these were the headers of the request, names in lower case.
    Opened(BTreeMap<String, String>),
    /// The upgrade was refused; these were the headers of the request.
    Refused(BTreeMap<String, String>),
    /// A text frame.
    Frame(Value),
    /// A packed message of so many frames, which follow.
    Packed(usize),
    /// A text frame that is no JSON, or a binary frame.
    Odd(String),
    /// A ping.
    Ping,
    /// The connection is over; the code, if the peer sent one.
    Closed(Option<u16>),
}

#[derive(Debug, Default)]
struct Log {
    /// Up to where bridges with the envelope were heard, over all connections.
    position: Position,
    commands: Commands,
    heard: Vec<Heard>,
    open: BTreeMap<u64, mpsc::UnboundedSender<Order>>,
}

/// A running fake plane; ends when it is dropped.
#[derive(Debug)]
pub struct FakePlane {
    address: SocketAddr,
    manners: watch::Sender<Manners>,
    log: watch::Sender<Log>,
    serving: JoinHandle<()>,
}

impl FakePlane {
    /// Listens on a free port of 127.0.0.1.
    pub async fn start(manners: Manners) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("a free port");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let manners = watch::Sender::new(manners);
        let log = watch::Sender::new(Log::default());
        let serving = tokio::spawn(serve(listener, manners.subscribe(), log.clone()));
        Self {
            address,
            manners,
            log,
            serving,
        }
    }

    /// Where a bridge finds it.
    pub fn url(&self) -> String {
        format!("ws://{}/ws/bridge", self.address)
    }

    /// Receives those who dial from now on differently.
    pub fn set_manners(&self, manners: Manners) {
        self.manners.send_replace(manners);
    }

    /// Everything seen so far, in order.
    pub fn log(&self) -> Vec<Heard> {
        self.log.borrow().heard.clone()
    }

    /// How much was seen so far, for [`FakePlane::see_after`].
    pub fn seen(&self) -> usize {
        self.log.borrow().heard.len()
    }

    /// All frames so far, in order, whatever their connection.
    pub fn frames(&self) -> Vec<Value> {
        let log = self.log.borrow();
        log.heard.iter().filter_map(frame).cloned().collect()
    }

    /// Waits for the first thing that fits, also among what was seen before.
    ///
    /// # Panics
    /// When it does not come within a minute; tells what came instead.
    pub async fn see(&self, fits: impl Fn(&Heard) -> bool) -> Heard {
        self.see_after(0, fits).await.1
    }

    /// As [`FakePlane::see`], but only what was seen after the first `skip` things counts; gives
    /// how much was seen with it as well.
    ///
    /// # Panics
    /// When it does not come within a minute; tells what came instead.
    pub async fn see_after(&self, skip: usize, fits: impl Fn(&Heard) -> bool) -> (usize, Heard) {
        match self.try_see_after(skip, DEADLINE, fits).await {
            Some(found) => found,
            None => panic!("not seen within {DEADLINE:?}; the log is:\n{}", self.told()),
        }
    }

    /// As [`FakePlane::see_after`] with a time limit, `None` when it passes.
    pub async fn try_see_after(
        &self,
        skip: usize,
        limit: Duration,
        fits: impl Fn(&Heard) -> bool,
    ) -> Option<(usize, Heard)> {
        let mut log = self.log.subscribe();
        let mut looked = skip;
        let found = async {
            loop {
                // Out of the lock first: `fits` may look at the plane itself, and a second reader
                // behind a waiting writer would wait for ever.
                let fresh: Vec<Heard> = {
                    let log = log.borrow_and_update();
                    log.heard.iter().skip(looked).cloned().collect()
                };
                for heard in fresh {
                    looked += 1;
                    if fits(&heard) {
                        return (looked, heard);
                    }
                }
                log.changed().await.expect("the plane keeps its log");
            }
        };
        timeout(limit, found).await.ok()
    }

    /// Waits for the first frame that fits.
    ///
    /// # Panics
    /// As [`FakePlane::see`].
    pub async fn heard(&self, fits: impl Fn(&Value) -> bool) -> Value {
        self.heard_after(0, fits).await.1
    }

    /// Waits for the first frame that fits behind the first `skip` things.
    ///
    /// # Panics
    /// As [`FakePlane::see`].
    pub async fn heard_after(&self, skip: usize, fits: impl Fn(&Value) -> bool) -> (usize, Value) {
        let (at, heard) = self
            .see_after(skip, |heard| frame(heard).is_some_and(&fits))
            .await;
        (at, frame(&heard).cloned().unwrap_or_default())
    }

    /// Waits until connection number `conn` is open.
    ///
    /// # Panics
    /// As [`FakePlane::see`].
    pub async fn opened(&self, conn: u64) -> BTreeMap<String, String> {
        let heard = self.see(|heard| heard.conn == conn && matches!(heard.what, What::Opened(_)));
        let What::Opened(headers) = heard.await.what else {
            return BTreeMap::new();
        };
        headers
    }

    /// Sends a frame on the newest connection, waiting for one to be open.
    pub async fn send(&self, frame: &Value) {
        self.order(Order::Text(frame.to_string())).await;
    }

    /// The agents that a bridge which takes numbers is told of on every connection, before the
    /// [commands](Self::command): one of each provider.
    pub fn set_agents(&self, providers: &[&str]) {
        let frames = providers.iter().map(|key| wire::sync(key).to_string());
        let frames = frames.collect();
        self.log.send_modify(|log| log.commands.set_agents(frames));
    }

    /// Gives a command a number and keeps it until the bridge has acknowledged it, over
    /// connections; sends it at once if one is open whose bridge takes numbers.
    pub fn command(&self, frame: &Value) {
        self.log.send_modify(|log| log.commands.add(frame));
        self.go_on();
    }

    /// Sends every [`command`](Self::command) there ever was again, under another numbering, from
    /// the next connection on.
    pub fn start_over(&self) {
        self.log.send_modify(|log| log.commands.start_over());
    }

    /// Waits until every command was acknowledged.
    ///
    /// # Panics
    /// When that takes longer than a minute; tells how many were not.
    pub async fn all_acknowledged(&self) {
        let mut log = self.log.subscribe();
        let done = timeout(DEADLINE, log.wait_for(|log| log.commands.waiting() == 0)).await;
        let settled = matches!(done, Ok(Ok(_)));
        drop(done);
        let waiting = self.log.borrow().commands.waiting();
        assert!(
            settled,
            "{waiting} commands are not acknowledged; the log is:\n{}",
            self.told()
        );
    }

    fn go_on(&self) {
        for open in self.log.borrow().open.values() {
            drop(open.send(Order::Commands));
        }
    }

    /// Gives the newest connection an order, waiting for one to be open.
    ///
    /// # Panics
    /// When none opens within a minute.
    pub async fn order(&self, order: Order) {
        let mut log = self.log.subscribe();
        let open = log.wait_for(|log| !log.open.is_empty());
        let newest = match timeout(DEADLINE, open).await {
            Ok(Ok(log)) => log.open.values().next_back().cloned(),
            Ok(Err(_)) | Err(_) => None,
        };
        let Some(newest) = newest else {
            panic!(
                "no connection within {DEADLINE:?}; the log is:\n{}",
                self.told()
            );
        };
        // A connection that ends this moment cannot take it; the test will see that it ended.
        drop(newest.send(order));
    }

    /// Drops every open connection without a close frame.
    pub fn cut(&self) {
        for open in self.log.borrow().open.values() {
            drop(open.send(Order::Drop));
        }
    }

    /// Closes every open connection with this code and reason.
    pub fn close(&self, code: u16, reason: &str) {
        for open in self.log.borrow().open.values() {
            drop(open.send(Order::Close(code, reason.to_owned())));
        }
    }

    /// What was seen, one line each, for the report of a failed test.
    pub fn told(&self) -> String {
        let log = self.log.borrow();
        let telling = || log.heard.iter().filter(|heard| heard.what != What::Ping);
        let skipped = telling().count().saturating_sub(TOLD);
        let lines = telling().skip(skipped).map(|heard| {
            let what = match frame(heard) {
                Some(frame) => frame.to_string(),
                None => format!("{:?}", heard.what),
            };
            let what: String = what.chars().take(300).collect();
            format!("  [{}] {what}", heard.conn)
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

impl Drop for FakePlane {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// The frame, if that is what was seen.
pub fn frame(heard: &Heard) -> Option<&Value> {
    match &heard.what {
        What::Frame(frame) => Some(frame),
        What::Opened(_)
        | What::Refused(_)
        | What::Packed(_)
        | What::Odd(_)
        | What::Ping
        | What::Closed(_) => None,
    }
}

async fn serve(listener: TcpListener, manners: watch::Receiver<Manners>, log: watch::Sender<Log>) {
    let mut connections = tokio::task::JoinSet::new();
    let mut conn = 0;
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                // Two frames in a row are not kept back for one another.
                if stream.set_nodelay(true).is_err() { continue }
                conn += 1;
                let manners = manners.borrow().clone();
                connections.spawn(connection::serve(stream, conn, manners, log.clone()));
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

fn note(log: &watch::Sender<Log>, conn: u64, what: What) {
    note_at(log, SystemTime::now(), conn, what);
}

fn note_at(log: &watch::Sender<Log>, at: SystemTime, conn: u64, what: What) {
    log.send_modify(|log| log.heard.push(Heard { conn, at, what }));
}

/// Generous: a busy machine is no failure.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Lines of the log in a failure's report.
const TOLD: usize = 60;

#[cfg(test)]
mod tests {
    use futures_util::{SinkExt as _, StreamExt as _};
    use serde_json::json;
    use tokio_tungstenite::{
        connect_async,
        tungstenite::{Error, Message, client::IntoClientRequest as _},
    };

    use super::*;

    #[tokio::test]
    async fn hears_sends_and_closes() {
        let plane = FakePlane::start(Manners::plain()).await;
        let (mut socket, _) = connect_async(plane.url()).await.unwrap();
        socket
            .send(Message::text(r#"{"action":"hi"}"#))
            .await
            .unwrap();
        assert_eq!(plane.heard(|_| true).await, json!({"action": "hi"}));
        plane.send(&json!({"a": 1})).await;
        assert_eq!(
            socket.next().await.unwrap().unwrap(),
            Message::text(r#"{"a":1}"#)
        );
        plane.close(4001, "enough");
        let Message::Close(Some(close)) = socket.next().await.unwrap().unwrap() else {
            panic!("not a close")
        };
        assert_eq!(
            (u16::from(close.code), close.reason.as_str()),
            (4001, "enough")
        );
        drop(socket);
        plane
            .see(|heard| matches!(heard.what, What::Closed(_)))
            .await;
    }

    /// A test that asks the plane while it looks must not stop the plane.
    #[tokio::test]
    async fn what_looks_for_something_may_change_and_ask_the_plane() {
        let plane = FakePlane::start(Manners::plain()).await;
        note(&plane.log, 1, What::Ping);
        let asks = |_: &Heard| {
            note(&plane.log, 1, What::Ping);
            plane.seen() >= 3
        };
        assert_eq!(plane.see_after(0, asks).await.0, 2);
    }

    #[tokio::test]
    async fn refuses_as_told_and_wrong_tokens() {
        let plane = FakePlane::start(Manners::refuse(503, "later")).await;
        let refused = |error| {
            let Error::Http(response) = error else {
                panic!("{error}")
            };
            let status = response.status().as_u16();
            let body = response.into_body().unwrap_or_default();
            (status, String::from_utf8(body).unwrap())
        };
        let error = connect_async(plane.url()).await.unwrap_err();
        assert_eq!(refused(error), (503, "later".into()));
        let token = Some("good".to_owned());
        plane.set_manners(Manners::Accept {
            extended: true,
            token,
        });
        let dial = |token: &str| {
            let mut request = plane.url().into_client_request().unwrap();
            let value = format!("Bearer {token}").parse().unwrap();
            request.headers_mut().insert("authorization", value);
            let extension = "1".parse().unwrap();
            request
                .headers_mut()
                .insert("x-bridge-extension", extension);
            connect_async(request)
        };
        assert_eq!(refused(dial("bad").await.unwrap_err()).0, 401);
        let (_socket, response) = dial("good").await.unwrap();
        assert_eq!(response.headers()["x-bridge-extension"], "1");
        assert_eq!(plane.opened(3).await["authorization"], "Bearer good");
    }
}
