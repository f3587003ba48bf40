//! Starting a program that answers and ends by itself: `--version`, `auth status`.

use std::time::Duration;

use thiserror::Error;
use tokio::time;

use super::{
    child::{Child, ChildEvent},
    finish::{Taking, finish, read_until_exit},
    launch::{Launch, spawn},
    output::Line,
    terminate::Ladder,
};
use crate::provider::StartError;

/// Runs a program without input to its end.
///
/// Keeps at most `max_output` bytes of its standard output (whole lines) and discards what comes
/// after. What it leaves running is ended with it. At `limit`, or when the future is dropped, the
/// program is killed with all it started.
pub async fn run_to_end(
    launch: Launch,
    limit: Duration,
    max_output: usize,
) -> Result<Output, RunError> {
    let mut child = spawn(launch).await?;
    child.close_input();
    let mut output = Lines {
        taken: Vec::new(),
        max: max_output,
    };
    let ended = time::timeout(limit, read_until_exit(&mut child, &mut output, |_| false)).await;
    let ladder = if ended.is_ok() {
        Ladder::usual(time::Instant::now().into_std())
    } else {
        Ladder::kill()
    };
    finish(&mut child, ladder, &mut output).await;
    let exit = child.exit();
    child.release().await;
    match ended {
        Ok(()) => Ok(Output {
            code: exit.code,
            stdout: output.taken,
            stderr_tail: exit.stderr_tail,
        }),
        Err(_) => Err(RunError::TimedOut {
            limit,
            stderr_tail: exit.stderr_tail,
        }),
    }
}

/// What a program that ended by itself left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// The beginning of its standard output, line ends made `\n`.
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

/// The beginning of standard output, line by line.
struct Lines {
    taken: Vec<u8>,
    max: usize,
}

impl Taking for Lines {
    async fn next(&mut self, child: &mut Child) {
        match child.next_event(true).await {
            ChildEvent::Line(Line::Whole(line)) => {
                if self.taken.len() + line.len() < self.max {
                    self.taken.extend_from_slice(&line);
                    self.taken.push(b'\n');
                }
            }
            ChildEvent::Line(Line::Oversized { .. }) | ChildEvent::Exited | ChildEvent::Drained => {
            }
        }
    }

    fn is_over(&self) -> bool {
        true
    }
}
