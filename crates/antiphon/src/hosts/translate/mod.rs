//! A host's server as one of ours: a `[servers.NAME]` table. Values of secrets are left behind; variables take their places.

use std::path::Path;

use serde_json::{Map, Value};
use toml::Table;

use super::Host;
use super::needs::Needs;
use crate::hosts::found::Source;

mod fill;
mod hide;
mod process;

/// Keys that say nothing about how a server is reached.
const SILENT: [&str; 10] = [
    "name",
    "description",
    "display_name",
    "bundled",
    "gallery",
    "version",
    "enabled",
    "disabled",
    "remote",
    "transport",
];

/// A server of ours.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its table.
    pub table: Table,
    /// What its user should know.
    pub notes: Vec<String>,
}

/// Where a definition was found, and where it goes.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Its file.
    pub source: &'a Source,
    /// The folder of our project.
    pub root: &'a Path,
    /// Its name there.
    pub name: &'a str,
    /// Its name here.
    pub key: &'a str,
}

/// Translates a definition; else says why it can't be.
pub fn translate(def: &Value, cx: Context<'_>, needs: &mut Needs) -> Result<Server, String> {
    let mut def = def.as_object().cloned().ok_or("it is not a table of settings")?;
    if def.get("enabled") == Some(&Value::Bool(false)) || def.get("disabled") == Some(&Value::Bool(true)) {
        return Err("it is switched off there".to_owned());
    }
    spell_alike(&mut def);
    let kind = def.shift_remove("type").and_then(|kind| kind.as_str().map(str::to_owned));
    check_kind(cx.source.host, kind.as_deref())?;
    let mut work = Work { cx, needs, own: Vec::new(), notes: Vec::new(), table: Table::new() };
    match (def.shift_remove("command"), def.shift_remove("url")) {
        (Some(_), Some(_)) => return Err("it has both a command and an address".to_owned()),
        (Some(command), None) => work.process(&command, &mut def)?,
        (None, Some(url)) => work.endpoint(&url, kind.as_deref(), &mut def)?,
        (None, None) if def.contains_key("settings") => {
            return Err(format!("an extension of {} starts it, by a command of its own", cx.source.title()));
        }
        (None, None) => return Err("it has neither a command nor an address".to_owned()),
    }
    work.rest(&def);
    Ok(Server { table: work.table, notes: work.notes })
}

/// The spellings of all hosts as one: `command`, `args`, `env`, `envFile`, `cwd`, or `url`, `headers`.
fn spell_alike(def: &mut Map<String, Value>) {
    // Zed, until 2025: `command = { path, args, env }`.
    if let Some(Value::Object(command)) = def.get("command").cloned() {
        def.shift_remove("command");
        for (key, value) in command {
            def.insert(if key == "path" { "command".to_owned() } else { key }, value);
        }
        def.shift_remove("source");
        def.shift_remove("settings");
    }
    let spellings = [
        ("cmd", "command"),
        ("envs", "env"),
        ("uri", "url"),
        ("serverUrl", "url"),
        ("httpUrl", "url"),
        ("available_tools", "tools"),
    ];
    for (theirs, ours) in spellings {
        if let Some(value) = def.shift_remove(theirs) {
            def.entry(ours).or_insert(value);
        }
    }
    if def.get("source") == Some(&"custom".into()) {
        def.shift_remove("source");
    }
    def.retain(|_, value| !value.is_null());
}

/// Only what MCP reaches by a command or an address of streamable HTTP can be imported.
fn check_kind(host: Option<Host>, kind: Option<&str>) -> Result<(), String> {
    match kind {
        None
        | Some("stdio" | "local" | "http" | "remote" | "streamable-http" | "streamable_http" | "streamableHttp") => {
            Ok(())
        }
        Some("sse") => {
            Err("it speaks HTTP+SSE, which MCP has replaced: ask it for an address of streamable HTTP".to_owned())
        }
        Some(kind @ ("builtin" | "platform" | "frontend" | "inline_python")) if host == Some(Host::Goose) => {
            Err(format!("it is part of Goose (`{kind}`)"))
        }
        Some(kind) => Err(format!("servers of type `{kind}` can't be reached")),
    }
}

/// A table in the making.
struct Work<'a, 'n> {
    cx: Context<'a>,
    needs: &'n mut Needs,
    /// The variables that the server itself gets.
    own: Vec<String>,
    notes: Vec<String>,
    table: Table,
}

impl Work<'_, '_> {
    fn endpoint(&mut self, url: &Value, kind: Option<&str>, def: &mut Map<String, Value>) -> Result<(), String> {
        let url = text(url).ok_or("its address is not a text")?;
        if !["http://", "https://", "${"].iter().any(|start| url.starts_with(start)) {
            return Err("its address is not one of HTTP".to_owned());
        }
        if kind.is_none() && url.trim_end_matches('/').ends_with("/sse") {
            self.notes
                .push("if its address speaks only HTTP+SSE, which MCP has replaced, it can't be reached".to_owned());
        }
        // Goose fills its headers in from these: names of variables.
        def.shift_remove("env_keys");
        let url = self.open(&url, None, "URL")?;
        self.table.insert("url".to_owned(), url.into());
        let mut headers = Table::new();
        for (name, value) in def.shift_remove("headers").as_ref().and_then(Value::as_object).into_iter().flatten() {
            let value = text(value).ok_or_else(|| format!("its header `{name}` is not a text"))?;
            headers.insert(name.clone(), self.hidden(name, &value, true)?.into());
        }
        self.add("headers", headers);
        Ok(())
    }

    /// What all kinds have, and what is left out.
    fn rest(&mut self, def: &Map<String, Value>) {
        let goose = self.cx.source.host == Some(Host::Goose);
        let mut left = Vec::new();
        for (key, value) in def {
            match (key.as_str(), value) {
                ("tools", Value::Array(tools)) if tools.iter().all(Value::is_string) => {
                    if !tools.is_empty() && !tools.iter().any(|tool| tool == "*") {
                        let tools: Vec<_> = tools.iter().filter_map(Value::as_str).map(toml::Value::from).collect();
                        self.table.insert("allow".to_owned(), tools.into());
                    }
                }
                ("timeout", value) if goose && value.as_u64().is_some_and(|seconds| seconds > 0) => {
                    self.table.insert("timeout".to_owned(), format!("{value}s").into());
                }
                ("oauth" | "auth", _) => {
                    self.notes.push("it signs its user in there, by OAuth; that was left out".to_owned())
                }
                (key, _) if SILENT.contains(&key) => {}
                (_, Value::Array(list)) if list.is_empty() => {}
                (_, Value::Object(entries)) if entries.is_empty() => {}
                (key, _) => left.push(format!("`{key}`")),
            }
        }
        if !left.is_empty() {
            self.notes.push(format!("left out: {}", left.join(", ")));
        }
    }

    fn add(&mut self, key: &str, entries: Table) {
        if !entries.is_empty() {
            self.table.insert(key.to_owned(), entries.into());
        }
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}
