//! The engine's way out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use antiphon_client::{Call, Client, ClientError, Input, Outcome, TaskHandle, What as Wanted};
use antiphon_engine::{CallContext, CallFailure, CallOutcome, Effects, Prepared, Progress, RunId, RunInfo};
use antiphon_kernel::{Answer, CallSpec, EffectClass, Entry, ErrorKind, ValueRef, What};
use async_trait::async_trait;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::record;
use crate::router::{Router, list, nearest};
use crate::sample;

/// The key of a request's `_meta` by which a server can tell a repetition from a new call.
const IDEMPOTENCY_KEY: &str = "antiphon/idempotency-key";

#[async_trait]
impl Effects for Router {
    async fn prepare(&self, run: &RunInfo, call: &CallSpec) -> Result<Prepared, CallFailure> {
        let (usual, fingerprint) = match &call.what {
            What::Read { server } => {
                self.client(server)?;
                (EffectClass::ReadOnly, None)
            }
            What::Sample { .. } => (EffectClass::Idempotent, None),
            What::Tool { server, tool } => self.prepare_tool(run, call, server, tool).await?,
        };
        Ok(Prepared { class: call.declared.unwrap_or(usual), fingerprint })
    }

    async fn run(
        &self,
        run: &RunInfo,
        call: &CallSpec,
        args: Arc<Value>,
        entry: Entry,
        context: CallContext,
    ) -> CallOutcome {
        let outcome = match &call.what {
            What::Sample { models } => {
                sample::run(&self.models(), models, &args, &context.cancelled, deadline(call)).await
            }
            What::Tool { server, .. } | What::Read { server } => match self.client(server) {
                Ok(client) => call_server(&client, run, call, args, entry, context).await,
                Err(failure) => Err(failure),
            },
        };
        outcome.unwrap_or_else(CallOutcome::Failed)
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
        let cx = antiphon_client::CallContext {
            run: Some(Arc::clone(&run.id.0)),
            deadline: deadline(call),
            ..antiphon_client::CallContext::detached()
        };
        let mut catalogue = client.tools(&cx).await.map_err(failure)?;
        if catalogue.get(tool).is_none() {
            // It may be new: not every server tells of changes.
            catalogue = client.fresh_tools(&cx).await.map_err(failure)?;
        }
        let Some(tool) = catalogue.get(tool) else {
            let near = nearest(tool, catalogue.tools().map(|tool| tool.name.as_str()));
            let hint = match near.as_slice() {
                [] => format!("it offers {} others", catalogue.tools().count()),
                near => format!("did you mean {}?", list(near)),
            };
            return Err(CallFailure {
                kind: ErrorKind::Rpc,
                message: format!("server `{server}` is up, but has no tool `{tool}`; {hint}"),
                in_doubt: false,
            });
        };
        let class = match (tool.read_only(), tool.idempotent()) {
            (true, _) => EffectClass::ReadOnly,
            (false, true) => EffectClass::Idempotent,
            (false, false) => EffectClass::AtMostOnce,
        };
        Ok((class, Some(tool.fingerprint.clone())))
    }
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

async fn call_server(
    client: &Client,
    run: &RunInfo,
    call: &CallSpec,
    args: Arc<Value>,
    entry: Entry,
    context: CallContext,
) -> Result<CallOutcome, CallFailure> {
    let meta = Map::from_iter([(IDEMPOTENCY_KEY.to_owned(), json!(context.idempotency_key))]);
    let cx = connected(run, call, context);
    let input = match entry {
        Entry::Fresh => None,
        Entry::Answers { answers, state, .. } => {
            Some(Input { responses: responses(answers), state: state.map(request_state).transpose()? })
        }
        Entry::Attach { handle, answers } => {
            let task: TaskHandle = serde_json::from_value(handle)
                .map_err(|error| invalid(format!("the recorded handle of a task can't be read: {error}")))?;
            return landed(call, client.attach(&task, responses(answers), &cx).await.map_err(failure)?);
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
    landed(call, client.call(Call { what, meta, input }, &cx).await.map_err(failure)?)
}

/// What a server's outcome means to the run.
fn landed(call: &CallSpec, outcome: Outcome) -> Result<CallOutcome, CallFailure> {
    Ok(match outcome {
        Outcome::Done(result) => {
            let record = match &call.what {
                What::Read { .. } => record::of_resource(result),
                _ => record::of_tool(result).map_err(|message| CallFailure {
                    kind: ErrorKind::Tool,
                    message,
                    in_doubt: false,
                })?,
            };
            CallOutcome::Done { record, usage: None }
        }
        Outcome::NeedsInput { requests, state } => {
            CallOutcome::NeedsInput { requests, state: state.map(Value::String) }
        }
        Outcome::Detached(task) => {
            CallOutcome::Detached { handle: serde_json::to_value(task).map_err(|error| invalid(error.to_string()))? }
        }
    })
}

fn connected(run: &RunInfo, call: &CallSpec, context: CallContext) -> antiphon_client::CallContext {
    let cancelled = context.cancelled.clone();
    let context = Arc::new(context);
    let asking = Arc::clone(&context);
    let path = call.path.clone();
    antiphon_client::CallContext {
        run: Some(Arc::clone(&run.id.0)),
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
            let answer = (asking.ask)(name, request);
            Box::pin(async move { response(answer.await) })
        }),
    }
}

/// The plan's deadlines are moments of the world's clock.
fn deadline(call: &CallSpec) -> Option<Instant> {
    let due = UNIX_EPOCH.checked_add(Duration::from_millis(call.deadline?))?;
    let left = due.duration_since(SystemTime::now()).unwrap_or_default();
    Instant::now().checked_add(left)
}

fn responses(answers: BTreeMap<String, Answer>) -> BTreeMap<String, Value> {
    answers.into_iter().map(|(key, answer)| (key, response(answer))).collect()
}

/// An `ElicitResult`: servers are offered nothing else to ask for.
fn response(answer: Answer) -> Value {
    let mut result = json!({ "action": answer.action.as_str() });
    if let Some(content) = answer.content {
        result["content"] = content;
    }
    result
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

fn failure(error: ClientError) -> CallFailure {
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
