//! What an engine offers to those who start, watch and answer runs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use antiphon_kernel::{Answer, Event, Hop, Plan, RunView, ValueRef};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::broadcast;

use crate::dispatch::with_tools;
use crate::effects::Progress;

/// A run's id: the MCP task id. Unguessable (UUIDv4), and useful to its owner only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub Arc<str>);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who a run belongs to: `local`, `token:NAME`, `jwt:ISS#SUB` or `anonymous`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Owner(pub Arc<str>);

impl Owner {
    /// This user's stdio, socket and command line.
    pub fn local() -> Self {
        Self("local".into())
    }

    /// Whoever comes without a name. They share nothing, so nothing is listed for them: who knows a run's id has the run.
    pub fn anonymous() -> Self {
        Self("anonymous".into())
    }

    /// Whether it is [`Self::anonymous`].
    pub fn is_anonymous(&self) -> bool {
        &*self.0 == "anonymous"
    }
}

/// What starts a run.
#[derive(Clone, Debug)]
pub struct StartRun {
    /// Whose run it is.
    pub owner: Owner,
    /// The whole plan; the run pins it.
    pub plan: Arc<Plan>,
    /// The input, not validated yet: the engine validates it against the root's schema and fills in defaults.
    pub input: Value,
    /// How long the record is kept after the end.
    pub ttl: Duration,
    /// The same owner, workflow, key and input give the existing run instead of a new one.
    pub idempotency_key: Option<String>,
    /// The workflows that led to this one, outermost first, when a run of another database called it.
    pub route: Vec<Hop>,
    /// Whoever calls can be asked to sample: only then is `caller` among the models.
    pub caller_samples: bool,
}

/// The answer to [`Engine::start`].
#[derive(Clone, Debug)]
pub struct Started {
    /// The run.
    pub id: RunId,
    /// It was there already (same idempotency key).
    pub existing: bool,
}

/// A run as stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// Whose it is.
    pub owner: Owner,
    /// The root workflow's name.
    pub workflow: String,
    /// Grows with every change of the view; see [`Engine::wait`].
    pub revision: u64,
    /// Milliseconds since the Unix epoch.
    pub created_at: u64,
    /// Likewise; the last change.
    pub updated_at: u64,
    /// Likewise; `None` while it lives.
    pub ended_at: Option<u64>,
    /// How long it is kept after its end, in milliseconds.
    pub ttl_ms: u64,
    /// What it shows.
    pub view: RunView,
}

/// Which runs to list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only this owner's.
    pub owner: Option<Owner>,
    /// Only those that have not ended.
    pub live: bool,
    /// Only those whose id starts with this (for short ids on a command line).
    pub id_prefix: Option<String>,
}

/// A page of a list.
#[derive(Clone, Debug)]
pub struct Page {
    /// Newest first.
    pub runs: Vec<Run>,
    /// Pass it back for the next page.
    pub next: Option<String>,
}

/// What somebody waits for who waits for a run. Showing each change has its cost: it is only done for those who want it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// A revision above this one.
    Changed(u64),
    /// Likewise, but only if it asks something else, or nothing is under way any more. Other changes may pass unseen.
    Asked(u64),
    /// Its end.
    Ended,
}

impl Until {
    /// Whether a run has come so far.
    pub(crate) fn reached(self, run: &Run) -> bool {
        let after = match self {
            Self::Changed(after) | Self::Asked(after) => after,
            Self::Ended => u64::MAX,
        };
        run.revision > after || run.ended_at.is_some()
    }
}

/// Starts, shows, feeds and ends runs.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Starts a run, or finds the one with the same idempotency key. Does not wait for the disk: the id must not leave before
    /// [`Engine::view`], or [`Engine::wait`] with `inline` false, has returned.
    async fn start(&self, request: StartRun) -> Result<Started, EngineError>;

    /// The run as it stands, durable.
    async fn view(&self, id: &RunId) -> Result<Run, EngineError>;

    /// Waits for what `until` says, the run's end, or `max` to pass; then the run as it stands.
    ///
    /// Durable, unless `inline` is true (nobody has seen the id yet) and the run has either not ended, or ended having made
    /// read-only calls alone.
    async fn wait(&self, id: &RunId, until: Until, max: Duration, inline: bool) -> Result<Run, EngineError>;

    /// Progress of calls in flight, as it comes; never recorded.
    async fn progress(&self, id: &RunId) -> Result<broadcast::Receiver<Progress>, EngineError>;

    /// Answers a question. Durable on return. An unknown, answered or withdrawn key is ignored (`Ok(false)`); content that
    /// does not fit the question's schema is [`EngineError::InvalidAnswer`].
    async fn input(&self, id: &RunId, key: &str, answer: Answer) -> Result<bool, EngineError>;

    /// Asks the run to end; returns once that is recorded. A run that has ended stays as it is.
    async fn cancel(&self, id: &RunId, reason: &str) -> Result<(), EngineError>;

    /// Runs, newest first.
    async fn list(&self, filter: Filter, cursor: Option<String>, limit: usize) -> Result<Page, EngineError>;

    /// Tells of each run that begins or ends from now on: whose it is. Who lags behind misses some.
    fn news(&self) -> broadcast::Receiver<Owner>;

    /// Every recorded event of a run, oldest first.
    async fn history(&self, id: &RunId) -> Result<Vec<Event>, EngineError>;

    /// The plan that the run pins.
    async fn plan(&self, id: &RunId) -> Result<Arc<Plan>, EngineError>;

    /// The value behind a reference.
    async fn value(&self, value: &ValueRef) -> Result<Arc<Value>, EngineError>;

    /// A sample's request, with what its model may call where that is kept apart.
    async fn request(&self, request: &ValueRef, tools: Option<&ValueRef>) -> Result<Arc<Value>, EngineError> {
        let request = self.value(request).await?;
        Ok(match tools {
            Some(tools) => Arc::new(with_tools(&request, &*self.value(tools).await?)),
            None => request,
        })
    }

    /// No new dispatch; waits at most `grace` for calls in flight, and only a moment for those that can be made again; flushes.
    /// Runs that are not over go on when an engine opens the same database again.
    async fn pause(&self, grace: Duration);
}

/// What can go wrong with an engine's calls.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No such run, or no longer.
    #[error("no run {0}: it never existed, or its record has expired")]
    NotFound(RunId),
    /// The input does not fit the workflow's schema.
    #[error("the input does not fit `{workflow}`: {message}")]
    InvalidInput {
        /// The workflow.
        workflow: String,
        /// Where and what.
        message: String,
    },
    /// An answer does not fit its question.
    #[error("the answer does not fit the question `{key}`: {message}")]
    InvalidAnswer {
        /// The question.
        key: String,
        /// Where and what.
        message: String,
    },
    /// The same idempotency key came with another workflow or input.
    #[error("the idempotency key was already used for another workflow or input")]
    KeyReused,
    /// The run was started by another version of the kernel.
    #[error("run {id} was started by kernel version {found}; this antiphon drives version {ours}")]
    KernelVersion {
        /// The run.
        id: RunId,
        /// Its version.
        found: u32,
        /// Ours.
        ours: u32,
    },
    /// The database can't be used.
    #[error("{0}")]
    Storage(String),
    /// The engine is stopping.
    #[error("antiphon is stopping")]
    Stopping,
}
