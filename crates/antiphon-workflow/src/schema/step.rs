//! `[steps.ID]`.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use super::tables::Duration;
use crate::keys::VERBS;

/// Properties by name, or the path of a JSON Schema file.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub(super) enum Shape {
    /// A JSON Schema for each property; it is required unless it has a `default` or `required = false`.
    Properties(BTreeMap<String, Map<String, Value>>),
    /// The path of a JSON Schema file.
    File(String),
}

/// A long text: a template, or `{ file = "…" }`.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub(super) enum Prose {
    /// The text itself.
    Text(String),
    /// A text kept in a file.
    File(ProseFile),
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct ProseFile {
    /// Its path, relative to the workflow file.
    file: String,
}

/// An expression that is true or false.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Condition {
    /// A bare expression, without braces.
    Expression(String),
    /// Always so.
    Constant(bool),
}

/// One step: exactly one verb (`call`, `sample`, `elicit`, `read`, `set`, `wait`, `do`), and modifiers.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, transform = one_verb)]
pub(super) struct Step {
    /// Verb: calls a tool (`"SERVER.TOOL"`), or by its name alone an agent, or a workflow of the same folder.
    call: Option<String>,
    /// Of `call`: the arguments. Strings are templates.
    with: Option<BTreeMap<String, Value>>,

    /// Verb: asks a model, or several in order of fallback; `"caller"`, last, asks whoever called us.
    sample: Option<OneOrMany>,
    /// Of `sample`: the question.
    prompt: Option<Prose>,
    /// Of `sample`, instead of `prompt`: a conversation, each `{ role, content }`.
    messages: Option<Vec<Value>>,
    /// Of `sample`: the system prompt.
    system: Option<Prose>,
    /// Of `sample`: labels and their meanings; the answer is one of the labels.
    choose: Option<BTreeMap<String, String>>,
    /// Of `sample`, and of a `call` of an agent: the shape of the answer.
    schema: Option<Shape>,
    /// Of `sample`: what good answers look like.
    examples: Option<Vec<Example>>,
    /// Of `sample`: the longest answer, in tokens. By default 1024.
    #[schemars(range(min = 1, max = 1_000_000))]
    max_tokens: Option<u64>,
    /// Of `sample`: 0 always takes the likeliest word.
    #[schemars(range(min = 0.0, max = 2.0))]
    temperature: Option<f64>,
    /// Of `sample = "auto"`: what the model should be like.
    prefer: Option<Prefer>,

    /// Verb: asks a person. Without `fields` and `url`, yes or no.
    elicit: Option<Prose>,
    /// Of `elicit`: what to fill in; flat.
    fields: Option<Shape>,
    /// Of `elicit`: a page to open instead.
    url: Option<String>,
    /// Of `elicit`: whether only a person may answer, or also whoever called us. By default `"human"`.
    by: Option<By>,

    /// Verb: reads a resource of this server.
    read: Option<String>,
    /// Of `read`: the resource's address; a template.
    uri: Option<String>,

    /// Verb: yields this value. Strings are templates.
    set: Option<Value>,

    /// Verb: waits for a time, or `until` a moment.
    wait: Option<Wait>,

    /// Verb: a block of steps.
    #[schemars(rename = "do")]
    block: Option<BTreeMap<String, Step>>,
    /// Of `do`: what the block yields. By default every inner step's output by its id.
    output: Option<BTreeMap<String, Value>>,

    /// Steps that must have succeeded before this one; only where no template uses them.
    needs: Option<Vec<String>>,
    /// Runs only if this is true.
    when: Option<Condition>,
    /// Runs once for each item: an expression that yields a list, or the list.
    for_each: Option<Items>,
    /// With `for_each`: what templates call the item. By default `item`.
    #[schemars(rename = "as", regex(pattern = r"^[a-z_][a-z0-9_]*$"))]
    item_name: Option<String>,
    /// With `for_each`: how many run at a time. By default 8.
    #[schemars(range(min = 1, max = 1000))]
    concurrency: Option<u32>,
    /// With `for_each`: how many may fail: a number, `"10%"`, or `"all"`. By default none.
    tolerate: Option<Tolerate>,
    /// Runs again until satisfied. Needs a bound: `max` or `within`.
    repeat: Option<Repeat>,
    /// Of `call`, `sample`, `read`: tries again after these failures.
    retry: Option<Retry>,
    /// Bound of one attempt; of a block, of the block.
    timeout: Option<Duration>,
    /// Fails the step when false; sees `output`.
    expect: Option<Condition>,
    /// What a failure means: the run fails, it goes on, or the step yields a `fallback`. By default `"fail"`.
    on_error: Option<OnError>,
    /// Of `call`: the call that takes it back when the run later fails or is cancelled.
    undo: Option<Undo>,
    /// Of `call`: what repeating it would do. By default what the tool's annotations say; of a tool without any, `"at_most_once"`.
    effects: Option<Effects>,
    /// Of `call`: what to do when nobody knows whether it happened. By default `"ask"`.
    on_doubt: Option<OnDoubt>,
}

/// Exactly one verb.
fn one_verb(schema: &mut Schema) {
    let verbs: Vec<_> = VERBS.iter().map(|verb| json!({ "required": [verb] })).collect();
    schema.insert("oneOf".to_owned(), Value::Array(verbs));
}

#[derive(JsonSchema)]
#[schemars(untagged)]
pub(super) enum OneOrMany {
    /// One.
    One(String),
    /// In order of preference.
    Many(#[schemars(length(min = 1))] Vec<String>),
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Example {
    /// What is asked.
    input: Value,
    /// What to answer.
    output: Value,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum By {
    Human,
    Anyone,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum Wait {
    /// For so long.
    For(Duration),
    /// Until a moment.
    Until(WaitUntil),
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct WaitUntil {
    /// A moment as RFC 3339 writes it, or an expression that yields one.
    until: String,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum Items {
    /// A bare expression that yields a list.
    Expression(String),
    /// The list itself.
    List(#[schemars(length(max = 1000))] Vec<Value>),
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum Tolerate {
    /// So many.
    Count(u32),
    /// So many in a hundred, or `"all"`.
    Percent(#[schemars(regex(pattern = r"^([0-9]{1,2}%|100%|all)$"))] String),
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, extend("anyOf" = [{ "required": ["max"] }, { "required": ["within"] }]))]
struct Repeat {
    /// Ends the loop when true; sees `output` and `round`.
    until: Option<Condition>,
    /// The most rounds.
    #[schemars(range(min = 1))]
    max: Option<u32>,
    /// The most time; it cuts an attempt short.
    within: Option<Duration>,
    /// Pause before each round but the first.
    every: Option<Duration>,
    /// What reaching the bound means: the step fails, or succeeds with its last output. By default `"fail"`.
    exhausted: Option<Exhausted>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum Exhausted {
    Fail,
    Last,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Retry {
    /// Attempts in all.
    #[schemars(range(min = 1, max = 100))]
    attempts: u32,
    /// Pause before the second attempt; it doubles each time. By default `"1s"`.
    backoff: Option<Duration>,
    /// Kinds of failure that are tried again. By default those that pass: `unavailable`, `timeout`, and `rpc` or, of a sample, `model`.
    on: Option<Vec<Kind>>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum Kind {
    Tool,
    Rpc,
    Unavailable,
    Timeout,
    InvalidOutput,
    Model,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum OnError {
    /// The run fails, or goes on.
    Word(OnErrorWord),
    /// The step succeeds with a value.
    Fallback(Fallback),
}

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum OnErrorWord {
    Fail,
    Continue,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Fallback {
    /// The value. Strings are templates.
    fallback: Value,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Undo {
    /// The tool: `"SERVER.TOOL"`.
    call: String,
    /// The arguments; templates see the step's `output`.
    with: Option<BTreeMap<String, Value>>,
    /// Tries again after these failures.
    retry: Option<Retry>,
    /// Bound of one attempt.
    timeout: Option<Duration>,
    /// What repeating it would do.
    effects: Option<Effects>,
    /// What to do when nobody knows whether it happened.
    on_doubt: Option<OnDoubt>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum Effects {
    ReadOnly,
    Idempotent,
    AtMostOnce,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum OnDoubt {
    Ask,
    Fail,
    Skip,
}

/// What a model should be like, in MCP's own words.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Prefer {
    /// Parts of names, the most wanted first: the first that a model's name contains decides.
    hints: Option<Vec<String>>,
    /// How much being cheap counts, 0 to 1.
    #[serde(rename = "costPriority")]
    #[schemars(range(min = 0.0, max = 1.0))]
    cost_priority: Option<f64>,
    /// How much being fast counts, 0 to 1.
    #[serde(rename = "speedPriority")]
    #[schemars(range(min = 0.0, max = 1.0))]
    speed_priority: Option<f64>,
    /// How much being capable counts, 0 to 1.
    #[serde(rename = "intelligencePriority")]
    #[schemars(range(min = 0.0, max = 1.0))]
    intelligence_priority: Option<f64>,
    /// Only models that run on this machine.
    local_only: Option<bool>,
}
