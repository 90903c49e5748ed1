//! Servers and models by the names that plans use.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use antiphon_client::{CallContext, Catalogue, Client, ClientError, Consent, Passes, ServerConfig, State};
use antiphon_engine::{CallFailure, RouteKey};
use antiphon_kernel::{ErrorKind, Hop, Terms};
use antiphon_models::Models;
use dashmap::DashMap;
use serde_json::Value;

use crate::policy::SamplingPolicy;

/// Routes the calls of runs.
///
/// Servers and models are bound late: a run that was started yesterday calls what these names mean today.
#[derive(Default)]
pub struct Router {
    servers: DashMap<String, Bound>,
    models: RwLock<Arc<Models>>,
    route_key: OnceLock<RouteKey>,
    pub(crate) passes: Arc<Passes>,
}

/// A server, what it may ask models, and what it may call.
struct Bound {
    client: Arc<Client>,
    sampling: Arc<SamplingPolicy>,
    granted: Arc<Vec<Value>>,
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

    /// Vouches for the way that calls take with this key. Without one they do not tell it.
    pub fn set_route_key(&self, key: RouteKey) {
        // One key is as good as the other: it is always the database's.
        let _ = self.route_key.set(key);
    }

    /// Binds a name (`NAME`, or `WORKFLOW/NAME`) to a server that may ask no models and call nothing.
    pub fn set_server(&self, name: impl Into<String>, config: ServerConfig) {
        self.set_asking_server(name, config, SamplingPolicy::default(), Vec::new());
    }

    /// Binds a name to a server, to what it may ask models, which have to be known by then, and to what it is `granted` to call
    /// (specs of tools, as in an agent's request). It is offered `sampling` if any of those can answer who may, and told of the
    /// ways back that it may use. One that is the same already keeps its connections; another one makes way as soon as the calls
    /// in flight on it have ended.
    pub fn set_asking_server(
        &self,
        name: impl Into<String>,
        mut config: ServerConfig,
        sampling: SamplingPolicy,
        granted: Vec<Value>,
    ) {
        let name = name.into();
        config.sampling = sampling.can_answer(&self.models());
        config.back.models.take_if(|_| !config.sampling);
        config.back.tools.take_if(|_| granted.is_empty());
        let same = self.servers.get(&name).filter(|bound| bound.client.config().same_as(&config));
        let client = same.map(|bound| Arc::clone(&bound.client));
        let client = client.unwrap_or_else(|| Arc::new(Client::with(config, Arc::clone(&self.passes))));
        self.servers.insert(name, Bound { client, sampling: Arc::new(sampling), granted: Arc::new(granted) });
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

    /// The server of this name.
    pub fn server(&self, name: &str) -> Option<Arc<Client>> {
        self.servers.get(name).map(|bound| Arc::clone(&bound.client))
    }

    pub(crate) fn clients(&self) -> Vec<(String, Arc<Client>)> {
        self.servers.iter().map(|entry| (entry.key().clone(), Arc::clone(&entry.client))).collect()
    }

    pub(crate) fn client(&self, name: &str) -> Result<Arc<Client>, CallFailure> {
        self.servers.get(name).map(|bound| Arc::clone(&bound.client)).ok_or_else(|| CallFailure {
            kind: ErrorKind::Unavailable,
            message: format!("no server is named `{name}`; {}", self.alternatives(name)),
            in_doubt: false,
        })
    }

    /// What a server may ask models.
    pub(crate) fn policy(&self, name: &str) -> Arc<SamplingPolicy> {
        self.servers.get(name).map(|bound| Arc::clone(&bound.sampling)).unwrap_or_default()
    }

    /// What a server may call.
    pub(crate) fn granted(&self, name: &str) -> Arc<Vec<Value>> {
        self.servers.get(name).map(|bound| Arc::clone(&bound.granted)).unwrap_or_default()
    }

    /// What a server may ask for in the middle of a call.
    pub(crate) fn terms(&self, name: &str) -> Terms {
        let Some(bound) = self.servers.get(name) else { return Terms::default() };
        Terms {
            elicitation_asks: bound.client.config().elicitation == Consent::Ask,
            sampling: bound.sampling.terms(&self.models()),
        }
    }

    /// The way to a call, as it is told to others.
    pub(crate) fn route(&self, hops: &[Hop]) -> Vec<Hop> {
        self.route_key.get().map(|key| key.seal(hops)).unwrap_or_default()
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
