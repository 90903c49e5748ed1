//! Tokens of an OAuth issuer: this is the resource server (RFC 6750, RFC 9068, RFC 9728).

mod crypto;
mod issuer;
mod jwt;
mod keys;
mod refusal;
mod resource;

use std::sync::Arc;

use antiphon_engine::Owner;
use axum::response::Response;
use jsonwebtoken::decode_header;
use sha2::{Digest, Sha256};

use self::issuer::Issuer;
use self::jwt::{Verified, verify};
use self::keys::{KeyStore, Unavailable};
use self::refusal::Refusal;
use self::resource::Resource;
pub(super) use self::resource::router;
use crate::access::{Access, Principal};

/// No token is longer.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// Whose tokens are taken, and what they open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// Who issues them: their `iss`.
    pub issuer: String,
    /// Whom they are for: their `aud`, the URL by which callers reach the endpoint. If it ends with `/mcp`, `/agents/NAME/mcp`
    /// beside it is the audience of an agent's endpoint, which takes both.
    pub audience: String,
    /// Where the issuer's keys are (JWK Set); `None` asks its metadata (RFC 8414, OpenID Connect Discovery).
    pub jwks: Option<String>,
    /// Scopes that every token must have.
    pub required_scopes: Vec<String>,
    /// What each scope opens: patterns of workflows and agents by name, and of `SERVER.NAME` for what is passed through. Without
    /// any, every token opens everything.
    pub scopes: Vec<(String, Vec<String>)>,
}

impl Auth {
    fn scopes_supported(&self) -> Vec<String> {
        let mut all = self.required_scopes.clone();
        all.extend(
            self.scopes.iter().map(|(scope, _)| scope).filter(|scope| !self.required_scopes.contains(scope)).cloned(),
        );
        all
    }

    /// What these scopes open.
    fn access(&self, scopes: &[String]) -> Access {
        if self.scopes.is_empty() {
            return Access::everything();
        }
        Access::to(self.scopes.iter().filter(|(scope, _)| scopes.contains(scope)).flat_map(|(_, opens)| opens))
    }

    /// The scopes that open this, as a challenge names them; `None` if no scope does.
    fn opening(&self, name: &str) -> Option<String> {
        let opens = |(_, patterns): &&(String, Vec<String>)| Access::to(patterns).opens(name);
        let (scope, _) = self.scopes.iter().find(opens)?;
        let also = self.required_scopes.iter().filter(|required| *required != scope);
        Some(also.chain([scope]).map(String::as_str).collect::<Vec<_>>().join(" "))
    }
}

/// Lets in who has a token.
pub(super) struct Guard {
    auth: Auth,
    resource: Resource,
    keys: Arc<KeyStore>,
}

impl Guard {
    /// # Errors
    /// The issuer could never be asked.
    pub(super) fn new(auth: Auth) -> Result<Self, reqwest::Error> {
        crypto::install();
        let keys = KeyStore::new(Issuer::new(&auth.issuer, auth.jwks.as_deref())?);
        Ok(Self { resource: Resource::new(&auth.audience), auth, keys })
    }

    /// Who holds this token, at this path; else what to answer.
    pub(super) async fn admit(&self, token: Option<&str>, path: &str) -> Result<Principal, Response> {
        let resource = self.resource.at(path);
        self.holder(token, &resource).await.map_err(|refusal| {
            if let Refusal::Invalid(why) = &refusal {
                tracing::debug!("a token was refused: {why}");
            }
            refusal.response(&self.resource.metadata_of(&resource))
        })
    }

    /// What to answer to a request, at this path, for what one of these is and none is open.
    pub(super) fn closed(&self, names: &[String], path: &str) -> Response {
        let scopes = names.iter().find_map(|name| self.auth.opening(name)).unwrap_or_default();
        Refusal::Insufficient(scopes).response(&self.resource.metadata_of(&self.resource.at(path)))
    }

    async fn holder(&self, token: Option<&str>, resource: &str) -> Result<Principal, Refusal> {
        let required = self.auth.required_scopes.join(" ");
        let Some(token) = token else { return Err(Refusal::Missing(required)) };
        let verified = self.verified(token).await?;
        let for_us = |audience: &String| *audience == self.auth.audience || audience == resource;
        if !verified.audiences.iter().any(for_us) {
            return Err(Refusal::Invalid("the token is for somebody else"));
        }
        if !self.auth.required_scopes.iter().all(|scope| verified.scopes.contains(scope)) {
            return Err(Refusal::Insufficient(required));
        }
        // An issuer has no fragment, so no two pairs look alike.
        let owner = Owner(format!("jwt:{}#{}", self.auth.issuer, verified.subject).into());
        Ok(Principal { owner, access: self.auth.access(&verified.scopes) })
    }

    async fn verified(&self, token: &str) -> Result<Arc<Verified>, Refusal> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refusal::Invalid("the token is too long"));
        }
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let mut keys = self.keys.keys().await?;
        if let Some(verified) = keys.remembered(&digest) {
            return Ok(verified);
        }
        // `alg: none` ends here: there is no such algorithm.
        let header = decode_header(token).map_err(|_| Refusal::Invalid("the token can't be read"))?;
        if header.crit.is_some() {
            return Err(Refusal::Invalid("the token wants something that is not known here"));
        }
        let id = header.kid.as_deref();
        if !keys.knows(id) {
            keys = self.keys.newer(Some(&keys)).await?;
        }
        let mut refusal = "the token is signed by no key of its issuer";
        for key in keys.fitting(id, header.alg) {
            match verify(token, &header, key, &self.auth.issuer) {
                Ok(verified) => {
                    let verified = Arc::new(verified);
                    keys.remember(digest, verified.clone());
                    return Ok(verified);
                }
                Err(why) => refusal = why,
            }
        }
        Err(Refusal::Invalid(refusal))
    }
}

impl From<Unavailable> for Refusal {
    fn from(Unavailable: Unavailable) -> Self {
        Self::Unavailable
    }
}
