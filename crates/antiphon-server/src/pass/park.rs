//! Calls to legacy servers that wait for a modern caller to come back with answers: the server has pushed a question and holds its
//! call open, the caller has got a round. They live in memory, and end with the process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use antiphon_engine::Owner;
use rmcp::ErrorData;
use uuid::Uuid;

use super::request::Calling;

/// How long a caller may take. Whoever waits on the other side waits no longer than its own patience.
const LIFETIME: Duration = Duration::from_secs(15 * 60);

/// How many calls may be parked, in all and for one owner.
const MOST: usize = 1_000;
const MOST_OF_ONE: usize = 64;

/// The parked calls.
#[derive(Clone, Default)]
pub(crate) struct Parking(Arc<Mutex<HashMap<String, Parked>>>);

struct Parked {
    owner: Owner,
    calling: Calling,
}

impl Parking {
    /// Parks a call, and says where.
    pub(super) fn park(&self, owner: &Owner, calling: Calling) -> Result<String, ErrorData> {
        let id = Uuid::new_v4().to_string();
        let mut parked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_one = parked.values().filter(|parked| parked.owner == *owner).count();
        if parked.len() >= MOST || of_one >= MOST_OF_ONE {
            return Err(ErrorData::internal_error("too many calls wait for answers", None));
        }
        parked.insert(id.clone(), Parked { owner: owner.clone(), calling });
        drop(parked);
        let (all, place) = (Arc::downgrade(&self.0), id.clone());
        tokio::spawn(async move {
            tokio::time::sleep(LIFETIME).await;
            if let Some(all) = all.upgrade() {
                all.lock().unwrap_or_else(PoisonError::into_inner).remove(&place);
            }
        });
        Ok(id)
    }

    /// Takes a call back, if it is this owner's.
    pub(super) fn take(&self, owner: &Owner, id: &str) -> Result<Calling, ErrorData> {
        let mut parked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match parked.remove(id) {
            Some(Parked { owner: its, calling }) if its == *owner => Ok(calling),
            Some(other) => {
                parked.insert(id.to_owned(), other);
                Err(gone())
            }
            None => Err(gone()),
        }
    }
}

fn gone() -> ErrorData {
    ErrorData::invalid_params("the call that this requestState belongs to is not there any more; make it anew", None)
}
