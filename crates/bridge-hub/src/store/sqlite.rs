//! The SQLite store: one thread writes, one reads, each with its own connection.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use bridge_proto::{
    AskId, BridgeId, RunKey, TaskId, Timestamp,
    model::{Ask, Event, Outcome, Tuning},
};
use bridge_transport::delivery::{Epoch, Position};

use super::{
    BridgeRecord, Commands, Committed, GrantKind, GrantRecord, LiveRun, Outstanding, RunRecord,
    Store, StoreError, TaskRecord, TokenHash, access_rows, append, command_rows, schema, task_rows,
    worker::Worker,
};
use crate::view::{OpenAsk, StoredEvent, TaskSummary, TaskView, TokenView};

/// Rows in `hub.db` of a state folder.
#[derive(Debug)]
pub(crate) struct SqliteStore {
    writer: Worker,
    reader: Worker,
}

impl SqliteStore {
    /// Opens or makes the database of a state folder.
    pub(crate) fn open(folder: &Path, now: Timestamp) -> Result<Self, StoreError> {
        let started = |source| StoreError::Prepare {
            path: folder.to_owned(),
            source,
        };
        let writer = schema::open_writer(folder, now)?;
        let reader = schema::open_reader(folder)?;
        Ok(Self {
            writer: Worker::start("hub-store", writer).map_err(started)?,
            reader: Worker::start("hub-reader", reader).map_err(started)?,
        })
    }
}

#[cfg(test)]
impl SqliteStore {
    /// From now on every change fails, or is possible again.
    pub(crate) async fn set_read_only(&self, read_only: bool) {
        let set = move |db: &mut rusqlite::Connection| {
            Ok(db.pragma_update(None, "query_only", read_only)?)
        };
        self.writer.run(set).await.unwrap();
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn append(
        &self,
        from: &BridgeId,
        events: Arc<[Event]>,
        upto: Option<Position>,
        now: Timestamp,
    ) -> Result<Committed, StoreError> {
        let from = from.clone();
        self.writer
            .run(move |db| append::append(db, &from, &events, upto, now))
            .await
    }

    async fn position(&self, of: &BridgeId) -> Result<Position, StoreError> {
        let of = of.clone();
        self.reader.run(move |db| append::position(db, &of)).await
    }

    async fn since(
        &self,
        task: &TaskId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let task = task.clone();
        self.reader
            .run(move |db| task_rows::since(db, &task, after, limit))
            .await
    }

    async fn create_task(
        &self,
        task: TaskRecord,
        run: RunRecord,
        commands: Option<Commands>,
    ) -> Result<(), StoreError> {
        self.writer
            .run(move |db| task_rows::create(db, &task, &run, commands.as_ref()))
            .await
    }

    async fn add_run(&self, run: RunRecord, commands: Option<Commands>) -> Result<(), StoreError> {
        self.writer
            .run(move |db| task_rows::add_run(db, &run, commands.as_ref()))
            .await
    }

    async fn tune(
        &self,
        task: &TaskId,
        tuning: Tuning,
        commands: Option<Commands>,
    ) -> Result<(), StoreError> {
        let task = task.clone();
        self.writer
            .run(move |db| task_rows::tune(db, &task, &tuning, commands.as_ref()))
            .await
    }

    async fn want_cancel(
        &self,
        task: &TaskId,
        commands: Option<Commands>,
    ) -> Result<(), StoreError> {
        let task = task.clone();
        self.writer
            .run(move |db| task_rows::want_cancel(db, &task, commands.as_ref()))
            .await
    }

    async fn keep_commands(&self, commands: Commands) -> Result<(), StoreError> {
        self.writer
            .run(move |db| command_rows::keep_alone(db, &commands))
            .await
    }

    async fn outstanding(&self, bridge: &BridgeId) -> Result<Outstanding, StoreError> {
        let bridge = bridge.clone();
        self.reader
            .run(move |db| command_rows::outstanding(db, &bridge))
            .await
    }

    async fn acknowledged(
        &self,
        bridge: &BridgeId,
        epoch: Epoch,
        upto: u64,
    ) -> Result<(), StoreError> {
        let bridge = bridge.clone();
        self.writer
            .run(move |db| command_rows::acknowledged(db, &bridge, epoch, upto))
            .await
    }

    async fn renumber(&self, bridge: &BridgeId, epoch: Epoch) -> Result<Outstanding, StoreError> {
        let bridge = bridge.clone();
        self.writer
            .run(move |db| command_rows::renumber(db, &bridge, epoch))
            .await
    }

    async fn end_run(
        &self,
        run: &RunKey,
        outcome: Outcome,
        now: Timestamp,
    ) -> Result<Option<u64>, StoreError> {
        let run = run.clone();
        self.writer
            .run(move |db| append::end_run(db, &run, outcome, now))
            .await
    }

    async fn tasks(
        &self,
        limit: usize,
        before: Option<TaskId>,
    ) -> Result<Vec<TaskSummary>, StoreError> {
        self.reader
            .run(move |db| task_rows::list(db, limit, before.as_ref()))
            .await
    }

    async fn task(&self, task: &TaskId) -> Result<Option<TaskView>, StoreError> {
        let task = task.clone();
        self.reader.run(move |db| task_rows::view(db, &task)).await
    }

    async fn open_ask(&self, task: &TaskId, ask: &AskId) -> Result<Option<Ask>, StoreError> {
        let (task, ask) = (task.clone(), ask.clone());
        self.reader
            .run(move |db| {
                Ok(task_rows::open_asks(db, &task)?
                    .into_iter()
                    .find(|open| open.id == ask))
            })
            .await
    }

    async fn asks(&self, limit: usize) -> Result<Vec<OpenAsk>, StoreError> {
        self.reader.run(move |db| task_rows::asks(db, limit)).await
    }

    async fn live_runs(&self, bridge: &BridgeId) -> Result<Vec<LiveRun>, StoreError> {
        let bridge = bridge.clone();
        self.reader
            .run(move |db| task_rows::live_runs(db, &bridge))
            .await
    }

    async fn forget_before(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.writer
            .run(move |db| task_rows::forget_before(db, before))
            .await
    }

    async fn add_bridge(&self, bridge: BridgeRecord, token: TokenHash) -> Result<(), StoreError> {
        self.writer
            .run(move |db| access_rows::add_bridge(db, &bridge, token))
            .await
    }

    async fn bridges(&self) -> Result<Vec<BridgeRecord>, StoreError> {
        self.reader.run(access_rows::bridges).await
    }

    async fn bridge_by_token(&self, token: TokenHash) -> Result<Option<BridgeRecord>, StoreError> {
        self.reader
            .run(move |db| access_rows::bridge_by_token(db, token))
            .await
    }

    async fn seen_bridge(&self, bridge: BridgeRecord) -> Result<(), StoreError> {
        self.writer
            .run(move |db| access_rows::seen_bridge(db, &bridge))
            .await
    }

    async fn revoke_bridge(
        &self,
        bridge: &BridgeId,
        now: Timestamp,
    ) -> Result<Option<Vec<TaskId>>, StoreError> {
        let bridge = bridge.clone();
        self.writer
            .run(move |db| access_rows::revoke_bridge(db, &bridge, now))
            .await
    }

    async fn end_runs_of_revoked(&self, now: Timestamp) -> Result<usize, StoreError> {
        self.writer
            .run(move |db| access_rows::end_runs_of_revoked(db, now))
            .await
    }

    async fn grant(&self, grant: GrantRecord, secret: TokenHash) -> Result<(), StoreError> {
        self.writer
            .run(move |db| access_rows::grant(db, &grant, secret))
            .await
    }

    async fn granted(
        &self,
        kind: GrantKind,
        secret: TokenHash,
        now: Timestamp,
    ) -> Result<Option<String>, StoreError> {
        let found = self
            .reader
            .run(move |db| access_rows::granted(db, kind, secret, now))
            .await?;
        let Some(found) = found else { return Ok(None) };
        if found
            .used
            .is_none_or(|used| now.as_millis() - used.as_millis() >= 60_000)
        {
            let id = found.id.clone();
            self.writer
                .run(move |db| access_rows::used(db, &id, now))
                .await?;
        }
        Ok(Some(found.id))
    }

    async fn take_login(&self, secret: TokenHash, now: Timestamp) -> Result<bool, StoreError> {
        self.writer
            .run(move |db| access_rows::take_login(db, secret, now))
            .await
    }

    async fn grants(&self, kind: GrantKind, now: Timestamp) -> Result<Vec<TokenView>, StoreError> {
        self.reader
            .run(move |db| access_rows::grants(db, kind, now))
            .await
    }

    async fn ungrant(&self, kind: GrantKind, id: &str) -> Result<bool, StoreError> {
        let id = id.to_owned();
        self.writer
            .run(move |db| access_rows::ungrant(db, kind, &id))
            .await
    }
}
