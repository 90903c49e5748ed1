//! Which server is meant: from the names and URIs that callers use to those that servers use.

use antiphon_client::CallContext;
use antiphon_kernel::fits;
use rmcp::ErrorData;

use super::chosen::Exposure;
use super::{Pass, compact};
use crate::runs;

/// A server's own thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Own {
    /// The server's place in the list of exposures.
    pub(super) at: usize,
    /// What it calls the thing.
    pub(super) name: String,
}

impl Pass {
    /// Whose tool this is. Asks the servers only if several could have it.
    pub(super) async fn tool_of(&self, outward: &str, cx: impl FnOnce() -> CallContext) -> Option<Own> {
        match self.candidates(outward, Exposure::own_tool).as_slice() {
            [] => None,
            [only] => Some(only.clone()),
            several => {
                let known = |this: &Self| this.knowledge.now().tools.get(outward).map(|(at, _)| *at);
                let mut at = known(self);
                if at.is_none() {
                    self.list_tools(&cx()).await;
                    at = known(self);
                }
                several.iter().find(|own| Some(own.at) == at).cloned()
            }
        }
    }

    /// Whose prompt this is; likewise.
    pub(super) async fn prompt_of(&self, outward: &str, cx: &CallContext) -> Option<Own> {
        match self.candidates(outward, Exposure::own_prompt).as_slice() {
            [] => None,
            [only] => Some(only.clone()),
            several => {
                let known = |this: &Self| this.knowledge.now().prompts.get(outward).copied();
                let mut at = known(self);
                if at.is_none() {
                    self.list_prompts(cx).await;
                    at = known(self);
                }
                several.iter().find(|own| Some(own.at) == at).cloned()
            }
        }
    }

    /// Whose resource this is; likewise.
    pub(super) async fn resource_of(&self, uri: &str, cx: &CallContext) -> Option<Own> {
        let whole: Vec<usize> = (0..self.exposures.len()).filter(|at| self.exposures[*at].whole()).collect();
        for at in &whole {
            let unmarked = uri.strip_prefix(&self.exposures[*at].mark());
            // The only one's are marked where they look like ours; what else looks marked is its own.
            if let Some(own) = unmarked.filter(|own| whole.len() > 1 || runs::is_ours(own)) {
                return Some(Own { at: *at, name: own.to_owned() });
            }
        }
        if let [only] = whole[..] {
            return Some(Own { at: only, name: uri.to_owned() });
        }
        let known = |this: &Self| {
            let known = this.knowledge.now();
            let template = || known.templates.iter().find(|(template, _)| covers(template, uri)).map(|(_, at)| *at);
            known.resources.get(uri).copied().or_else(template)
        };
        let mut at = known(self);
        if at.is_none() {
            tokio::join!(self.list_resources(cx, false), self.list_templates(cx, false));
            at = known(self);
        }
        at.map(|at| Own { at, name: uri.to_owned() })
    }

    /// The URI that callers use for a server's own.
    pub(super) fn outward_uri(&self, at: usize, own: String) -> String {
        let known = self.knowledge.now();
        match known.resources.get(&own) {
            Some(first) if *first != at => format!("{}{own}", self.exposures[at].mark()),
            None if known.resources.contains_key(&format!("{}{own}", self.exposures[at].mark())) => {
                format!("{}{own}", self.exposures[at].mark())
            }
            _ => own,
        }
    }

    /// What a tool or prompt of this name may be, as `SERVER.NAME`. Of the two that stand for others, what they are called with says it.
    pub(crate) fn names_of(&self, outward: &str) -> Vec<String> {
        if self.may_compact() && compact::is_one(outward) {
            return Vec::new();
        }
        let own = self.exposures.iter().filter_map(|exposure| {
            let own = exposure.own_tool(outward).or_else(|| exposure.own_prompt(outward))?;
            Some(format!("{}.{own}", exposure.server))
        });
        own.collect()
    }

    /// Those who could have something of this name.
    fn candidates<'a>(&'a self, outward: &'a str, own: impl Fn(&'a Exposure, &'a str) -> Option<&'a str>) -> Vec<Own> {
        let all = self.exposures.iter().enumerate();
        all.filter_map(|(at, exposure)| Some(Own { at, name: own(exposure, outward)?.to_owned() })).collect()
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
    fn templates_cover_what_can_come_of_them() {
        assert!(covers("test://template/{id}/data", "test://template/7/data"));
        assert!(covers("file:///{+path}", "file:///a/b.txt"));
        assert!(!covers("test://template/{id}/data", "test://template/7/other"));
        assert!(!covers("test://{broken", "test://x"));
    }
}
