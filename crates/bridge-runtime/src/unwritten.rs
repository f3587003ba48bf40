//! Attachments that could not be saved. `write_file` has no reply on the wire, so the run that
//! would miss its file is refused instead.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
};

/// The files that were refused and not written since; the newest [`MOST`] of them.
#[derive(Debug, Default)]
pub(crate) struct Unwritten {
    files: VecDeque<(PathBuf, String)>,
}

impl Unwritten {
    /// This file is not there, and why.
    pub(crate) fn refused(&mut self, file: PathBuf, why: String) {
        self.written(&file);
        if self.files.len() == MOST {
            self.files.pop_front();
        }
        self.files.push_back((file, why));
    }

    /// This file is there now.
    pub(crate) fn written(&mut self, file: &Path) {
        self.files.retain(|(other, _)| other != file);
    }

    /// What the task in this folder misses of its input, if anything; told once, so that the run
    /// can be asked for again.
    pub(crate) fn missed_by(&mut self, task_folder: &Path) -> Option<String> {
        let input = task_folder.join("input");
        let mut missed = Vec::new();
        self.files.retain(|(file, why)| {
            let misses = file.starts_with(&input);
            if misses {
                let name = file.strip_prefix(&input).unwrap_or(file).display();
                missed.push(format!("{name} ({why})"));
            }
            !misses
        });
        (!missed.is_empty()).then(|| {
            let missed = missed.join(", ");
            format!("attachments could not be saved on this machine: {missed}; send the task again")
        })
    }
}

/// More than a task has attachments.
const MOST: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(files: &[&str]) -> Unwritten {
        let mut unwritten = Unwritten::default();
        for file in files {
            unwritten.refused(file.into(), "no room".into());
        }
        unwritten
    }

    #[test]
    fn a_task_is_told_once_which_of_its_files_are_missing_and_of_no_others() {
        let mut unwritten = refused(&["/r/tasks/a/input/x.md", "/r/tasks/ab/input/y.md"]);
        let told = unwritten.missed_by(Path::new("/r/tasks/a"));
        assert!(told.is_some_and(|told| told.contains("x.md (no room)")));
        assert_eq!(unwritten.missed_by(Path::new("/r/tasks/a")), None);
        assert!(unwritten.missed_by(Path::new("/r/tasks/ab")).is_some());
    }

    #[test]
    fn a_file_that_was_written_later_is_not_missed() {
        let mut unwritten = refused(&["/r/tasks/a/input/x.md", "/r/tasks/a/output/z.md"]);
        unwritten.written(Path::new("/r/tasks/a/input/x.md"));
        assert_eq!(unwritten.missed_by(Path::new("/r/tasks/a")), None);
    }

    #[test]
    fn a_plane_that_sends_refused_files_without_end_fills_no_memory() {
        let files: Vec<String> = (0..1000).map(|n| format!("/r/tasks/a/input/{n}")).collect();
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        assert_eq!(refused(&files).files.len(), MOST);
    }
}
