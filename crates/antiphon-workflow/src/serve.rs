//! `[serve]` of an `antiphon.toml`.

use std::collections::BTreeMap;

use toml::de::DeValue;

use crate::auth;
use crate::code::{BAD_NAME, BAD_VALUE, DUPLICATE_NAME, MISSING_KEY, NO_EFFECT};
use crate::diagnostic::{Diagnostic, Place, suggest};
use crate::parsed::Tables;
use crate::project::{Prefix, Retold, ServeDef};
use crate::read::{Item, Table};
use crate::resolve::World;

/// What stands in a tool's place after `@`: those whose annotations say so.
const ANNOTATIONS: [&str; 4] = ["read_only", "destructive", "idempotent", "open_world"];

/// `[serve]`, and where its patterns stand.
pub(crate) struct ServePart {
    pub(crate) def: ServeDef,
    /// Of `expose`, and of scopes.
    pub(crate) patterns: Vec<(String, Place)>,
    /// Of `tools`: what is told anew, and its new name.
    pub(crate) retold: Vec<(String, Option<String>, Place)>,
}

/// Reads it.
pub(crate) fn read(item: &Item<'_>) -> Option<ServePart> {
    let table = item.table()?;
    let expose =
        table.take("expose").and_then(|item| item.strings("write `expose = [\"files.*\"]`")).unwrap_or_default();
    for (pattern, place) in &expose {
        check(item, pattern, place);
    }
    let prefix = table.take("prefix").and_then(|item| prefix(&item)).unwrap_or_default();
    let (tools, retold) = table.take("tools").map(|item| tools(&item)).unwrap_or_default();
    let compact_above = table.take("compact").and_then(|item| compact(&item)).unwrap_or_default();
    let flag = |key| table.take(key).and_then(|item| item.boolean()).unwrap_or(true);
    let (runs, prompts) = (flag("runs"), flag("prompts"));
    let auth = table.take("auth").and_then(|item| auth::read(&item));
    table.finish();
    let mut patterns: Vec<_> = expose.into_iter().map(|(pattern, place)| (pattern.to_owned(), place)).collect();
    let expose = patterns.iter().map(|(pattern, _)| pattern.clone()).collect();
    let auth = auth.and_then(|auth| {
        patterns.extend(auth.patterns);
        auth.def
    });
    let def = ServeDef { expose, prefix, tools, compact_above, runs, prompts, auth };
    Some(ServePart { def, patterns, retold })
}

/// A pattern of `expose`.
fn check(item: &Item<'_>, pattern: &str, place: &Place) {
    let refuse = |message: String, help: String| {
        item.cx.report(Diagnostic::new(BAD_VALUE, place, message).help(help));
    };
    match pattern.split_once('.') {
        None => refuse(format!("`{pattern}` names no tool"), "write `SERVER.TOOL`; `*` stands for anything".to_owned()),
        Some((_, tool)) => {
            if let Some(word) = tool.strip_prefix('@').filter(|word| !ANNOTATIONS.contains(word)) {
                let all = || format!("there are: {}", ANNOTATIONS.map(|word| format!("`@{word}`")).join(", "));
                let help = suggest(word, ANNOTATIONS).unwrap_or_else(all);
                refuse(format!("tools have no annotation `{word}`"), help);
            }
        }
    }
}

type RetoldTools = (BTreeMap<String, Retold>, Vec<(String, Option<String>, Place)>);

/// `[serve.tools."SERVER.TOOL"]`.
fn tools(item: &Item<'_>) -> RetoldTools {
    let mut all = RetoldTools::default();
    let mut taken: BTreeMap<String, Place> = BTreeMap::new();
    let table = item.table();
    for item in table.iter().flat_map(Table::items) {
        let place = item.key_place();
        if !item.key.contains('.') || item.key.contains('*') {
            let diagnostic = Diagnostic::new(BAD_VALUE, &place, format!("`{}` names no tool", item.key));
            item.cx.report(diagnostic.help("write `[serve.tools.\"SERVER.TOOL\"]`, with the quotes, for one tool"));
            continue;
        }
        let Some(table) = item.table() else { continue };
        let (named, described) = (table.take("name"), table.take("description"));
        if named.is_none() && described.is_none() {
            let diagnostic = Diagnostic::new(MISSING_KEY, &place, format!("nothing is said of `{}`", item.key));
            item.cx.report(diagnostic.help("add a `name`, a `description`, or both"));
        }
        let name = named.as_ref().and_then(|item| tool_name(item, &mut taken));
        let description = described.and_then(|item| item.string()).map(str::to_owned);
        table.finish();
        all.1.push((item.key.to_owned(), name.clone(), place));
        all.0.insert(item.key.to_owned(), Retold { name, description });
    }
    all
}

/// A name that a tool can have, and that no other has here.
fn tool_name(item: &Item<'_>, taken: &mut BTreeMap<String, Place>) -> Option<String> {
    let name = item.string()?;
    let fits = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if !(1..=128).contains(&name.len()) || !name.chars().all(fits) {
        let help = "names of tools have at most 128 letters, digits, `_`, `-` and `.`";
        item.refuse(BAD_NAME, format!("`{name}` can't be a tool's name"), help);
        return None;
    }
    if let Some(other) = taken.insert(name.to_owned(), item.place()) {
        let diagnostic = Diagnostic::new(DUPLICATE_NAME, &item.place(), format!("two tools are named `{name}`"));
        item.cx.report(diagnostic.help("rename one of them").also(&other, "the other one"));
    }
    Some(name.to_owned())
}

/// `compact`: from how many tools on.
fn compact(item: &Item<'_>) -> Option<Option<usize>> {
    match item.get() {
        DeValue::Boolean(true) => Some(Some(0)),
        DeValue::Boolean(false) => Some(None),
        DeValue::Integer(_) => Some(item.integer(0..=1_000_000).and_then(|most| usize::try_from(most).ok())),
        _ => {
            item.expected("`true`, `false` or a number", "a number is how many tools may be listed as they are");
            None
        }
    }
}

/// What is to be said of tools that are told of anew, once it is known what there is.
pub(crate) fn retold(part: &ServePart, configs: &[Tables], workflows: &BTreeMap<&str, &Place>) -> Vec<Diagnostic> {
    let world = World { configs, workflows: BTreeMap::new() };
    let mut said = Vec::new();
    for (tool, name, place) in &part.retold {
        let Some((server, own)) = tool.split_once('.') else { continue };
        match world.server(None, server) {
            Err(Some((code, message, help))) => said.push(Diagnostic::new(code, place, message).help(help)),
            Err(None) => {}
            Ok((_, def)) if !def.allows(own) || !part.def.may_pass(server, own) => {
                let message = format!("`{tool}` is not passed through, so what is said of it does nothing");
                said.push(Diagnostic::new(NO_EFFECT, place, message).help(format!("add `{tool}` to `expose`")));
            }
            Ok(_) => {}
        }
        if let Some((name, other)) = name.as_ref().and_then(|name| Some((name, workflows.get(name.as_str())?))) {
            let diagnostic = Diagnostic::new(DUPLICATE_NAME, place, format!("a workflow is named `{name}`, too"));
            said.push(diagnostic.help("rename one of them").also(other, "the workflow"));
        }
    }
    said
}

fn prefix(item: &Item<'_>) -> Option<Prefix> {
    match item.get() {
        DeValue::Boolean(true) => Some(Prefix::Server),
        DeValue::Boolean(false) => Some(Prefix::None),
        DeValue::String(text) => {
            let fits = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
            if text.is_empty() || !text.chars().all(fits) {
                let help = "use letters, digits, `_`, `-` and `.`; `false` leaves names as they are";
                item.refuse(BAD_VALUE, format!("names of tools can't begin with `{text}`"), help);
                return None;
            }
            Some(Prefix::Text(text.to_string()))
        }
        _ => {
            item.expected("`true`, `false` or a string", "`true` is `SERVER__`");
            None
        }
    }
}
