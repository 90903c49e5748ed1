//! `check`.

use std::path::PathBuf;

use antiphon_workflow::Diagnostic;
use clap::Args;
use miette::Report;

use super::print;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::project::{Place, is_config, shown};
use crate::ui;

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Workflow files, or folders of them [default: the current folder]
    paths: Vec<PathBuf>,
    /// Print the diagnostics as JSON: one a line
    #[arg(long)]
    json: bool,
}

/// Checks files. Starts nothing, asks nothing, needs no variables.
pub fn check(args: CheckArgs) -> Result<Exit, Fault> {
    let places = match args.paths.as_slice() {
        [] => vec![Place::here()?],
        paths => paths.iter().map(|path| Place::of(path)).collect::<Result<_, _>>()?,
    };
    let (mut files, mut agents) = (0, 0);
    let mut errors = 0;
    for place in places {
        let checked = place.load()?;
        let wanted = place.file.as_deref().map(shown);
        let about = |path: &str| wanted.as_ref().is_none_or(|wanted| wanted == path) || is_config(path.as_ref());
        let diagnostics: Vec<&Diagnostic> = checked.diagnostics.iter().filter(|one| about(one.path())).collect();
        let found = checked.project.workflows.values().filter(|workflow| about(&workflow.path)).count();
        let asked = checked.project.agents.values().filter(|agent| about(&agent.path)).count();
        if found + asked == 0 && diagnostics.is_empty() {
            return Err(place.broken(&checked));
        }
        files += found;
        agents += asked;
        errors += diagnostics.iter().filter(|one| one.is_error()).count();
        for diagnostic in diagnostics {
            match args.json {
                true => print::json(&diagnostic.to_json(), true)?,
                false => ui::note(format_args!("{:?}", Report::new(diagnostic.clone()))),
            }
        }
    }
    if !args.json {
        let agents = if agents == 0 { String::new() } else { format!("{}, ", count(agents, "agent")) };
        ui::note(format_args!("{}, {agents}{}", count(files, "sound workflow"), count(errors, "error")));
    }
    Ok(if errors == 0 { Exit::Ok } else { Exit::Usage })
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
