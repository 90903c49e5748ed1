//! Samplings: what servers ask of models in the middle of their calls. Each is a call of the run's own: agreed to, charged,
//! recorded, and paid once, however often the call that asks is repeated.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Run;
use super::budget::{Fit, spent};
use super::state::{Asked, Edge, Parked, Purpose, Sample, Sampling, Spot, Wanted, Why};
use crate::{
    Action, Answer, Asking, By, CallSpec, Command, EffectClass, Entry, ErrorKind, StepError, StepPhase, Usage,
    ValueRef, What,
};

/// The request by which a server asks a model.
pub(super) const CREATE_MESSAGE: &str = "sampling/createMessage";
/// How often a sampling may need answers itself.
const MAX_ROUNDS: u32 = 5;
/// How much of a prompt a person is shown, in characters.
const EXCERPT: usize = 300;

impl Run<'_> {
    /// A call asks a model. When it asks again what the run has an answer to, that is the answer.
    pub(super) fn sampling_asked(&mut self, mut wanted: Wanted) {
        let Some(iteration) = self.iteration(&wanted.spot) else { return };
        let params = wanted.request.get("params").cloned().unwrap_or_default();
        let samples = &mut iteration.asked.samples;
        if let Some(sample) = samples.iter_mut().find(|sample| !sample.claimed && sample.request == params) {
            sample.claimed = true;
            return match sample.answer.clone() {
                Some(answer) => self.hand_over(&wanted.spot, wanted.why, &answer),
                None => {
                    let key = sample.key.clone();
                    self.redirect(&key, wanted.why);
                }
            };
        }
        let rounds = wanted.terms.sampling.as_ref().map(|terms| terms.rounds);
        let count = samples.iter().filter(|sample| sample.claimed).count();
        // Another question under the same name: nobody waits for the answer to the first any more.
        let first = |other: &Wanted| other.spot == wanted.spot && other.why == wanted.why;
        let under_way = self.state.samplings.values().map(|sampling| &sampling.wanted);
        let keys: Vec<String> = under_way.filter(|other| first(other)).map(|other| other.key.clone()).collect();
        self.state.held.retain(|held| !first(held));
        self.state.parked.retain(|parked| !matches!(parked, Parked::Sampling(parked) if first(parked)));
        for key in keys {
            self.drop_sampling(&key);
        }
        if let Some(iteration) = self.iteration(&wanted.spot) {
            wanted.key = iteration.asked.op(&wanted.key);
            let sample = Sample { key: wanted.key.clone(), request: params, answer: None, claimed: true };
            iteration.asked.samples.push(sample);
        }
        if let Some(rounds) = rounds.filter(|rounds| count >= *rounds as usize) {
            let why = format!("it asks more than {rounds} times in one call (`sampling.limits.rounds`)");
            return self.refuse(wanted, spent(why));
        }
        self.admit(wanted);
    }

    /// The answer to a request that is under way goes elsewhere.
    fn redirect(&mut self, key: &str, why: Why) {
        let parked = self.state.parked.iter_mut().filter_map(|parked| match parked {
            Parked::Sampling(wanted) => Some(&mut **wanted),
            Parked::Step(_) => None,
        });
        let under_way = self.state.samplings.values_mut().map(|sampling| &mut sampling.wanted);
        if let Some(wanted) = under_way.chain(&mut self.state.held).chain(parked).find(|wanted| wanted.key == key) {
            wanted.why = why;
        }
    }

    /// Lets a request through once a person has agreed that its server asks, where that is needed.
    pub(super) fn admit(&mut self, wanted: Wanted) {
        let sampling = is_sampling(&wanted.request);
        let asks = match (&wanted.terms.sampling, sampling) {
            (Some(terms), true) => terms.asks,
            (_, false) => wanted.terms.elicitation_asks,
            (None, true) => {
                let message = "it was not granted `sampling`".to_owned();
                return self.refuse(wanted, StepError { kind: ErrorKind::Denied, message });
            }
        };
        let edge = self.edge(&wanted.server);
        match if sampling { edge.may_sample } else { edge.may_elicit } {
            None if asks => {
                self.state.held.push(wanted);
                self.ask_consent();
            }
            Some(false) if asks => self.declined(wanted),
            _ if sampling => self.dispatch_sampling(wanted),
            _ => {
                let ask = Asking::Relayed { server: wanted.server, request: wanted.request };
                self.open_question(wanted.key, &wanted.spot, By::Human, ask, wanted.why);
            }
        }
    }

    /// Asks a person, once for each server and kind of request that is held.
    fn ask_consent(&mut self) {
        for wanted in self.state.held.clone() {
            let (server, sampling) = (wanted.server.clone(), is_sampling(&wanted.request));
            let why = Why::Consent { server, sampling };
            if self.state.questions.values().any(|open| open.why == why) {
                continue;
            }
            let ask = Asking::Form { message: consent(&wanted), schema: json!({ "type": "object", "properties": {} }) };
            let kind = if sampling { "sampling" } else { "elicitation" };
            self.open_question(format!("{}?may.{kind}", wanted.key), &wanted.spot, By::Human, ask, why);
        }
    }

    pub(super) fn consented(&mut self, server: &str, sampling: bool, answer: &Answer) {
        let yes = answer.action == Action::Accept;
        let edge = self.edge(server);
        *(if sampling { &mut edge.may_sample } else { &mut edge.may_elicit }) = Some(yes);
        let held = std::mem::take(&mut self.state.held);
        let (these, others) =
            held.into_iter().partition(|wanted| wanted.server == server && is_sampling(&wanted.request) == sampling);
        self.state.held = others;
        let these: Vec<Wanted> = these;
        for wanted in these {
            self.admit(wanted);
        }
    }

    fn declined(&mut self, wanted: Wanted) {
        if is_sampling(&wanted.request) {
            let message = "a person declined that it does".to_owned();
            return self.refuse(wanted, StepError { kind: ErrorKind::Denied, message });
        }
        let answer = Answer { action: Action::Decline, content: None };
        self.hand_over(&wanted.spot, wanted.why, &answer);
    }

    /// Charges a request and makes the call that answers it.
    pub(super) fn dispatch_sampling(&mut self, wanted: Wanted) {
        let (fit, max_tokens) = self.fit_sampling(&wanted);
        let reserved = match fit {
            Fit::Now(reserved) => reserved,
            Fit::Later => return self.state.parked.push(Parked::Sampling(Box::new(wanted))),
            Fit::Never(error) => return self.refuse(wanted, error),
        };
        if let Err(error) = self.charge_call() {
            return self.refuse(wanted, error);
        }
        self.set_aside(reserved);
        let edge = self.edge(&wanted.server);
        edge.calls += 1;
        edge.reserved_tokens += reserved.tokens;
        edge.reserved_cost_usd += reserved.cost_usd;
        let op = wanted.key.clone();
        let sampling = Sampling { wanted, reserved, max_tokens, started_at: self.state.now, asked: Asked::default() };
        self.owe_sampling(&sampling, Entry::Fresh);
        self.state.samplings.insert(op, sampling);
    }

    fn owe_sampling(&mut self, sampling: &Sampling, entry: Entry) {
        let Wanted { key, path, spot, server, request, .. } = &sampling.wanted;
        let limit = sampling.wanted.terms.sampling.as_ref().and_then(|terms| terms.duration_ms);
        let working_left = self.working_left_of(server, limit).map(|left| self.state.now.saturating_add(left));
        let no_caller = self.state.no_caller;
        let call = CallSpec {
            what: What::Sampling { server: server.clone(), max_tokens: sampling.max_tokens, no_caller },
            args: ValueRef::inline(request.get("params").cloned().unwrap_or_default()),
            path: path.clone(),
            attempt: 1,
            key: key.clone(),
            declared: None,
            deadline: self.deadline(spot).into_iter().chain(working_left).min(),
            route: self.hops(&spot.scope),
            tools: None,
            allowance: sampling
                .reserved
                .allowance()
                .filter(|allowance| self.enforces() || allowance.cost_usd.is_some()),
        };
        let command = Command::Call { op: key.clone(), call, class: EffectClass::Idempotent, entry };
        self.owe(key.clone(), spot.clone(), Purpose::Sampling, command);
    }

    pub(super) fn sampling_done(&mut self, op: &str, record: &ValueRef, usage: Usage) {
        let Some(sampling) = self.state.samplings.remove(op) else { return };
        self.settle_sampling(&sampling, usage);
        self.show_sampling(&sampling.wanted, sampling.started_at, StepPhase::Succeeded, None);
        let content = record.as_inline().and_then(|record| record.get("output")).cloned();
        let answer = Answer { action: Action::Accept, content };
        let Wanted { key, spot, why, .. } = sampling.wanted;
        let samples = self.iteration(&spot).map(|iteration| &mut iteration.asked.samples);
        if let Some(sample) = samples.and_then(|samples| samples.iter_mut().rfind(|sample| sample.key == key)) {
            sample.answer = Some(answer.clone());
        }
        self.hand_over(&spot, why, &answer);
    }

    pub(super) fn sampling_failed(&mut self, op: &str, kind: ErrorKind, message: &str, usage: Option<Usage>) {
        let Some(sampling) = self.state.samplings.remove(op) else { return };
        // Nobody will say what it used.
        let lost = if kind == ErrorKind::Timeout { sampling.reserved.into() } else { Usage::default() };
        self.settle_sampling(&sampling, usage.unwrap_or(lost));
        self.refuse(sampling.wanted, StepError { kind, message: message.to_owned() });
    }

    /// It was under way when the driver went away.
    pub(super) fn sampling_lost(&mut self, op: &str) {
        self.take(op);
        let Some(sampling) = self.state.samplings.remove(op) else { return };
        self.settle_sampling(&sampling, sampling.reserved.into());
        self.dispatch_sampling(sampling.wanted);
    }

    /// A sampling needs answers: of the caller's model.
    pub(super) fn sampling_needs(&mut self, op: &str, requests: &BTreeMap<String, Value>, state: Option<ValueRef>) {
        let Some(sampling) = self.state.samplings.get_mut(op) else { return };
        let rounds = sampling.asked.rounds + 1;
        sampling.asked.rounds = rounds;
        sampling.asked.state = state;
        sampling.asked.answers = requests.keys().map(|name| (name.clone(), None)).collect();
        let (spot, server) = (sampling.wanted.spot.clone(), sampling.wanted.server.clone());
        if rounds > MAX_ROUNDS || requests.is_empty() {
            return self.sampling_failed(op, ErrorKind::Model, "nobody could be found who answers", None);
        }
        for (name, request) in requests {
            let by = if is_sampling(request) { By::Anyone } else { By::Human };
            let ask = Asking::Relayed { server: server.clone(), request: request.clone() };
            let why = Why::Sampling { op: op.to_owned(), name: name.clone() };
            self.open_question(format!("{op}?{rounds}.{name}"), &spot, by, ask, why);
        }
    }

    /// An answer that a sampling needed.
    pub(super) fn sampling_answered(&mut self, op: &str, name: String, answer: &Answer) {
        let Some(sampling) = self.state.samplings.get_mut(op) else { return };
        sampling.asked.answers.insert(name, Some(answer.clone()));
        let answers: Option<BTreeMap<String, Answer>> =
            sampling.asked.answers.iter().map(|(name, answer)| Some((name.clone(), answer.clone()?))).collect();
        let Some(answers) = answers else { return };
        let sampling = sampling.clone();
        let Asked { state, rounds: round, .. } = sampling.asked.clone();
        let sampled = answers.keys().cloned().collect();
        let entry = Entry::Answers { answers, sampled, state, round };
        self.owe_sampling(&sampling, entry);
    }

    fn settle_sampling(&mut self, sampling: &Sampling, usage: Usage) {
        self.put_back(sampling.reserved);
        self.use_up(usage);
        let edge = self.edge(&sampling.wanted.server);
        edge.reserved_tokens = edge.reserved_tokens.saturating_sub(sampling.reserved.tokens);
        let reserved = edge.reserved_cost_usd - sampling.reserved.cost_usd;
        edge.reserved_cost_usd = if edge.reserved_tokens == 0 { 0.0 } else { reserved.max(0.0) };
        edge.tokens += usage.tokens;
        edge.cost_usd += usage.cost_usd;
    }

    /// Tells the call that asked that it gets no answer. One that has returned to wait for it (MRTR) can't go on.
    fn refuse(&mut self, wanted: Wanted, error: StepError) {
        self.show_sampling(&wanted, self.state.now, StepPhase::Failed, Some(error.clone()));
        let Wanted { key, spot, server, why, .. } = wanted;
        if let Some(iteration) = self.iteration(&spot) {
            iteration.asked.samples.retain(|sample| sample.key != key || sample.answer.is_some());
        }
        let message = format!("the server `{server}` asks a model, and gets no answer: {}", error.message);
        match why {
            Why::Pushed { op, name } => {
                let content = serde_json::to_value(StepError { kind: error.kind, message }).ok();
                let answer = Answer { action: Action::Decline, content };
                self.out.push(Command::Answer { op, name, answer });
            }
            _ => {
                self.cancel_task(&spot);
                self.call_failed(&spot, error.kind, message, false);
            }
        }
    }

    /// Gives up what an iteration has asked models, and asks people about nothing on its behalf.
    pub(super) fn drop_samplings_of(&mut self, spot: &Spot) {
        let keys: Vec<String> = self
            .state
            .samplings
            .values()
            .filter(|sampling| sampling.wanted.spot == *spot)
            .map(|sampling| sampling.wanted.key.clone())
            .collect();
        for key in keys {
            self.drop_sampling(&key);
        }
        self.state.held.retain(|wanted| wanted.spot != *spot);
        self.state.parked.retain(|parked| match parked {
            Parked::Step(parked) => parked != spot,
            Parked::Sampling(wanted) => wanted.spot != *spot,
        });
        if let Some(iteration) = self.iteration(spot) {
            iteration.asked.samples.retain(|sample| sample.answer.is_some());
        }
        self.ask_consent();
    }

    fn drop_sampling(&mut self, key: &str) {
        let Some(sampling) = self.state.samplings.remove(key) else { return };
        let questions: Vec<String> = self
            .state
            .questions
            .iter()
            .filter(|(_, open)| matches!(&open.why, Why::Sampling { op, .. } if op == key))
            .map(|(key, _)| key.clone())
            .collect();
        for key in questions {
            self.state.questions.remove(&key);
            self.out.push(Command::Withdraw { key });
        }
        // What a model has done of it nobody will say.
        let lost = match self.take(key) {
            Some(_) => {
                self.out.push(Command::CancelCall { op: key.to_owned() });
                sampling.reserved.into()
            }
            None => Usage::default(),
        };
        self.settle_sampling(&sampling, lost);
        if let Some(iteration) = self.iteration(&sampling.wanted.spot) {
            iteration.asked.samples.retain(|sample| sample.key != key || sample.answer.is_some());
        }
        self.show_sampling(&sampling.wanted, sampling.started_at, StepPhase::Cancelled, None);
    }

    pub(super) fn edge(&mut self, server: &str) -> &mut Edge {
        self.state.edges.entry(server.to_owned()).or_default()
    }
}

pub(super) fn is_sampling(request: &Value) -> bool {
    request.get("method").is_some_and(|method| method == CREATE_MESSAGE)
}

/// What a person is asked before a server asks for the first time.
fn consent(wanted: &Wanted) -> String {
    let Wanted { server, request, terms, .. } = wanted;
    let params = request.get("params").unwrap_or(&Value::Null);
    let Some(terms) = terms.sampling.as_ref().filter(|_| is_sampling(request)) else {
        let asked = excerpt(params.get("message").and_then(Value::as_str).unwrap_or_default());
        return format!("The server `{server}` wants to ask you something: “{asked}” May it, in this run?");
    };
    let mut bounds = vec![format!("{} tokens an answer", terms.max_tokens)];
    bounds.extend(terms.tokens.map(|tokens| format!("{tokens} tokens in all")));
    bounds.extend(terms.calls.map(|calls| format!("{calls} questions in all")));
    bounds.extend(terms.cost_usd.map(|cost| format!("{cost} US dollars in all")));
    bounds.extend(terms.duration_ms.map(|ms| format!("{} s in all", ms.div_ceil(1_000))));
    let models = if terms.models.is_empty() { "auto".to_owned() } else { terms.models.join(", ") };
    format!(
        "The server `{server}` wants to ask a model: “{}” Who answers: {models}; at most {}. May it, in this run?",
        excerpt(&last_text(params)),
        bounds.join(", ")
    )
}

/// The text of the last message.
fn last_text(params: &Value) -> String {
    let content = params.get("messages").and_then(Value::as_array).and_then(|all| all.last()?.get("content"));
    let blocks = match content {
        Some(Value::Array(blocks)) => blocks.as_slice(),
        Some(block) => std::slice::from_ref(block),
        None => &[],
    };
    let texts: Vec<&str> = blocks.iter().filter_map(|block| block.get("text")?.as_str()).collect();
    texts.join(" ")
}

fn excerpt(text: &str) -> String {
    match text.char_indices().nth(EXCERPT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
