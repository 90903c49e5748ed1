//! The way to the server: its own HTTP client, nothing from the environment but proxies.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use async_openai::Client;
use async_openai::config::Config;
use async_openai::error::OpenAIError;
use async_openai::middleware::HttpRequestFactory;
use futures::{StreamExt, stream};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Response, Url, redirect};
use secrecy::{ExposeSecret, SecretString};

use super::ModelConfig;
use super::refusal::Refusal;
use crate::ModelError;
use crate::request::invalid;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest answer that is read, in bytes: a token takes some two hundred of them on the way.
const MAX_BODY_BYTES: usize = 64 << 20;

/// Where the server is and what it is told with every request.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    base_url: String,
    /// It is on this machine.
    pub(super) local: bool,
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
        let local = url.host_str().is_some_and(|host| {
            let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
            host == "localhost" || address.is_ok_and(|address| address.is_loopback())
        });
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

/// Sends a request once; whether again is decided where the deadline is known.
async fn send(http: reqwest::Client, request: HttpRequestFactory) -> Result<Response, OpenAIError> {
    match http.execute(request.build().await?).await {
        Ok(response) if response.status().is_success() => Ok(as_events(response)),
        Ok(response) => Err(Refusal::read(response).await.into()),
        // A connection that was kept for this may have been closed meanwhile: that, too, is worth another attempt.
        Err(error) if error.is_connect() || error.is_request() => Err(Refusal::unreachable(&error).into()),
        Err(error) => Err(error.into()),
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

fn secret(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}
