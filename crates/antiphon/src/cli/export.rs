//! `export`: the block that makes a host start Antiphon.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{Db, print};
use crate::exit::Exit;
use crate::fault::Fault;
use crate::hosts::Host;
use crate::hosts::entry::Entry;
use crate::project::Place;

/// What a host's entry says.
#[derive(Debug, Args)]
pub struct EntryArgs {
    /// Workflow files, or folders of them, to be served [default: the current folder]
    paths: Vec<PathBuf>,
    /// What the host calls it
    #[arg(long, default_value = "antiphon")]
    name: String,
    /// Serve this agent alone
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Let the host start the project's commands without anybody being asked: those of today, and whatever its files say later
    #[arg(long)]
    trust: bool,
    #[command(flatten)]
    db: Db,
}

impl EntryArgs {
    /// The places that are to be served.
    pub fn places(&self) -> Result<Vec<Place>, Fault> {
        match self.paths.as_slice() {
            [] => Ok(vec![Place::here()?]),
            paths => paths.iter().map(|path| Place::of(path)).collect(),
        }
    }

    /// The entry. All paths in it are whole: hosts start servers anywhere.
    pub fn entry(&self, places: &[Place]) -> Result<Entry, Fault> {
        let program = std::env::current_exe()
            .map_err(|e| Fault::internal(format!("can't find out where this program is: {e}")))?;
        let mut args = vec!["serve".to_owned()];
        for place in places {
            args.push(utf8(place.file.as_ref().unwrap_or(&place.folder))?);
        }
        if let Some(agent) = &self.agent {
            args.extend(["--agent".to_owned(), agent.clone()]);
        }
        if let Some(db) = &self.db.db {
            let db =
                std::path::absolute(db).map_err(|e| Fault::internal(format!("can't name {}: {e}", db.display())))?;
            args.extend(["--db".to_owned(), utf8(&db)?]);
        }
        if self.trust {
            args.push("--trust".to_owned());
        }
        Ok(Entry { name: self.name.clone(), command: utf8(&program)?, args })
    }

    /// Where its runs are kept.
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// What the host calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether nobody is to be asked about commands.
    pub fn trusts(&self) -> bool {
        self.trust
    }
}

fn utf8(path: &Path) -> Result<String, Fault> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| Fault::usage(format!("{} can't be written into a host's file", path.display()), "rename it"))
}

/// Arguments of `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// For which host
    #[arg(value_enum, default_value_t = Host::ClaudeDesktop)]
    host: Host,
    #[command(flatten)]
    entry: EntryArgs,
}

/// Prints the block.
pub fn export(args: ExportArgs) -> Result<Exit, Fault> {
    let entry = args.entry.entry(&args.entry.places()?)?;
    print::line(&entry.block(args.host))?;
    Ok(Exit::Ok)
}
