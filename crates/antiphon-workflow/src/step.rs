//! `[steps.ID]`: a verb and its modifiers.

use std::collections::BTreeSet;

use antiphon_kernel::{EffectClass, ErrorKind, Exhausted, ForEach, OnDoubt, OnError, Repeat, Retry, Tolerate};
use indexmap::IndexMap;
use toml::de::DeValue;

use crate::code::{
    BAD_NAME, BAD_VALUE, MISSING_KEY, NO_BOUND, NO_HEADER, NO_VERB, SEVERAL_VERBS, SHADOWED, TOO_LONG, WRONG_VERB,
};
use crate::diagnostic::{Diagnostic, Place, nearest};
use crate::keys::{OF_STEP, VERBS, verbs_of};
use crate::parsed::{Body, Condition, Step, Undo};
use crate::read::{Context, Item, Spelling, Table};
use crate::template::{Names, Templates};
use crate::verbs;

/// Names that an `as` can't take.
const VARIABLES: &[&str] = &["input", "steps", "index", "round", "previous", "output", "run", "loop"];

/// Whether a name is an id: `[a-z_][a-z0-9_]*`.
pub(crate) fn is_id(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// Reads `[steps]` or a `do`, and the `output` beside it.
pub(crate) fn body(cx: &Context<'_>, steps: Option<&Item<'_>>, output: Option<&Item<'_>>, names: &Names) -> Body {
    if let Some(item) = steps
        && matches!(item.get(), DeValue::Table(table) if table.is_empty())
    {
        let help = "add one: `[steps.NAME]`, or inside a block `[steps.BLOCK.do.NAME]`";
        cx.report(Diagnostic::new(MISSING_KEY, &item.key_place(), "there are no steps here").help(help));
    }
    let steps: Vec<_> = steps.and_then(Item::table).iter().flat_map(Table::items).collect();
    let (mut read, mut unread) = (Vec::new(), Vec::new());
    for item in &steps {
        match step(item, names) {
            Some(step) => read.push(step),
            None => unread.push(item.key.to_owned()),
        }
    }
    let mut templates = Templates::new(cx);
    let output = output.and_then(Item::table).map(|table| {
        let entries = table.items().filter_map(|item| Some((item.key.to_owned(), templates.value(&item, names)?)));
        entries.collect::<IndexMap<_, _>>()
    });
    Body { steps: read, unread, output, mentions: templates.mentions }
}

fn step(item: &Item<'_>, outer: &Names) -> Option<Step> {
    let cx = item.cx;
    if !is_id(item.key) {
        cx.report(
            Diagnostic::new(BAD_NAME, &item.key_place(), format!("`{}` is not an id", item.key))
                .help("ids are made of small letters, digits and `_`, and do not begin with a digit"),
        );
    }
    let table = item.table()?;
    let verb = verb(item, &table)?;
    let mut templates = Templates::new(cx);
    let t = &mut templates;

    // From the outside in; what comes later sees the names of what came before.
    let needs =
        table.take("needs").and_then(|needs| needs.strings("write a list: `needs = [\"build\"]`")).unwrap_or_default();
    let needs = needs.into_iter().map(|(id, place)| (id.to_owned(), place)).collect();
    let when =
        table.take("when").and_then(|when| Some(Condition { expr: t.condition(&when, outer)?, place: when.place() }));
    let (for_each, names) = for_each(t, &table, outer);
    let within = if table.has("repeat") { names.with("round").with("previous") } else { names };
    let after = within.with("output");
    let repeat = table.take("repeat").and_then(|item| repeat(t, &item, &after));
    let retry = table.take("retry").and_then(|item| retry(&item, verb));
    let timeout_ms = table.take("timeout").and_then(|item| item.duration());

    let action = verbs::read(t, &table, verb, &within);

    let expect = table.take("expect").and_then(|item| t.condition(&item, &after));
    let on_error = table.take("on_error").and_then(|item| on_error(t, &item, &within)).unwrap_or_default();
    let undo = if verb == "call" { table.take("undo").and_then(|item| undo(t, &item, &after)) } else { None };
    let (effects, on_doubt) = if verb == "call" { certainty(&table) } else { (None, OnDoubt::default()) };

    foreign_keys(&table, verb);
    table.finish();
    Some(Step {
        id: item.key.to_owned(),
        place: item.key_place(),
        action: action?,
        needs,
        mentions: templates.mentions,
        when,
        for_each,
        repeat,
        retry,
        timeout_ms,
        expect,
        on_error,
        undo,
        effects,
        on_doubt,
    })
}

/// The step's one verb.
fn verb(item: &Item<'_>, table: &Table<'_>) -> Option<&'static str> {
    let found: Vec<_> = VERBS.iter().copied().filter(|verb| table.has(verb)).collect();
    let cx = item.cx;
    match found[..] {
        ["do"] if table.spelling == Spelling::Implicit => {
            cx.report(
                Diagnostic::new(
                    NO_HEADER,
                    &item.key_place(),
                    format!("the block `{}` has no header of its own", item.key),
                )
                .help(format!("if `{}` is not a typing error, write `[steps.{}]` above its steps", item.key, item.key)),
            );
            None
        }
        [verb] => Some(verb),
        [] => {
            let near = table.items().find_map(|item| Some((nearest(item.key, VERBS.iter().copied())?, item)));
            let place = near.as_ref().map_or_else(|| item.key_place(), |(_, item)| item.key_place());
            let help = match near {
                Some((verb, item)) => format!("`{}` is no verb; did you mean `{verb}`?", item.key),
                None => format!("a step has one of {}", list(VERBS)),
            };
            cx.report(Diagnostic::new(NO_VERB, &place, format!("the step `{}` does nothing", item.key)).help(help));
            None
        }
        _ => {
            let second = table.items().filter(|item| found.contains(&item.key)).nth(1);
            let place = second.map_or_else(|| item.key_place(), |item| item.key_place());
            let message = format!("the step `{}` has several verbs: {}", item.key, list(&found));
            let help = "a step does one thing: make a step of each, or a block (`do`) of both";
            cx.report(Diagnostic::new(SEVERAL_VERBS, &place, message).help(help));
            None
        }
    }
}

fn list(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// Keys that steps have, but not steps with this verb.
fn foreign_keys(table: &Table<'_>, verb: &str) {
    for item in table.rest() {
        let Some(verbs) = verbs_of(item.key) else { continue };
        table.dismiss(&item);
        let (message, help) = match (item.key, verb) {
            _ if verbs.is_empty() => (
                format!("`{}` goes with `for_each`, and this step has none", item.key),
                "add `for_each = \"input.list\"`, or remove the key".to_owned(),
            ),
            _ => (format!("`{}` does not go with `{verb}`", item.key), format!("it is a key of {}", list(verbs))),
        };
        item.cx.report(Diagnostic::new(WRONG_VERB, &item.key_place(), message).help(help));
    }
}

fn for_each(t: &mut Templates<'_>, table: &Table<'_>, outer: &Names) -> (Option<ForEach>, Names) {
    let Some(item) = table.take("for_each") else { return (None, outer.clone()) };
    let name = table.take("as").and_then(|item| item_name(&item));
    let shadowed = outer.vars.contains(name.unwrap_or("item"));
    if shadowed {
        let message = format!("`{}` is already the item of the block around it", name.unwrap_or("item"));
        item.cx.report(
            Diagnostic::new(SHADOWED, &item.key_place(), message).help("name one of them otherwise: `as = \"file\"`"),
        );
    }
    let name = name.unwrap_or("item");
    let concurrency = table.take("concurrency").and_then(|item| item.integer(1..=ForEach::MAX_ITEMS as u64));
    let tolerate = table.take("tolerate").and_then(|item| tolerate(&item));
    let names = outer.with(name).with("index");
    let items = match item.get() {
        DeValue::Array(array) if array.len() > ForEach::MAX_ITEMS => {
            let message =
                format!("this list has {} items, and `for_each` takes at most {}", array.len(), ForEach::MAX_ITEMS);
            item.refuse(TOO_LONG, message, "split the list, or call a workflow for each part");
            None
        }
        DeValue::Array(_) => t.value(&item, outer),
        DeValue::String(_) => t.expression(&item, outer),
        _ => {
            item.expected(
                "a list, or an expression that yields one",
                "`as`, `concurrency` and `tolerate` stand beside `for_each`",
            );
            None
        }
    };
    let for_each = items.map(|items| ForEach {
        items,
        name: name.to_owned(),
        concurrency: concurrency.and_then(|number| u32::try_from(number).ok()).unwrap_or(8),
        tolerate: tolerate.unwrap_or_default(),
    });
    (for_each, names)
}

fn item_name<'t>(item: &Item<'t>) -> Option<&'t str> {
    let name = item.string()?;
    if !is_id(name) || VARIABLES.contains(&name) {
        let help =
            "names are made of small letters, digits and `_`, and are not one of `input`, `steps`, `index`, `run` …";
        item.refuse(BAD_NAME, format!("an item can't be called `{name}`"), help);
        return None;
    }
    Some(name)
}

fn tolerate(item: &Item<'_>) -> Option<Tolerate> {
    const HELP: &str = "write a number (`3`), a percentage (`\"10%\"`) or `\"all\"`";
    match item.get() {
        DeValue::Integer(_) => {
            let count = item.integer(0..=ForEach::MAX_ITEMS as u64)?;
            Some(if count == 0 { Tolerate::None } else { Tolerate::Count(u32::try_from(count).ok()?) })
        }
        DeValue::String(text) if text == "all" => Some(Tolerate::All),
        DeValue::String(text) => {
            let percent =
                text.strip_suffix('%').and_then(|number| number.parse().ok()).filter(|percent| *percent <= 100_u8);
            if percent.is_none() {
                item.refuse(BAD_VALUE, format!("`tolerate` can't be `{text}`"), HELP);
            }
            percent.map(Tolerate::Percent)
        }
        _ => {
            item.expected("a number or a percentage", HELP);
            None
        }
    }
}

fn repeat(t: &mut Templates<'_>, item: &Item<'_>, names: &Names) -> Option<Repeat> {
    let table = item.table()?.inside(OF_STEP);
    let until_item = table.take("until");
    let until = until_item.as_ref().and_then(|item| t.condition(item, names));
    let max = table.take("max");
    let within = table.take("within");
    let every_ms = table.take("every").and_then(|item| item.duration());
    let exhausted = table.take("exhausted");
    let exhausted = exhausted
        .and_then(|item| item.word(&[("fail", Exhausted::Fail), ("last", Exhausted::Last)]))
        .unwrap_or_default();
    if max.is_none() && within.is_none() {
        item.cx.report(
            Diagnostic::new(NO_BOUND, &item.key_place(), "this `repeat` may never end")
                .help("bound it: `max = 10` rounds, or `within = \"10m\"`"),
        );
    } else if until_item.is_none() && exhausted == Exhausted::Fail {
        item.cx.report(
            Diagnostic::new(
                MISSING_KEY,
                &item.key_place(),
                "this `repeat` has no `until`, so it always ends at its bound, and fails",
            )
            .help("add `until = \"output.done\"`, or `exhausted = \"last\"` to succeed with the last round"),
        );
    }
    let max = max.and_then(|item| item.integer(1..=1_000_000)).and_then(|max| u32::try_from(max).ok());
    let within_ms = within.and_then(|item| item.duration());
    table.finish();
    Some(Repeat { until, max, within_ms, every_ms, exhausted })
}

fn retry(item: &Item<'_>, verb: &str) -> Option<(Retry, Place)> {
    const KINDS: &[(&str, ErrorKind)] = &[
        ("tool", ErrorKind::Tool),
        ("rpc", ErrorKind::Rpc),
        ("unavailable", ErrorKind::Unavailable),
        ("timeout", ErrorKind::Timeout),
        ("invalid_output", ErrorKind::InvalidOutput),
        ("model", ErrorKind::Model),
    ];
    if !["call", "sample", "read"].contains(&verb) {
        let (message, help) = match verb {
            "do" => ("a block is not retried".to_owned(), "retry the steps inside it, or `repeat` the block"),
            _ => (format!("`retry` does not go with `{verb}`"), "it is a key of `call`, `sample`, `read`"),
        };
        item.cx.report(Diagnostic::new(WRONG_VERB, &item.key_place(), message).help(help));
        return None;
    }
    let table = item.table()?.inside(OF_STEP);
    let attempts = table.require("attempts").and_then(|item| item.integer(1..=100)).and_then(|n| u32::try_from(n).ok());
    let backoff_ms = table.take("backoff").and_then(|item| item.duration()).unwrap_or(1_000);
    let on = table.take("on").and_then(|item| {
        let kinds = item.list("write a list: `on = [\"unavailable\", \"timeout\"]`")?;
        kinds.iter().map(|item| item.word(KINDS)).collect::<Option<BTreeSet<_>>>()
    });
    table.finish();
    let on = on.unwrap_or_else(|| {
        let own = if verb == "sample" { ErrorKind::Model } else { ErrorKind::Rpc };
        BTreeSet::from([ErrorKind::Unavailable, ErrorKind::Timeout, own])
    });
    Some((Retry { attempts: attempts?, backoff_ms, on }, item.key_place()))
}

fn on_error(t: &mut Templates<'_>, item: &Item<'_>, names: &Names) -> Option<OnError> {
    match item.get() {
        DeValue::Table(_) => {
            let table = item.table()?.inside(OF_STEP);
            let value = table.require("fallback").and_then(|item| t.value(&item, names));
            table.finish();
            value.map(OnError::Fallback)
        }
        DeValue::String(_) => item.word(&[("fail", false), ("continue", true)]).map(|go_on| match go_on {
            true => OnError::Continue,
            false => OnError::Fail,
        }),
        _ => {
            item.expected("`\"fail\"`, `\"continue\"` or `{ fallback = … }`", "");
            None
        }
    }
}

/// `effects` and `on_doubt`.
fn certainty(table: &Table<'_>) -> (Option<EffectClass>, OnDoubt) {
    let effects = table.take("effects").and_then(|item| {
        item.word(&[
            ("read_only", EffectClass::ReadOnly),
            ("idempotent", EffectClass::Idempotent),
            ("at_most_once", EffectClass::AtMostOnce),
        ])
    });
    let on_doubt = table
        .take("on_doubt")
        .and_then(|item| item.word(&[("ask", OnDoubt::Ask), ("fail", OnDoubt::Fail), ("skip", OnDoubt::Skip)]));
    (effects, on_doubt.unwrap_or_default())
}

fn undo(t: &mut Templates<'_>, item: &Item<'_>, names: &Names) -> Option<Undo> {
    let table = item.table()?.inside(OF_STEP);
    table.require("call");
    let call = verbs::call(t, &table, names);
    let retry = table.take("retry").and_then(|item| retry(&item, "call"));
    let timeout_ms = table.take("timeout").and_then(|item| item.duration());
    let (effects, on_doubt) = certainty(&table);
    table.finish();
    Some(Undo { call: call?, retry, timeout_ms, effects, on_doubt })
}
