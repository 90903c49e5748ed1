//! Finding out which era the server at the other end of a pipe speaks, however slow it is.
//!
//! rmcp would ask `server/discover`, wait for a fixed time, send `initialize`, and take a late answer for an error. But
//! servers that take long to start answer late, and most of those that have seen the first question refuse the second. So
//! rmcp is told to `initialize`, and this asks `server/discover` first. The server's time to answer starts when it has read
//! the question. When that is over both are asked, and both answers count:
//!
//! | `initialize` | `server/discover` | it speaks |
//! |---|---|---|
//! | accepted | whatever, and whenever | the old protocol: it has agreed to, and may be bound to it |
//! | refused | answered, before or after | the new one |
//! | refused in the new one's words | not yet answered | the new one: its answer is waited for |
//! | refused | refused | neither |
//! | not yet answered | answered late | the new one, after a moment |

use std::time::Duration;

use rmcp::model::{
    ClientJsonRpcMessage, ClientNotification, ClientRequest, DiscoverRequest, DiscoverRequestParams, DiscoverResult,
    ErrorCode, Implementation, InitializeRequest, InitializeResult, JsonRpcMessage, ProtocolVersion, RequestId,
    RequestMetaObject, ServerJsonRpcMessage, ServerResult,
};
use tokio::time::Instant;

use crate::wire::number;

/// The id of our own `server/discover`. rmcp counts from 0 and does not get here.
pub(super) const PROBE: i64 = i32::MAX as i64;
/// How often it is looked whether the server has read the question.
const LOOK: Duration = Duration::from_millis(50);

/// The greeting of one server.
pub(super) struct Greeting {
    /// How long the server may think about `server/discover`, once it has read it.
    patience: Duration,
    stage: Stage,
}

enum Stage {
    /// rmcp has yet to say `initialize`.
    Ready,
    /// `server/discover` is out, and `initialize` is kept back.
    Asking {
        id: RequestId,
        initialize: Box<InitializeRequest>,
        /// Known when the server has read the question.
        until: Option<Instant>,
    },
    /// Both are out.
    Both {
        id: RequestId,
        /// The late answer to `server/discover`, and how long the other one is waited for.
        discovered: Option<(Box<InitializeResult>, Instant)>,
        /// The answer to `initialize`, in the words of a modern server.
        refusal: Option<Box<ServerJsonRpcMessage>>,
    },
    /// Settled by `server/discover`; rmcp has yet to say that it is initialized.
    Discovered,
    /// Settled.
    Over,
}

/// What follows from something that happened.
pub(super) enum Next {
    /// Nothing yet.
    Wait,
    /// rmcp gets this message.
    Tell(ServerJsonRpcMessage),
    /// The server gets it.
    Send(ClientJsonRpcMessage),
}

impl Greeting {
    /// One that finds out the era.
    pub(super) fn inquiring(patience: Duration) -> Self {
        Self { patience, stage: Stage::Ready }
    }

    /// One that leaves it all to rmcp.
    pub(super) fn plain() -> Self {
        Self { patience: Duration::ZERO, stage: Stage::Over }
    }

    /// What the server gets of what rmcp sends.
    pub(super) fn outgoing(&mut self, message: ClientJsonRpcMessage) -> Option<ClientJsonRpcMessage> {
        match (&self.stage, message) {
            (Stage::Ready, JsonRpcMessage::Request(request)) => match request.request {
                ClientRequest::InitializeRequest(initialize) => {
                    let probe = probe(&initialize);
                    let initialize = Box::new(initialize);
                    self.stage = Stage::Asking { id: request.id, initialize, until: None };
                    Some(probe)
                }
                other => Some(ClientJsonRpcMessage::request(other, request.id)),
            },
            (Stage::Discovered, JsonRpcMessage::Notification(note))
                if matches!(note.notification, ClientNotification::InitializedNotification(_)) =>
            {
                self.stage = Stage::Over;
                None
            }
            (_, message) => Some(message),
        }
    }

    /// When to look again, though the server says nothing.
    pub(super) fn next_look(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Asking { until, .. } => Some(until.unwrap_or_else(|| Instant::now() + LOOK)),
            Stage::Both { discovered: Some((_, until)), .. } => Some(*until),
            _ => None,
        }
    }

    /// The time has come. `read` tells whether the server has read all that was sent.
    pub(super) fn look(&mut self, read: bool) -> Next {
        let now = Instant::now();
        match &mut self.stage {
            Stage::Asking { until: until @ None, .. } if read => {
                *until = Some(now + self.patience);
                Next::Wait
            }
            Stage::Asking { until: Some(until), .. } if *until <= now => self.initialize(true),
            Stage::Both { discovered: Some((_, until)), .. } if *until <= now => self.settle(),
            _ => Next::Wait,
        }
    }

    /// What becomes of what the server says.
    pub(super) fn incoming(&mut self, message: ServerJsonRpcMessage) -> Next {
        if matches!(self.stage, Stage::Over) {
            return Next::Tell(message);
        }
        let answers = match (&message, &self.stage) {
            (JsonRpcMessage::Response(response), _) => number(&response.id),
            // Servers may leave the id out of an error, and but one question is open.
            (JsonRpcMessage::Error(error), Stage::Asking { .. }) => error.id.as_ref().map_or(Some(PROBE), number),
            (JsonRpcMessage::Error(error), _) => error.id.as_ref().and_then(number),
            _ => None,
        };
        let initialize = match &self.stage {
            Stage::Both { id, .. } => number(id),
            _ => None,
        };
        match answers {
            Some(PROBE) => self.discovered(message),
            Some(id) if Some(id) == initialize => self.initialized(message),
            _ => Next::Tell(message),
        }
    }

    /// `server/discover` has been answered.
    fn discovered(&mut self, message: ServerJsonRpcMessage) -> Next {
        let result = modern(message);
        let patience = self.patience;
        match (&mut self.stage, result) {
            (Stage::Asking { id, .. }, Some(result)) => {
                let id = id.clone();
                self.stage = Stage::Discovered;
                Next::Tell(ServerJsonRpcMessage::response(ServerResult::InitializeResult(result), id))
            }
            (Stage::Asking { .. }, None) => self.initialize(false),
            (Stage::Both { discovered, refusal, .. }, Some(result)) => {
                *discovered = Some((Box::new(result), Instant::now() + patience));
                if refusal.is_some() { self.settle() } else { Next::Wait }
            }
            (Stage::Both { .. }, None) => self.settle(),
            _ => Next::Wait,
        }
    }

    /// `initialize` has been answered, while `server/discover` was still open or after it was answered late.
    fn initialized(&mut self, message: ServerJsonRpcMessage) -> Next {
        let JsonRpcMessage::Error(error) = &message else {
            self.stage = Stage::Over;
            return Next::Tell(message);
        };
        let modern = is_modern(error.error.code);
        match &mut self.stage {
            Stage::Both { discovered: Some(_), .. } => self.settle(),
            Stage::Both { refusal, .. } if modern => {
                *refusal = Some(Box::new(message));
                Next::Wait
            }
            _ => {
                self.stage = Stage::Over;
                Next::Tell(message)
            }
        }
    }

    /// The kept back `initialize` goes out. `both`: `server/discover` may still be answered.
    fn initialize(&mut self, both: bool) -> Next {
        let Stage::Asking { id, initialize, .. } = std::mem::replace(&mut self.stage, Stage::Over) else {
            return Next::Wait;
        };
        if both {
            self.stage = Stage::Both { id: id.clone(), discovered: None, refusal: None };
        }
        Next::Send(ClientJsonRpcMessage::request(ClientRequest::InitializeRequest(*initialize), id))
    }

    /// All that can be known is: the era is the new one if there is an answer that says so.
    fn settle(&mut self) -> Next {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Both { id, discovered: Some((result, _)), .. } => {
                self.stage = Stage::Discovered;
                Next::Tell(ServerJsonRpcMessage::response(ServerResult::InitializeResult(*result), id))
            }
            Stage::Both { refusal: Some(refusal), .. } => Next::Tell(*refusal),
            // `server/discover` was refused, and `initialize` will be answered.
            _ => Next::Wait,
        }
    }
}

/// `server/discover` on behalf of the client that wants to initialize.
fn probe(initialize: &InitializeRequest) -> ClientJsonRpcMessage {
    let client = &initialize.params;
    let meta = RequestMetaObject::with_client_context(
        ProtocolVersion::V_2026_07_28,
        client.client_info.clone(),
        client.capabilities.clone(),
    );
    let mut discover = DiscoverRequest::new(DiscoverRequestParams {});
    discover.extensions.insert(meta);
    ClientJsonRpcMessage::request(ClientRequest::DiscoverRequest(discover), RequestId::Number(PROBE))
}

/// The answer to `server/discover`, if the server speaks the new protocol, as an answer to `initialize`: rmcp takes the
/// version for what it is, and speaks the new protocol as well.
fn modern(message: ServerJsonRpcMessage) -> Option<InitializeResult> {
    let JsonRpcMessage::Response(response) = message else { return None };
    let ServerResult::DiscoverResult(found) = response.result else { return None };
    if !found.supported_versions.contains(&ProtocolVersion::V_2026_07_28) {
        return None;
    }
    let server = found.server_info().unwrap_or_else(|| Implementation::new("", ""));
    let DiscoverResult { capabilities, instructions, meta, .. } = found;
    let mut result = InitializeResult::new(capabilities).with_server_info(server);
    result.protocol_version = ProtocolVersion::V_2026_07_28;
    result.instructions = instructions;
    result.meta = meta;
    Some(result)
}

/// Whether only a server of the new protocol refuses `initialize` so: with one of its own codes, or not knowing the method.
pub(crate) fn is_modern(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::UNSUPPORTED_PROTOCOL_VERSION
            | ErrorCode::MISSING_REQUIRED_CLIENT_CAPABILITY
            | ErrorCode::HEADER_MISMATCH
            | ErrorCode::METHOD_NOT_FOUND
    )
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;

    fn heard(message: Value) -> ServerJsonRpcMessage {
        serde_json::from_value(message).unwrap()
    }

    fn refusal(id: i64, code: i64) -> ServerJsonRpcMessage {
        heard(json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": "no" } }))
    }

    fn discovery(version: &str) -> ServerJsonRpcMessage {
        let result = json!({
            "resultType": "complete", "ttlMs": 0, "cacheScope": "private", "capabilities": {}, "supportedVersions": [version],
        });
        heard(json!({ "jsonrpc": "2.0", "id": PROBE, "result": result }))
    }

    /// What happens, as JSON; what is told to rmcp has its result's version or its error's code.
    fn shown(next: Next) -> Value {
        match next {
            Next::Wait => json!("wait"),
            Next::Send(message) => serde_json::to_value(message).unwrap()["method"].clone(),
            Next::Tell(message) => {
                let message = serde_json::to_value(message).unwrap();
                assert_eq!(message["id"], 0);
                json!([message["result"]["protocolVersion"], message["error"]["code"]])
            }
        }
    }

    /// A greeting of which both questions are out, after no time at all.
    fn both_asked() -> Greeting {
        let mut greeting = Greeting::inquiring(Duration::ZERO);
        let params = json!({
            "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" },
        });
        let initialize = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params });
        let first = greeting.outgoing(serde_json::from_value(initialize).unwrap()).unwrap();
        assert_eq!(serde_json::to_value(first).unwrap()["method"], "server/discover");
        assert_eq!(shown(greeting.look(false)), "wait");
        assert_eq!(shown(greeting.look(true)), "wait");
        assert_eq!(shown(greeting.look(true)), "initialize");
        greeting
    }

    #[test]
    fn answers_in_any_order() {
        let modern = json!(["2026-07-28", null]);
        for (first, second, seen) in [
            (refusal(0, -32022), discovery("2026-07-28"), [json!("wait"), modern.clone()]),
            (refusal(0, -32601), discovery("2026-07-28"), [json!("wait"), modern.clone()]),
            (discovery("2026-07-28"), refusal(0, -32600), [json!("wait"), modern]),
            (refusal(PROBE, -32601), refusal(0, -32600), [json!("wait"), json!([null, -32600])]),
            (refusal(0, -32022), refusal(PROBE, -32601), [json!("wait"), json!([null, -32022])]),
            (discovery("2027-01-01"), refusal(0, -32022), [json!("wait"), json!([null, -32022])]),
        ] {
            let mut greeting = both_asked();
            assert_eq!([first, second].map(|message| shown(greeting.incoming(message))), seen);
        }
        // Nothing in it says that the server is modern, so nothing more is waited for.
        assert_eq!(shown(both_asked().incoming(refusal(0, -32603))), json!([null, -32603]));
    }

    #[test]
    fn a_late_discovery_is_enough_when_initialize_is_ignored() {
        let mut greeting = both_asked();
        assert_eq!(shown(greeting.incoming(discovery("2026-07-28"))), "wait");
        assert_eq!(shown(greeting.look(true)), json!(["2026-07-28", null]));
        let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        assert!(greeting.outgoing(serde_json::from_value(initialized).unwrap()).is_none());
        assert!(greeting.next_look().is_none());
    }
}
