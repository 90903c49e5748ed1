//! What is exposed: the workflows, as MCP tools.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use antiphon_kernel::Plan;
use rmcp::model::{Prompt, Tool, ToolAnnotations};
use serde_json::Value;
use tokio::sync::watch;

use crate::access::Access;
use crate::pass::Pass;
use crate::runs::Named;
use crate::{handle, prompt, schema};

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
pub const RESERVED_NAMES: [&str; 6] =
    ["call_tool", "find_tools", "run_answer", "run_cancel", "run_start", "run_status"];

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

/// What is offered beside the workflows' own tools.
#[derive(Clone, Debug)]
pub struct Beside {
    /// What servers offer, passed through; a workflow's name comes first.
    pub pass: Option<Arc<Pass>>,
    /// The caller's runs as resources, where there are workflows.
    pub runs: bool,
    /// The workflows as prompts, too.
    pub prompts: bool,
}

impl Default for Beside {
    fn default() -> Self {
        Self { pass: None, runs: true, prompts: true }
    }
}

/// The exposed workflows, in the order of their names. Cheap to clone; every clone sees a [`Catalog::renew`].
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    all: watch::Sender<Arc<Snapshot>>,
    /// Shows this agent alone.
    agent: Option<Arc<str>>,
}

/// The catalogue at one moment.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    workflows: BTreeMap<String, Arc<Exposed>>,
    tools: Vec<Tool>,
    prompts: Vec<Prompt>,
    instructions: String,
    beside: Beside,
    /// What parts of it are open to whom.
    views: Mutex<HashMap<Access, Arc<Snapshot>>>,
}

impl Catalog {
    /// A catalogue of these workflows.
    ///
    /// # Errors
    /// A name that is taken twice, or reserved.
    pub fn new(workflows: impl IntoIterator<Item = Exposed>) -> Result<Self, CatalogError> {
        let catalog = Self::default();
        catalog.renew(workflows, Beside::default())?;
        Ok(catalog)
    }

    /// Exposes these workflows instead, and this beside them: callers are told. Runs that have started go on as they are.
    ///
    /// # Errors
    /// As [`Catalog::new`]; the catalogue then stays as it was.
    pub fn renew(&self, workflows: impl IntoIterator<Item = Exposed>, beside: Beside) -> Result<(), CatalogError> {
        let snapshot = Snapshot::new(workflows, beside)?;
        self.all.send_replace(Arc::new(snapshot));
        Ok(())
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
        let all = self.all.borrow().clone();
        match &self.agent {
            None => all,
            Some(agent) => {
                let is_agent = |workflow: &&Arc<Exposed>| workflow.agent.as_deref() == Some(agent);
                let alone = all.workflows.values().filter(is_agent).take(1).cloned();
                let beside = Beside { pass: None, ..all.beside.clone() };
                Arc::new(Snapshot::of(alone.map(|agent| (agent.name.clone(), agent)).collect(), beside))
            }
        }
    }

    /// Tells whenever the catalogue has been renewed.
    pub(crate) fn renewed(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.all.subscribe()
    }
}

impl Snapshot {
    fn new(workflows: impl IntoIterator<Item = Exposed>, beside: Beside) -> Result<Self, CatalogError> {
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
        Ok(Self::of(by_name, beside))
    }

    fn of(by_name: BTreeMap<String, Arc<Exposed>>, beside: Beside) -> Self {
        let names: Vec<&str> = by_name.keys().map(String::as_str).collect();
        let mut tools: Vec<Tool> = by_name.values().map(|workflow| tool(workflow)).collect();
        // Without workflows there are no runs to handle.
        if beside.pass.is_none() || !by_name.is_empty() {
            tools.extend(handle::tools(&names));
        }
        let prompts =
            if beside.prompts { by_name.values().map(|workflow| prompt::of(workflow)).collect() } else { vec![] };
        let instructions = instructions(by_name.values());
        Self { workflows: by_name, tools, prompts, instructions, beside, views: Mutex::default() }
    }

    /// What this opens of it, as if there were nothing else. Made once for each.
    fn only(&self, access: &Access) -> Arc<Self> {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        let view = views.entry(access.clone()).or_insert_with(|| {
            let open = self.workflows.iter().filter(|(_, workflow)| access.opens(workflow.scoped_as()));
            let open = open.map(|(name, workflow)| (name.clone(), workflow.clone())).collect();
            let pass = self.pass().map(|pass| pass.only(access)).filter(|pass| !pass.is_empty());
            Arc::new(Self::of(open, Beside { pass: pass.map(Arc::new), ..self.beside.clone() }))
        });
        view.clone()
    }

    /// What is passed through, if anything is.
    pub(crate) fn pass(&self) -> Option<&Arc<Pass>> {
        self.beside.pass.as_ref()
    }

    /// Whether runs are resources. Where nothing can be started there are none.
    pub(crate) fn runs(&self) -> bool {
        self.beside.runs && !self.workflows.is_empty()
    }

    /// What a URI of our own names, where we have any.
    pub(crate) fn run_of(&self, uri: &str) -> Option<Named> {
        Named::of(uri).filter(|_| self.runs())
    }

    /// The workflow of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Exposed>> {
        self.workflows.get(name)
    }

    /// Every tool of our own: the workflows by name, then the server's.
    pub(crate) fn tools(&self) -> &[Tool] {
        &self.tools
    }

    /// The workflows as prompts, by name.
    pub(crate) fn prompts(&self) -> &[Prompt] {
        &self.prompts
    }

    /// The workflow behind a prompt of our own.
    pub(crate) fn prompted(&self, name: &str) -> Option<&Arc<Exposed>> {
        if self.beside.prompts { self.workflows.get(name) } else { None }
    }

    /// What the server says of itself.
    pub(crate) fn instructions(&self) -> String {
        let Some(pass) = self.pass() else { return self.instructions.clone() };
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
