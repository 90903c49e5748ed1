//! Loading: all texts are read, names are looked up across them, and what is sound becomes a [`Project`].

use std::collections::BTreeMap;
use std::sync::Arc;

use antiphon_kernel::fits;

use crate::agent;
use crate::assemble::assemble;
use crate::back;
use crate::code::{BROKEN_CALLEE, CALL_CYCLE, DUPLICATE_NAME, MUTUAL_AGENTS, NO_EFFECT, NOT_GRANTED};
use crate::diagnostic::{Diagnostic, Place, Text};
use crate::file;
use crate::graph::{self, Edges};
use crate::lint;
use crate::lower::{self, Lowered, Uses};
use crate::parsed::{Defined, File, Tables};
use crate::project::{Checked, Project, SourceFile, Sources, sign};
use crate::read::Context;
use crate::resolve::World;
use crate::routes::{Party, RouteGraph};
use crate::serve::ServePart;
use crate::tables::MODEL_WORDS;

impl Project {
    /// Reads and checks the workflows of a folder. One broken file does not hide the others.
    pub fn load(sources: &Sources<'_>) -> Checked {
        let mut diagnostics = Vec::new();
        let mut configs = Vec::new();
        let mut serve: Option<ServePart> = None;
        for source in &sources.configs {
            let cx = context(source, sources);
            let (tables, own) = file::config(&cx);
            serve = match (serve, own) {
                // A nearer file may offer something else, but opens no door that one above it guards.
                (Some(mut near), Some(above)) if near.def.auth.is_none() => {
                    near.def.auth = above.def.auth;
                    Some(near)
                }
                (near, above) => near.or(above),
            };
            configs.push(tables);
            diagnostics.extend(cx.into_diagnostics());
        }
        let files = sources.workflows.iter().map(|source| {
            let cx = context(source, sources);
            let file = file::workflow(&cx);
            let diagnostics = cx.into_diagnostics();
            Unit { file, diagnostics, edges: None, lowered: None }
        });
        let units = unique(files.collect(), &mut diagnostics);
        let mut all = All { units, agents: BTreeMap::new(), servers: BTreeMap::new(), diagnostics };
        all.check(&configs);
        all.name_clashes(&configs);
        if let Some(serve) = &serve {
            all.exposed(&configs, &serve.patterns);
            let names = all.units.values().map(|unit| (unit.file.name.as_str(), &unit.file.name_place));
            let said = crate::serve::retold(serve, &configs, &names.collect());
            all.diagnostics.extend(said);
        }
        let routes = all.routes();
        all.spread_errors();

        let project = assemble(&all, &configs, serve.map(|serve| serve.def).unwrap_or_default(), routes);
        let mut diagnostics = all.diagnostics;
        diagnostics.extend(all.units.into_values().flat_map(|unit| unit.diagnostics));
        diagnostics.sort_by_key(Diagnostic::order);
        Checked { project, diagnostics }
    }
}

/// All that is on its way.
pub(crate) struct All {
    pub(crate) units: Units,
    /// By key.
    pub(crate) agents: BTreeMap<String, AgentUnit>,
    /// Those that may call something, by key.
    pub(crate) servers: BTreeMap<String, ServerUnit>,
    /// What is said of `antiphon.toml`s, and of no workflow in particular.
    diagnostics: Vec<Diagnostic>,
}

/// A workflow file.
pub(crate) struct Unit {
    pub(crate) file: File,
    diagnostics: Vec<Diagnostic>,
    pub(crate) edges: Option<Edges>,
    pub(crate) lowered: Option<Lowered>,
}

impl Unit {
    pub(crate) fn is_broken(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }
}

/// An agent that has no error by itself.
pub(crate) struct AgentUnit {
    pub(crate) name: String,
    /// The workflow whose file defines it.
    pub(crate) owner: Option<String>,
    /// The path of the file.
    pub(crate) path: String,
    pub(crate) description: String,
    /// `None` if its names mean nothing, or what has errors.
    pub(crate) lowered: Option<agent::Lowered>,
}

/// A server that may call something.
pub(crate) struct ServerUnit {
    pub(crate) name: String,
    /// The workflow whose file defines it.
    pub(crate) owner: Option<String>,
    /// `None` if its names mean nothing, or what has errors.
    pub(crate) lowered: Option<back::Lowered>,
}

type Units = BTreeMap<String, Unit>;

fn context<'a>(source: &SourceFile, sources: &'a Sources<'_>) -> Context<'a> {
    Context::new(Arc::new(Text::new(&source.path, &source.text)), sources.read)
}

/// Workflows by name; of two with the same name the first stays.
fn unique(files: Vec<Unit>, diagnostics: &mut Vec<Diagnostic>) -> Units {
    let mut units = Units::new();
    for unit in files {
        match units.get_mut(&unit.file.name) {
            Some(first) => {
                let message = format!("there are two workflows called `{}`", unit.file.name);
                let diagnostic = Diagnostic::new(DUPLICATE_NAME, &unit.file.name_place, message);
                let diagnostic = diagnostic.help("set another `name`").also(&first.file.name_place, "the other one");
                diagnostics.extend(unit.diagnostics);
                diagnostics.push(diagnostic);
            }
            None => {
                units.insert(unit.file.name.clone(), unit);
            }
        }
    }
    units
}

impl All {
    /// Looks up the servers whose tools `[serve]` passes through, or opens to a scope.
    fn exposed(&mut self, configs: &[Tables], patterns: &[(String, Place)]) {
        let world = World { configs, workflows: BTreeMap::new() };
        for (pattern, place) in patterns {
            let (taking, named) = sign(pattern);
            let Some((server, tool)) = named.split_once('.') else { continue };
            if server.contains('*') {
                if !configs.iter().flat_map(|tables| tables.servers.keys()).any(|known| fits(server, known)) {
                    let message = format!("`{server}` fits no server, so `{pattern}` does nothing");
                    let diagnostic = Diagnostic::new(NO_EFFECT, place, message);
                    self.diagnostics.push(diagnostic.help("define one: `[servers.NAME]`, or take the pattern out"));
                }
                continue;
            }
            let one = taking.is_empty() && !tool.contains('*') && !tool.starts_with('@');
            let unknown = match world.server(None, server) {
                Ok((_, def)) if one && !def.allows(tool) => {
                    let help = format!("add it to `allow` of `[servers.{server}]`");
                    Some((NOT_GRANTED, format!("`{server}` does not allow the tool `{tool}`"), help))
                }
                Ok(_) => None,
                Err(unknown) => unknown,
            };
            if let Some((code, message, help)) = unknown {
                self.diagnostics.push(Diagnostic::new(code, place, message).help(help));
            }
        }
    }

    /// Builds the graphs, and lowers.
    fn check(&mut self, configs: &[Tables]) {
        let mut results = Vec::new();
        let workflows = self.units.iter().map(|(name, unit)| (name.as_str(), &unit.file)).collect();
        let world = World { configs, workflows };
        for unit in self.units.values() {
            let mut diagnostics = Vec::new();
            let edges = graph::build(&unit.file, &mut diagnostics);
            let lowered = lower::lower(&unit.file, &world, &edges.deps, &mut diagnostics);
            if !unit.is_broken() && !diagnostics.iter().any(Diagnostic::is_error) {
                lint::lint(&unit.file, &edges, &mut diagnostics);
            }
            server_models(&unit.file, &unit.file.tables, &world, &mut diagnostics);
            results.push((diagnostics, edges, lowered));
        }
        let mut agents = Vec::new();
        for found in world.agents() {
            let mut diagnostics = Vec::new();
            let lowered = agent::lower(found, &world, &mut diagnostics);
            let unit = AgentUnit {
                name: found.name.to_owned(),
                owner: found.owner.map(|file| file.name.clone()),
                path: found.agent.path.clone(),
                description: found.description(),
                lowered,
            };
            agents.push((found.key(), unit, diagnostics));
        }
        let mut servers = Vec::new();
        for granted in world.granted() {
            let mut diagnostics = Vec::new();
            let lowered = back::lower(granted, &world, &mut diagnostics);
            let owner = granted.owner.map(|file| file.name.clone());
            servers.push((granted.key(), ServerUnit { name: granted.name.to_owned(), owner, lowered }, diagnostics));
        }
        for (unit, (diagnostics, edges, lowered)) in self.units.values_mut().zip(results) {
            unit.diagnostics.extend(diagnostics);
            unit.edges = Some(edges);
            unit.lowered = Some(lowered);
        }
        for (key, agent, diagnostics) in agents {
            self.said(agent.owner.as_deref()).extend(diagnostics);
            self.agents.insert(key, agent);
        }
        for (key, server, diagnostics) in servers {
            self.said(server.owner.as_deref()).extend(diagnostics);
            self.servers.insert(key, server);
        }
    }

    /// Where something about a workflow, or about nobody's file, is said.
    fn said(&mut self, owner: Option<&str>) -> &mut Vec<Diagnostic> {
        match owner.and_then(|name| self.units.get_mut(name)) {
            Some(unit) => &mut unit.diagnostics,
            None => &mut self.diagnostics,
        }
    }

    /// Servers, agents and workflows share one namespace.
    fn name_clashes(&mut self, configs: &[Tables]) {
        let mut clashes = Vec::new();
        let all = self.units.values().map(|unit| (Some(unit), &unit.file.tables));
        for (owner, tables) in all.chain(configs.iter().map(|tables| (None, tables))) {
            let servers = tables.servers.iter().map(|(name, server)| (name, &server.place, "server"));
            let agents = tables.agents.iter().map(|(name, agent)| (name, &agent.place, "agent"));
            for (name, place, kind) in servers.chain(agents) {
                if let Some(unit) = self.units.get(name) {
                    let message = format!("`{name}` is the name of this workflow and of a{} {kind}", n(kind));
                    let other = (place.clone(), format!("the {kind}"));
                    clashes.push((Some(name.clone()), unit.file.name_place.clone(), message, other));
                }
            }
            for (name, Defined { place, .. }) in &tables.agents {
                let owner = owner.map(|unit| unit.file.name.clone());
                if let Some(unit) = self.units.get(&agent::tool(name)) {
                    let message = format!("the agent `{name}` is served as `ask_{name}`, and so is a workflow");
                    let other = (unit.file.name_place.clone(), "the workflow".to_owned());
                    clashes.push((owner.clone(), place.clone(), message, other));
                }
                if let Some(server) = tables.servers.get(name) {
                    let message = format!("`{name}` is the name of this agent and of a server");
                    clashes.push((owner, place.clone(), message, (server.place.clone(), "the server".to_owned())));
                }
            }
        }
        for (owner, place, message, (other, label)) in clashes {
            let diagnostic = Diagnostic::new(DUPLICATE_NAME, &place, message);
            let diagnostic = diagnostic.help("a name means one thing: rename one of them").also(&other, label);
            self.said(owner.as_deref()).push(diagnostic);
        }
    }

    /// The route graph; who can come back to himself is reported.
    fn routes(&mut self) -> RouteGraph {
        let mut graph = RouteGraph::default();
        let workflows = self
            .units
            .iter()
            .map(|(name, unit)| (Party::Workflow(name.clone()), unit.lowered.as_ref().map(|lowered| &lowered.uses)));
        let agents = self
            .agents
            .iter()
            .map(|(key, unit)| (Party::Agent(key.clone()), unit.lowered.as_ref().map(|lowered| &lowered.uses)));
        let servers = self
            .servers
            .iter()
            .map(|(key, unit)| (Party::Server(key.clone()), unit.lowered.as_ref().map(|lowered| &lowered.uses)));
        for (from, uses) in workflows.chain(agents).chain(servers) {
            graph.party(&from);
            for (party, route) in uses.into_iter().flat_map(|uses| &uses.routes) {
                graph.route(&from, party, route.clone());
            }
        }
        let owned = |parties: Vec<Vec<&Party>>| -> Vec<Vec<Party>> {
            parties.into_iter().map(|parties| parties.into_iter().cloned().collect()).collect()
        };
        for parties in owned(graph.call_cycles()) {
            self.call_cycle(&parties.iter().map(Party::name).collect::<Vec<_>>());
        }
        for parties in owned(graph.agent_cycles()) {
            self.agent_cycle(&parties);
        }
        graph
    }

    /// Workflows that call each other never end.
    fn call_cycle(&mut self, names: &[&str]) {
        let round = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        for name in names {
            let Some(unit) = self.units.get_mut(*name) else { continue };
            let mut calls = unit.lowered.iter().flat_map(|lowered| &lowered.uses.workflows);
            let Some((callee, place)) = calls.find(|(callee, _)| names.contains(&callee.as_str())) else { continue };
            let message = match names.len() {
                1 => format!("`{name}` calls itself"),
                _ => format!("these workflows call each other: {round}; here `{name}` calls `{callee}`"),
            };
            let help = "a workflow can't come back to itself: to go round, use `repeat`";
            let diagnostic = Diagnostic::new(CALL_CYCLE, place, message).help(help);
            unit.diagnostics.push(diagnostic);
        }
    }

    /// Agents that can come back to themselves are bounded, and that is worth knowing.
    fn agent_cycle(&mut self, parties: &[Party]) {
        let round = parties.iter().map(|party| format!("`{}`", party.called())).collect::<Vec<_>>().join(", ");
        let inside = |party: Party| parties.contains(&party);
        for party in parties {
            let found = match party {
                Party::Agent(key) => self
                    .agents
                    .get(key)
                    .and_then(|unit| Some((&unit.name, &unit.owner, &unit.lowered.as_ref()?.uses, "agent", "ask"))),
                Party::Server(key) => self
                    .servers
                    .get(key)
                    .and_then(|unit| Some((&unit.name, &unit.owner, &unit.lowered.as_ref()?.uses, "server", "call"))),
                _ => None,
            };
            let Some((name, owner, uses, kind, asks)) = found else { continue };
            let mut calls = uses.agents.iter().filter(|(key, _)| inside(Party::Agent((*key).clone())));
            let mut runs = uses.workflows.iter().filter(|(name, _)| inside(Party::Workflow((*name).clone())));
            let mut tools = uses.servers.iter().filter(|(key, _)| inside(Party::Server((*key).clone())));
            let place = calls.next().or_else(|| runs.next()).or_else(|| tools.next());
            let Some((_, place)) = place else { continue };
            let message = match parties.len() {
                1 => format!("the {kind} `{name}` may {asks} itself"),
                _ => format!("these may come back to each other, as their models choose: {round}"),
            };
            let help = "that is often meant; `limits.depth` ends it, with an error that shows the way";
            let diagnostic = Diagnostic::new(MUTUAL_AGENTS, place, message).help(help);
            let owner = owner.clone();
            self.said(owner.as_deref()).push(diagnostic);
        }
    }

    /// Whoever calls what is broken can't run either.
    fn spread_errors(&mut self) {
        loop {
            let broken = |all: &Self, uses: &Uses| {
                let workflows = uses.workflows.iter().filter(|(name, _)| all.units[*name].is_broken());
                let workflows = workflows.map(|(name, place)| (format!("workflow `{name}`"), place));
                let agents = uses.agents.iter().filter_map(|(key, place)| Some((all.agents.get(key)?, place)));
                let agents = agents.filter(|(unit, _)| unit.lowered.is_none());
                let agents = agents.map(|(unit, place)| (format!("agent `{}`", unit.name), place));
                let servers = uses.servers.iter().filter_map(|(key, place)| Some((all.servers.get(key)?, place)));
                let servers = servers.filter(|(unit, _)| unit.lowered.is_none());
                let servers = servers.map(|(unit, place)| (format!("server `{}`", unit.name), place));
                let said = workflows.chain(agents).chain(servers).map(|(callee, place)| {
                    Diagnostic::new(BROKEN_CALLEE, place, format!("the {callee} has errors")).help("mend it first")
                });
                said.collect::<Vec<_>>()
            };
            let mut found = Vec::new();
            for (name, unit) in self.units.iter().filter(|(_, unit)| !unit.is_broken()) {
                let said = unit.lowered.iter().flat_map(|lowered| broken(self, &lowered.uses)).collect::<Vec<_>>();
                found.push((None, Some(name.clone()), said));
            }
            for (key, unit) in &self.agents {
                let said = unit.lowered.iter().flat_map(|lowered| broken(self, &lowered.uses)).collect::<Vec<_>>();
                found.push((Some(Party::Agent(key.clone())), unit.owner.clone(), said));
            }
            for (key, unit) in &self.servers {
                let said = unit.lowered.iter().flat_map(|lowered| broken(self, &lowered.uses)).collect::<Vec<_>>();
                found.push((Some(Party::Server(key.clone())), unit.owner.clone(), said));
            }
            found.retain(|(.., said)| !said.is_empty());
            if found.is_empty() {
                return;
            }
            for (party, owner, said) in found {
                match party {
                    Some(Party::Agent(key)) => drop(self.agents.get_mut(&key).and_then(|unit| unit.lowered.take())),
                    Some(Party::Server(key)) => drop(self.servers.get_mut(&key).and_then(|unit| unit.lowered.take())),
                    _ => {}
                }
                self.said(owner.as_deref()).extend(said);
            }
        }
    }
}

/// "a server", "an agent".
fn n(kind: &str) -> &'static str {
    if kind == "agent" { "n" } else { "" }
}

/// Models that a server may sample must exist, too.
fn server_models(file: &File, tables: &Tables, world: &World<'_>, diagnostics: &mut Vec<Diagnostic>) {
    for Defined { place, def } in tables.servers.values() {
        let grant = def.as_ref().and_then(|def| def.sampling.as_ref());
        let models = grant.iter().flat_map(|grant| &grant.models);
        for model in models.filter(|model| !MODEL_WORDS.contains(&model.as_str())) {
            if let Err(Some((code, message, help))) = world.model(Some(file), model) {
                diagnostics.push(Diagnostic::new(code, place, message).help(help));
            }
        }
    }
}
