//! The delivery envelope: what makes a message arrive exactly once over connections that die.
//!
//! Spoken only on a connection whose upgrade agreed on the extension. Each direction is a *stream*:
//! one [`Writer`] numbers its messages densely from 1, one [`Reader`] takes every number once. Both
//! are pure: they own no socket, read no clock and draw no random number. A far end that stores
//! what it reads acknowledges after its commit; until then the writer keeps the message.
//!
//! ```text
//!  writer                                     reader
//!    │   ◄──────────────  resume(epoch, last)   │   the last number it has stored, in which numbering
//!    │   begin(epoch, next)  ──────────────►    │   what comes next; a hole before it is a gap
//!    │   seq 17, seq 18, …   ──────────────►    │
//!    │   ◄───────────────────────────  ack(18)  │   stored up to and including 18
//!    ✕   the connection dies; on the next one:  ✕
//!    │   ◄──────────────  resume(epoch, 18)     │
//! ```
//!
//! A message longer than [`PART_BYTES`] travels in parts. Between them goes whatever is not of its
//! stream, so a large result holds up neither another task's words nor an answer. Numbers then
//! arrive out of order; the acknowledgement stays cumulative and waits for the large one.

mod frame;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use self::{
    frame::{Epoch, Frame, FrameError, Key, Part, list, write_list},
    reader::{Assembly, Heard, Position, Reader},
    writer::{Taken, Writer},
};

/// Numbers that were given to messages which will never come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The numbering they belong to.
    pub epoch: Epoch,
    /// The first of them.
    pub from: u64,
    /// The last of them.
    pub to: u64,
    /// What became of them, for people.
    pub why: String,
}

impl Gap {
    /// Says what became of them in at most 200 characters, for a log: the whole text is the peer's.
    pub fn why_in_brief(&self) -> &str {
        let end = self.why.char_indices().nth(IN_BRIEF);
        let brief = end.and_then(|(end, _)| self.why.get(..end));
        brief.unwrap_or(&self.why)
    }
}

/// Characters of a text of the peer that go into a log.
const IN_BRIEF: usize = 200;

/// The peer broke a rule of the envelope; the connection cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A frame of the envelope could not be read.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// It acknowledged a number that was never given.
    #[error("acknowledged number {seq}, the last one given is {last}")]
    NeverSent {
        /// What it named.
        seq: u64,
        /// The last number given.
        last: u64,
    },
    /// A frame came before the one that has to precede it, or a second time.
    #[error("{what} out of turn")]
    OutOfTurn {
        /// Which frame.
        what: &'static str,
    },
    /// A number far beyond what may be under way.
    #[error("number {seq} while {last} is the last one complete")]
    TooFar {
        /// The number.
        seq: u64,
        /// The last number below which nothing is missing.
        last: u64,
    },
    /// A part that does not continue what came of its message.
    #[error("part {part} does not continue its message")]
    Part {
        /// Its place.
        part: u32,
    },
    /// Messages in parts hold more than is allowed.
    #[error("messages in parts are over the limit of {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
}

/// The longest text of one part, counted as it is escaped in its frame.
pub const PART_BYTES: usize = 96 << 10;
/// How many texts one message may have.
pub const MOST_TEXTS: usize = 4096;
/// How many numbers may be under way above the last one that is complete.
pub const WINDOW: u64 = 1 << 15;
