//! What is protected, and how clients find out by whom (RFC 9728).

use axum::Router;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CONTENT_TYPE};
use serde_json::{Value, json};

use super::Auth;
use crate::http::PATH;

/// Where the metadata of a resource is: between its origin and its path.
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// The endpoint under the name that callers use, which need not be the one that it listens on.
#[derive(Clone, Debug)]
pub(super) struct Resource {
    audience: String,
    origin: String,
    path: String,
}

impl Resource {
    /// The one of this URL.
    pub(super) fn new(audience: &str) -> Self {
        let host = audience.find("://").map_or(0, |at| at + 3);
        let path = audience[host..].find('/').map_or(audience.len(), |at| host + at);
        let (origin, path) = audience.split_at(path);
        Self { audience: audience.to_owned(), origin: origin.to_owned(), path: path.to_owned() }
    }

    /// What a request to this path of ours is about: an agent alone is a resource of its own.
    pub(super) fn at(&self, path: &str) -> String {
        match self.path.strip_suffix(PATH) {
            Some(base) if is_agent(path) => format!("{}{base}{path}", self.origin),
            _ => self.audience.clone(),
        }
    }

    /// What is named by a path as the outside knows it, which may have more in front of it than ours.
    fn named(&self, path: &str) -> Option<String> {
        if ["", PATH, &self.path].contains(&path) {
            return Some(self.audience.clone());
        }
        let base = self.path.strip_suffix(PATH)?;
        let path = path.strip_prefix(base).unwrap_or(path);
        is_agent(path).then(|| self.at(path))
    }

    /// Where a resource's metadata is.
    pub(super) fn metadata_of(&self, resource: &str) -> String {
        let path = resource.strip_prefix(&self.origin).unwrap_or_default();
        format!("{}{WELL_KNOWN}{}", self.origin, if path == "/" { "" } else { path })
    }
}

fn is_agent(path: &str) -> bool {
    let name = path.strip_prefix("/agents/").and_then(|rest| rest.strip_suffix(PATH));
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    name.is_some_and(|name| !name.is_empty() && name.chars().all(fits))
}

/// Serves the metadata: to everybody, since nobody has a token yet.
pub(in crate::http) fn router(auth: &Auth) -> Router {
    let resource = Resource::new(&auth.audience);
    let (issuer, scopes) = (auth.issuer.clone(), auth.scopes_supported());
    let metadata = move |path: &str| match resource.named(path) {
        Some(resource) => shown(&json!({
            "resource": resource,
            "authorization_servers": [issuer],
            "scopes_supported": scopes,
            "bearer_methods_supported": ["header"],
        })),
        None => StatusCode::NOT_FOUND.into_response(),
    };
    let own = metadata.clone();
    Router::new().route(WELL_KNOWN, get(async move || own(""))).route(
        &format!("{WELL_KNOWN}/{{*path}}"),
        get(async move |Path(path): Path<String>| metadata(&format!("/{path}"))),
    )
}

fn shown(metadata: &Value) -> Response {
    // Clients that are web pages may read it, too.
    let headers = [(CONTENT_TYPE, "application/json"), (ACCESS_CONTROL_ALLOW_ORIGIN, "*")];
    (headers, metadata.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_has_one_name_wherever_it_listens() {
        let resource = Resource::new("https://example.com/antiphon/mcp");
        assert_eq!(resource.at("/mcp"), "https://example.com/antiphon/mcp");
        let clerk = resource.at("/agents/clerk/mcp");
        assert_eq!(clerk, "https://example.com/antiphon/agents/clerk/mcp");
        let at = "https://example.com/.well-known/oauth-protected-resource/antiphon";
        assert_eq!(resource.metadata_of(&resource.at("/mcp")), format!("{at}/mcp"));
        assert_eq!(resource.metadata_of(&clerk), format!("{at}/agents/clerk/mcp"));
        for path in ["", "/mcp", "/antiphon/mcp"] {
            assert_eq!(resource.named(path).as_deref(), Some("https://example.com/antiphon/mcp"), "{path}");
        }
        for path in ["/agents/clerk/mcp", "/antiphon/agents/clerk/mcp"] {
            assert_eq!(resource.named(path).as_ref(), Some(&clerk), "{path}");
        }
        for path in ["/other", "/agents/mcp", "/agents/a/b/mcp", "/agents/a\"b/mcp", "/antiphon"] {
            assert_eq!(resource.named(path), None, "{path}");
        }
    }

    #[test]
    fn one_that_is_a_whole_host_has_no_parts() {
        let resource = Resource::new("https://example.com");
        assert_eq!(resource.at("/agents/clerk/mcp"), "https://example.com");
        let metadata = "https://example.com/.well-known/oauth-protected-resource";
        assert_eq!(resource.metadata_of("https://example.com"), metadata);
        assert_eq!(Resource::new("https://example.com/").metadata_of("https://example.com/"), metadata);
    }
}
