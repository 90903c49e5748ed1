//! The step graph: what runs after what, and why. Built from what templates mention and `needs` names.

use std::collections::{BTreeMap, BTreeSet};

use antiphon_kernel::{Dep, Target, Verb};
use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};

use crate::code::{CYCLE, NOT_VISIBLE, SHADOWED, UNKNOWN_FIELD, UNKNOWN_STEP};
use crate::diagnostic::{Diagnostic, Place, suggest};
use crate::parsed::{Action, Body, File, How, Mention, Step};

/// A workflow's steps, and the edges between them: from what must end to what waits for it.
#[derive(Clone, Debug, Default)]
pub struct StepGraph {
    /// The graph. Steps inside blocks are nodes of their own.
    pub graph: DiGraph<StepNode, EdgeKind>,
}

/// A step, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepNode {
    /// Its path in the workflow, such as `draft/review`.
    pub path: String,
    /// Its verb.
    pub verb: &'static str,
    /// Whom it calls, reads or samples; for people.
    pub target: String,
    /// The block that it is part of.
    pub block: Option<NodeIndex>,
}

impl StepGraph {
    /// The steps of a plan that nobody has written: those of an agent.
    pub(crate) fn of_plan(graph: &antiphon_kernel::Graph) -> Self {
        let mut steps = Self::default();
        steps.add(graph, "", None);
        steps
    }

    fn add(&mut self, graph: &antiphon_kernel::Graph, prefix: &str, block: Option<NodeIndex>) {
        let mut nodes = BTreeMap::new();
        for step in &graph.steps {
            let path = format!("{prefix}{}", step.id);
            let target = match &step.verb {
                Verb::Call { target: Target::OneOf { among, .. }, .. } => {
                    among.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
                }
                Verb::Sample { models, caller, .. } => {
                    models.iter().map(String::as_str).chain(caller.then_some("caller")).collect::<Vec<_>>().join(", ")
                }
                _ => String::new(),
            };
            let node = self.graph.add_node(StepNode { path: path.clone(), verb: step.verb.name(), target, block });
            for before in step.deps.keys().filter_map(|id| nodes.get(id)) {
                self.graph.add_edge(*before, node, EdgeKind::Uses);
            }
            if let Verb::Do { body } = &step.verb {
                self.add(body, &format!("{path}/"), Some(node));
            }
            nodes.insert(step.id.clone(), node);
        }
    }
}

/// Why one step comes after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EdgeKind {
    /// It uses the other's value if there is one.
    Guarded,
    /// It asks how the other ended.
    Asks,
    /// It uses the other's value, or `needs` it.
    Uses,
}

/// What a step graph tells besides itself.
pub(crate) struct Edges {
    pub(crate) graph: StepGraph,
    /// What each step depends on, by path; ids as the step sees them.
    pub(crate) deps: BTreeMap<String, BTreeMap<String, Dep>>,
    /// Paths of the steps that something mentions.
    pub(crate) mentioned: BTreeSet<String>,
}

/// The steps that can be seen from a body: its own, and those around it.
#[derive(Clone, Copy)]
pub(crate) struct Level<'f> {
    pub(crate) body: &'f Body,
    /// The path of the block, with a `/` at its end; of the workflow itself, nothing.
    pub(crate) prefix: &'f str,
    /// The block's id, and the level that it is in.
    pub(crate) around: Option<(&'f str, &'f Level<'f>)>,
}

impl<'f> Level<'f> {
    pub(crate) fn root(file: &'f File) -> Self {
        Self { body: &file.body, prefix: "", around: None }
    }

    /// The step with this id that can be seen from here, and its path.
    pub(crate) fn find(&self, id: &str) -> Option<(&'f Step, String)> {
        match self.body.steps.iter().find(|step| step.id == id) {
            Some(step) => Some((step, format!("{}{id}", self.prefix))),
            None => self.around?.1.find(id),
        }
    }

    /// Whether this level is inside the block with this id.
    fn is_inside(&self, id: &str) -> bool {
        self.around.is_some_and(|(block, around)| block == id || around.is_inside(id))
    }

    /// Whether there is such a step, but with an error that was reported already.
    fn is_unread(&self, id: &str) -> bool {
        self.body.unread.iter().any(|unread| unread == id)
            || self.around.is_some_and(|(_, around)| around.is_unread(id))
    }

    fn ids(&self) -> Vec<&'f str> {
        let outer = self.around.map(|(_, around)| around.ids()).unwrap_or_default();
        self.body.steps.iter().map(|step| step.id.as_str()).chain(outer).collect()
    }
}

/// Builds the step graph of a file and says what is wrong with it.
pub(crate) fn build(file: &File, diagnostics: &mut Vec<Diagnostic>) -> Edges {
    let edges = Edges { graph: StepGraph::default(), deps: BTreeMap::new(), mentioned: BTreeSet::new() };
    let mut builder = Builder { file, edges, places: BTreeMap::new(), nodes: BTreeMap::new(), diagnostics };
    builder.nodes(&file.body, "", None);
    builder.level(&Level::root(file));
    builder.edges
}

struct Builder<'a> {
    file: &'a File,
    edges: Edges,
    /// Where each edge is written: from the path of the step that waits, to the other's.
    places: BTreeMap<(String, String), Place>,
    nodes: BTreeMap<String, NodeIndex>,
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl<'a> Builder<'a> {
    fn nodes(&mut self, body: &Body, prefix: &str, block: Option<NodeIndex>) {
        for step in &body.steps {
            let path = format!("{prefix}{}", step.id);
            let node = StepNode { path: path.clone(), verb: step.action.verb(), target: target(&step.action), block };
            let index = self.edges.graph.graph.add_node(node);
            if let Action::Do(inner) = &step.action {
                self.nodes(inner, &format!("{path}/"), Some(index));
            }
            self.nodes.insert(path, index);
        }
    }

    /// Reads the edges of one body. Yields the ids of the outer steps that it mentions.
    fn level(&mut self, level: &Level<'_>) -> BTreeSet<String> {
        let mut outer = BTreeSet::new();
        for step in &level.body.steps {
            let path = format!("{}{}", level.prefix, step.id);
            if let Some((first, _)) = level.around.and_then(|(_, around)| around.find(&step.id)) {
                let diagnostic =
                    Diagnostic::new(SHADOWED, &step.place, format!("there is a step `{}` around this one", step.id))
                        .label("inner");
                self.diagnostics.push(
                    diagnostic
                        .also(&first.place, "outer")
                        .help("inner steps see the outer ones, so the ids must differ"),
                );
            }
            let mut deps = BTreeMap::new();
            for (id, place) in &step.needs {
                if self.resolve(level, Some(&step.id), id, place).is_some() {
                    self.depend(level, &path, id, EdgeKind::Uses, place, &mut deps);
                }
            }
            for mention in &step.mentions {
                if let Some(found) = self.resolve(level, Some(&step.id), &mention.step, &mention.place) {
                    self.check_field(found, mention);
                    self.depend(level, &path, &mention.step, kind(mention.how), &mention.place, &mut deps);
                }
            }
            if let Action::Do(body) = &step.action {
                let inner = Level { body, prefix: &format!("{path}/"), around: Some((&step.id, level)) };
                for id in self.level(&inner) {
                    deps.entry(id).or_default();
                }
            }
            outer.extend(deps.keys().filter(|id| !level.body.steps.iter().any(|step| step.id == **id)).cloned());
            self.edges.deps.insert(path, deps);
        }
        for mention in &level.body.mentions {
            let Some(found) = self.resolve(level, None, &mention.step, &mention.place) else { continue };
            self.check_field(found, mention);
            if let Some((_, path)) = level.find(&mention.step) {
                self.edges.mentioned.insert(path);
            }
            if !level.body.steps.iter().any(|step| step.id == mention.step) {
                outer.insert(mention.step.clone());
            }
        }
        self.cycles(level);
        outer
    }

    fn depend(
        &mut self,
        level: &Level<'_>,
        path: &str,
        id: &str,
        kind: EdgeKind,
        place: &Place,
        deps: &mut BTreeMap<String, Dep>,
    ) {
        let dep = deps.entry(id.to_owned()).or_default();
        dep.uses |= kind == EdgeKind::Uses;
        dep.asks |= kind == EdgeKind::Asks;
        let Some((_, other)) = level.find(id) else { return };
        self.edges.mentioned.insert(other.clone());
        if let (Some(from), Some(to)) = (self.nodes.get(&other), self.nodes.get(path)) {
            let graph = &mut self.edges.graph.graph;
            let strongest = graph.find_edge(*from, *to).map_or(kind, |edge| graph[edge].max(kind));
            graph.update_edge(*from, *to, strongest);
        }
        self.places.entry((path.to_owned(), other)).or_insert_with(|| place.clone());
    }

    /// The step that is meant, if it can be mentioned from here; else says why not.
    fn resolve<'l>(&mut self, level: &Level<'l>, own: Option<&str>, id: &str, place: &Place) -> Option<&'l Step> {
        if own == Some(id) {
            let help =
                "`output` is its own result in `until`, `expect` and `undo`; `previous` is that of the round before";
            self.diagnostics.push(Diagnostic::new(CYCLE, place, format!("`{id}` waits for itself")).help(help));
            return None;
        }
        if level.is_inside(id) {
            let help = "a block ends after its steps: mention the steps beside this one, or `previous`";
            self.diagnostics.push(
                Diagnostic::new(CYCLE, place, format!("this step is part of `{id}`, and can't wait for it")).help(help),
            );
            return None;
        }
        if let Some((step, _)) = level.find(id) {
            return Some(step);
        }
        if level.is_unread(id) {
            return None;
        }
        self.diagnostics.push(match block_of(&self.file.body, id) {
            Some(block) => Diagnostic::new(
                NOT_VISIBLE,
                place,
                format!("`{id}` is a step of the block `{block}`, and can't be seen from here"),
            )
            .help(format!("use what the block yields: `steps.{block}.output.{id}`")),
            None => Diagnostic::new(UNKNOWN_STEP, place, format!("there is no step `{id}`"))
                .help(suggest(id, level.ids()).unwrap_or_default()),
        });
        None
    }

    /// Not every step has every field.
    fn check_field(&mut self, step: &Step, mention: &Mention) {
        let Some(field) = mention.path.first() else { return };
        let each = step.for_each.is_some();
        let content = matches!(step.action, Action::Call(_) | Action::Sample { .. } | Action::Read { .. });
        let missing = match field.as_str() {
            "text" | "blocks" if each => {
                Some("a step with `for_each` has the list of its outputs, `.output`, and `.errors`")
            }
            "text" | "blocks" if !content => {
                Some("only a `call`, a `sample` and a `read` have content; its value is `.output`")
            }
            "model" | "usage" if each || !matches!(step.action, Action::Sample { .. }) => {
                Some("only a `sample` has it, and not under `for_each`")
            }
            "action" if !matches!(step.action, Action::Elicit { .. }) => Some("only an `elicit` has it"),
            "errors" if !each => Some("only a step with `for_each` has it; how a step went wrong is `.error`"),
            _ => None,
        };
        if let Some(help) = missing {
            let message = format!("the step `{}` has no `.{field}`", step.id);
            self.diagnostics.push(Diagnostic::new(UNKNOWN_FIELD, &mention.place, message).help(help));
        }
    }

    /// Says which steps of a body wait for each other.
    fn cycles(&mut self, level: &Level<'_>) {
        let ids: Vec<&str> = level.body.steps.iter().map(|step| step.id.as_str()).collect();
        let mut graph = DiGraph::<usize, ()>::new();
        let nodes: Vec<_> = (0..ids.len()).map(|at| graph.add_node(at)).collect();
        for (at, id) in ids.iter().enumerate() {
            for dep in self.edges.deps.get(&format!("{}{id}", level.prefix)).into_iter().flat_map(BTreeMap::keys) {
                if let Some(other) = ids.iter().position(|id| id == dep) {
                    graph.add_edge(nodes[at], nodes[other], ());
                }
            }
        }
        for component in tarjan_scc(&graph) {
            if component.len() > 1 {
                let cycle = shortest_cycle(&graph, &component);
                self.cycle(level, &cycle.into_iter().map(|node| ids[graph[node]]).collect::<Vec<_>>());
            }
        }
    }

    fn cycle(&mut self, level: &Level<'_>, ids: &[&str]) {
        let path = |at: usize| format!("{}{}", level.prefix, ids[at % ids.len()]);
        // A block waits because of a step inside it.
        let edge = |at: usize| {
            let (from, to) = (path(at), path(at + 1));
            let inside =
                |path: &str| path.strip_prefix(&from).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            self.places
                .iter()
                .find(|((waiting, other), _)| *other == to && inside(waiting))
                .map(|(_, place)| place.clone())
        };
        let Some(step) = level.body.steps.iter().find(|step| step.id == ids[0]) else { return };
        let round = ids.iter().chain(ids.first()).map(|id| format!("`{id}`")).collect::<Vec<_>>().join(" → ");
        let first = edge(0).unwrap_or_else(|| step.place.clone());
        let label = |at: usize| format!("`{}` waits for `{}`", ids[at], ids[(at + 1) % ids.len()]);
        let mut diagnostic =
            Diagnostic::new(CYCLE, &first, format!("these steps wait for each other: {round}")).label(label(0));
        for at in 1..ids.len() {
            if let Some(place) = edge(at) {
                diagnostic = diagnostic.also(&place, label(at));
            }
        }
        self.diagnostics.push(diagnostic.help(
            "one of them must do without the other; to go round, put them in a block with `repeat`, and use `previous`",
        ));
    }
}

fn kind(how: How) -> EdgeKind {
    match how {
        How::Uses => EdgeKind::Uses,
        How::Guarded => EdgeKind::Guarded,
        How::Asks => EdgeKind::Asks,
    }
}

/// The shortest way from a component's first node back to itself.
fn shortest_cycle(graph: &DiGraph<usize, ()>, component: &[NodeIndex]) -> Vec<NodeIndex> {
    let Some(start) = component.iter().min_by_key(|node| graph[**node]).copied() else { return Vec::new() };
    let mut came_from = BTreeMap::from([(start, start)]);
    let mut queue = std::collections::VecDeque::from([start]);
    while let Some(node) = queue.pop_front() {
        for next in graph.neighbors(node) {
            if next == start {
                let mut cycle = vec![node];
                while let Some(before) =
                    cycle.last().and_then(|last| came_from.get(last)).filter(|before| !cycle.contains(before))
                {
                    cycle.push(*before);
                }
                cycle.reverse();
                return cycle;
            }
            if component.contains(&next) && !came_from.contains_key(&next) {
                came_from.insert(next, node);
                queue.push_back(next);
            }
        }
    }
    component.to_vec()
}

/// The block that has a step with this id inside.
fn block_of<'f>(body: &'f Body, id: &str) -> Option<&'f str> {
    body.steps.iter().find_map(|step| match &step.action {
        Action::Do(inner) if inner.steps.iter().any(|step| step.id == id) => Some(step.id.as_str()),
        Action::Do(inner) => block_of(inner, id),
        _ => None,
    })
}

/// Whom a step turns to, for people.
fn target(action: &Action) -> String {
    match action {
        Action::Call(call) => call.target.clone(),
        Action::Sample { models, caller, .. } => {
            let names = models.iter().map(|(name, _)| name.as_str()).chain(caller.then_some("caller"));
            names.collect::<Vec<_>>().join(", ")
        }
        Action::Elicit { by, .. } => match by {
            antiphon_kernel::By::Human => "human".to_owned(),
            antiphon_kernel::By::Anyone => "anyone".to_owned(),
        },
        Action::Read { server, .. } => server.0.clone(),
        _ => String::new(),
    }
}
