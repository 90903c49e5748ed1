//! A server, as its callers see it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use rmcp::model::{
    CallToolRequest, CallToolRequestParams, ClientRequest, ErrorCode, ReadResourceRequest, ReadResourceRequestParams,
};
use serde_json::{Map, Value};
use tokio::sync::broadcast;

use crate::back::Passes;
use crate::call::{CREATE_MESSAGE, Call, CallContext, ELICIT, Outcome, TaskHandle, What};
use crate::catalogue::Catalogue;
use crate::change::Change;
use crate::config::{ServerConfig, Session};
use crate::connection::{Connection, Era, EraMemory};
use crate::error::{ClientError, ErrorKind};
use crate::offer::Offer;
use crate::supervisor::{State, Supervisor};

/// So many changes may wait for who wants to know of them.
const CHANGES: usize = 256;

/// A server: its supervised connection, or one for each run.
///
/// Nothing is started before it is needed. Dropping it ends what it has started, [`Client::shutdown`] also waits for that.
#[derive(Debug)]
pub struct Client {
    config: Arc<ServerConfig>,
    memory: Arc<EraMemory>,
    passes: Arc<Passes>,
    shared: Arc<Supervisor>,
    of_runs: Mutex<HashMap<Arc<str>, Arc<Supervisor>>>,
    pub(crate) changes: broadcast::Sender<Change>,
}

impl Client {
    /// Starts nothing yet.
    pub fn new(config: ServerConfig) -> Self {
        Self::with(config, Arc::default())
    }

    /// Likewise; where its process may come back in, these passes say so.
    pub fn with(config: ServerConfig, passes: Arc<Passes>) -> Self {
        let (config, memory) = (Arc::new(config), Arc::<EraMemory>::default());
        let changes = broadcast::channel(CHANGES).0;
        let shared =
            Supervisor::new(Arc::clone(&config), Arc::clone(&memory), Arc::clone(&passes), None, None, changes.clone());
        Self { config, memory, passes, shared, of_runs: Mutex::default(), changes }
    }

    /// What it was made of.
    pub fn config(&self) -> &ServerConfig {
        &self.config
    }

    /// Where the server stands.
    pub fn state(&self) -> State {
        self.shared.state()
    }

    /// The server's tools, as `allow` leaves them.
    ///
    /// # Errors
    /// When the server can't be reached, or does not answer sensibly.
    pub async fn tools(&self, cx: &CallContext) -> Result<Arc<Catalogue>, ClientError> {
        self.connection(cx).await?.tools(cx).await
    }

    /// The same, asked for anew.
    ///
    /// # Errors
    /// See [`Client::tools`].
    pub async fn fresh_tools(&self, cx: &CallContext) -> Result<Arc<Catalogue>, ClientError> {
        let connection = self.connection(cx).await?;
        connection.calls.tools_changed();
        connection.tools(cx).await
    }

    /// Makes one call, or one round of it. The server is told when it is not wanted any more, also by dropping the future.
    ///
    /// # Errors
    /// [`ClientError::in_doubt`] tells whether the server may have acted on it.
    pub async fn call(&self, call: Call, cx: &CallContext) -> Result<Outcome, ClientError> {
        let connection = self.connection(cx).await?;
        let input = call.input.unwrap_or_default();
        let responses = (!input.responses.is_empty()).then_some(input.responses);
        let is_tool = matches!(call.what, What::Tool { .. });
        if let What::Tool { name, .. } = &call.what {
            connection.admitted(name, cx).await?;
        }
        let request = match call.what {
            What::Tool { name, arguments } => {
                let mut params = CallToolRequestParams::new(name).with_arguments(arguments);
                params.input_responses = responses;
                params.request_state = input.state;
                ClientRequest::CallToolRequest(CallToolRequest::new(params))
            }
            What::Resource { uri } => {
                let mut params = ReadResourceRequestParams::new(uri);
                params.input_responses = responses;
                params.request_state = input.state;
                ClientRequest::ReadResourceRequest(ReadResourceRequest::new(params))
            }
        };
        let again = (is_tool && connection.mirrors_arguments()).then(|| (request.clone(), call.meta.clone()));
        let result = match (connection.request(request, call.meta, cx).await, again) {
            // The server has done nothing but look at the headers. This connection has not seen the tool's definition, or the
            // tool has changed.
            (Err(error), Some((request, meta))) if error.code() == Some(ErrorCode::HEADER_MISMATCH.0) => {
                tracing::debug!(%error, "calling again, with a fresh list of tools");
                connection.calls.tools_changed();
                connection.tools(cx).await?;
                connection.request(request, meta, cx).await?
            }
            (result, _) => result?,
        };
        let outcome = connection.outcome(result, is_tool)?;
        connection.served();
        Ok(outcome)
    }

    /// Waits for a task of the server's, after handing it these answers (results such as an `ElicitResult`, by its keys).
    ///
    /// Yields [`Outcome::Done`], or [`Outcome::NeedsInput`] for questions that are not among those answered.
    ///
    /// # Errors
    /// [`ClientError::in_doubt`] is set unless the server has said what became of the task. Losing the connection fails
    /// nothing for a while: the task is asked for again.
    pub async fn attach(
        &self,
        task: &TaskHandle,
        answers: BTreeMap<String, Value>,
        cx: &CallContext,
    ) -> Result<Outcome, ClientError> {
        crate::task::attach(self, task, answers, cx).await
    }

    /// The run needs its own connections, if it had any, no more.
    pub async fn release(&self, run: &str) {
        let ended: Vec<_> = {
            let mut of_runs = self.of_runs.lock().unwrap_or_else(PoisonError::into_inner);
            let its =
                |key: &Arc<str>| key.strip_prefix(run).is_some_and(|rest| rest.is_empty() || rest.starts_with('\0'));
            let keys: Vec<_> = of_runs.keys().filter(|key| its(key)).cloned().collect();
            keys.iter().filter_map(|key| of_runs.remove(key)).collect()
        };
        for supervisor in ended {
            supervisor.stop().await;
        }
    }

    /// Ends all connections and the processes behind them: input closed, then SIGTERM, then SIGKILL.
    pub async fn shutdown(&self) {
        let of_runs = std::mem::take(&mut *self.of_runs.lock().unwrap_or_else(PoisonError::into_inner));
        let all = of_runs.into_values().chain([Arc::clone(&self.shared)]);
        futures::future::join_all(all.map(|supervisor| async move { supervisor.stop().await })).await;
    }

    /// The connection that serves this call, for as long as the call can wait for it.
    pub(crate) async fn connection(&self, cx: &CallContext) -> Result<Arc<Connection>, ClientError> {
        let error = |kind, message| Err(ClientError::new(&self.config.name, kind, message));
        let late = async {
            match cx.deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            connection = self.serving(cx) => connection,
            () = cx.cancelled.cancelled() => error(ErrorKind::Cancelled, "was not connected when the call was cancelled"),
            () = late => error(ErrorKind::Timeout, "was not connected before the call's deadline"),
        }
    }

    async fn serving(&self, cx: &CallContext) -> Result<Arc<Connection>, ClientError> {
        let Some(run) = &cx.run else { return self.shared.connection().await };
        let offer = cx.on_behalf.as_ref().map(|caller| Offer::of(&caller.capabilities));
        let own = match (self.config.session, &offer) {
            (Some(Session::PerRun), _) => true,
            (Some(Session::Shared), None) => false,
            (None, None) if self.config.back.tools.is_some() => true,
            // The shared connection offers what runs are granted.
            (_, offer) => {
                (self.config.may_ask() || offer.is_some_and(|offer| !offer.is_empty())) && {
                    if self.memory.get().is_none() {
                        self.shared.connection().await?;
                    }
                    self.memory.get() == Some(Era::Legacy)
                }
            }
        };
        if !own {
            return self.shared.connection().await;
        }
        let key = match &offer {
            Some(offer) => format!("{run}\0{}", offer.key()).into(),
            None => Arc::clone(run),
        };
        let supervisor = Arc::clone(
            self.of_runs
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .entry(key)
                .or_insert_with(|| self.of_run(run, offer)),
        );
        supervisor.connection().await
    }

    fn of_run(&self, run: &Arc<str>, offer: Option<Offer>) -> Arc<Supervisor> {
        let (config, memory, passes) = (Arc::clone(&self.config), Arc::clone(&self.memory), Arc::clone(&self.passes));
        // Whoever is passed through is no run.
        let run = offer.is_none().then(|| Arc::clone(run));
        let offer = offer.map(|offer| Arc::new(offer.capabilities()));
        Supervisor::new(config, memory, passes, run, offer, self.changes.clone())
    }
}

impl Connection {
    /// Tells the three kinds of result apart.
    pub(crate) fn outcome(&self, mut result: Value, is_tool: bool) -> Result<Outcome, ClientError> {
        let unreadable = |what: &str| self.error(ErrorKind::InvalidOutput, what).in_doubt_if(true);
        let Some(fields) = result.as_object_mut() else {
            return Err(unreadable("gave a result that is not an object"));
        };
        match fields.get("resultType").and_then(Value::as_str).unwrap_or("complete") {
            "complete" => {
                let wanted: &[_] = if is_tool { &["content", "structuredContent", "isError"] } else { &["contents"] };
                if !wanted.iter().any(|field| fields.contains_key(*field)) {
                    return Err(unreadable(&format!("gave a result without `{}`", wanted[0])));
                }
                Ok(Outcome::Done(result))
            }
            "input_required" => {
                let requests = self.questions(fields.remove("inputRequests"))?;
                let state = match fields.remove("requestState") {
                    None => None,
                    Some(Value::String(state)) => Some(state),
                    Some(_) => return Err(unreadable("asked for input with a `requestState` that is not a string")),
                };
                Ok(Outcome::NeedsInput { requests, state })
            }
            "task" => {
                let Some(task_id) = fields.get("taskId").and_then(Value::as_str) else {
                    return Err(unreadable("made a task without an id"));
                };
                let poll_interval_ms = fields.get("pollIntervalMs").and_then(Value::as_u64);
                Ok(Outcome::Detached(TaskHandle { task_id: task_id.to_owned(), poll_interval_ms }))
            }
            other => Err(unreadable(&format!("gave a result of the unknown type `{other}`"))),
        }
    }

    /// Checks what a server asks for against what it may ask for.
    pub(crate) fn questions(&self, requests: Option<Value>) -> Result<BTreeMap<String, Value>, ClientError> {
        let requests = match requests {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(requests)) => requests,
            Some(_) => {
                return Err(self.error(ErrorKind::InvalidOutput, "asked for input in a way that can't be read"));
            }
        };
        for request in requests.values() {
            let method = request.get("method").and_then(Value::as_str).unwrap_or_default();
            let message = match method {
                ELICIT if self.config.elicitation.granted() => continue,
                CREATE_MESSAGE if self.config.sampling => continue,
                ELICIT => "asked a question without being granted `elicitation`".to_owned(),
                CREATE_MESSAGE => "asked a model without being granted `sampling`".to_owned(),
                other => format!("asked for `{other}`, which it was not offered"),
            };
            return Err(self.error(ErrorKind::Denied, &message));
        }
        Ok(requests.into_iter().collect())
    }
}
