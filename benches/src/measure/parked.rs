//! 10,000 runs that wait for input.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::sleep;

use super::over_stdio;
use crate::Error;
use crate::host::Host;
use crate::lab::Lab;
use crate::report::Figure;
use crate::sample::Sample;

const RUNS: usize = 10_000;
const CALLERS: usize = 32;
const POLLS: usize = 5_000;
/// Co-prime to `RUNS`: goes through all of them, and none soon again.
const STRIDE: usize = 7_919;

pub async fn measure(lab: &Lab) -> Result<Vec<Figure>, Error> {
    let workflow =
        over_stdio(&lab.program) + "[steps.sure]\nelicit = \"Sure?\"\n[steps.then]\nneeds = [\"sure\"]\nset = 1\n";
    let served = Arc::new(lab.host(&lab.project("parked", &workflow)?)?);
    let bare = Host::start(lab.fixture())?;

    let begun = Instant::now();
    let callers = (0..CALLERS).map(|caller| {
        let served = Arc::clone(&served);
        tokio::spawn(async move {
            let mut tasks = Vec::new();
            for _ in (caller..RUNS).step_by(CALLERS) {
                let handle = served.call("bench", json!({})).await?;
                tasks.push(handle["taskId"].as_str().ok_or("no task")?.to_owned());
            }
            Ok::<_, Error>(tasks)
        })
    });
    let mut tasks = Vec::with_capacity(RUNS);
    for caller in callers.collect::<Vec<_>>() {
        tasks.extend(caller.await??);
    }
    let started = begun.elapsed().as_secs_f64();
    // Runs with nothing in flight leave memory after two seconds.
    sleep(Duration::from_secs(4)).await;
    let (parked, _) = served.memory()?;

    let [mut polls, mut echoes] = <[Sample; 2]>::default();
    for poll in 0..POLLS {
        let task = &tasks[poll * STRIDE % tasks.len()];
        let shown = polls.time(served.ask("tasks/get", json!({ "taskId": task }))).await?;
        if shown["status"] != "input_required" {
            return Err(format!("not parked: {shown}").into());
        }
        echoes.time(bare.call("echo", json!({ "value": task }))).await?;
    }
    let (after, most) = served.memory()?;
    bare.close().await?;
    Ok(vec![
        Figure::new(
            format!("{RUNS} runs started by {CALLERS} callers, each handle durable"),
            RUNS as f64 / started,
            "runs/s",
        ),
        Figure::new("RSS, all of them parked", parked, "MB").at_most(200.0),
        Figure::new(format!("  after {POLLS} polls"), after, "MB").at_most(200.0),
        Figure::new("  the most that it ever was", most, "MB").at_most(200.0),
        Figure::new("an echo call of a bare rmcp server, same host, p50", echoes.p50(), "ms"),
        Figure::new("  p99", echoes.p99(), "ms"),
        Figure::new("`tasks/get`, one caller, p50", polls.p50(), "ms"),
        Figure::new("  p99", polls.p99(), "ms").at_most(5.0),
    ])
}
