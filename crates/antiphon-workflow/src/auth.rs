//! `[serve.auth]`: who may come in over HTTP, and what each scope opens.

use crate::code::BAD_VALUE;
use crate::diagnostic::{Diagnostic, Place};
use crate::read::{Item, Table};
use crate::tables::open;

/// `[serve.auth]`: whose tokens are taken. Its addresses may hold `${VAR}`, see [`crate::env`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthDef {
    /// Who issues the tokens: their `iss`.
    pub issuer: String,
    /// Whom they are for: their `aud`, the URL by which callers reach the endpoint.
    pub audience: String,
    /// Where the issuer's keys are; `None` asks its metadata.
    pub jwks: Option<String>,
    /// Scopes that every token must have.
    pub required_scopes: Vec<String>,
    /// What each scope opens: patterns of workflows, agents, and `SERVER.NAME` of what is passed through. Without any, every token
    /// opens everything.
    pub scopes: Vec<(String, Vec<String>)>,
}

/// Whether tokens can be trusted by what is found at this address: by `https`, or on this machine.
///
/// # Errors
/// Why not.
pub fn trustworthy(url: &str) -> Result<(), &'static str> {
    if url.contains(|c: char| matches!(c, '#' | '"' | '\\') || !c.is_ascii_graphic()) {
        return Err("it has a fragment, or what no address has");
    }
    let (clear, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (false, rest),
        (None, Some(rest)) => (true, rest),
        (None, None) => return Err("it is no `https://` address"),
    };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => host,
        _ => authority,
    };
    match host {
        "" => Err("it names no host"),
        _ if authority.contains('@') => Err("it holds a user's name"),
        "localhost" | "127.0.0.1" | "[::1]" => Ok(()),
        _ if clear => Err("only this machine may be asked over `http://`"),
        _ => Ok(()),
    }
}

/// `[serve.auth]`, and where the patterns of its scopes stand.
pub(crate) struct AuthPart {
    /// `None` if something is missing or wrong that it can't do without: that is an error, and whoever serves must not go on as if
    /// nothing had been asked for.
    pub(crate) def: Option<AuthDef>,
    pub(crate) patterns: Vec<(String, Place)>,
}

/// Reads it.
pub(crate) fn read(item: &Item<'_>) -> Option<AuthPart> {
    let table = item.table()?;
    let issuer = table.require("issuer").and_then(|item| url(&item));
    let audience = table.require("audience").and_then(|item| url(&item));
    let jwks = table.take("jwks").and_then(|item| url(&item));
    let required = table.take("required_scopes").map(|item| {
        let names = item.strings("write `required_scopes = [\"antiphon\"]`").unwrap_or_default();
        names.into_iter().filter_map(|(name, place)| scope(&item, name, &place)).collect()
    });
    let (mut scopes, mut patterns) = (Vec::new(), Vec::new());
    for item in table.take("scopes").as_ref().and_then(Item::table).iter().flat_map(Table::items) {
        let Some(name) = scope(&item, item.key, &item.key_place()) else { continue };
        let opens = item.strings("write `\"files:read\" = [\"files.read_*\", \"brief\"]`").unwrap_or_default();
        scopes.push((name, opens.iter().map(|(pattern, _)| (*pattern).to_owned()).collect()));
        patterns.extend(opens.into_iter().map(|(pattern, place)| (pattern.to_owned(), place)));
    }
    table.finish();
    let required_scopes = required.unwrap_or_default();
    let def = issuer.zip(audience);
    let def = def.map(|(issuer, audience)| AuthDef { issuer, audience, jwks, required_scopes, scopes });
    Some(AuthPart { def, patterns })
}

/// An address that tokens are trusted by. One with variables is looked at when they are filled in.
fn url(item: &Item<'_>) -> Option<String> {
    let text = open(item)?;
    let why = match trustworthy(&text) {
        _ if text.contains("${") => None,
        Err(why) => Some(why),
        Ok(()) if item.key != "jwks" && text.contains('?') => Some("it has a query"),
        Ok(()) => None,
    };
    if let Some(why) = why {
        let message = format!("`{text}` can't be the `{}`: {why}", item.key);
        item.refuse(BAD_VALUE, message, "write it as `https://HOST/PATH`");
        return None;
    }
    Some(text)
}

/// A scope, as RFC 6749 (section 3.3) has it.
fn scope(item: &Item<'_>, name: &str, place: &Place) -> Option<String> {
    let fits = |c: char| c.is_ascii_graphic() && c != '"' && c != '\\';
    if !name.is_empty() && name.chars().all(fits) {
        return Some(name.to_owned());
    }
    let help = "a scope is made of visible ASCII characters, without `\"` and `\\`";
    item.cx.report(Diagnostic::new(BAD_VALUE, place, format!("`{name}` can't be a scope")).help(help));
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_can_change_on_the_way_is_trusted() {
        for good in [
            "https://a.example",
            "https://a.example:8443/b?c=d",
            "http://localhost/a",
            "http://127.0.0.1:80",
            "http://[::1]:80/a",
            "http://[::1]",
        ] {
            assert_eq!(trustworthy(good), Ok(()), "{good}");
        }
        for bad in [
            "http://a.example",
            "http://127.0.0.1.a.example/",
            "http://localhost@a.example/",
            "https://ada@a.example",
            "https://",
            "https:///a",
            "https://a.example/#b",
            "https://a.example/ b",
            "https://a.example/\"b",
            "ftp://a.example",
            "a.example",
        ] {
            assert!(trustworthy(bad).is_err(), "{bad}");
        }
    }
}
