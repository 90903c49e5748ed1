//! `[serve]`.

use std::collections::BTreeMap;

use schemars::JsonSchema;

/// What `antiphon serve` offers beside the workflows.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Serve {
    /// Tools and prompts to pass through: `SERVER.NAME`, `*` stands for anything. `SERVER.*` is all that the server offers, with
    /// its resources. `!SERVER.NAME` takes away again. `SERVER.@read_only` (`@destructive`, `@idempotent`, `@open_world`) are the
    /// tools of which their annotations say so.
    expose: Option<Vec<Exposed>>,
    /// What their names begin with: `SERVER__` (`true`, the default), nothing (`false`), or this text.
    prefix: Option<NamePrefix>,
    /// What callers are told of tools instead of what their servers say, by `SERVER.TOOL`.
    tools: Option<BTreeMap<OneTool, Retold>>,
    /// Whether tools of servers are offered by two others, `find_tools` and `call_tool`: always, never (the default), or when there
    /// are more than this.
    compact: Option<Compact>,
    /// Whether callers can list, read and watch their runs as resources. By default they can.
    runs: Option<bool>,
    /// Whether workflows and agents are offered as prompts, too. By default they are.
    prompts: Option<bool>,
    /// Over HTTP: the issuer whose tokens callers must show. By default nobody's.
    auth: Option<Auth>,
}

/// An OAuth issuer whose access tokens (JWT) let callers in. Its addresses may hold `${VAR}` and `${VAR:-default}`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Auth {
    /// Who issues the tokens: their `iss`, exactly.
    issuer: String,
    /// Whom they are for: their `aud`, the URL by which callers reach Antiphon, such as `"https://antiphon.example.com/mcp"`.
    audience: String,
    /// Where the issuer's keys are (a JWK Set). By default, where its metadata says.
    jwks: Option<String>,
    /// Scopes that every token must have.
    required_scopes: Option<Vec<Scope>>,
    /// What each scope opens: patterns of workflows and agents by name, and `SERVER.NAME` of what is passed through; `*` stands for
    /// anything, and `SERVER.*` opens the server's resources, too. What no scope of a token opens is not there for its holder.
    /// Without this table, every token opens everything.
    scopes: Option<BTreeMap<Scope, Vec<String>>>,
}

/// Visible ASCII characters, without `"` and `\`.
#[derive(JsonSchema, PartialEq, Eq, PartialOrd, Ord)]
struct Scope(#[schemars(regex(pattern = r"^[!#-\[\]-~]+$"))] String);

/// `true`, `false`, or a text.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum NamePrefix {
    Flag(bool),
    Text(#[schemars(regex(pattern = r"^[A-Za-z0-9_.-]+$"))] String),
}

/// `SERVER.TOOL`, of one tool.
#[derive(JsonSchema, PartialEq, Eq, PartialOrd, Ord)]
struct OneTool(#[schemars(regex(pattern = r"^[^.*]+\.[^*]+$"))] String);

/// What callers are told of a tool.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Retold {
    /// Its whole name.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_.-]{1,128}$"))]
    name: Option<String>,
    /// What it is for.
    description: Option<String>,
}

/// `true`, `false`, or a number.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Compact {
    Flag(bool),
    Above(#[schemars(range(max = 1_000_000))] u32),
}

/// `SERVER.TOOL`.
#[derive(JsonSchema)]
struct Exposed(#[schemars(regex(pattern = r"\."))] String);
