//! `import`: hosts' servers as `[servers]` of `antiphon.toml`.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::print;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::hosts::found::{self, Source};
use crate::hosts::project_file::ProjectFile;
use crate::hosts::translate::{Context, translate};
use crate::hosts::{Dirs, Host, Needs, Origin, file};
use crate::project::{CONFIG, Place, shown};
use crate::ui;
use crate::ui::form::printable;

/// Arguments of `import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// A host (claude-desktop, claude-code, cursor, vscode, windsurf, zed, goose), or a file of one [default: all hosts]
    from: Option<String>,
    /// Print the tables instead of writing them
    #[arg(long)]
    print: bool,
    /// Write the secrets that the files have in them to this new file, as `NAME='value'` lines that only you can read
    #[arg(long, value_name = "FILE")]
    secrets: Option<PathBuf>,
    /// The project whose `antiphon.toml` they go into [default: that of the current folder]
    #[arg(long, value_name = "PATH")]
    project: Option<PathBuf>,
}

/// Reads hosts' files, says what it has found, and writes it.
pub fn import(args: ImportArgs) -> Result<Exit, Fault> {
    let place = args.project.as_deref().map_or_else(|| Place::of(Path::new(".")), Place::of)?;
    let (sources, broken) = sources(args.from.as_deref(), &place)?;
    let path = place.root.join(CONFIG);
    let before = file::read(&path)?;
    let text = String::from_utf8(before.clone().unwrap_or_default())
        .map_err(|_| Fault::usage(format!("{} is not UTF-8 text", shown(&path)), "mend the file first"))?;
    let mut file = ProjectFile::of(text, &shown(&path))?;
    let mut needs = Needs::default();
    let mut imported = 0;
    for (number, source) in sources.iter().enumerate() {
        ui::note(format_args!("{} ({})", source.title(), shown(&source.path)));
        let nearer = |name: &str| {
            let mut others = sources[..number].iter().filter(|other| other.host == source.host);
            others.any(|other| other.servers.iter().any(|(known, _)| known == name))
        };
        for (name, def) in &source.servers {
            let said = match nearer(name) {
                true => Err("a nearer file has one of that name".to_owned()),
                false => one(name, def, source, &place.root, &mut file, &mut needs),
            };
            match said {
                Ok(Some(lines)) => {
                    imported += 1;
                    ui::note(format_args!("  + {}", printable(&lines)));
                }
                Ok(None) => ui::note(format_args!("  = {}: antiphon.toml has it already", printable(name))),
                Err(why) => ui::note(format_args!("  - {}: not imported: {}", printable(name), printable(&why))),
            }
        }
    }
    if sources.is_empty() && broken.is_empty() {
        return Err(Fault::usage("no host's file with servers was found", "name a file: antiphon import FILE"));
    }
    // First: what can't be written there must not be half imported.
    let kept = args.secrets.as_deref().map(|path| keep(&needs, path)).transpose()?.unwrap_or(false);
    if args.print {
        print::line(file.added().trim())?;
    } else if imported > 0 {
        file::replace(&path, before.as_deref(), file.finish(&shown(&path))?.as_bytes())?;
    }
    let into = if args.print { String::new() } else { format!(" into {}", shown(&path)) };
    ui::note(format_args!("{imported} server{} imported{into}", if imported == 1 { "" } else { "s" }));
    tell(&needs, args.secrets.as_deref().filter(|_| kept));
    if broken.is_empty() {
        Ok(Exit::Ok)
    } else {
        Err(Fault::check(broken.into_iter().flat_map(|fault| fault.reports).collect()))
    }
}

/// Where to read. When all hosts are, one with a broken file keeps no other from being read.
fn sources(from: Option<&str>, place: &Place) -> Result<(Vec<Source>, Vec<Fault>), Fault> {
    let Some(from) = from else {
        let dirs = Dirs::here()?;
        let (mut sources, mut broken) = (Vec::new(), Vec::new());
        for &host in Host::value_variants() {
            match found::of_host(host, &dirs, &place.root) {
                Ok(found) => sources.extend(found),
                Err(fault) => broken.push(fault),
            }
        }
        return Ok((sources, broken));
    };
    let sources = match Host::from_str(from, true) {
        Ok(host) => {
            let dirs = Dirs::here()?;
            let found = found::of_host(host, &dirs, &place.root)?;
            if found.is_empty() {
                return Err(Fault::usage(
                    format!("{} has no servers: {}", host.title(), shown(&dirs.user(host))),
                    "name its file if it is elsewhere: antiphon import FILE",
                ));
            }
            found
        }
        Err(_) if Path::new(from).exists() => vec![found::of_file(Path::new(from))?],
        Err(_) => {
            let hosts: Vec<String> = Host::value_variants().iter().map(|host| host.word()).collect();
            return Err(Fault::usage(
                format!("`{from}` is neither a host nor a file"),
                format!("hosts: {}", hosts.join(", ")),
            ));
        }
    };
    Ok((sources, Vec::new()))
}

/// Imports one server, and says what became of it; nothing if it is there already.
fn one(
    name: &str,
    def: &Value,
    source: &Source,
    root: &Path,
    file: &mut ProjectFile,
    needs: &mut Needs,
) -> Result<Option<String>, String> {
    if is_antiphon(def) {
        return Err("it is Antiphon itself".to_owned());
    }
    let key = file.name(name);
    let mut needed = needs.clone();
    let server = translate(def, Context { source, root, name, key: &key }, &mut needed)?;
    *needs = needed;
    if file.same(&server.table).is_some() {
        return Ok(None);
    }
    file.add(&key, &server.table, &source.title());
    let renamed = if key == name { String::new() } else { format!(" (there: {name})") };
    let notes: String = server.notes.iter().map(|note| format!("\n      {note}")).collect();
    Ok(Some(format!("{key}{renamed}{notes}")))
}

fn is_antiphon(def: &Value) -> bool {
    let command = def.get("command").or_else(|| def.get("cmd")).and_then(Value::as_str);
    command.is_some_and(|command| Path::new(command).file_name().is_some_and(|file| file == "antiphon"))
}

/// Writes the values that are known into a file of their own; whether there were any.
fn keep(needs: &Needs, path: &Path) -> Result<bool, Fault> {
    let mut lines = String::new();
    for (name, need) in needs.iter() {
        if let Origin::Value(value) = &need.origin {
            lines.push_str(&format!("{name}='{}'\n", value.replace('\'', "'\\''")));
        }
    }
    if lines.is_empty() {
        return Ok(false);
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(lines.as_bytes())).map_err(|e| {
        Fault::usage(
            format!("can't write {}: {e}", path.display()),
            "name a file that is not there yet; nothing was imported",
        )
    })?;
    Ok(true)
}

/// Says which variables are to be set, and where their values are.
fn tell(needs: &Needs, kept: Option<&Path>) {
    if needs.is_empty() {
        return;
    }
    ui::note(format_args!("Set these, where Antiphon is started:"));
    for (name, need) in needs.iter() {
        let set = if std::env::var_os(name).is_some() { " (is set)" } else { "" };
        let about = need.about.as_ref().map(|about| format!(": {about}")).unwrap_or_default();
        ui::note(format_args!("  {name}  for {}{set}{}", need.servers.join(", "), printable(&about)));
    }
    if let Some(path) = kept {
        ui::note(format_args!("The values that were in the files are in {0}: set -a; . {0}; set +a", path.display()));
    } else if needs.iter().any(|(_, need)| matches!(need.origin, Origin::Value(_))) {
        ui::note(format_args!("Values were not copied; with --secrets FILE they are, into a file of their own."));
    }
}
