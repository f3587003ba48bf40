//! An open directory, and everything that is done beneath it.

use std::{
    fs::{File, Metadata},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use cap_std::{ambient_authority, fs::Dir};
use thiserror::Error;

use super::ContainedPath;
use crate::sys::{self, Access};

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
    /// A file stands there that can be executed, and must not be replaced.
    #[error("{path:?} can be executed")]
    Executable {
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

    pub(super) fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Opens a folder below; no link is followed.
    pub fn open_folder(&self, path: &ContainedPath) -> Result<Self, ContainError> {
        Ok(Self {
            dir: self.walk(path.parts(), false)?,
            path: self.path.join(path.to_path()),
        })
    }

    /// Opens a folder below and creates what is missing on the way; no link is followed.
    pub fn create_folder(&self, path: &ContainedPath) -> Result<Self, ContainError> {
        Ok(Self {
            dir: self.walk(path.parts(), true)?,
            path: self.path.join(path.to_path()),
        })
    }

    /// Whether both are one folder, whatever it is called now.
    pub(crate) fn is_same(&self, other: &Self) -> io::Result<bool> {
        sys::is_same_dir(&self.dir, &other.dir)
    }

    /// Opens a regular file to read; no link is followed, a pipe does not block.
    pub fn read(&self, path: &ContainedPath) -> Result<File, ContainError> {
        Ok(self.read_known(path)?.0)
    }

    /// As [`Folder::read`], with what the system says of the file.
    pub(crate) fn read_known(
        &self,
        path: &ContainedPath,
    ) -> Result<(File, Metadata), ContainError> {
        self.open_file(path, Access::Read, false)
    }

    /// Opens a regular file to add to its end; it and its folders are created when missing.
    pub fn append(&self, path: &ContainedPath) -> Result<File, ContainError> {
        Ok(self.open_file(path, Access::Append, true)?.0)
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
        self.replace_with(path, durable, |file| file.write_all(content))
    }

    /// As [`Folder::replace`], for content that must never become a program: a file that can be
    /// executed stays as it is.
    pub fn replace_data(&self, path: &ContainedPath, content: &[u8]) -> Result<(), ContainError> {
        self.put(path, false, Programs::Stay, |file| file.write_all(content))
    }

    /// As [`Folder::replace`], with content that is written piece by piece. When that fails the
    /// old content stays.
    pub fn replace_with(
        &self,
        path: &ContainedPath,
        durable: bool,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<(), ContainError> {
        self.put(path, durable, Programs::AreReplaced, write)
    }

    fn put(
        &self,
        path: &ContainedPath,
        durable: bool,
        programs: Programs,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<(), ContainError> {
        let (parents, name) = path.split_last()?;
        let dir = self.walk(parents, true)?;
        let old = match self.open_file(path, Access::Read, false) {
            Ok((file, _)) => Some(file),
            Err(ContainError::Missing { .. }) => None,
            Err(ContainError::Io { source, .. })
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                None
            }
            Err(other) => return Err(other),
        };
        if programs == Programs::Stay && sys::is_executable(&dir, name) {
            return Err(ContainError::Executable {
                path: path.to_string(),
            });
        }
        let temporary = temporary_name();
        let written = (|| {
            let mut file = sys::open_file(&dir, &temporary, Access::CreateNew)?;
            if let Some(old) = &old {
                sys::copy_mode(old, &file)?;
            }
            write(&mut file)?;
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

    /// Names and kinds of the direct children; names that are not UTF-8 are left out. Of more than
    /// `most` it gives the ones the system tells first.
    pub fn children(&self, path: &ContainedPath, most: usize) -> Result<Vec<Child>, ContainError> {
        let dir = self.walk(path.parts(), false)?;
        let io = |source| ContainError::Io {
            path: path.to_string(),
            source,
        };
        let mut children = Vec::new();
        for entry in dir.entries().map_err(io)?.take(most) {
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

    /// Removes a file below; a link is removed, not followed. A missing one is success.
    pub(crate) fn remove_file(&self, path: &ContainedPath) -> Result<(), ContainError> {
        let (parents, name) = path.split_last()?;
        let dir = self.walk(parents, false)?;
        match unlink(&dir, name) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(fault(path.to_string(), error)),
        }
    }

    pub(super) fn walk(&self, parts: &[String], create: bool) -> Result<Dir, ContainError> {
        let mut reached = None;
        for (depth, name) in parts.iter().enumerate() {
            let dir = reached.as_ref().unwrap_or(&self.dir);
            let so_far = || parts[..=depth].join("/");
            let mut step = sys::open_dir(dir, name);
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
                step = sys::open_dir(dir, name);
            }
            let next = match step {
                Ok(next) => next,
                Err(_) if sys::is_link(dir, name) => {
                    return Err(ContainError::Link { path: so_far() });
                }
                Err(error) => return Err(fault(so_far(), error)),
            };
            reached = Some(next);
        }
        match reached {
            Some(dir) => Ok(dir),
            None => self.dir.try_clone().map_err(|source| ContainError::Io {
                path: String::new(),
                source,
            }),
        }
    }

    fn open_file(
        &self,
        path: &ContainedPath,
        access: Access,
        create_parents: bool,
    ) -> Result<(File, Metadata), ContainError> {
        let (parents, name) = path.split_last()?;
        let walked;
        let dir = if parents.is_empty() {
            &self.dir
        } else {
            walked = self.walk(parents, create_parents)?;
            &walked
        };
        let file = match sys::open_file(dir, name, access) {
            Ok(file) => file,
            Err(_) if sys::is_link(dir, name) => {
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
            Ok((file, meta))
        } else {
            Err(ContainError::NotAFile {
                path: path.to_string(),
            })
        }
    }
}

/// What becomes of a file that can be executed when new content comes for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Programs {
    AreReplaced,
    Stay,
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

pub(super) fn fault(path: String, error: io::Error) -> ContainError {
    let kind = error.kind();
    if kind == io::ErrorKind::NotFound {
        ContainError::Missing { path }
    } else if kind == io::ErrorKind::NotADirectory {
        ContainError::NotAFolder { path }
    } else if kind == io::ErrorKind::IsADirectory || is_no_device(&error) {
        ContainError::NotAFile { path }
    } else if kind == io::ErrorKind::PermissionDenied && error.raw_os_error().is_none() {
        // cap-std's own refusal carries no number of the system.
        ContainError::Outside { path }
    } else if is_link_loop(&error) {
        ContainError::Link { path }
    } else {
        ContainError::Io {
            path,
            source: error,
        }
    }
}

#[cfg(unix)]
fn is_link_loop(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

/// A socket, or a pipe that nobody reads.
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

/// Removes a name that is no folder; what a link points to stays.
pub(super) fn unlink(dir: &Dir, name: impl AsRef<Path>) -> io::Result<()> {
    dir.remove_file(name)
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

/// Most children of one folder that are looked at.
pub const MAX_CHILDREN: usize = 100_000;
