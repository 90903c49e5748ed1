//! Loading: all texts are read, names are looked up across them, and what is sound becomes a [`Project`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use antiphon_kernel::{KERNEL_VERSION, Limits, Plan};

use crate::code::{BROKEN_CALLEE, CALL_CYCLE, DUPLICATE_NAME};
use crate::diagnostic::{Diagnostic, Place, Text};
use crate::file;
use crate::graph::{self, Edges};
use crate::lint;
use crate::lower::{self, Lowered};
use crate::parsed::{Defined, File, LimitsPart, Tables, TaskPart};
use crate::project::{Checked, ModelDef, Project, ServeDef, ServerDef, SourceFile, Sources, TaskPolicy, Workflow};
use crate::read::Context;
use crate::resolve::World;
use crate::routes::{Party, RouteGraph};

impl Project {
    /// Reads and checks the workflows of a folder. One broken file does not hide the others.
    pub fn load(sources: &Sources<'_>) -> Checked {
        let mut diagnostics = Vec::new();
        let mut configs = Vec::new();
        let mut serve = None;
        for source in &sources.configs {
            let cx = context(source, sources);
            let (tables, own) = file::config(&cx);
            serve = serve.or(own);
            configs.push(tables);
            diagnostics.extend(cx.into_diagnostics());
        }
        let files = sources.workflows.iter().map(|source| {
            let cx = context(source, sources);
            let file = file::workflow(&cx);
            let diagnostics = cx.into_diagnostics();
            Unit { file, diagnostics, edges: None, lowered: None }
        });
        let mut units = unique(files.collect(), &mut diagnostics);
        check(&mut units, &configs);
        name_clashes(&mut units, &configs);
        let routes = routes(&mut units);
        spread_errors(&mut units);

        let project = assemble(&units, &configs, serve.unwrap_or_default(), routes);
        diagnostics.extend(units.into_values().flat_map(|unit| unit.diagnostics));
        diagnostics.sort_by_key(Diagnostic::order);
        Checked { project, diagnostics }
    }
}

/// A workflow file on its way.
struct Unit {
    file: File,
    diagnostics: Vec<Diagnostic>,
    edges: Option<Edges>,
    lowered: Option<Lowered>,
}

impl Unit {
    fn is_broken(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }
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

/// Builds the graphs, and lowers.
fn check(units: &mut Units, configs: &[Tables]) {
    let mut results = Vec::new();
    let workflows = units.iter().map(|(name, unit)| (name.as_str(), &unit.file)).collect();
    let world = World { configs, workflows };
    for unit in units.values() {
        let mut diagnostics = Vec::new();
        let edges = graph::build(&unit.file, &mut diagnostics);
        let lowered = lower::lower(&unit.file, &world, &edges.deps, &mut diagnostics);
        if !unit.is_broken() && !diagnostics.iter().any(Diagnostic::is_error) {
            lint::lint(&unit.file, &edges, &mut diagnostics);
        }
        server_models(&unit.file, &unit.file.tables, &world, &mut diagnostics);
        results.push((diagnostics, edges, lowered));
    }
    for (unit, (diagnostics, edges, lowered)) in units.values_mut().zip(results) {
        unit.diagnostics.extend(diagnostics);
        unit.edges = Some(edges);
        unit.lowered = Some(lowered);
    }
}

/// Models that a server may sample must exist, too.
fn server_models(file: &File, tables: &Tables, world: &World<'_>, diagnostics: &mut Vec<Diagnostic>) {
    for Defined { place, def } in tables.servers.values() {
        let grant = def.as_ref().and_then(|def| def.sampling.as_ref());
        for model in grant.iter().flat_map(|grant| &grant.models) {
            if let Err(Some((code, message, help))) = world.model(file, model) {
                diagnostics.push(Diagnostic::new(code, place, message).help(help));
            }
        }
    }
}

/// Servers and workflows share one namespace.
fn name_clashes(units: &mut Units, configs: &[Tables]) {
    let servers = |tables: &Tables| -> Vec<(String, Place)> {
        tables.servers.iter().map(|(name, server)| (name.clone(), server.place.clone())).collect()
    };
    let mut all: Vec<_> = configs.iter().flat_map(servers).collect();
    all.extend(units.values().flat_map(|unit| servers(&unit.file.tables)));
    for (name, place) in all {
        if let Some(unit) = units.get_mut(&name) {
            let message = format!("`{name}` is the name of this workflow and of a server");
            let diagnostic = Diagnostic::new(DUPLICATE_NAME, &unit.file.name_place, message);
            unit.diagnostics
                .push(diagnostic.help("a name means one thing: rename one of them").also(&place, "the server"));
        }
    }
}

/// The route graph; workflows that call each other are reported.
fn routes(units: &mut Units) -> RouteGraph {
    let mut graph = RouteGraph::default();
    for (name, unit) in units.iter() {
        let workflow = Party::Workflow(name.clone());
        graph.party(&workflow);
        for (party, route) in unit.lowered.iter().flat_map(|lowered| &lowered.uses.routes) {
            graph.route(&workflow, party, route.clone());
        }
    }
    let cycles: Vec<Vec<String>> =
        graph.call_cycles().into_iter().map(|names| names.into_iter().map(str::to_owned).collect()).collect();
    for names in cycles {
        let round = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        for name in &names {
            let Some(unit) = units.get_mut(name) else { continue };
            let mut calls = unit.lowered.iter().flat_map(|lowered| &lowered.uses.workflows);
            let Some((callee, place)) = calls.find(|(callee, _)| names.contains(callee)) else { continue };
            let message = match names.len() {
                1 => format!("`{name}` calls itself"),
                _ => format!("these workflows call each other: {round}; here `{name}` calls `{callee}`"),
            };
            let help = "a workflow can't come back to itself: to go round, use `repeat`";
            let diagnostic = Diagnostic::new(CALL_CYCLE, place, message).help(help);
            unit.diagnostics.push(diagnostic);
        }
    }
    graph
}

/// Whoever calls a broken workflow can't run either.
fn spread_errors(units: &mut Units) {
    loop {
        let broken: BTreeSet<_> =
            units.iter().filter(|(_, unit)| unit.is_broken()).map(|(name, _)| name.clone()).collect();
        let mut spread = false;
        for unit in units.values_mut().filter(|unit| !unit.is_broken()) {
            let calls = unit.lowered.iter().flat_map(|lowered| &lowered.uses.workflows);
            let found = calls.filter(|(callee, _)| broken.contains(*callee)).map(|(callee, place)| {
                Diagnostic::new(BROKEN_CALLEE, place, format!("the workflow `{callee}` has errors"))
                    .help("mend it first")
            });
            let found: Vec<_> = found.collect();
            spread |= !found.is_empty();
            unit.diagnostics.extend(found);
        }
        if !spread {
            return;
        }
    }
}

fn assemble(units: &Units, configs: &[Tables], serve: ServeDef, routes: RouteGraph) -> Project {
    let mut project = Project { serve, routes, ..Project::default() };
    // The nearest `antiphon.toml` comes first, and wins.
    for tables in configs {
        project.add(tables, "");
    }
    for (name, unit) in units {
        project.add(&unit.file.tables, &format!("{name}/"));
        if !unit.is_broken()
            && let Some(workflow) = workflow(unit, units, configs)
        {
            project.workflows.insert(name.clone(), workflow);
        }
    }
    project
}

impl Project {
    fn add(&mut self, tables: &Tables, prefix: &str) {
        fn add<T: Clone>(to: &mut BTreeMap<String, T>, from: &BTreeMap<String, Defined<T>>, prefix: &str) {
            for (name, Defined { def, .. }) in from {
                if let Some(def) = def {
                    to.entry(format!("{prefix}{name}")).or_insert_with(|| def.clone());
                }
            }
        }
        add::<ServerDef>(&mut self.servers, &tables.servers, prefix);
        add::<ModelDef>(&mut self.models, &tables.models, prefix);
    }
}

/// A sound workflow, with all that it reaches.
fn workflow(unit: &Unit, units: &Units, configs: &[Tables]) -> Option<Workflow> {
    let mut reached = BTreeMap::new();
    let mut todo = vec![unit.file.name.as_str()];
    while let Some(name) = todo.pop() {
        let lowered = units.get(name)?.lowered.as_ref()?;
        if reached.insert(name, lowered).is_none() {
            todo.extend(lowered.uses.workflows.keys().map(String::as_str));
        }
    }
    let parties = || reached.values().flat_map(|lowered| &lowered.uses.routes).map(|(party, _)| party);
    let file = &unit.file;
    let plan = Plan {
        kernel: KERNEL_VERSION,
        root: file.name.clone(),
        workflows: reached.iter().map(|(name, lowered)| ((*name).to_owned(), lowered.workflow.clone())).collect(),
        limits: limits(&file.tables, configs),
    };
    Some(Workflow {
        name: file.name.clone(),
        path: file.text.path.clone(),
        description: file.description.clone(),
        plan: Arc::new(plan),
        input_schema: file.input_schema.clone(),
        output_schema: file.output_schema.clone(),
        task: task(&file.tables, configs),
        read_only: reached.values().all(|lowered| lowered.uses.read_only),
        servers_used: parties()
            .filter_map(|party| if let Party::Server(key) = party { Some(key.clone()) } else { None })
            .collect(),
        models_used: parties()
            .filter_map(|party| if let Party::Model(key) = party { Some(key.clone()) } else { None })
            .collect(),
        asks: reached.values().any(|lowered| lowered.uses.asks),
        graph: unit.edges.as_ref()?.graph.clone(),
    })
}

/// Each limit: the file's, else that of the nearest `antiphon.toml` that states it, else the default.
fn limits(own: &Tables, configs: &[Tables]) -> Limits {
    fn first<T>(own: &Tables, configs: &[Tables], of: impl Fn(&LimitsPart) -> Option<T>) -> Option<T> {
        std::iter::once(own).chain(configs).find_map(|tables| of(&tables.limits))
    }
    let default = Limits::default();
    Limits {
        tokens: first(own, configs, |limits| limits.tokens).unwrap_or(default.tokens),
        cost_usd: first(own, configs, |limits| limits.cost_usd).or(default.cost_usd),
        calls: first(own, configs, |limits| limits.calls).unwrap_or(default.calls),
        depth: first(own, configs, |limits| limits.depth)
            .and_then(|depth| u32::try_from(depth).ok())
            .unwrap_or(default.depth),
        duration_ms: first(own, configs, |limits| limits.duration_ms).unwrap_or(default.duration_ms),
    }
}

fn task(own: &Tables, configs: &[Tables]) -> TaskPolicy {
    fn first<T>(own: &Tables, configs: &[Tables], of: impl Fn(&TaskPart) -> Option<T>) -> Option<T> {
        std::iter::once(own).chain(configs).find_map(|tables| of(&tables.task))
    }
    let default = TaskPolicy::default();
    TaskPolicy {
        mode: first(own, configs, |task| task.mode).unwrap_or(default.mode),
        inline_wait: first(own, configs, |task| task.inline_wait_ms).map_or(default.inline_wait, Duration::from_millis),
        ttl: first(own, configs, |task| task.ttl_ms).map_or(default.ttl, Duration::from_millis),
    }
}
