//! What a connection's transport knows about requests and rmcp does not pass on: whether they were sent, and whether an
//! answer came that nobody could read.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rmcp::model::RequestId;

/// Requests of one connection, by id.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    requests: Mutex<HashMap<i64, Fate>>,
    fault: Mutex<Option<String>>,
    /// Notifications about calls that were read and have not reached them yet.
    telling: AtomicUsize,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Not a byte of it left, or it was cut off before it could be understood.
    NeverSent,
    /// It left.
    Sent,
    /// Something came back that is not a readable answer.
    Unreadable(String),
}

impl Wire {
    /// The request is about to leave.
    pub(crate) fn sending(&self, id: i64) {
        self.requests().insert(id, Fate::Sent);
    }

    /// The request did not leave after all, or nobody will settle it.
    pub(crate) fn forget(&self, id: i64) {
        self.requests().remove(&id);
    }

    /// Its answer can't be read. `false` if there is no such request.
    pub(crate) fn unreadable(&self, id: i64, why: String) -> bool {
        match self.requests().get_mut(&id) {
            Some(fate) => {
                *fate = Fate::Unreadable(why);
                true
            }
            None => false,
        }
    }

    /// Whether an answer to this request is awaited.
    pub(crate) fn awaits(&self, id: i64) -> bool {
        self.requests().contains_key(&id)
    }

    /// The one request that awaits an answer, if there is just one.
    pub(crate) fn only(&self) -> Option<i64> {
        let requests = self.requests();
        let mut ids = requests.keys();
        ids.next().copied().filter(|_| ids.next().is_none())
    }

    /// Nobody waits for this request any more; what became of it.
    pub(crate) fn settle(&self, id: &RequestId) -> Fate {
        number(id).and_then(|id| self.requests().remove(&id)).unwrap_or(Fate::NeverSent)
    }

    /// A notification about a call was read.
    pub(crate) fn told(&self) {
        self.telling.fetch_add(1, Ordering::AcqRel);
    }

    /// It has reached its call, or there is none.
    pub(crate) fn heard(&self) {
        let _ = self.telling.fetch_update(Ordering::AcqRel, Ordering::Acquire, |telling| telling.checked_sub(1));
    }

    /// Whether some are on their way.
    pub(crate) fn is_telling(&self) -> bool {
        self.telling.load(Ordering::Acquire) > 0
    }

    /// The connection can't go on, for this reason.
    pub(crate) fn broken(&self, why: String) {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
    }

    /// Why the connection could not go on, if it was for a reason of ours.
    pub(crate) fn fault(&self) -> Option<String> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn requests(&self) -> MutexGuard<'_, HashMap<i64, Fate>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The id as a number: ours always are, though some servers send them back as strings.
pub(crate) fn number(id: &RequestId) -> Option<i64> {
    match id {
        RequestId::Number(number) => Some(*number),
        RequestId::String(text) => text.parse().ok(),
    }
}
