//! On whose behalf the model is asked: those who share it take turns.

use std::sync::Arc;

tokio::task_local! {
    static ASKER: Arc<str>;
}

/// Whatever this future asks of a local model, it asks for `asker`, such as a run. Askers are served in turn, however much
/// each of them wants; what is asked for nobody counts as one asker's.
pub async fn on_behalf_of<F: Future>(asker: impl Into<Arc<str>>, future: F) -> F::Output {
    ASKER.scope(asker.into(), future).await
}

pub(crate) fn current() -> Arc<str> {
    ASKER.try_with(Clone::clone).unwrap_or_else(|_| Arc::from(""))
}
