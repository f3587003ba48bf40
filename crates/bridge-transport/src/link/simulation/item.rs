//! What the producers of a history push.

use std::iter;

use bytes::Bytes;

use crate::payload::{Class, Frames, Payload, Stored};

/// A message: the items of a stream it carries, or one value.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) class: Class,
    pub(super) items: Vec<u64>,
    /// How many bytes longer than others its frame is; it is not merged then.
    pub(super) long: usize,
}

impl Payload for Item {
    fn class(&self) -> Class {
        self.class
    }
    fn size(&self) -> usize {
        40 * self.items.len() + self.long
    }
    fn absorb(&mut self, next: Self) -> Result<(), Self> {
        assert_eq!(self.class, next.class, "merged across streams");
        if self.items.len() >= 20 || self.long + next.long > 0 {
            return Err(next);
        }
        self.items.extend(next.items);
        Ok(())
    }
    fn seal(&self, _extended: bool) -> Frames {
        let (kind, key) = match self.class {
            Class::Durable { stream } => ('d', stream),
            Class::Coalesce { stream } | Class::Paced { stream } => ('t', stream),
            Class::Latest { slot } => ('l', slot),
            Class::Reply { conn } => ('r', conn.0),
        };
        self.items
            .iter()
            .map(|item| {
                let mut frame = format!("{kind} {key} {item}");
                if self.long > 0 {
                    frame.push(' ');
                    frame.extend(iter::repeat_n('x', self.long));
                }
                frame.into()
            })
            .collect()
    }
}

impl Stored for Item {
    fn store(&self) -> Option<Bytes> {
        let class = match self.class {
            Class::Durable { stream } => (0, stream),
            Class::Coalesce { stream } => (1, stream),
            Class::Paced { stream } => (2, stream),
            Class::Latest { .. } | Class::Reply { .. } => {
                panic!("{:?} is of no stream", self.class)
            }
        };
        serde_json::to_vec(&(class, &self.items, self.long))
            .ok()
            .map(Bytes::from)
    }

    fn restore(stored: &[u8]) -> Option<Self> {
        type Parts = ((u8, u64), Vec<u64>, usize);
        let ((kind, stream), items, long): Parts = serde_json::from_slice(stored).ok()?;
        let class = match kind {
            0 => Class::Durable { stream },
            1 => Class::Coalesce { stream },
            _ => Class::Paced { stream },
        };
        Some(Self { class, items, long })
    }
}

/// What a frame says, as the far end reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    Terminal { stream: u64, item: u64 },
    Text { stream: u64, item: u64 },
    Latest { slot: u64, value: u64 },
    Reply,
    Greeting,
}

impl Said {
    pub(super) fn read(frame: &str) -> Self {
        let words: Vec<&str> = frame.split(' ').collect();
        let number = |text: &str| text.parse().expect("a number");
        match words.as_slice() {
            ["d", stream, item, ..] => Self::Terminal {
                stream: number(stream),
                item: number(item),
            },
            ["t", stream, item, ..] => Self::Text {
                stream: number(stream),
                item: number(item),
            },
            ["l", slot, value, ..] => Self::Latest {
                slot: number(slot),
                value: number(value),
            },
            ["r", ..] => Self::Reply,
            ["greeting"] => Self::Greeting,
            other => panic!("unknown frame {other:?}"),
        }
    }
}
