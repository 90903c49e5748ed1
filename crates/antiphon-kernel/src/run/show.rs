//! The view: a run as people and callers see it, derived from the state.

use std::collections::BTreeSet;

use super::Run;
use super::state::{Active, Ended, Parent, Phase, Scope, State, StepState, Wanted};
use super::{lookup, paths};
use crate::{Outcome, Plan, RunStatus, RunView, Step, StepError, StepPhase, StepStatus, StepView, Verb};

/// Steps of closed scopes that stay visible.
const TRAIL: usize = 500;

/// The run as its owner sees it.
pub fn view(plan: &Plan, state: &State) -> RunView {
    let status = match &state.outcome {
        Some(Outcome::Succeeded { .. }) => RunStatus::Succeeded,
        Some(Outcome::Failed { .. }) => RunStatus::Failed,
        Some(Outcome::Cancelled { .. }) => RunStatus::Cancelled,
        None if !state.questions.is_empty() => RunStatus::InputRequired,
        None => RunStatus::Working,
    };
    let mut steps: Vec<StepView> = state.trail.values().cloned().collect();
    for (path, scope) in &state.scopes {
        steps.extend(views(plan, path, scope));
    }
    steps.extend(state.samplings.values().map(|sampling| {
        let phase = if state.ops.contains_key(&sampling.wanted.key) { StepPhase::Running } else { StepPhase::Asking };
        of_sampling(&sampling.wanted, sampling.started_at, phase)
    }));
    // A call that waits for an answer in the middle is under way, and yet nothing moves.
    let asking: BTreeSet<&str> = state.questions.values().map(|open| step_path(&open.question.path)).collect();
    for step in &mut steps {
        // What waits for a model is under way, too.
        let asks = asking.contains(step.path.as_str());
        match step.status {
            StepPhase::Running if step.items.is_none() && asks => step.status = StepPhase::Asking,
            StepPhase::Asking if step.items.is_none() && !asks && step.verb != SAMPLING => {
                step.status = StepPhase::Running;
            }
            _ => {}
        }
    }
    steps.sort_by(|a, b| (a.started_at.unwrap_or(u64::MAX)).cmp(&b.started_at.unwrap_or(u64::MAX)));
    let mut questions: Vec<_> = state.questions.values().map(|open| open.question.clone()).collect();
    questions.sort_by_key(|question| question.asked_at);
    RunView {
        status,
        outcome: state.outcome.clone(),
        steps,
        questions,
        used: state.used,
        may_have_happened: state.may_have_happened.clone(),
        not_undone: state.not_undone.clone(),
        overrun: state.overrun.values().cloned().collect(),
    }
}

/// What stands in place of a verb where a server asked a model.
const SAMPLING: &str = "sampling";

fn of_sampling(wanted: &Wanted, started_at: u64, status: StepPhase) -> StepView {
    StepView {
        path: wanted.path.clone(),
        verb: SAMPLING.to_owned(),
        status,
        started_at: Some(started_at),
        ended_at: None,
        attempt: 1,
        items: None,
        error: None,
        note: None,
    }
}

/// The step of an iteration's path.
fn step_path(path: &str) -> &str {
    let last = path.rfind('/').map_or(0, |slash| slash + 1);
    match path[last..].find([':', '[']) {
        Some(mark) => &path[..last + mark],
        None => path,
    }
}

impl Run<'_> {
    /// Keeps the steps of a scope visible after it is gone.
    pub(super) fn leave_trail(&mut self, path: &str) {
        let Some(scope) = self.state.scopes.get(path) else { return };
        for view in views(self.plan, path, scope) {
            if self.state.trail.len() >= TRAIL && path != paths::ROOT {
                break;
            }
            self.state.trail.insert(view.path.clone(), view);
        }
    }

    /// Keeps what a server asked a model visible after it is over.
    pub(super) fn show_sampling(
        &mut self,
        wanted: &Wanted,
        started_at: u64,
        status: StepPhase,
        error: Option<StepError>,
    ) {
        if self.state.trail.len() < TRAIL {
            let view = StepView { ended_at: Some(self.state.now), error, ..of_sampling(wanted, started_at, status) };
            self.state.trail.insert(view.path.clone(), view);
        }
    }
}

/// The steps of one scope, in the plan's order: all at the top level, elsewhere those that have started or ended.
fn views(plan: &Plan, path: &str, scope: &Scope) -> Vec<StepView> {
    let Some(graph) = lookup::graph(plan, &scope.graph) else { return Vec::new() };
    let root = matches!(scope.parent, Parent::Run);
    graph
        .steps
        .iter()
        .filter_map(|step| match scope.steps.get(&step.id)? {
            StepState::Waiting if root => Some(pending(path, step)),
            StepState::Waiting => None,
            StepState::Active(active) => Some(running(path, step, active)),
            StepState::Ended(ended) => Some(over(path, step, ended)),
        })
        .collect()
}

fn pending(path: &str, step: &Step) -> StepView {
    StepView {
        path: paths::step(path, &step.id),
        verb: step.verb.name().to_owned(),
        status: StepPhase::Pending,
        started_at: None,
        ended_at: None,
        attempt: 0,
        items: None,
        error: None,
        note: None,
    }
}

fn running(path: &str, step: &Step, active: &Active) -> StepView {
    let phase = |phase: Phase| match phase {
        Phase::Asking | Phase::Doubting => StepPhase::Asking,
        Phase::Polling => StepPhase::Polling,
        Phase::Waiting => StepPhase::Waiting,
        Phase::Busy | Phase::Preparing | Phase::Calling | Phase::Inside => StepPhase::Running,
    };
    let phases: Vec<StepPhase> = active.iterations.values().map(|iteration| phase(iteration.phase)).collect();
    let status = match phases.first() {
        Some(first) if phases.iter().all(|phase| phase == first) => *first,
        _ => StepPhase::Running,
    };
    StepView {
        status,
        started_at: Some(active.started_at),
        attempt: active.iterations.values().map(|iteration| iteration.attempt).max().unwrap_or(1),
        items: active.items.as_ref().map(|items| (active.done.len() as u32, items.len)),
        ..pending(path, step)
    }
}

fn over(path: &str, step: &Step, ended: &Ended) -> StepView {
    let status = match ended.status {
        StepStatus::Succeeded => StepPhase::Succeeded,
        StepStatus::Skipped => StepPhase::Skipped,
        StepStatus::Failed => StepPhase::Failed,
        StepStatus::Cancelled => StepPhase::Cancelled,
    };
    StepView {
        status,
        started_at: ended.started_at,
        ended_at: Some(ended.ended_at),
        attempt: 1,
        error: ended.error.clone(),
        note: ended.note.clone(),
        ..pending(path, step)
    }
}

impl Verb {
    /// The verb as the file spells it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Call { .. } => "call",
            Self::Sample { .. } => "sample",
            Self::Elicit { .. } => "elicit",
            Self::Read { .. } => "read",
            Self::Set { .. } => "set",
            Self::Wait(_) => "wait",
            Self::Do { .. } => "do",
        }
    }
}
