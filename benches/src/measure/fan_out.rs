//! A hundred calls at the same time, each of 200 ms, over one HTTP server.

use antiphon_router::Transport;
use serde_json::{Value, json};

use crate::hand::Hand;
use crate::lab::Lab;
use crate::ours::{Ours, router};
use crate::report::Figure;
use crate::sample::Sample;
use crate::{Era, Error};

const CALLS: u64 = 100;
const MS: u64 = 200;
const WARM_UP: usize = 3;

pub async fn measure(lab: &Lab) -> Result<Vec<Figure>, Error> {
    let (_tools, url) = lab.http().await?;
    let hand = Hand::http(&url, Era::Modern).await?;
    let transport = Transport::Http { url: url.clone(), headers: Vec::new(), auth: None };
    let fan_out = workflow(&url);
    let ours = Ours::open(&lab.path("fan-out.db"), router(transport), &fan_out)?;
    let served = lab.host(&lab.project("fan-out", &fan_out)?)?;

    let input = json!({ "items": (0..CALLS).collect::<Vec<_>>() });
    let [mut by_hand, mut in_process, mut through_serve] = <[Sample; 3]>::default();
    for round in 0..WARM_UP + lab.rounds {
        if round == WARM_UP {
            [by_hand, in_process, through_serve] = Default::default();
        }
        by_hand.time(hand.fan_out(CALLS, MS)).await?;
        in_process.time(ours.run(input.clone(), true)).await?;
        through_serve.time(run(&served, &input)).await?;
    }
    served.close().await?;
    Ok(vec![
        Figure::new("hand-written rmcp client, p50", by_hand.p50(), "ms"),
        Figure::new("engine and router, in process, p50", in_process.p50(), "ms").at_most(260.0),
        Figure::new("through `antiphon serve` over stdio, p50", through_serve.p50(), "ms").at_most(260.0),
    ])
}

async fn run(served: &crate::host::Host, input: &Value) -> Result<(), Error> {
    let result = served.call("bench", input.clone()).await?;
    if result["structuredContent"]["count"] == CALLS { Ok(()) } else { Err(format!("not all: {result}").into()) }
}

fn workflow(url: &str) -> String {
    format!(
        r#"name = "bench"
[servers.tools]
url = "{url}"
[input]
items = {{ type = "array", items = {{ type = "integer" }} }}
[steps.all]
for_each = "input.items"
concurrency = {CALLS}
call = "tools.sleep"
with.ms = {MS}
with.value = "{{{{ item }}}}"
[output]
count = "{{{{ steps.all.output | length }}}}"
"#
    )
}
