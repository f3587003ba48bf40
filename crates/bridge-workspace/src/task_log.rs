//! The append-only log of one run: a file a person reads, in blocks. A full disk or a lost folder
//! never stops the run: it is reported once and tried again later.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    sync::Arc,
};

use bridge_proto::Timestamp;
use thiserror::Error;

use crate::contained::{ContainError, ContainedPath, Folder};

/// One log file. Nothing is touched before the first block.
#[derive(Debug)]
pub struct TaskLog {
    folder: Arc<Folder>,
    file: ContainedPath,
    limit: u64,
    full: bool,
    outage: Option<Outage>,
}

#[derive(Debug, Clone, Copy)]
struct Outage {
    tried: Timestamp,
    lost: u64,
}

/// What became of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It is in the file.
    Written,
    /// The log is broken, which was reported before; the block is lost and counted.
    Skipped,
    /// The file has reached [`MAX_LOG_BYTES`]; it says so at its end.
    Full,
}

/// Why a block could not be written. The caller goes on.
#[derive(Debug, Error)]
pub enum LogError {
    /// No space is left.
    #[error("no space is left for the log {path:?}")]
    DiskFull {
        /// Relative to the task folder.
        path: String,
    },
    /// The task folder is gone.
    #[error("the folder of the log {path:?} is gone")]
    FolderLost {
        /// Relative to the task folder.
        path: String,
    },
    /// Something else stands in its place.
    #[error("the log {path:?} cannot be used")]
    Unusable {
        /// Relative to the task folder.
        path: String,
        /// What stands there.
        #[source]
        source: ContainError,
    },
    /// The system said no.
    #[error("the log {path:?} cannot be written")]
    Io {
        /// Relative to the task folder.
        path: String,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

impl TaskLog {
    pub(crate) fn new(folder: Arc<Folder>, file: ContainedPath) -> Self {
        Self {
            folder,
            file,
            limit: MAX_LOG_BYTES,
            full: false,
            outage: None,
        }
    }

    /// The file, relative to the task folder.
    pub fn file(&self) -> String {
        self.file.to_string()
    }

    /// Adds a block: a blank line, `[<at>] <KIND>`, then at most [`MAX_BLOCK_CHARS`] characters.
    ///
    /// An error is returned once per outage. Until [`RETRY_MILLIS`] have passed by `at`, further
    /// blocks are skipped; the first one written afterwards is preceded by a note of how many are
    /// missing.
    pub fn append(&mut self, at: Timestamp, kind: &str, text: &str) -> Result<Appended, LogError> {
        if self.full {
            return Ok(Appended::Full);
        }
        if let Some(outage) = &mut self.outage
            && at.as_millis().abs_diff(outage.tried.as_millis()) < RETRY_MILLIS
        {
            outage.lost += 1;
            return Ok(Appended::Skipped);
        }
        let mut blocks = String::new();
        if let Some(outage) = self.outage {
            let note = format!(
                "{} entries are missing: they could not be written",
                outage.lost
            );
            push_block(&mut blocks, at, "LOG_GAP", &note);
        }
        push_block(&mut blocks, at, kind, text);
        match self.write(at, &blocks) {
            Ok(appended) => {
                self.outage = None;
                Ok(appended)
            }
            Err(error) => {
                let before = self.outage;
                let lost = before.map_or(0, |outage| outage.lost) + 1;
                self.outage = Some(Outage { tried: at, lost });
                if before.is_some() {
                    Ok(Appended::Skipped)
                } else {
                    Err(error)
                }
            }
        }
    }

    fn write(&mut self, at: Timestamp, blocks: &str) -> Result<Appended, LogError> {
        let mut file = self
            .folder
            .append(&self.file)
            .map_err(|error| self.fault(error))?;
        let io = |source| self.io_fault(source);
        let size = file.metadata().map_err(io)?.len();
        if size.saturating_add(blocks.len() as u64) > self.limit {
            let mut note = String::new();
            push_block(
                &mut note,
                at,
                "LOG_FULL",
                "the log ends here, the run goes on",
            );
            file.write_all(note.as_bytes()).map_err(io)?;
            self.full = true;
            return Ok(Appended::Full);
        }
        file.write_all(blocks.as_bytes()).map_err(io)?;
        Ok(Appended::Written)
    }

    fn fault(&self, error: ContainError) -> LogError {
        match error {
            ContainError::Missing { .. } => LogError::FolderLost { path: self.file() },
            ContainError::Io { source, .. } => self.io_fault(source),
            other @ (ContainError::Link { .. }
            | ContainError::Outside { .. }
            | ContainError::NotAFolder { .. }
            | ContainError::NotAFile { .. }
            | ContainError::Executable { .. }) => LogError::Unusable {
                path: self.file(),
                source: other,
            },
        }
    }

    fn io_fault(&self, source: io::Error) -> LogError {
        let path = self.file();
        let kind = source.kind();
        if matches!(
            kind,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        ) {
            LogError::DiskFull { path }
        } else if kind == io::ErrorKind::NotFound {
            LogError::FolderLost { path }
        } else {
            LogError::Io { path, source }
        }
    }
}

fn push_block(out: &mut String, at: Timestamp, kind: &str, text: &str) {
    let kind: String = kind
        .chars()
        .take(40)
        .map(|c| {
            if c.is_alphanumeric() {
                c.to_ascii_uppercase()
            } else {
                '_'
            }
        })
        .collect();
    let text = match text.char_indices().nth(MAX_BLOCK_CHARS) {
        Some((end, _)) => text.get(..end).unwrap_or(text),
        None => text,
    };
    let text = text.trim_end_matches(['\n', '\r']);
    write!(out, "\n[{at}] {kind}\n{text}\n").expect("a String takes every text");
}

/// Longest block, in characters; the rest is left out.
pub const MAX_BLOCK_CHARS: usize = 8000;

/// Largest log file. A chatty agent must not fill the disk.
pub const MAX_LOG_BYTES: u64 = 32 * 1024 * 1024;

/// How long a broken log is left alone, in milliseconds.
pub const RETRY_MILLIS: u64 = 5000;

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use crate::task_dir::log_path;

    #[test]
    fn a_device_that_is_full_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let log = TaskLog::new(Arc::new(Folder::open(dir.path()).unwrap()), log_path(None));
        let mut device = std::fs::File::options()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let error = device.write_all(b"x").unwrap_err();
        assert!(matches!(log.io_fault(error), LogError::DiskFull { .. }));
    }
}
