//! The route graph: who may call whom, and which model answers whose sampling.

use std::collections::BTreeMap;

use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};

/// Everybody in a project, and who turns to whom.
#[derive(Clone, Debug, Default)]
pub struct RouteGraph {
    /// The graph: an edge goes from who asks to who answers.
    pub graph: DiGraph<Party, Route>,
    nodes: BTreeMap<Party, NodeIndex>,
}

/// Somebody who asks or answers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Party {
    /// A workflow.
    Workflow(String),
    /// A server, by key.
    Server(String),
    /// A model, by key; `local` is the embedded one.
    Model(String),
    /// Whoever called us.
    Caller,
}

/// What one asks of another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Route {
    /// `tools/call` of this tool.
    Tool(String),
    /// To run, inside the same run.
    Run,
    /// `resources/read`.
    Read,
    /// `sampling/createMessage`.
    Sample,
}

impl RouteGraph {
    /// Adds somebody, once.
    pub(crate) fn party(&mut self, party: &Party) -> NodeIndex {
        *self.nodes.entry(party.clone()).or_insert_with(|| self.graph.add_node(party.clone()))
    }

    /// Adds an edge, once.
    pub(crate) fn route(&mut self, from: &Party, to: &Party, route: Route) {
        let (from, to) = (self.party(from), self.party(to));
        if !self.graph.edges_connecting(from, to).any(|edge| *edge.weight() == route) {
            self.graph.add_edge(from, to, route);
        }
    }

    /// What a party turns to: each with what it asks, in order.
    pub fn from(&self, party: &Party) -> Vec<(&Party, &Route)> {
        let Some(node) = self.nodes.get(party) else { return Vec::new() };
        let edges = self.graph.edges(*node);
        let mut routes: Vec<_> =
            edges.map(|edge| (&self.graph[petgraph::visit::EdgeRef::target(&edge)], edge.weight())).collect();
        routes.sort();
        routes
    }

    /// The groups of workflows that call each other, also those that call themselves.
    pub(crate) fn call_cycles(&self) -> Vec<Vec<&str>> {
        let name = |node: &NodeIndex| match &self.graph[*node] {
            Party::Workflow(name) => Some(name.as_str()),
            _ => None,
        };
        let cyclic = |nodes: &Vec<NodeIndex>| nodes.len() > 1 || self.graph.contains_edge(nodes[0], nodes[0]);
        let groups = tarjan_scc(&self.graph).into_iter().filter(cyclic);
        groups
            .map(|nodes| {
                let mut names: Vec<_> = nodes.iter().filter_map(name).collect();
                names.sort_unstable();
                names
            })
            .collect()
    }
}
