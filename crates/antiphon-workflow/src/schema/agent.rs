//! `[agents.NAME]`.

use schemars::JsonSchema;

use super::step::{Example, OneOrMany, Prefer, Prose};

/// An agent: instructions, a model, and what it may use. It answers a prompt, in as many turns as it needs: `call = "NAME"`, or
/// the tool `ask_NAME`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Agent {
    /// What it is for: read by whoever chooses whom to ask.
    description: Option<String>,
    /// What it is to do, and how: the system prompt of each turn.
    instructions: Prose,
    /// Who thinks: a model, several in order of fallback, `"auto"`; `"caller"`, last, is whoever called us. By default `"local"`.
    model: Option<OneOrMany>,
    /// With `model = "auto"`: what the model should be like.
    prefer: Option<Prefer>,
    /// What its model may call: tools (`"SERVER.TOOL"`, `*` stands for anything), agents, workflows. By default nothing.
    grants: Option<Vec<String>>,
    /// Agents that it may hand the conversation to; the last holder answers.
    handoffs: Option<Vec<String>>,
    /// The most turns, of all holders together. By default 10.
    #[schemars(range(min = 1, max = 1000))]
    max_turns: Option<u32>,
    /// The longest answer of one turn, in tokens. By default 1024.
    #[schemars(range(min = 1, max = 1_000_000))]
    max_tokens: Option<u64>,
    /// What of a call's result the conversation keeps, in tokens; the rest is cut, and the model is told. By default 10,000.
    #[schemars(range(min = 1))]
    max_result_tokens: Option<u32>,
    /// 0 always takes the likeliest word.
    #[schemars(range(min = 0.0, max = 2.0))]
    temperature: Option<f64>,
    /// What good answers look like, where they are texts.
    examples: Option<Vec<Example>>,
}
