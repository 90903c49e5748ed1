//! The real kernel on real files, with a scripted model and scripted tools, event by event.

use std::collections::VecDeque;

use antiphon_kernel::{
    CallSpec, Command, EffectClass, ErrorKind, Event, EventKind, Outcome, Plan, Question, RunView, State, ValueRef,
    What, expr, step, view,
};
use serde_json::{Value, json};

/// What a model or a tool does when it is asked.
pub enum Does {
    /// A model answers with a text.
    Says(&'static str),
    /// A model answers with a value.
    Gives(Value),
    /// A model calls these: names and arguments.
    Calls(Vec<(&'static str, Value)>),
    /// A tool yields this.
    Yields(Value),
    /// A tool reports an error.
    Fails(&'static str),
    /// The answer is lost.
    Loses,
}

/// A run under way.
pub struct Play {
    plan: Plan,
    state: State,
    /// Calls in flight: op and call, in the order in which they were dispatched.
    pub flying: VecDeque<(String, CallSpec)>,
    pub questions: Vec<Question>,
    /// How often each op was dispatched.
    pub dispatched: Vec<String>,
}

impl Play {
    /// Starts the workflow of a file.
    pub fn of(file: &str, input: Value) -> Self {
        let mut play = Self {
            plan: antiphon_tests::plan(file),
            state: State::default(),
            flying: VecDeque::new(),
            questions: Vec::new(),
            dispatched: Vec::new(),
        };
        let mut started = json!({ "event": "started", "key": "k" });
        started["input"] = json!(ValueRef::inline(input));
        play.feed(serde_json::from_value(started).unwrap());
        play
    }

    pub fn feed(&mut self, kind: EventKind) {
        for command in step(&self.plan, &mut self.state, &Event { at: 1, kind }) {
            match command {
                Command::Eval { op, jobs, scope } => {
                    let results = jobs.iter().map(|job| expr::run(job, &scope, &NoBlobs)).collect();
                    self.feed(EventKind::Evaluated { op, results });
                }
                Command::Prepare { op, .. } => {
                    let mut prepared = json!({ "event": "prepared", "op": op });
                    prepared["class"] = json!(EffectClass::AtMostOnce);
                    self.feed(serde_json::from_value(prepared).unwrap());
                }
                Command::Call { op, call, .. } => {
                    self.dispatched.push(op.clone());
                    self.flying.push_back((op, call));
                }
                Command::Ask(question) => self.questions.push(question),
                _ => {}
            }
        }
    }

    /// What flies, by path.
    pub fn in_flight(&self) -> Vec<&str> {
        self.flying.iter().map(|(_, call)| call.path.as_str()).collect()
    }

    /// The request of the sample that is in flight alone.
    pub fn asked(&self) -> &Value {
        let (_, call) = self.flying.front().expect("a call in flight");
        assert!(matches!(call.what, What::Sample { .. }), "{call:?}");
        call.args.as_inline().expect("small")
    }

    /// The first call in flight with this path ends.
    pub fn end(&mut self, path: &str, does: Does) {
        let at = self.flying.iter().position(|(_, call)| call.path == path);
        let (op, _) = at.and_then(|at| self.flying.remove(at)).unwrap_or_else(|| panic!("{path} is not in flight"));
        let event = match does {
            Does::Says(text) => done(&op, json!({ "output": text })),
            Does::Gives(value) => done(&op, json!({ "output": value, "text": value.to_string() })),
            Does::Calls(calls) => {
                let calls: Vec<Value> = calls
                    .into_iter()
                    .enumerate()
                    .map(|(at, (name, arguments))| json!({ "id": format!("c{at}"), "name": name, "arguments": arguments }))
                    .collect();
                done(&op, json!({ "output": null, "text": "", "calls": calls }))
            }
            Does::Yields(value) => done(&op, json!({ "output": value })),
            Does::Fails(message) => failed(&op, ErrorKind::Tool, message, false),
            Does::Loses => failed(&op, ErrorKind::Unavailable, "the connection was lost", true),
        };
        self.feed(event);
    }

    /// The only call in flight ends.
    pub fn next(&mut self, does: Does) {
        let paths = self.in_flight();
        let [path] = paths[..] else { panic!("not one call in flight: {paths:?}") };
        let path = path.to_owned();
        self.end(&path, does);
    }

    pub fn view(&self) -> RunView {
        view(&self.plan, &self.state)
    }

    /// The output of the run, which has succeeded.
    pub fn output(&self) -> Value {
        match self.view().outcome {
            Some(Outcome::Succeeded { record }) => record.as_inline().expect("small")["output"].clone(),
            other => panic!("{other:?}; in flight: {:?}", self.in_flight()),
        }
    }

    /// Kind and message of the error with which the run has failed.
    pub fn error(&self) -> (ErrorKind, String) {
        match self.view().outcome {
            Some(Outcome::Failed { error, .. }) => (error.kind, error.message),
            other => panic!("{other:?}; in flight: {:?}", self.in_flight()),
        }
    }
}

fn done(op: &str, record: Value) -> EventKind {
    EventKind::Done { op: op.to_owned(), record: ValueRef::inline(record), usage: None }
}

fn failed(op: &str, kind: ErrorKind, message: &str, in_doubt: bool) -> EventKind {
    let event = json!({ "event": "failed", "op": op, "kind": kind, "message": message, "in_doubt": in_doubt });
    serde_json::from_value(event).unwrap()
}

struct NoBlobs;

impl expr::Values for NoBlobs {
    fn get(&self, _: &str) -> Option<std::sync::Arc<Value>> {
        None
    }
}
