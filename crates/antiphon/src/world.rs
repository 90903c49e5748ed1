//! The servers and models of a project's runs: bound late, when a workflow is started or a run that goes on needs them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use antiphon_client::Client;
use antiphon_engine::{CallContext, CallFailure, CallOutcome, Effects, Prepared, RouteKey, RunId, RunInfo};
use antiphon_kernel::{CallSpec, Entry, ErrorKind, What};
use antiphon_models::{Models, OpenAiModel};
use antiphon_router::Router;
use antiphon_server::Upstreams;
use antiphon_workflow::{Project, Transport, Workflow};
use async_trait::async_trait;
use serde_json::Value;

use crate::adhoc;
use crate::back::BackDoor;
use crate::fault::Fault;
use crate::key;
use crate::late::{Environment, Lent};
#[cfg(feature = "local-model")]
use crate::local;
use crate::owner::verbs::Tools;
use crate::project::Place;
use crate::sources::Sources;
use crate::store::Store;
use crate::trust::{CommandLine, Trust};

/// What the runs of one project can reach.
pub struct World {
    router: Arc<Router>,
    back: BackDoor,
    trust: Trust,
    sources: Sources,
    /// Where the logins to protected servers are.
    logins: PathBuf,
    bound: Mutex<Bound>,
    lent: Mutex<Lent>,
}

/// Stands for all models.
const AUTO: &str = "auto";

/// What the router knows already.
#[derive(Default)]
struct Bound {
    servers: BTreeSet<String>,
    models: Models,
    /// Those among them that are declared.
    declared: BTreeMap<String, Arc<OpenAiModel>>,
}

impl Bound {
    /// One that is declared as it was stays: whoever asks it keeps its pace, in whichever run.
    fn declare(&mut self, key: &str, model: Arc<OpenAiModel>) {
        if self.declared.get(key).is_none_or(|known| !known.config().same_as(model.config())) {
            self.models.insert(key, model.clone());
            self.declared.insert(key.to_owned(), model);
        }
    }
}

impl World {
    /// Knows nobody yet.
    pub fn new(store: &Store) -> Result<Self, Fault> {
        let sources = Sources::at(&store.sources)
            .map_err(|e| Fault::internal(format!("can't read {}: {e}", store.sources.display())))?;
        let router = Arc::new(Router::new());
        router.set_route_key(RouteKey::new(&key::load(&store.key)?));
        let (back, trust) = (BackDoor::default(), Trust::at(&store.trusted));
        let logins = store.logins.clone();
        Ok(Self { router, back, trust, sources, logins, bound: Mutex::default(), lent: Mutex::default() })
    }

    /// Takes variables that this process may lack.
    pub fn borrow(&self, lent: Lent) {
        self.lent.lock().unwrap_or_else(PoisonError::into_inner).extend(lent);
    }

    /// Binds what a workflow uses, and remembers where it came from.
    ///
    /// # Errors
    /// Variables that are not set, command lines that nobody has agreed to.
    pub fn admit(&self, place: &Place, project: &Project, workflow: &Workflow) -> Result<(), Fault> {
        // First, so that a call that fails for want of a variable or of consent says so when it is made.
        let file = std::fs::canonicalize(&workflow.path).unwrap_or_else(|_| PathBuf::from(&workflow.path));
        self.remember(&workflow.plan.root, &file)?;
        self.check(place, project, &workflow.servers_used, &workflow.models_used)?;
        self.bind(place, project, &workflow.servers_used, &workflow.models_used)
    }

    /// Likewise for a single server, and what it may call, on behalf of a run with this name.
    pub fn admit_server(&self, place: &Place, project: &Project, server: &str, run: &str) -> Result<(), Fault> {
        let (servers, models) = adhoc::uses(project, server);
        if !project.servers.contains_key(server) {
            let known: Vec<&str> = project.servers.keys().map(String::as_str).collect();
            let help = match known.is_empty() {
                true => "declare it as [servers.NAME] in antiphon.toml or in a workflow file".to_owned(),
                false => format!("there are: {}", known.join(", ")),
            };
            return Err(Fault::usage(format!("no server is named `{server}`"), help));
        }
        self.check(place, project, &servers, &models)?;
        self.bind(place, project, &servers, &models)?;
        self.remember(run, &place.folder)
    }

    /// Likewise for a server whose offer is passed through.
    pub fn admit_passed(&self, place: &Place, project: &Project, server: &str) -> Result<(), Fault> {
        let servers = BTreeSet::from([server.to_owned()]);
        self.check(place, project, &servers, &BTreeSet::new())?;
        self.bind(place, project, &servers, &BTreeSet::new())
    }

    fn check(
        &self,
        place: &Place,
        project: &Project,
        servers: &BTreeSet<String>,
        models: &BTreeSet<String>,
    ) -> Result<(), Fault> {
        let lent = self.lent.lock().unwrap_or_else(PoisonError::into_inner);
        Environment::of(&place.root, &lent).check(project, servers, models)
    }

    fn remember(&self, workflow: &str, source: &Path) -> Result<(), Fault> {
        self.sources
            .remember(workflow, source)
            .map_err(|e| Fault::internal(format!("can't remember where `{workflow}` is: {e}")))
    }

    /// What the servers of a project offer (or one of them); one that fails hides no other.
    pub async fn tools(&self, place: &Place, project: &Project, only: Option<&str>) -> Tools {
        let mut tools = Tools::default();
        let mut wanted = BTreeSet::new();
        for server in project.servers.keys().filter(|server| only.is_none_or(|only| only == *server)) {
            match self.bind(place, project, &BTreeSet::from([server.clone()]), &BTreeSet::new()) {
                Ok(()) => drop(wanted.insert(server.clone())),
                Err(fault) => drop(tools.unavailable.insert(server.clone(), fault.message())),
            }
        }
        for listed in self.router.catalogue().await {
            if !wanted.contains(&listed.name) {
                continue;
            }
            match listed.tools {
                Ok(catalogue) => {
                    let definitions = catalogue.tools().map(|tool| tool.definition.clone()).collect();
                    tools.servers.insert(listed.name, definitions);
                }
                Err(error) => drop(tools.unavailable.insert(listed.name, error.to_string())),
            }
        }
        tools
    }

    /// Ends every connection, and the processes behind them.
    pub async fn shutdown(&self) {
        self.router.shutdown().await;
        self.back.close();
    }

    fn bind(
        &self,
        place: &Place,
        project: &Project,
        servers: &BTreeSet<String>,
        models: &BTreeSet<String>,
    ) -> Result<(), Fault> {
        let lent = self.lent.lock().unwrap_or_else(PoisonError::into_inner);
        let environment = Environment::of(&place.root, &lent);
        let defs: BTreeMap<_, _> = servers.iter().filter_map(|key| Some((key, project.servers.get(key)?))).collect();
        self.trust.require(defs.iter().filter_map(|(key, def)| CommandLine::of(key, def)))?;
        let mut bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        // Models first: a server is offered sampling if there is one that may answer it.
        let granted = defs.values().filter_map(|def| def.sampling.as_ref()).flat_map(|grant| &grant.models);
        let wanted: BTreeSet<&String> = models.iter().chain(granted).collect();
        for (key, def) in &project.models {
            match environment.model(key, def) {
                Ok(model) if wanted.contains(key) => bound.declare(key, model),
                Err(fault) if wanted.contains(key) => return Err(fault),
                // Whoever is chosen from must be ready.
                Ok(model) if wanted.contains(&AUTO.to_owned()) => bound.declare(key, model),
                Err(fault) => tracing::debug!(model = key, "is not among those to choose from: {}", fault.message()),
                Ok(_) => {}
            }
        }
        #[cfg(feature = "local-model")]
        if !project.models.contains_key(local::NAME)
            && !bound.models.names().any(|name| name == local::NAME)
            && wanted.iter().any(|name| [local::NAME, AUTO].contains(&name.as_str()))
        {
            bound.models.insert(local::NAME, local::model()?);
        }
        self.router.set_models(bound.models.clone());
        for (key, def) in defs {
            let mut config = environment.server(key, def, &self.logins).map_err(|missing| {
                Fault::usage(
                    format!("server `{key}`: {missing}"),
                    "export it where the process that owns the runs was started",
                )
            })?;
            let granted = project.ways_back.get(key).map(|back| back.tools.clone()).unwrap_or_default();
            if matches!(def.transport, Transport::Stdio { .. }) && (def.sampling.is_some() || !granted.is_empty()) {
                config.back = self.back.open(&self.router)?;
            }
            self.router.set_asking_server(key.clone(), config, environment.sampling(def), granted);
            bound.servers.insert(key.clone());
        }
        Ok(())
    }

    /// Binds what a call of a run needs, if this process does not know it yet: the run was started in another.
    fn rebind(&self, run: &RunInfo, what: &What, args: &Value) -> Result<(), Fault> {
        let (mut servers, mut models) = self.unknown(what);
        servers.extend(self.unknown_in(args, what));
        if servers.is_empty() && models.is_empty() {
            return Ok(());
        }
        let Some(source) = self.sources.get(&run.workflow) else { return Ok(()) };
        let place = Place::of(&source)?;
        let checked = place.load()?;
        // Those that may call are told what, and have to find it.
        for back in servers.clone().iter().filter_map(|server| checked.project.ways_back.get(server)) {
            servers.extend(back.servers_used.iter().cloned());
            models.extend(back.models_used.iter().cloned());
        }
        self.bind(&place, &checked.project, &servers, &models)
    }

    fn unknown(&self, what: &What) -> (BTreeSet<String>, BTreeSet<String>) {
        let bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        match what {
            What::Tool { server, .. } | What::Read { server } | What::Sampling { server, .. } => {
                let unknown = (!bound.servers.contains(server)).then(|| server.clone());
                (unknown.into_iter().collect(), BTreeSet::new())
            }
            What::Sample { models } => {
                let known = |model: &str| match model {
                    AUTO => bound.models.names().next().is_some(),
                    model => bound.models.names().any(|name| name == model),
                };
                let unknown = models.iter().filter(|model| !known(model));
                (BTreeSet::new(), unknown.cloned().collect())
            }
        }
    }

    /// The servers whose tools a sample's model is to be told of.
    fn unknown_in(&self, args: &Value, what: &What) -> Vec<String> {
        let What::Sample { .. } = what else { return Vec::new() };
        let bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        let tools = args.get("tools").and_then(Value::as_array).into_iter().flatten();
        let servers = tools.filter_map(|tool| tool.get("server")?.as_str());
        servers.filter(|server| !bound.servers.contains(*server)).map(str::to_owned).collect()
    }

    fn ready(&self, run: &RunInfo, call: &CallSpec, args: &Value) -> Result<(), CallFailure> {
        self.rebind(run, &call.what, args).map_err(|fault| {
            let help = fault.help().map(|help| format!("; {help}")).unwrap_or_default();
            CallFailure { kind: ErrorKind::Unavailable, message: format!("{}{help}", fault.message()), in_doubt: false }
        })
    }
}

impl Upstreams for World {
    fn upstream(&self, name: &str) -> Option<Arc<Client>> {
        self.router.server(name)
    }
}

#[async_trait]
impl Effects for World {
    async fn prepare(&self, run: &RunInfo, call: &CallSpec, args: Arc<Value>) -> Result<Prepared, CallFailure> {
        self.ready(run, call, &args)?;
        self.router.prepare(run, call, args).await
    }

    async fn run(
        &self,
        run: &RunInfo,
        call: &CallSpec,
        args: Arc<Value>,
        entry: Entry,
        context: CallContext,
    ) -> CallOutcome {
        if let Err(failure) = self.ready(run, call, &args) {
            // A task of the server's may go on without us: nobody can say how it ends.
            let in_doubt = matches!(entry, Entry::Attach { .. });
            return CallOutcome::Failed(CallFailure { in_doubt, ..failure });
        }
        let routed = self.router.run(run, call, args, entry, context);
        #[cfg(feature = "local-model")]
        let routed = antiphon_local_model::on_behalf_of(run.id.to_string(), routed);
        routed.await
    }

    async fn release(&self, run: &RunId) {
        self.router.release(run).await;
    }
}
