//! What git prints of the state of a working tree, in its form for programs (`-z`).

use std::collections::HashMap;

use bridge_proto::model::GitFile;
use thiserror::Error;

/// What `status --porcelain=v2 --branch -z` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Porcelain {
    /// The branch that is out.
    pub branch: Option<String>,
    /// What it follows.
    pub upstream: Option<String>,
    /// Commits the upstream does not have.
    pub ahead: u64,
    /// Commits only the upstream has.
    pub behind: u64,
    /// What differs; no lines are counted yet.
    pub files: Vec<GitFile>,
}

/// Git printed something that is no status.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("git printed a status that cannot be read: {entry:?}")]
pub struct PorcelainError {
    /// The entry, shortened.
    pub entry: String,
}

impl Porcelain {
    /// Reads a whole status. Names that are not UTF-8 get replacement characters: the wire has no
    /// way to write them.
    pub fn parse(printed: &[u8]) -> Result<Self, PorcelainError> {
        let mut status = Self::default();
        let mut entries = printed
            .split(|byte| *byte == 0)
            .map(String::from_utf8_lossy)
            .filter(|entry| !entry.is_empty());
        while let Some(entry) = entries.next() {
            let odd = || PorcelainError {
                entry: entry.chars().take(80).collect(),
            };
            let (kind, rest) = entry.split_once(' ').ok_or_else(odd)?;
            let file = match kind {
                "#" => {
                    status.header(rest);
                    continue;
                }
                "1" => changed(rest, 6),
                "2" => changed(rest, 7).and_then(|file| {
                    let original = entries.next()?.into_owned();
                    Some(GitFile {
                        original: Some(original),
                        ..file
                    })
                }),
                "u" => changed(rest, 8).map(|file| GitFile {
                    conflicted: true,
                    ..file
                }),
                "?" => Some(file('?', '?', rest)),
                "!" => continue,
                _ => None,
            };
            status.files.push(file.ok_or_else(odd)?);
        }
        Ok(status)
    }

    fn header(&mut self, text: &str) {
        let Some((name, value)) = text.split_once(' ') else {
            return;
        };
        match name {
            "branch.head" if value != "(detached)" => self.branch = Some(value.to_owned()),
            "branch.upstream" => self.upstream = Some(value.to_owned()),
            "branch.ab" => {
                let mut counts = value
                    .split(' ')
                    .map(|count| count.trim_start_matches(['+', '-']).parse().unwrap_or(0));
                self.ahead = counts.next().unwrap_or(0);
                self.behind = counts.next().unwrap_or(0);
            }
            // Other headers are for other readers.
            _ => {}
        }
    }

    /// Whether anything differs in the index.
    pub fn any_staged(&self) -> bool {
        self.files
            .iter()
            .any(|file| !matches!(file.staged, '.' | '?'))
    }

    /// Whether anything differs in the working tree, new files left out.
    pub fn any_unstaged(&self) -> bool {
        self.files
            .iter()
            .any(|file| !matches!(file.unstaged, '.' | '?'))
    }

    /// Adds counted lines to the files they were counted in.
    pub fn count(&mut self, counts: &LineCounts) {
        for file in self.files.iter_mut().filter(|file| !file.untracked()) {
            let Some(counted) = counts.0.get(&file.path) else {
                continue;
            };
            file.added = file.added.saturating_add(counted.added);
            file.deleted = file.deleted.saturating_add(counted.deleted);
            file.binary |= counted.binary;
        }
    }
}

/// `XY`, then `fields` others, then the path, which may hold spaces.
fn changed(rest: &str, fields: usize) -> Option<GitFile> {
    let mut words = rest.splitn(fields + 2, ' ');
    let mut letters = words.next()?.chars();
    let (staged, unstaged) = (letters.next()?, letters.next()?);
    let path = words.nth(fields)?;
    Some(file(staged, unstaged, path))
}

fn file(staged: char, unstaged: char, path: &str) -> GitFile {
    GitFile {
        path: path.to_owned(),
        staged,
        unstaged,
        conflicted: false,
        original: None,
        added: 0,
        deleted: 0,
        binary: false,
    }
}

/// Lines added and deleted, by file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LineCounts(HashMap<String, Counted>);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counted {
    added: u64,
    deleted: u64,
    binary: bool,
}

impl LineCounts {
    /// Reads what `diff --numstat -z` printed. What cannot be read is not counted.
    pub fn parse(printed: &[u8]) -> Self {
        let mut counts = HashMap::new();
        let mut words = printed
            .split(|byte| *byte == 0)
            .map(String::from_utf8_lossy);
        while let Some(word) = words.next() {
            let mut parts = word.splitn(3, '\t');
            let (Some(added), Some(deleted), Some(path)) =
                (parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            let counted = Counted {
                added: added.parse().unwrap_or(0),
                deleted: deleted.parse().unwrap_or(0),
                binary: added == "-" && deleted == "-",
            };
            let path = if path.is_empty() {
                // A rename: the old name and the new one follow by themselves.
                words.next();
                words.next().map(std::borrow::Cow::into_owned)
            } else {
                Some(path.to_owned())
            };
            if let Some(path) = path {
                let sum: &mut Counted = counts.entry(path).or_default();
                sum.added = sum.added.saturating_add(counted.added);
                sum.deleted = sum.deleted.saturating_add(counted.deleted);
                sum.binary |= counted.binary;
            }
        }
        Self(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASHES: &str = "100644 100644 100644 aaaa bbbb";

    #[test]
    fn every_sort_of_entry_is_read_with_its_name_as_it_is() {
        let printed = format!(
            "# branch.oid abc\0# branch.head fix/größe\0# branch.upstream origin/x\0# branch.ab +2 -3\0\
             1 .M N... {HASHES} a \"b\" \u{1f98a}.ts\0\
             2 R. N... {HASHES} R100 new\nline\0old name\0\
             u UU N... 100644 100644 100644 100644 aaaa bbbb cccc both ways\0\
             ? sub/new file\0"
        );
        let status = Porcelain::parse(printed.as_bytes()).unwrap();
        let seen: Vec<_> = status
            .files
            .iter()
            .map(|f| (f.path.as_str(), f.staged, f.unstaged, f.conflicted))
            .collect();
        assert_eq!(
            seen,
            [
                ("a \"b\" \u{1f98a}.ts", '.', 'M', false),
                ("new\nline", 'R', '.', false),
                ("both ways", 'U', 'U', true),
                ("sub/new file", '?', '?', false),
            ]
        );
        assert_eq!(status.files[1].original.as_deref(), Some("old name"));
        assert_eq!(
            (status.branch.as_deref(), status.upstream.as_deref()),
            (Some("fix/größe"), Some("origin/x"))
        );
        assert_eq!((status.ahead, status.behind), (2, 3));
        assert!(status.any_staged() && status.any_unstaged());
    }

    #[test]
    fn without_a_branch_there_is_none() {
        let status = Porcelain::parse(b"# branch.oid abc\0# branch.head (detached)\0").unwrap();
        assert_eq!(status, Porcelain::default());
    }

    #[test]
    fn what_is_no_status_is_an_error_and_not_a_clean_tree() {
        for printed in [
            "1 .M N...\0",
            "2 R. N... x\0",
            "?\0",
            "fatal: no\0",
            "x y\0",
        ] {
            assert!(Porcelain::parse(printed.as_bytes()).is_err(), "{printed:?}");
        }
    }

    #[test]
    fn lines_are_summed_by_file_and_a_rename_counts_for_its_new_name() {
        let mut status =
            Porcelain::parse(format!("1 MM N... {HASHES} a\tb\0? c\0").as_bytes()).unwrap();
        status.count(&LineCounts::parse(b"3\t1\ta\tb\0-\t-\tc\0"));
        status.count(&LineCounts::parse(b"2\t0\t\0old\0a\tb\0"));
        assert_eq!((status.files[0].added, status.files[0].deleted), (5, 1));
        assert_eq!((status.files[1].added, status.files[1].binary), (0, false));
    }

    #[test]
    fn a_name_that_is_no_text_is_shown_with_replacement_characters() {
        let status = Porcelain::parse(b"? a\xff\0").unwrap();
        assert_eq!(status.files[0].path, "a\u{fffd}");
    }
}
