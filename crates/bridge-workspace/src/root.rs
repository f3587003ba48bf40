//! The workspace: `BASE_PATH`, `CTRLNODE_ROOT`, and the lock that makes this daemon the only one.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bridge_proto::{TaskFolder, TaskId};
use thiserror::Error;

use crate::{
    contained::{ContainError, ContainedPath, Folder, PathFault},
    guard::{ContentsPolicy, Guard, Kept, OwnPlace},
    lock::{self, Attempt, Lock},
    repository::Repository,
    sys,
    task_dir::TaskDir,
};

/// An open, locked workspace. Dropping it, or dying, lets the next daemon in.
#[derive(Debug)]
pub struct Workspace {
    pub(crate) base: Folder,
    pub(crate) root: Arc<Folder>,
    pub(crate) guard: Guard,
    /// OpenClaw's own folder, where it is here.
    pub(crate) openclaw: Option<Folder>,
    _lock: Lock,
}

/// Why a workspace cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// A folder cannot be created or used.
    #[error("the folder {path} cannot be used")]
    Folder {
        /// Which folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another daemon works here.
    #[error("another bridge uses this workspace{}", pid.map(|pid| format!(" (process {pid})")).unwrap_or_default())]
    Locked {
        /// Its process id, where it could be read.
        pid: Option<u32>,
        /// What to do.
        hint: String,
    },
    /// The lock file cannot be used.
    #[error("the lock file {path} cannot be used")]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Why a run cannot work where it was told to.
#[derive(Debug, Error)]
pub enum PlaceError {
    /// The text is no acceptable path.
    #[error("{text:?}: {fault}")]
    Path {
        /// As received, shortened.
        text: String,
        /// What is wrong with it.
        fault: PathFault,
    },
    /// Something stands in the way on disk.
    #[error("{text:?} cannot be used: {source}")]
    Contained {
        /// As received, shortened.
        text: String,
        /// What stands in the way.
        #[source]
        source: ContainError,
    },
    /// It may not be worked in.
    #[error("{path:?} is not allowed: {kept}")]
    Kept {
        /// The real path.
        path: String,
        /// Why.
        kept: Kept,
    },
    /// Nothing is there.
    #[error("{path:?} does not exist")]
    Missing {
        /// As received, shortened.
        path: String,
    },
    /// A file is there.
    #[error("{path:?} is not a folder")]
    NotAFolder {
        /// As received, shortened.
        path: String,
    },
    /// The system said no.
    #[error("{path:?} cannot be read: {source}")]
    Unreadable {
        /// As received, shortened.
        path: String,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

impl PlaceError {
    /// What the user can do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Path { .. } => "use a plain path without `..` or backslashes",
            Self::Contained { source, .. } => match source {
                ContainError::Link { .. } | ContainError::Outside { .. } => {
                    "replace the symbolic link by a real folder"
                }
                ContainError::NotAFolder { .. }
                | ContainError::NotAFile { .. }
                | ContainError::Executable { .. } => "move the file that stands in the way",
                ContainError::Missing { .. } | ContainError::Io { .. } => {
                    "check the free space and the permissions of the folder"
                }
            },
            Self::Kept { kept, .. } => match kept {
                Kept::Outside => {
                    "move it below the workspace, or widen that: `--workspace` of `ctrlnode up`, or else `ctrlnode setup`"
                }
                Kept::Protected(_) => "choose a folder without keys, logins or settings in it",
                Kept::Internal => "choose a folder outside of the bridge's own",
                Kept::Policy(_) => "widen the contents policy",
            },
            Self::Missing { .. } => "create it, or correct the path",
            Self::NotAFolder { .. } => "name the folder, not a file in it",
            Self::Unreadable { .. } => "check the permissions of the folder and its parents",
        }
    }

    /// What is wrong and what to do, in one line for a person.
    pub fn reason(&self) -> String {
        format!("{self}; {}", self.hint())
    }
}

impl Workspace {
    /// Opens `base` and `CTRLNODE_ROOT` (`state`, or else `base/.ctrlnode`), creates what is
    /// missing (for this user only) and takes the lock. Contents policy: the default.
    pub fn open(base: &Path, state: Option<&Path>) -> Result<Self, OpenError> {
        let base = open_folder(base)?;
        let root = match state {
            Some(state) => open_folder(state)?,
            None => open_folder(&base.path().join(".ctrlnode"))?,
        };
        let path = root.path().join(lock::FILE);
        let lock = match Lock::take(&path) {
            Ok(Attempt::Taken(lock)) => lock,
            Ok(Attempt::Held(holder)) => {
                let pid = holder.map(|holder| holder.pid);
                let hint = "stop the other bridge first, or give this one a workspace of its own";
                return Err(OpenError::Locked {
                    pid,
                    hint: hint.to_owned(),
                });
            }
            Err(source) => return Err(OpenError::Lock { path, source }),
        };
        let guard = Guard::new(base.path(), root.path());
        Ok(Self {
            base,
            root: Arc::new(root),
            guard,
            openclaw: None,
            _lock: lock,
        })
    }

    /// Sets which file contents may leave this machine.
    #[must_use]
    pub fn with_policy(mut self, policy: ContentsPolicy) -> Self {
        self.guard.policy = policy;
        self
    }

    /// Protects places by where they lie, besides those that are known by their names: at most a
    /// few hundred. Of a folder that holds `CTRLNODE_ROOT` all the rest is protected; one that
    /// holds all of `BASE_PATH` protects nothing.
    #[must_use]
    pub fn with_protected(mut self, places: &[OwnPlace]) -> Self {
        self.guard.protect(places);
        self
    }

    /// Names OpenClaw's own folder, in which `openclaw.json` lies. Without that file there, and
    /// from a place that cannot be opened, OpenClaw is not here.
    #[must_use]
    pub fn with_openclaw(mut self, folder: Option<&Path>) -> Self {
        self.openclaw = folder
            .filter(|folder| folder.join("openclaw.json").is_file())
            .and_then(|folder| match Folder::open(folder) {
                Ok(folder) => Some(folder),
                Err(error) => {
                    tracing::warn!(folder = %folder.display(), %error, "OpenClaw's folder cannot be used");
                    None
                }
            });
        self
    }

    /// Whether OpenClaw is here.
    pub fn has_openclaw(&self) -> bool {
        self.openclaw.is_some()
    }

    /// Which file contents may leave this machine.
    pub fn policy(&self) -> ContentsPolicy {
        self.guard.policy
    }

    /// `BASE_PATH`, absolute and without links.
    pub fn base(&self) -> &Path {
        self.base.path()
    }

    /// `CTRLNODE_ROOT`, absolute and without links.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Opens the folder of a task and creates it with `input/` and `output/`. The name the plane
    /// gave wins; without one it is `tasks/<task id>`.
    pub fn task_dir(
        &self,
        task: &TaskId,
        folder: Option<&TaskFolder>,
    ) -> Result<TaskDir, PlaceError> {
        let text = folder.map_or_else(|| task.as_str(), TaskFolder::as_str);
        let refused = |fault| PlaceError::Path {
            text: shorten(text),
            fault,
        };
        let path = match folder {
            Some(folder) => ContainedPath::parse(folder.as_str()).map_err(refused)?,
            None => ContainedPath::parse("tasks")
                .and_then(|tasks| tasks.child(task.as_str()))
                .map_err(refused)?,
        };
        if path.is_root() {
            return Err(refused(PathFault::Empty));
        }
        Guard::may_be_task_folder(path.parts()).map_err(|kept| PlaceError::Kept {
            path: path.to_string(),
            kept,
        })?;
        let short = match folder {
            Some(_) => path.name().unwrap_or_default().to_owned(),
            None => task.as_str().chars().take(8).collect(),
        };
        TaskDir::create(&self.root, path, &short).map_err(|source| PlaceError::Contained {
            text: shorten(text),
            source,
        })
    }

    /// Where an agent shall write its summary in work-directory mode: a file below `CTRLNODE_ROOT`
    /// that the plane may name. Its folder is created, the file is not. Gives the absolute path.
    pub fn task_log_path(&self, relative: &str) -> Result<PathBuf, PlaceError> {
        let text = || shorten(relative);
        let contained = |source| PlaceError::Contained {
            text: text(),
            source,
        };
        let path = ContainedPath::parse(relative).map_err(|fault| PlaceError::Path {
            text: text(),
            fault,
        })?;
        let real = self.root.resolve_new(&path).map_err(contained)?;
        let absolute = self.root().join(real.to_path());
        self.guard
            .may_write(&absolute)
            .map_err(|kept| PlaceError::Kept {
                path: real.to_string(),
                kept,
            })?;
        if let Some(parent) = real.parent() {
            self.root.create_folder(&parent).map_err(contained)?;
        }
        Ok(absolute)
    }

    /// Proves that a repository may be worked in: it exists, is a folder, lies below `BASE_PATH`
    /// with links resolved, and is no protected place. A relative path starts at `BASE_PATH`.
    pub fn repository(&self, path: &str) -> Result<Repository, PlaceError> {
        Repository::open(&self.guard, path)
    }

    /// Whether the content of this file may leave the machine: for watcher events, diffs, raw
    /// agent messages and tool results. A relative path starts at `BASE_PATH`; a path that cannot
    /// be resolved may not leave.
    pub fn may_leave(&self, path: &Path) -> bool {
        let absolute = self.base().join(path);
        let mut missing = Vec::new();
        let mut existing = absolute.as_path();
        let real = loop {
            match existing.canonicalize() {
                Ok(real) => break real,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let (Some(name), Some(parent)) = (existing.file_name(), existing.parent())
                    else {
                        return false;
                    };
                    if existing.is_symlink() {
                        return false;
                    }
                    missing.push(name.to_owned());
                    existing = parent;
                }
                Err(_) => return false,
            }
        };
        let real = missing
            .iter()
            .rev()
            .fold(real, |path, name| path.join(name));
        self.guard.may_leave(&real).is_ok()
    }
}

fn open_folder(path: &Path) -> Result<Folder, OpenError> {
    sys::create_private_dirs(path)
        .and_then(|()| Folder::open(path))
        .map_err(|source| OpenError::Folder {
            path: path.to_owned(),
            source,
        })
}

/// At most 200 characters of a text from outside, for an error.
pub(crate) fn shorten(text: &str) -> String {
    text.chars().take(200).collect()
}
