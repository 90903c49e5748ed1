//! Keeps one connection alive: started when first needed, started again when it has died, never for each call.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rmcp::model::ClientCapabilities;
use tokio::sync::broadcast;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::back::Passes;
use crate::change::{self, Change};
use crate::config::ServerConfig;
use crate::connection::{Connection, Era, EraMemory};
use crate::error::{ClientError, ErrorKind};

/// The pause after the first failure in a row; it doubles with each one more.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// One supervised connection.
#[derive(Debug)]
pub(crate) struct Supervisor {
    config: Arc<ServerConfig>,
    memory: Arc<EraMemory>,
    passes: Arc<Passes>,
    /// The run that it is for, if it is for one.
    run: Option<Arc<str>>,
    /// What the server is offered, where that is not what it is granted.
    offer: Option<Arc<ClientCapabilities>>,
    changes: broadcast::Sender<Change>,
    status: Mutex<Status>,
    /// Held while a connection is being opened.
    opening: tokio::sync::Mutex<Attempts>,
    /// How many attempts have failed.
    failed: AtomicU64,
    stopped: CancellationToken,
}

#[derive(Debug, Clone, Default)]
enum Status {
    #[default]
    Idle,
    Starting,
    Open(Arc<Connection>),
    Failed(ClientError),
}

#[derive(Debug, Default)]
struct Attempts {
    /// Failures since something last worked.
    in_a_row: u32,
    not_before: Option<Instant>,
}

/// Where a server stands.
#[derive(Clone, Debug)]
pub enum State {
    /// Nobody has needed it yet, or it has ended and nobody has needed it since.
    Idle,
    /// It is being started.
    Starting,
    /// It is connected.
    Ready(Era),
    /// The last attempt to start it failed.
    Failed(ClientError),
}

impl Supervisor {
    pub(crate) fn new(
        config: Arc<ServerConfig>,
        memory: Arc<EraMemory>,
        passes: Arc<Passes>,
        run: Option<Arc<str>>,
        offer: Option<Arc<ClientCapabilities>>,
        changes: broadcast::Sender<Change>,
    ) -> Arc<Self> {
        Arc::new(Self {
            config,
            memory,
            passes,
            run,
            offer,
            changes,
            status: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
            failed: AtomicU64::new(0),
            stopped: CancellationToken::new(),
        })
    }

    pub(crate) fn state(&self) -> State {
        match self.status() {
            Status::Starting => State::Starting,
            Status::Open(connection) if connection.is_open() => State::Ready(connection.era),
            Status::Failed(error) => State::Failed(error),
            Status::Idle | Status::Open(_) => State::Idle,
        }
    }

    /// The connection, opened if need be.
    ///
    /// # Errors
    /// When it can't be opened. Those who wait for the same attempt share its failure.
    pub(crate) async fn connection(self: &Arc<Self>) -> Result<Arc<Connection>, ClientError> {
        if let Some(connection) = self.open_one() {
            return Ok(connection);
        }
        let seen = self.failed.load(Ordering::Acquire);
        let this = Arc::clone(self);
        // A task of its own: an impatient caller must not undo a start that others wait for.
        let opening = tokio::spawn(async move {
            tokio::select! {
                result = this.open(seen) => result,
                () = this.stopped.cancelled() => Err(this.has_stopped()),
            }
        });
        match opening.await {
            Ok(result) => result,
            Err(error) => Err(ClientError::new(&self.config.name, ErrorKind::Unavailable, error.to_string())),
        }
    }

    async fn open(&self, seen: u64) -> Result<Arc<Connection>, ClientError> {
        let mut attempts = self.opening.lock().await;
        let before = self.status();
        match &before {
            Status::Open(connection) if connection.is_open() => return Ok(Arc::clone(connection)),
            // It has died. One that has served anybody may come back at once.
            Status::Open(connection) if connection.has_served() => *attempts = Attempts::default(),
            Status::Open(_) => attempts.failed(),
            Status::Failed(error) if self.failed.load(Ordering::Acquire) != seen => return Err(error.clone()),
            Status::Idle | Status::Starting | Status::Failed(_) => {}
        }
        self.turn(Status::Starting);
        if let Some(not_before) = attempts.not_before {
            tokio::time::sleep_until(not_before).await;
        }
        let open = Connection::open(
            &self.config,
            &self.memory,
            &self.passes,
            self.run.as_ref(),
            self.offer.as_ref(),
            &self.changes,
        );
        match open.await {
            Ok(connection) => {
                let connection = Arc::new(connection);
                self.turn(Status::Open(Arc::clone(&connection)));
                if matches!(before, Status::Open(_) | Status::Failed(_)) {
                    // It may have come back as another.
                    change::everything(&self.changes);
                }
                Ok(connection)
            }
            Err(error) => {
                match &before {
                    // Those who ask again are told again; the log has it.
                    Status::Failed(same) if same.message == error.message => tracing::debug!("{error}"),
                    _ => tracing::warn!("{error}"),
                }
                attempts.failed();
                self.failed.fetch_add(1, Ordering::AcqRel);
                self.turn(Status::Failed(error.clone()));
                Err(error)
            }
        }
    }

    /// Ends the connection, or the attempt to open one, for good.
    pub(crate) async fn stop(&self) {
        self.stopped.cancel();
        let before = std::mem::take(&mut *self.lock());
        if let Status::Open(connection) = before {
            connection.close().await;
        }
    }

    /// What was opened while it was being stopped goes again, by being dropped.
    fn turn(&self, status: Status) {
        let mut current = self.lock();
        if !self.stopped.is_cancelled() {
            *current = status;
        }
    }

    fn open_one(&self) -> Option<Arc<Connection>> {
        match &*self.lock() {
            Status::Open(connection) if connection.is_open() => Some(Arc::clone(connection)),
            _ => None,
        }
    }

    fn status(&self) -> Status {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_stopped(&self) -> ClientError {
        ClientError::new(&self.config.name, ErrorKind::Unavailable, "has been shut down")
    }
}

impl Attempts {
    fn failed(&mut self) {
        let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(self.in_a_row)).min(LONGEST_PAUSE);
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.not_before = Some(Instant::now() + jittered(pause));
    }
}

/// Between three quarters of it and five, so that those who fail together do not come back together.
fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().hash_one(0_u8) % 512;
    pause * (768 + random as u32) / 1024
}
