//! What a name means: in the file itself, then in the `antiphon.toml`s, the nearest first.

use std::collections::{BTreeMap, BTreeSet};

use antiphon_kernel::Callee;

use crate::code::{AGENTS, BROKEN_CALLEE, Code, NOT_GRANTED, UNKNOWN_CALLEE, UNKNOWN_MODEL};
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

impl<'a> World<'a> {
    /// The file's own tables, then the configs': each with how its names are qualified.
    fn scopes(&self, file: &'a File) -> impl Iterator<Item = (&'a Tables, String)> {
        std::iter::once((&file.tables, format!("{}/", file.name)))
            .chain(self.configs.iter().map(|tables| (tables, String::new())))
    }

    fn find<T>(
        &self,
        file: &'a File,
        name: &str,
        of: impl Fn(&'a Tables) -> &'a BTreeMap<String, Defined<T>>,
    ) -> Option<(String, &'a Defined<T>)>
    where
        T: 'a,
    {
        self.scopes(file).find_map(|(tables, prefix)| Some((format!("{prefix}{name}"), of(tables).get(name)?)))
    }

    /// Why a name means nothing: it is an agent, or was defined in what can't be read, or else as given.
    fn unknown(&self, file: &'a File, name: &str, code: Code, message: String, help: String) -> Unknown {
        let (own, around) = (&file.tables, self.configs);
        if own.agents.contains_key(name) {
            return None;
        }
        if around.iter().any(|tables| tables.agents.contains_key(name)) {
            let message = format!("`{name}` is an agent, and agents are not supported yet");
            return Some((AGENTS, message, "use `sample`, or `call` a server that hosts the agent".to_owned()));
        }
        match around.iter().find_map(|tables| tables.unreadable.as_ref()) {
            Some(place) => {
                Some((BROKEN_CALLEE, message, format!("it may be in a file with an error: {}", place.line())))
            }
            None => Some((code, message, help)),
        }
    }

    fn server_names(&self, file: &'a File) -> BTreeSet<&'a str> {
        self.scopes(file).flat_map(|(tables, _)| tables.servers.keys().map(String::as_str)).collect()
    }

    /// A server's key.
    pub(crate) fn server(&self, file: &'a File, name: &str) -> Result<(String, &'a ServerDef), Unknown> {
        let Some((key, found)) = self.find(file, name, |tables| &tables.servers) else {
            let help = suggest(name, self.server_names(file));
            let help = help.unwrap_or_else(|| format!("define it: `[servers.{name}]`"));
            return Err(self.unknown(file, name, UNKNOWN_CALLEE, format!("there is no server `{name}`"), help));
        };
        match &found.def {
            Some(def) => Ok((key, def)),
            None => Err(broken(&key, &found.place)),
        }
    }

    /// What a `call` calls.
    pub(crate) fn callee(&self, file: &'a File, target: &str) -> Result<Callee, Unknown> {
        let Some((name, tool)) = target.split_once('.') else { return self.workflow(file, target) };
        if self.workflows.contains_key(name) && !self.server_names(file).contains(name) {
            let help = format!("call it by its name alone: `call = \"{name}\"`");
            return Err(Some((UNKNOWN_CALLEE, format!("`{name}` is a workflow, not a server"), help)));
        }
        let (key, def) = self.server(file, name)?;
        if tool.is_empty() {
            let help = format!("write `{name}.TOOL`; `antiphon tools` lists them");
            return Err(Some((UNKNOWN_CALLEE, format!("`{target}` names no tool"), help)));
        }
        if !def.allows(tool) {
            let allowed = def.allow.iter().flatten().map(String::as_str);
            let help = suggest(tool, allowed).unwrap_or_else(|| format!("add it to `allow` of `[servers.{name}]`"));
            return Err(Some((NOT_GRANTED, format!("`{name}` does not allow the tool `{tool}`"), help)));
        }
        Ok(Callee::Tool { server: key, tool: tool.to_owned() })
    }

    fn workflow(&self, file: &'a File, name: &str) -> Result<Callee, Unknown> {
        if self.workflows.contains_key(name) {
            return Ok(Callee::Workflow { name: name.to_owned() });
        }
        let servers = self.server_names(file);
        if servers.contains(name) {
            let help = format!("name the tool: `{name}.TOOL`; `antiphon tools` lists them");
            return Err(Some((
                UNKNOWN_CALLEE,
                format!("`{name}` is a server, and a call is of one of its tools"),
                help,
            )));
        }
        let known = self.workflows.keys().copied().filter(|known| *known != file.name).chain(servers);
        let help = suggest(name, known.collect::<Vec<_>>());
        let help = help.unwrap_or_else(|| "a call is of `SERVER.TOOL`, or of a workflow in the same folder".to_owned());
        Err(self.unknown(file, name, UNKNOWN_CALLEE, format!("there is no workflow `{name}`"), help))
    }

    /// A model's key; the embedded model is `local`, unless a model of that name is declared.
    pub(crate) fn model(&self, file: &'a File, name: &str) -> Result<String, Unknown> {
        match self.find(file, name, |tables| &tables.models) {
            Some((key, found)) if found.def.is_some() => Ok(key),
            Some((key, found)) => Err(broken(&key, &found.place)),
            None if name == "local" => Ok(name.to_owned()),
            None => {
                let mut known: BTreeSet<_> =
                    self.scopes(file).flat_map(|(tables, _)| tables.models.keys()).map(String::as_str).collect();
                known.extend(["local", "caller"]);
                let help = suggest(name, known).unwrap_or_else(|| format!("define it: `[models.{name}]`"));
                Err(self.unknown(file, name, UNKNOWN_MODEL, format!("there is no model `{name}`"), help))
            }
        }
    }
}

/// A definition with an error. One of the file's own breaks the file by itself, and needs no more words.
fn broken(key: &str, place: &Place) -> Unknown {
    if key.contains('/') {
        return None;
    }
    Some((BROKEN_CALLEE, format!("`{key}` is defined, but with an error"), format!("mend it first: {}", place.line())))
}
