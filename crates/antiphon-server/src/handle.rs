//! Runs for callers that know neither tasks nor questions: a handle as a normal result, and four tools to use it.

use std::time::Duration;

use antiphon_engine::{Engine, EngineError, Run, Until};
use antiphon_kernel::{Action, Answer, Asking, By, Outcome, Question, RunStatus};
use rmcp::ErrorData;
use rmcp::model::{CallToolResult, ContentBlock, JsonObject, Tool, ToolAnnotations};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::caller::{Caller, Origin};
use crate::server::Shared;
use crate::{errors, outcome, question, schema};

/// The longest that `run_status` waits, in seconds: below the minute after which clients give up.
const MAX_WAIT_SECONDS: u64 = 45;

/// `{ run: { id, status, needs } }`. The run must be durable.
pub(crate) fn handle(run: &Run) -> CallToolResult {
    let needs: Vec<Value> = run.view.questions.iter().map(|question| need(run, question)).collect();
    let handle =
        json!({ "run": { "id": run.id, "workflow": run.workflow, "status": run.view.status, "needs": needs } });
    let next = match run.view.status {
        RunStatus::InputRequired => "It waits for an answer; `needs` says for which, and how to give it.",
        _ => "It goes on by itself.",
    };
    let text = format!(
        "The run {} of `{}` has not ended. {next} Follow it with `run_status`; do not start it again.\n{handle}",
        run.id, run.workflow
    );
    let mut result = CallToolResult::success(vec![ContentBlock::text(text)]);
    result.structured_content = Some(handle);
    result
}

fn need(run: &Run, question: &Question) -> Value {
    let mut need = json!({
        "key": question.key,
        "step": question.path,
        "question": question::message(question),
        "answer_with": match anyone_may_answer(question) {
            true => "run_answer".to_owned(),
            false => format!("a person, in a terminal: antiphon answer {}", run.id),
        },
    });
    if let Some(schema) = question::schema(question) {
        need["schema"] = schema;
    }
    need
}

/// A doubt is never for a model to decide, whatever the file says of the step.
fn anyone_may_answer(question: &Question) -> bool {
    question.by == By::Anyone && !matches!(question.ask, Asking::Doubt { .. })
}

/// The tools.
pub(crate) fn tools(workflows: &[&str]) -> Vec<Tool> {
    let run_id = json!({ "type": "string", "description": "As `run.id` of a handle" });
    let tool =
        |name: &'static str, title: &str, description: &'static str, input: Value, annotations: ToolAnnotations| {
            let mut tool = Tool::new(name, description, schema::object(&input).unwrap_or_default())
                .with_annotations(annotations.open_world(false));
            tool.title = Some(title.to_owned());
            tool.output_schema = schema::object(&schema::handle()).map(Into::into);
            tool
        };
    vec![
        tool(
            "run_answer",
            "Answer a run",
            "Answers a question of a run whose `answer_with` is `run_answer`. Other questions are for a person.",
            json!({
                "type": "object",
                "properties": {
                    "run_id": run_id,
                    "key": { "type": "string", "description": "As `key` in `needs`" },
                    "action": { "enum": ["accept", "decline", "cancel"], "default": "accept" },
                    "content": { "type": "object", "description": "The answer, by the question's `schema`; none for a plain yes" },
                },
                "required": ["run_id", "key"],
                "additionalProperties": false,
            }),
            ToolAnnotations::new().destructive(false).idempotent(true),
        ),
        tool(
            "run_cancel",
            "Cancel a run",
            "Ends a run: nothing new is started, what is under way is cancelled, what can be undone is undone.",
            json!({
                "type": "object",
                "properties": { "run_id": run_id, "reason": { "type": "string" } },
                "required": ["run_id"],
                "additionalProperties": false,
            }),
            ToolAnnotations::new().destructive(true).idempotent(true),
        ),
        tool(
            "run_start",
            "Start a run",
            "Starts a workflow and returns at once with its handle, without waiting for the end.",
            json!({
                "type": "object",
                "properties": {
                    "workflow": { "type": "string", "enum": workflows },
                    "input": { "type": "object", "description": "As the workflow's own tool takes it" },
                },
                "required": ["workflow"],
                "additionalProperties": false,
            }),
            ToolAnnotations::new(),
        ),
        tool(
            "run_status",
            "Look at a run",
            "How a run stands: its status, what it does, what it needs, and at the end its output or error. A record is kept for \
             a time after the end (a day, unless the workflow says otherwise).",
            json!({
                "type": "object",
                "properties": {
                    "run_id": run_id,
                    "wait_seconds": {
                        "type": "integer", "minimum": 0, "maximum": MAX_WAIT_SECONDS, "default": 0,
                        "description": "Wait so long for the run to end or to need an answer",
                    },
                },
                "required": ["run_id"],
                "additionalProperties": false,
            }),
            ToolAnnotations::new().read_only(true),
        ),
    ]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StatusArgs {
    run_id: String,
    #[serde(default)]
    wait_seconds: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerArgs {
    run_id: String,
    key: String,
    #[serde(default)]
    action: Option<Action>,
    #[serde(default)]
    content: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CancelArgs {
    run_id: String,
    #[serde(default)]
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StartArgs {
    workflow: String,
    #[serde(default)]
    input: JsonObject,
}

/// Calls one of the tools; `None` if `name` is none of them. What the model can mend is a result with `isError`.
pub(crate) async fn call(
    shared: &Shared,
    caller: &Caller,
    name: &str,
    arguments: JsonObject,
    origin: Origin,
) -> Option<Result<CallToolResult, ErrorData>> {
    let arguments = Value::Object(arguments);
    let result = match name {
        "run_status" => with_args(arguments, |args| status(shared, caller, args)).await,
        "run_answer" => with_args(arguments, |args| answer(shared, caller, args)).await,
        "run_cancel" => with_args(arguments, |args| cancel(shared, caller, args)).await,
        "run_start" => with_args(arguments, |args| start(shared, caller, args, origin)).await,
        _ => return None,
    };
    Some(result.or_else(|problem| match problem {
        Problem::Said(message) => Ok(outcome::failure(message)),
        Problem::Engine(error) => errors::of_call(error),
    }))
}

enum Problem {
    /// For the model.
    Said(String),
    Engine(EngineError),
}

impl From<EngineError> for Problem {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

async fn with_args<A: for<'de> Deserialize<'de>, F: Future<Output = Result<CallToolResult, Problem>>>(
    arguments: Value,
    call: impl FnOnce(A) -> F,
) -> Result<CallToolResult, Problem> {
    match serde_json::from_value(arguments) {
        Ok(args) => call(args).await,
        Err(error) => Err(Problem::Said(format!("the arguments do not fit: {error}"))),
    }
}

async fn status(shared: &Shared, caller: &Caller, args: StatusArgs) -> Result<CallToolResult, Problem> {
    let mut run = shared.run_of(&caller.owner, &args.run_id).await?;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(args.wait_seconds.min(MAX_WAIT_SECONDS));
    while run.view.status == RunStatus::Working {
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        if left.is_zero() {
            break;
        }
        run = shared.engine.wait(&run.id, Until::Asked(run.revision), left, false).await?;
    }
    shown(&*shared.engine, &run).await
}

async fn shown(engine: &dyn Engine, run: &Run) -> Result<CallToolResult, Problem> {
    Ok(outcome::success(json!({ "run": described(engine, run).await? }), true))
}

/// How a run stands: its status, steps, what it needs, its output or error. The run must be durable.
pub(crate) async fn described(engine: &dyn Engine, run: &Run) -> Result<Value, EngineError> {
    let needs: Vec<Value> = run.view.questions.iter().map(|question| need(run, question)).collect();
    let mut described = json!({
        "id": run.id,
        "workflow": run.workflow,
        "status": run.view.status,
        "needs": needs,
        "message": outcome::headline(run),
        "steps": run.view.steps.iter().map(|step| json!({ "path": step.path, "status": step.status })).collect::<Vec<_>>(),
    });
    match &run.view.outcome {
        Some(Outcome::Succeeded { record }) => described["output"] = outcome::output(engine, record).await?,
        Some(_) => described["error"] = json!(outcome::failure_text(run)),
        None => {}
    }
    Ok(described)
}

async fn answer(shared: &Shared, caller: &Caller, args: AnswerArgs) -> Result<CallToolResult, Problem> {
    let run = shared.run_of(&caller.owner, &args.run_id).await?;
    let Some(question) = run.view.questions.iter().find(|question| question.key == args.key) else {
        return Err(Problem::Said(format!(
            "the run {} has no open question `{}`; `run_status` shows what it needs",
            run.id, args.key
        )));
    };
    if !anyone_may_answer(question) {
        return Err(Problem::Said(format!(
            "this question is for a person: they answer it in a terminal with `antiphon answer {}`, or in a client that shows \
             forms",
            run.id
        )));
    }
    let answer = Answer { action: args.action.unwrap_or(Action::Accept), content: args.content };
    shared.engine.input(&run.id, &args.key, answer).await?;
    shown(&*shared.engine, &shared.engine.view(&run.id).await?).await
}

async fn cancel(shared: &Shared, caller: &Caller, args: CancelArgs) -> Result<CallToolResult, Problem> {
    let run = shared.run_of(&caller.owner, &args.run_id).await?;
    shared.engine.cancel(&run.id, args.reason.as_deref().unwrap_or("run_cancel was called")).await?;
    shown(&*shared.engine, &shared.engine.view(&run.id).await?).await
}

async fn start(shared: &Shared, caller: &Caller, args: StartArgs, origin: Origin) -> Result<CallToolResult, Problem> {
    let Some(workflow) = shared.catalog.seen_by(&caller.access).get(&args.workflow).cloned() else {
        return Err(Problem::Said(format!("no workflow `{}`", args.workflow)));
    };
    let started = shared.start(caller, &workflow, args.input, origin).await?;
    // `view` returns once the record is durable; not before may the id leave.
    shown(&*shared.engine, &shared.engine.view(&started.id).await?).await
}
