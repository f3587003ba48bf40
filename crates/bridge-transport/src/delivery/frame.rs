//! The frames of the envelope as text: one JSON object each, told apart by its first key.

use std::{
    borrow::Cow,
    fmt,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    str::FromStr,
};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::MOST_TEXTS;

/// Names one numbering. A writer that starts to count anew takes another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u128);

impl Epoch {
    /// Draws one that nobody else has, from the randomness that hash tables get of the system.
    pub fn fresh() -> Self {
        let [high, low] = [(); 2].map(|()| RandomState::new().build_hasher().finish());
        Self(u128::from(high) << 64 | u128::from(low))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Epoch({self})")
    }
}

impl FromStr for Epoch {
    type Err = FrameError;

    fn from_str(text: &str) -> Result<Self, FrameError> {
        let plain = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = plain.then(|| u128::from_str_radix(text, 16).ok());
        number
            .flatten()
            .map(Self)
            .ok_or_else(|| FrameError::new("an epoch is 32 hexadecimal digits"))
    }
}

/// A frame as it travels on a connection with the envelope.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A message with its number: `{"seq":17,"messages":[…]}`.
    Numbered {
        /// Its number.
        seq: u64,
        /// The list of its texts, as [`list`] writes it.
        messages: &'a str,
    },
    /// A piece of a message too large for one frame.
    Part(Part<'a>),
    /// From the reader, once and first: where to go on.
    Resume {
        /// The numbering it knows, if it knows one.
        epoch: Option<Epoch>,
        /// The last number it has stored; 0 for none.
        last: u64,
    },
    /// From the writer, after the resume and before any number.
    Begin {
        /// Its numbering.
        epoch: Epoch,
        /// The number that comes next.
        next: u64,
    },
    /// From the reader: everything up to this number is stored.
    Ack {
        /// The number.
        seq: u64,
    },
    /// From the writer, in the place of numbers that will never come.
    Gap {
        /// The last of them; the first is the next one due.
        to: u64,
        /// What became of them.
        why: Cow<'a, str>,
    },
    /// No frame of the envelope: a text without a number, as it is.
    Bare(&'a str),
}

/// A piece of a large message.
#[derive(Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// Which message it belongs to.
    pub of: Key,
    /// Its place, from 0.
    pub part: u32,
    /// Whether others follow.
    pub more: bool,
    /// The piece.
    pub text: Cow<'a, str>,
}

/// Which message a part belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Key {
    /// The one with this number.
    Seq(u64),
    /// One without a number; the name holds for its connection only.
    Bare(u64),
}

impl<'a> Frame<'a> {
    /// Reads a text frame.
    ///
    /// # Errors
    /// Fails for a text that begins like a frame of the envelope and is none.
    pub fn parse(text: &'a str) -> Result<Self, FrameError> {
        if text.starts_with(SEQ) {
            let Numbered { seq, messages } = read(text)?;
            let messages = messages.get();
            return Ok(Self::Numbered { seq, messages });
        }
        if text.starts_with(PART) {
            return Self::part(read(text)?).map(Self::Part);
        }
        if text.starts_with(DELIVERY) {
            return read::<Control<'a>>(text)?.frame();
        }
        Ok(Self::Bare(text))
    }

    fn part(wire: WirePart<'a>) -> Result<Part<'a>, FrameError> {
        let of = match (wire.seq, wire.id) {
            (Some(seq), None) => Key::Seq(seq),
            (None, Some(id)) => Key::Bare(id),
            (Some(_), Some(_)) | (None, None) => {
                return Err(FrameError::new("a part names a seq or an id"));
            }
        };
        Ok(Part {
            of,
            part: wire.part,
            more: wire.more,
            text: wire.text,
        })
    }

    /// Writes the frame.
    pub fn text(&self) -> String {
        match self {
            // Nearly every frame is one of these, and knows its length.
            Self::Numbered { seq, messages } => {
                let mut text = begun(*seq, messages.len());
                text.push_str(messages);
                text.push('}');
                text
            }
            Self::Part(Part {
                of,
                part,
                more,
                text,
            }) => {
                let (name, key) = match of {
                    Key::Seq(seq) => ("seq", seq),
                    Key::Bare(id) => ("id", id),
                };
                let text = quoted(text);
                format!("{PART}{part},\"more\":{more},\"{name}\":{key},\"text\":{text}}}")
            }
            Self::Resume { epoch: None, last } => {
                format!("{DELIVERY}\"resume\",\"epoch\":null,\"last\":{last}}}")
            }
            Self::Resume {
                epoch: Some(epoch),
                last,
            } => format!("{DELIVERY}\"resume\",\"epoch\":\"{epoch}\",\"last\":{last}}}"),
            Self::Begin { epoch, next } => {
                format!("{DELIVERY}\"begin\",\"epoch\":\"{epoch}\",\"next\":{next}}}")
            }
            Self::Ack { seq } => format!("{DELIVERY}\"ack\",\"seq\":{seq}}}"),
            Self::Gap { to, why } => {
                format!("{DELIVERY}\"gap\",\"to\":{to},\"why\":{}}}", quoted(why))
            }
            Self::Bare(text) => (*text).to_owned(),
        }
    }
}

/// A frame that begins like one of the envelope could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// It is no JSON, or not what its first key promises.
    #[error("unreadable envelope: {reason}")]
    Unreadable {
        /// What is wrong with it.
        reason: String,
    },
    /// One message has more texts than [`MOST_TEXTS`].
    #[error("more than {MOST_TEXTS} texts in one message")]
    TooManyTexts,
}

impl FrameError {
    fn new(reason: impl Into<String>) -> Self {
        Self::Unreadable {
            reason: reason.into(),
        }
    }
}

/// Writes the texts of one message as a JSON list. A text that is a JSON object stands in it as it
/// is, any other as a string.
pub fn list<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut list = String::new();
    write_list(&mut list, texts);
    list
}

/// As [`list`], behind what a text has already.
pub fn write_list<'a>(list: &mut String, texts: impl IntoIterator<Item = &'a str>) {
    list.push('[');
    let begun = list.len();
    for text in texts {
        list.reserve(text.len() + 2);
        if list.len() > begun {
            list.push(',');
        }
        if is_object(text) {
            list.push_str(text);
        } else {
            list.push_str(&quoted(text));
        }
    }
    list.push(']');
}

/// A numbered frame up to its list, with room for a list of so many bytes and the end.
fn begun(seq: u64, list: usize) -> String {
    let mut digits = [0; 20];
    let mut first = digits.len();
    let mut rest = seq;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(rest % 10).unwrap_or_default();
        first -= 1;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    let digits = digits.get(first..).unwrap_or_default();
    let fixed = SEQ.len() + digits.len() + MESSAGES.len() + 1;
    let mut text = String::with_capacity(fixed + list);
    text.push_str(SEQ);
    text.extend(digits.iter().copied().map(char::from));
    text.push_str(MESSAGES);
    text
}

/// A numbered frame whose list is written by `messages` and has about so many bytes; only the list
/// when it is longer than `limit`.
pub(super) fn numbered(
    seq: u64,
    about: usize,
    limit: usize,
    messages: impl FnOnce(&mut String),
) -> Result<String, String> {
    let mut text = begun(seq, about.min(limit));
    let list = text.len();
    messages(&mut text);
    if text.len() - list > limit {
        return Err(text.split_off(list));
    }
    text.push('}');
    Ok(text)
}

/// Reads such a list. What it may cost is bounded by [`MOST_TEXTS`], however long it is.
pub(super) fn texts(list: &str) -> Result<Vec<Cow<'_, str>>, FrameError> {
    let Elements(elements) = read(list)?;
    let elements = elements.ok_or(FrameError::TooManyTexts)?;
    let elements = elements.into_iter().map(RawValue::get);
    elements.map(unquoted).collect()
}

/// The elements of a list; `None` of one that has too many.
struct Elements<'a>(Option<Vec<&'a RawValue>>);

impl<'de> Deserialize<'de> for Elements<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Bounded)
    }
}

struct Bounded;

impl<'de> Visitor<'de> for Bounded {
    type Value = Elements<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of messages")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = list.next_element()? {
            if elements.len() == MOST_TEXTS {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(Elements(None));
            }
            elements.push(element);
        }
        Ok(Elements(Some(elements)))
    }
}

fn unquoted(element: &str) -> Result<Cow<'_, str>, FrameError> {
    match element.as_bytes().first() {
        Some(b'{') => Ok(Cow::Borrowed(element)),
        Some(b'"') => Ok(Cow::Owned(read(element)?)),
        Some(_) | None => Err(FrameError::new("a message is an object or a string")),
    }
}

/// Tells whether a text without a number would be taken for a frame of the envelope.
pub(super) fn is_reserved(text: &str) -> bool {
    [SEQ, PART, DELIVERY]
        .iter()
        .any(|start| text.starts_with(start))
}

/// Returns the end of the longest piece of a text from here on that is no longer than
/// `limit` once it is escaped.
pub(super) fn cut(text: &str, from: usize, limit: usize) -> usize {
    let rest = text.get(from..).unwrap_or_default().as_bytes();
    let mut length = 0;
    let over = rest.iter().position(|byte| {
        length += match byte {
            b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 8 | 12 => 2,
            0..=31 => 6,
            _ => 1,
        };
        length > limit
    });
    let Some(over) = over else { return text.len() };
    let ends = (from..=from + over).rev();
    let mut ends = ends.filter(|at| text.is_char_boundary(*at));
    ends.next().unwrap_or(from)
}

fn is_object(text: &str) -> bool {
    text.starts_with('{') && text.ends_with('}') && serde_json::from_str::<&RawValue>(text).is_ok()
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, FrameError> {
    serde_json::from_str(text).map_err(|error| FrameError::new(error.to_string()))
}

#[derive(Deserialize)]
struct Numbered<'a> {
    seq: u64,
    #[serde(borrow)]
    messages: &'a RawValue,
}

#[derive(Deserialize)]
struct WirePart<'a> {
    part: u32,
    more: bool,
    seq: Option<u64>,
    id: Option<u64>,
    #[serde(borrow)]
    text: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Control<'a> {
    delivery: Kind,
    epoch: Option<String>,
    last: Option<u64>,
    next: Option<u64>,
    seq: Option<u64>,
    to: Option<u64>,
    #[serde(borrow)]
    why: Option<Cow<'a, str>>,
}

#[derive(Serialize, Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Resume,
    Begin,
    Ack,
    Gap,
}

impl<'a> Control<'a> {
    fn frame(self) -> Result<Frame<'a>, FrameError> {
        let missing = |name: &str| FrameError::new(format!("{name} is missing"));
        let epoch = self.epoch.as_deref().map(Epoch::from_str).transpose()?;
        match self.delivery {
            Kind::Resume => Ok(Frame::Resume {
                epoch,
                last: self.last.ok_or_else(|| missing("last"))?,
            }),
            Kind::Begin => Ok(Frame::Begin {
                epoch: epoch.ok_or_else(|| missing("epoch"))?,
                next: self.next.ok_or_else(|| missing("next"))?,
            }),
            Kind::Ack => Ok(Frame::Ack {
                seq: self.seq.ok_or_else(|| missing("seq"))?,
            }),
            Kind::Gap => Ok(Frame::Gap {
                to: self.to.ok_or_else(|| missing("to"))?,
                why: self.why.unwrap_or_default(),
            }),
        }
    }
}

const SEQ: &str = "{\"seq\":";
const MESSAGES: &str = ",\"messages\":";
const PART: &str = "{\"part\":";
const DELIVERY: &str = "{\"delivery\":";
