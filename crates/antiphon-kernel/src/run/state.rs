//! What the kernel remembers of a run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::event::{Answer, OpId};
use crate::{
    Callee, Command, EffectClass, Outcome, Question, Slot, StepError, StepFacts, StepStatus, StepView, Used, ValueRef,
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
    /// Tokens promised to samples in flight.
    pub(super) reserved_tokens: u64,
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
    pub steps: BTreeMap<String, StepState>,
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
    /// Tokens reserved for the attempt.
    pub reserved: u64,
    /// The server's task that the call became.
    pub handle: Option<serde_json::Value>,
    /// What the call has asked for.
    pub asked: Asked,
    pub started_at: u64,
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
