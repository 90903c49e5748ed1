//! Questions of servers, put to callers.
#![expect(deprecated, reason = "MCP deprecates sampling and roots, and servers use them")]

use antiphon_client::Refused;
use futures::future::try_join_all;
use rmcp::ErrorData;
use rmcp::model::{
    ClientCapabilities, CustomRequest, ElicitRequestParams, InputRequest, InputRequests, InputResponses, ServerRequest,
};
use rmcp::service::{Peer, PeerRequestOptions, RoleServer, ServiceError};
use serde_json::{Value, json};

use super::request::{Calling, Passing};
use crate::caller::Answers;

/// Refuses what the caller has not declared: it must not be asked for that (-32021).
pub(super) fn allowed<'a>(can: Answers, requests: impl Iterator<Item = &'a InputRequest>) -> Result<(), ErrorData> {
    let needed = |capabilities| Err(ErrorData::missing_required_client_capability(capabilities));
    for request in requests {
        match request {
            InputRequest::CreateMessage(_) if !can.sampling => {
                return needed(ClientCapabilities::builder().enable_sampling().build());
            }
            InputRequest::ListRoots(_) if !can.roots => {
                return needed(ClientCapabilities::builder().enable_roots().build());
            }
            InputRequest::Elicitation(elicit) => {
                let fits = match elicit.params {
                    ElicitRequestParams::UrlElicitationParams { .. } => can.url,
                    _ => can.form,
                };
                if !fits {
                    return needed(ClientCapabilities::builder().enable_elicitation().build());
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// The error of a legacy server that people have to go to a URL before the call is made again (2025-11-25, client/elicitation).
const URL_ELICITATION_REQUIRED: i32 = -32042;

/// Where such an error sends people, as a round. `None`: it is another error, or can't be spelled as one.
pub(super) fn at_urls(error: &ErrorData) -> Option<InputRequests> {
    if error.code.0 != URL_ELICITATION_REQUIRED {
        return None;
    }
    let wanted = error.data.as_ref()?.get("elicitations")?.as_array()?.iter().enumerate();
    let requests = wanted.map(|(number, params)| {
        let request = serde_json::from_value(json!({ "method": "elicitation/create", "params": params })).ok()?;
        Some((format!("url-{number}"), request))
    });
    requests.collect::<Option<InputRequests>>().filter(|requests| !requests.is_empty())
}

/// Whether people have agreed to all of them: else the call is not made again.
pub(super) fn agreed(responses: Option<InputResponses>) -> Result<(), ErrorData> {
    let mut answers = responses.iter().flat_map(|responses| responses.values());
    match answers.all(|answer| answer.get("action").is_some_and(|action| action == "accept")) {
        true => Ok(()),
        false => Err(ErrorData::invalid_request("people did not agree to what the server wants of them first", None)),
    }
}

/// Pushes all requests of a round to a legacy caller, at once.
pub(super) async fn all(passing: &Passing<'_>, requests: InputRequests) -> Result<InputResponses, ErrorData> {
    let asked = requests.into_iter().map(|(key, request)| async move {
        let request = serde_json::to_value(request).map_err(|error| unasked(&error))?;
        push(&passing.context.peer, request).await.map(|answer| (key, answer))
    });
    Ok(try_join_all(asked).await?.into_iter().collect())
}

/// Pushes one request, as it is: what rmcp does not know of it, the caller may.
pub(super) async fn push(peer: &Peer<RoleServer>, mut request: Value) -> Result<Value, ErrorData> {
    let method = request.get("method").and_then(Value::as_str).unwrap_or_default().to_owned();
    let params = request.get_mut("params").map(Value::take);
    let request = ServerRequest::CustomRequest(CustomRequest::new(method, params));
    let handle = peer.send_request_with_option(request, PeerRequestOptions::no_options()).await;
    let answer = match handle {
        Ok(handle) => handle.rx.await.unwrap_or(Err(ServiceError::TransportClosed)),
        Err(error) => Err(error),
    };
    match answer {
        Ok(answer) => serde_json::to_value(answer).map_err(|error| unasked(&error)),
        Err(ServiceError::McpError(error)) => Err(error),
        Err(error) => Err(unasked(&error)),
    }
}

fn unasked(error: &dyn std::error::Error) -> ErrorData {
    ErrorData::internal_error(format!("the caller can't be asked: {error}"), None)
}

impl Calling {
    /// What the server has asked, as a round. What can't be spelled as one is refused.
    pub(super) fn requests(&mut self) -> InputRequests {
        let mut requests = InputRequests::new();
        let mut unspellable = Vec::new();
        for (key, question) in &self.open {
            match serde_json::from_value::<InputRequest>(question.request.clone()) {
                Ok(request) => drop(requests.insert(key.clone(), request)),
                Err(error) => unspellable.push((key.clone(), error)),
            }
        }
        for (key, error) in unspellable {
            if let Some(question) = self.open.remove(&key) {
                let _ = question.reply.send(Err(Refused::failed(format!("this question can't be passed on: {error}"))));
            }
        }
        requests
    }

    /// Answers what is answered; the rest stays open.
    pub(super) fn answer(&mut self, mut responses: InputResponses) {
        let keys: Vec<String> = self.open.keys().filter(|key| responses.contains_key(*key)).cloned().collect();
        for key in keys {
            if let (Some(question), Some(answer)) = (self.open.remove(&key), responses.remove(&key)) {
                // The server may have given up.
                let _ = question.reply.send(Ok(answer));
            }
        }
    }
}
