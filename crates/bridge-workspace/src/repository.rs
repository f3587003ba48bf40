//! Work-directory mode: a folder of the user that a run may work in.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    guard::Guard,
    root::{PlaceError, shorten},
};

/// A folder below `BASE_PATH` that a run may work in, by its real path. Nothing of the bridge is
/// ever written into it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Repository {
    path: PathBuf,
    writer_key: PathBuf,
}

impl Repository {
    pub(crate) fn open(guard: &Guard, text: &str) -> Result<Self, PlaceError> {
        let shown = shorten(text);
        if text.trim().is_empty() || text.contains('\0') {
            return Err(PlaceError::Missing { path: shown });
        }
        let path = match guard.base.join(text).canonicalize() {
            Ok(path) => path,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(PlaceError::Missing { path: shown });
            }
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(PlaceError::NotAFolder { path: shown });
            }
            Err(source) => {
                return Err(PlaceError::Unreadable {
                    path: shown,
                    source,
                });
            }
        };
        // The verdict comes before any look inside, so that a refusal tells nothing about it.
        guard.may_work_in(&path).map_err(|kept| PlaceError::Kept {
            path: path.display().to_string(),
            kept,
        })?;
        if !path.is_dir() {
            return Err(PlaceError::NotAFolder { path: shown });
        }
        let writer_key = path
            .ancestors()
            .take_while(|folder| folder.starts_with(&guard.base))
            .find(|folder| folder.join(".git").exists())
            .unwrap_or(&path)
            .to_owned();
        Ok(Self { path, writer_key })
    }

    /// The working directory, absolute and without links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What one writer at a time is counted by: the top of the git repository around the folder,
    /// or the folder itself.
    pub fn writer_key(&self) -> &Path {
        &self.writer_key
    }

    /// Whether it is, or lies in, a git repository below `BASE_PATH`.
    pub fn is_git(&self) -> bool {
        self.writer_key.join(".git").exists()
    }
}
