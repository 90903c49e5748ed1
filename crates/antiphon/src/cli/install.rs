//! `install`: Antiphon in a host's file.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use antiphon_workflow::env::variables;
use clap::Args;
use dialoguer::Confirm;
use dialoguer::console::Term;

use super::export::EntryArgs;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::hosts::diff::diff;
use crate::hosts::entry::Entry;
use crate::hosts::file::{self, Text};
use crate::hosts::{Dirs, Host, Scope};
use crate::project::{Place, shown};
use crate::trust::{self, Trust};
use crate::ui;

/// Arguments of `install`.
#[derive(Debug, Args)]
pub struct InstallArgs {
    /// Into which host
    #[arg(value_enum)]
    host: Host,
    /// For this project alone: in the host's file in the project's folder
    #[arg(long, conflicts_with = "user")]
    project: bool,
    /// For all that this user opens [the default]
    #[arg(long)]
    user: bool,
    /// Take it out again
    #[arg(long)]
    undo: bool,
    /// Do it without asking
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    entry: EntryArgs,
}

/// Puts Antiphon into a host's file, or takes it out. Asks first.
pub fn install(args: InstallArgs) -> Result<Exit, Fault> {
    let places = args.entry.places()?;
    let scope = if args.project { Scope::Project } else { Scope::User };
    let here = Target::of(args.host, scope, &places)?;
    if args.undo {
        return take_out(&here, args.entry.name(), args.yes);
    }
    let entry = args.entry.entry(&places)?;
    let value = entry.value(args.host);
    let there = entry.present(args.host, &here.text);
    if there.as_ref() == Some(&value) {
        ui::note(format_args!("{} has it already: `{}` in {}", args.host.title(), entry.name, shown(&here.path)));
        return Ok(Exit::Ok);
    }
    let changed = entry.put(args.host, &here.text, &value).ok_or_else(|| here.unfit(&entry))?;
    here.propose(&changed, if there.is_some() { "Change it so?" } else { "Put it there?" }, args.yes)?;
    let backup = file::backup(&here.path, &entry.name);
    // While the entry is there, the backup says how the file was before it was.
    if there.is_none()
        && let Some(before) = &here.bytes
    {
        file::replace(&backup, file::read(&backup)?.as_deref(), before)?;
        let kept = fs::metadata(&here.path).and_then(|like| fs::set_permissions(&backup, like.permissions()));
        kept.map_err(|e| Fault::internal(format!("can't protect {}: {e}", shown(&backup))))?;
    }
    file::replace(&here.path, here.bytes.as_deref(), &here.text.bytes(&changed))?;
    ui::note(format_args!("written to {}; restart {} to see it", shown(&here.path), args.host.title()));
    if here.bytes.is_some() && there.is_none() {
        ui::note(format_args!("as it was: {}", shown(&backup)));
    }
    advise(&places, &args.entry);
    Ok(Exit::Ok)
}

fn take_out(here: &Target, name: &str, yes: bool) -> Result<Exit, Fault> {
    let entry = Entry { name: name.to_owned(), command: String::new(), args: Vec::new() };
    let Some(value) = entry.present(here.host, &here.text) else {
        ui::note(format_args!("{} has no `{name}` in {}", here.host.title(), shown(&here.path)));
        return Ok(Exit::Ok);
    };
    let backup = file::backup(&here.path, name);
    let before = file::read(&backup)?;
    // Nothing else has changed since? Then the file becomes what it was, to the byte; or goes, if it was not there.
    let was = match &before {
        Some(before) => Text::of(before.clone(), here.host.syntax(), &backup).ok(),
        None => Some(Text::empty()),
    };
    let exact = was.filter(|was| {
        let again = entry.put(here.host, was, &value).map(|again| was.bytes(&again));
        again.as_deref() == here.bytes.as_deref()
    });
    if exact.is_some() && before.is_none() {
        here.propose("", "Delete the file, which has nothing else in it?", yes)?;
        fs::remove_file(&here.path)
            .map_err(|e| Fault::usage(format!("can't delete {}: {e}", shown(&here.path)), "delete it by hand"))?;
        ui::note(format_args!("{} is gone, as it was before", shown(&here.path)));
        return Ok(Exit::Ok);
    }
    let restored = exact.is_some();
    let changed = match exact {
        Some(was) => was.text,
        None => entry.taken_out(here.host, &here.text).ok_or_else(|| here.unfit(&entry))?,
    };
    here.propose(&changed, "Take it out?", yes)?;
    let bytes = match &before {
        Some(before) if restored => before.clone(),
        _ => here.text.bytes(&changed),
    };
    file::replace(&here.path, here.bytes.as_deref(), &bytes)?;
    ui::note(format_args!("taken out of {}", shown(&here.path)));
    match before {
        // It has been put back; one that can't be removed is only litter.
        Some(_) if restored => drop(fs::remove_file(&backup)),
        Some(_) => ui::note(format_args!("the file has changed since; as it was before: {}", shown(&backup))),
        None => {}
    }
    Ok(Exit::Ok)
}

/// A host's file.
struct Target {
    host: Host,
    path: PathBuf,
    bytes: Option<Vec<u8>>,
    text: Text,
}

impl Target {
    fn of(host: Host, scope: Scope, places: &[Place]) -> Result<Self, Fault> {
        let path = match (scope, places.first()) {
            (Scope::Project, Some(place)) => crate::hosts::of_project(host, &place.root).ok_or_else(|| {
                Fault::usage(format!("{} has no file for a project alone", host.title()), "leave --project out")
            })?,
            _ => Dirs::here()?.user(host),
        };
        let bytes = file::read(&path)?;
        let text = match &bytes {
            Some(bytes) => Text::of(bytes.clone(), host.syntax(), &path)?,
            None => Text::empty(),
        };
        Ok(Self { host, path, bytes, text })
    }

    /// Shows what would change, and asks.
    fn propose(&self, changed: &str, question: &str, yes: bool) -> Result<(), Fault> {
        let new = if self.bytes.is_none() { " (a new file)" } else { "" };
        ui::note(format_args!("{}: {}{new}\n{}", self.host.title(), shown(&self.path), diff(&self.text.text, changed)));
        if yes {
            return Ok(());
        }
        if !ui::can_ask() {
            return Err(Fault::usage("there is nobody to ask; nothing was written", "pass --yes if you want this"));
        }
        let answer = Confirm::new().with_prompt(question).default(true).interact_on(&Term::stderr());
        match answer.map_err(|e| Fault::internal(format!("can't ask on this terminal: {e}")))? {
            true => Ok(()),
            false => Err(Fault::usage("nothing was written", "`antiphon export` prints the block, to paste by hand")),
        }
    }

    /// The file's shape is not one that an entry can be put into.
    fn unfit(&self, entry: &Entry) -> Fault {
        Fault::usage(
            format!(
                "{} can't be changed in place: its `{}` is not written as expected",
                shown(&self.path),
                self.host.key()
            ),
            format!(
                "nothing was written; `{}` has to be edited by hand (`antiphon export {}`)",
                entry.name,
                self.host.word()
            ),
        )
    }
}

/// What would keep the host from using it: commands that nobody has agreed to, variables that it may not have.
fn advise(places: &[Place], args: &EntryArgs) {
    let mut lines = Vec::new();
    let mut needed = BTreeSet::new();
    let mut store = None;
    for place in places {
        let Ok(checked) = place.load() else { continue };
        let servers: BTreeSet<String> =
            checked.project.workflows.values().flat_map(|workflow| workflow.servers_used.iter().cloned()).collect();
        lines.extend(trust::command_lines(&checked.project, &servers));
        let used = servers.iter().filter_map(|key| checked.project.servers.get(key));
        needed.extend(used.flat_map(variables).filter(|one| !one.optional).map(|one| one.name));
        store = store.or_else(|| args.db().store(place).ok());
    }
    if let Some(store) = store
        && !args.trusts()
        && let Err(fault) = Trust::at(&store.trusted).require(lines)
    {
        ui::note(format_args!(
            "A host can't be asked whether commands may be started. {}.\nAgree to them here with `antiphon tools`, or install with --trust.",
            fault.message()
        ));
    }
    if !needed.is_empty() {
        let names = needed.into_iter().collect::<Vec<_>>().join(", ");
        ui::note(format_args!("It needs these variables from the host's environment: {names}"));
    }
}
