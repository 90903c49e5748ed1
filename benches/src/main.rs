//! What Antiphon costs: `cargo run --release -p antiphon-benches`.
//!
//! Every measurement is bounded, stays on the loopback, and ends what it has started. Where a figure is a comparison, the
//! contestants take turns within each round, so that a noisy machine is noisy for all of them.

mod fixture;
mod hand;
mod host;
mod lab;
mod load;
mod measure;
mod ours;
mod report;
mod sample;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use rmcp::model::ProtocolVersion;
use tokio::process::Command;

use crate::fixture::Fixture;
use crate::hand::{Hand, Proxy};
use crate::lab::Lab;
use crate::measure::{ALL, Bench};
use crate::report::Report;

/// What goes wrong in a measurement ends it.
type Error = Box<dyn std::error::Error + Send + Sync>;

/// Which protocol is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Era {
    /// 2025-11-25.
    Legacy,
    /// 2026-07-28.
    Modern,
}

impl Era {
    /// Its version of the protocol.
    pub fn version(self) -> ProtocolVersion {
        match self {
            Self::Legacy => ProtocolVersion::V_2025_11_25,
            Self::Modern => ProtocolVersion::V_2026_07_28,
        }
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::Modern => "modern",
        }
    }
}

/// Measures what Antiphon costs, beside a hand-written rmcp client that does the same.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Args {
    /// Which measurements [default: all]
    #[arg(value_enum)]
    benches: Vec<Bench>,
    /// Rounds of each comparison
    #[arg(long, default_value_t = 200)]
    rounds: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Subcommand)]
enum Role {
    /// Be the tool server that is called.
    #[command(hide = true)]
    Fixture {
        /// Over HTTP, on a free port of the loopback, until standard input closes.
        #[arg(long)]
        http: bool,
        /// Speaking no later era than this.
        #[arg(long, value_enum, default_value = "modern")]
        era: Era,
    },
    /// Be a hand-written proxy of the tool server, over the same transport on both sides.
    #[command(hide = true)]
    Proxy {
        /// In front of this URL; without it, of a tool server of its own over stdio.
        #[arg(long)]
        http: Option<String>,
        /// What to speak to the tool server.
        #[arg(long, value_enum, default_value = "modern")]
        era: Era,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    if cfg!(debug_assertions) {
        eprintln!("a debug build says nothing about cost: cargo run --release -p antiphon-benches");
        return ExitCode::FAILURE;
    }
    let _ = rustls_graviola::default_provider().install_default();
    // As many workers as `antiphon` has.
    let workers = std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 8));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build();
    let done = runtime.map_err(Error::from).and_then(|runtime| {
        // On a worker, where the contestants' tasks are too: waking another thread would cost each call of the hand-written
        // client some microseconds, and the engine none.
        runtime.block_on(async { tokio::spawn(run(args)).await? })
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("antiphon-benches: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<(), Error> {
    match args.role {
        Some(Role::Fixture { http: true, era }) => return fixture::serve_http(Fixture::new(era)).await,
        Some(Role::Fixture { http: false, era }) => return fixture::serve_stdio(Fixture::new(era)).await,
        Some(Role::Proxy { http: Some(url), era }) => {
            return fixture::serve_http(Proxy::new(Hand::http(&url, era).await?)).await;
        }
        Some(Role::Proxy { http: None, era }) => {
            let mut server = Command::new(std::env::current_exe()?);
            server.args(["fixture", "--era", era.name()]);
            return fixture::serve_stdio(Proxy::new(Hand::stdio(server, era).await?)).await;
        }
        None => {}
    }
    let lab = Lab::open(args.rounds).await?;
    let mut report = Report::of_this_machine();
    let chosen = if args.benches.is_empty() { ALL.to_vec() } else { args.benches };
    for bench in chosen {
        eprintln!("measuring {} …", bench.name());
        report.add(bench.name(), bench.measure(&lab).await?);
    }
    report.print(args.json)
}
