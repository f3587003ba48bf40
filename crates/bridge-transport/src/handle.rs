//! The embedder's end of a link: push, greet, watch, shut down.

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    carrier::{self, Carrier},
    config::Endpoint,
    delivery::Position,
    driver,
    inbound::{ConnId, Inbox},
    payload::{Greeting, Payload},
    state::LinkState,
};
#[cfg(feature = "spool")]
use crate::{
    kept::{Keeper, SyncPolicy},
    link::window,
    payload::Stored,
    spool::{Folder, Spool, SpoolError},
};

/// Starts a link over the [carriers](Endpoint::carriers) of the endpoint on the current tokio
/// runtime.
///
/// The first dial begins at once, greeted by [`Endpoint::greeting`].
///
/// # Panics
/// Panics outside of a tokio runtime.
pub fn connect<P: Payload>(endpoint: Endpoint) -> (Handle<P>, Inbox) {
    let carrier = carrier::of(&endpoint);
    connect_over(endpoint, carrier)
}

/// Starts a link over another carrier on the current tokio runtime.
///
/// # Panics
/// Panics outside of a tokio runtime.
pub fn connect_over<P: Payload>(
    endpoint: Endpoint,
    carrier: Box<dyn Carrier>,
) -> (Handle<P>, Inbox) {
    driver::spawn(endpoint, Arc::from(carrier), None)
}

/// Starts a link whose messages of streams go over a spool, on the current tokio runtime.
///
/// What the spool holds is sent first. With [`SyncPolicy::Never`] a message that was
/// [pushed](Handle::push) survives the end of the process from the moment it has its number: at
/// once, but for increments that wait for their pace. With the others it does when a thread has
/// written it, which is before it is sent. It is kept until the peer has stored it; for a peer
/// without the envelope until a later ping proved it ([`Class::Durable`](crate::Class::Durable)) or
/// its write was confirmed (any other class).
///
/// While the disk takes nothing, a message is in memory alone. After the third failure the spool is
/// done without under a new epoch, and what was not acknowledged can come twice; unless messages
/// are on the disk alone: then producers wait at the bound of the outbox.
///
/// # Errors
/// Fails when the spool cannot be read.
///
/// # Panics
/// Panics outside of a tokio runtime.
#[cfg(feature = "spool")]
pub fn connect_spooled<P: Stored>(
    endpoint: Endpoint,
    carrier: Box<dyn Carrier>,
    spool: Spool<Folder>,
    sync: SyncPolicy,
) -> Result<(Handle<P>, Inbox), SpoolError> {
    let spool = Keeper::new(spool, sync, window(endpoint.limits.outbox))?;
    Ok(driver::spawn(endpoint, Arc::from(carrier), Some(spool)))
}

/// The sending end of a link; clones share it.
///
/// When the last clone is dropped without [`shutdown`](Self::shutdown), the link sends what is
/// queued for at most a second and ends.
pub struct Handle<P> {
    pub(crate) requests: mpsc::Sender<Request<P>>,
    pub(crate) greeting: Arc<watch::Sender<Greeting>>,
    pub(crate) state: watch::Receiver<LinkState>,
    pub(crate) committed: Arc<watch::Sender<Position>>,
}

impl<P: Payload> Handle<P> {
    /// Hands a message to the link; resolves when the outbox has taken it.
    ///
    /// While the outbox is full this waits, except for [`Class::Durable`](crate::Class::Durable)
    /// and [`Class::Latest`](crate::Class::Latest). A message dropped with the future while
    /// waiting is not sent. Messages pushed one after another keep their order within a stream.
    ///
    /// # Errors
    /// Fails when the link is shutting down or has stopped.
    pub async fn push(&self, payload: P) -> Result<(), Closed> {
        self.push_all([payload]).await
    }

    /// Hands several messages to the link in one go, which costs far less than one after another;
    /// resolves when the outbox has taken all of them.
    ///
    /// As [`push`](Self::push), except that a message also waits behind those of its own list that
    /// wait. Of a list that is dropped with the future, those that wait are not sent.
    ///
    /// # Errors
    /// Fails when the link is shutting down or has stopped.
    pub async fn push_all(&self, payloads: impl Into<VecDeque<P>>) -> Result<(), Closed> {
        let (admitted, taken) = oneshot::channel();
        let payloads = payloads.into();
        let request = Request::Push { payloads, admitted };
        self.requests.send(request).await.map_err(|_| Closed)?;
        taken.await.map_err(|_| Closed)
    }

    /// Replaces the greeting, from the next dial on.
    pub fn greet(&self, greeting: Greeting) {
        self.greeting.send_replace(greeting);
    }

    /// Says that a frame of this connection was of no use, one that could not be read for example.
    /// A connection with too many of them is closed; see
    /// [`Limits::useless`](crate::Limits::useless).
    ///
    /// # Errors
    /// Fails when the link has stopped.
    pub async fn useless(&self, conn: ConnId) -> Result<(), Closed> {
        let request = Request::Useless { conn };
        self.requests.send(request).await.map_err(|_| Closed)
    }

    /// Says that every frame of the peer up to this position is kept, or what was done about it:
    /// the peer may forget them, and an embedder that starts again with this position does not get
    /// them again. A [`Receipt`](crate::Receipt) names the position that holds once all frames up
    /// to it are kept.
    ///
    /// Costs little and waits for nothing; of several only the last one counts. A position of
    /// another numbering than the newest frames changes nothing.
    pub fn commit(&self, upto: Position) {
        self.committed
            .send_if_modified(|known| std::mem::replace(known, upto) != upto);
    }

    /// Watches the state of the link.
    pub fn state(&self) -> watch::Receiver<LinkState> {
        self.state.clone()
    }

    /// Stops the link, for all clones: takes nothing more, sends what is queued for at most
    /// `flush`, closes the connection. A spool that is written by a thread is waited for until
    /// then, and for at least a second.
    pub async fn shutdown(self, flush: Duration) -> Flushed {
        let (done, flushed) = oneshot::channel();
        if self
            .requests
            .send(Request::Drain { limit: flush, done })
            .await
            .is_err()
        {
            return Flushed::Everything;
        }
        flushed.await.unwrap_or(Flushed::Everything)
    }
}

impl<P> Clone for Handle<P> {
    fn clone(&self) -> Self {
        Self {
            requests: self.requests.clone(),
            greeting: Arc::clone(&self.greeting),
            state: self.state.clone(),
            committed: Arc::clone(&self.committed),
        }
    }
}

impl<P> fmt::Debug for Handle<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("state", &*self.state.borrow())
            .finish_non_exhaustive()
    }
}

/// The link has ended or is shutting down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("link is closed")]
pub struct Closed;

/// What a shutdown left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "what is left is not delivered"]
pub enum Flushed {
    /// Everything was handed to the network, or the link had stopped before.
    Everything,
    /// Time ran out.
    Left {
        /// How many messages were not sent, or not acknowledged; a spool keeps them.
        messages: usize,
        /// Their bytes.
        bytes: usize,
    },
}

/// What handles ask of the driver.
pub(crate) enum Request<P> {
    Push {
        payloads: VecDeque<P>,
        admitted: oneshot::Sender<()>,
    },
    Useless {
        conn: ConnId,
    },
    Drain {
        limit: Duration,
        done: oneshot::Sender<Flushed>,
    },
}
