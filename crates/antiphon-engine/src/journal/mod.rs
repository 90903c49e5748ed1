//! The journal: what happened in every run, in one SQLite database (WAL).
//!
//! One thread writes; whatever came in while it was busy goes into its next transaction (group commit). A transaction waits
//! for the disk only if somebody waits for it ([`Journal::durable`]). Readers have connections of their own.

mod fault;
mod queue;
mod reader;
mod schema;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use self::queue::Ticket;
pub(crate) use self::queue::Urgency;
use self::queue::{Item, Level, Queue};
pub(crate) use self::reader::{Past, Reader, Sleeper, Stored};
use crate::api::{EngineError, Run};
use crate::plans::PinnedPlan;

/// How many writes may be queued before runs wait for the journal.
const BACKLOG: u64 = 1_000;

/// What one run records in one piece: all of it or nothing.
pub(crate) struct Write {
    /// The run's number.
    pub run: u64,
    /// Set by the queue.
    pub ticket: Ticket,
    /// Refuses everything after a failure.
    pub gate: Arc<Gate>,
    /// Its row does not exist yet; needs `standing`.
    pub birth: Option<Birth>,
    /// Blobs that it uses from now on: hash and JSON.
    pub blobs: Vec<(Arc<str>, String)>,
    /// The number of the first of `events`.
    pub first_seq: u64,
    /// Events as JSON.
    pub events: Vec<String>,
    /// Where it stands now.
    pub standing: Option<Standing>,
    /// The kernel's state as JSON, after the event with this number.
    pub snapshot: Option<(u64, String)>,
}

/// What is recorded of a run once.
pub(crate) struct Birth {
    /// The plan that it pins.
    pub plan: Arc<PinnedPlan>,
    /// The idempotency key and the hash of the input that came with it.
    pub idempotency: Option<(String, String)>,
}

/// A run's row.
pub(crate) struct Standing {
    /// The run, with its view.
    pub run: Arc<Run>,
    /// Something is in flight: its outcome would be lost with the process.
    pub busy: bool,
    /// When it has to be woken.
    pub wake_at: Option<u64>,
}

/// Shared by a run in memory and all that it sends to the journal: once something has gone wrong, nothing may follow.
#[derive(Default)]
pub(crate) struct Gate {
    closed: OnceLock<(Ticket, String)>,
    shut: CancellationToken,
}

impl Gate {
    /// The run can't go on; what it has handed over may still be recorded.
    pub(crate) fn close(&self, why: &str) {
        self.close_from(Ticket::MAX, why);
    }

    /// This write, and so all that follow, are not recorded.
    fn close_from(&self, ticket: Ticket, why: &str) {
        let _ = self.closed.set((ticket, why.to_owned()));
        self.shut.cancel();
    }

    /// Why the run can't go on, if it can't.
    pub(crate) fn why(&self) -> Option<&str> {
        self.closed.get().map(|(_, why)| why.as_str())
    }

    /// Fails if this write has failed, or will.
    fn check(&self, ticket: Ticket) -> Result<(), EngineError> {
        match self.closed.get() {
            Some((from, why)) if *from <= ticket => Err(EngineError::Storage(why.clone())),
            _ => Ok(()),
        }
    }

    /// Resolves when the run can't go on.
    pub(crate) async fn shut(&self) {
        self.shut.cancelled().await;
    }
}

/// What was handed to the journal: what to wait for.
#[derive(Clone)]
pub(crate) struct Receipt {
    ticket: Ticket,
    gate: Arc<Gate>,
}

/// The way to the thread that writes.
pub(crate) struct Journal {
    queue: Arc<Queue>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Journal {
    /// Opens, creates or migrates the database at `path`, and starts the thread that writes to it.
    pub(crate) fn open(path: &Path, max_bytes: Option<u64>) -> Result<Self, EngineError> {
        let connection = schema::open_writer(path, max_bytes)?;
        let queue = Arc::new(Queue::default());
        let writer = writer::Writer::new(path, connection);
        let thread = std::thread::Builder::new()
            .name("antiphon-journal".into())
            .spawn({
                let queue = Arc::clone(&queue);
                move || writer.run(&queue)
            })
            .map_err(|error| EngineError::Storage(format!("can't start the journal's thread: {error}")))?;
        Ok(Self { queue, thread: Mutex::new(Some(thread)) })
    }

    /// Queues a write. Never blocks.
    pub(crate) fn append(&self, write: Write, urgency: Urgency) -> Receipt {
        let gate = Arc::clone(&write.gate);
        let ticket = self.queue.push(Item::Write(write), urgency).unwrap_or_else(|| {
            gate.close(&EngineError::Stopping.to_string());
            Ticket::MAX
        });
        Receipt { ticket, gate }
    }

    /// Waits until everything so far has been committed: it survives the process. Fails if its own write has failed.
    pub(crate) async fn committed(&self, receipt: &Receipt) -> Result<(), EngineError> {
        self.wait(receipt, Level::Committed).await
    }

    /// Likewise, without hurrying it.
    pub(crate) async fn eventual(&self, receipt: &Receipt) -> Result<(), EngineError> {
        self.wait(receipt, Level::Eventual).await
    }

    /// Waits until everything so far is on the disk: it survives a power cut. Fails if its own write has failed.
    pub(crate) async fn durable(&self, receipt: &Receipt) -> Result<(), EngineError> {
        self.wait(receipt, Level::Durable).await
    }

    async fn wait(&self, receipt: &Receipt, level: Level) -> Result<(), EngineError> {
        if let Some(reached) = self.queue.wait(receipt.ticket, level) {
            match reached.await {
                Ok(Ok(())) => {}
                Ok(Err(why)) => return Err(EngineError::Storage(why.to_string())),
                Err(_) => return Err(EngineError::Stopping),
            }
        }
        receipt.gate.check(receipt.ticket)
    }

    /// Stands for everything that was handed over.
    pub(crate) fn newest(&self) -> Receipt {
        Receipt { ticket: self.queue.newest(), gate: Arc::default() }
    }

    /// Stands for everything that a reader sees.
    pub(crate) fn readable(&self) -> Receipt {
        Receipt { ticket: self.queue.committed(), gate: Arc::default() }
    }

    /// Waits while very many writes are queued.
    pub(crate) async fn breathe(&self) {
        if self.queue.backlog() > BACKLOG {
            // A failure shows at the gates of those whose writes have failed.
            let _ = self.committed(&self.newest()).await;
        }
    }

    /// How often somebody waited for the disk, and got it: waits at the same time count once.
    pub(crate) fn flushes(&self) -> u64 {
        self.queue.flushes()
    }

    /// Deletes runs that expired before `now`, with what only they used; answers how many.
    pub(crate) async fn sweep(&self, now: u64) -> Result<usize, EngineError> {
        let (reply, swept) = oneshot::channel();
        self.queue.push(Item::Sweep { now, reply }, Urgency::Now).ok_or(EngineError::Stopping)?;
        swept.await.map_err(|_| EngineError::Stopping)?
    }

    /// Commits what is queued, takes nothing more, and closes the database.
    pub(crate) fn close(&self) {
        self.queue.close();
        let thread = self.thread.lock().ok().and_then(|mut thread| thread.take());
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the journal's thread panicked");
        }
    }
}
