//! The server over the real engine: what callers hold is good after a crash.

use std::path::Path;
use std::sync::Arc;

use antiphon_engine::{
    CallContext, CallFailure, CallOutcome, Effects, EngineOptions, Owner, Prepared, RunId, RunInfo, SqliteEngine,
};
use antiphon_kernel::{
    By, CallSpec, Entry, ErrorKind, Expr, Form, Graph, KERNEL_VERSION, Limits, Plan, Source, Step, Verb, Workflow,
};
use antiphon_server::{Catalog, Exposed, Server, ServerOptions, TaskPolicy};
use async_trait::async_trait;
use serde_json::{Value, json};

use crate::support::{Pipe, modern, tasks, text};

/// Nothing here calls anything.
struct NoEffects;

#[async_trait]
impl Effects for NoEffects {
    async fn prepare(&self, _: &RunInfo, _: &CallSpec, _: Arc<Value>) -> Result<Prepared, CallFailure> {
        Err(nothing())
    }

    async fn run(&self, _: &RunInfo, _: &CallSpec, _: Arc<Value>, _: Entry, _: CallContext) -> CallOutcome {
        CallOutcome::Failed(nothing())
    }

    async fn release(&self, _: &RunId) {}
}

fn nothing() -> CallFailure {
    CallFailure { kind: ErrorKind::Unavailable, message: "there is nothing to call".to_owned(), in_doubt: false }
}

/// Asks which color, and says it.
fn plan() -> Arc<Plan> {
    let fields = json!({
        "type": "object",
        "properties": { "color": { "type": "string", "enum": ["red", "blue"] } },
        "required": ["color"],
    });
    let literal = |value: Value| Expr { source: Source::Literal(value), steps: [].into(), vars: [].into() };
    let message = literal(json!("Which color?"));
    let ask = Step::plain("ask", Verb::Elicit { message, form: Form::Fields(fields), by: By::Human });
    let workflow = Workflow {
        name: "paint".to_owned(),
        agent: None,
        input_schema: json!({ "type": "object", "properties": { "what": { "type": "string" } } }),
        output_schema: None,
        body: Graph { steps: vec![ask], output: None },
    };
    Arc::new(Plan {
        kernel: KERNEL_VERSION,
        root: "paint".to_owned(),
        workflows: [("paint".to_owned(), workflow)].into(),
        limits: Limits::default(),
    })
}

/// One life of a server on a database: dropped, it is as if it had crashed.
struct Life {
    server: Server,
}

impl Life {
    fn new(folder: &Path) -> Self {
        let engine =
            SqliteEngine::open(&folder.join("runs.db"), Arc::new(NoEffects), EngineOptions::default()).unwrap();
        let plan = plan();
        let exposed = Exposed {
            name: "paint".to_owned(),
            agent: None,
            description: "Asks for a color".to_owned(),
            title: None,
            input_schema: plan.workflows["paint"].input_schema.clone(),
            output_schema: None,
            plan,
            read_only: true,
            task: TaskPolicy::default(),
        };
        let catalog = Catalog::new([exposed]).unwrap();
        Self { server: Server::new(engine, catalog, ServerOptions::new([7; 32])) }
    }

    fn pipe(&self) -> Pipe {
        Pipe::to(&self.server, Owner::local(), None)
    }

    fn crash(self) {
        self.server.stop();
    }
}

fn red() -> Value {
    json!({ "ask": { "action": "accept", "content": { "color": "red" } } })
}

#[tokio::test]
async fn a_task_answers_after_a_crash_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let life = Life::new(folder.path());
    let handle = life.pipe().call("paint", json!({}), &tasks()).await;
    assert_eq!(handle["status"], "input_required");
    let id = handle["taskId"].as_str().unwrap().to_owned();
    life.crash();

    let life = Life::new(folder.path());
    let mut pipe = life.pipe();
    let task = pipe.task("get", &id).await;
    assert_eq!(task["inputRequests"]["ask"]["params"]["message"], "Which color?");
    let update = modern(json!({ "taskId": id, "inputResponses": red() }), &tasks());
    pipe.request("tasks/update", update).await;
    let status = pipe.call("run_status", json!({ "run_id": id, "wait_seconds": 30 }), &json!({})).await;
    assert_eq!(status["structuredContent"]["run"]["output"], json!({ "ask": { "color": "red" } }));
    let task = pipe.task("get", &id).await;
    assert_eq!(task["status"], "completed");
    assert_eq!(task["result"]["structuredContent"], json!({ "ask": { "color": "red" } }));
}

#[tokio::test]
async fn a_request_state_is_good_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let forms = json!({ "elicitation": {} });
    let life = Life::new(folder.path());
    let asked = life.pipe().call("paint", json!({}), &forms).await;
    life.crash();

    let life = Life::new(folder.path());
    let retry = json!({ "name": "paint", "requestState": asked["requestState"], "inputResponses": red() });
    let result = life.pipe().request("tools/call", modern(retry, &forms)).await;
    assert_eq!(result["structuredContent"], json!({ "ask": { "color": "red" } }));
}

#[tokio::test]
async fn an_unfit_answer_and_an_unfit_input_name_their_places() {
    let folder = tempfile::tempdir().unwrap();
    let life = Life::new(folder.path());
    let mut pipe = life.pipe();
    let result = pipe.call("paint", json!({ "what": 7 }), &tasks()).await;
    assert_eq!(result["isError"], true);
    assert!(text(&result).contains("what"), "{}", text(&result));

    let id = pipe.call("paint", json!({}), &tasks()).await["taskId"].as_str().unwrap().to_owned();
    let green = json!({ "ask": { "action": "accept", "content": { "color": "green" } } });
    let update = modern(json!({ "taskId": id, "inputResponses": green }), &tasks());
    let error = pipe.refused("tasks/update", update).await;
    assert!(error["message"].as_str().unwrap().contains("color"), "{error}");

    pipe.task("cancel", &id).await;
    let ended = pipe.call("run_status", json!({ "run_id": id, "wait_seconds": 30 }), &json!({})).await;
    assert_eq!(ended["structuredContent"]["run"]["status"], "cancelled");
    assert_eq!(pipe.task("get", &id).await["status"], "cancelled");
}

#[tokio::test]
async fn a_legacy_caller_is_asked_and_answered() {
    let folder = tempfile::tempdir().unwrap();
    let life = Life::new(folder.path());
    let mut pipe = life.pipe();
    pipe.initialize(json!({ "elicitation": {} })).await;
    let call = pipe.begin("tools/call", json!({ "name": "paint", "arguments": {} })).await;
    let asked = pipe.pushed("elicitation/create").await;
    pipe.send(json!({ "jsonrpc": "2.0", "id": asked["id"], "result": red()["ask"] })).await;
    assert_eq!(pipe.response(call).await["result"]["structuredContent"], json!({ "ask": { "color": "red" } }));
}
