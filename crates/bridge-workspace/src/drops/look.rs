//! Finding dropped tasks: which folders have an `input/TASK.md`, what they look like, and what is
//! wrong with them before anything is read.

use std::path::PathBuf;

use bridge_proto::Digest;

use super::{DropBox, DropRecord, DropState, MAX_TASK_BYTES, TASKS, text::TASK};
use crate::{
    contained::{ContainError, ContainedPath, EntryKind},
    task_dir::{INPUT, OUTPUT, literal},
};

/// What one look found.
#[derive(Debug, Default)]
pub struct DropLook {
    /// The dropped tasks, by name.
    pub found: Vec<Dropped>,
    /// The folders in which something new would appear, absolute.
    pub places: Vec<PathBuf>,
    /// Whether there are more folders than are looked through.
    pub too_many: bool,
}

/// A folder with a task in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// Relative to `CTRLNODE_ROOT`.
    pub folder: String,
    /// What its `input/` looks like: another one after every change.
    pub print: String,
    /// Why it is not taken, whatever its text says.
    pub fault: Option<String>,
    /// Whether `input/CANCEL` is there.
    pub cancel: bool,
    /// What was dealt with before, as [`DropBox::record`] gives it.
    pub record: Option<DropRecord>,
}

impl DropBox {
    /// Looks through all folders. What cannot be read is passed over.
    pub fn look(&self) -> DropLook {
        let mut look = DropLook::default();
        let all = self.walk(&literal(TASKS), |path, layout| match layout {
            Some(layout) => self.inspect(path, layout, &mut look),
            None => look.places.push(self.root.path().join(path.to_path())),
        });
        look.too_many = !all;
        look.found
            .sort_by(|one, other| one.folder.cmp(&other.folder));
        look
    }

    /// Shows `tasks/`, or a folder in it, and what lies below, down to the folders of tasks: of
    /// these also what their two folders are. Whether it came through all of them.
    pub(super) fn walk(
        &self,
        from: &ContainedPath,
        mut show: impl FnMut(&ContainedPath, Option<Layout>),
    ) -> bool {
        let mut left = MOST_FOLDERS;
        self.descend(from, &mut left, &mut show);
        left > 0
    }

    fn descend(
        &self,
        path: &ContainedPath,
        left: &mut usize,
        show: &mut dyn FnMut(&ContainedPath, Option<Layout>),
    ) {
        let depth = path.parts().len().saturating_sub(1);
        if *left == 0 || depth > MOST_LEVELS {
            return;
        }
        *left -= 1;
        let entries = match self.root.entries(path, MOST_ENTRIES) {
            Ok(entries) => entries,
            Err(ContainError::Missing { .. }) => return,
            Err(error) => {
                tracing::debug!(folder = %path, %error, "not looked through");
                return;
            }
        };
        let kind_of = |name| {
            let mut named = entries.iter().filter(|it| it.name.as_deref() == Some(name));
            named.next().map(|entry| entry.kind)
        };
        let input = kind_of(INPUT).filter(|_| depth > 0);
        let layout = input.map(|input| Layout {
            input,
            output: kind_of(OUTPUT),
        });
        show(path, layout);
        if layout.is_some() {
            return;
        }
        let folders = entries.iter().filter(|it| it.kind == EntryKind::Folder);
        for name in folders.filter_map(|entry| entry.name.as_deref()) {
            if let Ok(child) = path.child(name) {
                self.descend(&child, left, show);
            }
        }
    }

    fn inspect(&self, path: &ContainedPath, layout: Layout, look: &mut DropLook) {
        let folder = path.to_string();
        let record = self.record(&folder);
        let elsewhere = if let Some(record) = &record {
            record.state == DropState::Elsewhere
        } else {
            let was_moved = self.was_moved(path);
            if was_moved && layout.input == EntryKind::Folder {
                // Its task may be at work, and be cancelled there.
                let input = path.child(INPUT).unwrap_or_default();
                look.places.push(self.root.path().join(input.to_path()));
            }
            (was_moved || self.has_traces(path)) && self.kept(&folder).is_none()
        };
        if elsewhere {
            return;
        }
        let mut seen = Seen::default();
        if layout.input == EntryKind::Folder {
            let input = path.child(INPUT).unwrap_or_default();
            look.places.push(self.root.path().join(input.to_path()));
            self.see(&input, "", 0, &mut seen);
            if !seen.task {
                return;
            }
        } else {
            seen.wrong("input is not a folder".to_owned());
        }
        if let Some(output) = layout.output.filter(|it| *it != EntryKind::Folder) {
            // When it is mended that is seen here, and the task looks another way.
            look.places.push(self.root.path().join(path.to_path()));
            seen.parts.push(format!("{OUTPUT}\n{output:?}"));
            let is_link = output == EntryKind::Link;
            let what = if is_link {
                "a symbolic link"
            } else {
                "not a folder"
            };
            seen.wrong(format!("output is {what}"));
        }
        let parts: Vec<&str> = seen.parts.iter().map(String::as_str).collect();
        look.found.push(Dropped {
            folder,
            print: Digest::of(&parts).as_str().to_owned(),
            fault: seen.fault,
            cancel: seen.cancel,
            record,
        });
    }

    /// What lies below `input/`.
    fn see(&self, path: &ContainedPath, prefix: &str, depth: usize, seen: &mut Seen) {
        let entries = match self.root.entries(path, MOST_ATTACHED + 1) {
            Ok(entries) => entries,
            Err(error) => return seen.wrong(format!("input cannot be read: {error}")),
        };
        if seen.parts.len() + entries.len() > MOST_ATTACHED {
            // Its task may be among those that were not listed.
            let task = path.child(TASK).map(|task| self.root.read(&task));
            seen.task |= depth == 0 && matches!(task, Ok(Ok(_)));
            return seen.wrong(format!("input holds more than {MOST_ATTACHED} entries"));
        }
        for entry in entries {
            let Some(name) = entry.name else {
                seen.parts.push(format!("?{}", entry.changed));
                seen.wrong("input has a name that is not UTF-8".to_owned());
                continue;
            };
            if depth == 0 && name == CANCEL {
                seen.cancel = true;
                continue;
            }
            let shown = format!("{prefix}{name}");
            seen.parts.push(format!(
                "{shown}\n{:?} {} {}",
                entry.kind, entry.size, entry.changed
            ));
            let is_task = depth == 0 && name == TASK;
            seen.task |= is_task;
            match entry.kind {
                EntryKind::File => {
                    if is_task && entry.size > MAX_TASK_BYTES {
                        seen.wrong(format!("{TASK} has more than {MAX_TASK_BYTES} bytes"));
                    }
                }
                EntryKind::Folder if is_task => seen.wrong(format!("{TASK} is a folder")),
                EntryKind::Folder if depth == MOST_DEEP => {
                    seen.wrong(format!(
                        "input/{shown} lies deeper than {MOST_DEEP} folders"
                    ));
                }
                EntryKind::Folder => match path.child(&name) {
                    Ok(child) => self.see(&child, &format!("{shown}/"), depth + 1, seen),
                    Err(fault) => seen.wrong(format!("input/{shown} cannot be used: {fault}")),
                },
                EntryKind::Link => seen.wrong(format!("input/{shown} is a symbolic link")),
                EntryKind::Other => {
                    seen.wrong(format!("input/{shown} is neither a file nor a folder"));
                }
            }
        }
    }
}

/// What the two folders of a task are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    input: EntryKind,
    output: Option<EntryKind>,
}

/// What was seen below one `input/`.
#[derive(Debug, Default)]
struct Seen {
    parts: Vec<String>,
    task: bool,
    cancel: bool,
    fault: Option<String>,
}

impl Seen {
    /// The first thing that is wrong is the one that is told.
    fn wrong(&mut self, fault: String) {
        self.fault.get_or_insert(fault);
    }
}

/// Its presence in `input/` ends the task, and begins none.
pub(super) const CANCEL: &str = "CANCEL";

/// Folders between `tasks/` and that of a task, and that one: three on the published wire.
const MOST_LEVELS: usize = 4;
/// Folders that are looked through in all.
const MOST_FOLDERS: usize = 20_000;
/// Entries of one folder that are looked at.
const MOST_ENTRIES: usize = 20_000;
/// Entries below one `input/`.
const MOST_ATTACHED: usize = 2_000;
/// Folders within folders below `input/`.
const MOST_DEEP: usize = 16;
