//! Why there is no answer: what is wrong, whether asking again may help, and in whose words.

use std::time::Duration;

use serde_json::Value;
use thiserror::Error;

use super::chunk;
use crate::plain::sentence;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum Trouble {
    /// The service said no.
    #[error("{message}")]
    Refused {
        /// As HTTP numbers it.
        status: u16,
        message: String,
        retry_after: Option<Duration>,
    },
    /// The connection failed or broke.
    #[error("{0}")]
    Broken(String),
    /// Nothing came for this long.
    #[error("no answer within {} s", .0.as_secs())]
    Silent(Duration),
    /// What came is not the protocol, or more than is taken.
    #[error("{0}")]
    Unfit(String),
}

impl Trouble {
    /// Whether asking again may help.
    pub(super) fn passes(&self) -> bool {
        match self {
            Self::Refused { status, .. } => matches!(status, 408 | 425 | 429 | 500..=599),
            Self::Broken(_) => true,
            Self::Silent(_) | Self::Unfit(_) => false,
        }
    }

    /// How long the service wants to be left alone.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            Self::Broken(_) | Self::Silent(_) | Self::Unfit(_) => None,
        }
    }

    /// The code of the error it ends the turn with; the status where there is one.
    pub(super) fn code(&self) -> i64 {
        match self {
            Self::Refused { status, .. } => i64::from(*status),
            Self::Broken(_) | Self::Silent(_) | Self::Unfit(_) => INTERNAL_ERROR,
        }
    }

    /// Whether the model cannot be offered tools.
    pub(super) fn is_about_tools(&self) -> bool {
        match self {
            Self::Refused {
                status, message, ..
            } => {
                matches!(status, 400 | 404 | 422 | 501)
                    && message.to_ascii_lowercase().contains("tool")
            }
            Self::Broken(_) | Self::Silent(_) | Self::Unfit(_) => false,
        }
    }
}

/// The words of a refusal, whatever shape its body has.
pub(super) fn refusal(status: u16, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let said = serde_json::from_str::<Value>(&text).ok().and_then(|value| {
        let value = value.get(0).unwrap_or(&value);
        chunk::error_message(value.get("error").unwrap_or(value))
    });
    let said = sentence(&said.unwrap_or_else(|| text.into_owned()), REASON_CHARS);
    if said.is_empty() {
        format!("the endpoint refuses with status {status}")
    } else {
        said
    }
}

/// The error code of JSON-RPC for what has no number of its own.
pub(super) const INTERNAL_ERROR: i64 = -32603;
/// Longest words of an endpoint that are passed on.
pub(super) const REASON_CHARS: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_told_from_what_does_not() {
        let refused = |status| Trouble::Refused {
            status,
            message: "this model does not support tools".into(),
            retry_after: None,
        };
        for status in [429, 500, 502, 503, 529] {
            assert!(refused(status).passes(), "{status}");
        }
        for status in [400, 401, 402, 403, 404] {
            assert!(!refused(status).passes(), "{status}");
        }
        assert!(refused(400).is_about_tools() && !refused(500).is_about_tools());
    }
}
