//! The server: what its connections share, and how it is made.

use std::sync::Arc;
use std::time::Duration;

use antiphon_engine::{Engine, EngineError, Owner, RouteKey, Run, RunId, StartRun, Started};
use rmcp::model::JsonObject;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::caller::{Caller, Origin};
use crate::catalog::{Catalog, Exposed};
use crate::pass::Parking;
use crate::seal::Seal;

/// What a [`Server`] is told.
#[derive(Clone)]
pub struct ServerOptions {
    /// `serverInfo.name`.
    pub name: String,
    /// `serverInfo.version`.
    pub version: String,
    /// Seals what callers carry for us. At least 32 random bytes, the same after a restart.
    pub seal_key: Vec<u8>,
    /// How long a call without a task waits for its run before it returns a handle. Below the minute after which clients give up.
    pub inline_limit: Duration,
    /// Closes every connection, as [`Server::stop`] does: one token can stop several servers of one engine at once.
    pub stopping: CancellationToken,
}

impl ServerOptions {
    /// The usual ones, with this key.
    pub fn new(seal_key: impl Into<Vec<u8>>) -> Self {
        Self {
            name: "antiphon".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            seal_key: seal_key.into(),
            inline_limit: Duration::from_secs(45),
            stopping: CancellationToken::new(),
        }
    }
}

/// The MCP server that callers see. Cheap to clone; clones are the same server.
#[derive(Clone)]
pub struct Server {
    pub(crate) shared: Arc<Shared>,
}

/// What every connection has.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) catalog: Catalog,
    pub(crate) seal: Seal,
    pub(crate) parking: Parking,
    pub(crate) route_key: RouteKey,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) inline_limit: Duration,
    /// Connections that close because of this cancel nothing.
    pub(crate) stopping: CancellationToken,
}

impl Server {
    /// A server of these workflows, run by this engine.
    pub fn new(engine: Arc<dyn Engine>, catalog: Catalog, options: ServerOptions) -> Self {
        let ServerOptions { name, version, seal_key, inline_limit, stopping } = options;
        let (seal, route_key) = (Seal::new(&seal_key), RouteKey::new(&seal_key));
        let parking = Parking::default();
        let shared = Shared { engine, catalog, seal, parking, route_key, name, version, inline_limit, stopping };
        Self { shared: Arc::new(shared) }
    }

    /// Closes every connection and takes no more. Runs are left as they are: pausing the engine is for its owner.
    pub fn stop(&self) {
        self.shared.stopping.cancel();
    }
}

impl Shared {
    /// The same, showing one agent alone; `None` if there is none of that name.
    pub(crate) fn of_agent(&self, name: &str) -> Option<Self> {
        Some(Self { catalog: self.catalog.of_agent(name)?, ..self.clone() })
    }

    /// Starts a run for this caller.
    pub(crate) async fn start(
        &self,
        caller: &Caller,
        workflow: &Exposed,
        input: JsonObject,
        origin: Origin,
    ) -> Result<Started, EngineError> {
        let request = StartRun {
            owner: caller.owner.clone(),
            plan: workflow.plan.clone(),
            input: Value::Object(input),
            ttl: workflow.task.ttl,
            idempotency_key: origin.idempotency_key,
            route: origin.route,
            caller_samples: caller.answers.sampling,
        };
        self.engine.start(request).await
    }

    /// The run of this id, if it is this owner's. Another's looks as if there were none.
    pub(crate) async fn run_of(&self, owner: &Owner, id: &str) -> Result<Run, EngineError> {
        let run = self.engine.view(&RunId(id.into())).await?;
        if run.owner == *owner { Ok(run) } else { Err(EngineError::NotFound(run.id)) }
    }
}
