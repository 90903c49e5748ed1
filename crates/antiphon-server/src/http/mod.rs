//! Serving HTTP: MCP's streamable HTTP at `/mcp`, and each agent alone at `/agents/NAME/mcp`; both eras on one endpoint.

mod auth;
mod body;
mod sessions;
mod token;

use std::io;
use std::sync::Arc;

use antiphon_engine::Owner;
use axum::Router;
use axum::extract::{Path, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::serve::ListenerExt;
use futures::FutureExt;
use futures::future::{self, BoxFuture};
use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, StatusCode};
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::MAX_MESSAGE_BYTES;
use crate::access::{Access, Principal};
use crate::catalog::Catalog;
use crate::connection::{Connection, Door};
use crate::server::{Server, Shared};
pub use auth::Auth;
use auth::Guard;
use sessions::Sessions;
pub use token::Token;

/// Where the endpoint is.
const PATH: &str = "/mcp";

/// Where each agent's own endpoint is.
const AGENT_PATH: &str = "/agents/{name}/mcp";

/// Who may use the HTTP endpoint.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// Values of `Host` that are served, as `name` or `name:port`; others get 403. By default the loopback's names.
    pub allowed_hosts: Vec<String>,
    /// Values of `Origin` that are served, as `scheme://host:port` or `scheme://host:*`; other browsers' pages get 403. By
    /// default the loopback's.
    pub allowed_origins: Vec<String>,
    /// Bearer tokens. Whoever uses one is the owner `token:NAME`. Without any, and without `auth`, nobody is asked for one, and
    /// everybody is `anonymous`: who knows a run's id has the run.
    pub tokens: Vec<Token>,
    /// Tokens of an issuer, beside those. Whoever has one is the owner `jwt:ISSUER#SUBJECT`.
    pub auth: Option<Auth>,
    /// Refuse `tasks/…` requests without the `Mcp-Name` header, as the extension demands. By default it is read from the body,
    /// since common clients forget it.
    pub strict: bool,
}

impl Default for HttpOptions {
    fn default() -> Self {
        let names = ["localhost", "127.0.0.1", "[::1]"];
        Self {
            allowed_hosts: vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()],
            allowed_origins: names.iter().map(|name| format!("http://{name}:*")).collect(),
            tokens: Vec::new(),
            auth: None,
            strict: false,
        }
    }
}

/// What each request passes before it reaches MCP.
struct Gate {
    tokens: Vec<Token>,
    guard: Option<Guard>,
    catalog: Catalog,
    sessions: Sessions,
    strict: bool,
}

impl Server {
    /// Serves HTTP on this listener until [`Server::stop`].
    ///
    /// # Errors
    /// The listener's; or the issuer of tokens could never be asked.
    pub fn serve_http(&self, listener: TcpListener, options: HttpOptions) -> BoxFuture<'static, io::Result<()>> {
        match self.router(options) {
            Ok(app) => serve(listener, app, self.shared.stopping.clone()),
            Err(error) => future::ready(Err(io::Error::other(error))).boxed(),
        }
    }

    fn router(&self, options: HttpOptions) -> Result<Router, reqwest::Error> {
        let HttpOptions { allowed_hosts, allowed_origins, tokens, auth, strict } = options;
        let config = StreamableHttpServerConfig::default()
            .with_json_response(true)
            .with_allowed_hosts(allowed_hosts)
            .with_allowed_origins(allowed_origins)
            .enforce_origin_validation()
            .with_max_request_body_bytes(MAX_MESSAGE_BYTES)
            .with_cancellation_token(self.shared.stopping.child_token());
        let sessions = Sessions::default();
        let endpoint = move |shared: Arc<Shared>, manager| {
            StreamableHttpService::new(move || Ok(Connection::new(shared.clone(), Door::Http)), manager, config.clone())
        };
        let mcp = endpoint(self.shared.clone(), sessions.manager());
        let (shared, manager) = (self.shared.clone(), sessions.manager());
        // Made for each request: which agents there are changes with the files.
        let agent = move |Path(name): Path<String>, request: Request| {
            let alone = shared.of_agent(&name).map(|alone| endpoint(Arc::new(alone), manager.clone()));
            async move {
                match alone {
                    Some(mcp) => mcp.handle(request).await.into_response(),
                    None => (StatusCode::NOT_FOUND, format!("no agent `{name}` is served here")).into_response(),
                }
            }
        };
        let metadata = auth.as_ref().map(auth::router).unwrap_or_default();
        let guard = auth.map(Guard::new).transpose()?;
        let gate = Arc::new(Gate { tokens, guard, catalog: self.shared.catalog.clone(), sessions, strict });
        let gated = Router::new().route_service(PATH, mcp).route(AGENT_PATH, any(agent));
        Ok(gated.layer(middleware::from_fn_with_state(gate, pass)).merge(metadata))
    }
}

impl Gate {
    /// Who sends this, and what they may use; else what to answer.
    async fn principal(&self, headers: &HeaderMap, path: &str) -> Result<Principal, Response> {
        let everything = |owner| Principal { owner, access: Access::everything() };
        let shown = token::bearer(headers);
        if let Some(owner) = shown.and_then(|secret| token::owner(&self.tokens, secret)) {
            return Ok(everything(owner));
        }
        match &self.guard {
            Some(guard) => guard.admit(shown, path).await,
            None if self.tokens.is_empty() => Ok(everything(Owner::anonymous())),
            None => {
                let challenge = [(WWW_AUTHENTICATE, "Bearer")];
                let text = "this server wants `Authorization: Bearer TOKEN`";
                Err((StatusCode::UNAUTHORIZED, challenge, text).into_response())
            }
        }
    }

    /// What to answer to a call of what is there, but not for this caller: HTTP says it, so that clients can ask for more scopes.
    fn closed(&self, access: &Access, path: &str, body: &[u8]) -> Option<Response> {
        let guard = self.guard.as_ref().filter(|_| !access.is_everything())?;
        let names = self.catalog.names_of(&body::called(body)?);
        let closed = !names.is_empty() && !names.iter().any(|name| access.opens(name));
        closed.then(|| guard.closed(&names, path))
    }
}

async fn pass(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let principal = match gate.principal(request.headers(), request.uri().path()).await {
        Ok(principal) => principal,
        Err(refusal) => return refusal,
    };
    if !gate.sessions.admits(request.headers(), &principal.owner) {
        // As if there were no such session.
        return (StatusCode::NOT_FOUND, "Not Found: Session not found").into_response();
    }
    let (mut request, body) = match body::read(request, gate.strict).await {
        Ok(read) => read,
        Err(refusal) => return refusal,
    };
    if let Some(refusal) = gate.closed(&principal.access, request.uri().path(), &body) {
        return refusal;
    }
    let owner = principal.owner.clone();
    request.extensions_mut().insert(principal);
    let response = body::explain(next.run(request).await, &body);
    gate.sessions.remember(response.headers(), &owner).await;
    response
}

/// Serves `app` on this listener until `stopping`.
///
/// # Errors
/// The listener's.
pub(crate) fn serve(
    listener: TcpListener,
    app: Router,
    stopping: CancellationToken,
) -> BoxFuture<'static, io::Result<()>> {
    // With Nagle's algorithm, an answer in two writes waits for the client's delayed acknowledgement: 40 ms each.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY");
        }
    });
    let serving = axum::serve(listener, app).with_graceful_shutdown(stopping.cancelled_owned());
    // Boxed: else each crate that awaits this would have a copy of the whole HTTP server to compile.
    serving.into_future().boxed()
}
