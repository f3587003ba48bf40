//! What a hub needs to know before it starts.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// Settings of a hub.
#[derive(Debug, Clone)]
pub struct HubConfig {
    /// Where it listens; port 0 lets the system choose. Must be a loopback address unless
    /// [`HubConfig::expose`] is set.
    pub listen: SocketAddr,
    /// Allows a listening address other machines can reach.
    pub expose: bool,
    /// Where machines are also heard over bare TCP, one line for each frame; nowhere for `None`.
    /// Not encrypted, and bound by [`HubConfig::expose`] as well.
    pub lines: Option<SocketAddr>,
    /// State folder, made with mode 0700 if missing.
    pub data: PathBuf,
    /// Further origins under which viewers reach it behind a reverse proxy, such as
    /// `https://hub.example.org`.
    pub public_origins: Vec<String>,
    /// Ended tasks untouched for this long are removed, at the start and every hour.
    pub retention: Duration,
    /// How long a bridge that came back may leave a question about a run unanswered before the hub
    /// calls the run lost.
    pub lost_after: Duration,
}

impl HubConfig {
    /// The defaults: loopback, port chosen by the system, 30 days, lost after 60 s.
    pub fn new(data: PathBuf) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            expose: false,
            lines: None,
            data,
            public_origins: Vec::new(),
            retention: Duration::from_secs(30 * 24 * 3600),
            lost_after: Duration::from_secs(60),
        }
    }
}
