//! A front for agents that speak no MCP: an OpenAI-compatible endpoint on the loopback.
//!
//! A child process is given its address and a token (`OPENAI_BASE_URL`, `OPENAI_API_KEY`); whatever agent library it uses then
//! samples through the same routes, budgets and record as everybody else. [`ModelDoor`] is all that the endpoint knows of them.

mod answer;
mod ask;
mod refusal;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use antiphon_models::{Preferences, SampleAnswer, SampleRequest};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures::future::BoxFuture;
use futures::{FutureExt, stream};
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST};
use http::{HeaderMap, StatusCode};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::MAX_MESSAGE_BYTES;
use crate::http::serve;
use answer::Completion;
use ask::Ask;
pub use refusal::ModelRefusal;

/// Names of the loopback; a page that a browser was lured to has another name for it.
const HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// How long a stream waits for its answer before it begins: as long as it has not begun, a failure has an HTTP status.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often a stream says that it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Whoever routes samples, as the endpoint sees it.
pub trait ModelDoor: Send + Sync + 'static {
    /// Whose sample it is: a server in a run, say.
    type Asker: Send + Sync + 'static;

    /// Who shows this token; `None` when nobody may, or may no longer. Comparing must take the same time for every token.
    fn authenticate(&self, token: &str) -> Option<Self::Asker>;

    /// What the asker may name as `model`. Other names are taken as hints.
    fn models(&self, asker: &Self::Asker) -> Vec<String>;

    /// Answers. The future is dropped when the asker has gone.
    fn sample(
        &self,
        asker: Self::Asker,
        request: SampleRequest,
        preferences: Preferences,
    ) -> impl Future<Output = Result<SampleAnswer, ModelRefusal>> + Send;
}

/// Serves this endpoint alone, on this listener, below `/v1`, until `stopping`.
///
/// # Errors
/// The listener's.
pub fn serve_models<D: ModelDoor>(
    listener: TcpListener,
    door: Arc<D>,
    stopping: CancellationToken,
) -> BoxFuture<'static, io::Result<()>> {
    serve(listener, router(door), stopping)
}

pub(crate) fn router<D: ModelDoor>(door: Arc<D>) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(complete::<D>))
        .route("/v1/models", get(list::<D>))
        .fallback(unknown)
        .with_state(door)
        .layer(middleware::from_fn(loopback_only))
}

async fn loopback_only(request: Request, next: Next) -> Response {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    };
    if HOSTS.contains(&name) {
        next.run(request).await
    } else {
        ModelRefusal::Denied("this endpoint serves the loopback only".to_owned()).into_response()
    }
}

async fn unknown(request: Request) -> Response {
    let message = format!(
        "there is no {} {} here: POST /v1/chat/completions and GET /v1/models are all that there is",
        request.method(),
        request.uri().path()
    );
    refusal::shown(StatusCode::NOT_FOUND, "invalid_request_error", "unknown_url", &message)
}

/// Who sends a request, by its token.
pub(crate) fn asker<D: ModelDoor>(door: &D, headers: &HeaderMap) -> Option<D::Asker> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") { door.authenticate(token.trim()) } else { None }
}

fn stranger() -> Response {
    let message = "this endpoint wants `Authorization: Bearer TOKEN`, with a token of a run that is under way";
    refusal::shown(StatusCode::UNAUTHORIZED, "invalid_request_error", "invalid_api_key", message)
}

async fn list<D: ModelDoor>(State(door): State<Arc<D>>, request: Request) -> Response {
    match asker(&*door, request.headers()) {
        Some(asker) => json(&answer::models(&door.models(&asker))),
        None => stranger(),
    }
}

async fn complete<D: ModelDoor>(State(door): State<Arc<D>>, request: Request) -> Response {
    let Some(asker) = asker(&*door, request.headers()) else { return stranger() };
    let Ok(body) = to_bytes(request.into_body(), MAX_MESSAGE_BYTES).await else {
        let message = format!("a request must come whole, and in at most {MAX_MESSAGE_BYTES} bytes");
        return refusal::shown(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", "too_large", &message);
    };
    let ask = match Ask::read(&body) {
        Ok(ask) => ask,
        Err(error) => return ModelRefusal::from(error).into_response(),
    };
    let style = ask.style;
    let answering = async move {
        let answer = door.sample(asker, ask.request, ask.preferences).await?;
        Ok::<_, ModelRefusal>(Completion::new(answer, style))
    };
    if !style.stream {
        return match answering.await {
            Ok(completion) => json(&completion.whole()),
            Err(refused) => refused.into_response(),
        };
    }
    let mut answering = answering.boxed();
    match timeout(PATIENCE, &mut answering).await {
        Ok(Ok(completion)) => events(Body::from(completion.events())),
        Ok(Err(refused)) => refused.into_response(),
        Err(_) => events(patiently(answering)),
    }
}

/// The events of an answer that is yet to come, with comments while it does.
fn patiently(answering: BoxFuture<'static, Result<Completion, ModelRefusal>>) -> Body {
    let pieces = stream::unfold(Some(answering), |answering| async move {
        let mut answering: BoxFuture<'_, _> = answering?;
        let (piece, rest) = match timeout(KEEP_ALIVE, &mut answering).await {
            Err(_) => (": still thinking\n\n".to_owned(), Some(answering)),
            Ok(Ok(completion)) => (Completion::events(&completion), None),
            Ok(Err(refused)) => (ModelRefusal::event(&refused), None),
        };
        Some((Ok::<_, io::Error>(piece), rest))
    });
    Body::from_stream(pieces)
}

fn events(body: Body) -> Response {
    ([(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-cache")], body).into_response()
}

fn json(value: &serde_json::Value) -> Response {
    ([(CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}
