//! Finding files by name and lines by pattern, beneath an open folder: bounded in depth, number,
//! bytes and length; links are not followed, what is protected is not entered.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
};

use cap_std::fs::Dir;
use regex::{Regex, RegexBuilder};

use super::{
    files::text_of,
    place::{FileError, Place, Spot, fault},
    protected,
};
use crate::plain::head;

/// Files whose names fit, a line each.
pub(super) fn glob(place: &Place, pattern: &str, folder: &str) -> Result<String, FileError> {
    let wanted = Names::parse(pattern)?;
    let ground = Ground::look(place, folder)?;
    let found: Vec<String> = ground
        .files
        .iter()
        .filter(|file| wanted.fits(&file.below))
        .take(MAX_FILES)
        .map(|file| place.shown(&ground.spot, &file.path))
        .collect();
    Ok(told(&found, MAX_FILES, ground.tired, "files"))
}

/// Lines that fit, as `path:number: line`.
pub(super) fn grep(
    place: &Place,
    pattern: &str,
    folder: &str,
    only: Option<&str>,
) -> Result<String, FileError> {
    let regex = compile(pattern, pattern)?;
    let only = only.map(Names::parse).transpose()?;
    let ground = Ground::look(place, folder)?;
    let dir = &place.root(&ground.spot).dir;
    let mut tired = ground.tired;
    let mut found = Vec::new();
    let mut bytes = 0;
    for file in &ground.files {
        if only.as_ref().is_some_and(|only| !only.fits(&file.below)) {
            continue;
        }
        if bytes > SCANNED_BYTES {
            tired = true;
            break;
        }
        // What is too large or no text has no lines.
        let Ok(text) = text_of(dir, &file.path, "") else {
            continue;
        };
        bytes += text.len();
        let shown = place.shown(&ground.spot, &file.path);
        let fitting = text.lines().enumerate().filter(|(_, l)| regex.is_match(l));
        for (at, line) in fitting.take(MAX_LINES - found.len()) {
            let cut = if line.len() > LINE_BYTES { "…" } else { "" };
            let line = head(line, LINE_BYTES);
            found.push(format!("{shown}:{}: {line}{cut}", at + 1));
        }
        if found.len() == MAX_LINES {
            break;
        }
    }
    Ok(told(&found, MAX_LINES, tired, "lines"))
}

fn told(found: &[String], most: usize, tired: bool, what: &str) -> String {
    let full = found.len() == most;
    let mut text = if found.is_empty() {
        format!("(no {what} found)")
    } else {
        found.join("\n")
    };
    if full {
        text.push_str("\n(there may be more; look for less)");
    } else if tired {
        text.push_str("\n(not everything was looked at; look in a folder)");
    }
    text
}

/// The files that are looked at, in the order of their names.
struct Ground {
    /// Where the search began.
    spot: Spot,
    files: Vec<Candidate>,
    /// There were more than are looked at.
    tired: bool,
}

struct Candidate {
    /// From the root of the place.
    path: PathBuf,
    /// From where the search began.
    below: PathBuf,
}

impl Ground {
    /// Everything below a folder, or the one file that was named.
    fn look(place: &Place, folder: &str) -> Result<Self, FileError> {
        let spot = place.existing(folder)?;
        let root = &place.root(&spot).dir;
        let io = |error| fault(folder, error);
        let mut ground = Self {
            spot: spot.clone(),
            files: Vec::new(),
            tired: false,
        };
        let dir = if spot.path.as_os_str().is_empty() {
            root.try_clone().map_err(io)?
        } else if root.metadata(&spot.path).map_err(io)?.is_dir() {
            root.open_dir(&spot.path).map_err(io)?
        } else {
            let name = spot.path.file_name().map(PathBuf::from);
            ground.files.push(Candidate {
                below: name.unwrap_or_default(),
                path: spot.path,
            });
            return Ok(ground);
        };
        ground.walk(dir);
        ground.files.sort_by(|one, two| one.path.cmp(&two.path));
        Ok(ground)
    }

    /// Breadth first, so that what is near is found when there is too much. Folders that cannot
    /// be read are passed by.
    fn walk(&mut self, dir: Dir) {
        let mut open = VecDeque::from([(dir, PathBuf::new())]);
        let mut seen = 0;
        while let Some((dir, below)) = open.pop_front() {
            let Ok(entries) = dir.entries() else { continue };
            for entry in entries.flatten() {
                seen += 1;
                if seen > MAX_ENTRIES {
                    self.tired = true;
                    return;
                }
                let name = entry.file_name();
                let plain = name.to_string_lossy().to_lowercase();
                let Ok(kind) = entry.file_type() else {
                    continue;
                };
                if protected::is_closed(&plain) || plain == "node_modules" {
                    continue;
                }
                let below = below.join(&name);
                if kind.is_file() {
                    self.files.push(Candidate {
                        path: self.spot.path.join(&below),
                        below,
                    });
                } else if kind.is_dir() {
                    let room = open.len() < MAX_OPEN && below.components().count() < MAX_DEPTH;
                    match entry.open_dir() {
                        Ok(dir) if room => open.push_back((dir, below)),
                        Ok(_) => self.tired = true,
                        Err(error) => tracing::debug!(%error, "a folder is passed by"),
                    }
                }
            }
        }
    }
}

/// A pattern for names of files.
struct Names {
    regex: Regex,
    /// It has no separator: it is about the last part of a path, in whichever folder.
    anywhere: bool,
}

impl Names {
    fn parse(pattern: &str) -> Result<Self, FileError> {
        let pattern = pattern.trim().trim_start_matches("./");
        let bad = |reason: &str| FileError::Pattern {
            pattern: head(pattern, 200).to_owned(),
            reason: reason.to_owned(),
        };
        if pattern.is_empty() || pattern.len() > PATTERN_BYTES {
            return Err(bad("it is empty or too long"));
        }
        if pattern.starts_with('/') {
            return Err(bad("it is absolute; name the folder in path"));
        }
        Ok(Self {
            regex: compile(&translated(pattern), pattern)?,
            anywhere: !pattern.contains('/'),
        })
    }

    fn fits(&self, path: &Path) -> bool {
        let parts: Vec<_> = path
            .components()
            .map(|part| part.as_os_str().to_string_lossy())
            .collect();
        if self.anywhere {
            return parts.last().is_some_and(|name| self.regex.is_match(name));
        }
        self.regex.is_match(&parts.join("/"))
    }
}

/// `*` and `?` stay within a folder, `**` does not, `[…]` and `{…,…}` choose.
fn translated(pattern: &str) -> String {
    let mut out = String::from("^");
    let mut chars = pattern.chars().peekable();
    let mut braces = 0_usize;
    while let Some(c) = chars.next() {
        match c {
            '*' if chars.next_if_eq(&'*').is_some() => {
                if chars.next_if_eq(&'/').is_some() {
                    out.push_str("(?:.*/)?");
                } else {
                    out.push_str(".*");
                }
            }
            '*' => out.push_str("[^/]*"),
            '?' => out.push_str("[^/]"),
            '[' => {
                out.push('[');
                if chars.next_if(|c| *c == '!' || *c == '^').is_some() {
                    out.push('^');
                }
            }
            ']' | '-' => out.push(c),
            '{' => {
                braces += 1;
                out.push_str("(?:");
            }
            '}' if braces > 0 => {
                braces -= 1;
                out.push(')');
            }
            ',' if braces > 0 => out.push('|'),
            other => out.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
        }
    }
    out.push('$');
    out
}

fn compile(regex: &str, shown: &str) -> Result<Regex, FileError> {
    let bad = |reason: String| FileError::Pattern {
        pattern: head(shown, 200).to_owned(),
        reason,
    };
    if regex.len() > 4 * PATTERN_BYTES {
        return Err(bad("it is too long".into()));
    }
    RegexBuilder::new(regex)
        .size_limit(REGEX_BYTES)
        .dfa_size_limit(REGEX_BYTES)
        .build()
        .map_err(|error| {
            // The last line of a syntax error says what is wrong, those above show where.
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default();
            bad(last.trim_start_matches("error: ").to_owned())
        })
}

const MAX_FILES: usize = 500;
const MAX_LINES: usize = 200;
/// Files and folders that are looked at in one search.
const MAX_ENTRIES: usize = 20_000;
/// Folders that wait with an open handle.
const MAX_OPEN: usize = 500;
const MAX_DEPTH: usize = 32;
const SCANNED_BYTES: usize = 32 << 20;
const LINE_BYTES: usize = 300;
const PATTERN_BYTES: usize = 1000;
const REGEX_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    fn ground() -> (TempDir, Place) {
        let folder = TempDir::new().unwrap();
        let files = [
            ("a.md", "one\nTwo\n"),
            ("src/main.rs", "fn main() {}\n"),
            ("src/deep/lib.rs", "fn two() {}\n"),
            ("src/deep/note.md", "two\n"),
            (".git/config", "two\n"),
            (".env", "two\n"),
            ("node_modules/x/y.md", "two\n"),
        ];
        for (path, content) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        fs::write(folder.path().join("binary"), b"two\0").unwrap();
        let place = Place::open(folder.path(), &[]).unwrap();
        (folder, place)
    }

    #[test]
    fn files_are_found_by_patterns_as_shells_know_them() {
        let (_folder, place) = ground();
        for (pattern, folder, wanted) in [
            ("*.md", "", "a.md\nsrc/deep/note.md"),
            ("./a.*", "", "a.md"),
            ("src/*.rs", "", "src/main.rs"),
            ("**/*.rs", "", "src/deep/lib.rs\nsrc/main.rs"),
            (
                "src/**",
                "",
                "src/deep/lib.rs\nsrc/deep/note.md\nsrc/main.rs",
            ),
            ("*.{rs,txt}", "src/deep", "src/deep/lib.rs"),
            ("[l-n]*.rs", "src", "src/deep/lib.rs\nsrc/main.rs"),
            ("[!l]*.rs", "src", "src/main.rs"),
            ("?.md", ".", "a.md"),
            ("main.rs", "src/main.rs", "src/main.rs"),
            ("config", "", "(no files found)"),
        ] {
            assert_eq!(glob(&place, pattern, folder).unwrap(), wanted, "{pattern}");
        }
    }

    #[test]
    fn lines_are_found_with_their_place() {
        let (_folder, place) = ground();
        let found = |pattern, folder, only| grep(&place, pattern, folder, only).unwrap();
        assert_eq!(
            found("(?i)two", "", None),
            "a.md:2: Two\nsrc/deep/lib.rs:1: fn two() {}\nsrc/deep/note.md:1: two"
        );
        assert_eq!(
            found("^two$", "src", Some("*.md")),
            "src/deep/note.md:1: two"
        );
        assert_eq!(
            found("main", "src/main.rs", None),
            "src/main.rs:1: fn main() {}"
        );
        assert_eq!(found("three", "", None), "(no lines found)");
    }

    #[test]
    fn places_outside_and_protected_ones_are_not_searched() {
        let (_folder, place) = ground();
        for folder in ["..", "/etc", ".git", "src/../.."] {
            assert!(glob(&place, "*", folder).is_err(), "{folder}");
            assert!(grep(&place, ".", folder, None).is_err(), "{folder}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_are_not_followed_while_searching() {
        let (folder, place) = ground();
        let outer = TempDir::new().unwrap();
        fs::write(outer.path().join("secret.md"), "two\n").unwrap();
        for (to, name) in [
            (outer.path().to_owned(), "out"),
            (outer.path().join("secret.md"), "out.md"),
            (PathBuf::from("."), "loop"),
        ] {
            std::os::unix::fs::symlink(to, folder.path().join(name)).unwrap();
        }
        assert_eq!(glob(&place, "*.md", "").unwrap(), "a.md\nsrc/deep/note.md");
        assert!(!grep(&place, "two", "", None).unwrap().contains("out"));
    }

    #[test]
    fn bad_patterns_are_told_and_huge_ones_cost_nothing() {
        let (_folder, place) = ground();
        for pattern in ["", "/etc/*", "[", "{a", &"*".repeat(5000)] {
            assert!(glob(&place, pattern, "").is_err(), "{pattern:.10}");
        }
        for pattern in ["(", "(a{1000}){1000}", &"x".repeat(100_000)] {
            let error = grep(&place, pattern, "", None).unwrap_err();
            assert!(matches!(error, FileError::Pattern { .. }), "{error}");
        }
    }

    #[test]
    fn a_search_with_too_many_results_says_so() {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("many"), "x\n".repeat(1000)).unwrap();
        for n in 0..MAX_FILES + 5 {
            fs::write(folder.path().join(format!("f{n}.txt")), "").unwrap();
        }
        let place = Place::open(folder.path(), &[]).unwrap();
        let lines = grep(&place, "x", "", None).unwrap();
        assert_eq!(lines.lines().count(), MAX_LINES + 1);
        let files = glob(&place, "*.txt", "").unwrap();
        assert!(files.ends_with("(there may be more; look for less)"));
    }
}
