//! How a run stands and ended, in the words of `tools/call`.

use antiphon_engine::{Engine, EngineError, LIMIT, Run};
use antiphon_kernel::{ErrorKind, Outcome, RunView, StepPhase, StepView, ValueRef};
use rmcp::model::{CallToolResult, ContentBlock};
use serde_json::{Value, json};

/// The result of the call that started this run, which has ended.
///
/// A run that did not succeed is shown with its id, so the caller of this function sees to it that the run is durable.
pub(crate) async fn result(engine: &dyn Engine, run: &Run, modern: bool) -> Result<CallToolResult, EngineError> {
    match &run.view.outcome {
        Some(Outcome::Succeeded { record }) => Ok(success(output(engine, record).await?, modern)),
        outcome => {
            let mut result = failure(failure_text(run));
            if matches!(outcome, Some(Outcome::Failed { error, .. }) if error.kind == ErrorKind::Budget) {
                result.meta.get_or_insert_default().0.insert(LIMIT.to_owned(), true.into());
            }
            Ok(result)
        }
    }
}

/// The output of a run that succeeded.
pub(crate) async fn output(engine: &dyn Engine, record: &ValueRef) -> Result<Value, EngineError> {
    let record = engine.value(record).await?;
    Ok(record.get("output").cloned().unwrap_or(Value::Null))
}

/// A result with this value, structured and as text.
pub(crate) fn success(output: Value, modern: bool) -> CallToolResult {
    let text = output.as_str().map_or_else(|| output.to_string(), str::to_owned);
    let mut result = CallToolResult::success(vec![ContentBlock::text(text)]);
    // Before 2026-07-28 structured content had to be an object.
    result.structured_content = Some(if modern || output.is_object() { output } else { json!({ "output": output }) });
    result
}

/// A result that says what went wrong.
pub(crate) fn failure(message: impl Into<String>) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(message.into())])
}

/// What went wrong, what may have happened, what was not undone, and how to look closer.
pub(crate) fn failure_text(run: &Run) -> String {
    let mut text = headline(run);
    let mut list = |title: &str, entries: &[String]| {
        if !entries.is_empty() {
            text.push_str(&format!("\n{title}:"));
            for entry in entries {
                text.push_str(&format!("\n- {entry}"));
            }
        }
    };
    list("These calls may have happened; their outcome is unknown", &run.view.may_have_happened);
    list("This was not undone", &run.view.not_undone);
    text.push_str(&format!("\nTo look closer: antiphon show {}", run.id));
    text
}

/// One line on how the run ended or stands.
pub(crate) fn headline(run: &Run) -> String {
    match &run.view.outcome {
        Some(Outcome::Succeeded { .. }) => format!("`{}` succeeded", run.workflow),
        Some(Outcome::Failed { path: Some(path), error }) => {
            format!("step `{path}` of `{}` failed ({}): {}", run.workflow, error.kind.as_str(), error.message)
        }
        Some(Outcome::Failed { path: None, error }) => {
            format!("`{}` failed ({}): {}", run.workflow, error.kind.as_str(), error.message)
        }
        Some(Outcome::Cancelled { reason }) => format!("`{}` was cancelled: {reason}", run.workflow),
        None => progress(&run.view),
    }
}

/// Which steps have ended, and which are under way.
fn progress(view: &RunView) -> String {
    let ended = view.steps.iter().filter(|step| has_ended(step)).count();
    let active: Vec<String> = view.steps.iter().filter_map(activity).collect();
    let mut text = format!("{ended} of {} steps ended", view.steps.len());
    if !active.is_empty() {
        text.push_str("; ");
        text.push_str(&active.join(", "));
    }
    text
}

/// What a step under way does.
pub(crate) fn activity(step: &StepView) -> Option<String> {
    let doing = match step.status {
        StepPhase::Running => "running",
        StepPhase::Asking => "waiting for an answer",
        StepPhase::Waiting => "waiting",
        StepPhase::Polling => "waiting for a server's task",
        _ => return None,
    };
    let attempt = if step.attempt > 1 { format!(", attempt {}", step.attempt) } else { String::new() };
    let items = step.items.map(|(ended, all)| format!(", {ended} of {all}")).unwrap_or_default();
    Some(format!("`{}` {doing}{attempt}{items}", step.path))
}

/// Whether the step has ended, however.
pub(crate) fn has_ended(step: &StepView) -> bool {
    matches!(step.status, StepPhase::Succeeded | StepPhase::Skipped | StepPhase::Failed | StepPhase::Cancelled)
}
