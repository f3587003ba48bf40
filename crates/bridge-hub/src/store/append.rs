//! The one way events come into the store, and what each of them changes.

use bridge_proto::{
    BridgeId, RunKey, TaskId, Timestamp,
    model::{Actor, Event, EventBody, Fault, Outcome, Rejection, RunEvent},
};
use bridge_transport::delivery::Position;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior};

use super::{Committed, StoreError};
use crate::view::TaskStatus;

/// Takes events in one transaction.
pub(super) fn append(
    db: &mut Connection,
    from: &BridgeId,
    events: &[Event],
    upto: Option<Position>,
    now: Timestamp,
) -> Result<Committed, StoreError> {
    // A power cut may cost the newest words of an agent, never an end.
    let sync = if events.iter().any(|event| event.body.is_terminal()) {
        "FULL"
    } else {
        "NORMAL"
    };
    db.pragma_update(None, "synchronous", sync)?;
    let done = take_all(db, from, events, upto, now);
    db.pragma_update(None, "synchronous", "FULL")?;
    done
}

fn take_all(
    db: &mut Connection,
    from: &BridgeId,
    events: &[Event],
    upto: Option<Position>,
    now: Timestamp,
) -> Result<Committed, StoreError> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut committed = Committed::default();
    for event in events {
        let Some(run) = RunRow::find(&transaction, &event.run)? else {
            if event.run.task.is_dropped() {
                committed.dropped += 1;
            } else {
                committed.refused += 1;
            }
            continue;
        };
        if run.bridge != from.as_str() {
            committed.refused += 1;
            continue;
        }
        let n = i64::try_from(event.n).ok().filter(|n| *n <= MOST_N);
        let Some(n) = n else {
            committed.old += 1;
            continue;
        };
        let fresh = n > run.last_n;
        if run.ended || !fresh {
            committed.old += 1;
            continue;
        }
        let change = Change::of(&event.body, run.queued);
        committed.listed |= !matches!(change, Change::Nothing);
        let seq = run.take(&transaction, event, change, now)?;
        match committed
            .tasks
            .iter_mut()
            .find(|(task, _)| *task == event.run.task)
        {
            Some((_, newest)) => *newest = seq,
            None => committed.tasks.push((event.run.task.clone(), seq)),
        }
    }
    if let Some(Position { epoch, last }) = upto {
        let last = i64::try_from(last).map_err(|_| StoreError::Corrupt { what: "position" })?;
        transaction
            .prepare_cached("UPDATE bridges SET epoch = ?2, heard = ?3 WHERE id = ?1")?
            .execute((from.as_str(), epoch.map(|epoch| epoch.to_string()), last))?;
    }
    transaction.commit()?;
    Ok(committed)
}

/// Up to where a machine was heard.
pub(super) fn position(db: &mut Connection, of: &BridgeId) -> Result<Position, StoreError> {
    let corrupt = || StoreError::Corrupt { what: "position" };
    let row: Option<(Option<String>, i64)> = db
        .prepare_cached("SELECT epoch, heard FROM bridges WHERE id = ?1")?
        .query_row([of.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((Some(epoch), last)) = row else {
        return Ok(Position::default());
    };
    Ok(Position {
        epoch: Some(epoch.parse().map_err(|_| corrupt())?),
        last: u64::try_from(last).map_err(|_| corrupt())?,
    })
}

/// Ends a run in the hub's own name.
pub(super) fn end_run(
    db: &mut Connection,
    key: &RunKey,
    outcome: Outcome,
    now: Timestamp,
) -> Result<Option<u64>, StoreError> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let seq = end(&transaction, key, outcome, now)?;
    transaction.commit()?;
    Ok(seq)
}

/// Ends the live runs of machines whose token was revoked: none of them will ever end one. Gives
/// the tasks of those it ended.
pub(super) fn end_runs_of_revoked(
    transaction: &Transaction<'_>,
    now: Timestamp,
) -> Result<Vec<TaskId>, StoreError> {
    let mut statement = transaction.prepare_cached(
        "SELECT tasks.id, runs.attempt FROM runs
         JOIN tasks ON tasks.number = runs.task JOIN bridges ON bridges.id = tasks.bridge
         WHERE runs.ended IS NULL AND bridges.token IS NULL ORDER BY runs.number",
    )?;
    let runs: Vec<(String, String)> = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let mut tasks = Vec::new();
    for (task, attempt) in runs {
        let task = TaskId::parse(&task).map_err(|_| StoreError::Corrupt { what: "task" })?;
        let outcome = Outcome::Failed {
            fault: Fault::Bridge,
            reason: "the machine was removed from the hub".to_owned(),
        };
        end(transaction, &run_key(&task, attempt), outcome, now)?;
        tasks.push(task);
    }
    tasks.dedup();
    Ok(tasks)
}

fn end(
    transaction: &Transaction<'_>,
    key: &RunKey,
    outcome: Outcome,
    now: Timestamp,
) -> Result<Option<u64>, StoreError> {
    let Some(run) = RunRow::find(transaction, key)?.filter(|run| !run.ended) else {
        return Ok(None);
    };
    let n = u64::try_from(run.last_n.saturating_add(1)).unwrap_or_default();
    let body = EventBody::Ended { outcome };
    let event = Event {
        run: key.clone(),
        n,
        at: now,
        body,
    };
    let change = Change::of(&event.body, run.queued);
    run.take(transaction, &event, change, now).map(Some)
}

/// What must be known of a run to take its next event.
struct RunRow {
    number: i64,
    task: i64,
    bridge: String,
    last_n: i64,
    ended: bool,
    queued: bool,
}

impl RunRow {
    fn find(transaction: &Transaction<'_>, key: &RunKey) -> Result<Option<Self>, StoreError> {
        let mut statement = transaction.prepare_cached(
            "SELECT runs.number, tasks.number, tasks.bridge, runs.last_n,
                    runs.ended IS NOT NULL, runs.status = 'queued'
             FROM runs JOIN tasks ON tasks.number = runs.task
             WHERE tasks.id = ?1 AND runs.attempt = ?2",
        )?;
        let row = statement.query_row((key.task.as_str(), &key.attempt), |row| {
            Ok(Self {
                number: row.get(0)?,
                task: row.get(1)?,
                bridge: row.get(2)?,
                last_n: row.get(3)?,
                ended: row.get(4)?,
                queued: row.get(5)?,
            })
        });
        Ok(row.optional()?)
    }

    /// Writes the event and what follows from it; gives its number within the task.
    fn take(
        &self,
        transaction: &Transaction<'_>,
        event: &Event,
        change: Change,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let seq: i64 = transaction
            .prepare_cached(
                "UPDATE tasks SET last_seq = last_seq + 1, updated = ?2 WHERE number = ?1
                 RETURNING last_seq",
            )?
            .query_row((self.task, now.as_millis()), |row| row.get(0))?;
        let body = serde_json::to_string(&event.body)
            .map_err(|_| StoreError::Corrupt { what: "event" })?;
        let n = i64::try_from(event.n).map_err(|_| StoreError::Corrupt { what: "event" })?;
        transaction
            .prepare_cached(
                "INSERT INTO events(task, seq, attempt, n, at, body)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute((
                self.task,
                seq,
                &event.run.attempt,
                n,
                event.at.as_millis(),
                body,
            ))?;
        transaction
            .prepare_cached("UPDATE runs SET last_n = ?2 WHERE number = ?1")?
            .execute((self.number, n))?;
        match change {
            Change::Nothing => return u64::try_from(seq).map_err(|_| corrupt_seq()),
            Change::Started => {
                transaction
                    .prepare_cached("UPDATE runs SET status = 'running' WHERE number = ?1")?
                    .execute([self.number])?;
            }
            Change::Asked(id, body) => {
                transaction
                    .prepare_cached(
                        "INSERT INTO asks(run, id, body) VALUES (?1, ?2, ?3)
                         ON CONFLICT(run, id) DO UPDATE SET body = excluded.body",
                    )?
                    .execute((self.number, id, body?))?;
                self.settle(transaction)?;
            }
            Change::AskClosed(id) => {
                transaction
                    .prepare_cached("DELETE FROM asks WHERE run = ?1 AND id = ?2")?
                    .execute((self.number, id))?;
                self.settle(transaction)?;
            }
            Change::Ended(status, reason) => {
                transaction
                    .prepare_cached("DELETE FROM asks WHERE run = ?1")?
                    .execute([self.number])?;
                transaction
                    .prepare_cached(
                        "UPDATE runs SET status = ?2, reason = ?3, ended = ?4 WHERE number = ?1",
                    )?
                    .execute((self.number, status.as_str(), reason, now.as_millis()))?;
            }
        }
        refresh_task(transaction, self.task)?;
        u64::try_from(seq).map_err(|_| corrupt_seq())
    }

    /// A run with a question that nobody answered waits; one without works.
    fn settle(&self, transaction: &Transaction<'_>) -> Result<(), StoreError> {
        transaction
            .prepare_cached(
                "UPDATE runs SET status = CASE
                     WHEN EXISTS (SELECT 1 FROM asks WHERE asks.run = runs.number
                                  AND json_extract(asks.body, '$.answered') IS NULL)
                     THEN 'waiting' ELSE 'running' END
                 WHERE number = ?1",
            )?
            .execute([self.number])?;
        Ok(())
    }
}

/// A task is as far as its live run, else as its latest one.
pub(super) fn refresh_task(transaction: &Transaction<'_>, task: i64) -> Result<(), StoreError> {
    transaction
        .prepare_cached(
            "UPDATE tasks SET (status, reason) = (
                 SELECT status, reason FROM runs
                 WHERE runs.task = tasks.number AND runs.status <> 'joined'
                 ORDER BY (ended IS NULL) DESC,
                          CASE WHEN ended IS NULL THEN number ELSE -number END LIMIT 1)
             WHERE number = ?1",
        )?
        .execute([task])?;
    Ok(())
}

/// What an event changes beside being kept.
enum Change {
    Nothing,
    Started,
    Asked(String, Result<String, StoreError>),
    AskClosed(String),
    Ended(TaskStatus, Option<String>),
}

impl Change {
    fn of(body: &EventBody, queued: bool) -> Self {
        match body {
            EventBody::Queued { .. } => Self::Nothing,
            EventBody::Started { .. } => Self::Started,
            EventBody::Seen(seen) => match &seen.event {
                RunEvent::Ask(ask) => Self::Asked(
                    ask.id.to_string(),
                    serde_json::to_string(ask).map_err(|_| StoreError::Corrupt { what: "ask" }),
                ),
                RunEvent::AskClosed { ask, .. } => Self::AskClosed(ask.to_string()),
                RunEvent::Text { .. }
                | RunEvent::TextReplaced { .. }
                | RunEvent::Thinking { .. }
                | RunEvent::Tool(_)
                | RunEvent::Plan { .. }
                | RunEvent::FileWritten { .. }
                | RunEvent::Model { .. }
                | RunEvent::Mode { .. }
                | RunEvent::Effort { .. }
                | RunEvent::Injected { .. }
                | RunEvent::Usage(_)
                | RunEvent::Retrying(_)
                | RunEvent::Silent { .. }
                | RunEvent::Status { .. }
                | RunEvent::Other { .. } => {
                    if queued {
                        Self::Started
                    } else {
                        Self::Nothing
                    }
                }
            },
            EventBody::Ended { outcome } => Self::ended(outcome),
            EventBody::Joined { .. } => Self::Ended(TaskStatus::Joined, None),
            EventBody::Rejected(rejection) => {
                Self::Ended(TaskStatus::Rejected, Some(rejection_reason(rejection)))
            }
        }
    }

    fn ended(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Completed => Self::Ended(TaskStatus::Completed, None),
            Outcome::Failed { reason, .. } => Self::Ended(TaskStatus::Failed, Some(reason.clone())),
            Outcome::Blocked { reason, .. } => {
                Self::Ended(TaskStatus::Blocked, Some(reason.clone()))
            }
            Outcome::Cancelled { by } => Self::Ended(
                TaskStatus::Cancelled,
                Some(
                    match by {
                        Actor::Person => "cancelled by a person",
                        Actor::Shutdown => "the bridge was stopped",
                    }
                    .to_owned(),
                ),
            ),
        }
    }
}

fn rejection_reason(rejection: &Rejection) -> String {
    match rejection {
        Rejection::AgentNotFound => "the machine has no such agent".to_owned(),
        Rejection::MissingIntentPayload => "the prompt was empty".to_owned(),
        Rejection::ProviderNotActive { provider } => {
            format!("the provider {provider} cannot run on the machine")
        }
        Rejection::PlaceRefused { reason } => reason.clone(),
    }
}

fn corrupt_seq() -> StoreError {
    StoreError::Corrupt {
        what: "event number",
    }
}

/// Only for reading keys back; never written by hand.
pub(super) fn run_key(task: &TaskId, attempt: String) -> RunKey {
    RunKey {
        task: task.clone(),
        attempt,
    }
}

/// No run ever counts so far; above it there has to be room for the end the hub may give.
const MOST_N: i64 = 1 << 62;
