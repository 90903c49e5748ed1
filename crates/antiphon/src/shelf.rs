//! What a server offers, kept up to date with the files that say so.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use antiphon_server::{Beside, Catalog, CatalogError, Exposed, Exposure, Pass, TaskMode, TaskPolicy};
use antiphon_workflow::{Diagnostic, Workflow};
use tokio::time::sleep;

use crate::exposed::{self, Served};
use crate::fault::Fault;
use crate::project::{Place, is_config};
use crate::world::World;

/// How often served files are looked at for changes.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The catalogue of what some paths name, kept up to date with the files.
pub struct Shelf {
    world: Arc<World>,
    paths: Vec<PathBuf>,
    agent: Option<String>,
    catalog: Catalog,
    /// What is served: the last of each file that had no errors.
    good: Vec<Good>,
    pass: Option<Arc<Pass>>,
    seen: Vec<Stamp>,
}

/// A file as it was when it was read.
type Stamp = (PathBuf, u64, Option<SystemTime>);

/// A workflow or agent, and its file.
#[derive(Clone)]
struct Good {
    path: String,
    exposed: Exposed,
}

/// What the files say by now.
#[derive(Default)]
struct Offer {
    good: Vec<Good>,
    passed: Vec<Exposure>,
    compact_above: Option<usize>,
    runs: bool,
    prompts: bool,
    errors: Vec<Diagnostic>,
}

impl Shelf {
    /// Loads the workflows; servers and models are bound as far as the environment allows.
    pub fn stock(world: Arc<World>, paths: Vec<PathBuf>, agent: Option<String>) -> Result<Self, Fault> {
        let seen = stamps(&paths);
        let (catalog, good) = (Catalog::default(), Vec::new());
        let mut shelf = Self { world, paths, agent, catalog, good, pass: None, seen };
        let offer = offer(&shelf.world, exposed::load(&shelf.paths, shelf.agent.as_deref())?);
        shelf.put(offer, true)?;
        Ok(shelf)
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
            let configs = |stamps: &[Stamp]| -> Vec<Stamp> {
                stamps.iter().filter(|(file, ..)| is_config(file)).cloned().collect()
            };
            let reconfigured = configs(&now) != configs(&self.seen);
            self.seen = now;
            match self.renew(reconfigured) {
                Ok(()) => tracing::info!("the workflow files have changed and are served as they are now"),
                Err(fault) => {
                    tracing::warn!("the workflow files have changed, but what is served stays: {}", fault.message());
                }
            }
        }
    }

    fn renew(&mut self, reconfigured: bool) -> Result<(), Fault> {
        let mut offer = offer(&self.world, exposed::read(&self.paths, self.agent.as_deref())?);
        // What it said of servers is not known any more, and everything may depend on that.
        if let Some(error) = offer.errors.iter().find(|error| is_config(error.path().as_ref())) {
            return Err(Fault::usage(told(error), "mend it: it is looked at again when it changes"));
        }
        for good in &self.good {
            let error = offer.errors.iter().find(|error| error.path() == good.path);
            if let Some(error) = error
                && !offer.good.iter().any(|other| other.exposed.name == good.exposed.name)
            {
                tracing::warn!("`{}` is served as it was before: {}", good.exposed.name, told(error));
                offer.good.push(good.clone());
            }
        }
        self.put(offer, reconfigured)
    }

    fn put(&mut self, offer: Offer, reconfigured: bool) -> Result<(), Fault> {
        let Offer { good, passed, compact_above, runs, prompts, errors: _ } = offer;
        // A server may have another address by now: whoever listens to it begins anew.
        let pass = match &self.pass {
            Some(pass) if !reconfigured => Some(Arc::clone(pass)),
            _ if passed.is_empty() => None,
            _ => Some(Arc::new(Pass::new(self.world.clone(), passed).compact_above(compact_above))),
        };
        let workflows = good.iter().map(|good| good.exposed.clone());
        self.catalog.renew(workflows, Beside { pass: pass.clone(), runs, prompts }).map_err(unservable)?;
        (self.good, self.pass) = (good, pass);
        Ok(())
    }
}

/// Where an error is, and what it says.
fn told(error: &Diagnostic) -> String {
    let (line, _) = error.position();
    format!("{}:{line}: {} ({})", error.path(), error.message(), error.code())
}

fn offer(world: &World, all: Vec<Served>) -> Offer {
    let mut offer = Offer { runs: true, prompts: true, ..Offer::default() };
    for Served { place, checked, workflows, passed } in all {
        for exposure in passed {
            if let Err(fault) = world.admit_passed(&place, &checked.project, &exposure.server) {
                tracing::warn!(server = exposure.server, "{}", fault.message());
            }
            // Folders of one project share its `antiphon.toml`.
            if !offer.passed.contains(&exposure) {
                offer.passed.push(exposure);
            }
        }
        for workflow in workflows {
            if let Err(fault) = world.admit(&place, &checked.project, &workflow) {
                // Its calls will say the same; the others are not to suffer.
                tracing::warn!(workflow = workflow.name, "{}", fault.message());
            }
            offer.good.push(Good { path: workflow.path.clone(), exposed: tool(workflow) });
        }
        let serve = &checked.project.serve;
        offer.compact_above = offer.compact_above.or(serve.compact_above);
        offer.runs &= serve.runs;
        offer.prompts &= serve.prompts;
        offer.errors.extend(checked.diagnostics.into_iter().filter(Diagnostic::is_error));
    }
    offer
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

fn tool(workflow: Workflow) -> Exposed {
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
