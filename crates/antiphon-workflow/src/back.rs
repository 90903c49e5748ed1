//! `grants` of `[servers.NAME]`: a server that may call, too, and the workflow by which it does.

use antiphon_kernel::{self as plan, Expr, Graph, Output, Source, Step, Target, Verb};
use serde_json::{Value, json};

use crate::agent::Parts;
use crate::diagnostic::{Diagnostic, Place};
use crate::lower::Uses;
use crate::parsed::File;
use crate::resolve::World;

/// A server with grants that was found by its name.
#[derive(Clone, Copy)]
pub(crate) struct Granted<'a> {
    pub(crate) name: &'a str,
    /// The workflow file that defines it; its names are looked up from there.
    pub(crate) owner: Option<&'a File>,
    pub(crate) grants: &'a [(String, Place)],
}

impl Granted<'_> {
    /// What the server is called in a plan.
    pub(crate) fn key(&self) -> String {
        self.owner.map_or_else(|| self.name.to_owned(), |file| format!("{}/{}", file.name, self.name))
    }
}

/// A lowered server.
pub(crate) struct Lowered {
    pub(crate) workflow: plan::Workflow,
    pub(crate) uses: Uses,
    /// What it is told that it may call; the tools of servers are filled in when it asks.
    pub(crate) tools: Vec<Value>,
}

/// Lowers what a server may call to a workflow of one step: what is called, and with what, is its input. Says which names mean
/// nothing.
pub(crate) fn lower<'a>(granted: Granted<'a>, world: &World<'a>, diagnostics: &mut Vec<Diagnostic>) -> Option<Lowered> {
    let mut parts = Parts::default();
    let mut sound = true;
    parts.granting(granted.owner, granted.grants, world, &mut |place, unknown| {
        sound = false;
        let said = unknown.map(|(code, message, help)| Diagnostic::new(code, place, message).help(help));
        diagnostics.extend(said);
    });
    let Parts { tools, among, uses, .. } = parts;
    let input = |text: &str| Expr {
        source: Source::Expression(text.to_owned()),
        steps: Default::default(),
        vars: ["input".to_owned()].into(),
    };
    let target = Target::OneOf { choice: input("input.name"), among };
    let call = Step::plain("call", Verb::Call { target, with: input("input.arguments or {}") });
    let workflow = plan::Workflow {
        name: granted.name.to_owned(),
        agent: None,
        input_schema: json!({ "type": "object" }),
        output_schema: None,
        body: Graph { steps: vec![call], output: Some(Output::Of(vec!["call".to_owned()])) },
    };
    sound.then_some(Lowered { workflow, uses, tools })
}
