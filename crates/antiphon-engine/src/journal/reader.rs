//! Reading: connections of their own, which see what has been committed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, named_params, params};
use serde::de::DeserializeOwned;

use super::fault::explain;
use super::schema::open_reader;
use crate::api::{EngineError, Filter, Owner, Run, RunId};

/// How many connections stay open.
const POOL: usize = 4;

/// Reads the journal.
pub(crate) struct Reader(Arc<Pool>);

struct Pool {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

/// A run as its row has it.
pub(crate) struct Stored {
    /// Its number.
    pub n: u64,
    /// The run. While it is busy, its view is behind.
    pub run: Run,
    /// Hash of its plan.
    pub plan: Arc<str>,
    /// The kernel version that drives it.
    pub kernel: u32,
    /// Something was in flight.
    pub busy: bool,
}

/// What is needed to bring a run's state back.
pub(crate) struct Past {
    /// The kernel's state after the event with this number, as JSON.
    pub snapshot: Option<(u64, String)>,
    /// The later events, as JSON.
    pub events: Vec<String>,
}

/// A run that somebody may have to wake.
pub(crate) struct Sleeper {
    pub id: RunId,
    /// Something was in flight when its process ended.
    pub busy: bool,
    pub wake_at: Option<u64>,
}

impl Reader {
    pub(crate) fn new(path: &Path) -> Self {
        Self(Arc::new(Pool { path: path.to_owned(), idle: Mutex::default() }))
    }

    async fn read<T, F>(&self, query: F) -> Result<T, EngineError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let pool = Arc::clone(&self.0);
        let job = move || {
            let idle = pool.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = idle.map_or_else(|| open_reader(&pool.path), Ok);
            let answer = connection.and_then(|connection| Ok((query(&connection)?, connection)));
            let (answer, connection) = answer.map_err(|error| explain(&pool.path, &error))?;
            let mut idle = pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < POOL {
                idle.push(connection);
            }
            Ok(answer)
        };
        tokio::task::spawn_blocking(job)
            .await
            .unwrap_or_else(|error| Err(EngineError::Storage(format!("reading the database failed: {error}"))))
    }

    /// A run's row.
    pub(crate) async fn run(&self, id: &RunId) -> Result<Option<Stored>, EngineError> {
        let id = id.clone();
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(&format!("{RUN} WHERE id = ?1"))?;
            statement.query_row(params![id.0], stored).optional()
        })
        .await
    }

    /// The run that this owner started with this idempotency key, and the hash of its input.
    pub(crate) async fn keyed(&self, owner: &Owner, key: &str) -> Result<Option<(RunId, String, String)>, EngineError> {
        let (owner, key) = (owner.clone(), key.to_owned());
        self.read(move |connection| {
            connection
                .prepare_cached("SELECT id, workflow, input_hash FROM runs WHERE owner = ?1 AND idempotency_key = ?2")?
                .query_row(params![owner.0, key], |row| Ok((RunId(row.get(0)?), row.get(1)?, row.get(2)?)))
                .optional()
        })
        .await
    }

    /// Runs by descending number, below `before`.
    pub(crate) async fn list(
        &self,
        filter: Filter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Stored>, EngineError> {
        self.read(move |connection| {
            let sql = format!(
                "{RUN} WHERE (:before IS NULL OR n < :before) AND (:owner IS NULL OR owner = :owner)
                 AND (NOT :live OR ended_at IS NULL) AND (:from IS NULL OR (id >= :from AND id < :to))
                 ORDER BY n DESC LIMIT :limit"
            );
            connection
                .prepare_cached(&sql)?
                .query_map(
                    named_params! {
                        ":before": before,
                        ":owner": filter.owner.map(|owner| owner.0),
                        ":live": filter.live,
                        ":from": filter.id_prefix,
                        ":to": filter.id_prefix.as_ref().map(|prefix| format!("{prefix}\u{10ffff}")),
                        ":limit": limit,
                    },
                    stored,
                )?
                .collect()
        })
        .await
    }

    /// What brings the state of run `n` back.
    pub(crate) async fn past(&self, n: u64) -> Result<Past, EngineError> {
        self.read(move |connection| {
            let snapshot: Option<(u64, String)> = connection
                .prepare_cached("SELECT snapshot_seq, snapshot FROM runs WHERE n = ?1 AND snapshot IS NOT NULL")?
                .query_row(params![n], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let events = events(connection, n, snapshot.as_ref().map_or(0, |(seq, _)| *seq))?;
            Ok(Past { snapshot, events })
        })
        .await
    }

    /// The events of run `n` after number `after`, as JSON.
    pub(crate) async fn events(&self, n: u64, after: u64) -> Result<Vec<String>, EngineError> {
        self.read(move |connection| events(connection, n, after)).await
    }

    /// A plan, as JSON.
    pub(crate) async fn plan(&self, hash: Arc<str>) -> Result<Option<String>, EngineError> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached("SELECT body FROM plans WHERE hash = ?1")?;
            statement.query_row(params![hash], |row| row.get(0)).optional()
        })
        .await
    }

    /// A blob, as JSON.
    pub(crate) async fn blob(&self, sha256: Arc<str>) -> Result<Option<String>, EngineError> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached("SELECT body FROM blobs WHERE sha256 = ?1")?;
            statement.query_row(params![sha256], |row| row.get(0)).optional()
        })
        .await
    }

    /// What an earlier process left: the highest number of a run, runs that were busy when it ended, and those that wait for
    /// a time. Blocks.
    pub(crate) fn left(&self) -> Result<(u64, Vec<Sleeper>), EngineError> {
        let left = || {
            let connection = open_reader(&self.0.path)?;
            let last = connection.query_row("SELECT coalesce(max(n), 0) FROM runs", [], |row| row.get(0))?;
            let sleepers = connection
                .prepare(
                    "SELECT id, busy, wake_at FROM runs WHERE busy
                     UNION ALL SELECT id, busy, wake_at FROM runs WHERE wake_at IS NOT NULL AND NOT busy",
                )?
                .query_map([], |row| Ok(Sleeper { id: RunId(row.get(0)?), busy: row.get(1)?, wake_at: row.get(2)? }))?
                .collect::<rusqlite::Result<_>>()?;
            Ok((last, sleepers))
        };
        left().map_err(|error| explain(&self.0.path, &error))
    }
}

/// What [`stored`] reads.
const RUN: &str = "SELECT n, id, owner, workflow, plan, kernel, created_at, updated_at, ended_at, ttl_ms, revision, busy, view FROM runs";

fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    Ok(Stored {
        n: row.get("n")?,
        plan: row.get("plan")?,
        kernel: row.get("kernel")?,
        busy: row.get("busy")?,
        run: Run {
            id: RunId(row.get("id")?),
            owner: Owner(row.get("owner")?),
            workflow: row.get("workflow")?,
            revision: row.get("revision")?,
            created_at: row.get("created_at")?,
            updated_at: row.get("updated_at")?,
            ended_at: row.get("ended_at")?,
            ttl_ms: row.get("ttl_ms")?,
            view: json(row, "view")?,
        },
    })
}

fn json<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    let index = row.as_ref().column_index(column)?;
    let text = row.get_ref(index)?.as_str()?;
    serde_json::from_str(text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(index, Type::Text, error.into()))
}

fn events(connection: &Connection, n: u64, after: u64) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare_cached("SELECT body FROM events WHERE run = ?1 AND seq > ?2 ORDER BY seq")?
        .query_map(params![n, after], |row| row.get(0))?
        .collect()
}
