//! What Antiphon costs: `cargo run --release -p antiphon-benches`.
//!
//! Every measurement is bounded, stays on the loopback, and ends what it has started. Where a figure is a comparison, the
//! contestants take turns within each round, so that a noisy machine is noisy for all of them.

mod fixture;
mod hand;
mod host;
mod lab;
mod measure;
mod ours;
mod report;
mod sample;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::lab::Lab;
use crate::measure::{ALL, Bench};
use crate::report::Report;

/// What goes wrong in a measurement ends it.
type Error = Box<dyn std::error::Error + Send + Sync>;

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
    if let Some(Role::Fixture { http }) = args.role {
        return if http { fixture::serve_http().await } else { fixture::serve_stdio().await };
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
