//! `output/TASK.md` of a dropped task: what has become of it, in a few lines at the top that are
//! ours. What an agent writes below them stays.

use std::io::Read as _;

use super::{
    DropBox, DropError,
    text::{FENCE, TASK},
};
use crate::{
    contained::{ContainError, ContainedPath},
    task_dir::OUTPUT,
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
    /// Writes what has become of the task in this folder. What stands below our lines stays, unless
    /// it has more than 1 MiB or is not UTF-8.
    pub fn tell(&self, folder: &str, status: &DropStatus) -> Result<(), DropError> {
        let folder = ContainedPath::parse(folder)?;
        let file = folder.child(OUTPUT)?.child(TASK)?;
        let mut below = Vec::new();
        match self.root.read(&file) {
            Ok(old) => {
                let read = old.take(MOST_BELOW + 1).read_to_end(&mut below);
                read.map_err(|source| ContainError::Io {
                    path: file.to_string(),
                    source,
                })?;
            }
            Err(ContainError::Missing { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let below = String::from_utf8(below).unwrap_or_default();
        let below = if below.len() as u64 > MOST_BELOW {
            ""
        } else {
            without_status(&below)
        };
        let text = status.text() + below;
        Ok(self.root.replace(&file, text.as_bytes(), false)?)
    }

    /// Whether something was told of the task in this folder and is still there.
    pub(super) fn is_told(&self, folder: &str) -> bool {
        let file = ContainedPath::parse(folder)
            .and_then(|folder| folder.child(OUTPUT))
            .and_then(|output| output.child(TASK));
        file.is_ok_and(|file| self.root.read(&file).is_ok())
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

/// The text below our own lines.
fn without_status(text: &str) -> &str {
    let Some(rest) = text.strip_prefix(&format!("{FENCE}\nstatus: ")) else {
        return text;
    };
    let end = format!("\n{FENCE}\n");
    rest.split_once(&end).map_or("", |(_, below)| below)
}

fn on_one_line(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(MOST_OF_A_LINE).map(plain).collect()
}

/// What a run leaves in its folder, of ours and of the existing bridge.
const TRACES: [&str; 3] = ["output/agent_log.md", "session_ids.json", "session_id"];
const MOST_BELOW: u64 = 1024 * 1024;
const MOST_OF_A_LINE: usize = 2000;

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
        assert_eq!(without_status(&written), "# Progress\n\n---\nhalf done\n");
        assert_eq!(without_status("# All mine\n"), "# All mine\n");
        assert_eq!(without_status(""), "");
    }
}
