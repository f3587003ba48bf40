//! The standard input of a program: lines that wait to be written, never blocking anyone.

use std::collections::VecDeque;

use tokio::{io::AsyncWriteExt as _, process::ChildStdin};

/// Bytes that may wait for a program that does not read.
pub(super) const INPUT_LIMIT: usize = 64 * 1024 * 1024;

/// More waits than [`INPUT_LIMIT`]; the program does not read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotReading;

pub(super) struct Input {
    pipe: Option<ChildStdin>,
    waiting: VecDeque<Vec<u8>>,
    /// How much of the first line has been written.
    written: usize,
    bytes: usize,
    closing: bool,
}

impl Input {
    pub(super) fn new(pipe: Option<ChildStdin>) -> Self {
        Self {
            pipe,
            waiting: VecDeque::new(),
            written: 0,
            bytes: 0,
            closing: false,
        }
    }

    /// Adds a line; a closed input swallows it.
    pub(super) fn push(&mut self, line: String) -> Result<(), NotReading> {
        if self.pipe.is_none() || self.closing {
            return Ok(());
        }
        let mut line = line.into_bytes();
        line.push(b'\n');
        if self.bytes + line.len() > INPUT_LIMIT {
            return Err(NotReading);
        }
        self.bytes += line.len();
        self.waiting.push_back(line);
        Ok(())
    }

    /// Closes it once everything that waits has been written.
    pub(super) fn close(&mut self) {
        self.closing = true;
        if self.waiting.is_empty() {
            self.pipe = None;
        }
    }

    pub(super) fn has_work(&self) -> bool {
        self.pipe.is_some() && !self.waiting.is_empty()
    }

    /// Writes a piece. Nothing is lost when the future is dropped.
    pub(super) async fn write_some(&mut self) {
        let (Some(pipe), Some(line)) = (self.pipe.as_mut(), self.waiting.front()) else {
            return;
        };
        let rest = line.get(self.written..).unwrap_or_default();
        match pipe.write(rest).await {
            Ok(count) if count > 0 => {
                self.written += count;
                if self.written >= line.len() {
                    self.bytes -= line.len();
                    self.written = 0;
                    self.waiting.pop_front();
                }
            }
            // The program closed its end; its exit tells the rest.
            Ok(_) | Err(_) => self.give_up(),
        }
        if self.closing && self.waiting.is_empty() {
            self.pipe = None;
        }
    }

    fn give_up(&mut self) {
        self.pipe = None;
        self.waiting.clear();
        self.written = 0;
        self.bytes = 0;
    }
}
