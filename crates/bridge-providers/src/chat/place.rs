//! The folders a model may work in, each an open handle that nothing leads out of: no `..`, no
//! absolute path, no symbolic link. What is protected stays closed inside as well: git internals,
//! files that hold secrets, and for changes the settings of agents.

use std::{
    io,
    path::{Component, Path, PathBuf},
};

use cap_std::{ambient_authority, fs::Dir};
use thiserror::Error;

use super::{files::FILE_BYTES, protected};
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

    /// A file or folder that exists.
    pub(super) fn existing(&self, path: &str) -> Result<Spot, FileError> {
        let named = self.named(path)?;
        let spot = self.resolve(&named, path)?;
        guard(&spot.path, protected::is_closed, path)?;
        Ok(spot)
    }

    /// A file that may have to be made: the deepest folder that exists is resolved.
    pub(super) fn new_or_existing(&self, path: &str) -> Result<Spot, FileError> {
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

const PATH_BYTES: usize = 4096;
const PATH_PARTS: usize = 64;
const MAX_ROOTS: usize = 16;

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::chat::stage::{place, write};

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
}
