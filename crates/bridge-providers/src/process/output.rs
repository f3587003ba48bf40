//! What a program prints: lines of bounded length, and the tail of its complaints.

use std::collections::VecDeque;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};

/// Longest line that is kept, in bytes: an edit of a large file carries both texts in one line.
pub(super) const LINE_LIMIT: usize = 16 * 1024 * 1024;

/// One line of standard output, without its end. Any bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    Whole(Vec<u8>),
    /// Longer than the limit, and skipped.
    Oversized {
        bytes: u64,
    },
}

/// Splits output into lines with bounded memory.
pub(super) struct Lines<R> {
    reader: BufReader<R>,
    limit: usize,
    line: Vec<u8>,
    /// Bytes of the present line so far, once it is over the limit.
    skipped: Option<u64>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(reader: R, limit: usize) -> Self {
        let reader = BufReader::with_capacity(READ_BUFFER, reader);
        Self {
            reader,
            limit,
            line: Vec::new(),
            skipped: None,
        }
    }

    /// What the lines come from, if none of it has been read.
    pub(super) fn untouched(self) -> Option<R> {
        let untouched =
            self.reader.buffer().is_empty() && self.line.is_empty() && self.skipped.is_none();
        untouched.then(|| self.reader.into_inner())
    }

    /// The next line, or `None` at the end. Nothing is lost when the future is dropped.
    pub(super) async fn next(&mut self) -> Option<Line> {
        loop {
            // An unreadable pipe is an ended one.
            let chunk = self.reader.fill_buf().await.unwrap_or_default();
            if chunk.is_empty() {
                let open = self.skipped.is_some() || !self.line.is_empty();
                return open.then(|| self.take());
            }
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let part = chunk.get(..end.unwrap_or(chunk.len())).unwrap_or_default();
            let used = part.len() + usize::from(end.is_some());
            if let Some(skipped) = &mut self.skipped {
                *skipped += part.len() as u64;
            } else if self.line.len() + part.len() > self.limit {
                self.skipped = Some((self.line.len() + part.len()) as u64);
                self.line = Vec::new();
            } else {
                self.line.extend_from_slice(part);
            }
            self.reader.consume(used);
            if end.is_some() {
                return Some(self.take());
            }
        }
    }

    fn take(&mut self) -> Line {
        if let Some(bytes) = self.skipped.take() {
            return Line::Oversized { bytes };
        }
        let mut line = std::mem::take(&mut self.line);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Line::Whole(line)
    }
}

/// Drains standard error and keeps its end.
pub(super) struct Tail<R> {
    reader: Option<R>,
    kept: VecDeque<u8>,
    cut: bool,
}

impl<R: AsyncRead + Unpin> Tail<R> {
    pub(super) fn new(reader: Option<R>) -> Self {
        Self {
            reader,
            kept: VecDeque::new(),
            cut: false,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.reader.is_some()
    }

    /// Takes in a piece. Nothing is lost when the future is dropped.
    pub(super) async fn read_some(&mut self) {
        let Some(reader) = &mut self.reader else {
            return;
        };
        let mut piece = [0; 4096];
        match reader.read(&mut piece).await {
            Ok(count) if count > 0 => {
                self.kept.extend(piece.iter().take(count));
                let excess = self.kept.len().saturating_sub(TAIL_BYTES);
                self.cut |= excess > 0;
                self.kept.drain(..excess);
            }
            Ok(_) | Err(_) => self.reader = None,
        }
    }

    /// The last lines, at most 20 and 8 KiB, without control characters.
    pub(super) fn text(&self) -> String {
        let bytes: Vec<u8> = self.kept.iter().copied().collect();
        let text: String = String::from_utf8_lossy(&bytes)
            .chars()
            .filter(|letter| !letter.is_control() || matches!(letter, '\n' | '\t'))
            .collect();
        let mut lines: Vec<&str> = text.trim_end().lines().collect();
        if self.cut && lines.len() > 1 {
            lines.remove(0);
        }
        let first = lines.len().saturating_sub(TAIL_LINES);
        lines.split_off(first).join("\n")
    }
}

/// What was read ahead is what the next line waits behind, so it is little.
const READ_BUFFER: usize = 16 * 1024;
const TAIL_BYTES: usize = 8 * 1024;
const TAIL_LINES: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    async fn split(text: &[u8], limit: usize) -> Vec<Line> {
        let mut lines = Lines::new(text, limit);
        let mut all = Vec::new();
        while let Some(line) = lines.next().await {
            all.push(line);
        }
        all
    }

    fn whole(line: &[u8]) -> Line {
        Line::Whole(line.to_vec())
    }

    #[tokio::test]
    async fn lines_lose_their_ends_and_the_last_needs_none() {
        let lines = split(b"one\r\n\ntwo\xff\xfe\nend", 100).await;
        assert_eq!(
            lines,
            [
                whole(b"one"),
                whole(b""),
                whole(b"two\xff\xfe"),
                whole(b"end")
            ]
        );
    }

    #[tokio::test]
    async fn a_line_at_the_limit_passes_and_one_byte_more_is_skipped_with_its_size() {
        let lines = split(b"1234\n12345\nok\n123456", 4).await;
        assert_eq!(
            lines,
            [
                whole(b"1234"),
                Line::Oversized { bytes: 5 },
                whole(b"ok"),
                Line::Oversized { bytes: 6 }
            ]
        );
    }

    async fn tail_of(text: &[u8]) -> String {
        let mut tail = Tail::new(Some(text));
        while tail.is_open() {
            tail.read_some().await;
        }
        tail.text()
    }

    #[tokio::test]
    async fn the_tail_is_the_last_twenty_lines_whatever_bytes_they_hold() {
        let mut text: Vec<u8> = (1..=30)
            .flat_map(|n| format!("line {n}\n").into_bytes())
            .collect();
        text.extend_from_slice(b"\x1b[31mred \xff\n");
        let tail = tail_of(&text).await;
        assert_eq!(tail.lines().count(), 20);
        assert!(tail.starts_with("line 12\n"));
        assert!(tail.ends_with("\n[31mred \u{fffd}"), "{tail}");
    }

    #[tokio::test]
    async fn the_tail_stays_small_and_begins_with_a_whole_line() {
        let text: Vec<u8> = (0..4000)
            .flat_map(|n| format!("{n:0>900}\n").into_bytes())
            .collect();
        let tail = tail_of(&text).await;
        assert!(tail.len() <= TAIL_BYTES);
        assert!(tail.lines().all(|line| line.len() == 900));
        assert!(tail.ends_with("3999"));
    }
}
