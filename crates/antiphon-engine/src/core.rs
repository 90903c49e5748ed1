//! What all runs of an engine share, and how a run gets into memory.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use antiphon_kernel::{Command, Event, EventKind, Hop, KERNEL_VERSION, State, ValueRef, step, view};
use dashmap::DashMap;
use futures::FutureExt;
use serde_json::Value;
use tokio::sync::{Mutex, broadcast, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::actor::{Actor, Phase};
use crate::alarm::Alarm;
use crate::api::{EngineError, Owner, Run, RunId};
use crate::blobs::{Blobs, hex_sha256};
use crate::calls::Calls;
use crate::clock::{Clock, millis};
use crate::effects::{Effects, RunInfo};
use crate::engine::EngineOptions;
use crate::journal::{Birth, Journal, Past, Reader, Sleeper, Stored};
use crate::plans::{PinnedPlan, Plans};
use crate::registry::{Board, Published, Registry};
use crate::tape::{Start, Tape};
use crate::timers::Timers;

/// How many runs can be loaded at a time, at most.
const TURNSTILES: usize = 16;
/// Why a run that made antiphon panic does not go on.
const BROKEN: &str =
    "an internal error of antiphon stopped this run; its log tells more. It is tried again at the next start";
/// How much news waits for a slow listener before it misses some.
const NEWS: usize = 256;
/// The longest ttl, in milliseconds: a thousand years.
const LONGEST_TTL: u64 = 1_000 * 366 * 24 * 3_600_000;

/// A run to be started.
pub(crate) struct NewRun {
    pub owner: Owner,
    pub ttl: Duration,
    /// Valid, with defaults.
    pub input: Value,
    /// The idempotency key and the hash of the input as it came.
    pub idempotency: Option<(String, String)>,
    /// The workflows that led to it.
    pub route: Vec<Hop>,
    pub caller_samples: bool,
}

/// What all runs share.
pub(crate) struct Core {
    pub journal: Arc<Journal>,
    pub reader: Reader,
    pub blobs: Blobs,
    pub plans: Plans,
    pub registry: Registry,
    pub effects: Arc<dyn Effects>,
    pub options: EngineOptions,
    pub alarm: Alarm,
    /// Nothing new begins.
    pub stopping: CancellationToken,
    /// Calls that can be made again are not waited for.
    pub hurry: CancellationToken,
    /// Everything ends.
    pub halt: CancellationToken,
    pub tasks: TaskTracker,
    next_run: AtomicU64,
    /// Runs are loaded one at a time, so that none is loaded twice: by hash of the id.
    turnstiles: [Mutex<()>; TURNSTILES],
    hasher: RandomState,
    /// Runs that can't go on, and why: until their alarm rings, or, without one, until the next start.
    pub stuck: DashMap<RunId, String>,
    /// Whose run has begun or ended.
    pub news: broadcast::Sender<Owner>,
}

impl Core {
    /// Opens the database; also tells which runs an earlier process left in it.
    pub(crate) fn open(
        path: &Path,
        effects: Arc<dyn Effects>,
        options: EngineOptions,
    ) -> Result<(Self, Vec<Sleeper>), EngineError> {
        let journal = Arc::new(Journal::open(path, options.max_bytes)?);
        let reader = Reader::new(path);
        let (last_run, left) = reader.left()?;
        let core = Self {
            journal,
            reader,
            blobs: Blobs::default(),
            plans: Plans::default(),
            registry: Registry::default(),
            effects,
            options,
            alarm: Alarm::default(),
            stopping: CancellationToken::new(),
            hurry: CancellationToken::new(),
            halt: CancellationToken::new(),
            tasks: TaskTracker::new(),
            next_run: AtomicU64::new(last_run + 1),
            turnstiles: Default::default(),
            hasher: RandomState::new(),
            stuck: DashMap::new(),
            news: broadcast::Sender::new(NEWS),
        };
        Ok((core, left))
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.options.clock
    }

    pub(crate) async fn blob(&self, sha256: &Arc<str>) -> Result<Arc<Value>, EngineError> {
        self.blobs.fetch(sha256, &self.journal, &self.reader).await
    }

    pub(crate) async fn value(&self, value: &ValueRef) -> Result<Arc<Value>, EngineError> {
        match value {
            ValueRef::Inline(value) => Ok(Arc::clone(value)),
            ValueRef::Blob { sha256, .. } => self.blob(sha256).await,
        }
    }

    /// Starts a run.
    pub(crate) fn start(self: &Arc<Self>, plan: Arc<PinnedPlan>, new: NewRun) -> RunId {
        let id = RunId(uuid::Uuid::new_v4().to_string().into());
        let now = self.clock().now();
        let start = Start {
            n: self.next_run.fetch_add(1, Ordering::Relaxed),
            birth: Some(Birth { plan: Arc::clone(&plan), idempotency: new.idempotency }),
            seq: 0,
            snapshot: 0,
            at: now,
        };
        let run = Run {
            id: id.clone(),
            owner: new.owner,
            workflow: plan.plan.root.clone(),
            revision: 0,
            created_at: now,
            updated_at: now,
            ended_at: None,
            ttl_ms: millis(new.ttl).min(LONGEST_TTL),
            view: view(&plan.plan, &State::default()),
        };
        let key = hex_sha256(&[b"run.key ", id.0.as_bytes()]);
        let mut tape = Tape::new(Arc::clone(&self.journal), start);
        let input = tape.store(Arc::new(new.input), &self.blobs);
        let NewRun { route, caller_samples, .. } = new;
        let owner = run.owner.clone();
        self.launch(run, plan, State::default(), tape, EventKind::Started { key, input, route, caller_samples });
        // Nobody may be listening.
        let _ = self.news.send(owner);
        id
    }

    /// Makes sure that a run that has not ended is in memory.
    pub(crate) async fn activate(self: &Arc<Self>, id: &RunId) -> Result<(), EngineError> {
        if self.registry.is_live(id) {
            return Ok(());
        }
        // In a task of its own: whoever wants it may lose patience, the run must not.
        let task = self.tasks.spawn({
            let (core, id) = (Arc::clone(self), id.clone());
            async move { core.load(&id).await }
        });
        task.await.unwrap_or_else(|error| {
            tracing::error!(run = %id, "can't be loaded: {error}");
            self.give_up(id);
            Err(EngineError::Storage(BROKEN.into()))
        })
    }

    async fn load(self: &Arc<Self>, id: &RunId) -> Result<(), EngineError> {
        let turnstile = &self.turnstiles[self.hasher.hash_one(id) as usize % TURNSTILES];
        let _turn = turnstile.lock().await;
        if self.registry.is_live(id) {
            return Ok(());
        }
        if self.stopping.is_cancelled() {
            return Err(EngineError::Stopping);
        }
        if let Some(why) = self.stuck.get(id) {
            return Err(EngineError::Storage(why.clone()));
        }
        let stored = self.reader.run(id).await?.ok_or_else(|| EngineError::NotFound(id.clone()))?;
        if stored.run.ended_at.is_some() {
            return Ok(());
        }
        let Stored { n, run, plan, kernel, .. } = stored;
        if kernel != KERNEL_VERSION {
            return Err(EngineError::KernelVersion { id: id.clone(), found: kernel, ours: KERNEL_VERSION });
        }
        let plan = self.plans.load(&plan, &self.reader).await?;
        let (state, start) = self.replay(n, &plan, &run).await?;
        let tape = Tape::new(Arc::clone(&self.journal), start);
        self.alarm.clear(id);
        self.launch(run, plan, state, tape, EventKind::Resumed);
        Ok(())
    }

    /// Brings the state back: the snapshot, then the events after it. What they made the kernel command was done then.
    async fn replay(&self, n: u64, plan: &PinnedPlan, run: &Run) -> Result<(State, Start), EngineError> {
        let Past { snapshot, events } = self.reader.past(n).await?;
        let unreadable = |error| {
            EngineError::Storage(format!("the record of run {} in the database can't be read: {error}", run.id))
        };
        let (snapshot, mut state) = match snapshot {
            Some((seq, json)) => (seq, serde_json::from_str(&json).map_err(unreadable)?),
            None => (0, State::default()),
        };
        let mut start = Start { n, birth: None, seq: snapshot, snapshot, at: run.updated_at };
        for json in events {
            let event: Event = serde_json::from_str(&json).map_err(unreadable)?;
            step(&plan.plan, &mut state, &event);
            start.seq += 1;
            start.at = start.at.max(event.at);
        }
        Ok((state, start))
    }

    /// Records `first`, and gives the run an actor that carries out what follows from it.
    fn launch(self: &Arc<Self>, run: Run, plan: Arc<PinnedPlan>, state: State, tape: Tape, first: EventKind) {
        let (post, mailbox) = mpsc::unbounded_channel();
        let shown = Arc::new(run);
        let info =
            Arc::new(RunInfo { id: shown.id.clone(), owner: shown.owner.clone(), workflow: shown.workflow.clone() });
        let published = Published { run: Arc::clone(&shown), receipt: tape.receipt.clone(), read_only: false };
        let fresh = tape.seq == 0;
        let mut actor = Actor {
            core: Arc::clone(self),
            board: Board::new(published),
            info,
            plan,
            state,
            tape,
            calls: Calls::default(),
            timers: Timers::default(),
            phase: Phase::Driving,
            read_only: fresh,
            busy_on_record: false,
            shown,
            stale: false,
            looking: Vec::new(),
            mailbox,
            post,
            active_at: Instant::now(),
        };
        let commands = actor.record(first);
        actor.refresh();
        actor.commit();
        actor.board.published.send_replace(Arc::new(actor.published()));
        actor.board = self.registry.enter(&actor.info.id, actor.post.clone(), actor.board);
        let core = Arc::clone(self);
        self.tasks.spawn(core.run(actor, commands, fresh));
    }

    async fn run(self: Arc<Self>, actor: Actor, commands: Vec<Command>, fresh: bool) {
        let id = actor.info.id.clone();
        let life = async {
            if !fresh {
                // If the disk is still full, find out before calls are made again. A failure shows at the gate.
                let _ = self.journal.committed(&actor.tape.receipt).await;
                if actor.tape.gate.why().is_some() {
                    return actor.freeze().await;
                }
            }
            actor.live(commands).await;
        };
        if std::panic::AssertUnwindSafe(life).catch_unwind().await.is_err() {
            tracing::error!(run = %id, "its task panicked; the run stays as it is until antiphon starts again");
            self.give_up(&id);
        }
    }

    fn give_up(&self, id: &RunId) {
        self.stuck.insert(id.clone(), BROKEN.into());
        self.registry.forget(id);
    }
}
