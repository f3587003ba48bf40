//! Rows about who may come in: machines and what was granted to viewers.

use bridge_proto::{BridgeId, TaskId, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, Row, TransactionBehavior};

use super::{
    BridgeRecord, GrantKind, GrantRecord, StoreError, TokenHash, append, task_rows::parsed,
};
use crate::view::TokenView;

pub(super) fn add_bridge(
    db: &mut Connection,
    bridge: &BridgeRecord,
    token: TokenHash,
) -> Result<(), StoreError> {
    db.execute(
        "INSERT INTO bridges(id, name, token, created, hostname, version, seen)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        (
            bridge.id.as_str(),
            &bridge.name,
            token.0.as_slice(),
            bridge.created.as_millis(),
            &bridge.hostname,
            &bridge.version,
            bridge.seen.map(Timestamp::as_millis),
        ),
    )?;
    Ok(())
}

pub(super) fn bridges(db: &mut Connection) -> Result<Vec<BridgeRecord>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT id, name, created, hostname, version, seen FROM bridges
         WHERE token IS NOT NULL ORDER BY name COLLATE NOCASE, id",
    )?;
    let rows = statement.query_map([], bridge_row)?;
    rows.map(|row| row?.into_record()).collect()
}

pub(super) fn bridge_by_token(
    db: &mut Connection,
    token: TokenHash,
) -> Result<Option<BridgeRecord>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT id, name, created, hostname, version, seen FROM bridges WHERE token = ?1",
    )?;
    statement
        .query_row([token.0.as_slice()], bridge_row)
        .optional()?
        .map(BridgeRow::into_record)
        .transpose()
}

pub(super) fn seen_bridge(db: &mut Connection, bridge: &BridgeRecord) -> Result<(), StoreError> {
    db.execute(
        "UPDATE bridges SET hostname = ?2, version = ?3, seen = ?4 WHERE id = ?1",
        (
            bridge.id.as_str(),
            &bridge.hostname,
            &bridge.version,
            bridge.seen.map(Timestamp::as_millis),
        ),
    )?;
    Ok(())
}

/// In one step with the ends of its runs, so that no crash leaves runs that can never end.
pub(super) fn revoke_bridge(
    db: &mut Connection,
    bridge: &BridgeId,
    now: Timestamp,
) -> Result<Option<Vec<TaskId>>, StoreError> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let changed = transaction.execute(
        "UPDATE bridges SET token = NULL WHERE id = ?1 AND token IS NOT NULL",
        [bridge.as_str()],
    )?;
    if changed == 0 {
        return Ok(None);
    }
    let tasks = append::end_runs_of_revoked(&transaction, now)?;
    transaction.execute("DELETE FROM commands WHERE bridge = ?1", [bridge.as_str()])?;
    transaction.commit()?;
    Ok(Some(tasks))
}

pub(super) fn end_runs_of_revoked(
    db: &mut Connection,
    now: Timestamp,
) -> Result<usize, StoreError> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let tasks = append::end_runs_of_revoked(&transaction, now)?;
    transaction.execute(
        "DELETE FROM commands WHERE bridge IN (SELECT id FROM bridges WHERE token IS NULL)",
        [],
    )?;
    transaction.commit()?;
    Ok(tasks.len())
}

struct BridgeRow {
    id: String,
    name: String,
    created: i64,
    hostname: Option<String>,
    version: Option<String>,
    seen: Option<i64>,
}

fn bridge_row(row: &Row<'_>) -> rusqlite::Result<BridgeRow> {
    Ok(BridgeRow {
        id: row.get(0)?,
        name: row.get(1)?,
        created: row.get(2)?,
        hostname: row.get(3)?,
        version: row.get(4)?,
        seen: row.get(5)?,
    })
}

impl BridgeRow {
    fn into_record(self) -> Result<BridgeRecord, StoreError> {
        Ok(BridgeRecord {
            id: parsed("machine", BridgeId::parse(&self.id))?,
            name: self.name,
            created: Timestamp::from_millis(self.created),
            hostname: self.hostname,
            version: self.version,
            seen: self.seen.map(Timestamp::from_millis),
        })
    }
}

pub(super) fn grant(
    db: &mut Connection,
    grant: &GrantRecord,
    secret: TokenHash,
) -> Result<(), StoreError> {
    db.execute(
        "DELETE FROM grants WHERE expires <= ?1",
        [grant.created.as_millis()],
    )?;
    db.execute(
        "INSERT INTO grants(id, kind, name, secret, created, expires)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        (
            &grant.id,
            grant.kind.as_str(),
            &grant.name,
            secret.0.as_slice(),
            grant.created.as_millis(),
            grant.expires.map(Timestamp::as_millis),
        ),
    )?;
    Ok(())
}

/// A grant that was found by its secret.
pub(super) struct Found {
    pub(super) id: String,
    pub(super) used: Option<Timestamp>,
}

pub(super) fn granted(
    db: &mut Connection,
    kind: GrantKind,
    secret: TokenHash,
    now: Timestamp,
) -> Result<Option<Found>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT id, used FROM grants
         WHERE secret = ?1 AND kind = ?2 AND (expires IS NULL OR expires > ?3)",
    )?;
    let found = statement
        .query_row(
            (secret.0.as_slice(), kind.as_str(), now.as_millis()),
            |row| {
                let used: Option<i64> = row.get(1)?;
                Ok(Found {
                    id: row.get(0)?,
                    used: used.map(Timestamp::from_millis),
                })
            },
        )
        .optional()?;
    Ok(found)
}

pub(super) fn used(db: &mut Connection, id: &str, now: Timestamp) -> Result<(), StoreError> {
    db.execute(
        "UPDATE grants SET used = ?2 WHERE id = ?1",
        (id, now.as_millis()),
    )?;
    Ok(())
}

/// One statement, so that two browsers with one code cannot both get in.
pub(super) fn take_login(
    db: &mut Connection,
    secret: TokenHash,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let taken = db.execute(
        "DELETE FROM grants WHERE secret = ?1 AND kind = ?2 AND expires > ?3",
        (
            secret.0.as_slice(),
            GrantKind::LoginCode.as_str(),
            now.as_millis(),
        ),
    )?;
    Ok(taken == 1)
}

pub(super) fn grants(
    db: &mut Connection,
    kind: GrantKind,
    now: Timestamp,
) -> Result<Vec<TokenView>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT id, name, created, used FROM grants
         WHERE kind = ?1 AND (expires IS NULL OR expires > ?2)
         ORDER BY name COLLATE NOCASE, id",
    )?;
    let rows = statement.query_map((kind.as_str(), now.as_millis()), |row| {
        let used: Option<i64> = row.get(3)?;
        Ok(TokenView {
            id: row.get(0)?,
            name: row.get(1)?,
            created: Timestamp::from_millis(row.get(2)?),
            used: used.map(Timestamp::from_millis),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn ungrant(db: &mut Connection, kind: GrantKind, id: &str) -> Result<bool, StoreError> {
    let gone = db.execute(
        "DELETE FROM grants WHERE id = ?1 AND kind = ?2",
        (id, kind.as_str()),
    )?;
    Ok(gone > 0)
}
