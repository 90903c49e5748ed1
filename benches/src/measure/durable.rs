//! Durable runs of three steps, for 32 callers at a time: each caller starts its next run when the last one's end is on the disk.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use antiphon_engine::Effects;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::{calls, over_stdio, sets};
use crate::hand::Hand;
use crate::host::Host;
use crate::lab::Lab;
use crate::ours::{Mirror, Ours};
use crate::report::Figure;
use crate::sample::Sample;
use crate::{Era, Error};

const CALLERS: usize = 32;
const STEPS: usize = 3;
/// How long each contestant's turn is.
const TURN: Duration = Duration::from_secs(1);
const TURNS: usize = 5;
/// Writes to the disk, before each turn.
const WRITES: usize = 50;

pub async fn measure(lab: &Lab) -> Result<Vec<Figure>, Error> {
    let head = over_stdio(&lab.program);
    let effects: Arc<dyn Effects> = Arc::new(Mirror);
    let sets = Ours::open(&lab.path("durable.db"), effects, &(head.clone() + &sets(STEPS)))?;
    let idempotent = sets.with(&(head.clone() + &calls("note", STEPS, "effects = \"idempotent\"\n")))?;
    let unannotated = sets.with(&(head.clone() + &calls("note", STEPS, "")))?;
    let hand = Hand::stdio(lab.fixture(), Era::Modern).await?;
    let as_task = format!("{head}[task]\nmode = \"always\"\n{}", super::sets(STEPS));
    let tasks = lab.host(&lab.project("durable-tasks", &as_task)?)?;
    let inline = lab.host(&lab.project("durable-inline", &(head + &calls("note", STEPS, "")))?)?;
    let contestants = [
        work(hand, async |hand| hand.chain("note", STEPS, "x").await),
        work(sets, async |sets| sets.run(input(), false).await),
        work(idempotent, async |idempotent| idempotent.run(input(), false).await),
        work(unannotated, async |unannotated| unannotated.run(input(), false).await),
        work(tasks, async |tasks| task(&tasks).await),
        work(inline, async |inline| inline.call("bench", input()).await.map(drop)),
    ];

    let mut disk = Sample::default();
    let mut rates = <[Vec<f64>; 6]>::default();
    for _ in 0..TURNS {
        fsyncs(lab, &mut disk)?;
        for (contestant, rates) in contestants.iter().zip(&mut rates) {
            rates.push(rate(contestant).await?);
        }
    }

    let [hand, sets, idempotent, unannotated, tasks, inline] = rates.map(median);
    Ok(vec![
        Figure::new("write and fdatasync of 4 KiB on this disk, p50", disk.p50(), "ms"),
        Figure::new("  p99", disk.p99(), "ms"),
        Figure::new("hand-written rmcp client: three calls, nothing recorded", hand, "runs/s"),
        Figure::new("engine: three `set` steps; one flush wait a run", sets, "runs/s").at_least(2_500.0),
        Figure::new("engine: three idempotent calls; one flush wait a run", idempotent, "runs/s").at_least(2_500.0),
        Figure::new("engine: three unannotated calls; four flush waits a run", unannotated, "runs/s").at_least(2_500.0),
        Figure::new("`serve`: three `set` steps as a task, polled to its end", tasks, "runs/s").at_least(2_500.0),
        Figure::new("`serve`: three unannotated calls over stdio, inline; four flush waits", inline, "runs/s"),
    ])
}

/// A run as a task: its handle, then its end.
async fn task(host: &Host) -> Result<(), Error> {
    let handle = host.call("bench", json!({ "value": "x" })).await?;
    let id = handle["taskId"].as_str().ok_or("no task")?;
    loop {
        match host.ask("tasks/get", json!({ "taskId": id })).await?["status"].as_str() {
            Some("completed") => return Ok(()),
            Some("working") => {}
            status => return Err(format!("the task is {status:?}").into()),
        }
    }
}

fn input() -> Value {
    json!({ "value": "x" })
}

/// One run, as often as wanted.
type Work = Arc<dyn Fn() -> BoxFuture<'static, Result<(), Error>> + Send + Sync>;

fn work<C, F>(contestant: C, run: impl Fn(Arc<C>) -> F + Send + Sync + 'static) -> Work
where
    C: Send + Sync + 'static,
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let contestant = Arc::new(contestant);
    Arc::new(move || run(Arc::clone(&contestant)).boxed())
}

/// How many runs all callers together get done in a second.
async fn rate(work: &Work) -> Result<f64, Error> {
    let begun = Instant::now();
    let callers = (0..CALLERS).map(|_| {
        let work = Arc::clone(work);
        tokio::spawn(async move {
            let mut done = 0_u32;
            while begun.elapsed() < TURN {
                work().await?;
                done += 1;
            }
            Ok::<_, Error>(done)
        })
    });
    let mut done = 0;
    for caller in callers.collect::<Vec<_>>() {
        done += caller.await??;
    }
    Ok(f64::from(done) / begun.elapsed().as_secs_f64())
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// What the disk itself takes.
fn fsyncs(lab: &Lab, sample: &mut Sample) -> Result<(), Error> {
    let mut file = File::options().create(true).append(true).open(lab.path("disk"))?;
    let page = [0_u8; 4_096];
    for _ in 0..WRITES {
        let begun = Instant::now();
        file.write_all(&page)?;
        file.sync_data()?;
        sample.add(begun.elapsed());
    }
    Ok(())
}
