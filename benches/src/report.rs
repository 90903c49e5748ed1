//! Figures and how they are printed.

use std::fs;

use serde::Serialize;

use crate::Error;

/// One measured number.
#[derive(Debug, Serialize)]
pub struct Figure {
    /// Of what.
    pub what: String,
    /// The number.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// What it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
}

/// What a figure should be.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
}

impl Target {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(bound) => value <= bound,
            Self::AtLeast(bound) => value >= bound,
        }
    }
}

impl Figure {
    /// A figure without a target.
    pub fn new(what: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { what: what.into(), value, unit, target: None }
    }

    /// It should be at most this.
    pub fn at_most(self, bound: f64) -> Self {
        Self { target: Some(Target::AtMost(bound)), ..self }
    }

    /// It should be at least this.
    pub fn at_least(self, bound: f64) -> Self {
        Self { target: Some(Target::AtLeast(bound)), ..self }
    }
}

/// All that was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    machine: String,
    measured: Vec<Section>,
}

#[derive(Debug, Serialize)]
struct Section {
    name: &'static str,
    figures: Vec<Figure>,
}

impl Report {
    /// Nothing yet.
    pub fn of_this_machine() -> Self {
        Self { machine: machine(), measured: Vec::new() }
    }

    /// Adds what one measurement found.
    pub fn add(&mut self, name: &'static str, figures: Vec<Figure>) {
        self.measured.push(Section { name, figures });
    }

    /// Prints a table, or JSON.
    #[expect(clippy::print_stdout, reason = "this is the program's output")]
    pub fn print(&self, json: bool) -> Result<(), Error> {
        if json {
            println!("{}", serde_json::to_string_pretty(self)?);
            return Ok(());
        }
        println!("{}", self.machine);
        for Section { name, figures } in &self.measured {
            println!("\n{name}");
            for Figure { what, value, unit, target } in figures {
                let target = target.map_or_else(String::new, |target| {
                    let (sign, bound) = match target {
                        Target::AtMost(bound) => ('≤', bound),
                        Target::AtLeast(bound) => ('≥', bound),
                    };
                    let verdict = if target.holds(*value) { "met" } else { "MISSED" };
                    format!("{sign} {bound} {verdict}")
                });
                println!("  {what:<66} {:>10} {unit:<7} {target}", rounded(*value));
            }
        }
        Ok(())
    }
}

/// Three digits that mean something.
fn rounded(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 || value == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn machine() -> String {
    let first = |path: &str, key: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(key)).map(str::to_owned);
        line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned())).unwrap_or_else(|| "unknown".to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("unknown").to_owned();
    format!(
        "{cores} cores, {}, {} memory, load {load} at the start",
        first("/proc/cpuinfo", "model name"),
        first("/proc/meminfo", "MemTotal"),
    )
}
