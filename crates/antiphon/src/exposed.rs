//! The workflows that a server exposes.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use antiphon_server::{Catalog, CatalogError, Exposed, TaskMode, TaskPolicy};
use antiphon_workflow::{Checked, Workflow};
use tokio::time::sleep;

use crate::fault::Fault;
use crate::project::{Place, shown};
use crate::world::World;

/// How often served files are looked at for changes.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A folder or file that is served, loaded.
pub struct Served {
    /// Where.
    pub place: Place,
    /// All that the folder has.
    pub checked: Checked,
    /// Those of its workflows that are served.
    pub workflows: Vec<Workflow>,
}

/// Loads what these paths name. A broken file in a folder is passed over; one that was named is an error.
pub fn load(paths: &[PathBuf]) -> Result<Vec<Served>, Fault> {
    paths
        .iter()
        .map(|path| {
            let place = Place::of(path)?;
            let checked = place.load()?;
            let wanted = place.file.as_deref().map(shown);
            let chosen = |workflow: &&Workflow| wanted.as_ref().is_none_or(|path| workflow.path == *path);
            let workflows: Vec<Workflow> = checked.project.workflows.values().filter(chosen).cloned().collect();
            if workflows.is_empty() {
                return Err(place.broken(&checked));
            }
            Ok(Served { place, checked, workflows })
        })
        .collect()
}

/// The catalogue of what some paths name, kept up to date with the files.
pub struct Shelf {
    world: Arc<World>,
    paths: Vec<PathBuf>,
    catalog: Catalog,
    seen: Vec<Stamp>,
}

/// A file as it was when it was read.
type Stamp = (PathBuf, u64, Option<SystemTime>);

impl Shelf {
    /// Loads the workflows; servers and models are bound as far as the environment allows.
    pub fn stock(world: Arc<World>, paths: Vec<PathBuf>) -> Result<Self, Fault> {
        let seen = stamps(&paths);
        let catalog = Catalog::new(offer(&world, &paths)?).map_err(unservable)?;
        Ok(Self { world, paths, catalog, seen })
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
            let renewed = offer(&self.world, &self.paths)
                .and_then(|workflows| self.catalog.replace(workflows).map_err(unservable));
            match renewed {
                Ok(()) => tracing::info!("the workflow files have changed and are served as they are now"),
                Err(fault) => {
                    tracing::warn!("the workflow files have changed, but what is served stays: {}", fault.message())
                }
            }
        }
    }
}

fn offer(world: &World, paths: &[PathBuf]) -> Result<Vec<Exposed>, Fault> {
    let mut all = Vec::new();
    for Served { place, checked, workflows } in load(paths)? {
        for workflow in workflows {
            if let Err(fault) = world.admit(&place, &checked.project, &workflow) {
                // Its calls will say the same; the others are not to suffer.
                tracing::warn!(workflow = workflow.name, "{}", fault.message());
            }
            all.push(exposed(workflow));
        }
    }
    Ok(all)
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
