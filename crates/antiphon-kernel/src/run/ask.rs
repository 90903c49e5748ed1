//! Questions: of steps, of doubt, of servers in the middle of a call; and their answers.

use serde_json::{Value, json};

use super::Run;
use super::back::is_call;
use super::iterate::without;
use super::sampling::is_sampling;
use super::state::{IterationEnd, Open, Phase, Spot, Wanted, Why};
use crate::{Action, Answer, Asking, By, Command, Entry, Question, StepStatus, Terms, ValueRef, Verb, What};

impl Run<'_> {
    pub(super) fn open_question(&mut self, key: String, spot: &Spot, by: By, ask: Asking, why: Why) {
        let path = self.path(spot);
        let question = Question { key: key.clone(), path, asked_at: self.state.now, by, ask };
        self.out.push(Command::Ask(question.clone()));
        self.state.questions.insert(key, Open { question, spot: spot.clone(), why });
    }

    /// Puts the question that a step consists of.
    pub(super) fn ask_step(&mut self, spot: &Spot, by: By, ask: Asking) {
        self.set_phase(spot, Phase::Asking);
        let attempt = self.iteration(spot).map_or(1, |iteration| iteration.attempt);
        let key = match attempt {
            1 => self.path(spot),
            _ => self.attempt_path(spot),
        };
        self.open_question(key, spot, by, ask, Why::Step);
    }

    /// Lets the caller's model answer a sample.
    pub(super) fn ask_caller(&mut self, spot: &Spot) {
        let Some(iteration) = self.iteration(spot) else { return };
        let request = iteration.args.clone().unwrap_or_else(|| ValueRef::inline(Value::Null));
        let tools = iteration.tools.clone();
        self.ask_step(spot, By::Anyone, Asking::Sample { request, tools });
    }

    /// A call in flight asks through a pushed request.
    pub(super) fn asked(&mut self, op: &str, name: &str, request: &Value, terms: &Terms) {
        let asker = self.state.ops.get(op).and_then(|found| match found.command.as_ref()? {
            Command::Call { call, .. } => match &call.what {
                What::Tool { server, .. } | What::Read { server } => Some((found.spot.clone(), server.clone())),
                What::Sample { .. } | What::Sampling { .. } => None,
            },
            _ => None,
        });
        // A call that is being cancelled has no more to ask.
        let goes_on = |(spot, _): &(Spot, String)| self.state.scopes.get(&spot.scope).is_some_and(|it| !it.stopping);
        let Some((spot, server)) = asker.filter(goes_on) else {
            let answer = Answer { action: Action::Cancel, content: None };
            return self.out.push(Command::Answer { op: op.to_owned(), name: name.to_owned(), answer });
        };
        let wanted = Wanted {
            key: format!("{op}?{name}"),
            path: format!("{}?{name}", self.path(&spot)),
            spot,
            server,
            request: request.clone(),
            terms: terms.clone(),
            why: Why::Pushed { op: op.to_owned(), name: name.to_owned() },
        };
        if is_sampling(request) {
            return self.sampling_asked(wanted);
        }
        if is_call(request) {
            return self.called_back(wanted);
        }
        let Some(iteration) = self.iteration(&wanted.spot) else { return };
        match iteration.asked.answers.get(name).cloned() {
            // The call was repeated, and asks again what was answered already.
            Some(Some(answer)) => self.hand_over(&wanted.spot, wanted.why, &answer),
            Some(None) => {}
            None => {
                iteration.asked.answers.insert(name.to_owned(), None);
                self.admit(wanted);
            }
        }
    }

    /// A call that has lost its outcome is made again: it will ask again what it asked.
    pub(super) fn ask_again(&mut self, spot: &Spot, command: Option<&Command>) {
        if let Some(Command::Call { entry: Entry::Fresh, .. }) = command
            && let Some(iteration) = self.iteration(spot)
        {
            iteration.asked.samples.iter_mut().for_each(|sample| sample.claimed = false);
            iteration.asked.calls.iter_mut().for_each(|called| called.claimed = false);
        }
    }

    pub(super) fn answered(&mut self, key: &str, answer: &Answer) {
        let Some(open) = self.state.questions.remove(key) else { return };
        match open.why {
            Why::Step => self.step_answered(&open.spot, answer),
            Why::Doubt { error } => self.resolved(&open.spot, error, answer),
            Why::Sampling { op, name } => self.sampling_answered(&op, name, answer),
            Why::Consent { server, sampling } => self.consented(&server, sampling, answer),
            why => self.hand_over(&open.spot, why, answer),
        }
    }

    /// Gives the call that asked its answer.
    pub(super) fn hand_over(&mut self, spot: &Spot, why: Why, answer: &Answer) {
        match why {
            Why::Needed { name } => {
                let Some(iteration) = self.iteration(spot) else { return };
                iteration.asked.answers.insert(name, Some(answer.clone()));
                if iteration.asked.answers.values().all(Option::is_some) {
                    self.again(spot);
                }
            }
            Why::Pushed { op, name } => {
                if let Some(iteration) = self.iteration(spot) {
                    iteration.asked.answers.insert(name.clone(), Some(answer.clone()));
                }
                self.out.push(Command::Answer { op, name, answer: answer.clone() });
            }
            _ => {}
        }
    }

    fn step_answered(&mut self, spot: &Spot, answer: &Answer) {
        self.drop_attempt_timer(spot);
        let Some(step) = self.step_of(spot) else { return };
        let sample = matches!(step.verb, Verb::Sample { .. });
        if sample {
            self.settle_answer(spot, answer);
        }
        if answer.action == Action::Accept {
            let record = match &answer.content {
                Some(content) if sample => sampled(content),
                Some(content) if content.as_object().is_some_and(|fields| !fields.is_empty()) => {
                    json!({ "output": content })
                }
                _ => json!({ "output": true }),
            };
            return self.attempt_done(spot, ValueRef::inline(record));
        }
        let said = if answer.action == Action::Decline { "declined" } else { "dismissed" };
        let end = match without(StepStatus::Skipped, &format!("its question was {said}")) {
            IterationEnd::Without { status, note, .. } => {
                IterationEnd::Without { status, note, action: Some(answer.action.as_str().to_owned()) }
            }
            end => end,
        };
        self.end_iteration(spot, end);
    }

    /// Closes the questions of an iteration, and gives up what it asks models.
    pub(super) fn withdraw_of(&mut self, spot: &Spot) {
        let keys: Vec<String> =
            self.state.questions.iter().filter(|(_, open)| open.spot == *spot).map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.state.questions.remove(&key);
            self.out.push(Command::Withdraw { key });
        }
        self.drop_samplings_of(spot);
    }
}

/// The record of a `CreateMessageResult`.
fn sampled(result: &Value) -> Value {
    let blocks = match result.get("content") {
        Some(Value::Array(blocks)) => blocks.clone(),
        Some(block) => vec![block.clone()],
        None => Vec::new(),
    };
    let text: Vec<&str> = blocks.iter().filter_map(|block| block.get("text")?.as_str()).collect();
    let text = text.join("\n");
    let model = result.get("model");
    // Whoever took the answer has read it by the step's `choose` or `schema`, if it has one.
    let mut record = match result.get("output") {
        Some(output) => json!({ "output": output, "text": text, "blocks": blocks, "model": model }),
        None => json!({ "output": text, "blocks": blocks, "model": model }),
    };
    if let Some(calls) = result.get("calls") {
        record["calls"] = calls.clone();
    }
    record
}
