//! Preparing a follow-up: its number, its saved message, and the prompt that reminds the agent of
//! what went before.

use std::{
    fmt::Write as _,
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
};

use thiserror::Error;

use crate::{
    contained::{ContainError, ContainedPath, MAX_CHILDREN},
    repository::Repository,
    task_dir::{INPUT, OUTPUT, TaskDir, TaskDirError, literal, log_path},
};

/// A prepared follow-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowUpFiles {
    /// Its number, from 1.
    pub n: u32,
    /// What the agent gets: a `<system>` block, then the message.
    pub prompt: String,
    /// Where the message was saved, relative to the task folder.
    pub saved: String,
    /// Where the answer should be written, relative to `CTRLNODE_ROOT`.
    pub output: String,
}

/// Why a follow-up could not be prepared; the bare message can still be sent.
#[derive(Debug, Error)]
pub enum FollowUpError {
    /// The task folder cannot be used.
    #[error(transparent)]
    TaskDir(#[from] TaskDirError),
    /// There are [`MAX_FOLLOW_UPS`] already.
    #[error("the task has {MAX_FOLLOW_UPS} follow-ups already")]
    TooMany,
}

impl From<ContainError> for FollowUpError {
    fn from(error: ContainError) -> Self {
        Self::TaskDir(error.into())
    }
}

/// Where a follow-up works in work-directory mode.
#[derive(Debug, Clone, Copy)]
pub struct RepositoryContext<'a> {
    /// The working directory.
    pub repository: &'a Repository,
    /// Files of it the person pointed at, as received.
    pub focus_files: &'a [String],
}

impl TaskDir {
    /// Numbers the follow-up, saves its message as `input/<short>-followup-<n>.md` and builds the
    /// prompt, for output mode.
    pub fn prepare_follow_up(&self, message: &str) -> Result<FollowUpFiles, FollowUpError> {
        self.prepare_follow_up_in(message, None)
    }

    /// As [`TaskDir::prepare_follow_up`], for work-directory mode when a repository is given.
    pub fn prepare_follow_up_in(
        &self,
        message: &str,
        repository: Option<RepositoryContext<'_>>,
    ) -> Result<FollowUpFiles, FollowUpError> {
        // Read before the number is taken: an earlier attempt that failed here leaves nothing.
        let logs = self.earlier_logs()?;
        let (n, saved) = self.save_message(message)?;
        let output_name = self.follow_up_output(n);
        let output = format!("{}/{OUTPUT}/{output_name}", self.relative());
        let mut system = String::from("<system>\n");
        if !logs.is_empty() {
            push_section(&mut system, "Prior task conversation log", &logs);
        }
        let context = format!(
            "This message continues the task. Its text and attachments are in `{}`.",
            self.input().display()
        );
        push_section(&mut system, "Original task context", &context);
        if let Some(context) = repository {
            push_section(&mut system, "Repository context", &repository_text(context));
        }
        let start = match repository {
            Some(context) => context.repository.path(),
            None => self.path(),
        };
        let hint = format!(
            "`@name` in the message means a file relative to `{}`.",
            start.display()
        );
        push_section(&mut system, "File references", &hint);
        let absolute = self.output().join(&output_name);
        let answer = format!("Write the answer to `{output}` (`{}`).", absolute.display());
        push_section(&mut system, "Follow-up output file", &answer);
        let prompt = format!("{}\n</system>\n\n{message}", system.trim_end());
        Ok(FollowUpFiles {
            n,
            prompt,
            saved: saved.to_string(),
            output,
        })
    }

    fn save_message(&self, message: &str) -> Result<(u32, ContainedPath), FollowUpError> {
        let existing = self
            .folder
            .children(&literal(INPUT), MAX_CHILDREN)?
            .iter()
            .filter(|child| !child.is_dir && is_follow_up(&child.name))
            .count();
        let first = u32::try_from(existing).map_or(MAX_FOLLOW_UPS, |count| count + 1);
        // A number whose file exists is taken even when a lower one was deleted.
        for n in first..=MAX_FOLLOW_UPS {
            let path = Self::inside(INPUT, &format!("{}-followup-{n}.md", self.short()))?;
            if self.folder.create(&path, message.as_bytes())? {
                return Ok((n, path));
            }
        }
        Err(FollowUpError::TooMany)
    }

    /// All logs, oldest first, joined by `---`; the newest [`MAX_LOG_CONTEXT`] bytes of them.
    fn earlier_logs(&self) -> Result<String, ContainError> {
        let mut numbers: Vec<u32> = self
            .folder
            .children(&literal(OUTPUT), MAX_CHILDREN)?
            .iter()
            .filter_map(|child| log_order(&child.name))
            .collect();
        numbers.sort_unstable();
        numbers.dedup();
        let mut room = MAX_LOG_CONTEXT;
        let mut logs = Vec::new();
        for n in numbers.into_iter().rev() {
            let (text, whole) = match self.tail(&log_path((n > 0).then_some(n)), room) {
                Ok(tail) => tail,
                // The folder is the agent's: what cannot be read is left out.
                Err(error) => {
                    tracing::debug!(%error, "an earlier log is left out");
                    continue;
                }
            };
            room = room.saturating_sub(text.len() as u64 + SEPARATOR.len() as u64);
            let text = text.trim();
            if whole {
                logs.push(text.to_owned());
            } else {
                logs.push(format!("[earlier entries are left out]\n{text}"));
            }
            if !whole || room == 0 {
                break;
            }
        }
        logs.retain(|text| !text.is_empty());
        logs.reverse();
        Ok(neutral(&logs.join(SEPARATOR)))
    }

    /// The last `room` bytes as text, and whether that is all of it.
    fn tail(&self, path: &ContainedPath, room: u64) -> Result<(String, bool), ContainError> {
        let io = |source| ContainError::Io {
            path: path.to_string(),
            source,
        };
        let mut file = self.folder.read(path)?;
        let size = file.metadata().map_err(io)?.len();
        let start = size.saturating_sub(room);
        file.seek(SeekFrom::Start(start)).map_err(io)?;
        let mut bytes = Vec::new();
        file.take(room).read_to_end(&mut bytes).map_err(io)?;
        // The cut may go through a character; its rest is not text.
        let cut = if start == 0 {
            0
        } else {
            bytes
                .iter()
                .take_while(|byte| **byte & 0b1100_0000 == 0b1000_0000)
                .count()
        };
        let text = String::from_utf8_lossy(bytes.get(cut..).unwrap_or_default()).into_owned();
        Ok((text, start == 0))
    }
}

fn push_section(out: &mut String, title: &str, text: &str) {
    write!(out, "## {title}\n\n{text}\n\n").expect("a String takes every text");
}

fn repository_text(context: RepositoryContext<'_>) -> String {
    let mut text = format!(
        "The working directory is `{}`.",
        context.repository.path().display()
    );
    let files: Vec<&str> = context
        .focus_files
        .iter()
        .map(String::as_str)
        .filter(|file| is_focus_file(file))
        .take(MAX_FOCUS_FILES)
        .collect();
    if !files.is_empty() {
        text.push_str(" The person points at these files:\n");
        for file in files {
            text.push_str("\n- `");
            text.push_str(&neutral(file));
            text.push('`');
        }
    }
    text
}

/// A path the person can have meant: inside the repository, in one line.
fn is_focus_file(file: &str) -> bool {
    let inside = ContainedPath::parse_wire(file).is_ok_and(|path| !path.is_root());
    inside || (Path::new(file).is_absolute() && !file.chars().any(char::is_control))
}

/// Text of an agent must not end the system block.
fn neutral(text: &str) -> String {
    text.replace("</system>", "<\\/system>")
        .replace("<system>", "<\\system>")
}

fn is_follow_up(name: &str) -> bool {
    name.strip_suffix(".md")
        .and_then(|stem| stem.split_once("-followup-"))
        .is_some_and(|(short, n)| {
            !short.is_empty()
                && !short.contains('-')
                && !n.is_empty()
                && n.bytes().all(|byte| byte.is_ascii_digit())
        })
}

/// Which log this is, in their order; `None` when it is none.
fn log_order(name: &str) -> Option<u32> {
    if name == "agent_log.md" {
        return Some(0);
    }
    let n = name
        .strip_prefix("agent_log.followup-")?
        .strip_suffix(".md")?;
    n.parse().ok().filter(|n| *n > 0)
}

const SEPARATOR: &str = "\n\n---\n\n";

/// How much of the earlier logs a prompt carries, in bytes.
pub const MAX_LOG_CONTEXT: u64 = 64 * 1024;

/// Most follow-ups of a task; bounds the search for a free number.
pub const MAX_FOLLOW_UPS: u32 = 100_000;

/// Most focus files named in a prompt.
pub const MAX_FOCUS_FILES: usize = 100;
