//! The `requestState` of questions put to a modern caller: which run, and which questions. Nobody else can make one, and nobody
//! else can use it.

use std::time::Duration;

use antiphon_engine::Owner;
use rmcp::ErrorData;
use rmcp::model::{RequestStateCodec, RequestStateError, SealOptions};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// How long after the question an answer may come this way. The run itself may wait longer: `antiphon answer`.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// How long an id is good that a caller keeps, such as a task's.
const LONG_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// What the state of a run's questions says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) run: String,
    pub(crate) keys: Vec<String>,
}

/// Seals and opens states.
#[derive(Clone, Debug)]
pub(crate) struct Seal(RequestStateCodec);

impl Seal {
    /// `key` has at least 32 bytes.
    pub(crate) fn new(key: &[u8]) -> Result<Self, RequestStateError> {
        RequestStateCodec::try_new(key).map(Self)
    }

    /// `None` can't happen for a state that is plain JSON.
    pub(crate) fn seal(&self, owner: &Owner, tool: &str, state: &impl Serialize) -> Option<String> {
        self.seal_for(LIFETIME, owner, tool, state)
    }

    /// The same for what is kept longer than the answer to a question takes.
    pub(crate) fn keep(&self, owner: &Owner, subject: &str, what: &impl Serialize) -> Option<String> {
        self.seal_for(LONG_LIFETIME, owner, subject, what)
    }

    fn seal_for(&self, lifetime: Duration, owner: &Owner, subject: &str, what: &impl Serialize) -> Option<String> {
        let bound_to = binding(owner, subject);
        let options = SealOptions::new().associated_data(&bound_to).ttl(lifetime);
        self.0.seal_json_with(what, &options).ok()
    }

    /// Fails with -32602 for a state that was not made here, for this owner and tool, or is too old.
    pub(crate) fn open<T: DeserializeOwned>(&self, owner: &Owner, tool: &str, sealed: &str) -> Result<T, ErrorData> {
        self.0.open_json_with(sealed, &binding(owner, tool)).map_err(|error| {
            ErrorData::invalid_params(format!("this requestState can't be used: {error}; call the tool anew"), None)
        })
    }
}

fn binding(owner: &Owner, tool: &str) -> Vec<u8> {
    // Tool names have no NUL, so no two pairs look alike.
    [owner.0.as_bytes(), b"\0", tool.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_state_is_good_for_its_owner_and_tool_alone() {
        let seal = Seal::new(&[7; 32]).unwrap();
        let state = State { run: "r".to_owned(), keys: vec!["k".to_owned()] };
        let owner = Owner::local();
        let sealed = seal.seal(&owner, "ship", &state).unwrap();
        assert_eq!(seal.open::<State>(&owner, "ship", &sealed).unwrap(), state);
        assert!(seal.open::<State>(&Owner("token:eve".into()), "ship", &sealed).is_err());
        assert!(seal.open::<State>(&owner, "other", &sealed).is_err());
        assert!(Seal::new(&[8; 32]).unwrap().open::<State>(&owner, "ship", &sealed).is_err());
    }
}
