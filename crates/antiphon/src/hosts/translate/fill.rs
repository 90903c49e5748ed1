//! What hosts fill in: `${NAME}` in all their spellings, and in ours.

use antiphon_workflow::env::PROJECT_DIR;
use antiphon_workflow::sounds_secret;
use serde_json::Value;

use super::super::needs::{Origin, is_variable, variable};
use super::Context;

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Characters that stand for themselves.
    Text(String),
    /// A variable that is to be set.
    Needed {
        /// What it is called, if that name is free.
        name: String,
        /// Its value when it is not set.
        default: Option<String>,
        /// Where its value comes from.
        origin: Origin,
        /// What it is for.
        about: Option<String>,
    },
    /// A reference in our own spelling.
    Ours(String),
}

impl Part {
    /// What is written out in it.
    pub fn literal(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Needed { default: Some(text), .. } => Some(text),
            _ => None,
        }
    }

    /// Whether it is a variable that `antiphon check` lets stand in `env` and `headers` alone.
    pub fn sounds_secret(&self) -> bool {
        matches!(self, Self::Needed { name, default: None, .. } if sounds_secret(name))
    }
}

/// Takes a host's text apart. A variable that the server itself gets (`own`) is left to it: it fills it in itself. `bare`
/// variables are those without braces.
pub fn parts(text: &str, cx: &Context<'_>, own: &[String], bare: bool) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        let (before, after) = rest.split_at(dollar);
        push(&mut parts, before);
        let braced = after.strip_prefix("${").and_then(|inner| inner.split_once('}'));
        match braced {
            Some((inner, following)) => {
                match reference(inner, cx, own)? {
                    Some(part) => parts.push(part),
                    None => push(&mut parts, &after[..inner.len() + 3]),
                }
                rest = following;
            }
            None => {
                let name: String = after[1..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                rest = &after[1 + name.len()..];
                if bare && is_variable(&name) {
                    parts.push(environment(&name, None));
                } else {
                    push(&mut parts, &after[..1 + name.len()]);
                }
            }
        }
    }
    push(&mut parts, rest);
    Ok(parts)
}

/// Our spelling.
pub fn written(parts: &[Part]) -> String {
    parts
        .iter()
        .map(|part| match part {
            Part::Text(text) => text.replace("${", "$${"),
            Part::Ours(text) => text.clone(),
            Part::Needed { name, .. } => format!("${{{name}}}"),
        })
        .collect()
}

fn push(parts: &mut Vec<Part>, text: &str) {
    match parts.last_mut() {
        _ if text.is_empty() => {}
        Some(Part::Text(last)) => last.push_str(text),
        _ => parts.push(Part::Text(text.to_owned())),
    }
}

fn environment(name: &str, default: Option<&str>) -> Part {
    let default = default.map(str::to_owned);
    Part::Needed { name: name.to_owned(), default, origin: Origin::Environment, about: None }
}

/// What stands between the braces; none if it is no reference.
fn reference(inner: &str, cx: &Context<'_>, own: &[String]) -> Result<Option<Part>, String> {
    let folder = cx.source.workspace.as_deref();
    let plain = match inner {
        // A folder that a user's file leaves open is whichever one is worked in.
        "workspaceFolder" | "workspaceRoot" => match folder.filter(|folder| *folder != cx.root) {
            Some(folder) => Part::Text(folder.to_string_lossy().into_owned()),
            None => Part::Ours(format!("${{{PROJECT_DIR}}}")),
        },
        "workspaceFolderBasename" | "workspaceRootFolderName" => {
            let name = folder.unwrap_or(cx.root).file_name().unwrap_or_default();
            Part::Text(name.to_string_lossy().into_owned())
        }
        "userHome" => Part::Ours("${HOME}".to_owned()),
        "/" | "pathSeparator" => Part::Text("/".to_owned()),
        _ => {
            let (kind, name) = match inner.split_once(':') {
                Some((kind, rest)) if !rest.starts_with('-') => (Some(kind), rest),
                _ => (None, inner),
            };
            let (name, default) = name.split_once(":-").map_or((name, None), |(name, default)| (name, Some(default)));
            return match kind {
                None if own.iter().any(|own| own == name) => Ok(None),
                None | Some("env") if is_variable(name) => Ok(Some(environment(name, default))),
                None => Ok(None),
                Some("input") => Ok(Some(input(name, cx))),
                Some(_) => Err(format!("only {} can fill in `${{{inner}}}`", cx.source.title())),
            };
        }
    };
    Ok(Some(plain))
}

/// What VS Code would ask for.
fn input(id: &str, cx: &Context<'_>) -> Part {
    let input = cx.source.inputs.iter().find(|input| input.get("id").and_then(Value::as_str) == Some(id));
    let text = |key| input.and_then(|input| input.get(key)?.as_str()).map(str::to_owned);
    let secret = input.and_then(|input| input.get("password")) == Some(&Value::Bool(true));
    Part::Needed {
        name: variable(id),
        default: text("default").filter(|default| !secret && !default.is_empty() && !default.contains('}')),
        origin: Origin::Input(id.to_owned()),
        about: text("description"),
    }
}
