//! The environment variables that imported servers need.

use std::collections::BTreeMap;

/// Where a variable's value comes from. What comes from the same place is the same variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The environment of whoever starts the host, too.
    Environment,
    /// A value that the host asks for, by its id.
    Input(String),
    /// The host's file: this value, which is not copied.
    Value(String),
}

/// A variable that somebody has to set.
#[derive(Clone, Debug)]
pub struct Need {
    /// Where its value comes from.
    pub origin: Origin,
    /// What it is for, in the host's words.
    pub about: Option<String>,
    /// The servers that need it.
    pub servers: Vec<String>,
}

/// All of them, by name.
#[derive(Clone, Debug, Default)]
pub struct Needs(BTreeMap<String, Need>);

impl Needs {
    /// A variable for `server`, called `wanted` if that name is free or means the same, else something like it.
    pub fn claim(&mut self, wanted: &str, origin: &Origin, about: Option<&str>, server: &str) -> String {
        let prefixed = variable(&format!("{server}_{wanted}"));
        let numbered = (2..).map(|number| format!("{prefixed}_{number}"));
        for name in [wanted.to_owned(), prefixed.clone()].into_iter().chain(numbered) {
            let need = self.0.entry(name.clone()).or_insert_with(|| Need {
                origin: origin.clone(),
                about: about.map(str::to_owned),
                servers: Vec::new(),
            });
            if need.origin == *origin {
                if !need.servers.iter().any(|known| known == server) {
                    need.servers.push(server.to_owned());
                }
                return name;
            }
        }
        unreachable!("there are always more numbers")
    }

    /// Each with its name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Need)> {
        self.0.iter().map(|(name, need)| (name.as_str(), need))
    }

    /// Whether nothing is needed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A text as the name of a variable: `github-token` is `GITHUB_TOKEN`.
pub fn variable(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c.is_ascii_alphanumeric() => name.push(c.to_ascii_uppercase()),
            _ if name.is_empty() || name.ends_with('_') => {}
            _ => name.push('_'),
        }
    }
    let name = name.trim_end_matches('_');
    match name.chars().next() {
        None => "VALUE".to_owned(),
        Some(first) if first.is_ascii_digit() => format!("_{name}"),
        Some(_) => name.to_owned(),
    }
}

/// Whether a text is the name of a variable already.
pub fn is_variable(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
