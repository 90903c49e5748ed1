//! The plan: a checked workflow, lowered to what the kernel needs. No spans, no graph library, no prose.
//!
//! A run pins its whole plan (`Plan` serialises; its hash names it), so editing a file touches new runs only.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version of the kernel's rules. A run is only ever driven by the version that started it.
pub const KERNEL_VERSION: u32 = 2;

/// A workflow and every workflow that it calls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The [`KERNEL_VERSION`] that this plan was made for.
    pub kernel: u32,
    /// The name of the workflow that the run executes: a key of `workflows`.
    pub root: String,
    /// That workflow and all that it reaches, by name.
    pub workflows: BTreeMap<String, Workflow>,
    /// Bounds of the whole run.
    pub limits: Limits,
}

impl Plan {
    /// The key in [`Self::workflows`] of the one that a server calls when it calls something itself: its input is the `name` and the
    /// `arguments` of `tools/call`. Without one the server may call nothing.
    pub fn way_back(server: &str) -> String {
        format!("back:{server}")
    }
}

/// One workflow: a graph with a typed door.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Workflow {
    /// The tool's name.
    pub name: String,
    /// The agent that it is, if it is one: what people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// JSON Schema of the input: an object.
    pub input_schema: Value,
    /// JSON Schema of the output, when the file declares one.
    pub output_schema: Option<Value>,
    /// The steps.
    pub body: Graph,
}

/// Steps and what they amount to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Graph {
    /// The steps, in the order of the file.
    pub steps: Vec<Step>,
    /// What they amount to; `None` is the map from step id to output.
    pub output: Option<Output>,
}

/// What the steps of a graph amount to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// The declared `output` table. Entries that use what did not succeed are left out.
    Table(IndexMap<String, Expr>),
    /// What the first of these steps that succeeded left behind, as it is.
    Of(Vec<String>),
}

/// One node of the graph: a verb and its modifiers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// `[a-z_][a-z0-9_]*`, unique among its siblings and what is around them.
    pub id: String,
    /// What it does.
    pub verb: Verb,
    /// Steps that must have ended before this one starts: siblings, and steps of the blocks around it.
    pub deps: BTreeMap<String, Dep>,
    /// Runs only if this is true.
    pub when: Option<Expr>,
    /// Runs once for each item.
    pub for_each: Option<ForEach>,
    /// Runs again until satisfied.
    pub repeat: Option<Repeat>,
    /// How often one attempt may be tried again; `None` means the default of the call's effect class.
    pub retry: Option<Retry>,
    /// Bound of one attempt (of a block: of the block), in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Fails the iteration when false.
    pub expect: Option<Expr>,
    /// What a failure means to the block or run around it.
    pub on_error: OnError,
    /// A graph of exactly one `call` step, named `undo`, that takes this step's effect back.
    pub undo: Option<Box<Graph>>,
    /// The effect class that the file states, if it does.
    pub effects: Option<EffectClass>,
    /// What to do when an attempt's outcome is unknown.
    pub on_doubt: OnDoubt,
}

impl Step {
    /// A step without modifiers.
    pub fn plain(id: impl Into<String>, verb: Verb) -> Self {
        Self {
            id: id.into(),
            verb,
            deps: BTreeMap::new(),
            when: None,
            for_each: None,
            repeat: None,
            retry: None,
            timeout_ms: None,
            expect: None,
            on_error: OnError::default(),
            undo: None,
            effects: None,
            on_doubt: OnDoubt::default(),
        }
    }
}

/// How a step depends on another. All three order; only `uses` also needs success.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dep {
    /// It uses the other's value unguarded, or `needs` it: without success it is skipped.
    pub uses: bool,
    /// It asks how the other ended (`.status`, `.error`, `.action`): it may start although the run is failing.
    pub asks: bool,
}

/// The verbs. Nothing else touches the world.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// `call`: a server's tool or a workflow.
    Call {
        /// Whom.
        target: Target,
        /// The arguments: a map.
        with: Expr,
    },
    /// `sample`: models in order of fallback, then, if `caller`, whoever called us.
    Sample {
        /// Names of `[models]`, or `local`.
        models: Vec<String>,
        /// Ask the caller when the list is exhausted (or empty).
        caller: bool,
        /// The request: a map with `prompt` or `messages`, and `system`, `choose`, `schema`, `examples`, `max_tokens`, `temperature`.
        request: Expr,
        /// The most tokens that the answer may have: what the budget reserves.
        max_tokens: u64,
        /// The request has tools of servers: what these are is learnt, and counted, before it is made.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        tools: bool,
    },
    /// `elicit`: a question to a person.
    Elicit {
        /// The question.
        message: Expr,
        /// What kind of answer it wants.
        form: Form,
        /// Who may answer.
        by: By,
    },
    /// `read`: a resource.
    Read {
        /// The server.
        server: String,
        /// The resource's URI: a string.
        uri: Expr,
    },
    /// `set`: a value.
    Set {
        /// The value.
        value: Expr,
    },
    /// `wait`: for a time.
    Wait(Wait),
    /// `do`: a block.
    Do {
        /// Its steps.
        body: Graph,
    },
}

/// How long a `wait` step waits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    /// So many milliseconds.
    For(u64),
    /// Until this moment: an expression that yields an RFC 3339 time.
    Until(Expr),
}

/// What an elicitation asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// A plain yes or no: accepting yields `true`.
    Confirm,
    /// Fields: a JSON Schema object, flat, as `elicitation/create` wants it.
    Fields(Value),
    /// A page to open: an expression that yields its URL.
    Url(Expr),
}

/// Who may answer a question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// A person only, never a model's tool call.
    #[default]
    Human,
    /// Whoever called.
    Anyone,
}

/// Whom a `call` calls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Always the same.
    Fixed(Callee),
    /// One of a closed set, chosen by a template that yields a key of `among`.
    OneOf {
        /// Yields the key.
        choice: Expr,
        /// What each key means. Where both end with the same pattern, such as `files__read_*` with the tool `read_*` (`*` stands
        /// for anything), what is chosen in the pattern's place is the tool.
        among: BTreeMap<String, Callee>,
    },
}

impl Target {
    /// Whom a choice means; `None` when it is outside the set, so that no text can widen it.
    pub fn chosen(among: &BTreeMap<String, Callee>, choice: &str) -> Option<Callee> {
        if choice.contains('*') {
            return None;
        }
        let of_pattern = |(key, callee): (&String, &Callee)| match callee {
            Callee::Tool { server, tool: pattern } if pattern.contains('*') => {
                let tool = choice.strip_prefix(key.strip_suffix(pattern.as_str())?)?;
                fits(pattern, tool).then(|| Callee::Tool { server: server.clone(), tool: tool.to_owned() })
            }
            _ => None,
        };
        among.get(choice).cloned().or_else(|| among.iter().find_map(of_pattern))
    }
}

/// Whether a name fits a pattern, where `*` stands for anything.
pub fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((prefix, rest)) => name.strip_prefix(prefix).is_some_and(|name| {
            (0..=name.len()).filter(|at| name.is_char_boundary(*at)).any(|at| fits(rest, &name[at..]))
        }),
    }
}

/// Something that can be called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Callee {
    /// A tool of a server.
    Tool {
        /// A key of `[servers]`.
        server: String,
        /// The tool's own name.
        tool: String,
    },
    /// Another workflow of the plan: it runs inside this run, as a frame.
    Workflow {
        /// A key of [`Plan::workflows`].
        name: String,
    },
}

/// An expression or template, with what it reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Expr {
    /// The source.
    pub source: Source,
    /// Ids of the steps that it mentions.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub steps: BTreeSet<String>,
    /// Other names that it mentions: `input`, `item` (or its `as` name), `index`, `round`, `previous`, `output`, `run`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub vars: BTreeSet<String>,
}

/// What is evaluated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A JSON value as it stands.
    Literal(Value),
    /// A MiniJinja template; exactly one `{{ … }}` keeps its JSON type.
    Template(String),
    /// A bare MiniJinja expression.
    Expression(String),
    /// A list of these.
    List(Vec<Source>),
    /// A map of these.
    Map(IndexMap<String, Source>),
    /// A function of the kernel's own, which no template can name, applied to a map.
    Apply(Function, IndexMap<String, Source>),
}

/// The kernel's own functions: what agents are lowered to, beside steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Function {
    /// An agent's request: the map without what is null; with a `schema`, without the `examples`, which show texts.
    Request,
    /// What an agent's turn comes to. From `agent` (whose turn it was), `messages` (the conversation so far), `text` and `answer`
    /// (what its model said), `calls` (what it wants called), `results` and `errors` (of the calls, without the handoffs; none where
    /// nothing can be called), `handoffs` (whom each handoff's name means) and `max_result_tokens` (what of one result is kept) to
    /// `active` (whose turn is next), `messages`, `answer` and `done`.
    Turn,
}

/// `for_each`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForEach {
    /// Yields a list of at most [`ForEach::MAX_ITEMS`].
    pub items: Expr,
    /// The item's name (`as`).
    pub name: String,
    /// How many run at a time; at least 1.
    pub concurrency: u32,
    /// How many may fail.
    pub tolerate: Tolerate,
}

impl ForEach {
    /// The longest list that a `for_each` accepts.
    pub const MAX_ITEMS: usize = 1_000;
}

/// How many iterations may fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tolerate {
    /// None.
    #[default]
    None,
    /// So many.
    Count(u32),
    /// So many in a hundred, 0..=100.
    Percent(u8),
    /// All of them.
    All,
    /// All, as long as the run is within its limits: what an agent's calls may do.
    WithinLimits,
}

/// `repeat`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Repeat {
    /// Ends the loop when true; sees `output` and `round`.
    pub until: Option<Expr>,
    /// The most rounds.
    pub max: Option<u32>,
    /// The most time, in milliseconds, over all rounds; it cuts an attempt short.
    pub within_ms: Option<u64>,
    /// Pause before each round but the first, in milliseconds.
    pub every_ms: Option<u64>,
    /// What reaching a bound means.
    pub exhausted: Exhausted,
}

/// What a `repeat` does at its bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exhausted {
    /// Fail, with kind `exhausted`.
    #[default]
    Fail,
    /// Succeed with the last round's output.
    Last,
}

/// `retry`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Retry {
    /// Attempts in all, at least 1.
    pub attempts: u32,
    /// Pause before the second attempt, in milliseconds; it doubles each time, up to a minute.
    pub backoff_ms: u64,
    /// Kinds of failure that are tried again.
    pub on: BTreeSet<ErrorKind>,
}

/// What a step's failure means to what surrounds it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// The block or run fails.
    #[default]
    Fail,
    /// It goes on; the step stays failed.
    Continue,
    /// The step succeeds with this value; `.error` still tells.
    Fallback(Expr),
}

/// What a step does when it can't know whether its call happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDoubt {
    /// Ask a person: retry, skip, or give its result.
    #[default]
    Ask,
    /// Fail with kind `in_doubt`.
    Fail,
    /// Skip the step.
    Skip,
}

/// What repeating a call could do to the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectClass {
    /// Changes nothing.
    ReadOnly,
    /// The second time changes nothing more.
    Idempotent,
    /// Must not be repeated unasked.
    AtMostOnce,
}

/// The kinds of failure, as `retry.on` and `.error.kind` spell them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The tool said so (`isError`).
    Tool,
    /// A JSON-RPC error.
    Rpc,
    /// The server can't be reached, or the connection was lost.
    Unavailable,
    /// No answer in time.
    Timeout,
    /// The answer does not have the shape that was asked for.
    InvalidOutput,
    /// The model failed.
    Model,
    /// An expression failed.
    Template,
    /// An `expect` was false.
    Expect,
    /// A `repeat` reached its bound.
    Exhausted,
    /// A limit of the run was reached.
    Budget,
    /// Not allowed, or declined.
    Denied,
    /// It may have happened.
    InDoubt,
}

impl ErrorKind {
    /// The kind as the workflow language spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tool => "tool",
            Self::Rpc => "rpc",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::InvalidOutput => "invalid_output",
            Self::Model => "model",
            Self::Template => "template",
            Self::Expect => "expect",
            Self::Exhausted => "exhausted",
            Self::Budget => "budget",
            Self::Denied => "denied",
            Self::InDoubt => "in_doubt",
        }
    }
}

/// `[limits]` of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Tokens of all samples, prompts and answers.
    pub tokens: u64,
    /// Money, in US dollars.
    pub cost_usd: Option<f64>,
    /// Calls and samples dispatched, retries included.
    pub calls: u64,
    /// Nesting of workflows; the root is 1.
    pub depth: u32,
    /// Working time, in milliseconds; waiting for people, timers and polls is free.
    pub duration_ms: u64,
    /// What reaching `tokens`, `cost_usd`, `calls` or `duration_ms` means.
    #[serde(default)]
    pub mode: LimitMode,
}

/// What reaching a limit means. Nesting ends at `depth` in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitMode {
    /// What would go beyond it fails.
    #[default]
    Enforce,
    /// The run goes on, and shows it.
    Audit,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            tokens: 200_000,
            cost_usd: None,
            calls: 1_000,
            depth: 4,
            duration_ms: 3_600_000,
            mode: LimitMode::default(),
        }
    }
}

impl Verb {
    /// Every expression of the verb itself.
    pub fn exprs(&self) -> Vec<&Expr> {
        match self {
            Self::Call { target: Target::Fixed(_), with } => vec![with],
            Self::Call { target: Target::OneOf { choice, .. }, with } => vec![choice, with],
            Self::Sample { request, .. } => vec![request],
            Self::Elicit { message, form: Form::Url(url), .. } => vec![message, url],
            Self::Elicit { message, .. } => vec![message],
            Self::Read { uri, .. } => vec![uri],
            Self::Set { value } => vec![value],
            Self::Wait(Wait::Until(until)) => vec![until],
            Self::Wait(Wait::For(_)) | Self::Do { .. } => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Callee, Target, fits};

    #[test]
    fn patterns() {
        assert!(fits("fetch_*", "fetch_page"));
        assert!(fits("*", ""));
        assert!(fits("a*c*e", "abcde"));
        assert!(!fits("a*c", "abcd"));
        assert!(!fits("fetch", "fetch_page"));
    }

    #[test]
    fn a_choice_means_what_was_granted_and_nothing_else() {
        let tool = |server: &str, tool: &str| Callee::Tool { server: server.to_owned(), tool: tool.to_owned() };
        let among = BTreeMap::from([
            ("files__read_*".to_owned(), tool("own/files", "read_*")),
            ("mail__send".to_owned(), tool("mail", "send")),
            ("triage".to_owned(), Callee::Workflow { name: "triage".to_owned() }),
        ]);
        assert_eq!(Target::chosen(&among, "files__read_text"), Some(tool("own/files", "read_text")));
        assert_eq!(Target::chosen(&among, "mail__send"), Some(tool("mail", "send")));
        assert_eq!(Target::chosen(&among, "triage"), Some(Callee::Workflow { name: "triage".to_owned() }));
        for outside in ["files__write", "files__read_*", "files__*", "mail__send_all", "read_text", "files__", "*", ""]
        {
            assert_eq!(Target::chosen(&among, outside), None, "{outside}");
        }
    }
}
