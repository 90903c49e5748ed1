//! What a name means: in the file itself, then in the `antiphon.toml`s, the nearest first.

use std::collections::{BTreeMap, BTreeSet};

use antiphon_kernel::Callee;

use crate::agent::{self, Found};
use crate::back::Granted;
use crate::code::{BROKEN_CALLEE, Code, NOT_GRANTED, UNKNOWN_CALLEE, UNKNOWN_MODEL};
use crate::diagnostic::{Place, suggest};
use crate::parsed::{Defined, File, Tables};
use crate::project::ServerDef;

/// All that names may mean.
pub(crate) struct World<'a> {
    /// The `antiphon.toml`s, the nearest first.
    pub(crate) configs: &'a [Tables],
    /// The workflows of the folder, also broken ones.
    pub(crate) workflows: BTreeMap<&'a str, &'a File>,
}

/// Why a name means nothing. `None` if that was said before.
pub(crate) type Unknown = Option<(Code, String, String)>;

/// What can be called.
pub(crate) enum Called<'a> {
    /// A tool (or a pattern of tools) of the server with this key.
    Tool { server: String, tool: String },
    /// A workflow.
    Workflow(&'a File),
    /// An agent.
    Agent(Found<'a>),
}

impl Called<'_> {
    pub(crate) fn callee(&self) -> Callee {
        match self {
            Self::Tool { server, tool } => Callee::Tool { server: server.clone(), tool: tool.clone() },
            Self::Workflow(file) => Callee::Workflow { name: file.name.clone() },
            Self::Agent(found) => Callee::Workflow { name: found.key() },
        }
    }
}

/// Names are looked up from a file, or, where there is none, from an `antiphon.toml`.
impl<'a> World<'a> {
    /// The file's own tables, then the configs': each with how its names are qualified.
    fn scopes(&self, from: Option<&'a File>) -> impl Iterator<Item = (&'a Tables, Option<&'a File>)> + use<'a> {
        let own = from.map(|file| (&file.tables, Some(file)));
        own.into_iter().chain(self.configs.iter().map(|tables| (tables, None)))
    }

    fn find<T>(
        &self,
        from: Option<&'a File>,
        name: &str,
        of: impl Fn(&'a Tables) -> &'a BTreeMap<String, Defined<T>>,
    ) -> Option<(String, &'a Defined<T>)>
    where
        T: 'a,
    {
        self.scopes(from).find_map(|(tables, owner)| {
            let key = owner.map_or_else(|| name.to_owned(), |file| format!("{}/{name}", file.name));
            Some((key, of(tables).get(name)?))
        })
    }

    /// Why a name means nothing: it was defined in what can't be read, or else as given.
    fn unknown(&self, code: Code, message: String, help: String) -> Unknown {
        match self.configs.iter().find_map(|tables| tables.unreadable.as_ref()) {
            Some(place) => {
                Some((BROKEN_CALLEE, message, format!("it may be in a file with an error: {}", place.line())))
            }
            None => Some((code, message, help)),
        }
    }

    fn server_names(&self, from: Option<&'a File>) -> BTreeSet<&'a str> {
        self.scopes(from).flat_map(|(tables, _)| tables.servers.keys().map(String::as_str)).collect()
    }

    fn agent_names(&self, from: Option<&'a File>) -> BTreeSet<&'a str> {
        self.scopes(from).flat_map(|(tables, _)| tables.agents.keys().map(String::as_str)).collect()
    }

    /// A server's key.
    pub(crate) fn server(&self, from: Option<&'a File>, name: &str) -> Result<(String, &'a ServerDef), Unknown> {
        let Some((key, found)) = self.find(from, name, |tables| &tables.servers) else {
            let help = suggest(name, self.server_names(from));
            let help = help.unwrap_or_else(|| format!("define it: `[servers.{name}]`"));
            return Err(self.unknown(UNKNOWN_CALLEE, format!("there is no server `{name}`"), help));
        };
        match &found.def {
            Some(def) => Ok((key, def)),
            None => Err(broken(name, key.contains('/'), &found.place)),
        }
    }

    /// An agent.
    pub(crate) fn agent(&self, from: Option<&'a File>, name: &str) -> Result<Found<'a>, Unknown> {
        let found = self.scopes(from).find_map(|(tables, owner)| Some((tables.agents.get_key_value(name)?, owner)));
        let Some(((name, Defined { place, def }), owner)) = found else {
            let help = suggest(name, self.agent_names(from));
            let help = help.unwrap_or_else(|| format!("define it: `[agents.{name}]`"));
            return Err(self.unknown(UNKNOWN_CALLEE, format!("there is no agent `{name}`"), help));
        };
        match def {
            Some(agent) => Ok(Found { name, owner, agent }),
            None => Err(broken(name, owner.is_some(), place)),
        }
    }

    /// All agents without errors of their own.
    pub(crate) fn agents(&self) -> Vec<Found<'a>> {
        let mut all: BTreeMap<String, Found<'a>> = BTreeMap::new();
        let files = self.workflows.values().map(|file| (&file.tables, Some(*file)));
        for (tables, owner) in files.chain(self.configs.iter().map(|tables| (tables, None))) {
            for (name, Defined { def, .. }) in &tables.agents {
                if let Some(agent) = def {
                    // The nearest `antiphon.toml` comes first, and wins.
                    all.entry(agent::key(owner, name)).or_insert(Found { name, owner, agent });
                }
            }
        }
        all.into_values().collect()
    }

    /// All servers that may call something.
    pub(crate) fn granted(&self) -> Vec<Granted<'a>> {
        let mut all: BTreeMap<String, Granted<'a>> = BTreeMap::new();
        let files = self.workflows.values().map(|file| (&file.tables, Some(*file)));
        for (tables, owner) in files.chain(self.configs.iter().map(|tables| (tables, None))) {
            for (name, grants) in &tables.grants {
                let granted = Granted { name, owner, grants };
                // The nearest `antiphon.toml` comes first, and wins.
                all.entry(granted.key()).or_insert(granted);
            }
        }
        all.into_values().filter(|granted| !granted.grants.is_empty()).collect()
    }

    /// What can be called by this name: a tool, an agent or a workflow.
    pub(crate) fn called(&self, from: Option<&'a File>, target: &str) -> Result<Called<'a>, Unknown> {
        let Some((name, tool)) = target.split_once('.') else { return self.named(from, target) };
        let is_server = self.server_names(from).contains(name);
        let other =
            [(self.workflows.contains_key(name), "a workflow"), (self.agent_names(from).contains(name), "an agent")];
        if let Some((_, kind)) = other.iter().find(|(is, _)| *is && !is_server) {
            let help = format!("call it by its name alone: `{name}`");
            return Err(Some((UNKNOWN_CALLEE, format!("`{name}` is {kind}, not a server"), help)));
        }
        let (key, def) = self.server(from, name)?;
        if tool.is_empty() {
            let help = format!("write `{name}.TOOL`; `antiphon tools` lists them");
            return Err(Some((UNKNOWN_CALLEE, format!("`{target}` names no tool"), help)));
        }
        if !tool.contains('*') && !def.allows(tool) {
            let allowed = def.allow.iter().flatten().map(String::as_str);
            let help = suggest(tool, allowed).unwrap_or_else(|| format!("add it to `allow` of `[servers.{name}]`"));
            return Err(Some((NOT_GRANTED, format!("`{name}` does not allow the tool `{tool}`"), help)));
        }
        Ok(Called::Tool { server: key, tool: tool.to_owned() })
    }

    fn named(&self, from: Option<&'a File>, name: &str) -> Result<Called<'a>, Unknown> {
        if let Some(file) = self.workflows.get(name) {
            return Ok(Called::Workflow(file));
        }
        let agents = self.agent_names(from);
        if agents.contains(name) {
            return self.agent(from, name).map(Called::Agent);
        }
        let servers = self.server_names(from);
        if servers.contains(name) {
            let help = format!("name the tool: `{name}.TOOL`; `antiphon tools` lists them");
            return Err(Some((
                UNKNOWN_CALLEE,
                format!("`{name}` is a server, and a call is of one of its tools"),
                help,
            )));
        }
        let own = from.map(|file| file.name.as_str());
        let known = self.workflows.keys().copied().filter(|known| Some(*known) != own).chain(agents).chain(servers);
        let help = suggest(name, known.collect::<Vec<_>>());
        let help = help.unwrap_or_else(|| {
            "a call is of `SERVER.TOOL`, of an agent, or of a workflow in the same folder".to_owned()
        });
        Err(self.unknown(UNKNOWN_CALLEE, format!("there is no workflow or agent `{name}`"), help))
    }

    /// Who answers a sample: a model's key, or `auto`.
    pub(crate) fn route(&self, from: Option<&'a File>, name: &str) -> Result<String, Unknown> {
        if name == "auto" { Ok(name.to_owned()) } else { self.model(from, name) }
    }

    /// A model's key; the embedded model is `local`, unless a model of that name is declared.
    pub(crate) fn model(&self, from: Option<&'a File>, name: &str) -> Result<String, Unknown> {
        match self.find(from, name, |tables| &tables.models) {
            Some((key, found)) if found.def.is_some() => Ok(key),
            Some((key, found)) => Err(broken(name, key.contains('/'), &found.place)),
            None if name == "local" => Ok(name.to_owned()),
            None => {
                let mut known: BTreeSet<_> =
                    self.scopes(from).flat_map(|(tables, _)| tables.models.keys()).map(String::as_str).collect();
                known.extend(["local", "caller", "auto"]);
                let help = suggest(name, known).unwrap_or_else(|| format!("define it: `[models.{name}]`"));
                Err(self.unknown(UNKNOWN_MODEL, format!("there is no model `{name}`"), help))
            }
        }
    }
}

/// A definition with an error. One of the file's own breaks the file by itself, and needs no more words.
fn broken(name: &str, own: bool, place: &Place) -> Unknown {
    if own {
        return None;
    }
    Some((BROKEN_CALLEE, format!("`{name}` is defined, but with an error"), format!("mend it first: {}", place.line())))
}
