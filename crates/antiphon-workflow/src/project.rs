//! What loading yields: the workflows of a folder, and the servers, models and rules that they use.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use antiphon_kernel::{self as plan, Plan, fits};
use serde_json::Value;

use crate::auth::AuthDef;
use crate::diagnostic::Diagnostic;
use crate::graph::StepGraph;
use crate::routes::RouteGraph;

/// A file, as its reader found it.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// Where it is: shown in diagnostics, and what `{ file = "…" }` is relative to.
    pub path: String,
    /// What it says.
    pub text: String,
}

/// Reads a file that a workflow mentions (`prompt = { file = "…" }`, a schema); the path is already relative to the
/// workflow file's own folder. The error is for people.
pub type ReadFile<'a> = dyn Fn(&str) -> Result<String, String> + 'a;

/// What to load.
pub struct Sources<'a> {
    /// The workflow files of one folder.
    pub workflows: Vec<SourceFile>,
    /// The `antiphon.toml`s that apply: the folder's own first, then upwards.
    pub configs: Vec<SourceFile>,
    /// Reads what the files mention.
    pub read: &'a ReadFile<'a>,
}

/// What was loaded, and what is to be said about it.
#[derive(Debug)]
pub struct Checked {
    /// All that has no error. A broken workflow is left out, and so are those that call it.
    pub project: Project,
    /// Errors, warnings and information, by file and place.
    pub diagnostics: Vec<Diagnostic>,
}

impl Checked {
    /// Whether anything is an error.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }
}

/// A folder's workflows and what they use.
#[derive(Debug, Default)]
pub struct Project {
    /// Workflows by name.
    pub workflows: BTreeMap<String, Workflow>,
    /// Agents as workflows, by key: `ask_NAME` for those of an `antiphon.toml`, `WORKFLOW/ask_NAME` for a workflow's own.
    pub agents: BTreeMap<String, Workflow>,
    /// Servers by key: `NAME` for those of an `antiphon.toml`, `WORKFLOW/NAME` for a workflow's own. Plans use these keys.
    pub servers: BTreeMap<String, ServerDef>,
    /// What those of them with `grants` may call.
    pub ways_back: BTreeMap<String, WayBack>,
    /// Models by key, likewise.
    pub models: BTreeMap<String, ModelDef>,
    /// `[serve]`.
    pub serve: ServeDef,
    /// Who may call whom, and which model answers whose sampling.
    pub routes: RouteGraph,
}

/// A workflow, or an agent as one: checked, and ready to run.
#[derive(Clone, Debug)]
pub struct Workflow {
    /// The tool's name.
    pub name: String,
    /// The agent's name, if it is one.
    pub agent: Option<String>,
    /// The file.
    pub path: String,
    /// What it is for.
    pub description: Option<String>,
    /// The plan that a run of it executes: itself and all that it calls.
    pub plan: Arc<Plan>,
    /// JSON Schema of the input: an object.
    pub input_schema: Value,
    /// JSON Schema of the output, if the file has one.
    pub output_schema: Option<Value>,
    /// How it is served as a task.
    pub task: TaskPolicy,
    /// Whether every call, also of the workflows that it calls, is declared `read_only`.
    pub read_only: bool,
    /// Keys of the servers that it may use, also through the workflows that it calls.
    pub servers_used: BTreeSet<String>,
    /// Keys of the models, likewise; `local` is the embedded one.
    pub models_used: BTreeSet<String>,
    /// Whether it may ask: an `elicit`, or a `sample` that goes to the caller.
    pub asks: bool,
    /// Its steps, for people.
    pub graph: StepGraph,
}

/// `[task]`: when a run of the workflow becomes a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskPolicy {
    /// When at all.
    pub mode: TaskMode,
    /// How long a caller waits for the result itself before it gets a handle.
    pub inline_wait: Duration,
    /// How long a finished run is kept, from its end.
    pub ttl: Duration,
}

impl Default for TaskPolicy {
    fn default() -> Self {
        Self { mode: TaskMode::Auto, inline_wait: Duration::from_secs(2), ttl: Duration::from_secs(24 * 60 * 60) }
    }
}

/// `task.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskMode {
    /// When it takes longer than `inline_wait`, or needs input.
    Auto,
    /// At once.
    Always,
    /// Never: the result comes inline.
    Never,
}

/// `[servers.NAME]`: an MCP server to connect to. Its texts may hold `${VAR}`; see [`crate::env`].
#[derive(Clone, Debug, PartialEq)]
pub struct ServerDef {
    /// The file that defines it.
    pub path: String,
    /// How to reach it.
    pub transport: Transport,
    /// Patterns of the tools that may be called (`*` stands for anything); `None` means all.
    pub allow: Option<Vec<String>>,
    /// Only tools whose annotations say that they change nothing may be called.
    pub read_only: bool,
    /// How long it may be silent during a call; progress resets it.
    pub timeout: Duration,
    /// Who shares a connection; `None` leaves it to what the server does.
    pub session: Option<Session>,
    /// What it may ask of models; `None` means nothing.
    pub sampling: Option<SamplingGrant>,
    /// Whether it may ask people.
    pub elicitation: Consent,
}

impl ServerDef {
    /// Whether `allow` lets a tool be called.
    pub fn allows(&self, tool: &str) -> bool {
        self.allow.as_ref().is_none_or(|patterns| patterns.iter().any(|pattern| fits(pattern, tool)))
    }
}

/// `grants` of a server: what it may call in the middle of its calls.
#[derive(Clone, Debug, Default)]
pub struct WayBack {
    /// What it is told that it may call, as an agent's model is: objects of `name`, `description`, `input_schema`; of servers'
    /// tools `server`, `tool`, `name`.
    pub tools: Vec<Value>,
    /// What a plan needs in which the server is called.
    pub workflows: BTreeMap<String, plan::Workflow>,
    /// Keys of the servers that it may come to use.
    pub servers_used: BTreeSet<String>,
    /// Keys of the models, likewise.
    pub models_used: BTreeSet<String>,
}

/// How a server is reached.
#[derive(Clone, Debug, PartialEq)]
pub enum Transport {
    /// A child process.
    Stdio {
        /// The program.
        command: String,
        /// Its arguments.
        args: Vec<String>,
        /// Variables that it gets.
        env: BTreeMap<String, String>,
        /// Where it runs; relative to the project's folder.
        cwd: Option<String>,
    },
    /// A streamable HTTP endpoint.
    Http {
        /// Its address.
        url: String,
        /// Headers of every request.
        headers: BTreeMap<String, String>,
        /// How to get a token for it, if it wants one.
        auth: Option<OAuthDef>,
    },
}

/// `auth` of a server: how Antiphon becomes an OAuth client of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OAuthDef {
    /// On whose word it is let in.
    pub grant: Grant,
    /// The client that the authorization server knows; without one, Antiphon registers itself.
    pub client_id: Option<String>,
    /// The client's secret.
    pub client_secret: Option<String>,
    /// What to ask for; empty leaves it to what the server says that it needs.
    pub scopes: Vec<String>,
}

/// `grant` of [`OAuthDef`], in the words of RFC 6749.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Grant {
    /// A person's, who logs in.
    #[default]
    AuthorizationCode,
    /// The client's own: nobody logs in.
    ClientCredentials,
}

/// `session` of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// All runs share one connection.
    Shared,
    /// Each run has its own.
    PerRun,
}

/// Whether a server may ask for something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consent {
    /// Yes.
    Allow,
    /// After a person has agreed, once a run.
    Ask,
    /// No.
    #[default]
    Deny,
}

/// `sampling` of a server.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingGrant {
    /// Whether it may.
    pub consent: Consent,
    /// Keys of the models that may answer, in order of preference; `auto` leaves it to the request, `caller` is whoever called us.
    pub models: Vec<String>,
    /// The most tokens that it may use in one run.
    pub tokens: Option<u64>,
    /// The most requests that it may make in one run.
    pub calls: Option<u64>,
    /// The most requests that it may make in one call.
    pub rounds: Option<u32>,
    /// The most money that its requests may cost in one run, in US dollars.
    pub cost_usd: Option<f64>,
    /// For how long models may work for it in one run.
    pub duration: Option<Duration>,
}

/// `[models.NAME]`: an OpenAI-compatible endpoint. Its texts may hold `${VAR}`; see [`crate::env`].
#[derive(Clone, Debug, PartialEq)]
pub struct ModelDef {
    /// The file that defines it.
    pub path: String,
    /// The address, up to and without `/chat/completions`.
    pub base_url: String,
    /// The model's name there.
    pub model: String,
    /// The key.
    pub api_key: Option<String>,
    /// Headers of every request.
    pub headers: BTreeMap<String, String>,
    /// The longest prompt and answer together, in tokens.
    pub context: Option<u64>,
    /// How long it may be silent, before its answer begins and within it.
    pub timeout: Option<Duration>,
    /// How many of its samples run at a time; the rest wait.
    pub concurrency: Option<NonZeroU32>,
    /// How many requests it is sent in any minute; the rest wait.
    pub requests_per_minute: Option<NonZeroU32>,
    /// How expensive it is, 0..=1, for `modelPreferences`.
    pub cost: Option<f64>,
    /// How fast, 0..=1.
    pub speed: Option<f64>,
    /// How capable, 0..=1.
    pub intelligence: Option<f64>,
    /// What tokens cost, for `cost_usd` budgets.
    pub price: Option<Price>,
}

/// `price` of a model, in US dollars per million tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price {
    /// Of prompts.
    pub input: f64,
    /// Of answers.
    pub output: f64,
}

/// `[serve]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ServeDef {
    /// Patterns `SERVER.NAME` of the tools and prompts to pass through; `SERVER.*` is all that the server offers. One that begins
    /// with `!` takes away again. `SERVER.@WORD` are the tools of which their annotations say so.
    pub expose: Vec<String>,
    /// What their names begin with.
    pub prefix: Prefix,
    /// What callers are told of tools instead of what their servers say, by `SERVER.TOOL`.
    pub tools: BTreeMap<String, Retold>,
    /// More tools than this are offered by two that find and call them.
    pub compact_above: Option<usize>,
    /// Whether runs are offered as resources.
    pub runs: bool,
    /// Whether workflows are offered as prompts, too.
    pub prompts: bool,
    /// Who may come in over HTTP; `None` leaves it to the command line.
    pub auth: Option<AuthDef>,
}

impl Default for ServeDef {
    fn default() -> Self {
        let (expose, prefix, tools) = Default::default();
        Self { expose, prefix, tools, compact_above: None, runs: true, prompts: true, auth: None }
    }
}

impl ServeDef {
    /// The patterns of a server's own names that are passed through, and taken away.
    pub fn of_server(&self, server: &str) -> Vec<String> {
        let split = self.expose.iter().filter_map(|pattern| {
            let (sign, pattern) = sign(pattern);
            let (named, own) = pattern.split_once('.')?;
            fits(named, server).then(|| format!("{sign}{own}"))
        });
        split.collect()
    }

    /// Whether a tool may be passed through, as far as its name tells.
    pub(crate) fn may_pass(&self, server: &str, tool: &str) -> bool {
        let patterns = self.of_server(server);
        let taken = patterns.iter().filter_map(|pattern| pattern.strip_prefix('!')).any(|pattern| fits(pattern, tool));
        !taken && patterns.iter().any(|pattern| pattern.starts_with('@') || fits(pattern, tool))
    }

    /// What is said of a server's tools, by its own names.
    pub fn retold(&self, server: &str) -> BTreeMap<String, Retold> {
        let own = self.tools.iter().filter_map(|(tool, retold)| Some((tool.strip_prefix(server)?, retold)));
        own.filter_map(|(own, retold)| Some((own.strip_prefix('.')?.to_owned(), retold.clone()))).collect()
    }
}

/// The `!` of a pattern that takes away, and the rest.
pub(crate) fn sign(pattern: &str) -> (&str, &str) {
    pattern.split_at(usize::from(pattern.starts_with('!')))
}

/// `[serve.tools."SERVER.TOOL"]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retold {
    /// Its whole name.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
}

/// `prefix` of `[serve]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Prefix {
    /// `true`: `SERVER__`.
    #[default]
    Server,
    /// `false`: nothing.
    None,
    /// This text.
    Text(String),
}

impl Prefix {
    /// What the names of this server's tools begin with.
    pub fn of_server(&self, server: &str) -> String {
        match self {
            Self::Server => format!("{server}__"),
            Self::None => String::new(),
            Self::Text(text) => text.clone(),
        }
    }
}
