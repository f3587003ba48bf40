//! Starting a program whose output is taken as it is, byte for byte: git.

use std::time::Duration;

use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::ChildStdout,
    time,
};

use super::{
    child::Child,
    finish::{Taking, finish, read_until_exit},
    launch::{Launch, spawn},
    terminate::Ladder,
};
use crate::provider::StartError;

/// Runs a program without input to its end and keeps all of its standard output.
///
/// At `limit`, or when it prints more than `max_output` bytes, it is asked to end with all it
/// started (so that it can remove its lock files) and killed 2 s later. When the future is
/// dropped it is killed at once. What it leaves running is ended with it.
pub async fn capture(
    launch: Launch,
    limit: Duration,
    max_output: usize,
) -> Result<Captured, CaptureError> {
    let mut child = spawn(launch).await?;
    child.close_input();
    let mut output = Bytes {
        pipe: child.take_output(),
        taken: Vec::new(),
        max: max_output,
        too_much: false,
    };
    let too_much = |output: &Bytes| output.too_much;
    let ended = time::timeout(limit, read_until_exit(&mut child, &mut output, too_much)).await;
    let ladder = Ladder::usual(time::Instant::now().into_std());
    finish(&mut child, ladder, &mut output).await;
    let exit = child.exit();
    child.release().await;
    if output.too_much {
        return Err(CaptureError::TooMuch { max_output });
    }
    match ended {
        Ok(()) => Ok(Captured {
            code: exit.code,
            stdout: output.taken,
            stderr_tail: exit.stderr_tail,
        }),
        Err(_) => Err(CaptureError::TimedOut { limit }),
    }
}

/// What a program that ended by itself left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// All of its standard output.
    pub stdout: Vec<u8>,
    /// The last lines of its standard error, at most 8 KiB, without control characters.
    pub stderr_tail: String,
}

/// Why there is no output.
#[derive(Debug, Error)]
pub enum CaptureError {
    /// It could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It did not end in time.
    #[error("no end within {limit:?}")]
    TimedOut {
        /// How long it had.
        limit: Duration,
    },
    /// It printed too much.
    #[error("more than {max_output} bytes of output")]
    TooMuch {
        /// How much it may print, in bytes.
        max_output: usize,
    },
}

/// Standard output as it comes.
struct Bytes<R = ChildStdout> {
    pipe: Option<R>,
    taken: Vec<u8>,
    max: usize,
    too_much: bool,
}

impl Taking for Bytes {
    async fn next(&mut self, child: &mut Child) {
        tokio::select! {
            _ = child.next_event(false) => {}
            () = self.read_some() => {}
        }
    }

    fn is_over(&self) -> bool {
        self.pipe.is_none()
    }
}

impl<R: AsyncRead + Unpin> Bytes<R> {
    /// Takes in a piece. Nothing is lost when the future is dropped.
    async fn read_some(&mut self) {
        let Some(pipe) = &mut self.pipe else {
            return std::future::pending().await;
        };
        match pipe.read_buf(&mut self.taken).await {
            Ok(count) if count > 0 => {
                self.too_much |= self.taken.len() > self.max;
                if self.too_much {
                    self.pipe = None;
                    self.taken = Vec::new();
                }
            }
            // An unreadable pipe is an ended one.
            Ok(_) | Err(_) => self.pipe = None,
        }
    }
}
