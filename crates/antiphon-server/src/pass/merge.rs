//! The lists of several servers as one.

use std::collections::HashMap;
use std::sync::PoisonError;

use antiphon_client::{CallContext, Listed, Listing};
use futures::future::join_all;
use rmcp::model::{
    CacheScope, ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult, Prompt, Resource,
    ResourceTemplate, Tool,
};
use serde::de::DeserializeOwned;

use super::Pass;
use crate::runs;

/// How long callers may keep a list, and whether others may have it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keep {
    pub(crate) ttl_ms: u64,
    pub(crate) scope: CacheScope,
}

impl Pass {
    /// The tools, by the names that callers use, in the order of the servers.
    pub(crate) async fn list_tools(&self, cx: &CallContext) -> (Vec<Tool>, Keep) {
        let (lists, keep) = self.ask(Listing::Tools, cx).await;
        let mut tools = Vec::new();
        let mut known = HashMap::new();
        for (at, list) in lists {
            self.miss(at, &list);
            for mut tool in read::<Tool>(list) {
                if !self.offers(at, &tool) {
                    continue;
                }
                let name = self.exposures[at].retell(&mut tool);
                if known.contains_key(&name) {
                    tracing::warn!("`{name}` is passed through for the first server that has it; another has it, too");
                    continue;
                }
                known.insert(name, (at, tool.clone()));
                tools.push(tool);
            }
        }
        self.knowledge.learn(|knowledge| knowledge.tools = known);
        (tools, keep)
    }

    /// The prompts; likewise.
    pub(crate) async fn list_prompts(&self, cx: &CallContext) -> ListPromptsResult {
        let (lists, keep) = self.ask(Listing::Prompts, cx).await;
        let mut result = ListPromptsResult::default();
        let mut known = HashMap::new();
        for (at, list) in lists {
            for mut prompt in read::<Prompt>(list) {
                let outward = self.exposures[at].outward(&prompt.name);
                if self.exposures[at].passes_prompt(&prompt.name) && !known.contains_key(&outward) {
                    prompt.name = outward.clone();
                    known.insert(outward, at);
                    result.prompts.push(prompt);
                }
            }
        }
        self.knowledge.learn(|knowledge| knowledge.prompts = known);
        (result.ttl_ms, result.cache_scope) = (Some(keep.ttl_ms), Some(keep.scope));
        result
    }

    /// The resources. A URI that several servers have stays as it is for the first, and is marked for the others; one that looks
    /// like ours is marked if we have our own.
    pub(crate) async fn list_resources(&self, cx: &CallContext, beside_ours: bool) -> ListResourcesResult {
        let (lists, keep) = self.ask(Listing::Resources, cx).await;
        let mut result = ListResourcesResult::default();
        let mut known = HashMap::new();
        for (at, list) in lists {
            for mut resource in read::<Resource>(list) {
                if known.get(&resource.uri).is_some_and(|first| *first != at)
                    || beside_ours && runs::is_ours(&resource.uri)
                {
                    resource.uri = format!("{}{}", self.exposures[at].mark(), resource.uri);
                }
                known.insert(resource.uri.clone(), at);
                result.resources.push(resource);
            }
        }
        self.knowledge.learn(|knowledge| knowledge.resources = known);
        (result.ttl_ms, result.cache_scope) = (Some(keep.ttl_ms), Some(keep.scope));
        result
    }

    /// The templates of resources. One that several servers have is the first one's; one that looks like ours is marked if we have
    /// our own.
    pub(crate) async fn list_templates(&self, cx: &CallContext, beside_ours: bool) -> ListResourceTemplatesResult {
        let (lists, keep) = self.ask(Listing::Templates, cx).await;
        let mut result = ListResourceTemplatesResult::default();
        let mut known: Vec<(String, usize)> = Vec::new();
        for (at, list) in lists {
            for mut template in read::<ResourceTemplate>(list) {
                if beside_ours && runs::is_ours(&template.uri_template) {
                    template.uri_template = format!("{}{}", self.exposures[at].mark(), template.uri_template);
                }
                if !known.iter().any(|(known, _)| *known == template.uri_template) {
                    known.push((template.uri_template.clone(), at));
                    result.resource_templates.push(template);
                }
            }
        }
        self.knowledge.learn(|knowledge| knowledge.templates = known);
        (result.ttl_ms, result.cache_scope) = (Some(keep.ttl_ms), Some(keep.scope));
        result
    }

    /// Says once of what is named in `[serve]` that the server does not have it.
    fn miss(&self, at: usize, list: &Listed) {
        let exposure = &self.exposures[at];
        let has = |name: &str| list.items.iter().any(|tool| tool.get("name").is_some_and(|known| known == name));
        for name in exposure.named_tools().filter(|name| !has(name)) {
            let name = format!("{}.{name}", exposure.server);
            if self.missed.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone()) {
                tracing::warn!("`[serve]` names `{name}`, and the server lists no such tool");
            }
        }
    }

    /// Whether a tool that a server lists is passed through.
    fn offers(&self, at: usize, tool: &Tool) -> bool {
        let hints = tool.annotations.as_ref();
        let read_only = hints.is_some_and(|hints| hints.read_only_hint == Some(true));
        self.exposures[at].passes_tool(&tool.name, hints)
            && self.client(at).is_some_and(|client| client.config().admits(&tool.name, read_only))
    }

    /// Asks all servers at once; one that fails hides no other.
    async fn ask(&self, listing: Listing, cx: &CallContext) -> (Vec<(usize, Listed)>, Keep) {
        self.ready().await;
        let nameless = matches!(listing, Listing::Resources | Listing::Templates);
        let wanted = (0..self.exposures.len()).filter(|at| !nameless || self.exposures[*at].whole());
        let asked = wanted.map(|at| async move {
            let listed = self.late.list(at, &self.client(at)?, listing, cx).await?;
            Some((at, listed))
        });
        let answers = join_all(asked).await;
        let complete = answers.iter().all(Option::is_some);
        let lists: Vec<(usize, Listed)> = answers.into_iter().flatten().collect();
        let ttl = lists.iter().map(|(_, list)| list.ttl_ms.unwrap_or(0)).min();
        let public = complete && !lists.is_empty() && lists.iter().all(|(_, list)| list.public);
        let keep = Keep {
            ttl_ms: ttl.filter(|_| complete).unwrap_or(0),
            scope: if public { CacheScope::Public } else { CacheScope::Private },
        };
        (lists, keep)
    }
}

fn read<T: DeserializeOwned>(list: Listed) -> impl Iterator<Item = T> {
    list.items.into_iter().filter_map(|item| match serde_json::from_value(item) {
        Ok(item) => Some(item),
        Err(error) => {
            tracing::warn!(%error, "part of a list can't be read, and is left out");
            None
        }
    })
}
