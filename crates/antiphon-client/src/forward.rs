//! Requests that are passed on for somebody else: as they came, with what the server says handed back as it came.
//!
//! A modern server is told with each request what its caller can answer, so everybody shares one connection to it. One of the
//! `initialize` era is told once, so those whose callers can answer something get a connection for each of them (by
//! [`CallContext::run`]), with what they can answer declared on it.
#![expect(deprecated, reason = "MCP deprecates logging and legacy subscriptions, and servers use them")]

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use rmcp::model::{
    ClientRequest, ErrorCode, ListPromptsRequest, ListResourceTemplatesRequest, ListResourcesRequest, ListToolsRequest,
    LoggingLevel, PaginatedRequestParams, RequestMetaObject, ServerCapabilities, ServerResult, SetLevelRequest,
    SetLevelRequestParams, SubscribeRequest, SubscribeRequestParams, SubscriptionFilter, UnsubscribeRequest,
    UnsubscribeRequestParams,
};
use serde_json::{Map, Value};
use tokio::sync::broadcast;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::call::CallContext;
use crate::catalogue::{MAX_PAGES, MAX_TOOLS};
use crate::change::{self, Change};
use crate::client::Client;
use crate::connection::{Connection, Era};
use crate::error::{ClientError, ErrorKind};

/// The `_meta` entry by which modern callers say what they can answer.
const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

/// What a server says about itself.
#[derive(Clone, Debug)]
pub struct About {
    /// How it wants to be spoken to.
    pub era: Era,
    /// What it can.
    pub capabilities: ServerCapabilities,
    /// How it is meant to be used.
    pub instructions: Option<String>,
}

/// A list that servers have, by pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// `tools/list`.
    Tools,
    /// `prompts/list`.
    Prompts,
    /// `resources/list`.
    Resources,
    /// `resources/templates/list`.
    Templates,
}

/// A list, whole.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    /// The definitions, as the server gives them, in its order.
    pub items: Vec<Value>,
    /// How long the server says that they are good for, in milliseconds.
    pub ttl_ms: Option<u64>,
    /// Whether it says that everybody gets the same.
    pub public: bool,
}

impl Client {
    /// What the server says about itself. Starts it, if need be.
    ///
    /// # Errors
    /// When it can't be reached.
    pub async fn about(&self, cx: &CallContext) -> Result<About, ClientError> {
        let connection = self.connection(cx).await?;
        let instructions = connection.peer.peer_info().and_then(|info| info.instructions.clone());
        Ok(About { era: connection.era, capabilities: connection.capabilities(), instructions })
    }

    /// Passes a request on.
    ///
    /// # Errors
    /// [`ClientError::answer`] is what the server itself has answered, if it has.
    pub async fn forward(
        &self,
        request: ClientRequest,
        meta: Map<String, Value>,
        cx: &CallContext,
    ) -> Result<ServerResult, ClientError> {
        let connection = self.in_time(cx).await?;
        if let ClientRequest::CallToolRequest(call) = &request {
            connection.admitted(&call.params.name, cx).await?;
        }
        let meta = connection.said_for(meta, cx);
        if let Some(level) = meta.1 {
            connection.log_at(level, cx).await;
        }
        if connection.mirrors_arguments() && matches!(request, ClientRequest::CallToolRequest(_)) {
            // Which arguments have to be in headers, too, rmcp knows from the list.
            connection.listed.get_or_try_init(|| connection.tools(cx)).await?;
        }
        let result = connection.exchange(request, meta.0, cx).await;
        if result.as_ref().is_err_and(|error| error.code() == Some(ErrorCode::HEADER_MISMATCH.0)) {
            connection.calls.tools_changed();
            connection.tools(cx).await?;
        }
        let result = result?;
        connection.served();
        if !connection.config.has_secrets() {
            return Ok(result);
        }
        let value = connection.value(result)?;
        Ok(ServerResult::CustomResult(rmcp::model::CustomResult::new(value)))
    }

    /// The connection, unless it takes longer than the server may be silent: whoever has called waits for it, too.
    async fn in_time(&self, cx: &CallContext) -> Result<Arc<Connection>, ClientError> {
        let patience = self.config().timeout;
        timeout(patience, self.connection(cx)).await.unwrap_or_else(|_| {
            let message = format!("was not there within {patience:?}; it is still starting");
            Err(ClientError::new(&self.config().name, ErrorKind::Timeout, message))
        })
    }

    /// All of a list.
    ///
    /// # Errors
    /// When the server can't be reached, or does not answer sensibly. One that has no such list has an empty one.
    pub async fn list(&self, listing: Listing, cx: &CallContext) -> Result<Listed, ClientError> {
        let connection = self.connection(cx).await?;
        let capabilities = connection.capabilities();
        let there = match listing {
            Listing::Tools => capabilities.tools.is_some(),
            Listing::Prompts => capabilities.prompts.is_some(),
            Listing::Resources | Listing::Templates => capabilities.resources.is_some(),
        };
        let mut listed = Listed { public: there, ..Listed::default() };
        let mut seen = HashSet::new();
        let mut cursor: Option<String> = None;
        for _ in 0..if there { MAX_PAGES } else { 0 } {
            let page = connection.request(listing.request(cursor), Map::new(), cx).await?;
            let Value::Object(mut page) = page else { break };
            if let Some(Value::Array(items)) = page.remove(listing.field()) {
                listed.items.extend(items);
            }
            if listed.items.len() > MAX_TOOLS {
                break;
            }
            let ttl = page.get("ttlMs").and_then(Value::as_u64);
            listed.ttl_ms = listed.ttl_ms.into_iter().chain(ttl).min();
            listed.public &= page.get("cacheScope").is_some_and(|scope| scope == "public");
            cursor = page.get("nextCursor").and_then(Value::as_str).map(str::to_owned);
            match &cursor {
                Some(cursor) if seen.insert(cursor.clone()) => {}
                _ => return Ok(listed),
            }
        }
        if there {
            let message = format!("answers `{}` without an end: {} so far", listing.method(), listed.items.len());
            return Err(connection.error(ErrorKind::InvalidOutput, &message));
        }
        Ok(listed)
    }

    /// Tells of what changes on the server, as long as there is a connection to it.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Tells that its lists may be others than those that were last seen.
    pub fn tell_of_changes(&self) {
        change::everything(&self.changes);
    }

    /// Has the server tell of changes of a resource, until what this yields is dropped.
    ///
    /// # Errors
    /// When the server can't be reached, or does not do so.
    pub async fn watch_resource(&self, uri: &str, cx: &CallContext) -> Result<Watch, ClientError> {
        let connection = self.connection(cx).await?;
        if connection.era == Era::Modern {
            let mut filter = SubscriptionFilter::default();
            filter.resource_subscriptions = Some(vec![uri.to_owned()]);
            let listening = connection.listening().start(filter).await;
            let listening = listening.map_err(|error| {
                let message = format!("does not tell of changes of `{uri}`: {error}");
                connection.error(ErrorKind::Unavailable, &message)
            })?;
            return Ok(Watch { listening: Some(listening), subscribed: None });
        }
        let request = SubscribeRequest::new(SubscribeRequestParams::new(uri));
        connection.request(ClientRequest::SubscribeRequest(request), Map::new(), cx).await?;
        Ok(Watch { listening: None, subscribed: Some((connection, uri.to_owned())) })
    }
}

/// A subscription to a resource.
#[derive(Debug)]
pub struct Watch {
    listening: Option<AbortHandle>,
    subscribed: Option<(Arc<Connection>, String)>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(listening) = &self.listening {
            listening.abort();
        }
        if let Some((connection, uri)) = self.subscribed.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move {
                let request = UnsubscribeRequest::new(UnsubscribeRequestParams::new(uri));
                let request = ClientRequest::UnsubscribeRequest(request);
                // A server that is gone tells nothing any more.
                let _ = connection.request(request, Map::new(), &CallContext::detached()).await;
            });
        }
    }
}

impl Connection {
    /// A caller's `_meta` as this server is to see it, and the level of log messages to ask for beforehand.
    fn said_for(&self, meta: Map<String, Value>, cx: &CallContext) -> (Map<String, Value>, Option<LoggingLevel>) {
        let mut object = RequestMetaObject::new();
        object.0.0 = meta;
        let level = object.log_level();
        match (self.era, &cx.on_behalf) {
            (Era::Modern, Some(caller)) => {
                // A modern caller has said so in its own words.
                if !object.0.0.contains_key(CAPABILITIES) {
                    object.set_client_capabilities((*caller.capabilities).clone());
                }
                (object.0.0, None)
            }
            (Era::Modern, None) => (object.0.0, None),
            (Era::Legacy, _) => {
                object.0.0.retain(|key, _| !key.starts_with("io.modelcontextprotocol/"));
                (object.0.0, level)
            }
        }
    }

    /// Asks a legacy server for log messages of this level, unless it sends them already.
    async fn log_at(&self, level: LoggingLevel, cx: &CallContext) {
        if self.capabilities().logging.is_none() || !self.logs.raise(level) {
            return;
        }
        let request = ClientRequest::SetLevelRequest(SetLevelRequest::new(SetLevelRequestParams::new(level)));
        let cx = CallContext { run: cx.run.clone(), deadline: cx.deadline, ..CallContext::detached() };
        if let Err(error) = self.request(request, Map::new(), &cx).await {
            tracing::debug!(%error, "its log messages stay as they are");
        }
    }
}

/// The most talkative level of log messages that a legacy server was asked for.
#[derive(Debug, Default)]
pub(crate) struct LogLevel(AtomicU8);

impl LogLevel {
    /// Whether this level has to be asked for; by now it has been.
    pub(crate) fn raise(&self, level: LoggingLevel) -> bool {
        let level = 9_u8.saturating_sub(level as u8);
        self.0.fetch_max(level, Ordering::AcqRel) < level
    }
}

impl Listing {
    fn method(self) -> &'static str {
        match self {
            Self::Tools => "tools/list",
            Self::Prompts => "prompts/list",
            Self::Resources => "resources/list",
            Self::Templates => "resources/templates/list",
        }
    }

    fn field(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources => "resources",
            Self::Templates => "resourceTemplates",
        }
    }

    fn request(self, cursor: Option<String>) -> ClientRequest {
        let params = cursor.map(|cursor| PaginatedRequestParams::default().with_cursor(Some(cursor)));
        match self {
            Self::Tools => ClientRequest::ListToolsRequest(ListToolsRequest { params, ..Default::default() }),
            Self::Prompts => ClientRequest::ListPromptsRequest(ListPromptsRequest { params, ..Default::default() }),
            Self::Resources => {
                ClientRequest::ListResourcesRequest(ListResourcesRequest { params, ..Default::default() })
            }
            Self::Templates => ClientRequest::ListResourceTemplatesRequest(ListResourceTemplatesRequest {
                params,
                ..Default::default()
            }),
        }
    }
}
