//! The plan of a single call: so `antiphon call` is journalled, can be in doubt, and asks, like any step.

use std::collections::BTreeSet;

use antiphon_kernel::{Callee, Expr, Graph, KERNEL_VERSION, Limits, Plan, Source, Step, Target, Verb, Workflow};
use antiphon_workflow::Project;
use serde_json::{Value, json};

/// The only step's id.
const STEP: &str = "call";

/// A plan that calls one tool with the run's input, and yields what it yields.
pub fn plan(project: &Project, server: &str, tool: &str) -> Plan {
    let name = format!("{server}.{tool}");
    let reads = |source: &str, steps: &[&str], vars: &[&str]| Expr {
        source: Source::Expression(source.to_owned()),
        steps: steps.iter().map(|&step| step.to_owned()).collect::<BTreeSet<_>>(),
        vars: vars.iter().map(|&var| var.to_owned()).collect::<BTreeSet<_>>(),
    };
    let callee = Callee::Tool { server: server.to_owned(), tool: tool.to_owned() };
    let step = Step::plain(STEP, Verb::Call { target: Target::Fixed(callee), with: reads("input", &[], &["input"]) });
    let workflow = Workflow {
        name: name.clone(),
        agent: None,
        // The server knows what its tool takes.
        input_schema: json!({ "type": "object" }),
        output_schema: None,
        body: Graph { steps: vec![step], output: None },
    };
    let back = project.ways_back.get(server).map(|back| back.workflows.clone());
    Plan {
        kernel: KERNEL_VERSION,
        root: name.clone(),
        workflows: back.into_iter().flatten().chain([(name, workflow)]).collect(),
        limits: Limits::default(),
    }
}

/// The servers and the models that such a plan may come to use.
pub fn uses(project: &Project, server: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let back = project.ways_back.get(server).cloned().unwrap_or_default();
    let servers = back.servers_used.into_iter().chain([server.to_owned()]);
    (servers.collect(), back.models_used)
}

/// The output of a run of such a plan: what the tool itself yielded. Other runs' outputs stay as they are.
pub fn unwrap(workflow: &str, mut output: Value) -> Value {
    // A workflow's own name has no dot.
    match output.get_mut(STEP) {
        Some(own) if workflow.contains('.') => own.take(),
        _ => output,
    }
}
