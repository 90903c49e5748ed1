//! A token: who it is about, whom it is for, what it opens, and whether that is true.

use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Header, Validation, decode};
use serde::Deserialize;

use super::keys::Key;

/// How far the issuer's clock may be off, in seconds.
const LEEWAY: u64 = 30;

/// The longest subject (OpenID Connect Core, section 2).
const MAX_SUBJECT: usize = 255;

/// What a token says, once it is known to be true.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) subject: String,
    pub(super) audiences: Vec<String>,
    pub(super) scopes: Vec<String>,
    /// Until when it is good, in seconds since the epoch.
    pub(super) expires: u64,
}

impl Verified {
    pub(super) fn is_current(&self, now: u64) -> bool {
        now < self.expires.saturating_add(LEEWAY)
    }
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    aud: Words,
    exp: f64,
    scope: Option<Words>,
    /// What some issuers call it.
    scp: Option<Words>,
}

/// A list, or one text: of one word in `aud`, of several in `scope` (RFC 8693, section 4.2).
#[derive(Deserialize)]
#[serde(untagged)]
enum Words {
    Text(String),
    List(Vec<String>),
}

impl Words {
    fn list(self) -> Vec<String> {
        match self {
            Self::Text(text) => vec![text],
            Self::List(list) => list,
        }
    }

    fn split(self) -> impl Iterator<Item = String> {
        self.list().into_iter().flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }
}

/// Reads a token that was signed by this key, for whichever audience.
///
/// # Errors
/// What is wrong with it, for its holder: nothing that they do not know already.
pub(super) fn verify(token: &str, header: &Header, key: &Key, issuer: &str) -> Result<Verified, &'static str> {
    let mut validation = Validation::new(header.alg);
    validation.leeway = LEEWAY;
    validation.validate_nbf = true;
    validation.set_issuer(&[issuer]);
    validation.set_required_spec_claims(&["exp", "iss", "sub", "aud"]);
    // It is looked at for each request: an agent's endpoint has an audience of its own.
    validation.validate_aud = false;
    let claims = decode::<Claims>(token, &key.key, &validation).map_err(|error| said(&error))?.claims;
    if claims.sub.is_empty() || claims.sub.len() > MAX_SUBJECT || claims.sub.contains(char::is_control) {
        return Err("the token's subject can't be used");
    }
    Ok(Verified {
        subject: claims.sub,
        audiences: claims.aud.list(),
        scopes: claims.scope.into_iter().chain(claims.scp).flat_map(Words::split).collect(),
        expires: claims.exp as u64,
    })
}

fn said(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::ExpiredSignature => "the token has expired",
        ErrorKind::ImmatureSignature => "the token is not valid yet",
        ErrorKind::InvalidIssuer => "the token is another issuer's",
        ErrorKind::InvalidSignature => "the token's signature is wrong",
        ErrorKind::MissingRequiredClaim(_) => "the token lacks one of iss, sub, aud and exp",
        _ => "the token can't be read",
    }
}
