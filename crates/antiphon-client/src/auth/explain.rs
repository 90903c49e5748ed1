//! What a protected server, or its authorization server, means by a refusal; and what to do about it.

use std::borrow::Cow;
use std::error::Error;

use rmcp::transport::auth::AuthError;
use rmcp::transport::streamable_http_client::{InsufficientScopeError, StreamableHttpError};

use crate::config::{ServerConfig, Transport};
use crate::error::ErrorKind;

/// Whether the server wants another token than the one that it got, or one at all.
pub(super) fn is_unauthorized(error: &StreamableHttpError<reqwest::Error>) -> bool {
    match error {
        StreamableHttpError::AuthRequired(_) => true,
        StreamableHttpError::UnexpectedServerResponse(text) => text.starts_with("HTTP 401"),
        _ => false,
    }
}

/// The server has refused us, with this status: a predicate of it.
pub(crate) fn refused(status: &str, config: &ServerConfig) -> String {
    match config.transport.auth() {
        Some(auth) if auth.needs_login() => {
            format!("wants a login ({status}): run `antiphon login {}`", config.name)
        }
        Some(_) => format!("refuses the token of our client ({status}): check `client_id` and `scopes` in its `auth`"),
        None => {
            let has_headers = matches!(&config.transport, Transport::Http { headers, .. } if !headers.is_empty());
            match has_headers {
                true => format!("refuses our credentials ({status}): check its `headers`"),
                false => format!(
                    "wants authorization ({status}): give it `auth = \"oauth\"` and run `antiphon login {}`, or a token in \
                     its `headers`",
                    config.name
                ),
            }
        }
    }
}

/// The token is good, but not for this.
pub(crate) fn insufficient(error: &InsufficientScopeError, config: &ServerConfig) -> String {
    let wanted = error.required_scope.as_deref().map(|scope| format!(" `{scope}`")).unwrap_or_default();
    match config.transport.auth() {
        Some(auth) if auth.needs_login() => format!(
            "wants more than our login allows (HTTP 403){wanted}: add that to `scopes` in its `auth`, and run `antiphon login {}`",
            config.name
        ),
        Some(_) => format!("wants more than our client may (HTTP 403){wanted}: check `scopes` in its `auth`"),
        None => format!("refuses our credentials (HTTP 403){wanted}"),
    }
}

/// No token could be got: a predicate of the server that wants it.
pub(crate) fn explain(error: &AuthError, config: &ServerConfig) -> (ErrorKind, String) {
    match error {
        AuthError::AuthorizationRequired => {
            (ErrorKind::Denied, format!("has ended our login, or it has run out: run `antiphon login {}`", config.name))
        }
        AuthError::ClientCredentialsError(_) => {
            (ErrorKind::Denied, format!("can't be asked: its authorization server refuses our client: {}", said(error)))
        }
        AuthError::CredentialStoreError(_) => {
            (ErrorKind::Unavailable, format!("can't be asked: the file of its login can't be used: {}", said(error)))
        }
        error => (ErrorKind::Unavailable, format!("can't be asked: no token could be got: {}", said(error))),
    }
}

/// What went wrong, with its reasons.
pub(super) fn said(error: &AuthError) -> Cow<'static, str> {
    match error {
        AuthError::NoAuthorizationSupport => {
            "it does not say where (it has no OAuth metadata): does it want a token in its `headers`?".into()
        }
        AuthError::RegistrationFailed(why) if why.contains("not supported") => {
            "its authorization server takes only clients that it knows: have one registered there, and write \
             `auth = { client_id = \"…\" }`"
                .into()
        }
        error => {
            let mut text = error.to_string();
            let mut source = error.source();
            while let Some(inner) = source {
                if source_is_new(&text, inner) {
                    text = format!("{text}: {inner}");
                }
                source = inner.source();
            }
            text.into()
        }
    }
}

fn source_is_new(text: &str, inner: &(dyn Error + 'static)) -> bool {
    !text.contains(&inner.to_string())
}
