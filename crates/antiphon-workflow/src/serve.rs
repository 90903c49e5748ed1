//! `[serve]` of an `antiphon.toml`.

use toml::de::DeValue;

use crate::auth;
use crate::code::BAD_VALUE;
use crate::diagnostic::{Diagnostic, Place};
use crate::project::{Prefix, ServeDef};
use crate::read::Item;

/// `[serve]`, and where its patterns stand.
pub(crate) struct ServePart {
    pub(crate) def: ServeDef,
    /// Of `expose`, and of scopes.
    pub(crate) patterns: Vec<(String, Place)>,
}

/// Reads it.
pub(crate) fn read(item: &Item<'_>) -> Option<ServePart> {
    let table = item.table()?;
    let expose =
        table.take("expose").and_then(|item| item.strings("write `expose = [\"files.*\"]`")).unwrap_or_default();
    for (pattern, place) in &expose {
        if !pattern.contains('.') {
            item.cx.report(
                Diagnostic::new(BAD_VALUE, place, format!("`{pattern}` names no tool"))
                    .help("write `SERVER.TOOL`; `*` stands for anything"),
            );
        }
    }
    let prefix = table.take("prefix").and_then(|item| prefix(&item)).unwrap_or_default();
    let auth = table.take("auth").and_then(|item| auth::read(&item));
    table.finish();
    let mut patterns: Vec<_> = expose.into_iter().map(|(pattern, place)| (pattern.to_owned(), place)).collect();
    let expose = patterns.iter().map(|(pattern, _)| pattern.clone()).collect();
    let auth = auth.and_then(|auth| {
        patterns.extend(auth.patterns);
        auth.def
    });
    Some(ServePart { def: ServeDef { expose, prefix, auth }, patterns })
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
