//! What a sample has taken so far, so that one that is cut short can be charged for as well.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::model::tokens;
use crate::{Progress, Usage};

#[derive(Default)]
pub(super) struct Meter {
    /// Requests that are over, and a guess at the one under way.
    usage: Mutex<(Usage, Option<Usage>)>,
    progress: Progress,
}

impl Meter {
    pub(super) fn new(progress: Progress) -> Self {
        Self { progress, ..Self::default() }
    }

    /// A request is sent, with about so many tokens to read.
    pub(super) fn begin(&self, prompt_tokens: u64) {
        self.lock().1 = Some(Usage { prompt_tokens, completion_tokens: 0, estimated: true, waited_ms: 0 });
    }

    /// Its answer has grown to so many bytes, in so many pieces. Most servers send a piece a token.
    pub(super) fn grown(&self, bytes: usize, pieces: u64) {
        let mut usage = self.lock();
        let earlier = usage.0.completion_tokens;
        if let Some(now) = &mut usage.1 {
            now.completion_tokens = tokens(bytes).max(pieces);
            let so_far = earlier + now.completion_tokens;
            drop(usage);
            self.progress.report(so_far);
        }
    }

    /// It was refused, and took nothing.
    pub(super) fn refused(&self) {
        self.lock().1 = None;
    }

    /// It is over; this is what the server counted, if it counts.
    pub(super) fn end(&self, counted: Option<Usage>) {
        let mut usage = self.lock();
        let guessed = usage.1.take().unwrap_or_default();
        usage.0 += counted.unwrap_or(guessed);
    }

    pub(super) fn total(&self) -> Usage {
        let (mut total, now) = *self.lock();
        total += now.unwrap_or_default();
        total
    }

    fn lock(&self) -> MutexGuard<'_, (Usage, Option<Usage>)> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
