//! `[agents.NAME]`: what the file says, and the workflow that it becomes.

mod lower;
mod parts;
mod read;

use antiphon_kernel::Expr;
use serde_json::{Value, json};

use crate::diagnostic::Place;
use crate::parsed::File;

pub(crate) use lower::{Lowered, lower};
pub(crate) use parts::Parts;
pub(crate) use read::read;

/// An agent, as it was read: shapes are right, names are not looked up yet.
#[derive(Clone)]
pub(crate) struct Agent {
    /// The file that defines it.
    pub(crate) path: String,
    pub(crate) description: Option<String>,
    pub(crate) instructions: Expr,
    /// Models in order, and whether the caller comes last.
    pub(crate) models: Vec<(String, Place)>,
    pub(crate) caller: bool,
    pub(crate) prefer: Option<Expr>,
    /// `SERVER.TOOL` (with patterns), agents, workflows.
    pub(crate) grants: Vec<(String, Place)>,
    /// Agents that it may hand the conversation to.
    pub(crate) handoffs: Vec<(String, Place)>,
    pub(crate) max_turns: u32,
    pub(crate) max_tokens: u64,
    /// What of a call's result the conversation keeps.
    pub(crate) max_result_tokens: u64,
    pub(crate) temperature: Option<f64>,
    pub(crate) examples: Option<Expr>,
}

/// An agent that was found by its name.
#[derive(Clone, Copy)]
pub(crate) struct Found<'a> {
    pub(crate) name: &'a str,
    /// The workflow file that defines it; its names are looked up from there.
    pub(crate) owner: Option<&'a File>,
    pub(crate) agent: &'a Agent,
}

impl Found<'_> {
    /// What it is called in a plan: unique in a project.
    pub(crate) fn key(&self) -> String {
        key(self.owner, self.name)
    }

    /// What it is for, said to who may turn to it.
    pub(crate) fn description(&self) -> String {
        self.agent.description.clone().unwrap_or_else(|| format!("Asks the agent `{}`", self.name))
    }
}

/// What an agent is called in a plan.
pub(crate) fn key(owner: Option<&File>, name: &str) -> String {
    match owner {
        Some(file) => format!("{}/{}", file.name, tool(name)),
        None => tool(name),
    }
}

/// The tool's name of an agent.
pub(crate) fn tool(name: &str) -> String {
    format!("ask_{name}")
}

/// What models and files give to an agent.
pub(crate) fn asked() -> Value {
    let prompt = json!({ "type": "string", "description": "What it is asked: all that it has to know" });
    json!({ "type": "object", "properties": { "prompt": prompt }, "required": ["prompt"], "additionalProperties": false })
}

/// What an agent takes: also the shape that its answer is to have.
pub(crate) fn input() -> Value {
    let mut schema = asked();
    schema["properties"]["schema"] =
        json!({ "type": "object", "description": "A JSON Schema: the answer is then a value that conforms to it" });
    schema
}
