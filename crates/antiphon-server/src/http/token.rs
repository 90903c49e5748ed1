//! Bearer tokens that are known beforehand.

use std::fmt;

use antiphon_engine::Owner;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};

/// A token and the name of who uses it. Only a digest of the secret is kept.
#[derive(Clone)]
pub struct Token {
    name: String,
    digest: [u8; 32],
}

impl Token {
    /// Whoever shows `secret` is the owner `token:NAME`.
    pub fn new(name: impl Into<String>, secret: &str) -> Self {
        Self { name: name.into(), digest: Sha256::digest(secret.as_bytes()).into() }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Token").field(&self.name).finish()
    }
}

/// What a request shows, if it shows a bearer token.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, secret) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim())
}

/// Whose secret it is.
pub(super) fn owner(tokens: &[Token], secret: &str) -> Option<Owner> {
    let digest: [u8; 32] = Sha256::digest(secret.as_bytes()).into();
    // Every token is compared, and every byte: the time tells nothing.
    let mut found = None;
    for token in tokens {
        let difference = token.digest.iter().zip(digest).fold(0, |seen, (ours, theirs)| seen | (ours ^ theirs));
        if difference == 0 {
            found = Some(token);
        }
    }
    found.map(|token| Owner(format!("token:{}", token.name).into()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_token_is_its_name_to_us_and_its_secret_to_nobody() {
        let tokens = [Token::new("ci", "s3cret"), Token::new("laptop", "other")];
        let owner_of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            owner(&tokens, bearer(&headers)?).map(|owner| owner.0.to_string())
        };
        assert_eq!(owner_of("Bearer s3cret").as_deref(), Some("token:ci"));
        assert_eq!(owner_of("bearer other").as_deref(), Some("token:laptop"));
        assert_eq!(owner_of("Bearer s3cre"), None);
        assert_eq!(owner_of("Basic s3cret"), None);
        assert_eq!(format!("{tokens:?}"), r#"[Token("ci"), Token("laptop")]"#);
    }
}
