//! An MCP tool server for tests: it logs every call to disk, and its state survives being killed.
//!
//! `fixture-server [--log FILE] [--legacy] [--http PORT]`. Without `--http` it speaks over stdio; with it, it prints its URL on
//! stdout and stops by itself after `--lifetime` seconds.

mod asking;
mod back;
mod log;
mod many;
mod server;
mod store;
mod task;
mod tools;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use rmcp::ServiceExt;
use rmcp::transport::io::stdio_pipes;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};

use crate::server::Fixture;

#[derive(Parser)]
struct Args {
    /// Append each call's begin and end here; state is kept beside it, in `FILE.state/`.
    #[arg(long)]
    log: Option<PathBuf>,
    /// Speak 2025-11-25 and older only.
    #[arg(long)]
    legacy: bool,
    /// List so many more tools, which do nothing.
    #[arg(long, default_value_t = 0)]
    many: usize,
    /// Serve streamable HTTP on this port of the loopback instead of stdio; 0 takes a free one.
    #[arg(long)]
    http: Option<u16>,
    /// With `--http`: stop after so many seconds.
    #[arg(long, default_value_t = 900)]
    lifetime: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fixture-server: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<(), Box<dyn std::error::Error>> {
    let log = args.log.unwrap_or_else(|| std::env::temp_dir().join(format!("fixture-{}.jsonl", std::process::id())));
    let fixture = Fixture::new(&log, args.legacy, args.many)?;
    match args.http {
        None => {
            fixture.serve(stdio_pipes()).await?.waiting().await?;
        }
        Some(port) => {
            let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
            announce(listener.local_addr()?);
            let service = StreamableHttpService::new(
                move || Ok(fixture.clone()),
                LocalSessionManager::default().into(),
                StreamableHttpServerConfig::default(),
            );
            let app = axum::Router::new().nest_service("/mcp", service);
            let lifetime = Duration::from_secs(args.lifetime);
            tokio::select! {
                served = async { axum::serve(listener, app).await } => served?,
                () = tokio::time::sleep(lifetime) => {}
            }
        }
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "whoever started the server waits for this line")]
fn announce(address: std::net::SocketAddr) {
    println!("http://{address}/mcp");
}
