//! `[serve]`.

use schemars::JsonSchema;

/// What `antiphon serve` offers beside the workflows.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Serve {
    /// Tools and prompts to pass through: `SERVER.NAME`, `*` stands for anything. `SERVER.*` is all that the server offers, with
    /// its resources.
    expose: Option<Vec<Exposed>>,
    /// What their names begin with: `SERVER__` (`true`, the default), nothing (`false`), or this text.
    prefix: Option<NamePrefix>,
}

/// `true`, `false`, or a text.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum NamePrefix {
    Flag(bool),
    Text(#[schemars(regex(pattern = r"^[A-Za-z0-9_.-]+$"))] String),
}

/// `SERVER.TOOL`.
#[derive(JsonSchema)]
struct Exposed(#[schemars(regex(pattern = r"\."))] String);
