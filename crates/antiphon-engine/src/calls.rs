//! The calls that a run has in flight.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::task::{Context, Poll};

use antiphon_kernel::{Answer, EffectClass, Entry, ErrorKind, OpId};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::effects::{CallFailure, CallOutcome, Prepared};
use crate::journal::Receipt;

/// What came of a call.
pub(crate) enum Landing {
    Prepared(Result<Prepared, CallFailure>),
    Called {
        outcome: Box<CallOutcome>,
        /// The kernel reads its record.
        inline: bool,
    },
    /// It was never made: what it rests on could not be recorded.
    Withheld,
}

impl Landing {
    /// It could not be made, or its outcome was lost.
    pub(crate) fn failed(message: impl Into<String>, in_doubt: bool) -> Self {
        let failure = CallFailure { kind: ErrorKind::Unavailable, message: message.into(), in_doubt };
        Self::Called { outcome: Box::new(CallOutcome::Failed(failure)), inline: false }
    }
}

/// A call that is over.
pub(crate) struct Landed {
    pub op: OpId,
    pub class: EffectClass,
    pub landing: Landing,
    serial: u64,
}

struct Flight {
    serial: u64,
    repeatable: bool,
    cancel: CancellationToken,
    /// Who waits for an answer inside the call, by the request's name.
    asking: HashMap<String, Vec<oneshot::Sender<(Answer, Receipt)>>>,
}

/// Calls under way, by op. Dropping it drops them.
#[derive(Default)]
pub(crate) struct Calls {
    running: Running,
    flights: HashMap<OpId, Flight>,
    serial: u64,
}

/// Their work. While there is one only, it stands alone: `FuturesUnordered` wakes its task again whenever it has polled all
/// that it has, and of a chain of calls each would pay for that with a needless turn on another thread.
#[derive(Default)]
struct Running {
    alone: Option<BoxFuture<'static, Landed>>,
    others: FuturesUnordered<BoxFuture<'static, Landed>>,
}

impl Running {
    fn is_empty(&self) -> bool {
        self.alone.is_none() && self.others.is_empty()
    }

    fn push(&mut self, work: BoxFuture<'static, Landed>) {
        if self.is_empty() {
            self.alone = Some(work);
        } else {
            self.others.push(work);
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Landed>> {
        if let Some(work) = &mut self.alone {
            if let Poll::Ready(landed) = work.poll_unpin(cx) {
                self.alone = None;
                return Poll::Ready(Some(landed));
            }
            if self.others.is_empty() {
                return Poll::Pending;
            }
        }
        match self.others.poll_next_unpin(cx) {
            Poll::Ready(None) if self.alone.is_some() => Poll::Pending,
            polled => polled,
        }
    }
}

impl Calls {
    pub(crate) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Starts `work` for `op`. A panic in it fails this call alone. If it is `repeatable`, giving it up leaves no doubt.
    pub(crate) fn start<F>(
        &mut self,
        op: OpId,
        class: EffectClass,
        repeatable: bool,
        work: impl FnOnce(CancellationToken) -> F,
    ) where
        F: Future<Output = Landing> + Send + 'static,
    {
        self.serial += 1;
        let serial = self.serial;
        let cancel = CancellationToken::new();
        let work = AssertUnwindSafe(work(cancel.clone())).catch_unwind();
        self.flights.insert(op.clone(), Flight { serial, repeatable, cancel, asking: HashMap::new() });
        self.running.push(
            async move {
                let landing = work.await.unwrap_or_else(|_| {
                    tracing::error!(op, "a call panicked");
                    Landing::failed("an internal error of antiphon interrupted the call; its log tells more", true)
                });
                Landed { op, class, landing, serial }
            }
            .boxed(),
        );
    }

    /// Whether all of them can simply be made again.
    pub(crate) fn can_be_repeated(&self) -> bool {
        self.flights.values().all(|flight| flight.repeatable)
    }

    /// The next call that is over and still of interest; `None` while there is nothing in flight.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Landed>> {
        loop {
            let Some(landed) = std::task::ready!(self.running.poll_next(cx)) else { return Poll::Ready(None) };
            if self.flights.get(&landed.op).is_some_and(|flight| flight.serial == landed.serial) {
                self.flights.remove(&landed.op);
                return Poll::Ready(Some(landed));
            }
        }
    }

    /// Somebody inside the call waits for an answer; `false` if that call is over.
    pub(crate) fn asks(&mut self, op: &str, name: String, reply: oneshot::Sender<(Answer, Receipt)>) -> bool {
        self.flights.get_mut(op).map(|flight| flight.asking.entry(name).or_default().push(reply)).is_some()
    }

    /// Answers whoever waits inside the call, to be used once its record is on the disk.
    pub(crate) fn answer(&mut self, op: &str, name: &str, answer: &Answer, receipt: &Receipt) {
        let asking = self.flights.get_mut(op).and_then(|flight| flight.asking.remove(name));
        for reply in asking.into_iter().flatten() {
            let _ = reply.send((answer.clone(), receipt.clone()));
        }
    }

    /// The call is not wanted any more.
    pub(crate) fn cancel(&self, op: &str) {
        if let Some(flight) = self.flights.get(op) {
            flight.cancel.cancel();
        }
    }

    /// None is wanted any more.
    pub(crate) fn cancel_all(&self) {
        self.flights.values().for_each(|flight| flight.cancel.cancel());
    }
}

/// Whether the disk must have everything that was recorded before this call is made: what it does, or hands on, can't be
/// taken back.
pub(crate) fn needs_disk(class: EffectClass, entry: &Entry) -> bool {
    class == EffectClass::AtMostOnce
        || match entry {
            Entry::Fresh | Entry::Cancel { .. } => false,
            Entry::Answers { answers, .. } | Entry::Attach { answers, .. } => !answers.is_empty(),
        }
}
