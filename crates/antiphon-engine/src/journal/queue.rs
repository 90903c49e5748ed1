//! What waits for the thread that writes, and who waits for it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::Write;
use crate::api::EngineError;

/// Numbers writes in the order in which they came, from 1.
pub(crate) type Ticket = u64;

/// How soon a write has to be committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Urgency {
    /// Soon: others may join it.
    #[default]
    Lazy,
    /// At once, but nobody waits for the disk.
    Now,
    /// At once, and down to the disk.
    Durable,
}

/// How long a lazy write waits for company.
const LINGER: Duration = Duration::from_millis(10);

/// Something for the thread to do.
pub(super) enum Item {
    /// Record.
    Write(Write),
    /// Delete runs that expired before `now`.
    Sweep { now: u64, reply: oneshot::Sender<Result<usize, EngineError>> },
}

/// What a waiter waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// A commit, whenever it comes.
    Eventual,
    /// A commit: it survives the process.
    Committed,
    /// A commit on the disk: it survives a power cut.
    Durable,
}

impl Level {
    fn urgency(self) -> Urgency {
        match self {
            Self::Eventual => Urgency::Lazy,
            Self::Committed => Urgency::Now,
            Self::Durable => Urgency::Durable,
        }
    }
}

type Reached = Result<(), Arc<str>>;

struct Waiter {
    ticket: Ticket,
    level: Level,
    reply: oneshot::Sender<Reached>,
}

/// What is taken for one transaction.
pub(super) struct Batch {
    pub items: Vec<Item>,
    /// The ticket of the last item.
    pub upto: Ticket,
    /// Somebody waits for the disk.
    pub durable: bool,
}

#[derive(Default)]
struct State {
    items: Vec<Item>,
    since: Option<Instant>,
    urgency: Urgency,
    newest: Ticket,
    committed: Ticket,
    durable: Ticket,
    flushes: u64,
    waiters: Vec<Waiter>,
    closed: bool,
    finished: bool,
}

/// The queue.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
}

impl Queue {
    /// A thread that panicked in here left nothing half done.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an item, unless the queue is closed.
    pub(super) fn push(&self, mut item: Item, urgency: Urgency) -> Option<Ticket> {
        let mut state = self.lock();
        if state.closed {
            return None;
        }
        if let Item::Write(write) = &mut item {
            state.newest += 1;
            write.ticket = state.newest;
        }
        state.items.push(item);
        if state.items.len() == 1 {
            state.since = Some(Instant::now());
        }
        if state.items.len() == 1 || urgency > state.urgency {
            state.urgency = state.urgency.max(urgency);
            self.wake.notify_one();
        }
        Some(state.newest)
    }

    /// `None` if that is so already.
    pub(super) fn wait(&self, ticket: Ticket, level: Level) -> Option<oneshot::Receiver<Reached>> {
        let mut state = self.lock();
        let reached = match level {
            Level::Eventual | Level::Committed => state.committed,
            Level::Durable => state.durable,
        };
        if reached >= ticket {
            return None;
        }
        let (reply, receiver) = oneshot::channel();
        if !state.finished {
            state.waiters.push(Waiter { ticket, level, reply });
            if level.urgency() > state.urgency {
                state.urgency = level.urgency();
                self.wake.notify_one();
            }
        }
        Some(receiver)
    }

    pub(super) fn newest(&self) -> Ticket {
        self.lock().newest
    }

    pub(super) fn committed(&self) -> Ticket {
        self.lock().committed
    }

    pub(super) fn flushes(&self) -> u64 {
        self.lock().flushes
    }

    pub(super) fn backlog(&self) -> u64 {
        let state = self.lock();
        state.newest - state.committed
    }

    /// Takes nothing more.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_one();
    }

    /// Nothing will be committed any more.
    pub(super) fn finish(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.finished = true;
        state.waiters.clear();
    }

    /// Blocks until there is something to do; `None` when the queue is closed and empty.
    pub(super) fn next(&self) -> Option<Batch> {
        let mut state = self.lock();
        loop {
            if state.urgency > Urgency::Lazy || (state.closed && !state.items.is_empty()) {
                break;
            }
            if state.closed {
                return None;
            }
            state = match state.since.map(|since| LINGER.saturating_sub(since.elapsed())) {
                Some(Duration::ZERO) => break,
                Some(left) => self.wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
        state.since = None;
        let durable = std::mem::take(&mut state.urgency) == Urgency::Durable;
        Some(Batch { items: std::mem::take(&mut state.items), upto: state.newest, durable })
    }

    /// Everything up to `upto` has been committed or has failed; `flushed` tells how the disk took it, if it was asked.
    pub(super) fn settle(&self, upto: Ticket, flushed: Option<Reached>) {
        let mut state = self.lock();
        state.committed = upto;
        if let Some(Ok(())) = flushed {
            state.durable = upto;
            state.flushes += 1;
        }
        let (done, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut state.waiters)
            .into_iter()
            .partition(|waiter| waiter.ticket <= upto && (waiter.level != Level::Durable || flushed.is_some()));
        state.waiters = waiting;
        // Some of those who came meanwhile have got what they wanted: don't flush again for them.
        let wanted = state.waiters.iter().map(|waiter| waiter.level.urgency()).max();
        state.urgency = if state.items.is_empty() {
            wanted.unwrap_or_default()
        } else {
            state.urgency.min(wanted.unwrap_or_default().max(Urgency::Now))
        };
        drop(state);
        for waiter in done {
            let reached = match (waiter.level, &flushed) {
                (Level::Durable, Some(flushed)) => flushed.clone(),
                _ => Ok(()),
            };
            let _ = waiter.reply.send(reached);
        }
    }
}
