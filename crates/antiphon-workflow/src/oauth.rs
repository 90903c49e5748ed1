//! `auth` of a server: `"oauth"`, or a table that says more.

use std::collections::BTreeMap;

use toml::de::DeValue;

use crate::code::{MISSING_KEY, WRONG_VERB};
use crate::diagnostic::Diagnostic;
use crate::project::{Grant, OAuthDef};
use crate::read::Item;
use crate::tables::{open, secret};

const GRANTS: &[(&str, Grant)] =
    &[("authorization_code", Grant::AuthorizationCode), ("client_credentials", Grant::ClientCredentials)];

/// Reads it. `headers` are those of the same server.
pub(crate) fn read(item: &Item<'_>, headers: Option<&BTreeMap<String, String>>) -> Option<OAuthDef> {
    if headers.into_iter().flat_map(BTreeMap::keys).any(|name| name.eq_ignore_ascii_case("authorization")) {
        let message = "a server has either `auth` or an `Authorization` header";
        let help = "remove one of the two: `auth` makes that header from the token that it gets";
        item.cx.report(Diagnostic::new(WRONG_VERB, &item.key_place(), message).help(help));
    }
    match item.get() {
        DeValue::String(_) => item.word(&[("oauth", ())]).map(|()| OAuthDef::default()),
        DeValue::Table(_) => table(item),
        _ => {
            item.expected("`\"oauth\"` or a table", "write `auth = \"oauth\"`, or `auth = { client_id = \"…\" }`");
            None
        }
    }
}

fn table(item: &Item<'_>) -> Option<OAuthDef> {
    let table = item.table()?;
    let grant = table.take("grant").map_or(Some(Grant::default()), |item| item.word(GRANTS));
    let by_itself = grant == Some(Grant::ClientCredentials);
    let (id, hidden) = match by_itself {
        true => (table.require("client_id"), table.require("client_secret")),
        false => (table.take("client_id"), table.take("client_secret")),
    };
    if let (None, Some(hidden), false) = (&id, &hidden, by_itself) {
        let diagnostic = Diagnostic::new(MISSING_KEY, &hidden.key_place(), "a `client_secret` without a `client_id`");
        item.cx.report(diagnostic.help("add the `client_id` that it belongs to"));
    }
    let (client_id, client_secret) = (id.map(|id| open(&id)), hidden.map(|hidden| secret(&hidden)));
    let scopes = table.take("scopes").map(|item| item.strings("write `scopes = [\"issues.read\"]`"));
    table.finish();
    Some(OAuthDef {
        grant: grant?,
        client_id: client_id.map_or(Some(None), |id| id.map(Some))?,
        client_secret: client_secret.map_or(Some(None), |hidden| hidden.map(Some))?,
        scopes: scopes
            .map_or(Some(Vec::new()), |named| Some(named?.into_iter().map(|(scope, _)| scope.to_owned()).collect()))?,
    })
}
