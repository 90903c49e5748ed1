//! Which server is meant: from the names and URIs that callers use to those that servers use.

use antiphon_client::CallContext;
use antiphon_kernel::fits;
use rmcp::ErrorData;

use super::{Exposure, Pass};

/// A server's own thing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Own {
    /// The server's place in the list of exposures.
    pub(super) at: usize,
    /// What it calls the thing.
    pub(super) name: String,
}

impl Exposure {
    /// Passed through whole, with what has no name that patterns could fit.
    pub(super) fn whole(&self) -> bool {
        let whole = |patterns: &[String]| patterns.iter().any(|pattern| pattern == "*");
        whole(&self.patterns) && self.only.as_deref().is_none_or(whole)
    }

    pub(super) fn passes(&self, own: &str) -> bool {
        let passes = |patterns: &[String]| patterns.iter().any(|pattern| fits(pattern, own));
        passes(&self.patterns) && self.only.as_deref().is_none_or(passes)
    }

    /// The name that callers use.
    pub(super) fn outward(&self, own: &str) -> String {
        format!("{}{own}", self.prefix)
    }

    /// The server's own name, if it can be one of its.
    fn inward<'a>(&self, outward: &'a str) -> Option<&'a str> {
        outward.strip_prefix(&self.prefix).filter(|own| self.passes(own))
    }

    /// What is put before a URI that another server has, too. A `+` may stand in a URI's scheme, and is rare there.
    pub(super) fn mark(&self) -> String {
        let name: String = self.server.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        format!("{name}+")
    }
}

impl Pass {
    /// Whose tool this is. Asks the servers only if several could have it.
    pub(super) async fn tool_of(&self, outward: &str, cx: impl FnOnce() -> CallContext) -> Option<Own> {
        match self.candidates(outward).as_slice() {
            [] => None,
            [only] => Some(self.own(*only, outward)),
            several => {
                let known = |this: &Self| this.knowledge.now().tools.get(outward).map(|(at, _)| *at);
                let mut at = known(self);
                if at.is_none() {
                    self.list_tools(&cx()).await;
                    at = known(self);
                }
                at.filter(|at| several.contains(at)).map(|at| self.own(at, outward))
            }
        }
    }

    /// Whose prompt this is; likewise.
    pub(super) async fn prompt_of(&self, outward: &str, cx: &CallContext) -> Option<Own> {
        match self.candidates(outward).as_slice() {
            [] => None,
            [only] => Some(self.own(*only, outward)),
            several => {
                let known = |this: &Self| this.knowledge.now().prompts.get(outward).copied();
                let mut at = known(self);
                if at.is_none() {
                    self.list_prompts(cx).await;
                    at = known(self);
                }
                at.filter(|at| several.contains(at)).map(|at| self.own(at, outward))
            }
        }
    }

    /// Whose resource this is; likewise.
    pub(super) async fn resource_of(&self, uri: &str, cx: &CallContext) -> Option<Own> {
        let whole: Vec<usize> = (0..self.exposures.len()).filter(|at| self.exposures[*at].whole()).collect();
        if let [only] = whole[..] {
            return Some(Own { at: only, name: uri.to_owned() });
        }
        for at in &whole {
            if let Some(own) = uri.strip_prefix(&self.exposures[*at].mark()) {
                return Some(Own { at: *at, name: own.to_owned() });
            }
        }
        let known = |this: &Self| {
            let known = this.knowledge.now();
            let template = || known.templates.iter().find(|(template, _)| covers(template, uri)).map(|(_, at)| *at);
            known.resources.get(uri).copied().or_else(template)
        };
        let mut at = known(self);
        if at.is_none() {
            tokio::join!(self.list_resources(cx), self.list_templates(cx));
            at = known(self);
        }
        at.map(|at| Own { at, name: uri.to_owned() })
    }

    /// The URI that callers use for a server's own.
    pub(super) fn outward_uri(&self, at: usize, own: String) -> String {
        let known = self.knowledge.now();
        match known.resources.get(&own) {
            Some(first) if *first != at => format!("{}{own}", self.exposures[at].mark()),
            _ => own,
        }
    }

    /// What a tool or prompt of this name may be, as `SERVER.NAME`.
    pub(crate) fn names_of(&self, outward: &str) -> Vec<String> {
        let servers = self.exposures.iter();
        let own = servers.filter_map(|exposure| Some(format!("{}.{}", exposure.server, exposure.inward(outward)?)));
        own.collect()
    }

    fn candidates(&self, outward: &str) -> Vec<usize> {
        (0..self.exposures.len()).filter(|at| self.exposures[*at].inward(outward).is_some()).collect()
    }

    fn own(&self, at: usize, outward: &str) -> Own {
        let name = self.exposures[at].inward(outward).unwrap_or(outward).to_owned();
        Own { at, name }
    }
}

/// Whether a URI can come of a template (RFC 6570): its literal parts, in this order, with anything between them.
fn covers(template: &str, uri: &str) -> bool {
    let mut pattern = String::new();
    let mut rest = template;
    while let Some((literal, after)) = rest.split_once('{') {
        pattern.push_str(literal);
        pattern.push('*');
        let Some((_, after)) = after.split_once('}') else { return false };
        rest = after;
    }
    pattern.push_str(rest);
    fits(&pattern, uri)
}

pub(super) fn no_such(kind: &str, name: &str) -> ErrorData {
    // Not -32601: over modern HTTP that would say that there is no such endpoint.
    ErrorData::invalid_params(format!("no {kind} `{name}` here"), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_out_and_come_back() {
        let exposure = |prefix: &str, patterns: &[&str]| Exposure {
            server: "my_files".into(),
            patterns: patterns.iter().map(|pattern| (*pattern).to_owned()).collect(),
            prefix: prefix.into(),
            only: None,
        };
        let prefixed = exposure("my_files__", &["read_*"]);
        assert_eq!(prefixed.outward("read_it"), "my_files__read_it");
        assert_eq!(prefixed.inward("my_files__read_it"), Some("read_it"));
        assert_eq!(prefixed.inward("my_files__write_it"), None);
        assert_eq!(prefixed.inward("read_it"), None);
        assert!(!prefixed.whole());
        let plain = exposure("", &["*"]);
        assert_eq!(plain.inward("read_it"), Some("read_it"));
        assert!(plain.whole());
        assert_eq!(plain.mark(), "my-files+");
        let scoped = Exposure { only: Some(vec!["read_*".to_owned()]), ..plain };
        assert_eq!((scoped.inward("read_it"), scoped.inward("write_it")), (Some("read_it"), None));
        assert!(!scoped.whole());
    }

    #[test]
    fn templates_cover_what_can_come_of_them() {
        assert!(covers("test://template/{id}/data", "test://template/7/data"));
        assert!(covers("file:///{+path}", "file:///a/b.txt"));
        assert!(!covers("test://template/{id}/data", "test://template/7/other"));
        assert!(!covers("test://{broken", "test://x"));
    }
}
