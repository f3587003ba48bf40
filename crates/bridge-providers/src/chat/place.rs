//! The folders a model may work in, each an open handle that nothing leads out of: no `..`, no
//! absolute path, no symbolic link. What is protected stays closed inside as well: git internals,
//! files that hold secrets, and for changes the settings of agents.

use std::{
    io::{self, Read as _, Write as _},
    path::{Component, Path, PathBuf},
};

use cap_std::{
    ambient_authority,
    fs::{Dir, OpenOptions},
};
use thiserror::Error;

use super::{protected, tools::Deed};
use crate::plain::head;

/// The working directory, and further folders of the run.
#[derive(Debug)]
pub(super) struct Place {
    /// The working directory first; never empty.
    roots: Vec<Root>,
}

#[derive(Debug)]
pub(super) struct Root {
    /// As it was named.
    pub(super) path: PathBuf,
    /// Without links.
    real: PathBuf,
    pub(super) dir: Dir,
}

/// A file or folder inside, links resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spot {
    root: usize,
    /// Relative to the root; empty for the root itself.
    pub(super) path: PathBuf,
}

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

/// Why something was not done. The text is for the model and for a person.
#[derive(Debug, Error)]
pub(super) enum FileError {
    /// The path climbs, is too long or has odd characters.
    #[error("{path:?} is not a path inside the working directory")]
    NoPath { path: String },
    /// It leads out.
    #[error("{path:?} lies outside of the working directory")]
    Outside { path: String },
    /// It is kept from models.
    #[error("{path:?} is protected")]
    Protected { path: String },
    /// Nothing is there.
    #[error("{path:?} does not exist")]
    Missing { path: String },
    /// A folder or something else stands where a file is needed.
    #[error("{path:?} is not a regular file")]
    NotAFile { path: String },
    /// A file stands where a folder is needed.
    #[error("{path:?} is not a folder")]
    NotAFolder { path: String },
    /// More than is read or written.
    #[error("{path:?} is too large: {bytes} bytes, at most {FILE_BYTES} are taken")]
    TooLarge { path: String, bytes: u64 },
    /// Not text.
    #[error("{path:?} is a binary file")]
    Binary { path: String },
    /// The text to replace is not there, or more than once.
    #[error("old_string stands {count} times in {path:?}, it must stand there exactly once")]
    NotOnce { path: String, count: usize },
    /// Nothing would change.
    #[error("{path:?} has this content already")]
    Same { path: String },
    /// The file is not as it was when a person was asked.
    #[error("{path:?} has changed meanwhile; read it again")]
    Changed { path: String },
    /// A pattern nobody can look for.
    #[error("the pattern {pattern:?} cannot be used: {reason}")]
    Pattern { pattern: String, reason: String },
    /// The system said no.
    #[error("{path:?} cannot be used: {source}")]
    Io { path: String, source: io::Error },
}

impl Place {
    /// Opens the working directory and the folders beside it; of these, those that exist.
    pub(super) fn open(directory: &Path, extra: &[PathBuf]) -> io::Result<Self> {
        let mut roots = vec![Root::open(directory)?];
        for folder in extra.iter().take(MAX_ROOTS) {
            match Root::open(folder) {
                Ok(root) => roots.push(root),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self { roots })
    }

    /// The working directory as it was named.
    pub(super) fn directory(&self) -> &Path {
        self.roots
            .first()
            .map_or_else(|| Path::new(""), |root| &root.path)
    }

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

    /// A file or folder that exists.
    pub(super) fn existing(&self, path: &str) -> Result<Spot, FileError> {
        let named = self.named(path)?;
        let spot = self.resolve(&named, path)?;
        guard(&spot.path, protected::is_closed, path)?;
        Ok(spot)
    }

    /// A file that may have to be made: the deepest folder that exists is resolved.
    fn new_or_existing(&self, path: &str) -> Result<Spot, FileError> {
        let named = self.named(path)?;
        guard(&named.path, protected::is_unchanged, path)?;
        let dir = &self.root(&named).dir;
        for kept in named.path.ancestors() {
            let deepest = Spot {
                root: named.root,
                path: kept.to_owned(),
            };
            match self.resolve(&deepest, path) {
                Ok(real) => {
                    let rest = named
                        .path
                        .strip_prefix(kept)
                        .unwrap_or_else(|_| Path::new(""));
                    let spot = Spot {
                        root: named.root,
                        path: if rest.as_os_str().is_empty() {
                            real.path
                        } else {
                            real.path.join(rest)
                        },
                    };
                    guard(&spot.path, protected::is_closed, path)?;
                    guard(&spot.path, protected::is_unchanged, path)?;
                    return Ok(spot);
                }
                // A link to nowhere would be followed by whoever opens it.
                Err(FileError::Missing { .. }) if dir.symlink_metadata(kept).is_ok() => {
                    return Err(FileError::Outside { path: path.into() });
                }
                Err(FileError::Missing { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(FileError::Missing { path: path.into() })
    }

    /// Parses what a model wrote, without looking at the disk. An absolute path is one inside a
    /// folder of ours or refused.
    fn named(&self, text: &str) -> Result<Spot, FileError> {
        let odd = || FileError::NoPath {
            path: head(text, 200).to_owned(),
        };
        let text = text.trim();
        let strange = text.chars().any(char::is_control) || (cfg!(unix) && text.contains('\\'));
        if text.len() > PATH_BYTES || strange {
            return Err(odd());
        }
        let path = Path::new(text);
        let (root, rest) = if path.has_root() || path.is_absolute() {
            let inside = self.roots.iter().enumerate().find_map(|(at, root)| {
                let rest = path
                    .strip_prefix(&root.path)
                    .or_else(|_| path.strip_prefix(&root.real));
                Some((at, rest.ok()?))
            });
            inside.ok_or_else(|| FileError::Outside {
                path: text.to_owned(),
            })?
        } else {
            (0, path)
        };
        let mut parts = PathBuf::new();
        for component in rest.components() {
            match component {
                Component::CurDir => {}
                Component::Normal(name) => {
                    let dots = name.as_encoded_bytes().iter().all(|byte| *byte == b'.');
                    if dots {
                        return Err(odd());
                    }
                    parts.push(name);
                }
                Component::Prefix(_) | Component::RootDir | Component::ParentDir => {
                    return Err(odd());
                }
            }
        }
        if parts.components().count() > PATH_PARTS {
            return Err(odd());
        }
        guard(&parts, protected::is_closed, text)?;
        Ok(Spot { root, path: parts })
    }

    fn resolve(&self, spot: &Spot, shown: &str) -> Result<Spot, FileError> {
        if spot.path.as_os_str().is_empty() {
            return Ok(spot.clone());
        }
        let real = self.root(spot).dir.canonicalize(&spot.path);
        Ok(Spot {
            root: spot.root,
            path: real.map_err(|error| fault(shown, error))?,
        })
    }

    /// The whole text of a regular file.
    pub(super) fn text(&self, spot: &Spot, shown: &str) -> Result<String, FileError> {
        text_of(&self.root(spot).dir, &spot.path, shown)
    }

    /// The folder a spot lies in.
    pub(super) fn root(&self, spot: &Spot) -> &Root {
        self.roots
            .get(spot.root)
            .expect("spots are made from the roots")
    }

    /// Where a spot is, absolutely.
    pub(super) fn absolute(&self, spot: &Spot) -> PathBuf {
        self.root(spot).path.join(&spot.path)
    }

    /// How a path below a spot's root is shown: relative in the working directory, else absolute.
    pub(super) fn shown(&self, spot: &Spot, path: &Path) -> String {
        if spot.root == 0 {
            path.display().to_string()
        } else {
            self.root(spot).path.join(path).display().to_string()
        }
    }
}

impl Root {
    fn open(path: &Path) -> io::Result<Self> {
        let real = path.canonicalize()?;
        let dir = Dir::open_ambient_dir(&real, ambient_authority())?;
        Ok(Self {
            path: path.to_owned(),
            real,
            dir,
        })
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

pub(super) fn fault(path: &str, error: io::Error) -> FileError {
    let path = path.to_owned();
    let kind = error.kind();
    if kind == io::ErrorKind::NotFound {
        FileError::Missing { path }
    } else if kind == io::ErrorKind::NotADirectory {
        FileError::NotAFolder { path }
    } else if kind == io::ErrorKind::IsADirectory {
        FileError::NotAFile { path }
    } else if kind == io::ErrorKind::PermissionDenied && error.raw_os_error().is_none() {
        // A refusal without a number of the system is that of the handle.
        FileError::Outside { path }
    } else {
        FileError::Io {
            path,
            source: error,
        }
    }
}

fn guard(path: &Path, rule: fn(&str) -> bool, shown: &str) -> Result<(), FileError> {
    if protected::any(path, rule) {
        return Err(FileError::Protected {
            path: shown.to_owned(),
        });
    }
    Ok(())
}

/// Of a file that is read or written.
pub(super) const FILE_BYTES: u64 = 1 << 20;
/// Of a file that is shown at once.
const READ_BYTES: usize = 64 << 10;
const PATH_BYTES: usize = 4096;
const PATH_PARTS: usize = 64;
const MAX_ROOTS: usize = 16;

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    fn place() -> (TempDir, Place) {
        let folder = TempDir::new().unwrap();
        let place = Place::open(folder.path(), &[]).unwrap();
        (folder, place)
    }

    fn write(path: &str, content: &str) -> Deed {
        Deed::Write {
            path: path.into(),
            content: content.into(),
        }
    }

    fn edit(old: &str, every: bool) -> Deed {
        Deed::Edit {
            path: "a.txt".into(),
            old: old.into(),
            new: "new".into(),
            every,
        }
    }

    fn refused(place: &Place, path: &str) -> [FileError; 2] {
        [
            place.read(path, 1, 10).unwrap_err(),
            place.prepare(&write(path, "x")).unwrap_err(),
        ]
    }

    #[test]
    fn paths_that_lead_out_are_refused_however_they_are_written() {
        let outer = TempDir::new().unwrap();
        fs::write(outer.path().join("secret"), "s").unwrap();
        let folder = outer.path().join("in");
        fs::create_dir(&folder).unwrap();
        let place = Place::open(&folder, &[]).unwrap();
        let absolute = outer.path().join("secret").display().to_string();
        let sibling = format!("{}-sibling/x", folder.display());
        for path in [
            "../secret",
            "a/../../secret",
            "....//secret",
            ".../x",
            "..",
            "./..",
            "a/..",
            "..\\secret",
            "/etc/passwd",
            "//etc/passwd",
            &absolute,
            &sibling,
            &format!("{}/../secret", folder.display()),
            "a\0b",
            &"x/".repeat(100),
            &"x".repeat(5000),
        ] {
            for error in refused(&place, path) {
                let inside = matches!(error, FileError::NoPath { .. } | FileError::Outside { .. });
                assert!(inside, "{path:?}: {error}");
            }
        }
        assert_eq!(
            fs::read_to_string(outer.path().join("secret")).unwrap(),
            "s"
        );
        assert_eq!(
            fs::read_dir(&folder).unwrap().count(),
            0,
            "nothing was made"
        );
    }

    #[cfg(unix)]
    #[test]
    fn links_that_lead_out_are_refused_and_links_inside_are_followed() {
        use std::os::unix::fs::symlink;

        let outer = TempDir::new().unwrap();
        fs::write(outer.path().join("secret"), "s").unwrap();
        let folder = outer.path().join("in");
        fs::create_dir_all(folder.join(".git")).unwrap();
        fs::write(folder.join(".git/config"), "c").unwrap();
        fs::write(folder.join("real.txt"), "r").unwrap();
        for (to, name) in [
            ("../secret", "up"),
            ("/etc", "etc"),
            ("..", "parent"),
            ("../new", "nowhere"),
            (".git", "git"),
            ("real.txt", "good"),
        ] {
            symlink(to, folder.join(name)).unwrap();
        }
        let place = Place::open(&folder, &[]).unwrap();
        for path in ["up", "etc/passwd", "parent/secret", "nowhere"] {
            for error in refused(&place, path) {
                let out = matches!(error, FileError::Outside { .. } | FileError::Missing { .. });
                assert!(out, "{path}: {error:?}");
            }
        }
        for error in refused(&place, "git/config") {
            assert!(matches!(error, FileError::Protected { .. }), "{error}");
        }
        assert_eq!(place.read("good", 1, 10).unwrap(), "r");
        let change = place.prepare(&write("good", "n")).unwrap();
        place.apply(&change).unwrap();
        assert_eq!(fs::read_to_string(folder.join("real.txt")).unwrap(), "n");
        assert!(folder.join("good").is_symlink(), "the link is still one");
    }

    #[test]
    fn absolute_paths_inside_and_in_further_folders_are_taken() {
        let (folder, extra) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let gone = extra.path().join("gone");
        let place = Place::open(folder.path(), &[extra.path().to_owned(), gone]).unwrap();
        for root in [folder.path(), extra.path()] {
            let path = root.join("deep/a.txt").display().to_string();
            let change = place.prepare(&write(&path, "x")).unwrap();
            assert_eq!(change.shown, path);
            place.apply(&change).unwrap();
            assert_eq!(place.read(&path, 1, 9).unwrap(), "x");
        }
    }

    #[test]
    fn protected_names_are_neither_read_nor_written() {
        let (folder, place) = place();
        fs::create_dir(folder.path().join(".git")).unwrap();
        fs::write(folder.path().join(".git/config"), "x").unwrap();
        for path in [
            ".git/config",
            ".GIT/config",
            "sub/.git/hooks/pre-commit",
            ".env",
            ".env.local",
            "a/.Env",
            ".env. ",
            ".ssh/id_ed25519",
            "server.pem",
            "tls.key",
            ".npmrc",
        ] {
            for error in refused(&place, path) {
                assert!(
                    matches!(error, FileError::Protected { .. }),
                    "{path}: {error}"
                );
            }
        }
        for path in [".env.example", "keys.md", ".gitignore", "monkey"] {
            assert!(place.prepare(&write(path, "x")).is_ok(), "{path}");
        }
        fs::create_dir(folder.path().join(".claude")).unwrap();
        fs::write(folder.path().join(".claude/settings.json"), "{}").unwrap();
        assert!(place.read(".claude/settings.json", 1, 9).is_ok());
        let error = place.prepare(&write(".claude/settings.json", "x"));
        assert!(matches!(error, Err(FileError::Protected { .. })));
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
