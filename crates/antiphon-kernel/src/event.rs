//! What the world tells the kernel. Events are what the journal holds: replaying them gives the state.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::plan::{EffectClass, ErrorKind};
use crate::value::ValueRef;

/// Names one outstanding piece of work: the path of its step, a mark for its purpose, and where it can recur a number.
///
/// It depends on the path, round, index and attempt alone, never on the order of events.
pub type OpId = String;

/// Something that happened, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Milliseconds since the Unix epoch, by the driver's clock. The kernel has none of its own.
    pub at: u64,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// The kinds of event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventKind {
    /// The run begins: always the first event.
    Started {
        /// What `run.key` yields: unique to the run, and not its id.
        key: String,
        /// The input, valid against the schema, defaults filled in.
        input: ValueRef,
        /// The workflows that led to this run, outermost first, when another one called it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        route: Vec<Hop>,
        /// Whoever called can be asked to sample. If not, `caller` is left out.
        #[serde(default = "yes", skip_serializing_if = "is_yes")]
        caller_samples: bool,
    },
    /// An `Eval` command's answer: one result for each job.
    Evaluated {
        /// Which.
        op: OpId,
        /// Results in the order of the jobs; they end with the first that is not a value.
        results: Vec<Evaluated>,
    },
    /// A `Prepare` command's answer. Durable before the call is dispatched.
    Prepared {
        /// Which.
        op: OpId,
        /// What a repetition would do; counts even if the tool's annotations change later.
        class: EffectClass,
        /// Hash of the tool's definition, for the record.
        fingerprint: Option<String>,
        /// Of a sample: the most that the models which may answer it charge.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        price: Option<Price>,
        /// Likewise: what its model may call, where servers were asked for that.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tools: Option<ValueRef>,
    },
    /// A call succeeded.
    Done {
        /// Which.
        op: OpId,
        /// A [`crate::Record`].
        record: ValueRef,
        /// What it used, of a sample.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        usage: Option<Usage>,
    },
    /// A call, or its preparation, failed.
    Failed {
        /// Which.
        op: OpId,
        /// How.
        kind: ErrorKind,
        /// For people.
        message: String,
        /// The request may have reached the other side and its outcome is not known. `false` for a definitive error, also
        /// one that the tool itself reported.
        in_doubt: bool,
        /// What it used all the same, of a sample, where that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        usage: Option<Usage>,
    },
    /// A call in flight asks something, and waits for the answer: through a pushed request, or, of a process that was let back in,
    /// by asking a model (`sampling/createMessage`) or calling a tool (`tools/call`) itself.
    Asked {
        /// Which call.
        op: OpId,
        /// Unique among the requests of this op.
        name: String,
        /// The request: `method` and `params`.
        request: Value,
        /// What its server may ask for.
        #[serde(default)]
        terms: Terms,
    },
    /// A call returned `input_required`: it must be made again, with answers.
    NeedsInput {
        /// Which call.
        op: OpId,
        /// Its requests by its own keys: `method` and `params`. Empty: call again later.
        requests: BTreeMap<String, Value>,
        /// What to give back with the answers.
        state: Option<ValueRef>,
        /// What its server may ask for.
        #[serde(default)]
        terms: Terms,
    },
    /// A call became a task of the server's. From now on it is polled, never called again.
    Detached {
        /// Which call.
        op: OpId,
        /// What the client needs to find the task again.
        handle: Value,
    },
    /// A question was answered.
    Input {
        /// The question's key.
        key: String,
        /// The answer.
        answer: Answer,
    },
    /// A timer is due.
    Timer {
        /// Which.
        op: OpId,
    },
    /// Somebody wants the run to end.
    Cancel {
        /// For people.
        reason: String,
    },
    /// A driver took the run over after a crash or restart: calls in flight have lost their outcome.
    Resumed,
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_yes(flag: &bool) -> bool {
    *flag
}

/// One result of an `Eval`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evaluated {
    /// A value.
    Value(ValueRef),
    /// A list, kept whole, with its length.
    List {
        /// The list.
        list: ValueRef,
        /// How many items.
        len: usize,
    },
    /// Nothing, because this step did not succeed.
    Absent {
        /// That step's id.
        step: String,
    },
    /// It failed.
    Error {
        /// `template`, `invalid_output` or `expect`.
        kind: ErrorKind,
        /// For people.
        message: String,
    },
}

/// What one call used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Prompt and answer, in tokens.
    pub tokens: u64,
    /// In US dollars.
    pub cost_usd: f64,
    /// How long it waited for its turn at a model, in milliseconds; 0 in journals that don't say.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub waited_ms: u64,
}

pub(crate) fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What a server may ask for in the middle of its calls, as it stood when it asked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    /// It asks people, once a person has agreed that it does (once a run).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub elicitation_asks: bool,
    /// It asks models on these terms; `None`: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling: Option<SamplingTerms>,
}

/// On which terms a server asks models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SamplingTerms {
    /// A person has to agree first, once a run.
    pub asks: bool,
    /// Who may answer, in order: for the person who is asked.
    pub models: Vec<String>,
    /// The most tokens that one answer may have.
    pub max_tokens: u64,
    /// Tokens of all its samples in one run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Samples in one run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<u64>,
    /// Samples in one call.
    pub rounds: u32,
    /// US dollars that all its samples may cost in one run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    /// Milliseconds that models may work for it in one run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// The most that the models charge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
}

/// What a model charges, in US dollars per million tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Price {
    /// Of prompts.
    pub input: f64,
    /// Of answers.
    pub output: f64,
}

/// A workflow on the way to a call, of this database or of another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hop {
    /// Its name.
    pub workflow: String,
    /// Which database vouches for it; empty: it is part of this run.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// By which that database knows that it did.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub seal: String,
}

/// An answer to a question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// As in MCP's `ElicitResult`.
    pub action: Action,
    /// The fields of a form; of `doubt`, `{"choice": "retry" | "skip" | "result", "result": …}`; of a sample, the
    /// `CreateMessageResult`, or, where it was refused, a [`crate::StepError`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Value>,
}

/// What was done with a question (`.action`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Answered.
    Accept,
    /// Refused.
    Decline,
    /// Dismissed.
    Cancel,
}

impl Action {
    /// As MCP spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Decline => "decline",
            Self::Cancel => "cancel",
        }
    }
}
