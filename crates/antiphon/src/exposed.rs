//! The workflows that a server exposes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use antiphon_server::{Auth, Exposure, Retold};
use antiphon_workflow::{Checked, Workflow};
use miette::Report;

use crate::fault::Fault;
use crate::late::{Environment, Lent};
use crate::project::{Place, is_config, shown};

/// A folder or file that is served, loaded.
pub struct Served {
    /// Where.
    pub place: Place,
    /// All that the folder has.
    pub checked: Checked,
    /// Those of its workflows that are served, and the agents.
    pub workflows: Vec<Workflow>,
    /// The servers whose offer is passed through.
    pub passed: Vec<Exposure>,
}

impl Served {
    /// The servers that callers may come to need.
    pub fn servers(&self) -> BTreeSet<String> {
        let used = self.workflows.iter().flat_map(|workflow| workflow.servers_used.iter().cloned());
        used.chain(self.passed.iter().map(|passed| passed.server.clone())).collect()
    }
}

/// Whose tokens callers must show over HTTP, as the projects' own files have it. A file with errors may say so in what can't be
/// read, so nobody is served over HTTP then.
pub fn auth(served: &[Served]) -> Result<Option<Auth>, Fault> {
    let mut found = None;
    for Served { place, checked, .. } in served {
        let broken = checked.diagnostics.iter().filter(|one| one.is_error() && is_config(Path::new(one.path())));
        let broken: Vec<_> = broken.map(|one| Report::new(one.clone())).collect();
        if !broken.is_empty() {
            return Err(Fault::check(broken));
        }
        let own = checked.project.serve.auth.as_ref();
        let own = own.map(|def| Environment::of(&place.root, &Lent::default()).auth(def)).transpose()?;
        match found.replace(own) {
            Some(other) if Some(&other) != found.as_ref() => {
                let help = "serve them separately, or say `[serve.auth]` in one antiphon.toml above all of them";
                return Err(Fault::usage("what is to be served has more than one `[serve.auth]`", help));
            }
            _ => {}
        }
    }
    Ok(found.flatten())
}

/// Loads what these paths name, or of that one agent only. A broken file in a folder is passed over; one that was named is an
/// error, and so is a place that has nothing to serve.
pub fn load(paths: &[PathBuf], agent: Option<&str>) -> Result<Vec<Served>, Fault> {
    let all = read(paths, agent)?;
    match all.iter().find(|served| served.workflows.is_empty() && served.passed.is_empty()) {
        Some(empty) => Err(empty.place.broken(&empty.checked)),
        None => Ok(all),
    }
}

/// The same, with whatever is there by now.
pub fn read(paths: &[PathBuf], agent: Option<&str>) -> Result<Vec<Served>, Fault> {
    paths
        .iter()
        .map(|path| {
            let place = Place::of(path)?;
            let checked = place.load()?;
            let wanted = place.file.as_deref().map(shown);
            let chosen = |workflow: &&Workflow| wanted.as_ref().is_none_or(|path| workflow.path == *path);
            let workflows = match agent {
                Some(name) => vec![one_agent(&place, &checked, name)?],
                None => {
                    let workflows = checked.project.workflows.values().filter(chosen).cloned();
                    workflows.chain(agents(&checked, chosen)).collect::<Vec<_>>()
                }
            };
            // Who names a file or an agent wants nothing else.
            let whole = agent.is_none() && place.file.is_none();
            let passed = if whole { passed(&checked) } else { Vec::new() };
            Ok(Served { place, checked, workflows, passed })
        })
        .collect()
}

/// What `[serve]` passes through. A workflow's own servers are its own.
fn passed(checked: &Checked) -> Vec<Exposure> {
    let serve = &checked.project.serve;
    let servers = checked.project.servers.keys().filter(|server| !server.contains('/'));
    let exposed = servers.map(|server| Exposure {
        server: server.clone(),
        patterns: serve.of_server(server),
        prefix: serve.prefix.of_server(server),
        retold: serve.retold(server).into_iter().map(|(tool, retold)| (tool, told(retold))).collect(),
        only: None,
    });
    exposed.filter(|exposed| exposed.patterns.iter().any(|pattern| !pattern.starts_with('!'))).collect()
}

fn told(retold: antiphon_workflow::Retold) -> Retold {
    let antiphon_workflow::Retold { name, description } = retold;
    Retold { name, description }
}

/// The agents to serve. The project's own come first; of those that several workflows call the same, none can be named.
fn agents(checked: &Checked, chosen: impl Fn(&&Workflow) -> bool) -> Vec<Workflow> {
    let all = checked.project.agents.iter().filter(|(_, agent)| chosen(agent));
    let (own, shared): (Vec<_>, Vec<_>) = all.partition(|(key, _)| key.contains('/'));
    let mut agents: BTreeMap<&str, Vec<&Workflow>> = BTreeMap::new();
    for (_, agent) in own.into_iter().filter(|(_, agent)| !checked.project.agents.contains_key(&agent.name)) {
        agents.entry(&agent.name).or_default().push(agent);
    }
    let mut served: Vec<Workflow> = shared.into_iter().map(|(_, agent)| agent.clone()).collect();
    for (name, found) in agents {
        match found[..] {
            [agent] => served.push(agent.clone()),
            _ => tracing::warn!("not served: `{name}`, since several workflows have an agent of this name"),
        }
    }
    served
}

/// The agent of this name: the file's own, if a file was named that has one, else the project's.
pub fn one_agent(place: &Place, checked: &Checked, name: &str) -> Result<Workflow, Fault> {
    let file = place.file.as_deref().map(shown);
    let named = || checked.project.agents.iter().filter(|(_, agent)| agent.agent.as_deref() == Some(name));
    let own = |path: &String| named().find(|(key, agent)| key.contains('/') && agent.path == *path);
    let shared = || named().find(|(key, _)| !key.contains('/'));
    let found = file.as_ref().and_then(own).or_else(shared).or_else(|| match named().collect::<Vec<_>>()[..] {
        [only] if file.is_none() => Some(only),
        _ => None,
    });
    if let Some((_, agent)) = found {
        return Ok(agent.clone());
    }
    if named().next().is_some() {
        let help = "name the file: --project FILE, or `antiphon serve FILE`";
        return Err(Fault::usage(format!("several workflows have an agent `{name}`"), help));
    }
    if checked.has_errors() {
        return Err(place.broken(checked));
    }
    let known: BTreeSet<&str> = checked.project.agents.values().filter_map(|agent| agent.agent.as_deref()).collect();
    let help = match known.is_empty() {
        true => format!("declare it: [agents.{name}], in antiphon.toml or in a workflow file"),
        false => format!("there are: {}", known.into_iter().collect::<Vec<_>>().join(", ")),
    };
    Err(Fault::usage(format!("there is no agent `{name}`"), help))
}
