//! The engine within this process, without a server in front of it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use antiphon_engine::{
    CallContext, CallFailure, CallOutcome, Effects, Engine, EngineOptions, Owner, Prepared, RunId, RunInfo,
    SqliteEngine, StartRun, Until,
};
use antiphon_kernel::{CallSpec, EffectClass, Entry, Plan, Record, RunStatus};
use antiphon_router::{Router, ServerConfig, Transport};
use antiphon_workflow::{Project, SourceFile, Sources};
use async_trait::async_trait;
use serde_json::Value;

use crate::Error;

const LONG: Duration = Duration::from_secs(60);

/// An engine and one workflow.
pub struct Ours {
    engine: Arc<SqliteEngine>,
    plan: Arc<Plan>,
}

impl Ours {
    /// A new database, driven with these effects.
    pub fn open(database: &Path, effects: Arc<dyn Effects>, workflow: &str) -> Result<Self, Error> {
        let engine = SqliteEngine::open(database, effects, EngineOptions::default())?;
        Ok(Self { engine, plan: plan(workflow)? })
    }

    /// The same engine with another workflow.
    pub fn with(&self, workflow: &str) -> Result<Self, Error> {
        Ok(Self { engine: Arc::clone(&self.engine), plan: plan(workflow)? })
    }

    /// Runs the workflow to its end. `inline`: as for a caller that never sees the run's id.
    pub async fn run(&self, input: Value, inline: bool) -> Result<(), Error> {
        let plan = Arc::clone(&self.plan);
        let request = StartRun {
            owner: Owner::local(),
            plan,
            input,
            ttl: LONG,
            idempotency_key: None,
            route: Vec::new(),
            caller_samples: false,
        };
        let started = self.engine.start(request).await?;
        let run = self.engine.wait(&started.id, Until::Ended, LONG, inline).await?;
        match run.view.status {
            RunStatus::Succeeded => Ok(()),
            status => Err(format!("the run ended {status:?}: {:?}", run.view.outcome).into()),
        }
    }

    /// How many commits have waited for the disk so far.
    pub fn flushes(&self) -> u64 {
        self.engine.flushes()
    }
}

fn plan(workflow: &str) -> Result<Arc<Plan>, Error> {
    let file = SourceFile { path: "workflow.toml".to_owned(), text: workflow.to_owned() };
    let read = |path: &str| Err(format!("{path}: there are no files"));
    let checked = Project::load(&Sources { workflows: vec![file], configs: Vec::new(), read: &read });
    if checked.has_errors() {
        return Err(format!("{:?}", checked.diagnostics).into());
    }
    let workflow = checked.project.workflows.values().next().ok_or("no workflow")?;
    Ok(Arc::clone(&workflow.plan))
}

/// A router that knows the one server `tools` of the workflow `bench`.
pub fn router(transport: Transport) -> Arc<Router> {
    let router = Router::new();
    router.set_server("bench/tools", ServerConfig::new("tools", transport));
    Arc::new(router)
}

/// A world that answers at once, with the arguments.
pub struct Mirror;

#[async_trait]
impl Effects for Mirror {
    async fn prepare(&self, _run: &RunInfo, call: &CallSpec, _: Arc<Value>) -> Result<Prepared, CallFailure> {
        Ok(Prepared {
            class: call.declared.unwrap_or(EffectClass::AtMostOnce),
            fingerprint: None,
            price: None,
            tools: None,
        })
    }

    async fn run(&self, _: &RunInfo, _: &CallSpec, args: Arc<Value>, _: Entry, _: CallContext) -> CallOutcome {
        CallOutcome::Done { record: Record::of(Value::clone(&args)), usage: None }
    }

    async fn release(&self, _run: &RunId) {}
}
