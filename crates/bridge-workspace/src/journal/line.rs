//! One line of the run journal, and how it is told that it is whole.
//!
//! ```text
//! CTRLNODE_ROOT/journal/runs.jsonl
//!   <16 hex digits: FNV-1a 64 of the rest> {"run":{…}}          a run begins, or its entry changes
//!   <16 hex digits>                        {"end":{…}}          it has ended
//!   <16 hex digits>                        {"done":{…}}         a command of the hub was carried out
//!   <16 hex digits>                        {"passed":{…}}       all of them up to a number were
//! ```

use bridge_proto::{RunKey, Timestamp, model::Outcome};
use serde::{Deserialize, Serialize};

use super::{JournalError, RunEntry};
use crate::executed::{CommandId, Numbering};

/// A line that is written.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum LineRef<'a> {
    Run(&'a RunEntry),
    End {
        run: &'a RunKey,
        outcome: &'a Outcome,
        n: u64,
        at: Timestamp,
    },
    Done {
        numbering: Numbering,
        seq: u64,
    },
    Passed {
        numbering: Numbering,
        seq: u64,
    },
}

/// A line that was read.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    Run(RunEntry),
    End {
        run: RunKey,
        outcome: Outcome,
        n: u64,
        at: Timestamp,
    },
    Done {
        numbering: Numbering,
        seq: u64,
    },
    Passed {
        numbering: Numbering,
        seq: u64,
    },
}

/// That a command was carried out.
pub(super) fn done<'a>(command: CommandId) -> LineRef<'a> {
    let CommandId { numbering, seq } = command;
    LineRef::Done { numbering, seq }
}

/// Adds the line to what is written.
pub(super) fn encode(line: &LineRef<'_>, out: &mut Vec<u8>) -> Result<(), JournalError> {
    let json = serde_json::to_vec(line).map_err(|error| JournalError::Write(error.into()))?;
    if json.len() > MAX_LINE_BYTES {
        return Err(JournalError::TooLarge { bytes: json.len() });
    }
    out.extend(format!("{:016x} ", fnv1a(&json)).into_bytes());
    out.extend(json);
    out.push(b'\n');
    Ok(())
}

/// What a line says, without its newline; `None` when it is torn or damaged.
pub(super) fn parse(line: &[u8]) -> Option<Line> {
    let (sum, rest) = line.split_at_checked(16)?;
    let json = rest.strip_prefix(b" ")?;
    let sum = u64::from_str_radix(std::str::from_utf8(sum).ok()?, 16).ok()?;
    if sum != fnv1a(json) {
        return None;
    }
    serde_json::from_slice(json).ok()
}

/// FNV-1a, 64 bits: tells accidents, not attacks.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Largest entry in bytes; an origin's reply token is the only part without a limit of its own.
pub const MAX_LINE_BYTES: usize = 256 * 1024;
