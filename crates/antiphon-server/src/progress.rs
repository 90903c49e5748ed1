//! `notifications/progress` for a caller that gave a token.

use std::time::Duration;

use antiphon_engine::{Engine, Progress, RunId, Until};
use antiphon_kernel::RunView;
use rmcp::model::{ProgressNotificationParam, ProgressToken};
use rmcp::service::{Peer, RequestContext, RoleServer};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::Instant;

use crate::caller::Caller;
use crate::outcome;

/// Reports of calls in flight are passed on no more often than this.
const INTERVAL: Duration = Duration::from_millis(100);

/// Says how far a run is: in steps that have ended, and the share of the call in flight.
pub(crate) struct Reporter<'a> {
    peer: &'a Peer<RoleServer>,
    /// `None` if nobody wants to know.
    token: Option<ProgressToken>,
    calls: Option<broadcast::Receiver<Progress>>,
    ended: usize,
    total: usize,
    /// The protocol wants each number above the one before.
    last: f64,
    last_message: String,
    last_at: Option<Instant>,
}

impl<'a> Reporter<'a> {
    pub(crate) async fn new(
        engine: &dyn Engine,
        caller: &Caller,
        context: &'a RequestContext<RoleServer>,
        id: &RunId,
    ) -> Self {
        let calls = match caller.progress {
            Some(_) => engine.progress(id).await.ok(),
            None => None,
        };
        Self {
            peer: &context.peer,
            token: caller.progress.clone(),
            calls,
            ended: 0,
            total: 0,
            last: -1.0,
            last_message: String::new(),
            last_at: None,
        }
    }

    /// What to wait for after this revision.
    pub(crate) fn until(&self, revision: u64) -> Until {
        match &self.token {
            Some(_) => Until::Changed(revision),
            None => Until::Asked(revision),
        }
    }

    /// The next report of a call in flight; never, if nobody wants to know.
    pub(crate) async fn next(&mut self) -> Progress {
        while let Some(calls) = &mut self.calls {
            match calls.recv().await {
                Ok(progress) => return progress,
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => self.calls = None,
            }
        }
        std::future::pending().await
    }

    /// Passes on a report of a call.
    pub(crate) async fn call(&mut self, progress: Progress) {
        if self.last_at.is_some_and(|at| at.elapsed() < INTERVAL) {
            return;
        }
        let share = match progress.total {
            Some(total) if total > 0.0 => (progress.progress / total).clamp(0.0, 0.99),
            _ => 0.0,
        };
        let message = match progress.message {
            Some(message) => format!("`{}`: {message}", progress.path),
            None => format!("`{}`: {:.0} %", progress.path, share * 100.0),
        };
        self.send(share, message).await;
    }

    /// Says which steps are under way, if that has changed.
    pub(crate) async fn steps(&mut self, view: &RunView) {
        if self.token.is_none() {
            return;
        }
        self.ended = view.steps.iter().filter(|step| outcome::has_ended(step)).count();
        self.total = view.steps.len();
        let active: Vec<String> = view.steps.iter().filter_map(outcome::activity).collect();
        let message = active.join(", ");
        if !message.is_empty() && message != self.last_message {
            self.send(0.0, message).await;
        }
    }

    async fn send(&mut self, share: f64, message: String) {
        let Some(token) = self.token.clone() else { return };
        let (ended, total) = (self.ended as f64, self.total as f64);
        let progress = if ended + share > self.last { ended + share } else { self.last + 0.001 };
        self.last = progress;
        self.last_at = Some(Instant::now());
        let report =
            ProgressNotificationParam::new(token, progress).with_total(total.max(progress)).with_message(&message);
        self.last_message = message;
        if let Err(error) = self.peer.notify_progress(report).await {
            tracing::debug!(%error, "the caller takes no more progress reports");
            self.token = None;
            self.calls = None;
        }
    }
}
