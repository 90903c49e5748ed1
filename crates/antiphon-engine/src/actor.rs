//! A run in memory: one task that takes what happens, records it, asks the kernel what follows, and does that.
//!
//! Here is the task's life; what it does about each happening is in `turn.rs`.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use antiphon_kernel::{Command, OpId, State, view};
use futures::FutureExt;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::api::{EngineError, Run, RunId};
use crate::calls::{Calls, Landed};
use crate::clock::millis;
use crate::core::Core;
use crate::effects::RunInfo;
use crate::journal::{Receipt, Standing};
use crate::plans::PinnedPlan;
use crate::registry::{Board, Mail, Published, Reply};
use crate::tape::Tape;
use crate::timers::Timers;

/// How long calls in flight may take to say goodbye when the run has ended.
pub(crate) const FAREWELL: Duration = Duration::from_secs(2);
/// How many things happen at most before they are handed to the journal and shown.
const TURN: usize = 64;

/// The actor of one run.
pub(crate) struct Actor {
    pub core: Arc<Core>,
    pub info: Arc<RunInfo>,
    pub plan: Arc<PinnedPlan>,
    pub state: State,
    pub tape: Tape,
    pub calls: Calls,
    pub timers: Timers<OpId>,
    pub phase: Phase,
    /// All calls so far were read-only.
    pub read_only: bool,
    /// Its row says that something is in flight.
    pub busy_on_record: bool,
    pub board: Arc<Board>,
    /// What it showed last.
    pub shown: Arc<Run>,
    /// Things have happened since.
    pub stale: bool,
    /// Who waits for the board to be up to date.
    pub looking: Vec<oneshot::Sender<Reply>>,
    pub mailbox: mpsc::UnboundedReceiver<Mail>,
    /// The other end of `mailbox`.
    pub post: mpsc::UnboundedSender<Mail>,
    /// The last time that something was recorded, or that somebody watched.
    pub active_at: Instant,
}

/// Where an actor's life stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It drives its run.
    Driving,
    /// The engine pauses: calls in flight may end, nothing new begins.
    Pausing {
        /// Something was left undone.
        owing: bool,
    },
    /// The run has ended.
    Ended {
        /// Of the run, in milliseconds since the Unix epoch.
        at: u64,
        /// Until when calls in flight may say goodbye.
        farewell: Instant,
    },
}

/// What an actor wakes up for.
pub(crate) enum Happening {
    Mail(Mail),
    Landed(Landed),
    /// A timer is due.
    Due,
    /// The engine wants to pause.
    Pause,
}

enum Wake {
    Happening(Happening),
    /// Nothing has happened for a while.
    Leave,
    /// The engine won't wait any longer.
    Halt,
    /// A write has failed.
    Frozen,
}

impl Actor {
    /// Carries out the first commands, then lives until the run leaves memory.
    pub(crate) async fn live(mut self, commands: Vec<Command>) {
        self.carry_out_all(commands).await;
        loop {
            self.settle().await;
            match self.wake().await {
                Wake::Happening(happening) => self.take(happening).await,
                Wake::Leave => {
                    if self.leave().await {
                        return;
                    }
                }
                Wake::Halt => {
                    self.halt();
                    self.settle().await;
                    if self.leave().await {
                        return;
                    }
                }
                Wake::Frozen => return self.freeze().await,
            }
            for _ in 0..TURN {
                let Some(happening) = self.ready().await else { break };
                self.take(happening).await;
            }
        }
    }

    /// What has happened already.
    async fn ready(&mut self) -> Option<Happening> {
        if let Poll::Ready(Some(landed)) = poll_fn(|cx| Poll::Ready(self.calls.poll_next(cx))).await {
            return Some(Happening::Landed(landed));
        }
        self.mailbox.try_recv().ok().map(Happening::Mail)
    }

    async fn wake(&mut self) -> Wake {
        let driving = self.phase == Phase::Driving;
        let pausing = matches!(self.phase, Phase::Pausing { .. });
        if !driving && self.calls.is_empty() && self.mailbox.is_empty() && self.tape.gate.why().is_none() {
            return Wake::Leave;
        }
        let due = self.timers.next().filter(|_| driving);
        let leave_at = self.leave_at();
        let Self { core, tape, mailbox, calls, .. } = self;
        tokio::select! {
            biased;
            () = tape.gate.shut() => Wake::Frozen,
            () = core.halt.cancelled() => Wake::Halt,
            () = core.hurry.cancelled(), if pausing && calls.can_be_repeated() => Wake::Halt,
            () = core.stopping.cancelled(), if driving => Wake::Happening(Happening::Pause),
            Some(mail) = mailbox.recv() => Wake::Happening(Happening::Mail(mail)),
            Some(landed) = poll_fn(|cx| calls.poll_next(cx)), if !calls.is_empty() => Wake::Happening(Happening::Landed(landed)),
            () = core.clock().until(due.unwrap_or_default()), if due.is_some() => Wake::Happening(Happening::Due),
            () = sleep_until(leave_at.unwrap_or(self.active_at)), if leave_at.is_some() => Wake::Leave,
        }
    }

    /// When the run may leave memory, if nothing happens.
    fn leave_at(&self) -> Option<Instant> {
        match self.phase {
            Phase::Ended { farewell, .. } => Some(farewell),
            Phase::Driving if self.calls.is_empty() => {
                let crowded = self.core.registry.is_crowded();
                let rest = if crowded { Duration::ZERO } else { self.core.options.park_after };
                let soon = self.core.clock().now().saturating_add(2 * millis(rest));
                self.timers.next().is_none_or(|due| due > soon).then(|| self.active_at + rest)
            }
            _ => None,
        }
    }

    /// Whether the outcome of something would be lost with the process.
    fn is_busy(&self) -> bool {
        match self.phase {
            // A run that can't go on here is to be taken up again.
            Phase::Driving => !self.calls.is_empty() || self.tape.gate.why().is_some(),
            Phase::Pausing { owing } => owing || !self.calls.is_empty(),
            Phase::Ended { .. } => false,
        }
    }

    /// Records what happened, and shows it if anybody looks closely, if it asks something else, or if it will stay so for a while.
    async fn settle(&mut self) {
        let busy = self.is_busy();
        let rests = !busy || (self.phase != Phase::Driving && self.calls.is_empty());
        let shows = self.stale
            && (rests || !self.looking.is_empty() || self.board.is_watched_closely() || self.asks_something_else());
        if shows {
            self.refresh();
        }
        if rests && (self.busy_on_record || self.tape.has_news()) {
            let wake_at = self.timers.next().filter(|_| !busy);
            self.busy_on_record = busy;
            self.tape.commit(Some(Standing { run: Arc::clone(&self.shown), busy, wake_at }));
        } else if self.tape.has_news() {
            self.commit();
        }
        if shows {
            self.board.published.send_replace(Arc::new(self.published()));
            if self.shown.ended_at.is_some() {
                // Nobody may be listening.
                let _ = self.core.news.send(self.shown.owner.clone());
            }
        }
        for reply in self.looking.drain(..) {
            let _ = reply.send(Ok(Some(self.tape.receipt.clone())));
        }
        self.core.journal.breathe().await;
    }

    /// Whether its questions are not those that it showed last.
    fn asks_something_else(&self) -> bool {
        let shown = &self.shown.view.questions;
        let mut open = 0;
        !self.state.questions().all(|key| {
            open += 1;
            shown.iter().any(|question| question.key == key)
        }) || open != shown.len()
    }

    /// Hands what happened to the journal. A run that rested so far is marked: from now on its row is behind.
    pub(crate) fn commit(&mut self) -> Receipt {
        let standing = (!self.busy_on_record && self.tape.has_news()).then(|| Standing {
            run: Arc::clone(&self.shown),
            busy: true,
            wake_at: None,
        });
        self.busy_on_record |= standing.is_some();
        self.tape.commit(standing)
    }

    /// Brings `shown` up to date. Its revision is the number of the last event, so that it never goes back, whatever crashes.
    pub(crate) fn refresh(&mut self) {
        self.stale = false;
        let view = view(&self.plan.plan, &self.state);
        if view != self.shown.view {
            let Run { id, owner, workflow, created_at, ttl_ms, .. } = &*self.shown;
            self.shown = Arc::new(Run {
                id: id.clone(),
                owner: owner.clone(),
                workflow: workflow.clone(),
                revision: self.tape.seq,
                created_at: *created_at,
                updated_at: self.tape.at,
                ended_at: if let Phase::Ended { at, .. } = self.phase { Some(at) } else { None },
                ttl_ms: *ttl_ms,
                view,
            });
        }
    }

    pub(crate) fn published(&self) -> Published {
        Published { run: Arc::clone(&self.shown), receipt: self.tape.receipt.clone(), read_only: self.read_only }
    }

    /// What is in flight is given up; its outcome will be unknown when the run goes on.
    fn halt(&mut self) {
        if !matches!(self.phase, Phase::Ended { .. }) {
            let owing = !self.calls.is_empty() || self.phase == Phase::Pausing { owing: true };
            self.phase = Phase::Pausing { owing };
        }
        self.calls = Calls::default();
    }

    /// Leaves memory, unless somebody wants the run to stay.
    async fn leave(&mut self) -> bool {
        if self.phase == Phase::Driving && self.board.is_watched() {
            self.active_at = Instant::now();
            return false;
        }
        if !matches!(self.phase, Phase::Ended { .. }) && self.tape.wants_snapshot() {
            match serde_json::to_string(&self.state) {
                Ok(state) => drop(self.tape.commit_snapshot(state)),
                Err(error) => tracing::warn!(run = %self.info.id, "no snapshot: {error}"),
            }
        }
        self.calls = Calls::default();
        let recorded = if self.core.stopping.is_cancelled() {
            self.core.journal.committed(&self.tape.receipt).await
        } else {
            // Without hurry: runs that end at about the same time share a commit.
            tokio::select! {
                recorded = self.core.journal.eventual(&self.tape.receipt) => recorded,
                Some(mail) = self.mailbox.recv() => {
                    self.take(Happening::Mail(mail)).await;
                    return false;
                }
            }
        };
        if let Err(error) = recorded {
            self.tape.gate.close(&error.to_string());
            return false;
        }
        release(&self.core, &self.info.id).await;
        if !self.core.registry.leave(&self.info.id, &self.mailbox) {
            return false;
        }
        match self.phase {
            Phase::Ended { .. } => self.board.hush(),
            Phase::Driving => {
                if let Some(due) = self.timers.next() {
                    self.core.alarm.set(self.info.id.clone(), due);
                }
            }
            Phase::Pausing { .. } => {}
        }
        true
    }

    /// Something could not be recorded: what is in memory counts no more. The run goes on from what is on the disk.
    pub(crate) async fn freeze(mut self) {
        let why = self.tape.gate.why().unwrap_or_default().to_owned();
        tracing::warn!(run = %self.info.id, "frozen, because it could not be recorded: {why}");
        self.calls.cancel_all();
        self.calls = Calls::default();
        release(&self.core, &self.info.id).await;
        // Whoever brings it back must find all that was recorded.
        let _ = self.core.journal.committed(&self.core.journal.newest()).await;
        self.core.stuck.insert(self.info.id.clone(), why.clone());
        self.core.registry.forget(&self.info.id);
        self.mailbox.close();
        while let Ok(mail) = self.mailbox.try_recv() {
            mail.refuse(&why);
        }
        for reply in self.looking {
            let _ = reply.send(Err(EngineError::Storage(why.clone())));
        }
        self.core.alarm.again(self.info.id.clone(), self.core.clock());
    }
}

async fn release(core: &Core, id: &RunId) {
    if AssertUnwindSafe(core.effects.release(id)).catch_unwind().await.is_err() {
        tracing::error!(run = %id, "releasing what was kept for the run panicked");
    }
}
