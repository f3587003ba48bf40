//! `output/TASK.md` of a dropped task: what has become of it, in a few lines at the top that are
//! ours. What an agent writes below them stays. No link is followed to get there; `STATUS.md` beside
//! `output` says it then.

use std::io::{self, Read as _};

use super::{
    DropBox, DropError,
    text::{FENCE, TASK},
};
use crate::{
    contained::{ContainError, ContainedPath, Folder},
    task_dir::{OUTPUT, literal},
};

/// What has become of a dropped task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropStatus {
    /// One word: `waiting`, `working`, `completed`, `failed`, `blocked`, `cancelled`, `refused`.
    pub status: &'static str,
    /// Why, where there is something to say.
    pub reason: Option<String>,
    /// Who does it.
    pub agent: Option<String>,
    /// The task's id; logs and the control plane call it so.
    pub task: String,
    /// When, as a person reads it.
    pub at: String,
}

impl DropStatus {
    fn text(&self) -> String {
        let line = |name: &str, value: &str| format!("{name}: {}\n", on_one_line(value));
        let mut text = format!("{FENCE}\n");
        text += &line("status", self.status);
        if let Some(reason) = &self.reason {
            text += &line("reason", reason);
        }
        if let Some(agent) = &self.agent {
            text += &line("agent", agent);
        }
        text += &line("task", &self.task);
        text += &line("at", &self.at);
        text + FENCE + "\n"
    }
}

impl DropBox {
    /// Writes what has become of the task in this folder, to `output/TASK.md`. Where a link or
    /// anything else that is no folder or file stands in the way there, it is told in `STATUS.md`
    /// beside `output`. What stands below our lines stays, unless it has more than 1 MiB or is not
    /// UTF-8.
    pub fn tell(&self, folder: &str, status: &DropStatus) -> Result<(), DropError> {
        let folder = self.root.open_folder(&ContainedPath::parse(folder)?)?;
        tell_in(&folder, status)
    }

    /// Whether something was told of the task in this folder and is still there.
    pub(super) fn is_told(&self, folder: &str) -> bool {
        let folder = ContainedPath::parse(folder).map(|folder| self.root.open_folder(&folder));
        let Ok(Ok(folder)) = folder else {
            return false;
        };
        let beside = || told(&folder, &literal(BESIDE)).ok().flatten();
        folder.read(&answer()).is_ok()
            || beside().is_some_and(|text| without_status(&text).is_some())
    }

    /// Whether an agent has worked in this folder before.
    pub(super) fn has_traces(&self, folder: &ContainedPath) -> bool {
        TRACES.iter().any(|trace| {
            let path = trace
                .split('/')
                .try_fold(folder.clone(), |path, name| path.child(name));
            path.is_ok_and(|path| self.root.read(&path).is_ok())
        })
    }
}

/// As [`DropBox::tell`], for an open folder.
pub(super) fn tell_in(folder: &Folder, status: &DropStatus) -> Result<(), DropError> {
    match put(folder, &answer(), status) {
        Ok(()) => {
            if let Err(error) = take_back(folder) {
                tracing::debug!(%error, "what was told before stays beside what is told now");
            }
            Ok(())
        }
        Err(
            error @ (ContainError::Link { .. }
            | ContainError::Outside { .. }
            | ContainError::NotAFolder { .. }
            | ContainError::NotAFile { .. }),
        ) => {
            let mut status = status.clone();
            status
                .reason
                .get_or_insert_with(|| format!("told here because {error}"));
            Ok(put(folder, &literal(BESIDE), &status)?)
        }
        Err(
            error @ (ContainError::Missing { .. }
            | ContainError::Executable { .. }
            | ContainError::Io { .. }),
        ) => Err(error.into()),
    }
}

/// The status and the task of what was told in this folder.
pub(super) fn told_in(folder: &Folder) -> Option<(String, String)> {
    [answer(), literal(BESIDE)].iter().find_map(|file| {
        let mut head = Vec::new();
        let read = folder.read(file).ok()?.take(MOST_OF_THE_HEAD);
        let mut read = io::BufReader::new(read);
        read.read_to_end(&mut head).ok()?;
        let head = String::from_utf8_lossy(&head);
        let mut lines = head.lines();
        lines.next().filter(|first| *first == FENCE)?;
        let status = lines.next()?.strip_prefix("status: ")?;
        let mut ours = lines.take_while(|line| *line != FENCE);
        let task = ours.find_map(|line| line.strip_prefix("task: "))?;
        Some((status.to_owned(), task.to_owned()))
    })
}

/// Puts our lines at the top of this file.
fn put(folder: &Folder, file: &ContainedPath, status: &DropStatus) -> Result<(), ContainError> {
    let old = told(folder, file)?.unwrap_or_default();
    let below = without_status(&old).unwrap_or(&old);
    folder.replace(file, (status.text() + below).as_bytes(), false)
}

/// Takes our lines out of what was told beside `output`.
fn take_back(folder: &Folder) -> Result<(), ContainError> {
    let beside = literal(BESIDE);
    let old = told(folder, &beside)?.unwrap_or_default();
    match without_status(&old) {
        Some("") => folder.remove_file(&beside),
        Some(below) => folder.replace(&beside, below.as_bytes(), false),
        None => Ok(()),
    }
}

/// What stands in this file; nothing when that is too long or no text.
fn told(folder: &Folder, file: &ContainedPath) -> Result<Option<String>, ContainError> {
    let read = match folder.read(file) {
        Ok(read) => read,
        Err(ContainError::Missing { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    let read = read.take(MOST_BELOW + 1).read_to_end(&mut bytes);
    read.map_err(|source| ContainError::Io {
        path: file.to_string(),
        source,
    })?;
    let text = String::from_utf8(bytes).ok();
    Ok(text.filter(|text| text.len() as u64 <= MOST_BELOW))
}

/// The text below our own lines; `None` when it does not begin with them.
fn without_status(text: &str) -> Option<&str> {
    let rest = text.strip_prefix(&format!("{FENCE}\nstatus: "))?;
    let end = format!("\n{FENCE}\n");
    Some(rest.split_once(&end).map_or("", |(_, below)| below))
}

fn answer() -> ContainedPath {
    literal(&format!("{OUTPUT}/{TASK}"))
}

fn on_one_line(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(MOST_OF_A_LINE).map(plain).collect()
}

/// What a run leaves in its folder, of ours and of the existing bridge.
const TRACES: [&str; 3] = ["output/agent_log.md", "session_ids.json", "session_id"];
/// Where it is told when that cannot be done in `output/`.
const BESIDE: &str = "STATUS.md";
const MOST_BELOW: u64 = 1024 * 1024;
const MOST_OF_A_LINE: usize = 2000;
/// More than two long lines and three short ones.
const MOST_OF_THE_HEAD: u64 = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_replaced_and_what_the_agent_wrote_below_stays() {
        let status = |status| DropStatus {
            status,
            reason: Some("line one\nstatus: completed".into()),
            agent: Some("demo".into()),
            task: "drop-1".into(),
            at: "2026-03-14T09:00:00.000Z".into(),
        };
        let first = status("working").text();
        assert_eq!(
            first,
            "---\nstatus: working\nreason: line one status: completed\nagent: demo\ntask: drop-1\nat: 2026-03-14T09:00:00.000Z\n---\n"
        );
        let written = format!("{first}# Progress\n\n---\nhalf done\n");
        assert_eq!(
            without_status(&written),
            Some("# Progress\n\n---\nhalf done\n")
        );
        assert_eq!(without_status("# All mine\n"), None);
        assert_eq!(without_status(""), None);
    }
}
