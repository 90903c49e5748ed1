//! The servers that are found in hosts' files.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::file::{self, Text};
use super::place::of_project;
use super::{Dirs, Host, Syntax};
use crate::fault::Fault;
use crate::project::shown;

/// A file with servers.
#[derive(Clone, Debug)]
pub struct Source {
    /// Whose it is.
    pub host: Option<Host>,
    /// Where it is.
    pub path: PathBuf,
    /// The folder that it is about, if it is about one.
    pub workspace: Option<PathBuf>,
    /// Names and definitions, in order.
    pub servers: Vec<(String, Value)>,
    /// What VS Code asks its user for.
    pub inputs: Vec<Value>,
}

impl Source {
    /// The host's name, else the file's.
    pub fn title(&self) -> String {
        match self.host {
            Some(host) => host.title().to_owned(),
            None => self.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        }
    }
}

/// The files of a host that are there, in the order in which it prefers them.
pub fn of_host(host: Host, dirs: &Dirs, root: &Path) -> Result<Vec<Source>, Fault> {
    let user = dirs.user(host);
    let project = of_project(host, root);
    let settings = |path: &Path| path.with_file_name("settings.json");
    let local = root.to_string_lossy();
    let top = vec![host.key()];
    // (file, folder, where in it the servers are)
    let mut places: Vec<(PathBuf, bool, Vec<&str>)> = Vec::new();
    places.extend(project.iter().map(|path| (path.clone(), true, top.clone())));
    match host {
        // Before `mcp.json` there was the `mcp` of `settings.json`.
        Host::VsCode => {
            places.extend(project.iter().map(|path| (settings(path), true, vec!["mcp", "servers"])));
            places.push((user.clone(), false, top));
            places.push((settings(&user), false, vec!["mcp", "servers"]));
        }
        // Servers of the scope `local` are in the user's file, below their folder, and come first.
        Host::ClaudeCode => {
            places.insert(0, (user.clone(), true, vec!["projects", local.as_ref(), "mcpServers"]));
            places.push((user, false, top));
        }
        _ => places.push((user, false, top)),
    }
    let mut sources = Vec::new();
    for (path, in_project, keys) in places {
        let Some(bytes) = file::read(&path)? else { continue };
        let text = Text::of(bytes, host.syntax(), &path)?;
        let servers = entries(&text.value, &keys);
        if !servers.is_empty() {
            let inputs = inputs(&text.value, &keys);
            let workspace = in_project.then(|| root.to_owned());
            sources.push(Source { host: Some(host), path, workspace, servers, inputs });
        }
    }
    Ok(sources)
}

/// A file that somebody names: whatever host's it is.
pub fn of_file(path: &Path) -> Result<Source, Fault> {
    let Some(bytes) = file::read(path)? else {
        return Err(Fault::usage(format!("there is no file {}", path.display()), "name a host, or a file of one"));
    };
    let yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
    let text = Text::of(bytes, if yaml { Syntax::Yaml } else { Syntax::Json }, path)?;
    let places: [&[&str]; 5] =
        [&["mcpServers"], &["servers"], &["mcp", "servers"], &["context_servers"], &["extensions"]];
    let found = places.iter().map(|keys| (keys, entries(&text.value, keys))).find(|(_, servers)| !servers.is_empty());
    let Some((keys, servers)) = found else {
        return Err(Fault::usage(
            format!("there are no servers in {}", shown(path)),
            "hosts have them under `mcpServers`, `servers`, `context_servers` or `extensions`",
        ));
    };
    let host = (*keys == ["extensions"]).then_some(Host::Goose);
    Ok(Source { host, path: path.to_owned(), workspace: workspace(path), servers, inputs: inputs(&text.value, keys) })
}

/// The folder that a file is about, as its place says.
fn workspace(path: &Path) -> Option<PathBuf> {
    let path = std::path::absolute(path).ok()?;
    let folder = path.parent()?;
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    match (name(folder)?.as_str(), name(&path)?.as_str()) {
        (".vscode" | ".zed", _) | (".cursor", "mcp.json") if Some(folder.parent()?) != home().as_deref() => {
            folder.parent().map(Path::to_owned)
        }
        (_, ".mcp.json") => Some(folder.to_owned()),
        _ => None,
    }
}

fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").map(PathBuf::from)
}

fn at<'v>(value: &'v Value, keys: &[&str]) -> Option<&'v Value> {
    keys.iter().try_fold(value, |value, key| value.get(key))
}

fn entries(value: &Value, keys: &[&str]) -> Vec<(String, Value)> {
    let entries = at(value, keys).and_then(Value::as_object);
    entries.into_iter().flatten().map(|(name, server)| (name.clone(), server.clone())).collect()
}

/// `inputs` stands beside `servers`.
fn inputs(value: &Value, keys: &[&str]) -> Vec<Value> {
    let beside = keys.split_last().and_then(|(_, above)| at(value, above));
    beside.and_then(|beside| beside.get("inputs")?.as_array().cloned()).unwrap_or_default()
}
