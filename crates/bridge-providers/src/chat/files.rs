//! What a model reads and changes: text files of a bearable size. A change is worked out first,
//! shown to a person, and made only if the file still is what it was worked out from.

use std::{
    io::{self, Read as _, Write as _},
    path::Path,
};

use cap_std::fs::{Dir, OpenOptions};

use super::{
    place::{FileError, Place, Spot, fault},
    tools::Deed,
};
use crate::plain::head;

/// A change that was worked out and not yet made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    spot: Spot,
    /// The absolute path.
    pub(super) shown: String,
    /// What stands there now; `None` for a new file.
    pub(super) old: Option<String>,
    /// What shall stand there.
    pub(super) new: String,
}

impl Place {
    /// The lines of a text file, with a word about what was left out.
    pub(super) fn read(&self, path: &str, from: usize, lines: usize) -> Result<String, FileError> {
        let spot = self.existing(path)?;
        let text = self.text(&spot, path)?;
        let all = text.lines().count();
        let wanted: Vec<&str> = text
            .split_inclusive('\n')
            .skip(from - 1)
            .take(lines)
            .collect();
        let whole = wanted.concat();
        let shown = head(&whole, READ_BYTES);
        let last = from - 1 + shown.lines().count();
        let cut = shown.len() < whole.len();
        if text.is_empty() {
            return Ok("(the file is empty)".into());
        }
        if from > all {
            return Ok(format!("(the file has only {all} lines)"));
        }
        if from == 1 && last == all && !cut {
            return Ok(shown.to_owned());
        }
        Ok(format!(
            "{shown}\n(lines {from} to {last} of {all}; go on with offset {})",
            last + usize::from(!cut)
        ))
    }

    /// Works out what a write or an edit would change.
    pub(super) fn prepare(&self, deed: &Deed) -> Result<Change, FileError> {
        let path = deed.path();
        let spot = self.new_or_existing(path)?;
        let old = match self.text(&spot, path) {
            Ok(text) => Some(text),
            Err(FileError::Missing { .. }) => None,
            Err(error) => return Err(error),
        };
        let owned = || path.to_owned();
        let new = match deed {
            Deed::Write { content, .. } => content.clone(),
            Deed::Edit {
                old: wanted,
                new,
                every,
                ..
            } => {
                let text = old
                    .as_deref()
                    .ok_or_else(|| FileError::Missing { path: owned() })?;
                let count = if wanted.is_empty() {
                    0
                } else {
                    text.matches(wanted.as_str()).count()
                };
                if count == 0 || (count > 1 && !every) {
                    return Err(FileError::NotOnce {
                        path: owned(),
                        count,
                    });
                }
                text.replace(wanted.as_str(), new)
            }
            Deed::Read { .. } | Deed::Glob { .. } | Deed::Grep { .. } => {
                return Err(FileError::NoPath { path: owned() });
            }
        };
        if new.len() as u64 > FILE_BYTES {
            return Err(FileError::TooLarge {
                path: owned(),
                bytes: new.len() as u64,
            });
        }
        if old.as_ref() == Some(&new) {
            return Err(FileError::Same { path: owned() });
        }
        Ok(Change {
            shown: self.absolute(&spot).display().to_string(),
            spot,
            old,
            new,
        })
    }

    /// Makes a change, if the file still is what it was worked out from: afterwards the old or
    /// the new content is there, never a part.
    pub(super) fn apply(&self, change: &Change) -> Result<(), FileError> {
        let shown = &change.shown;
        let present = match self.text(&change.spot, shown) {
            Ok(text) => Some(text),
            Err(FileError::Missing { .. }) => None,
            Err(error) => return Err(error),
        };
        if present != change.old {
            return Err(FileError::Changed {
                path: shown.clone(),
            });
        }
        let root = self.root(&change.spot);
        replace(&root.dir, &change.spot.path, change.new.as_bytes())
            .map_err(|error| fault(shown, error))
    }

    /// The whole text of a regular file.
    pub(super) fn text(&self, spot: &Spot, shown: &str) -> Result<String, FileError> {
        text_of(&self.root(spot).dir, &spot.path, shown)
    }
}

/// The whole text of a regular file; pipes and devices are never opened.
pub(super) fn text_of(dir: &Dir, path: &Path, shown: &str) -> Result<String, FileError> {
    let io = |error| fault(shown, error);
    let named = || shown.to_owned();
    if path.as_os_str().is_empty() {
        return Err(FileError::NotAFile { path: named() });
    }
    let meta = dir.metadata(path).map_err(io)?;
    if !meta.is_file() {
        return Err(FileError::NotAFile { path: named() });
    }
    if meta.len() > FILE_BYTES {
        return Err(FileError::TooLarge {
            path: named(),
            bytes: meta.len(),
        });
    }
    let mut bytes = Vec::new();
    let file = dir.open(path).map_err(io)?;
    file.take(FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(io)?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(FileError::TooLarge {
            path: named(),
            bytes: bytes.len() as u64,
        });
    }
    if bytes.contains(&0) {
        return Err(FileError::Binary { path: named() });
    }
    String::from_utf8(bytes).map_err(|_| FileError::Binary { path: named() })
}

/// Writes beside the file and renames; what the file may be used for stays as it was.
fn replace(dir: &Dir, path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or_else(|| Path::new(""));
    if !folder.as_os_str().is_empty() {
        dir.create_dir_all(folder)?;
    }
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let number = u64::from_ne_bytes(random);
    let temporary = folder.join(format!(".ctrlnode-{number:016x}.tmp"));
    let written = (|| {
        let options = OpenOptions::new().write(true).create_new(true).clone();
        let mut file = dir.open_with(&temporary, &options)?;
        if let Ok(old) = dir.metadata(path) {
            file.set_permissions(old.permissions())?;
        }
        file.write_all(content)?;
        drop(file);
        dir.rename(&temporary, dir, path)
    })();
    if written.is_err()
        && let Err(error) = dir.remove_file(&temporary)
    {
        tracing::debug!(%error, "an unfinished file stays behind");
    }
    written
}

/// Of a file that is read or written.
pub(super) const FILE_BYTES: u64 = 1 << 20;
/// Of a file that is shown at once.
const READ_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::chat::stage::{place, write};

    fn edit(old: &str, every: bool) -> Deed {
        Deed::Edit {
            path: "a.txt".into(),
            old: old.into(),
            new: "new".into(),
            every,
        }
    }

    #[test]
    fn only_text_files_of_a_bearable_size_are_read() {
        let (folder, place) = place();
        fs::write(folder.path().join("binary"), b"a\0b").unwrap();
        fs::write(folder.path().join("latin"), b"caf\xe9").unwrap();
        fs::write(folder.path().join("large"), vec![b'x'; (1 << 20) + 1]).unwrap();
        fs::create_dir(folder.path().join("folder")).unwrap();
        let error = |path| place.read(path, 1, 9).unwrap_err();
        assert!(matches!(error("binary"), FileError::Binary { .. }));
        assert!(matches!(error("latin"), FileError::Binary { .. }));
        assert!(matches!(error("large"), FileError::TooLarge { .. }));
        assert!(matches!(error("folder"), FileError::NotAFile { .. }));
        assert!(matches!(error("gone"), FileError::Missing { .. }));
        assert!(matches!(error(""), FileError::NotAFile { .. }));
        let large = place.prepare(&write("new", &"x".repeat((1 << 20) + 1)));
        assert!(matches!(large, Err(FileError::TooLarge { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_not_waited_for() {
        let (folder, place) = place();
        let made = rustix::fs::mknodat(
            rustix::fs::CWD,
            folder.path().join("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        );
        made.unwrap();
        let error = place.read("pipe", 1, 9).unwrap_err();
        assert!(matches!(error, FileError::NotAFile { .. }));
    }

    #[test]
    fn a_long_file_is_read_piece_by_piece() {
        let (folder, place) = place();
        let lines: Vec<String> = (1..=10).map(|n| format!("line {n}\n")).collect();
        fs::write(folder.path().join("a"), lines.concat()).unwrap();
        let part = place.read("a", 3, 2).unwrap();
        assert_eq!(
            part,
            "line 3\nline 4\n\n(lines 3 to 4 of 10; go on with offset 5)"
        );
        assert!(place.read("a", 1, 100).unwrap().ends_with("line 10\n"));
        assert_eq!(
            place.read("a", 11, 2).unwrap(),
            "(the file has only 10 lines)"
        );
        fs::write(folder.path().join("wide"), "x".repeat(100_000)).unwrap();
        assert!(place.read("wide", 1, 9).unwrap().len() < 70_000);
    }

    #[test]
    fn an_edit_replaces_what_stands_there_once() {
        let (folder, place) = place();
        let file = folder.path().join("a.txt");
        fs::write(&file, "one old\ntwo old\n").unwrap();
        for (wanted, count) in [("old", 2), ("absent", 0), ("", 0)] {
            match place.prepare(&edit(wanted, false)) {
                Err(FileError::NotOnce { count: found, .. }) => assert_eq!(found, count),
                other => panic!("{other:?}"),
            }
        }
        place
            .apply(&place.prepare(&edit("one old", false)).unwrap())
            .unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new\ntwo old\n");
        place
            .apply(&place.prepare(&edit("o", true)).unwrap())
            .unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new\ntwnew newld\n");
        let same = place.prepare(&write("a.txt", "new\ntwnew newld\n"));
        assert!(matches!(same, Err(FileError::Same { .. })));
    }

    #[test]
    fn what_was_shown_to_a_person_is_what_is_changed_or_nothing_is() {
        let (folder, place) = place();
        let file = folder.path().join("a.txt");
        fs::write(&file, "old").unwrap();
        let change = place.prepare(&edit("old", false)).unwrap();
        fs::write(&file, "something else").unwrap();
        assert!(matches!(
            place.apply(&change),
            Err(FileError::Changed { .. })
        ));
        let fresh = place.prepare(&write("b.txt", "x")).unwrap();
        fs::write(folder.path().join("b.txt"), "first").unwrap();
        assert!(matches!(
            place.apply(&fresh),
            Err(FileError::Changed { .. })
        ));
        assert_eq!(fs::read_to_string(&file).unwrap(), "something else");
    }

    #[cfg(unix)]
    #[test]
    fn a_script_stays_executable_and_nothing_unfinished_is_left() {
        use std::os::unix::fs::PermissionsExt as _;

        let (folder, place) = place();
        let file = folder.path().join("run.sh");
        fs::write(&file, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        place
            .apply(&place.prepare(&write("run.sh", "#!/bin/bash\n")).unwrap())
            .unwrap();
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o755
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
