//! Whatever plan, whatever order of events, wherever it crashes: runs end, replay gives the same state, and nothing that
//! completed runs again.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::{BTreeMap, BTreeSet};

use antiphon_kernel::*;
use proptest::prelude::*;
use serde_json::{Value, json};

/// The world: owes answers, gives them in an order and with results that `choices` decide.
struct World {
    plan: Plan,
    state: State,
    journal: Vec<Event>,
    owed: Vec<Command>,
    questions: BTreeMap<String, Question>,
    choices: Vec<u16>,
    next: usize,
    now: u64,
    /// Ops whose completion was accepted.
    completed: BTreeSet<String>,
    /// Dispatches of calls that must not be repeated, by idempotency key, and permissions to repeat.
    unsafe_dispatches: BTreeMap<String, u32>,
    permitted: BTreeMap<String, u32>,
    finished: Option<Outcome>,
    /// Tokens of answers that models gave.
    paid: u64,
}

impl World {
    fn new(plan: Plan, choices: Vec<u16>) -> Self {
        Self {
            plan,
            state: State::default(),
            journal: Vec::new(),
            owed: Vec::new(),
            questions: BTreeMap::new(),
            choices,
            next: 0,
            now: 1_000,
            completed: BTreeSet::new(),
            unsafe_dispatches: BTreeMap::new(),
            permitted: BTreeMap::new(),
            finished: None,
            paid: 0,
        }
    }

    fn choose(&mut self, bound: usize) -> usize {
        // When the choices are used up, everything goes well.
        let choice = self.choices.get(self.next).copied().unwrap_or(bound.saturating_sub(1) as u16);
        self.next += 1;
        choice as usize % bound.max(1)
    }

    fn feed(&mut self, kind: EventKind) {
        self.now += 10;
        let event = Event { at: self.now, kind };
        let commands = step(&self.plan, &mut self.state, &event);
        self.journal.push(event);
        let used = view(&self.plan, &self.state).used;
        assert!(used.tokens <= self.plan.limits.tokens, "{} of {}", used.tokens, self.plan.limits.tokens);
        assert!(used.tokens >= self.paid, "{} were paid, and {} are counted", self.paid, used.tokens);
        for command in commands {
            assert!(self.finished.is_none(), "a command after the end: {command:?}");
            match &command {
                Command::Call { op, call, class, entry } => {
                    assert!(!self.completed.contains(op), "{op} completed, and is called again");
                    if *class == EffectClass::AtMostOnce && *entry == Entry::Fresh {
                        let count = self.unsafe_dispatches.entry(call.key.clone()).or_default();
                        *count += 1;
                        let permitted = 1 + self.permitted.get(&call.key).copied().unwrap_or(0);
                        assert!(*count <= permitted, "{} repeated unasked", call.key);
                    }
                }
                Command::Ask(question) => {
                    let twice = self.questions.insert(question.key.clone(), question.clone());
                    assert!(twice.is_none(), "asked twice: {twice:?}, then {question:?}");
                    continue;
                }
                Command::Withdraw { key } => {
                    self.questions.remove(key);
                    continue;
                }
                Command::CancelTimer { op } => {
                    self.owed.retain(|owed| !matches!(owed, Command::Timer { op: id, .. } if id == op));
                    continue;
                }
                Command::CancelCall { .. } | Command::Answer { .. } | Command::Return { .. } => continue,
                Command::Finish(outcome) => {
                    self.finished = Some(outcome.clone());
                    continue;
                }
                _ => {}
            }
            self.owed.push(command);
        }
    }

    /// The answer to one thing owed.
    fn answer(&mut self, command: Command) {
        let kind = match command {
            Command::Eval { op, jobs, .. } => {
                let results = jobs.iter().map(|job| self.evaluate(job)).collect();
                EventKind::Evaluated { op, results }
            }
            Command::Prepare { op, call } => match self.choose(12) {
                0 => failed(op, ErrorKind::Unavailable, false, None),
                _ => {
                    let class = call.declared.unwrap_or(EffectClass::AtMostOnce);
                    let price = Some(Price { input: 1.0, output: 2.0 });
                    let tools = Some(ValueRef::inline(json!([{ "name": "t" }])));
                    EventKind::Prepared { op, class, fingerprint: None, price, tools }
                }
            },
            Command::Call { op, call, class, entry } => match &call.what {
                What::Sample { .. } => self.sample(op, MAX_TOKENS),
                What::Sampling { max_tokens, .. } => match self.choose(5) {
                    0 if entry == Entry::Fresh => EventKind::NeedsInput {
                        op,
                        requests: [("caller".to_owned(), asks_model(0))].into(),
                        state: None,
                        terms: Terms::default(),
                    },
                    _ => self.sample(op, *max_tokens),
                },
                What::Tool { .. } | What::Read { .. } => match self.choose(12) {
                    0 => {
                        let kind = if self.choose(2) == 0 { ErrorKind::Tool } else { ErrorKind::Rpc };
                        failed(op, kind, false, None)
                    }
                    1 => failed(op, ErrorKind::Unavailable, true, None),
                    2 => {
                        let requests = [
                            ("q".to_owned(), json!({ "method": "elicitation/create" })),
                            ("m".to_owned(), asks_model(self.choose(2))),
                        ];
                        let requests = requests.into_iter().skip(self.choose(2)).collect();
                        let state = (self.choose(2) == 0).then(|| ValueRef::inline("sealed"));
                        EventKind::NeedsInput { op, requests, state, terms: self.terms() }
                    }
                    3 => EventKind::Detached { op, handle: json!("task-1") },
                    // It asks, and goes on without the answer, or waits.
                    choice @ (4..=6) => {
                        let name = format!("ask-{}", self.choose(3));
                        let request = match (choice, self.choose(3)) {
                            (4, 0) => json!({}),
                            (_, 0) => calls_back(self.choose(2)),
                            _ => asks_model(self.choose(2)),
                        };
                        let terms = self.terms();
                        let asked = EventKind::Asked { op: op.clone(), name, request, terms };
                        if choice == 6 {
                            self.owed.push(Command::Call { op, call, class, entry });
                            asked
                        } else {
                            self.owed.retain(|owed| !matches!(owed, Command::Call { op: id, .. } if *id == op));
                            self.feed(asked);
                            self.complete(op)
                        }
                    }
                    _ => self.complete(op),
                },
            },
            Command::Timer { op, due } => {
                self.now = self.now.max(due);
                EventKind::Timer { op }
            }
            other => panic!("not owed: {other:?}"),
        };
        self.feed(kind);
    }

    /// A model answers, or fails, and says what it used: never more than it was granted.
    fn sample(&mut self, op: String, granted: u64) -> EventKind {
        let used = Usage { tokens: self.choose(granted as usize + 1) as u64, ..Usage::default() };
        match self.choose(6) {
            0 => failed(op, ErrorKind::Model, false, Some(used)),
            1 => failed(op, ErrorKind::Timeout, false, None),
            _ => {
                self.paid += used.tokens;
                self.completed.insert(op.clone());
                let record = ValueRef::inline(json!({ "output": { "content": { "type": "text", "text": "hm" } } }));
                EventKind::Done { op, record, usage: Some(used) }
            }
        }
    }

    fn terms(&mut self) -> Terms {
        let sampling = SamplingTerms {
            asks: self.choose(3) == 0,
            models: vec!["m".into()],
            max_tokens: 40,
            tokens: (self.choose(3) == 0).then_some(100),
            calls: (self.choose(3) == 0).then_some(2),
            rounds: 3,
            cost_usd: (self.choose(4) == 0).then_some(0.0001),
            duration_ms: (self.choose(4) == 0).then_some(100),
            price: Some(Price { input: 1.0, output: 2.0 }),
        };
        Terms { elicitation_asks: self.choose(3) == 0, sampling: (self.choose(8) > 0).then_some(sampling) }
    }

    fn complete(&mut self, op: String) -> EventKind {
        self.completed.insert(op.clone());
        EventKind::Done { op, record: ValueRef::inline(json!({ "output": 1 })), usage: None }
    }

    fn evaluate(&mut self, job: &Job) -> Evaluated {
        let choice = self.choose(12);
        if choice == 0 {
            return Evaluated::Error { kind: ErrorKind::Template, message: "bad".into() };
        }
        match job {
            Job::Eval { want: Want::Bool, .. } => Evaluated::Value(ValueRef::inline(choice > 3)),
            Job::Eval { want: Want::List, .. } => {
                Evaluated::List { list: ValueRef::inline(json!([1, 2, 3])), len: choice % 4 }
            }
            Job::Eval { .. } if choice == 1 => Evaluated::Absent { step: "x".into() },
            Job::Eval { want: Want::Time, .. } => Evaluated::Value(ValueRef::inline(self.now + 100)),
            Job::Eval { want: Want::String, .. } => Evaluated::Value(ValueRef::inline("a")),
            _ => Evaluated::Value(ValueRef::inline(json!({ "output": 1 }))),
        }
    }

    fn reply(&mut self, key: &str) {
        let question = self.questions.remove(key).unwrap();
        let choice = self.choose(4);
        let answer = match (&question.ask, choice) {
            (Asking::Doubt { call, .. }, 0) => {
                *self.permitted.entry(call.key.clone()).or_default() += 1;
                Answer { action: Action::Accept, content: Some(json!({ "choice": "retry" })) }
            }
            (Asking::Doubt { .. }, 1) => {
                Answer { action: Action::Accept, content: Some(json!({ "choice": "result", "result": 7 })) }
            }
            (Asking::Doubt { .. }, 2) => Answer { action: Action::Accept, content: Some(json!({ "choice": "skip" })) },
            (_, 3) => Answer { action: Action::Decline, content: None },
            _ => Answer { action: Action::Accept, content: Some(json!({ "name": "x" })) },
        };
        self.feed(EventKind::Input { key: key.to_owned(), answer });
    }

    /// The process dies and another takes over: what was in flight is gone, the state is what the journal says.
    fn crash(&mut self) {
        // What models did that were being asked, nobody has said.
        for command in std::mem::take(&mut self.owed) {
            if let Command::Call { call, entry: Entry::Fresh, .. } = command {
                self.paid += match call.what {
                    What::Sample { .. } => self.choose(MAX_TOKENS as usize + 1) as u64,
                    What::Sampling { max_tokens, .. } => self.choose(max_tokens as usize + 1) as u64,
                    What::Tool { .. } | What::Read { .. } => 0,
                };
            }
        }
        self.state = replay(&self.plan, &self.journal);
        let before: BTreeSet<String> = self.questions.keys().cloned().collect();
        self.feed(EventKind::Resumed);
        let open = view(&self.plan, &self.state).questions.into_iter().map(|question| question.key);
        let open: BTreeSet<String> = open.collect();
        assert!(before.intersection(&open).all(|key| self.questions.contains_key(key)));
    }

    fn run(&mut self) {
        let started = EventKind::Started {
            key: "k".into(),
            input: ValueRef::inline(json!({})),
            route: Vec::new(),
            caller_samples: self.choose(4) > 0,
        };
        self.feed(started);
        // Each round of the world takes a choice; when all are used up, everything goes well.
        // What is called back takes a few more than the choice that brought it.
        for _ in 0..10 * self.choices.len() + most_events(&self.plan) {
            if self.finished.is_some() {
                return;
            }
            match self.choose(60) {
                0 => self.crash(),
                1 if self.choose(8) == 0 => self.feed(EventKind::Cancel { reason: "enough".into() }),
                2 => {
                    // Late and doubled events change nothing.
                    let again = self.journal[self.next % self.journal.len()].kind.clone();
                    // An op that is in flight again, as those of tasks are, takes what comes for it.
                    let in_flight = |op: &String| {
                        self.owed.iter().any(|owed| matches!(owed, Command::Call { op: id, .. } if id == op))
                    };
                    if let EventKind::Done { op, .. } | EventKind::Failed { op, .. } = &again
                        && !in_flight(op)
                    {
                        let before = self.state.clone();
                        self.feed(again.clone());
                        if let EventKind::Done { op, .. } = again
                            && self.completed.contains(&op)
                        {
                            assert_eq!(view(&self.plan, &before), view(&self.plan, &self.state));
                        }
                    }
                }
                _ => {
                    let owed = self.owed.len();
                    if owed + self.questions.len() == 0 {
                        panic!("nothing is owed, and the run has not ended: {:#?}", view(&self.plan, &self.state));
                    }
                    let choice = self.choose(owed + self.questions.len());
                    if choice < owed {
                        let command = self.owed.remove(choice);
                        self.answer(command);
                    } else {
                        let key = self.questions.keys().nth(choice - owed).unwrap().clone();
                        self.reply(&key);
                    }
                }
            }
        }
        panic!("the run does not end: {:#?}", view(&self.plan, &self.state));
    }
}

/// What a step's sample is granted.
const MAX_TOKENS: u64 = 10;

fn failed(op: String, kind: ErrorKind, in_doubt: bool, usage: Option<Usage>) -> EventKind {
    EventKind::Failed { op, kind, message: "no".into(), in_doubt, usage }
}

/// A server's request for a model: one of a few, so that some are asked again.
fn asks_model(number: usize) -> Value {
    json!({ "method": "sampling/createMessage", "params": { "messages": [number], "maxTokens": 30 } })
}

/// A server's call of a tool, likewise.
fn calls_back(number: usize) -> Value {
    json!({ "method": "tools/call", "params": { "name": "a", "arguments": { "n": number } } })
}

fn replay(plan: &Plan, journal: &[Event]) -> State {
    let mut state = State::default();
    for event in journal {
        step(plan, &mut state, event);
    }
    state
}

fn expr(text: &str) -> Expr {
    Expr { source: Source::Expression(text.into()), steps: BTreeSet::new(), vars: BTreeSet::new() }
}

fn call() -> Verb {
    let callee = Callee::Tool { server: "s".into(), tool: "t".into() };
    Verb::Call { target: Target::Fixed(callee), with: expr("{}") }
}

/// What the server may call: its own tool again.
fn back() -> Graph {
    let Verb::Call { target: Target::Fixed(callee), with } = call() else { unreachable!() };
    let target = Target::OneOf { choice: expr("input.name"), among: [("a".to_owned(), callee)].into() };
    let step = Step::plain("call", Verb::Call { target, with });
    Graph { steps: vec![step], output: Some(Output::Of(vec!["call".to_owned()])) }
}

/// A dependency on some earlier step: which, whether it uses it, whether it asks.
type AnyDep = (prop::sample::Index, bool, bool);

/// Any step, and its dependencies.
fn any_step(depth: u32) -> BoxedStrategy<(Step, Vec<AnyDep>)> {
    let leaf = prop_oneof![
        4 => Just(call()),
        1 => Just(Verb::Set { value: expr("1") }),
        1 => Just(Verb::Wait(Wait::For(500))),
        1 => Just(Verb::Elicit { message: expr("q"), form: Form::Confirm, by: By::Human }),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(models, tools)| Verb::Sample {
            models: if models { vec!["m".into()] } else { Vec::new() },
            caller: true,
            request: expr("r"),
            max_tokens: MAX_TOKENS,
            tools
        }),
        1 => Just(Verb::Read { server: "s".into(), uri: expr("u") }),
        1 => Just(Verb::Call {
            target: Target::Fixed(Callee::Workflow { name: "inner".into() }),
            with: expr("{}")
        }),
    ];
    let verb = match depth {
        0 => leaf.boxed(),
        _ => prop_oneof![4 => leaf, 1 => any_graph(depth - 1).prop_map(|body| Verb::Do { body })].boxed(),
    };
    let modifiers = (
        prop::option::weighted(0.2, Just(expr("w"))),
        prop::option::weighted(0.2, (1u32..3, 0u32..3)),
        prop::option::weighted(0.2, (any::<bool>(), prop::option::of(Just(2_000u64)), any::<bool>())),
        prop::option::weighted(0.3, (1u32..4, any::<bool>())),
        prop::option::weighted(0.3, Just(300u64)),
        prop::option::weighted(0.2, Just(expr("e"))),
        0u8..4,
        prop::option::weighted(0.3, Just(())),
        prop_oneof![Just(None), Just(Some(EffectClass::ReadOnly)), Just(Some(EffectClass::Idempotent))],
        prop_oneof![4 => Just(OnDoubt::Ask), 1 => Just(OnDoubt::Fail), 1 => Just(OnDoubt::Skip)],
    );
    let deps = prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), any::<bool>()), 0..3);
    (verb, modifiers, deps)
        .prop_map(|(verb, (when, each, repeat, retry, timeout_ms, expect, on_error, undo, effects, on_doubt), deps)| {
            let block = matches!(verb, Verb::Do { .. });
            let calls = matches!(verb, Verb::Call { .. });
            let step = Step {
                when,
                for_each: each.map(|(concurrency, tolerate)| ForEach {
                    items: expr("l"),
                    name: "item".into(),
                    concurrency,
                    tolerate: Tolerate::Count(tolerate),
                }),
                repeat: repeat.map(|(until, within_ms, last)| Repeat {
                    until: until.then(|| expr("u")),
                    max: Some(3),
                    within_ms,
                    every_ms: Some(50),
                    exhausted: if last { Exhausted::Last } else { Exhausted::Fail },
                }),
                retry: retry.filter(|_| !block).map(|(attempts, tool)| Retry {
                    attempts,
                    backoff_ms: 20,
                    on: if tool {
                        [ErrorKind::Tool, ErrorKind::Timeout].into()
                    } else {
                        [ErrorKind::Unavailable].into()
                    },
                }),
                timeout_ms,
                expect,
                on_error: match on_error {
                    0 => OnError::Continue,
                    1 => OnError::Fallback(expr("f")),
                    _ => OnError::Fail,
                },
                undo: undo
                    .filter(|()| calls)
                    .map(|()| Box::new(Graph { steps: vec![Step::plain("undo", call())], output: None })),
                effects,
                on_doubt,
                ..Step::plain("", verb)
            };
            (step, deps)
        })
        .boxed()
}

fn any_graph(depth: u32) -> BoxedStrategy<Graph> {
    prop::collection::vec(any_step(depth), 1..5)
        .prop_map(move |steps| {
            let mut graph = Graph::default();
            for (number, (mut step, deps)) in steps.into_iter().enumerate() {
                step.id = format!("s{depth}{number}");
                for (index, uses, asks) in deps {
                    if number > 0 {
                        let other = format!("s{depth}{}", index.index(number));
                        step.deps.insert(other, Dep { uses: uses && !asks, asks });
                    }
                }
                graph.steps.push(step);
            }
            graph
        })
        .boxed()
}

/// More events than a run of the plan takes when nothing is lost or comes twice.
fn most_events(plan: &Plan) -> usize {
    fn of_graph(plan: &Plan, graph: &Graph) -> usize {
        let of_step = |step: &Step| {
            let work = match &step.verb {
                Verb::Do { body } => of_graph(plan, body),
                Verb::Call { target: Target::Fixed(Callee::Workflow { name }), .. } => {
                    of_graph(plan, &plan.workflows[name].body)
                }
                _ => 10,
            };
            let undo = step.undo.as_ref().map_or(0, |undo| of_graph(plan, undo));
            let attempts = step.retry.as_ref().map_or(1, |retry| retry.attempts as usize);
            let rounds = step.repeat.as_ref().map_or(1, |_| 3);
            let items = step.for_each.as_ref().map_or(1, |_| 3);
            10 + items * (10 + rounds * (10 + attempts * (10 + work)) + undo)
        };
        10 + graph.steps.iter().map(of_step).sum::<usize>()
    }
    of_graph(plan, &plan.workflows[&plan.root].body)
}

/// Plans with loops in loops in loops may take a hundred thousand events: not those.
fn any_plan() -> impl Strategy<Value = Plan> {
    whatever_plan().prop_filter("a run of it takes too long", |plan| most_events(plan) <= 12_000)
}

fn whatever_plan() -> impl Strategy<Value = Plan> {
    let limits = (prop_oneof![Just(200_000u64), 20u64..300], prop::option::weighted(0.2, Just(0.001)));
    (any_graph(2), any_graph(0), limits).prop_map(|(outer, mut inner, (tokens, cost_usd))| {
        inner
            .steps
            .retain(|step| !matches!(&step.verb, Verb::Call { target: Target::Fixed(Callee::Workflow { .. }), .. }));
        for step in &mut inner.steps {
            step.deps.clear();
        }
        let workflow = |name: &str, body: Graph| {
            let schema: Value = json!({ "type": "object" });
            let workflow = Workflow { name: name.into(), agent: None, input_schema: schema, output_schema: None, body };
            (name.to_owned(), workflow)
        };
        Plan {
            kernel: KERNEL_VERSION,
            root: "outer".into(),
            workflows: [workflow("outer", outer), workflow("inner", inner), workflow("back:s", back())].into(),
            limits: Limits { tokens, cost_usd, ..Limits::default() },
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, max_shrink_iters: 300, ..ProptestConfig::default() })]

    #[test]
    fn every_run_ends_and_replays(plan in any_plan(), choices in prop::collection::vec(any::<u16>(), 0..1_500)) {
        let mut world = World::new(plan, choices);
        world.run();
        let last = view(&world.plan, &world.state);
        prop_assert!(last.status.is_terminal());
        prop_assert!(last.questions.is_empty());
        prop_assert!(last.steps.iter().all(|step| step.ended_at.is_some()), "{:#?}", last.steps);

        // The journal gives the state, from the start and from any state that was stored on the way.
        prop_assert_eq!(&replay(&world.plan, &world.journal), &world.state);
        let cut = world.journal.len() / 2;
        let stored = serde_json::to_vec(&replay(&world.plan, &world.journal[..cut])).unwrap();
        let mut resumed: State = serde_json::from_slice(&stored).unwrap();
        for event in &world.journal[cut..] {
            step(&world.plan, &mut resumed, event);
        }
        prop_assert_eq!(&resumed, &world.state);
    }
}
