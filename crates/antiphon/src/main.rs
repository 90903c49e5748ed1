//! `antiphon`: workflows of MCP agents on the command line, and as one MCP server.

mod adhoc;
mod back;
mod cli;
mod exit;
mod exposed;
mod fault;
mod hosts;
mod input;
mod key;
mod late;
#[cfg(feature = "local-model")]
mod local;
mod owner;
mod project;
mod shelf;
mod sources;
mod stop;
mod store;
mod trust;
mod ui;
mod world;

use std::io::{self, IsTerminal};
use std::pin::Pin;
use std::process::ExitCode;
use std::thread::available_parallelism;

use clap::Parser;
use miette::MietteHandlerOpts;
use tracing_subscriber::EnvFilter;

use crate::fault::Fault;
use crate::ui::live::Log;

fn main() -> ExitCode {
    #[cfg(feature = "local-model")]
    antiphon_local_model::settle(threads());
    let cli = cli::Cli::parse();
    log_to_stderr();
    // Commands to copy must not be broken into lines.
    let _ = miette::set_hook(Box::new(|_| Box::new(MietteHandlerOpts::new().wrap_lines(false).build())));
    // Libraries choose no TLS provider; whoever connects finds this one. It fails only if there is one already.
    let _ = rustls_graviola::default_provider().install_default();
    let workers = available_parallelism().map_or(2, |cores| cores.get().clamp(2, 8));
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(&Fault::internal(format!("can't start: {error}"))),
    };
    // A trait object: else all of it would be compiled for each of tokio's ways to block on something.
    let verb: Pin<Box<dyn Future<Output = _>>> = Box::pin(cli.run());
    let done = runtime.block_on(verb);
    // A blocked read of standard input must not keep the process.
    runtime.shutdown_background();
    match done {
        Ok(exit) => exit.into(),
        Err(fault) => report(&fault),
    }
}

/// With how many threads the local model computes, when `ANTIPHON_MODEL_THREADS` says so.
#[cfg(feature = "local-model")]
fn threads() -> Option<std::num::NonZeroUsize> {
    std::env::var("ANTIPHON_MODEL_THREADS").ok()?.parse().ok()
}

fn report(fault: &Fault) -> ExitCode {
    for report in &fault.reports {
        ui::note(format_args!("{report:?}"));
    }
    fault.exit.into()
}

/// `ANTIPHON_LOG` says what is logged, such as `debug` or `antiphon_engine=trace`. rmcp must be asked for by name: it logs
/// payloads, and every error that it has is told by those who meet it.
fn log_to_stderr() {
    let filter = std::env::var("ANTIPHON_LOG").unwrap_or_else(|_| "warn,antiphon=info".to_owned());
    let filter = EnvFilter::new(format!("rmcp=off,{filter}"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Log)
        .with_ansi(io::stderr().is_terminal())
        .without_time()
        .with_target(false)
        // Standard error may be gone: nobody is left to be told.
        .log_internal_errors(false)
        .init();
}
