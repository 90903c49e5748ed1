//! The way to the server: its own HTTP client, its own retries, nothing from the environment but proxies.

use std::error::Error;
use std::io;
use std::time::Duration;

use async_openai::Client;
use async_openai::config::Config;
use async_openai::error::OpenAIError;
use async_openai::middleware::HttpRequestFactory;
use futures::{StreamExt, stream};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Response, StatusCode, Url, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::ModelConfig;
use crate::request::invalid;
use crate::{ModelError, ModelErrorKind};

/// How often a request is sent, all in all.
const ATTEMPTS: u32 = 3;

/// The pause before the second attempt; it doubles.
const BACKOFF: Duration = Duration::from_millis(250);

/// The longest pause that a server may ask for; beyond it, another model is the better choice.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(20);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest answer that is read, in bytes: a token takes some two hundred of them on the way.
const MAX_BODY_BYTES: usize = 64 << 20;

/// How much of an error's body is read, in bytes.
const MAX_ERROR_BYTES: usize = 64 << 10;

/// Where the server is and what it is told with every request.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    base_url: String,
    local: bool,
    headers: HeaderMap,
    api_key: SecretString,
}

impl Endpoint {
    pub(super) fn new(config: &ModelConfig) -> Result<Self, ModelError> {
        let wrong = |why: &str| invalid(format!("model `{}`: {why}", config.name));
        let url = Url::parse(&config.base_url).map_err(|error| wrong(&format!("`base_url` is not a URL: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("`base_url` must begin with http:// or https://"));
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &config.headers {
            let name = HeaderName::try_from(name).map_err(|_| wrong(&format!("`{name}` can't be a header's name")))?;
            let value = secret(value.expose_secret())
                .ok_or_else(|| wrong(&format!("the header `{name}` has characters that a header can't carry")))?;
            headers.insert(name, value);
        }
        if let Some(key) = &config.api_key {
            let bearer = secret(&format!("Bearer {}", key.expose_secret()));
            headers.insert(
                AUTHORIZATION,
                bearer.ok_or_else(|| wrong("`api_key` has characters that a header can't carry"))?,
            );
        }
        let local =
            url.host_str().is_some_and(|host| host == "localhost" || host.starts_with("127.") || host == "[::1]");
        Ok(Self {
            base_url: config.base_url.trim_end_matches('/').to_owned(),
            local,
            headers,
            api_key: config.api_key.clone().unwrap_or_default(),
        })
    }
}

impl Config for Endpoint {
    fn headers(&self) -> HeaderMap {
        self.headers.clone()
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base_url)
    }

    fn query(&self) -> Vec<(&str, &str)> {
        Vec::new()
    }

    fn api_base(&self) -> &str {
        &self.base_url
    }

    fn api_key(&self) -> &SecretString {
        &self.api_key
    }
}

/// A client whose requests go through [`send`].
pub(super) fn client(endpoint: Endpoint) -> Result<Client<Endpoint>, ModelError> {
    // A redirect would carry prompts to a place that nobody named; a proxy can't know this machine's loopback.
    let mut builder = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).redirect(redirect::Policy::none());
    if endpoint.local {
        builder = builder.no_proxy();
    }
    let http = builder.build().map_err(|error| invalid(format!("no HTTP client: {error}")))?;
    let service = tower::service_fn(move |request: HttpRequestFactory| send(http.clone(), request));
    Ok(Client::with_config(endpoint).with_http_service(service))
}

/// Sends a request, again if the server can't be reached or is overloaded, waiting as long as it asks.
async fn send(http: reqwest::Client, request: HttpRequestFactory) -> Result<Response, OpenAIError> {
    let mut attempt = 1;
    loop {
        let refusal = match http.execute(request.build().await?).await {
            Ok(response) if response.status().is_success() => return Ok(as_events(response)),
            Ok(response) => Refusal::read(response).await,
            Err(error) if error.is_connect() => Refusal::unreachable(&error),
            Err(error) => return Err(error.into()),
        };
        let pause = refusal.retry_after.unwrap_or(BACKOFF * 2_u32.pow(attempt - 1));
        if attempt == ATTEMPTS || !refusal.passes() || pause > MAX_RETRY_AFTER {
            return Err(refusal.into());
        }
        tracing::debug!(attempt, ?pause, refusal = %refusal.message, "the model's server refused; trying again");
        tokio::time::sleep(pause).await;
        attempt += 1;
    }
}

/// The answer as a stream of events, bounded. A server that ignores `stream` answers with one JSON document: that becomes the
/// one event.
fn as_events(response: Response) -> Response {
    let whole = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .is_some_and(|kind| kind.starts_with("application/json"));
    let mut left = MAX_BODY_BYTES;
    let bytes = response.bytes_stream().map(move |bytes| {
        let mut bytes = bytes.map_err(io::Error::other)?.to_vec();
        left = left.checked_sub(bytes.len()).ok_or_else(|| io::Error::other("too many bytes"))?;
        if whole {
            // A line break would end the event's data; between JSON's tokens it means nothing.
            bytes.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
        }
        Ok::<_, io::Error>(bytes)
    });
    let edge = |text: &'static str| stream::iter(whole.then(|| Ok(text.as_bytes().to_vec())));
    let body = reqwest::Body::wrap_stream(edge("data: ").chain(bytes).chain(edge("\n\n")));
    http::Response::new(body).into()
}

/// A request that the server, or the way to it, did not honour.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Refusal {
    /// The HTTP status; 0 when there is none.
    pub(super) status: u16,
    /// For people.
    pub(super) message: String,
    kind: ModelErrorKind,
    retry_after: Option<Duration>,
}

impl Refusal {
    fn new(kind: ModelErrorKind, message: String) -> Self {
        Self { status: 0, message, kind, retry_after: None }
    }

    fn unreachable(error: &reqwest::Error) -> Self {
        Self::new(ModelErrorKind::Unavailable, format!("it can't be reached: {}", root_cause(error)))
    }

    pub(super) fn silent(timeout: Duration) -> Self {
        Self::new(ModelErrorKind::Timeout, format!("silent for {} s", timeout.as_secs_f32()))
    }

    pub(super) fn too_long(bytes: usize) -> Self {
        Self::new(ModelErrorKind::Model, format!("its answer is longer than {bytes} bytes"))
    }

    pub(super) fn no_answer() -> Self {
        Self::new(ModelErrorKind::Model, "it answered without a choice".to_owned())
    }

    pub(super) fn in_stream(error: &Value) -> Self {
        Self::new(ModelErrorKind::Model, format!("it broke off: {}", message_in(error)))
    }

    async fn read(response: Response) -> Self {
        let status = response.status();
        let retry_after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|seconds| seconds.to_str().ok()?.trim().parse().ok())
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let mut body = Vec::new();
        let mut stream = response.bytes_stream();
        while let Some(Ok(bytes)) = stream.next().await {
            body.extend_from_slice(&bytes[..bytes.len().min(MAX_ERROR_BYTES - body.len())]);
            if body.len() == MAX_ERROR_BYTES {
                break;
            }
        }
        let said = match serde_json::from_slice::<Value>(&body) {
            Ok(value) => message_in(value.get("error").unwrap_or(&value)),
            Err(_) => String::from_utf8_lossy(&body).chars().take(super::SHOWN).collect(),
        };
        // An exhausted account answers 429 too, and will again.
        let retry_after = if said.contains("quota") { Some(Duration::MAX) } else { retry_after };
        let kind = if passes(status) { ModelErrorKind::Unavailable } else { ModelErrorKind::Model };
        Self { status: status.as_u16(), message: format!("{status}: {said}"), kind, retry_after }
    }

    /// Whether it may pass by itself.
    fn passes(&self) -> bool {
        self.kind == ModelErrorKind::Unavailable
    }
}

impl From<Refusal> for OpenAIError {
    fn from(refusal: Refusal) -> Self {
        Self::Boxed(Box::new(refusal))
    }
}

fn passes(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429) || (status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED)
}

/// The message in an error object, whatever else is in it and of whatever types.
fn message_in(error: &Value) -> String {
    match error.get("message").unwrap_or(error) {
        Value::String(message) => message.clone(),
        other => other.to_string(),
    }
}

/// The refusal inside an error, if it is one.
pub(super) fn refusal(error: &OpenAIError) -> Option<&Refusal> {
    match error {
        OpenAIError::Boxed(inner) => inner.downcast_ref(),
        _ => None,
    }
}

/// The kind of an error, and the end of a sentence about the model.
pub(super) fn explain(error: &OpenAIError) -> (ModelErrorKind, String) {
    match (refusal(error), error) {
        (Some(refusal), _) => (refusal.kind, refusal.message.clone()),
        (_, OpenAIError::JSONDeserialize(error, said)) => {
            (ModelErrorKind::Model, format!("it does not speak the protocol ({error}): {}", super::shown(said)))
        }
        (_, OpenAIError::Reqwest(error)) => {
            (ModelErrorKind::Unavailable, format!("the connection failed: {}", root_cause(error)))
        }
        (_, OpenAIError::StreamError(error)) => {
            (ModelErrorKind::Unavailable, format!("the connection was lost: {error}"))
        }
        (_, other) => (ModelErrorKind::Model, other.to_string()),
    }
}

/// Servers like to repeat the key that they refuse.
pub(super) fn redact(message: String, config: &ModelConfig) -> String {
    let secrets = config.api_key.iter().chain(config.headers.iter().map(|(_, value)| value)).chain(&config.secrets);
    let secrets = secrets.map(ExposeSecret::expose_secret).filter(|secret| !secret.is_empty());
    secrets.fold(message, |message, secret| message.replace(secret, "[secret]"))
}

fn secret(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
