//! One live connection, from its handshake to its end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rmcp::model::{ProtocolVersion, SubscriptionFilter};
use rmcp::service::{
    ClientInitializeError, ClientLifecycleMode, Peer, RoleClient, ServiceError, serve_client_with_lifecycle_and_ct,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::calls::{Calls, Handler};
use crate::catalogue::Shelf;
use crate::config::{ServerConfig, Transport};
use crate::error::{ClientError, ErrorKind};
use crate::http;
use crate::stdio::{Pipe, Process};
use crate::wire::Wire;

/// How long the end of a process is waited for, to be able to say how it ended.
pub(crate) const OBITUARY_PATIENCE: Duration = Duration::from_millis(300);

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
                    let (pipe, child) =
                        Pipe::spawn(config, &wire).map_err(|m| fail(ErrorKind::Unavailable, m, false))?;
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
            Ok(Ok(Err(error))) => {
                let (kind, why, worth_another) = refused(&error);
                let fate = match &process {
                    Some(process) if hung_up(&error) => wire.fault().or(process.obituary(OBITUARY_PATIENCE).await),
                    _ => None,
                };
                let why = fate.map_or(why, |fate| format!("it {fate}"));
                return Err(fail(kind, format!("did not start: {why}"), worth_another));
            }
            Ok(Err(refusal)) => return Err(refusal),
            Err(_) => {
                let limit = config.limits.start;
                let words = process.as_ref().map(Process::last_words).filter(|words| !words.is_empty());
                let words = words.map(|words| format!("; its last words: {words}")).unwrap_or_default();
                let message = format!("did not start: no answer to the handshake within {limit:?}{words}");
                return Err(fail(ErrorKind::Unavailable, message, false));
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
        let announces = self
            .peer
            .peer_info()
            .is_some_and(|info| info.capabilities.tools.as_ref().is_some_and(|tools| tools.list_changed == Some(true)));
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

    pub(crate) fn error(&self, kind: ErrorKind, message: &str) -> ClientError {
        ClientError::new(&self.config.name, kind, self.config.redact(message))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Whether the handshake failed because the other side went away, and not by what it said.
fn hung_up(error: &ClientInitializeError) -> bool {
    matches!(error, ClientInitializeError::ConnectionClosed(_) | ClientInitializeError::TransportError { .. })
}

/// What a failed handshake means: its kind, an account for people, and whether another kind of handshake may do better.
fn refused(error: &ClientInitializeError) -> (ErrorKind, String, bool) {
    match error {
        ClientInitializeError::TransportError { error, .. } => match http::error_in(error) {
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
