//! The embedded engine: one process, one SQLite database.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use antiphon_kernel::{Answer, Event, KERNEL_VERSION, Plan, ValueRef, expr};
use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::{Mutex, broadcast, oneshot};
use tokio::time::{sleep, timeout};

use crate::api::{Engine, EngineError, Filter, Owner, Page, Run, RunId, StartRun, Started, Until};
use crate::blobs::hex_sha256;
use crate::clock::Clock;
use crate::core::{Core, NewRun};
use crate::effects::{Effects, Progress};
use crate::journal::Stored;
use crate::keeper;
use crate::registry::{Board, Mail, Published, Reply};

/// How long a pause waits for calls that can be made again.
const REPEATABLE: Duration = Duration::from_secs(2);

/// How an engine behaves.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// The time, and what sleeps are measured with.
    pub clock: Clock,
    /// A run with nothing in flight leaves memory after this long.
    pub park_after: Duration,
    /// How often ended runs whose ttl has passed are deleted.
    pub sweep_every: Duration,
    /// The largest size of the database, in bytes; `None` leaves it to the disk.
    pub max_bytes: Option<u64>,
    /// Runs go on. Without it the engine only shows what is recorded: nothing starts, and nothing is taken over.
    pub drive: bool,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            clock: Clock::system(),
            park_after: Duration::from_secs(2),
            sweep_every: Duration::from_secs(60),
            max_bytes: None,
            drive: true,
        }
    }
}

/// The embedded engine. Dropping it ends everything at once, as a crash would; [`Engine::pause`] ends it in order.
pub struct SqliteEngine {
    core: Arc<Core>,
    /// Starts with an idempotency key happen one at a time.
    keyed: Mutex<()>,
}

impl SqliteEngine {
    /// Opens, creates or migrates the database at `path`, and takes over the runs in it. One process at a time may do that:
    /// the caller sees to it. Others may read meanwhile.
    ///
    /// # Errors
    /// [`EngineError::Storage`] if the database is locked, damaged, newer than this antiphon, or not its own.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn open(path: &Path, effects: Arc<dyn Effects>, options: EngineOptions) -> Result<Arc<Self>, EngineError> {
        let drive = options.drive;
        let (core, left) = Core::open(path, effects, options)?;
        let core = Arc::new(core);
        if !drive {
            core.stopping.cancel();
        }
        core.tasks.spawn(keeper::keep(Arc::clone(&core), left));
        Ok(Arc::new(Self { core, keyed: Mutex::default() }))
    }

    /// How often the disk was waited for since this engine was opened. Runs that wait at the same time share one wait.
    pub fn flushes(&self) -> u64 {
        self.core.journal.flushes()
    }

    /// Has a run in memory deal with some mail. `None` if it is not in memory, or has just left it.
    async fn tell<F>(&self, id: &RunId, mail: F) -> Option<Reply>
    where
        F: FnOnce(oneshot::Sender<Reply>) -> Mail,
    {
        let (reply, answer) = oneshot::channel();
        if !self.core.registry.send(id, mail(reply)) {
            return None;
        }
        answer.await.ok()
    }

    /// The run's board, up to date. Runs that were busy when their process ended are brought back for it.
    async fn board(&self, id: &RunId) -> Result<Arc<Board>, EngineError> {
        loop {
            let board = match self.tell(id, |reply| Mail::Look { reply }).await {
                Some(Err(error)) => return Err(error),
                Some(Ok(_)) => self.core.registry.board(id),
                None => self.core.registry.quiet_board(id),
            };
            if let Some(board) = board {
                return Ok(board);
            }
            let stored = self.stored(id).await?;
            if stored.busy && !self.core.stopping.is_cancelled() {
                self.core.activate(id).await?;
                continue;
            }
            let receipt = self.core.journal.readable();
            let published = Published { run: Arc::new(stored.run), receipt, read_only: false };
            return Ok(self.core.registry.show(id, published));
        }
    }

    async fn stored(&self, id: &RunId) -> Result<Stored, EngineError> {
        self.core.reader.run(id).await?.ok_or_else(|| EngineError::NotFound(id.clone()))
    }

    /// Has a run in memory show how it stands.
    async fn look(&self, id: &RunId) -> Result<(), EngineError> {
        match self.tell(id, |reply| Mail::Look { reply }).await {
            Some(Err(error)) => Err(error),
            _ => Ok(()),
        }
    }

    /// Waits until what is published is on the disk.
    async fn durable(&self, published: &Published) -> Result<Run, EngineError> {
        self.core.journal.durable(&published.receipt).await?;
        Ok(Run::clone(&published.run))
    }

    /// The existing run, when the request repeats an earlier one.
    async fn repeated(&self, owner: &Owner, root: &str, key: &str, hash: &str) -> Result<Option<RunId>, EngineError> {
        // Those that were started a moment ago count too.
        self.core.journal.committed(&self.core.journal.newest()).await?;
        match self.core.reader.keyed(owner, key).await? {
            None => Ok(None),
            Some((id, workflow, input)) if workflow == root && input == hash => Ok(Some(id)),
            Some(_) => Err(EngineError::KeyReused),
        }
    }
}

impl Drop for SqliteEngine {
    fn drop(&mut self) {
        self.core.journal.close();
        self.core.halt.cancel();
    }
}

/// The input with defaults filled in, if it fits the root workflow's schema.
fn accept(plan: &Plan, input: Value) -> Result<Value, EngineError> {
    let invalid = |message: String| EngineError::InvalidInput { workflow: plan.root.clone(), message };
    let root = plan.workflows.get(&plan.root).ok_or_else(|| invalid("its plan does not contain it".into()))?;
    let input = expr::with_defaults(&root.input_schema, input);
    expr::validate(&root.input_schema, &input).map_err(invalid)?;
    Ok(input)
}

/// The same for the same content, whatever the order of its keys.
fn content_hash(value: &Value) -> String {
    let mut value = value.clone();
    value.sort_all_objects();
    hex_sha256(&[value.to_string().as_bytes()])
}

#[async_trait]
impl Engine for SqliteEngine {
    async fn start(&self, request: StartRun) -> Result<Started, EngineError> {
        if self.core.stopping.is_cancelled() {
            return Err(EngineError::Stopping);
        }
        if request.plan.kernel != KERNEL_VERSION {
            return Err(EngineError::InvalidInput {
                workflow: request.plan.root.clone(),
                message: format!(
                    "its plan is for kernel version {}; this antiphon drives {KERNEL_VERSION}",
                    request.plan.kernel
                ),
            });
        }
        self.core.journal.breathe().await;
        let StartRun { owner, plan, input, ttl, idempotency_key, route, caller_samples } = request;
        let new = |input, idempotency| NewRun { owner: owner.clone(), ttl, input, idempotency, route, caller_samples };
        let pinned = self.core.plans.pin(&plan)?;
        let Some(key) = idempotency_key else {
            let input = accept(&plan, input)?;
            return Ok(Started { id: self.core.start(pinned, new(input, None)), existing: false });
        };
        let input_hash = content_hash(&input);
        let _turn = self.keyed.lock().await;
        if let Some(id) = self.repeated(&owner, &plan.root, &key, &input_hash).await? {
            return Ok(Started { id, existing: true });
        }
        let input = accept(&plan, input)?;
        Ok(Started { id: self.core.start(pinned, new(input, Some((key, input_hash)))), existing: false })
    }

    async fn view(&self, id: &RunId) -> Result<Run, EngineError> {
        let board = self.board(id).await?;
        let published = Arc::clone(&board.published.borrow());
        self.durable(&published).await
    }

    async fn wait(&self, id: &RunId, until: Until, max: Duration, inline: bool) -> Result<Run, EngineError> {
        let patience = sleep(max);
        tokio::pin!(patience);
        loop {
            // Subscribe first: from then on the run shows all that happens.
            let board = self.board(id).await?;
            let mut changes = board.published.subscribe();
            let _closely = matches!(until, Until::Changed(_)).then(|| board.watch_closely());
            drop(board);
            // What happened in between may not have been shown.
            self.look(id).await?;
            let published = loop {
                let published = Arc::clone(&changes.borrow_and_update());
                if until.reached(&published.run) {
                    break Some(published);
                }
                tokio::select! {
                    () = &mut patience => {
                        self.look(id).await?;
                        break Some(Arc::clone(&changes.borrow()));
                    }
                    changed = changes.changed() => if changed.is_err() { break None },
                }
            };
            let Some(published) = published else { continue };
            if inline && (published.run.ended_at.is_none() || published.read_only) {
                return Ok(Run::clone(&published.run));
            }
            return self.durable(&published).await;
        }
    }

    async fn progress(&self, id: &RunId) -> Result<broadcast::Receiver<Progress>, EngineError> {
        Ok(self.board(id).await?.follow())
    }

    async fn input(&self, id: &RunId, key: &str, answer: Answer) -> Result<bool, EngineError> {
        loop {
            if self.core.stopping.is_cancelled() {
                return Err(EngineError::Stopping);
            }
            let mail = |reply| Mail::Input { key: key.to_owned(), answer: Box::new(answer.clone()), reply };
            if let Some(taken) = self.tell(id, mail).await {
                let Some(receipt) = taken? else { return Ok(false) };
                self.core.journal.durable(&receipt).await?;
                return Ok(true);
            }
            // Nothing in memory: load the run only if it asks that.
            let stored = self.stored(id).await?;
            let asks = stored.busy || stored.run.view.questions.iter().any(|question| question.key == key);
            if stored.run.ended_at.is_some() || !asks {
                return Ok(false);
            }
            self.core.activate(id).await?;
        }
    }

    async fn cancel(&self, id: &RunId, reason: &str) -> Result<(), EngineError> {
        loop {
            if let Some(taken) = self.tell(id, |reply| Mail::Cancel { reason: reason.to_owned(), reply }).await {
                return match taken? {
                    Some(receipt) => self.core.journal.durable(&receipt).await,
                    None => Ok(()),
                };
            }
            if self.stored(id).await?.run.ended_at.is_some() {
                return Ok(());
            }
            self.core.activate(id).await?;
        }
    }

    async fn list(&self, filter: Filter, cursor: Option<String>, limit: usize) -> Result<Page, EngineError> {
        let before = match cursor.map(|cursor| cursor.parse()) {
            None => None,
            Some(Ok(before)) => Some(before),
            Some(Err(_)) => return Ok(Page { runs: Vec::new(), next: None }),
        };
        let limit = limit.max(1);
        self.core.journal.committed(&self.core.journal.newest()).await?;
        let live_only = filter.live;
        let mut stored = self.core.reader.list(filter, before, limit + 1).await?;
        let more = stored.len() > limit;
        stored.truncate(limit);
        let next = stored.last().filter(|_| more).map(|last| last.n.to_string());
        let mut runs = Vec::with_capacity(stored.len());
        for Stored { run, busy, .. } in stored {
            // The row of a busy run is behind.
            let run = if busy { self.view(&run.id).await.unwrap_or(run) } else { run };
            if !(live_only && run.ended_at.is_some()) {
                runs.push(run);
            }
        }
        self.core.journal.durable(&self.core.journal.readable()).await?;
        Ok(Page { runs, next })
    }

    fn news(&self) -> broadcast::Receiver<Owner> {
        self.core.news.subscribe()
    }

    async fn history(&self, id: &RunId) -> Result<Vec<Event>, EngineError> {
        self.core.journal.durable(&self.core.journal.newest()).await?;
        let stored = self.stored(id).await?;
        let events = self.core.reader.events(stored.n, 0).await?;
        events
            .iter()
            .map(|json| serde_json::from_str(json))
            .collect::<Result<_, _>>()
            .map_err(|error| EngineError::Storage(format!("the record of run {id} can't be read: {error}")))
    }

    async fn plan(&self, id: &RunId) -> Result<Arc<Plan>, EngineError> {
        self.core.journal.committed(&self.core.journal.newest()).await?;
        let stored = self.stored(id).await?;
        Ok(Arc::clone(&self.core.plans.load(&stored.plan, &self.core.reader).await?.plan))
    }

    async fn value(&self, value: &ValueRef) -> Result<Arc<Value>, EngineError> {
        self.core.value(value).await
    }

    async fn pause(&self, grace: Duration) {
        self.core.stopping.cancel();
        self.core.tasks.close();
        let all = self.core.tasks.wait();
        tokio::pin!(all);
        if timeout(grace.min(REPEATABLE), &mut all).await.is_err() {
            self.core.hurry.cancel();
            let _ = timeout(grace.saturating_sub(REPEATABLE), all).await;
        }
        self.core.halt.cancel();
        self.core.tasks.wait().await;
        if let Err(error) = self.core.journal.durable(&self.core.journal.newest()).await {
            tracing::error!("not everything could be recorded: {error}");
        }
    }
}
