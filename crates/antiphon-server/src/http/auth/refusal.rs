//! Why somebody is not let in, as RFC 6750 (section 3) and MCP have it.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};

/// Why not.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No token; the scopes that one needs in any case, if any.
    Missing(String),
    /// The token is not good, and why.
    Invalid(&'static str),
    /// It has too few scopes; those that would do, if any would.
    Insufficient(String),
    /// Nobody can tell: the issuer does not answer.
    Unavailable,
}

impl Refusal {
    /// What to answer. `metadata` is where clients learn whom to ask for a token.
    pub(super) fn response(&self, metadata: &str) -> Response {
        let mut challenge = format!("Bearer resource_metadata=\"{metadata}\"");
        let (status, error, text) = match self {
            Self::Missing(_) => (StatusCode::UNAUTHORIZED, None, "this server wants `Authorization: Bearer TOKEN`"),
            Self::Invalid(why) => (StatusCode::UNAUTHORIZED, Some("invalid_token"), *why),
            Self::Insufficient(_) => {
                (StatusCode::FORBIDDEN, Some("insufficient_scope"), "the token has too few scopes")
            }
            Self::Unavailable => {
                let text = "tokens can't be checked: their issuer does not answer";
                return (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "10")], text).into_response();
            }
        };
        if let Some(error) = error {
            challenge.push_str(&format!(", error=\"{error}\", error_description=\"{text}\""));
        }
        if let Self::Missing(scopes) | Self::Insufficient(scopes) = self
            && !scopes.is_empty()
        {
            challenge.push_str(&format!(", scope=\"{scopes}\""));
        }
        (status, [(WWW_AUTHENTICATE, challenge)], text).into_response()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used)]

    use super::*;

    fn challenge(refusal: &Refusal) -> (u16, String) {
        let response = refusal.response("https://a.example/meta");
        let challenge = response.headers().get(WWW_AUTHENTICATE).map(|value| value.to_str().unwrap().to_owned());
        (response.status().as_u16(), challenge.unwrap_or_default())
    }

    #[test]
    fn clients_are_told_where_to_go() {
        let start = "Bearer resource_metadata=\"https://a.example/meta\"";
        assert_eq!(challenge(&Refusal::Missing(String::new())), (401, start.to_owned()));
        assert_eq!(challenge(&Refusal::Missing("a b".into())), (401, format!("{start}, scope=\"a b\"")));
        let invalid = format!("{start}, error=\"invalid_token\", error_description=\"the token has expired\"");
        assert_eq!(challenge(&Refusal::Invalid("the token has expired")), (401, invalid));
        let (status, text) = challenge(&Refusal::Insufficient("a".into()));
        assert_eq!(status, 403);
        assert!(text.contains("error=\"insufficient_scope\"") && text.ends_with("scope=\"a\""), "{text}");
        assert_eq!(challenge(&Refusal::Unavailable), (503, String::new()));
    }
}
