//! `resources/read` of a run.

use antiphon_engine::{Engine, EngineError, Owner, Run};
use antiphon_kernel::{Event, EventKind, Outcome, StepView};
use rmcp::ErrorData;
use rmcp::model::{CacheScope, ReadResourceResult, ResourceContents};
use serde_json::{Value, json};

use super::{JSON, MERMAID, Named, Part, graph, newest, status, timestamp, uri};
use crate::server::Shared;
use crate::{errors, handle, outcome};

/// So many events a timeline shows: the latest.
const EVENTS: usize = 1_000;

/// Reads one.
///
/// # Errors
/// "Resource not found" for what is not there, or is somebody else's: both look the same.
pub(crate) async fn read(
    shared: &Shared,
    owner: &Owner,
    uri: &str,
    named: Named,
) -> Result<ReadResourceResult, ErrorData> {
    let (mime, text) = match contents(shared, owner, named).await {
        Ok(Ok(contents)) => contents,
        Ok(Err(why)) => return Err(not_there(uri, &why)),
        Err(error @ EngineError::NotFound(_)) => return Err(not_there(uri, &error.to_string())),
        Err(error) => return Err(errors::of_task(error)),
    };
    let contents = ResourceContents::text(text, uri).with_mime_type(mime);
    Ok(ReadResourceResult::new(vec![contents]).with_ttl_ms(0).with_cache_scope(CacheScope::Private))
}

/// The MIME type and the text; or why there is none.
async fn contents(
    shared: &Shared,
    owner: &Owner,
    named: Named,
) -> Result<Result<(&'static str, String), String>, EngineError> {
    let engine = &*shared.engine;
    let (id, part) = match named {
        Named::List(cursor) => return Ok(Ok((JSON, pretty(&listed(shared, owner, cursor).await?)))),
        Named::Run { id, part } => (id, part),
    };
    let run = shared.run_of(owner, &id).await?;
    Ok(match part {
        Part::State => Ok((JSON, pretty(&handle::described(engine, &run).await?))),
        Part::Timeline => Ok((JSON, pretty(&timeline(&run, &engine.history(&run.id).await?)))),
        Part::Graph => Ok((MERMAID, graph::mermaid(&*engine.plan(&run.id).await?, &run.view))),
        Part::Output => output(engine, &run).await?,
    })
}

async fn output(engine: &dyn Engine, run: &Run) -> Result<Result<(&'static str, String), String>, EngineError> {
    Ok(match &run.view.outcome {
        Some(Outcome::Succeeded { record }) => Ok(match outcome::output(engine, record).await? {
            Value::String(text) => ("text/plain", text),
            output => (JSON, pretty(&output)),
        }),
        Some(_) => Err(format!("there is no output: {}", outcome::failure_text(run))),
        None => Err(format!("there is no output yet: the run is {}", status(run.view.status))),
    })
}

async fn listed(shared: &Shared, owner: &Owner, cursor: Option<String>) -> Result<Value, EngineError> {
    let page = newest(shared, owner, cursor).await?;
    let runs = page.runs.iter().map(|run| {
        json!({
            "id": run.id, "uri": uri(run), "workflow": run.workflow, "status": run.view.status,
            "message": outcome::headline(run),
            "createdAt": timestamp(run.created_at), "updatedAt": timestamp(run.updated_at),
            "endedAt": run.ended_at.and_then(timestamp),
        })
    });
    let mut list = json!({ "runs": runs.collect::<Vec<_>>() });
    if let Some(next) = page.next {
        list["next"] = format!("{}?cursor={next}", super::LIST).into();
    }
    if owner.is_anonymous() {
        list["note"] = "callers without a name have no list: read a run by its id".into();
    }
    Ok(list)
}

/// The steps with their times, then what was recorded, without the values.
fn timeline(run: &Run, events: &[Event]) -> Value {
    let mut steps: Vec<&StepView> = run.view.steps.iter().filter(|step| step.started_at.is_some()).collect();
    steps.sort_by_key(|step| step.started_at);
    let steps = steps.iter().map(|step| {
        let mut shown = json!({ "path": step.path, "verb": step.verb, "status": step.status });
        shown["startedAt"] = json!(step.started_at.and_then(timestamp));
        if let (Some(start), Some(end)) = (step.started_at, step.ended_at) {
            shown["endedAt"] = json!(timestamp(end));
            shown["ms"] = end.saturating_sub(start).into();
        }
        if let Some(error) = &step.error {
            shown["error"] = error.message.as_str().into();
        }
        shown
    });
    let told: Vec<Value> = events.iter().filter_map(|event| told(event, run.created_at)).collect();
    let earlier = told.len().saturating_sub(EVENTS);
    let mut timeline = json!({
        "id": run.id, "workflow": run.workflow, "status": run.view.status,
        "startedAt": timestamp(run.created_at), "endedAt": run.ended_at.and_then(timestamp),
        "steps": steps.collect::<Vec<_>>(), "events": &told[earlier..],
    });
    if earlier > 0 {
        timeline["earlierEvents"] = earlier.into();
    }
    timeline
}

/// An event that means something to people.
fn told(event: &Event, began: u64) -> Option<Value> {
    let mut told = match &event.kind {
        EventKind::Started { .. } => json!({ "event": "started" }),
        EventKind::Prepared { op, class, .. } => json!({ "event": "called", "of": op, "effects": class }),
        EventKind::Done { op, .. } => json!({ "event": "done", "of": op }),
        EventKind::Failed { op, kind, message, in_doubt, .. } => {
            json!({ "event": "failed", "of": op, "kind": kind, "message": message, "inDoubt": in_doubt })
        }
        EventKind::Asked { op, .. } | EventKind::NeedsInput { op, .. } => json!({ "event": "asked", "of": op }),
        EventKind::Detached { op, .. } => json!({ "event": "became_a_task", "of": op }),
        EventKind::Input { key, answer } => json!({ "event": "answered", "of": key, "action": answer.action }),
        EventKind::Timer { op } => json!({ "event": "timer", "of": op }),
        EventKind::Cancel { reason } => json!({ "event": "cancelled", "message": reason }),
        EventKind::Resumed => json!({ "event": "resumed" }),
        EventKind::Evaluated { .. } => return None,
    };
    told["at"] = json!(timestamp(event.at));
    told["ms"] = event.at.saturating_sub(began).into();
    Some(told)
}

fn pretty(value: &Value) -> String {
    format!("{value:#}")
}

fn not_there(uri: &str, why: &str) -> ErrorData {
    ErrorData::resource_not_found(format!("Resource not found: {why}"), Some(json!({ "uri": uri })))
}
