//! A path from outside, parsed.

use std::{fmt, path::PathBuf};

use thiserror::Error;

use super::ContainError;

/// A relative path in components: no `..`, no root, no drive, no control character. The empty path
/// is the folder itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainedPath {
    parts: Vec<String>,
}

/// Why a text is no [`ContainedPath`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PathFault {
    /// Starts with `/` or a drive.
    #[error("the path is absolute")]
    Absolute,
    /// A component is `..`, or dots only.
    #[error("the path has a component of dots")]
    Up,
    /// A `\`, which is a separator on some systems.
    #[error("the path has a backslash")]
    Backslash,
    /// NUL or another control character.
    #[error("the path has a control character")]
    ControlCharacter,
    /// A name with a special meaning on this system.
    #[error("the path has a name that is reserved here")]
    Reserved,
    /// Nothing but separators, where a name is needed.
    #[error("the path is empty")]
    Empty,
    /// More than [`MAX_PATH_BYTES`] bytes or [`MAX_DEPTH`] components.
    #[error("the path is too long")]
    TooLong,
}

impl ContainedPath {
    /// The folder itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// Parses a path with `/` between its components; empty components and `.` are skipped.
    pub fn parse(text: &str) -> Result<Self, PathFault> {
        if text.len() > MAX_PATH_BYTES {
            return Err(PathFault::TooLong);
        }
        if text.chars().any(char::is_control) {
            return Err(PathFault::ControlCharacter);
        }
        if text.contains('\\') {
            return Err(PathFault::Backslash);
        }
        if text.starts_with('/') {
            return Err(PathFault::Absolute);
        }
        let mut parts = Vec::new();
        for part in text
            .split('/')
            .filter(|part| !part.is_empty() && *part != ".")
        {
            if part.bytes().all(|byte| byte == b'.') {
                return Err(PathFault::Up);
            }
            if parts.is_empty() && starts_with_drive(part) {
                return Err(PathFault::Absolute);
            }
            if cfg!(windows) && is_reserved_on_windows(part) {
                return Err(PathFault::Reserved);
            }
            parts.push(part.to_owned());
        }
        if parts.len() > MAX_DEPTH {
            return Err(PathFault::TooLong);
        }
        Ok(Self { parts })
    }

    /// Parses a path as a wire sends it: `\` counts as `/`.
    pub fn parse_wire(text: &str) -> Result<Self, PathFault> {
        Self::parse(&text.replace('\\', "/"))
    }

    /// Whether this is the folder itself.
    pub fn is_root(&self) -> bool {
        self.parts.is_empty()
    }

    /// The components in order.
    pub fn parts(&self) -> &[String] {
        &self.parts
    }

    /// The last component; `None` for the folder itself.
    pub fn name(&self) -> Option<&str> {
        self.parts.last().map(String::as_str)
    }

    /// The path without its last component; `None` for the folder itself.
    pub fn parent(&self) -> Option<Self> {
        let (_, parents) = self.parts.split_last()?;
        Some(Self {
            parts: parents.to_vec(),
        })
    }

    /// The path with one more name at its end. The name must be a single component.
    pub fn child(&self, name: &str) -> Result<Self, PathFault> {
        let mut child = Self::parse(name)?;
        if child.parts.len() != 1 {
            return Err(PathFault::Empty);
        }
        child.parts.splice(0..0, self.parts.iter().cloned());
        Ok(child)
    }

    /// The path with these components at its end.
    pub(super) fn extended(mut self, rest: &[String]) -> Self {
        self.parts.extend_from_slice(rest);
        self
    }

    /// In the system's form, relative.
    pub fn to_path(&self) -> PathBuf {
        self.parts.iter().collect()
    }

    /// Of names that were found on the disk.
    pub(super) fn of_parts(parts: Vec<String>) -> Self {
        Self { parts }
    }

    pub(super) fn split_last(&self) -> Result<(&[String], &str), ContainError> {
        match self.parts.split_last() {
            Some((name, parents)) => Ok((parents, name)),
            None => Err(ContainError::NotAFile {
                path: self.to_string(),
            }),
        }
    }
}

impl fmt::Display for ContainedPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.parts.join("/"))
    }
}

fn starts_with_drive(part: &str) -> bool {
    let bytes = part.as_bytes();
    bytes.len() >= 2 && bytes[0].is_ascii_alphabetic() && bytes[1] == b':'
}

fn is_reserved_on_windows(part: &str) -> bool {
    let stem = part
        .split('.')
        .next()
        .unwrap_or(part)
        .trim_end()
        .to_ascii_lowercase();
    let device = matches!(
        stem.as_str(),
        "con" | "prn" | "aux" | "nul" | "conin$" | "conout$"
    );
    let port = (stem.starts_with("com") || stem.starts_with("lpt")) && stem.chars().count() == 4;
    device
        || port
        || part.contains([':', '<', '>', '"', '|', '?', '*'])
        || part.ends_with(['.', ' '])
}

/// Longest path in bytes; the limit of the common systems.
pub const MAX_PATH_BYTES: usize = 4096;

/// Most components of a path; bounds every walk.
pub const MAX_DEPTH: usize = 64;
