//! OAuth, as a client of protected servers (2026-07-28, Authorization). The protocol is rmcp's; ours is when a token is
//! asked for, by whom, and where it is kept.

mod explain;
mod file;
mod login;
mod redirect;
mod token;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rmcp::transport::auth::{
    AuthError, AuthorizationManager, AuthorizationMetadataSource, ClientCredentialsConfig, OAuthClientConfig,
    StoredCredentials,
};
use rmcp::transport::streamable_http_client::StreamableHttpError;
use secrecy::{ExposeSecret, SecretString};

pub use login::Login;

pub(crate) use explain::{explain, insufficient, refused};

use file::{Kept, LoginFile, Stamp};
use token::Token;

/// What makes us a client of one server.
#[derive(Clone, Debug)]
pub struct OAuth {
    /// The server's endpoint: what tokens are for.
    pub url: String,
    /// The client that its authorization server knows. Without one we register ourselves at each login.
    pub client_id: Option<String>,
    /// That client's secret.
    pub client_secret: Option<SecretString>,
    /// What is asked for; empty leaves it to what the server says that it needs.
    pub scopes: Vec<String>,
    /// The file of a person's login, in a folder that only this user can read. `None`: the client is let in by itself (the
    /// grant `client_credentials`), and its token is kept in memory.
    pub login: Option<PathBuf>,
}

/// Gets the token that a server wants. Shared by all connections to it.
pub struct Auth {
    settings: OAuth,
    /// Held while a token is asked for, so that all who want one at the same time wait for the same.
    known: tokio::sync::Mutex<Option<Known>>,
    /// The last token, so that it can be hidden in what the server says.
    last: Mutex<Option<SecretString>>,
}

/// A token, and the state of the file that it came from: who logs in or out changes it.
#[derive(Clone)]
struct Known {
    token: Token,
    stamp: Option<Stamp>,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Auth {
    /// Asks for nothing yet.
    pub fn new(settings: OAuth) -> Arc<Self> {
        Arc::new(Self { settings, known: tokio::sync::Mutex::default(), last: Mutex::default() })
    }

    /// Whether a person has to log in.
    pub fn needs_login(&self) -> bool {
        self.settings.login.is_some()
    }

    /// Forgets the login. `false` if there was none. The authorization server is not told: not all can be.
    ///
    /// # Errors
    /// When the file can't be removed.
    pub async fn logout(&self) -> std::io::Result<bool> {
        match self.file() {
            Some(file) => {
                let _lock = file.lock().await?;
                file.remove()
            }
            None => Ok(false),
        }
    }

    pub(crate) fn same_as(&self, other: &Self) -> bool {
        let (a, b) = (&self.settings, &other.settings);
        let secret = |settings: &OAuth| settings.client_secret.as_ref().map(|secret| secret.expose_secret().to_owned());
        a.url == b.url
            && a.client_id == b.client_id
            && secret(a) == secret(b)
            && a.scopes == b.scopes
            && a.login == b.login
    }

    /// The last token that was used.
    pub(crate) fn last(&self) -> Option<SecretString> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes a request with the token, and once more with another one if the server refuses that.
    ///
    /// # Errors
    /// Those of the request, and `Auth` if there was no token that could be sent.
    pub(crate) async fn with<T, F>(
        self: &Arc<Self>,
        request: impl Fn(Option<String>) -> F,
    ) -> Result<T, StreamableHttpError<reqwest::Error>>
    where
        F: Future<Output = Result<T, StreamableHttpError<reqwest::Error>>>,
    {
        let token = self.token().await?;
        match (request(token.clone()).await, token) {
            (Err(error), Some(refused)) if explain::is_unauthorized(&error) => match self.instead_of(&refused).await? {
                Some(another) => request(Some(another)).await,
                None => Err(error),
            },
            (result, _) => result,
        }
    }

    /// The token to send: `None` while nobody has logged in.
    ///
    /// # Errors
    /// When the login is over (`AuthorizationRequired`), or could not be renewed now.
    pub(crate) async fn token(self: &Arc<Self>) -> Result<Option<String>, AuthError> {
        self.get(None).await
    }

    /// Another token than this one, which the server has refused.
    ///
    /// # Errors
    /// See [`Auth::token`].
    pub(crate) async fn instead_of(self: &Arc<Self>, refused: &str) -> Result<Option<String>, AuthError> {
        self.get(Some(refused)).await
    }

    async fn get(self: &Arc<Self>, refused: Option<&str>) -> Result<Option<String>, AuthError> {
        let mut known = self.known.lock().await;
        if let Some(found) = &*known
            && found.token.is_good(refused, SystemTime::now())
            && found.stamp == self.file().and_then(|file| file.stamp())
        {
            return Ok(Some(found.token.value()));
        }
        *known = None;
        // A task of its own: a refresh that was cut off in the middle would lose the only refresh token that is still good.
        let (this, refused) = (Arc::clone(self), refused.map(str::to_owned));
        let asking = tokio::spawn(async move { this.ask(refused.as_deref()).await });
        let asked = asking.await.map_err(|error| AuthError::InternalError(error.to_string()))??;
        known.clone_from(&asked);
        let value = asked.map(|known| known.token.value());
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = value.clone().map(SecretString::from);
        Ok(value)
    }

    async fn ask(&self, refused: Option<&str>) -> Result<Option<Known>, AuthError> {
        let Some(file) = self.file() else {
            let token = Token::of(&self.by_itself().await?).ok_or(AuthError::AuthorizationRequired)?;
            return Ok(Some(Known { token, stamp: None }));
        };
        // One process at a time: a refresh token is often good for one use.
        let _lock = file.lock().await.map_err(|error| file.unusable(&error))?;
        let Some(kept) = file.load()? else { return Ok(None) };
        let token = Token::of(&kept.credentials).ok_or(AuthError::AuthorizationRequired)?;
        let token = match token.is_good(refused, SystemTime::now()) {
            // Another process was faster.
            true => token,
            false => Token::of(&self.renewed(&file, kept).await?).ok_or(AuthError::AuthorizationRequired)?,
        };
        Ok(Some(Known { token, stamp: file.stamp() }))
    }

    /// By the client's own credentials.
    async fn by_itself(&self) -> Result<StoredCredentials, AuthError> {
        let (mut manager, _) = self.manager(None).await?;
        let scopes = match self.settings.scopes.is_empty() {
            true => manager.select_initial_scopes(&[]).await,
            false => self.settings.scopes.clone(),
        };
        let client_id = self.settings.client_id.clone().unwrap_or_default();
        let config = ClientCredentialsConfig::ClientSecret {
            client_id: client_id.clone(),
            client_secret: self.secret().unwrap_or_default(),
            scopes: scopes.into_iter().filter(|scope| scope != "offline_access").collect(),
            resource: Some(self.settings.url.clone()),
        };
        manager.validate_client_credentials_metadata(&config)?;
        manager.configure_client_credentials(&config)?;
        let response = manager.exchange_client_credentials(&config).await?;
        Ok(StoredCredentials::new(client_id, Some(response), Vec::new(), Some(token::now())))
    }

    /// By the refresh token, which stays in the file if the answer is lost.
    async fn renewed(&self, file: &LoginFile, kept: Kept) -> Result<StoredCredentials, AuthError> {
        let (mut manager, _) = self.manager(kept.credentials.issuer.as_deref()).await?;
        let Kept { credentials, client_secret, .. } = kept;
        let (client_id, secret) = match &self.settings.client_id {
            Some(id) => (id.clone(), self.secret()),
            None => (credentials.client_id, client_secret.clone()),
        };
        let mut config = OAuthClientConfig::new(client_id, self.settings.url.as_str());
        if let Some(secret) = secret {
            config = config.with_client_secret(secret);
        }
        manager.configure_client(config)?;
        manager.set_credential_store(file.with_secret(client_secret));
        match manager.refresh_token().await {
            Ok(_) => Ok(file.load()?.ok_or(AuthError::AuthorizationRequired)?.credentials),
            Err(AuthError::TokenRefreshRejected(_)) => Err(AuthError::AuthorizationRequired),
            Err(error) => Err(error),
        }
    }

    /// What speaks to the authorization server, which the server names. How it was found says whether it did. If this issuer
    /// has given us a login, it must still be the one: another is not to be shown its refresh token.
    async fn manager(
        &self,
        issuer: Option<&str>,
    ) -> Result<(AuthorizationManager, AuthorizationMetadataSource), AuthError> {
        // Whoever runs a server in a private network has its authorization server there, too.
        let mut manager = AuthorizationManager::new_allowing_private_addresses(self.settings.url.as_str()).await?;
        let found = manager.resolve_metadata().await?;
        if issuer.is_some() && found.metadata.issuer.as_deref() != issuer {
            return Err(AuthError::AuthorizationRequired);
        }
        manager.set_metadata(found.metadata);
        Ok((manager, found.source))
    }

    fn file(&self) -> Option<LoginFile> {
        self.settings.login.as_ref().map(|path| LoginFile::new(path.clone(), self.settings.url.clone()))
    }

    fn secret(&self) -> Option<String> {
        self.settings.client_secret.as_ref().map(|secret| secret.expose_secret().to_owned())
    }
}
