//! A chain of ten read-only echo calls over stdio, with the journal on.

use antiphon_router::Transport;
use serde_json::json;

use super::{calls, over_stdio, sets};
use crate::hand::Hand;
use crate::lab::Lab;
use crate::ours::{Ours, router};
use crate::report::Figure;
use crate::sample::Sample;
use crate::{Era, Error};

const STEPS: usize = 10;
const WARM_UP: usize = 20;
const VALUE: &str = "a short value, as most are";

pub async fn measure(lab: &Lab) -> Result<Vec<Figure>, Error> {
    let head = over_stdio(&lab.program);
    let hand = Hand::stdio(lab.fixture(), Era::Modern).await?;
    let transport = Transport::Stdio {
        command: lab.program.display().to_string(),
        args: vec!["fixture".to_owned()],
        env: Vec::new(),
        cwd: None,
    };
    let chain = head.clone() + &calls("echo", STEPS, "");
    let ours = Ours::open(&lab.path("chain.db"), router(transport), &chain)?;
    let served = lab.host(&lab.project("chain", &chain)?)?;
    let idle = lab.host(&lab.project("hop", &(head + &sets(1)))?)?;

    let input = json!({ "value": VALUE });
    for _ in 0..WARM_UP {
        hand.chain("echo", STEPS, VALUE).await?;
        ours.run(input.clone(), true).await?;
        served.call("bench", input.clone()).await?;
        idle.call("bench", input.clone()).await?;
    }
    let flushed = ours.flushes();
    let [mut by_hand, mut in_process, mut through_serve, mut hop] = <[Sample; 4]>::default();
    for _ in 0..lab.rounds {
        by_hand.time(hand.chain("echo", STEPS, VALUE)).await?;
        in_process.time(ours.run(input.clone(), true)).await?;
        through_serve.time(served.call("bench", input.clone())).await?;
        hop.time(idle.call("bench", input.clone())).await?;
    }
    let flushed = ours.flushes() - flushed;
    served.close().await?;
    idle.close().await?;

    let step = |sample: &Sample| sample.p50() / STEPS as f64;
    Ok(vec![
        Figure::new("hand-written rmcp client: a step, p50", step(&by_hand), "ms"),
        Figure::new("engine and router, in process: a step, p50", step(&in_process), "ms"),
        Figure::new("  above the hand-written client", step(&in_process) - step(&by_hand), "ms").at_most(0.1),
        Figure::new(format!("  flush waits in {} runs", lab.rounds), flushed as f64, "").at_most(0.0),
        Figure::new("a whole run through `antiphon serve` over stdio, p50", through_serve.p50(), "ms"),
        Figure::new("  a run of one `set` step likewise: what a call of `serve` costs", hop.p50(), "ms"),
        Figure::new(
            "  above the hand-written client, a step, that call included",
            step(&through_serve) - step(&by_hand),
            "ms",
        ),
    ])
}
