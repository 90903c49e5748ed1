//! Sessions of legacy callers, each bound to the owner that opened it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use antiphon_engine::Owner;
use http::HeaderMap;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;

const SESSION_ID: &str = "mcp-session-id";

/// How long a session lives without a message. A person may take this long to answer a question that was pushed.
const KEEP_ALIVE: Duration = Duration::from_secs(3600);

/// rmcp's sessions, and whose they are.
pub(super) struct Sessions {
    manager: Arc<LocalSessionManager>,
    owners: Mutex<HashMap<String, Owner>>,
}

impl Default for Sessions {
    fn default() -> Self {
        let mut manager = LocalSessionManager::default();
        manager.session_config.keep_alive = Some(KEEP_ALIVE);
        Self { manager: Arc::new(manager), owners: Mutex::default() }
    }
}

impl Sessions {
    pub(super) fn manager(&self) -> Arc<LocalSessionManager> {
        self.manager.clone()
    }

    /// Whether the request may use the session that it names, if it names one.
    pub(super) fn admits(&self, headers: &HeaderMap, owner: &Owner) -> bool {
        match id(headers) {
            Some(id) => self.owners().get(id).is_none_or(|bound_to| bound_to == owner),
            None => true,
        }
    }

    /// Binds the session that this response opens, if it opens one, and forgets those that are gone.
    pub(super) async fn remember(&self, headers: &HeaderMap, owner: &Owner) {
        let Some(opened) = id(headers) else { return };
        let live = self.manager.sessions.read().await;
        let mut owners = self.owners();
        owners.retain(|id, _| live.contains_key(id.as_str()));
        owners.entry(opened.to_owned()).or_insert_with(|| owner.clone());
    }

    fn owners(&self) -> std::sync::MutexGuard<'_, HashMap<String, Owner>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn id(headers: &HeaderMap) -> Option<&str> {
    headers.get(SESSION_ID)?.to_str().ok()
}
