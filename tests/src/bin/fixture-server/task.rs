//! A call that becomes a task. Its state is on disk, so the task survives the server.

use std::time::Duration;

use rmcp::model::{
    CallToolResult, CreateTaskResult, DetailedTask, ErrorData, GetTaskResult, InputResponses, Task, TaskPayload,
    TaskStatus,
};
use serde_json::{Value, json};

use crate::asking::{is_modern, name_form, named, prompted, questions, said};
use crate::log::now;
use crate::server::{Fixture, internal};
use crate::tools::{Answer, Call, done};

/// Timestamps are for show here.
const EPOCH: &str = "2026-01-01T00:00:00Z";

/// A task for whoever can follow one; for all others it takes as long as it takes.
pub async fn start(call: &Call<'_>) -> Answer {
    let ms = call.int("ms", 100);
    let follows = call.context.client_capabilities().is_some_and(|capabilities| capabilities.supports_tasks());
    if !(follows && is_modern(call)) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        return done(json!({ "value": call.value("value") }));
    }
    let store = &call.fixture.store;
    let id = format!("task-{}", store.count("tasks", "started").map_err(internal)?);
    let asks = call.value("ask");
    let state = json!({ "ready_at": now() + ms, "value": call.value("value"), "asks": asks });
    store.update("task", &id, |_| state).map_err(internal)?;
    Ok(CreateTaskResult::new(seed(&id)).into())
}

pub fn get(fixture: &Fixture, id: &str) -> Result<GetTaskResult, ErrorData> {
    let state = find(fixture, id)?;
    let payload = if state["cancelled"] == true {
        TaskPayload::Cancelled
    } else if asks(&state) && state["answer"].is_null() {
        let input_requests = match state["asks"].as_str() {
            Some(prompt) => questions("sampling/createMessage", &prompted(prompt))?,
            None => questions("elicitation/create", &name_form("Whose task is it?"))?,
        };
        TaskPayload::InputRequired { input_requests }
    } else if now() < state["ready_at"].as_u64().unwrap_or(0) {
        TaskPayload::Working
    } else {
        let mut value = json!({ "value": state["value"] });
        if asks(&state) {
            value["answer"] = if state["asks"].is_string() { said(&state["answer"]) } else { named(&state["answer"]) };
        }
        let result = serde_json::to_value(CallToolResult::structured(value)).map_err(internal)?;
        TaskPayload::Completed { result: result.as_object().cloned().unwrap_or_default() }
    };
    Ok(GetTaskResult::new(DetailedTask::new(seed(id), payload)))
}

/// `true` asks a person for a name, a text asks a model.
fn asks(state: &Value) -> bool {
    state["asks"] == true || state["asks"].is_string()
}

pub fn update(fixture: &Fixture, id: &str, answers: &InputResponses) -> Result<(), ErrorData> {
    let answer = answers.values().next().cloned().unwrap_or_default();
    change(fixture, id, "answer", answer)
}

pub fn cancel(fixture: &Fixture, id: &str) -> Result<(), ErrorData> {
    change(fixture, id, "cancelled", true.into())
}

fn change(fixture: &Fixture, id: &str, field: &str, value: Value) -> Result<(), ErrorData> {
    find(fixture, id)?;
    let changed = fixture.store.update("task", id, |state| {
        let mut state = state.unwrap_or_default();
        state[field] = value;
        state
    });
    changed.map(drop).map_err(internal)
}

fn find(fixture: &Fixture, id: &str) -> Result<Value, ErrorData> {
    let missing = || ErrorData::invalid_params(format!("no task is called `{id}`"), None);
    fixture.store.get("task", id).ok_or_else(missing)
}

fn seed(id: &str) -> Task {
    Task::new(id, TaskStatus::Working, EPOCH, EPOCH).with_poll_interval_ms(20)
}
