//! Whom an agent may turn to: its names, looked up.

use std::collections::{BTreeMap, BTreeSet};

use antiphon_kernel::Callee;
use serde_json::{Value, json};

use super::{Found, asked, tool};
use crate::code::{BAD_VALUE, BROKEN_CALLEE, UNKNOWN_CALLEE};
use crate::diagnostic::{Diagnostic, Place};
use crate::lower::Uses;
use crate::parsed::File;
use crate::resolve::{Called, Unknown, World};
use crate::routes::{Party, Route};

/// What an agent's names mean.
#[derive(Default)]
pub(crate) struct Parts<'a> {
    /// Keys of its models, in order.
    pub(crate) models: Vec<String>,
    /// What its model is told that it may call; those of servers are filled in when it is asked.
    pub(crate) tools: Vec<Value>,
    /// What each of these names means.
    pub(crate) among: BTreeMap<String, Callee>,
    /// Whom it may hand the conversation to.
    pub(crate) handoffs: Vec<Found<'a>>,
    pub(crate) uses: Uses,
}

/// Looks up the names of an agent, and says which mean nothing.
pub(crate) fn parts<'a>(found: Found<'a>, world: &World<'a>, diagnostics: &mut Vec<Diagnostic>) -> Option<Parts<'a>> {
    let mut sound = true;
    let mut refuse = |place: &Place, unknown: Unknown| {
        sound = false;
        let said = unknown.map(|(code, message, help)| Diagnostic::new(code, place, message).help(help));
        diagnostics.extend(said);
    };
    let mut parts = Parts::default();
    for (name, place) in &found.agent.models {
        match world.route(found.owner, name) {
            Ok(key) => {
                parts.uses.routes.insert((Party::Model(key.clone()), Route::Sample));
                parts.models.push(key);
            }
            Err(unknown) => refuse(place, unknown),
        }
    }
    if found.agent.caller {
        parts.uses.asks = true;
        parts.uses.routes.insert((Party::Caller, Route::Sample));
    }
    parts.granting(found.owner, &found.agent.grants, world, &mut refuse);
    for (name, place) in &found.agent.handoffs {
        match world.agent(found.owner, name) {
            Ok(other) if other.key() == found.key() => {
                let help = "name another agent, or none".to_owned();
                refuse(place, Some((BAD_VALUE, format!("`{name}` can't hand over to itself"), help)));
            }
            Ok(other) => {
                parts.tools.push(handoff(&other));
                parts.uses.routes.insert((Party::Agent(other.key()), Route::Handoff));
                parts.handoffs.push(other);
            }
            Err(unknown) => refuse(place, unknown),
        }
    }
    sound.then_some(parts)
}

impl Parts<'_> {
    /// Grants what can be called by these names; the others are refused.
    pub(crate) fn granting<'w>(
        &mut self,
        owner: Option<&'w File>,
        grants: &[(String, Place)],
        world: &World<'w>,
        refuse: &mut dyn FnMut(&Place, Unknown),
    ) {
        for (name, place) in grants {
            match world.called(owner, name) {
                Ok(called) => {
                    self.uses.calls(&called, place, false);
                    self.grant(name, &called);
                }
                Err(unknown) => refuse(place, unknown),
            }
        }
    }

    fn grant(&mut self, name: &str, called: &Called<'_>) {
        let (name, spec) = match called {
            Called::Tool { server, tool } => {
                let name = name.replacen('.', "__", 1);
                let spec = json!({ "server": server, "tool": tool, "name": name });
                (name, spec)
            }
            Called::Workflow(file) => {
                let description = file.description.clone();
                let description = description.unwrap_or_else(|| format!("Runs the workflow `{}`", file.name));
                let spec = json!({ "name": file.name, "description": description, "input_schema": file.input_schema });
                (file.name.clone(), spec)
            }
            Called::Agent(agent) => {
                let name = tool(agent.name);
                let spec = json!({ "name": name, "description": agent.description(), "input_schema": asked() });
                (name, spec)
            }
        };
        if self.among.insert(name, called.callee()).is_none() {
            self.tools.push(spec);
        }
    }
}

/// What the tool is called that hands the conversation over.
pub(crate) fn handoff_name(name: &str) -> String {
    format!("handoff_to_{name}")
}

fn handoff(other: &Found<'_>) -> Value {
    let own = other.agent.description.as_deref().map(|own| format!(": {own}")).unwrap_or_default();
    let description = format!("Hands this conversation over to the agent `{}`{own}", other.name);
    json!({
        "name": handoff_name(other.name),
        "description": description,
        "input_schema": { "type": "object", "properties": {} },
    })
}

/// Everybody who may come to hold the conversation, the agent itself first. What is wrong with the others is said of them.
pub(crate) fn holders<'a>(
    found: Found<'a>,
    world: &World<'a>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Vec<(Found<'a>, Parts<'a>)>> {
    let own = parts(found, world, diagnostics)?;
    let mut seen = BTreeSet::from([found.key()]);
    let mut todo: Vec<Found<'a>> = own.handoffs.clone();
    let mut holders = vec![(found, own)];
    while let Some(next) = todo.pop() {
        if !seen.insert(next.key()) {
            continue;
        }
        let Some(parts) = parts(next, world, &mut Vec::new()) else {
            let place = found.agent.handoffs.first().map(|(_, place)| place);
            diagnostics.extend(place.map(|place| {
                let message = format!("the agent `{}`, which may come to hold the conversation, has errors", next.name);
                Diagnostic::new(BROKEN_CALLEE, place, message).help("mend it first")
            }));
            return None;
        };
        todo.extend(parts.handoffs.iter().copied());
        holders.push((next, parts));
    }
    let mut names = BTreeSet::new();
    if let Some((twice, _)) = holders.iter().find(|(holder, _)| !names.insert(holder.name)) {
        let place = found.agent.handoffs.first().map(|(_, place)| place);
        diagnostics.extend(place.map(|place| {
            let message = format!("two agents called `{}` may come to hold the conversation", twice.name);
            Diagnostic::new(UNKNOWN_CALLEE, place, message).help("rename the one in the workflow file")
        }));
        return None;
    }
    Some(holders)
}
