//! A server over streamable HTTP.

use std::collections::HashMap;
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use reqwest::header::{HeaderName, HeaderValue};
use reqwest::redirect;
use rmcp::model::{
    ClientJsonRpcMessage, ClientRequest, CustomResult, ErrorCode, ErrorData, RequestId, ServerJsonRpcMessage,
    ServerResult,
};
use rmcp::transport::DynamicTransportError;
use rmcp::transport::streamable_http_client::{
    SseError, StreamableHttpClient, StreamableHttpClientTransportConfig, StreamableHttpClientWorker,
    StreamableHttpError, StreamableHttpPostResponse,
};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use sse_stream::Sse;
use tokio::time::timeout;

use crate::auth::{self, Auth};
use crate::config::ServerConfig;
use crate::error::ErrorKind;
use crate::wire::{Wire, number};

/// Requests in flight on one connection. rmcp's own default, 16, would put wide fan-outs in a queue.
const MAX_CONCURRENT_REQUESTS: usize = 256;
/// How long the answer of a call may take and still be read right here.
const SOON: Duration = Duration::from_millis(20);
/// How long a server may take to end its stream after the answer, if its connection is to be used again.
const TAIL: Duration = Duration::from_secs(1);
/// A longer message is no log message.
const MAX_MARKED: usize = 64 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_REDIRECTS: usize = 3;
/// In the `_meta` of a log message: the request on whose stream it came. rmcp does not say.
pub(crate) const REQUEST: &str = "antiphon/request";

/// What goes over the network, watched.
#[derive(Clone)]
pub(crate) struct WatchedHttp {
    client: reqwest::Client,
    auth: Option<Arc<Auth>>,
    wire: Arc<Wire>,
}

/// A transport to this endpoint; nothing is sent yet.
///
/// # Errors
/// When the URL or a header can't be used, or the program has no TLS provider.
pub(crate) fn transport(
    config: &ServerConfig,
    url: &str,
    headers: &[(String, SecretString)],
    auth: Option<Arc<Auth>>,
    wire: &Arc<Wire>,
) -> Result<StreamableHttpClientWorker<WatchedHttp>, String> {
    let parsed = reqwest::Url::parse(url).map_err(|error| format!("has the URL `{url}`, which is not one: {error}"))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(format!("has the URL `{url}`; only http and https can be reached"));
    }
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        return Err("can't be reached: this program has installed no TLS provider".into());
    }
    let client = reqwest::Client::builder()
        .tcp_nodelay(true)
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_max_idle_per_host(MAX_CONCURRENT_REQUESTS)
        .redirect(redirect::Policy::custom(same_origin))
        .build()
        .map_err(|error| format!("can't be reached: {error}"))?;
    let mut transport =
        StreamableHttpClientTransportConfig::with_uri(url).max_concurrent_requests(MAX_CONCURRENT_REQUESTS);
    transport.max_sse_event_size = config.limits.message;
    for (name, value) in headers {
        let parsed = HeaderName::try_from(name.as_str());
        let value = HeaderValue::try_from(value.expose_secret());
        let (Ok(header), Ok(mut value)) = (parsed, value) else {
            return Err(format!("has the header `{name}`, whose name or value HTTP does not allow"));
        };
        value.set_sensitive(true);
        transport.custom_headers.insert(header, value);
    }
    Ok(StreamableHttpClientWorker::new(WatchedHttp { client, auth, wire: Arc::clone(wire) }, transport))
}

/// The answer to a call, if it comes first; what comes before is kept. It is parsed once, and into what callers want: rmcp would
/// try it on a dozen types, in a task of its own.
async fn answer(id: i64, events: &mut Events, before: &mut Vec<Result<Sse, SseError>>) -> Option<ServerJsonRpcMessage> {
    #[derive(Deserialize)]
    struct Answer {
        id: RequestId,
        result: Value,
    }
    while let Some(event) = events.next().await {
        let data = event.as_ref().map_or("", |event| event.data.as_deref().unwrap_or_default());
        // Servers begin with an empty event, so that the stream can be taken up again.
        let empty = event.is_ok() && data.trim().is_empty();
        if let Ok(answer) = serde_json::from_str::<Answer>(data)
            && number(&answer.id) == Some(id)
        {
            let result = ServerResult::CustomResult(CustomResult::new(answer.result));
            return Some(ServerJsonRpcMessage::response(result, RequestId::Number(id)));
        }
        before.push(event);
        if !empty {
            break;
        }
    }
    None
}

/// Reads a stream to its end, behind the answer: only then its connection can be used again.
fn read_out(mut events: Events) {
    if !matches!(events.next().now_or_never(), Some(None)) {
        tokio::spawn(timeout(TAIL, async move { while events.next().await.is_some() {} }));
    }
}

/// What comes on the stream of a response.
type Events = BoxStream<'static, Result<Sse, SseError>>;

/// Follows redirects on the same host, such as from `/mcp` to `/mcp/`. Elsewhere our headers are nobody's business.
fn same_origin(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let stays = attempt.previous().last().is_some_and(|from| from.origin() == attempt.url().origin());
    if stays && attempt.previous().len() <= MAX_REDIRECTS { attempt.follow() } else { attempt.stop() }
}

impl WatchedHttp {
    /// Notes an event that can't be read as the answer to `id`, and makes it one that can.
    fn watch(&self, id: i64, event: Result<Sse, SseError>) -> Result<Sse, SseError> {
        match event {
            Ok(mut event) => {
                let message = matches!(event.event.as_deref(), None | Some("" | "message"));
                let data = event.data.as_deref().unwrap_or_default();
                if message
                    && !data.trim().is_empty()
                    && let Err(error) = serde_json::from_str::<IgnoredAny>(data)
                {
                    self.wire.unreadable(id, format!("answered with invalid JSON ({error})"));
                    let error = ErrorData::new(ErrorCode::PARSE_ERROR, "unreadable", None);
                    let error = ServerJsonRpcMessage::error(error, Some(RequestId::Number(id)));
                    event.data = serde_json::to_string(&error).ok();
                } else if data.len() < MAX_MARKED && data.contains("\"notifications/message\"") {
                    event.data = marked(data, id).or(event.data);
                }
                Ok(event)
            }
            Err(error) => {
                // rmcp does not say which error it was, only that the stream has ended.
                let text = error.to_string();
                if text.contains("maximum size") {
                    self.wire.unreadable(id, format!("answered with more than is allowed: {text}"));
                }
                Err(error)
            }
        }
    }
}

impl StreamableHttpClient for WatchedHttp {
    type Error = reqwest::Error;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<StreamableHttpPostResponse, StreamableHttpError<Self::Error>> {
        let most = StreamableHttpClientTransportConfig::default().max_sse_event_size;
        self.post_message_with_max_sse_event_size(uri, message, session_id, auth_header, custom_headers, most).await
    }

    async fn post_message_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
        max_sse_event_size: usize,
    ) -> Result<StreamableHttpPostResponse, StreamableHttpError<Self::Error>> {
        let id = match &message {
            ClientJsonRpcMessage::Request(request) => number(&request.id),
            _ => None,
        };
        let calls = matches!(
            &message,
            ClientJsonRpcMessage::Request(request) if matches!(request.request, ClientRequest::CallToolRequest(_))
        );
        if let Some(id) = id {
            self.wire.sending(id);
        }
        let post = |message, token| {
            let (uri, session_id, headers) = (Arc::clone(&uri), session_id.clone(), custom_headers.clone());
            self.client.post_message_with_max_sse_event_size(
                uri,
                message,
                session_id,
                token,
                headers,
                max_sse_event_size,
            )
        };
        let response = match &self.auth {
            None => post(message, auth_header).await,
            Some(auth) => auth.with(|token| post(message.clone(), token)).await,
        };
        match (response, id) {
            (Ok(StreamableHttpPostResponse::Sse(mut events, session)), Some(id)) => {
                let mut before = Vec::new();
                if calls && let Ok(Some(result)) = timeout(SOON, answer(id, &mut events, &mut before)).await {
                    read_out(events);
                    return Ok(StreamableHttpPostResponse::Json(result, session));
                }
                let this = self.clone();
                let events = stream::iter(before).chain(events).map(move |event| this.watch(id, event)).boxed();
                Ok(StreamableHttpPostResponse::Sse(events, session))
            }
            (Err(error), Some(id)) => {
                if never_sent(&error) {
                    self.wire.forget(id);
                }
                Err(error)
            }
            (response, _) => response,
        }
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session_id: Arc<str>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<(), StreamableHttpError<Self::Error>> {
        let delete = |token| {
            self.client.delete_session(Arc::clone(&uri), Arc::clone(&session_id), token, custom_headers.clone())
        };
        match &self.auth {
            None => delete(auth_header).await,
            Some(auth) => auth.with(delete).await,
        }
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<BoxStream<'static, Result<Sse, SseError>>, StreamableHttpError<Self::Error>> {
        let most = StreamableHttpClientTransportConfig::default().max_sse_event_size;
        self.get_stream_with_max_sse_event_size(uri, session_id, last_event_id, auth_header, custom_headers, most).await
    }

    async fn get_stream_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
        max_sse_event_size: usize,
    ) -> Result<BoxStream<'static, Result<Sse, SseError>>, StreamableHttpError<Self::Error>> {
        let get = |token| {
            self.client.get_stream_with_max_sse_event_size(
                Arc::clone(&uri),
                session_id.clone(),
                last_event_id.clone(),
                token,
                custom_headers.clone(),
                max_sse_event_size,
            )
        };
        match &self.auth {
            None => get(auth_header).await,
            Some(auth) => auth.with(get).await,
        }
    }
}

/// A log message that says which request it belongs to. `None`: this is none.
fn marked(data: &str, id: i64) -> Option<String> {
    let mut message: Value = serde_json::from_str(data).ok()?;
    if message.get("method")? != "notifications/message" {
        return None;
    }
    message.get_mut("params")?.as_object_mut()?.entry("_meta").or_insert_with(|| json!({}))[REQUEST] = id.into();
    Some(message.to_string())
}

/// Whether the request can't have reached the server.
fn never_sent(error: &StreamableHttpError<reqwest::Error>) -> bool {
    match error {
        StreamableHttpError::Client(error) => error.is_connect() || error.is_builder(),
        // There was no token to send it with.
        StreamableHttpError::Auth(_) => true,
        _ => false,
    }
}

/// The error of a POST, if that is what it is.
pub(crate) fn error_in(error: &DynamicTransportError) -> Option<&StreamableHttpError<reqwest::Error>> {
    error.error.downcast_ref()
}

/// What a failed POST means: its kind, whether the server may have acted on it, and a predicate of the server.
pub(crate) fn explain(error: &StreamableHttpError<reqwest::Error>, config: &ServerConfig) -> (ErrorKind, bool, String) {
    use StreamableHttpError as E;
    match error {
        E::Client(error) => {
            let mut message = format!("can't be reached: {error}");
            // reqwest keeps the reason ("connection refused") to the end of the chain.
            let mut source = error.source();
            while let Some(inner) = source {
                if inner.source().is_none() {
                    message = format!("{message}: {inner}");
                }
                source = inner.source();
            }
            (ErrorKind::Unavailable, !(error.is_connect() || error.is_builder()), message)
        }
        E::Auth(error) => {
            let (kind, message) = auth::explain(error, config);
            (kind, false, message)
        }
        E::AuthRequired(_) => (ErrorKind::Denied, false, auth::refused("HTTP 401", config)),
        E::InsufficientScope(error) => (ErrorKind::Denied, false, auth::insufficient(error, config)),
        E::HttpStatus(status) if status.status == 429 => {
            (ErrorKind::Unavailable, false, "has had too many requests (HTTP 429)".into())
        }
        E::HttpStatus(status) => (ErrorKind::Unavailable, true, format!("answered with HTTP {}", status.status)),
        E::UnexpectedServerResponse(text) if text.starts_with("HTTP 401") || text.starts_with("HTTP 403") => {
            (ErrorKind::Denied, false, auth::refused(&text[..8], config))
        }
        E::UnexpectedServerResponse(text) if text.starts_with("HTTP 4") || text.starts_with("HTTP 3") => {
            (ErrorKind::Unavailable, false, format!("answered with {text}"))
        }
        E::UnexpectedServerResponse(text) => {
            (ErrorKind::InvalidOutput, true, format!("gave an answer that can't be read: {text}"))
        }
        E::ResponseBodyTooLarge { .. } | E::UnexpectedContentType(_) | E::Deserialize(_) => {
            (ErrorKind::InvalidOutput, true, format!("gave an answer that can't be read: {error}"))
        }
        E::SessionExpired | E::ReinitializationFailed(_) => {
            (ErrorKind::Unavailable, false, format!("has ended our session: {error}"))
        }
        _ => (ErrorKind::Unavailable, true, format!("was lost: {error}")),
    }
}
