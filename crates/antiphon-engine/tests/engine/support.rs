//! Hand-written plans, and a world that does what a test tells it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use antiphon_engine::{
    CallContext, CallFailure, CallOutcome, Clock, Effects, Engine, EngineError, EngineOptions, Owner, Prepared,
    Progress, Run, RunId, RunInfo, SqliteEngine, StartRun, Until,
};
use antiphon_kernel::{
    Action, Answer, By, CallSpec, Callee, Dep, EffectClass, Entry, ErrorKind, Expr, Form, Graph, KERNEL_VERSION,
    Limits, Plan, Record, Source, Step, Target, Terms, Verb, Wait, What, Workflow,
};
use async_trait::async_trait;
use indexmap::IndexMap;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};

pub const LONG: Duration = Duration::from_secs(60);

/// One call that reached the world.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub tool: String,
    pub path: String,
    pub key: String,
    pub args: Value,
    pub entry: Entry,
}

/// The world. A tool's name says what it does.
pub struct World {
    seen: watch::Sender<Vec<Seen>>,
    released: Mutex<Vec<RunId>>,
    prepared: Mutex<Vec<String>>,
    /// Lets one `hold` go.
    pub holds: Semaphore,
    /// Lets one preparation of `slow` go.
    pub preparations: Semaphore,
}

impl World {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            seen: watch::Sender::new(Vec::new()),
            released: Mutex::default(),
            prepared: Mutex::default(),
            holds: Semaphore::new(0),
            preparations: Semaphore::new(0),
        })
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.borrow().clone()
    }

    pub fn tools(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.tool).collect()
    }

    pub fn prepared(&self) -> usize {
        self.prepared.lock().unwrap().len()
    }

    pub fn released(&self) -> Vec<RunId> {
        self.released.lock().unwrap().clone()
    }

    /// Waits until so many calls have come.
    pub async fn until_seen(&self, count: usize) -> Vec<Seen> {
        let mut seen = self.seen.subscribe();
        let seen = tokio::time::timeout(LONG, seen.wait_for(|seen| seen.len() >= count)).await;
        seen.expect("too few calls").unwrap().clone()
    }
}

fn failed(kind: ErrorKind, message: &str, in_doubt: bool) -> CallOutcome {
    CallOutcome::Failed(CallFailure { kind, message: message.into(), in_doubt })
}

fn done(output: impl Into<Value>) -> CallOutcome {
    CallOutcome::Done { record: Record::of(output), usage: None }
}

#[async_trait]
impl Effects for World {
    async fn prepare(&self, _run: &RunInfo, call: &CallSpec, _: Arc<Value>) -> Result<Prepared, CallFailure> {
        self.prepared.lock().unwrap().push(call.path.clone());
        if matches!(&call.what, What::Tool { tool, .. } if tool == "slow") {
            self.preparations.acquire().await.unwrap().forget();
        }
        Ok(Prepared {
            class: call.declared.unwrap_or(EffectClass::AtMostOnce),
            fingerprint: None,
            price: None,
            tools: None,
        })
    }

    async fn run(
        &self,
        _: &RunInfo,
        call: &CallSpec,
        args: Arc<Value>,
        entry: Entry,
        context: CallContext,
    ) -> CallOutcome {
        let What::Tool { tool, .. } = &call.what else { panic!("tools only") };
        let seen = Seen {
            tool: tool.clone(),
            path: call.path.clone(),
            key: context.idempotency_key.clone(),
            args: Value::clone(&args),
            entry: entry.clone(),
        };
        self.seen.send_modify(|all| all.push(seen));
        match tool.as_str() {
            "hold" => tokio::select! {
                permit = self.holds.acquire() => {
                    permit.unwrap().forget();
                    done(Value::clone(&args))
                }
                () = context.cancelled.cancelled() => failed(ErrorKind::Unavailable, "cancelled", true),
            },
            "stubborn" => std::future::pending().await,
            "broken" => failed(ErrorKind::Tool, "it says no", false),
            "panics" => panic!("on purpose"),
            "big" => done("x".repeat(100_000)),
            "bigger" => done("y".repeat(150_000)),
            "huge" => done("z".repeat(9_000_000)),
            "measure" => done(args.to_string().len()),
            "reports" => {
                (context.progress)(Progress {
                    path: call.path.clone(),
                    progress: 1.0,
                    total: Some(2.0),
                    message: None,
                });
                self.holds.acquire().await.unwrap().forget();
                done("reported")
            }
            "asks" => {
                let request = json!({ "method": "elicitation/create", "params": {
                    "message": "Sure?", "requestedSchema": { "type": "object", "properties": { "sure": { "type": "boolean" } }, "required": ["sure"] },
                }});
                let answer = (context.ask)("sure".into(), request, Terms::default()).await;
                done(json!({ "action": answer.action.as_str(), "content": answer.content }))
            }
            "rounds" => match entry {
                Entry::Answers { answers, state, .. } => {
                    let state = state.unwrap().as_inline().unwrap().as_str().unwrap().len();
                    done(json!({ "answers": answers, "state": state }))
                }
                _ => CallOutcome::NeedsInput {
                    requests: BTreeMap::from([(
                        "who".into(),
                        json!({ "method": "elicitation/create", "params": { "message": "Who?" } }),
                    )]),
                    state: Some("s".repeat(50_000).into()),
                    terms: Terms::default(),
                },
            },
            "detaches" => match entry {
                Entry::Attach { handle, .. } => {
                    self.holds.acquire().await.unwrap().forget();
                    done(handle)
                }
                _ => CallOutcome::Detached { handle: json!({ "task": 7 }) },
            },
            _ => done(Value::clone(&args)),
        }
    }

    async fn release(&self, run: &RunId) {
        self.released.lock().unwrap().push(run.clone());
    }
}

pub fn literal(value: Value) -> Expr {
    Expr { source: Source::Literal(value), steps: BTreeSet::new(), vars: BTreeSet::new() }
}

pub fn template(text: &str, steps: &[&str], vars: &[&str]) -> Expr {
    Expr {
        source: Source::Template(text.into()),
        steps: steps.iter().map(ToString::to_string).collect(),
        vars: vars.iter().map(ToString::to_string).collect(),
    }
}

/// A step that calls the tool with these arguments.
pub fn call_with(id: &str, tool: &str, effects: EffectClass, with: Expr) -> Step {
    let deps = with.steps.iter().map(|id| (id.clone(), Dep { uses: true, asks: false })).collect();
    let target = Target::Fixed(Callee::Tool { server: "world".into(), tool: tool.into() });
    Step { effects: Some(effects), deps, ..Step::plain(id, Verb::Call { target, with }) }
}

pub fn call(id: &str, tool: &str, effects: EffectClass) -> Step {
    call_with(id, tool, effects, literal(json!({ "step": id })))
}

pub fn read_only(id: &str, tool: &str) -> Step {
    call(id, tool, EffectClass::ReadOnly)
}

pub fn confirm(id: &str) -> Step {
    Step::plain(id, Verb::Elicit { message: literal("Go on?".into()), form: Form::Confirm, by: By::Human })
}

pub fn wait_for(id: &str, ms: u64) -> Step {
    Step::plain(id, Verb::Wait(Wait::For(ms)))
}

/// One after the other.
pub fn chain(mut steps: Vec<Step>) -> Arc<Plan> {
    for n in 1..steps.len() {
        let before = steps[n - 1].id.clone();
        steps[n].deps.insert(before, Dep { uses: true, asks: false });
    }
    plan(steps)
}

pub fn plan(steps: Vec<Step>) -> Arc<Plan> {
    let input_schema = json!({
        "type": "object",
        "properties": { "word": { "type": "string", "default": "hello" }, "count": { "type": "integer" } },
    });
    let body = Graph { steps, output: None };
    let workflow = Workflow { name: "test".into(), agent: None, input_schema, output_schema: None, body };
    Arc::new(Plan {
        kernel: KERNEL_VERSION,
        root: "test".into(),
        workflows: BTreeMap::from([("test".to_owned(), workflow)]),
        limits: Limits::default(),
    })
}

/// The same with this output.
pub fn with_output(plan: &Plan, entries: &[(&str, Expr)]) -> Arc<Plan> {
    let mut plan = plan.clone();
    let output: IndexMap<String, Expr> =
        entries.iter().map(|(name, expr)| ((*name).to_owned(), expr.clone())).collect();
    plan.workflows.get_mut("test").unwrap().body.output = Some(antiphon_kernel::Output::Table(output));
    Arc::new(plan)
}

pub fn request(plan: &Arc<Plan>) -> StartRun {
    StartRun {
        owner: Owner::local(),
        plan: Arc::clone(plan),
        input: json!({}),
        ttl: Duration::from_secs(3_600),
        idempotency_key: None,
        route: Vec::new(),
        caller_samples: true,
    }
}

/// A folder with a database, and the world around it.
pub struct Lab {
    pub folder: tempfile::TempDir,
    pub world: Arc<World>,
    pub options: EngineOptions,
}

impl Lab {
    pub fn new() -> Self {
        let options = EngineOptions { clock: Clock::tokio(), park_after: LONG, ..EngineOptions::default() };
        Self { folder: tempfile::tempdir().unwrap(), world: World::new(), options }
    }

    pub fn database(&self) -> PathBuf {
        self.folder.path().join("runs.db")
    }

    pub fn open(&self) -> Arc<SqliteEngine> {
        self.try_open(&self.database()).unwrap()
    }

    pub fn try_open(&self, path: &Path) -> Result<Arc<SqliteEngine>, EngineError> {
        SqliteEngine::open(path, Arc::clone(&self.world) as _, self.options.clone())
    }

    /// What a crash leaves now, in another folder.
    pub fn wreck(&self) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        for name in ["runs.db", "runs.db-wal"] {
            let from = self.folder.path().join(name);
            if from.exists() {
                std::fs::copy(from, folder.path().join(name)).unwrap();
            }
        }
        let path = folder.path().join("runs.db");
        (folder, path)
    }
}

/// Time that passes only when the test says so. (A clock that is merely paused leaps ahead whenever all tasks wait, also for
/// the journal's thread.)
pub struct Still {
    _until_dropped: std::sync::mpsc::Sender<()>,
}

pub fn still() -> Still {
    tokio::time::pause();
    let (guard, dropped) = std::sync::mpsc::channel();
    tokio::task::spawn_blocking(move || dropped.recv());
    Still { _until_dropped: guard }
}

impl Still {
    pub async fn pass(&self, time: Duration) {
        tokio::time::advance(time).await;
    }
}

pub async fn start(engine: &SqliteEngine, plan: &Arc<Plan>) -> RunId {
    engine.start(request(plan)).await.unwrap().id
}

/// Waits for the end.
pub async fn end(engine: &SqliteEngine, id: &RunId) -> Run {
    let run = engine.wait(id, Until::Ended, LONG, false).await.unwrap();
    assert!(run.ended_at.is_some(), "not ended: {run:#?}");
    run
}

/// Waits for an open question; its key.
pub async fn question(engine: &SqliteEngine, id: &RunId) -> String {
    let mut revision = 0;
    loop {
        let run = engine.wait(id, Until::Changed(revision), LONG, false).await.unwrap();
        if let Some(question) = run.view.questions.first() {
            return question.key.clone();
        }
        assert!(run.ended_at.is_none(), "ended without a question: {run:#?}");
        revision = run.revision;
    }
}

/// The output of a run that succeeded.
pub async fn output(engine: &SqliteEngine, run: &Run) -> Value {
    let Some(antiphon_kernel::Outcome::Succeeded { record }) = &run.view.outcome else {
        panic!("no success: {run:#?}")
    };
    engine.value(record).await.unwrap()["output"].clone()
}

pub fn accept(content: Option<Value>) -> Answer {
    Answer { action: Action::Accept, content }
}
