//! The workflows that a server exposes.

use std::path::PathBuf;

use antiphon_server::{Catalog, Exposed, TaskMode, TaskPolicy};
use antiphon_workflow::{Checked, Workflow};

use crate::fault::Fault;
use crate::project::{Place, broken, shown};
use crate::world::World;

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
                return Err(broken(&checked, wanted.as_deref()));
            }
            Ok(Served { place, checked, workflows })
        })
        .collect()
}

/// The catalogue of what these paths name; servers and models are bound as far as the environment allows.
pub fn catalog(world: &World, paths: &[PathBuf]) -> Result<Catalog, Fault> {
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
    Catalog::new(all)
        .map_err(|error| Fault::usage(error, "serve folders or files whose workflows have different names"))
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
