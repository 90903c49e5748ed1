//! Runs as tasks of the extension `io.modelcontextprotocol/tasks`.

use std::collections::BTreeMap;
use std::time::Duration;

use antiphon_engine::{Engine, EngineError, Run};
use antiphon_kernel::RunStatus;
use chrono::{DateTime, SecondsFormat};
use rmcp::ErrorData;
use rmcp::model::{CreateTaskResult, DetailedTask, InputRequests, InputResponses, Task, TaskPayload, TaskStatus};

use crate::caller::{Answers, Caller};
use crate::server::Shared;
use crate::{errors, outcome, question};

/// The handle of a run. The run must be durable.
pub(crate) fn create(run: &Run, requests: &InputRequests) -> CreateTaskResult {
    CreateTaskResult::new(task(run, status(run, requests)))
}

/// `tasks/get`.
pub(crate) async fn get(shared: &Shared, caller: &Caller, id: &str) -> Result<DetailedTask, ErrorData> {
    let run = shared.run_of(&caller.owner, id).await.map_err(errors::of_task)?;
    detailed(&*shared.engine, &run, caller.answers).await.map_err(errors::of_task)
}

/// `tasks/update`. Answers to questions that are not open are ignored, as the extension demands.
pub(crate) async fn update(
    shared: &Shared,
    caller: &Caller,
    id: &str,
    responses: InputResponses,
) -> Result<(), ErrorData> {
    let run = shared.run_of(&caller.owner, id).await.map_err(errors::of_task)?;
    let problems = give(&*shared.engine, &run, responses).await.map_err(errors::of_task)?;
    if problems.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = problems.iter().map(|(key, problem)| format!("`{key}`: {problem}")).collect();
    Err(ErrorData::invalid_params(format!("these answers do not fit: {}", list.join("; ")), None))
}

/// `tasks/cancel`.
pub(crate) async fn cancel(shared: &Shared, caller: &Caller, id: &str) -> Result<(), ErrorData> {
    let run = shared.run_of(&caller.owner, id).await.map_err(errors::of_task)?;
    shared.engine.cancel(&run.id, "the caller cancelled the task").await.map_err(errors::of_task)
}

/// Answers the run's open questions with these, by key; others are ignored. What does not fit comes back, by key.
pub(crate) async fn give(
    engine: &dyn Engine,
    run: &Run,
    mut responses: InputResponses,
) -> Result<BTreeMap<String, String>, EngineError> {
    let mut problems = BTreeMap::new();
    for question in &run.view.questions {
        let Some(response) = responses.remove(&question.key) else { continue };
        match question::give(engine, &run.id, question, response).await {
            Ok(_) => {}
            Err(EngineError::InvalidAnswer { key, message }) => {
                problems.insert(key, message);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(problems)
}

/// The run's open questions that this caller can answer, by key. `notes` say what was wrong with earlier answers.
pub(crate) async fn requests(
    engine: &dyn Engine,
    run: &Run,
    can: Answers,
    notes: &BTreeMap<String, String>,
) -> Result<InputRequests, EngineError> {
    let mut requests = InputRequests::new();
    for question in &run.view.questions {
        let note = notes.get(&question.key).map(String::as_str);
        if let Some(request) = question::request(engine, question, can, note).await? {
            requests.insert(question.key.clone(), request);
        }
    }
    Ok(requests)
}

async fn detailed(engine: &dyn Engine, run: &Run, can: Answers) -> Result<DetailedTask, EngineError> {
    let input_requests = requests(engine, run, can, &BTreeMap::new()).await?;
    let status = status(run, &input_requests);
    let payload = match status {
        TaskStatus::InputRequired => TaskPayload::InputRequired { input_requests },
        TaskStatus::Completed => {
            let result = outcome::result(engine, run, true).await?;
            let result = serde_json::to_value(result).ok().and_then(|result| result.as_object().cloned());
            TaskPayload::Completed { result: result.unwrap_or_default() }
        }
        TaskStatus::Cancelled => TaskPayload::Cancelled,
        _ => TaskPayload::Working,
    };
    Ok(DetailedTask::new(task(run, status), payload))
}

/// A failed run is `completed`, with a result that is an error: `failed` is for JSON-RPC errors. A run that waits for somebody
/// else, since this caller can't answer what is asked, is `working` to this caller.
fn status(run: &Run, requests: &InputRequests) -> TaskStatus {
    match run.view.status {
        RunStatus::Succeeded | RunStatus::Failed => TaskStatus::Completed,
        RunStatus::Cancelled => TaskStatus::Cancelled,
        RunStatus::InputRequired if !requests.is_empty() => TaskStatus::InputRequired,
        RunStatus::InputRequired | RunStatus::Working => TaskStatus::Working,
    }
}

fn task(run: &Run, status: TaskStatus) -> Task {
    let mut message = outcome::headline(run);
    if status == TaskStatus::Working && run.view.status == RunStatus::InputRequired {
        message = format!("waits for a person: antiphon answer {}; {message}", run.id);
    }
    let mut task = Task::new(run.id.to_string(), status, timestamp(run.created_at), timestamp(run.updated_at))
        .with_status_message(message);
    // A live run never expires; then the time is counted from the end, and the extension counts from the creation.
    task.ttl_ms = run.ended_at.map(|ended| ended.saturating_sub(run.created_at).saturating_add(run.ttl_ms));
    if !status.is_terminal() {
        task.poll_interval_ms = Some(poll_interval_ms(run));
    }
    task
}

/// Clients obey it, so it decides how soon they see the end: a tenth of the run's age, between a quarter of a second and five.
fn poll_interval_ms(run: &Run) -> u64 {
    let age = run.updated_at.max(now_ms()).saturating_sub(run.created_at);
    (age / 10).clamp(250, 5_000)
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn timestamp(ms: u64) -> String {
    let moment = i64::try_from(ms).ok().and_then(DateTime::from_timestamp_millis).unwrap_or_default();
    moment.to_rfc3339_opts(SecondsFormat::Millis, true)
}
