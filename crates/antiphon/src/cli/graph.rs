//! `graph`.

use std::path::PathBuf;

use antiphon_workflow::{dot, mermaid};
use clap::{Args, ValueEnum};

use super::print;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::project::Place;

/// Arguments of `graph`.
#[derive(Debug, Args)]
pub struct GraphArgs {
    /// The workflow file
    file: PathBuf,
    /// The language of the drawing
    #[arg(long, value_enum, default_value_t = Format::Mermaid)]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Mermaid,
    Dot,
}

/// Draws a workflow's steps.
pub fn graph(args: GraphArgs) -> Result<Exit, Fault> {
    let loaded = Place::of(&args.file)?.load_one()?;
    let drawing = match args.format {
        Format::Mermaid => mermaid(&loaded.workflow),
        Format::Dot => dot(&loaded.workflow),
    };
    print::line(drawing.trim_end())?;
    Ok(Exit::Ok)
}
