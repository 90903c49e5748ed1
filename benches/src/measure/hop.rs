//! One hop: calls of a server's tools through a proxy. Antiphon passes them on; beside it, a proxy written by hand does.

use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::fixture::BIG;
use crate::lab::{Lab, listening};
use crate::load::Way;
use crate::report::Figure;
use crate::{Era, Error};

/// Rounds in which both take turns.
const ROUNDS: usize = 7;
/// Calls of a round, by one caller and again by many, and those with a megabyte of result.
const CALLS: (usize, usize) = (2_000, 25);
const CALLERS: usize = 16;
/// How many servers one Antiphon stands in front of when its memory is looked at.
const UPSTREAMS: usize = 10;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    Http,
    Stdio,
}

pub async fn measure(lab: &Lab) -> Result<Vec<Figure>, Error> {
    let mut figures = Vec::new();
    for wire in [Wire::Http, Wire::Stdio] {
        for era in [Era::Legacy, Era::Modern] {
            figures.extend(hop(lab, wire, era).await?);
        }
    }
    figures.push(memory(lab).await?);
    Ok(figures)
}

async fn hop(lab: &Lab, wire: Wire, era: Era) -> Result<Vec<Figure>, Error> {
    let hand = Contestant::by_hand(lab, wire, era).await?;
    let ours = Contestant::ours(lab, wire, era).await?;
    let mut rounds = Vec::new();
    for round in 0..=ROUNDS {
        // Who is first may find the machine otherwise than who is second.
        let both = if round % 2 == 0 {
            let first = hand.round(CALLS).await?;
            [first, ours.round(CALLS).await?]
        } else {
            let first = ours.round(CALLS).await?;
            [hand.round(CALLS).await?, first]
        };
        // The first one warms up.
        if round > 0 {
            rounds.push(both);
        }
    }
    let over = match wire {
        Wire::Http => "HTTP to HTTP",
        Wire::Stdio => "stdio to stdio",
    };
    let compared: [Compared; 5] = [
        ("CPU a call, 16 callers", "µs", |round| round.cpu, |ratio| ratio.at_most(1.25)),
        ("CPU a call, one caller", "µs", |round| round.cpu_alone, |ratio| ratio.at_most(1.25)),
        ("calls, 16 callers", "/s", |round| round.rate, |ratio| ratio.at_least(0.85)),
        ("p50, one caller", "ms", |round| round.p50, |ratio| ratio.at_most(1.25)),
        ("CPU a call with 1 MB of result", "µs", |round| round.cpu_big, |ratio| ratio.at_most(1.15)),
    ];
    let mut figures = Vec::new();
    for (what, unit, part, bound) in compared {
        let [by_hand, ours] = [0, 1].map(|who| median(rounds.iter().map(|both| part(&both[who]))));
        let ratio = median(rounds.iter().map(|both| part(&both[1]) / part(&both[0])));
        figures.push(Figure::new(format!("{over}, {}: {what}, by hand", era.version()), by_hand, unit));
        figures.push(Figure::new("  Antiphon", ours, unit));
        figures.push(bound(Figure::new("  the median of the rounds' ratios", ratio, "")));
    }
    Ok(figures)
}

/// What is compared: its name and unit, where it is in a round, and the bound of the ratio.
type Compared = (&'static str, &'static str, fn(&Round) -> f64, fn(Figure) -> Figure);

/// Its memory, once every server has been called.
async fn memory(lab: &Lab) -> Result<Figure, Error> {
    let servers: String = (0..UPSTREAMS).map(|number| over_stdio(lab, &format!("s{number}"), Era::Modern)).collect();
    let exposed: Vec<String> = (0..UPSTREAMS).map(|number| format!("s{number}.*")).collect();
    let folder = project(lab, "hop-memory", &format!("{servers}[serve]\nexpose = {exposed:?}\n"))?;
    let host = lab.host(&folder)?;
    host.ask("tools/list", json!({})).await?;
    for number in 0..UPSTREAMS {
        host.call(&format!("s{number}__echo"), json!({ "value": number })).await?;
    }
    let (rss, _) = host.memory()?;
    host.close().await?;
    Ok(Figure::new(format!("RSS with {UPSTREAMS} servers over stdio, each of them called"), rss, "MB").at_most(30.0))
}

/// One proxy, and the server behind it.
pub(super) struct Contestant {
    pub way: Way,
    pub _server: Option<Child>,
}

/// What one round has shown.
pub(super) struct Round {
    pub cpu: f64,
    pub cpu_alone: f64,
    pub rate: f64,
    pub p50: f64,
    pub cpu_big: f64,
}

impl Contestant {
    pub(super) async fn by_hand(lab: &Lab, wire: Wire, era: Era) -> Result<Self, Error> {
        let mut proxy = lab.role("proxy");
        proxy.args(["--era", era.name()]);
        match wire {
            Wire::Http => {
                let (server, url) = listening(server(lab, era)).await?;
                proxy.arg("--http").arg(url);
                Ok(Self { way: Way::http(proxy, era).await?, _server: Some(server) })
            }
            Wire::Stdio => Ok(Self { way: Way::stdio(proxy, era).await?, _server: None }),
        }
    }

    pub(super) async fn ours(lab: &Lab, wire: Wire, era: Era) -> Result<Self, Error> {
        let serve = "[serve]\nexpose = [\"tools.*\"]\nprefix = false\n";
        match wire {
            Wire::Http => {
                let (server, url) = listening(server(lab, era)).await?;
                let name = format!("hop-http-{}", era.name());
                let folder = project(lab, &name, &format!("[servers.tools]\nurl = \"{url}\"\n{serve}"))?;
                let mut command = lab.serve(&folder);
                command.args(["--transport", "http", "--port", "0"]);
                Ok(Self { way: Way::http(command, era).await?, _server: Some(server) })
            }
            Wire::Stdio => {
                let name = format!("hop-stdio-{}", era.name());
                let folder = project(lab, &name, &(over_stdio(lab, "tools", era) + serve))?;
                Ok(Self { way: Way::stdio(lab.serve(&folder), era).await?, _server: None })
            }
        }
    }

    /// So many short calls, by one caller and again by many, and so many with a megabyte of result.
    pub(super) async fn round(&self, (calls, big): (usize, usize)) -> Result<Round, Error> {
        let short = json!({ "value": "a short value, as most are" });
        let (took, _, cpu_alone) = self.timed("echo", &short, 1, (calls, 1)).await?;
        let (_, seconds, cpu) = self.timed("echo", &short, 1, (calls, CALLERS)).await?;
        let (_, _, cpu_big) = self.timed("big", &json!({}), BIG, (big, 1)).await?;
        Ok(Round { cpu, cpu_alone, rate: calls as f64 / seconds, p50: took.p50(), cpu_big })
    }

    /// How long each call took, and all of them; the proxy's CPU time for each, in microseconds.
    async fn timed(
        &self,
        tool: &'static str,
        arguments: &Value,
        at_least: usize,
        calls: (usize, usize),
    ) -> Result<(crate::sample::Sample, f64, f64), Error> {
        let pid = self.way.pid()?;
        let before = cpu(pid)?;
        let (took, seconds) = self.way.calls(tool, arguments, at_least, calls).await?;
        Ok((took, seconds, (cpu(pid)? - before) / calls.0 as f64))
    }
}

/// The tool server over HTTP.
pub(super) fn server(lab: &Lab, era: Era) -> Command {
    let mut command = lab.fixture();
    command.args(["--http", "--era", era.name()]);
    command
}

/// The tool server over stdio, as Antiphon is told of it.
fn over_stdio(lab: &Lab, name: &str, era: Era) -> String {
    let (program, era) = (&lab.program, era.name());
    format!("[servers.{name}]\ncommand = {program:?}\nargs = [\"fixture\", \"--era\", \"{era}\"]\n")
}

fn project(lab: &Lab, name: &str, config: &str) -> Result<std::path::PathBuf, Error> {
    let folder = lab.path(name);
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("antiphon.toml"), config)?;
    Ok(folder)
}

/// What a process has used of the processor, user and system, in microseconds: the scheduler's own account of its threads, since
/// `stat` counts in steps of ten milliseconds.
fn cpu(pid: u32) -> Result<f64, Error> {
    let mut nanoseconds = 0.0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end meanwhile.
        let Ok(account) = std::fs::read_to_string(thread?.path().join("schedstat")) else { continue };
        nanoseconds += account.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(0.0);
    }
    Ok(nanoseconds / 1e3)
}

pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
