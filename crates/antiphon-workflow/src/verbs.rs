//! The verbs' own keys.

use antiphon_kernel::{By, Expr, Form, Source, Wait};
use serde_json::{Value, json};
use toml::de::DeValue;

use crate::code::{BAD_VALUE, MISSING_KEY, MODIFIER_IN_WITH, PREFERENCE, WRONG_VERB};
use crate::diagnostic::{Diagnostic, Place};
use crate::keys::{MODIFIERS, OF_STEP};
use crate::parsed::{Action, Call};
use crate::read::{Item, Spelling, Table};
use crate::template::{Names, Templates, literal};
use crate::{shape, step};

/// The most tokens of an answer, if the step does not say.
const MAX_TOKENS: u64 = 1_024;

/// Reads the keys of a step's verb.
pub(crate) fn read(t: &mut Templates<'_>, table: &Table<'_>, verb: &str, names: &Names) -> Option<Action> {
    match verb {
        "call" => {
            let schema = table.take("schema");
            let schema = schema.map(|item| Some((shape::read(&item, Some(OF_STEP))?, item.key_place())));
            let call = call(t, table, names)?;
            Some(Action::Call(Call { schema: schema.map_or(Some(None), |schema| schema.map(Some))?, ..call }))
        }
        "sample" => sample(t, table, names),
        "elicit" => elicit(t, table, names),
        "read" => {
            let server = table.take("read").and_then(|item| Some((item.string()?.to_owned(), item.place())));
            let uri = table.require("uri").and_then(|item| t.template(&item, names));
            Some(Action::Read { server: server?, uri: uri? })
        }
        "set" => Some(Action::Set { value: t.value(&table.take("set")?, names)? }),
        "wait" => wait(t, &table.take("wait")?, names).map(Action::Wait),
        _ => {
            let (steps, output) = (table.take("do"), table.take("output"));
            Some(Action::Do(step::body(table.cx, steps.as_ref(), output.as_ref(), names)))
        }
    }
}

/// `call` and `with`.
pub(crate) fn call(t: &mut Templates<'_>, table: &Table<'_>, names: &Names) -> Option<Call> {
    let target = table.take("call");
    let with = table.take("with");
    let arguments = with.as_ref().and_then(Item::table);
    if let Some(arguments) = &arguments {
        arguments.items().for_each(|item| modifier_in_with(arguments, &item));
    }
    let arguments =
        arguments.iter().flat_map(Table::items).map(|item| (item.key.to_owned(), item.key_place())).collect();
    let with = match &with {
        Some(with) if with.get().is_table() => t.value(with, names),
        Some(_) => None,
        None => Some(literal(json!({}))),
    };
    let target = target?;
    let target_expr = t.template(&target, names)?;
    Some(Call {
        target: target.string()?.to_owned(),
        target_expr,
        place: target.place(),
        with: with?,
        arguments,
        schema: None,
    })
}

/// An argument with the name of a modifier is probably one.
fn modifier_in_with(with: &Table<'_>, item: &Item<'_>) {
    if item.is_quoted() || !MODIFIERS.contains(&item.key) {
        return;
    }
    let key = item.key;
    let diagnostic =
        Diagnostic::new(MODIFIER_IN_WITH, &item.key_place(), format!("`{key}` is handed to the tool, not to the step"));
    let diagnostic = if with.spelling == Spelling::Header {
        let header = item.cx.slice(with.span.clone());
        diagnostic.also(&with.place(), "everything up to the next header belongs here").help(format!(
            "if it is the step's, move it above `{header}`; if the tool has such an argument, quote it: `\"{key}\" = …`"
        ))
    } else {
        diagnostic.help(format!(
            "if it is the step's, take it out of `with`; if the tool has such an argument, quote it: `\"{key}\"`"
        ))
    };
    item.cx.report(diagnostic);
}

fn sample(t: &mut Templates<'_>, table: &Table<'_>, names: &Names) -> Option<Action> {
    let route = table.take("sample").and_then(|item| route(&item));
    let mut parts = Vec::new();
    let (prompt, messages) = (table.take("prompt"), table.take("messages"));
    match (&prompt, &messages) {
        (None, None) => {
            table.cx.report(
                Diagnostic::new(MISSING_KEY, &table.place(), "this `sample` asks nothing").help("add `prompt = \"…\"`"),
            );
        }
        (Some(_), Some(messages)) => {
            let message = "a `sample` has either `prompt` or `messages`";
            table.cx.report(
                Diagnostic::new(WRONG_VERB, &messages.key_place(), message).help("put the prompt among the messages"),
            );
        }
        _ => {}
    }
    let mut sound = prompt.is_some() != messages.is_some();
    let mut add = |key: &str, expr: Option<Expr>| match expr {
        Some(expr) => parts.push((key.to_owned(), expr)),
        None => sound = false,
    };
    if let Some(item) = prompt {
        add("prompt", t.prose(&item, names));
    }
    if let Some(item) = messages {
        add(
            "messages",
            item.list("write `[{ role = \"user\", content = \"…\" }]`").and_then(|_| t.value(&item, names)),
        );
    }
    if let Some(item) = table.take("system") {
        add("system", t.prose(&item, names));
    }
    let (choose, schema) = (table.take("choose"), table.take("schema"));
    let mut answer = None;
    if let Some(item) = &choose {
        let labels = labels(item);
        answer = labels.as_ref().map(|labels| json!({ "enum": labels }));
        add("choose", labels.and_then(|_| t.value(item, names)));
    }
    if let Some(item) = &schema {
        if choose.is_some() {
            let message = "an answer is either one of `choose` or of the shape of `schema`";
            table.cx.report(
                Diagnostic::new(WRONG_VERB, &item.key_place(), message)
                    .help("an `enum` in the schema is a choice, too"),
            );
        }
        let schema = shape::read(item, Some(OF_STEP));
        answer = schema.clone();
        add("schema", schema.map(literal));
    }
    if let Some(item) = table.take("examples") {
        add("examples", examples(t, &item, names));
    }
    let max_tokens = max_tokens(table);
    add("max_tokens", max_tokens.map(literal));
    if let Some(item) = table.take("temperature") {
        add("temperature", temperature(&item).map(literal));
    }
    let preferred = table.take("prefer");
    let (models, caller) = route?;
    if let Some(item) = preferred {
        add("prefer", prefer(t, &item, &models, names));
    }
    sound.then_some(())?;
    Some(Action::Sample { models, caller, request: Templates::map(parts), max_tokens: max_tokens?, answer })
}

/// How long an answer may be.
pub(crate) fn max_tokens(table: &Table<'_>) -> Option<u64> {
    table.take("max_tokens").map_or(Some(MAX_TOKENS), |item| item.integer(1..=1_000_000))
}

/// How freely a model chooses words.
pub(crate) fn temperature(item: &Item<'_>) -> Option<f64> {
    item.number(0.0..=2.0)
}

/// The models of a `sample` or an agent, and whether the caller comes last.
pub(crate) fn route(item: &Item<'_>) -> Option<(Vec<(String, Place)>, bool)> {
    let key = item.key;
    let mut models = match item.get() {
        DeValue::String(name) => vec![(name.as_ref(), item.place())],
        DeValue::Array(_) => item.strings("")?,
        _ => {
            item.expected(
                "a model's name, or a list of them",
                &format!("write `{key} = \"local\"`, or `{key} = [\"smart\", \"local\"]`"),
            );
            return None;
        }
    };
    if models.is_empty() {
        item.refuse(BAD_VALUE, "no model is named", format!("write `{key} = \"local\"`"));
        return None;
    }
    let caller = models.last().is_some_and(|(name, _)| *name == "caller");
    if caller {
        models.pop();
    }
    if let Some((_, place)) = models.iter().find(|(name, _)| *name == "caller") {
        let message = "`caller` comes last: it is asked when no model can answer";
        item.cx.report(Diagnostic::new(BAD_VALUE, place, message).help("move it to the end"));
        return None;
    }
    Some((models.into_iter().map(|(name, place)| (name.to_owned(), place)).collect(), caller))
}

/// `prefer`, where the route is `auto`.
pub(crate) fn prefer(
    t: &mut Templates<'_>,
    item: &Item<'_>,
    models: &[(String, Place)],
    names: &Names,
) -> Option<Expr> {
    preferences(item)?;
    if !models.iter().any(|(name, _)| name == "auto") {
        let help = "choose the model by it (`auto`), or name the models in order of preference";
        item.refuse(PREFERENCE, "`prefer` goes with the model `auto`", help);
        return None;
    }
    t.value(item, names)
}

/// What a model should be like, in MCP's own words.
fn preferences(item: &Item<'_>) -> Option<()> {
    const HELP: &str = "write `prefer = { hints = [\"qwen\"], intelligencePriority = 0.8, local_only = true }`";
    let table = item.table()?;
    if let Some(hints) = table.take("hints") {
        hints.strings(HELP)?;
    }
    for key in ["costPriority", "speedPriority", "intelligencePriority"] {
        if let Some(item) = table.take(key) {
            item.number(0.0..=1.0)?;
        }
    }
    if let Some(item) = table.take("local_only") {
        item.boolean()?;
    }
    table.finish();
    Some(())
}

fn labels(item: &Item<'_>) -> Option<Vec<Value>> {
    const HELP: &str = "give each label its meaning: `choose.bug = \"something fails\"`";
    let DeValue::Table(_) = item.get() else {
        item.expected("a table of labels and their meanings", HELP);
        return None;
    };
    let table = item.table()?.inside(OF_STEP);
    let mut labels = Vec::new();
    for label in table.items() {
        if table.misplaced(&label) || label.string().is_none() {
            return None;
        }
        labels.push(Value::from(label.key));
    }
    if labels.is_empty() {
        item.refuse(BAD_VALUE, "there is nothing to choose from", HELP);
        return None;
    }
    Some(labels)
}

pub(crate) fn examples(t: &mut Templates<'_>, item: &Item<'_>, names: &Names) -> Option<Expr> {
    for example in item.list("write `[{ input = \"…\", output = \"…\" }]`")? {
        let table = example.table()?;
        let complete = table.require("input").is_some() & table.require("output").is_some();
        table.finish();
        complete.then_some(())?;
    }
    t.value(item, names)
}

fn elicit(t: &mut Templates<'_>, table: &Table<'_>, names: &Names) -> Option<Action> {
    let message = table.take("elicit").and_then(|item| t.prose(&item, names));
    let (fields, url) = (table.take("fields"), table.take("url"));
    if let (Some(_), Some(url)) = (&fields, &url) {
        let message = "a question has either `fields` or a `url`";
        table.cx.report(Diagnostic::new(WRONG_VERB, &url.key_place(), message).help("make two steps of it"));
    }
    let form = match (fields, url) {
        (Some(item), _) => {
            let schema = shape::read(&item, Some(OF_STEP)).filter(|schema| shape::is_flat(&item, schema));
            schema.map(Form::Fields)
        }
        (None, Some(item)) => t.template(&item, names).map(Form::Url),
        (None, None) => Some(Form::Confirm),
    };
    let by = table
        .take("by")
        .and_then(|item| item.word(&[("human", By::Human), ("anyone", By::Anyone)]))
        .unwrap_or_default();
    Some(Action::Elicit { message: message?, form: form?, by })
}

fn wait(t: &mut Templates<'_>, item: &Item<'_>, names: &Names) -> Option<Wait> {
    if !item.get().is_table() {
        return item.duration().map(Wait::For);
    }
    let table = item.table()?.inside(OF_STEP);
    let until = table.require("until");
    table.finish();
    let until = until?;
    // A moment that stands there as it is, and a template, are what people write; the rest is an expression.
    let expr = match until.string()? {
        text if text.contains("{{") => t.template(&until, names)?,
        text if is_moment(text) => Expr { source: Source::Literal(Value::from(text)), ..literal(Value::Null) },
        _ => t.expression(&until, names)?,
    };
    Some(Wait::Until(expr))
}

/// Whether a text begins as RFC 3339 does: `2026-07-28T`.
fn is_moment(text: &str) -> bool {
    text.parse::<toml::value::Datetime>().is_ok_and(|moment| moment.date.is_some() && moment.offset.is_some())
}
