//! `antiphon.toml`, as servers are added to it: after everything that is there, which stays as it is.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::text::newline;
use crate::fault::Fault;

/// The file's text, and the servers in it.
#[derive(Clone, Debug)]
pub struct ProjectFile {
    text: String,
    content: Table,
    /// Names that are taken: of servers, models and agents, which steps call alike.
    taken: BTreeSet<String>,
    added: String,
}

impl ProjectFile {
    /// Reads a text; `path` is for the error.
    pub fn of(text: String, path: &str) -> Result<Self, Fault> {
        let content: Table = text.parse().map_err(|error: toml::de::Error| {
            let at = error.span().map_or(0, |span| span.start.min(text.len()));
            let line = 1 + text.as_bytes()[..at].iter().filter(|&&byte| byte == b'\n').count();
            Fault::usage(
                format!("can't read {path}:{line}: {}", error.message()),
                "mend the file first; nothing was written",
            )
        })?;
        let tables = ["servers", "models", "agents"].iter().filter_map(|key| content.get(*key)?.as_table());
        let taken = tables.flat_map(|table| table.keys().cloned()).collect();
        Ok(Self { text, content, taken, added: String::new() })
    }

    /// The server that is reached like this one, if there is one.
    pub fn same(&self, table: &Table) -> Option<&str> {
        let servers = self.content.get("servers")?.as_table()?;
        let same = |server: &Value| {
            let server = server.as_table();
            ["command", "args", "cwd", "url", "env", "headers"]
                .iter()
                .all(|key| server.and_then(|server| server.get(*key)) == table.get(*key))
        };
        servers.iter().find(|(_, server)| same(server)).map(|(name, _)| name.as_str())
    }

    /// A name that steps can write and that is free, made of a host's.
    pub fn name(&self, theirs: &str) -> String {
        let mut name = String::with_capacity(theirs.len());
        for c in theirs.chars() {
            match c {
                'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-' => name.push(c),
                _ if name.is_empty() || name.ends_with('-') => {}
                _ => name.push('-'),
            }
        }
        let name = name.trim_matches('-');
        // Room for a number.
        let name = match &name[..name.len().min(60)] {
            "" => "server",
            "caller" => "caller-server",
            "auto" => "auto-server",
            name => name,
        };
        let mut free = name.to_owned();
        let mut number = 2;
        while self.taken.contains(&free) {
            free = format!("{name}-{number}");
            number += 1;
        }
        free
    }

    /// Adds a server.
    pub fn add(&mut self, name: &str, table: &Table, from: &str) {
        let newline = newline(&self.text);
        if !self.added.is_empty() || !self.text.is_empty() {
            self.added.push_str(newline);
        }
        let heading = format!("[servers.{name}]");
        self.added.push_str(&format!("{heading:<34} # from {from}{newline}"));
        for (key, value) in table {
            match value {
                Value::Table(entries) => {
                    for (name, value) in entries {
                        self.added.push_str(&format!("{key}.{} = {}{newline}", key_of(name), written(value)));
                    }
                }
                value => self.added.push_str(&format!("{key} = {}{newline}", written(value))),
            }
        }
        self.taken.insert(name.to_owned());
        let servers = self.content.entry("servers").or_insert_with(|| Table::new().into());
        if let Some(servers) = servers.as_table_mut() {
            servers.insert(name.to_owned(), table.clone().into());
        }
    }

    /// What was added.
    pub fn added(&self) -> &str {
        &self.added
    }

    /// The whole text, with what was added.
    pub fn finish(&self, path: &str) -> Result<String, Fault> {
        let gap = if self.text.is_empty() || self.text.ends_with('\n') { "" } else { newline(&self.text) };
        let text = format!("{}{gap}{}", self.text, self.added);
        // Whatever is odd about the file: it says what it said, and the new servers, or it is left alone.
        match text.parse::<Table>() {
            Ok(content) if content == self.content => Ok(text),
            _ => Err(Fault::usage(
                format!("no table can be added to {path}: its `servers` are not written as tables"),
                "`antiphon import --print` prints what to paste; nothing was written",
            )),
        }
    }
}

/// A value in one line.
fn written(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Array(items) => format!("[{}]", items.iter().map(written).collect::<Vec<_>>().join(", ")),
        plain => plain.to_string(),
    }
}

fn key_of(name: &str) -> String {
    let bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if bare { name.to_owned() } else { quoted(name) }
}

/// A basic string: JSON's escapes are TOML's too, but for the one character that JSON leaves as it is.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007F")
}
