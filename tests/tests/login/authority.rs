//! A protected MCP server and its authorization server, on one port of the loopback: RFC 9728, 8414, 7591, PKCE, refresh tokens that are
//! good for one use, client credentials. It logs what it did, and can be told to be difficult.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use reqwest::Url;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorData, ListToolsResult,
    PaginatedRequestParams, ServerCapabilities, ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{RoleServer, ServerHandler};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Runs until it is dropped.
pub struct Authority {
    /// Without a path.
    pub origin: String,
    world: Arc<Mutex<World>>,
    runtime: tokio::runtime::Runtime,
}

/// What it knows, and how difficult it is.
#[derive(Default)]
pub struct World {
    origin: String,
    /// How long access tokens last by its word, in seconds.
    pub life: u64,
    /// Takes clients that it does not know.
    pub registers: bool,
    /// Has no metadata.
    pub silent: bool,
    /// The person says no.
    pub declines: bool,
    /// Clients, with their secrets.
    pub clients: BTreeMap<String, Option<String>>,
    codes: BTreeMap<String, (String, String)>,
    refresh: BTreeSet<String>,
    access: BTreeSet<String>,
    issued: u64,
    /// What was done, in order: `register`, `code`, `refresh`, `client_credentials`, `refused`.
    pub log: Vec<&'static str>,
    /// The `Authorization` headers that the MCP server was sent.
    pub shown: Vec<String>,
}

impl World {
    /// So often this was done.
    pub fn times(&self, what: &str) -> usize {
        self.log.iter().filter(|done| **done == what).count()
    }

    /// No access token is good any more; nor are refresh tokens, if they too are taken back.
    pub fn revoke(&mut self, refresh_too: bool) {
        self.access.clear();
        if refresh_too {
            self.refresh.clear();
        }
    }

    fn issue(&mut self, refreshable: bool) -> Value {
        self.issued += 1;
        let (access, refresh) = (format!("access-{}", self.issued), format!("refresh-{}", self.issued));
        self.access.insert(access.clone());
        let mut token = json!({ "access_token": access, "token_type": "Bearer", "expires_in": self.life });
        if refreshable {
            self.refresh.insert(refresh.clone());
            token["refresh_token"] = refresh.into();
        }
        token
    }
}

impl Authority {
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let world = World { origin: origin.clone(), life: 3600, registers: true, ..World::default() };
        let world = Arc::new(Mutex::new(world));
        let mcp = StreamableHttpService::new(
            || Ok(Greeter),
            LocalSessionManager::default().into(),
            StreamableHttpServerConfig::default(),
        );
        let mcp = Router::new().nest_service("/mcp", mcp).layer(from_fn_with_state(Arc::clone(&world), guard));
        let app = mcp.fallback(authorize).with_state(Arc::clone(&world));
        runtime.spawn(async move { axum::serve(listener, app).await });
        Self { origin, world, runtime }
    }

    /// The protected server.
    pub fn mcp(&self) -> String {
        format!("{}/mcp", self.origin)
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// What a browser shows that was sent there, and its status.
    pub fn browse(&self, url: &str) -> (u16, String) {
        let _ = rustls_graviola::default_provider().install_default();
        let visit = async {
            let page = reqwest::get(url).await.unwrap();
            (page.status().as_u16(), page.text().await.unwrap())
        };
        self.runtime.block_on(visit)
    }

    /// Where a browser is sent on to from there.
    pub fn redirected(&self, url: &str) -> String {
        let _ = rustls_graviola::default_provider().install_default();
        let stop = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let page = self.runtime.block_on(stop.get(url).send()).unwrap();
        page.headers()["location"].to_str().unwrap().to_owned()
    }
}

type Shared = State<Arc<Mutex<World>>>;

/// Lets in who shows a token.
async fn guard(State(world): Shared, request: Request, next: Next) -> Response {
    let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (good, origin) = {
        let mut world = world.lock().unwrap();
        world.shown.extend(shown.clone());
        let token = shown.as_deref().and_then(|shown| shown.strip_prefix("Bearer "));
        (token.is_some_and(|token| world.access.contains(token)), world.origin.clone())
    };
    if good {
        return next.run(request).await;
    }
    let metadata = format!("{origin}/.well-known/oauth-protected-resource/mcp");
    let challenge = format!("Bearer resource_metadata=\"{metadata}\", scope=\"greet\"");
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)]).into_response()
}

fn answer(status: u16, body: &Value) -> Response {
    let status = StatusCode::from_u16(status).unwrap();
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

/// Everything but the MCP server.
async fn authorize(State(world): Shared, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 64 * 1024).await.unwrap();
    let mut world = world.lock().unwrap();
    let origin = world.origin.clone();
    match (parts.method, parts.uri.path()) {
        _ if world.silent => answer(404, &json!({})),
        (Method::GET, "/.well-known/oauth-protected-resource/mcp") => answer(
            200,
            &json!({
                "resource": format!("{origin}/mcp"), "authorization_servers": [origin], "scopes_supported": ["greet"],
            }),
        ),
        (Method::GET, "/.well-known/oauth-authorization-server") => {
            let mut metadata = json!({
                "issuer": origin,
                "authorization_endpoint": format!("{origin}/authorize"),
                "token_endpoint": format!("{origin}/token"),
                "response_types_supported": ["code"],
                "code_challenge_methods_supported": ["S256"],
                "authorization_response_iss_parameter_supported": true,
            });
            if world.registers {
                metadata["registration_endpoint"] = format!("{origin}/register").into();
            }
            answer(200, &metadata)
        }
        (Method::POST, "/register") if world.registers => {
            world.log.push("register");
            let mut client: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(client["client_name"], "Antiphon");
            let id = format!("client-{}", world.clients.len());
            // A secret that it did not ask for: some give one all the same, and want it ever after.
            world.clients.insert(id.clone(), Some("given".to_owned()));
            client["client_id"] = id.into();
            client["client_secret"] = "given".into();
            answer(201, &client)
        }
        (Method::GET, "/authorize") => {
            let asked = Url::parse(&format!("{origin}{}", parts.uri)).unwrap();
            let asked: BTreeMap<_, _> = asked.query_pairs().into_owned().collect();
            assert!(world.clients.contains_key(&asked["client_id"]), "{asked:?}");
            assert_eq!((asked["code_challenge_method"].as_str(), asked["scope"].as_str()), ("S256", "greet"));
            assert_eq!(asked["resource"], format!("{origin}/mcp"));
            let mut back = Url::parse(&asked["redirect_uri"]).unwrap();
            assert_eq!(back.host_str(), Some("127.0.0.1"));
            if world.declines {
                back.query_pairs_mut().append_pair("error", "access_denied");
            } else {
                world.issued += 1;
                let code = format!("code-{}", world.issued);
                back.query_pairs_mut().append_pair("code", &code);
                world.codes.insert(code, (asked["code_challenge"].clone(), asked["client_id"].clone()));
            }
            back.query_pairs_mut().append_pair("state", &asked["state"]).append_pair("iss", &origin);
            (StatusCode::FOUND, [(header::LOCATION, back.to_string())]).into_response()
        }
        (Method::POST, "/token") => {
            let form = Url::parse(&format!("http://form/?{}", String::from_utf8_lossy(&body))).unwrap();
            let mut form: BTreeMap<_, _> = form.query_pairs().into_owned().collect();
            let basic =
                parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Basic "));
            if let Some(basic) = basic {
                let text = String::from_utf8(STANDARD.decode(basic).unwrap()).unwrap();
                let (id, secret) = text.split_once(':').unwrap();
                form.extend([("client_id".into(), id.into()), ("client_secret".into(), secret.into())]);
            }
            token(&mut world, &form)
        }
        _ => (StatusCode::NOT_FOUND, Body::empty()).into_response(),
    }
}

fn token(world: &mut World, form: &BTreeMap<String, String>) -> Response {
    let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    let refuse = |world: &mut World, error: &str| {
        world.log.push("refused");
        answer(400, &json!({ "error": error }))
    };
    assert_eq!(field("resource"), format!("{}/mcp", world.origin));
    match world.clients.get(field("client_id")) {
        Some(secret) if secret.as_deref().unwrap_or_default() == field("client_secret") => {}
        _ => return refuse(world, "invalid_client"),
    }
    match field("grant_type") {
        "authorization_code" => {
            let Some((challenge, client)) = world.codes.remove(field("code")) else {
                return refuse(world, "invalid_grant");
            };
            assert_eq!(client, field("client_id"));
            assert_eq!(challenge, URL_SAFE_NO_PAD.encode(Sha256::digest(field("code_verifier"))));
            world.log.push("code");
            answer(200, &world.issue(true))
        }
        "refresh_token" => {
            if !world.refresh.remove(field("refresh_token")) {
                return refuse(world, "invalid_grant");
            }
            world.log.push("refresh");
            answer(200, &world.issue(true))
        }
        "client_credentials" => {
            world.log.push("client_credentials");
            answer(200, &world.issue(false))
        }
        _ => refuse(world, "unsupported_grant_type"),
    }
}

/// The protected server itself.
#[derive(Clone)]
struct Greeter;

impl ServerHandler for Greeter {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let tools = json!({ "tools": [{
            "name": "greet", "inputSchema": { "type": "object" }, "annotations": { "readOnlyHint": true },
        }] });
        serde_json::from_value(tools).map_err(|error| ErrorData::internal_error(error.to_string(), None))
    }

    /// Says hello, and, as servers do that are asked for help, shows what it was sent.
    async fn call_tool(
        &self,
        _call: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let parts = context.extensions.get::<axum::http::request::Parts>();
        let shown = parts.and_then(|parts| parts.headers.get(header::AUTHORIZATION)?.to_str().ok()).unwrap_or("nobody");
        Ok(CallToolResult::success(vec![ContentBlock::text(format!("hello, {shown}"))]).into())
    }
}
