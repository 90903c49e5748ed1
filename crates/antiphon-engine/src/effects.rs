//! The engine's only way out.

use std::collections::BTreeMap;
use std::sync::Arc;

use antiphon_kernel::{Answer, CallSpec, EffectClass, Entry, ErrorKind, Price, Record, Terms, Usage};
use async_trait::async_trait;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::api::{Owner, RunId};

/// What touches the world on behalf of runs.
#[async_trait]
pub trait Effects: Send + Sync + 'static {
    /// What repeating this call would do, from the file or the tool's annotations; of a sample, what it takes and may call.
    /// Recorded before the call is dispatched.
    async fn prepare(&self, run: &RunInfo, call: &CallSpec, args: Arc<Value>) -> Result<Prepared, CallFailure>;

    /// Makes the call, once. Each MRTR round and each attachment to a task is a call of its own, as `entry` says; the `state`
    /// in an [`Entry::Answers`] is always inline.
    async fn run(
        &self,
        run: &RunInfo,
        call: &CallSpec,
        args: Arc<Value>,
        entry: Entry,
        context: CallContext,
    ) -> CallOutcome;

    /// The run has ended, or left memory: whatever is kept for it alone (`session = "per_run"`) can go.
    async fn release(&self, run: &RunId);
}

/// The run that a call belongs to.
#[derive(Clone, Debug)]
pub struct RunInfo {
    /// Its id.
    pub id: RunId,
    /// Whose it is.
    pub owner: Owner,
    /// The root workflow.
    pub workflow: String,
}

/// The answer to [`Effects::prepare`].
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The effect class.
    pub class: EffectClass,
    /// Hash of the tool's definition.
    pub fingerprint: Option<String>,
    /// Of a sample: the most that the models which may answer it charge.
    pub price: Option<Price>,
    /// Likewise: the list of what its model may call, when servers had to be asked for that.
    pub tools: Option<Value>,
}

/// How one call ended.
#[derive(Debug)]
pub enum CallOutcome {
    /// Well.
    Done {
        /// What it left.
        record: Record,
        /// What it used.
        usage: Option<Usage>,
    },
    /// Badly.
    Failed(CallFailure),
    /// Badly, and it has used something all the same.
    FailedAfter(CallFailure, Usage),
    /// It wants answers, and to be made again.
    NeedsInput {
        /// Requests by the server's keys: `method` and `params`.
        requests: BTreeMap<String, Value>,
        /// Its `requestState`.
        state: Option<Value>,
        /// What its server may ask for.
        terms: Terms,
    },
    /// It became a task.
    Detached {
        /// What is needed to find the task again.
        handle: Value,
    },
}

/// Why a call failed.
#[derive(Clone, Debug)]
pub struct CallFailure {
    /// The kind.
    pub kind: ErrorKind,
    /// For people; free of secrets.
    pub message: String,
    /// The request may have reached the other side, and its outcome is unknown.
    pub in_doubt: bool,
}

/// What a call in flight can use.
pub struct CallContext {
    /// What `antiphon/idempotency-key` says on the wire: lower-case hexadecimal, the same over crashes, timeouts and MRTR rounds.
    pub idempotency_key: String,
    /// Fires when the call is not wanted any more. Tell the other side, then return.
    pub cancelled: CancellationToken,
    /// Takes progress reports. Never recorded.
    pub progress: Box<dyn Fn(Progress) + Send + Sync>,
    /// Puts a pushed request (`method` and `params`) to whoever answers for this run, if its server may ask for that. `name` is
    /// unique in this call and stable over its repetitions. Recorded.
    pub ask: Box<dyn Fn(String, Value, Terms) -> BoxFuture<'static, Answer> + Send + Sync>,
}

/// Progress of one call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Progress {
    /// The step's path.
    pub path: String,
    /// How far.
    pub progress: f64,
    /// Of how much.
    pub total: Option<f64>,
    /// For people.
    pub message: Option<String>,
}
