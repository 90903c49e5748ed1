//! An MCP server with everything in it that the official conformance suite asks of one, in both eras: what a passing-through
//! Antiphon is held against.
//!
//! `conformance-server [--legacy] [--http PORT]`. Without `--http` it speaks over stdio; with it, it prints its URL on stdout and
//! stops by itself after `--lifetime` seconds.

mod changes;
mod content;
mod pushed;
mod rounds;
mod server;
mod tasks;
mod tools;

use std::process::ExitCode;
use std::time::Duration;

use axum::serve::ListenerExt;
use clap::Parser;
use rmcp::ServiceExt;
use rmcp::transport::io::stdio_pipes;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};

use crate::server::Everything;

#[derive(Parser)]
struct Args {
    /// Speak 2025-11-25 and older only.
    #[arg(long)]
    legacy: bool,
    /// Serve streamable HTTP on this port of the loopback instead of stdio; 0 takes a free one.
    #[arg(long)]
    http: Option<u16>,
    /// With `--http`: stop after so many seconds.
    #[arg(long, default_value_t = 900)]
    lifetime: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("conformance-server: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let server = Everything::new(args.legacy);
    let Some(port) = args.http else {
        server.serve(stdio_pipes()).await?.waiting().await?;
        return Ok(());
    };
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    announce(listener.local_addr()?);
    let service = StreamableHttpService::new(
        move || Ok(server.clone()),
        LocalSessionManager::default().into(),
        StreamableHttpServerConfig::default(),
    );
    let app = axum::Router::new().nest_service("/mcp", service);
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    tokio::select! {
        served = async { axum::serve(listener, app).await } => served?,
        () = tokio::time::sleep(Duration::from_secs(args.lifetime)) => {}
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "whoever started the server waits for this line")]
fn announce(address: std::net::SocketAddr) {
    println!("http://{address}/mcp");
}
