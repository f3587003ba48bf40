//! Dropped tasks: folders below `CTRLNODE_ROOT/tasks` that somebody on this machine put there with
//! an `input/TASK.md`, to be done and answered in their `output/`.
//!
//! [`text`] is what such a file says, [`look`] finds the folders and what is wrong with them,
//! [`answer`] writes what has become of them, [`moved`] is about those that are
//! not where they were, [`watch`] tells when to look again. What was dealt
//! with is kept in one small file for each folder below `journal/drops`, where no task works: a
//! folder cannot make itself run again.

pub mod answer;
pub mod look;
pub mod moved;
pub mod text;
pub mod watch;

use std::{
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use bridge_proto::{Digest, TaskId};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use self::{
    answer::DropStatus,
    text::{DropText, DropTextError, TASK},
};
use crate::{
    contained::{ContainError, ContainedPath, EntryKind, Folder, PathFault},
    root::Workspace,
    task_dir::{INPUT, literal},
};

/// The dropped tasks of a workspace. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DropBox {
    root: Arc<Folder>,
}

/// What was dealt with in one folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DropRecord {
    /// Relative to `CTRLNODE_ROOT`.
    pub folder: String,
    /// How far it is.
    pub state: DropState,
    /// What `input/` looked like; while it looks the same there is nothing to do.
    pub print: String,
    /// Digest of the text that was taken up last; empty before the first.
    pub text: String,
    /// How many runs were taken up. The first is a task, further ones are follow-ups.
    pub runs: u32,
    /// Whether its `output/TASK.md` was written. If that is gone, somebody wants it done anew.
    pub told: bool,
}

/// How far a dropped task is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "is", deny_unknown_fields)]
pub enum DropState {
    /// It is no dropped task: a control plane made the folder.
    Elsewhere,
    /// It cannot be done as it is.
    Refused,
    /// It is handed on, and no end of it was told.
    Working {
        /// The attempt of its run.
        attempt: String,
    },
    /// It has ended.
    Over,
}

/// Why a dropped task cannot be read or answered.
#[derive(Debug, Error)]
pub enum DropError {
    /// Something stands in the way on the disk.
    #[error(transparent)]
    Contained(#[from] ContainError),
    /// The folder has a name that cannot be used.
    #[error("the name cannot be used: {0}")]
    Path(#[from] PathFault),
    /// Longer than [`MAX_TASK_BYTES`].
    #[error("{TASK} has more than {MAX_TASK_BYTES} bytes")]
    TooLong,
    /// Not text.
    #[error("{TASK} is not UTF-8")]
    NotText,
    /// It says no task.
    #[error(transparent)]
    Text(#[from] DropTextError),
    /// What was dealt with cannot be written.
    #[error("the record of the folder cannot be written")]
    Record(#[from] serde_json::Error),
    /// What lies in `input/` is not taken.
    #[error("{0}")]
    Input(String),
}

impl Workspace {
    /// The dropped tasks of this workspace; makes their folder.
    pub fn drop_box(&self) -> Result<DropBox, ContainError> {
        self.root.create_folder(&literal(TASKS))?;
        self.root.create_folder(&literal(RECORDS))?;
        Ok(DropBox {
            root: Arc::clone(&self.root),
        })
    }
}

impl DropBox {
    /// The folder below which tasks are dropped, absolute.
    pub fn place(&self) -> PathBuf {
        self.root.path().join(TASKS)
    }

    /// The id of the task in this folder; always the same for one name.
    pub fn task_of(folder: &str) -> TaskId {
        let mut digest = Digest::of(&[folder]).as_str().to_owned();
        digest.truncate(12);
        TaskId::parse(&format!("{}{digest}", TaskId::DROPPED)).expect("hex digits make an id")
    }

    /// Reads the task in this folder, and its digest.
    pub fn read(&self, folder: &str) -> Result<(DropText, String), DropError> {
        let text = self.text(folder)?;
        let digest = digest(&text);
        Ok((DropText::parse(&text)?, digest))
    }

    /// The digest of the task's text as it is now; empty when there is none that could be read.
    pub fn digest(&self, folder: &str) -> String {
        self.text(folder)
            .map_or_else(|_| String::new(), |text| digest(&text))
    }

    fn text(&self, folder: &str) -> Result<String, DropError> {
        let file = ContainedPath::parse(folder)?.child(INPUT)?.child(TASK)?;
        let mut bytes = Vec::new();
        let read = self.root.read(&file)?.take(MAX_TASK_BYTES + 1);
        let mut read = io::BufReader::new(read);
        read.read_to_end(&mut bytes)
            .map_err(|source| ContainError::Io {
                path: file.to_string(),
                source,
            })?;
        if bytes.len() as u64 > MAX_TASK_BYTES {
            return Err(DropError::TooLong);
        }
        String::from_utf8(bytes).map_err(|_| DropError::NotText)
    }

    /// What was dealt with in this folder. `None` as well when its `output/TASK.md` was written and
    /// is gone: then somebody wants it done anew.
    ///
    /// A record that cannot be read counts as one of a folder that is none of ours: nothing may
    /// run twice.
    pub fn record(&self, folder: &str) -> Option<DropRecord> {
        self.kept(folder).filter(|record| {
            let handed_on = matches!(record.state, DropState::Working { .. });
            handed_on || !record.told || self.is_told(folder)
        })
    }

    fn kept(&self, folder: &str) -> Option<DropRecord> {
        let file = match self.root.read(&record_path(folder)) {
            Ok(file) => file,
            Err(ContainError::Missing { .. }) => return None,
            Err(error) => {
                tracing::warn!(folder, %error, "what was dealt with here cannot be read");
                return Some(elsewhere(folder));
            }
        };
        match serde_json::from_reader(file.take(MAX_RECORD_BYTES)) {
            Ok(record) => Some(record),
            Err(error) => {
                tracing::warn!(folder, %error, "what was dealt with here cannot be read");
                Some(elsewhere(folder))
            }
        }
    }

    /// Keeps what was dealt with; it survives a power cut when this returns.
    pub fn keep(&self, record: &DropRecord) -> Result<(), DropError> {
        let text = serde_json::to_string(record)?;
        let path = record_path(&record.folder);
        Ok(self.root.replace(&path, text.as_bytes(), true)?)
    }

    /// Notes that a control plane uses this folder, unless it is a dropped task already.
    pub fn leave_to_the_plane(&self, folder: &str) -> Result<(), DropError> {
        let folder = ContainedPath::parse(folder)?.to_string();
        if self.kept(&folder).is_none() {
            self.keep(&elsewhere(&folder))?;
        }
        Ok(())
    }

    /// As [`DropBox::leave_to_the_plane`], for the folder whose `input/TASK.md` this file is, if it
    /// is one. The path is absolute.
    pub fn written_by_the_plane(&self, file: &Path) -> Result<(), DropError> {
        let Ok(relative) = file.strip_prefix(self.root.path()) else {
            return Ok(());
        };
        let folder = relative.parent().filter(|input| input.ends_with(INPUT));
        let folder = folder.and_then(Path::parent).and_then(Path::to_str);
        match folder {
            Some(folder) if relative.ends_with(TASK) => self.leave_to_the_plane(folder),
            Some(_) | None => Ok(()),
        }
    }

    /// Forgets the folders that are gone.
    pub fn tidy(&self) -> Result<(), DropError> {
        let entries = self.root.entries(&literal(RECORDS), MOST_RECORDS)?;
        let files = entries.into_iter().filter(|it| it.kind == EntryKind::File);
        for name in files.filter_map(|it| it.name) {
            let path = literal(RECORDS).child(&name)?;
            let Ok(file) = self.root.read(&path) else {
                continue;
            };
            let record = serde_json::from_reader::<_, DropRecord>(file.take(MAX_RECORD_BYTES));
            let gone = record.is_ok_and(|record| {
                let folder = ContainedPath::parse(&record.folder);
                folder.is_ok_and(|folder| {
                    let opened = self.root.open_folder(&folder);
                    matches!(opened, Err(ContainError::Missing { .. }))
                })
            });
            if gone {
                self.root.remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// Tells what has become of a task, and keeps that it was told.
    pub fn close(&self, record: &mut DropRecord, status: &DropStatus) -> Result<(), DropError> {
        let told = self.tell(&record.folder, status);
        record.told |= told.is_ok();
        self.keep(record)?;
        told
    }
}

fn digest(text: &str) -> String {
    Digest::of(&[text]).as_str().to_owned()
}

fn record_path(folder: &str) -> ContainedPath {
    let name = format!("{}.json", Digest::of(&[folder]).as_str());
    literal(&format!("{RECORDS}/{name}"))
}

fn elsewhere(folder: &str) -> DropRecord {
    DropRecord {
        folder: folder.to_owned(),
        state: DropState::Elsewhere,
        print: String::new(),
        text: String::new(),
        runs: 0,
        told: false,
    }
}

/// Longest `TASK.md`.
pub const MAX_TASK_BYTES: u64 = 1024 * 1024;

const TASKS: &str = "tasks";
const RECORDS: &str = "journal/drops";
/// A folder name and two digests.
const MAX_RECORD_BYTES: u64 = 16 * 1024;
/// So many are looked through for those whose folder is gone.
const MOST_RECORDS: usize = 100_000;
