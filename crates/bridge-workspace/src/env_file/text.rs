//! Reading: what is at a path, and the lines of a file.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use bridge_proto::Secret;

use crate::sys;

/// A view of the disk, so that discovery itself touches none.
pub trait Files {
    /// Looks at one file.
    fn look(&self, path: &Path) -> Look;
}

/// What is at a path.
#[derive(Clone, PartialEq, Eq)]
pub enum Look {
    /// Nothing.
    Absent,
    /// Something that cannot be read, and why.
    Unreadable(String),
    /// A file.
    File {
        /// Its content.
        text: String,
        /// It belongs to the user of this process.
        mine: bool,
        /// Group or others may write it.
        writable_by_others: bool,
        /// Group or others may read it.
        readable_by_others: bool,
    },
}

impl fmt::Debug for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "Absent",
            Self::Unreadable(_) => "Unreadable",
            Self::File { .. } => "File(***)",
        })
    }
}

/// The real disk. Links are followed; owner and permissions are those of the file itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

impl Files for Disk {
    fn look(&self, path: &Path) -> Look {
        match read_file(path) {
            Ok((text, ownership)) => Look::File {
                text,
                mine: ownership.mine,
                writable_by_others: ownership.writable_by_others,
                readable_by_others: ownership.readable_by_others,
            },
            Err(error) if is_absent(&error) => Look::Absent,
            Err(error) => Look::Unreadable(error.to_string()),
        }
    }
}

/// Reads `KEY=VALUE` lines. Blank lines, lines that start with `#` and lines without `=` are
/// skipped; key and value are trimmed; one pair of matching quotes around the value is removed.
pub fn parse(text: &str) -> Vec<(String, Secret)> {
    text.trim_start_matches('\u{feff}')
        .lines()
        .filter_map(split_line)
        .map(|(key, value)| (key.to_owned(), Secret::new(value)))
        .collect()
}

/// Key and value of a line that sets one.
pub(super) fn split_line(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    let (key, value) = line.split_once('=')?;
    let (key, value) = (key.trim(), value.trim());
    let unquoted = ['"', '\''].iter().find_map(|quote| {
        value
            .strip_prefix(*quote)
            .and_then(|value| value.strip_suffix(*quote))
    });
    (!key.is_empty()).then(|| (key, unquoted.unwrap_or(value)))
}

/// The text of a regular file, and who may touch it.
pub(super) fn read_file(path: &Path) -> io::Result<(String, sys::Ownership)> {
    // Metadata first: opening a pipe would wait for its writer.
    if !path.metadata()?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ));
    }
    let file = File::open(path)?;
    let ownership = sys::ownership(&file)?;
    let mut text = String::new();
    if file.take(MAX_BYTES + 1).read_to_string(&mut text)? as u64 > MAX_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "larger than 1 MiB",
        ));
    }
    Ok((text, ownership))
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Far more than settings ever need.
const MAX_BYTES: u64 = 1024 * 1024;
