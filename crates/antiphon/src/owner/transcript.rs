//! What a host said that a new owner must hear again.
//!
//! An attached `serve` passes lines between its host and the owner. This keeps what is needed to go on with another owner
//! as if nothing had happened: the handshake, the requests without an answer, and, for requests that the owner put to the
//! host, which owner asked. Pure: lines in, lines out.

use std::borrow::Cow;
use std::collections::BTreeSet;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

/// The `_meta` entry that makes a repeated `tools/call` find the run that the first one started.
const IDEMPOTENCY_KEY: &str = "antiphon/idempotency-key";

/// The `_meta` entry of a `tools/call` that another owner has heard before.
const AGAIN: &str = "antiphon/again";

/// The state of one host's conversation.
#[derive(Debug, Default)]
pub struct Transcript {
    /// The legacy handshake: `initialize` with its id, and `notifications/initialized`.
    initialize: Option<(String, String)>,
    initialized: Option<String>,
    /// The host's requests without an answer, by id (as JSON), in order.
    open: IndexMap<String, String>,
    /// How many owners there have been before this one: marks the ids of its requests, so that an answer meant for one
    /// owner never reaches another.
    generation: u32,
    /// Ids, as the host knows them, of the owner's requests without an answer.
    asked: BTreeSet<String>,
    /// The answer to a repeated `initialize`, which the host has already.
    swallow: Option<String>,
}

/// What a new owner, and then the host, must be told.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// For the owner.
    pub to_owner: Vec<String>,
    /// For the host.
    pub to_host: Vec<String>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Cancelled<'a> {
    #[serde(borrow, rename = "requestId")]
    request_id: &'a RawValue,
}

type Fields = IndexMap<String, Box<RawValue>>;

impl Transcript {
    /// A line from the host; the line for the owner, if any.
    pub fn host_says(&mut self, line: String) -> Option<String> {
        let Ok(envelope) = serde_json::from_str::<Envelope<'_>>(&line) else {
            // Not for us to judge: the owner says what is wrong with it.
            return Some(line);
        };
        match (envelope.method.as_deref(), envelope.id) {
            (Some(method), Some(id)) => {
                let id = id.get().to_owned();
                let keyed = if method == "tools/call" { with_key(&line) } else { None };
                if method == "initialize" {
                    self.initialize = Some((id.clone(), line.clone()));
                }
                let line = keyed.unwrap_or(line);
                self.open.insert(id, line.clone());
                Some(line)
            }
            (Some("notifications/initialized"), None) => {
                self.initialized = Some(line.clone());
                Some(line)
            }
            (Some("notifications/cancelled"), None) => {
                if let Some(cancelled) = cancelled(&envelope) {
                    self.open.shift_remove(cancelled);
                }
                Some(line)
            }
            (Some(_), None) => Some(line),
            (None, Some(id)) => {
                // An answer to the owner that asked; if that one is gone, nobody waits for it.
                if !self.asked.remove(id.get()) {
                    return None;
                }
                let theirs = self.unmarked(id)?;
                with_id(&line, theirs)
            }
            (None, None) => Some(line),
        }
    }

    /// A line from the owner; the line for the host, if any.
    pub fn owner_says(&mut self, line: String) -> Option<String> {
        let Ok(envelope) = serde_json::from_str::<Envelope<'_>>(&line) else { return Some(line) };
        match (envelope.method.as_deref(), envelope.id) {
            (Some(_), Some(id)) => {
                let ours = self.marked(id)?;
                self.asked.insert(ours.get().to_owned());
                with_id(&line, ours)
            }
            (Some("notifications/cancelled"), None) => {
                let id: &RawValue = serde_json::from_str(cancelled(&envelope)?).ok()?;
                let ours = self.marked(id)?;
                self.asked.remove(ours.get());
                with_params_field(&line, "requestId", ours)
            }
            (Some(_), None) => Some(line),
            (None, Some(id)) if id.get() != "null" => {
                if self.swallow.as_deref() == Some(id.get()) {
                    self.swallow = None;
                    return None;
                }
                // Not open: the host has cancelled it, and expects nothing.
                self.open.shift_remove(id.get()).map(|_| line)
            }
            (None, _) => Some(line),
        }
    }

    /// The owner is gone and another has been found.
    pub fn new_owner(&mut self) -> Replay {
        let mut replay = Replay::default();
        if let Some((id, line)) = &self.initialize
            && !self.open.contains_key(id)
        {
            self.swallow = Some(id.clone());
            replay.to_owner.push(line.clone());
        }
        let handshake = self.initialize.as_ref().map(|(id, _)| id);
        let (first, rest): (Vec<_>, Vec<_>) = self.open.iter().partition(|(id, _)| Some(*id) == handshake);
        replay.to_owner.extend(first.into_iter().map(|(_, line)| line.clone()));
        replay.to_owner.extend(self.initialized.clone());
        replay.to_owner.extend(rest.into_iter().map(|(_, line)| again(line).unwrap_or_else(|| line.clone())));

        for id in std::mem::take(&mut self.asked) {
            let id: Box<RawValue> = match RawValue::from_string(id) {
                Ok(id) => id,
                Err(_) => continue,
            };
            let cancelled = json!({
                "jsonrpc": "2.0",
                "method": "notifications/cancelled",
                "params": { "requestId": id, "reason": "asked again by the process that took over" },
            });
            replay.to_host.push(cancelled.to_string());
        }
        self.generation += 1;
        replay
    }

    fn marked(&self, id: &RawValue) -> Option<Box<RawValue>> {
        to_raw_value(&format!("{}:{}", self.generation, id.get())).ok()
    }

    fn unmarked(&self, id: &RawValue) -> Option<Box<RawValue>> {
        let text: String = serde_json::from_str(id.get()).ok()?;
        let (generation, theirs) = text.split_once(':')?;
        (generation.parse() == Ok(self.generation)).then(|| RawValue::from_string(theirs.to_owned()).ok())?
    }
}

/// The id that a `notifications/cancelled` names, as JSON.
fn cancelled<'a>(envelope: &Envelope<'a>) -> Option<&'a str> {
    let cancelled: Cancelled<'a> = serde_json::from_str(envelope.params?.get()).ok()?;
    Some(cancelled.request_id.get())
}

/// A `tools/call` that says that it is heard a second time. The run of a workflow is found by its key; a call that is passed
/// through may have happened.
fn again(line: &str) -> Option<String> {
    let envelope: Envelope<'_> = serde_json::from_str(line).ok()?;
    (envelope.method.as_deref() == Some("tools/call")).then_some(())?;
    with_meta(line, AGAIN, &true)
}

/// The line with an idempotency key, unless it has one, or goes on with a call (MRTR) that had one. Every other byte of the
/// arguments stays as it was.
fn with_key(line: &str) -> Option<String> {
    let message: Fields = serde_json::from_str(line).ok()?;
    let params: Fields = serde_json::from_str(message.get("params")?.get()).ok()?;
    if params.contains_key("requestState") || params.contains_key("inputResponses") {
        return None;
    }
    with_meta(line, IDEMPOTENCY_KEY, &uuid::Uuid::new_v4().to_string())
}

/// The line with an entry in its `_meta`, unless it has such an entry.
fn with_meta(line: &str, name: &str, value: &impl Serialize) -> Option<String> {
    let mut message: Fields = serde_json::from_str(line).ok()?;
    let mut params: Fields = serde_json::from_str(message.get("params")?.get()).ok()?;
    let mut meta: Fields = match params.get("_meta") {
        Some(meta) => serde_json::from_str(meta.get()).ok()?,
        None => Fields::new(),
    };
    if meta.contains_key(name) {
        return None;
    }
    meta.insert(name.into(), to_raw_value(value).ok()?);
    let meta = to_raw_value(&meta).ok()?;
    params.insert("_meta".into(), meta);
    let params = to_raw_value(&params).ok()?;
    message.insert("params".into(), params);
    serde_json::to_string(&message).ok()
}

fn with_id(line: &str, id: Box<RawValue>) -> Option<String> {
    let mut message: Fields = serde_json::from_str(line).ok()?;
    message.insert("id".into(), id);
    serde_json::to_string(&message).ok()
}

fn with_params_field(line: &str, name: &'static str, value: Box<RawValue>) -> Option<String> {
    let mut message: Fields = serde_json::from_str(line).ok()?;
    let mut params: Fields = serde_json::from_str(message.get("params")?.get()).ok()?;
    params.insert(name.into(), value);
    let params = to_raw_value(&params).ok()?;
    message.insert("params".into(), params);
    serde_json::to_string(&message).ok()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used)]

    use serde_json::Value;

    use super::*;

    fn call(id: u32) -> String {
        json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": "ship", "arguments": {} } })
            .to_string()
    }

    fn result(id: Value) -> String {
        json!({ "jsonrpc": "2.0", "id": id, "result": {} }).to_string()
    }

    fn key_of(line: &str) -> Value {
        let line: Value = serde_json::from_str(line).unwrap();
        line["params"]["_meta"][IDEMPOTENCY_KEY].clone()
    }

    #[test]
    fn a_call_gets_a_key_and_keeps_its_bytes() {
        let mut transcript = Transcript::default();
        let line = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{"n":1.10,"big":123456789012345678901234567890}}}"#;
        let sent = transcript.host_says(line.into()).unwrap();
        assert!(sent.contains(r#""arguments":{"n":1.10,"big":123456789012345678901234567890}"#), "{sent}");
        assert!(key_of(&sent).is_string());

        let keyed = r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"x","_meta":{"antiphon/idempotency-key":"mine"}}}"#;
        assert_eq!(transcript.host_says(keyed.into()).unwrap(), keyed);
        let resumed = r#"{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"x","requestState":"s","inputResponses":{}}}"#;
        assert_eq!(transcript.host_says(resumed.into()).unwrap(), resumed);
    }

    #[test]
    fn a_new_owner_hears_the_handshake_and_what_is_open() {
        let mut transcript = Transcript::default();
        let initialize = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}"#;
        let initialized = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        transcript.host_says(initialize.into());
        assert!(transcript.owner_says(result(0.into())).is_some());
        transcript.host_says(initialized.into());
        let first = transcript.host_says(call(1)).unwrap();
        transcript.host_says(call(2));
        let third = transcript.host_says(call(3)).unwrap();
        assert!(transcript.owner_says(result(2.into())).is_some());

        let replay = transcript.new_owner();
        let marked = |line: &str| again(line).unwrap();
        assert_eq!(replay.to_owner, [initialize.to_owned(), initialized.to_owned(), marked(&first), marked(&third)]);
        assert_eq!(key_of(&replay.to_owner[2]), key_of(&first));
        assert!(replay.to_owner[2].contains(r#""antiphon/again":true"#), "{}", replay.to_owner[2]);
        assert_eq!(transcript.owner_says(result(0.into())), None, "the host has this answer");
        assert!(transcript.owner_says(result(1.into())).is_some());
        assert_eq!(transcript.owner_says(result(1.into())), None, "once");
    }

    #[test]
    fn an_unanswered_handshake_is_answered_by_the_new_owner() {
        let mut transcript = Transcript::default();
        let initialize = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}"#;
        transcript.host_says(initialize.into());
        assert_eq!(transcript.new_owner().to_owner, [initialize]);
        assert!(transcript.owner_says(result(0.into())).is_some());
    }

    #[test]
    fn cancelled_requests_are_not_repeated() {
        let mut transcript = Transcript::default();
        transcript.host_says(call(1));
        let cancel = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 1 } });
        assert!(transcript.host_says(cancel.to_string()).is_some());
        assert_eq!(transcript.new_owner().to_owner, Vec::<String>::new());
    }

    #[test]
    fn an_answer_reaches_only_the_owner_that_asked() {
        let mut transcript = Transcript::default();
        let ask = json!({ "jsonrpc": "2.0", "id": 0, "method": "elicitation/create", "params": {} }).to_string();
        let shown: Value = serde_json::from_str(&transcript.owner_says(ask.clone()).unwrap()).unwrap();
        let stale = result(shown["id"].clone());

        let replay = transcript.new_owner();
        let told: Value = serde_json::from_str(&replay.to_host[0]).unwrap();
        assert_eq!(told["params"]["requestId"], shown["id"], "the host may close that form");
        let again: Value = serde_json::from_str(&transcript.owner_says(ask).unwrap()).unwrap();
        assert_ne!(again["id"], shown["id"]);

        assert_eq!(transcript.host_says(stale), None);
        let answer = transcript.host_says(result(again["id"].clone())).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&answer).unwrap()["id"], 0);
    }

    #[test]
    fn a_withdrawn_question_is_withdrawn_under_the_id_that_the_host_knows() {
        let mut transcript = Transcript::default();
        let ask = json!({ "jsonrpc": "2.0", "id": 5, "method": "elicitation/create", "params": {} }).to_string();
        let shown: Value = serde_json::from_str(&transcript.owner_says(ask).unwrap()).unwrap();
        let withdraw = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 5 } });
        let told: Value = serde_json::from_str(&transcript.owner_says(withdraw.to_string()).unwrap()).unwrap();
        assert_eq!(told["params"]["requestId"], shown["id"]);
    }

    #[test]
    fn what_is_not_json_rpc_passes() {
        let mut transcript = Transcript::default();
        assert_eq!(transcript.host_says("garbage".into()).as_deref(), Some("garbage"));
    }
}
