//! The engine's way out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use antiphon_client::{Call, Client, ClientError, Input, Outcome, TaskHandle, What as Wanted};
use antiphon_engine::{
    CallContext, CallFailure, CallOutcome, Effects, LIMIT, Prepared, Progress, ROUTE, RunId, RunInfo,
};
use antiphon_kernel::{Answer, CallSpec, EffectClass, Entry, ErrorKind, Record, Terms, ValueRef, What};
use antiphon_models::SampleContext;
use async_trait::async_trait;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::router::Router;
use crate::sampling::Sampling;
use crate::{back, policy, record, sample};

/// The key of a request's `_meta` by which a server can tell a repetition from a new call.
const IDEMPOTENCY_KEY: &str = "antiphon/idempotency-key";

#[async_trait]
impl Effects for Router {
    async fn prepare(&self, run: &RunInfo, call: &CallSpec, args: Arc<Value>) -> Result<Prepared, CallFailure> {
        let (usual, fingerprint) = match &call.what {
            What::Read { server } => {
                self.client(server)?;
                (EffectClass::ReadOnly, None)
            }
            What::Sample { .. } | What::Sampling { .. } => (EffectClass::Idempotent, None),
            What::Tool { server, tool } => self.prepare_tool(run, call, server, tool).await?,
        };
        let (price, tools) = match &call.what {
            What::Sample { models } => {
                (policy::price(&self.models(), models), self.tools_of(&args, &asking(run, call)).await?)
            }
            _ => (None, None),
        };
        Ok(Prepared { class: call.declared.unwrap_or(usual), fingerprint, price, tools })
    }

    async fn run(
        &self,
        run: &RunInfo,
        call: &CallSpec,
        args: Arc<Value>,
        entry: Entry,
        context: CallContext,
    ) -> CallOutcome {
        match &call.what {
            What::Sample { models } => match self.filled(&args, &asking(run, call)).await {
                Ok(request) => sample::run(&self.models(), models, call, &request, &sampled(call, context)).await,
                Err(failure) => CallOutcome::Failed(failure),
            },
            What::Sampling { server, max_tokens, no_caller } => {
                let (models, policy, route) = (self.models(), self.policy(server), self.route(&call.route));
                let (models, policy, params) = (&models, &policy, &args);
                let (max_tokens, no_caller) = (*max_tokens, *no_caller);
                let sampling = Sampling { models, policy, max_tokens, no_caller, route, call, params };
                sampling.answer(entry, &sampled(call, context)).await
            }
            What::Tool { server, .. } | What::Read { server } => {
                let calling = match self.client(server) {
                    Ok(client) => self.call_server(&client, run, call, args, entry, context).await,
                    Err(failure) => Err(failure),
                };
                calling.unwrap_or_else(CallOutcome::Failed)
            }
        }
    }

    async fn release(&self, run: &RunId) {
        for (_, client) in self.clients() {
            client.release(&run.0).await;
        }
    }
}

impl Router {
    async fn prepare_tool(
        &self,
        run: &RunInfo,
        call: &CallSpec,
        server: &str,
        tool: &str,
    ) -> Result<(EffectClass, Option<String>), CallFailure> {
        let client = self.client(server)?;
        may_call(&client, tool)?;
        let catalogue = self.catalogue_with(server, tool, &asking(run, call)).await?;
        let Some(tool) = catalogue.get(tool) else { return Ok((EffectClass::AtMostOnce, None)) };
        let class = match (tool.read_only(), tool.idempotent()) {
            (true, _) => EffectClass::ReadOnly,
            (false, true) => EffectClass::Idempotent,
            (false, false) => EffectClass::AtMostOnce,
        };
        Ok((class, Some(tool.fingerprint.clone())))
    }

    async fn call_server(
        &self,
        client: &Client,
        run: &RunInfo,
        call: &CallSpec,
        args: Arc<Value>,
        entry: Entry,
        context: CallContext,
    ) -> Result<CallOutcome, CallFailure> {
        let mut meta = Map::from_iter([(IDEMPOTENCY_KEY.to_owned(), json!(context.idempotency_key))]);
        let route = self.route(&call.route);
        if !route.is_empty() {
            meta.insert(ROUTE.to_owned(), json!(route));
        }
        let terms = self.terms(&client.config().name);
        let cx = connected(run, call, context, terms.clone());
        let input = match entry {
            Entry::Fresh => None,
            Entry::Answers { answers, sampled, state, .. } => {
                Some(Input { responses: responses(answers, &sampled), state: state.map(request_state).transpose()? })
            }
            Entry::Cancel { handle } => {
                // Whoever follows a task that is not wanted tells its server so.
                cx.cancelled.cancel();
                client.attach(&task(handle)?, BTreeMap::new(), &cx).await.map_err(failure)?;
                return Ok(CallOutcome::Done { record: Record::default(), usage: None });
            }
            Entry::Attach { handle, answers, sampled } => {
                let task = task(handle)?;
                let outcome = client.attach(&task, responses(answers, &sampled), &cx).await.map_err(failure)?;
                return landed(call, outcome, terms);
            }
        };
        let what = match &call.what {
            What::Tool { tool, .. } => {
                may_call(client, tool)?;
                let Value::Object(arguments) = Arc::unwrap_or_clone(args) else {
                    return Err(invalid(format!("the arguments of `{tool}` are not a map")));
                };
                Wanted::Tool { name: tool.clone(), arguments }
            }
            _ => {
                let Some(uri) = args.get("uri").and_then(Value::as_str) else {
                    return Err(invalid("a `read` needs a `uri` that is a string".into()));
                };
                Wanted::Resource { uri: uri.to_owned() }
            }
        };
        landed(call, client.call(Call { what, meta, input }, &cx).await.map_err(failure)?, terms)
    }
}

fn task(handle: Value) -> Result<TaskHandle, CallFailure> {
    serde_json::from_value(handle)
        .map_err(|error| invalid(format!("the recorded handle of a task can't be read: {error}")))
}

fn may_call(client: &Client, tool: &str) -> Result<(), CallFailure> {
    let config = client.config();
    if config.allows(tool) {
        return Ok(());
    }
    Err(CallFailure {
        kind: ErrorKind::Denied,
        message: format!("the tool `{tool}` is not covered by `allow` of server `{}`", config.name),
        in_doubt: false,
    })
}

/// What a server's outcome means to the run.
fn landed(call: &CallSpec, outcome: Outcome, terms: Terms) -> Result<CallOutcome, CallFailure> {
    Ok(match outcome {
        Outcome::Done(result) => {
            let record = match &call.what {
                What::Read { .. } => record::of_resource(result),
                _ => {
                    // Another Antiphon that came to a limit says so: nobody goes on without what it was to give.
                    let kind = if result["_meta"][LIMIT] == true { ErrorKind::Budget } else { ErrorKind::Tool };
                    record::of_tool(result).map_err(|message| CallFailure { kind, message, in_doubt: false })?
                }
            };
            CallOutcome::Done { record, usage: None }
        }
        Outcome::NeedsInput { requests, state } => {
            CallOutcome::NeedsInput { requests, state: state.map(Value::String), terms }
        }
        Outcome::Detached(task) => {
            CallOutcome::Detached { handle: serde_json::to_value(task).map_err(|error| invalid(error.to_string()))? }
        }
    })
}

fn connected(run: &RunInfo, call: &CallSpec, context: CallContext, terms: Terms) -> antiphon_client::CallContext {
    let cancelled = context.cancelled.clone();
    let context = Arc::new(context);
    let asking = Arc::clone(&context);
    let path = call.path.clone();
    antiphon_client::CallContext {
        run: Some(Arc::clone(&run.id.0)),
        key: Some(context.idempotency_key.as_str().into()),
        deadline: deadline(call),
        cancelled,
        progress: Arc::new(move |progress| {
            (context.progress)(Progress {
                path: path.clone(),
                progress: progress.progress,
                total: progress.total,
                message: progress.message,
            });
        }),
        ask: Arc::new(move |name, request| {
            let method = request.get("method").and_then(Value::as_str).unwrap_or_default().to_owned();
            let answer = (asking.ask)(name, request, terms.clone());
            Box::pin(async move {
                let answer = answer.await;
                match method.as_str() {
                    "sampling/createMessage" => back::given(answer),
                    "tools/call" => back::given(answer).map(record::to_tool),
                    _ => Ok(elicited(answer)),
                }
            })
        }),
        on_behalf: None,
    }
}

/// To ask a server what it offers, on behalf of a call.
fn asking(run: &RunInfo, call: &CallSpec) -> antiphon_client::CallContext {
    antiphon_client::CallContext {
        run: Some(Arc::clone(&run.id.0)),
        deadline: deadline(call),
        ..antiphon_client::CallContext::detached()
    }
}

/// The plan's deadlines are moments of the world's clock.
fn deadline(call: &CallSpec) -> Option<Instant> {
    let due = UNIX_EPOCH.checked_add(Duration::from_millis(call.deadline?))?;
    let left = due.duration_since(SystemTime::now()).unwrap_or_default();
    Instant::now().checked_add(left)
}

/// Models answer with a `CreateMessageResult`, people with an `ElicitResult`.
fn responses(answers: BTreeMap<String, Answer>, sampled: &BTreeSet<String>) -> BTreeMap<String, Value> {
    let response = |(key, answer): (String, Answer)| {
        let response = if sampled.contains(&key) { answer.content.unwrap_or_default() } else { elicited(answer) };
        (key, response)
    };
    answers.into_iter().map(response).collect()
}

fn elicited(answer: Answer) -> Value {
    let mut result = json!({ "action": answer.action.as_str() });
    if let Some(content) = answer.content {
        result["content"] = content;
    }
    result
}

/// What bounds a sample.
fn sampled(call: &CallSpec, context: CallContext) -> SampleContext {
    let CallContext { cancelled, progress, .. } = context;
    let path = call.path.clone();
    let heard = antiphon_models::Progress::to(move |tokens| {
        #[expect(clippy::cast_precision_loss, reason = "an answer has far fewer than 2^52 tokens")]
        let so_far = tokens as f64;
        progress(Progress { path: path.clone(), progress: so_far, total: None, message: None });
    });
    SampleContext { cancelled, deadline: deadline(call), progress: heard }
}

fn request_state(state: ValueRef) -> Result<String, CallFailure> {
    match state.as_inline() {
        Some(Value::String(state)) => Ok(state.clone()),
        _ => Err(invalid("the recorded `requestState` of the call is not there any more".into())),
    }
}

fn invalid(message: String) -> CallFailure {
    CallFailure { kind: ErrorKind::InvalidOutput, message, in_doubt: false }
}

pub(crate) fn failure(error: ClientError) -> CallFailure {
    use antiphon_client::ErrorKind as Kind;
    let kind = match error.kind {
        Kind::Rpc => ErrorKind::Rpc,
        Kind::Timeout => ErrorKind::Timeout,
        Kind::InvalidOutput => ErrorKind::InvalidOutput,
        Kind::Denied => ErrorKind::Denied,
        Kind::Unavailable | Kind::Cancelled => ErrorKind::Unavailable,
    };
    CallFailure { kind, message: error.to_string(), in_doubt: error.in_doubt }
}
