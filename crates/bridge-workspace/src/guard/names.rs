//! The names of a path as file systems may take them: what is protected by its name is protected by
//! every name for it.

use std::path::{Component, Path};

/// The components of a path as far as their names tell them apart on any file system.
pub(super) fn names(path: &Path) -> Vec<String> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(known_as(&name.to_string_lossy())),
            Component::Prefix(_)
            | Component::RootDir
            | Component::CurDir
            | Component::ParentDir => None,
        })
        .collect()
}

/// The name that some file system takes this one for: without case, without characters that are
/// not seen, without what Windows does not keep at the end, and the long form of `GIT~1`.
pub(super) fn known_as(name: &str) -> String {
    let seen = name.split(':').next().unwrap_or(name);
    let seen = seen.trim_end_matches([' ', '.']);
    if seen.is_ascii() && !seen.contains('~') {
        return seen.to_ascii_lowercase();
    }
    let folded: String = seen
        .chars()
        .filter(|c| !UNSEEN.contains(c))
        // Upper first: the long s is only then an s.
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .collect();
    match folded.split_once('~') {
        Some((stem, number)) if number.chars().all(|c| c.is_ascii_digit()) => SHORT_NAMES
            .iter()
            .find(|(short, _)| *short == stem)
            .map_or_else(|| folded.clone(), |(_, long)| (*long).to_owned()),
        Some(_) | None => folded,
    }
}

/// Characters that HFS+ does not look at in a name, and their like.
const UNSEEN: [char; 18] = [
    '\u{200b}', '\u{200c}', '\u{200d}', '\u{200e}', '\u{200f}', '\u{202a}', '\u{202b}', '\u{202c}',
    '\u{202d}', '\u{202e}', '\u{206a}', '\u{206b}', '\u{206c}', '\u{206d}', '\u{206e}', '\u{206f}',
    '\u{feff}', '\u{ad}',
];

/// Short names of Windows, before their number, of what is protected by its name alone.
const SHORT_NAMES: [(&str, &str); 4] = [
    ("git", ".git"),
    ("ssh", ".ssh"),
    ("gnupg", ".gnupg"),
    ("aws", ".aws"),
];
