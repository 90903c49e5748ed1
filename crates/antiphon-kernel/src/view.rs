//! What people and callers see of a run.

use serde::{Deserialize, Serialize};

use crate::command::Question;
use crate::plan::ErrorKind;
use crate::value::ValueRef;

/// How a step ended (`.status`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    /// It has a value.
    Succeeded,
    /// It did not need to run, or could not.
    Skipped,
    /// It went wrong.
    Failed,
    /// The run ended before it.
    Cancelled,
}

impl StepStatus {
    /// As expressions see it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Why a step failed (`.error`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepError {
    /// What kind.
    pub kind: ErrorKind,
    /// For people.
    pub message: String,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// With an output.
    Succeeded {
        /// A [`crate::Record`].
        record: ValueRef,
    },
    /// With an error.
    Failed {
        /// The path of the step that failed first; `None` when it was the run itself (its output, its limits).
        path: Option<String>,
        /// Why.
        error: StepError,
    },
    /// Because somebody wanted it to.
    Cancelled {
        /// Why.
        reason: String,
    },
}

/// A run, as its owner sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunView {
    /// Where it stands.
    pub status: RunStatus,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Every step that has started or ended, and the top level's pending ones, in the order of the plan.
    pub steps: Vec<StepView>,
    /// Open questions.
    pub questions: Vec<Question>,
    /// What was used so far.
    pub used: Used,
    /// Calls whose outcome is unknown and will stay so.
    pub may_have_happened: Vec<String>,
    /// Undo calls that failed, as `path: message`.
    pub not_undone: Vec<String>,
    /// Limits that were passed, where they are only watched (`limits.mode = "audit"`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrun: Vec<String>,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// It goes on by itself.
    Working,
    /// It has at least one open question.
    InputRequired,
    /// It ended well.
    Succeeded,
    /// It ended badly.
    Failed,
    /// It was cancelled.
    Cancelled,
}

impl RunStatus {
    /// Whether it has ended.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// One step, as people see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepView {
    /// Such as `draft:2/review` or `sum[3]`.
    pub path: String,
    /// The verb, as the file spells it; `sampling` where a server asked a model in the middle of its call.
    pub verb: String,
    /// Where it stands.
    pub status: StepPhase,
    /// When it started, in milliseconds since the Unix epoch.
    pub started_at: Option<u64>,
    /// When it ended.
    pub ended_at: Option<u64>,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// Of a `for_each`: how many iterations have ended, and of how many.
    pub items: Option<(u32, u32)>,
    /// Why it failed.
    pub error: Option<StepError>,
    /// Why it was skipped.
    pub note: Option<String>,
}

/// Where a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepPhase {
    /// Not started.
    Pending,
    /// Started.
    Running,
    /// Waiting for an answer.
    Asking,
    /// Waiting for a timer.
    Waiting,
    /// Waiting for a server's task.
    Polling,
    /// Succeeded.
    Succeeded,
    /// Skipped.
    Skipped,
    /// Failed.
    Failed,
    /// Cancelled.
    Cancelled,
}

/// What a run used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Used {
    /// Calls and samples dispatched.
    pub calls: u64,
    /// Tokens, settled.
    pub tokens: u64,
    /// US dollars, settled.
    pub cost_usd: f64,
    /// Working time in milliseconds.
    pub working_ms: u64,
    /// How long samples waited for their turns at a model, all together, in milliseconds.
    #[serde(default, skip_serializing_if = "crate::event::is_zero")]
    pub waited_ms: u64,
}
