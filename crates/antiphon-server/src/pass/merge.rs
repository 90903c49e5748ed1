//! The lists of several servers as one.

use std::collections::HashMap;

use antiphon_client::{CallContext, Listed, Listing};
use futures::future::join_all;
use rmcp::model::{
    CacheScope, ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult, Prompt, Resource,
    ResourceTemplate, Tool,
};
use serde::de::DeserializeOwned;

use super::Pass;

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
            for mut tool in read::<Tool>(list) {
                if !self.allows(at, &tool.name) {
                    continue;
                }
                let name = self.exposures[at].outward(&tool.name);
                if known.contains_key(&name) {
                    tracing::warn!("`{name}` is passed through for the first server that has it; another has it, too");
                    continue;
                }
                tool.name = name.clone().into();
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
                if self.exposures[at].passes(&prompt.name) && !known.contains_key(&outward) {
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

    /// The resources. A URI that several servers have stays as it is for the first, and is marked for the others.
    pub(crate) async fn list_resources(&self, cx: &CallContext) -> ListResourcesResult {
        let (lists, keep) = self.ask(Listing::Resources, cx).await;
        let mut result = ListResourcesResult::default();
        let mut known = HashMap::new();
        for (at, list) in lists {
            for mut resource in read::<Resource>(list) {
                if known.get(&resource.uri).is_some_and(|first| *first != at) {
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

    /// The templates of resources. One that several servers have is the first one's.
    pub(crate) async fn list_templates(&self, cx: &CallContext) -> ListResourceTemplatesResult {
        let (lists, keep) = self.ask(Listing::Templates, cx).await;
        let mut result = ListResourceTemplatesResult::default();
        let mut known: Vec<(String, usize)> = Vec::new();
        for (at, list) in lists {
            for template in read::<ResourceTemplate>(list) {
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

    fn allows(&self, at: usize, own: &str) -> bool {
        self.exposures[at].passes(own) && self.client(at).is_some_and(|client| client.config().allows(own))
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
