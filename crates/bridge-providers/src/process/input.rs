//! The standard input of a program: lines that wait to be written, never blocking anyone.

use std::collections::VecDeque;

use tokio::io::{AsyncWrite, AsyncWriteExt as _};

/// Bytes that may wait for a program that does not read.
pub(super) const INPUT_LIMIT: usize = 64 * 1024 * 1024;

/// More waits than [`INPUT_LIMIT`]; the program does not read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotReading;

pub(super) struct Input<W> {
    pipe: Option<W>,
    waiting: VecDeque<Vec<u8>>,
    /// How much of the first line has been written.
    written: usize,
    bytes: usize,
    closing: bool,
}

impl<W: AsyncWrite + Unpin> Input<W> {
    pub(super) fn new(pipe: Option<W>) -> Self {
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn lines_arrive_in_order_and_then_the_end() {
        let (pipe, mut far) = duplex(4);
        let mut input = Input::new(Some(pipe));
        input.push("first line".into()).unwrap();
        input.push("second".into()).unwrap();
        input.close();
        input.push("too late".into()).unwrap();
        let mut text = String::new();
        let write = async {
            while input.has_work() {
                input.write_some().await;
            }
        };
        let ((), read) = tokio::join!(write, far.read_to_string(&mut text));
        read.unwrap();
        assert_eq!(text, "first line\nsecond\n");
    }

    #[test]
    fn a_program_that_does_not_read_costs_no_more_than_the_limit() {
        let (pipe, _far) = duplex(4);
        let mut input = Input::new(Some(pipe));
        let piece = "x".repeat(INPUT_LIMIT / 4);
        for _ in 0..3 {
            assert_eq!(input.push(piece.clone()), Ok(()));
        }
        assert_eq!(input.push(piece), Err(NotReading));
        assert_eq!(input.push("small".into()), Ok(()));
    }

    #[tokio::test]
    async fn a_closed_program_swallows_what_is_said() {
        let (pipe, far) = duplex(4);
        drop(far);
        let mut input = Input::new(Some(pipe));
        input.push("anyone?".into()).unwrap();
        input.write_some().await;
        assert!(!input.has_work());
    }
}
