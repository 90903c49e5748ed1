//! The route graph: who may call whom, and which model answers whose sampling.

use std::collections::BTreeMap;
use std::fmt;

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
    /// An agent, by key.
    Agent(String),
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
    /// To answer, inside the same run.
    Ask,
    /// To go on with the conversation.
    Handoff,
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
    pub(crate) fn call_cycles(&self) -> Vec<Vec<&Party>> {
        self.cycles(|party| matches!(party, Party::Workflow(_)))
    }

    /// The groups of agents, and of servers that may call, that can come back to each other by calls, with the workflows on the way.
    pub(crate) fn agent_cycles(&self) -> Vec<Vec<&Party>> {
        let mut groups = self.cycles(|party| matches!(party, Party::Workflow(_) | Party::Agent(_) | Party::Server(_)));
        groups.retain(|group| group.iter().any(|party| !matches!(party, Party::Workflow(_))));
        groups
    }

    /// The groups, among some parties, that can reach each other by calls.
    fn cycles(&self, among: impl Fn(&Party) -> bool) -> Vec<Vec<&Party>> {
        let calls = self.graph.filter_map(
            |node, party| among(party).then_some(node),
            |_, route| matches!(route, Route::Run | Route::Ask | Route::Tool(_)).then_some(()),
        );
        let cyclic = |nodes: &Vec<NodeIndex>| nodes.len() > 1 || calls.contains_edge(nodes[0], nodes[0]);
        let groups = tarjan_scc(&calls).into_iter().filter(cyclic);
        groups
            .map(|nodes| {
                let mut parties: Vec<_> = nodes.iter().map(|node| &self.graph[calls[*node]]).collect();
                parties.sort_unstable();
                parties
            })
            .collect()
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tool(tool) => tool,
            Self::Run => "run",
            Self::Ask => "ask",
            Self::Handoff => "hand over",
            Self::Read => "read",
            Self::Sample => "sample",
        })
    }
}

impl Party {
    /// What it is.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Workflow(_) => "workflow",
            Self::Agent(_) => "agent",
            Self::Server(_) => "server",
            Self::Model(_) => "model",
            Self::Caller => "whoever called",
        }
    }

    /// The key or name.
    pub fn name(&self) -> &str {
        match self {
            Self::Workflow(name) | Self::Agent(name) | Self::Server(name) | Self::Model(name) => name,
            Self::Caller => "caller",
        }
    }

    /// The name that files use.
    pub fn called(&self) -> &str {
        let name = self.name().rsplit('/').next().unwrap_or_default();
        match self {
            Self::Agent(_) => name.strip_prefix("ask_").unwrap_or(name),
            _ => name,
        }
    }
}
