//! Where the owner answers the command line.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use antiphon_engine::{Engine, EngineOptions, Filter, Owner, Progress, Run, RunId, SqliteEngine, StartRun, Until};
use antiphon_kernel::{Asking, Event, EventKind, Outcome, Plan};
use antiphon_server::{Control, ControlError};
use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use super::verbs::{
    Cancel, Catalogue, Choices, Chosen, Done, History, Respond, Responded, RunList, RunShown, Runs, Show, Start,
    Started, Target, Tools, Verb, Wait,
};
use crate::adhoc;
use crate::exposed;
use crate::fault::Fault;
use crate::project::Place;
use crate::store::Store;
use crate::world::World;

/// How long progress reports are gathered before a [`Wait`] that has some is answered.
const GATHER: Duration = Duration::from_millis(100);

/// How long the record of a run is kept that has no workflow file to say so.
const ADHOC_TTL: Duration = Duration::from_secs(24 * 3600);

/// The engine and the world that it acts on.
pub struct Desk {
    /// Drives the runs.
    pub engine: Arc<dyn Engine>,
    /// Servers and models.
    pub world: Arc<World>,
}

impl Desk {
    /// Opens the database and takes over what is going on in it.
    pub fn driving(store: &Store) -> Result<Self, Fault> {
        Self::open(store, EngineOptions::default())
    }

    /// Opens the database to look at it: nothing goes on.
    pub fn at_rest(store: &Store) -> Result<Self, Fault> {
        Self::open(store, EngineOptions { drive: false, ..EngineOptions::default() })
    }

    fn open(store: &Store, options: EngineOptions) -> Result<Self, Fault> {
        let world = Arc::new(World::new(store)?);
        let engine = SqliteEngine::open(&store.db, world.clone(), options)?;
        Ok(Self { engine, world })
    }

    async fn shown(&self, run: Run, progress: Vec<Progress>) -> Result<RunShown, Fault> {
        let output = match &run.view.outcome {
            Some(Outcome::Succeeded { record }) => {
                let record = self.engine.value(record).await?;
                let output = record.get("output").cloned().unwrap_or_default();
                Some(adhoc::unwrap(&run.workflow, output))
            }
            _ => None,
        };
        let mut requests = BTreeMap::new();
        for question in &run.view.questions {
            if let Asking::Sample { request, tools } = &question.ask {
                let request = self.engine.request(request, tools.as_ref()).await?;
                requests.insert(question.key.clone(), Arc::unwrap_or_clone(request));
            }
        }
        Ok(RunShown { run, output, requests, progress })
    }

    fn plan(&self, target: &Target) -> Result<(Arc<Plan>, Duration), Fault> {
        match target {
            Target::File(path) => {
                let loaded = Place::of(path)?.load_one()?;
                self.world.admit(&loaded.place, &loaded.project, &loaded.workflow)?;
                Ok((loaded.workflow.plan, loaded.workflow.task.ttl))
            }
            Target::Agent { place, name } => {
                let place = Place::of(place)?;
                let checked = place.load()?;
                let agent = exposed::one_agent(&place, &checked, name)?;
                self.world.admit(&place, &checked.project, &agent)?;
                Ok((agent.plan, agent.task.ttl))
            }
            Target::Tool { folder, server, tool } => {
                let place = Place::of(folder)?;
                let checked = place.load()?;
                let plan = adhoc::plan(&checked.project, server, tool);
                self.world.admit_server(&place, &checked.project, server, &plan.root)?;
                Ok((Arc::new(plan), ADHOC_TTL))
            }
        }
    }
}

impl Verb for Start {
    const METHOD: &'static str = "antiphon/start";
    type Reply = Started;

    async fn answer(self, desk: &Desk) -> Result<Started, Fault> {
        desk.world.borrow(self.lent);
        let (plan, ttl) = desk.plan(&self.target)?;
        let request = StartRun {
            owner: Owner::local(),
            plan,
            input: self.input,
            ttl,
            idempotency_key: self.key,
            route: Vec::new(),
            // Whoever sits at the terminal may answer in a model's place.
            caller_samples: true,
        };
        let started = desk.engine.start(request).await?;
        if !self.inline {
            desk.engine.view(&started.id).await?;
        }
        Ok(Started { id: started.id.to_string() })
    }
}

impl Verb for Runs {
    const METHOD: &'static str = "antiphon/runs";
    type Reply = RunList;

    async fn answer(self, desk: &Desk) -> Result<RunList, Fault> {
        // The command line is the user's own: it sees what came in by every door.
        let filter = Filter { owner: None, live: self.live, id_prefix: self.prefix };
        let page = desk.engine.list(filter, None, self.limit).await?;
        Ok(RunList { runs: page.runs, more: page.next.is_some() })
    }
}

impl Verb for Show {
    const METHOD: &'static str = "antiphon/run";
    type Reply = RunShown;

    async fn answer(self, desk: &Desk) -> Result<RunShown, Fault> {
        let run = desk.engine.view(&id(self.id)).await?;
        desk.shown(run, Vec::new()).await
    }
}

impl Verb for Wait {
    const METHOD: &'static str = "antiphon/wait";
    type Reply = RunShown;

    async fn answer(self, desk: &Desk) -> Result<RunShown, Fault> {
        let id = id(self.id);
        let mut reports = desk.engine.progress(&id).await?;
        let mut heard = Vec::new();
        let mut wait =
            desk.engine.wait(&id, Until::Changed(self.after), Duration::from_millis(self.max_ms), self.inline);
        let first = tokio::select! {
            run = &mut wait => return desk.shown(run?, heard).await,
            report = reports.recv() => report,
        };
        // Somebody reports: show it, together with what else comes within a moment.
        heard.extend(first);
        let gather = tokio::time::sleep(GATHER);
        tokio::pin!(gather);
        loop {
            tokio::select! {
                run = &mut wait => return desk.shown(run?, heard).await,
                () = &mut gather => break,
                report = reports.recv() => match report {
                    Ok(report) => heard.push(report),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return desk.shown(wait.await?, heard).await,
                },
            }
        }
        drop(wait);
        let run = desk.engine.wait(&id, Until::Changed(0), Duration::ZERO, self.inline).await?;
        desk.shown(run, heard).await
    }
}

impl Verb for Respond {
    const METHOD: &'static str = "antiphon/answer";
    type Reply = Responded;

    async fn answer(self, desk: &Desk) -> Result<Responded, Fault> {
        Ok(Responded { accepted: desk.engine.input(&id(self.id), &self.key, self.answer).await? })
    }
}

impl Verb for Cancel {
    const METHOD: &'static str = "antiphon/cancel";
    type Reply = Done;

    async fn answer(self, desk: &Desk) -> Result<Done, Fault> {
        desk.engine.cancel(&id(self.id), &self.reason).await?;
        Ok(Done {})
    }
}

impl Verb for History {
    const METHOD: &'static str = "antiphon/history";
    type Reply = Vec<Event>;

    async fn answer(self, desk: &Desk) -> Result<Vec<Event>, Fault> {
        Ok(desk.engine.history(&id(self.id)).await?)
    }
}

impl Verb for Choices {
    const METHOD: &'static str = "antiphon/choices";
    type Reply = Vec<Chosen>;

    async fn answer(self, desk: &Desk) -> Result<Vec<Chosen>, Fault> {
        let mut choices = Vec::new();
        for event in desk.engine.history(&id(self.id)).await? {
            let EventKind::Done { op, record, usage: Some(usage) } = event.kind else { continue };
            let record = desk.engine.value(&record).await?;
            let Some(route) = record.get("route").filter(|route| !route.is_null()) else { continue };
            let model = record.get("model").and_then(Value::as_str).map(str::to_owned);
            choices.push(Chosen { op, model, tokens: usage.tokens, cost_usd: usage.cost_usd, route: route.clone() });
        }
        Ok(choices)
    }
}

impl Verb for Catalogue {
    const METHOD: &'static str = "antiphon/catalogue";
    type Reply = Tools;

    async fn answer(self, desk: &Desk) -> Result<Tools, Fault> {
        desk.world.borrow(self.lent);
        let place = Place::of(&self.folder)?;
        let checked = place.load()?;
        Ok(desk.world.tools(&place, &checked.project, self.server.as_deref()).await)
    }
}

fn id(text: String) -> RunId {
    RunId(text.into())
}

#[async_trait]
impl Control for Desk {
    async fn request(&self, method: &str, params: Value) -> Result<Value, ControlError> {
        match method {
            Start::METHOD => self.serve::<Start>(params).await,
            Runs::METHOD => self.serve::<Runs>(params).await,
            Show::METHOD => self.serve::<Show>(params).await,
            Wait::METHOD => self.serve::<Wait>(params).await,
            Respond::METHOD => self.serve::<Respond>(params).await,
            Cancel::METHOD => self.serve::<Cancel>(params).await,
            History::METHOD => self.serve::<History>(params).await,
            Choices::METHOD => self.serve::<Choices>(params).await,
            Catalogue::METHOD => self.serve::<Catalogue>(params).await,
            _ => Err(ControlError::unknown_method(method)),
        }
    }
}

impl Desk {
    async fn serve<V: Verb>(&self, params: Value) -> Result<Value, ControlError> {
        let verb: V = serde_json::from_value(params).map_err(|e| ControlError::invalid_params(e.to_string()))?;
        let reply = verb.answer(self).await.map_err(|fault| refusal(&fault))?;
        serde_json::to_value(reply).map_err(|e| ControlError::internal(e.to_string()))
    }
}

/// A fault as the socket carries it; [`super::client`] reads it again.
pub fn refusal(fault: &Fault) -> ControlError {
    let data = json!({ "exit": fault.exit as u8, "help": fault.help() });
    ControlError { code: 1, message: fault.message(), data: Some(data) }
}
