//! The workflows that a server exposes.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use antiphon_server::{Auth, Catalog, CatalogError, Exposed, Exposure, Pass, TaskMode, TaskPolicy};
use antiphon_workflow::{Checked, Workflow};
use miette::Report;
use tokio::time::sleep;

use crate::fault::Fault;
use crate::late::{Environment, Lent};
use crate::project::{Place, is_config, shown};
use crate::world::World;

/// How often served files are looked at for changes.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A folder or file that is served, loaded.
pub struct Served {
    /// Where.
    pub place: Place,
    /// All that the folder has.
    pub checked: Checked,
    /// Those of its workflows that are served, and the agents.
    pub workflows: Vec<Workflow>,
    /// The servers whose offer is passed through.
    pub passed: Vec<Exposure>,
}

impl Served {
    /// The servers that callers may come to need.
    pub fn servers(&self) -> BTreeSet<String> {
        let used = self.workflows.iter().flat_map(|workflow| workflow.servers_used.iter().cloned());
        used.chain(self.passed.iter().map(|passed| passed.server.clone())).collect()
    }
}

/// Whose tokens callers must show over HTTP, as the projects' own files have it. A file with errors may say so in what can't be
/// read, so nobody is served over HTTP then.
pub fn auth(served: &[Served]) -> Result<Option<Auth>, Fault> {
    let mut found = None;
    for Served { place, checked, .. } in served {
        let broken = checked.diagnostics.iter().filter(|one| one.is_error() && is_config(Path::new(one.path())));
        let broken: Vec<_> = broken.map(|one| Report::new(one.clone())).collect();
        if !broken.is_empty() {
            return Err(Fault::check(broken));
        }
        let own = checked.project.serve.auth.as_ref();
        let own = own.map(|def| Environment::of(&place.root, &Lent::default()).auth(def)).transpose()?;
        match found.replace(own) {
            Some(other) if Some(&other) != found.as_ref() => {
                let help = "serve them separately, or say `[serve.auth]` in one antiphon.toml above all of them";
                return Err(Fault::usage("what is to be served has more than one `[serve.auth]`", help));
            }
            _ => {}
        }
    }
    Ok(found.flatten())
}

/// Loads what these paths name, or of that one agent only. A broken file in a folder is passed over; one that was named is an
/// error.
pub fn load(paths: &[PathBuf], agent: Option<&str>) -> Result<Vec<Served>, Fault> {
    paths
        .iter()
        .map(|path| {
            let place = Place::of(path)?;
            let checked = place.load()?;
            let wanted = place.file.as_deref().map(shown);
            let chosen = |workflow: &&Workflow| wanted.as_ref().is_none_or(|path| workflow.path == *path);
            let workflows = match agent {
                Some(name) => vec![one_agent(&place, &checked, name)?],
                None => {
                    let workflows = checked.project.workflows.values().filter(chosen).cloned();
                    workflows.chain(agents(&checked, chosen)).collect::<Vec<_>>()
                }
            };
            // Who names a file or an agent wants nothing else.
            let whole = agent.is_none() && place.file.is_none();
            let passed = if whole { passed(&checked) } else { Vec::new() };
            if workflows.is_empty() && passed.is_empty() {
                return Err(place.broken(&checked));
            }
            Ok(Served { place, checked, workflows, passed })
        })
        .collect()
}

/// What `[serve]` passes through. A workflow's own servers are its own.
fn passed(checked: &Checked) -> Vec<Exposure> {
    let serve = &checked.project.serve;
    let servers = checked.project.servers.keys().filter(|server| !server.contains('/'));
    let exposed = servers.map(|server| Exposure {
        server: server.clone(),
        patterns: serve.of_server(server),
        prefix: serve.prefix.of_server(server),
        only: None,
    });
    exposed.filter(|exposed| !exposed.patterns.is_empty()).collect()
}

/// The agents to serve. The project's own come first; of those that several workflows call the same, none can be named.
fn agents(checked: &Checked, chosen: impl Fn(&&Workflow) -> bool) -> Vec<Workflow> {
    let all = checked.project.agents.iter().filter(|(_, agent)| chosen(agent));
    let (own, shared): (Vec<_>, Vec<_>) = all.partition(|(key, _)| key.contains('/'));
    let mut agents: BTreeMap<&str, Vec<&Workflow>> = BTreeMap::new();
    for (_, agent) in own.into_iter().filter(|(_, agent)| !checked.project.agents.contains_key(&agent.name)) {
        agents.entry(&agent.name).or_default().push(agent);
    }
    let mut served: Vec<Workflow> = shared.into_iter().map(|(_, agent)| agent.clone()).collect();
    for (name, found) in agents {
        match found[..] {
            [agent] => served.push(agent.clone()),
            _ => tracing::warn!("not served: `{name}`, since several workflows have an agent of this name"),
        }
    }
    served
}

/// The agent of this name: the file's own, if a file was named that has one, else the project's.
pub fn one_agent(place: &Place, checked: &Checked, name: &str) -> Result<Workflow, Fault> {
    let file = place.file.as_deref().map(shown);
    let named = || checked.project.agents.iter().filter(|(_, agent)| agent.agent.as_deref() == Some(name));
    let own = |path: &String| named().find(|(key, agent)| key.contains('/') && agent.path == *path);
    let shared = || named().find(|(key, _)| !key.contains('/'));
    let found = file.as_ref().and_then(own).or_else(shared).or_else(|| match named().collect::<Vec<_>>()[..] {
        [only] if file.is_none() => Some(only),
        _ => None,
    });
    if let Some((_, agent)) = found {
        return Ok(agent.clone());
    }
    if named().next().is_some() {
        let help = "name the file: --project FILE, or `antiphon serve FILE`";
        return Err(Fault::usage(format!("several workflows have an agent `{name}`"), help));
    }
    if checked.has_errors() {
        return Err(place.broken(checked));
    }
    let known: BTreeSet<&str> = checked.project.agents.values().filter_map(|agent| agent.agent.as_deref()).collect();
    let help = match known.is_empty() {
        true => format!("declare it: [agents.{name}], in antiphon.toml or in a workflow file"),
        false => format!("there are: {}", known.into_iter().collect::<Vec<_>>().join(", ")),
    };
    Err(Fault::usage(format!("there is no agent `{name}`"), help))
}

/// The catalogue of what some paths name, kept up to date with the files.
pub struct Shelf {
    world: Arc<World>,
    paths: Vec<PathBuf>,
    agent: Option<String>,
    catalog: Catalog,
    passed: Vec<Exposure>,
    seen: Vec<Stamp>,
}

/// A file as it was when it was read.
type Stamp = (PathBuf, u64, Option<SystemTime>);

impl Shelf {
    /// Loads the workflows; servers and models are bound as far as the environment allows.
    pub fn stock(world: Arc<World>, paths: Vec<PathBuf>, agent: Option<String>) -> Result<Self, Fault> {
        let seen = stamps(&paths);
        let (workflows, passed) = offer(&world, &paths, agent.as_deref())?;
        let catalog = Catalog::new(workflows).map_err(unservable)?;
        catalog.pass_through(Pass::new(world.clone(), passed.clone()));
        Ok(Self { world, paths, agent, catalog, passed, seen })
    }

    /// The catalogue; clones of it see later changes.
    pub fn catalog(&self) -> Catalog {
        self.catalog.clone()
    }

    /// Loads the files again whenever they have changed. Runs that have started go on as they are. Never ends.
    pub async fn keep(&mut self) -> Infallible {
        loop {
            sleep(LOOK_EVERY).await;
            let now = stamps(&self.paths);
            if now == self.seen {
                continue;
            }
            self.seen = now;
            let renewed = offer(&self.world, &self.paths, self.agent.as_deref()).and_then(|(workflows, passed)| {
                self.catalog.replace(workflows).map_err(unservable)?;
                if passed != self.passed {
                    self.catalog.pass_through(Pass::new(self.world.clone(), passed.clone()));
                    self.passed = passed;
                }
                Ok(())
            });
            match renewed {
                Ok(()) => tracing::info!("the workflow files have changed and are served as they are now"),
                Err(fault) => {
                    tracing::warn!("the workflow files have changed, but what is served stays: {}", fault.message())
                }
            }
        }
    }
}

fn offer(world: &World, paths: &[PathBuf], agent: Option<&str>) -> Result<(Vec<Exposed>, Vec<Exposure>), Fault> {
    let mut all = Vec::new();
    let mut through: Vec<Exposure> = Vec::new();
    for Served { place, checked, workflows, passed } in load(paths, agent)? {
        for exposure in passed {
            if let Err(fault) = world.admit_passed(&place, &checked.project, &exposure.server) {
                tracing::warn!(server = exposure.server, "{}", fault.message());
            }
            // Folders of one project share its `antiphon.toml`.
            if !through.contains(&exposure) {
                through.push(exposure);
            }
        }
        for workflow in workflows {
            if let Err(fault) = world.admit(&place, &checked.project, &workflow) {
                // Its calls will say the same; the others are not to suffer.
                tracing::warn!(workflow = workflow.name, "{}", fault.message());
            }
            all.push(exposed(workflow));
        }
    }
    Ok((all, through))
}

fn unservable(error: CatalogError) -> Fault {
    Fault::usage(error, "serve files or folders whose workflows have different names")
}

/// The files that these paths depend on. What a workflow includes (prompts, schemas) counts when its own file changes.
fn stamps(paths: &[PathBuf]) -> Vec<Stamp> {
    let places = paths.iter().filter_map(|path| Place::of(path).ok());
    let files = places.flat_map(|place| place.files());
    files
        .map(|file| match std::fs::metadata(&file) {
            Ok(about) => (file, about.len(), about.modified().ok()),
            Err(_) => (file, 0, None),
        })
        .collect()
}

fn exposed(workflow: Workflow) -> Exposed {
    let antiphon_workflow::TaskPolicy { mode, inline_wait, ttl } = workflow.task;
    Exposed {
        description: workflow.description.unwrap_or_else(|| format!("Runs the workflow `{}`", workflow.name)),
        name: workflow.name,
        agent: workflow.agent,
        title: None,
        input_schema: workflow.input_schema,
        output_schema: workflow.output_schema,
        plan: workflow.plan,
        read_only: workflow.read_only,
        task: TaskPolicy {
            mode: match mode {
                antiphon_workflow::TaskMode::Auto => TaskMode::Auto,
                antiphon_workflow::TaskMode::Always => TaskMode::Always,
                antiphon_workflow::TaskMode::Never => TaskMode::Never,
            },
            inline_wait,
            ttl,
        },
    }
}
