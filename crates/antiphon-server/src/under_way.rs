//! The calls of a connection that are under way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rmcp::model::RequestId;
use rmcp::service::{RequestContext, RoleServer};
use tokio_util::sync::CancellationToken;

/// The calls under way, so that a caller's `notifications/cancelled` can be told from a lost connection: rmcp's own token fires
/// for both.
#[derive(Clone, Default)]
pub(crate) struct Calls(Arc<Mutex<HashMap<RequestId, CancellationToken>>>);

/// A call that is under way until this is dropped.
pub(crate) struct Watched {
    calls: Calls,
    id: RequestId,
    /// The caller has cancelled it.
    pub(crate) cancelled: CancellationToken,
}

impl Calls {
    pub(crate) fn watch(&self, context: &RequestContext<RoleServer>) -> Watched {
        let cancelled = CancellationToken::new();
        self.lock().insert(context.id.clone(), cancelled.clone());
        // The notification may have been handled before this request was: then only rmcp's token tells.
        if context.ct.is_cancelled() {
            cancelled.cancel();
        }
        Watched { calls: self.clone(), id: context.id.clone(), cancelled }
    }

    pub(crate) fn cancel(&self, id: &RequestId) {
        if let Some(cancelled) = self.lock().get(id) {
            cancelled.cancel();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RequestId, CancellationToken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.calls.lock().remove(&self.id);
    }
}
