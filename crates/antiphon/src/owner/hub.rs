//! The command line's way to the runs, whoever owns them.

use std::sync::Arc;

use tokio::sync::RwLock;
use tokio_util::sync::CancellationToken;

use super::client::{Client, NoReply};
use super::desk::Desk;
use super::lock::Lock;
use super::own::Owning;
use super::seat::{self, Free, Seat};
use super::verbs::Verb;
use crate::fault::Fault;
use crate::store::Store;

/// The way to a project's runs: through the process that owns them, which may be this one.
pub struct Hub {
    store: Store,
    state: RwLock<Arc<State>>,
}

enum State {
    /// This process owns them.
    Own(Owning),
    /// Another does.
    Attached(Client),
    /// Nobody does, and nothing goes on; the lock keeps it so while they are looked at.
    Looking(Desk, #[expect(dead_code, reason = "held, not read")] Lock),
}

impl From<Seat> for State {
    fn from(seat: Seat) -> Self {
        match seat {
            Seat::Owner(owning) => Self::Own(owning),
            Seat::Attached(stream) => Self::Attached(Client::new(stream)),
        }
    }
}

impl Hub {
    /// Finds the owner, or becomes it.
    pub async fn own(store: Store) -> Result<Self, Fault> {
        let state = seat::take(&store, &CancellationToken::new()).await?.into();
        Ok(Self::with(store, state))
    }

    /// Finds the owner; without one, looks at the runs and lets nothing go on.
    pub async fn look(store: Store) -> Result<Self, Fault> {
        let state = match seat::lock_or_connect(&store).await? {
            Free::Lock(lock) => State::Looking(Desk::at_rest(&store)?, lock),
            Free::Socket(stream) => State::Attached(Client::new(stream)),
        };
        Ok(Self::with(store, state))
    }

    fn with(store: Store, state: State) -> Self {
        Self { store, state: RwLock::new(Arc::new(state)) }
    }

    /// Asks the owner, whoever that is by then.
    pub async fn ask<V: Verb>(&self, verb: V) -> Result<V::Reply, Fault> {
        loop {
            let state = self.state.read().await.clone();
            match &*state {
                State::Own(owning) => return verb.answer(owning.desk()).await,
                State::Looking(desk, _) => return verb.answer(desk).await,
                State::Attached(client) => match client.ask(&verb).await {
                    Ok(reply) => return Ok(reply),
                    Err(NoReply::Refused(fault)) => return Err(fault),
                    Err(NoReply::Lost) => self.replace(&state).await?,
                },
            }
        }
    }

    /// Whether this process owns the runs.
    pub async fn owns(&self) -> bool {
        matches!(**self.state.read().await, State::Own(_))
    }

    /// Whether nobody does.
    pub async fn is_at_rest(&self) -> bool {
        matches!(**self.state.read().await, State::Looking(..))
    }

    /// Ends this process's part, because its work is done: see [`Owning::leave`].
    pub async fn close(&self) {
        if let State::Own(owning) = &**self.state.read().await {
            owning.leave().await;
        }
    }

    /// Ends it because somebody wants it to: see [`Owning::stop`].
    pub async fn stop(&self) {
        if let State::Own(owning) = &**self.state.read().await {
            owning.stop().await;
        }
    }

    /// Looks for an owner anew, unless another task has done so already.
    async fn replace(&self, lost: &Arc<State>) -> Result<(), Fault> {
        let mut state = self.state.write().await;
        if Arc::ptr_eq(&state, lost) {
            tracing::info!("the owner is gone; looking for another");
            *state = Arc::new(seat::take(&self.store, &CancellationToken::new()).await?.into());
        }
        Ok(())
    }
}
