//! The steps of a run as a Mermaid flowchart, with the state of each. What is drawn is the plan that the run pins, not the file as
//! it is by now. Nested workflows and agents are one node each.

use std::collections::BTreeMap;
use std::fmt::Write;

use antiphon_kernel::{Callee, Graph, Plan, RunView, Step, StepPhase, StepView, Target, Verb};

/// How each state looks. Colours that can be told apart, and read on light and dark ground.
const LOOKS: [(&str, &str); 5] = [
    ("running", "fill:#dbeafe,stroke:#2563eb,color:#111"),
    ("asking", "fill:#fef3c7,stroke:#d97706,color:#111"),
    ("succeeded", "fill:#dcfce7,stroke:#16a34a,color:#111"),
    ("failed", "fill:#fee2e2,stroke:#dc2626,color:#111"),
    ("skipped", "fill:#f3f4f6,stroke:#9ca3af,color:#6b7280,stroke-dasharray:4"),
];

/// Draws it.
pub(super) fn mermaid(plan: &Plan, view: &RunView) -> String {
    let mut drawing = Drawing { out: String::from("flowchart TD\n"), states: latest(view), names: BTreeMap::new() };
    if let Some(root) = plan.workflows.get(&plan.root) {
        drawing.steps(&root.body, "", 1);
        drawing.edges(&root.body, "");
        drawing.classes();
    }
    drawing.out
}

struct Drawing<'a> {
    out: String,
    /// The latest state of each step, by its path in the file.
    states: BTreeMap<String, &'a StepView>,
    /// By the same path. Ids may be words of the language (`end`, `graph`): numbers are safe.
    names: BTreeMap<String, String>,
}

impl Drawing<'_> {
    fn steps(&mut self, graph: &Graph, prefix: &str, depth: usize) {
        let indent = "  ".repeat(depth);
        for step in &graph.steps {
            let path = format!("{prefix}{}", step.id);
            let name = format!("n{}", self.names.len());
            self.names.insert(path.clone(), name.clone());
            let status = self.states.get(&path).map_or("pending", |view| phase(view.status));
            let mut label = vec![step.id.clone()];
            match &step.verb {
                Verb::Do { .. } => label.push(status.to_owned()),
                verb => {
                    label.push(format!("{} {}", verb.name(), target(step)).trim_end().to_owned());
                    label.push(match self.states.get(&path).and_then(|view| view.items) {
                        Some((ended, all)) => format!("{status}, {ended} of {all}"),
                        None => status.to_owned(),
                    });
                }
            }
            let label = label.iter().map(|line| escaped(line)).collect::<Vec<_>>().join("<br/>");
            if let Verb::Do { body } = &step.verb {
                let _ = writeln!(self.out, "{indent}subgraph {name}[\"{label}\"]");
                self.steps(body, &format!("{path}/"), depth + 1);
                let _ = writeln!(self.out, "{indent}end");
            } else {
                let _ = writeln!(self.out, "{indent}{name}[\"{label}\"]");
            }
        }
    }

    fn edges(&mut self, graph: &Graph, prefix: &str) {
        for step in &graph.steps {
            let path = format!("{prefix}{}", step.id);
            for (before, dep) in &step.deps {
                // A step of a block may depend on one that stands outside.
                let Some(from) = around(prefix).find_map(|scope| self.names.get(&format!("{scope}{before}"))) else {
                    continue;
                };
                let arrow = if dep.uses { "-->" } else { "-.->" };
                let _ = writeln!(self.out, "  {from} {arrow} {}", self.names[&path]);
            }
            if let Verb::Do { body } = &step.verb {
                self.edges(body, &format!("{path}/"));
            }
        }
    }

    fn classes(&mut self) {
        for (look, style) in LOOKS {
            let here =
                self.names.iter().filter(|(path, _)| self.states.get(*path).is_some_and(|view| class(view) == look));
            let here: Vec<&str> = here.map(|(_, name)| name.as_str()).collect();
            if !here.is_empty() {
                let _ = writeln!(self.out, "  classDef {look} {style}\n  class {} {look}", here.join(","));
            }
        }
    }
}

/// The path of a block and of all that it is in, innermost first; each with a `/` at its end, but the last.
fn around(prefix: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(prefix), |scope| {
        let inner = scope.strip_suffix('/')?;
        Some(&inner[..inner.rfind('/').map_or(0, |slash| slash + 1)])
    })
}

/// Of the rounds and items of a step, the one that was begun last.
fn latest(view: &RunView) -> BTreeMap<String, &StepView> {
    let mut latest: BTreeMap<String, &StepView> = BTreeMap::new();
    for step in &view.steps {
        let path: Vec<&str> =
            step.path.split('/').map(|part| part.split([':', '[']).next().unwrap_or_default()).collect();
        let shown = latest.entry(path.join("/")).or_insert(step);
        if step.started_at >= shown.started_at {
            *shown = step;
        }
    }
    latest
}

fn target(step: &Step) -> String {
    let called = |callee: &Callee| match callee {
        Callee::Tool { server, tool } => format!("{server}.{tool}"),
        Callee::Workflow { name } => name.clone(),
    };
    match &step.verb {
        Verb::Call { target: Target::Fixed(callee), .. } => called(callee),
        Verb::Call { target: Target::OneOf { among, .. }, .. } => {
            among.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
        }
        Verb::Sample { models, caller, .. } => {
            models.iter().map(String::as_str).chain(caller.then_some("caller")).collect::<Vec<_>>().join(", ")
        }
        Verb::Read { server, .. } => server.clone(),
        _ => String::new(),
    }
}

fn phase(phase: StepPhase) -> &'static str {
    match phase {
        StepPhase::Pending => "pending",
        StepPhase::Running => "running",
        StepPhase::Asking => "waits for an answer",
        StepPhase::Waiting => "waits",
        StepPhase::Polling => "waits for a server",
        StepPhase::Succeeded => "succeeded",
        StepPhase::Skipped => "skipped",
        StepPhase::Failed => "failed",
        StepPhase::Cancelled => "cancelled",
    }
}

fn class(view: &StepView) -> &'static str {
    match view.status {
        StepPhase::Pending => "pending",
        StepPhase::Running | StepPhase::Waiting | StepPhase::Polling => "running",
        StepPhase::Asking => "asking",
        StepPhase::Succeeded => "succeeded",
        StepPhase::Failed => "failed",
        StepPhase::Skipped | StepPhase::Cancelled => "skipped",
    }
}

/// Text inside Mermaid's double quotes, which know entities only.
fn escaped(text: &str) -> String {
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
