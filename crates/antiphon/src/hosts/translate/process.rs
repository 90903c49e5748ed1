//! A server that is a process.

use std::path::Path;

use serde_json::{Map, Value};
use toml::Table;

use super::{Work, text};
use crate::hosts::needs::{Origin, is_variable};

impl Work<'_, '_> {
    pub(super) fn process(&mut self, command: &Value, def: &mut Map<String, Value>) -> Result<(), String> {
        let words = words(command, def.shift_remove("args").as_ref())?;
        let env = def.shift_remove("env").and_then(|env| env.as_object().cloned()).unwrap_or_default();
        let keys = def.shift_remove("env_keys").and_then(|keys| keys.as_array().cloned()).unwrap_or_default();
        let keys: Vec<&str> = keys.iter().filter_map(Value::as_str).filter(|key| is_variable(key)).collect();
        self.own = env.keys().map(String::as_str).chain(keys.iter().copied()).map(str::to_owned).collect();

        // Relative paths are those of the folder that its file is about.
        let elsewhere = self.cx.source.workspace.as_deref().filter(|folder| *folder != self.cx.root);
        let within = |folder: &Path, path: &str| folder.join(path).to_string_lossy().into_owned();
        let mut program = self.open(&words[0], None, "COMMAND")?;
        if let Some(folder) = elsewhere.filter(|_| program.starts_with('.')) {
            program = within(folder, &program);
        }
        self.table.insert("command".to_owned(), program.into());
        let mut args = Vec::new();
        for (place, arg) in words.iter().enumerate().skip(1) {
            let flag = words.get(place - 1).filter(|flag| place > 1 && flag.starts_with('-') && !flag.contains('='));
            args.push(toml::Value::from(self.open(arg, flag.map(String::as_str), &format!("ARG_{place}"))?));
        }
        if !args.is_empty() {
            self.table.insert("args".to_owned(), args.into());
        }
        let cwd = def.shift_remove("cwd").as_ref().and_then(text);
        let cwd = cwd.map(|cwd| self.open(&cwd, None, "CWD")).transpose()?;
        let cwd = match (elsewhere, cwd) {
            (Some(folder), Some(cwd)) => Some(within(folder, &cwd)),
            (Some(folder), None) => Some(folder.to_string_lossy().into_owned()),
            (None, cwd) => cwd,
        };
        if let Some(cwd) = cwd {
            self.table.insert("cwd".to_owned(), cwd.into());
        }
        self.environment(&env, &keys, def.shift_remove("envFile").as_ref().and_then(text).as_deref())
    }

    /// The server's variables: written out, from Goose's keyring, from a file.
    fn environment(&mut self, env: &Map<String, Value>, keys: &[&str], file: Option<&str>) -> Result<(), String> {
        let mut variables = Table::new();
        for (name, value) in env {
            let Some(value) = text(value) else {
                self.notes.push(format!("its variable `{name}` was left out: it is no text"));
                continue;
            };
            let value = self.hidden(name, &value, false)?;
            variables.insert(name.clone(), value.into());
        }
        for &name in keys {
            let needed = self.claim(name, Origin::Environment, None);
            variables.insert(name.to_owned(), format!("${{{needed}}}").into());
        }
        for (name, value) in file.map(|path| self.env_file(path)).unwrap_or_default() {
            if !variables.contains_key(&name) {
                let needed = self.claim(&name, Origin::Value(value), None);
                variables.insert(name, format!("${{{needed}}}").into());
            }
        }
        self.add("env", variables);
        Ok(())
    }

    /// The variables of an `envFile`.
    fn env_file(&mut self, path: &str) -> Vec<(String, String)> {
        let folder = self.cx.source.workspace.as_deref().unwrap_or(self.cx.root);
        let home = std::env::var("HOME").unwrap_or_default();
        let plain = path.replace("${workspaceFolder}", &folder.to_string_lossy()).replace("${userHome}", &home);
        match std::fs::read_to_string(folder.join(plain)) {
            Ok(text) => text.lines().filter_map(assignment).collect(),
            Err(error) => {
                self.notes.push(format!("its `envFile` {path} was left out: {error}"));
                Vec::new()
            }
        }
    }
}

/// The program and its arguments. Cursor takes a whole command line for a command.
fn words(command: &Value, args: Option<&Value>) -> Result<Vec<String>, String> {
    let command = text(command).ok_or("its command is not a text")?;
    let mut words = match command.trim().split_once(' ') {
        // A path may have blanks in it.
        Some((program, _)) if !program.contains(['/', '$', '"', '\'']) => {
            command.split_whitespace().map(str::to_owned).collect()
        }
        _ => vec![command],
    };
    if words.len() > 1 && words.iter().any(|word| word.contains(['"', '\''])) {
        return Err("its command is a line for a shell".to_owned());
    }
    for arg in args.and_then(Value::as_array).into_iter().flatten() {
        words.push(text(arg).ok_or("one of its arguments is neither a text nor a number")?);
    }
    Ok(words)
}

/// `NAME=value`, as in a `.env` file.
fn assignment(line: &str) -> Option<(String, String)> {
    let (name, value) = line.trim().trim_start_matches("export ").split_once('=')?;
    let value = value.trim();
    let bare = ['"', '\''].iter().find_map(|&quote| value.strip_prefix(quote)?.strip_suffix(quote)).unwrap_or(value);
    is_variable(name.trim()).then(|| (name.trim().to_owned(), bare.to_owned()))
}
