//! The receiving half: every number once, holes told, parts put together.
//!
//! Invariant: what is [heard](Heard::Message) has a number that was never heard before from this
//! reader, and [`Position::last`] is the highest number below which nothing is missing.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
};

use super::{Epoch, Frame, Gap, Key, Part, Violation, WINDOW, frame};

/// The receiving half of one direction. It may be made anew for each connection, or
/// [go on](Self::on_closed) with the next one, so that nothing is heard twice.
#[derive(Debug, Clone)]
pub struct Reader {
    position: Position,
    begun: bool,
    /// Heard although something before it is missing.
    above: BTreeSet<u64>,
    assembly: Assembly,
}

/// Where a stream has been taken to; stored together with what was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// The numbering; `None` before anything was heard.
    pub epoch: Option<Epoch>,
    /// The last number up to which everything was taken.
    pub last: u64,
}

impl Position {
    /// The frame that asks the writer to go on from here.
    pub fn resume(&self) -> String {
        let Self { epoch, last } = *self;
        Frame::Resume { epoch, last }.text()
    }

    /// The frame that acknowledges everything up to here.
    pub fn ack(&self) -> String {
        Frame::Ack { seq: self.last }.text()
    }
}

/// What a frame came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard<T> {
    /// A message: its texts, in order.
    Message {
        /// What it says.
        texts: Vec<T>,
        /// Its number, if it has one.
        seq: Option<u64>,
        /// Where the stream stands once it is taken; `None` for a message without a number.
        upto: Option<Position>,
    },
    /// Numbers that will never come; taken as a message is.
    Gap {
        /// Which.
        gap: Gap,
        /// Where the stream stands after it.
        upto: Position,
    },
    /// Nothing yet: a part of something, a number that was known, the begin of a stream.
    Nothing,
    /// For the writer of this side: where to go on.
    Resume {
        /// The numbering the far reader knows.
        epoch: Option<Epoch>,
        /// The last number it has.
        last: u64,
    },
    /// For the writer of this side: everything up to this number is stored there.
    Ack {
        /// The number.
        seq: u64,
    },
}

impl<T> Heard<T> {
    /// Changes what texts are kept as.
    pub fn map_texts<U>(self, change: impl Fn(T) -> U) -> Heard<U> {
        match self {
            Self::Message { texts, seq, upto } => Heard::Message {
                texts: texts.into_iter().map(change).collect(),
                seq,
                upto,
            },
            Self::Gap { gap, upto } => Heard::Gap { gap, upto },
            Self::Nothing => Heard::Nothing,
            Self::Resume { epoch, last } => Heard::Resume { epoch, last },
            Self::Ack { seq } => Heard::Ack { seq },
        }
    }
}

impl Reader {
    /// Goes on from a position; holds at most `limit` bytes of messages in parts.
    pub fn new(position: Position, limit: usize) -> Self {
        Self {
            position,
            begun: false,
            above: BTreeSet::new(),
            assembly: Assembly::new(limit),
        }
    }

    /// Returns where the stream stands.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Tells whether the writer of this connection has said where it goes on.
    pub fn is_begun(&self) -> bool {
        self.begun
    }

    /// The connection is gone; on the next one what was heard is known, wherever the writer goes
    /// on. What had come in parts is forgotten.
    pub fn on_closed(&mut self) {
        self.begun = false;
        self.assembly = Assembly::new(self.assembly.limit);
    }

    /// Everything up to this number is stored, whether it was heard here or in an earlier life.
    pub fn on_kept(&mut self, last: u64) {
        if last > self.position.last {
            self.position.last = last;
            self.above = self.above.split_off(&(last + 1));
            self.close_up();
        }
    }

    /// Takes one text frame of a connection with the envelope.
    ///
    /// # Errors
    /// Fails when the peer broke a rule; the connection has to end, and the next one goes on from
    /// what was stored.
    pub fn hear<'a>(&mut self, text: &'a str) -> Result<Heard<Cow<'a, str>>, Violation> {
        match Frame::parse(text)? {
            Frame::Bare(text) => Ok(Heard::Message {
                texts: vec![Cow::Borrowed(text)],
                seq: None,
                upto: None,
            }),
            Frame::Resume { epoch, last } => Ok(Heard::Resume { epoch, last }),
            Frame::Ack { seq } => Ok(Heard::Ack { seq }),
            Frame::Begin { epoch, next } => self.on_begin(epoch, next),
            Frame::Gap { to, why } => self.on_gap(to, why.into_owned()),
            Frame::Numbered { seq, messages } => {
                if self.is_known(seq)? {
                    return Ok(Heard::Nothing);
                }
                let texts = frame::texts(messages)?;
                Ok(self.message(seq, texts))
            }
            Frame::Part(part) => self.on_part(&part),
        }
    }

    fn on_begin(&mut self, epoch: Epoch, next: u64) -> Result<Heard<Cow<'static, str>>, Violation> {
        if self.begun || next == 0 || next > MOST {
            return Err(Violation::OutOfTurn { what: "begin" });
        }
        self.begun = true;
        let known = self.position.epoch;
        let from = if known == Some(epoch) {
            self.position.last + 1
        } else {
            1
        };
        let last = next - 1;
        // A writer may begin earlier than it has to; what is known is dropped then.
        if known == Some(epoch) && last <= self.position.last {
            return Ok(Heard::Nothing);
        }
        self.position = Position {
            epoch: Some(epoch),
            last,
        };
        if known == Some(epoch) {
            self.above = self.above.split_off(&next);
            self.close_up();
        } else {
            self.above.clear();
        }
        if from > last {
            return Ok(Heard::Nothing);
        }
        let why = if known == Some(epoch) {
            "the other end does not have them any more"
        } else {
            "before what this end gets of a numbering it did not know"
        };
        Ok(Heard::Gap {
            gap: Gap {
                epoch,
                from,
                to: last,
                why: why.to_owned(),
            },
            upto: self.position,
        })
    }

    fn on_gap(&mut self, to: u64, why: String) -> Result<Heard<Cow<'static, str>>, Violation> {
        let epoch = self.epoch("gap")?;
        let last = self.position.last;
        let from = last + 1;
        if to > MOST {
            return Err(Violation::TooFar { seq: to, last });
        }
        if to < from {
            return Ok(Heard::Nothing);
        }
        self.position.last = to;
        self.above = self.above.split_off(&(to + 1));
        self.close_up();
        let gap = Gap {
            epoch,
            from,
            to,
            why,
        };
        let upto = self.position;
        Ok(Heard::Gap { gap, upto })
    }

    fn on_part<'a>(&mut self, part: &Part<'_>) -> Result<Heard<Cow<'a, str>>, Violation> {
        let seq = match part.of {
            Key::Seq(seq) if self.is_known(seq)? => return Ok(Heard::Nothing),
            Key::Seq(seq) => Some(seq),
            Key::Bare(_) => None,
        };
        let Some(whole) = self.assembly.add(part)? else {
            return Ok(Heard::Nothing);
        };
        let Some(seq) = seq else {
            return Ok(Heard::Message {
                texts: vec![Cow::Owned(whole)],
                seq: None,
                upto: None,
            });
        };
        let texts = frame::texts(&whole)?;
        let texts = texts.into_iter().map(|it| Cow::Owned(it.into_owned()));
        let texts = texts.collect();
        Ok(self.message(seq, texts))
    }

    /// Notes the number, which is none that is known.
    fn message<'a>(&mut self, seq: u64, texts: Vec<Cow<'a, str>>) -> Heard<Cow<'a, str>> {
        self.above.insert(seq);
        self.close_up();
        Heard::Message {
            texts,
            seq: Some(seq),
            upto: Some(self.position),
        }
    }

    fn close_up(&mut self) {
        while self.above.first() == Some(&(self.position.last + 1)) {
            self.above.pop_first();
            self.position.last += 1;
        }
    }

    fn is_known(&self, seq: u64) -> Result<bool, Violation> {
        self.epoch("number")?;
        let last = self.position.last;
        if seq > last.saturating_add(WINDOW) {
            return Err(Violation::TooFar { seq, last });
        }
        Ok(seq <= last || self.above.contains(&seq))
    }

    fn epoch(&self, what: &'static str) -> Result<Epoch, Violation> {
        let epoch = self.position.epoch.filter(|_| self.begun);
        epoch.ok_or(Violation::OutOfTurn { what })
    }
}

/// Messages that arrive in parts, together bounded.
#[derive(Debug, Clone)]
pub struct Assembly {
    open: HashMap<Key, Open>,
    bytes: usize,
    limit: usize,
}

#[derive(Debug, Clone)]
struct Open {
    text: String,
    next: u32,
}

impl Assembly {
    /// Holds at most so many bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            open: HashMap::new(),
            bytes: 0,
            limit,
        }
    }

    /// Adds a part; returns the whole when it was the last one.
    ///
    /// # Errors
    /// Fails for a part that does not continue its message, and beyond the limit.
    pub fn add(&mut self, piece: &Part<'_>) -> Result<Option<String>, Violation> {
        let Part {
            of,
            part,
            more,
            ref text,
        } = *piece;
        let bytes = self.bytes + text.len();
        if bytes > self.limit || (part == 0 && self.open.len() >= OPEN) {
            return Err(Violation::TooLarge { limit: self.limit });
        }
        let fresh = Open {
            text: String::new(),
            next: 0,
        };
        let mut open = self.open.remove(&of).unwrap_or(fresh);
        if open.next != part {
            return Err(Violation::Part { part });
        }
        open.text.push_str(text);
        open.next += 1;
        self.bytes = bytes;
        if !more {
            self.bytes -= open.text.len();
            return Ok(Some(open.text));
        }
        self.open.insert(of, open);
        Ok(None)
    }
}

/// No stream ever counts so far.
const MOST: u64 = 1 << 62;
/// How many messages may be on their way in parts at a time.
const OPEN: usize = 1024;
