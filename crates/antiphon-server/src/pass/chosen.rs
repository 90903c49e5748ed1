//! Which of a server's tools and prompts are passed through, and what callers know them by.

use std::collections::BTreeMap;

use antiphon_kernel::fits;
use rmcp::model::{Tool, ToolAnnotations};

/// A server whose offer is passed through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposure {
    /// Its name.
    pub server: String,
    /// Patterns of the tools and prompts to pass through; `*` stands for anything. One that begins with `!` takes away again,
    /// wherever it stands. `@read_only`, `@destructive`, `@idempotent`, `@open_world` are the tools of which their annotations say so.
    /// With `*` itself, resources are passed through, too.
    pub patterns: Vec<String>,
    /// What names begin with; empty if they stay as they are.
    pub prefix: String,
    /// What is said of tools instead, by the server's own names.
    pub retold: BTreeMap<String, Retold>,
    /// Of all that, only what one of these patterns fits, too; `None` is all of it.
    pub only: Option<Vec<String>>,
}

/// What callers are told of a tool instead of what its server says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retold {
    /// Its whole name.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
}

impl Exposure {
    /// Passed through whole, with what has no name that patterns could fit.
    pub(super) fn whole(&self) -> bool {
        let whole = |patterns: &[String]| patterns.iter().any(|pattern| pattern == "*");
        whole(&self.patterns) && self.only.as_deref().is_none_or(whole)
    }

    /// Whether a scope opens it.
    fn opens(&self, own: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.iter().any(|pattern| fits(pattern, own)))
    }

    /// Whether a tool with these annotations is passed through.
    pub(super) fn passes_tool(&self, own: &str, hints: Option<&ToolAnnotations>) -> bool {
        let fits = |pattern: &str| match pattern.strip_prefix('@') {
            Some(word) => says(hints, word),
            None => fits(pattern, own),
        };
        self.chooses(fits) && self.opens(own)
    }

    /// Whether a prompt is. They have no annotations.
    pub(super) fn passes_prompt(&self, own: &str) -> bool {
        self.chooses(|pattern| fits(pattern, own)) && self.opens(own)
    }

    /// The tools that are named, one by one. A pattern without `*` may also mean a prompt.
    pub(super) fn named_tools(&self) -> impl Iterator<Item = &str> {
        let one = |pattern: &&String| !pattern.contains('*') && !pattern.starts_with(['!', '@']);
        self.patterns.iter().filter(one).chain(self.retold.keys()).map(String::as_str)
    }

    /// Whether it takes more than a name to tell.
    pub(super) fn looks_at_annotations(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.trim_start_matches('!').starts_with('@'))
    }

    fn chooses(&self, fits: impl Fn(&str) -> bool) -> bool {
        let (mut chosen, mut taken) = (false, false);
        for pattern in &self.patterns {
            match pattern.strip_prefix('!') {
                Some(pattern) => taken |= fits(pattern),
                None => chosen |= fits(pattern),
            }
        }
        chosen && !taken
    }

    /// The name that callers use for something.
    pub(super) fn outward(&self, own: &str) -> String {
        format!("{}{own}", self.prefix)
    }

    /// Tells of a tool as callers are to know it; its name.
    pub(super) fn retell(&self, tool: &mut Tool) -> String {
        let retold = self.retold.get(&*tool.name);
        let name = retold.and_then(|retold| retold.name.clone()).unwrap_or_else(|| self.outward(&tool.name));
        if let Some(description) = retold.and_then(|retold| retold.description.clone()) {
            tool.description = Some(description.into());
        }
        tool.name = name.clone().into();
        name
    }

    /// The server's own name of a tool, as far as the name tells.
    pub(super) fn own_tool<'a>(&'a self, outward: &'a str) -> Option<&'a str> {
        let renamed = self.retold.iter().find(|(_, retold)| retold.name.as_deref() == Some(outward));
        let own = renamed.map(|(own, _)| own.as_str()).or_else(|| {
            let own = outward.strip_prefix(&self.prefix)?;
            // One that has another name has lost this one.
            self.retold.get(own).is_none_or(|retold| retold.name.is_none()).then_some(own)
        })?;
        // What annotations decide is seen when it is called.
        let by_name = |pattern: &str| pattern.starts_with('@') || fits(pattern, own);
        let chosen = self.patterns.iter().any(|pattern| by_name(pattern));
        let taken =
            self.patterns.iter().filter_map(|pattern| pattern.strip_prefix('!')).any(|pattern| fits(pattern, own));
        (chosen && !taken && self.opens(own)).then_some(own)
    }

    /// Likewise of a prompt.
    pub(super) fn own_prompt<'a>(&'a self, outward: &'a str) -> Option<&'a str> {
        outward.strip_prefix(&self.prefix).filter(|own| self.passes_prompt(own))
    }

    /// What is put before a URI that another server has, too. A `+` may stand in a URI's scheme, and is rare there.
    pub(super) fn mark(&self) -> String {
        let name: String = self.server.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        format!("{name}+")
    }
}

/// What a tool's annotations say, with MCP's own defaults for what they leave open.
fn says(hints: Option<&ToolAnnotations>, word: &str) -> bool {
    let hint = |of: fn(&ToolAnnotations) -> Option<bool>| hints.and_then(of);
    let read_only = hint(|hints| hints.read_only_hint).unwrap_or(false);
    match word {
        "read_only" => read_only,
        "destructive" => !read_only && hint(|hints| hints.destructive_hint).unwrap_or(true),
        "idempotent" => read_only || hint(|hints| hints.idempotent_hint).unwrap_or(false),
        "open_world" => hint(|hints| hints.open_world_hint).unwrap_or(true),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exposure(prefix: &str, patterns: &[&str]) -> Exposure {
        Exposure {
            server: "my_files".into(),
            patterns: patterns.iter().map(|pattern| (*pattern).to_owned()).collect(),
            prefix: prefix.into(),
            retold: BTreeMap::new(),
            only: None,
        }
    }

    #[test]
    fn names_go_out_and_come_back() {
        let prefixed = exposure("my_files__", &["read_*"]);
        assert_eq!(prefixed.outward("read_it"), "my_files__read_it");
        assert_eq!(prefixed.own_tool("my_files__read_it"), Some("read_it"));
        assert_eq!(prefixed.own_tool("my_files__write_it"), None);
        assert_eq!(prefixed.own_tool("read_it"), None);
        assert!(!prefixed.whole());
        let plain = exposure("", &["*"]);
        assert_eq!(plain.own_tool("read_it"), Some("read_it"));
        assert!(plain.whole());
        assert_eq!(plain.mark(), "my-files+");
        let scoped = Exposure { only: Some(vec!["read_*".to_owned()]), ..plain };
        assert_eq!((scoped.own_tool("read_it"), scoped.own_tool("write_it")), (Some("read_it"), None));
        assert!(!scoped.whole() && !scoped.passes_tool("write_it", None));
    }

    #[test]
    fn what_is_renamed_loses_its_old_name() {
        let mut exposure = exposure("f__", &["*"]);
        exposure.retold.insert("read_it".into(), Retold { name: Some("read".into()), description: None });
        exposure.retold.insert("list".into(), Retold { name: None, description: Some("Lists".into()) });
        assert_eq!(exposure.own_tool("read"), Some("read_it"));
        assert_eq!(exposure.own_tool("f__read_it"), None);
        assert_eq!(exposure.own_tool("f__list"), Some("list"));
    }

    #[test]
    fn patterns_take_away_by_name_and_by_annotation() {
        let reads = ToolAnnotations::new().read_only(true);
        let writes = ToolAnnotations::new().read_only(false).destructive(false);
        let passes = |patterns: &[&str], own: &str, hints: Option<&ToolAnnotations>| {
            let exposure = exposure("", patterns);
            let passes = exposure.passes_tool(own, hints);
            // The name alone may let through more than that, never less.
            assert!(!passes || exposure.own_tool(own).is_some(), "{patterns:?} {own}");
            passes
        };
        assert!(passes(&["*", "!write_*"], "read", None) && !passes(&["!write_*", "*"], "write_it", None));
        assert!(passes(&["@read_only"], "a", Some(&reads)) && !passes(&["@read_only"], "a", Some(&writes)));
        assert!(!passes(&["@read_only"], "a", None), "no word is no promise");
        assert!(!passes(&["*", "!@destructive"], "a", None) && passes(&["*", "!@destructive"], "a", Some(&writes)));
        assert!(passes(&["*", "!@destructive"], "a", Some(&reads)));
        assert!(!passes(&["@read_only", "!a"], "a", Some(&reads)));
        assert!(!passes(&["!a"], "b", None), "nothing but taking away leaves nothing");
        assert!(
            !exposure("", &["@read_only"]).passes_prompt("a")
                && exposure("", &["*", "!@destructive"]).passes_prompt("a")
        );
    }
}
