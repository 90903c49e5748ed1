//! What the kernel remembers of a run.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;
use rustc_hash::FxBuildHasher;
use serde::{Deserialize, Serialize};

use crate::event::{Answer, Hop, OpId, Price, Terms};
use crate::{
    Callee, Command, EffectClass, Outcome, Question, Slot, StepError, StepFacts, StepStatus, StepView, Usage, Used,
    ValueRef,
};

/// Everything the kernel knows of a run. Serialises, so that a long history can be cut.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub(super) started: bool,
    /// `run.key`.
    pub(super) key: String,
    /// The time of the latest event.
    pub(super) now: u64,
    /// By path: the root is the empty one.
    pub(super) scopes: BTreeMap<String, Scope>,
    /// Answers owed by the driver.
    pub(super) ops: BTreeMap<OpId, Op>,
    /// Open questions, by key.
    pub(super) questions: BTreeMap<String, Open>,
    /// Undo calls, in the order in which what they undo succeeded.
    pub(super) armed: Vec<Armed>,
    pub(super) used: Used,
    /// What is set aside for samples under way.
    pub(super) reserved: Reserved,
    /// Samples that wait until others need less than was set aside for them, in the order in which they came.
    pub(super) parked: Vec<Parked>,
    /// Samplings under way, by op.
    pub(super) samplings: BTreeMap<OpId, Sampling>,
    /// What servers ask for before a person has agreed that they do.
    pub(super) held: Vec<Wanted>,
    /// What each server has asked for so far, by its key.
    pub(super) edges: BTreeMap<String, Edge>,
    /// Limits that were passed, by their names.
    pub(super) overrun: BTreeMap<String, String>,
    /// The workflows that led to the run.
    pub(super) route: Vec<Hop>,
    /// Whoever called can't be asked to sample.
    #[serde(default)]
    pub(super) no_caller: bool,
    /// Calls in flight that count as work.
    pub(super) calling: u32,
    /// Since when `calling` is above zero.
    pub(super) working_since: Option<u64>,
    /// Why the run is being cancelled.
    pub(super) cancel: Option<String>,
    pub(super) may_have_happened: Vec<String>,
    pub(super) not_undone: Vec<String>,
    /// Steps of scopes that are closed, for the view; the last round of each only.
    pub(super) trail: BTreeMap<String, StepView>,
    pub(super) outcome: Option<Outcome>,
}

impl State {
    /// The keys of the open questions.
    pub fn questions(&self) -> impl Iterator<Item = &str> {
        self.questions.keys().map(String::as_str)
    }
}

/// Where in the run something is: a step of a scope, and which of its iterations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Spot {
    pub scope: String,
    pub step: String,
    pub index: Option<u32>,
}

/// Work in the driver's hands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Op {
    pub spot: Spot,
    pub purpose: Purpose,
    /// What to ask for again after a crash.
    pub command: Option<Command>,
}

/// What an op is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Purpose {
    When,
    Items,
    Args,
    Prepare,
    Call {
        class: EffectClass,
        attached: bool,
    },
    /// A server's request for a model.
    Sampling,
    Until,
    Expect,
    Fallback,
    Collect,
    Output,
    Timeout,
    Within,
    Every,
    Backoff,
    /// Make a call again that asked for it (MRTR without questions, a lost poll).
    Again,
    Wait,
    Grace,
}

/// The steps of one graph, under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Scope {
    pub graph: GraphRef,
    pub parent: Parent,
    /// What its steps see besides each other: of a block also what is around it.
    pub vars: BTreeMap<String, Slot>,
    /// Steps that are not in the state any more but may be mentioned (undo).
    pub facts: BTreeMap<String, StepFacts>,
    /// In the order of the graph, so that a step has the same place in both.
    pub steps: IndexMap<String, StepState, FxBuildHasher>,
    /// The first failure that was not forgiven.
    pub failing: Option<Failure>,
    /// Being cancelled: nothing starts, nothing is tried again.
    pub stopping: bool,
    /// All steps have ended.
    pub closing: bool,
    /// Nesting of workflows; the root is 1.
    pub depth: u32,
}

/// A graph of the plan: a workflow, then ids of blocks; [`GraphRef::UNDO`] stands for the undo graph of the step before it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct GraphRef {
    pub workflow: String,
    pub at: Vec<String>,
}

impl GraphRef {
    pub const UNDO: &str = "!undo";
}

/// Who waits for a scope's end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Parent {
    Run,
    Step(Spot),
    /// The call that has called it, while in flight.
    Call {
        spot: Spot,
        /// Where the result goes, if anybody waits for it.
        why: Option<Why>,
    },
    /// The scope that is being undone.
    Undo(String),
}

/// A failure and the path of the step where it began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Failure {
    pub path: Option<String>,
    pub error: StepError,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum StepState {
    Waiting,
    Active(Active),
    Ended(Ended),
}

/// A step that has started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Active {
    pub started_at: u64,
    /// The list of a `for_each`.
    pub items: Option<Items>,
    /// Those under way; without `for_each` there is one, number 0.
    pub iterations: BTreeMap<u32, Iteration>,
    /// Those that have ended, of a `for_each`.
    pub done: BTreeMap<u32, IterationEnd>,
    /// More have failed than are tolerated.
    pub giving_up: Option<Failure>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Items {
    pub list: ValueRef,
    pub len: u32,
    pub next: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum IterationEnd {
    Succeeded(ValueRef),
    Failed(Failure),
    /// Skipped (with a reason and, of a question, its action) or cancelled.
    Without {
        status: StepStatus,
        note: Option<String>,
        action: Option<String>,
    },
}

/// One execution of a step's verb, with its rounds and attempts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Iteration {
    pub round: u32,
    /// From 1 in each round.
    pub attempt: u32,
    /// Number of the idempotency key: a definitive error starts a new one.
    pub key: u32,
    pub phase: Phase,
    /// The evaluated arguments, kept over the attempts of a round.
    pub args: Option<ValueRef>,
    pub callee: Option<Callee>,
    pub class: Option<EffectClass>,
    /// The last round's record.
    pub previous: Option<ValueRef>,
    /// This round's record, while it is judged.
    pub record: Option<ValueRef>,
    /// The time of `repeat.within` is over.
    pub overdue: bool,
    /// What is set aside for the attempt.
    pub reserved: Reserved,
    /// What the models charge that may answer.
    pub price: Option<Price>,
    /// What its model may call, where servers were asked for that.
    #[serde(default)]
    pub tools: Option<ValueRef>,
    /// No model of ours has answered: whoever called is to.
    #[serde(default)]
    pub passed_on: bool,
    /// The server's task that the call became.
    pub handle: Option<serde_json::Value>,
    /// What the call has asked for.
    pub asked: Asked,
    /// How the call ended, while what it has called is being stopped.
    #[serde(default)]
    pub landed: Option<Landed>,
    pub started_at: u64,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Landed {
    Done { record: ValueRef, usage: Usage },
    Failed { error: StepError, in_doubt: bool },
}

/// Questions of a call and their answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Asked {
    /// Rounds of MRTR so far.
    pub rounds: u32,
    /// The server's `requestState`.
    pub state: Option<ValueRef>,
    /// Open or answered, by the server's names.
    pub answers: BTreeMap<String, Option<Answer>>,
    /// Which of them models give.
    pub sampled: BTreeSet<String>,
    /// Ops of all its samplings so far: none is used twice, though it may ask something else under the same name.
    pub ops: BTreeSet<OpId>,
    /// Its server had forgotten what it asked.
    pub begun_anew: bool,
    /// What it asked models, in order: kept while the call is repeated, since answers are paid once.
    pub samples: Vec<Sample>,
    /// What it called, likewise: what was done is not done again.
    #[serde(default)]
    pub calls: Vec<Called>,
}

impl Asked {
    /// A name for an op that none of its ops has had.
    pub fn op(&mut self, wanted: &str) -> OpId {
        let mut op = wanted.to_owned();
        let mut others = 0;
        while !self.ops.insert(op.clone()) {
            others += 1;
            op = format!("{wanted}+{others}");
        }
        op
    }

    /// What is still good when the same call is made again: what was answered, and what it called.
    pub fn of_repetition(mut self) -> Self {
        self.answers.retain(|_, answer| answer.is_some());
        self.samples.retain(|sample| sample.answer.is_some());
        self.samples.iter_mut().for_each(|sample| sample.claimed = false);
        self.calls.iter_mut().for_each(|called| called.claimed = false);
        self
    }
}

/// What a call asked a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Sample {
    pub key: String,
    pub request: serde_json::Value,
    pub answer: Option<Answer>,
    /// The present attempt has asked it.
    pub claimed: bool,
}

/// What a call called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Called {
    /// Of its frame.
    pub path: String,
    pub request: serde_json::Value,
    /// What it left.
    pub record: Option<ValueRef>,
    /// The present attempt has called it.
    pub claimed: bool,
}

/// What a server asks for in the middle of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Wanted {
    /// The key of the question, or the op of the sampling.
    pub key: String,
    /// The path of the step, and what it is asked by.
    pub path: String,
    /// The call.
    pub spot: Spot,
    pub server: String,
    /// `method` and `params`.
    pub request: serde_json::Value,
    pub terms: Terms,
    /// Where the answer goes.
    pub why: Why,
}

/// A server's request for a model, under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Sampling {
    pub wanted: Wanted,
    pub reserved: Reserved,
    /// How many tokens the answer may have.
    pub max_tokens: u64,
    pub started_at: u64,
    /// What it needs answered itself: by the caller's model.
    pub asked: Asked,
}

/// A sample that waits for others to settle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Parked {
    Step(Spot),
    Sampling(Box<Wanted>),
}

/// What a sample may take at the most, about: nobody else may count on it while it is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Reserved {
    pub tokens: u64,
    pub cost_usd: f64,
    /// The dearest model would cost more: who is asked has to fit.
    #[serde(default)]
    pub capped: bool,
}

/// What a server has asked for in this run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Edge {
    /// Whether a person has agreed that it asks models.
    pub may_sample: Option<bool>,
    /// Whether a person has agreed that it asks people.
    pub may_elicit: Option<bool>,
    pub calls: u64,
    pub tokens: u64,
    pub reserved_tokens: u64,
    #[serde(default)]
    pub cost_usd: f64,
    #[serde(default)]
    pub reserved_cost_usd: f64,
    /// How long models have worked for it, in milliseconds.
    #[serde(default)]
    pub working_ms: u64,
    /// Since when one does.
    #[serde(default)]
    pub working_since: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Phase {
    /// Evaluating, preparing, judging.
    #[default]
    Busy,
    /// Its server is asked what a repetition would do.
    Preparing,
    Calling,
    Polling,
    Asking,
    Doubting,
    /// Backing off, pausing between rounds, or a `wait`.
    Waiting,
    /// A block or a nested workflow is under way.
    Inside,
}

/// A step that has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Ended {
    pub status: StepStatus,
    pub error: Option<StepError>,
    /// Why it was skipped.
    pub note: Option<String>,
    /// What was done with its question.
    pub action: Option<String>,
    pub record: Option<ValueRef>,
    pub started_at: Option<u64>,
    pub ended_at: u64,
}

/// An open question and who waits for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Open {
    pub question: Question,
    pub spot: Spot,
    pub why: Why,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Why {
    /// It is what the step does.
    Step,
    /// The outcome of its call is unknown.
    Doubt { error: StepError },
    /// Its call returned this question under this name.
    Needed { name: String },
    /// Its call waits for the answer, under this name.
    Pushed { op: OpId, name: String },
    /// A sampling needs it, under this name.
    Sampling { op: OpId, name: String },
    /// A person agrees, or not, that a server asks models, or else people.
    Consent { server: String, sampling: bool },
}

/// An undo call, ready.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Armed {
    /// The path of the iteration whose effect it takes back.
    pub path: String,
    /// The scope of that iteration.
    pub scope: String,
    pub graph: GraphRef,
    /// What its templates see.
    pub vars: BTreeMap<String, Slot>,
    pub facts: BTreeMap<String, StepFacts>,
}
