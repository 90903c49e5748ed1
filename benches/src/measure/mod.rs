//! The measurements, by name.

mod chain;
mod durable;
mod fan_out;
mod first_word;
mod hop;
mod parked;
mod peers;
mod start;

use std::fmt::Write;
use std::path::Path;

use clap::ValueEnum;

use crate::Error;
use crate::lab::Lab;
use crate::report::Figure;

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Bench {
    /// Ten read-only calls, one after another, over stdio.
    Chain,
    /// A hundred calls of 200 ms at the same time, over HTTP.
    FanOut,
    /// What is passed through, beside a hand-written proxy of the same server.
    Hop,
    /// The same beside proxies that others have made, as far as `.ci/clients` has installed them.
    Peers,
    /// `antiphon serve` from its start to its first answer, and what it needs when idle.
    Start,
    /// 10,000 runs that wait for input.
    Parked,
    /// Durable runs of three steps, for 32 callers at a time.
    Durable,
    /// The local model's first word, if `ANTIPHON_MODEL_FILE` names its file.
    FirstWord,
}

/// All of them.
pub const ALL: [Bench; 8] = [
    Bench::Chain,
    Bench::FanOut,
    Bench::Hop,
    Bench::Peers,
    Bench::Start,
    Bench::Parked,
    Bench::Durable,
    Bench::FirstWord,
];

impl Bench {
    /// What it is called on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Chain => "chain",
            Self::FanOut => "fan-out",
            Self::Hop => "hop",
            Self::Peers => "peers",
            Self::Start => "start",
            Self::Parked => "parked",
            Self::Durable => "durable",
            Self::FirstWord => "first-word",
        }
    }

    /// Measures it.
    pub async fn measure(self, lab: &Lab) -> Result<Vec<Figure>, Error> {
        match self {
            Self::Chain => chain::measure(lab).await,
            Self::FanOut => fan_out::measure(lab).await,
            Self::Hop => hop::measure(lab).await,
            Self::Peers => peers::measure(lab).await,
            Self::Start => start::measure(lab).await,
            Self::Parked => parked::measure(lab).await,
            Self::Durable => durable::measure(lab).await,
            Self::FirstWord => first_word::measure(lab).await,
        }
    }
}

/// The head of a workflow file whose server `tools` is this program over stdio.
fn over_stdio(program: &Path) -> String {
    format!("name = \"bench\"\n[servers.tools]\ncommand = {program:?}\nargs = [\"fixture\"]\n")
}

/// `steps` calls of a tool, one after another, each with the output of the one before.
fn calls(tool: &str, steps: usize, modifiers: &str) -> String {
    let mut text = String::from("[input]\nvalue = { type = \"string\" }\n");
    let mut before = "input.value".to_owned();
    for step in 0..steps {
        let _ =
            write!(text, "[steps.s{step}]\ncall = \"tools.{tool}\"\n{modifiers}with.value = \"{{{{ {before} }}}}\"\n");
        before = format!("steps.s{step}.output.value");
    }
    let _ = write!(text, "[output]\nvalue = \"{{{{ {before} }}}}\"\n");
    text
}

/// `steps` steps that only set a value.
fn sets(steps: usize) -> String {
    let mut text = String::from("[input]\nvalue = { type = \"string\" }\n");
    let mut before = "input.value".to_owned();
    for step in 0..steps {
        let _ = write!(text, "[steps.s{step}]\nset = \"{{{{ {before} }}}}\"\n");
        before = format!("steps.s{step}.output");
    }
    let _ = write!(text, "[output]\nvalue = \"{{{{ {before} }}}}\"\n");
    text
}
