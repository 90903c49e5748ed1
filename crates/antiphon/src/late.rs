//! Late binding: servers and models as the environment of this process completes them. Nothing of it is ever recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;

use antiphon_client::{self as client, Consent, Limits, OAuth, ServerConfig, Session, Transport};
use antiphon_models::{ModelConfig, OpenAiModel, Price};
use antiphon_router::SamplingPolicy;
use antiphon_server::Auth;
use antiphon_workflow::env::{MissingVar, PROJECT_DIR, Variable, expand, model_variables, variables};
use antiphon_workflow::{self as workflow, AuthDef, Grant, ModelDef, OAuthDef, Project, ServerDef, trustworthy};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::hosts::secret::is_secret;

/// The variables that some servers and models mention, with their values here. An attached process lends them to the owner,
/// which may have been started by a host that knows none of them. They travel over the owner's socket only.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lent(BTreeMap<String, String>);

impl Lent {
    /// What these servers and models mention.
    pub fn to(project: &Project, servers: &BTreeSet<String>, models: &BTreeSet<String>) -> Self {
        let mentioned = mentioned(project, servers, models).flat_map(|(_, variables)| variables);
        Self(
            mentioned
                .filter_map(|variable| Some((variable.name.clone(), std::env::var(variable.name).ok()?)))
                .collect(),
        )
    }

    /// Adds others; theirs count.
    pub fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }
}

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The environment as definitions see it.
pub struct Environment<'a> {
    /// `PROJECT_DIR`.
    root: &'a Path,
    /// Asked for what this process does not have itself.
    lent: &'a Lent,
}

impl<'a> Environment<'a> {
    /// This process's environment, and what was lent to it, for the project in `root`.
    pub fn of(root: &'a Path, lent: &'a Lent) -> Self {
        Self { root, lent }
    }

    fn get(&self, name: &str) -> Option<String> {
        match name {
            PROJECT_DIR => Some(self.root.to_string_lossy().into_owned()),
            _ => std::env::var(name).ok().or_else(|| self.lent.0.get(name).cloned()),
        }
    }

    /// Names at once every variable that these servers and models need and that is not set.
    pub fn check(&self, project: &Project, servers: &BTreeSet<String>, models: &BTreeSet<String>) -> Result<(), Fault> {
        let mut missing: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
        for (key, variables) in mentioned(project, servers, models) {
            for variable in variables {
                if !variable.optional && self.get(&variable.name).is_none() {
                    missing.entry(variable.name).or_default().insert(key);
                }
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let list: Vec<String> = missing
            .iter()
            .map(|(name, users)| format!("{name} (for {})", users.iter().copied().collect::<Vec<_>>().join(", ")))
            .collect();
        Err(Fault::usage(
            format!("not set in the environment (of process {}): {}", process::id(), list.join(", ")),
            "export them, or give them defaults in the file: ${NAME:-default}",
        ))
    }

    /// A server, ready to be connected to. Logins are kept in that folder.
    pub fn server(&self, key: &str, def: &ServerDef, logins: &Path) -> Result<ServerConfig, MissingVar> {
        let mut secrets = Vec::new();
        let transport = match &def.transport {
            workflow::Transport::Stdio { command, args, env, cwd } => Transport::Stdio {
                command: self.program(&self.fill(command)?),
                args: args.iter().map(|arg| self.fill_open(arg, &mut secrets)).collect::<Result<_, _>>()?,
                env: self.hide(env, &mut secrets)?,
                cwd: Some(self.root.join(self.fill(cwd.as_deref().unwrap_or_default())?)),
            },
            workflow::Transport::Http { url, headers, auth } => {
                let url = self.fill_open(url, &mut secrets)?;
                let headers = self.hide(headers, &mut secrets)?;
                let auth = auth.as_ref().map(|auth| self.oauth(auth, &url, &login_file(logins, key), &mut secrets));
                Transport::Http { url, headers, auth: auth.transpose()? }
            }
        };
        let mut limits = Limits::default();
        // Who may think for long about a call may take as long to start.
        limits.start = limits.start.max(def.timeout);
        Ok(ServerConfig {
            secrets,
            allow: def.allow.clone(),
            read_only: def.read_only,
            timeout: def.timeout,
            limits,
            session: def.session.map(|session| match session {
                workflow::Session::Shared => Session::Shared,
                workflow::Session::PerRun => Session::PerRun,
            }),
            elicitation: consent(def.elicitation),
            ..ServerConfig::new(key, transport)
        })
    }

    /// How to become a client of the server at `url`.
    fn oauth(
        &self,
        def: &OAuthDef,
        url: &str,
        login: &Path,
        secrets: &mut Vec<SecretString>,
    ) -> Result<Arc<client::Auth>, MissingVar> {
        let client_secret = def.client_secret.as_deref().map(|text| self.fill(text)).transpose()?;
        secrets.extend(client_secret.clone().map(SecretString::from));
        Ok(client::Auth::new(OAuth {
            url: url.to_owned(),
            client_id: def.client_id.as_deref().map(|text| self.fill(text)).transpose()?,
            client_secret: client_secret.map(SecretString::from),
            scopes: def.scopes.clone(),
            login: (def.grant == Grant::AuthorizationCode).then(|| login.to_owned()),
        }))
    }

    /// What a server may ask models.
    pub fn sampling(&self, def: &ServerDef) -> SamplingPolicy {
        let grant = def.sampling.as_ref().map(|grant| SamplingPolicy {
            consent: consent(grant.consent),
            models: grant.models.clone(),
            tokens: grant.tokens,
            calls: grant.calls,
            rounds: grant.rounds,
            cost_usd: grant.cost_usd,
            duration: grant.duration,
        });
        grant.unwrap_or_default()
    }

    /// Whose tokens are taken.
    pub fn auth(&self, def: &AuthDef) -> Result<Auth, Fault> {
        let address = |key: &str, text: &str| {
            let wrong = |why: &dyn fmt::Display| {
                Fault::usage(
                    format!("the `{key}` of `[serve.auth]` can't be used: {why}"),
                    "it is an `https://` address",
                )
            };
            let filled = self.fill(text).map_err(|error| wrong(&error))?;
            trustworthy(&filled).map_err(|why| wrong(&why)).map(|()| filled)
        };
        Ok(Auth {
            issuer: address("issuer", &def.issuer)?,
            audience: address("audience", &def.audience)?,
            jwks: def.jwks.as_deref().map(|jwks| address("jwks", jwks)).transpose()?,
            required_scopes: def.required_scopes.clone(),
            scopes: def.scopes.clone(),
        })
    }

    fn fill(&self, text: &str) -> Result<String, MissingVar> {
        expand(text, |name| self.get(name)).map(|expanded| expanded.value)
    }

    /// Likewise where no secret should stand. Where one does all the same, as an imported address may, it is hidden too.
    fn fill_open(&self, text: &str, secrets: &mut Vec<SecretString>) -> Result<String, MissingVar> {
        let filled = self.fill(text)?;
        if filled != text && is_secret("", &filled) {
            secrets.push(filled.clone().into());
        }
        Ok(filled)
    }

    /// Likewise where secrets stand; they are added to `secrets`.
    fn hide(
        &self,
        texts: &BTreeMap<String, String>,
        secrets: &mut Vec<SecretString>,
    ) -> Result<Vec<(String, SecretString)>, MissingVar> {
        let mut hidden = Vec::with_capacity(texts.len());
        for (name, text) in texts {
            let expanded = expand(text, |name| self.get(name))?;
            secrets.extend(expanded.secrets.into_iter().map(SecretString::from));
            hidden.push((name.clone(), expanded.value.into()));
        }
        Ok(hidden)
    }

    /// A program with a path of its own is relative to the project, wherever the process that starts it stands.
    fn program(&self, command: &str) -> String {
        match command.contains('/') {
            true => self.root.join(command).to_string_lossy().into_owned(),
            false => command.to_owned(),
        }
    }

    /// A model, ready to be asked.
    pub fn model(&self, key: &str, def: &ModelDef) -> Result<Arc<OpenAiModel>, Fault> {
        let wrong =
            |error: &dyn fmt::Display| Fault::usage(format!("model `{key}`: {error}"), format!("see {}", def.path));
        let build = || -> Result<ModelConfig, MissingVar> {
            let mut config = ModelConfig::new(key, self.fill(&def.base_url)?, self.fill(&def.model)?);
            config.api_key = def.api_key.as_deref().map(|text| self.fill(text)).transpose()?.map(SecretString::from);
            config.headers = self.hide(&def.headers, &mut config.secrets)?;
            config.cost = def.cost.unwrap_or(config.cost);
            config.speed = def.speed.unwrap_or(config.speed);
            config.intelligence = def.intelligence.unwrap_or(config.intelligence);
            config.price = def.price.map(|price| Price { input: price.input, output: price.output });
            config.max_context = def.context;
            config.timeout = def.timeout.unwrap_or(config.timeout);
            config.concurrency = def.concurrency.map_or(config.concurrency, |most| most.get() as usize);
            config.requests_per_minute = def.requests_per_minute;
            Ok(config)
        };
        let config = build().map_err(|error| wrong(&error))?;
        OpenAiModel::new(config).map(Arc::new).map_err(|error| wrong(&error))
    }
}

/// The file of the login to a server, in the folder of all. A workflow's own server has a `/` in its key.
fn login_file(logins: &Path, key: &str) -> PathBuf {
    logins.join(key.replace('/', "+")).with_extension("json")
}

fn consent(consent: workflow::Consent) -> Consent {
    match consent {
        workflow::Consent::Allow => Consent::Allow,
        workflow::Consent::Ask => Consent::Ask,
        workflow::Consent::Deny => Consent::Deny,
    }
}

/// The variables that these servers and models mention, by key.
fn mentioned<'a>(
    project: &'a Project,
    servers: &'a BTreeSet<String>,
    models: &'a BTreeSet<String>,
) -> impl Iterator<Item = (&'a str, Vec<Variable>)> {
    let servers = servers.iter().filter_map(|key| Some((key.as_str(), variables(project.servers.get(key)?))));
    let models = models.iter().filter_map(|key| Some((key.as_str(), model_variables(project.models.get(key)?))));
    servers.chain(models)
}
