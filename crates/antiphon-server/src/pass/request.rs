//! One request passed on, with all that happens until its answer: progress, log messages, questions, and the rounds that a
//! question takes where one side asks in another way than the other answers.
//!
//! | server | caller | a question |
//! |---|---|---|
//! | modern | modern | the server's rounds are the caller's; only `requestState` is sealed anew |
//! | modern | legacy | each request of a round is pushed to the caller, and the call is made again with the answers |
//! | legacy | legacy | what is pushed is pushed on |
//! | legacy | modern | the call is parked (`park.rs`), and goes on when the caller comes back with the answers |
//!
//! An error -32042 of a legacy server (people have to go to a URL first) is a round to a modern caller, which knows no such error.
#![expect(deprecated, reason = "MCP deprecates sampling, roots and logging, and servers use them")]

use std::collections::BTreeMap;
use std::sync::Arc;

use antiphon_client::{CallContext, Client, ClientError, Era, ErrorKind, OnBehalf, Progress, Refused, State};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use rmcp::ErrorData;
use rmcp::model::{
    CallToolRequest, CallToolRequestParams, CallToolResponse, ClientCapabilities, ClientRequest, CompleteRequest,
    CompleteRequestParams, CompleteResult, GetPromptRequest, GetPromptRequestParams, GetPromptResponse,
    InputRequiredResult, InputResponses, LoggingLevel, LoggingMessageNotificationParam, ProgressNotificationParam,
    ReadResourceRequest, ReadResourceRequestParams, ReadResourceResponse, Reference, RequestMetaObject, ServerResult,
};
use rmcp::service::{RequestContext, RoleServer};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::names::{Own, no_such};
use super::reply::{Complete, Said, refusal, said};
use super::{Pass, ask, reply, task};
use crate::caller::Caller;
use crate::server::Shared;

/// How many rounds a call may take with a caller that is pushed to.
const MAX_ROUNDS: usize = 10;

/// The `_meta` entry of a `tools/call` that another process has heard before this one.
const AGAIN: &str = "antiphon/again";

/// Keys of a caller's `_meta` that are about its own connection.
const OWN_KEYS: [&str; 4] =
    [AGAIN, "progressToken", "io.modelcontextprotocol/protocolVersion", "io.modelcontextprotocol/clientInfo"];

/// Where modern callers say what they can answer.
const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

/// A request to be passed on.
pub(crate) struct Passing<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) caller: &'a Caller,
    pub(crate) context: &'a RequestContext<RoleServer>,
    /// Whose answers a server can expect on one connection.
    pub(crate) session: Arc<str>,
    /// The log messages that a legacy caller has asked for.
    pub(crate) level: Option<LoggingLevel>,
}

/// What a caller carries from one round to the next.
#[derive(Debug, Serialize, Deserialize)]
enum Carried {
    /// The server's own state.
    State(String),
    /// Nothing but where its call is parked.
    Parked(String),
    /// Nothing: the server looks for itself whether what it wanted has happened.
    Anew,
}

/// A request that may take rounds.
#[derive(Clone)]
enum Asked {
    Tool(CallToolRequestParams),
    Prompt(GetPromptRequestParams),
    Resource(ReadResourceRequestParams),
}

/// A call under way.
pub(super) struct Calling {
    done: BoxFuture<'static, Result<ServerResult, ClientError>>,
    happenings: mpsc::UnboundedReceiver<Box<Happening>>,
    /// What the server has asked and nobody has answered.
    pub(super) open: BTreeMap<String, Question>,
    /// It goes on while its caller is away.
    parkable: bool,
    _cancel: Option<DropGuard>,
}

/// What a server asks for.
pub(super) struct Question {
    /// `method` and `params`.
    pub(super) request: Value,
    /// Takes the answer, or why there is none.
    pub(super) reply: oneshot::Sender<Result<Value, Refused>>,
}

/// What reaches a call before its answer. Boxed on its way: a channel sets aside room for 32 of them, and most calls need none.
enum Happening {
    Progress(Progress),
    Log(LoggingMessageNotificationParam),
    Question(String, Question),
}

impl Pass {
    /// `tools/call`. `None`: the name can't be that of a tool here.
    pub(crate) async fn call_tool(
        &self,
        passing: &Passing<'_>,
        mut params: CallToolRequestParams,
    ) -> Option<Result<CallToolResponse, ErrorData>> {
        let own = self.tool_of(&params.name, || passing.cx()).await?;
        match self.admits(&own, passing).await {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => return Some(Err(error)),
        }
        if let Err(doubt) = self.certain(passing, &params.name).await {
            return Some(Err(doubt));
        }
        let subject = format!("\u{1}tool\0{}", params.name);
        params.name = own.name.clone().into();
        params.meta = None;
        let said = self.rounds(passing, &own, Asked::Tool(params), &subject).await;
        Some(said.and_then(|said| match said {
            Said::Complete(result) => Ok(CallToolResponse::Complete(result)),
            Said::Asks(asks) => Ok(CallToolResponse::InputRequired(asks)),
            Said::Task(made) => {
                let server = &self.exposures[own.at].server;
                let shared = passing.shared;
                task::renamed(&shared.seal, &passing.caller.owner, server, made).map(CallToolResponse::Task)
            }
        }))
    }

    /// Whether a tool may be called. Where that depends on its annotations, they count as the server lists them now.
    async fn admits(&self, own: &Own, passing: &Passing<'_>) -> Result<bool, ErrorData> {
        let (Some(client), exposure) = (self.client(own.at), &self.exposures[own.at]) else { return Ok(true) };
        let config = client.config();
        if !config.allows(&own.name) {
            return Ok(false);
        }
        if !config.read_only && !exposure.looks_at_annotations() {
            return Ok(true);
        }
        let tools = client.tools(&passing.cx()).await.map_err(refusal)?;
        let hints = tools.get(&own.name).map(|tool| tool.definition.get("annotations").cloned().unwrap_or_default());
        Ok(hints.is_some_and(|hints| exposure.passes_tool(&own.name, serde_json::from_value(hints).ok().as_ref())))
    }

    /// A call that a process before this one has passed on already is passed on again only if that does no harm.
    async fn certain(&self, passing: &Passing<'_>, tool: &str) -> Result<(), ErrorData> {
        if passing.context.meta.0.0.get(AGAIN).is_none() {
            return Ok(());
        }
        if self.tool(tool).is_none() {
            self.list_tools(&passing.cx()).await;
        }
        let hints = self.tool(tool).and_then(|tool| tool.annotations).unwrap_or_default();
        if hints.read_only_hint == Some(true) || hints.idempotent_hint == Some(true) {
            return Ok(());
        }
        let message = format!("the process that passed `{tool}` on has died; the server may have done it, or not");
        Err(ErrorData::internal_error(message, Some(json!({ "inDoubt": true }))))
    }

    /// `prompts/get`.
    pub(crate) async fn get_prompt(
        &self,
        passing: &Passing<'_>,
        mut params: GetPromptRequestParams,
    ) -> Result<GetPromptResponse, ErrorData> {
        let Some(own) = self.prompt_of(&params.name, &passing.cx()).await else {
            return Err(no_such("prompt", &params.name));
        };
        let subject = format!("\u{1}prompt\0{}", params.name);
        params.name = own.name.clone();
        params.meta = None;
        match self.rounds(passing, &own, Asked::Prompt(params), &subject).await? {
            Said::Complete(result) => Ok(GetPromptResponse::Complete(result)),
            Said::Asks(asks) => Ok(GetPromptResponse::InputRequired(asks)),
            Said::Task(_) => Err(ErrorData::internal_error("the server made a task of a prompt", None)),
        }
    }

    /// `resources/read`.
    pub(crate) async fn read_resource(
        &self,
        passing: &Passing<'_>,
        mut params: ReadResourceRequestParams,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let Some(own) = self.resource_of(&params.uri, &passing.cx()).await else {
            return Err(ErrorData::resource_not_found("Resource not found", Some(json!({ "uri": params.uri }))));
        };
        let subject = format!("\u{1}resource\0{}", params.uri);
        let marked = own.name != params.uri;
        params.uri = own.name.clone();
        params.meta = None;
        match self.rounds(passing, &own, Asked::Resource(params), &subject).await? {
            Said::Complete(mut result) => {
                if marked {
                    reply::mark(&mut result, &self.exposures[own.at].mark());
                }
                Ok(ReadResourceResponse::Complete(result))
            }
            Said::Asks(asks) => Ok(ReadResourceResponse::InputRequired(asks)),
            Said::Task(_) => Err(ErrorData::internal_error("the server made a task of a resource", None)),
        }
    }

    /// `completion/complete`.
    pub(crate) async fn complete(
        &self,
        passing: &Passing<'_>,
        mut params: CompleteRequestParams,
    ) -> Result<CompleteResult, ErrorData> {
        let (own, name) = match &mut params.r#ref {
            Reference::Prompt(prompt) => (self.prompt_of(&prompt.name, &passing.cx()).await, &mut prompt.name),
            Reference::Resource(resource) => (self.resource_of(&resource.uri, &passing.cx()).await, &mut resource.uri),
            _ => return Err(ErrorData::invalid_params("this server completes prompts and resource templates", None)),
        };
        let Some(Own { at, name: its }) = own else { return Err(no_such("prompt or resource template", name)) };
        *name = its;
        params.meta = None;
        let request = ClientRequest::CompleteRequest(CompleteRequest::new(params));
        match said(self.plain(passing, at, request).await?).map_err(self.unreadable(at))? {
            Said::Complete(result) => Ok(result),
            _ => Err(ErrorData::internal_error("the server's completion is none", None)),
        }
    }

    /// A request that takes no rounds.
    pub(super) async fn plain(
        &self,
        passing: &Passing<'_>,
        at: usize,
        request: ClientRequest,
    ) -> Result<ServerResult, ErrorData> {
        let client = self.upstream(at)?;
        match passing.start(&client, request).follow(passing).await? {
            Some(result) => Ok(result),
            None => Err(ErrorData::internal_error("the server asked a question where it can't", None)),
        }
    }

    async fn rounds<T: Complete>(
        &self,
        passing: &Passing<'_>,
        own: &Own,
        mut asked: Asked,
        subject: &str,
    ) -> Result<Said<T>, ErrorData> {
        let client = self.upstream(own.at)?;
        let (shared, owner) = (passing.shared, &passing.caller.owner);
        let (responses, state) = asked.input();
        let carried = match state.take() {
            Some(sealed) if passing.caller.modern => Some(shared.seal.open(owner, subject, &sealed)?),
            _ => None,
        };
        let mut calling = match carried {
            Some(Carried::Parked(id)) => {
                let mut calling = shared.parking.take(owner, &id)?;
                calling.answer(responses.take().unwrap_or_default());
                calling
            }
            carried => {
                match carried {
                    Some(Carried::State(its)) => *state = Some(its),
                    Some(Carried::Anew) => ask::agreed(responses.take())?,
                    _ => {}
                }
                // Only a legacy caller's call is made again from here.
                let again = !passing.caller.modern && passing.caller.answers.any();
                let request = if again { asked.clone().request() } else { std::mem::take(&mut asked).request() };
                passing.start(&client, request)
            }
        };
        for _ in 0..MAX_ROUNDS {
            let answered = match calling.follow(passing).await {
                Err(error) if passing.caller.modern => {
                    let Some(requests) = ask::at_urls(&error) else { return Err(error) };
                    ask::allowed(passing.caller.answers, requests.values())?;
                    let sealed = shared.seal.seal(owner, subject, &Carried::Anew);
                    return Ok(Said::Asks(InputRequiredResult::new(Some(requests), sealed)));
                }
                answered => answered?,
            };
            let Some(result) = answered else {
                let requests = calling.requests();
                let id = shared.parking.park(owner, calling)?;
                let sealed = shared.seal.seal(owner, subject, &Carried::Parked(id));
                return Ok(Said::Asks(InputRequiredResult::new(Some(requests), sealed)));
            };
            let mut asks = match said(result).map_err(self.unreadable(own.at))? {
                Said::Asks(asks) => asks,
                said => return Ok(said),
            };
            if let Some(requests) = &asks.input_requests {
                ask::allowed(passing.caller.answers, requests.values())?;
            }
            if passing.caller.modern {
                if let Some(its) = asks.request_state.take() {
                    asks.request_state = shared.seal.seal(owner, subject, &Carried::State(its));
                }
                return Ok(Said::Asks(asks));
            }
            let (responses, state) = asked.input();
            *responses = Some(ask::all(passing, asks.input_requests.unwrap_or_default()).await?);
            *state = asks.request_state;
            calling = passing.start(&client, asked.clone().request());
        }
        Err(ErrorData::internal_error(format!("the server still asks after {MAX_ROUNDS} rounds"), None))
    }

    /// What callers are told of an answer that is none.
    pub(super) fn unreadable(&self, at: usize) -> impl Fn(serde_json::Error) -> ErrorData {
        let server = &self.exposures[at].server;
        move |error| ErrorData::internal_error(format!("the answer of server `{server}` can't be read: {error}"), None)
    }

    fn upstream(&self, at: usize) -> Result<Arc<Client>, ErrorData> {
        self.client(at).ok_or_else(|| {
            ErrorData::internal_error(format!("server `{}` is not there", self.exposures[at].server), None)
        })
    }
}

impl Default for Asked {
    fn default() -> Self {
        Self::Resource(ReadResourceRequestParams::new(""))
    }
}

impl Asked {
    /// Its answers and state.
    fn input(&mut self) -> (&mut Option<InputResponses>, &mut Option<String>) {
        match self {
            Self::Tool(params) => (&mut params.input_responses, &mut params.request_state),
            Self::Prompt(params) => (&mut params.input_responses, &mut params.request_state),
            Self::Resource(params) => (&mut params.input_responses, &mut params.request_state),
        }
    }

    fn request(self) -> ClientRequest {
        match self {
            Self::Tool(params) => ClientRequest::CallToolRequest(CallToolRequest::new(params)),
            Self::Prompt(params) => ClientRequest::GetPromptRequest(GetPromptRequest::new(params)),
            Self::Resource(params) => ClientRequest::ReadResourceRequest(ReadResourceRequest::new(params)),
        }
    }
}

impl Passing<'_> {
    /// Sends a request on its way.
    fn start(&self, client: &Arc<Client>, request: ClientRequest) -> Calling {
        let (happen, happenings) = mpsc::unbounded_channel::<Box<Happening>>();
        let answers = self.caller.answers.any();
        let parkable = self.caller.modern && answers && !matches!(client.state(), State::Ready(Era::Modern));
        // A parked call outlives its caller's request, and ends with its parking place. Any other ends by being dropped, too.
        let mut cx = CallContext::until(if parkable { CancellationToken::new() } else { self.context.ct.clone() });
        let cancel = parkable.then(|| cx.cancelled.clone().drop_guard());
        cx.run = Some(self.session.clone());
        if self.caller.progress.is_some() {
            let happen = happen.clone();
            cx.progress = Arc::new(move |progress: Progress| drop(happen.send(Happening::Progress(progress).into())));
        }
        if answers {
            let happen = happen.clone();
            cx.ask = Arc::new(move |key: String, request: Value| {
                let (reply, answer) = oneshot::channel();
                let _ = happen.send(Happening::Question(key, Question { request, reply }).into());
                Box::pin(async move { answer.await.unwrap_or_else(|_| Err(Refused::failed("the caller has gone"))) })
            });
        }
        let log =
            Arc::new(move |message: LoggingMessageNotificationParam| drop(happen.send(Happening::Log(message).into())));
        cx.on_behalf = Some(Arc::new(OnBehalf { capabilities: self.capabilities(), log }));
        let (name, client, meta) = (client.config().name.as_str().into(), Arc::clone(client), self.meta());
        let call = async move { client.forward(request, meta, &cx).await };
        let done: BoxFuture<'static, _> = if parkable {
            let spawned = tokio::spawn(call);
            Box::pin(async move {
                let lost = |error: tokio::task::JoinError| ClientError {
                    server: name,
                    kind: ErrorKind::Unavailable,
                    message: format!("was being asked when something went wrong here: {error}"),
                    in_doubt: true,
                    answer: None,
                };
                spawned.await.unwrap_or_else(|error| Err(lost(error)))
            })
        } else {
            Box::pin(call)
        };
        Calling { done, happenings, open: BTreeMap::new(), parkable, _cancel: cancel }
    }

    /// For requests of ours on the caller's behalf: its connection, but nobody to report to, nobody to ask.
    pub(crate) fn cx(&self) -> CallContext {
        let mut cx = CallContext::detached();
        cx.run = Some(self.session.clone());
        cx.on_behalf = Some(Arc::new(OnBehalf { capabilities: self.capabilities(), log: Arc::new(|_| {}) }));
        cx
    }

    /// What the caller can answer.
    fn capabilities(&self) -> Arc<ClientCapabilities> {
        let mut capabilities = Arc::clone(&self.caller.declared);
        if !self.caller.modern && capabilities.extensions.is_some() {
            // What extensions meant in the legacy era can't be told to others.
            Arc::make_mut(&mut capabilities).extensions = None;
        }
        capabilities
    }

    /// The caller's `_meta`, for the server.
    fn meta(&self) -> Map<String, Value> {
        let mut meta = RequestMetaObject::new();
        // What a legacy caller can answer it has said at its start, and nowhere else.
        let own = |key: &str| OWN_KEYS.contains(&key) || (key == CAPABILITIES && !self.caller.modern);
        for (key, value) in self.context.meta.0.0.iter().filter(|(key, _)| !own(key)) {
            meta.0.0.insert(key.clone(), value.clone());
        }
        if let Some(level) = self.level {
            meta.set_log_level(level);
        }
        meta.0.0
    }

    /// Tells the caller what a server has said about its call. Questions are not for telling.
    async fn tell(&self, happening: Happening) {
        match happening {
            Happening::Progress(progress) => self.report(progress).await,
            Happening::Log(message) => self.log(message).await,
            Happening::Question(..) => {}
        }
    }

    async fn report(&self, progress: Progress) {
        let Some(token) = self.caller.progress.clone() else { return };
        let mut report = ProgressNotificationParam::new(token, progress.progress);
        (report.total, report.message) = (progress.total, progress.message);
        if let Err(error) = self.context.peer.notify_progress(report).await {
            tracing::debug!(%error, "the caller takes no progress reports");
        }
    }

    async fn log(&self, message: LoggingMessageNotificationParam) {
        let wanted = match self.caller.modern {
            true => self.context.meta.log_level(),
            false => Some(self.level.unwrap_or(LoggingLevel::Debug)),
        };
        if wanted.is_none_or(|level| (message.level as u8) < level as u8) {
            return;
        }
        if let Err(error) = self.context.peer.notify_logging_message(message).await {
            tracing::debug!(%error, "the caller takes no log messages");
        }
    }
}

impl Calling {
    /// Follows it to its end. `None`: the server asks, and this caller answers by coming back.
    async fn follow(&mut self, passing: &Passing<'_>) -> Result<Option<ServerResult>, ErrorData> {
        if !self.open.is_empty() {
            return Ok(None);
        }
        let mut pushed = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                Some(happening) = self.happenings.recv() => match *happening {
                    Happening::Question(key, question) if self.parkable => {
                        self.open.insert(key, question);
                        if self.happenings.is_empty() {
                            return Ok(None);
                        }
                    }
                    Happening::Question(_, Question { request, reply }) => pushed.push(async move {
                        let answer = ask::push(&passing.context.peer, request).await;
                        // The server may not wait for it any more.
                        let _ = reply.send(answer.map_err(|error| Refused::failed(error.message)));
                    }),
                    said => passing.tell(said).await,
                },
                Some(()) = pushed.next(), if !pushed.is_empty() => {}
                result = &mut self.done => {
                    // What the server said just before, and was heard in the same moment.
                    while let Ok(happening) = self.happenings.try_recv() {
                        passing.tell(*happening).await;
                    }
                    return result.map(Some).map_err(refusal);
                }
                () = passing.context.ct.cancelled(), if self.parkable => {
                    return Err(ErrorData::internal_error("the caller cancelled the call", None));
                }
            }
        }
    }
}
