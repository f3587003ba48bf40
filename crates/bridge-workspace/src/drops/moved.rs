//! Task folders that are not where they were.

use std::path::Path;

use super::{DropBox, DropError, TASKS, elsewhere, text::TASK};
use crate::{
    contained::{ContainError, ContainedPath},
    task_dir::{INPUT, literal},
};

impl DropBox {
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
