//! Calls in flight, and what a server sends about them.
#![expect(deprecated, reason = "MCP deprecates sampling, and servers use it")]

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
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
use tokio::sync::{Notify, mpsc};

use crate::call::{Answering, CREATE_MESSAGE, CallContext, ELICIT, Progress, Refused};
use crate::config::ServerConfig;
use crate::wire::number;

/// As clients spell "the user said no".
const REFUSED: i32 = -1;

/// The calls in flight on one connection.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    in_flight: Mutex<BTreeMap<i64, InFlight>>,
    tools_changed: AtomicU64,
    /// How many tasks have been attended to.
    tasks: AtomicI64,
}

#[derive(Debug)]
struct InFlight {
    token: Option<ProgressToken>,
    run: Option<Arc<str>>,
    progress: mpsc::UnboundedSender<Progress>,
    serving: Serving,
}

/// A call in flight, as its server may ask on its behalf.
#[derive(Clone)]
pub(crate) struct Serving {
    key: Option<Arc<str>>,
    ask: Arc<dyn Fn(String, Value) -> Answering + Send + Sync>,
    asking: Arc<Asking>,
}

/// What a call has asked.
#[derive(Debug, Default)]
struct Asking {
    /// Ever.
    asked: AtomicUsize,
    /// And has no answer to yet.
    open: AtomicUsize,
    turned: Notify,
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving").field("key", &self.key).field("asking", &self.asking).finish_non_exhaustive()
    }
}

impl Serving {
    pub(crate) fn of(cx: &CallContext) -> Self {
        Self { key: cx.key.clone(), ask: Arc::clone(&cx.ask), asking: Arc::default() }
    }

    /// Asks something, and waits for the answer.
    pub(crate) async fn ask(&self, method: &'static str, params: Value) -> Result<Value, Refused> {
        struct Open<'a>(&'a Asking);
        impl Drop for Open<'_> {
            fn drop(&mut self) {
                self.0.open.fetch_sub(1, Ordering::AcqRel);
                self.0.turned.notify_one();
            }
        }
        let number = self.asking.asked.fetch_add(1, Ordering::AcqRel) + 1;
        self.asking.open.fetch_add(1, Ordering::AcqRel);
        self.asking.turned.notify_one();
        let _open = Open(&self.asking);
        (self.ask)(format!("ask-{number}"), serde_json::json!({ "method": method, "params": params })).await
    }

    /// Whether it waits for an answer.
    pub(crate) fn asks(&self) -> bool {
        self.asking.open.load(Ordering::Acquire) > 0
    }

    /// Returns when it has asked, or was answered.
    pub(crate) async fn turned(&self) {
        self.asking.turned.notified().await;
    }
}

/// A call's place among those in flight; it leaves when this is dropped.
pub(crate) struct Entry {
    calls: Arc<Calls>,
    id: i64,
    /// How it gets on.
    pub(crate) progress: mpsc::UnboundedReceiver<Progress>,
    pub(crate) serving: Serving,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.calls.in_flight().remove(&self.id);
    }
}

impl Calls {
    /// A call has been sent.
    pub(crate) fn enter(self: &Arc<Self>, id: &RequestId, token: &ProgressToken, cx: &CallContext) -> Entry {
        self.join(number(id).unwrap_or_default(), Some(token.clone()), cx.run.clone(), Serving::of(cx))
    }

    /// A call has become a task, which is worked on between the polls, too.
    pub(crate) fn attend(self: &Arc<Self>, cx: &CallContext, serving: &Serving) -> Entry {
        self.join(-1 - self.tasks.fetch_add(1, Ordering::AcqRel), None, cx.run.clone(), serving.clone())
    }

    fn join(self: &Arc<Self>, id: i64, token: Option<ProgressToken>, run: Option<Arc<str>>, serving: Serving) -> Entry {
        let (sender, progress) = mpsc::unbounded_channel();
        let call = InFlight { token, run, progress: sender, serving: serving.clone() };
        self.in_flight().insert(id, call);
        Entry { calls: Arc::clone(self), id, progress, serving }
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
        if let Some(call) = in_flight.values().find(|call| call.token.as_ref() == Some(&progress.progress_token)) {
            let ProgressNotificationParam { progress, total, message, .. } = progress;
            // The call may have ended just now.
            let _ = call.progress.send(Progress { progress, total, message });
        }
    }

    /// The call that a process speaks for that was let back in: the one with this key, or the only one.
    ///
    /// # Errors
    /// Which one that would be, nobody can say.
    pub(crate) fn served(&self, key: Option<&str>) -> Result<Serving, String> {
        let in_flight = self.in_flight();
        let mut calls = in_flight.values().map(|call| &call.serving).filter(|serving| serving.key.is_some());
        let found = match key {
            Some(key) => calls.find(|serving| serving.key.as_deref() == Some(key)),
            None => {
                let first = calls.next();
                if first.is_some_and(|first| calls.any(|other| other.key != first.key)) {
                    return Err("several calls are under way on this connection, and nobody can say which of them this is \
                                for: use TOKEN/KEY for the token, where KEY is `antiphon/idempotency-key` of the call's \
                                `_meta`; or let this server serve one call at a time (`concurrency = 1`, \
                                `session = \"per_run\"`)"
                        .to_owned());
                }
                first
            }
        };
        found.cloned().ok_or_else(|| match key {
            Some(_) => "the call that this is for is not under way here, or not any more".to_owned(),
            None => "no call is under way on this connection: ask while serving one".to_owned(),
        })
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
        let call = {
            let in_flight = self.in_flight();
            let call = match origin {
                Some(InboundStreamOrigin::OutboundRequest(id)) => number(id).and_then(|id| in_flight.get(&id)),
                Some(InboundStreamOrigin::Unassociated) | None => {
                    let mut calls = in_flight.values();
                    calls.next().filter(|first| calls.all(|other| other.run == first.run))
                }
            };
            call.map(|call| call.serving.clone())
        };
        let Some(call) = call else {
            return Err(ErrorData::invalid_request(
                "this question belongs to no call: ask while handling one, on a connection that serves one run",
                None,
            ));
        };
        call.ask(method, params).await.map_err(|refused| ErrorData::new(ErrorCode(REFUSED), refused.message, None))
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
