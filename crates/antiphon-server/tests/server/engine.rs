//! An engine in memory, whose workflows do what their names say.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use antiphon_engine::{Engine, EngineError, Filter, Owner, Page, Progress, Run, RunId, StartRun, Started, Until};
use antiphon_kernel::{
    Action, Answer, Asking, By, CallSpec, ErrorKind, Event, Graph, KERNEL_VERSION, Limits, Outcome, Plan, Question,
    Record, RunStatus, RunView, StepError, StepPhase, StepView, Used, ValueRef, What, Workflow,
};
use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::sync::{broadcast, watch};

/// When every run of this engine was created.
const CREATED_AT: u64 = 1_700_000_000_000;

pub struct Scripted {
    state: Mutex<State>,
    changes: watch::Sender<u64>,
    news: broadcast::Sender<Owner>,
}

#[derive(Default)]
struct State {
    runs: HashMap<RunId, Entry>,
    keys: HashMap<(Owner, String), (RunId, String, Value)>,
    durable: HashSet<RunId>,
    cancelled: Vec<(RunId, String)>,
}

struct Entry {
    run: Run,
    progress: broadcast::Sender<Progress>,
}

impl Scripted {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), changes: watch::Sender::new(0), news: broadcast::Sender::new(16) })
    }

    /// A plan whose run does what `name` says; see [`Scripted::begin`].
    pub fn plan(name: &str) -> Arc<Plan> {
        let workflow = Workflow {
            name: name.to_owned(),
            agent: None,
            input_schema: json!({ "type": "object" }),
            output_schema: None,
            body: Graph::default(),
        };
        Arc::new(Plan {
            kernel: KERNEL_VERSION,
            root: name.to_owned(),
            workflows: [(name.to_owned(), workflow)].into(),
            limits: Limits::default(),
        })
    }

    /// The only run there is.
    pub fn only_run(&self) -> RunId {
        let state = self.state.lock().unwrap();
        assert_eq!(state.runs.len(), 1, "one run");
        state.runs.keys().next().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.state.lock().unwrap().runs.len()
    }

    /// Whether anybody has waited for the run's record to be durable.
    pub fn is_durable(&self, id: &str) -> bool {
        self.state.lock().unwrap().durable.contains(&RunId(id.into()))
    }

    pub fn cancel_reasons(&self) -> Vec<String> {
        self.state.lock().unwrap().cancelled.iter().map(|(_, reason)| reason.clone()).collect()
    }

    /// Returns when there is a run.
    pub async fn until(&self, mut holds: impl FnMut(&Self) -> bool) {
        let mut changes = self.changes.subscribe();
        while !holds(self) {
            changes.changed().await.unwrap();
        }
    }

    pub fn finish(&self, id: &RunId, output: Value) {
        self.end(id, RunStatus::Succeeded, Outcome::Succeeded { record: record(output) });
    }

    pub fn report(&self, id: &RunId, progress: f64, message: &str) {
        let state = self.state.lock().unwrap();
        let report =
            Progress { path: "build".to_owned(), progress, total: Some(100.0), message: Some(message.to_owned()) };
        state.runs[id].progress.send(report).unwrap();
    }

    fn end(&self, id: &RunId, status: RunStatus, outcome: Outcome) {
        self.change(id, |run| {
            run.view.status = status;
            run.view.outcome = Some(outcome);
            run.view.questions.clear();
            run.ended_at = Some(run.created_at + 5_000);
            for step in &mut run.view.steps {
                step.status = StepPhase::Succeeded;
            }
        });
    }

    fn change(&self, id: &RunId, change: impl FnOnce(&mut Run)) {
        let mut state = self.state.lock().unwrap();
        let run = &mut state.runs.get_mut(id).unwrap().run;
        change(run);
        run.revision += 1;
        drop(state);
        self.changes.send_modify(|changes| *changes += 1);
    }

    fn ask(&self, id: &RunId, key: &str, by: By, ask: Asking) {
        self.change(id, |run| {
            run.view.status = RunStatus::InputRequired;
            let path = "ask".to_owned();
            run.view.questions.push(Question { key: key.to_owned(), path, asked_at: CREATED_AT, by, ask });
            run.view.steps[0].status = StepPhase::Asking;
        });
    }

    /// What each workflow does.
    fn begin(&self, id: &RunId, workflow: &str, input: &Value) {
        match workflow {
            "echo" => self.finish(id, json!({ "text": input["text"] })),
            "list" => self.finish(id, json!([1, 2])),
            "slow" => {}
            "approve" => self.ask(id, "approve#1", By::Human, yes_or_no("Deploy main?")),
            "pick" => self.ask(
                id,
                "pick#1",
                By::Anyone,
                Asking::Form {
                    message: "Which color?".to_owned(),
                    schema: json!({
                        "type": "object",
                        "properties": { "color": { "type": "string", "enum": ["red", "blue"] } },
                        "required": ["color"],
                    }),
                },
            ),
            "visit" => self.ask(
                id,
                "visit#1",
                By::Human,
                Asking::Url { message: "Sign in".to_owned(), url: "https://example.com/sign-in".to_owned() },
            ),
            "sample" => self.ask(
                id,
                "sample#1",
                By::Anyone,
                Asking::Sample {
                    request: ValueRef::inline(json!({ "prompt": "Name a color", "max_tokens": 5 })),
                    tools: None,
                },
            ),
            "doubt" => self.ask(
                id,
                "doubt#1",
                By::Anyone,
                Asking::Doubt {
                    message: "`ci.deploy` may have happened".to_owned(),
                    call: Box::new(CallSpec {
                        what: What::Tool { server: "ci".to_owned(), tool: "deploy".to_owned() },
                        args: ValueRef::inline(json!({})),
                        path: "deploy".to_owned(),
                        attempt: 1,
                        key: "deploy".to_owned(),
                        declared: None,
                        deadline: None,
                        route: Vec::new(),
                        tools: None,
                        allowance: None,
                    }),
                },
            ),
            "broken" => {
                self.change(id, |run| {
                    run.view.may_have_happened = vec!["deploy: ci.deploy".to_owned()];
                    run.view.not_undone = vec!["start: no such build".to_owned()];
                });
                let error = StepError { kind: ErrorKind::Timeout, message: "no answer in 30 s".to_owned() };
                self.end(id, RunStatus::Failed, Outcome::Failed { path: Some("deploy".to_owned()), error });
            }
            other => panic!("no script for `{other}`"),
        }
    }

    fn check(question: &Question, answer: &Answer) -> Result<Value, EngineError> {
        let content = answer.content.clone().unwrap_or_default();
        match &question.ask {
            Asking::Form { schema, .. } if schema["properties"].get("color").is_some() => {
                let color = content["color"].as_str().filter(|color| ["red", "blue"].contains(color));
                match (answer.action, color) {
                    (Action::Accept, None) => Err(EngineError::InvalidAnswer {
                        key: question.key.clone(),
                        message: "`color` must be red or blue".to_owned(),
                    }),
                    (_, color) => Ok(json!({ "color": color })),
                }
            }
            _ => Ok(json!({ "action": answer.action, "content": answer.content })),
        }
    }
}

#[async_trait]
impl Engine for Scripted {
    async fn start(&self, request: StartRun) -> Result<Started, EngineError> {
        let workflow = request.plan.root.clone();
        if workflow == "echo" && !request.input["text"].is_string() {
            return Err(EngineError::InvalidInput { workflow, message: "`text` must be a string".to_owned() });
        }
        let id = RunId(format!("run-{}", self.count() + 1).into());
        if let Some(key) = request.idempotency_key {
            let mut state = self.state.lock().unwrap();
            let known = state.keys.entry((request.owner.clone(), key));
            let (first, of, input) = known.or_insert_with(|| (id.clone(), workflow.clone(), request.input.clone()));
            if *of != workflow || *input != request.input {
                return Err(EngineError::KeyReused);
            }
            if *first != id {
                return Ok(Started { id: first.clone(), existing: true });
            }
        }
        let step = StepView {
            path: "ask".to_owned(),
            verb: "elicit".to_owned(),
            status: StepPhase::Running,
            started_at: Some(CREATED_AT),
            ended_at: None,
            attempt: 1,
            items: None,
            error: None,
            note: None,
        };
        let run = Run {
            id: id.clone(),
            owner: request.owner,
            workflow: workflow.clone(),
            revision: 1,
            created_at: CREATED_AT,
            updated_at: CREATED_AT,
            ended_at: None,
            ttl_ms: u64::try_from(request.ttl.as_millis()).unwrap(),
            view: RunView {
                status: RunStatus::Working,
                outcome: None,
                steps: vec![step],
                questions: vec![],
                used: Used::default(),
                may_have_happened: vec![],
                not_undone: vec![],
                overrun: Vec::new(),
            },
        };
        let entry = Entry { run, progress: broadcast::Sender::new(16) };
        self.state.lock().unwrap().runs.insert(id.clone(), entry);
        self.changes.send_modify(|changes| *changes += 1);
        self.begin(&id, &workflow, &request.input);
        Ok(Started { id, existing: false })
    }

    async fn view(&self, id: &RunId) -> Result<Run, EngineError> {
        let mut state = self.state.lock().unwrap();
        let run = state.runs.get(id).map(|entry| entry.run.clone()).ok_or_else(|| EngineError::NotFound(id.clone()))?;
        state.durable.insert(id.clone());
        Ok(run)
    }

    async fn wait(&self, id: &RunId, until: Until, max: Duration, inline: bool) -> Result<Run, EngineError> {
        let after = match until {
            Until::Changed(after) | Until::Asked(after) => after,
            Until::Ended => u64::MAX,
        };
        let mut changes = self.changes.subscribe();
        let deadline = tokio::time::Instant::now() + max;
        loop {
            let run = {
                let mut state = self.state.lock().unwrap();
                let entry = state.runs.get(id).ok_or_else(|| EngineError::NotFound(id.clone()))?;
                let run = entry.run.clone();
                if !inline {
                    state.durable.insert(id.clone());
                }
                run
            };
            if run.revision > after || run.view.status.is_terminal() {
                return Ok(run);
            }
            if tokio::time::timeout_at(deadline, changes.changed()).await.is_err() {
                return Ok(run);
            }
        }
    }

    async fn progress(&self, id: &RunId) -> Result<broadcast::Receiver<Progress>, EngineError> {
        Ok(self.state.lock().unwrap().runs[id].progress.subscribe())
    }

    async fn input(&self, id: &RunId, key: &str, answer: Answer) -> Result<bool, EngineError> {
        let question = {
            let state = self.state.lock().unwrap();
            state.runs[id].run.view.questions.iter().find(|question| question.key == key).cloned()
        };
        let Some(question) = question else { return Ok(false) };
        let output = Self::check(&question, &answer)?;
        self.finish(id, output);
        Ok(true)
    }

    async fn cancel(&self, id: &RunId, reason: &str) -> Result<(), EngineError> {
        let live = {
            let mut state = self.state.lock().unwrap();
            state.cancelled.push((id.clone(), reason.to_owned()));
            !state.runs[id].run.view.status.is_terminal()
        };
        if live {
            self.end(id, RunStatus::Cancelled, Outcome::Cancelled { reason: reason.to_owned() });
        }
        Ok(())
    }

    async fn list(&self, _: Filter, _: Option<String>, _: usize) -> Result<Page, EngineError> {
        Ok(Page { runs: vec![], next: None })
    }

    fn news(&self) -> broadcast::Receiver<Owner> {
        self.news.subscribe()
    }

    async fn history(&self, _: &RunId) -> Result<Vec<Event>, EngineError> {
        Ok(vec![])
    }

    async fn plan(&self, id: &RunId) -> Result<Arc<Plan>, EngineError> {
        Ok(Self::plan(&self.view(id).await?.workflow))
    }

    async fn value(&self, value: &ValueRef) -> Result<Arc<Value>, EngineError> {
        match value {
            ValueRef::Inline(value) => Ok(value.clone()),
            ValueRef::Blob { .. } => Err(EngineError::Storage("no blobs here".to_owned())),
        }
    }

    async fn pause(&self, _: Duration) {}
}

fn record(output: Value) -> ValueRef {
    ValueRef::inline(serde_json::to_value(Record::of(output)).unwrap())
}

fn yes_or_no(message: &str) -> Asking {
    Asking::Form { message: message.to_owned(), schema: json!({ "type": "object", "properties": {} }) }
}
