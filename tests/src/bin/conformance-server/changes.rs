//! What changes while the server runs, and who is told.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use rmcp::RoleServer;
use rmcp::model::{ErrorData, ResourceUpdatedNotificationParam};
use rmcp::service::{Peer, SubscriptionContext};
use tokio::sync::broadcast::{self, error::RecvError};

/// What has changed.
#[derive(Clone, Debug)]
pub enum Change {
    /// The list of tools.
    Tools,
    /// The list of prompts.
    Prompts,
    /// The list of resources.
    Resources,
    /// What a resource says.
    Resource(String),
}

/// Legacy peers, and the resources that each wants to know of.
type Peers = Vec<(Peer<RoleServer>, BTreeSet<String>)>;

/// Tells of changes: modern listeners by their subscriptions, legacy peers by notifications.
#[derive(Clone, Debug)]
pub struct Changes {
    sender: broadcast::Sender<Change>,
    legacy: Arc<Mutex<Peers>>,
}

impl Changes {
    /// Nobody listens yet.
    pub fn new() -> Self {
        Self { sender: broadcast::channel(64).0, legacy: Arc::default() }
    }

    /// A legacy peer has come.
    pub fn greet(&self, peer: Peer<RoleServer>) {
        of_peer(&mut self.legacy(), &peer);
    }

    /// A legacy peer wants to know of a resource, or does not any more.
    pub fn subscribe(&self, peer: &Peer<RoleServer>, uri: String, wanted: bool) {
        let mut legacy = self.legacy();
        // It may say so before its `initialized` has been seen to: each message is a task of its own.
        let uris = of_peer(&mut legacy, peer);
        if wanted {
            uris.insert(uri);
        } else {
            uris.remove(&uri);
        }
    }

    /// Something has changed.
    pub async fn tell(&self, change: Change) {
        // Nobody may be listening.
        let _ = self.sender.send(change.clone());
        let legacy: Vec<_> = {
            let mut legacy = self.legacy();
            legacy.retain(|(peer, _)| !peer.is_transport_closed());
            legacy.clone()
        };
        for (peer, uris) in legacy {
            let told = match &change {
                Change::Tools => peer.notify_tool_list_changed().await,
                Change::Prompts => peer.notify_prompt_list_changed().await,
                Change::Resources => peer.notify_resource_list_changed().await,
                Change::Resource(uri) if uris.contains(uri) => {
                    peer.notify_resource_updated(ResourceUpdatedNotificationParam::new(uri)).await
                }
                Change::Resource(_) => Ok(()),
            };
            // One that has gone is not told any more.
            drop(told);
        }
    }

    /// Serves a modern subscription to its end.
    pub async fn listen(&self, subscription: SubscriptionContext) -> Result<(), ErrorData> {
        let mut changes = self.sender.subscribe();
        let sink = subscription.sink();
        loop {
            let change = tokio::select! {
                () = subscription.cancelled() => return Ok(()),
                change = changes.recv() => change,
            };
            let sent = match change {
                Ok(Change::Tools) => sink.notify_tool_list_changed().await,
                Ok(Change::Prompts) => sink.notify_prompt_list_changed().await,
                Ok(Change::Resources) => sink.notify_resource_list_changed().await,
                Ok(Change::Resource(uri)) => sink.notify_resource_updated(uri).await,
                Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return Ok(()),
            };
            // What was not asked for is refused by the sink.
            drop(sent);
        }
    }

    fn legacy(&self) -> std::sync::MutexGuard<'_, Peers> {
        self.legacy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What this peer wants to know of.
fn of_peer<'a>(peers: &'a mut Peers, peer: &Peer<RoleServer>) -> &'a mut BTreeSet<String> {
    let same = |other: &Peer<RoleServer>| match (other.peer_info(), peer.peer_info()) {
        (Some(one), Some(other)) => Arc::ptr_eq(&one, &other),
        _ => false,
    };
    let place = peers.iter().position(|(other, _)| same(other)).unwrap_or_else(|| {
        peers.push((peer.clone(), BTreeSet::new()));
        peers.len() - 1
    });
    &mut peers[place].1
}
