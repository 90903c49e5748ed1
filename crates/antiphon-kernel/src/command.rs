//! What the kernel asks of its driver.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::event::{Answer, Hop, OpId};
use crate::plan::{By, EffectClass, Source};
use crate::value::ValueRef;
use crate::view::Outcome;
use crate::{StepError, StepStatus};

/// A piece of work for the driver. Those with an `op` of their own are answered by events that name it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Evaluate with [`crate::expr::run`]; answered by `Evaluated`.
    Eval {
        /// Answer with this.
        op: OpId,
        /// What to evaluate, in order.
        jobs: Vec<Job>,
        /// What the jobs may see.
        scope: Scope,
    },
    /// Learn a call's effect class; answered by `Prepared` or `Failed`.
    Prepare {
        /// Answer with this.
        op: OpId,
        /// The call to come.
        call: CallSpec,
    },
    /// Make a call; answered by `Done`, `Failed`, `NeedsInput` or `Detached`, after any number of `Asked`.
    ///
    /// If `class` is `AtMostOnce`, everything recorded so far must be durable before the first byte leaves.
    Call {
        /// Answer with this.
        op: OpId,
        /// The call.
        call: CallSpec,
        /// Its effect class.
        class: EffectClass,
        /// How it starts.
        entry: Entry,
    },
    /// Put a question; answered by `Input`. Durable before anyone sees it.
    Ask(Question),
    /// Wake the kernel with `Timer`.
    Timer {
        /// Answer with this.
        op: OpId,
        /// Milliseconds since the Unix epoch.
        due: u64,
    },
    /// Hand an answer to a call in flight that asked (see `Asked`).
    Answer {
        /// The call.
        op: OpId,
        /// The request's name, as it asked.
        name: String,
        /// The answer.
        answer: Answer,
    },
    /// Hand what it has called to a call in flight that did (see `Asked`).
    Return {
        /// The call.
        op: OpId,
        /// The request's name, as it asked.
        name: String,
        /// A [`crate::Record`].
        record: ValueRef,
    },
    /// The timer is not needed any more.
    CancelTimer {
        /// Which.
        op: OpId,
    },
    /// The call is not wanted any more: tell the other side. Its outcome may still come.
    CancelCall {
        /// Which.
        op: OpId,
    },
    /// The question is not open any more.
    Withdraw {
        /// Its key.
        key: String,
    },
    /// The run has ended. Always the last command.
    Finish(Outcome),
}

/// How a call starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// From the beginning.
    Fresh,
    /// Again, with the answers that it asked for (MRTR).
    Answers {
        /// By the server's own keys.
        answers: BTreeMap<String, Answer>,
        /// Which of them are `CreateMessageResult`s.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        sampled: BTreeSet<String>,
        /// The `requestState` that came with the questions.
        state: Option<ValueRef>,
        /// How many rounds there have been, from 1.
        round: u32,
    },
    /// Cancel the task that it became: nobody waits for its end any more, and what comes of this is not heard.
    Cancel {
        /// As `Detached` gave it.
        handle: Value,
    },
    /// Poll the task that it became.
    Attach {
        /// As `Detached` gave it.
        handle: Value,
        /// Answers that the task waits for.
        answers: BTreeMap<String, Answer>,
        /// Which of them are `CreateMessageResult`s.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        sampled: BTreeSet<String>,
    },
}

/// A call, as the router needs it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallSpec {
    /// What is called.
    pub what: What,
    /// The arguments: of a tool an object, of a read `{"uri": …}`, of a sample the request.
    pub args: ValueRef,
    /// The step's path, such as `draft:2/review`.
    pub path: String,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// The same across crashes, timeouts and MRTR rounds; a definitive error starts a new one. Unique with the run's id:
    /// the driver derives `antiphon/idempotency-key` from both.
    pub key: String,
    /// The class that the file states.
    pub declared: Option<EffectClass>,
    /// When the attempt ends at the latest, in milliseconds since the Unix epoch.
    pub deadline: Option<u64>,
    /// The workflows on the way to this call, outermost first: those that led to the run, and its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub route: Vec<Hop>,
    /// Of a sample: what its model may call, where that was learnt before; the request says it otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<ValueRef>,
    /// Of a sample: what it may use. None where limits are only watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowance: Option<Allowance>,
}

/// What a sample may use at the most: all models together that are asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Allowance {
    /// Tokens, prompts and answers, about.
    pub tokens: u64,
    /// US dollars, where the dearest of its models might charge more than is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
}

/// What is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// `tools/call`.
    Tool {
        /// A key of `[servers]`.
        server: String,
        /// The tool's own name.
        tool: String,
    },
    /// `resources/read`.
    Read {
        /// A key of `[servers]`.
        server: String,
    },
    /// A model, or the next ones of the list when it fails.
    Sample {
        /// Keys of `[models]`, or `local`; `auto` leaves it to the request's `prefer`.
        models: Vec<String>,
    },
    /// A server's `sampling/createMessage` in the middle of a call: its params are the arguments. The record's `output` is the
    /// `CreateMessageResult`, and stays inline: the answer is handed on from it. What it needs from others it asks for by
    /// `NeedsInput`; what is to be sampled by the caller is `sampling/createMessage` again.
    Sampling {
        /// Who asks: a key of `[servers]`.
        server: String,
        /// The most tokens that the answer may have.
        max_tokens: u64,
        /// Whoever called can't be asked.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        no_caller: bool,
    },
}

/// A question that the run waits for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// Unique for the life of the run, never used again.
    pub key: String,
    /// The path of the step that asks.
    pub path: String,
    /// When it was asked, in milliseconds since the Unix epoch.
    pub asked_at: u64,
    /// Who may answer.
    pub by: By,
    /// What is asked.
    pub ask: Asking,
}

/// What a question asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Asking {
    /// `elicitation/create` in form mode.
    Form {
        /// The question.
        message: String,
        /// Flat JSON Schema object. A plain yes or no has no properties.
        schema: Value,
    },
    /// `elicitation/create` in URL mode.
    Url {
        /// The question.
        message: String,
        /// What to open.
        url: String,
    },
    /// `sampling/createMessage`, for the caller.
    Sample {
        /// The step's request, as [`CallSpec::args`] of a sample.
        request: ValueRef,
        /// What the model may call, as [`CallSpec::tools`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tools: Option<ValueRef>,
    },
    /// A server's own request, passed on: `method` and `params`.
    Relayed {
        /// Which server.
        server: String,
        /// The request.
        request: Value,
    },
    /// A call may have happened: retry, skip, or give its result.
    Doubt {
        /// What is in doubt, and why.
        message: String,
        /// The call.
        call: Box<CallSpec>,
    },
}

/// One thing to evaluate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Job {
    /// An expression or template.
    Eval {
        /// The source.
        source: Source,
        /// What it must yield.
        want: Want,
    },
    /// The input of a nested workflow: evaluated, defaults filled in ([`crate::expr::with_defaults`]), validated.
    Input {
        /// The source.
        source: Source,
        /// JSON Schema of the input.
        schema: Value,
    },
    /// The declared output of a graph: a [`crate::Record`] whose `output` is a map. Entries that come to nothing because a step
    /// did not succeed are left out.
    Outputs {
        /// Entries, in order.
        entries: Vec<(String, Source)>,
        /// JSON Schema that the map must conform to.
        schema: Option<Value>,
    },
    /// A [`crate::Record`] whose `output` maps each id to the `output` of its record.
    Gather {
        /// Ids and records.
        entries: Vec<(String, ValueRef)>,
        /// JSON Schema that the map must conform to.
        schema: Option<Value>,
    },
    /// A [`crate::Record`] whose `output` is the list of the `output`s of these, null where there is none.
    Collect {
        /// The iterations' records, by index.
        records: Vec<Option<ValueRef>>,
        /// The list that was iterated over.
        items: ValueRef,
        /// The failures that were tolerated, by index.
        errors: BTreeMap<u32, StepError>,
    },
}

/// What an evaluation must yield.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Want {
    /// Any JSON value.
    Value,
    /// A boolean; anything else is an error.
    Bool,
    /// A list; answered by [`crate::Evaluated::List`].
    List,
    /// A string.
    String,
    /// A moment: an RFC 3339 string, answered as a number of milliseconds since the Unix epoch.
    Time,
    /// Any value, wrapped as a [`crate::Record`] with that `output`.
    Record,
}

/// What an evaluation may see. Only what its expressions mention is in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scope {
    /// `input`, `item`, `index`, `round`, `previous`, `output`, `run`.
    pub vars: BTreeMap<String, Slot>,
    /// `steps`.
    pub steps: BTreeMap<String, StepFacts>,
}

/// Where a variable's value is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slot {
    /// The value.
    Value(ValueRef),
    /// The `output` of a record.
    OutputOf(ValueRef),
    /// One item of a list.
    Item {
        /// The list.
        list: ValueRef,
        /// Which, from 0.
        index: usize,
    },
}

/// What an expression may know of a step that has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepFacts {
    /// `.status`.
    pub status: StepStatus,
    /// `.error`.
    pub error: Option<StepError>,
    /// `.action`.
    pub action: Option<String>,
    /// Everything else, of one that succeeded.
    pub record: Option<ValueRef>,
}
