//! `antiphon serve`, from its start to its first answer, and what it needs when idle.

use std::time::Duration;

use serde_json::json;
use tokio::process::Command;
use tokio::time::sleep;

use super::{calls, over_stdio};
use crate::Error;
use crate::host::Host;
use crate::lab::Lab;
use crate::report::Figure;
use crate::sample::Sample;

/// How many runs the existing database has.
const RUNS: usize = 1_000;

pub async fn measure(lab: &Lab) -> Result<Vec<Figure>, Error> {
    let project = lab.project("start", &(over_stdio(&lab.program) + &calls("note", 1, "")))?;
    let before = lab.host(&project)?;
    for _ in 0..RUNS {
        before.call("bench", json!({ "value": "x" })).await?;
    }
    before.close().await?;

    let [mut antiphon, mut fixture] = <[Sample; 2]>::default();
    for _ in 0..lab.rounds {
        fixture.time(first_answer(lab.fixture())).await?.close().await?;
        antiphon.time(first_answer(lab.serve(&project))).await?.close().await?;
    }
    let (idle, bare) = (first_answer(lab.serve(&project)).await?, first_answer(lab.fixture()).await?);
    sleep(Duration::from_secs(3)).await;
    let (rss, _) = idle.memory()?;
    let (bare_rss, _) = bare.memory()?;
    idle.close().await?;
    bare.close().await?;
    Ok(vec![
        Figure::new("a bare rmcp server, from its start to its first answer, p50", fixture.p50(), "ms"),
        Figure::new(format!("`antiphon serve`, with {RUNS} runs in its database, p50"), antiphon.p50(), "ms")
            .at_most(50.0),
        Figure::new("  p99", antiphon.p99(), "ms"),
        Figure::new("a bare rmcp server, idle: RSS", bare_rss, "MB"),
        Figure::new("`antiphon serve`, idle: RSS", rss, "MB").at_most(25.0),
    ])
}

async fn first_answer(command: Command) -> Result<Host, Error> {
    let host = Host::start(command)?;
    host.ask("tools/list", json!({})).await?;
    Ok(host)
}
