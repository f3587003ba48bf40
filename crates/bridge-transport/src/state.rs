//! What a link tells about itself.

use std::time::{Duration, Instant};

/// A snapshot of a link, published on every change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkState {
    /// What the link is doing.
    pub phase: Phase,
    /// When it began to.
    pub since: Instant,
    /// Dials since the link was last healthy; 0 before the first.
    pub attempt: u32,
    /// When the next dial is due, while waiting for it.
    pub next_retry: Option<Instant>,
    /// Why the last dial or connection failed; cleared once a connection proved healthy. One line,
    /// without the credential, whatever the peer said.
    pub last_error: Option<String>,
    /// How long the last answered ping took.
    pub round_trip: Option<Duration>,
    /// Whether the peer accepted the extension on the current connection.
    pub extended: bool,
}

impl LinkState {
    /// The state of a link that dials for the first time.
    pub(crate) fn starting(now: Instant) -> Self {
        Self {
            phase: Phase::Dialing,
            since: now,
            attempt: 1,
            next_retry: None,
            last_error: None,
            round_trip: None,
            extended: false,
        }
    }
}

/// What a link is doing.
///
/// ```text
///            ┌────────── failed ──────────┐
///            ▼                            │
/// Waiting / AuthRequired ── due ──►  Dialing ── opened ──► Online ── shutdown ──► Draining ──► Stopped
///            ▲                                             │  ▲
///            ├──────────────────── closed ─────────────────┤  │ round trip
///            │                                   no proof  ▼  │
///            └──────────────────── closed ─────────────── Doubtful
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// A connection is being opened.
    Dialing,
    /// A connection is up, and a round trip over it succeeded within the last
    /// [`Timings::silence`](crate::Timings::silence): the upgrade, or a ping and its answer. From a
    /// peer that was never heard to answer a ping anything that arrives counts.
    Online,
    /// A connection is open, and nothing proves that it still works. It is used, and left when it
    /// is known to be dead.
    Doubtful,
    /// The next dial is due at [`LinkState::next_retry`].
    Waiting,
    /// The peer refused the credential; dialled again slowly, or at once when it changes.
    AuthRequired,
    /// Shutting down; what is queued is still being sent.
    Draining,
    /// The link has ended.
    Stopped,
}

impl Phase {
    /// Whether a connection is open, proven or not.
    pub fn is_open(self) -> bool {
        match self {
            Self::Online | Self::Doubtful => true,
            Self::Dialing | Self::Waiting | Self::AuthRequired | Self::Draining | Self::Stopped => {
                false
            }
        }
    }
}
