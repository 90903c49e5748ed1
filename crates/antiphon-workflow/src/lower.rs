//! From a file to the kernel's workflow: names are looked up, edges become dependencies.

use std::collections::{BTreeMap, BTreeSet};

use antiphon_kernel as plan;
use antiphon_kernel::{Callee, Dep, EffectClass, Source, Target, Verb};
use serde_json::Value;

use crate::agent;
use crate::code::{BAD_ARGUMENTS, OPEN_TARGET, UNKNOWN_CALLEE, WRONG_VERB};
use crate::diagnostic::{Diagnostic, Place, suggest};
use crate::graph::Level;
use crate::parsed::{Action, Call, File, Step, Undo};
use crate::resolve::{Called, Unknown, World};
use crate::routes::{Party, Route};

/// A lowered file, and what it turns to.
pub(crate) struct Lowered {
    pub(crate) workflow: plan::Workflow,
    pub(crate) uses: Uses,
}

/// Whom a file or an agent turns to, and what follows from that.
pub(crate) struct Uses {
    pub(crate) routes: BTreeSet<(Party, Route)>,
    /// The workflows that it calls, and where.
    pub(crate) workflows: BTreeMap<String, Place>,
    /// The agents that it calls, by key, and where.
    pub(crate) agents: BTreeMap<String, Place>,
    /// The servers, likewise.
    pub(crate) servers: BTreeMap<String, Place>,
    /// It has an `elicit`, or a `sample` that may go to the caller.
    pub(crate) asks: bool,
    /// Each of its calls is declared `read_only`, or is of a workflow or an agent.
    pub(crate) read_only: bool,
}

impl Default for Uses {
    fn default() -> Self {
        let (routes, workflows, agents, servers) = Default::default();
        Self { routes, workflows, agents, servers, asks: false, read_only: true }
    }
}

impl Uses {
    /// It calls this; `declared`: it says that this changes nothing.
    pub(crate) fn calls(&mut self, called: &Called<'_>, place: &Place, declared: bool) {
        match called {
            Called::Tool { server, tool } => {
                self.read_only &= declared;
                self.servers.entry(server.clone()).or_insert_with(|| place.clone());
                self.routes.insert((Party::Server(server.clone()), Route::Tool(tool.clone())));
            }
            Called::Workflow(file) => {
                self.workflows.entry(file.name.clone()).or_insert_with(|| place.clone());
                self.routes.insert((Party::Workflow(file.name.clone()), Route::Run));
            }
            Called::Agent(found) => {
                self.agents.entry(found.key()).or_insert_with(|| place.clone());
                self.routes.insert((Party::Agent(found.key()), Route::Ask));
            }
        }
    }
}

/// Lowers a file, and says which names mean nothing.
pub(crate) fn lower(
    file: &File,
    world: &World<'_>,
    deps: &BTreeMap<String, BTreeMap<String, Dep>>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Lowered {
    let mut lowering = Lowering { file, world, deps, uses: Uses::default(), diagnostics };
    let body = lowering.body(&Level::root(file), &mut Vec::new());
    let workflow = plan::Workflow {
        name: file.name.clone(),
        agent: None,
        input_schema: file.input_schema.clone(),
        output_schema: file.output_schema.clone(),
        body,
    };
    Lowered { workflow, uses: lowering.uses }
}

struct Lowering<'a> {
    file: &'a File,
    world: &'a World<'a>,
    deps: &'a BTreeMap<String, BTreeMap<String, Dep>>,
    uses: Uses,
    diagnostics: &'a mut Vec<Diagnostic>,
}

/// The items of the `for_each` around, innermost last: the name, and the list if it is literal.
type Items<'a> = Vec<(&'a str, Option<&'a Vec<Value>>)>;

impl Lowering<'_> {
    fn body<'l>(&mut self, level: &Level<'l>, items: &mut Items<'l>) -> plan::Graph {
        let steps = level.body.steps.iter().filter_map(|step| self.step(step, level, items)).collect();
        plan::Graph { steps, output: level.body.output.clone().map(plan::Output::Table) }
    }

    fn step<'l>(&mut self, step: &'l Step, level: &Level<'l>, items: &mut Items<'l>) -> Option<plan::Step> {
        let mark = items.len();
        if let Some(each) = &step.for_each {
            let list = match &each.items.source {
                Source::Literal(Value::Array(list)) => Some(list),
                _ => None,
            };
            items.push((&each.name, list));
        }
        let verb = self.verb(step, level, items);
        self.check_retry(verb.as_ref(), step.retry.as_ref());
        let undo = step.undo.as_ref().map(|undo| self.undo(undo, level, items));
        items.truncate(mark);
        let undo = match undo {
            Some(undo) => Some(Box::new(plan::Graph { steps: vec![undo?], output: None })),
            None => None,
        };
        let path = format!("{}{}", level.prefix, step.id);
        Some(plan::Step {
            id: step.id.clone(),
            verb: verb?,
            deps: self.deps.get(&path).cloned().unwrap_or_default(),
            when: step.when.as_ref().map(|when| when.expr.clone()),
            for_each: step.for_each.clone(),
            repeat: step.repeat.clone(),
            retry: step.retry.as_ref().map(|(retry, _)| retry.clone()),
            timeout_ms: step.timeout_ms,
            expect: step.expect.clone(),
            on_error: step.on_error.clone(),
            undo,
            effects: step.effects,
            on_doubt: step.on_doubt,
        })
    }

    fn verb<'l>(&mut self, step: &'l Step, level: &Level<'l>, items: &mut Items<'l>) -> Option<Verb> {
        Some(match &step.action {
            Action::Call(call) => self.call(call, step.effects, level, items)?,
            Action::Sample { models, caller, request, max_tokens, .. } => {
                let keys: Vec<_> = models.iter().map(|(name, place)| self.model(name, place)).collect();
                self.uses.asks |= caller;
                if *caller {
                    self.uses.routes.insert((Party::Caller, Route::Sample));
                }
                let models = keys.into_iter().collect::<Option<_>>()?;
                let (caller, request, max_tokens) = (*caller, request.clone(), *max_tokens);
                Verb::Sample { models, caller, request, max_tokens, tools: false }
            }
            Action::Elicit { message, form, by } => {
                self.uses.asks = true;
                Verb::Elicit { message: message.clone(), form: form.clone(), by: *by }
            }
            Action::Read { server: (name, place), uri } => {
                let found = self.world.server(Some(self.file), name);
                let (server, _) = self.known(found, place)?;
                self.uses.routes.insert((Party::Server(server.clone()), Route::Read));
                Verb::Read { server, uri: uri.clone() }
            }
            Action::Set { value } => Verb::Set { value: value.clone() },
            Action::Wait(wait) => Verb::Wait(wait.clone()),
            Action::Do(body) => {
                let prefix = format!("{}{}/", level.prefix, step.id);
                let inner = Level { body, prefix: &prefix, around: Some((&step.id, level)) };
                Verb::Do { body: self.inner(&inner, items) }
            }
        })
    }

    /// A block's body; its items are those around it.
    fn inner(&mut self, level: &Level<'_>, items: &Items<'_>) -> plan::Graph {
        self.body(level, &mut items.clone())
    }

    fn undo(&mut self, undo: &Undo, level: &Level<'_>, items: &Items<'_>) -> Option<plan::Step> {
        let verb = self.call(&undo.call, undo.effects, level, items)?;
        self.check_retry(Some(&verb), undo.retry.as_ref());
        Some(plan::Step {
            retry: undo.retry.as_ref().map(|(retry, _)| retry.clone()),
            timeout_ms: undo.timeout_ms,
            effects: undo.effects,
            on_doubt: undo.on_doubt,
            ..plan::Step::plain("undo", verb)
        })
    }

    fn model(&mut self, name: &str, place: &Place) -> Option<String> {
        let found = self.world.route(Some(self.file), name);
        let key = self.known(found, place)?;
        self.uses.routes.insert((Party::Model(key.clone()), Route::Sample));
        Some(key)
    }

    fn call(
        &mut self,
        call: &Call,
        effects: Option<EffectClass>,
        level: &Level<'_>,
        items: &Items<'_>,
    ) -> Option<Verb> {
        let target = if call.target.contains("{{") {
            let Some(targets) = closed_set(&call.target, level, items, &self.file.input_schema) else {
                self.diagnostics.push(
                    Diagnostic::new(OPEN_TARGET, &call.place, "nobody knows what this may call")
                        .help("a call by template chooses from a closed set: the labels of a `choose`, an `enum`, or a literal `for_each` list"),
                );
                return None;
            };
            let among: Vec<_> = targets
                .into_iter()
                .map(|target| Some((target.clone(), self.callee(&target, call, effects)?)))
                .collect();
            Target::OneOf { choice: call.target_expr.clone(), among: among.into_iter().collect::<Option<_>>()? }
        } else {
            Target::Fixed(self.callee(&call.target, call, effects)?)
        };
        let mut with = call.with.clone();
        if let Some((schema, _)) = &call.schema {
            with.source = and(with.source, "schema", schema.clone());
        }
        Some(Verb::Call { target, with })
    }

    fn callee(&mut self, target: &str, call: &Call, effects: Option<EffectClass>) -> Option<Callee> {
        let found = self.world.called(Some(self.file), target);
        let called = self.known(found, &call.place)?;
        if matches!(&called, Called::Tool { tool, .. } if tool.contains('*')) {
            let message = format!("`{target}` names several tools, and a call is of one");
            let help = "patterns are for the `grants` of an agent, whose model chooses";
            self.diagnostics.push(Diagnostic::new(UNKNOWN_CALLEE, &call.place, message).help(help));
            return None;
        }
        self.uses.calls(&called, &call.place, effects == Some(EffectClass::ReadOnly));
        match &called {
            Called::Tool { .. } => {}
            Called::Workflow(file) => self.check_arguments(&format!("workflow `{target}`"), &file.input_schema, call),
            Called::Agent(_) => self.check_arguments(&format!("agent `{target}`"), &agent::asked(), call),
        }
        if let Some((_, place)) = call.schema.as_ref().filter(|_| !matches!(called, Called::Agent(_))) {
            let message = format!("a `schema` is for the answer of an agent, and `{target}` is none");
            let help = "what a tool or a workflow yields has the shape that it gives it; test it with `expect`";
            self.diagnostics.push(Diagnostic::new(WRONG_VERB, place, message).help(help));
            return None;
        }
        Some(called.callee())
    }

    /// What runs inside a run ends as its steps do: it is no more tried again as a whole than a block is.
    fn check_retry(&mut self, verb: Option<&Verb>, retry: Option<&(plan::Retry, Place)>) {
        let (Some(Verb::Call { target, .. }), Some((_, place))) = (verb, retry) else { return };
        let inside = match target {
            Target::Fixed(callee) => matches!(callee, Callee::Workflow { .. }),
            Target::OneOf { among, .. } => among.values().all(|callee| matches!(callee, Callee::Workflow { .. })),
        };
        if inside {
            let message = "a workflow or an agent is not retried as a whole";
            let help = "give `retry` to the steps inside it that may fail, or `repeat` this one";
            self.diagnostics.push(Diagnostic::new(WRONG_VERB, place, message).help(help));
        }
    }

    /// Arguments of workflows and agents are known at load.
    fn check_arguments(&mut self, callee: &str, schema: &Value, call: &Call) {
        let Some(properties) = schema["properties"].as_object() else { return };
        for (argument, place) in &call.arguments {
            if schema["additionalProperties"] == Value::Bool(false) && !properties.contains_key(argument) {
                let help = suggest(argument, properties.keys().map(String::as_str))
                    .unwrap_or_else(|| "it has no inputs".to_owned());
                let message = format!("the {callee} has no input `{argument}`");
                self.diagnostics.push(Diagnostic::new(BAD_ARGUMENTS, place, message).help(help));
            }
        }
        for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !call.arguments.iter().any(|(argument, _)| argument == required) {
                let message = format!("the {callee} needs the input `{required}`");
                self.diagnostics.push(
                    Diagnostic::new(BAD_ARGUMENTS, &call.place, message).help(format!("add `with.{required} = …`")),
                );
            }
        }
    }

    /// What was found, or else a word about why not.
    fn known<T>(&mut self, found: Result<T, Unknown>, place: &Place) -> Option<T> {
        match found {
            Ok(found) => Some(found),
            Err(unknown) => {
                let diagnostic = unknown.map(|(code, message, help)| Diagnostic::new(code, place, message).help(help));
                self.diagnostics.extend(diagnostic);
                None
            }
        }
    }
}

/// A map with one entry more.
fn and(map: Source, key: &str, value: Value) -> Source {
    match map {
        Source::Literal(Value::Object(mut entries)) => {
            entries.insert(key.to_owned(), value);
            Source::Literal(Value::Object(entries))
        }
        Source::Map(mut entries) => {
            entries.insert(key.to_owned(), Source::Literal(value));
            Source::Map(entries)
        }
        other => other,
    }
}

/// All that a template over one choice may yield; `None` if that is not known.
fn closed_set(template: &str, level: &Level<'_>, items: &Items<'_>, input: &Value) -> Option<Vec<String>> {
    let (before, rest) = template.split_once("{{")?;
    let (path, after) = rest.split_once("}}")?;
    if after.contains("{{") || after.contains("{%") || before.contains("{%") {
        return None;
    }
    let keys: Vec<&str> = path.trim_matches(['-', '+']).trim().split('.').map(str::trim).collect();
    let choices = match keys[..] {
        ["steps", id, "output", ref rest @ ..] => of_step(level.find(id)?.0, rest)?,
        ["input", ref rest @ ..] => of_schema(input, rest)?,
        [name, ref rest @ ..] => {
            let list = items.iter().rev().find(|(item, _)| *item == name)?.1?;
            let at =
                |item: &Value| rest.iter().try_fold(item, |value, key| value.get(key))?.as_str().map(str::to_owned);
            list.iter().map(at).collect::<Option<_>>()?
        }
        [] => return None,
    };
    // A template with nothing around its `{{ }}` is trimmed.
    let (before, after) = if before.trim().is_empty() && after.trim().is_empty() { ("", "") } else { (before, after) };
    Some(choices.into_iter().map(|choice| format!("{before}{choice}{after}")).collect())
}

fn of_step(step: &Step, path: &[&str]) -> Option<Vec<String>> {
    if step.for_each.is_some() {
        return None;
    }
    match &step.action {
        Action::Sample { answer: Some(schema), .. } | Action::Call(Call { schema: Some((schema, _)), .. }) => {
            of_schema(schema, path)
        }
        Action::Elicit { form: plan::Form::Fields(schema), .. } => of_schema(schema, path),
        _ => None,
    }
}

fn of_schema(schema: &Value, path: &[&str]) -> Option<Vec<String>> {
    let at = path.iter().try_fold(schema, |schema, key| schema.get("properties")?.get(key))?;
    at.get("enum")?.as_array()?.iter().map(|choice| choice.as_str().map(str::to_owned)).collect()
}
