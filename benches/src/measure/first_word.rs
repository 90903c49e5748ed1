//! The first word of the local model: from a host's call of a workflow to a one-token answer, beside how fast the model reads.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use antiphon_local_model::Meter;
use serde_json::{Value, json};

use crate::Error;
use crate::lab::Lab;
use crate::report::Figure;
use crate::sample::Sample;

/// The file of the model; without it there is nothing to measure.
const FILE: &str = "ANTIPHON_MODEL_FILE";

/// How often; a prompt takes seconds.
const ROUNDS: usize = 8;

/// About so many tokens has a prompt that shares no beginning with one before.
const WORDS: usize = 150;

const WORKFLOW: &str = "name = \"word\"\n[input]\nprompt = { type = \"string\" }\n\
     [steps.say]\nsample = \"local\"\nprompt = \"{{ input.prompt }}\"\nmax_tokens = 1\n[output]\nword = \"{{ steps.say.output }}\"\n";

pub async fn measure(lab: &Lab) -> Result<Vec<Figure>, Error> {
    let Some(file) = std::env::var_os(FILE).map(PathBuf::from) else {
        eprintln!("  left out: {FILE} names no model's file");
        return Ok(Vec::new());
    };
    let project = lab.project("first-word", WORKFLOW)?;
    let host = lab.host(&project)?;
    host.call("word", json!({ "prompt": "Say hello." })).await?;
    let mut meter = Meter::load(&file)?;
    let (mut fresh, mut known, mut rates) = (Sample::default(), Sample::default(), Vec::new());
    for round in 0..ROUNDS {
        let tokens = meter.tokens(300);
        rates.push(meter.measure(&tokens, 2)?.prompt);
        let prompt = prompt(round);
        fresh.time(host.call("word", json!({ "prompt": prompt }))).await?;
        known.time(host.call("word", json!({ "prompt": format!("{prompt} And now?") }))).await?;
    }
    host.close().await?;
    rates.sort_unstable_by(f64::total_cmp);
    let (rate, tokens) = (rates[rates.len() / 2], prompt_tokens(lab, &project).await?);
    let allowed = 1.2 * tokens / rate * 1e3;
    Ok(vec![
        Figure::new("the local model reads, median", rate, "tokens/s"),
        Figure::new("a prompt has, on average", tokens, "tokens"),
        Figure::new("first token of a prompt never seen, p50", fresh.p50(), "ms").at_most(allowed),
        Figure::new("first token when all but its end was seen, p50", known.p50(), "ms").at_most(500.0),
    ])
}

/// Words in an order of their own, from the first on.
fn prompt(round: usize) -> String {
    const SOME: [&str; 12] = [
        "river", "stone", "lamp", "winter", "garden", "paper", "engine", "harbour", "music", "cloud", "table", "bread",
    ];
    let words = (0..WORDS).map(|at| SOME[(at * (round + 5) + at / 7 + round) % SOME.len()]);
    format!("{round} {} Which word came first?", words.collect::<Vec<_>>().join(" "))
}

/// How many tokens the prompts of [`prompt`] have on average, as the runs that asked them know.
async fn prompt_tokens(lab: &Lab, project: &Path) -> Result<f64, Error> {
    let told = async |args: &[&str]| {
        let output = lab.antiphon(project, args).stderr(Stdio::inherit()).output().await?;
        let lines = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(serde_json::from_slice).collect::<Result<Vec<Value>, _>>().map_err(Error::from)
    };
    let mut runs = told(&["runs", "--json"]).await?;
    runs.sort_by_key(|run| run["createdAt"].as_u64());
    let mut sum = 0.0;
    // The first said hello; then come a fresh one and its repetition, in turns.
    for run in runs.iter().skip(1).step_by(2) {
        let shown = told(&["show", run["id"].as_str().unwrap_or_default(), "--json"]).await?;
        let used = shown.first().and_then(|run| run["view"]["used"]["tokens"].as_f64());
        // One was written.
        sum += used.ok_or("a run does not tell its tokens")? - 1.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "there are few")]
    Ok(sum / ROUNDS as f64)
}
