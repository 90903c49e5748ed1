//! What the engine costs. Not asserted, and of sense in an optimised build only:
//! `cargo test --release -p antiphon-engine --test engine -- throughput --ignored --nocapture --test-threads 1`
#![expect(clippy::print_stdout, reason = "a measurement")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::*;
use antiphon_engine::{Engine, Until};
use antiphon_kernel::EffectClass;

fn rss_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0) / 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn a_chain_of_ten_read_only_calls() {
    let lab = Lab::new();
    let engine = lab.open();
    let plan = chain((0..10).map(|n| read_only(&format!("s{n}"), "echo")).collect());
    let mut took = Vec::new();
    for _ in 0..300 {
        let begun = Instant::now();
        let id = start(&engine, &plan).await;
        let run = engine.wait(&id, Until::Ended, LONG, true).await.unwrap();
        assert!(run.ended_at.is_some());
        took.push(begun.elapsed());
    }
    took.sort();
    println!("chain of ten: p50 {:?} a step, p99 {:?}; flushes {}", took[150] / 10, took[297] / 10, engine.flushes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn durable_runs_of_three_steps_at_32_callers() {
    for class in [EffectClass::ReadOnly, EffectClass::AtMostOnce] {
        let lab = Arc::new(Lab::new());
        let engine = lab.open();
        let plan = chain(vec![call("a", "echo", class), call("b", "echo", class), call("c", "echo", class)]);
        let begun = Instant::now();
        let callers = (0..32).map(|_| {
            let (engine, plan) = (Arc::clone(&engine), Arc::clone(&plan));
            tokio::spawn(async move {
                let mut runs = 0_u32;
                while begun.elapsed() < Duration::from_secs(3) {
                    let id = start(&engine, &plan).await;
                    end(&engine, &id).await;
                    runs += 1;
                }
                runs
            })
        });
        let runs: u32 = futures::future::join_all(callers).await.into_iter().map(Result::unwrap).sum();
        println!("{class:?}: {:.0} durable runs/s", f64::from(runs) / begun.elapsed().as_secs_f64());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn ten_thousand_parked_runs() {
    let mut lab = Lab::new();
    lab.options.park_after = Duration::from_millis(500);
    let engine = lab.open();
    let plan = chain(vec![read_only("a", "echo"), confirm("sure"), read_only("b", "echo")]);
    let mut ids = Vec::new();
    for _ in 0..10_000 {
        ids.push(start(&engine, &plan).await);
    }
    println!("started: {} MB", rss_mb());
    while lab.world.released().len() < ids.len() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut took = Vec::new();
    for n in 0..2_000 {
        let begun = Instant::now();
        engine.view(&ids[n * 7919 % ids.len()]).await.unwrap();
        took.push(begun.elapsed());
    }
    took.sort();
    println!("parked: {} MB; view p50 {:?}, p99 {:?}", rss_mb(), took[1_000], took[1_980]);
    let begun = Instant::now();
    drop(engine);
    let engine = lab.open();
    engine.view(&ids[0]).await.unwrap();
    println!("opened again, first view: {:?}", begun.elapsed());
}
