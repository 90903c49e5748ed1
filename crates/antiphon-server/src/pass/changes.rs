//! What changes on servers, told to callers: to modern ones by their subscriptions, to legacy ones by notifications.
#![expect(deprecated, reason = "MCP deprecates logging and legacy subscriptions, and servers use them")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use antiphon_client::{CallContext, Change, Watch};
use futures::StreamExt;
use futures::stream::{BoxStream, select_all, unfold};
use rmcp::ErrorData;
use rmcp::model::{LoggingLevel, ResourceUpdatedNotificationParam};
use rmcp::service::{Peer, RoleServer, SubscriptionContext};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::Pass;
use super::names::no_such;

/// What a connection remembers from one request to the next. Only legacy callers have anything in it.
#[derive(Debug, Default)]
pub(crate) struct Told {
    number: Mutex<Option<u64>>,
    level: Mutex<Option<LoggingLevel>>,
    /// Resources, by the URIs that the caller uses.
    watched: Mutex<HashMap<String, Watch>>,
    told_of: Mutex<Option<Arc<Pass>>>,
    gone: CancellationToken,
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

    /// From now on the caller is told of changes.
    pub(crate) fn tell(self: &Arc<Self>, pass: Arc<Pass>, peer: Peer<RoleServer>) {
        if lock(&self.told_of).replace(Arc::clone(&pass)).is_some() {
            return;
        }
        let (this, gone) = (Arc::downgrade(self), self.gone.clone());
        // Heard from now on: what changes before the task below runs is not missed.
        let mut changes = pass.changes();
        tokio::spawn(async move {
            loop {
                let change = tokio::select! {
                    change = changes.next() => change,
                    () = gone.cancelled() => return,
                };
                let (Some((_, change)), Some(this)) = (change, this.upgrade()) else { return };
                let told = match change {
                    Change::Tools => peer.notify_tool_list_changed().await,
                    Change::Prompts => peer.notify_prompt_list_changed().await,
                    Change::Resources => peer.notify_resource_list_changed().await,
                    Change::Resource(uri) if lock(&this.watched).contains_key(&uri) => {
                        peer.notify_resource_updated(ResourceUpdatedNotificationParam::new(uri)).await
                    }
                    Change::Resource(_) => Ok(()),
                };
                if told.is_err() {
                    return;
                }
            }
        });
    }

    /// `resources/subscribe`.
    pub(crate) async fn watch(&self, pass: &Pass, uri: String, cx: &CallContext) -> Result<(), ErrorData> {
        let watch = pass.watch(&uri, cx).await?;
        lock(&self.watched).insert(uri, watch);
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
        let pass = lock(&self.told_of).take();
        if let (Some(pass), Ok(runtime)) = (pass, tokio::runtime::Handle::try_current()) {
            let session = self.session();
            runtime.spawn(async move { pass.release(&session).await });
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pass {
    /// Serves a modern subscription to its end.
    pub(crate) async fn listen(
        self: &Arc<Self>,
        subscription: SubscriptionContext,
        cx: &CallContext,
    ) -> Result<(), ErrorData> {
        let mut changes = self.changes();
        self.ready().await;
        let mut watches = Vec::new();
        for uri in subscription.accepted().resource_subscriptions.iter().flatten() {
            match self.watch(uri, cx).await {
                Ok(watch) => watches.push(watch),
                Err(error) => tracing::debug!(%uri, message = %error.message, "is not watched"),
            }
        }
        let sink = subscription.sink();
        loop {
            let change = tokio::select! {
                () = subscription.cancelled() => return Ok(()),
                change = changes.next() => change,
            };
            let Some((_, change)) = change else {
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

    /// What changes on all servers, with URIs as callers use them.
    fn changes(self: &Arc<Self>) -> BoxStream<'static, (usize, Change)> {
        let all = (0..self.exposures.len()).filter_map(|at| {
            let changes = self.client(at)?.changes();
            let changes = unfold(changes, |mut changes| async move {
                loop {
                    match changes.recv().await {
                        Ok(change) => return Some((change, changes)),
                        Err(RecvError::Lagged(_)) => {}
                        Err(RecvError::Closed) => return None,
                    }
                }
            });
            Some(changes.map(move |change| (at, change)).boxed())
        });
        let this = Arc::clone(self);
        let outward = move |(at, change)| match change {
            Change::Resource(uri) => (at, Change::Resource(this.outward_uri(at, uri))),
            change => (at, change),
        };
        select_all(all).map(outward).boxed()
    }

    async fn watch(&self, uri: &str, cx: &CallContext) -> Result<Watch, ErrorData> {
        let own = self.resource_of(uri, cx).await.ok_or_else(|| no_such("resource", uri))?;
        let client = self.client(own.at).ok_or_else(|| no_such("resource", uri))?;
        client.watch_resource(&own.name, cx).await.map_err(super::reply::refusal)
    }

    /// Servers may close the connections that they had for this session alone.
    async fn release(&self, session: &str) {
        for at in 0..self.exposures.len() {
            if let Some(client) = self.client(at) {
                client.release(session).await;
            }
        }
    }
}
