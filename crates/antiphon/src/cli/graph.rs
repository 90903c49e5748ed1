//! `graph`.

use std::path::PathBuf;

use antiphon_workflow::{dot, mermaid, routes_dot, routes_mermaid};
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
    /// Draw who may turn to whom instead: workflows, agents, servers, models of the file's folder
    #[arg(long)]
    routes: bool,
    /// The language of the drawing
    #[arg(long, value_enum, default_value_t = Format::Mermaid)]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Mermaid,
    Dot,
}

/// Draws a workflow's steps, or a folder's routes.
pub fn graph(args: GraphArgs) -> Result<Exit, Fault> {
    let place = Place::of(&args.file)?;
    let drawing = match (args.routes, args.format) {
        (true, Format::Mermaid) => routes_mermaid(&place.load()?.project.routes),
        (true, Format::Dot) => routes_dot(&place.load()?.project.routes),
        (false, Format::Mermaid) => mermaid(&place.load_one()?.workflow),
        (false, Format::Dot) => dot(&place.load_one()?.workflow),
    };
    print::line(drawing.trim_end())?;
    Ok(Exit::Ok)
}
