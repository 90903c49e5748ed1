//! The thread that writes.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, ErrorCode, TransactionBehavior, named_params, params};

use super::fault::explain;
use super::queue::{Batch, Item, Queue};
use super::{Birth, Standing, Write};
use antiphon_kernel::KERNEL_VERSION;

/// How many runs one transaction of a sweep deletes, so that others do not wait long.
const SWEEP: usize = 100;

/// The one connection that writes.
pub(super) struct Writer {
    path: PathBuf,
    connection: Connection,
    /// Whether commits wait for the disk at the moment.
    full: Option<bool>,
    /// Hashes of plans that are in the database.
    plans: HashSet<Arc<str>>,
}

/// Says that the thread is gone, however it went.
struct Finish<'a>(&'a Queue);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.finish();
    }
}

impl Writer {
    pub(super) fn new(path: &Path, connection: Connection) -> Self {
        connection.set_prepared_statement_cache_capacity(32);
        Self { path: path.to_owned(), connection, full: None, plans: HashSet::new() }
    }

    /// Works until the queue is closed and empty.
    pub(super) fn run(mut self, queue: &Queue) {
        let _finish = Finish(queue);
        while let Some(batch) = queue.next() {
            self.work(batch, queue);
        }
    }

    fn work(&mut self, batch: Batch, queue: &Queue) {
        let (mut writes, mut sweeps) = (Vec::with_capacity(batch.items.len()), Vec::new());
        for item in batch.items {
            match item {
                Item::Write(write) => writes.push(write),
                Item::Sweep { now, reply } => sweeps.push((now, reply)),
            }
        }
        let flushed = self.record(writes, batch.durable);
        queue.settle(batch.upto, flushed);
        for (now, reply) in sweeps {
            let _ = reply.send(self.sweep(now).map_err(|error| explain(&self.path, &error)));
        }
    }

    /// Records what can be recorded: a run whose write fails keeps none of the others from theirs.
    fn record(&mut self, mut writes: Vec<Write>, durable: bool) -> Option<Result<(), Arc<str>>> {
        writes.retain(|write| write.gate.check(write.ticket).is_ok());
        let mut flushed = false;
        if !writes.is_empty() {
            match self.commit(&writes, durable) {
                Ok(()) => flushed = durable,
                // Each would wait as long again.
                Err(error) if is_locked(&error) => self.refuse(&writes, &error),
                Err(_) => {
                    for (_, writes) in by_run(writes) {
                        match self.commit(&writes, durable) {
                            Ok(()) => flushed = durable,
                            Err(error) => self.refuse(&writes, &error),
                        }
                    }
                }
            }
        }
        durable.then(|| {
            if flushed { Ok(()) } else { self.flush().map_err(|error| explain(&self.path, &error).to_string().into()) }
        })
    }

    fn refuse(&self, writes: &[Write], error: &rusqlite::Error) {
        let why = explain(&self.path, error);
        tracing::error!("{} writes not recorded: {why}", writes.len());
        for write in writes {
            write.gate.close_from(write.ticket, &why.to_string());
        }
    }

    /// `synchronous` decides whether a commit waits for the disk. The commit that does covers all those before it.
    fn synchronous(&mut self, full: bool) -> rusqlite::Result<()> {
        if self.full != Some(full) {
            self.connection.pragma_update(None, "synchronous", if full { "FULL" } else { "NORMAL" })?;
            self.full = Some(full);
        }
        Ok(())
    }

    fn commit(&mut self, writes: &[Write], durable: bool) -> rusqlite::Result<()> {
        self.synchronous(durable)?;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut plans = Vec::new();
        for write in writes {
            insert(&transaction, write)?;
            if let Some(Birth { plan, .. }) = &write.birth
                && !self.plans.contains(&plan.hash)
            {
                let mut statement =
                    transaction.prepare_cached("INSERT OR IGNORE INTO plans (hash, body) VALUES (?1, ?2)")?;
                statement.execute(params![plan.hash, plan.body])?;
                plans.push(Arc::clone(&plan.hash));
            }
        }
        transaction.commit()?;
        self.plans.extend(plans);
        Ok(())
    }

    /// Everything is committed, but not on the disk yet. Only a commit that changes something takes it there.
    fn flush(&mut self) -> rusqlite::Result<()> {
        self.synchronous(true)?;
        self.connection.prepare_cached("UPDATE meta SET value = value + 1 WHERE key = 'flushes'")?.execute([]).map(drop)
    }

    fn sweep(&mut self, now: u64) -> rusqlite::Result<usize> {
        let mut swept = 0;
        loop {
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let expired: Vec<(u64, String)> = transaction
                .prepare_cached("SELECT n, plan FROM runs WHERE expires_at <= ?1 AND ended_at IS NOT NULL LIMIT ?2")?
                .query_map(params![now, SWEEP], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<Result<_, _>>()?;
            for (run, plan) in &expired {
                for statement in [
                    "DELETE FROM events WHERE run = ?1",
                    "DELETE FROM blobs WHERE sha256 IN (SELECT sha256 FROM blob_refs WHERE run = ?1)
                     AND NOT EXISTS (SELECT 1 FROM blob_refs r WHERE r.sha256 = blobs.sha256 AND r.run <> ?1)",
                    "DELETE FROM blob_refs WHERE run = ?1",
                    "DELETE FROM runs WHERE n = ?1",
                ] {
                    transaction.prepare_cached(statement)?.execute(params![run])?;
                }
                transaction
                    .prepare_cached(
                        "DELETE FROM plans WHERE hash = ?1 AND NOT EXISTS (SELECT 1 FROM runs WHERE plan = ?1)",
                    )?
                    .execute(params![plan])?;
            }
            transaction.commit()?;
            swept += expired.len();
            if expired.len() < SWEEP {
                break;
            }
        }
        if swept > 0 {
            self.plans.clear();
        }
        Ok(swept)
    }
}

fn is_locked(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// The writes of each run, in their order.
fn by_run(writes: Vec<Write>) -> BTreeMap<u64, Vec<Write>> {
    let mut runs = BTreeMap::<u64, Vec<Write>>::new();
    for write in writes {
        runs.entry(write.run).or_default().push(write);
    }
    runs
}

fn insert(connection: &Connection, write: &Write) -> rusqlite::Result<()> {
    for (sha256, body) in &write.blobs {
        connection
            .prepare_cached("INSERT OR IGNORE INTO blobs (sha256, body) VALUES (?1, ?2)")?
            .execute(params![sha256, body])?;
        connection
            .prepare_cached("INSERT OR IGNORE INTO blob_refs (run, sha256) VALUES (?1, ?2)")?
            .execute(params![write.run, sha256])?;
    }
    let mut statement = connection.prepare_cached("INSERT INTO events (run, seq, body) VALUES (?1, ?2, ?3)")?;
    for (seq, body) in (write.first_seq..).zip(&write.events) {
        statement.execute(params![write.run, seq, body])?;
    }
    match (&write.birth, &write.standing) {
        (Some(birth), Some(standing)) => create(connection, write.run, birth, standing)?,
        (None, Some(standing)) => update(connection, write.run, standing)?,
        _ => {}
    }
    if let Some((seq, state)) = &write.snapshot {
        connection
            .prepare_cached("UPDATE runs SET snapshot = ?2, snapshot_seq = ?3 WHERE n = ?1")?
            .execute(params![write.run, state, seq])?;
    }
    Ok(())
}

fn create(connection: &Connection, n: u64, birth: &Birth, standing: &Standing) -> rusqlite::Result<()> {
    let (key, input_hash) = birth.idempotency.as_ref().map(|(key, hash)| (key, hash)).unzip();
    let run = &standing.run;
    connection
        .prepare_cached(
            "INSERT INTO runs (n, id, owner, workflow, plan, kernel, idempotency_key, input_hash, created_at, updated_at, ttl_ms,
                               revision, busy, wake_at, view)
             VALUES (:n, :id, :owner, :workflow, :plan, :kernel, :key, :input_hash, :created_at, :updated_at, :ttl_ms,
                     :revision, :busy, :wake_at, :view)",
        )?
        .execute(named_params! {
            ":n": n,
            ":id": run.id.0,
            ":owner": run.owner.0,
            ":workflow": run.workflow,
            ":plan": birth.plan.hash,
            ":kernel": KERNEL_VERSION,
            ":key": key,
            ":input_hash": input_hash,
            ":created_at": run.created_at,
            ":updated_at": run.updated_at,
            ":ttl_ms": run.ttl_ms,
            ":revision": run.revision,
            ":busy": standing.busy,
            ":wake_at": standing.wake_at,
            ":view": view(standing)?,
        })
        .map(drop)
}

/// Of a run that has ended the snapshot is not needed any more.
fn update(connection: &Connection, n: u64, standing: &Standing) -> rusqlite::Result<()> {
    let run = &standing.run;
    connection
        .prepare_cached(
            "UPDATE runs SET updated_at = :updated_at, ended_at = :ended_at, expires_at = :ended_at + ttl_ms, revision = :revision,
                             busy = :busy, wake_at = :wake_at, view = :view,
                             snapshot = iif(:ended_at IS NULL, snapshot, NULL)
             WHERE n = :n",
        )?
        .execute(named_params! {
            ":n": n,
            ":updated_at": run.updated_at,
            ":ended_at": run.ended_at,
            ":revision": run.revision,
            ":busy": standing.busy,
            ":wake_at": standing.wake_at,
            ":view": view(standing)?,
        })
        .map(drop)
}

fn view(standing: &Standing) -> rusqlite::Result<String> {
    serde_json::to_string(&standing.run.view).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}
