//! The only place that starts programs, and the place that ends them with all they started.
//!
//! ```text
//!  Launch ──spawn──▶ Child ──next_event──▶ lines, end            (stderr drained, stdin fed beside)
//!                      │
//!                      └─end──▶ Ladder: wait ─▶ SIGTERM ─▶ SIGKILL ─▶ nobody of the Tree is left
//! ```
//!
//! Every program is started by one thread that never ends ([`spawner`]), because the parent-death
//! signal of Linux follows the thread that spawned. Every program leads a session of its own and
//! carries two markers in its environment: `CTRLNODE_RUN` names the run, so that a later daemon
//! finds strays ([`strays`]); `CTRLNODE_LAUNCH` names this one start, so that its tree is told
//! from others. What platforms do differently is in `linux`, `unix`, `group` and `windows`.

mod capture;
mod child;
mod environment;
mod finish;
mod input;
mod kin;
mod launch;
mod output;
mod run_to_end;
mod spawner;
pub mod strays;
mod terminate;

#[cfg(all(unix, not(target_os = "linux")))]
mod group;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

pub use capture::{CaptureError, Captured, capture};
pub(crate) use child::{Child, ChildEvent};
pub use environment::{AllowList, Environment, looks_like_a_credential};
#[cfg(all(unix, not(target_os = "linux")))]
use group as platform;
pub use kin::Kin;
pub use launch::Launch;
pub(crate) use launch::spawn;
#[cfg(target_os = "linux")]
use linux as platform;
pub(crate) use output::Line;
pub use run_to_end::{Output, RunError, run_to_end};
pub(crate) use terminate::Ladder;
#[cfg(windows)]
use windows as platform;

/// Names the run a process works for.
const RUN_MARKER: &str = "CTRLNODE_RUN";
/// Names one start of a program.
const LAUNCH_MARKER: &str = "CTRLNODE_LAUNCH";
