//! The scripted world of the table: it answers calls in order, and its clock jumps.

use std::collections::BTreeMap;

use antiphon_kernel::{
    Action, Answer, Command, EffectClass, Entry, ErrorKind, Event, EventKind, Outcome, RunView, SamplingTerms, State,
    Terms, Usage, ValueRef, What, expr, step, view,
};
use antiphon_tests::plan;
use serde_json::{Value, json};

use crate::Case;

/// A world without surprises: calls are answered in order, then the earliest timer fires.
pub struct World {
    plan: antiphon_kernel::Plan,
    state: State,
    now: u64,
    calls: Vec<(String, antiphon_kernel::CallSpec, Entry)>,
    timers: BTreeMap<(u64, String), ()>,
    answers: BTreeMap<String, Value>,
    log: Vec<String>,
    failed_once: Vec<String>,
    order: Vec<String>,
}

impl World {
    pub fn new(case: &Case) -> Self {
        let model = |name| format!("[models.{name}]\nbase_url = \"http://127.0.0.1:9/v1\"\nmodel = \"m\"\n");
        let file = format!("[servers.t]\ncommand = \"tools\"\n{}{}{}", model("m"), model("down"), case.file);
        Self {
            plan: plan(&file),
            state: State::default(),
            now: 1_000_000,
            calls: Vec::new(),
            timers: BTreeMap::new(),
            answers: case
                .answers
                .iter()
                .map(|(key, value)| ((*key).to_owned(), serde_json::from_str(value).unwrap()))
                .collect(),
            log: Vec::new(),
            failed_once: Vec::new(),
            order: case.steps.split_whitespace().map(|step| step.split('=').next().unwrap().to_owned()).collect(),
        }
    }

    pub fn start(&mut self) {
        self.feed(EventKind::Started {
            key: "key".to_owned(),
            input: ValueRef::inline(json!({})),
            route: Vec::new(),
            caller_samples: true,
        });
        self.go_on();
    }

    pub fn feed(&mut self, kind: EventKind) {
        let commands = step(&self.plan, &mut self.state, &Event { at: self.now, kind });
        for command in commands {
            match command {
                Command::Eval { op, jobs, scope } => {
                    let mut results = Vec::new();
                    for job in &jobs {
                        let result = expr::run(job, &scope, &NoBlobs);
                        let stop = !matches!(
                            result,
                            antiphon_kernel::Evaluated::Value(_) | antiphon_kernel::Evaluated::List { .. }
                        );
                        results.push(result);
                        if stop {
                            break;
                        }
                    }
                    self.feed(EventKind::Evaluated { op, results });
                }
                Command::Prepare { op, call } => {
                    let class = call.declared.unwrap_or(EffectClass::AtMostOnce);
                    self.feed(EventKind::Prepared { op, class, fingerprint: None, price: None, tools: None });
                }
                Command::Call { op, call, entry, .. } => self.calls.push((op, call, entry)),
                Command::Timer { op, due } => {
                    self.timers.insert((due, op), ());
                }
                Command::CancelTimer { op } => self.timers.retain(|(_, id), ()| *id != op),
                Command::Ask(question) => {
                    if let Some(value) = self.answers.get(&question.key).cloned() {
                        let answer = match &value {
                            Value::Null => Answer { action: Action::Decline, content: None },
                            Value::String(_) => Answer { action: Action::Cancel, content: None },
                            _ => Answer { action: Action::Accept, content: Some(value) },
                        };
                        self.feed(EventKind::Input { key: question.key, answer });
                    }
                }
                _ => {}
            }
        }
    }

    /// Until nothing is owed but what hangs.
    pub fn go_on(&mut self) {
        loop {
            let ready = self.calls.iter().position(|(op, call, _)| !self.log.contains(op) || !hangs(call));
            if let Some(position) = ready {
                let (op, call, entry) = self.calls[position].clone();
                let What::Tool { tool, .. } = &call.what else {
                    self.calls.remove(position);
                    self.sample(op, &call.what);
                    continue;
                };
                if let Entry::Answers { answers, .. } = entry {
                    // What it asked for is all that it wants.
                    self.calls.remove(position);
                    let said = answers.values().filter_map(|answer| answer.content.as_ref());
                    let said: Vec<&str> = said.filter_map(|said| said["content"]["text"].as_str()).collect();
                    let record = ValueRef::inline(json!({ "output": said.join(" ") }));
                    self.feed(EventKind::Done { op, record, usage: None });
                    continue;
                }
                let args = call.args.as_inline().expect("small").clone();
                self.log.push(op.clone());
                self.log.push(format!("={tool}({})", args.get("v").map(Value::to_string).unwrap_or_default()));
                if hangs(&call) {
                    continue;
                }
                self.calls.remove(position);
                let failed = |kind, in_doubt| EventKind::Failed {
                    op: op.clone(),
                    kind,
                    message: "scripted".to_owned(),
                    in_doubt,
                    usage: None,
                };
                let event = match tool.as_str() {
                    "think" | "polite" | "sneak" | "poor" => self.asks_a_model(&op, tool),
                    "fail" => failed(ErrorKind::Tool, false),
                    "lost" => failed(ErrorKind::Unavailable, true),
                    "flaky" if !self.failed_once.contains(&call.path) => {
                        self.failed_once.push(call.path.clone());
                        failed(ErrorKind::Tool, false)
                    }
                    _ => {
                        let record = ValueRef::inline(json!({ "output": args }));
                        EventKind::Done { op: op.clone(), record, usage: None }
                    }
                };
                self.feed(event);
            } else if let Some(((due, op), ())) = self.timers.pop_first() {
                self.now = self.now.max(due);
                self.feed(EventKind::Timer { op });
            } else {
                return;
            }
        }
    }

    /// A tool that asks a model before it answers, on terms of its server's.
    fn asks_a_model(&self, op: &str, tool: &str) -> EventKind {
        let terms = SamplingTerms {
            asks: tool == "polite",
            models: vec!["m".to_owned()],
            max_tokens: 50,
            tokens: (tool == "poor").then_some(100),
            calls: None,
            rounds: 1,
            cost_usd: None,
            duration_ms: None,
            price: None,
        };
        let message = json!({ "role": "user", "content": { "type": "text", "text": format!("from {op}") } });
        let params = json!({ "messages": [message], "maxTokens": 50 });
        EventKind::NeedsInput {
            op: op.to_owned(),
            requests: [("q".to_owned(), json!({ "method": "sampling/createMessage", "params": params }))].into(),
            state: None,
            terms: Terms { elicitation_asks: false, sampling: (tool != "sneak").then_some(terms) },
        }
    }

    /// The model `down` is not there; all others answer, and say that they used forty tokens.
    fn sample(&mut self, op: String, what: &What) {
        let asked = match what {
            What::Sample { models } => models.join(" "),
            What::Sampling { server, .. } => server.clone(),
            What::Tool { .. } | What::Read { .. } => panic!("neither asks a model"),
        };
        let who = asked.rsplit('/').next().unwrap();
        self.log.push(format!("=sample({who})"));
        if who == "down" {
            let message = "scripted".to_owned();
            return self.feed(EventKind::Failed { op, kind: ErrorKind::Model, message, in_doubt: false, usage: None });
        }
        let output = match what {
            What::Sampling { .. } => json!({ "role": "assistant", "content": { "type": "text", "text": "teal" } }),
            _ => json!("teal"),
        };
        let usage = Some(Usage { tokens: 40, ..Usage::default() });
        self.feed(EventKind::Done { op, record: ValueRef::inline(json!({ "output": output })), usage });
    }

    pub fn view(&self) -> RunView {
        view(&self.plan, &self.state)
    }

    pub fn tells(&self) -> String {
        let view = self.view();
        let ends = match &view.outcome {
            Some(Outcome::Succeeded { record }) => format!("ok {}", record.as_inline().expect("small")["output"]),
            Some(Outcome::Failed { path, error }) => {
                format!("failed {} at {}", error.kind.as_str(), path.as_deref().unwrap_or("the run"))
            }
            Some(Outcome::Cancelled { .. }) => "cancelled".to_owned(),
            None => {
                let keys: Vec<&str> = view.questions.iter().map(|question| question.key.as_str()).collect();
                format!("open {}", keys.join(" "))
            }
        };
        let mut steps: Vec<(usize, String)> = view
            .steps
            .iter()
            .filter(|step| !step.path.contains(['/', ':', '?']))
            .map(|step| {
                let status = serde_json::to_value(step.status).unwrap();
                let place = self.order.iter().position(|id| *id == step.path).unwrap_or(usize::MAX);
                (place, format!("{}={}", step.path, status.as_str().unwrap()))
            })
            .collect();
        steps.sort();
        let steps: Vec<String> = steps.into_iter().map(|(_, step)| step).collect();
        let calls: Vec<&str> = self.log.iter().filter_map(|line| line.strip_prefix('=')).collect();
        format!("{ends}\n  {}\n  {}", steps.join(" "), calls.join(" "))
    }
}

fn hangs(call: &antiphon_kernel::CallSpec) -> bool {
    matches!(&call.what, What::Tool { tool, .. } if tool == "hang")
}

struct NoBlobs;

impl expr::Values for NoBlobs {
    fn get(&self, _: &str) -> Option<std::sync::Arc<Value>> {
        None
    }
}
