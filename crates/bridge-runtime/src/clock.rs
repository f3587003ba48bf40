//! The present, for the places that must stamp what they saw.

use std::time::{SystemTime, UNIX_EPOCH};

use bridge_proto::Timestamp;

/// The wall clock as the wires write it.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
