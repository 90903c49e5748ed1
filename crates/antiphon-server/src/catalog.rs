//! What is exposed: the workflows, as MCP tools.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use antiphon_kernel::Plan;
use rmcp::model::{Tool, ToolAnnotations};
use serde_json::Value;

use crate::access::Access;
use crate::handle;
use crate::pass::Pass;
use crate::schema;

/// A workflow that callers may start, or an agent that they may ask.
#[derive(Clone, Debug)]
pub struct Exposed {
    /// The tool's name.
    pub name: String,
    /// The agent's name, if it is one: it is a server of its own, too, at `/agents/NAME/mcp`.
    pub agent: Option<String>,
    /// What it is for: what a model reads when it chooses.
    pub description: String,
    /// A name for people.
    pub title: Option<String>,
    /// JSON Schema of the arguments: an object.
    pub input_schema: Value,
    /// JSON Schema of the output, when the file declares one.
    pub output_schema: Option<Value>,
    /// What runs.
    pub plan: Arc<Plan>,
    /// It changes nothing, whatever branch it takes.
    pub read_only: bool,
    /// When a call of it becomes a task.
    pub task: TaskPolicy,
}

impl Exposed {
    /// What scopes call it: an agent by its own name.
    fn scoped_as(&self) -> &str {
        self.agent.as_deref().unwrap_or(&self.name)
    }
}

/// `[task]` of a workflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskPolicy {
    /// Whether a call becomes a task.
    pub mode: TaskMode,
    /// How long an `Auto` call may take before it becomes one.
    pub inline_wait: Duration,
    /// How long the record is kept after the run's end.
    pub ttl: Duration,
}

impl Default for TaskPolicy {
    fn default() -> Self {
        Self { mode: TaskMode::Auto, inline_wait: Duration::from_secs(2), ttl: Duration::from_secs(24 * 3600) }
    }
}

/// Whether a call becomes a task, for callers that know tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TaskMode {
    /// If it takes long or needs input.
    #[default]
    Auto,
    /// At once.
    Always,
    /// Never: such a caller is served like one that does not know tasks.
    Never,
}

/// Names that a workflow can't have, since the server's own tools have them.
pub const RESERVED_NAMES: [&str; 4] = ["run_answer", "run_cancel", "run_start", "run_status"];

/// Why a catalogue can't be built.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// Two workflows have one name.
    #[error("two workflows are named `{0}`; rename one of them")]
    Duplicate(String),
    /// A workflow has the name of one of the server's own tools.
    #[error("a workflow can't be named `{0}`: the server has a tool of that name; rename the workflow")]
    Reserved(String),
}

/// The exposed workflows, in the order of their names. Cheap to clone; every clone sees a [`Catalog::replace`].
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    all: Arc<RwLock<Arc<Snapshot>>>,
    /// Shows this agent alone.
    agent: Option<Arc<str>>,
}

/// The catalogue at one moment.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    workflows: BTreeMap<String, Arc<Exposed>>,
    tools: Vec<Tool>,
    instructions: String,
    pass: Option<Arc<Pass>>,
    /// What parts of it are open to whom.
    views: Mutex<HashMap<Access, Arc<Snapshot>>>,
}

impl Catalog {
    /// A catalogue of these workflows.
    ///
    /// # Errors
    /// A name that is taken twice, or reserved.
    pub fn new(workflows: impl IntoIterator<Item = Exposed>) -> Result<Self, CatalogError> {
        Ok(Self { all: Arc::new(RwLock::new(Arc::new(Snapshot::new(workflows)?))), agent: None })
    }

    /// Exposes these workflows instead. Runs that have started go on as they are.
    ///
    /// # Errors
    /// As [`Catalog::new`]; the catalogue then stays as it was.
    pub fn replace(&self, workflows: impl IntoIterator<Item = Exposed>) -> Result<(), CatalogError> {
        let snapshot = Snapshot::new(workflows)?;
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        let pass = all.pass.clone();
        *all = Arc::new(snapshot.passing(pass));
        Ok(())
    }

    /// Passes through what servers offer, beside the workflows; a workflow's name comes first.
    pub fn pass_through(&self, pass: Pass) {
        let pass = (!pass.is_empty()).then(|| Arc::new(pass));
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        let snapshot = Snapshot::of(all.workflows.clone()).passing(pass);
        *all = Arc::new(snapshot);
    }

    /// The same catalogue, showing this agent alone; `None` if there is none of that name.
    pub fn of_agent(&self, name: &str) -> Option<Self> {
        let alone = Self { all: self.all.clone(), agent: Some(name.into()) };
        (!alone.now().workflows.is_empty()).then_some(alone)
    }

    /// The workflow of this name.
    pub fn get(&self, name: &str) -> Option<Arc<Exposed>> {
        self.now().workflows.get(name).cloned()
    }

    /// What a caller sees of it.
    pub(crate) fn seen_by(&self, access: &Access) -> Arc<Snapshot> {
        let now = self.now();
        if access.is_everything() { now } else { now.only(access) }
    }

    /// What callers mean by the name of a tool or prompt, as scopes name it: several if several servers could have it.
    pub(crate) fn names_of(&self, name: &str) -> Vec<String> {
        let now = self.now();
        match (now.get(name), now.pass()) {
            (Some(workflow), _) => vec![workflow.scoped_as().to_owned()],
            (None, Some(pass)) => pass.names_of(name),
            (None, None) => Vec::new(),
        }
    }

    pub(crate) fn now(&self) -> Arc<Snapshot> {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner).clone();
        match &self.agent {
            None => all,
            Some(agent) => {
                let is_agent = |workflow: &&Arc<Exposed>| workflow.agent.as_deref() == Some(agent);
                let alone = all.workflows.values().filter(is_agent).take(1).cloned();
                Arc::new(Snapshot::of(alone.map(|agent| (agent.name.clone(), agent)).collect()))
            }
        }
    }
}

impl Snapshot {
    fn new(workflows: impl IntoIterator<Item = Exposed>) -> Result<Self, CatalogError> {
        let mut by_name = BTreeMap::new();
        for workflow in workflows {
            let name = workflow.name.clone();
            if RESERVED_NAMES.contains(&name.as_str()) {
                return Err(CatalogError::Reserved(name));
            }
            if by_name.insert(name.clone(), Arc::new(workflow)).is_some() {
                return Err(CatalogError::Duplicate(name));
            }
        }
        Ok(Self::of(by_name))
    }

    fn of(by_name: BTreeMap<String, Arc<Exposed>>) -> Self {
        let names: Vec<&str> = by_name.keys().map(String::as_str).collect();
        let mut tools: Vec<Tool> = by_name.values().map(|workflow| tool(workflow)).collect();
        tools.extend(handle::tools(&names));
        let instructions = instructions(by_name.values());
        Self { workflows: by_name, tools, instructions, pass: None, views: Mutex::default() }
    }

    fn passing(self, pass: Option<Arc<Pass>>) -> Self {
        // Without workflows there are no runs to handle.
        let tools = if pass.is_some() && self.workflows.is_empty() { Vec::new() } else { self.tools };
        Self { pass, tools, ..self }
    }

    /// What this opens of it, as if there were nothing else. Made once for each.
    fn only(&self, access: &Access) -> Arc<Self> {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        let view = views.entry(access.clone()).or_insert_with(|| {
            let open = self.workflows.iter().filter(|(_, workflow)| access.opens(workflow.scoped_as()));
            let open = open.map(|(name, workflow)| (name.clone(), workflow.clone())).collect();
            let pass = self.pass.as_ref().map(|pass| pass.only(access)).filter(|pass| !pass.is_empty());
            Arc::new(Self::of(open).passing(pass.map(Arc::new)))
        });
        view.clone()
    }

    /// What is passed through, if anything is.
    pub(crate) fn pass(&self) -> Option<&Arc<Pass>> {
        self.pass.as_ref()
    }

    /// The workflow of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Exposed>> {
        self.workflows.get(name)
    }

    /// Every tool: the workflows by name, then the server's own.
    pub(crate) fn tools(&self) -> &[Tool] {
        &self.tools
    }

    /// What the server says of itself.
    pub(crate) fn instructions(&self) -> String {
        let Some(pass) = &self.pass else { return self.instructions.clone() };
        let own = (!self.workflows.is_empty()).then(|| self.instructions.clone());
        own.into_iter().chain(pass.instructions()).collect::<Vec<_>>().join("\n\n")
    }
}

fn tool(workflow: &Exposed) -> Tool {
    let mut annotations = ToolAnnotations::new().read_only(workflow.read_only);
    annotations.title = workflow.title.clone();
    let mut tool = Tool::new(
        workflow.name.clone(),
        workflow.description.clone(),
        schema::object(&workflow.input_schema).unwrap_or_default(),
    )
    .with_annotations(annotations);
    tool.title = workflow.title.clone();
    tool.output_schema = workflow.output_schema.as_ref().and_then(schema::or_handle).map(Arc::new);
    tool
}

fn instructions<'a>(workflows: impl Iterator<Item = &'a Arc<Exposed>>) -> String {
    let list: Vec<String> = workflows
        .map(|workflow| {
            let first_line = workflow.description.lines().next().unwrap_or_default();
            format!("`{}` ({first_line})", workflow.name)
        })
        .collect();
    let offer = match list.is_empty() {
        true => "No workflow is exposed yet.".to_owned(),
        false => format!("There are: {}.", list.join(", ")),
    };
    format!(
        "Each tool runs a workflow, or asks an agent, as a durable run. {offer} A call returns the workflow's output; one that takes long, or \
         needs an answer that this client can't give, returns `{{ \"run\": {{ \"id\", \"status\", \"needs\" }} }}` instead: the run \
         goes on by itself, so follow it with `run_status`, answer it with `run_answer`, end it with `run_cancel`, and do not \
         call the workflow again for the same purpose. `run_start` starts one without waiting. To make a call safe to repeat, \
         give it a key of your own in `_meta[\"antiphon/idempotency-key\"]`."
    )
}
