//! A scope to evaluate in.

use std::sync::Arc;

use antiphon_kernel::expr::{Values, run};
use antiphon_kernel::{
    ErrorKind, Evaluated, Job, Scope, Slot, Source, StepError, StepFacts, StepStatus, ValueRef, Want,
};
use serde_json::{Value, json};

/// There are no blobs.
pub struct NoBlobs;

impl Values for NoBlobs {
    fn get(&self, _: &str) -> Option<Arc<Value>> {
        None
    }
}

/// There is one.
pub struct OneBlob(pub &'static str, pub Value);

impl Values for OneBlob {
    fn get(&self, sha256: &str) -> Option<Arc<Value>> {
        (sha256 == self.0).then(|| Arc::new(self.1.clone()))
    }
}

pub fn blob(name: &str) -> ValueRef {
    ValueRef::Blob { sha256: name.into(), bytes: 1 }
}

fn succeeded(record: Value) -> StepFacts {
    StepFacts { status: StepStatus::Succeeded, error: None, action: None, record: Some(ValueRef::inline(record)) }
}

/// `a`, `t` and `m` succeeded, `bad` failed, `skip` was declined.
pub fn scope() -> Scope {
    let input = json!({
        "ref": "main", "ratio": 1.0, "big": u64::MAX, "nothing": null, "yes": true, "one": 1, "key": "name",
        "list": [1, 2, 3], "tags": ["t"], "empty": {},
    });
    let a = json!({
        "output": { "name": "z", "size": 3, "tags": ["x", "y"], "deep": { "b": { "c": 1 } } },
        "blocks": [{ "type": "text", "text": "first" }, { "type": "image", "data": "" }, { "type": "text", "text": "second" }],
    });
    let error = StepError { kind: ErrorKind::Timeout, message: "too late".to_owned() };
    let bad = StepFacts { status: StepStatus::Failed, error: Some(error), action: None, record: None };
    let skip = StepFacts { status: StepStatus::Skipped, error: None, action: Some("decline".to_owned()), record: None };
    let m = json!({ "output": 1, "text": "said", "model": "smart", "usage": { "tokens": 7 } });
    Scope {
        vars: [
            ("input".to_owned(), Slot::Value(ValueRef::inline(input))),
            ("run".to_owned(), Slot::Value(ValueRef::inline(json!({ "key": "k-1" })))),
        ]
        .into(),
        steps: [
            ("a".to_owned(), succeeded(a)),
            ("t".to_owned(), succeeded(json!({ "output": "its output" }))),
            ("m".to_owned(), succeeded(m)),
            ("bad".to_owned(), bad),
            ("skip".to_owned(), skip),
        ]
        .into(),
    }
}

/// The value, or `absent STEP`, or `KIND: MESSAGE`.
pub fn outcome(evaluated: Evaluated) -> Result<Value, String> {
    match evaluated {
        Evaluated::Value(value) | Evaluated::List { list: value, .. } => {
            Ok(value.as_inline().cloned().unwrap_or_default())
        }
        Evaluated::Absent { step } => Err(format!("absent {step}")),
        Evaluated::Error { kind, message } => Err(format!("{kind:?}: {message}")),
    }
}

pub fn eval(source: Source) -> Result<Value, String> {
    outcome(run(&Job::Eval { source, want: Want::Value }, &scope(), &NoBlobs))
}

pub fn expression(source: &str) -> Result<Value, String> {
    eval(Source::Expression(source.to_owned()))
}

pub fn template(source: &str) -> Result<Value, String> {
    eval(Source::Template(source.to_owned()))
}
