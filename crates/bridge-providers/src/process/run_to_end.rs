//! Starting a program that answers and ends by itself: `--version`, `auth status`.

use std::time::Duration;

use thiserror::Error;
use tokio::{sync::watch, time};

use super::{
    child::{Child, ChildEvent},
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
    let mut stdout = Vec::new();
    let ended = time::timeout(limit, read_until_exit(&mut child, &mut stdout, max_output)).await;
    let ladder = if ended.is_ok() {
        Ladder::usual(time::Instant::now().into_std())
    } else {
        Ladder::kill()
    };
    finish(&mut child, ladder, &mut stdout, max_output).await;
    let exit = child.exit();
    child.release().await;
    match ended {
        Ok(()) => Ok(Output {
            code: exit.code,
            stdout,
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

async fn read_until_exit(child: &mut Child, stdout: &mut Vec<u8>, max_output: usize) {
    while !child.has_exited() {
        note(child.next_event(true).await, stdout, max_output);
    }
}

/// Ends what is left, and reads what was printed until then.
async fn finish(child: &mut Child, ladder: Ladder, stdout: &mut Vec<u8>, max_output: usize) {
    let (_unchanged, plan) = watch::channel(ladder);
    let Some(end) = child.end(plan) else { return };
    tokio::pin!(end);
    let survivors = loop {
        tokio::select! {
            survivors = &mut end => break survivors,
            event = child.next_event(true) => note(event, stdout, max_output),
        }
    };
    if survivors > 0 {
        tracing::warn!(survivors, "processes would not end");
    }
    let rest = async {
        while !(child.has_exited() && child.is_drained()) {
            note(child.next_event(true).await, stdout, max_output);
        }
    };
    if time::timeout(DRAIN_LIMIT, rest).await.is_err() {
        tracing::debug!("somebody else holds the output of a program that ended");
    }
}

fn note(event: ChildEvent, stdout: &mut Vec<u8>, max_output: usize) {
    match event {
        ChildEvent::Line(Line::Whole(line)) => {
            if stdout.len() + line.len() < max_output {
                stdout.extend_from_slice(&line);
                stdout.push(b'\n');
            }
        }
        ChildEvent::Line(Line::Oversized { .. }) | ChildEvent::Exited | ChildEvent::Drained => {}
    }
}

/// How long output is waited for when everybody who could print is dead.
const DRAIN_LIMIT: Duration = Duration::from_millis(500);
