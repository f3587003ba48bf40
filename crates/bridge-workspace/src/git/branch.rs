//! Names of branches that can be nothing else: no option, no path, no expression.

use std::fmt;

use thiserror::Error;

/// A name that git accepts for a branch and that cannot be read as anything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchName(String);

/// The text is no name of a branch.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not a valid branch name")]
pub struct BranchFault(
    /// As received, shortened.
    pub String,
);

impl BranchName {
    /// Checks a name by the rules of `git check-ref-format --branch`, without its shorthands
    /// (`@{-1}`, `-`). Beyond them, names are refused that a shell would read as more than a word,
    /// because other programs pass them on, and names over [`MAX_BYTES`].
    pub fn parse(text: &str) -> Result<Self, BranchFault> {
        let good = !text.is_empty()
            && text.len() <= MAX_BYTES
            && text != "@"
            && !text.starts_with('-')
            && !text.ends_with('.')
            && !text.contains("..")
            && !text.contains("@{")
            && !text.chars().any(|c| {
                c.is_control() || c.is_whitespace() || FORBIDDEN.contains(c) || SHELL.contains(c)
            })
            && text.split('/').all(|part| {
                !part.is_empty()
                    && !part.starts_with('.')
                    && !part.to_ascii_lowercase().ends_with(".lock")
            });
        if good {
            Ok(Self(text.to_owned()))
        } else {
            Err(BranchFault(text.chars().take(SHOWN_CHARS).collect()))
        }
    }

    /// As [`BranchName::parse`], for a branch that is to be made: git refuses to make `HEAD`.
    pub fn parse_new(text: &str) -> Result<Self, BranchFault> {
        match Self::parse(text) {
            Ok(name) if name.0 == "HEAD" => Err(BranchFault(name.0)),
            other => other,
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BranchName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Longest name in bytes: a file of this name, with `.lock` behind it, has to be possible.
pub const MAX_BYTES: usize = 244;

/// Characters of expressions and patterns, which git itself refuses.
const FORBIDDEN: &str = "~^:?*[\\\u{7f}";

/// Characters that end a word or begin another command in a shell.
const SHELL: &str = ";&|<>$`\"'!";

const SHOWN_CHARS: usize = 80;
