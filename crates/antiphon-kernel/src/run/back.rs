//! The way back in: what servers call in the middle of their calls. The plan has a workflow for each server that may; a call of
//! the server's is a frame of it, inside the call that asks, and so a part of the run like any nested workflow.

use serde_json::Value;

use super::Run;
use super::state::{Called, Failure, Landed, Parent, Spot, Wanted, Why};
use crate::{Action, Answer, Command, ErrorKind, Plan, StepError, ValueRef};

/// The request by which a server calls a tool.
pub(super) const CALL_TOOL: &str = "tools/call";

impl Run<'_> {
    /// A call calls something itself. When it calls again what the run has the result of, that is the result.
    pub(super) fn called_back(&mut self, mut wanted: Wanted) {
        let params = wanted.request.get("params").cloned().unwrap_or_default();
        let Some(iteration) = self.iteration(&wanted.spot) else { return };
        let mut earlier = iteration.asked.calls.iter_mut();
        if let Some(called) = earlier.find(|called| !called.claimed && called.request == params) {
            called.claimed = true;
            let (path, record) = (called.path.clone(), called.record.clone());
            return match record {
                Some(record) => self.give_back(wanted.why, record),
                None => self.answers_to(&path, Some(wanted.why)),
            };
        }
        // Another call under the same name: nobody waits for the result of the first any more.
        let first = |path: &String| self.waits_for(path) == Some(&wanted.why);
        for path in self.frames_of(&wanted.spot).into_iter().filter(first).collect::<Vec<_>>() {
            self.answers_to(&path, None);
            self.stop_scope(&path, None);
        }
        let workflow = Plan::way_back(&wanted.server);
        if !self.plan.workflows.contains_key(&workflow) {
            let message = format!("the server `{}` was granted nothing to call", wanted.server);
            return self.refuse_call(wanted.why, StepError { kind: ErrorKind::Denied, message });
        }
        let depth = self.scope(&wanted.spot.scope).map_or(1, |scope| scope.depth) + 1;
        if depth > self.plan.limits.depth {
            let hops = self.hops(&wanted.spot.scope);
            let names: Vec<&str> = hops.iter().map(|hop| hop.workflow.as_str()).collect();
            let error = self.too_deep(&format!("{} → {}", names.join(" → "), wanted.server));
            return self.refuse_call(wanted.why, error);
        }
        let Some(iteration) = self.iteration(&wanted.spot) else { return };
        wanted.key = iteration.asked.op(&wanted.key);
        let Wanted { key: path, spot, why, .. } = wanted;
        iteration.asked.calls.push(Called { path: path.clone(), request: params.clone(), record: None, claimed: true });
        self.open_workflow(path, workflow, ValueRef::inline(params), Parent::Call { spot, why: Some(why) }, depth);
    }

    /// Who waits for the result of a frame.
    fn waits_for(&self, path: &str) -> Option<&Why> {
        match &self.state.scopes.get(path)?.parent {
            Parent::Call { why, .. } => why.as_ref(),
            _ => None,
        }
    }

    fn answers_to(&mut self, path: &str, to: Option<Why>) {
        if let Some(Parent::Call { why, .. }) = self.scope(path).map(|scope| &mut scope.parent) {
            *why = to;
        }
    }

    fn give_back(&mut self, why: Why, record: ValueRef) {
        if let Why::Pushed { op, name } = why {
            self.out.push(Command::Return { op, name, record });
        }
    }

    fn refuse_call(&mut self, why: Why, error: StepError) {
        if let Why::Pushed { op, name } = why {
            let content = serde_json::to_value(error).ok();
            self.out.push(Command::Answer { op, name, answer: Answer { action: Action::Decline, content } });
        }
    }

    /// A frame is over.
    pub(super) fn frame_closed(
        &mut self,
        path: &str,
        spot: &Spot,
        why: Option<Why>,
        result: Result<ValueRef, Option<Failure>>,
    ) {
        let calls = self.iteration(spot).map(|iteration| &mut iteration.asked.calls);
        let called = calls.and_then(|calls| calls.iter_mut().find(|called| called.path == path));
        match result {
            Ok(record) => {
                if let Some(called) = called {
                    called.record = Some(record.clone());
                }
                why.into_iter().for_each(|why| self.give_back(why, record.clone()));
            }
            Err(failure) => {
                if let Some(iteration) = self.iteration(spot) {
                    iteration.asked.calls.retain(|called| called.path != path);
                }
                let cancelled = || StepError { kind: ErrorKind::Unavailable, message: "it was cancelled".to_owned() };
                let error = failure.map_or_else(cancelled, |failure| failure.error);
                why.into_iter().for_each(|why| self.refuse_call(why, error.clone()));
            }
        }
        if self.frames_of(spot).is_empty()
            && let Some(landed) = self.iteration(spot).and_then(|iteration| iteration.landed.take())
        {
            match landed {
                Landed::Done { record, usage } => self.call_done(spot, record, usage),
                Landed::Failed { error, in_doubt } => self.call_failed(spot, error.kind, error.message, in_doubt),
            }
        }
    }

    /// What an iteration's call has called, and is under way.
    fn frames_of(&self, spot: &Spot) -> Vec<String> {
        let own = |parent: &Parent| matches!(parent, Parent::Call { spot: of, .. } if of == spot);
        self.state.scopes.iter().filter(|(_, scope)| own(&scope.parent)).map(|(path, _)| path.clone()).collect()
    }

    /// A call has ended. What it has called, and did not wait for, is stopped, and ends before it does. `false` if there is no such.
    pub(super) fn held_up(&mut self, spot: &Spot, landed: impl FnOnce() -> Landed) -> bool {
        let frames = self.frames_of(spot);
        let Some(iteration) = self.iteration(spot).filter(|_| !frames.is_empty()) else { return false };
        // What came first counts.
        iteration.landed.get_or_insert_with(landed);
        for path in frames {
            let stopping = self.scope(&path).is_none_or(|scope| scope.stopping);
            if !stopping {
                self.answers_to(&path, None);
                self.stop_scope(&path, None);
            }
        }
        true
    }
}

/// What a server's call is called with.
pub(super) fn is_call(request: &Value) -> bool {
    request.get("method").is_some_and(|method| method == CALL_TOOL)
}
