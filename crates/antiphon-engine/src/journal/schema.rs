//! The database: how it is opened, what is in it, and how older ones are brought up to date.

use std::fs::OpenOptions;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::fault::explain;
use crate::api::EngineError;

/// Says in the file's header whose database this is: "Anti".
const APPLICATION: i32 = 0x416e_7469;

/// How long somebody else may hold the lock before we give up.
const PATIENCE: Duration = Duration::from_secs(5);

/// One step each; `PRAGMA user_version` counts those that were taken. Never change one that was released: add one.
const MIGRATIONS: &[&str] = &[include_str!("schema_1.sql")];

/// Opens, creates or migrates the database, for the one connection that writes. `max_bytes` bounds its size.
pub(super) fn open_writer(path: &Path, max_bytes: Option<u64>) -> Result<Connection, EngineError> {
    create_private(path)
        .map_err(|error| EngineError::Storage(format!("can't create the database {}: {error}", path.display())))?;
    let mut connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)
            .map_err(|error| explain(path, &error))?;
    check_kind(path, &connection)?;
    prepare(&mut connection, max_bytes).map_err(|error| explain(path, &error))?;
    Ok(connection)
}

/// Opens a connection that only reads. The writer has been there before.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(PATIENCE)?;
    Ok(connection)
}

/// Runs hold what people typed and tools answered: nobody else's business. SQLite gives its other files the same permissions.
fn create_private(path: &Path) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

/// Refuses what is not ours, and what is newer than we are, before anything is written.
fn check_kind(path: &Path, connection: &Connection) -> Result<(), EngineError> {
    let read = |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let facts = || {
        connection.busy_timeout(PATIENCE)?;
        let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        Ok((read("application_id")?, read("user_version")?, tables))
    };
    let (application, version, tables) = facts().map_err(|error| explain(path, &error))?;
    let path = path.display();
    if tables > 0 && application != i64::from(APPLICATION) {
        return Err(EngineError::Storage(format!("{path} is another program's database: choose another file")));
    }
    let known = MIGRATIONS.len() as i64;
    if version > known {
        return Err(EngineError::Storage(format!(
            "the database {path} has version {version}, and this antiphon knows versions up to {known}: use a newer antiphon, \
             or another database"
        )));
    }
    Ok(())
}

fn prepare(connection: &mut Connection, max_bytes: Option<u64>) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "foreign_keys", false)?;
    // A reader that stays long can make the WAL long: give the room back afterwards.
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    connection.pragma_update(None, "wal_autocheckpoint", 4_000)?;
    if let Some(bytes) = max_bytes {
        let page: u64 = connection.pragma_query_value(None, "page_size", |row| row.get::<_, i64>(0))?.unsigned_abs();
        connection.pragma_update(None, "max_page_count", i64::try_from(bytes / page).unwrap_or(i64::MAX))?;
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: usize =
        transaction.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))?.unsigned_abs() as usize;
    if version < MIGRATIONS.len() {
        for migration in &MIGRATIONS[version..] {
            transaction.execute_batch(migration)?;
        }
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", MIGRATIONS.len() as i64)?;
    }
    transaction.commit()
}
