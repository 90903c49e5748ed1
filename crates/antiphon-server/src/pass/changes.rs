//! What changes on servers, as callers know it.

use std::sync::Arc;

use antiphon_client::{CallContext, Change, Watch};
use futures::StreamExt;
use futures::stream::{BoxStream, select_all, unfold};
use rmcp::ErrorData;
use tokio::sync::broadcast::error::RecvError;

use super::Pass;
use super::names::no_such;

impl Pass {
    /// What changes on all servers from now on, with URIs as callers use them.
    pub(crate) fn changes(self: &Arc<Self>) -> BoxStream<'static, Change> {
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
            Change::Resource(uri) => Change::Resource(this.outward_uri(at, uri)),
            change => change,
        };
        select_all(all).map(outward).boxed()
    }

    /// Has the server of a resource tell of its changes, until what this yields is dropped.
    ///
    /// # Errors
    /// When nobody has it, or its server does not do so.
    pub(crate) async fn watch(&self, uri: &str, cx: &CallContext) -> Result<Watch, ErrorData> {
        let own = self.resource_of(uri, cx).await.ok_or_else(|| no_such("resource", uri))?;
        let client = self.client(own.at).ok_or_else(|| no_such("resource", uri))?;
        client.watch_resource(&own.name, cx).await.map_err(super::reply::refusal)
    }

    /// Servers may close the connections that they had for this session alone.
    pub(crate) async fn release(&self, session: &str) {
        for at in 0..self.exposures.len() {
            if let Some(client) = self.client(at) {
                client.release(session).await;
            }
        }
    }
}
