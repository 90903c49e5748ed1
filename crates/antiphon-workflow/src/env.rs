//! `${VAR}` and `${VAR:-default}` in `[servers]` and `[models]`. Nothing is expanded at load: secrets bind late.

use std::collections::BTreeMap;

use crate::project::{ModelDef, ServerDef, Transport};

/// The variable that is always set: the project's folder.
pub const PROJECT_DIR: &str = "PROJECT_DIR";

/// A text with its variables filled in.
#[derive(Clone, PartialEq, Eq)]
pub struct Expanded {
    /// The text.
    pub value: String,
    /// The values of variables without a default that went into it. Where it stands under `env`, `headers` or `api_key`, they
    /// must be shown to nobody.
    pub secrets: Vec<String>,
}

impl std::fmt::Debug for Expanded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = if self.secrets.is_empty() { &self.value } else { "…" };
        f.debug_struct("Expanded").field("value", &value).finish_non_exhaustive()
    }
}

/// A variable that a text needs and the environment lacks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the environment variable `{0}` is not set")]
pub struct MissingVar(pub String);

/// A text that is not well-formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// Where, in bytes.
    pub(crate) at: usize,
    pub(crate) why: &'static str,
}

/// A variable that a server or model mentions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Whether it has a default wherever it is mentioned.
    pub optional: bool,
    /// Whether its value is a secret: it stands under `env`, `headers`, `api_key` or `client_secret`, and has no default there.
    pub secret: bool,
}

/// Fills in the variables of a text. `lookup` must answer [`PROJECT_DIR`].
///
/// # Errors
/// [`MissingVar`] names the first variable that `lookup` does not know and that has no default.
pub fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<Expanded, MissingVar> {
    let mut value = String::with_capacity(text.len());
    let mut secrets = Vec::new();
    // A malformed text was refused at load; should one come here nevertheless, it stands for itself.
    for piece in pieces(text).unwrap_or_else(|_| vec![Piece::Text(text)]) {
        match piece {
            Piece::Text(text) => value.push_str(text),
            Piece::Variable { name, default } => {
                match lookup(name).filter(|found| default.is_none() || !found.is_empty()) {
                    Some(found) => {
                        value.push_str(&found);
                        if default.is_none() && name != PROJECT_DIR {
                            secrets.push(found);
                        }
                    }
                    None => value.push_str(default.ok_or_else(|| MissingVar(name.to_owned()))?),
                }
            }
        }
    }
    Ok(Expanded { value, secrets })
}

/// The variables that a server's definition mentions, by name; [`PROJECT_DIR`] is not among them.
pub fn variables(server: &ServerDef) -> Vec<Variable> {
    let mut found = Found::default();
    match &server.transport {
        Transport::Stdio { command, args, env, cwd } => {
            found.open(command);
            args.iter().chain(cwd).for_each(|text| found.open(text));
            env.values().for_each(|text| found.hidden(text));
        }
        Transport::Http { url, headers, auth } => {
            found.open(url);
            headers.values().for_each(|text| found.hidden(text));
            if let Some(auth) = auth {
                auth.client_id.iter().for_each(|text| found.open(text));
                auth.client_secret.iter().for_each(|text| found.hidden(text));
            }
        }
    }
    found.finish()
}

/// The variables that a model's definition mentions, by name; [`PROJECT_DIR`] is not among them.
pub fn model_variables(model: &ModelDef) -> Vec<Variable> {
    let mut found = Found::default();
    found.open(&model.base_url);
    found.open(&model.model);
    model.api_key.iter().chain(model.headers.values()).for_each(|text| found.hidden(text));
    found.finish()
}

#[derive(Default)]
struct Found(BTreeMap<String, Variable>);

impl Found {
    fn open(&mut self, text: &str) {
        self.add(text, false);
    }

    fn hidden(&mut self, text: &str) {
        self.add(text, true);
    }

    fn add(&mut self, text: &str, hidden: bool) {
        for piece in pieces(text).unwrap_or_default() {
            if let Piece::Variable { name, default } = piece
                && name != PROJECT_DIR
            {
                let optional = default.is_some();
                let new = Variable { name: name.to_owned(), optional: true, secret: false };
                let known = self.0.entry(name.to_owned()).or_insert(new);
                known.optional &= optional;
                known.secret |= hidden && !optional;
            }
        }
    }

    fn finish(self) -> Vec<Variable> {
        self.0.into_values().collect()
    }
}

/// A part of a text.
#[derive(Debug, PartialEq)]
pub(crate) enum Piece<'a> {
    Text(&'a str),
    Variable { name: &'a str, default: Option<&'a str> },
}

/// Takes a text apart; `$${` stands for `${`.
pub(crate) fn pieces(text: &str) -> Result<Vec<Piece<'_>>, Malformed> {
    let mut pieces = Vec::new();
    let mut done = 0;
    let mut from = 0;
    while let Some(dollar) = text[from..].find("${").map(|at| at + from) {
        if text[done..dollar].ends_with('$') {
            pieces.push(Piece::Text(&text[done..dollar - 1]));
            pieces.push(Piece::Text("${"));
            (done, from) = (dollar + 2, dollar + 2);
            continue;
        }
        let Some(close) = text[dollar..].find('}').map(|at| at + dollar) else {
            return Err(Malformed { at: dollar, why: "it is never closed" });
        };
        let inner = &text[dollar + 2..close];
        let (name, default) = match inner.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inner, None),
        };
        if !is_variable(name) {
            return Err(Malformed { at: dollar, why: "a variable's name is made of letters, digits and `_`" });
        }
        pieces.push(Piece::Text(&text[done..dollar]));
        pieces.push(Piece::Variable { name, default });
        (done, from) = (close + 1, close + 1);
    }
    pieces.push(Piece::Text(&text[done..]));
    Ok(pieces)
}

fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "TOKEN" => Some("s3cret".into()),
            "EMPTY" => Some(String::new()),
            PROJECT_DIR => Some("/p".into()),
            _ => None,
        }
    }

    #[test]
    fn fills_in_variables_and_defaults() {
        let all = expand("Bearer ${TOKEN} ${HOST:-localhost} ${EMPTY:-x} $${TOKEN} $5", lookup).unwrap();
        assert_eq!(all.value, "Bearer s3cret localhost x ${TOKEN} $5");
        assert_eq!(all.secrets, ["s3cret"]);
        assert!(!format!("{all:?}").contains("s3cret"));
        let dir = expand("${PROJECT_DIR}/a", lookup).unwrap();
        assert_eq!((dir.value.as_str(), dir.secrets.len()), ("/p/a", 0));
    }

    #[test]
    fn names_what_is_missing() {
        assert_eq!(expand("${NOPE}", lookup), Err(MissingVar("NOPE".into())));
    }

    #[test]
    fn refuses_what_is_malformed() {
        assert_eq!(pieces("a ${B").unwrap_err().at, 2);
        assert!(pieces("${}").is_err());
        assert!(pieces("${a b}").is_err());
    }
}
