//! Tables, and the way from every older version of them to this one.

use std::path::Path;

use bridge_proto::Timestamp;
use rusqlite::{Connection, OpenFlags};

use super::StoreError;

/// Opens the database of a state folder for writing: makes folder and file private, brings the
/// tables up to date.
pub(super) fn open_writer(folder: &Path, now: Timestamp) -> Result<Connection, StoreError> {
    let prepared = |source| StoreError::Prepare {
        path: folder.to_owned(),
        source,
    };
    private::make_folder(folder).map_err(prepared)?;
    let path = folder.join(FILE);
    private::make_file(&path).map_err(|source| StoreError::Prepare {
        path: path.clone(),
        source,
    })?;
    let mut connection = Connection::open_with_flags(
        &path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "secure_delete", true)?;
    connection.busy_timeout(BUSY)?;
    migrate(&mut connection, now)?;
    Ok(connection)
}

/// A second connection that can only read, so that long lists never delay an append.
pub(super) fn open_reader(folder: &Path) -> Result<Connection, StoreError> {
    let connection = Connection::open_with_flags(
        folder.join(FILE),
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.pragma_update(None, "query_only", true)?;
    connection.busy_timeout(BUSY)?;
    Ok(connection)
}

fn migrate(connection: &mut Connection, now: Timestamp) -> Result<(), StoreError> {
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    transaction.execute_batch(
        "CREATE TABLE IF NOT EXISTS migrations(
             version INTEGER PRIMARY KEY, applied INTEGER NOT NULL) STRICT",
    )?;
    let found: u32 = transaction.query_row(
        "SELECT coalesce(max(version), 0) FROM migrations",
        [],
        |row| row.get(0),
    )?;
    let known =
        u32::try_from(MIGRATIONS.len()).map_err(|_| StoreError::Corrupt { what: "schema" })?;
    if found > known {
        return Err(StoreError::Newer { found, known });
    }
    for (version, script) in (1_u32..).zip(MIGRATIONS) {
        if version > found {
            transaction.execute_batch(script)?;
            transaction.execute(
                "INSERT INTO migrations(version, applied) VALUES (?1, ?2)",
                (version, now.as_millis()),
            )?;
        }
    }
    transaction.commit()?;
    Ok(())
}

/// Inside the state folder.
pub(super) const FILE: &str = "hub.db";

/// Backups and curious people lock the file for moments.
const BUSY: std::time::Duration = std::time::Duration::from_secs(5);

/// Never changed once released; a new version is a new entry at the end.
const MIGRATIONS: &[&str] = &[
    "
CREATE TABLE bridges(
    id TEXT PRIMARY KEY, name TEXT NOT NULL,
    token BLOB UNIQUE,            -- SHA-256; NULL when revoked
    created INTEGER NOT NULL, hostname TEXT, version TEXT, seen INTEGER) STRICT;
CREATE TABLE tasks(
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
    bridge TEXT NOT NULL REFERENCES bridges(id), agent TEXT NOT NULL, provider TEXT NOT NULL,
    title TEXT NOT NULL, repository TEXT, folder TEXT NOT NULL, model TEXT,
    status TEXT NOT NULL, reason TEXT, created INTEGER NOT NULL, updated INTEGER NOT NULL,
    last_seq INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE INDEX tasks_by_age ON tasks(updated);
CREATE TABLE runs(
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    task INTEGER NOT NULL REFERENCES tasks(number) ON DELETE CASCADE, attempt TEXT NOT NULL,
    kind TEXT NOT NULL, prompt TEXT NOT NULL, attachments TEXT NOT NULL,
    status TEXT NOT NULL, reason TEXT, last_n INTEGER NOT NULL DEFAULT -1,
    created INTEGER NOT NULL, ended INTEGER, UNIQUE(task, attempt)) STRICT;
CREATE INDEX live_runs ON runs(task) WHERE ended IS NULL;
CREATE TABLE events(
    task INTEGER NOT NULL REFERENCES tasks(number) ON DELETE CASCADE, seq INTEGER NOT NULL,
    attempt TEXT NOT NULL, n INTEGER NOT NULL, at INTEGER NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY(task, seq)) STRICT;
CREATE TABLE asks(
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    run INTEGER NOT NULL REFERENCES runs(number) ON DELETE CASCADE,
    id TEXT NOT NULL, body TEXT NOT NULL, UNIQUE(run, id)) STRICT;
CREATE TABLE grants(
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, secret BLOB NOT NULL UNIQUE,
    created INTEGER NOT NULL, expires INTEGER, used INTEGER) STRICT;
",
    "
ALTER TABLE tasks ADD COLUMN agent_mode TEXT;
ALTER TABLE tasks ADD COLUMN effort TEXT;
",
    "
ALTER TABLE runs ADD COLUMN cancel INTEGER NOT NULL DEFAULT 0; -- a person wants it stopped
",
    "
ALTER TABLE bridges ADD COLUMN epoch TEXT; -- the numbering of its messages
ALTER TABLE bridges ADD COLUMN heard INTEGER NOT NULL DEFAULT 0; -- the last number below which all is kept
",
    "
ALTER TABLE bridges ADD COLUMN own_epoch TEXT; -- the numbering of what it is sent
ALTER TABLE bridges ADD COLUMN sent INTEGER NOT NULL DEFAULT 0; -- the last number given
ALTER TABLE bridges ADD COLUMN acked INTEGER NOT NULL DEFAULT 0; -- all up to here has arrived
CREATE TABLE commands(
    bridge TEXT NOT NULL REFERENCES bridges(id) ON DELETE CASCADE, seq INTEGER NOT NULL,
    task TEXT NOT NULL REFERENCES tasks(id) ON DELETE CASCADE,
    attempt TEXT,                 -- of the run it starts
    frame TEXT NOT NULL, PRIMARY KEY(bridge, seq)) STRICT;
CREATE INDEX commands_of_tasks ON commands(task);
",
];

#[cfg(unix)]
mod private {
    use std::{
        fs, io,
        os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
        path::Path,
    };

    pub(super) fn make_folder(path: &Path) -> io::Result<()> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))
    }

    /// SQLite gives its side files the mode of the main one.
    pub(super) fn make_file(path: &Path) -> io::Result<()> {
        fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))
    }
}

#[cfg(not(unix))]
mod private {
    use std::{fs, io, path::Path};

    pub(super) fn make_folder(path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    pub(super) fn make_file(path: &Path) -> io::Result<()> {
        fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map(drop)
    }
}

#[cfg(test)]
mod tests {
    #[cfg(unix)]
    use std::fs;

    use super::*;

    const NOW: i64 = 1_773_480_413_589;

    #[test]
    fn a_database_of_a_newer_version_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let now = Timestamp::from_millis(NOW);
        let connection = open_writer(folder.path(), now).unwrap();
        connection
            .execute("INSERT INTO migrations VALUES (99, 0)", [])
            .unwrap();
        drop(connection);
        assert!(matches!(
            open_writer(folder.path(), now),
            Err(StoreError::Newer {
                found: 99,
                known: 5
            })
        ));
    }

    #[test]
    fn a_database_of_the_first_version_keeps_its_rows() {
        let folder = tempfile::tempdir().unwrap();
        let old = Connection::open(folder.path().join(FILE)).unwrap();
        old.execute_batch(MIGRATIONS[0]).unwrap();
        old.execute_batch(
            "CREATE TABLE migrations(version INTEGER PRIMARY KEY, applied INTEGER NOT NULL) STRICT;
             INSERT INTO migrations VALUES (1, 0);
             INSERT INTO bridges VALUES ('b', 'b', NULL, 0, NULL, NULL, NULL);
             INSERT INTO tasks VALUES (1, 't', 'b', 'a', 'p', 't', NULL, 'f', NULL, 'queued', NULL,
                                       0, 0, 0);
             INSERT INTO runs VALUES (1, 1, 'r', '\"dispatch\"', 'x', '[]', 'queued', NULL, -1, 0,
                                      NULL);",
        )
        .unwrap();
        drop(old);
        let connection = open_writer(folder.path(), Timestamp::from_millis(NOW)).unwrap();
        let cancel: i64 = connection
            .query_row("SELECT cancel FROM runs", [], |row| row.get(0))
            .unwrap();
        assert_eq!(cancel, 0);
    }

    #[cfg(unix)]
    #[test]
    fn folder_and_files_are_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("state");
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        let connection = open_writer(&folder, Timestamp::from_millis(NOW)).unwrap();
        connection
            .execute(
                "INSERT INTO bridges(id, name, created) VALUES ('a', 'a', 0)",
                [],
            )
            .unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
    }
}
