//! What callers are told that they can ask for.

use rmcp::model::ServerCapabilities;

use crate::catalog::Snapshot;

/// What can be asked for here. What changes with the project's files is told of, so every list may change.
pub(crate) fn capabilities(now: &Snapshot) -> ServerCapabilities {
    let mut all = ServerCapabilities::builder().enable_tools().enable_tasks().build();
    let passed = now.pass().map(|pass| pass.capabilities()).unwrap_or_default();
    all.tools = passed.tools.or(all.tools);
    (all.prompts, all.resources) = (passed.prompts, passed.resources);
    (all.completions, all.logging) = (passed.completions, passed.logging);
    if !now.prompts().is_empty() {
        all.prompts.get_or_insert_default();
    }
    if now.runs() {
        all.resources.get_or_insert_default().subscribe = Some(true);
    }
    if !now.prompts().is_empty() || now.runs() {
        all.completions.get_or_insert_default();
    }
    if let Some(tools) = &mut all.tools {
        tools.list_changed = Some(true);
    }
    if let Some(prompts) = &mut all.prompts {
        prompts.list_changed = Some(true);
    }
    if let Some(resources) = &mut all.resources {
        resources.list_changed = Some(true);
    }
    all
}
