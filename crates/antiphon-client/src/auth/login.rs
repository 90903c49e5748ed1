//! A person logs in: the authorization code grant with PKCE, by a browser on this machine or on another.

use std::future::Future;
use std::time::Duration;

use rmcp::transport::auth::{
    AuthError, AuthorizationCallback, AuthorizationManager, AuthorizationMetadataSource, OAuthClientConfig,
};

use super::Auth;
use super::explain::said;
use super::file::LoginFile;
use super::redirect::{Redirect, parameter};
use crate::error::{ClientError, ErrorKind};

/// How long the person may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// What authorization servers call us when they ask whether we may.
const CLIENT_NAME: &str = "Antiphon";

/// A login under way.
pub struct Login {
    server: String,
    manager: AuthorizationManager,
    file: LoginFile,
    redirect: Redirect,
    url: String,
    state: String,
}

impl Login {
    /// Finds the authorization server and registers with it where it has to be. The browser will come back to this port of the
    /// loopback; 0 is any.
    ///
    /// # Errors
    /// With what the server, or the server that it names, said.
    pub async fn begin(server: &str, auth: &Auth, port: u16) -> Result<Self, ClientError> {
        let failed = |message: String| ClientError::new(server, ErrorKind::Denied, message);
        let Some(file) = auth.file() else {
            return Err(failed("needs no login: its client has a secret of its own".to_owned()));
        };
        let redirect = Redirect::open(port).await;
        let redirect = redirect.map_err(|error| failed(format!("can't be logged in to: port {port}: {error}")))?;
        let begun = prepared(auth, &redirect.uri()).await;
        let (mut manager, url, client_secret) =
            begun.map_err(|error| failed(format!("can't be logged in to: {}", said(&error))))?;
        let state = parameter(&url, "state").unwrap_or_default();
        let file = file.with_secret(client_secret);
        manager.set_credential_store(file.clone());
        Ok(Self { server: server.to_owned(), manager, file, redirect, url, state })
    }

    /// Where the person is to go.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Waits for the browser, at most five minutes, or for somebody to tell the address to which it was sent, and keeps the
    /// login.
    ///
    /// # Errors
    /// When nobody came, the person declined, or the authorization server did.
    pub async fn finish(self, told: impl Future<Output = String>) -> Result<(), ClientError> {
        let Self { server, manager, file, redirect, state, .. } = self;
        let failed = |message: String| ClientError::new(&server, ErrorKind::Denied, message);
        let (mut visits, serving) = redirect.visits(&state);
        let came = async {
            tokio::select! {
                visit = visits.recv() => visit.map(|visit| (visit.url.clone(), Some(visit))),
                url = told => Some((url, None)),
            }
        };
        let Ok(Some((url, visit))) = tokio::time::timeout(PATIENCE, came).await else {
            return Err(failed(format!("was not logged in to within {PATIENCE:?}")));
        };
        let done = completed(&manager, &file, &state, &url).await.map_err(failed);
        if let Some(visit) = visit {
            match &done {
                Ok(()) => visit.answer("You are logged in. This page can be closed."),
                Err(error) => visit.answer(&format!("This did not work: {error}.")),
            }
        }
        serving.end().await;
        done
    }
}

/// The manager, where to go, and the secret that it was given in exchange for registering.
async fn prepared(auth: &Auth, redirect: &str) -> Result<(AuthorizationManager, String, Option<String>), AuthError> {
    let (mut manager, source) = auth.manager(None).await?;
    let mut scopes = auth.settings.scopes.clone();
    if scopes.is_empty() {
        scopes = manager.select_initial_scopes(&[]).await;
    }
    let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
    let mut registered = None;
    match &auth.settings.client_id {
        Some(id) => {
            let mut config = OAuthClientConfig::new(id, redirect);
            if let Some(secret) = auth.secret() {
                config = config.with_client_secret(secret);
            }
            manager.configure_client(config)?;
        }
        None => match manager.register_client(CLIENT_NAME, redirect, &scopes).await {
            Ok(config) => registered = config.client_secret,
            Err(AuthError::RegistrationFailed(_)) if source == AuthorizationMetadataSource::LegacyEndpointFallback => {
                return Err(AuthError::NoAuthorizationSupport);
            }
            Err(error) => return Err(error),
        },
    }
    let url = manager.get_authorization_url(&scopes).await?;
    Ok((manager, url, registered))
}

async fn completed(manager: &AuthorizationManager, file: &LoginFile, state: &str, url: &str) -> Result<(), String> {
    let url = url.trim();
    if parameter(url, "state").is_none_or(|shown| shown != state) {
        return Err("was not logged in to: that address is not where this login leads".to_owned());
    }
    if let Some(error) = parameter(url, "error") {
        let more = parameter(url, "error_description").map(|more| format!(" ({more})")).unwrap_or_default();
        return Err(match error.as_str() {
            "access_denied" => format!("was not logged in to: it was declined{more}"),
            _ => format!("was not logged in to: {error}{more}"),
        });
    }
    let wrong = |error: AuthError| format!("was not logged in to: {}", said(&error));
    let callback = AuthorizationCallback::from_redirect_url(url).map_err(wrong)?;
    let _lock = file.lock().await.map_err(|error| wrong(file.unusable(&error)))?;
    // This also keeps what it gets.
    manager
        .exchange_code_for_token_with_issuer(&callback.code, &callback.csrf_token, callback.issuer.as_deref())
        .await
        .map(drop)
        .map_err(wrong)
}
