//! Truth: what must survive a restart, behind one trait.
//!
//! Every method is one transaction. Events are taken in order: an event whose number is not above
//! the run's last one, or that follows the end of its run, is counted as old and dropped; one that
//! names a task of another machine, or a run nobody asked for, is refused.

mod access_rows;
mod append;
mod command_rows;
mod schema;
mod sqlite;
mod task_rows;
#[cfg(test)]
mod tests;
mod worker;

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use bridge_proto::{
    AgentId, AskId, BridgeId, ProviderKey, RunKey, TaskFolder, TaskId, Timestamp,
    model::{Ask, Event, Outcome, RunKind, Tuning},
};
use bridge_transport::delivery::{Epoch, Position};
use rusqlite::ErrorCode;
use thiserror::Error;

pub(crate) use self::{
    command_rows::{Command, Commands, Outstanding},
    sqlite::SqliteStore,
};
use crate::{
    clock::now,
    view::{Mode, OpenAsk, StoredEvent, TaskSummary, TaskView, TokenView},
};

/// The hub's memory.
#[async_trait]
pub(crate) trait Store: Send + Sync {
    /// Takes events of one machine, and up to where it was heard with them; committed when this
    /// returns.
    async fn append(
        &self,
        from: &BridgeId,
        events: Arc<[Event]>,
        upto: Option<Position>,
        now: Timestamp,
    ) -> Result<Committed, StoreError>;
    /// Up to where a machine was heard.
    async fn position(&self, of: &BridgeId) -> Result<Position, StoreError>;
    /// Events after a number, in order, at most `limit`.
    async fn since(
        &self,
        task: &TaskId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError>;
    /// Makes a task with its first run, and keeps the commands that say so.
    async fn create_task(
        &self,
        task: TaskRecord,
        run: RunRecord,
        commands: Option<Commands>,
    ) -> Result<(), StoreError>;
    /// Adds a run to a task, and keeps the commands that say so.
    async fn add_run(&self, run: RunRecord, commands: Option<Commands>) -> Result<(), StoreError>;
    /// Takes over what the task's conversation shall be set to, and keeps the commands that say
    /// so; what is absent stays.
    async fn tune(
        &self,
        task: &TaskId,
        tuning: Tuning,
        commands: Option<Commands>,
    ) -> Result<(), StoreError>;
    /// Remembers that a person wants the runs of a task stopped that have not ended, and keeps the
    /// commands that say so.
    async fn want_cancel(
        &self,
        task: &TaskId,
        commands: Option<Commands>,
    ) -> Result<(), StoreError>;
    /// Keeps commands that change nothing else here.
    async fn keep_commands(&self, commands: Commands) -> Result<(), StoreError>;
    /// What a machine was sent with numbers and has not acknowledged.
    async fn outstanding(&self, bridge: &BridgeId) -> Result<Outstanding, StoreError>;
    /// Forgets the commands up to a number of this numbering.
    async fn acknowledged(
        &self,
        bridge: &BridgeId,
        epoch: Epoch,
        upto: u64,
    ) -> Result<(), StoreError>;
    /// Counts anew what is outstanding, in another numbering.
    async fn renumber(&self, bridge: &BridgeId, epoch: Epoch) -> Result<Outstanding, StoreError>;
    /// Ends a run from the hub's side; `None` when it had ended already.
    async fn end_run(
        &self,
        run: &RunKey,
        outcome: Outcome,
        now: Timestamp,
    ) -> Result<Option<u64>, StoreError>;
    /// Newest first; `before` is the last task of the page before.
    async fn tasks(
        &self,
        limit: usize,
        before: Option<TaskId>,
    ) -> Result<Vec<TaskSummary>, StoreError>;
    /// One task.
    async fn task(&self, task: &TaskId) -> Result<Option<TaskView>, StoreError>;
    /// One open question.
    async fn open_ask(&self, task: &TaskId, ask: &AskId) -> Result<Option<Ask>, StoreError>;
    /// Open questions of all tasks, oldest first.
    async fn asks(&self, limit: usize) -> Result<Vec<OpenAsk>, StoreError>;
    /// Runs of a machine that have not ended.
    async fn live_runs(&self, bridge: &BridgeId) -> Result<Vec<LiveRun>, StoreError>;
    /// Removes ended tasks last touched before a time; says how many.
    async fn forget_before(&self, before: Timestamp) -> Result<u64, StoreError>;

    /// Adds a machine.
    async fn add_bridge(&self, bridge: BridgeRecord, token: TokenHash) -> Result<(), StoreError>;
    /// Machines whose token is valid.
    async fn bridges(&self) -> Result<Vec<BridgeRecord>, StoreError>;
    /// The machine of a token.
    async fn bridge_by_token(&self, token: TokenHash) -> Result<Option<BridgeRecord>, StoreError>;
    /// Remembers what a machine said of itself.
    async fn seen_bridge(&self, bridge: BridgeRecord) -> Result<(), StoreError>;
    /// Makes a machine's token invalid and ends its runs; gives their tasks, or `None` when the
    /// token was not valid.
    async fn revoke_bridge(
        &self,
        bridge: &BridgeId,
        now: Timestamp,
    ) -> Result<Option<Vec<TaskId>>, StoreError>;
    /// Ends the runs of machines whose token is invalid; says in how many tasks.
    async fn end_runs_of_revoked(&self, now: Timestamp) -> Result<usize, StoreError>;

    /// Adds a viewer's token, session or login code.
    async fn grant(&self, grant: GrantRecord, secret: TokenHash) -> Result<(), StoreError>;
    /// Whether a secret is good now, and whose; remembers the use to the minute.
    async fn granted(
        &self,
        kind: GrantKind,
        secret: TokenHash,
        now: Timestamp,
    ) -> Result<Option<String>, StoreError>;
    /// Uses a login code up; `false` when it is not good.
    async fn take_login(&self, secret: TokenHash, now: Timestamp) -> Result<bool, StoreError>;
    /// What is granted and has not run out.
    async fn grants(&self, kind: GrantKind, now: Timestamp) -> Result<Vec<TokenView>, StoreError>;
    /// Takes a grant back; `false` when there is none.
    async fn ungrant(&self, kind: GrantKind, id: &str) -> Result<bool, StoreError>;
}

/// What came of an append.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Committed {
    /// The newest number of every task that got events.
    pub(crate) tasks: Vec<(TaskId, u64)>,
    /// Whether the list of tasks shows something else now.
    pub(crate) listed: bool,
    /// How many were known already, or came after the end.
    pub(crate) old: usize,
    /// How many belong to no run of this machine.
    pub(crate) refused: usize,
    /// How many belong to a dropped task: its machine alone knows it.
    pub(crate) dropped: usize,
}

/// A task to keep.
#[derive(Debug, Clone)]
pub(crate) struct TaskRecord {
    pub(crate) id: TaskId,
    pub(crate) bridge: BridgeId,
    pub(crate) agent: AgentId,
    pub(crate) provider: ProviderKey,
    pub(crate) title: String,
    pub(crate) mode: Mode,
    pub(crate) folder: TaskFolder,
    pub(crate) tuning: Tuning,
}

/// A run to keep.
#[derive(Debug, Clone)]
pub(crate) struct RunRecord {
    pub(crate) key: RunKey,
    pub(crate) kind: RunKind,
    pub(crate) prompt: String,
    pub(crate) attachments: Vec<String>,
    pub(crate) created: Timestamp,
}

/// A run that has not ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LiveRun {
    pub(crate) key: RunKey,
    pub(crate) agent: AgentId,
    pub(crate) started: bool,
    /// Of its last event; `None` when there is none.
    pub(crate) last_n: Option<u64>,
    /// A person wants it stopped.
    pub(crate) cancel: bool,
}

/// A machine as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BridgeRecord {
    pub(crate) id: BridgeId,
    pub(crate) name: String,
    pub(crate) created: Timestamp,
    pub(crate) hostname: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) seen: Option<Timestamp>,
}

impl BridgeRecord {
    /// A machine that is made now and has not come yet.
    pub(crate) fn new(id: BridgeId, name: String) -> Self {
        Self {
            id,
            name,
            created: now(),
            hostname: None,
            version: None,
            seen: None,
        }
    }
}

/// Sorts of grants to viewers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GrantKind {
    /// For programs, until taken back.
    ApiToken,
    /// A browser that logged in.
    Session,
    /// Good once, for minutes.
    LoginCode,
}

impl GrantKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::ApiToken => "api_token",
            Self::Session => "session",
            Self::LoginCode => "login_code",
        }
    }
}

/// A grant to keep.
#[derive(Debug, Clone)]
pub(crate) struct GrantRecord {
    pub(crate) id: String,
    pub(crate) kind: GrantKind,
    pub(crate) name: String,
    pub(crate) created: Timestamp,
    pub(crate) expires: Option<Timestamp>,
}

/// SHA-256 of a secret: all that is kept of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TokenHash(pub(crate) [u8; 32]);

/// Why the store failed.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The state folder or the database file could not be made.
    #[error("cannot prepare {}", path.display())]
    Prepare {
        /// Which path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// SQLite failed.
    #[error("the database failed")]
    Sqlite(#[from] rusqlite::Error),
    /// A newer version of the hub has written the database.
    #[error("the database has schema {found}, this version knows {known}")]
    Newer {
        /// In the file.
        found: u32,
        /// Of this program.
        known: u32,
    },
    /// A row does not say what it should.
    #[error("the database holds an unreadable {what}")]
    Corrupt {
        /// Which sort of row.
        what: &'static str,
    },
    /// The store has been closed.
    #[error("the database is closed")]
    Closed,
}

impl StoreError {
    /// Whether the same may succeed later: there was no room, or no way to the file.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Sqlite(error) => matches!(
                error.sqlite_error_code(),
                Some(
                    ErrorCode::DiskFull
                        | ErrorCode::SystemIoFailure
                        | ErrorCode::DatabaseBusy
                        | ErrorCode::DatabaseLocked
                        | ErrorCode::ReadOnly
                        | ErrorCode::CannotOpen
                        | ErrorCode::PermissionDenied
                        | ErrorCode::OutOfMemory
                )
            ),
            Self::Prepare { .. } | Self::Newer { .. } | Self::Corrupt { .. } | Self::Closed => {
                false
            }
        }
    }
}
