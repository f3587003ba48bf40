//! The two clocks the machine is told: one that stops while the computer sleeps, one that does not.

use std::time::{Duration, Instant};

/// A moment on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Now {
    /// Drives every deadline; may stand still while the computer sleeps.
    pub(crate) at: Instant,
    /// Time since some fixed moment, sleep included.
    pub(crate) boot: Duration,
}

impl Now {
    /// Reads both clocks.
    pub(crate) fn read() -> Self {
        Self {
            at: tokio::time::Instant::now().into_std(),
            boot: since_boot(),
        }
    }
}

#[cfg(target_os = "linux")]
fn since_boot() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

/// Wall time: a clock set forward looks like sleep, which costs one harmless new connection.
#[cfg(not(target_os = "linux"))]
fn since_boot() -> Duration {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default()
}
