//! Paths proven to stay beneath an open folder: parsed into components, then resolved from the
//! folder's handle. No text is ever compared with a prefix.
//!
//! Two steps, two types. [`ContainedPath`] is the text, parsed: it has no way up and no root of its
//! own. [`Folder`] is an open directory: [`Folder::resolve`] follows links as far as they stay
//! inside and gives the real path; every other call walks one component at a time and follows no
//! link at all, so that nothing can be swapped between the check and the use.

use std::{
    fmt,
    fs::File,
    io::{self, Write as _},
    path::{Component, Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use cap_std::{ambient_authority, fs::Dir};
use thiserror::Error;

use crate::sys::{self, Access};

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
        let bytes = text.as_bytes();
        let drive = bytes.len() >= 2 && bytes[0].is_ascii_alphabetic() && bytes[1] == b':';
        if text.starts_with('/') || drive {
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

    /// The path with one more name at its end. The name must be a single component.
    pub fn child(&self, name: &str) -> Result<Self, PathFault> {
        let mut child = Self::parse(name)?;
        if child.parts.len() != 1 {
            return Err(PathFault::Empty);
        }
        child.parts.splice(0..0, self.parts.iter().cloned());
        Ok(child)
    }

    /// In the system's form, relative.
    pub fn to_path(&self) -> PathBuf {
        self.parts.iter().collect()
    }

    fn from_real(path: &Path) -> Option<Self> {
        let mut parts = Vec::new();
        for component in path.components() {
            match component {
                Component::CurDir => {}
                Component::Normal(name) => parts.push(name.to_str()?.to_owned()),
                Component::Prefix(_) | Component::RootDir | Component::ParentDir => return None,
            }
        }
        Some(Self { parts })
    }

    fn split_last(&self) -> Result<(&[String], &str), ContainError> {
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

/// Why something beneath a folder could not be reached.
#[derive(Debug, Error)]
pub enum ContainError {
    /// Nothing is there.
    #[error("{path:?} does not exist")]
    Missing {
        /// Relative to the folder.
        path: String,
    },
    /// A symbolic link stands where none may be followed.
    #[error("{path:?} is a symbolic link")]
    Link {
        /// Relative to the folder.
        path: String,
    },
    /// A symbolic link leads outside.
    #[error("{path:?} leads outside of its folder")]
    Outside {
        /// Relative to the folder.
        path: String,
    },
    /// A file stands where a folder is needed.
    #[error("{path:?} is not a folder")]
    NotAFolder {
        /// Relative to the folder.
        path: String,
    },
    /// A folder, pipe or device stands where a file is needed.
    #[error("{path:?} is not a regular file")]
    NotAFile {
        /// Relative to the folder.
        path: String,
    },
    /// The system said no.
    #[error("{path:?} cannot be used")]
    Io {
        /// Relative to the folder.
        path: String,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

/// An open directory. Everything is resolved from its handle: the folder may be renamed or its
/// parents replaced, what is reached stays beneath it.
#[derive(Debug)]
pub struct Folder {
    dir: Dir,
    path: PathBuf,
}

impl Folder {
    /// Opens an existing directory by its real path.
    pub fn open(path: &Path) -> io::Result<Self> {
        let path = path.canonicalize()?;
        let dir = Dir::open_ambient_dir(&path, ambient_authority())?;
        Ok(Self { dir, path })
    }

    /// Where it was when it was opened, absolute and without links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The real path of something that exists, links followed as far as they stay inside.
    pub fn resolve(&self, path: &ContainedPath) -> Result<ContainedPath, ContainError> {
        if path.is_root() {
            return Ok(ContainedPath::root());
        }
        match self.dir.canonicalize(path.to_path()) {
            Ok(real) => ContainedPath::from_real(&real).ok_or_else(|| ContainError::Outside {
                path: path.to_string(),
            }),
            Err(error) => Err(fault(path.to_string(), error)),
        }
    }

    /// As [`Folder::resolve`] for something that may not exist yet: the deepest existing parent is
    /// resolved, the rest is kept. A link to nowhere is an error.
    pub fn resolve_new(&self, path: &ContainedPath) -> Result<ContainedPath, ContainError> {
        for kept in (0..=path.parts.len()).rev() {
            let (head, rest) = path.parts.split_at(kept);
            let head = ContainedPath {
                parts: head.to_vec(),
            };
            match self.resolve(&head) {
                Ok(mut real) => {
                    real.parts.extend(rest.iter().cloned());
                    return Ok(real);
                }
                Err(ContainError::Missing { path }) => {
                    if self.dir.symlink_metadata(head.to_path()).is_ok() {
                        return Err(ContainError::Link { path });
                    }
                }
                Err(other) => return Err(other),
            }
        }
        Err(ContainError::Missing {
            path: path.to_string(),
        })
    }

    /// Opens a folder below; no link is followed.
    pub fn open_folder(&self, path: &ContainedPath) -> Result<Self, ContainError> {
        Ok(Self {
            dir: self.walk(&path.parts, false)?,
            path: self.path.join(path.to_path()),
        })
    }

    /// Opens a folder below and creates what is missing on the way; no link is followed.
    pub fn create_folder(&self, path: &ContainedPath) -> Result<Self, ContainError> {
        Ok(Self {
            dir: self.walk(&path.parts, true)?,
            path: self.path.join(path.to_path()),
        })
    }

    /// Opens a regular file to read; no link is followed, a pipe does not block.
    pub fn read(&self, path: &ContainedPath) -> Result<File, ContainError> {
        self.open_file(path, Access::Read, false)
    }

    /// Opens a regular file to add to its end; it and its folders are created when missing.
    pub fn append(&self, path: &ContainedPath) -> Result<File, ContainError> {
        self.open_file(path, Access::Append, true)
    }

    /// Creates a file with this content. `Ok(false)`: the name is taken, nothing was changed.
    pub fn create(&self, path: &ContainedPath, content: &[u8]) -> Result<bool, ContainError> {
        let (parents, name) = path.split_last()?;
        let dir = self.walk(parents, true)?;
        let io = |source| ContainError::Io {
            path: path.to_string(),
            source,
        };
        let mut file = match sys::open_file(&dir, name, Access::CreateNew) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            Err(error) => return Err(fault(path.to_string(), error)),
        };
        if let Err(error) = file.write_all(content) {
            remove(&dir, name);
            return Err(io(error));
        }
        Ok(true)
    }

    /// Replaces the whole content, or creates the file and its folders: afterwards either the old
    /// or the new content is there, never a part. With `durable` it survives a power cut.
    pub fn replace(
        &self,
        path: &ContainedPath,
        content: &[u8],
        durable: bool,
    ) -> Result<(), ContainError> {
        let (parents, name) = path.split_last()?;
        let dir = self.walk(parents, true)?;
        let old = match self.open_file(path, Access::Read, false) {
            Ok(file) => Some(file),
            Err(ContainError::Missing { .. }) => None,
            Err(ContainError::Io { source, .. })
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                None
            }
            Err(other) => return Err(other),
        };
        let temporary = temporary_name();
        let written = (|| {
            let mut file = sys::open_file(&dir, &temporary, Access::CreateNew)?;
            if let Some(old) = &old {
                sys::copy_mode(old, &file)?;
            }
            file.write_all(content)?;
            if durable {
                file.sync_all()?;
            }
            drop(file);
            dir.rename(&temporary, &dir, name)?;
            if durable { sys::sync_dir(&dir) } else { Ok(()) }
        })();
        written.map_err(|source| {
            remove(&dir, &temporary);
            ContainError::Io {
                path: path.to_string(),
                source,
            }
        })
    }

    /// Names and kinds of the direct children; names that are not UTF-8 are left out.
    pub fn children(&self, path: &ContainedPath) -> Result<Vec<Child>, ContainError> {
        let dir = self.walk(&path.parts, false)?;
        let io = |source| ContainError::Io {
            path: path.to_string(),
            source,
        };
        let mut children = Vec::new();
        for entry in dir.entries().map_err(io)? {
            let entry = entry.map_err(io)?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            let size = if kind.is_file() {
                entry.metadata().ok().map(|meta| meta.len())
            } else if kind.is_symlink() {
                dir.metadata(&name)
                    .ok()
                    .filter(cap_std::fs::Metadata::is_file)
                    .map(|m| m.len())
            } else {
                None
            };
            children.push(Child {
                name,
                is_dir: kind.is_dir(),
                size,
            });
        }
        Ok(children)
    }

    /// Makes names created directly in this folder survive a power cut.
    pub fn sync(&self) -> io::Result<()> {
        sys::sync_dir(&self.dir)
    }

    /// Removes a folder below with everything in it; links in it are removed, not followed. A
    /// missing one is success.
    pub fn remove_tree(&self, path: &ContainedPath) -> Result<(), ContainError> {
        let (parents, name) = path.split_last()?;
        let dir = self.walk(parents, false)?;
        match dir.remove_dir_all(name) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(ContainError::Io {
                path: path.to_string(),
                source,
            }),
        }
    }

    fn walk(&self, parts: &[String], create: bool) -> Result<Dir, ContainError> {
        let mut dir = self.dir.try_clone().map_err(|source| ContainError::Io {
            path: String::new(),
            source,
        })?;
        for (depth, name) in parts.iter().enumerate() {
            let so_far = || parts[..=depth].join("/");
            let mut step = sys::open_dir(&dir, name);
            if create
                && step
                    .as_ref()
                    .is_err_and(|e| e.kind() == io::ErrorKind::NotFound)
            {
                match dir.create_dir(name) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(error) => return Err(fault(so_far(), error)),
                }
                step = sys::open_dir(&dir, name);
            }
            dir = match step {
                Ok(next) => next,
                Err(_) if sys::is_link(&dir, name) => {
                    return Err(ContainError::Link { path: so_far() });
                }
                Err(error) => return Err(fault(so_far(), error)),
            };
        }
        Ok(dir)
    }

    fn open_file(
        &self,
        path: &ContainedPath,
        access: Access,
        create_parents: bool,
    ) -> Result<File, ContainError> {
        let (parents, name) = path.split_last()?;
        let dir = self.walk(parents, create_parents)?;
        let file = match sys::open_file(&dir, name, access) {
            Ok(file) => file,
            Err(_) if sys::is_link(&dir, name) => {
                return Err(ContainError::Link {
                    path: path.to_string(),
                });
            }
            Err(error) => return Err(fault(path.to_string(), error)),
        };
        let meta = file.metadata().map_err(|source| ContainError::Io {
            path: path.to_string(),
            source,
        })?;
        if meta.is_file() {
            Ok(file)
        } else {
            Err(ContainError::NotAFile {
                path: path.to_string(),
            })
        }
    }
}

/// One direct child of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    /// Its name.
    pub name: String,
    /// Whether it is a folder; a link to one is not.
    pub is_dir: bool,
    /// Bytes, for files whose size could be read.
    pub size: Option<u64>,
}

fn fault(path: String, error: io::Error) -> ContainError {
    match error.kind() {
        io::ErrorKind::NotFound => ContainError::Missing { path },
        io::ErrorKind::NotADirectory => ContainError::NotAFolder { path },
        io::ErrorKind::IsADirectory => ContainError::NotAFile { path },
        // cap-std's own refusal carries no number of the system.
        io::ErrorKind::PermissionDenied if error.raw_os_error().is_none() => {
            ContainError::Outside { path }
        }
        _ if is_link_loop(&error) => ContainError::Link { path },
        // Opening a socket, or a pipe nobody reads.
        _ if is_no_device(&error) => ContainError::NotAFile { path },
        _ => ContainError::Io {
            path,
            source: error,
        },
    }
}

#[cfg(unix)]
fn is_link_loop(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

#[cfg(unix)]
fn is_no_device(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error())
}

#[cfg(not(unix))]
fn is_link_loop(_error: &io::Error) -> bool {
    false
}

#[cfg(not(unix))]
fn is_no_device(_error: &io::Error) -> bool {
    false
}

fn remove(dir: &Dir, name: &str) {
    if let Err(error) = dir.remove_file(name)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::debug!(name, %error, "an unfinished file stays behind");
    }
}

fn temporary_name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    // The time keeps a reused process id from meeting what a crashed process left behind.
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_nanos();
    format!(".ctrlnode-{}-{now}-{number}.tmp", std::process::id())
}

/// Longest path in bytes; the limit of the common systems.
pub const MAX_PATH_BYTES: usize = 4096;

/// Most components of a path; bounds every walk.
pub const MAX_DEPTH: usize = 64;
