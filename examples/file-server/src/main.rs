//! A small read-only MCP server for the files under one directory, over stdio.

mod server;
mod tree;

use std::process::ExitCode;

use rmcp::ServiceExt;
use rmcp::transport::io::stdio_pipes;

use crate::server::FileServer;
use crate::tree::Tree;

#[tokio::main]
async fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let (Some(root), None) = (args.next(), args.next()) else {
        eprintln!("usage: antiphon-file-server ROOT");
        return ExitCode::from(2);
    };
    match serve(root.as_ref()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("antiphon-file-server: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until the other side closes its end.
async fn serve(root: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
    let tree = Tree::new(root).map_err(|error| format!("{}: {error}", root.display()))?;
    FileServer::new(tree).serve(stdio_pipes()).await?.waiting().await?;
    Ok(())
}
