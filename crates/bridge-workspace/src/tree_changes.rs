//! Requests that delete, create and rename. Every answer is a code of the wire or the system's own
//! words; what stands at a path that may not be touched is never told.

use std::{
    io,
    path::{Path, PathBuf},
};

use bridge_proto::model::{NewFile, TreeAct, TreeChange, TreeChanged};

use crate::{
    contained::{ContainError, ContainedPath, Folder, TreeError},
    guard::{ContentsPolicy, Guard},
    root::Workspace,
    trees::{OPENCLAW_TASKS, Opened, Tree},
};

/// Why a change was refused: what the wire says.
type Refusal = String;

impl Workspace {
    /// Does what is asked; what fails half-way stays as far as it came. `tree` is where the paths
    /// start, `None` where the request means none.
    pub fn change_tree(&self, change: &TreeChange, tree: Option<&Tree>) -> TreeChanged {
        self.change_and_tell(change, tree).0
    }

    /// As [`Workspace::change_tree`], and where a folder is that was renamed.
    pub(crate) fn change_and_tell(
        &self,
        change: &TreeChange,
        tree: Option<&Tree>,
    ) -> (TreeChanged, Option<PathBuf>) {
        let open = |path: &str| tree.and_then(|tree| self.open_tree(tree, path));
        let done = |act, result: Result<(), Refusal>| TreeChanged::Done {
            act,
            error: result.err(),
        };
        let changed = match change {
            TreeChange::DeletePath { path, .. } => {
                done(TreeAct::DeletePath, delete_path(open(path).as_ref(), path))
            }
            TreeChange::CreateFolder { path, .. } => done(
                TreeAct::CreateFolder,
                create_folder(open(path).as_ref(), path),
            ),
            TreeChange::RenameFolder { path, new_path, .. } => {
                let renamed = rename_folder(open(path).as_ref(), path, new_path);
                let (error, to) = match renamed {
                    Ok(to) => (None, Some(to)),
                    Err(refusal) => (Some(refusal), None),
                };
                let act = TreeAct::RenameFolder;
                return (TreeChanged::Done { act, error }, to);
            }
            TreeChange::DeleteFolder { path, .. } => done(
                TreeAct::DeleteFolder,
                delete_folder(open(path).as_ref(), path),
            ),
            TreeChange::CreateWorkspace {
                folder,
                files,
                use_ctrlnode,
            } => match self.create_workspace(folder, files, *use_ctrlnode) {
                Ok(path) => TreeChanged::Workspace {
                    path: path.map(|path| path.display().to_string()),
                    error: None,
                },
                Err(error) => change.refused(&error),
            },
            TreeChange::DeleteAgentFolders { folder, agent } => {
                match self.delete_agent_folders(Path::new(CONTAINER), folder) {
                    Ok(deleted) => TreeChanged::AgentFolders {
                        agent: agent.clone(),
                        deleted: deleted.into_iter().collect(),
                        errors: Vec::new(),
                    },
                    Err(error) => change.refused(&error),
                }
            }
        };
        (changed, None)
    }

    /// The new workspace; `None` where OpenClaw is not here.
    fn create_workspace(
        &self,
        name: &str,
        files: &[NewFile],
        use_ctrlnode: bool,
    ) -> Result<Option<PathBuf>, Refusal> {
        if name.trim().is_empty() {
            return Err("MISSING_FOLDER_NAME".into());
        }
        let folder = ContainedPath::parse_wire(name).map_err(|_| invalid())?;
        let Some(own) = &self.openclaw else {
            return Ok(None);
        };
        let folder = if use_ctrlnode {
            let tasks = ContainedPath::parse(OPENCLAW_TASKS).map_err(|_| invalid())?;
            folder
                .parts()
                .iter()
                .try_fold(tasks, |path, part| path.child(part))
                .map_err(|_| invalid())?
        } else {
            folder
        };
        if folder.is_root() {
            return Err(invalid());
        }
        let real = own
            .resolve_new(&folder)
            .map_err(|error| told(&error, "CREATE_FAILED"))?;
        let path = own.path().join(real.to_path());
        self.guard
            .may_be_tree(&path, own.path())
            .map_err(|_| invalid())?;
        let is_new = !path.exists();
        if !is_new && self.guard.policy != ContentsPolicy::Workspace && !files.is_empty() {
            return Err(invalid());
        }
        // All names are looked at before anything is written.
        let guard = self.guard.about(&path);
        let mut wanted = Vec::with_capacity(files.len());
        if files.len() > MAX_NEW_FILES {
            return Err(format!("more than {MAX_NEW_FILES} files"));
        }
        for file in files {
            let refused = || format!("INVALID_FILE_PATH: {}", crate::root::shorten(&file.path));
            let inside = ContainedPath::parse_wire(&file.path)
                .ok()
                .filter(|inside| !inside.is_root())
                .ok_or_else(refused)?;
            let name = path.join(inside.to_path());
            guard.may_fill(&name, is_new).map_err(|_| refused())?;
            wanted.push((inside, &file.content));
        }
        let created = own
            .create_folder(&real)
            .map_err(|error| told(&error, "CREATE_FAILED"))?;
        for (inside, content) in wanted {
            created
                .replace_data(&inside, content.as_bytes())
                .map_err(|error| match error {
                    ContainError::Io { .. } => told(&error, "CREATE_FAILED"),
                    ContainError::Missing { .. }
                    | ContainError::Link { .. }
                    | ContainError::Outside { .. }
                    | ContainError::NotAFolder { .. }
                    | ContainError::NotAFile { .. }
                    | ContainError::Executable { .. } => format!("INVALID_FILE_PATH: {inside}"),
                })?;
        }
        Ok(Some(path))
    }

    /// What was deleted, if it was there. `container` is where such folders were.
    fn delete_agent_folders(
        &self,
        container: &Path,
        folder: &str,
    ) -> Result<Option<String>, Refusal> {
        if folder.trim().is_empty() {
            return Err("NO_FOLDER_SPECIFIED".into());
        }
        let shown = crate::root::shorten(folder);
        let unsafe_path = || format!("UNSAFE_PATH: {shown}");
        // Below the container, and all the same nowhere but in the workspace.
        let below = Path::new(folder)
            .strip_prefix(container)
            .ok()
            .and_then(Path::to_str)
            .and_then(|below| ContainedPath::parse_wire(below).ok())
            .filter(|below| !below.is_root())
            .ok_or_else(unsafe_path)?;
        let absolute = container.join(below.to_path());
        let inside = absolute
            .strip_prefix(self.base())
            .ok()
            .and_then(Path::to_str)
            .and_then(|inside| ContainedPath::parse(inside).ok())
            .ok_or_else(unsafe_path)?;
        let base = self.open_tree(&Tree::Base, "").ok_or_else(unsafe_path)?;
        match delete(&base, &inside, "DELETE_FAILED") {
            Ok(there) => Ok(there.then(|| absolute.display().to_string())),
            Err(code) if code == invalid() => Err(unsafe_path()),
            Err(_) => Err(format!("DELETE_FAILED: {shown}")),
        }
    }
}

fn delete_path(tree: Option<&Opened<'_>>, path: &str) -> Result<(), Refusal> {
    let missing = || String::from("INVALID_REQUEST");
    let tree = tree
        .filter(|_| !path.trim().is_empty())
        .ok_or_else(missing)?;
    let path = ContainedPath::parse_wire(path).map_err(|_| invalid())?;
    delete(tree, &path, TreeAct::DeletePath.failed()).map(drop)
}

/// Whether there was anything.
fn delete(tree: &Opened<'_>, path: &ContainedPath, failed: &str) -> Result<bool, Refusal> {
    if tree.guard.is_guarded(&tree.absolute(path)) {
        return Err(invalid());
    }
    let real = match place(tree.folder(), path) {
        Ok(real) => real,
        Err(ContainError::Missing { .. } | ContainError::NotAFolder { .. }) => return Ok(false),
        Err(error) => return Err(told(&error, failed)),
    };
    let target = tree.absolute(&real);
    tree.guard.may_remove(&target).map_err(|_| invalid())?;
    let whole = tree.guard.goes_whole(&target);
    let check = |entry: &Path| {
        if whole {
            return Ok(());
        }
        Guard::may_vanish(&target.join(entry))
    };
    let folder = tree.folder();
    // Nothing goes when something in it must stay.
    match folder.survey(&real, &check) {
        Ok(()) => {}
        Err(TreeError::Contained(ContainError::Missing { .. })) => return Ok(false),
        Err(error) => return Err(told_of_tree(error, failed)),
    }
    folder
        .remove(&real, &check)
        .map_err(|error| told_of_tree(error, failed))
}

fn create_folder(tree: Option<&Opened<'_>>, path: &str) -> Result<(), Refusal> {
    let (tree, path) = needed(tree, path)?;
    let failed = TreeAct::CreateFolder.failed();
    let folder = tree.folder();
    let of = |error| match error {
        ContainError::NotAFolder { .. } | ContainError::NotAFile { .. } => {
            io::Error::from(io::ErrorKind::AlreadyExists).to_string()
        }
        other @ (ContainError::Missing { .. }
        | ContainError::Link { .. }
        | ContainError::Outside { .. }
        | ContainError::Executable { .. }
        | ContainError::Io { .. }) => told(&other, failed),
    };
    let real = folder.resolve_new(&path).map_err(of)?;
    tree.guard
        .may_make_folder(&tree.absolute(&real))
        .map_err(|_| invalid())?;
    folder.create_folder(&real).map(drop).map_err(of)
}

fn delete_folder(tree: Option<&Opened<'_>>, path: &str) -> Result<(), Refusal> {
    let (tree, path) = needed(tree, path)?;
    let failed = TreeAct::DeleteFolder.failed();
    let real = place(tree.folder(), &path).map_err(|error| not_found(&error, failed))?;
    tree.guard
        .may_remove(&tree.absolute(&real))
        .map_err(|_| invalid())?;
    tree.folder()
        .remove_empty(&real)
        .map_err(|error| match error {
            TreeError::Contained(error) => not_found(&error, failed),
            other @ (TreeError::NotEmpty { .. }
            | TreeError::Exists { .. }
            | TreeError::Kept { .. }
            | TreeError::OtherDisk { .. }
            | TreeError::TooMany
            | TreeError::TooDeep { .. }) => told_of_tree(other, failed),
        })
}

/// Gives where it is now.
fn rename_folder(tree: Option<&Opened<'_>>, path: &str, new: &str) -> Result<PathBuf, Refusal> {
    let (tree, path) = needed(tree, path)?;
    let (_, new) = needed(Some(tree), new)?;
    let failed = TreeAct::RenameFolder.failed();
    let folder = tree.folder();
    let real = place(folder, &path).map_err(|error| not_found(&error, failed))?;
    let new_real = place_of_new(folder, &new).map_err(|error| told(&error, failed))?;
    let (old_path, new_path) = (tree.absolute(&real), tree.absolute(&new_real));
    let guard = &tree.guard;
    guard.may_remove(&old_path).map_err(|_| invalid())?;
    guard.may_make_folder(&new_path).map_err(|_| invalid())?;
    guard
        .may_become(&old_path, &new_path)
        .map_err(|_| invalid())?;
    let check = |entry: &Path| guard.may_become(&old_path.join(entry), &new_path.join(entry));
    let of = |error| match error {
        TreeError::Contained(error) => not_found(&error, failed),
        other @ (TreeError::NotEmpty { .. }
        | TreeError::Exists { .. }
        | TreeError::Kept { .. }
        | TreeError::OtherDisk { .. }
        | TreeError::TooMany
        | TreeError::TooDeep { .. }) => told_of_tree(other, failed),
    };
    folder.survey(&real, &check).map_err(of)?;
    folder.rename(&real, &new_real).map_err(of)?;
    Ok(new_path)
}

fn needed<'a, 'b>(
    tree: Option<&'a Opened<'b>>,
    path: &str,
) -> Result<(&'a Opened<'b>, ContainedPath), Refusal> {
    if path.trim().is_empty() {
        return Err("MISSING_PATH".into());
    }
    let tree = tree.ok_or("BASE_PATH_NOT_FOUND")?;
    let path = ContainedPath::parse_wire(path).map_err(|_| invalid())?;
    if path.is_root() || tree.guard.is_guarded(&tree.absolute(&path)) {
        return Err(invalid());
    }
    Ok((tree, path))
}

/// The path with the links of its parents followed; the last name stays, link or not.
fn place(folder: &Folder, path: &ContainedPath) -> Result<ContainedPath, ContainError> {
    let outside = || ContainError::Outside {
        path: path.to_string(),
    };
    let (Some(parent), Some(name)) = (path.parent(), path.name()) else {
        return Err(outside());
    };
    folder.resolve(&parent)?.child(name).map_err(|_| outside())
}

/// As [`place`], where also the parents may be missing.
fn place_of_new(folder: &Folder, path: &ContainedPath) -> Result<ContainedPath, ContainError> {
    let outside = || ContainError::Outside {
        path: path.to_string(),
    };
    let (Some(parent), Some(name)) = (path.parent(), path.name()) else {
        return Err(outside());
    };
    folder
        .resolve_new(&parent)?
        .child(name)
        .map_err(|_| outside())
}

fn invalid() -> Refusal {
    "INVALID_PATH".into()
}

fn not_found(error: &ContainError, failed: &str) -> Refusal {
    match error {
        ContainError::Missing { .. }
        | ContainError::NotAFolder { .. }
        | ContainError::NotAFile { .. } => "FOLDER_NOT_FOUND".into(),
        ContainError::Link { .. }
        | ContainError::Outside { .. }
        | ContainError::Executable { .. }
        | ContainError::Io { .. } => told(error, failed),
    }
}

fn told(error: &ContainError, failed: &str) -> Refusal {
    match error {
        ContainError::Link { .. }
        | ContainError::Outside { .. }
        | ContainError::Executable { .. } => invalid(),
        ContainError::Io { source, .. } => source.to_string(),
        ContainError::Missing { .. }
        | ContainError::NotAFolder { .. }
        | ContainError::NotAFile { .. } => failed.into(),
    }
}

fn told_of_tree(error: TreeError, failed: &str) -> Refusal {
    match error {
        TreeError::Contained(error) => told(&error, failed),
        TreeError::Kept { .. } | TreeError::OtherDisk { .. } => invalid(),
        TreeError::NotEmpty { .. } => "FOLDER_NOT_EMPTY".into(),
        TreeError::Exists { .. } => io::Error::from(io::ErrorKind::AlreadyExists).to_string(),
        TreeError::TooMany | TreeError::TooDeep { .. } => error.to_string(),
    }
}

/// Where the Bridge before this one kept its agents in a container.
const CONTAINER: &str = "/app";

/// Most files that a new workspace is made with.
pub const MAX_NEW_FILES: usize = 1000;

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn agent_folders_of_a_container_that_is_the_workspace_are_deleted() {
        let outer = tempfile::tempdir().unwrap();
        let container = outer.path().canonicalize().unwrap().join("app");
        let workspace = Workspace::open(&container, None).unwrap();
        let folder = container.join("agents/x");
        std::fs::create_dir_all(folder.join("deep")).unwrap();
        let text = folder.display().to_string();
        let delete = |workspace: &Workspace| workspace.delete_agent_folders(&container, &text);
        // Writing there is not allowed, so deleting is not either.
        assert_eq!(delete(&workspace), Err(format!("UNSAFE_PATH: {text}")));
        let workspace = workspace.with_policy(ContentsPolicy::Workspace);
        assert_eq!(delete(&workspace), Ok(Some(text.clone())));
        assert!(!folder.exists());
        assert_eq!(delete(&workspace), Ok(None));
        for own in [".ctrlnode", ".", ""] {
            let path = container.join(own).display().to_string();
            let told = workspace.delete_agent_folders(&container, &path);
            assert_eq!(told, Err(format!("UNSAFE_PATH: {path}")));
        }
    }
}
