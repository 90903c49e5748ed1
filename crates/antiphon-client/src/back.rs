//! The way back in: a process that was started as a server may ask models and call tools itself, as part of the calls that it
//! serves.
//!
//! It is told where, and given a token, by its environment. Each connection has a token of its own, which is good for as long as
//! the connection is: for one run, where runs have their own connections. Who serves several calls at once says which one it
//! speaks for: `TOKEN/KEY`, with the [key](crate::CallContext::key) of the call.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use secrecy::SecretString;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::call::{CALL_TOOL, CREATE_MESSAGE, Refused};
use crate::calls::Calls;
use crate::config::{ServerConfig, Transport};

/// Where a process finds the way back: endpoints on the loopback.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WayBack {
    /// An OpenAI-compatible endpoint, up to and without `/chat/completions`: `OPENAI_BASE_URL`, with the token in
    /// `OPENAI_API_KEY`. What the server's own `env` says of either stands.
    pub models: Option<String>,
    /// An MCP endpoint: `ANTIPHON_MCP_URL`, with the token in `ANTIPHON_MCP_TOKEN`.
    pub tools: Option<String>,
}

/// The tokens that are good now.
#[derive(Debug, Default)]
pub struct Passes(Mutex<Vec<Weak<Pass>>>);

/// What is behind a token.
pub(crate) struct Pass {
    digest: [u8; 32],
    config: Arc<ServerConfig>,
    calls: Arc<Calls>,
    run: Option<Arc<str>>,
    /// The connection is over.
    closed: CancellationToken,
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pass").field("server", &self.config.name).finish_non_exhaustive()
    }
}

impl Passes {
    /// Who shows this. Every token is compared, and every byte: the time tells nothing.
    pub fn guest(&self, credential: &str) -> Option<Guest> {
        let (token, call) = match credential.split_once('/') {
            Some((token, call)) => (token, Some(call.to_owned())),
            None => (credential, None),
        };
        let digest = digest(token);
        let mut found = None;
        for pass in self.all().iter().filter_map(Weak::upgrade) {
            let difference = pass.digest.iter().zip(digest).fold(0, |seen, (ours, theirs)| seen | (ours ^ theirs));
            if difference == 0 && !pass.closed.is_cancelled() {
                found = Some(pass);
            }
        }
        found.map(|pass| Guest { pass, call })
    }

    /// The configuration of a new connection: with the way back in, if there is one, and the pass that it is good by.
    pub(crate) fn issue(
        &self,
        config: &Arc<ServerConfig>,
        calls: &Arc<Calls>,
        run: Option<Arc<str>>,
        closed: &CancellationToken,
    ) -> (Arc<ServerConfig>, Option<Arc<Pass>>) {
        let mut own = (**config).clone();
        let Transport::Stdio { env, .. } = &mut own.transport else { return (Arc::clone(config), None) };
        if own.back == WayBack::default() {
            return (Arc::clone(config), None);
        }
        let token = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        env.extend(told(&own.back, env, &token));
        // Should it repeat the token, nobody is to read it.
        own.secrets.push(token.as_str().into());
        let config = Arc::new(own);
        let pass = Arc::new(Pass {
            digest: digest(&token),
            config: Arc::clone(&config),
            calls: Arc::clone(calls),
            run,
            closed: closed.clone(),
        });
        let mut all = self.all();
        all.retain(|pass| pass.strong_count() > 0);
        all.push(Arc::downgrade(&pass));
        (config, Some(pass))
    }

    fn all(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Pass>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// The variables that tell a process of its way back, beside those that it has.
fn told(back: &WayBack, env: &[(String, SecretString)], token: &str) -> Vec<(String, SecretString)> {
    /// What proxies are not to be asked for.
    const HOST: &str = "127.0.0.1";
    let has = |name: &str| env.iter().any(|(known, _)| known == name);
    let mut told: Vec<(&str, String)> = Vec::new();
    if let Some(url) = back.models.as_ref().filter(|_| !has("OPENAI_BASE_URL") && !has("OPENAI_API_KEY")) {
        told.extend([("OPENAI_BASE_URL", url.clone()), ("OPENAI_API_KEY", token.to_owned())]);
    }
    if let Some(url) = &back.tools {
        told.extend([("ANTIPHON_MCP_URL", url.clone()), ("ANTIPHON_MCP_TOKEN", token.to_owned())]);
    }
    for name in ["NO_PROXY", "no_proxy"] {
        if !has(name) {
            let others = std::env::var(name).ok().filter(|others| !others.is_empty());
            told.push((name, others.map_or_else(|| HOST.to_owned(), |others| format!("{others},{HOST}"))));
        }
    }
    told.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect()
}

/// The process of a server, come back in: for one of the calls that it serves.
#[derive(Clone, Debug)]
pub struct Guest {
    pass: Arc<Pass>,
    call: Option<String>,
}

impl Guest {
    /// Which server it is: its [`ServerConfig::name`].
    pub fn server(&self) -> &str {
        &self.pass.config.name
    }

    /// The run that it serves, if it serves but one.
    pub fn run(&self) -> Option<Arc<str>> {
        self.pass.run.clone()
    }

    /// What it may do here at all.
    pub fn back(&self) -> &WayBack {
        &self.pass.config.back
    }

    /// Asks a model: `CreateMessageRequestParams`, for a `CreateMessageResult`.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn create_message(&self, params: Value) -> Result<Value, Refused> {
        if !self.pass.config.sampling {
            return Err(Refused::denied(format!("the server `{}` was not granted `sampling`", self.server())));
        }
        self.ask(CREATE_MESSAGE, params).await
    }

    /// Calls a tool: `CallToolRequestParams`, for a `CallToolResult`.
    ///
    /// # Errors
    /// Why there is no result.
    pub async fn call_tool(&self, params: Value) -> Result<Value, Refused> {
        if self.pass.config.back.tools.is_none() {
            return Err(Refused::denied(format!("the server `{}` was granted nothing to call", self.server())));
        }
        self.ask(CALL_TOOL, params).await
    }

    async fn ask(&self, method: &'static str, mut params: Value) -> Result<Value, Refused> {
        self.pass.config.redact_all(&mut params);
        let serving = self.pass.calls.served(self.call.as_deref()).map_err(Refused::denied)?;
        serving.ask(method, params).await
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used)]

    use secrecy::ExposeSecret;

    use super::*;

    fn config(env: &[(&str, &str)]) -> Arc<ServerConfig> {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
        let transport = Transport::Stdio { command: "x".into(), args: Vec::new(), env, cwd: None };
        let url = |path: &str| Some(format!("http://127.0.0.1:1/{path}"));
        Arc::new(ServerConfig {
            back: WayBack { models: url("v1"), tools: url("mcp") },
            ..ServerConfig::new("x", transport)
        })
    }

    fn variable(config: &ServerConfig, name: &str) -> Option<String> {
        let Transport::Stdio { env, .. } = &config.transport else { return None };
        env.iter().find(|(known, _)| known == name).map(|(_, value)| value.expose_secret().to_owned())
    }

    #[test]
    fn a_token_is_one_connections_and_goes_with_it() {
        let passes = Passes::default();
        let (calls, closed) = (Arc::new(Calls::default()), CancellationToken::new());
        let (first, pass) = passes.issue(&config(&[]), &calls, Some("run".into()), &closed);
        let (second, other) = passes.issue(&config(&[]), &calls, None, &CancellationToken::new());
        let token = variable(&first, "ANTIPHON_MCP_TOKEN").unwrap();
        assert_eq!(variable(&first, "OPENAI_API_KEY"), Some(token.clone()));
        assert_ne!(variable(&second, "ANTIPHON_MCP_TOKEN"), Some(token.clone()));
        let guest = passes.guest(&format!("{token}/key")).unwrap();
        assert_eq!((guest.run().as_deref(), guest.call.as_deref()), (Some("run"), Some("key")));
        assert!(first.redact(&format!("I am {token}")).ends_with("***"), "what it says of its token is not heard");
        for wrong in ["", "/", &token[1..], &format!("{token}0")] {
            assert!(passes.guest(wrong).is_none(), "{wrong}");
        }
        closed.cancel();
        assert!(passes.guest(&token).is_none(), "the connection is closed");
        drop((pass, other));
        assert!(passes.guest(&variable(&second, "ANTIPHON_MCP_TOKEN").unwrap()).is_none(), "or gone");
    }

    #[test]
    fn what_the_file_says_stands() {
        let passes = Passes::default();
        let issue =
            |env: &[(&str, &str)]| passes.issue(&config(env), &Arc::default(), None, &CancellationToken::new()).0;
        let own = issue(&[("OPENAI_API_KEY", "own")]);
        assert_eq!(variable(&own, "OPENAI_API_KEY").as_deref(), Some("own"));
        assert_eq!(variable(&own, "OPENAI_BASE_URL"), None, "a key of its own is not sent to us");
        assert!(variable(&own, "ANTIPHON_MCP_TOKEN").is_some());
        assert!(variable(&issue(&[]), "NO_PROXY").unwrap().ends_with("127.0.0.1"));
    }
}
