//! What changes, told to callers: to legacy ones by notifications, to modern ones by their subscriptions.
#![expect(deprecated, reason = "MCP deprecates logging and legacy subscriptions, and callers use them")]

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use antiphon_client::{CallContext, Change, Watch};
use futures::StreamExt;
use futures::stream::{BoxStream, SelectAll, pending, select, unfold};
use rmcp::ErrorData;
use rmcp::model::{LoggingLevel, ResourceUpdatedNotificationParam};
use rmcp::service::{Peer, RoleServer, SubscriptionContext};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use crate::access::{Access, Principal};
use crate::catalog::{Catalog, Snapshot};
use crate::runs;
use crate::server::Shared;

/// So many resources one connection may watch.
const MAX_WATCHED: usize = 1_000;

/// What a connection remembers from one request to the next. Only legacy callers have anything in it.
#[derive(Debug, Default)]
pub(crate) struct Told {
    number: Mutex<Option<u64>>,
    level: Mutex<Option<LoggingLevel>>,
    /// Resources, by the URIs that the caller uses.
    watched: Mutex<HashMap<String, Watched>>,
    /// Set once, when the caller is ready.
    of: Mutex<Option<(Catalog, Access)>>,
    gone: CancellationToken,
}

/// What ends when a resource is watched no more.
#[derive(Debug)]
enum Watched {
    /// One of a server's; what it tells comes with the server's other changes.
    Passed { _watch: Watch },
    /// One of ours: a task tells of it.
    Own(AbortHandle),
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Self::Own(task) = self {
            task.abort();
        }
    }
}

/// Numbers connections.
static CONNECTIONS: AtomicU64 = AtomicU64::new(0);

impl Told {
    /// Names this connection to servers that are told once what its caller can answer.
    pub(crate) fn session(&self) -> Arc<str> {
        let number = *lock(&self.number).get_or_insert_with(|| CONNECTIONS.fetch_add(1, Ordering::Relaxed));
        format!("session {number}").into()
    }

    /// Which log messages the caller wants.
    pub(crate) fn level(&self) -> Option<LoggingLevel> {
        *lock(&self.level)
    }

    pub(crate) fn set_level(&self, level: LoggingLevel) {
        *lock(&self.level) = Some(level);
    }

    /// From now on a legacy caller is told of changes.
    pub(crate) fn tell(self: &Arc<Self>, shared: &Arc<Shared>, principal: &Principal, peer: Peer<RoleServer>) {
        if lock(&self.of).replace((shared.catalog.clone(), principal.access.clone())).is_some() {
            return;
        }
        let (this, gone) = (Arc::downgrade(self), self.gone.clone());
        // Heard from now on: what changes before the task below runs is not missed.
        let mut changes = changes(shared, principal);
        tokio::spawn(async move {
            loop {
                let change = tokio::select! {
                    change = changes.next() => change,
                    () = gone.cancelled() => return,
                };
                let (Some(change), Some(this)) = (change, this.upgrade()) else { return };
                let told = match change {
                    Change::Tools => peer.notify_tool_list_changed().await,
                    Change::Prompts => peer.notify_prompt_list_changed().await,
                    Change::Resources => peer.notify_resource_list_changed().await,
                    Change::Resource(uri) if lock(&this.watched).contains_key(&uri) => updated(&peer, uri).await,
                    Change::Resource(_) => Ok(()),
                };
                if told.is_err() {
                    return;
                }
            }
        });
    }

    /// `resources/subscribe`.
    pub(crate) async fn watch(
        &self,
        shared: &Arc<Shared>,
        principal: &Principal,
        uri: String,
        cx: &CallContext,
        peer: &Peer<RoleServer>,
    ) -> Result<(), ErrorData> {
        if lock(&self.watched).len() >= MAX_WATCHED {
            let message = format!("this connection watches {MAX_WATCHED} resources already: unsubscribe from some");
            return Err(ErrorData::invalid_params(message, None));
        }
        let now = shared.catalog.seen_by(&principal.access);
        let watched = match now.run_of(&uri) {
            Some(named) => {
                let mut changes = runs::watch(shared, &principal.owner, &uri, named).await?;
                let (peer, uri) = (peer.clone(), uri.clone());
                let telling =
                    async move { while changes.next().await.is_some() && updated(&peer, uri.clone()).await.is_ok() {} };
                Watched::Own(tokio::spawn(telling).abort_handle())
            }
            None => {
                let Some(pass) = now.pass() else {
                    return Err(ErrorData::resource_not_found(
                        "Resource not found",
                        Some(serde_json::json!({ "uri": uri })),
                    ));
                };
                Watched::Passed { _watch: pass.watch(&uri, cx).await? }
            }
        };
        lock(&self.watched).insert(uri, watched);
        Ok(())
    }

    /// `resources/unsubscribe`.
    pub(crate) fn unwatch(&self, uri: &str) {
        lock(&self.watched).remove(uri);
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.gone.cancel();
        let pass = lock(&self.of).take().and_then(|(catalog, access)| catalog.seen_by(&access).pass().cloned());
        if let (Some(pass), Ok(runtime)) = (pass, tokio::runtime::Handle::try_current()) {
            let session = self.session();
            runtime.spawn(async move { pass.release(&session).await });
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn updated(peer: &Peer<RoleServer>, uri: String) -> Result<(), rmcp::ServiceError> {
    peer.notify_resource_updated(ResourceUpdatedNotificationParam::new(uri)).await
}

/// Serves a modern subscription to its end.
pub(crate) async fn listen(
    shared: &Arc<Shared>,
    principal: &Principal,
    subscription: SubscriptionContext,
    cx: &CallContext,
) -> Result<(), ErrorData> {
    let mut all: SelectAll<BoxStream<'static, Change>> = SelectAll::new();
    all.push(changes(shared, principal));
    let now = shared.catalog.seen_by(&principal.access);
    if let Some(pass) = now.pass() {
        pass.ready().await;
    }
    let mut watches = Vec::new();
    for uri in subscription.accepted().resource_subscriptions.iter().flatten().take(MAX_WATCHED) {
        let refused = |error: ErrorData| tracing::debug!(%uri, message = %error.message, "is not watched");
        match (now.run_of(uri), now.pass()) {
            (Some(named), _) => {
                runs::watch(shared, &principal.owner, uri, named).await.map_or_else(refused, |own| all.push(own))
            }
            (None, Some(pass)) => pass.watch(uri, cx).await.map_or_else(refused, |watch| watches.push(watch)),
            (None, None) => {}
        }
    }
    let sink = subscription.sink();
    loop {
        let change = tokio::select! {
            () = subscription.cancelled() => return Ok(()),
            change = all.next() => change,
        };
        let Some(change) = change else {
            subscription.cancelled().await;
            return Ok(());
        };
        let sent = match change {
            Change::Tools => sink.notify_tool_list_changed().await,
            Change::Prompts => sink.notify_prompt_list_changed().await,
            Change::Resources => sink.notify_resource_list_changed().await,
            Change::Resource(uri) => sink.notify_resource_updated(uri).await,
        };
        if let Err(error) = sent {
            tracing::trace!(%error, "the caller is not told of a change");
        }
    }
}

/// What a caller may be told of, from now on. Resources among it are those of servers.
fn changes(shared: &Shared, principal: &Principal) -> BoxStream<'static, Change> {
    let offer = Offer::follow(shared.catalog.clone(), principal.access.clone());
    select(unfold(offer, Offer::next), runs::begun(shared, &principal.owner)).boxed()
}

/// The catalogue, followed: what is passed through may be replaced on the way.
struct Offer {
    catalog: Catalog,
    access: Access,
    renewed: watch::Receiver<Arc<Snapshot>>,
    known: Arc<Snapshot>,
    passed: BoxStream<'static, Change>,
    untold: VecDeque<Change>,
}

impl Offer {
    fn follow(catalog: Catalog, access: Access) -> Self {
        let renewed = catalog.renewed();
        let known = catalog.seen_by(&access);
        let passed = passed(&known);
        Self { catalog, access, renewed, known, passed, untold: VecDeque::new() }
    }

    async fn next(mut self) -> Option<(Change, Self)> {
        loop {
            if let Some(change) = self.untold.pop_front() {
                return Some((change, self));
            }
            tokio::select! {
                renewed = self.renewed.changed() => {
                    renewed.ok()?;
                    self.compare();
                }
                Some(change) = self.passed.next() => return Some((change, self)),
            }
        }
    }

    fn compare(&mut self) {
        let (old, new) = (std::mem::take(&mut self.known), self.catalog.seen_by(&self.access));
        let same_pass = match (old.pass(), new.pass()) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (old, new) => old.is_none() && new.is_none(),
        };
        let changed = [
            (Change::Tools, !same_pass || old.tools() != new.tools()),
            (Change::Prompts, !same_pass || old.prompts() != new.prompts()),
            (Change::Resources, !same_pass || old.runs() != new.runs()),
        ];
        self.untold.extend(changed.into_iter().filter(|(_, changed)| *changed).map(|(change, _)| change));
        if !same_pass {
            self.passed = passed(&new);
        }
        self.known = new;
    }
}

fn passed(now: &Snapshot) -> BoxStream<'static, Change> {
    // One that ends would end what it is merged with.
    now.pass().map_or_else(|| pending().boxed(), |pass| pass.changes().chain(pending()).boxed())
}
