//! Agents, whole: from the command line and from hosts, with real tool servers and a scripted model that records what it is asked.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod kills;
mod served;
mod turns;

use antiphon_tests::{Model, Scratch};
use serde_json::Value;

/// How `antiphon` ends, as its manual says.
const DONE: i32 = 0;
const FAILED: i32 = 1;

/// A project of agents and a model.
struct Project {
    scratch: Scratch,
    model: Model,
}

impl Project {
    /// With the tool server `tools`, the model `m`, and these tables.
    fn new(tables: &str, answers: impl Fn(&Value) -> Value + Send + Sync + 'static) -> Self {
        let (scratch, model) = (Scratch::new(), Model::start(answers));
        let text = format!(
            "[servers.tools]\ncommand = \"${{FIXTURE}}\"\nargs = [\"--log\", \"${{LOG}}\"]\n\n\
             [models.m]\nbase_url = \"{}\"\nmodel = \"scripted\"\n\n{tables}",
            model.url
        );
        scratch.file("antiphon.toml", &text);
        Self { scratch, model }
    }

    /// `antiphon ask`: exit code, answer, what was said besides.
    fn ask(&self, agent: &str, prompt: &str, more: &[&str]) -> (i32, Value, String) {
        let (code, out, err) = self.scratch.run(&[&["ask", agent, prompt, "--trust"], more].concat());
        (code, serde_json::from_str(&out).unwrap_or_default(), err)
    }

    /// The tool calls that reached the server, with their arguments.
    fn called(&self) -> Vec<(String, Value)> {
        let begun = self.scratch.calls().into_iter().filter(|call| call["event"] == "begin");
        begun.map(|call| (call["tool"].as_str().unwrap().to_owned(), call["arguments"].clone())).collect()
    }
}
