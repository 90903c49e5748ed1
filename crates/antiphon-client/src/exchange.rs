//! One request on a connection, and the exact word on what became of it.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{ClientRequest, RequestMetaObject, ServerResult};
use rmcp::service::{PeerRequestOptions, RequestHandle, RoleClient, ServiceError};
use serde_json::{Map, Value};
use tokio::time::{Instant, sleep_until};

use crate::call::CallContext;
use crate::connection::{Connection, OBITUARY_PATIENCE};
use crate::error::{ClientError, ErrorKind};
use crate::http;
use crate::inbox::CallEvent;
use crate::wire::{Fate, Wire};

/// A call that has no deadline of its own ends after this, however often it reports progress.
const LONGEST_CALL: Duration = Duration::from_secs(24 * 3600);
/// How long telling the other side that a call is not wanted any more may take.
const CANCEL_PATIENCE: Duration = Duration::from_secs(5);

/// The answer of a server, as rmcp gives it; `None` if the connection went away.
type Answer = Option<Result<ServerResult, ServiceError>>;

/// Why an answer is not waited for any more.
enum Impatience {
    /// The server was silent for too long.
    Silent,
    /// The call's time is over.
    Late,
    /// The caller has lost interest.
    Cancelled,
}

impl Connection {
    /// Makes one request and waits for its result, for as long as the server is not silent.
    ///
    /// # Errors
    /// With the exact word on whether the server may have acted on it.
    pub(crate) async fn request(
        &self,
        request: ClientRequest,
        meta: Map<String, Value>,
        cx: &CallContext,
    ) -> Result<Value, ClientError> {
        let result = self.exchange(request, meta, cx).await?;
        self.value(result)
    }

    /// The same, with the result as the transport gave it: a large one is not gone through again. Secrets are not hidden yet.
    ///
    /// # Errors
    /// See [`Connection::request`].
    pub(crate) async fn exchange(
        &self,
        request: ClientRequest,
        meta: Map<String, Value>,
        cx: &CallContext,
    ) -> Result<ServerResult, ClientError> {
        let mut options = PeerRequestOptions::no_options();
        if !meta.is_empty() {
            let mut object = RequestMetaObject::new();
            object.0.0 = meta;
            options = options.with_meta(object);
        }
        let entering = self.calls.entering();
        let Ok(handle) = self.peer.send_request_with_option(request, options).await else {
            return Err(self.lost(Fate::NeverSent).await);
        };
        let entry = self.calls.enter(&handle.id, &handle.progress_token, cx);
        drop(entering);
        let mut pending_call = PendingCall { handle: Some(handle), wire: Arc::clone(&self.wire) };
        let deadline = cx.deadline.unwrap_or_else(|| Instant::now() + LONGEST_CALL);
        let alarm = sleep_until(deadline.min(Instant::now() + self.config.timeout));
        tokio::pin!(alarm);
        let end = loop {
            tokio::select! {
                biased;
                answer = pending_call.answer() => break Ok(answer),
                () = cx.cancelled.cancelled() => break Err(Impatience::Cancelled),
                event = entry.inbox.next() => hear(cx, event),
                () = entry.serving.turned() => {}
                () = &mut alarm => break Err(if deadline <= Instant::now() { Impatience::Late } else { Impatience::Silent }),
            }
            // People may take their time; the server's starts again with their answer.
            let silent = if entry.serving.asks() { deadline } else { Instant::now() + self.config.timeout };
            alarm.as_mut().reset(deadline.min(silent));
        };
        // What the server has said before its answer.
        while let Some(event) = entry.inbox.take() {
            hear(cx, event);
        }
        let Some(id) = pending_call.handle.as_ref().map(|handle| handle.id.clone()) else {
            return Err(self.lost(Fate::NeverSent).await);
        };
        let fate = self.wire.settle(&id);
        match end {
            Ok(answer) => {
                pending_call.handle = None;
                self.answered(answer, fate).await
            }
            Err(why) => Err(self.abandoned(&why).in_doubt_if(fate != Fate::NeverSent)),
        }
    }

    async fn answered(&self, answer: Answer, fate: Fate) -> Result<ServerResult, ClientError> {
        let error = match (answer, fate) {
            (Some(Ok(result)), _) => return Ok(result),
            (_, Fate::Unreadable(why)) => self.error(ErrorKind::InvalidOutput, &why).in_doubt_if(true),
            // rmcp answers in the server's stead when a session had to be made anew under a call.
            (Some(Err(ServiceError::McpError(error))), fate)
                if error.message.starts_with("streamable HTTP session was re-initialized") =>
            {
                self.lost(fate).await
            }
            (Some(Err(ServiceError::McpError(mut error))), _) => {
                let account = format!("answered with error {}: {}", error.code.0, error.message);
                error.message = self.config.redact(&error.message).into_owned().into();
                if let Some(data) = &mut error.data {
                    self.config.redact_all(data);
                }
                ClientError { answer: Some(Arc::new(error)), ..self.error(ErrorKind::Rpc, &account) }
            }
            (Some(Err(ServiceError::TransportSend(error))), fate) => match http::error_in(&error) {
                Some(error) => {
                    let (kind, acted, message) = http::explain(error, &self.config);
                    self.error(kind, &message).in_doubt_if(acted && fate == Fate::Sent)
                }
                None => self.lost(fate).await,
            },
            (_, fate) => self.lost(fate).await,
        };
        Err(error)
    }

    fn abandoned(&self, why: &Impatience) -> ClientError {
        match why {
            Impatience::Silent => {
                self.error(ErrorKind::Timeout, &format!("did not answer within {:?}", self.config.timeout))
            }
            Impatience::Late => self.error(ErrorKind::Timeout, "did not answer before the call's deadline"),
            Impatience::Cancelled => self.error(ErrorKind::Cancelled, "was told that the call is not wanted any more"),
        }
    }

    pub(crate) fn value(&self, result: ServerResult) -> Result<Value, ClientError> {
        let value = match result {
            ServerResult::CustomResult(result) => Ok(result.0),
            result => serde_json::to_value(result),
        };
        let mut value = value.map_err(|error| {
            self.error(ErrorKind::InvalidOutput, &format!("gave a result that can't be read: {error}"))
                .in_doubt_if(true)
        })?;
        // What it says is recorded, and shown to models.
        self.config.redact_all(&mut value);
        Ok(value)
    }

    /// The connection broke under a request.
    async fn lost(&self, fate: Fate) -> ClientError {
        let obituary = match &self.process {
            Some(process) => process.obituary(OBITUARY_PATIENCE).await,
            None => None,
        };
        let message = self.wire.fault().or(obituary).unwrap_or_else(|| "closed the connection".into());
        self.error(ErrorKind::Unavailable, &message).in_doubt_if(fate != Fate::NeverSent)
    }
}

fn hear(cx: &CallContext, event: CallEvent) {
    match (event, &cx.on_behalf) {
        (CallEvent::Progress(progress), _) => (cx.progress)(progress),
        (CallEvent::Log(message), Some(caller)) => (caller.log)(message),
        (CallEvent::Log(_), None) => {}
    }
}

/// A request that the other side is told to forget when nobody waits for its answer any more.
struct PendingCall {
    handle: Option<RequestHandle<RoleClient>>,
    wire: Arc<Wire>,
}

impl PendingCall {
    async fn answer(&mut self) -> Answer {
        match &mut self.handle {
            Some(handle) => (&mut handle.rx).await.ok(),
            None => pending().await,
        }
    }
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            self.wire.settle(&handle.id);
            // A server that reads nothing must not hold up whoever has lost patience with it.
            tokio::spawn(tokio::time::timeout(CANCEL_PATIENCE, async move {
                let _ = handle.cancel(Some("not wanted any more".into())).await;
            }));
        }
    }
}
