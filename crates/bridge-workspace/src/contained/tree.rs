//! Whole trees beneath a folder: looking through one, removing it, renaming it. No link is
//! followed, no other disk is entered, and everything is bounded.

use std::{
    ffi::{OsStr, OsString},
    io,
    path::Path,
};

use cap_std::fs::Dir;
use thiserror::Error;

use super::{
    ContainError, ContainedPath, Folder,
    folder::{fault, unlink},
};
use crate::{guard::Kept, sys};

/// Why a tree was not changed, or not to its end.
#[derive(Debug, Error)]
pub enum TreeError {
    /// It could not be reached.
    #[error(transparent)]
    Contained(#[from] ContainError),
    /// Something in it must stay as it is.
    #[error("{path:?} stays: {kept}")]
    Kept {
        /// Relative to the tree.
        path: String,
        /// Why.
        kept: Kept,
    },
    /// Another disk is mounted in it.
    #[error("{path:?} lies on another disk")]
    OtherDisk {
        /// Relative to the tree.
        path: String,
    },
    /// More than [`MAX_TREE_ENTRIES`] entries.
    #[error("it holds more than {MAX_TREE_ENTRIES} entries")]
    TooMany,
    /// Deeper than [`MAX_TREE_DEPTH`] folders.
    #[error("{path:?} lies deeper than {MAX_TREE_DEPTH} folders")]
    TooDeep {
        /// Relative to the tree.
        path: String,
    },
    /// A folder that should be empty is not.
    #[error("{path:?} is not empty")]
    NotEmpty {
        /// Relative to the folder.
        path: String,
    },
    /// Something has the new name already.
    #[error("{path:?} exists already")]
    Exists {
        /// Relative to the folder.
        path: String,
    },
}

/// Says of an entry, relative to its tree, whether it may be touched.
pub(crate) type Check<'a> = &'a dyn Fn(&Path) -> Result<(), Kept>;

impl Folder {
    /// Asks `check` about everything below a folder; changes nothing. What is no folder has
    /// nothing below it.
    pub(crate) fn survey(&self, path: &ContainedPath, check: Check<'_>) -> Result<(), TreeError> {
        let (parents, name) = path.split_last()?;
        let parent = self.walk(parents, false)?;
        match parent.symlink_metadata(name) {
            Ok(meta) if meta.is_dir() => {
                let mut look = Look::new(&parent, path, check)?;
                let dir = look.enter(&parent, OsStr::new(name), Path::new(""), 0)?;
                look.survey(&dir, Path::new(""), 0)
            }
            Ok(_) => Ok(()),
            Err(error) => Err(fault(path.to_string(), error).into()),
        }
    }

    /// Removes a file, a link, or a folder with everything in it. Each entry is asked about again
    /// before it goes. Gives whether there was anything.
    pub(crate) fn remove(&self, path: &ContainedPath, check: Check<'_>) -> Result<bool, TreeError> {
        let (parents, name) = path.split_last()?;
        let parent = self.walk(parents, false)?;
        let of = |error| TreeError::from(fault(path.to_string(), error));
        match parent.symlink_metadata(name) {
            Ok(meta) if meta.is_dir() => {
                let mut look = Look::new(&parent, path, check)?;
                let dir = look.enter(&parent, OsStr::new(name), Path::new(""), 0)?;
                look.empty(&dir, Path::new(""), 0)?;
                parent.remove_dir(name).map_err(of)?;
            }
            Ok(_) => unlink(&parent, name).map_err(of)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(of(error)),
        }
        Ok(true)
    }

    /// Removes a folder that has nothing in it; a link to one is no folder.
    pub(crate) fn remove_empty(&self, path: &ContainedPath) -> Result<(), TreeError> {
        let (parents, name) = path.split_last()?;
        let parent = self.walk(parents, false)?;
        let at = || path.to_string();
        // What stands in the way is told before the system words it in its own way.
        self.open_folder(path)?;
        match parent.remove_dir(name) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                Err(TreeError::NotEmpty { path: at() })
            }
            Err(error) => Err(fault(at(), error).into()),
        }
    }

    /// Renames a folder and creates the parents of its new place; nothing is ever replaced.
    pub(crate) fn rename(&self, from: &ContainedPath, to: &ContainedPath) -> Result<(), TreeError> {
        let ((old_parents, old), (new_parents, new)) = (from.split_last()?, to.split_last()?);
        self.open_folder(from)?;
        let old_parent = self.walk(old_parents, false)?;
        let new_parent = self.walk(new_parents, true)?;
        match sys::rename_new(&old_parent, old, &new_parent, new) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(TreeError::Exists {
                path: to.to_string(),
            }),
            Err(error) => Err(ContainError::Io {
                path: from.to_string(),
                source: error,
            }
            .into()),
        }
    }
}

/// A walk through one tree.
struct Look<'a> {
    disk: Option<u64>,
    left: usize,
    check: Check<'a>,
}

impl<'a> Look<'a> {
    /// Of a tree in this folder, on whose disk all of it has to be.
    fn new(parent: &Dir, path: &ContainedPath, check: Check<'a>) -> Result<Self, TreeError> {
        let disk = sys::disk_of(parent).map_err(|error| fault(path.to_string(), error))?;
        Ok(Self {
            disk,
            left: MAX_TREE_ENTRIES,
            check,
        })
    }

    fn survey(&mut self, dir: &Dir, at: &Path, depth: usize) -> Result<(), TreeError> {
        let of = |error| TreeError::from(fault(at.display().to_string(), error));
        for entry in dir.entries().map_err(of)? {
            let entry = entry.map_err(of)?;
            let name = entry.file_name();
            let path = at.join(&name);
            self.count(&path)?;
            if entry.file_type().map_err(of)?.is_dir() {
                let below = self.enter(dir, &name, &path, depth)?;
                self.survey(&below, &path, depth + 1)?;
            }
        }
        Ok(())
    }

    fn empty(&mut self, dir: &Dir, at: &Path, depth: usize) -> Result<(), TreeError> {
        let of = |error| TreeError::from(fault(at.display().to_string(), error));
        loop {
            // In pieces: a folder may hold more names than fit into memory, and whether names that
            // vanish meanwhile make a listing skip others is up to the file system.
            let names: io::Result<Vec<OsString>> = dir
                .entries()
                .map_err(of)?
                .take(AT_A_TIME)
                .map(|entry| Ok(entry?.file_name()))
                .collect();
            let names = names.map_err(of)?;
            if names.is_empty() {
                return Ok(());
            }
            for name in names {
                self.remove(dir, &name, &at.join(&name), depth)?;
            }
        }
    }

    fn remove(
        &mut self,
        dir: &Dir,
        name: &OsStr,
        path: &Path,
        depth: usize,
    ) -> Result<(), TreeError> {
        self.count(path)?;
        let of = |error: io::Error| TreeError::from(fault(path.display().to_string(), error));
        let gone = |done: io::Result<()>| match done {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(of(error)),
            Ok(()) | Err(_) => Ok(()),
        };
        match dir.symlink_metadata(name) {
            Ok(meta) if meta.is_dir() => {
                let below = self.enter(dir, name, path, depth)?;
                self.empty(&below, path, depth + 1)?;
                gone(dir.remove_dir(name))
            }
            Ok(_) => gone(unlink(dir, name)),
            Err(error) => gone(Err(error)),
        }
    }

    fn count(&mut self, path: &Path) -> Result<(), TreeError> {
        self.left = self.left.checked_sub(1).ok_or(TreeError::TooMany)?;
        (self.check)(path).map_err(|kept| TreeError::Kept {
            path: path.display().to_string(),
            kept,
        })
    }

    fn enter(&self, dir: &Dir, name: &OsStr, path: &Path, depth: usize) -> Result<Dir, TreeError> {
        let shown = || path.display().to_string();
        if depth >= MAX_TREE_DEPTH {
            return Err(TreeError::TooDeep { path: shown() });
        }
        let of = |error| TreeError::from(fault(shown(), error));
        let below = sys::open_dir(dir, name).map_err(of)?;
        if sys::disk_of(&below).map_err(of)? == self.disk {
            Ok(below)
        } else {
            Err(TreeError::OtherDisk { path: shown() })
        }
    }
}

/// Most entries of a tree that is removed or renamed.
pub const MAX_TREE_ENTRIES: usize = 2_000_000;

/// Most folders one in the other; each is an open handle meanwhile.
pub const MAX_TREE_DEPTH: usize = 128;

/// Names that are read before they are removed.
const AT_A_TIME: usize = 4096;
