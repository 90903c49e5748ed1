//! What is known of the servers' offers: replaced as a whole whenever something is learned, so that nobody waits to look.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use antiphon_client::About;
use rmcp::model::{PromptsCapability, ResourcesCapability, ServerCapabilities, Tool, ToolsCapability};

/// The latest state of it.
#[derive(Debug, Default)]
pub(super) struct Knowledge(RwLock<Arc<Known>>);

/// What is known. Servers are numbers: places in the list of exposures.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// Those that have said what they are.
    pub(super) asked: BTreeSet<usize>,
    pub(super) capabilities: ServerCapabilities,
    pub(super) instructions: Vec<String>,
    /// By the names that callers use.
    pub(super) tools: HashMap<String, (usize, Tool)>,
    /// Likewise; whose they are.
    pub(super) prompts: HashMap<String, usize>,
    /// By the URIs that callers use.
    pub(super) resources: HashMap<String, usize>,
    /// URI templates.
    pub(super) templates: Vec<(String, usize)>,
}

impl Knowledge {
    pub(super) fn now(&self) -> Arc<Known> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn learn(&self, change: impl FnOnce(&mut Known)) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut known));
    }
}

impl Known {
    /// Adds what a server says of itself.
    pub(super) fn introduce(&mut self, server: &str, at: usize, about: About) {
        self.asked.insert(at);
        if let Some(instructions) = about.instructions {
            self.instructions.push(format!("`{server}`: {instructions}"));
        }
        let (all, its) = (&mut self.capabilities, about.capabilities);
        // A server that was away may come back with other lists, whether it tells of changes or not.
        if its.tools.is_some() {
            all.tools.get_or_insert_with(ToolsCapability::default).list_changed = Some(true);
        }
        if its.prompts.is_some() {
            all.prompts.get_or_insert_with(PromptsCapability::default).list_changed = Some(true);
        }
        if let Some(resources) = its.resources {
            let known = all.resources.get_or_insert_with(ResourcesCapability::default);
            known.list_changed = Some(true);
            known.subscribe = known.subscribe.max(resources.subscribe);
        }
        all.completions = all.completions.take().or(its.completions);
        all.logging = all.logging.take().or(its.logging);
    }
}
