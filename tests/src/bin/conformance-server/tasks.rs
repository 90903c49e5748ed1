//! Calls that become tasks.

use std::time::Duration;

use rmcp::model::{
    CallToolResponse, CallToolResult, ClientCapabilities, ContentBlock, CreateTaskResult, ErrorData, InputRequest,
    InputRequiredResult,
};
use rmcp::task_manager::{TaskContext, TaskExit, TaskManager, TaskOptions};
use serde_json::{Value, json};

use crate::content::read;
use crate::pushed::form;
use crate::server::Call;

type Ended = Result<CallToolResult, TaskExit>;

/// Makes a task, or does at once what a caller without tasks can have at once. `None`: this is no such tool.
pub async fn call(call: &Call<'_>, tasks: &TaskManager) -> Option<Result<CallToolResponse, ErrorData>> {
    let seconds = call.arguments.get("seconds").and_then(Value::as_f64).unwrap_or(0.0);
    let options = || TaskOptions::new().with_poll_interval_ms(100);
    let spawned = |task| Ok(CreateTaskResult::new(task).into());
    Some(match call.name {
        "slow_compute" if !call.knows_tasks() => {
            tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
            Ok(said("computed").into())
        }
        "slow_compute" => spawned(tasks.spawn(options(), move |task| Box::pin(slow(task, seconds)))),
        "failing_job" | "protocol_error_job" | "confirm_delete" | "multi_input" | "test_tool_with_task"
            if !call.knows_tasks() =>
        {
            Err(ErrorData::missing_required_client_capability(ClientCapabilities::builder().enable_tasks().build()))
        }
        "failing_job" => spawned(tasks.spawn(options(), |_| {
            Box::pin(async {
                tokio::time::sleep(Duration::from_millis(300)).await;
                Ok(CallToolResult::error(vec![ContentBlock::text("the job has failed, as it always does")]))
            })
        })),
        "protocol_error_job" => spawned(tasks.spawn(options(), |_| {
            Box::pin(async { Err(ErrorData::internal_error("the job broke off", None).into()) })
        })),
        "confirm_delete" => {
            let file = call.str("filename");
            spawned(tasks.spawn(options(), move |task| Box::pin(confirm(task, file))))
        }
        "multi_input" => spawned(tasks.spawn(options(), |task| Box::pin(two_questions(task)))),
        "test_tool_with_task" => match call.answer("user_name") {
            None => {
                let params = form("What is your name?", name_schema());
                let request = json!({ "user_name": { "method": "elicitation/create", "params": params } });
                read(request).map(|request| InputRequiredResult::new(Some(request), None).into())
            }
            Some(answer) => {
                let name = answer["content"]["name"].as_str().unwrap_or_default().to_owned();
                spawned(tasks.spawn(options(), move |_| Box::pin(async move { Ok(said(&format!("done for {name}"))) })))
            }
        },
        _ => return None,
    })
}

fn said(text: &str) -> CallToolResult {
    CallToolResult::success(vec![ContentBlock::text(text)])
}

async fn slow(task: TaskContext, seconds: f64) -> Ended {
    tokio::select! {
        () = task.cancelled() => Err(TaskExit::Cancelled),
        () = tokio::time::sleep(Duration::from_secs_f64(seconds)) => Ok(said("computed")),
    }
}

async fn confirm(task: TaskContext, file: String) -> Ended {
    let schema =
        json!({ "type": "object", "properties": { "confirm": { "type": "boolean" } }, "required": ["confirm"] });
    let answer = task.request_input("confirm", question(&format!("Delete {file}?"), schema)?).await?;
    let deleted = answer["action"] == "accept" && answer["content"]["confirm"] == true;
    Ok(said(&if deleted { format!("deleted {file}") } else { format!("kept {file}") }))
}

async fn two_questions(task: TaskContext) -> Ended {
    let (first, second) = (question("First?", name_schema())?, question("Second?", name_schema())?);
    let (first, second) = tokio::join!(task.request_input("first", first), task.request_input("second", second));
    Ok(said(&format!("{} and {}", first?["content"], second?["content"])))
}

fn name_schema() -> Value {
    json!({ "type": "object", "properties": { "name": { "type": "string" } }, "required": ["name"] })
}

fn question(message: &str, schema: Value) -> Result<InputRequest, ErrorData> {
    read(json!({ "method": "elicitation/create", "params": form(message, schema) }))
}
