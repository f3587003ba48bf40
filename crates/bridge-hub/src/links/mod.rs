//! Links: connections of bridges that are made of HTTP requests. Who knows the id of one and shows
//! the token it was opened with may ask things of it. The door where they ask is `endpoint/link.rs`.

pub(crate) mod flow;
pub(crate) mod session;
pub(crate) mod upload;

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use axum::extract::ws::Message as Frame;
use bridge_proto::BridgeId;
use bridge_transport::Rarely;
use futures_util::{Sink, Stream, sink, stream};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use self::session::{Ask, NoLink, Wires};
use crate::{access, endpoint::connection::talk, hub::Hub, store::TokenHash};

/// The links of a hub; a cheap handle.
#[derive(Debug, Clone)]
pub(crate) struct Links(mpsc::Sender<Errand>);

/// One link; a cheap handle.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    bridge: BridgeId,
    asks: mpsc::Sender<Ask>,
    /// One for each body that may be read at a time.
    pub(crate) bodies: Arc<Semaphore>,
    /// The same for all links of its bridge.
    pub(crate) of_bridge: Arc<Semaphore>,
    /// Whether the bridge has ended it; it lingers then.
    ended: Arc<watch::Sender<bool>>,
}

#[derive(Debug)]
enum Errand {
    Open {
        id: String,
        entry: Entry,
        reply: oneshot::Sender<bool>,
    },
    Find {
        id: String,
        token: TokenHash,
        reply: oneshot::Sender<Option<Link>>,
    },
    Gone {
        id: String,
    },
    /// Give what tells of each link whether its end is on its way.
    Farewells {
        reply: oneshot::Sender<Vec<watch::Receiver<bool>>>,
    },
    NotTaken {
        bridge: BridgeId,
        why: String,
    },
}

#[derive(Debug)]
struct Entry {
    token: TokenHash,
    link: Link,
    /// Whether its end is on its way to the bridge.
    farewell: watch::Receiver<bool>,
}

impl Entry {
    fn has_ended(&self) -> bool {
        *self.link.ended.borrow()
    }
}

/// Why there is no new link.
#[derive(Debug)]
pub(crate) enum NotOpened {
    /// There are too many of them.
    Full,
    /// No id can be made.
    NoEntropy,
}

impl Links {
    /// Starts the desk where they are kept.
    pub(crate) fn new() -> Self {
        let (desk, errands) = mpsc::channel(ERRANDS);
        tokio::spawn(keep(errands));
        Self(desk)
    }

    /// Opens a link for a bridge and gives its id. The bridge is connected from then on.
    pub(crate) async fn open(
        &self,
        hub: Hub,
        bridge: BridgeId,
        token: TokenHash,
        extended: bool,
    ) -> Result<String, NotOpened> {
        let id = access::new_secret("link_").map_err(|_| NotOpened::NoEntropy)?;
        let id = id.expose().to_owned();
        let (asks, asked) = mpsc::channel(ASKS);
        let (said, saying) = mpsc::channel(WIRE);
        let (writing, written) = mpsc::channel(WIRE);
        let (telling, farewell) = watch::channel(false);
        let entry = Entry {
            token,
            link: Link {
                bridge: bridge.clone(),
                asks,
                bodies: Arc::new(Semaphore::new(BODIES)),
                of_bridge: Arc::new(Semaphore::new(BODIES_OF_ONE)),
                ended: Arc::new(watch::Sender::new(false)),
            },
            farewell,
        };
        let (reply, opened) = oneshot::channel();
        let open = Errand::Open {
            id: id.clone(),
            entry,
            reply,
        };
        if self.0.send(open).await.is_err() || !opened.await.unwrap_or(false) {
            return Err(NotOpened::Full);
        }
        let (desk, gone) = (self.0.clone(), id.clone());
        tokio::spawn(async move {
            session::serve(asked, Wires { said, written }, telling).await;
            if desk.send(Errand::Gone { id: gone }).await.is_err() {
                tracing::trace!("the desk of the links is closed");
            }
        });
        tokio::spawn(async move {
            talk(&hub, bridge, extended, sink_of(writing), stream_of(saying)).await;
        });
        Ok(id)
    }

    /// Finds the link that was opened with this token.
    pub(crate) async fn find(&self, id: String, token: TokenHash) -> Option<Link> {
        let (reply, found) = oneshot::channel();
        let find = Errand::Find { id, token, reply };
        self.0.send(find).await.ok()?;
        found.await.ok()?
    }

    /// Waits until every bridge that reads its link was given the end of it. One that does not read
    /// keeps this waiting.
    pub(crate) async fn part(&self) {
        let (reply, farewells) = oneshot::channel();
        if self.0.send(Errand::Farewells { reply }).await.is_err() {
            return;
        }
        for mut farewell in farewells.await.unwrap_or_default() {
            if farewell.wait_for(|said| *said).await.is_err() {
                tracing::trace!("a link is gone");
            }
        }
    }

    /// Tells the log that a batch was refused, as long as that does not happen all the time.
    pub(crate) async fn not_taken(&self, link: &Link, why: String) {
        let bridge = link.bridge.clone();
        let not_taken = Errand::NotTaken { bridge, why };
        if self.0.send(not_taken).await.is_err() {
            tracing::trace!("the desk of the links is closed");
        }
    }
}

impl Link {
    /// Asks something that is answered.
    pub(crate) async fn ask<T>(
        &self,
        ask: impl FnOnce(session::Answer<T>) -> Ask,
    ) -> Result<T, NoLink> {
        let (reply, answered) = oneshot::channel();
        let sent = self.asks.send(ask(reply)).await;
        sent.map_err(|_| NoLink::Ended)?;
        answered.await.unwrap_or(Err(NoLink::Ended))
    }

    /// Ends the connection with this code, after everything that was said.
    pub(crate) async fn end(&self, code: u16) -> Result<(), NoLink> {
        let sent = self.asks.send(Ask::End { code }).await;
        self.ended.send_replace(true);
        sent.map_err(|_| NoLink::Ended)
    }
}

/// The end of a channel that a connection writes to.
pub(crate) fn sink_of(to: mpsc::Sender<Frame>) -> impl Sink<Frame> + Unpin {
    Box::pin(sink::unfold(to, |to, frame| async move {
        to.send(frame).await.map(|()| to)
    }))
}

/// The end of a channel that a connection reads from.
pub(crate) fn stream_of<T>(from: mpsc::Receiver<T>) -> impl Stream<Item = T> + Unpin {
    Box::pin(stream::unfold(from, |mut from| async {
        Some((from.recv().await?, from))
    }))
}

/// Keeps the links until nobody can ask for them any more.
async fn keep(mut errands: mpsc::Receiver<Errand>) {
    let mut links: HashMap<String, Entry> = HashMap::new();
    // A body may be read for longer than its link is kept.
    let mut bodies: HashMap<BridgeId, Weak<Semaphore>> = HashMap::new();
    let mut refused = Rarely::default();
    while let Some(errand) = errands.recv().await {
        match errand {
            Errand::Open {
                id,
                mut entry,
                reply,
            } => {
                let same = |other: &&Entry| other.link.bridge == entry.link.bridge;
                let of_one = links.values().filter(same);
                let (ended, open): (Vec<_>, Vec<_>) = of_one.partition(|it| it.has_ended());
                let room = open.len() < OF_ONE && ended.len() < LINGERING && links.len() < ALL;
                if reply.send(room).is_ok() && room {
                    bodies.retain(|_, of_one| of_one.strong_count() > 0);
                    let of_one = bodies.entry(entry.link.bridge.clone()).or_default();
                    match of_one.upgrade() {
                        Some(shared) => entry.link.of_bridge = shared,
                        None => *of_one = Arc::downgrade(&entry.link.of_bridge),
                    }
                    links.insert(id, entry);
                }
            }
            Errand::Find { id, token, reply } => {
                let entry = links.get(&id).filter(|entry| entry.token == token);
                if reply.send(entry.map(|entry| entry.link.clone())).is_err() {
                    tracing::trace!("nobody waits for a link");
                }
            }
            Errand::Gone { id } => {
                links.remove(&id);
            }
            Errand::Farewells { reply } => {
                let open = links.values().filter(|entry| !entry.has_ended());
                let farewells = open.map(|entry| entry.farewell.clone());
                if reply.send(farewells.collect()).is_err() {
                    tracing::trace!("nobody waits for the links to end");
                }
            }
            Errand::NotTaken { bridge, why } => {
                if let Some(refused) = refused.count() {
                    tracing::warn!(
                        machine = %bridge,
                        error = why,
                        refused,
                        "a bridge sent a batch that is not taken"
                    );
                }
            }
        }
    }
}

/// Errands that wait at the desk.
const ERRANDS: usize = 64;
/// Requests that wait for one link.
const ASKS: usize = 8;
/// Frames between a link and its connection, in each direction.
const WIRE: usize = 8;
/// Bodies of one link that are read at a time: one, and one whose connection may be dead.
const BODIES: usize = 2;
/// Bodies of all links of one bridge that are read at a time: those of a link, and of the one before.
const BODIES_OF_ONE: usize = 2 * BODIES;
/// Links of one bridge. A newer one ends the older ones, which linger.
const OF_ONE: usize = 8;
/// Links of one bridge that it has ended itself, and that can still be asked for.
const LINGERING: usize = 32;
/// Links altogether.
const ALL: usize = 512;
