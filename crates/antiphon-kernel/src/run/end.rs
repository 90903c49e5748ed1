//! Ending early: cancelling, stopping a scope, and what stays visible of what is over.

use super::state::{Failure, IterationEnd, Landed, Phase, Purpose, Spot, StepState};
use super::{Run, paths};
use crate::{EffectClass, ErrorKind, StepError, Verb};

/// How long calls in flight get to say how they ended, in milliseconds.
const GRACE_MS: u64 = 5_000;

impl Run<'_> {
    pub(super) fn cancel(&mut self, reason: &str) {
        if self.state.cancel.is_some() {
            return;
        }
        self.state.cancel = Some(reason.to_owned());
        // A run that is undoing already goes on undoing.
        if self.state.scopes.get(paths::ROOT).is_some_and(|root| !root.closing || root.failing.is_none()) {
            self.stop_scope(paths::ROOT, None);
        }
    }

    /// Ends a scope and all inside it: nothing starts, what only waits ends at once, calls in flight get a grace.
    pub(super) fn stop_scope(&mut self, path: &str, failure: Option<Failure>) {
        if let (Some(scope), Some(failure)) = (self.scope(path), failure) {
            scope.failing.get_or_insert(failure);
        }
        // Undo scopes hang below the path of what they undo, and go on.
        let inside: Vec<String> = self.state.scopes.keys().filter(|key| paths::within(key, path)).cloned().collect();
        let inside: Vec<String> = inside.into_iter().filter(|key| !self.undoing(key)).collect();
        for key in &inside {
            if let Some(scope) = self.scope(key) {
                scope.stopping = true;
            }
        }
        // From the innermost outwards, so that each scope finds its inner ones closed.
        for key in inside.iter().rev() {
            for spot in self.spots_of(key) {
                self.stop_iteration(&spot);
            }
            self.stop_idle_steps(key);
        }
        if self.state.calling > 0 && !self.state.ops.contains_key("!grace") {
            let spot = Spot { scope: path.to_owned(), step: String::new(), index: None };
            self.timer("!grace".to_owned(), &spot, Purpose::Grace, GRACE_MS);
        }
    }

    fn stop_iteration(&mut self, spot: &Spot) {
        // What has landed ends with what it has called.
        let landed = self.iteration(spot).is_some_and(|iteration| iteration.landed.is_some());
        match self.iteration(spot).map(|iteration| iteration.phase) {
            None | Some(Phase::Inside) => {}
            Some(_) if landed => {}
            Some(Phase::Calling | Phase::Polling) => {
                let op = self.attempt_path(spot);
                self.withdraw_of(spot);
                self.drop_attempt_timer(spot);
                if self.state.ops.contains_key(&op) {
                    self.out.push(crate::Command::CancelCall { op });
                } else {
                    self.abandon(spot);
                    self.give_up(spot);
                }
            }
            Some(phase) => {
                if phase == Phase::Doubting {
                    let path = self.path(spot);
                    self.state.may_have_happened.push(path);
                }
                self.abandon(spot);
                self.release(spot);
                self.give_up(spot);
            }
        }
    }

    /// Ends an iteration that is cancelled, after what its call has called.
    fn give_up(&mut self, spot: &Spot) {
        let error = || StepError { kind: ErrorKind::Unavailable, message: "it was cancelled".to_owned() };
        if !self.held_up(spot, || Landed::Failed { error: error(), in_doubt: false }) {
            self.end_iteration(spot, IterationEnd::cancelled());
        }
    }

    /// Steps that have started but have no iteration yet (`when`, `for_each`, a fallback), and those that have not started.
    fn stop_idle_steps(&mut self, path: &str) {
        let Some(scope) = self.state.scopes.get(path) else { return };
        let idle: Vec<String> = scope
            .steps
            .iter()
            .filter(|(_, state)| matches!(state, StepState::Active(active) if active.iterations.is_empty()))
            .map(|(id, _)| id.clone())
            .collect();
        for step in idle {
            let spot = Spot { scope: path.to_owned(), step, index: None };
            self.abandon(&spot);
            self.end_iteration(&spot, IterationEnd::cancelled());
        }
        self.advance(path);
    }

    /// The grace is over: what has not answered is given up.
    pub(super) fn grace_passed(&mut self) {
        let calls: Vec<(Spot, EffectClass)> = self
            .state
            .ops
            .values()
            .filter(|op| self.state.scopes.get(&op.spot.scope).is_some_and(|scope| scope.stopping))
            .filter_map(|op| match op.purpose {
                Purpose::Call { class, .. } => Some((op.spot.clone(), class)),
                _ => None,
            })
            .collect();
        // What was called before who called it.
        for (spot, class) in calls.into_iter().rev() {
            if class != EffectClass::ReadOnly {
                let path = self.path(&spot);
                self.state.may_have_happened.push(path);
            }
            self.abandon(&spot);
            self.give_up(&spot);
        }
    }

    /// In a failing scope nobody waits for people or clocks any more: steps that consist of waiting are cut short.
    pub(super) fn cut_idle(&mut self, path: &str) {
        if self.state.scopes.get(path).is_none_or(|scope| scope.failing.is_none() || scope.stopping) {
            return;
        }
        for spot in self.spots_of(path) {
            let waits = self.step_of(&spot).is_some_and(|step| {
                let asks = step.deps.values().any(|dep| dep.asks);
                !asks && matches!(step.verb, Verb::Elicit { .. } | Verb::Wait(_))
            });
            let phase = self.iteration(&spot).map(|iteration| iteration.phase);
            if waits && matches!(phase, Some(Phase::Asking | Phase::Waiting)) {
                self.abandon(&spot);
                self.end_iteration(&spot, IterationEnd::cancelled());
            }
        }
    }

    fn undoing(&self, path: &str) -> bool {
        let mut path = path;
        loop {
            let Some(scope) = self.state.scopes.get(path) else { return false };
            match &scope.parent {
                super::Parent::Undo(_) => return true,
                super::Parent::Run => return false,
                super::Parent::Step(spot) | super::Parent::Call { spot, .. } => path = &spot.scope,
            }
        }
    }

    fn spots_of(&self, path: &str) -> Vec<Spot> {
        let Some(scope) = self.state.scopes.get(path) else { return Vec::new() };
        let mut spots = Vec::new();
        for (id, state) in &scope.steps {
            if let StepState::Active(active) = state {
                for index in active.iterations.keys() {
                    let index = active.items.is_some().then_some(*index);
                    spots.push(Spot { scope: path.to_owned(), step: id.clone(), index });
                }
            }
        }
        spots
    }
}
