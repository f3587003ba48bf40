//! What lies directly in a folder, told apart by kind and state; nothing is opened or followed.

use std::time::UNIX_EPOCH;

use super::{ContainError, ContainedPath, Folder};

/// One direct entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its name; `None` when it is not UTF-8.
    pub(crate) name: Option<String>,
    /// What it is.
    pub(crate) kind: EntryKind,
    /// Bytes; of files alone.
    pub(crate) size: u64,
    /// When it was changed last, in nanoseconds since 1970; 0 where that is not told.
    pub(crate) changed: u128,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link, whatever it points to.
    Link,
    /// A pipe, socket or device.
    Other,
}

impl Folder {
    /// The direct entries; of more than `most` the ones the system tells first. What vanishes
    /// meanwhile is left out. No link is followed.
    pub(crate) fn entries(
        &self,
        path: &ContainedPath,
        most: usize,
    ) -> Result<Vec<Entry>, ContainError> {
        let dir = self.walk(path.parts(), false)?;
        let io = |source| ContainError::Io {
            path: path.to_string(),
            source,
        };
        let mut entries = Vec::new();
        for entry in dir.entries().map_err(io)?.take(most) {
            let entry = entry.map_err(io)?;
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            let kind = if kind.is_symlink() {
                EntryKind::Link
            } else if kind.is_dir() {
                EntryKind::Folder
            } else if kind.is_file() {
                EntryKind::File
            } else {
                EntryKind::Other
            };
            let Ok(meta) = entry.metadata() else {
                continue;
            };
            let changed = meta.modified().ok().and_then(|at| {
                let since = at.into_std().duration_since(UNIX_EPOCH);
                since.ok().map(|since| since.as_nanos())
            });
            entries.push(Entry {
                name: entry.file_name().into_string().ok(),
                kind,
                size: if kind == EntryKind::File {
                    meta.len()
                } else {
                    0
                },
                changed: changed.unwrap_or(0),
            });
        }
        Ok(entries)
    }
}
