//! The folder of one task: `input/`, `output/`, logs, the ids that resume its conversations.

use std::{
    collections::BTreeMap,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use bridge_proto::{ProviderKey, ResumeId, ctrlnode::strip_status_tags};
use thiserror::Error;

use crate::{
    contained::{ContainError, ContainedPath, Folder, PathFault},
    guard::TEMP,
    task_log::TaskLog,
};

/// An open task folder. Cheap to clone; every file in it is reached from its handle, and no link
/// in it is followed.
#[derive(Debug, Clone)]
pub struct TaskDir {
    pub(crate) folder: Arc<Folder>,
    relative: ContainedPath,
    short: String,
}

/// Why something in the task folder cannot be used.
#[derive(Debug, Error)]
pub enum TaskDirError {
    /// A file or folder stands in the way, is gone, or the system said no.
    #[error(transparent)]
    Contained(#[from] ContainError),
    /// A name made from the task's own does not work here.
    #[error("{name:?}: {fault}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        fault: PathFault,
    },
}

impl TaskDir {
    pub(crate) fn create(
        root: &Folder,
        relative: ContainedPath,
        name_or_id: &str,
    ) -> Result<Self, ContainError> {
        let folder = Arc::new(root.create_folder(&relative)?);
        let short = match name_or_id.split('-').next() {
            Some(short) if !short.is_empty() => short.to_owned(),
            Some(_) | None => "task".to_owned(),
        };
        let dir = Self {
            folder,
            relative,
            short,
        };
        for name in [INPUT, OUTPUT] {
            dir.folder.create_folder(&literal(name))?;
        }
        Ok(dir)
    }

    /// Absolute, without links.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Relative to `CTRLNODE_ROOT`, with `/`.
    pub fn relative(&self) -> String {
        self.relative.to_string()
    }

    /// Its last component.
    pub fn name(&self) -> &str {
        self.relative.name().unwrap_or("task")
    }

    /// What file names of follow-ups begin with: the text before the first `-` of the folder's
    /// name, or of the first 8 characters of the task id.
    pub fn short(&self) -> &str {
        &self.short
    }

    /// Where the task text and attachments are.
    pub fn input(&self) -> PathBuf {
        self.path().join(INPUT)
    }

    /// Where deliverables belong.
    pub fn output(&self) -> PathBuf {
        self.path().join(OUTPUT)
    }

    /// The log of the run: `output/agent_log.md`, or that of follow-up `n`.
    pub fn log(&self, n: Option<u32>) -> TaskLog {
        TaskLog::new(Arc::clone(&self.folder), log_path(n))
    }

    /// A folder for temporary files of an agent, created when missing.
    pub fn temp(&self) -> Result<PathBuf, TaskDirError> {
        Ok(self.folder.create_folder(&literal(TEMP))?.path().to_owned())
    }

    /// Removes the folder for temporary files with everything in it.
    pub fn remove_temp(&self) -> Result<(), TaskDirError> {
        Ok(self.folder.remove_tree(&literal(TEMP))?)
    }

    /// What resumes the conversation with this provider. A file the agent has spoiled counts as
    /// none, and so does an id that could be read as an option.
    pub fn session(&self, provider: &ProviderKey) -> Option<ResumeId> {
        let own = self.sessions().get(provider.as_str()).cloned();
        let text = own.or_else(|| {
            // A task begun by the existing bridge keeps its conversation here.
            let shared = matches!(provider.as_str(), "claude" | "claude-sdk");
            shared.then(|| self.small_text(LEGACY_SESSION)).flatten()
        })?;
        let text = text.trim();
        if text.starts_with('-') {
            None
        } else {
            ResumeId::parse(text).ok()
        }
    }

    /// Keeps what resumes the conversation with this provider.
    pub fn save_session(&self, provider: &ProviderKey, id: &ResumeId) -> Result<(), TaskDirError> {
        let mut sessions = self.sessions();
        sessions.insert(provider.as_str().to_owned(), id.as_str().to_owned());
        self.write_sessions(&sessions)
    }

    /// Forgets the conversation with this provider, e.g. when it cannot be resumed.
    pub fn forget_session(&self, provider: &ProviderKey) -> Result<(), TaskDirError> {
        let mut sessions = self.sessions();
        // An empty id also hides one of the existing bridge.
        sessions.insert(provider.as_str().to_owned(), String::new());
        self.write_sessions(&sessions)
    }

    /// Writes the final text to `output/<folder name>-output.md` unless it is blank or the file
    /// exists. Status tags are removed. Gives whether it was written.
    pub fn save_output_if_missing(&self, final_text: &str) -> Result<bool, TaskDirError> {
        self.save_text_if_missing(&format!("{}-output.md", self.name()), final_text)
    }

    /// As [`TaskDir::save_output_if_missing`], for the answer file of follow-up `n`.
    pub fn save_follow_up_output_if_missing(
        &self,
        n: u32,
        final_text: &str,
    ) -> Result<bool, TaskDirError> {
        self.save_text_if_missing(&self.follow_up_output(n), final_text)
    }

    /// Name of the answer file of follow-up `n`, below `output/`.
    pub(crate) fn follow_up_output(&self, n: u32) -> String {
        format!("{}-followup-{n}-output.md", self.short)
    }

    /// Appends this name to one of the folder's own subfolders.
    pub(crate) fn inside(folder: &str, name: &str) -> Result<ContainedPath, TaskDirError> {
        literal(folder)
            .child(name)
            .map_err(|fault| TaskDirError::Name {
                name: name.to_owned(),
                fault,
            })
    }

    fn save_text_if_missing(&self, name: &str, text: &str) -> Result<bool, TaskDirError> {
        let text = strip_status_tags(text);
        if text.trim().is_empty() {
            return Ok(false);
        }
        Ok(self
            .folder
            .create(&Self::inside(OUTPUT, name)?, text.as_bytes())?)
    }

    fn sessions(&self) -> BTreeMap<String, String> {
        let text = self.small_text(SESSIONS).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    fn write_sessions(&self, sessions: &BTreeMap<String, String>) -> Result<(), TaskDirError> {
        let text = serde_json::Value::from_iter(sessions.clone()).to_string();
        Ok(self
            .folder
            .replace(&literal(SESSIONS), text.as_bytes(), true)?)
    }

    fn small_text(&self, name: &str) -> Option<String> {
        let mut text = String::new();
        let file = self.folder.read(&literal(name)).ok()?;
        file.take(MAX_SESSION_BYTES)
            .read_to_string(&mut text)
            .ok()?;
        Some(text)
    }
}

/// The log of the run, relative to the task folder.
pub(crate) fn log_path(n: Option<u32>) -> ContainedPath {
    match n {
        None => literal("output/agent_log.md"),
        Some(n) => literal(&format!("output/agent_log.followup-{n}.md")),
    }
}

/// A path of our own making.
pub(crate) fn literal(path: &str) -> ContainedPath {
    ContainedPath::parse(path).expect("written here without dots or separators at its start")
}

pub(crate) const INPUT: &str = "input";
pub(crate) const OUTPUT: &str = "output";
const SESSIONS: &str = "session_ids.json";

/// Where the existing bridge keeps the id of a Claude conversation, as plain text.
const LEGACY_SESSION: &str = "session_id";

/// More than a few ids of 256 bytes ever need; an agent can write this file.
const MAX_SESSION_BYTES: u64 = 64 * 1024;
