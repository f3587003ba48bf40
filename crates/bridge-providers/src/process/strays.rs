//! Programs that outlived the daemon that started them (decision 14).
//!
//! They are known by the environment marker `CTRLNODE_RUN`, which everything they start inherits,
//! and by their start time. Found on Linux only; on other systems programs see the end of their
//! input when the daemon dies (Windows kills them with the daemon's job), and the lists are empty.

/// A process that carries a run marker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// Its number.
    pub pid: u32,
    /// When it began, in clock ticks since boot; tells it from a later process with its number.
    pub start_time: u64,
    /// The run it works for, as [`bridge_proto::RunKey::marker`] gives it.
    pub marker: String,
}

/// Processes of this user that carry one of the markers. This process and those above it never
/// count.
pub fn find(markers: &[String]) -> Vec<Stray> {
    let mut found = all_marked();
    found.retain(|stray| markers.contains(&stray.marker));
    found
}

/// Processes of this user that carry any run marker, also those of another daemon that runs.
#[cfg(target_os = "linux")]
pub fn all_marked() -> Vec<Stray> {
    super::linux::marked()
}

/// Processes of this user that carry any run marker: none are found on this system.
#[cfg(not(target_os = "linux"))]
pub fn all_marked() -> Vec<Stray> {
    Vec::new()
}

/// Ends the strays and everything below them: SIGTERM, 2 s, SIGKILL. Returns how many of those
/// given lived and are gone. Start times are compared before every signal.
#[cfg(target_os = "linux")]
pub async fn end(strays: Vec<Stray>) -> usize {
    use super::{
        linux::{Tree, is_alive},
        terminate::{Ladder, end_tree},
    };

    let living: Vec<Stray> = strays.into_iter().filter(is_alive).collect();
    let now = tokio::time::Instant::now().into_std();
    let (_unchanged, ladder) = tokio::sync::watch::channel(Ladder::usual(now));
    end_tree(Tree::of_strays(&living), ladder).await;
    living.iter().filter(|stray| !is_alive(stray)).count()
}

/// Ends nobody on this system.
#[cfg(not(target_os = "linux"))]
#[expect(clippy::unused_async, reason = "the shape of the Linux version")]
pub async fn end(_: Vec<Stray>) -> usize {
    0
}
