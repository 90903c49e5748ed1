//! The tools: what they are called, what they say about themselves, what they do.

use std::time::Duration;

use rmcp::model::{
    CallToolResponse, CallToolResult, ContentBlock, ErrorData, JsonObject, ProgressNotificationParam, Tool,
    ToolAnnotations,
};
use rmcp::service::RequestContext;
use rmcp::{RoleServer, object};
use serde_json::{Value, json};

use crate::server::{Fixture, internal};
use crate::{asking, back, task};

const MAX_BIG: u64 = 64 << 20;

/// A call: its arguments, what it answers to questions, and who asks.
pub struct Call<'a> {
    pub fixture: &'a Fixture,
    pub arguments: JsonObject,
    pub key: Option<String>,
    pub answers: Option<rmcp::model::InputResponses>,
    pub context: &'a RequestContext<RoleServer>,
}

impl Call<'_> {
    pub fn str<'v>(&'v self, name: &str, default: &'v str) -> &'v str {
        self.arguments.get(name).and_then(Value::as_str).unwrap_or(default)
    }

    pub fn int(&self, name: &str, default: u64) -> u64 {
        self.arguments.get(name).and_then(Value::as_u64).unwrap_or(default)
    }

    pub fn value(&self, name: &str) -> Value {
        self.arguments.get(name).cloned().unwrap_or_default()
    }
}

pub type Answer = Result<CallToolResponse, ErrorData>;

/// A result with structured content.
pub fn done(value: Value) -> Answer {
    Ok(CallToolResult::structured(value).into())
}

/// Does what a tool does. `None`: there is no such tool.
pub async fn call(name: &str, call: &Call<'_>) -> Option<Answer> {
    let answer = match name {
        "echo" => done(Value::Object(call.arguments.clone())),
        "sleep" => done(json!({ "value": call.value("value") })),
        "gate" => gate(call).await,
        "set_kv" => set_kv(call),
        "charge" => effect(call, "charge", "charges"),
        "refund" => effect(call, "refund", "refunds"),
        "fail" => fail(call),
        "rpc_error" => Err(ErrorData::internal_error(call.str("message", "as asked").to_owned(), None)),
        "start_job" => start_job(call),
        "get_job" => get_job(call),
        "big" => Ok(big(call)),
        "progress" => progress(call).await,
        "elicit_name" => asking::elicit_name(call).await,
        "sample_me" => asking::sample_me(call).await,
        "come_back" => back::come_back(call).await,
        "slow_task" => task::start(call).await,
        _ => return None,
    };
    // The effect is done, the answer is not out yet: the moment to be killed in.
    if name != "slow_task" {
        tokio::time::sleep(Duration::from_millis(call.int("ms", 0))).await;
    }
    Some(answer)
}

/// Under way until a test makes the file.
async fn gate(call: &Call<'_>) -> Answer {
    while !std::path::Path::new(call.str("path", "")).exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    done(json!({ "value": call.value("value") }))
}

/// Writes once for each idempotency key: a repeated call gets the first one's answer.
fn set_kv(call: &Call<'_>) -> Answer {
    let name = call.str("key", "");
    let key = call.key.as_deref().unwrap_or("none");
    let entry = call.fixture.store.update("kv", name, |entry| {
        let mut entry = entry.unwrap_or_else(|| json!({ "writes": 0, "answers": {} }));
        if call.key.is_none() || entry["answers"][key].is_null() {
            let writes = entry["writes"].as_u64().unwrap_or(0) + 1;
            entry["writes"] = writes.into();
            entry["answers"][key] = json!({ "key": name, "value": call.value("value"), "writes": writes });
        }
        entry
    });
    done(entry.map_err(internal)?["answers"][key].clone())
}

/// Happens every time it is called, and says how often it has.
fn effect(call: &Call<'_>, kind: &str, counter: &str) -> Answer {
    let id = call.str("id", "");
    let times = call.fixture.store.count(kind, id).map_err(internal)?;
    done(json!({ "id": id, counter: times }))
}

fn fail(call: &Call<'_>) -> Answer {
    let message = call.str("message", "as asked");
    let times = call.int("times", u64::MAX);
    let calls = call.fixture.store.count("fail", call.str("id", message)).map_err(internal)?;
    if calls <= times {
        return Ok(CallToolResult::error(vec![ContentBlock::text(message)]).into());
    }
    done(json!({ "failed": times }))
}

fn start_job(call: &Call<'_>) -> Answer {
    let store = &call.fixture.store;
    let id = match call.str("id", "") {
        "" => format!("job-{}", store.count("jobs", "started").map_err(internal)?),
        id => id.to_owned(),
    };
    let job = json!({ "id": id, "state": "running", "polls": 0, "after_polls": call.int("after_polls", 3) });
    done(store.update("job", &id, |_| job).map_err(internal)?)
}

/// A look at a job counts: after so many it has passed.
fn get_job(call: &Call<'_>) -> Answer {
    let id = call.str("id", "");
    if call.fixture.store.get("job", id).is_none() {
        return Ok(CallToolResult::error(vec![ContentBlock::text(format!("no job is called `{id}`"))]).into());
    }
    let looked = call.fixture.store.update("job", id, |job| {
        let mut job = job.unwrap_or_default();
        let polls = job["polls"].as_u64().unwrap_or(0) + 1;
        job["polls"] = polls.into();
        if polls >= job["after_polls"].as_u64().unwrap_or(0) {
            job["state"] = "passed".into();
        }
        job
    });
    done(looked.map_err(internal)?)
}

fn big(call: &Call<'_>) -> CallToolResponse {
    let bytes = call.int("bytes", 0).min(MAX_BIG);
    let text = "x".repeat(usize::try_from(bytes).unwrap_or(0));
    CallToolResult::success(vec![ContentBlock::text(text)]).into()
}

async fn progress(call: &Call<'_>) -> Answer {
    let steps = u32::try_from(call.int("steps", 3).min(1_000)).unwrap_or(0);
    if let Some(token) = call.context.meta.get_progress_token() {
        for step in 1..=steps {
            let report = ProgressNotificationParam::new(token.clone(), step.into())
                .with_total(steps.into())
                .with_message(format!("step {step}"));
            call.context.peer.notify_progress(report).await.map_err(internal)?;
            tokio::time::sleep(Duration::from_millis(call.int("every_ms", 0))).await;
        }
    }
    done(json!({ "steps": steps }))
}

/// What the server says about its tools.
pub fn list() -> Vec<Tool> {
    let read_only = || Some(ToolAnnotations::new().read_only(true));
    let idempotent = || Some(ToolAnnotations::new().read_only(false).idempotent(true));
    let none = || None;
    vec![
        tool("echo", "Gives its arguments back", object!({}), read_only()),
        tool("sleep", "Waits `ms`, then gives `value` back", object!({ "ms": int(), "value": {} }), read_only()),
        tool(
            "gate",
            "Waits until there is a file, then gives `value` back",
            object!({ "path": string(), "value": {} }),
            read_only(),
        ),
        tool(
            "set_kv",
            "Sets a key, once for each idempotency key",
            object!({ "key": string(), "value": {}, "ms": int() }),
            idempotent(),
        ),
        tool("charge", "Charges, every time it is called", object!({ "id": string(), "ms": int() }), none()),
        tool("refund", "Refunds, every time it is called", object!({ "id": string(), "ms": int() }), none()),
        tool(
            "fail",
            "Fails, the first `times` times for an `id`; always, without `times`",
            object!({ "message": string(), "times": int(), "id": string() }),
            read_only(),
        ),
        tool("rpc_error", "Answers with a JSON-RPC error", object!({ "message": string() }), read_only()),
        tool(
            "start_job",
            "Starts a job that passes after so many looks at it",
            object!({ "id": string(), "after_polls": int(), "ms": int() }),
            none(),
        ),
        tool("get_job", "Looks at a job", object!({ "id": string() }), read_only()),
        tool("big", "A long text", object!({ "bytes": int() }), read_only()),
        tool("progress", "Reports progress", object!({ "steps": int(), "every_ms": int() }), read_only()),
        tool("elicit_name", "Asks for a name", object!({ "question": string() }), read_only()),
        tool("sample_me", "Asks for a sample", object!({ "prompt": string() }), read_only()),
        tool(
            "come_back",
            "Samples and calls, as the process of a server may",
            object!({ "do": { "type": "array" }, "as": string(), "keep": string() }),
            read_only(),
        ),
        tool(
            "slow_task",
            "Becomes a task that takes `ms`; with `ask` it wants a name first, or a model's answer to that text",
            object!({ "ms": int(), "value": {}, "ask": { "type": ["boolean", "string"] } }),
            none(),
        ),
    ]
}

fn int() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

fn string() -> Value {
    json!({ "type": "string" })
}

fn tool(
    name: &'static str,
    description: &'static str,
    properties: JsonObject,
    annotations: Option<ToolAnnotations>,
) -> Tool {
    let mut tool = Tool::new(name, description, object!({ "type": "object", "properties": properties }));
    tool.annotations = annotations;
    tool
}
