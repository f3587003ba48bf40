//! Why a frame could not be read.

use thiserror::Error;

use super::MAX_FRAME_BYTES;
use crate::id::IdError;

/// Why a frame could not be read; always the sender's fault. Never repeats values of the frame, so
/// it can be logged.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Larger than [`MAX_FRAME_BYTES`].
    #[error("frame has {bytes} bytes, the limit is {MAX_FRAME_BYTES}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Not JSON, or not UTF-8.
    #[error("frame is not valid JSON at line {line} column {column}")]
    NotJson {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// JSON, but not an object.
    #[error("frame is not a JSON object")]
    NotAnObject,
    /// No `action`, or one that is not a text.
    #[error("frame has no action")]
    NoAction,
    /// A field has another type than the wire gives it.
    #[error("{field} of {action} is not {expected}")]
    WrongType {
        /// The frame's action.
        action: String,
        /// The field.
        field: &'static str,
        /// What it should be, with its article.
        expected: &'static str,
    },
    /// A field that the action cannot do without is absent, null or empty.
    #[error("{action} has no {field}")]
    Missing {
        /// The frame's action.
        action: String,
        /// The field.
        field: &'static str,
    },
    /// A field holds something that cannot be an identifier.
    #[error("unusable identifier in {action}")]
    Id {
        /// The frame's action.
        action: String,
        /// What is wrong with it.
        #[source]
        source: IdError,
    },
    /// Content that calls itself base64 and is not.
    #[error("content of {action} is not base64")]
    Base64 {
        /// The frame's action.
        action: String,
    },
}
