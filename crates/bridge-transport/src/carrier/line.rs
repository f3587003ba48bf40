//! Frames as lines, for the carriers that are no WebSocket: one line is one frame, a ping, a pong or
//! a good-bye, and a batch of lines knows the number of its first one.
//!
//! A frame travels as it is. Whatever else there is begins with the key `carrier`, and so does a
//! frame that could not be told from that or would break its line. Used by both ends; pure.

use serde::{Deserialize, Serialize};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::payload::TextFrame;

/// One thing that is said on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A frame.
    Text(TextFrame),
    /// Wants a [`Pong`](Self::Pong) with the same number.
    Ping {
        /// Chosen by the sender.
        id: u64,
    },
    /// The answer to a ping.
    Pong {
        /// The number of the ping.
        id: u64,
    },
    /// The last line: the connection ends as a WebSocket ends with this code.
    Close {
        /// The close code.
        code: u16,
        /// Why, for people.
        reason: String,
    },
}

/// Why a line or a batch cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadLine {
    /// It is not UTF-8.
    #[error("a line is not UTF-8")]
    NotUtf8,
    /// It begins like a word of the carrier and is none.
    #[error("a line is no word of the carrier")]
    Unknown,
    /// It is empty.
    #[error("a line is empty")]
    Empty,
    /// The batch does not begin with its number, or has another count of lines than it says.
    #[error("a batch is not whole")]
    Batch,
    /// The batch has more than it may.
    #[error("a batch has too much in it")]
    TooMuch,
}

impl Line {
    /// Writes the line without its end. It never contains one.
    pub fn encode(&self) -> String {
        match self {
            Self::Text(frame) if goes_as_it_is(frame.as_str()) => frame.as_str().to_owned(),
            Self::Text(frame) => word(&Word::Text {
                text: frame.as_str().into(),
            }),
            Self::Ping { id } => word(&Word::Ping { id: *id }),
            Self::Pong { id } => word(&Word::Pong { id: *id }),
            Self::Close { code, reason } => word(&Word::Close {
                code: *code,
                reason: reason.clone(),
            }),
        }
    }

    /// Reads a line without its end.
    ///
    /// # Errors
    /// Fails for what no sender of lines writes; the connection is then of no use any more.
    pub fn decode(line: &[u8]) -> Result<Self, BadLine> {
        let text = std::str::from_utf8(line).map_err(|_| BadLine::NotUtf8)?;
        if text.is_empty() {
            return Err(BadLine::Empty);
        }
        if !text.starts_with(MARK) {
            return Ok(Self::Text(text.into()));
        }
        match serde_json::from_str(text).map_err(|_| BadLine::Unknown)? {
            Word::Text { text } => Ok(Self::Text(TextFrame(Utf8Bytes::from(text)))),
            Word::Ping { id } => Ok(Self::Ping { id }),
            Word::Pong { id } => Ok(Self::Pong { id }),
            Word::Close { code, reason } => Ok(Self::Close { code, reason }),
            Word::Batch { .. } => Err(BadLine::Unknown),
        }
    }
}

/// What a batch may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Most {
    /// Lines.
    pub lines: usize,
    /// Bytes of all its lines without their ends, unless it is a single one.
    pub bytes: usize,
}

/// Lines that travel together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The number of the first line, or of the one that comes next when there is none. Lines of a
    /// direction are counted from 1.
    pub first: u64,
    /// The number of the last line of the other direction that arrived here.
    pub heard: u64,
    /// The lines.
    pub lines: Vec<Line>,
}

impl Batch {
    /// Writes a batch of lines that are [encoded](Line::encode).
    pub fn encode<'a>(first: u64, heard: u64, lines: impl Iterator<Item = &'a str>) -> String {
        let mut body = String::new();
        let mut count = 0;
        for line in lines {
            body.push_str(line);
            body.push('\n');
            count += 1;
        }
        let head = Word::Batch {
            first,
            heard,
            lines: count,
        };
        let mut batch = word(&head);
        batch.reserve_exact(body.len() + 1);
        batch.push('\n');
        batch.push_str(&body);
        batch
    }

    /// Reads a batch.
    ///
    /// # Errors
    /// Fails for a batch that is not whole or holds more than it may, and for one with a line that
    /// cannot be read; nothing of it is taken then. What it costs is bounded by what it may hold,
    /// however long it is.
    pub fn decode(batch: &[u8], most: Most) -> Result<Self, BadLine> {
        let head = Head::decode(batch, most)?.ok_or(BadLine::Batch)?;
        if head.longest(most).is_some_and(|most| batch.len() > most) {
            return Err(BadLine::TooMuch);
        }
        let Head {
            first,
            heard,
            lines: count,
            bytes,
        } = head;
        let rest = batch.get(bytes..).unwrap_or_default();
        let mut rows = rest.split(|byte| *byte == b'\n');
        let mut lines = Vec::with_capacity(count);
        for _ in 0..count {
            lines.push(Line::decode(rows.next().ok_or(BadLine::Batch)?)?);
        }
        // What is behind the end of the last line.
        if rows.next() != Some(&[]) || rows.next().is_some() {
            return Err(BadLine::Batch);
        }
        Ok(Self {
            first,
            heard,
            lines,
        })
    }
}

/// The first line of a batch: what there is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    first: u64,
    heard: u64,
    lines: usize,
    /// Of the head itself, with its end.
    bytes: usize,
}

impl Head {
    /// Reads the head of a batch of which this is the beginning; `None` as long as it is not whole.
    ///
    /// # Errors
    /// Fails for what begins no batch, or one with more lines than it may have.
    pub fn decode(begin: &[u8], most: Most) -> Result<Option<Self>, BadLine> {
        let Some(end) = begin.iter().take(LONGEST_HEAD).position(|it| *it == b'\n') else {
            let more = begin.len() < LONGEST_HEAD;
            return if more { Ok(None) } else { Err(BadLine::Batch) };
        };
        let (head, _) = begin.split_at(end);
        let Ok(Word::Batch {
            first,
            heard,
            lines,
        }) = serde_json::from_slice(head)
        else {
            return Err(BadLine::Batch);
        };
        if first == 0 || first.checked_add(lines).is_none() {
            return Err(BadLine::Batch);
        }
        let lines = usize::try_from(lines).unwrap_or(usize::MAX);
        if lines > most.lines {
            return Err(BadLine::TooMuch);
        }
        Ok(Some(Self {
            first,
            heard,
            lines,
            bytes: end + 1,
        }))
    }

    /// How many bytes the whole batch may have, with this head; `None` when it is a single line,
    /// which may have any.
    pub fn longest(&self, most: Most) -> Option<usize> {
        match self.lines {
            0 => Some(self.bytes),
            1 => None,
            // Each line has an end.
            lines => Some(self.bytes.saturating_add(most.bytes).saturating_add(lines)),
        }
    }
}

/// What a line with the [`MARK`] says.
#[derive(Serialize, Deserialize)]
#[serde(tag = "carrier", rename_all = "snake_case")]
enum Word {
    Text { text: String },
    Ping { id: u64 },
    Pong { id: u64 },
    Close { code: u16, reason: String },
    Batch { first: u64, heard: u64, lines: u64 },
}

fn word(word: &Word) -> String {
    serde_json::to_string(word).expect("numbers and texts are always JSON")
}

fn goes_as_it_is(text: &str) -> bool {
    !text.is_empty() && !text.starts_with(MARK) && !text.contains(['\n', '\r'])
}

/// How a line begins that is no frame as it is.
const MARK: &str = "{\"carrier\":";
/// Three numbers do not need more.
const LONGEST_HEAD: usize = 1 << 10;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ANY: Most = Most {
        lines: 1_000,
        bytes: 1 << 20,
    };

    fn text(text: &str) -> Line {
        Line::Text(text.into())
    }

    #[test]
    fn a_frame_travels_as_it_is_unless_it_would_be_misread() {
        assert_eq!(text("{\"action\":\"x\"}").encode(), "{\"action\":\"x\"}");
        for odd in ["", "a\nb", "a\rb", "{\"carrier\":\"ping\",\"id\":1}"] {
            let line = text(odd).encode();
            assert!(line.starts_with("{\"carrier\":\"text\""), "{line}");
            assert_eq!(Line::decode(line.as_bytes()), Ok(text(odd)));
        }
    }

    #[test]
    fn words_of_the_carrier_are_law() {
        for (line, written) in [
            (Line::Ping { id: 7 }, "{\"carrier\":\"ping\",\"id\":7}"),
            (Line::Pong { id: 7 }, "{\"carrier\":\"pong\",\"id\":7}"),
            (
                Line::Close {
                    code: 4001,
                    reason: "bye".into(),
                },
                "{\"carrier\":\"close\",\"code\":4001,\"reason\":\"bye\"}",
            ),
        ] {
            assert_eq!(line.encode(), written);
            assert_eq!(Line::decode(written.as_bytes()), Ok(line));
        }
        let written = Batch::encode(3, 2, ["{}", "[]"].into_iter());
        assert_eq!(
            written,
            "{\"carrier\":\"batch\",\"first\":3,\"heard\":2,\"lines\":2}\n{}\n[]\n"
        );
    }

    #[test]
    fn what_no_sender_writes_is_refused() {
        for (line, error) in [
            (&b""[..], BadLine::Empty),
            (b"\xff", BadLine::NotUtf8),
            (b"{\"carrier\":\"shout\"}", BadLine::Unknown),
            (b"{\"carrier\":\"ping\",\"id\":-1}", BadLine::Unknown),
            (b"{\"carrier\":\"ping\"", BadLine::Unknown),
            (
                b"{\"carrier\":\"batch\",\"first\":1,\"heard\":0,\"lines\":0}",
                BadLine::Unknown,
            ),
        ] {
            assert_eq!(Line::decode(line), Err(error));
        }
    }

    #[test]
    fn a_batch_that_was_cut_or_has_too_much_is_not_taken() {
        let whole = Batch::encode(1, 0, ["one", "two"].into_iter());
        assert!(Batch::decode(whole.as_bytes(), ANY).is_ok());
        for end in 0..whole.len() {
            let cut = whole.as_bytes().get(..end).unwrap();
            assert_eq!(Batch::decode(cut, ANY).map_err(|_| ()), Err(()), "{end}");
        }
        let more = format!("{whole}three\n");
        assert_eq!(Batch::decode(more.as_bytes(), ANY), Err(BadLine::Batch));
        let zero = Batch::encode(0, 0, [].into_iter());
        assert_eq!(Batch::decode(zero.as_bytes(), ANY), Err(BadLine::Batch));
        let end = Batch::encode(u64::MAX, 0, ["x"].into_iter());
        assert_eq!(Batch::decode(end.as_bytes(), ANY), Err(BadLine::Batch));
    }

    #[test]
    fn a_batch_with_more_than_it_may_have_is_not_taken_and_one_long_line_is() {
        let most = Most {
            lines: 3,
            bytes: 10,
        };
        let decoded = |lines: &[&str]| {
            let batch = Batch::encode(1, 0, lines.iter().copied());
            Batch::decode(batch.as_bytes(), most).map(|batch| batch.lines.len())
        };
        assert_eq!(decoded(&["a", "b", "c"]), Ok(3));
        assert_eq!(decoded(&["a", "b", "c", "d"]), Err(BadLine::TooMuch));
        assert_eq!(decoded(&["12345", "67890"]), Ok(2));
        assert_eq!(decoded(&["12345", "678901"]), Err(BadLine::TooMuch));
        assert_eq!(decoded(&["a line that is long and alone"]), Ok(1));
    }

    #[test]
    fn a_head_tells_how_long_its_batch_may_be_before_the_rest_is_there() {
        let most = Most {
            lines: 3,
            bytes: 10,
        };
        let longest = |lines: &[&str]| {
            let batch = Batch::encode(1, 0, lines.iter().copied());
            let end = batch.find('\n').unwrap();
            for begin in 0..=end {
                let begin = batch.as_bytes().get(..begin).unwrap();
                assert_eq!(Head::decode(begin, most), Ok(None));
            }
            let head = batch.as_bytes().get(..=end).unwrap();
            let head = Head::decode(head, most)?.unwrap();
            Ok(head.longest(most).map(|longest| longest - end - 1))
        };
        assert_eq!(longest(&[]), Ok(Some(0)));
        assert_eq!(longest(&["any"]), Ok(None));
        assert_eq!(longest(&["a", "b"]), Ok(Some(12)));
        assert_eq!(longest(&["a"; 4]), Err(BadLine::TooMuch));
        let endless = vec![b' '; LONGEST_HEAD];
        assert_eq!(Head::decode(&endless, most), Err(BadLine::Batch));
    }

    #[test]
    fn lines_behind_those_a_batch_announces_are_not_even_read() {
        // What is not UTF-8 would be found if it were.
        let mut batch = Batch::encode(1, 0, ["one"].into_iter()).into_bytes();
        for _ in 0..1_000_000 {
            batch.extend_from_slice(b"\xff\n");
        }
        assert_eq!(Batch::decode(&batch, ANY), Err(BadLine::Batch));
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_again(texts: Vec<String>, first in 1..u64::MAX / 2, heard: u64) {
            let lines: Vec<Line> = texts.iter().map(|one| text(one)).collect();
            let encoded: Vec<String> = lines.iter().map(Line::encode).collect();
            prop_assert!(encoded.iter().all(|line| !line.contains(['\n', '\r'])));
            let batch = Batch::encode(first, heard, encoded.iter().map(String::as_str));
            prop_assert_eq!(Batch::decode(batch.as_bytes(), ANY), Ok(Batch { first, heard, lines }));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            drop(Line::decode(&bytes));
            drop(Batch::decode(&bytes, ANY));
        }
    }
}
