//! Changes of runs, for those who watch them.

use std::sync::Arc;
use std::time::Duration;

use antiphon_client::Change;
use antiphon_engine::{EngineError, Owner, RunId, Until};
use futures::StreamExt;
use futures::stream::{BoxStream, empty, unfold};
use rmcp::ErrorData;
use serde_json::json;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::sleep;

use super::Named;
use crate::server::Shared;

/// What changes within this time is told at once: a step that does little may change three times in a millisecond.
const TOGETHER: Duration = Duration::from_millis(200);

/// A wait that nothing ends is begun again.
const LONG: Duration = Duration::from_secs(3600);

/// The changes of one resource: its URI, whenever it says something else.
pub(crate) type Watching = BoxStream<'static, Change>;

/// Tells of this owner's runs that begin or end: their list has changed.
pub(crate) fn begun(shared: &Shared, owner: &Owner) -> Watching {
    if owner.is_anonymous() {
        return empty().boxed();
    }
    let (news, owner) = (shared.engine.news(), owner.clone());
    unfold((news, owner), |(mut news, owner)| async move {
        loop {
            match news.recv().await {
                Ok(whose) if whose != owner => {}
                // Who lags behind may have missed one of theirs.
                Ok(_) | Err(RecvError::Lagged(_)) => break,
                Err(RecvError::Closed) => return None,
            }
        }
        sleep(TOGETHER).await;
        while !matches!(news.try_recv(), Err(TryRecvError::Empty | TryRecvError::Closed)) {}
        Some((Change::Resources, (news, owner)))
    })
    .boxed()
}

/// Follows a resource of ours.
///
/// # Errors
/// "Resource not found" if it is not there, or is somebody else's.
pub(crate) async fn watch(shared: &Arc<Shared>, owner: &Owner, uri: &str, named: Named) -> Result<Watching, ErrorData> {
    let changed = Change::Resource(uri.to_owned());
    let Named::Run { id, .. } = named else {
        return Ok(begun(shared, owner).map(move |_| changed.clone()).boxed());
    };
    let run = shared.run_of(owner, &id).await.map_err(|error| match error {
        EngineError::NotFound(_) => ErrorData::resource_not_found("Resource not found", Some(json!({ "uri": uri }))),
        error => crate::errors::of_task(error),
    })?;
    let following = Following {
        shared: Arc::clone(shared),
        id: run.id,
        seen: run.ended_at.is_none().then_some(run.revision),
        changed,
    };
    Ok(unfold(following, Following::next).boxed())
}

/// One run, followed to its end.
struct Following {
    shared: Arc<Shared>,
    id: RunId,
    /// The revision that was told of; `None` after the end.
    seen: Option<u64>,
    changed: Change,
}

impl Following {
    async fn next(mut self) -> Option<(Change, Self)> {
        loop {
            let seen = self.seen?;
            let run = self.shared.engine.wait(&self.id, Until::Changed(seen), LONG, false).await.ok()?;
            if run.revision <= seen && run.ended_at.is_none() {
                continue;
            }
            if run.ended_at.is_none() {
                sleep(TOGETHER).await;
            }
            self.seen = run.ended_at.is_none().then_some(run.revision);
            return Some((self.changed.clone(), self));
        }
    }
}
