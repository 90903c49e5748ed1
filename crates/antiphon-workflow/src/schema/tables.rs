//! `[servers]`, `[models]`, `[task]`, `[limits]`.

use std::collections::BTreeMap;

use schemars::JsonSchema;

/// A duration: a number and a unit, such as `"250ms"`, `"2s"`, `"1m"`, `"8h"`, `"1d"`.
#[derive(JsonSchema)]
pub(super) struct Duration(#[schemars(regex(pattern = r"^[0-9]+(ms|s|m|h|d)$"))] String);

/// An MCP server: a child process (`command`) or an address (`url`). Its texts may hold `${VAR}` and `${VAR:-default}`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["command"] }, { "required": ["url"] }]))]
pub(super) struct Server {
    /// The program to start.
    command: Option<String>,
    /// Its arguments.
    args: Option<Vec<String>>,
    /// Variables that it gets. Kept out of logs, errors and traces.
    env: Option<BTreeMap<String, String>>,
    /// The folder that it runs in, relative to the project's.
    cwd: Option<String>,
    /// The address of a streamable HTTP server.
    url: Option<String>,
    /// Headers of every request. Kept out of logs, errors and traces.
    headers: Option<BTreeMap<String, String>>,
    /// How to get a token for the server at a `url`: `"oauth"`, with a login (`antiphon login NAME`), or a table that says more.
    auth: Option<ServerAuth>,
    /// Patterns of the tools that may be called; `*` stands for anything. By default all.
    allow: Option<Vec<String>>,
    /// Whether only those tools may be called whose annotations say that they change nothing (`readOnlyHint`). By default all.
    read_only: Option<bool>,
    /// How long it may be silent during a call; progress resets it. By default `"60s"`; if longer, its start may take as long, too.
    timeout: Option<Duration>,
    /// Whether all runs share one connection, or each has its own. By default they share it, but for a server that may call
    /// something itself (`grants`), and one that may ask people or models and speaks a protocol in which its questions would not say
    /// whose they are (before 2026-07-28).
    session: Option<Session>,
    /// What it may call in the middle of its calls: tools (`SERVER.TOOL`, where `*` stands for anything), agents, workflows. It is told
    /// how by `ANTIPHON_MCP_URL` and `ANTIPHON_MCP_TOKEN`. By default nothing.
    grants: Option<Vec<String>>,
    /// What it may ask of models, by MCP or by the OpenAI-compatible endpoint that it is told of. By default nothing.
    sampling: Option<Sampling>,
    /// Whether it may ask people. By default not.
    elicitation: Option<Elicitation>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum ServerAuth {
    Word(OAuth),
    Table(OAuthTable),
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum OAuth {
    OAuth,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct OAuthTable {
    /// On whose word: a person's, who logs in, or the client's own. By default a person's.
    grant: Option<Grant>,
    /// The client that the authorization server knows. By default Antiphon registers itself.
    client_id: Option<String>,
    /// The client's secret, usually `"${SOME_SECRET}"`. Kept out of logs, errors and traces.
    client_secret: Option<String>,
    /// What to ask for. By default what the server says that it needs.
    scopes: Option<Vec<String>>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum Grant {
    AuthorizationCode,
    ClientCredentials,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum Session {
    Shared,
    PerRun,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum Consent {
    Allow,
    Ask,
    Deny,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Sampling {
    /// Whether it may: always, after a person has agreed, or not.
    consent: Consent,
    /// The models that may answer, in order of preference; `"auto"` leaves it to what the request prefers, `"caller"` asks whoever
    /// called us. By default `["auto"]`.
    models: Option<Vec<String>>,
    /// What it may use in one run.
    limits: Option<SamplingLimits>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct SamplingLimits {
    /// The most tokens.
    #[schemars(range(min = 1))]
    tokens: Option<u64>,
    /// The most requests.
    #[schemars(range(min = 1))]
    calls: Option<u64>,
    /// The most requests in one call. By default 10.
    #[schemars(range(min = 1))]
    rounds: Option<u32>,
    /// The most money, in US dollars.
    #[schemars(range(min = 0.0))]
    cost_usd: Option<f64>,
    /// The most time that models work for it. Waiting for the caller's model is free.
    duration: Option<Duration>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Elicitation {
    /// Whether it may: always, after a person has agreed, or not.
    consent: Consent,
}

/// A model behind an OpenAI-compatible endpoint. Its texts may hold `${VAR}` and `${VAR:-default}`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Model {
    /// The address, without `/chat/completions`.
    base_url: String,
    /// The model's name there.
    model: String,
    /// The key, usually `"${SOME_API_KEY}"`. Kept out of logs, errors and traces.
    api_key: Option<String>,
    /// Headers of every request. Kept out of logs, errors and traces.
    headers: Option<BTreeMap<String, String>>,
    /// The longest prompt and answer together, in tokens.
    #[schemars(range(min = 1))]
    context: Option<u64>,
    /// How long it may be silent, before its answer begins and within it. By default `"120s"`.
    timeout: Option<Duration>,
    /// How many of its answers are under way at a time; the rest wait. By default 8.
    #[schemars(range(min = 1, max = 1_000))]
    concurrency: Option<u32>,
    /// How many requests it is sent in any minute; the rest wait. By default as many as there are.
    #[schemars(range(min = 1))]
    requests_per_minute: Option<u32>,
    /// How expensive it is, 0 to 1, for `modelPreferences`.
    #[schemars(range(min = 0.0, max = 1.0))]
    cost: Option<f64>,
    /// How fast it is, 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    speed: Option<f64>,
    /// How capable it is, 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    intelligence: Option<f64>,
    /// What tokens cost: what `cost_usd` limits are counted with.
    price: Option<Price>,
}

/// US dollars per million tokens.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Price {
    /// Of prompts.
    #[schemars(range(min = 0.0))]
    input: f64,
    /// Of answers.
    #[schemars(range(min = 0.0))]
    output: f64,
}

/// When a run is handed out as a task.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Task {
    /// `"auto"`: when it takes longer than `inline_wait` or needs input; `"always"`: at once; `"never"`. By default `"auto"`.
    mode: Option<Mode>,
    /// How long a caller waits for the result itself. By default `"2s"`.
    inline_wait: Option<Duration>,
    /// How long a finished run is kept, from its end. By default `"24h"`.
    ttl: Option<Duration>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum Mode {
    Auto,
    Always,
    Never,
}

/// Bounds of a run. Waiting for people, timers and polls is free.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Limits {
    /// Tokens of all samples, prompts and answers.
    #[schemars(range(min = 1))]
    tokens: Option<u64>,
    /// Money, in US dollars.
    #[schemars(range(min = 0.0))]
    cost_usd: Option<f64>,
    /// Calls and samples, retries included.
    #[schemars(range(min = 1))]
    calls: Option<u64>,
    /// Nesting of workflows; the first is 1.
    #[schemars(range(min = 1, max = 64))]
    depth: Option<u32>,
    /// Working time.
    duration: Option<Duration>,
    /// What reaching a limit means. `"enforce"`: what would go beyond it fails; `"audit"`: the run goes on, and shows it.
    /// Nesting ends at `depth` in any case. By default `"enforce"`.
    mode: Option<LimitMode>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum LimitMode {
    Enforce,
    Audit,
}
