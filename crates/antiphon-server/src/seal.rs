//! The `requestState` of questions put to a modern caller, and the ids of other servers' tasks: which run and which questions, or
//! what the server behind us wants back. Nobody else can make one, read it, or use it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use antiphon_engine::Owner;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use graviola::aead::XChaCha20Poly1305;
use rmcp::ErrorData;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

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

/// What is sealed, and until when it is good, in seconds since the Unix epoch.
#[derive(Serialize, Deserialize)]
struct Dated<T> {
    until: u64,
    what: T,
}

/// The sizes of what stands before and behind the ciphertext, in bytes. A nonce of this size may be drawn at random.
const NONCE: usize = 24;
const TAG: usize = 16;

/// Seals and opens states: URL-safe Base64 of nonce, ciphertext and tag, bound to owner and subject.
#[derive(Clone)]
pub(crate) struct Seal(Arc<XChaCha20Poly1305>);

impl Seal {
    /// `key`: of any length, and as good as its bytes are random.
    pub(crate) fn new(key: &[u8]) -> Self {
        let key = Sha256::new_with_prefix(b"antiphon requestState\0").chain_update(key).finalize();
        Self(XChaCha20Poly1305::new(key.into()).into())
    }

    /// `None` can't happen for a state that is plain JSON, as long as the system has randomness.
    pub(crate) fn seal(&self, owner: &Owner, tool: &str, state: &impl Serialize) -> Option<String> {
        self.seal_for(LIFETIME, owner, tool, state)
    }

    /// The same for what is kept longer than the answer to a question takes.
    pub(crate) fn keep(&self, owner: &Owner, subject: &str, what: &impl Serialize) -> Option<String> {
        self.seal_for(LONG_LIFETIME, owner, subject, what)
    }

    fn seal_for(&self, lifetime: Duration, owner: &Owner, subject: &str, what: &impl Serialize) -> Option<String> {
        let mut sealed = vec![0; NONCE];
        graviola::random::fill(&mut sealed).ok()?;
        serde_json::to_writer(&mut sealed, &Dated { until: now().saturating_add(lifetime.as_secs()), what }).ok()?;
        let (nonce, text) = sealed.split_first_chunk_mut::<NONCE>()?;
        let mut tag = [0; TAG];
        self.0.encrypt(nonce, &binding(owner, subject), text, &mut tag);
        sealed.extend(tag);
        Some(BASE64.encode(sealed))
    }

    /// Fails with -32602 for a state that was not made here, for this owner and tool, or is too old.
    pub(crate) fn open<T: DeserializeOwned>(&self, owner: &Owner, tool: &str, sealed: &str) -> Result<T, ErrorData> {
        let unusable = |why: &str| {
            ErrorData::invalid_params(format!("this requestState can't be used: {why}; call the tool anew"), None)
        };
        let opened = self.opened(&binding(owner, tool), sealed);
        let Dated { until, what } = opened.ok_or_else(|| unusable("it was not made here, for you and for this"))?;
        if until < now() { Err(unusable("it is too old")) } else { Ok(what) }
    }

    fn opened<T: DeserializeOwned>(&self, binding: &[u8], sealed: &str) -> Option<Dated<T>> {
        let mut sealed = BASE64.decode(sealed).ok()?;
        let (nonce, rest) = sealed.split_first_chunk_mut::<NONCE>()?;
        let (text, tag) = rest.split_last_chunk_mut::<TAG>()?;
        self.0.decrypt(nonce, binding, text, tag).ok()?;
        serde_json::from_slice(text).ok()
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
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
        let seal = Seal::new(&[7; 32]);
        let state = State { run: "r".to_owned(), keys: vec!["k".to_owned()] };
        let owner = Owner::local();
        let sealed = seal.seal(&owner, "ship", &state).unwrap();
        assert_eq!(seal.open::<State>(&owner, "ship", &sealed).unwrap(), state);
        assert!(seal.open::<State>(&Owner("token:eve".into()), "ship", &sealed).is_err());
        assert!(seal.open::<State>(&owner, "other", &sealed).is_err());
        assert!(Seal::new(&[8; 32]).open::<State>(&owner, "ship", &sealed).is_err());
    }

    #[test]
    fn a_state_can_be_neither_read_nor_changed_nor_used_too_late() {
        let (seal, owner) = (Seal::new(b"key"), Owner::local());
        let sealed = seal.seal(&owner, "ship", &"secret of the server behind").unwrap();
        let bytes = BASE64.decode(&sealed).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("secret"));
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(seal.open::<String>(&owner, "ship", &BASE64.encode(changed)).is_err(), "byte {at}");
        }
        for cut in [0, 1, NONCE, NONCE + TAG, bytes.len() - 1] {
            assert!(seal.open::<String>(&owner, "ship", &BASE64.encode(&bytes[..cut])).is_err(), "{cut} bytes");
        }
        let text = serde_json::to_vec(&Dated { until: now() - 1, what: "x" }).unwrap();
        let mut old = [vec![0; NONCE], text].concat();
        let (nonce, rest) = old.split_first_chunk_mut::<NONCE>().unwrap();
        let mut tag = [0; TAG];
        seal.0.encrypt(nonce, &binding(&owner, "ship"), rest, &mut tag);
        old.extend(tag);
        let error = seal.open::<String>(&owner, "ship", &BASE64.encode(old)).unwrap_err();
        assert!(error.message.contains("too old"), "{error:?}");
    }
}
