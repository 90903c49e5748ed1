//! Servers and models by the names that plans use.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use antiphon_client::{CallContext, Catalogue, Client, ClientError, ServerConfig, State};
use antiphon_engine::CallFailure;
use antiphon_kernel::ErrorKind;
use antiphon_models::Models;
use dashmap::DashMap;

/// Routes the calls of runs.
///
/// Servers and models are bound late: a run that was started yesterday calls what these names mean today.
#[derive(Default)]
pub struct Router {
    servers: DashMap<String, Arc<Client>>,
    models: RwLock<Arc<Models>>,
}

/// What one server offers, or why that is not known.
#[derive(Debug)]
pub struct ServerCatalogue {
    /// The name that plans use: `NAME`, or `WORKFLOW/NAME`.
    pub name: String,
    /// Where the server stands, after it was asked.
    pub state: State,
    /// Its tools, as `allow` leaves them.
    pub tools: Result<Arc<Catalogue>, ClientError>,
}

impl Router {
    /// Knows nobody yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Binds a name (`NAME`, or `WORKFLOW/NAME`) to a server. One that is the same already keeps its connections; another one
    /// makes way as soon as the calls in flight on it have ended.
    pub fn set_server(&self, name: impl Into<String>, config: ServerConfig) {
        let name = name.into();
        if self.servers.get(&name).is_some_and(|bound| bound.config().same_as(&config)) {
            return;
        }
        self.servers.insert(name, Arc::new(Client::new(config)));
    }

    /// Unbinds every server but these.
    pub fn retain_servers(&self, names: &BTreeSet<String>) {
        self.servers.retain(|name, _| names.contains(name));
    }

    /// Binds the models, all at once.
    pub fn set_models(&self, models: Models) {
        *self.models.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(models);
    }

    /// What all servers offer, by name. They are started and asked at the same time; one that fails hides no other.
    pub async fn catalogue(&self) -> Vec<ServerCatalogue> {
        let mut servers: Vec<_> = self.clients();
        servers.sort_by(|a, b| a.0.cmp(&b.0));
        let asked = servers.into_iter().map(|(name, client)| async move {
            let tools = client.tools(&CallContext::detached()).await;
            ServerCatalogue { name, state: client.state(), tools }
        });
        futures::future::join_all(asked).await
    }

    /// Where every server stands, by name. Starts none.
    pub fn health(&self) -> Vec<(String, State)> {
        let mut health: Vec<_> = self.clients().into_iter().map(|(name, client)| (name, client.state())).collect();
        health.sort_by(|a, b| a.0.cmp(&b.0));
        health
    }

    /// Ends every connection, and the processes behind them.
    pub async fn shutdown(&self) {
        let ending = self.clients().into_iter().map(|(_, client)| async move { client.shutdown().await });
        futures::future::join_all(ending).await;
    }

    pub(crate) fn clients(&self) -> Vec<(String, Arc<Client>)> {
        self.servers.iter().map(|entry| (entry.key().clone(), Arc::clone(entry.value()))).collect()
    }

    pub(crate) fn client(&self, name: &str) -> Result<Arc<Client>, CallFailure> {
        self.servers.get(name).map(|client| Arc::clone(&client)).ok_or_else(|| CallFailure {
            kind: ErrorKind::Unavailable,
            message: format!("no server is named `{name}`; {}", self.alternatives(name)),
            in_doubt: false,
        })
    }

    pub(crate) fn models(&self) -> Arc<Models> {
        Arc::clone(&self.models.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn alternatives(&self, name: &str) -> String {
        let names: Vec<String> = self.servers.iter().map(|entry| entry.key().clone()).collect();
        match nearest(name, names.iter().map(String::as_str)).as_slice() {
            [] if names.is_empty() => "none is configured".into(),
            [] => "check the workflow's and the project's [servers]".into(),
            near => format!("did you mean {}?", list(near)),
        }
    }
}

/// Names that could have been meant, the likeliest first.
pub(crate) fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    const ENOUGH: usize = 3;
    const SIMILAR: f64 = 0.7;
    let mut scored: Vec<(f64, &str)> = names
        .map(|other| (strsim::jaro_winkler(&name.to_lowercase(), &other.to_lowercase()), other))
        .filter(|(score, _)| *score >= SIMILAR)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored.into_iter().take(ENOUGH).map(|(_, name)| name).collect()
}

/// `a`, `b` or `c`.
pub(crate) fn list(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}
