//! Task folders that are not where they were: put into place by a control plane, or moved while
//! their task is at work. A task keeps its folder open until its end is told, so that it is told
//! where the folder is then; what it was called is free for another task.

use std::{path::Path, sync::Arc};

use bridge_proto::TaskId;

use super::{
    DropBox, DropError, DropState, TASKS,
    answer::{self, DropStatus},
    elsewhere,
    look::CANCEL,
    record_path,
    text::TASK,
};
use crate::{
    contained::{ContainError, ContainedPath, Folder},
    task_dir::{INPUT, literal},
};

/// The open folder of a dropped task, wherever it is moved. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DropPlace {
    folder: Arc<Folder>,
}

/// A folder that says a task is at work which is not the one of its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Astray {
    /// Relative to `CTRLNODE_ROOT`.
    pub folder: String,
    /// The task it speaks of.
    pub task: TaskId,
}

impl DropPlace {
    /// As [`DropBox::tell`], in this folder.
    pub fn tell(&self, status: &DropStatus) -> Result<(), DropError> {
        answer::tell_in(&self.folder, status)
    }

    /// Whether `input/CANCEL` is there.
    pub fn wants_cancel(&self) -> bool {
        let input = self.folder.open_folder(&literal(INPUT));
        let cancel = input.map(|input| input.read(&literal(CANCEL)));
        // Whatever it is and whoever may read it.
        !matches!(cancel, Ok(Err(ContainError::Missing { .. })) | Err(_))
    }
}

impl DropBox {
    /// Opens the folder of a task.
    pub fn hold(&self, folder: &str) -> Result<DropPlace, DropError> {
        let folder = self.root.open_folder(&ContainedPath::parse(folder)?)?;
        Ok(DropPlace {
            folder: Arc::new(folder),
        })
    }

    /// Whether the folder of this name is still that one.
    pub fn is_at(&self, place: &DropPlace, folder: &str) -> bool {
        self.hold(folder)
            .is_ok_and(|named| named.folder.is_same(&place.folder).unwrap_or(true))
    }

    /// Forgets that this attempt was handed on from the folder of this name, which is gone from
    /// there; another one with the name is a task of its own.
    pub fn moved_away(&self, folder: &str, attempt: &str) -> Result<(), DropError> {
        let state = self.kept(folder).map(|record| record.state);
        match state {
            Some(DropState::Working { attempt: kept }) if kept == attempt => {
                Ok(self.root.remove_file(&record_path(folder))?)
            }
            Some(
                DropState::Working { .. }
                | DropState::Elsewhere
                | DropState::Refused
                | DropState::Over,
            )
            | None => Ok(()),
        }
    }

    /// The folders that were moved, or copied, while their task was at work, as they tell it
    /// themselves. Those of tasks that are at work now are among them.
    pub fn astray(&self) -> Vec<Astray> {
        let mut astray = Vec::new();
        self.walk(&literal(TASKS), |path, layout| {
            let told = layout.and_then(|_| self.told_of_another(path));
            if let Some((status, task)) = told
                && ["waiting", "working"].contains(&status.as_str())
            {
                let folder = path.to_string();
                astray.push(Astray { folder, task });
            }
        });
        astray
    }

    /// Forgets that a task was handed on from the folder of its name, when the folder that has the
    /// name now tells nothing of it: a task that was handed on tells that at once, so this is
    /// another one.
    pub fn replaced(&self, task: &TaskId) -> Result<(), DropError> {
        let mut forgotten = Ok(());
        self.walk(&literal(TASKS), |path, layout| {
            let folder = path.to_string();
            if layout.is_none() || Self::task_of(&folder) != *task {
                return;
            }
            let told = self.root.open_folder(path).ok();
            let told = told.and_then(|open| answer::told_in(&open));
            let is_its_own = told.is_some_and(|(_, told)| told == task.as_str());
            if let Some(record) = self.kept(&folder).filter(|_| !is_its_own)
                && let DropState::Working { attempt } = &record.state
            {
                forgotten = self.moved_away(&folder, attempt);
            }
        });
        forgotten
    }

    /// Whether this folder was handed on under another name.
    pub(super) fn was_moved(&self, path: &ContainedPath) -> bool {
        let told = self.told_of_another(path);
        // What was never begun may be begun where it is now.
        told.is_some_and(|(status, _)| !["refused", "blocked"].contains(&status.as_str()))
    }

    /// What this folder tells of a task that is not the one of its name.
    fn told_of_another(&self, path: &ContainedPath) -> Option<(String, TaskId)> {
        let folder = self.root.open_folder(path).ok()?;
        let (status, task) = answer::told_in(&folder)?;
        let task = TaskId::parse(&task).ok()?;
        (task != Self::task_of(&path.to_string())).then_some((status, task))
    }

    /// Notes that a control plane put this folder where it is: no task in it is a dropped one,
    /// whatever was dealt with there before. The path is absolute.
    pub fn moved_by_the_plane(&self, to: &Path) -> Result<(), DropError> {
        let Some(moved) = to
            .strip_prefix(self.root.path())
            .ok()
            .and_then(Path::to_str)
        else {
            return Ok(());
        };
        let mut moved = ContainedPath::parse(moved)?;
        if moved.name() == Some(INPUT) {
            // It made a task of the folder around it.
            moved = moved.parent().unwrap_or_default();
        }
        if !moved.parts().starts_with(literal(TASKS).parts()) {
            return Ok(());
        }
        let mut kept = Ok(());
        self.walk(&moved, |folder, layout| {
            if layout.is_some() && kept.is_ok() && self.has_task(folder) {
                kept = self.keep(&elsewhere(&folder.to_string()));
            }
        });
        kept
    }

    /// Whether anything is called `input/TASK.md` there.
    fn has_task(&self, folder: &ContainedPath) -> bool {
        let task = folder.child(INPUT).and_then(|input| input.child(TASK));
        let read = task.map(|task| self.root.read(&task));
        !matches!(read, Ok(Err(ContainError::Missing { .. })) | Err(_))
    }
}
