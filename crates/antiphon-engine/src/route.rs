//! The way to a call over several databases: who called whom, carried along by `_meta` of MCP requests.
//!
//! Each database vouches for its own part. What comes back to it is believed, since nobody else can have made it; what others
//! say can only make the way longer, and so the nesting that is left smaller.

use antiphon_kernel::Hop;
use hmac::{Hmac, Mac};
use serde_json::Value;
use sha2::Sha256;

/// The key of `_meta`.
pub const ROUTE: &str = "antiphon/route";

/// The key of a tool result's `_meta` that says of an error that a run came to its limits: its callers' runs are at theirs.
pub const LIMIT: &str = "antiphon/limit";

/// A longer way is not followed.
const MAX_HOPS: usize = 64;
/// The longest name of a workflow, in bytes.
const MAX_NAME: usize = 64;
/// Bytes of a seal.
const SEAL: usize = 16;
/// Bytes of a database's name.
const ID: usize = 4;

/// What a database vouches with.
#[derive(Clone)]
pub struct RouteKey {
    key: Vec<u8>,
    id: String,
}

impl RouteKey {
    /// Of a database with this secret.
    pub fn new(secret: &[u8]) -> Self {
        let key = mac(secret, b"antiphon/route");
        let id = hex(&mac(&key, b"id")[..ID]);
        Self { key, id }
    }

    /// The way as it travels: what is part of this run is vouched for.
    pub fn seal(&self, hops: &[Hop]) -> Vec<Hop> {
        let mut sealed: Vec<Hop> = Vec::with_capacity(hops.len());
        for hop in hops {
            let hop = match hop.by.is_empty() {
                true => Hop { by: self.id.clone(), seal: self.of(&sealed, &hop.workflow), ..hop.clone() },
                false => hop.clone(),
            };
            sealed.push(hop);
        }
        sealed
    }

    /// The way that led to a request.
    ///
    /// # Errors
    /// It is none, or someone else speaks in the name of this database.
    pub fn read(&self, value: &Value) -> Result<Vec<Hop>, String> {
        let hops: Vec<Hop> =
            serde_json::from_value(value.clone()).map_err(|error| format!("`{ROUTE}` can't be read: {error}"))?;
        if hops.len() > MAX_HOPS {
            return Err(format!("`{ROUTE}` has more than {MAX_HOPS} entries: calls go round in a circle"));
        }
        for (position, hop) in hops.iter().enumerate() {
            if !is_name(&hop.workflow) || !is_name(&hop.by) {
                return Err(format!("entry {position} of `{ROUTE}` is not a name and who vouches for it"));
            }
            if hop.by == self.id && hop.seal != self.of(&hops[..position], &hop.workflow) {
                return Err(format!("entry {position} of `{ROUTE}` says that it is from here, and it is not"));
            }
        }
        Ok(hops)
    }

    /// A seal binds a hop to its place.
    fn of(&self, before: &[Hop], workflow: &str) -> String {
        let text =
            Value::from_iter(before.iter().flat_map(|hop| [&hop.workflow, &hop.by, &hop.seal]).map(String::as_str));
        hex(&mac(&self.key, format!("{text}{workflow}").as_bytes())[..SEAL])
    }
}

fn is_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/'))
}

fn mac(key: &[u8], message: &[u8]) -> Vec<u8> {
    // A key of any length will do, so there is no error.
    Hmac::<Sha256>::new_from_slice(key)
        .map(|mac| mac.chain_update(message).finalize().into_bytes().to_vec())
        .unwrap_or_default()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used)]

    use super::*;

    fn own(workflow: &str) -> Hop {
        Hop { workflow: workflow.to_owned(), ..Hop::default() }
    }

    fn json(hops: &[Hop]) -> Value {
        serde_json::to_value(hops).unwrap()
    }

    #[test]
    fn own_entries_come_back_and_others_can_only_be_added() {
        let (here, there) = (RouteKey::new(b"here"), RouteKey::new(b"there"));
        let sent = here.seal(&[own("ping")]);
        let mut received = there.read(&json(&sent)).unwrap();
        assert_eq!(received, sent, "what others vouch for is taken as it is");
        received.push(own("pong"));
        let returned = there.seal(&received);
        let back = here.read(&json(&returned)).unwrap();
        assert_eq!(back.iter().map(|hop| hop.workflow.as_str()).collect::<Vec<_>>(), ["ping", "pong"]);
        // What is added before, or moved, or renamed, is not what was sealed.
        for forged in [
            vec![Hop { workflow: "ring".to_owned(), ..sent[0].clone() }],
            vec![returned[1].clone(), sent[0].clone()],
            vec![sent[0].clone(), sent[0].clone()],
        ] {
            assert!(here.read(&json(&forged)).unwrap_err().contains("says that it is from here"));
        }
    }

    #[test]
    fn what_is_no_route_is_refused() {
        let here = RouteKey::new(b"here");
        for bad in [
            serde_json::json!("ping"),
            serde_json::json!([{ "workflow": "a\nb", "by": "x" }]),
            serde_json::json!([{ "workflow": "ping" }]),
        ] {
            assert!(here.read(&bad).is_err(), "{bad}");
        }
        let long: Vec<Hop> = (0..65).map(|_| Hop { by: "x".to_owned(), ..own("ping") }).collect();
        assert!(here.read(&json(&long)).unwrap_err().contains("circle"));
    }
}
