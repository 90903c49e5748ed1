//! One live connection: the handshake, and one request at a time on it.

use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use rmcp::model::{ClientRequest, ProtocolVersion, RequestMetaObject, ServerResult, SubscriptionFilter};
use rmcp::service::{
    ClientInitializeError, ClientLifecycleMode, Peer, PeerRequestOptions, RequestHandle, RoleClient, ServiceError,
    serve_client_with_lifecycle_and_ct,
};
use rmcp::transport::DynamicTransportError;
use rmcp::transport::streamable_http_client::StreamableHttpError;
use serde_json::{Map, Value};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::call::CallContext;
use crate::calls::{CallEvent, Calls, Handler};
use crate::catalogue::Shelf;
use crate::config::{ServerConfig, Transport};
use crate::error::{ClientError, ErrorKind};
use crate::http;
use crate::stdio::{Pipe, Process};
use crate::wire::{Fate, Wire};

/// A call that has no deadline of its own ends after this, however often it reports progress.
const LONGEST_CALL: Duration = Duration::from_secs(24 * 3600);
/// How long telling the other side that a call is not wanted any more may take.
const CANCEL_PATIENCE: Duration = Duration::from_secs(5);
/// How long the end of a process is waited for, to be able to say how it ended.
const OBITUARY_PATIENCE: Duration = Duration::from_millis(300);

/// How a server wants to be spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// `initialize` first, requests both ways (up to 2025-11-25).
    Legacy,
    /// Every request stands alone (from 2026-07-28).
    Modern,
}

/// What was learned about a server's era; shared by its connections.
#[derive(Debug, Default)]
pub(crate) struct EraMemory(Mutex<Option<Era>>);

impl EraMemory {
    pub(crate) fn get(&self) -> Option<Era> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, era: Era) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(era);
    }
}

/// A connection that has been through its handshake.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) era: Era,
    pub(crate) tools: Shelf,
    pub(crate) calls: Arc<Calls>,
    peer: Peer<RoleClient>,
    wire: Arc<Wire>,
    process: Option<Process>,
    stop: CancellationToken,
    closed: CancellationToken,
    served: AtomicBool,
}

/// Why a connection could not be opened.
struct Refusal {
    error: ClientError,
    /// Another way of opening it may work.
    worth_another: bool,
}

impl Connection {
    /// Opens a connection, in the way that worked last time or else in the way that suits every era.
    pub(crate) async fn open(config: &Arc<ServerConfig>, memory: &EraMemory) -> Result<Self, ClientError> {
        let deadline = Instant::now() + config.limits.start;
        let discover = || ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
        let auto = || ClientLifecycleMode::Auto {
            preferred_versions: vec![ProtocolVersion::V_2026_07_28],
            legacy_version: Some(ProtocolVersion::V_2025_11_25),
        };
        // The second is for servers that have changed since, or that an unknown method throws off balance.
        let [first, second] = match memory.get() {
            None => [auto(), ClientLifecycleMode::Initialize],
            Some(Era::Modern) => [discover(), auto()],
            Some(Era::Legacy) => [ClientLifecycleMode::Initialize, auto()],
        };
        let connection = match Self::attempt(config, first, deadline).await {
            Err(Refusal { worth_another: true, error }) => {
                tracing::debug!(%error, "trying to connect in another way");
                Self::attempt(config, second, deadline).await
            }
            result => result,
        }
        .map_err(|refusal| refusal.error)?;
        memory.set(connection.era);
        Ok(connection)
    }

    async fn attempt(
        config: &Arc<ServerConfig>,
        mode: ClientLifecycleMode,
        deadline: Instant,
    ) -> Result<Self, Refusal> {
        let fail = |kind, message: String, worth_another| Refusal {
            error: ClientError::new(&config.name, kind, config.redact(&message)),
            worth_another,
        };
        let wire = Arc::new(Wire::default());
        let calls = Arc::new(Calls::default());
        let handler = Handler { config: Arc::clone(config), calls: Arc::clone(&calls) };
        let stop = CancellationToken::new();
        let mut process = None;
        let opening = async {
            match &config.transport {
                Transport::Stdio { .. } => {
                    let (pipe, child) = Pipe::spawn(config, &wire).map_err(|m| fail(ErrorKind::Unavailable, m, false))?;
                    process = Some(child);
                    Ok(serve_client_with_lifecycle_and_ct(handler, pipe, mode, stop.clone()).await)
                }
                Transport::Http { url, headers } => {
                    let http = http::transport(config, url, headers, &wire)
                        .map_err(|message| fail(ErrorKind::Unavailable, message, false))?;
                    Ok(serve_client_with_lifecycle_and_ct(handler, http, mode, stop.clone()).await)
                }
            }
        };
        let opened = tokio::time::timeout_at(deadline, opening).await;
        let running = match opened {
            Ok(Ok(Ok(running))) => running,
            Ok(Err(refusal)) => return Err(refusal),
            Err(_) => {
                let limit = config.limits.start;
                let words = process.as_ref().map(Process::last_words).filter(|words| !words.is_empty());
                let words = words.map(|words| format!("; its last words: {words}")).unwrap_or_default();
                let message = format!("did not start: no answer to the handshake within {limit:?}{words}");
                return Err(fail(ErrorKind::Unavailable, message, false));
            }
            Ok(Ok(Err(error))) => {
                let (kind, why, worth_another) = refused(&error);
                let obituary = match &process {
                    Some(process) => process.obituary(OBITUARY_PATIENCE).await,
                    None => None,
                };
                let why = match (obituary, wire.fault()) {
                    (Some(obituary), _) => format!("it {obituary}"),
                    (None, Some(fault)) => format!("it {fault}"),
                    (None, None) => why,
                };
                return Err(fail(kind, format!("did not start: {why}"), worth_another));
            }
        };
        let peer = running.peer().clone();
        let version = peer.peer_info().map(|info| info.protocol_version.clone());
        let era = match &version {
            Some(version) if !version.has_initialize() => Era::Modern,
            _ => Era::Legacy,
        };
        tracing::debug!(server = %config.name, ?version, "connected");
        let closed = CancellationToken::new();
        let gone = closed.clone();
        tokio::spawn(async move {
            let _ = running.waiting().await;
            gone.cancel();
        });
        let connection = Self {
            config: Arc::clone(config),
            era,
            tools: Shelf::default(),
            calls,
            peer,
            wire,
            process,
            stop,
            closed,
            served: AtomicBool::new(false),
        };
        connection.watch_tools();
        Ok(connection)
    }

    /// A modern server tells of changes only to those who listen.
    fn watch_tools(&self) {
        let announces = self.peer.peer_info().is_some_and(|info| {
            info.capabilities.tools.as_ref().is_some_and(|tools| tools.list_changed == Some(true))
        });
        if self.era != Era::Modern || !announces {
            return;
        }
        let (peer, calls, closed) = (self.peer.clone(), Arc::clone(&self.calls), self.closed.clone());
        tokio::spawn(async move {
            let listening = async {
                let filter = SubscriptionFilter::builder().tools_list_changed().build();
                let mut changes = peer.listen(filter).await?;
                while changes.next().await?.is_some() {
                    calls.tools_changed();
                }
                Ok::<_, ServiceError>(())
            };
            tokio::select! {
                result = listening => tracing::debug!(?result, "no longer listening for changes of tools"),
                () = closed.cancelled() => {}
            }
        });
    }

    /// Whether requests can be made on it.
    pub(crate) fn is_open(&self) -> bool {
        !self.closed.is_cancelled() && !self.peer.is_transport_closed()
    }

    /// It has answered a call.
    pub(crate) fn served(&self) {
        self.served.store(true, Ordering::Relaxed);
    }

    /// Whether it has ever answered a call.
    pub(crate) fn has_served(&self) -> bool {
        self.served.load(Ordering::Relaxed)
    }

    /// Ends it, and its process.
    pub(crate) async fn close(&self) {
        self.stop.cancel();
        self.closed.cancelled().await;
        if let Some(process) = &self.process {
            process.stop.cancel();
            process.obituary(Duration::from_secs(10)).await;
        }
    }

    /// Makes one request and waits for its result, for as long as the server is not silent.
    ///
    /// # Errors
    /// With the exact word on whether the server may have acted on it.
    pub(crate) async fn request(
        &self,
        request: ClientRequest,
        meta: Map<String, Value>,
        cx: &CallContext,
    ) -> Result<Value, ClientError> {
        let mut options = PeerRequestOptions::no_options();
        if !meta.is_empty() {
            let mut object = RequestMetaObject::new();
            object.0.0 = meta;
            options = options.with_meta(object);
        }
        let Ok(handle) = self.peer.send_request_with_option(request, options).await else {
            return Err(self.lost(Fate::NeverSent).await);
        };
        let mut entry = self.calls.enter(&handle.id, &handle.progress_token, cx.run.clone());
        let mut pending_call = PendingCall { handle: Some(handle) };
        let silence = sleep(self.config.timeout);
        let deadline = sleep_until(cx.deadline.unwrap_or_else(|| Instant::now() + LONGEST_CALL));
        tokio::pin!(silence, deadline);
        let mut questions = FuturesUnordered::new();
        let mut asked = 0_usize;
        let end = loop {
            tokio::select! {
                biased;
                answer = pending_call.answer() => break End::Answered(answer),
                Some(event) = entry.events.recv() => match event {
                    CallEvent::Progress(progress) => (cx.progress)(progress),
                    CallEvent::Ask { params, reply } => {
                        asked += 1;
                        let request = serde_json::json!({ "method": "elicitation/create", "params": params });
                        let answer = (cx.ask)(format!("ask-{asked}"), request);
                        questions.push(async move {
                            let _ = reply.send(answer.await);
                        });
                    }
                },
                // People may take their time; the server's starts again with their answer.
                Some(()) = questions.next(), if !questions.is_empty() => {}
                () = cx.cancelled.cancelled() => break End::Cancelled,
                () = &mut deadline => break End::Late,
                () = &mut silence, if questions.is_empty() => break End::Silent,
            }
            silence.as_mut().reset(Instant::now() + self.config.timeout);
        };
        self.settle(end, pending_call).await
    }

    async fn settle(&self, end: End, mut call: PendingCall) -> Result<Value, ClientError> {
        let Some(id) = call.handle.as_ref().map(|handle| handle.id.clone()) else {
            return Err(self.lost(Fate::NeverSent).await);
        };
        let fate = self.wire.settle(&id);
        let error = match end {
            End::Answered(answer) => {
                call.handle = None;
                match (answer, fate) {
                    (Some(Ok(result)), _) => return self.value(result),
                    (_, Fate::Unreadable(why)) => self.error(ErrorKind::InvalidOutput, &why).in_doubt_if(true),
                    (Some(Err(ServiceError::McpError(error))), fate) => {
                        // rmcp answers in the server's stead when a session had to be made anew under a call.
                        let ours = error.message.starts_with("streamable HTTP session was re-initialized");
                        if ours {
                            return Err(self.lost(fate).await);
                        }
                        let message = format!("answered with error {}: {}", error.code.0, error.message);
                        self.error(ErrorKind::Rpc, &message)
                    }
                    (Some(Err(ServiceError::TransportSend(error))), fate) => match http_error(&error) {
                        Some(error) => {
                            let (kind, acted, message) = http::explain(error);
                            self.error(kind, &message).in_doubt_if(acted && fate == Fate::Sent)
                        }
                        None => self.lost(fate).await,
                    },
                    (_, fate) => self.lost(fate).await,
                }
            }
            End::Silent => {
                let message = format!("did not answer within {:?}", self.config.timeout);
                self.error(ErrorKind::Timeout, &message).in_doubt_if(fate != Fate::NeverSent)
            }
            End::Late => self
                .error(ErrorKind::Timeout, "did not answer before the call's deadline")
                .in_doubt_if(fate != Fate::NeverSent),
            End::Cancelled => self
                .error(ErrorKind::Cancelled, "was told that the call is not wanted any more")
                .in_doubt_if(fate != Fate::NeverSent),
        };
        Err(error)
    }

    fn value(&self, result: ServerResult) -> Result<Value, ClientError> {
        match result {
            ServerResult::CustomResult(result) => Ok(result.0),
            result => serde_json::to_value(result).map_err(|error| {
                self.error(ErrorKind::InvalidOutput, &format!("gave a result that can't be read: {error}"))
                    .in_doubt_if(true)
            }),
        }
    }

    /// The connection broke under a request.
    async fn lost(&self, fate: Fate) -> ClientError {
        let obituary = match &self.process {
            Some(process) => process.obituary(OBITUARY_PATIENCE).await,
            None => None,
        };
        let message = self.wire.fault().or(obituary).unwrap_or_else(|| "closed the connection".into());
        self.error(ErrorKind::Unavailable, &message).in_doubt_if(fate != Fate::NeverSent)
    }

    pub(crate) fn error(&self, kind: ErrorKind, message: &str) -> ClientError {
        ClientError::new(&self.config.name, kind, self.config.redact(message))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// How the wait for an answer ended.
enum End {
    Answered(Option<Result<ServerResult, ServiceError>>),
    Silent,
    Late,
    Cancelled,
}

/// A request that the other side is told to forget when nobody waits for its answer any more.
struct PendingCall {
    handle: Option<RequestHandle<RoleClient>>,
}

impl PendingCall {
    /// The answer; `None` if the connection went away.
    async fn answer(&mut self) -> Option<Result<ServerResult, ServiceError>> {
        match &mut self.handle {
            Some(handle) => (&mut handle.rx).await.ok(),
            None => pending().await,
        }
    }
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            // A server that reads nothing must not hold up whoever has lost patience with it.
            tokio::spawn(tokio::time::timeout(CANCEL_PATIENCE, async move {
                let _ = handle.cancel(Some("not wanted any more".into())).await;
            }));
        }
    }
}

fn http_error(error: &DynamicTransportError) -> Option<&StreamableHttpError<reqwest::Error>> {
    error.error.downcast_ref()
}

/// What a failed handshake means: its kind, an account for people, and whether another kind of handshake may do better.
fn refused(error: &ClientInitializeError) -> (ErrorKind, String, bool) {
    match error {
        ClientInitializeError::TransportError { error, .. } => match http_error(error) {
            Some(error) => {
                let (kind, acted, message) = http::explain(error);
                (kind, format!("it {message}"), acted)
            }
            None => (ErrorKind::Unavailable, error.to_string(), true),
        },
        ClientInitializeError::JsonRpcError(error) => (
            ErrorKind::Unavailable,
            format!("it answered the handshake with error {}: {}", error.code.0, error.message),
            true,
        ),
        ClientInitializeError::LegacyFallbackFailed { fallback, .. } => {
            let (kind, message, _) = refused(fallback);
            (kind, message, false)
        }
        error => (ErrorKind::Unavailable, error.to_string(), true),
    }
}
