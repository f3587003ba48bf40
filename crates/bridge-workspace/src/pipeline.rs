//! Between two tasks of a pipeline: whether one has delivered, and handing that to the next. Task
//! folders are looked for below `CTRLNODE_ROOT` first, then in the tree OpenClaw keeps of its own.

use std::{
    io::{self, Read as _},
    sync::Arc,
};

use bridge_proto::ctrlnode::strip_status_tags;
use thiserror::Error;

use crate::{
    contained::{ContainError, ContainedPath, Folder, PathFault},
    guard::{Guard, Kept},
    root::Workspace,
    task_dir::{INPUT, OUTPUT},
};

/// Why nothing, or not everything, was handed over.
#[derive(Debug, Error)]
pub enum HandOverError {
    /// No folder was named.
    #[error("a task folder is missing")]
    NoFolder,
    /// The text is no acceptable path.
    #[error(transparent)]
    Path(#[from] PathFault),
    /// It may not be a task folder.
    #[error(transparent)]
    Kept(#[from] Kept),
    /// Something stands in the way, or the system said no.
    #[error(transparent)]
    Contained(#[from] ContainError),
    /// More than [`MAX_FILES`] files.
    #[error("more than {MAX_FILES} files were delivered")]
    TooMany,
    /// More than [`MAX_BYTES`] bytes.
    #[error("more than {MAX_BYTES} bytes were delivered")]
    TooLarge,
}

impl HandOverError {
    /// The error as the wire writes it: a code, or a text for a person.
    pub fn code(&self) -> String {
        match self {
            Self::NoFolder => "INVALID_REQUEST".to_owned(),
            Self::Path(_) | Self::Kept(_) => "INVALID_PATH".to_owned(),
            Self::Contained(ContainError::Io { source, .. }) => format!("{self}: {source}"),
            Self::Contained(
                ContainError::Missing { .. }
                | ContainError::Link { .. }
                | ContainError::Outside { .. }
                | ContainError::NotAFolder { .. }
                | ContainError::NotAFile { .. }
                | ContainError::Executable { .. },
            )
            | Self::TooMany
            | Self::TooLarge => self.to_string(),
        }
    }
}

impl Workspace {
    /// Whether the `output/` of a task folder holds anything that a task delivered: a file or a
    /// folder other than the log and the marks of empty folders.
    pub fn has_output(&self, folder: &str) -> bool {
        let Ok(folder) = task_folder(folder) else {
            return false;
        };
        self.outputs(&folder).iter().any(|output| {
            output
                .children(&ContainedPath::root(), MAX_FILES)
                .is_ok_and(|children| {
                    children
                        .iter()
                        .any(|child| !NO_DELIVERY.contains(&child.name.as_str()))
                })
        })
    }

    /// Copies what one task delivered to `input/<last part of its folder>/` of the next, with
    /// sub-folders, and makes the `output/` of the next. Gives how many files were copied.
    ///
    /// Bytes stay as they are; only from text that has status tags these are taken out. Links,
    /// pipes and names that are not UTF-8 are left out. Each file is there whole or not at all, and
    /// nothing is copied when there is too much: [`MAX_FILES`], [`MAX_BYTES`].
    pub fn hand_over(&self, from: &str, to: &str) -> Result<u64, HandOverError> {
        let (from, to) = (task_folder(from)?, task_folder(to)?);
        let name = from.name().unwrap_or_default();
        let next = self.next_tree(&from, &to);
        let into = to.inside(INPUT)?.child(name)?;
        let mut copied = 0;
        if let Some(output) = self.outputs(&from).first() {
            let files = delivered(output)?;
            let mut left = MAX_BYTES;
            for file in &files {
                let target = into.inside(&file.to_string())?;
                match copy(output, file, &next, &target, left) {
                    Ok(bytes) => {
                        copied += 1;
                        left = left.saturating_sub(bytes);
                    }
                    // Gone since it was listed, or never a file that could be read as one.
                    Err(HandOverError::Contained(
                        ContainError::Missing { path }
                        | ContainError::Link { path }
                        | ContainError::NotAFile { path },
                    )) if path == file.to_string() => {
                        tracing::debug!(path, "not handed over");
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        next.create(&to.inside(OUTPUT)?.child(KEPT_EMPTY)?, b"")?;
        Ok(copied)
    }

    /// The `output/` folders of a task, in the order they count.
    fn outputs(&self, folder: &ContainedPath) -> Vec<Folder> {
        let open = |tree: Arc<Folder>| tree.open_folder(&folder.inside(OUTPUT).ok()?).ok();
        self.task_trees().into_iter().filter_map(open).collect()
    }

    /// Where the next task lives: where its folder is, else beside the task before it.
    fn next_tree(&self, from: &ContainedPath, to: &ContainedPath) -> Arc<Folder> {
        let trees = self.task_trees();
        let holds = |path: &ContainedPath| {
            trees
                .iter()
                .find(|tree| tree.open_folder(path).is_ok())
                .map(Arc::clone)
        };
        holds(to)
            .or_else(|| holds(from))
            .unwrap_or_else(|| Arc::clone(&self.root))
    }

    fn task_trees(&self) -> Vec<Arc<Folder>> {
        let openclaw = self.openclaw_tasks().map(Arc::new);
        [Some(Arc::clone(&self.root)), openclaw]
            .into_iter()
            .flatten()
            .collect()
    }
}

fn task_folder(text: &str) -> Result<ContainedPath, HandOverError> {
    if text.trim().is_empty() {
        return Err(HandOverError::NoFolder);
    }
    let path = ContainedPath::parse_wire(text)?;
    Guard::may_be_task_folder(path.parts())?;
    Ok(path)
}

/// Every regular file below, with the limits kept.
fn delivered(output: &Folder) -> Result<Vec<ContainedPath>, HandOverError> {
    let mut files = Vec::new();
    let mut bytes = 0_u64;
    let mut folders = vec![ContainedPath::root()];
    while let Some(folder) = folders.pop() {
        for child in output.children(&folder, MAX_FILES + 1)? {
            let Ok(path) = folder.inside(&child.name) else {
                continue;
            };
            if child.is_dir {
                folders.push(path);
            } else if child.name != KEPT_EMPTY {
                bytes = bytes.saturating_add(child.size.unwrap_or(0));
                files.push(path);
            }
            if files.len() + folders.len() > MAX_FILES {
                return Err(HandOverError::TooMany);
            }
        }
        if bytes > MAX_BYTES {
            return Err(HandOverError::TooLarge);
        }
    }
    files.sort();
    Ok(files)
}

/// Copies one file and gives its size. Fails when it has grown beyond what is left.
fn copy(
    from: &Folder,
    file: &ContainedPath,
    into: &Folder,
    target: &ContainedPath,
    left: u64,
) -> Result<u64, HandOverError> {
    let io = |source| ContainError::Io {
        path: file.to_string(),
        source,
    };
    let mut source = from.read(file)?;
    let size = source.metadata().map_err(io)?.len();
    if size > left {
        return Err(HandOverError::TooLarge);
    }
    if size <= MAX_TEXT_BYTES {
        let mut bytes = Vec::new();
        source
            .by_ref()
            .take(left.min(MAX_TEXT_BYTES) + 1)
            .read_to_end(&mut bytes)
            .map_err(io)?;
        if bytes.len() as u64 <= left.min(MAX_TEXT_BYTES) {
            let content = without_tags(&bytes);
            into.replace(target, content.as_deref().unwrap_or(&bytes), false)?;
            return Ok(bytes.len() as u64);
        }
        // It grew while it was read.
        source = from.read(file)?;
    }
    let mut copied = 0;
    into.replace_with(target, false, |file| {
        copied = io::copy(&mut source.by_ref().take(left + 1), file)?;
        if copied > left {
            return Err(io::Error::other("the file grows while it is copied"));
        }
        Ok(())
    })?;
    Ok(copied)
}

/// The text without status tags, where it is one that has any.
fn without_tags(bytes: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(bytes).ok()?;
    if text.contains('\0') {
        return None;
    }
    let stripped = strip_status_tags(text);
    (stripped.trim_end() != text.trim_end()).then(|| stripped.into_bytes())
}

impl ContainedPath {
    /// The path with another, relative one behind it.
    fn inside(&self, below: &str) -> Result<Self, PathFault> {
        if self.is_root() {
            Self::parse(below)
        } else {
            Self::parse(&format!("{self}/{below}"))
        }
    }
}

/// Most files, and folders, that are handed over at once.
pub const MAX_FILES: usize = 10_000;

/// Most bytes that are handed over at once: 1 GiB.
pub const MAX_BYTES: u64 = 1 << 30;

/// Longer texts keep their tags: nobody reads a status in them.
const MAX_TEXT_BYTES: u64 = 16 * 1024 * 1024;

/// Keeps an empty folder alive in places that know files only.
const KEPT_EMPTY: &str = ".gitkeep";

/// Entries of `output/` that no task delivers.
const NO_DELIVERY: &[&str] = &[
    KEPT_EMPTY,
    ".DS_Store",
    "Thumbs.db",
    ".keep",
    "agent_log.md",
];
