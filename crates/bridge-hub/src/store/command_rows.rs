//! Commands with numbers: kept from the transaction that decides on them until their machine has
//! them.

use std::sync::Arc;

use bridge_proto::{BridgeId, RunKey, TaskId};
use bridge_transport::delivery::Epoch;
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};

use super::{StoreError, append::run_key, task_rows::parsed};

/// Commands for one machine, with their numbers.
#[derive(Debug, Clone)]
pub(crate) struct Commands {
    pub(crate) bridge: BridgeId,
    /// The numbering.
    pub(crate) epoch: Epoch,
    /// The number of the first one; the others follow.
    pub(crate) first: u64,
    pub(crate) list: Vec<Command>,
}

/// One of them.
#[derive(Debug, Clone)]
pub(crate) struct Command {
    /// The task it is about; those of one task keep their order.
    pub(crate) task: TaskId,
    /// The run it starts.
    pub(crate) run: Option<RunKey>,
    pub(crate) frame: Arc<str>,
}

/// What a machine was sent with numbers and has not acknowledged.
#[derive(Debug)]
pub(crate) struct Outstanding {
    /// The numbering; `None` when nothing was ever sent.
    pub(crate) epoch: Option<Epoch>,
    /// Everything up to here is acknowledged.
    pub(crate) acked: u64,
    /// The last number given.
    pub(crate) sent: u64,
    /// By rising numbers; those of tasks that are forgotten are gone.
    pub(crate) commands: Vec<(u64, Command)>,
}

/// Within the transaction that decides on them.
pub(super) fn keep(db: &Connection, commands: Option<&Commands>) -> Result<(), StoreError> {
    let Some(commands) = commands else {
        return Ok(());
    };
    let Commands {
        bridge,
        epoch,
        first,
        list,
    } = commands;
    let first = number(*first)?;
    // Of a transaction whose end was not heard of; nothing of it was sent.
    db.prepare_cached("DELETE FROM commands WHERE bridge = ?1 AND seq >= ?2")?
        .execute((bridge.as_str(), first))?;
    let mut insert = db.prepare_cached(
        "INSERT INTO commands(bridge, seq, task, attempt, frame) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    let mut last = first - 1;
    for (seq, command) in (first..).zip(list) {
        insert.execute((
            bridge.as_str(),
            seq,
            command.task.as_str(),
            command.run.as_ref().map(|run| &run.attempt),
            &*command.frame,
        ))?;
        last = seq;
    }
    db.prepare_cached("UPDATE bridges SET own_epoch = ?2, sent = ?3 WHERE id = ?1")?
        .execute((bridge.as_str(), epoch.to_string(), last))?;
    Ok(())
}

pub(super) fn keep_alone(db: &mut Connection, commands: &Commands) -> Result<(), StoreError> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    keep(&transaction, Some(commands))?;
    transaction.commit()?;
    Ok(())
}

pub(super) fn outstanding(
    db: &mut Connection,
    bridge: &BridgeId,
) -> Result<Outstanding, StoreError> {
    let corrupt = || StoreError::Corrupt { what: "numbering" };
    let transaction = db.transaction()?;
    let row: Option<(Option<String>, i64, i64)> = transaction
        .prepare_cached("SELECT own_epoch, acked, sent FROM bridges WHERE id = ?1")?
        .query_row([bridge.as_str()], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    let (epoch, acked, sent) = row.unwrap_or_default();
    let epoch = epoch.map(|epoch| epoch.parse::<Epoch>().map_err(|_| corrupt()));
    let mut statement = transaction.prepare_cached(
        "SELECT seq, task, attempt, frame FROM commands WHERE bridge = ?1 AND seq > ?2
         ORDER BY seq",
    )?;
    let rows = statement.query_map((bridge.as_str(), acked), |row| {
        Ok((
            row.get::<_, i64>(0)?,
            row.get::<_, String>(1)?,
            row.get::<_, Option<String>>(2)?,
            row.get::<_, String>(3)?,
        ))
    })?;
    let commands = rows.map(|row| {
        let (seq, task, attempt, frame) = row?;
        let task = parsed("task", TaskId::parse(&task))?;
        let run = attempt.map(|attempt| run_key(&task, attempt));
        let frame = frame.into();
        let seq = u64::try_from(seq).map_err(|_| corrupt())?;
        Ok((seq, Command { task, run, frame }))
    });
    Ok(Outstanding {
        epoch: epoch.transpose()?,
        acked: u64::try_from(acked).map_err(|_| corrupt())?,
        sent: u64::try_from(sent.max(acked)).map_err(|_| corrupt())?,
        commands: commands.collect::<Result<_, StoreError>>()?,
    })
}

/// The machine has everything up to this number of the numbering.
pub(super) fn acknowledged(
    db: &mut Connection,
    bridge: &BridgeId,
    epoch: Epoch,
    upto: u64,
) -> Result<(), StoreError> {
    let upto = number(upto)?;
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let changed = transaction.execute(
        "UPDATE bridges SET acked = max(acked, ?3) WHERE id = ?1 AND own_epoch = ?2",
        (bridge.as_str(), epoch.to_string(), upto),
    )?;
    if changed > 0 {
        transaction.execute(
            "DELETE FROM commands WHERE bridge = ?1 AND seq <= ?2",
            (bridge.as_str(), upto),
        )?;
    }
    transaction.commit()?;
    Ok(())
}

/// Counts anew what is outstanding, from 1.
pub(super) fn renumber(
    db: &mut Connection,
    bridge: &BridgeId,
    epoch: Epoch,
) -> Result<Outstanding, StoreError> {
    let Outstanding { commands, .. } = outstanding(db, bridge)?;
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute("DELETE FROM commands WHERE bridge = ?1", [bridge.as_str()])?;
    transaction.execute(
        "UPDATE bridges SET acked = 0 WHERE id = ?1",
        [bridge.as_str()],
    )?;
    let again = Commands {
        bridge: bridge.clone(),
        epoch,
        first: 1,
        list: commands.into_iter().map(|(_, command)| command).collect(),
    };
    keep(&transaction, Some(&again))?;
    transaction.commit()?;
    outstanding(db, bridge)
}

fn number(seq: u64) -> Result<i64, StoreError> {
    i64::try_from(seq).map_err(|_| StoreError::Corrupt { what: "number" })
}
