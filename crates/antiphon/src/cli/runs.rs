//! `runs` and `show`.

use std::time::Duration;

use antiphon_engine::Run;
use antiphon_kernel::{RunStatus, StepPhase};
use clap::Args;
use serde_json::json;

use super::{Which, find, print};
use crate::exit::Exit;
use crate::fault::Fault;
use crate::owner::verbs::{History, RunShown, Runs, Show};
use crate::ui::form::{Shown, printable};
use crate::ui::time::{ago, span};

/// Arguments of `runs`.
#[derive(Debug, Args)]
pub struct RunsArgs {
    /// Only those that have not ended
    #[arg(long)]
    live: bool,
    /// At most so many
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// Print JSON: one run a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    which: Which,
}

/// Arguments of `show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The run's id, or the beginning of it
    id: String,
    /// Also print every recorded event, one JSON object a line
    #[arg(long)]
    events: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    which: Which,
}

/// Lists runs, newest first.
pub async fn runs(args: RunsArgs) -> Result<Exit, Fault> {
    if !args.which.has_runs()? {
        return Ok(Exit::Ok);
    }
    let (hub, _) = args.which.look().await?;
    let list = hub.ask(Runs { live: args.live, prefix: None, limit: args.limit }).await?;
    for run in &list.runs {
        if args.json {
            print::json(&summary(run), true)?;
        } else {
            let id = run.id.to_string();
            let row = format!(
                "{}  {:<14}  {:<24}  {}",
                print::short(&id),
                status(run.view.status),
                printable(&run.workflow),
                ago(run.updated_at)
            );
            print::line(&row)?;
        }
    }
    if list.more {
        tracing::info!("there are more: --limit");
    }
    Ok(Exit::Ok)
}

/// Shows a run.
pub async fn show(args: ShowArgs) -> Result<Exit, Fault> {
    let (hub, hint) = args.which.look().await?;
    let id = find(&hub, &args.id).await?.id.to_string();
    let shown = hub.ask(Show { id: id.clone() }).await?;
    if args.json {
        let mut value = serde_json::to_value(&shown.run).map_err(Fault::internal)?;
        value["output"] = shown.output.clone().unwrap_or_default();
        print::json(&value, true)?;
    } else {
        describe(&shown)?;
        for question in &shown.run.view.questions {
            print::line(&format!("\n{}", Shown::of(question, shown.requests.get(&question.key)).message))?;
            print::line(&format!("  {}", print::how_to_answer(&shown.run, question, &hint)))?;
        }
    }
    if args.events {
        for event in hub.ask(History { id }).await? {
            print::json(&event, true)?;
        }
    }
    Ok(Exit::Ok)
}

fn describe(shown: &RunShown) -> Result<(), Fault> {
    let run = &shown.run;
    let view = &run.view;
    print::line(&format!("{}  {}  {}", run.id, printable(&run.workflow), status(view.status)))?;
    print::line(&format!("started {}, owner {}", ago(run.created_at), run.owner.0))?;
    for step in &view.steps {
        let took = match (step.started_at, step.ended_at) {
            (Some(start), Some(end)) => span(Duration::from_millis(end.saturating_sub(start))),
            _ => String::new(),
        };
        let why = match (&step.error, &step.note) {
            (Some(error), _) => format!("{}: {}", error.kind.as_str(), error.message),
            (None, Some(note)) => note.clone(),
            (None, None) => String::new(),
        };
        let row = format!(
            "  {:<28}  {:<7}  {:<10}  {took:>6}  {}",
            step.path,
            step.verb,
            phase(step.status),
            printable(&why)
        );
        print::line(row.trim_end())?;
    }
    for call in &view.may_have_happened {
        print::line(&format!("may have happened: {}", printable(call)))?;
    }
    for call in &view.not_undone {
        print::line(&format!("not undone: {}", printable(call)))?;
    }
    for limit in &view.overrun {
        print::line(&format!("beyond a limit: {}", printable(limit)))?;
    }
    let used = &view.used;
    let waited = match used.waited_ms {
        0 => String::new(),
        waited => format!(", {} of waiting for a turn at a model", span(Duration::from_millis(waited))),
    };
    print::line(&format!("used: {} calls, {} tokens, ${:.4}{waited}", used.calls, used.tokens, used.cost_usd))?;
    if let Some(output) = &shown.output {
        print::line("output:")?;
        print::json(output, false)?;
    }
    Ok(())
}

fn summary(run: &Run) -> serde_json::Value {
    json!({
        "id": run.id, "workflow": run.workflow, "status": run.view.status, "owner": run.owner,
        "createdAt": run.created_at, "updatedAt": run.updated_at, "endedAt": run.ended_at,
        "questions": run.view.questions.iter().map(|question| &question.key).collect::<Vec<_>>(),
    })
}

fn status(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Working => "working",
        RunStatus::InputRequired => "input_required",
        RunStatus::Succeeded => "succeeded",
        RunStatus::Failed => "failed",
        RunStatus::Cancelled => "cancelled",
    }
}

fn phase(phase: StepPhase) -> &'static str {
    match phase {
        StepPhase::Pending => "pending",
        StepPhase::Running => "running",
        StepPhase::Asking => "asking",
        StepPhase::Waiting => "waiting",
        StepPhase::Polling => "polling",
        StepPhase::Succeeded => "succeeded",
        StepPhase::Skipped => "skipped",
        StepPhase::Failed => "failed",
        StepPhase::Cancelled => "cancelled",
    }
}
