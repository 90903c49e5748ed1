//! Late binding: servers and models as the environment of this process completes them. Nothing of it is ever recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use antiphon_client::{Consent, ServerConfig, Session, Transport};
use antiphon_models::{ModelConfig, OpenAiModel, Price};
use antiphon_workflow::env::{MissingVar, PROJECT_DIR, expand, model_variables, variables};
use antiphon_workflow::{self as workflow, ModelDef, Project, ServerDef};
use secrecy::SecretString;

use crate::fault::Fault;

/// The environment as definitions see it.
pub struct Environment<'a> {
    /// `PROJECT_DIR`.
    root: &'a Path,
}

impl<'a> Environment<'a> {
    /// This process's environment, for the project in `root`.
    pub fn of(root: &'a Path) -> Self {
        Self { root }
    }

    fn get(&self, name: &str) -> Option<String> {
        match name {
            PROJECT_DIR => Some(self.root.to_string_lossy().into_owned()),
            _ => std::env::var(name).ok(),
        }
    }

    /// Names at once every variable that these servers and models need and that is not set.
    pub fn check(&self, project: &Project, servers: &BTreeSet<String>, models: &BTreeSet<String>) -> Result<(), Fault> {
        let servers = servers.iter().filter_map(|key| project.servers.get(key).map(|def| (key, variables(def))));
        let models = models.iter().filter_map(|key| project.models.get(key).map(|def| (key, model_variables(def))));
        let mut missing: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
        for (key, variables) in servers.chain(models) {
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
            format!("not set in the environment: {}", list.join(", ")),
            "export them, or give them defaults in the file: ${NAME:-default}",
        ))
    }

    /// A server, ready to be connected to.
    pub fn server(&self, key: &str, def: &ServerDef) -> Result<ServerConfig, MissingVar> {
        let fill = |text: &str| expand(text, |name| self.get(name)).map(|expanded| expanded.value);
        let hide = |texts: &BTreeMap<String, String>| -> Result<Vec<(String, SecretString)>, MissingVar> {
            texts.iter().map(|(name, text)| Ok((name.clone(), fill(text)?.into()))).collect()
        };
        let transport = match &def.transport {
            workflow::Transport::Stdio { command, args, env, cwd } => Transport::Stdio {
                command: self.program(&fill(command)?),
                args: args.iter().map(|arg| fill(arg)).collect::<Result<_, _>>()?,
                env: hide(env)?,
                cwd: Some(self.root.join(cwd.as_deref().map_or(Ok(String::new()), fill)?)),
            },
            workflow::Transport::Http { url, headers } => Transport::Http { url: fill(url)?, headers: hide(headers)? },
        };
        Ok(ServerConfig {
            allow: def.allow.clone().unwrap_or_default(),
            timeout: def.timeout,
            session: match def.session {
                workflow::Session::Shared => None,
                workflow::Session::PerRun => Some(Session::PerRun),
            },
            elicitation: match def.elicitation {
                workflow::Consent::Allow => Consent::Allow,
                workflow::Consent::Ask => Consent::Ask,
                workflow::Consent::Deny => Consent::Deny,
            },
            ..ServerConfig::new(key, transport)
        })
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
        let fill = |text: &str| expand(text, |name| self.get(name)).map(|expanded| expanded.value);
        let wrong = |error: &dyn std::fmt::Display| {
            Fault::usage(format!("model `{key}`: {error}"), format!("see {}", def.path))
        };
        let build = || -> Result<ModelConfig, MissingVar> {
            let mut config = ModelConfig::new(key, fill(&def.base_url)?, fill(&def.model)?);
            config.api_key = def.api_key.as_deref().map(fill).transpose()?.map(SecretString::from);
            config.cost = def.cost.unwrap_or(config.cost);
            config.speed = def.speed.unwrap_or(config.speed);
            config.intelligence = def.intelligence.unwrap_or(config.intelligence);
            config.price = def.price.map(|price| Price { input: price.input, output: price.output });
            config.max_context = def.context;
            Ok(config)
        };
        let config = build().map_err(|error| wrong(&error))?;
        OpenAiModel::new(config).map(Arc::new).map_err(|error| wrong(&error))
    }
}
