//! One live connection, from its handshake to its end.

use std::convert::Infallible;
use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use rmcp::model::{ClientCapabilities, ProtocolVersion, ServerCapabilities, SubscriptionFilter};
use rmcp::service::{
    ClientInitializeError, ClientLifecycleMode, Peer, RoleClient, ServiceError, serve_client_with_lifecycle_and_ct,
};
use rmcp::transport::worker::WorkerTransport;
use tokio::sync::{OnceCell, broadcast};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::back::{Pass, Passes};
use crate::calls::Calls;
use crate::catalogue::{Catalogue, Shelf};
use crate::change::{Change, change};
use crate::config::{Limits, ServerConfig, Transport};
use crate::error::{ClientError, ErrorKind};
use crate::forward::LogLevel;
use crate::handler::Handler;
use crate::heard::Heard;
use crate::http;
use crate::stdio::{Pipe, Process, is_modern};
use crate::wire::Wire;

/// How long the end of a process is waited for, to be able to say how it ended.
pub(crate) const OBITUARY_PATIENCE: Duration = Duration::from_millis(300);
/// A start that takes longer is told about.
const LONG_START: Duration = Duration::from_secs(5);

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
    pub(crate) peer: Peer<RoleClient>,
    pub(crate) wire: Arc<Wire>,
    pub(crate) process: Option<Process>,
    stop: CancellationToken,
    closed: CancellationToken,
    served: AtomicBool,
    /// By which its process comes back in.
    _pass: Option<Arc<Pass>>,
    pub(crate) logs: LogLevel,
    /// Its tools have been listed.
    pub(crate) listed: OnceCell<Arc<Catalogue>>,
}

/// How a server is greeted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// In the way of both eras, to find out which one it is.
    Inquire,
    /// As a modern server.
    Discover,
    /// As an old one.
    Initialize,
}

/// Why a connection could not be opened.
struct Refusal {
    error: ClientError,
    /// Another way of opening it may work.
    instead: Option<Way>,
}

impl Connection {
    /// Opens a connection, in the way that worked last time or else in the way that suits every era.
    ///
    /// Boxed: else each crate that awaits this would have a copy of all of rmcp to compile.
    pub(crate) fn open<'a>(
        config: &'a Arc<ServerConfig>,
        memory: &'a EraMemory,
        passes: &'a Passes,
        run: Option<&'a Arc<str>>,
        offer: Option<&'a Arc<ClientCapabilities>>,
        changes: &'a broadcast::Sender<Change>,
    ) -> BoxFuture<'a, Result<Self, ClientError>> {
        async move {
            let deadline = Instant::now() + config.limits.longest_start;
            let way = match memory.get() {
                None => Way::Inquire,
                Some(Era::Modern) => Way::Discover,
                Some(Era::Legacy) => Way::Initialize,
            };
            let attempt = |way| Self::attempt(config, passes, run, offer, changes, way, deadline);
            let connection = match attempt(way).await {
                Err(Refusal { instead: Some(way), error }) => {
                    tracing::debug!(%error, ?way, "trying to connect in another way");
                    attempt(way).await
                }
                result => result,
            }
            .map_err(|refusal| refusal.error)?;
            memory.set(connection.era);
            Ok(connection)
        }
        .boxed()
    }

    async fn attempt(
        config: &Arc<ServerConfig>,
        passes: &Passes,
        run: Option<&Arc<str>>,
        offer: Option<&Arc<ClientCapabilities>>,
        changes: &broadcast::Sender<Change>,
        way: Way,
        deadline: Instant,
    ) -> Result<Self, Refusal> {
        let (calls, closed) = (Arc::new(Calls::new(changes.clone())), CancellationToken::new());
        let (config, pass) = passes.issue(config, &calls, run.cloned(), &closed);
        let config = &config;
        let fail = |kind, message: String, instead| Refusal {
            error: ClientError::new(&config.name, kind, config.redact(&message)),
            instead,
        };
        let impossible = |message| fail(ErrorKind::Unavailable, message, None);
        let wire = Arc::new(Wire::default());
        let handler = Handler { config: Arc::clone(config), offer: offer.cloned(), calls: Arc::clone(&calls) };
        let stop = CancellationToken::new();
        let mut process = None;
        let opening = match &config.transport {
            Transport::Stdio { .. } => {
                let (pipe, child) = Pipe::spawn(config, &wire, way == Way::Inquire).map_err(impossible)?;
                process = Some(child);
                // Where there is something to find out, the pipe does it.
                let mode = if way == Way::Discover { discover() } else { ClientLifecycleMode::Initialize };
                serve_client_with_lifecycle_and_ct(handler, Heard::new(pipe, config, &calls), mode, stop.clone())
                    .boxed()
            }
            Transport::Http { url, headers, auth } => {
                let http = http::transport(config, url, headers, auth.clone(), &wire).map_err(impossible)?;
                let http = WorkerTransport::spawn(http);
                let mode = match way {
                    Way::Inquire => inquire(),
                    Way::Discover => discover(),
                    Way::Initialize => ClientLifecycleMode::Initialize,
                };
                serve_client_with_lifecycle_and_ct(handler, Heard::new(http, config, &calls), mode, stop.clone())
                    .boxed()
            }
        };
        let running = match patiently(opening, config, process.as_ref(), deadline).await {
            Ok(Ok(running)) => running,
            Ok(Err(error)) => {
                let (kind, why) = refused(&error, config);
                let fate = match &process {
                    Some(process) if hung_up(&error) => wire.fault().or(process.obituary(OBITUARY_PATIENCE).await),
                    _ => None,
                };
                let why = fate.map_or(why, |fate| format!("it {fate}"));
                return Err(fail(kind, format!("did not start: {why}"), instead(way, &error, config)));
            }
            Err(limit) => {
                let words = process.as_ref().map(Process::last_words).filter(|words| !words.is_empty());
                let words = words.map(|words| format!("; its last words: {words}")).unwrap_or_default();
                return Err(impossible(format!("did not start: no answer to the handshake within {limit:?}{words}")));
            }
        };
        let peer = running.peer().clone();
        let version = peer.peer_info().map(|info| info.protocol_version.clone());
        let era = match &version {
            Some(version) if !version.has_initialize() => Era::Modern,
            _ => Era::Legacy,
        };
        tracing::debug!(server = %config.name, ?version, "connected");
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
            _pass: pass,
            logs: LogLevel::default(),
            listed: OnceCell::new(),
        };
        connection.watch();
        Ok(connection)
    }

    /// A modern server tells of changes only to those who listen.
    fn watch(&self) {
        let capabilities = self.capabilities();
        let mut filter = SubscriptionFilter::default();
        let announces = |listed: Option<bool>| (listed == Some(true)).then_some(true);
        filter.tools_list_changed = capabilities.tools.and_then(|tools| announces(tools.list_changed));
        filter.prompts_list_changed = capabilities.prompts.and_then(|prompts| announces(prompts.list_changed));
        filter.resources_list_changed = capabilities.resources.and_then(|resources| announces(resources.list_changed));
        if self.era == Era::Modern && filter != SubscriptionFilter::default() {
            let listening = self.listening();
            tokio::spawn(async move {
                if let Err(error) = listening.start(filter).await {
                    tracing::debug!(%error, "it does not tell of changes");
                }
            });
        }
    }

    /// For subscriptions that last as long as the connection does.
    pub(crate) fn listening(&self) -> Listening {
        Listening { peer: self.peer.clone(), calls: Arc::clone(&self.calls), closed: self.closed.clone() }
    }

    /// What the server says that it can.
    pub(crate) fn capabilities(&self) -> ServerCapabilities {
        self.peer.peer_info().map(|info| info.capabilities.clone()).unwrap_or_default()
    }

    /// Whether requests can be made on it.
    pub(crate) fn is_open(&self) -> bool {
        !self.closed.is_cancelled() && !self.peer.is_transport_closed()
    }

    /// Whether a tool may want some of its arguments in headers as well. rmcp puts them there once it has seen the list.
    pub(crate) fn mirrors_arguments(&self) -> bool {
        self.era == Era::Modern && matches!(self.config.transport, Transport::Http { .. })
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

    pub(crate) fn error(&self, kind: ErrorKind, message: &str) -> ClientError {
        ClientError::new(&self.config.name, kind, self.config.redact(message))
    }
}

/// What it takes to hear of changes.
pub(crate) struct Listening {
    peer: Peer<RoleClient>,
    calls: Arc<Calls>,
    closed: CancellationToken,
}

impl Listening {
    /// Returns once the server has agreed. The task goes on until the connection ends, or it is aborted.
    pub(crate) async fn start(self, filter: SubscriptionFilter) -> Result<AbortHandle, ServiceError> {
        let Self { peer, calls, closed } = self;
        let mut changes = peer.listen(filter).await?;
        let hearing = tokio::spawn(async move {
            let hearing = async {
                while let Some(notification) = changes.next().await? {
                    if let Some(change) = change(notification) {
                        calls.changed(change);
                    }
                }
                Ok::<_, ServiceError>(())
            };
            tokio::select! {
                result = hearing => tracing::debug!(?result, "no longer listening for changes"),
                () = closed.cancelled() => {}
            }
        });
        Ok(hearing.abort_handle())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn discover() -> ClientLifecycleMode {
    ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] }
}

fn inquire() -> ClientLifecycleMode {
    ClientLifecycleMode::Auto {
        preferred_versions: vec![ProtocolVersion::V_2026_07_28],
        legacy_version: Some(ProtocolVersion::V_2025_11_25),
    }
}

/// Waits for a server to start: not for long while it is silent, longer while it says what it is busy with.
///
/// # Errors
/// The limit that was exceeded.
async fn patiently<T>(
    opening: BoxFuture<'_, T>,
    config: &ServerConfig,
    process: Option<&Process>,
    deadline: Instant,
) -> Result<T, Duration> {
    let Limits { start, longest_start, .. } = config.limits;
    let begun = Instant::now();
    let heard = || process.map_or(begun, Process::last_heard);
    let silence = async {
        while heard() + start > Instant::now() {
            sleep_until(heard() + start).await;
        }
    };
    let telling = async {
        sleep_until(begun + LONG_START).await;
        tracing::info!(server = %config.name, "is still starting");
        pending::<Infallible>().await
    };
    tokio::select! {
        opened = opening => Ok(opened),
        () = silence => Err(start),
        () = sleep_until(deadline) => Err(longest_start),
        never = telling => match never {},
    }
}

/// Whether the handshake failed because the other side went away, and not by what it said.
fn hung_up(error: &ClientInitializeError) -> bool {
    matches!(error, ClientInitializeError::ConnectionClosed(_) | ClientInitializeError::TransportError { .. })
}

/// How else to greet a server that one way of greeting has not reached.
fn instead(way: Way, error: &ClientInitializeError, config: &ServerConfig) -> Option<Way> {
    match error {
        // Wrong credentials are wrong in every way.
        ClientInitializeError::TransportError { error, .. }
            if http::error_in(error).is_some_and(|error| !http::explain(error, config).1) =>
        {
            None
        }
        // It was asked in both ways.
        ClientInitializeError::LegacyFallbackFailed { .. } => None,
        // Over HTTP, rmcp does not wait long for a modern answer.
        ClientInitializeError::JsonRpcError(error) if way == Way::Inquire => {
            is_modern(error.code).then_some(Way::Discover)
        }
        // It may have stumbled over a question that it does not know.
        _ if way == Way::Inquire => Some(Way::Initialize),
        // It may have changed since.
        _ => Some(Way::Inquire),
    }
}

/// What a failed handshake means: its kind, and an account for people.
fn refused(error: &ClientInitializeError, config: &ServerConfig) -> (ErrorKind, String) {
    match error {
        ClientInitializeError::TransportError { error, .. } => match http::error_in(error) {
            Some(error) => {
                let (kind, _, message) = http::explain(error, config);
                (kind, format!("it {message}"))
            }
            None => (ErrorKind::Unavailable, error.to_string()),
        },
        ClientInitializeError::JsonRpcError(error) => (
            ErrorKind::Unavailable,
            format!("it answered the handshake with error {}: {}", error.code.0, error.message),
        ),
        ClientInitializeError::LegacyFallbackFailed { fallback, .. } => refused(fallback, config),
        error => (ErrorKind::Unavailable, error.to_string()),
    }
}
