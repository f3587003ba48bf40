//! Rows about tasks, runs and events, as they are made, listed and removed.

use bridge_proto::{
    AgentId, BridgeId, ProviderKey, TaskFolder, TaskId, Timestamp,
    model::{Ask, Event, EventBody, RunKind, Tuning},
};
use rusqlite::{Connection, OptionalExtension as _, Row, TransactionBehavior};
use serde::de::DeserializeOwned;

use super::{Commands, LiveRun, RunRecord, StoreError, TaskRecord, append, command_rows};
use crate::view::{Mode, OpenAsk, RunView, StoredEvent, TaskStatus, TaskSummary, TaskView};

pub(super) fn create(
    db: &mut Connection,
    task: &TaskRecord,
    run: &RunRecord,
    commands: Option<&Commands>,
) -> Result<(), StoreError> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let repository = match &task.mode {
        Mode::Output => None,
        Mode::Repository { path } => Some(path.as_str()),
    };
    transaction.execute(
        "INSERT INTO tasks(id, bridge, agent, provider, title, repository, folder, model,
                           agent_mode, effort, status, created, updated)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 'queued', ?11, ?11)",
        (
            task.id.as_str(),
            task.bridge.as_str(),
            task.agent.as_str(),
            task.provider.as_str(),
            &task.title,
            repository,
            task.folder.as_str(),
            &task.tuning.model,
            &task.tuning.mode,
            &task.tuning.effort,
            run.created.as_millis(),
        ),
    )?;
    insert_run(&transaction, run)?;
    command_rows::keep(&transaction, commands)?;
    transaction.commit()?;
    Ok(())
}

pub(super) fn add_run(
    db: &mut Connection,
    run: &RunRecord,
    commands: Option<&Commands>,
) -> Result<(), StoreError> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let task = insert_run(&transaction, run)?;
    transaction.execute(
        "UPDATE tasks SET updated = ?2 WHERE number = ?1",
        (task, run.created.as_millis()),
    )?;
    append::refresh_task(&transaction, task)?;
    command_rows::keep(&transaction, commands)?;
    transaction.commit()?;
    Ok(())
}

pub(super) fn tune(
    db: &mut Connection,
    task: &TaskId,
    tuning: &Tuning,
    commands: Option<&Commands>,
) -> Result<(), StoreError> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute(
        "UPDATE tasks SET model = coalesce(?2, model), agent_mode = coalesce(?3, agent_mode),
                          effort = coalesce(?4, effort)
         WHERE id = ?1",
        (task.as_str(), &tuning.model, &tuning.mode, &tuning.effort),
    )?;
    command_rows::keep(&transaction, commands)?;
    transaction.commit()?;
    Ok(())
}

fn insert_run(db: &Connection, run: &RunRecord) -> Result<i64, StoreError> {
    let task: i64 = db.query_row(
        "SELECT number FROM tasks WHERE id = ?1",
        [run.key.task.as_str()],
        |row| row.get(0),
    )?;
    db.execute(
        "INSERT INTO runs(task, attempt, kind, prompt, attachments, status, created)
         VALUES (?1, ?2, ?3, ?4, ?5, 'queued', ?6)",
        (
            task,
            &run.key.attempt,
            json("run kind", &run.kind)?,
            &run.prompt,
            json("attachments", &run.attachments)?,
            run.created.as_millis(),
        ),
    )?;
    Ok(task)
}

pub(super) fn since(
    db: &mut Connection,
    task: &TaskId,
    after: u64,
    limit: usize,
) -> Result<Vec<StoredEvent>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT seq, attempt, n, at, body FROM events
         WHERE task = (SELECT number FROM tasks WHERE id = ?1) AND seq > ?2
         ORDER BY seq LIMIT ?3",
    )?;
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map((task.as_str(), after, limit), |row| {
        Ok((
            row.get::<_, i64>(0)?,
            row.get::<_, String>(1)?,
            row.get::<_, i64>(2)?,
            row.get::<_, i64>(3)?,
            row.get::<_, String>(4)?,
        ))
    })?;
    let mut events = Vec::new();
    let mut bytes = 0;
    for row in rows {
        let (seq, attempt, n, at, body) = row?;
        bytes += body.len();
        if bytes > MAX_PAGE_BYTES && !events.is_empty() {
            break;
        }
        let event = Event {
            run: append::run_key(task, attempt),
            n: number(n)?,
            at: Timestamp::from_millis(at),
            body: from_json::<EventBody>("event", &body)?,
        };
        events.push(StoredEvent {
            seq: number(seq)?,
            event,
        });
    }
    Ok(events)
}

pub(super) fn list(
    db: &mut Connection,
    limit: usize,
    before: Option<&TaskId>,
) -> Result<Vec<TaskSummary>, StoreError> {
    let mut statement = db.prepare_cached(&format!(
        "SELECT {SUMMARY} FROM tasks JOIN bridges ON bridges.id = tasks.bridge
         WHERE ?1 IS NULL OR tasks.number < (SELECT number FROM tasks WHERE id = ?1)
         ORDER BY tasks.number DESC LIMIT ?2"
    ))?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map((before.map(TaskId::as_str), limit), task_row)?;
    rows.map(|row| Ok(row?.into_view()?.summary)).collect()
}

pub(super) fn view(db: &mut Connection, task: &TaskId) -> Result<Option<TaskView>, StoreError> {
    // One snapshot, so that runs, questions and the newest number fit together.
    let transaction = db.transaction()?;
    let row = transaction
        .prepare_cached(&format!(
            "SELECT {SUMMARY} FROM tasks JOIN bridges ON bridges.id = tasks.bridge
             WHERE tasks.id = ?1"
        ))?
        .query_row([task.as_str()], task_row)
        .optional()?;
    let Some(row) = row else { return Ok(None) };
    let mut view = row.into_view()?;
    view.runs = runs(&transaction, task)?;
    view.open_asks = open_asks(&transaction, task)?;
    Ok(Some(view))
}

fn runs(db: &Connection, task: &TaskId) -> Result<Vec<RunView>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT attempt, kind, prompt, attachments, status, reason, created, ended, cancel FROM runs
         WHERE task = (SELECT number FROM tasks WHERE id = ?1) ORDER BY number",
    )?;
    let rows = statement.query_map([task.as_str()], |row| {
        let (kind, attachments, status): (String, String, String) =
            (row.get(1)?, row.get(3)?, row.get(4)?);
        let ended: Option<i64> = row.get(7)?;
        let view = RunView {
            attempt: row.get(0)?,
            kind: RunKind::Dispatch,
            prompt: row.get(2)?,
            attachments: Vec::new(),
            status: TaskStatus::Queued,
            reason: row.get(5)?,
            created: Timestamp::from_millis(row.get(6)?),
            ended: ended.map(Timestamp::from_millis),
            stopping: row.get(8)? && ended.is_none(),
        };
        Ok((view, kind, attachments, status))
    })?;
    rows.map(|row| {
        let (view, kind, attachments, word) = row?;
        Ok(RunView {
            kind: from_json("run kind", &kind)?,
            attachments: from_json("attachments", &attachments)?,
            status: status(&word)?,
            ..view
        })
    })
    .collect()
}

pub(super) fn open_asks(db: &Connection, task: &TaskId) -> Result<Vec<Ask>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT asks.body FROM asks JOIN runs ON runs.number = asks.run
         WHERE runs.task = (SELECT number FROM tasks WHERE id = ?1) ORDER BY asks.number",
    )?;
    let rows = statement.query_map([task.as_str()], |row| row.get::<_, String>(0))?;
    rows.map(|row| from_json("ask", &row?)).collect()
}

pub(super) fn asks(db: &mut Connection, limit: usize) -> Result<Vec<OpenAsk>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT tasks.id, tasks.title, tasks.agent, bridges.name, asks.body
         FROM asks JOIN runs ON runs.number = asks.run JOIN tasks ON tasks.number = runs.task
                   JOIN bridges ON bridges.id = tasks.bridge
         ORDER BY asks.number LIMIT ?1",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map([limit], |row| {
        Ok((
            row.get::<_, String>(0)?,
            row.get::<_, String>(1)?,
            row.get::<_, String>(2)?,
            row.get::<_, String>(3)?,
            row.get::<_, String>(4)?,
        ))
    })?;
    rows.map(|row| {
        let (task, title, agent, machine_name, ask) = row?;
        Ok(OpenAsk {
            task: parsed("task", TaskId::parse(&task))?,
            title,
            agent: parsed("agent", AgentId::parse(&agent))?,
            machine_name,
            ask: from_json("ask", &ask)?,
        })
    })
    .collect()
}

pub(super) fn live_runs(
    db: &mut Connection,
    bridge: &BridgeId,
) -> Result<Vec<LiveRun>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT tasks.id, runs.attempt, tasks.agent, runs.status <> 'queued', runs.last_n,
                runs.cancel
         FROM runs JOIN tasks ON tasks.number = runs.task
         WHERE runs.ended IS NULL AND tasks.bridge = ?1 ORDER BY runs.number",
    )?;
    let rows = statement.query_map([bridge.as_str()], |row| {
        Ok((
            row.get::<_, String>(0)?,
            row.get::<_, String>(1)?,
            row.get::<_, String>(2)?,
            row.get::<_, bool>(3)?,
            row.get::<_, i64>(4)?,
            row.get::<_, bool>(5)?,
        ))
    })?;
    rows.map(|row| {
        let (task, attempt, agent, started, last_n, cancel) = row?;
        Ok(LiveRun {
            key: append::run_key(&parsed("task", TaskId::parse(&task))?, attempt),
            agent: parsed("agent", AgentId::parse(&agent))?,
            started,
            last_n: u64::try_from(last_n).ok(),
            cancel,
        })
    })
    .collect()
}

pub(super) fn want_cancel(
    db: &mut Connection,
    task: &TaskId,
    commands: Option<&Commands>,
) -> Result<(), StoreError> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute(
        "UPDATE runs SET cancel = 1
         WHERE ended IS NULL AND task = (SELECT number FROM tasks WHERE id = ?1)",
        [task.as_str()],
    )?;
    command_rows::keep(&transaction, commands)?;
    transaction.commit()?;
    Ok(())
}

pub(super) fn forget_before(db: &mut Connection, before: Timestamp) -> Result<u64, StoreError> {
    let gone = db.execute(
        "DELETE FROM tasks WHERE updated < ?1 AND NOT EXISTS (
             SELECT 1 FROM runs WHERE runs.task = tasks.number AND runs.ended IS NULL)",
        [before.as_millis()],
    )?;
    db.execute(
        "DELETE FROM bridges WHERE token IS NULL AND NOT EXISTS (
             SELECT 1 FROM tasks WHERE tasks.bridge = bridges.id)",
        [],
    )?;
    Ok(gone as u64)
}

const SUMMARY: &str = "tasks.id, tasks.title, tasks.agent, tasks.provider, tasks.bridge,
    bridges.name, tasks.status, tasks.reason, tasks.created, tasks.updated, tasks.repository,
    tasks.folder, tasks.model, tasks.agent_mode, tasks.effort, tasks.last_seq";

/// A page of events stays small enough to be held in memory by every viewer.
const MAX_PAGE_BYTES: usize = 4 * 1024 * 1024;

struct TaskRow {
    id: String,
    title: String,
    agent: String,
    provider: String,
    machine: String,
    machine_name: String,
    status: String,
    reason: Option<String>,
    created: i64,
    updated: i64,
    repository: Option<String>,
    folder: String,
    tuning: Tuning,
    last_seq: i64,
}

fn task_row(row: &Row<'_>) -> rusqlite::Result<TaskRow> {
    Ok(TaskRow {
        id: row.get(0)?,
        title: row.get(1)?,
        agent: row.get(2)?,
        provider: row.get(3)?,
        machine: row.get(4)?,
        machine_name: row.get(5)?,
        status: row.get(6)?,
        reason: row.get(7)?,
        created: row.get(8)?,
        updated: row.get(9)?,
        repository: row.get(10)?,
        folder: row.get(11)?,
        tuning: Tuning {
            model: row.get(12)?,
            mode: row.get(13)?,
            effort: row.get(14)?,
        },
        last_seq: row.get(15)?,
    })
}

impl TaskRow {
    /// Without runs and questions.
    fn into_view(self) -> Result<TaskView, StoreError> {
        Ok(TaskView {
            summary: TaskSummary {
                id: parsed("task", TaskId::parse(&self.id))?,
                title: self.title,
                agent: parsed("agent", AgentId::parse(&self.agent))?,
                provider: parsed("provider", ProviderKey::parse(&self.provider))?,
                machine: parsed("machine", BridgeId::parse(&self.machine))?,
                machine_name: self.machine_name,
                status: status(&self.status)?,
                reason: self.reason,
                created: Timestamp::from_millis(self.created),
                updated: Timestamp::from_millis(self.updated),
            },
            mode: match self.repository {
                None => Mode::Output,
                Some(path) => Mode::Repository { path },
            },
            folder: parsed("folder", TaskFolder::parse(&self.folder))?,
            tuning: self.tuning,
            runs: Vec::new(),
            open_asks: Vec::new(),
            last_seq: number(self.last_seq)?,
        })
    }
}

fn status(word: &str) -> Result<TaskStatus, StoreError> {
    [
        TaskStatus::Queued,
        TaskStatus::Running,
        TaskStatus::Waiting,
        TaskStatus::Completed,
        TaskStatus::Failed,
        TaskStatus::Blocked,
        TaskStatus::Cancelled,
        TaskStatus::Rejected,
        TaskStatus::Joined,
    ]
    .into_iter()
    .find(|status| status.as_str() == word)
    .ok_or(StoreError::Corrupt { what: "status" })
}

fn number(value: i64) -> Result<u64, StoreError> {
    u64::try_from(value).map_err(|_| StoreError::Corrupt { what: "number" })
}

pub(super) fn parsed<T, E>(what: &'static str, value: Result<T, E>) -> Result<T, StoreError> {
    value.map_err(|_| StoreError::Corrupt { what })
}

fn json(what: &'static str, value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|_| StoreError::Corrupt { what })
}

fn from_json<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|_| StoreError::Corrupt { what })
}
