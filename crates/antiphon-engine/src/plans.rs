//! Plans by hash: each is serialised once, and parsed once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use antiphon_kernel::Plan;

use crate::api::EngineError;
use crate::blobs::hex_sha256;
use crate::journal::Reader;

/// How many plans stay in memory besides those of live runs.
const KEPT: usize = 64;

/// A plan that runs can pin.
pub(crate) struct PinnedPlan {
    /// Lower-case hexadecimal SHA-256 of `body`.
    pub hash: Arc<str>,
    /// The plan's JSON.
    pub body: String,
    /// The plan.
    pub plan: Arc<Plan>,
}

/// Plans at hand, the oldest first.
#[derive(Default)]
pub(crate) struct Plans(Mutex<VecDeque<Arc<PinnedPlan>>>);

impl Plans {
    fn find(&self, wanted: impl Fn(&PinnedPlan) -> bool) -> Option<Arc<PinnedPlan>> {
        let plans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        plans.iter().rev().find(|plan| wanted(plan)).map(Arc::clone)
    }

    fn keep(&self, plan: PinnedPlan) -> Arc<PinnedPlan> {
        let plan = Arc::new(plan);
        let mut plans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if plans.len() == KEPT {
            plans.pop_front();
        }
        plans.push_back(Arc::clone(&plan));
        plan
    }

    /// Names a plan by its content.
    pub(crate) fn pin(&self, plan: &Arc<Plan>) -> Result<Arc<PinnedPlan>, EngineError> {
        if let Some(pinned) = self.find(|known| Arc::ptr_eq(&known.plan, plan)) {
            return Ok(pinned);
        }
        let body = serde_json::to_string(plan)
            .map_err(|error| EngineError::Storage(format!("the plan of `{}` can't be recorded: {error}", plan.root)))?;
        let hash = hex_sha256(&[body.as_bytes()]).into();
        Ok(self.keep(PinnedPlan { hash, body, plan: Arc::clone(plan) }))
    }

    /// The plan with this hash.
    pub(crate) async fn load(&self, hash: &Arc<str>, reader: &Reader) -> Result<Arc<PinnedPlan>, EngineError> {
        if let Some(pinned) = self.find(|known| known.hash == *hash) {
            return Ok(pinned);
        }
        let body = reader.plan(Arc::clone(hash)).await?;
        let body = body.ok_or_else(|| EngineError::Storage(format!("the plan {hash} is not in the database")))?;
        let plan = serde_json::from_str(&body)
            .map_err(|error| EngineError::Storage(format!("the plan {hash} in the database can't be read: {error}")))?;
        Ok(self.keep(PinnedPlan { hash: Arc::clone(hash), body, plan: Arc::new(plan) }))
    }
}
