//! The step graph and the route graph, as Mermaid and DOT.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use petgraph::graph::NodeIndex;
use petgraph::visit::EdgeRef;

use crate::graph::{EdgeKind, StepGraph, StepNode};
use crate::project::Workflow;
use crate::routes::{Party, RouteGraph};

/// The workflow's steps as a Mermaid flowchart. Solid edges use a value or need success, dashed ones only order; blocks are
/// subgraphs.
pub fn mermaid(workflow: &Workflow) -> String {
    let mut out = String::from("flowchart TD\n");
    draw(&workflow.graph, &Mermaid, None, 1, &mut out);
    edges(&workflow.graph, &Mermaid, &mut out);
    out
}

/// The workflow's steps as a Graphviz digraph, drawn as [`mermaid`] draws them.
pub fn dot(workflow: &Workflow) -> String {
    let mut out = format!("digraph {} {{\n  compound=true;\n  node [shape=box];\n", quoted(&workflow.name));
    draw(&workflow.graph, &Dot, None, 1, &mut out);
    edges(&workflow.graph, &Dot, &mut out);
    out.push_str("}\n");
    out
}

/// What the two languages say differently.
trait Language {
    fn node(&self, name: &str, step: &StepNode) -> String;
    fn open(&self, name: &str, step: &StepNode) -> String;
    fn close(&self) -> &'static str;
    /// An edge between nodes or blocks; for a block, also the name of a step inside it.
    fn edge(&self, from: End<'_>, to: End<'_>, dashed: bool) -> String;
}

/// An end of an edge.
struct End<'a> {
    name: &'a str,
    /// A step of the block, if it is one.
    inside: Option<&'a str>,
}

struct Mermaid;
struct Dot;

impl Language for Mermaid {
    fn node(&self, name: &str, step: &StepNode) -> String {
        // A question is asked of somebody: another shape.
        let (open, close) = if step.verb == "elicit" { ("{{", "}}") } else { ("[", "]") };
        let label = label(step).iter().map(|line| mermaid_text(line)).collect::<Vec<_>>().join("<br/>");
        format!("{name}{open}\"{label}\"{close}")
    }

    fn open(&self, name: &str, step: &StepNode) -> String {
        format!("subgraph {name}[\"{}\"]", mermaid_text(id(step)))
    }

    fn close(&self) -> &'static str {
        "end"
    }

    fn edge(&self, from: End<'_>, to: End<'_>, dashed: bool) -> String {
        format!("{} {} {}", from.name, if dashed { "-.->" } else { "-->" }, to.name)
    }
}

impl Language for Dot {
    fn node(&self, name: &str, step: &StepNode) -> String {
        format!("{name} [label={}];", quoted(&label(step).join("\n")))
    }

    fn open(&self, name: &str, step: &StepNode) -> String {
        format!("subgraph cluster_{name} {{\n    label={};", quoted(id(step)))
    }

    fn close(&self) -> &'static str {
        "}"
    }

    fn edge(&self, from: End<'_>, to: End<'_>, dashed: bool) -> String {
        let mut attributes = Vec::new();
        if dashed {
            attributes.push("style=dashed".to_owned());
        }
        if from.inside.is_some() {
            attributes.push(format!("ltail=cluster_{}", from.name));
        }
        if to.inside.is_some() {
            attributes.push(format!("lhead=cluster_{}", to.name));
        }
        let (from, to) = (from.inside.unwrap_or(from.name), to.inside.unwrap_or(to.name));
        let attributes = if attributes.is_empty() { String::new() } else { format!(" [{}]", attributes.join(", ")) };
        format!("{from} -> {to}{attributes};")
    }
}

fn draw(graph: &StepGraph, language: &dyn Language, block: Option<NodeIndex>, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    for (node, step) in steps_of(graph, block) {
        let name = name(node);
        if step.verb == "do" {
            let _ = writeln!(out, "{indent}{}", language.open(&name, step));
            draw(graph, language, Some(node), depth + 1, out);
            let _ = writeln!(out, "{indent}{}", language.close());
        } else {
            let _ = writeln!(out, "{indent}{}", language.node(&name, step));
        }
    }
}

fn edges(graph: &StepGraph, language: &dyn Language, out: &mut String) {
    for edge in graph.graph.edge_references() {
        let (from, to) = (name(edge.source()), name(edge.target()));
        let (in_from, in_to) = (inside(graph, edge.source()), inside(graph, edge.target()));
        let from = End { name: &from, inside: in_from.as_deref() };
        let to = End { name: &to, inside: in_to.as_deref() };
        let _ = writeln!(out, "  {}", language.edge(from, to, *edge.weight() != EdgeKind::Uses));
    }
}

fn steps_of(graph: &StepGraph, block: Option<NodeIndex>) -> impl Iterator<Item = (NodeIndex, &StepNode)> {
    graph.graph.node_indices().map(|node| (node, &graph.graph[node])).filter(move |(_, step)| step.block == block)
}

/// The first plain step inside a block.
fn inside(graph: &StepGraph, node: NodeIndex) -> Option<String> {
    if graph.graph[node].verb != "do" {
        return None;
    }
    let (first, _) = steps_of(graph, Some(node)).next()?;
    inside(graph, first).or_else(|| Some(name(first)))
}

/// Ids may be words of the drawing's language (`end`, `graph`): numbers are safe.
fn name(node: NodeIndex) -> String {
    format!("n{}", node.index())
}

fn id(step: &StepNode) -> &str {
    step.path.rsplit('/').next().unwrap_or(&step.path)
}

/// The id, and what it does.
fn label(step: &StepNode) -> [String; 2] {
    [id(step).to_owned(), format!("{} {}", step.verb, step.target).trim_end().to_owned()]
}

/// Text inside Mermaid's double quotes, which know entities only.
fn mermaid_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '#' | '"' | '<' | '>' | '&' | '`' | '{' | '}' | '[' | ']' | '|' | '\\' => {
                let _ = write!(out, "#{};", u32::from(c));
            }
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// A DOT string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Who may turn to whom, as a Mermaid flowchart: an edge a pair, with what is asked.
pub fn routes_mermaid(routes: &RouteGraph) -> String {
    let mut out = String::from("flowchart LR\n");
    for node in routes.graph.node_indices() {
        let party = &routes.graph[node];
        let (open, close) = match party {
            Party::Workflow(_) => ("[", "]"),
            Party::Agent(_) => ("([", "])"),
            Party::Server(_) => ("[[", "]]"),
            Party::Model(_) => ("{{", "}}"),
            Party::Caller => ("((", "))"),
        };
        let label = format!("{}<br/>{}", mermaid_text(party.called()), party.kind());
        let _ = writeln!(out, "  {}{open}\"{label}\"{close}", name(node));
    }
    for ((from, to), asked) in pairs(routes) {
        let _ = writeln!(out, "  {} -->|\"{}\"| {}", name(from), mermaid_text(&asked), name(to));
    }
    out
}

/// The same as a Graphviz digraph.
pub fn routes_dot(routes: &RouteGraph) -> String {
    let mut out = String::from("digraph routes {\n  rankdir=LR;\n");
    for node in routes.graph.node_indices() {
        let party = &routes.graph[node];
        let shape = match party {
            Party::Workflow(_) => "box",
            Party::Agent(_) => "ellipse",
            Party::Server(_) => "component",
            Party::Model(_) => "hexagon",
            Party::Caller => "circle",
        };
        let label = quoted(&format!("{}\n{}", party.called(), party.kind()));
        let _ = writeln!(out, "  {} [shape={shape}, label={label}];", name(node));
    }
    for ((from, to), asked) in pairs(routes) {
        let _ = writeln!(out, "  {} -> {} [label={}];", name(from), name(to), quoted(&asked));
    }
    out.push_str("}\n");
    out
}

/// What one asks of another, for each pair.
fn pairs(routes: &RouteGraph) -> Vec<((NodeIndex, NodeIndex), String)> {
    let mut pairs: BTreeMap<(NodeIndex, NodeIndex), BTreeSet<String>> = BTreeMap::new();
    for edge in routes.graph.edge_references() {
        pairs.entry((edge.source(), edge.target())).or_default().insert(edge.weight().to_string());
    }
    pairs.into_iter().map(|(pair, asked)| (pair, asked.into_iter().collect::<Vec<_>>().join(", "))).collect()
}
