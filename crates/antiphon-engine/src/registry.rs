//! The runs in memory, and those that somebody looked at a moment ago.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use antiphon_kernel::{Answer, Terms};
use dashmap::DashMap;
use dashmap::mapref::entry::Entry::{Occupied, Vacant};
use serde_json::Value;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::api::{EngineError, Run, RunId};
use crate::effects::Progress;
use crate::journal::Receipt;

/// How many runs without an actor keep their boards for the next who looks.
const QUIET: usize = 256;
/// How many runs in memory are many.
const CROWD: usize = 512;
/// How many progress reports wait for a slow listener before it misses some.
const PROGRESS: usize = 64;

/// The record that an actor's reply rests on; `None` if there was nothing to record.
pub(crate) type Reply = Result<Option<Receipt>, EngineError>;

/// What others tell a run's actor.
pub(crate) enum Mail {
    /// A call in flight asks something.
    Asked(Box<Asked>),
    /// Somebody answers. `None` if nobody asks that.
    Input { key: String, answer: Box<Answer>, reply: oneshot::Sender<Reply> },
    /// Somebody wants the run to end.
    Cancel { reason: String, reply: oneshot::Sender<Reply> },
    /// Bring the board up to date.
    Look { reply: oneshot::Sender<Reply> },
}

/// A request from inside a call.
pub(crate) struct Asked {
    pub op: String,
    pub name: String,
    pub request: Value,
    pub terms: Terms,
    pub reply: oneshot::Sender<(Answer, Receipt)>,
}

impl Mail {
    /// Nobody will read it.
    pub(crate) fn refuse(self, why: &str) {
        match self {
            Self::Input { reply, .. } | Self::Cancel { reply, .. } | Self::Look { reply } => {
                let _ = reply.send(Err(EngineError::Storage(why.to_owned())));
            }
            Self::Asked(_) => {}
        }
    }
}

/// What a run shows.
pub(crate) struct Published {
    pub run: Arc<Run>,
    /// The record that it rests on.
    pub receipt: Receipt,
    /// All its calls so far were read-only.
    pub read_only: bool,
}

/// Where a run shows itself. It outlives the actor as long as somebody looks.
pub(crate) struct Board {
    pub published: watch::Sender<Arc<Published>>,
    progress: Mutex<Option<broadcast::Sender<Progress>>>,
    /// Whoever wants to see every change holds one.
    closely: Arc<()>,
}

impl Board {
    pub(crate) fn new(published: Published) -> Arc<Self> {
        let published = watch::Sender::new(Arc::new(published));
        Arc::new(Self { published, progress: Mutex::default(), closely: Arc::default() })
    }

    fn progress(&self) -> std::sync::MutexGuard<'_, Option<broadcast::Sender<Progress>>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows the progress of its calls. Of a run that has ended there is none: the channel is closed.
    pub(crate) fn follow(&self) -> broadcast::Receiver<Progress> {
        if self.published.borrow().run.ended_at.is_some() {
            return broadcast::channel(1).1;
        }
        self.progress().get_or_insert_with(|| broadcast::Sender::new(PROGRESS)).subscribe()
    }

    pub(crate) fn report(&self, progress: Progress) {
        if let Some(listeners) = &*self.progress() {
            let _ = listeners.send(progress);
        }
    }

    /// There will be no more progress.
    pub(crate) fn hush(&self) {
        self.progress().take();
    }

    /// Every change is shown as long as the caller keeps this. (Not the board itself: that would keep the run from leaving.)
    pub(crate) fn watch_closely(&self) -> Arc<()> {
        Arc::clone(&self.closely)
    }

    /// Whether anybody wants to see every change.
    pub(crate) fn is_watched_closely(&self) -> bool {
        Arc::strong_count(&self.closely) > 1
    }

    /// Whether anybody follows it.
    pub(crate) fn is_watched(&self) -> bool {
        self.published.receiver_count() > 0
            || self.progress().as_ref().is_some_and(|sender| sender.receiver_count() > 0)
    }
}

struct Entry {
    board: Arc<Board>,
    /// The actor's, if there is one.
    mailbox: Option<mpsc::UnboundedSender<Mail>>,
}

/// The registry.
#[derive(Default)]
pub(crate) struct Registry {
    entries: DashMap<RunId, Entry>,
    /// How many have an actor.
    live: AtomicUsize,
    /// Those without an actor, the oldest first; may name others too.
    quiet: Mutex<VecDeque<RunId>>,
}

impl Registry {
    /// Gives a run an actor. If somebody looks at a board of the run already, it stays that one.
    pub(crate) fn enter(&self, id: &RunId, mailbox: mpsc::UnboundedSender<Mail>, board: Arc<Board>) -> Arc<Board> {
        self.live.fetch_add(1, Ordering::Relaxed);
        match self.entries.entry(id.clone()) {
            Occupied(mut entry) => {
                let entry = entry.get_mut();
                entry.mailbox = Some(mailbox);
                entry.board.published.send_replace(Arc::clone(&board.published.borrow()));
                Arc::clone(&entry.board)
            }
            Vacant(vacant) => {
                vacant.insert(Entry { board: Arc::clone(&board), mailbox: Some(mailbox) });
                board
            }
        }
    }

    /// A board for a run that has no actor.
    pub(crate) fn show(&self, id: &RunId, published: Published) -> Arc<Board> {
        let board = Arc::clone(
            &self
                .entries
                .entry(id.clone())
                .or_insert_with(|| Entry { board: Board::new(published), mailbox: None })
                .board,
        );
        self.is_quiet(id);
        board
    }

    /// The board of a run that has no actor.
    pub(crate) fn quiet_board(&self, id: &RunId) -> Option<Arc<Board>> {
        self.entries.get(id).filter(|entry| entry.mailbox.is_none()).map(|entry| Arc::clone(&entry.board))
    }

    pub(crate) fn board(&self, id: &RunId) -> Option<Arc<Board>> {
        self.entries.get(id).map(|entry| Arc::clone(&entry.board))
    }

    pub(crate) fn is_live(&self, id: &RunId) -> bool {
        self.entries.get(id).is_some_and(|entry| entry.mailbox.is_some())
    }

    /// Hands mail to the run's actor; `false` if it has none. What was handed over will be answered.
    pub(crate) fn send(&self, id: &RunId, mail: Mail) -> bool {
        self.entries
            .get(id)
            .is_some_and(|entry| entry.mailbox.as_ref().is_some_and(|mailbox| mailbox.send(mail).is_ok()))
    }

    /// The actor goes, unless there is mail for it. Atomic with [`Registry::send`].
    pub(crate) fn leave(&self, id: &RunId, mailbox: &mpsc::UnboundedReceiver<Mail>) -> bool {
        let Some(mut entry) = self.entries.get_mut(id) else { return true };
        if !mailbox.is_empty() {
            return false;
        }
        entry.mailbox = None;
        drop(entry);
        self.live.fetch_sub(1, Ordering::Relaxed);
        self.is_quiet(id);
        true
    }

    /// Nothing that was shown of the run counts any more.
    pub(crate) fn forget(&self, id: &RunId) {
        if self.entries.remove(id).is_some_and(|(_, entry)| entry.mailbox.is_some()) {
            self.live.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether so many runs are in memory that those without work should go at once.
    pub(crate) fn is_crowded(&self) -> bool {
        self.live.load(Ordering::Relaxed) > CROWD
    }

    /// Forgets runs that have no actor and that nobody looks at.
    pub(crate) fn forget_quiet(&self) {
        self.entries.retain(|_, entry| entry.mailbox.is_some() || entry.board.is_watched());
    }

    fn is_quiet(&self, id: &RunId) {
        let mut quiet = self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        quiet.push_back(id.clone());
        if quiet.len() > QUIET
            && let Some(oldest) = quiet.pop_front()
        {
            self.entries.remove_if(&oldest, |_, entry| entry.mailbox.is_none() && !entry.board.is_watched());
            if self.entries.get(&oldest).is_some_and(|entry| entry.mailbox.is_none()) {
                quiet.push_back(oldest);
            }
        }
    }
}
