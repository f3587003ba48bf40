//! Reading fields of a frame by name and type. Absent and `null` are the same; unknown fields are
//! never looked at.

use std::{fmt, str::FromStr};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Map, Value, value::RawValue};

use super::{DecodeError, MAX_FRAME_BYTES};
use crate::id::{Digest, IdError};

/// A frame that is a JSON object with an action.
#[derive(Debug)]
pub(super) struct Frame {
    action: String,
    map: Map<String, Value>,
}

impl Frame {
    pub(super) fn parse(frame: &[u8]) -> Result<Self, DecodeError> {
        if frame.len() > MAX_FRAME_BYTES {
            return Err(DecodeError::TooLarge { bytes: frame.len() });
        }
        let value: Value = serde_json::from_slice(frame).map_err(|error| DecodeError::NotJson {
            line: error.line(),
            column: error.column(),
        })?;
        let Value::Object(map) = value else {
            return Err(DecodeError::NotAnObject);
        };
        let action = map
            .get("action")
            .and_then(Value::as_str)
            .ok_or(DecodeError::NoAction)?;
        Ok(Self {
            action: action.to_owned(),
            map,
        })
    }

    /// The texts at the top of a frame that is an object and yet no JSON value here: nested too
    /// deeply, or with a number that is out of range. For its answer only.
    pub(super) fn head(frame: &[u8]) -> Option<Self> {
        if frame.len() > MAX_FRAME_BYTES {
            return None;
        }
        let Head(map) = serde_json::from_slice(frame).ok()?;
        let action = map.get("action").and_then(Value::as_str)?.to_owned();
        Some(Self { action, map })
    }

    pub(super) fn action(&self) -> &str {
        &self.action
    }

    pub(super) fn fields(&self) -> Fields<'_> {
        Fields {
            action: &self.action,
            map: &self.map,
        }
    }
}

/// Entries of an object whose values are texts; all others are passed over, however deep they are.
struct Head(Map<String, Value>);

impl<'de> Deserialize<'de> for Head {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Head;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Head, A::Error> {
                let mut map = Map::new();
                while let Some(key) = entries.next_key::<String>()? {
                    let raw: &RawValue = entries.next_value()?;
                    if let Ok(text) = serde_json::from_str::<String>(raw.get()) {
                        map.insert(key, Value::String(text));
                    }
                }
                Ok(Head(map))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// The fields of one object of a frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a> {
    action: &'a str,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// The same frame's fields, but of another object in it.
    pub(super) fn within(self, map: &'a Map<String, Value>) -> Self {
        Self { map, ..self }
    }

    pub(super) fn value(self, field: &str) -> Option<&'a Value> {
        self.map.get(field).filter(|value| !value.is_null())
    }

    pub(super) fn text(self, field: &'static str) -> Result<Option<&'a str>, DecodeError> {
        self.value(field)
            .map(|value| {
                value
                    .as_str()
                    .ok_or_else(|| self.wrong_type(field, "a text"))
            })
            .transpose()
    }

    /// A text that says something; blank is as good as absent.
    pub(super) fn words(self, field: &'static str) -> Result<Option<&'a str>, DecodeError> {
        Ok(self.text(field)?.filter(|text| !text.trim().is_empty()))
    }

    /// A path with `/` between its segments, whoever wrote it; blank is as good as absent.
    pub(super) fn path(self, field: &'static str) -> Result<Option<String>, DecodeError> {
        Ok(self.words(field)?.map(with_slashes))
    }

    /// As [`Self::path`] for a path that is answered with: absent is empty, and what is longer than
    /// any path is cut, still too long to be one, so that no answer is as long as its request.
    pub(super) fn file_path(self, field: &'static str) -> Result<String, DecodeError> {
        let mut path = self.path(field)?.unwrap_or_default();
        if path.len() > MAX_ECHOED_BYTES {
            path = path.chars().take(MAX_ECHOED_BYTES / 4).collect();
        }
        Ok(path)
    }

    pub(super) fn flag(self, field: &'static str) -> Result<bool, DecodeError> {
        match self.value(field) {
            None => Ok(false),
            Some(value) => value
                .as_bool()
                .ok_or_else(|| self.wrong_type(field, "true or false")),
        }
    }

    /// The entries of an object.
    pub(super) fn map(self, field: &'static str) -> Result<&'a Map<String, Value>, DecodeError> {
        let value = self.value(field).ok_or_else(|| self.missing(field))?;
        value
            .as_object()
            .ok_or_else(|| self.wrong_type(field, "an object"))
    }

    /// The items of a list; absent is empty.
    pub(super) fn list(self, field: &'static str) -> Result<&'a [Value], DecodeError> {
        match self.value(field) {
            None => Ok(&[]),
            Some(Value::Array(items)) => Ok(items),
            Some(_) => Err(self.wrong_type(field, "a list")),
        }
    }

    pub(super) fn texts(self, field: &'static str) -> Result<Vec<&'a str>, DecodeError> {
        self.list(field)?
            .iter()
            .map(|item| {
                item.as_str()
                    .ok_or_else(|| self.wrong_type(field, "a list of texts"))
            })
            .collect()
    }

    pub(super) fn objects(self, field: &'static str) -> Result<Vec<Self>, DecodeError> {
        self.list(field)?
            .iter()
            .map(|item| match item.as_object() {
                Some(map) => Ok(self.within(map)),
                None => Err(self.wrong_type(field, "a list of objects")),
            })
            .collect()
    }

    /// An identifier; blank is as good as absent.
    pub(super) fn id<T: FromStr<Err = IdError>>(
        self,
        field: &'static str,
    ) -> Result<Option<T>, DecodeError> {
        self.words(field)?.map(|text| self.parse(text)).transpose()
    }

    pub(super) fn digest(self, field: &'static str) -> Result<Option<Digest>, DecodeError> {
        self.value(field)
            .map(|value| Digest::deserialize(value).map_err(|_| self.wrong_type(field, "a text")))
            .transpose()
    }

    pub(super) fn need_id<T: FromStr<Err = IdError>>(
        self,
        field: &'static str,
    ) -> Result<T, DecodeError> {
        self.id(field)?.ok_or_else(|| self.missing(field))
    }

    pub(super) fn need_text(self, field: &'static str) -> Result<&'a str, DecodeError> {
        self.text(field)?.ok_or_else(|| self.missing(field))
    }

    pub(super) fn parse<T: FromStr<Err = IdError>>(self, text: &str) -> Result<T, DecodeError> {
        text.parse().map_err(|source| DecodeError::Id {
            action: self.action(),
            source,
        })
    }

    pub(super) fn wrong_type(self, field: &'static str, expected: &'static str) -> DecodeError {
        DecodeError::WrongType {
            action: self.action(),
            field,
            expected,
        }
    }

    pub(super) fn missing(self, field: &'static str) -> DecodeError {
        DecodeError::Missing {
            action: self.action(),
            field,
        }
    }

    /// The action, short enough and clean enough for an error and a log.
    pub(super) fn action(self) -> String {
        shortened(self.action)
    }
}

/// The first characters of a name from outside, without control characters.
pub(super) fn shortened(name: &str) -> String {
    const MAX_CHARS: usize = 64;
    name.chars()
        .filter(|c| !c.is_control())
        .take(MAX_CHARS)
        .collect()
}

pub(super) fn with_slashes(path: &str) -> String {
    path.replace('\\', "/")
}

/// A path that is cut keeps a quarter of this in characters; more bytes than any system's paths.
const MAX_ECHOED_BYTES: usize = 32 * 1024;
