//! Names of things: newtypes that parse once and print the same everywhere.

use std::{borrow::Borrow, fmt};

use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// Longest identifier accepted from anywhere, in bytes.
pub const MAX_ID_BYTES: usize = 256;

/// Why a text cannot be an identifier.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdError {
    /// Nothing but white space.
    #[error("{kind} is empty")]
    Empty {
        /// What was being parsed.
        kind: &'static str,
    },
    /// Longer than [`MAX_ID_BYTES`].
    #[error("{kind} has {bytes} bytes, the limit is {MAX_ID_BYTES}")]
    TooLong {
        /// What was being parsed.
        kind: &'static str,
        /// Its size.
        bytes: usize,
    },
    /// Holds a control character, which could forge log lines or paths.
    #[error("{kind} holds a control character")]
    ControlCharacter {
        /// What was being parsed.
        kind: &'static str,
    },
}

fn checked(kind: &'static str, text: &str) -> Result<(), IdError> {
    if text.trim().is_empty() {
        return Err(IdError::Empty { kind });
    }
    if text.len() > MAX_ID_BYTES {
        return Err(IdError::TooLong {
            kind,
            bytes: text.len(),
        });
    }
    if text.chars().any(char::is_control) {
        return Err(IdError::ControlCharacter { kind });
    }
    Ok(())
}

macro_rules! text_id {
    ($(#[$meta:meta])* $name:ident, $kind:literal, $normalise:expr) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Parses the text: not blank, at most [`MAX_ID_BYTES`], no control characters.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                checked($kind, text)?;
                let normalise: fn(&str) -> String = $normalise;
                Ok(Self(normalise(text)))
            }

            /// The text as it goes on the wire.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

fn verbatim(text: &str) -> String {
    text.to_owned()
}

fn lower(text: &str) -> String {
    text.trim().to_lowercase()
}

text_id!(
    /// A task of the control plane; several runs (attempts, follow-ups) may belong to it.
    TaskId, "task id", verbatim
);
text_id!(
    /// An agent, trimmed and lower-cased as the CTRL NODE wire compares them.
    AgentId, "agent id", lower
);
text_id!(
    /// Which program serves an agent: `claude`, `gemini`, `demo`, …
    ProviderKey, "provider key", lower
);
text_id!(
    /// One machine as the hub knows it.
    BridgeId, "bridge id", verbatim
);
text_id!(
    /// One open permission request or question of a run.
    AskId, "ask id", verbatim
);
text_id!(
    /// One tool call, as the agent numbers it.
    ToolCallId, "tool call id", verbatim
);
text_id!(
    /// What an agent needs to continue a conversation later; opaque.
    ResumeId, "conversation id", verbatim
);
text_id!(
    /// A stretch of answer text: deltas of one block are appended, a replacement replaces them.
    BlockId, "block id", verbatim
);
text_id!(
    /// A task folder as the plane named it, relative to `CTRLNODE_ROOT`. Untrusted until the
    /// workspace has resolved it beneath its root.
    TaskFolder, "task folder", verbatim
);

impl TaskId {
    /// How the ids of tasks begin that nobody asked for on the wire: a bridge made them of folders
    /// that were dropped on its machine. Those of our own hub never begin so.
    pub const DROPPED: &str = "drop-";

    /// Whether it begins so.
    pub fn is_dropped(&self) -> bool {
        self.0.starts_with(Self::DROPPED)
    }
}

/// One run: a task and the request that started it (decision 9). The same run arriving again is
/// answered from the journal and never started twice.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RunKey {
    /// The task the run belongs to.
    pub task: TaskId,
    /// `executionId`, or else `requestId`, of the frame that asked for the run.
    pub attempt: String,
}

impl RunKey {
    /// A short, file-safe name for the run: the first 16 hex digits of its digest. Also the value
    /// of the environment marker `CTRLNODE_RUN` by which stray processes are found.
    pub fn marker(&self) -> String {
        let mut text = Digest::of(&[self.task.as_str(), &self.attempt]).0;
        text.truncate(16);
        text
    }
}

impl fmt::Debug for RunKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for RunKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.task, self.attempt)
    }
}

/// SHA-256 in lower-case hex, over the exact action a person is asked to allow.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(String);

impl Digest {
    /// Hashes the parts, each with its length in front, so that no two lists collide.
    pub fn of(parts: &[&str]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        let digits = hash
            .finalize()
            .into_iter()
            .flat_map(|byte| [byte >> 4, byte & 0xf]);
        Self(
            digits
                .filter_map(|digit| char::from_digit(digit.into(), 16))
                .collect(),
        )
    }

    /// The hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agent_ids_are_trimmed_and_lower_cased() {
        assert_eq!(AgentId::parse("  Dev-1 ").unwrap().as_str(), "dev-1");
    }

    #[test]
    fn blank_long_and_control_ids_are_refused_with_the_reason() {
        assert_eq!(TaskId::parse("  "), Err(IdError::Empty { kind: "task id" }));
        assert_eq!(
            TaskId::parse("a\nb"),
            Err(IdError::ControlCharacter { kind: "task id" })
        );
        let long = "x".repeat(MAX_ID_BYTES + 1);
        assert_eq!(
            TaskId::parse(&long),
            Err(IdError::TooLong {
                kind: "task id",
                bytes: MAX_ID_BYTES + 1
            })
        );
    }

    #[test]
    fn run_markers_differ_when_only_the_border_between_the_parts_moves() {
        let key = |task: &str, attempt: &str| RunKey {
            task: TaskId::parse(task).unwrap(),
            attempt: attempt.into(),
        };
        assert_ne!(key("ab", "c").marker(), key("a", "bc").marker());
        assert_eq!(key("ab", "c").marker().len(), 16);
    }
}
