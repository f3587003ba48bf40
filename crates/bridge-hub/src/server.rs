//! Starts a hub: opens the store, binds the address, builds the router, stops in order.

use std::net::SocketAddr;

use thiserror::Error;

use crate::{config::HubConfig, hub::Hub, store::StoreError};

/// Why a hub did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The address can be reached by other machines and `expose` is not set.
    #[error("{address} can be reached by other machines")]
    NotLoopback {
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
}

impl RunningHub {
    /// Where it really listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A handle.
    pub fn hub(&self) -> Hub {
        self.hub.clone()
    }

    /// Closes the doors and the connections, commits what is on the way, and returns when nothing
    /// is left; at most 5 s.
    pub async fn shutdown(self) {}
}

/// Starts a hub. It serves until [`RunningHub::shutdown`].
pub async fn start(config: HubConfig) -> Result<RunningHub, StartError> {
    Err(StartError::NotLoopback { address: config.listen })
}
