//! Changing a file without losing a line.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::text::{read_file, split_line};
use crate::sys;

/// Why an environment file was not changed. The old content is untouched.
#[derive(Debug, Error)]
pub enum SetError {
    /// The key is not of the form `[A-Z_][A-Z0-9_]*`.
    #[error("{key:?} is no name of a variable")]
    Key {
        /// The key.
        key: String,
    },
    /// The value has more than one line, or a control character.
    #[error("the value of {key} has a control character")]
    Value {
        /// The key.
        key: String,
    },
    /// The file or its folder is a symbolic link; none is followed.
    #[error("{path} is a symbolic link")]
    Link {
        /// Which path.
        path: PathBuf,
    },
    /// The file or its folder cannot be used.
    #[error("{path} cannot be changed")]
    Io {
        /// Which path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Sets keys in the file and creates it when missing. An empty value leaves the old one. All other
/// lines stay as they are. Afterwards the file can be read by the user alone, and holds either the
/// old or the new content whatever happens meanwhile.
pub fn set(path: &Path, values: &[(&str, &str)]) -> Result<(), SetError> {
    for (key, value) in values {
        check(key, value)?;
    }
    rewrite(path, |old| Some(merge(old, values))).map(|_| ())
}

/// Takes keys out of the file, with every line that sets them; whether there were any. All other
/// lines stay as they are, and the rest is as with [`set`]. A file that is not there stays so.
pub fn remove(path: &Path, keys: &[&str]) -> Result<bool, SetError> {
    rewrite(path, |old| {
        let stays = |line: &&str| !split_line(line).is_some_and(|(name, _)| keys.contains(&name));
        let new: String = old.split_inclusive('\n').filter(stays).collect();
        (new != old).then_some(new)
    })
}

/// Replaces the text of the file, if there is another one; whether there was.
fn rewrite(path: &Path, change: impl FnOnce(&str) -> Option<String>) -> Result<bool, SetError> {
    let io = |source| SetError::Io {
        path: path.to_owned(),
        source,
    };
    let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    else {
        return Err(io(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the path has no folder",
        )));
    };
    for path in [folder, path] {
        if path.is_symlink() {
            return Err(SetError::Link {
                path: path.to_owned(),
            });
        }
    }
    let old = match read_file(path) {
        Ok((text, _)) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(io(error)),
    };
    let Some(new) = change(&old) else {
        return Ok(false);
    };
    sys::create_private_dirs(folder).map_err(io)?;
    // A new temporary file can be read by the user alone, and keeps that when renamed.
    let mut file = tempfile::Builder::new()
        .prefix(".env.")
        .tempfile_in(folder)
        .map_err(io)?;
    file.write_all(new.as_bytes()).map_err(io)?;
    file.as_file().sync_all().map_err(io)?;
    file.persist(path).map_err(|error| io(error.error))?;
    sys::sync_path(folder).map_err(io)?;
    Ok(true)
}

fn check(key: &str, value: &str) -> Result<(), SetError> {
    let starts = key
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_uppercase() || b == b'_');
    let fits = key
        .bytes()
        .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    if !(starts && fits) {
        return Err(SetError::Key {
            key: key.chars().take(80).collect(),
        });
    }
    if value.chars().any(char::is_control) {
        return Err(SetError::Value {
            key: key.to_owned(),
        });
    }
    Ok(())
}

/// The new content: each key's last line is replaced in its place, its earlier lines go, new keys
/// come at the end, everything else stays to the byte.
fn merge(old: &str, values: &[(&str, &str)]) -> String {
    let mut lines: Vec<Option<String>> = old
        .split_inclusive('\n')
        .map(|line| Some(line.to_owned()))
        .collect();
    for (key, value) in values.iter().filter(|(_, value)| !value.trim().is_empty()) {
        let mut line = Some(format!("{key}={}\n", quoted(value.trim())));
        for slot in lines.iter_mut().rev() {
            let same = slot
                .as_deref()
                .and_then(split_line)
                .is_some_and(|(name, _)| name == *key);
            if same {
                *slot = line.take();
            }
        }
        if let Some(line) = line {
            if let Some(last) = lines.iter_mut().rev().find_map(Option::as_mut)
                && !last.ends_with('\n')
            {
                last.push('\n');
            }
            lines.push(Some(line));
        }
    }
    lines.into_iter().flatten().collect()
}

/// A value that would lose its own quotes gets another pair.
fn quoted(value: &str) -> String {
    let own = |quote| value.len() >= 2 && value.starts_with(quote) && value.ends_with(quote);
    if own('"') || own('\'') {
        format!("\"{value}\"")
    } else {
        value.to_owned()
    }
}
