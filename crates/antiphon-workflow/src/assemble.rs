//! What is sound becomes a [`Project`]: each workflow and agent with the plan of all that it reaches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use antiphon_kernel::{self as plan, KERNEL_VERSION, Limits, Plan};

use crate::graph::StepGraph;
use crate::load::All;
use crate::lower::Uses;
use crate::parsed::{Defined, LimitsPart, Tables, TaskPart};
use crate::project::{Consent, ModelDef, Project, ServeDef, ServerDef, TaskPolicy, WayBack, Workflow};
use crate::routes::{Party, RouteGraph};

/// Puts together what has no error.
pub(crate) fn assemble(all: &All, configs: &[Tables], serve: ServeDef, routes: RouteGraph) -> Project {
    let mut project = Project { serve, routes, ..Project::default() };
    // The nearest `antiphon.toml` comes first, and wins.
    for tables in configs {
        project.add(tables, "");
    }
    for (name, unit) in &all.units {
        project.add(&unit.file.tables, &format!("{name}/"));
    }
    for (name, unit) in all.units.iter().filter(|(_, unit)| !unit.is_broken()) {
        let reached = Reached::from(all, Party::Workflow(name.clone()));
        if let (Some(reached), Some(edges)) = (reached, &unit.edges) {
            let file = &unit.file;
            let workflow = Workflow {
                name: name.clone(),
                path: file.text.path.clone(),
                description: file.description.clone(),
                graph: edges.graph.clone(),
                ..reached.workflow(name, &file.tables, configs, &project)
            };
            project.workflows.insert(name.clone(), workflow);
        }
    }
    let nothing = Tables::default();
    for (key, unit) in &all.agents {
        let owner = unit.owner.as_ref().and_then(|name| all.units.get(name));
        let reached = Reached::from(all, Party::Agent(key.clone()));
        let sound = owner.is_none_or(|owner| !owner.is_broken());
        if let (Some(reached), Some(lowered), true) = (reached, &unit.lowered, sound) {
            let tables = owner.map_or(&nothing, |owner| &owner.file.tables);
            let workflow = Workflow {
                name: lowered.workflow.name.clone(),
                agent: Some(unit.name.clone()),
                path: unit.path.clone(),
                description: Some(unit.description.clone()),
                graph: lowered.graph.clone(),
                ..reached.workflow(key, tables, configs, &project)
            };
            project.agents.insert(key.clone(), workflow);
        }
    }
    for (key, unit) in &all.servers {
        let reached = Reached::from(all, Party::Server(key.clone()));
        if let (Some(reached), Some(lowered)) = (reached, &unit.lowered) {
            let (servers_used, models_used) = reached.parties(&project);
            let workflows = reached.workflows();
            let back = WayBack { tools: lowered.tools.clone(), workflows, servers_used, models_used };
            project.ways_back.insert(key.clone(), back);
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
        // What a server may sample is meant as its file means it.
        let mut servers = tables.servers.clone();
        for grant in servers.values_mut().filter_map(|server| server.def.as_mut()?.sampling.as_mut()) {
            for name in grant.models.iter_mut().filter(|name| tables.models.contains_key(*name)) {
                name.insert_str(0, prefix);
            }
        }
        add::<ServerDef>(&mut self.servers, &servers, prefix);
        add::<ModelDef>(&mut self.models, &tables.models, prefix);
    }
}

/// All that a run of something may come to.
#[derive(Default)]
struct Reached<'a> {
    workflows: BTreeMap<String, &'a plan::Workflow>,
    uses: Vec<&'a Uses>,
}

impl<'a> Reached<'a> {
    /// From a workflow or an agent. `None` when a part of it has errors.
    fn from(all: &'a All, start: Party) -> Option<Self> {
        let mut reached = Self::default();
        let mut seen = BTreeSet::new();
        let mut todo = vec![start];
        while let Some(party) = todo.pop() {
            if !seen.insert(party.clone()) {
                continue;
            }
            let (key, workflow, uses) = match &party {
                Party::Workflow(name) => {
                    let lowered = all.units.get(name)?.lowered.as_ref()?;
                    (name.clone(), &lowered.workflow, vec![&lowered.uses])
                }
                Party::Agent(key) => {
                    let lowered = all.agents.get(key)?.lowered.as_ref()?;
                    let holders = lowered.holders.iter().map(|key| Some(&all.agents.get(key)?.lowered.as_ref()?.uses));
                    let uses = std::iter::once(Some(&lowered.uses)).chain(holders).collect::<Option<_>>()?;
                    (key.clone(), &lowered.workflow, uses)
                }
                Party::Server(server) => match all.servers.get(server) {
                    Some(unit) => {
                        let lowered = unit.lowered.as_ref()?;
                        (Plan::way_back(server), &lowered.workflow, vec![&lowered.uses])
                    }
                    None => continue,
                },
                _ => continue,
            };
            reached.workflows.insert(key, workflow);
            for uses in uses {
                todo.extend(uses.workflows.keys().cloned().map(Party::Workflow));
                todo.extend(uses.agents.keys().cloned().map(Party::Agent));
                todo.extend(uses.servers.keys().cloned().map(Party::Server));
                reached.uses.push(uses);
            }
        }
        Some(reached)
    }

    /// What follows for its root; `own` are the tables of the file that defines it.
    fn workflow(&self, root: &str, own: &Tables, configs: &[Tables], project: &Project) -> Workflow {
        let (servers_used, models_used) = self.parties(project);
        let workflows = self.workflows();
        let schemas = workflows.get(root).map(|root| (root.input_schema.clone(), root.output_schema.clone()));
        let (input_schema, output_schema) = schemas.unwrap_or_default();
        let limits = limits(own, configs);
        let plan = Plan { kernel: KERNEL_VERSION, root: root.to_owned(), workflows, limits };
        Workflow {
            name: root.to_owned(),
            agent: None,
            path: String::new(),
            description: None,
            plan: Arc::new(plan),
            input_schema,
            output_schema,
            task: task(own, configs),
            read_only: self.uses.iter().all(|uses| uses.read_only),
            servers_used,
            models_used,
            asks: self.uses.iter().any(|uses| uses.asks),
            graph: StepGraph::default(),
        }
    }

    fn workflows(&self) -> BTreeMap<String, plan::Workflow> {
        self.workflows.iter().map(|(key, workflow)| (key.clone(), (*workflow).clone())).collect()
    }

    /// The servers and the models that may be used.
    fn parties(&self, project: &Project) -> (BTreeSet<String>, BTreeSet<String>) {
        let parties = || self.uses.iter().flat_map(|uses| &uses.routes).map(|(party, _)| party);
        let servers_used: BTreeSet<String> = parties()
            .filter_map(|party| if let Party::Server(key) = party { Some(key.clone()) } else { None })
            .collect();
        let mut models_used: BTreeSet<String> = parties()
            .filter_map(|party| if let Party::Model(key) = party { Some(key.clone()) } else { None })
            .collect();
        let granted = servers_used.iter().filter_map(|key| project.servers.get(key)?.sampling.as_ref());
        let granted = granted.filter(|grant| grant.consent != Consent::Deny).flat_map(|grant| &grant.models);
        models_used.extend(granted.filter(|model| *model != "caller").cloned());
        (servers_used, models_used)
    }
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
        mode: first(own, configs, |limits| limits.mode).unwrap_or(default.mode),
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
