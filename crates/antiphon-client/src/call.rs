//! What is asked of a server, and what comes of it.
#![expect(deprecated, reason = "MCP deprecates logging, and servers use it")]

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use rmcp::model::{ClientCapabilities, LoggingMessageNotificationParam};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How a server asks people.
pub(crate) const ELICIT: &str = "elicitation/create";
/// How a server asks models.
pub(crate) const CREATE_MESSAGE: &str = "sampling/createMessage";
/// How a server that was let back in calls a tool.
pub(crate) const CALL_TOOL: &str = "tools/call";

/// How a server asks for folders.
pub(crate) const LIST_ROOTS: &str = "roots/list";

/// One request, or one round of it.
#[derive(Clone, Debug)]
pub struct Call {
    /// What is wanted.
    pub what: What,
    /// Added to the request's `_meta`.
    pub meta: Map<String, Value>,
    /// What the round before asked for.
    pub input: Option<Input>,
}

/// What is wanted of a server.
#[derive(Clone, Debug)]
pub enum What {
    /// `tools/call`.
    Tool {
        /// The tool's own name.
        name: String,
        /// Its arguments.
        arguments: Map<String, Value>,
    },
    /// `resources/read`.
    Resource {
        /// The resource.
        uri: String,
    },
}

/// Answers to an [`Outcome::NeedsInput`].
#[derive(Clone, Debug, Default)]
pub struct Input {
    /// Results by the server's own keys, such as an `ElicitResult`.
    pub responses: BTreeMap<String, Value>,
    /// Its state, as it came.
    pub state: Option<String>,
}

/// How a request that did not fail ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// With a result: a `CallToolResult` (with `isError` or without) or a `ReadResourceResult`.
    Done(Value),
    /// It wants answers. Of a [`Call`]: make it again with [`Input`]; of a task: attach to it again with them.
    NeedsInput {
        /// `elicitation/create` and `sampling/createMessage` requests (`method`, `params`) by the server's own keys. Empty: call
        /// again later.
        requests: BTreeMap<String, Value>,
        /// Of a [`Call`]: what to give back as [`Input::state`].
        state: Option<String>,
    },
    /// It became a task.
    Detached(TaskHandle),
}

/// Finds a server's task again, also after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskHandle {
    /// The server's id of it.
    pub task_id: String,
    /// How often the server wants to be asked, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll_interval_ms: Option<u64>,
}

/// How far a call has got.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// So far.
    pub progress: f64,
    /// Of so much.
    pub total: Option<f64>,
    /// For people.
    pub message: Option<String>,
}

/// The answer to what a server asked in the middle of a call, to come.
pub type Answering = BoxFuture<'static, Result<Value, Refused>>;

/// Why a server gets no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// For people and models.
    pub message: String,
    /// It may not ask this; else there was nobody who could answer.
    pub denied: bool,
}

impl Refused {
    /// It may not.
    pub fn denied(message: impl Into<String>) -> Self {
        Self { message: message.into(), denied: true }
    }

    /// Nobody could.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { message: message.into(), denied: false }
    }
}

/// What a call in flight can use.
#[derive(Clone)]
pub struct CallContext {
    /// The run that it belongs to, for servers with a connection for each.
    pub run: Option<Arc<str>>,
    /// By which a process that was let back in may say that it speaks for this call; `None`: it is none that anybody can speak for.
    pub key: Option<Arc<str>>,
    /// When it ends at the latest.
    pub deadline: Option<Instant>,
    /// Ends it. The server is told.
    pub cancelled: CancellationToken,
    /// Takes progress reports.
    pub progress: Arc<dyn Fn(Progress) + Send + Sync>,
    /// Puts what the server asks (`method`, `params`) to whoever answers, and yields an `ElicitResult`, a `CreateMessageResult` or a
    /// `CallToolResult`. The first argument tells the requests of one call apart, and is the same when the call is repeated.
    pub ask: Arc<dyn Fn(String, Value) -> Answering + Send + Sync>,
    /// Whoever the request is passed on for, if it is not our own.
    pub on_behalf: Option<Arc<OnBehalf>>,
}

/// Whoever a request is passed on for.
pub struct OnBehalf {
    /// What they can answer: the server is told, and may ask for that and nothing else.
    pub capabilities: Arc<ClientCapabilities>,
    /// Takes log messages.
    pub log: Arc<dyn Fn(LoggingMessageNotificationParam) + Send + Sync>,
}

impl CallContext {
    /// For requests of our own: nobody to report to, nobody to ask.
    pub fn detached() -> Self {
        Self::until(CancellationToken::new())
    }

    /// Likewise, ended by this.
    pub fn until(cancelled: CancellationToken) -> Self {
        Self {
            run: None,
            key: None,
            deadline: None,
            cancelled,
            progress: Arc::new(|_| {}),
            ask: Arc::new(|_, _| Box::pin(async { Err(Refused::failed("nobody is there to answer")) })),
            on_behalf: None,
        }
    }
}

impl fmt::Debug for CallContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallContext").field("run", &self.run).field("deadline", &self.deadline).finish_non_exhaustive()
    }
}
