//! A workflow file as it was read: shapes are right, names are not looked up yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use antiphon_kernel as plan;
use antiphon_kernel::{EffectClass, Expr, OnDoubt};
use indexmap::IndexMap;
use serde_json::Value;

use crate::agent::Agent;
use crate::diagnostic::{Place, Text};
use crate::project::{ModelDef, ServerDef};

/// What workflow files and `antiphon.toml` have in common.
#[derive(Default)]
pub(crate) struct Tables {
    pub(crate) servers: BTreeMap<String, Defined<ServerDef>>,
    /// What each of those servers may call: `SERVER.TOOL` (with patterns), agents, workflows.
    pub(crate) grants: BTreeMap<String, Vec<(String, Place)>>,
    pub(crate) models: BTreeMap<String, Defined<ModelDef>>,
    pub(crate) agents: BTreeMap<String, Defined<Agent>>,
    pub(crate) limits: LimitsPart,
    pub(crate) task: TaskPart,
    /// The file, if it is not TOML: nobody knows what is in it.
    pub(crate) unreadable: Option<Place>,
}

/// Something with a name of its own in the file.
#[derive(Clone)]
pub(crate) struct Defined<T> {
    pub(crate) place: Place,
    /// `None` if it has errors.
    pub(crate) def: Option<T>,
}

/// `[limits]`: what the file states.
#[derive(Clone, Default)]
pub(crate) struct LimitsPart {
    pub(crate) tokens: Option<u64>,
    pub(crate) cost_usd: Option<f64>,
    pub(crate) calls: Option<u64>,
    pub(crate) depth: Option<u64>,
    pub(crate) duration_ms: Option<u64>,
    pub(crate) mode: Option<antiphon_kernel::LimitMode>,
}

/// `[task]`: what the file states.
#[derive(Clone, Default)]
pub(crate) struct TaskPart {
    pub(crate) mode: Option<crate::project::TaskMode>,
    pub(crate) inline_wait_ms: Option<u64>,
    pub(crate) ttl_ms: Option<u64>,
}

/// A workflow file.
pub(crate) struct File {
    pub(crate) text: Arc<Text>,
    pub(crate) name: String,
    pub(crate) name_place: Place,
    pub(crate) description: Option<String>,
    pub(crate) input_schema: Value,
    pub(crate) output_schema: Option<Value>,
    pub(crate) body: Body,
    pub(crate) tables: Tables,
}

/// Steps and what they amount to.
#[derive(Default)]
pub(crate) struct Body {
    pub(crate) steps: Vec<Step>,
    /// Ids of steps that could not be read: they exist, and that is all that is known of them.
    pub(crate) unread: Vec<String>,
    pub(crate) output: Option<IndexMap<String, Expr>>,
    /// What `output` mentions.
    pub(crate) mentions: Vec<Mention>,
}

/// A step.
pub(crate) struct Step {
    pub(crate) id: String,
    pub(crate) place: Place,
    pub(crate) action: Action,
    pub(crate) needs: Vec<(String, Place)>,
    /// The steps that its templates mention; of a block, not those that its inner steps mention.
    pub(crate) mentions: Vec<Mention>,
    pub(crate) when: Option<Condition>,
    pub(crate) for_each: Option<plan::ForEach>,
    pub(crate) repeat: Option<plan::Repeat>,
    pub(crate) retry: Option<(plan::Retry, Place)>,
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) expect: Option<Expr>,
    pub(crate) on_error: plan::OnError,
    pub(crate) undo: Option<Undo>,
    pub(crate) effects: Option<EffectClass>,
    pub(crate) on_doubt: OnDoubt,
}

/// A `when`, with its place.
pub(crate) struct Condition {
    pub(crate) expr: Expr,
    pub(crate) place: Place,
}

/// A step's verb.
pub(crate) enum Action {
    Call(Call),
    Sample { models: Vec<(String, Place)>, caller: bool, request: Expr, max_tokens: u64, answer: Option<Value> },
    Elicit { message: Expr, form: plan::Form, by: plan::By },
    Read { server: (String, Place), uri: Expr },
    Set { value: Expr },
    Wait(plan::Wait),
    Do(Body),
}

impl Action {
    pub(crate) fn verb(&self) -> &'static str {
        match self {
            Self::Call(_) => "call",
            Self::Sample { .. } => "sample",
            Self::Elicit { .. } => "elicit",
            Self::Read { .. } => "read",
            Self::Set { .. } => "set",
            Self::Wait(_) => "wait",
            Self::Do(_) => "do",
        }
    }
}

/// A call whose target is not looked up yet.
pub(crate) struct Call {
    pub(crate) target: String,
    pub(crate) target_expr: Expr,
    pub(crate) place: Place,
    pub(crate) with: Expr,
    /// The arguments' names.
    pub(crate) arguments: Vec<(String, Place)>,
    /// The shape that an agent's answer is to have.
    pub(crate) schema: Option<(Value, Place)>,
}

/// An `undo`.
pub(crate) struct Undo {
    pub(crate) call: Call,
    pub(crate) retry: Option<(plan::Retry, Place)>,
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) effects: Option<EffectClass>,
    pub(crate) on_doubt: OnDoubt,
}

/// A step that a template mentions.
#[derive(Clone)]
pub(crate) struct Mention {
    pub(crate) step: String,
    /// What of it, such as `output`, `id`.
    pub(crate) path: Vec<String>,
    pub(crate) how: How,
    pub(crate) place: Place,
}

/// How a template mentions a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// Its value, unguarded.
    Uses,
    /// Its value, guarded.
    Guarded,
    /// How it ended.
    Asks,
}
