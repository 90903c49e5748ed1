//! What changes on a server while we are connected to it.

use rmcp::model::ServerNotification;
use tokio::sync::broadcast;

/// Something that a server has told of by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It lists other tools.
    Tools,
    /// It lists other prompts.
    Prompts,
    /// It lists other resources or templates.
    Resources,
    /// The resource with this URI says something else.
    Resource(String),
}

/// All lists may have changed: the server was away.
pub(crate) fn everything(changes: &broadcast::Sender<Change>) {
    for change in [Change::Tools, Change::Prompts, Change::Resources] {
        // Nobody may be interested.
        let _ = changes.send(change);
    }
}

/// What a notification means.
pub(crate) fn change(notification: ServerNotification) -> Option<Change> {
    match notification {
        ServerNotification::ToolListChangedNotification(_) => Some(Change::Tools),
        ServerNotification::PromptListChangedNotification(_) => Some(Change::Prompts),
        ServerNotification::ResourceListChangedNotification(_) => Some(Change::Resources),
        ServerNotification::ResourceUpdatedNotification(updated) => Some(Change::Resource(updated.params.uri)),
        _ => None,
    }
}
