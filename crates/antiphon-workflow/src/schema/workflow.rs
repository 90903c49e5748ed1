//! The two kinds of file.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde_json::Value;

use super::agent::Agent;
use super::serve::Serve;
use super::step::{Shape, Step};
use super::tables::{Limits, Model, Server, Task};

/// An Antiphon workflow: a graph of steps, served as one MCP tool.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct WorkflowFile {
    /// The tool's name; by default the file's stem.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_-]{1,64}$"))]
    name: Option<String>,
    /// What the workflow is for: the tool's description.
    description: Option<String>,
    /// What the workflow takes: a property each, required unless it has a `default` or `required = false`; or the path of a JSON Schema file.
    input: Option<Shape>,
    /// The shape of `[output]`: the tool's `outputSchema`. Written as `[input]` is.
    schema: Option<Shape>,
    /// What the workflow yields: a template each. An entry that uses what did not succeed is left out. By default, every step's output by its id.
    output: Option<BTreeMap<String, Value>>,
    /// The steps, by id.
    steps: BTreeMap<String, Step>,
    /// MCP servers of this workflow alone; others come from `antiphon.toml`.
    servers: Option<BTreeMap<String, Server>>,
    /// Models of this workflow alone; others come from `antiphon.toml`.
    models: Option<BTreeMap<String, Model>>,
    /// Agents of this workflow alone; others come from `antiphon.toml`.
    agents: Option<BTreeMap<String, Agent>>,
    /// When a run becomes a task.
    task: Option<Task>,
    /// Bounds of a run.
    limits: Option<Limits>,
}

/// An Antiphon project: what the workflows of a folder share.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct ConfigFile {
    /// MCP servers to connect to, by name.
    servers: Option<BTreeMap<String, Server>>,
    /// Models that answer sampling, by name.
    models: Option<BTreeMap<String, Model>>,
    /// Agents, by name: each is served as the tool `ask_NAME`.
    agents: Option<BTreeMap<String, Agent>>,
    /// When runs become tasks, unless the workflow says otherwise.
    task: Option<Task>,
    /// Bounds of runs, unless the workflow says otherwise.
    limits: Option<Limits>,
    /// What `antiphon serve` offers beside the workflows.
    serve: Option<Serve>,
}
