//! `schema`.

use clap::{Args, ValueEnum};

use super::print;
use crate::exit::Exit;
use crate::fault::Fault;

/// Arguments of `schema`.
#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// Of which file
    #[arg(value_enum, default_value_t = Kind::Workflow)]
    kind: Kind,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// A workflow file
    Workflow,
    /// `antiphon.toml`
    Project,
}

/// Prints a JSON Schema.
pub fn schema(args: SchemaArgs) -> Result<Exit, Fault> {
    let schema = match args.kind {
        Kind::Workflow => antiphon_workflow::json_schema(),
        Kind::Project => antiphon_workflow::config_schema(),
    };
    print::json(&schema, false)?;
    Ok(Exit::Ok)
}
