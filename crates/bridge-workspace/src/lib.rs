//! Disk: the workspace root and its lock, task folders, contained paths, file requests, task logs
//! and the run journal. This crate decides what of the disk another party may see or change; it
//! knows no wire, no agent and no run states.
//!
//! Every call here blocks on the file system. Async callers run them on a blocking thread.
//!
//! Reading order: [`contained`] (a path proven to stay beneath an open folder), [`guard`] (what may
//! be read, written and worked in), [`root`] (the workspace and its lock), [`repository`] and
//! [`task_dir`] (where runs work), [`follow_up`], [`task_log`], [`files`] (file requests),
//! [`journal`] (what survives a crash), [`env_file`] (settings on disk), [`status`] (what others on
//! this machine may know of a running bridge), [`model_manifest`] (what the plane said of models).

pub mod contained;
pub mod env_file;
pub mod files;
pub mod follow_up;
pub mod guard;
pub mod journal;
pub mod lock;
pub mod model_manifest;
pub mod repository;
pub mod root;
pub mod status;
mod sys;
pub mod task_dir;
pub mod task_log;

pub use contained::{ContainError, ContainedPath, Folder, PathFault};
pub use files::{FileRefusal, Served};
pub use follow_up::{FollowUpError, FollowUpFiles, RepositoryContext};
pub use guard::{ContentsPolicy, Kept};
pub use journal::{EndedRun, Journal, JournalError, RunEntry, RunState};
pub use repository::Repository;
pub use root::{OpenError, PlaceError, Workspace};
pub use task_dir::{TaskDir, TaskDirError};
pub use task_log::{Appended, LogError, TaskLog};
