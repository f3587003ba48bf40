//! Starts a hub: opens the store, binds the address, builds the router, stops in order.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    middleware::{from_fn, from_fn_with_state},
    routing::{get, post},
};
use thiserror::Error;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::timeout,
};

use crate::{
    clock::now,
    config::HubConfig,
    endpoint::{api, bridge, device, link, login, side},
    guard::{self, Guard},
    hub::Hub,
    lines,
    links::Links,
    listener,
    owner::{Message, Owner},
    store::{SqliteStore, Store, StoreError},
    web,
};

/// Why a hub did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The address can be reached by other machines and `expose` is not set.
    #[error("{address} can be reached by other machines")]
    NotLoopback {
        /// As configured.
        address: SocketAddr,
    },
    /// The same of the address for lines, which are not encrypted.
    #[error("lines on {address} can be heard by other machines")]
    LinesNotLoopback {
        /// As configured.
        address: SocketAddr,
    },
    /// The address is not free, or not ours.
    #[error("cannot listen on {address}")]
    Bind {
        /// As configured.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A public origin is not `http://host[:port]` or `https://host[:port]`.
    #[error("{origin:?} is not an origin")]
    BadOrigin {
        /// As configured.
        origin: String,
    },
    /// The database cannot be used.
    #[error("the hub's database cannot be used")]
    Store(#[from] StoreError),
}

/// A hub at work. Dropping it does not stop it; [`RunningHub::shutdown`] does.
#[derive(Debug)]
pub struct RunningHub {
    address: SocketAddr,
    hub: Hub,
    links: Links,
    closing: oneshot::Sender<()>,
    server: JoinHandle<()>,
    lines: Option<Door>,
}

/// A listener of its own.
#[derive(Debug)]
struct Door {
    address: SocketAddr,
    closing: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

impl RunningHub {
    /// Where it really listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it really listens for lines, if it does.
    pub fn lines_address(&self) -> Option<SocketAddr> {
        self.lines.as_ref().map(|door| door.address)
    }

    /// A handle.
    pub fn hub(&self) -> Hub {
        self.hub.clone()
    }

    /// Commits what is on the way, closes connections and doors, and returns when nothing is left;
    /// at most 7 s. Handles give [`HubError::Stopping`](crate::HubError::Stopping) from then on.
    pub async fn shutdown(self) {
        let (done, stopped) = oneshot::channel();
        let orderly = async {
            if self.hub.tell(Message::Stop { done }).await.is_ok() && stopped.await.is_err() {
                tracing::debug!("the hub had stopped already");
            }
        };
        if timeout(STOPPING, orderly).await.is_err() {
            tracing::warn!("the hub did not stop in time");
        }
        // Bridges that fetch what they are told need the door for it.
        if timeout(PARTING, self.links.part()).await.is_err() {
            tracing::debug!("a bridge has not fetched the end of its link");
        }
        let main = close(self.closing, self.server);
        let lines = async {
            if let Some(door) = self.lines {
                close(door.closing, door.server).await;
            }
        };
        tokio::join!(main, lines);
    }
}

/// Takes nobody in any more and waits for those who are there, for a while.
async fn close(closing: oneshot::Sender<()>, server: JoinHandle<()>) {
    if closing.send(()).is_err() {
        tracing::debug!("the server had stopped already");
    }
    let abort = server.abort_handle();
    if timeout(STOPPING, server).await.is_err() {
        abort.abort();
    }
}

/// Starts a hub. It serves until [`RunningHub::shutdown`].
pub async fn start(config: HubConfig) -> Result<RunningHub, StartError> {
    let address = config.listen;
    let may = |address: SocketAddr| config.expose || address.ip().is_loopback();
    if !may(address) {
        return Err(StartError::NotLoopback { address });
    }
    if let Some(address) = config.lines.filter(|lines| !may(*lines)) {
        return Err(StartError::LinesNotLoopback { address });
    }
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&config.data, now())?);
    let left = store.end_runs_of_revoked(now()).await?;
    if left > 0 {
        tracing::warn!(
            tasks = left,
            "runs of machines that were removed have been ended"
        );
    }
    let paired = store.bridges().await?;
    let bind = |source| StartError::Bind { address, source };
    let listener = TcpListener::bind(address).await.map_err(bind)?;
    let address = listener.local_addr().map_err(bind)?;
    let for_lines = match config.lines {
        Some(address) => {
            let bind = |source| StartError::Bind { address, source };
            let listener = TcpListener::bind(address).await.map_err(bind)?;
            Some((listener.local_addr().map_err(bind)?, listener))
        }
        None => None,
    };
    let guard = Arc::new(Guard::new(address, &config.public_origins)?);

    let (inbox, messages) = mpsc::channel(INBOX);
    let (changed, changes) = watch::channel(0);
    let (storing, storable) = watch::channel(true);
    let owner = Owner::new(
        store.clone(),
        paired,
        config.lost_after,
        config.retention,
        changed,
        storing,
    );
    tokio::spawn(owner.run(messages));
    let hub = Hub {
        owner: inbox,
        store,
        changes,
        storable,
        public: guard.public(),
    };

    let (closing, closed) = oneshot::channel::<()>();
    let links = Links::new();
    let router = router(&hub, &links, guard);
    let server = tokio::spawn(listener::serve(listener, router, closed));
    let lines = for_lines.map(|(address, listener)| {
        tracing::info!(%address, "lines are heard");
        let (closing, closed) = oneshot::channel();
        Door {
            address,
            closing,
            server: tokio::spawn(lines::serve(listener, hub.clone(), closed)),
        }
    });
    tracing::info!(%address, "hub started");
    Ok(RunningHub {
        address,
        hub,
        links,
        closing,
        server,
        lines,
    })
}

fn router(hub: &Hub, links: &Links, guard: Arc<Guard>) -> Router {
    let api = api::routes().layer(from_fn_with_state(hub.clone(), guard::for_programs));
    let pages = web::routes()
        .route("/logout", post(login::log_out))
        .layer(from_fn_with_state(hub.clone(), guard::for_people));
    let others = Router::new()
        .route("/login", get(login::with_address).post(login::with_form))
        .merge(side::routes())
        .merge(device::routes())
        .nest("/api/v1", api)
        .merge(pages)
        .layer(from_fn(bridge::no_door));
    Router::new()
        .route("/ws/bridge", get(bridge::connect))
        .merge(link::routes(links.clone()))
        .merge(others)
        .layer(from_fn_with_state(guard, guard::at_the_gate))
        .with_state(hub.clone())
}

/// Messages that wait for the owner; beyond it, doors wait.
const INBOX: usize = 256;
/// For keeping what is on the way, and for the connections to end.
const STOPPING: Duration = Duration::from_millis(2500);
/// For bridges that are between two requests, or connect anew for the next one.
const PARTING: Duration = Duration::from_millis(1500);
