//! Finding the owner, or becoming it.

use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::lock::{self, Lock};
use super::own::Owning;
use super::socket;
use crate::fault::Fault;
use crate::store::Store;

/// How long a process may hold the lock without listening: it opens the database, or waits for calls in flight before it leaves.
const PATIENCE: Duration = Duration::from_secs(45);

/// After this long people are told what is waited for.
const SILENCE: Duration = Duration::from_secs(2);

/// Between two looks at the lock. With the opening of the database it bounds how long a take-over takes.
pub const PAUSE: Duration = Duration::from_millis(20);

/// Where this process sits.
pub enum Seat {
    /// It owns the runs.
    Owner(Owning),
    /// It is connected to the process that does.
    Attached(UnixStream),
}

/// Finds the owner, or becomes it: then everything that was going on goes on. `stopping` is for [`Owning::open`].
pub async fn take(store: &Store, stopping: &CancellationToken) -> Result<Seat, Fault> {
    Ok(match lock_or_connect(store).await? {
        Free::Lock(lock) => Seat::Owner(Owning::open(lock, store, stopping.clone())?),
        Free::Socket(stream) => Seat::Attached(stream),
    })
}

/// What there was to get.
pub enum Free {
    /// Nobody owned the runs; the lock is ours.
    Lock(Lock),
    /// Somebody does.
    Socket(UnixStream),
}

/// Takes the lock, or connects to its holder.
pub async fn lock_or_connect(store: &Store) -> Result<Free, Fault> {
    store.create()?;
    let begun = Instant::now();
    let mut told = false;
    let unusable = |e| {
        Fault::internal_with(
            format!("can't use {}: {e}", store.lock.display()),
            "its folder must be writable, and have room; --db names another place",
        )
    };
    loop {
        if let Some(lock) = Lock::take(&store.lock).map_err(unusable)? {
            return Ok(Free::Lock(lock));
        }
        let holder = lock::holder(&store.lock).map_err(unusable)?;
        if let Some(holder) = &holder {
            let ours = env!("CARGO_PKG_VERSION");
            if holder.version != ours {
                let (pid, theirs) = (holder.pid, &holder.version);
                return Err(Fault::internal_with(
                    format!("process {pid} owns this project's runs and is antiphon {theirs}; this is {ours}"),
                    "end that process, or use its version here",
                ));
            }
            match socket::connect(&holder.socket, &store.lock).await {
                Ok(stream) => return Ok(Free::Socket(stream)),
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                    return Err(Fault::internal(format!("can't use {}: {error}", holder.socket.display())));
                }
                // It is about to listen, or about to be gone.
                Err(error) => tracing::debug!(%error, "the owner does not answer yet"),
            }
        }
        let who = || holder.as_ref().map_or_else(|| "another process".to_owned(), |it| format!("process {}", it.pid));
        if begun.elapsed() > SILENCE && !told {
            tracing::info!("{} owns this project's runs and does not listen; waiting", who());
            told = true;
        }
        if begun.elapsed() > PATIENCE {
            return Err(Fault::internal_with(
                format!("{} owns this project's runs but does not answer", who()),
                format!("end it; it holds {}", store.lock.display()),
            ));
        }
        sleep(PAUSE).await;
    }
}
