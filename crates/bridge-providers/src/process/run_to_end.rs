//! Starting a program that answers and ends: `--version`, `auth status`.

use std::time::Duration;

use thiserror::Error;

use super::launch::Launch;
use crate::provider::StartError;

/// Runs a program without input to its end.
///
/// Keeps at most `max_output` bytes of its standard output and discards what comes after. At
/// `limit`, or when the future is dropped, the program is killed with all it started.
pub async fn run_to_end(
    launch: Launch,
    limit: Duration,
    max_output: usize,
) -> Result<Output, RunError> {
    let (_, _, _) = (launch, limit, max_output);
    todo!()
}

/// What a program that ended by itself left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// The beginning of its standard output.
    pub stdout: Vec<u8>,
    /// The last lines of its standard error.
    pub stderr_tail: String,
}

/// Why there is no output.
#[derive(Debug, Error)]
pub enum RunError {
    /// It could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It did not end in time.
    #[error("no end within {limit:?}")]
    TimedOut {
        /// How long it had.
        limit: Duration,
        /// The last lines of its standard error.
        stderr_tail: String,
    },
}
