//! What bounds who asks whom, and for how much: edges that are denied, limits of runs and of servers, callers that can't answer;
//! in one process, and across two.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod across;
mod budgets;
mod caller;
mod consent;
mod fronts;
mod models;

use antiphon_tests::Scratch;
use serde_json::Value;

/// How `antiphon` ends, as its manual says.
const DONE: i32 = 0;
const FAILED: i32 = 1;
const ASKS: i32 = 3;

/// What a scripted model says that it used, each time.
const ANSWER_TOKENS: u64 = 15;

/// The table of a scripted model.
fn model(name: &str, url: &str) -> String {
    format!("[models.{name}]\nbase_url = {url:?}\nmodel = \"scripted\"\n")
}

/// Runs a workflow: exit code, output, what was said besides, in one line.
fn run(scratch: &Scratch, workflow: &str) -> (i32, Value, String) {
    let (code, out, err) = scratch.run_with_db(&["run", &format!("{workflow}.toml"), "--json", "--trust"]);
    (code, out.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default(), in_one_line(&err))
}

/// Without the frames and line breaks of a terminal.
fn in_one_line(text: &str) -> String {
    text.split(['\n', '│', '╰', '─']).map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The errors of a run's steps with this verb.
fn errors(run: &Value, verb: &str) -> Vec<String> {
    let steps = run["view"]["steps"].as_array().unwrap().iter().filter(|step| step["verb"] == verb);
    steps.filter_map(|step| step["error"]["message"].as_str()).map(str::to_owned).collect()
}
