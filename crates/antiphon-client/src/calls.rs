//! Calls in flight, and what a server sends about them.
#![expect(deprecated, reason = "MCP deprecates sampling, and servers use it")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rmcp::ClientHandler;
use rmcp::model::{
    ClientCapabilities, ClientConfig, CreateMessageRequestParams, CreateMessageResult, CustomRequest, CustomResult,
    ElicitRequestParams, ElicitResult, ElicitationCapability, ErrorCode, ErrorData, FormElicitationCapability,
    Implementation, JsonObject, ProgressNotificationParam, ProgressToken, ProtocolVersion, RequestId,
    SamplingCapability, UrlElicitationCapability,
};
use rmcp::service::{InboundStreamOrigin, NotificationContext, RequestContext, RoleClient};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use crate::call::{CREATE_MESSAGE, ELICIT, Progress};
use crate::config::ServerConfig;
use crate::wire::number;

/// As clients spell "the user said no".
const REFUSED: i32 = -1;

/// The calls in flight on one connection.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    in_flight: Mutex<BTreeMap<i64, InFlight>>,
    tools_changed: AtomicU64,
}

#[derive(Debug)]
struct InFlight {
    token: ProgressToken,
    run: Option<Arc<str>>,
    events: mpsc::UnboundedSender<CallEvent>,
}

/// What reaches a call before its answer.
#[derive(Debug)]
pub(crate) enum CallEvent {
    /// It gets on.
    Progress(Progress),
    /// It asks.
    Ask {
        /// `elicitation/create` or `sampling/createMessage`.
        method: &'static str,
        params: Value,
        /// Takes its result, or why there is none.
        reply: oneshot::Sender<Result<Value, String>>,
    },
}

/// A call's place among those in flight; it leaves when this is dropped.
pub(crate) struct Entry {
    calls: Arc<Calls>,
    id: i64,
    /// What reaches it.
    pub(crate) events: mpsc::UnboundedReceiver<CallEvent>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.calls.in_flight().remove(&self.id);
    }
}

impl Calls {
    /// A call has been sent.
    pub(crate) fn enter(self: &Arc<Self>, id: &RequestId, token: &ProgressToken, run: Option<Arc<str>>) -> Entry {
        let (sender, events) = mpsc::unbounded_channel();
        let id = number(id).unwrap_or_default();
        self.in_flight().insert(id, InFlight { token: token.clone(), run, events: sender });
        Entry { calls: Arc::clone(self), id, events }
    }

    /// Changes whenever the server says that its tools have.
    pub(crate) fn tools_generation(&self) -> u64 {
        self.tools_changed.load(Ordering::Acquire)
    }

    /// The server says that its tools have changed.
    pub(crate) fn tools_changed(&self) {
        self.tools_changed.fetch_add(1, Ordering::AcqRel);
    }

    fn in_flight(&self) -> MutexGuard<'_, BTreeMap<i64, InFlight>> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn progress(&self, progress: ProgressNotificationParam) {
        let in_flight = self.in_flight();
        if let Some(call) = in_flight.values().find(|call| call.token == progress.progress_token) {
            let ProgressNotificationParam { progress, total, message, .. } = progress;
            // The call may have ended just now.
            let _ = call.events.send(CallEvent::Progress(Progress { progress, total, message }));
        }
    }

    /// Puts a pushed request to the call that it belongs to.
    ///
    /// Over HTTP the stream that it came on tells which. A pipe does not, but if all calls on it are of one run, then the
    /// oldest will do: who answers is the same.
    async fn ask(
        &self,
        origin: Option<&InboundStreamOrigin>,
        method: &'static str,
        params: Value,
    ) -> Result<Value, ErrorData> {
        let answer = {
            let in_flight = self.in_flight();
            let call = match origin {
                Some(InboundStreamOrigin::OutboundRequest(id)) => number(id).and_then(|id| in_flight.get(&id)),
                Some(InboundStreamOrigin::Unassociated) | None => {
                    let mut calls = in_flight.values();
                    calls.next().filter(|first| calls.all(|other| other.run == first.run))
                }
            };
            let Some(call) = call else {
                return Err(ErrorData::invalid_request(
                    "this question belongs to no call: ask while handling one, on a connection that serves one run",
                    None,
                ));
            };
            let (reply, answer) = oneshot::channel();
            let _ = call.events.send(CallEvent::Ask { method, params, reply });
            answer
        };
        match answer.await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(why)) => Err(ErrorData::new(ErrorCode(REFUSED), why, None)),
            Err(_) => Err(ErrorData::new(ErrorCode(REFUSED), "the call ended before the answer came", None)),
        }
    }
}

/// Our side of a connection.
pub(crate) struct Handler {
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) calls: Arc<Calls>,
}

impl Handler {
    async fn ask(
        &self,
        context: &RequestContext<RoleClient>,
        method: &'static str,
        mut params: Value,
    ) -> Result<Value, ErrorData> {
        let granted = if method == ELICIT { self.config.elicitation.granted() } else { self.config.sampling };
        if !granted {
            tracing::warn!(server = %self.config.name, "asked by `{method}` without being granted it; refused");
            let why = format!("{method}: this client does not grant it to you");
            return Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, why, None));
        }
        self.config.redact_all(&mut params);
        self.calls.ask(context.extensions.get(), method, params).await
    }
}

impl ClientHandler for Handler {
    fn get_info(&self) -> ClientConfig {
        let mut capabilities = ClientCapabilities::builder().enable_tasks().build();
        capabilities.elicitation = self.config.elicitation.granted().then(|| {
            ElicitationCapability::new()
                .with_form(FormElicitationCapability::new())
                .with_url(UrlElicitationCapability::new())
        });
        capabilities.sampling = self.config.sampling.then(|| {
            let mut sampling = SamplingCapability::default();
            sampling.tools = Some(JsonObject::new());
            sampling
        });
        let mut info = ClientConfig::new(capabilities, Implementation::new("antiphon", env!("CARGO_PKG_VERSION")));
        // What `initialize` says. Left alone, rmcp would name a version there that has no `initialize`.
        info.protocol_version = ProtocolVersion::V_2025_11_25;
        info
    }

    async fn create_elicitation(
        &self,
        request: ElicitRequestParams,
        context: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        let params = serde_json::to_value(request).map_err(unexpected)?;
        serde_json::from_value(self.ask(&context, ELICIT, params).await?).map_err(unexpected)
    }

    async fn create_message(
        &self,
        request: CreateMessageRequestParams,
        context: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        let params = serde_json::to_value(request).map_err(unexpected)?;
        serde_json::from_value(self.ask(&context, CREATE_MESSAGE, params).await?).map_err(unexpected)
    }

    /// What rmcp can't read arrives here, such as a question with a schema that it does not know; people may understand it all
    /// the same.
    async fn on_custom_request(
        &self,
        request: CustomRequest,
        context: RequestContext<RoleClient>,
    ) -> Result<CustomResult, ErrorData> {
        let method = match request.method.as_str() {
            ELICIT => ELICIT,
            CREATE_MESSAGE => CREATE_MESSAGE,
            _ => return Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, request.method, None)),
        };
        self.ask(&context, method, request.params.unwrap_or_default()).await.map(CustomResult::new)
    }

    async fn on_progress(&self, mut params: ProgressNotificationParam, _context: NotificationContext<RoleClient>) {
        params.message = params.message.map(|message| self.config.redact(&message).into_owned());
        self.calls.progress(params);
    }

    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.calls.tools_changed();
    }
}

fn unexpected(error: serde_json::Error) -> ErrorData {
    ErrorData::internal_error(error.to_string(), None)
}
