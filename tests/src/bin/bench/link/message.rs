//! The messages that are sent: 200 bytes of JSON, each with its stream and its number in it.

use std::time::Duration;

use bridge_transport::{Bytes, Class, Frames, Payload, Stored, TextFrame};

/// A message of 200 bytes, or one that answers.
#[derive(Debug, Clone)]
pub(super) struct Message {
    class: Class,
    frame: TextFrame,
}

impl Message {
    /// The message with this number; its producer waits when the outbox is full.
    pub(super) fn new(stream: u32, n: u32) -> Self {
        let class = Class::Coalesce {
            stream: stream.into(),
        };
        Self::of(class, text(stream, n))
    }

    /// The same as one that is always admitted.
    pub(super) fn durable(stream: u32, n: u32) -> Self {
        let class = Class::Durable {
            stream: stream.into(),
        };
        Self::of(class, text(stream, n))
    }

    /// Any text of any class.
    pub(super) fn of(class: Class, text: String) -> Self {
        let frame = text.into();
        Self { class, frame }
    }
}

impl Payload for Message {
    fn class(&self) -> Class {
        self.class
    }

    fn size(&self) -> usize {
        self.frame.len()
    }

    fn absorb(&mut self, next: Self) -> Result<(), Self> {
        Err(next)
    }

    fn seal(&self, _extended: bool) -> Frames {
        self.frame.clone().into()
    }
}

impl Stored for Message {
    fn store(&self) -> Option<Bytes> {
        Some(self.frame.clone().into())
    }

    fn restore(stored: &[u8]) -> Option<Self> {
        let text = String::from_utf8(stored.to_vec()).ok()?;
        let (stream, _) = read(&text)?;
        let stream = stream.into();
        Some(Self::of(Class::Coalesce { stream }, text))
    }
}

/// The text of a message.
pub(super) fn text(stream: u32, n: u32) -> String {
    format!(r#"{{"stream":"{stream:04}","n":"{n:08}","text":"{WORDS}"}}"#)
}

/// Stream and number of a message.
pub(super) fn read(text: &str) -> Option<(u32, u32)> {
    let stream = text.get(11..15)?.parse().ok()?;
    let n = text.get(22..30)?.parse().ok()?;
    Some((stream, n))
}

/// The answer to something that was asked; `None` when the text asks nothing.
pub(super) fn answer(text: &str) -> Option<String> {
    let asked = text.strip_prefix("{\"ask\":")?;
    Some(format!("{{\"answer\":{asked}"))
}

/// When that was asked, since the connection began; `None` when the text answers nothing.
pub(super) fn asked(text: &str) -> Option<Duration> {
    let asked = text.strip_prefix("{\"answer\":\"")?.strip_suffix("\"}")?;
    asked.parse().ok().map(Duration::from_micros)
}

/// As long as makes it 200 bytes.
const WORDS: &str = "I have read the three files that decide what is sent next, and the test that\
     fails; the queue forgets its oldest entry when the connection closes twice in a r";
