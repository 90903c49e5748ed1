//! Servers that do not answer: waited for a while, once. From then on they hold up nobody, and when they are there after all,
//! whoever listens is told that the lists have changed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use antiphon_client::{About, CallContext, Client, ClientError, ErrorKind, Listed, Listing, State};
use tokio::time::{sleep, timeout};

/// How long a server may hold up those who ask what there is.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause before it is asked again; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The servers that are late, by their places in the list of exposures: with which list, or altogether.
#[derive(Debug, Default)]
pub(super) struct Late(Arc<Mutex<Lateness>>);

type Lateness = BTreeMap<usize, Option<Listing>>;

impl Late {
    /// What a server says about itself. `None`: it is not there, and is tried again meanwhile.
    pub(super) async fn about(&self, at: usize, client: &Arc<Client>) -> Option<About> {
        if self.has(at, client) {
            return None;
        }
        match timeout(PATIENCE, client.about(&CallContext::detached())).await {
            Ok(Ok(about)) => return Some(about),
            // The client has said why.
            Ok(Err(error)) => tracing::debug!("{error}; what it offers is left out until it is there"),
            Err(_) => tracing::warn!(
                "server `{}` is not there yet; what it offers is left out until it is",
                client.config().name
            ),
        }
        self.await_it(at, client, None);
        None
    }

    /// One of its lists. `None`: it has failed, or takes too long.
    pub(super) async fn list(
        &self,
        at: usize,
        client: &Arc<Client>,
        listing: Listing,
        cx: &CallContext,
    ) -> Option<Listed> {
        if self.has(at, client) {
            return None;
        }
        match timeout(PATIENCE, client.list(listing, cx)).await {
            Ok(Ok(listed)) => return Some(listed),
            Ok(Err(error)) if !matches!(client.state(), State::Ready(_)) => {
                tracing::debug!("{error}; its part of the list is left out until it is there");
                self.await_it(at, client, None);
            }
            Ok(Err(error)) if error.kind != ErrorKind::Timeout => {
                tracing::warn!("{error}; its part of the list is left out");
            }
            Ok(Err(_)) | Err(_) => {
                let name = &client.config().name;
                tracing::warn!("server `{name}` does not say what it offers; that is left out until it does");
                self.await_it(at, client, Some(listing));
            }
        }
        None
    }

    fn has(&self, at: usize, client: &Client) -> bool {
        match lock(&self.0).get(&at) {
            None => false,
            Some(Some(_)) => true,
            Some(None) => !matches!(client.state(), State::Ready(_)),
        }
    }

    /// Asks it again until it answers, it is configured otherwise, or nobody passes it through any more.
    fn await_it(&self, at: usize, client: &Arc<Client>, listing: Option<Listing>) {
        if lock(&self.0).insert(at, listing).is_some() {
            return;
        }
        let (late, client) = (Arc::downgrade(&self.0), Arc::downgrade(client));
        tokio::spawn(async move {
            let mut pause = FIRST_PAUSE;
            while late.strong_count() > 0 {
                let Some(asked) = client.upgrade() else { break };
                if answers(&asked, listing).await.is_ok() {
                    forget(&late, at);
                    asked.tell_of_changes();
                    return;
                }
                drop(asked);
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            forget(&late, at);
        });
    }
}

async fn answers(client: &Client, listing: Option<Listing>) -> Result<(), ClientError> {
    let cx = CallContext::detached();
    match listing {
        None => client.about(&cx).await.map(drop),
        Some(listing) => client.list(listing, &cx).await.map(drop),
    }
}

fn forget(late: &Weak<Mutex<Lateness>>, at: usize) {
    if let Some(late) = late.upgrade() {
        lock(&late).remove(&at);
    }
}

fn lock(late: &Mutex<Lateness>) -> MutexGuard<'_, Lateness> {
    late.lock().unwrap_or_else(PoisonError::into_inner)
}
