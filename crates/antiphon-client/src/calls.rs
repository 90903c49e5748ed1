//! Calls in flight, and what a server sends about them.
#![expect(deprecated, reason = "MCP deprecates sampling, roots and logging, and servers use them")]

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rmcp::model::{
    ErrorCode, ErrorData, LoggingMessageNotificationParam, ProgressNotificationParam, ProgressToken, RequestId,
};
use rmcp::service::InboundStreamOrigin;
use serde_json::Value;
use tokio::sync::{Notify, broadcast};

use crate::call::{Answering, CallContext, Progress, Refused};
use crate::change::Change;
use crate::inbox::{CallEvent, Inbox};
use crate::wire::number;

/// So many messages are kept whose calls are not known, or not any more.
const MAX_EARLY: usize = 64;
/// As clients spell "the user said no".
const REFUSED: i32 = -1;

/// The calls in flight on one connection.
#[derive(Debug)]
pub(crate) struct Calls {
    in_flight: Mutex<BTreeMap<i64, InFlight>>,
    /// What came before its call was known here, the latest first: over HTTP a server may answer faster than rmcp says that it has
    /// sent the request. Locked after `in_flight`.
    early: Mutex<VecDeque<(Mark, CallEvent)>>,
    /// How many are being sent. Their server may ask about them before they are in flight here.
    entering: AtomicUsize,
    entered: Notify,
    tools_changed: AtomicU64,
    /// How many tasks have been attended to.
    tasks: AtomicI64,
    changes: broadcast::Sender<Change>,
}

#[derive(Debug)]
struct InFlight {
    token: Option<ProgressToken>,
    run: Option<Arc<str>>,
    inbox: Arc<Inbox>,
    serving: Serving,
}

/// A call in flight, as its server may ask on its behalf.
#[derive(Clone)]
pub(crate) struct Serving {
    key: Option<Arc<str>>,
    ask: Arc<dyn Fn(String, Value) -> Answering + Send + Sync>,
    asking: Arc<Asking>,
}

/// What a call has asked.
#[derive(Debug, Default)]
struct Asking {
    /// Ever.
    asked: AtomicUsize,
    /// And has no answer to yet.
    open: AtomicUsize,
    turned: Notify,
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving").field("key", &self.key).field("asking", &self.asking).finish_non_exhaustive()
    }
}

impl Serving {
    pub(crate) fn of(cx: &CallContext) -> Self {
        Self { key: cx.key.clone(), ask: Arc::clone(&cx.ask), asking: Arc::default() }
    }

    /// Asks something, and waits for the answer.
    pub(crate) async fn ask(&self, method: &'static str, params: Value) -> Result<Value, Refused> {
        struct Open<'a>(&'a Asking);
        impl Drop for Open<'_> {
            fn drop(&mut self) {
                self.0.open.fetch_sub(1, Ordering::AcqRel);
                self.0.turned.notify_one();
            }
        }
        let number = self.asking.asked.fetch_add(1, Ordering::AcqRel) + 1;
        self.asking.open.fetch_add(1, Ordering::AcqRel);
        self.asking.turned.notify_one();
        let _open = Open(&self.asking);
        (self.ask)(format!("ask-{number}"), serde_json::json!({ "method": method, "params": params })).await
    }

    /// Whether it waits for an answer.
    pub(crate) fn asks(&self) -> bool {
        self.asking.open.load(Ordering::Acquire) > 0
    }

    /// Returns when it has asked, or was answered.
    pub(crate) async fn turned(&self) {
        self.asking.turned.notified().await;
    }
}

/// To which call an early message belongs.
#[derive(Debug, PartialEq)]
enum Mark {
    Token(ProgressToken),
    Request(i64),
}

/// A call's place among those in flight; it leaves when this is dropped.
pub(crate) struct Entry {
    calls: Arc<Calls>,
    id: i64,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) serving: Serving,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.calls.in_flight().remove(&self.id);
    }
}

/// See [`Calls::entering`].
pub(crate) struct Entering<'a>(&'a Calls);

impl Drop for Entering<'_> {
    fn drop(&mut self) {
        self.0.entering.fetch_sub(1, Ordering::AcqRel);
        self.0.entered.notify_waiters();
    }
}

/// Nobody wants to know of changes.
#[cfg(test)]
impl Default for Calls {
    fn default() -> Self {
        Self::new(broadcast::channel(1).0)
    }
}

impl Calls {
    pub(crate) fn new(changes: broadcast::Sender<Change>) -> Self {
        Self {
            in_flight: Mutex::default(),
            early: Mutex::default(),
            entering: AtomicUsize::new(0),
            entered: Notify::new(),
            tools_changed: AtomicU64::new(0),
            tasks: AtomicI64::new(0),
            changes,
        }
    }

    /// The server has told of a change.
    pub(crate) fn changed(&self, change: Change) {
        if change == Change::Tools {
            self.tools_changed();
        }
        // Nobody may be interested.
        let _ = self.changes.send(change);
    }

    /// A call is being sent, until this is dropped.
    pub(crate) fn entering(&self) -> Entering<'_> {
        self.entering.fetch_add(1, Ordering::AcqRel);
        Entering(self)
    }

    /// Finds a call that a question has come for; if need be, once those that are being sent have entered.
    async fn find<T>(&self, which: impl Fn(&BTreeMap<i64, InFlight>) -> Option<T>) -> Option<T> {
        loop {
            let entered = self.entered.notified();
            let entering = self.entering.load(Ordering::Acquire);
            let found = which(&self.in_flight());
            if found.is_some() || entering == 0 {
                return found;
            }
            entered.await;
        }
    }

    /// A call has been sent.
    pub(crate) fn enter(self: &Arc<Self>, id: &RequestId, token: &ProgressToken, cx: &CallContext) -> Entry {
        self.join(number(id).unwrap_or_default(), Some(token.clone()), cx.run.clone(), Serving::of(cx))
    }

    /// A call has become a task, which is worked on between the polls, too.
    pub(crate) fn attend(self: &Arc<Self>, cx: &CallContext, serving: &Serving) -> Entry {
        self.join(-1 - self.tasks.fetch_add(1, Ordering::AcqRel), None, cx.run.clone(), serving.clone())
    }

    fn join(self: &Arc<Self>, id: i64, token: Option<ProgressToken>, run: Option<Arc<str>>, serving: Serving) -> Entry {
        let inbox = Arc::<Inbox>::default();
        let mut in_flight = self.in_flight();
        let mut early = self.early();
        if !early.is_empty() {
            let own = |mark: &Mark| {
                matches!(mark, Mark::Token(of) if Some(of) == token.as_ref()) || *mark == Mark::Request(id)
            };
            let (own, others): (Vec<_>, Vec<_>) = early.drain(..).partition(|(mark, _)| own(mark));
            *early = others.into();
            own.into_iter().rev().for_each(|(_, event)| inbox.put(event));
        }
        in_flight.insert(id, InFlight { token, run, inbox: Arc::clone(&inbox), serving: serving.clone() });
        drop((early, in_flight));
        Entry { calls: Arc::clone(self), id, inbox, serving }
    }

    /// Changes whenever the server says that its tools have.
    pub(crate) fn tools_generation(&self) -> u64 {
        self.tools_changed.load(Ordering::Acquire)
    }

    /// The server says that its tools have changed.
    pub(crate) fn tools_changed(&self) {
        self.tools_changed.fetch_add(1, Ordering::AcqRel);
    }

    /// Keeps what came before the call was known.
    fn keep(&self, mark: Mark, event: CallEvent) {
        let mut early = self.early();
        early.truncate(MAX_EARLY - 1);
        early.push_front((mark, event));
    }

    fn early(&self) -> MutexGuard<'_, VecDeque<(Mark, CallEvent)>> {
        self.early.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn in_flight(&self) -> MutexGuard<'_, BTreeMap<i64, InFlight>> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives progress to the call that it is of.
    pub(crate) fn progress(&self, progress: ProgressNotificationParam) {
        let in_flight = self.in_flight();
        let ProgressNotificationParam { progress_token, progress, total, message, .. } = progress;
        let event = CallEvent::Progress(Progress { progress, total, message });
        match in_flight.values().find(|call| call.token.as_ref() == Some(&progress_token)) {
            Some(call) => call.inbox.put(event),
            None => self.keep(Mark::Token(progress_token), event),
        }
    }

    /// The call that a process speaks for that was let back in: the one with this key, or the only one.
    ///
    /// # Errors
    /// Which one that would be, nobody can say.
    pub(crate) fn served(&self, key: Option<&str>) -> Result<Serving, String> {
        let in_flight = self.in_flight();
        let mut calls = in_flight.values().map(|call| &call.serving).filter(|serving| serving.key.is_some());
        let found = match key {
            Some(key) => calls.find(|serving| serving.key.as_deref() == Some(key)),
            None => {
                let first = calls.next();
                if first.is_some_and(|first| calls.any(|other| other.key != first.key)) {
                    return Err("several calls are under way on this connection, and nobody can say which of them this is \
                                for: use TOKEN/KEY for the token, where KEY is `antiphon/idempotency-key` of the call's \
                                `_meta`; or let this server serve one call at a time (`concurrency = 1`, \
                                `session = \"per_run\"`)"
                        .to_owned());
                }
                first
            }
        };
        found.cloned().ok_or_else(|| match key {
            Some(_) => "the call that this is for is not under way here, or not any more".to_owned(),
            None => "no call is under way on this connection: ask while serving one".to_owned(),
        })
    }

    /// Gives a log message to the call that it belongs to: the one that it was marked with (see `http.rs`), else the only one, or
    /// the likeliest if all are of one run.
    pub(crate) fn log(&self, id: Option<i64>, message: LoggingMessageNotificationParam) {
        let in_flight = self.in_flight();
        let call = match id {
            Some(id) => in_flight.get(&id),
            None => likeliest(&in_flight).and_then(|id| in_flight.get(&id)),
        };
        match (call, id) {
            (Some(call), _) => call.inbox.put(CallEvent::Log(message)),
            (None, Some(id)) => self.keep(Mark::Request(id), CallEvent::Log(message)),
            (None, None) => {}
        }
    }

    /// Puts a pushed request to the call that it belongs to.
    ///
    /// Over HTTP the stream that it came on tells which. A pipe does not, but if all calls on it are of one run, then the
    /// likeliest will do: who answers is the same.
    pub(crate) async fn ask(
        &self,
        origin: Option<&InboundStreamOrigin>,
        method: &'static str,
        params: Value,
    ) -> Result<Value, ErrorData> {
        let call = self.find(|in_flight| {
            let id = match origin {
                Some(InboundStreamOrigin::OutboundRequest(id)) => number(id),
                Some(InboundStreamOrigin::Unassociated) | None => likeliest(in_flight),
            };
            Some(in_flight.get(&id?)?.serving.clone())
        });
        let call = call.await;
        let Some(call) = call else {
            return Err(ErrorData::invalid_request(
                "this question belongs to no call: ask while handling one, on a connection that serves one run",
                None,
            ));
        };
        call.ask(method, params).await.map_err(|refused| ErrorData::new(ErrorCode(REFUSED), refused.message, None))
    }
}

/// The call that a message on a pipe belongs to, if all are of one run: the oldest of those that ask least. One that waits for
/// people may wait for long, and others go on meanwhile.
fn likeliest(in_flight: &BTreeMap<i64, InFlight>) -> Option<i64> {
    let mut runs = in_flight.values().map(|call| &call.run);
    let first = runs.next()?;
    if !runs.all(|run| run == first) {
        return None;
    }
    in_flight
        .iter()
        .min_by_key(|(id, call)| (call.serving.asking.open.load(Ordering::Acquire), **id))
        .map(|(id, _)| *id)
}
