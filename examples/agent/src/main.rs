//! An agent in Rust: a server that is a client, too. It reads through a tool that it was granted, and asks a model that it may ask.
//!
//! ```toml
//! [servers.translator]
//! command = "cargo"
//! args = ["run", "--bin", "antiphon-agent-example"]
//! grants = ["files.read_text_file"]
//! sampling = { consent = "allow", models = ["local"] }
//! ```

use std::env::var;
use std::error::Error;

use async_openai::Client;
use async_openai::config::OpenAIConfig;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{CallToolRequestParams, ServerCapabilities, ServerConfig};
use rmcp::service::RequestContext;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::io::stdio_pipes;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{RoleServer, ServerHandler, ServiceExt, tool, tool_handler, tool_router};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

struct Translator;

#[derive(Deserialize, JsonSchema)]
struct Translate {
    path: String,
    /// Such as `French`.
    language: String,
}

#[tool_router]
impl Translator {
    /// Translates a file.
    #[tool(annotations(read_only_hint = true))]
    async fn translate(
        &self,
        Parameters(args): Parameters<Translate>,
        context: RequestContext<RoleServer>,
    ) -> Result<String, String> {
        let translated = async {
            let text = call("files__read_text_file", json!({ "path": args.path }), &context).await?;
            let text: String = text.chars().take(4_000).collect();
            ask(&format!("Translate into {}:\n\n{text}", args.language), &context).await
        };
        translated.await.map_err(|error| error.to_string())
    }
}

#[tool_handler]
impl ServerHandler for Translator {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }
}

/// What Antiphon tells whom it lets back in.
fn told(name: &str) -> Result<String, String> {
    var(name).map_err(|_| format!("{name} is not set: only Antiphon can start this, with `grants` and `sampling`"))
}

/// The token, for one of several calls that this process may be serving: `TOKEN/KEY`.
fn speaking_for(token: String, context: &RequestContext<RoleServer>) -> String {
    match context.meta.get("antiphon/idempotency-key").and_then(Value::as_str) {
        Some(key) => format!("{token}/{key}"),
        None => token,
    }
}

/// Calls a tool that the server was granted.
async fn call(
    name: &'static str,
    arguments: Value,
    context: &RequestContext<RoleServer>,
) -> Result<String, Box<dyn Error>> {
    let token = speaking_for(told("ANTIPHON_MCP_TOKEN")?, context);
    let config = StreamableHttpClientTransportConfig::with_uri(told("ANTIPHON_MCP_URL")?).auth_header(token);
    let client = ().serve(StreamableHttpClientTransport::from_config(config)).await?;
    let arguments = arguments.as_object().cloned().unwrap_or_default();
    let result = client.call_tool(CallToolRequestParams::new(name).with_arguments(arguments)).await?;
    client.cancel().await?;
    let texts: Vec<&str> = result.content.iter().filter_map(|block| Some(block.as_text()?.text.as_str())).collect();
    let text = texts.join("\n");
    if result.is_error == Some(true) { Err(text.into()) } else { Ok(text) }
}

/// Asks a model that the server may ask; where that is (`OPENAI_BASE_URL`) the client knows by itself.
async fn ask(prompt: &str, context: &RequestContext<RoleServer>) -> Result<String, Box<dyn Error>> {
    let config = OpenAIConfig::new().with_api_key(speaking_for(told("OPENAI_API_KEY")?, context));
    let request = json!({ "model": "local", "messages": [{ "role": "user", "content": prompt }], "max_tokens": 500 });
    let answer: Value = Client::with_config(config).chat().create_byot(request).await?;
    Ok(answer["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // For HTTP clients; what is on the loopback needs no TLS.
    let _ = rustls_graviola::default_provider().install_default();
    Translator.serve(stdio_pipes()).await?.waiting().await?;
    Ok(())
}
