//! The trees of files that requests are about, opened.

use std::{
    borrow::Cow,
    io,
    path::{Path, PathBuf},
};

use crate::{
    contained::{ContainError, ContainedPath, Folder},
    guard::Guard,
    root::Workspace,
};

/// A tree of files, chosen by what a request says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tree {
    /// `BASE_PATH`.
    Base,
    /// `CTRLNODE_ROOT`.
    Ctrlnode,
    /// The task tree of OpenClaw, `ctrlnode` in its own folder, for what is there and not below
    /// `CTRLNODE_ROOT`: runs of this bridge are below that, whatever their agent.
    OpenclawTasks,
    /// The workspace of an agent of OpenClaw, as it was named. A relative path starts at
    /// OpenClaw's own folder.
    OpenclawAgent(PathBuf),
}

/// An open tree with what may be done in it.
#[derive(Debug)]
pub(crate) struct Opened<'a> {
    folder: Held<'a>,
    pub(crate) guard: Cow<'a, Guard>,
}

#[derive(Debug)]
enum Held<'a> {
    Lent(&'a Folder),
    Own(Folder),
}

impl Opened<'_> {
    pub(crate) fn folder(&self) -> &Folder {
        match &self.folder {
            Held::Lent(folder) => folder,
            Held::Own(folder) => folder,
        }
    }

    /// Where something in it lies.
    pub(crate) fn absolute(&self, real: &ContainedPath) -> PathBuf {
        self.folder().path().join(real.to_path())
    }
}

impl Workspace {
    /// Opens a tree for a request about this path in it. `None`: it is not there, or may not be
    /// one.
    pub(crate) fn open_tree(&self, tree: &Tree, path: &str) -> Option<Opened<'_>> {
        let lent = |folder| Opened {
            folder: Held::Lent(folder),
            guard: Cow::Borrowed(&self.guard),
        };
        match tree {
            Tree::Base => Some(lent(&self.base)),
            Tree::Ctrlnode => Some(lent(&self.root)),
            Tree::OpenclawTasks => Some(
                self.old_tasks(path)
                    .map_or_else(|| lent(&self.root), |folder| self.own(folder)),
            ),
            Tree::OpenclawAgent(named) => match self.agent_tree(named) {
                Ok(folder) => Some(self.own(folder)),
                Err(error) => {
                    tracing::debug!(%error, "an agent's workspace cannot be used");
                    None
                }
            },
        }
    }

    fn own(&self, folder: Folder) -> Opened<'_> {
        Opened {
            guard: Cow::Owned(self.guard.about(folder.path())),
            folder: Held::Own(folder),
        }
    }

    /// OpenClaw's task tree, if this path is there alone.
    fn old_tasks(&self, path: &str) -> Option<Folder> {
        let path = ContainedPath::parse_wire(path).ok()?;
        let folder = self.openclaw_tasks()?;
        folder.resolve(&path).ok()?;
        match self.root.resolve(&path) {
            Err(ContainError::Missing { .. }) => Some(folder),
            Ok(_) | Err(_) => None,
        }
    }

    /// The task folders that OpenClaw keeps itself, where it has any.
    pub(crate) fn openclaw_tasks(&self) -> Option<Folder> {
        let tasks = ContainedPath::parse(OPENCLAW_TASKS).ok()?;
        self.openclaw.as_ref()?.open_folder(&tasks).ok()
    }

    fn agent_tree(&self, named: &Path) -> io::Result<Folder> {
        let own = self.openclaw.as_ref().map(Folder::path);
        let own = own.ok_or(io::ErrorKind::NotFound)?;
        let folder = Folder::open(&own.join(named))?;
        match self.guard.may_be_tree(folder.path(), own) {
            Ok(()) => Ok(folder),
            Err(kept) => Err(io::Error::new(io::ErrorKind::PermissionDenied, kept)),
        }
    }
}

/// The folder of tasks in OpenClaw's own folder.
pub(crate) const OPENCLAW_TASKS: &str = "ctrlnode";
