//! What an issuer publishes: where its keys are, and the keys.

use std::time::Duration;

use jsonwebtoken::jwk::Jwk;
use reqwest::{Client, StatusCode, Url, redirect};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// How long the issuer may take for one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// No metadata and no set of keys is longer.
const MAX_BYTES: usize = 1024 * 1024;

/// An issuer, as one asks it.
#[derive(Debug)]
pub(super) struct Issuer {
    name: String,
    jwks: Option<String>,
    client: Client,
}

/// What of its metadata matters here (RFC 8414, section 2).
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: Option<String>,
}

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<Value>,
}

impl Issuer {
    /// One whose tokens say `iss: name`.
    ///
    /// # Errors
    /// HTTP can't be used at all.
    pub(super) fn new(name: &str, jwks: Option<&str>) -> Result<Self, reqwest::Error> {
        // Nothing that it says is believed because of where a redirect led.
        let client = Client::builder().timeout(PATIENCE).redirect(redirect::Policy::none()).build()?;
        Ok(Self { name: name.to_owned(), jwks: jwks.map(str::to_owned), client })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Its keys; those of a kind that is not known are left out (RFC 7517, section 5).
    ///
    /// # Errors
    /// Why they can't be had.
    pub(super) async fn keys(&self) -> Result<Vec<Jwk>, String> {
        let found;
        let jwks = match &self.jwks {
            Some(jwks) => jwks,
            None => {
                found = self.jwks_uri().await?;
                &found
            }
        };
        let set: JwkSet = self.get(jwks).await?.ok_or_else(|| format!("there is nothing at {jwks}"))?;
        Ok(set.keys.into_iter().filter_map(|key| serde_json::from_value(key).ok()).collect())
    }

    async fn jwks_uri(&self) -> Result<String, String> {
        let places = places(&self.name)?;
        for place in &places {
            let Some(metadata) = self.get::<Metadata>(place).await? else { continue };
            if metadata.issuer != self.name {
                return Err(format!("{place} is about the issuer `{}`, not `{}`", metadata.issuer, self.name));
            }
            let jwks = metadata.jwks_uri.ok_or_else(|| format!("{place} names no `jwks_uri`"))?;
            if jwks.starts_with("http://") && !self.name.starts_with("http://") {
                return Err(format!("{place} names keys at {jwks}, which is not `https://`"));
            }
            return Ok(jwks);
        }
        Err(format!("no metadata at {}", places.join(", ")))
    }

    /// What is there, `None` if nothing is.
    async fn get<T: DeserializeOwned>(&self, url: &str) -> Result<Option<T>, String> {
        let failed = |error: reqwest::Error| format!("{url}: {}", causes(&error.without_url()));
        let mut response = self.client.get(url).header("accept", "application/json").send().await.map_err(failed)?;
        match response.status() {
            StatusCode::OK => {}
            status if status.is_client_error() => return Ok(None),
            status => return Err(format!("{url}: {status}")),
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_BYTES {
                return Err(format!("{url}: more than {MAX_BYTES} bytes"));
            }
        }
        serde_json::from_slice(&body).map(Some).map_err(|error| format!("{url}: {error}"))
    }
}

/// Where an issuer's metadata may be: as RFC 8414 has it, and as OpenID Connect has it in either way.
fn places(issuer: &str) -> Result<Vec<String>, String> {
    let url = Url::parse(issuer).map_err(|error| format!("`{issuer}`: {error}"))?;
    let (origin, path) = (url.origin().ascii_serialization(), url.path().trim_end_matches('/'));
    let mut places = vec![
        format!("{origin}/.well-known/oauth-authorization-server{path}"),
        format!("{origin}/.well-known/openid-configuration{path}"),
    ];
    if !path.is_empty() {
        places.push(format!("{origin}{path}/.well-known/openid-configuration"));
    }
    Ok(places)
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn metadata_is_looked_for_where_both_standards_have_it() {
        let one = ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"];
        assert_eq!(places("https://a.example").unwrap(), one.map(|path| format!("https://a.example{path}")));
        assert_eq!(places("https://a.example/").unwrap(), places("https://a.example").unwrap());
        let tenant = places("https://a.example:8443/t/1").unwrap();
        assert_eq!(tenant[0], "https://a.example:8443/.well-known/oauth-authorization-server/t/1");
        assert_eq!(tenant[2], "https://a.example:8443/t/1/.well-known/openid-configuration");
    }
}
