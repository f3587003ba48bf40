//! Disk: the workspace root and its lock, task folders, contained paths, file requests, task logs
//! and the run journal. This crate decides what of the disk another party may see or change; it
//! knows no wire, no agent and no run states.
//!
//! Every call here blocks on the file system. Async callers run them on a blocking thread.
//!
//! Reading order: [`contained`] (a path proven to stay beneath an open folder), [`guard`] (what may
//! be read, written and worked in), [`root`] (the workspace and its lock), [`repository`] and
//! [`task_dir`] (where runs work), [`follow_up`], [`task_log`], [`trees`] (what file requests are
//! about), [`files`], [`reader`] and [`tree_changes`] (file requests), [`git`] (what may be asked of a
//! repository), [`pipeline`] (from one task to the next), [`drops`] (tasks that somebody here drops into a folder), [`journal`] with [`executed`] (what survives a crash),
//! [`env_file`] (settings on disk), [`status`] (what others on this machine may know of a running
//! bridge), [`model_manifest`] (what the plane said of models), [`watch`] (what is new in the
//! workspaces of OpenClaw's agents).

pub mod contained;
pub mod drops;
pub mod env_file;
pub mod executed;
pub mod files;
pub mod follow_up;
pub mod git;
pub mod guard;
pub mod journal;
pub mod lock;
pub mod model_manifest;
pub mod pipeline;
pub mod reader;
pub mod repository;
pub mod root;
pub mod status;
mod sys;
pub mod task_dir;
pub mod task_log;
pub mod tree_changes;
pub mod trees;
pub mod watch;

pub use contained::{ContainError, ContainedPath, Folder, PathFault};
pub use drops::{
    DropBox, DropError, DropRecord, DropState,
    answer::DropStatus,
    look::{DropLook, Dropped},
    moved::{Astray, DropPlace},
    text::DropText,
    watch::DropWatcher,
};
pub use executed::{CommandId, Executed, Numbering};
pub use files::{FileRefusal, Served};
pub use follow_up::{FollowUpError, FollowUpFiles, RepositoryContext};
pub use git::{GitCommand, GitPlace, WorkTree};
pub use guard::{ContentsPolicy, Keep, Kept, OwnPlace};
pub use journal::{EndedRun, Journal, JournalError, RunEntry, RunState};
pub use pipeline::HandOverError;
pub use reader::Reader;
pub use repository::Repository;
pub use root::{OpenError, PlaceError, Workspace};
pub use task_dir::{TaskDir, TaskDirError};
pub use task_log::{Appended, LogError, TaskLog};
pub use trees::Tree;
pub use watch::{FileNews, Watch, Watching};
