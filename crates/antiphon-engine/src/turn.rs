//! What an actor does about each happening: record it, ask the kernel what follows, and do that.

use std::collections::VecDeque;
use std::collections::hash_map::Entry as Slot;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use antiphon_kernel::{
    Action, Answer, CallSpec, Command, EffectClass, Entry, ErrorKind, Evaluated, Event, EventKind, Job, OpId, Scope,
    ValueRef, expr, step,
};
use tokio::time::Instant;

use crate::actor::{Actor, FAREWELL, Happening, Phase};
use crate::answers;
use crate::api::EngineError;
use crate::blobs::Fetched;
use crate::calls::{Landed, Landing, needs_disk};
use crate::dispatch::Dispatch;
use crate::effects::{CallFailure, CallOutcome, Prepared};
use crate::journal::{Receipt, Urgency};
use crate::registry::{Asked, Mail};

impl Actor {
    /// Deals with one happening.
    pub(crate) async fn take(&mut self, happening: Happening) {
        match happening {
            Happening::Mail(mail) => self.read(mail).await,
            Happening::Landed(landed) => {
                if let Some(event) = self.outcome(landed) {
                    self.apply(event).await;
                }
            }
            Happening::Due => {
                let now = self.core.clock().now();
                while self.phase == Phase::Driving
                    && let Some(op) = self.timers.pop(now)
                {
                    self.apply(EventKind::Timer { op }).await;
                }
            }
            Happening::Pause => self.phase = Phase::Pausing { owing: false },
        }
    }

    async fn read(&mut self, mail: Mail) {
        match mail {
            Mail::Asked(asked) => {
                let Asked { op, name, request, terms, reply } = *asked;
                if self.calls.asks(&op, name.clone(), reply) {
                    self.apply(EventKind::Asked { op, name, request, terms }).await;
                }
            }
            Mail::Input { key, answer, reply } => {
                let taken = self.input(key, *answer).await;
                let _ = reply.send(taken);
            }
            Mail::Cancel { reason, reply } => {
                let taken = match self.phase {
                    Phase::Driving => {
                        self.apply(EventKind::Cancel { reason }).await;
                        Ok(Some(self.commit()))
                    }
                    Phase::Pausing { .. } => Err(EngineError::Stopping),
                    Phase::Ended { .. } => Ok(Some(self.tape.receipt.clone())),
                };
                let _ = reply.send(taken);
            }
            Mail::Look { reply } => self.looking.push(reply),
        }
    }

    async fn input(&mut self, key: String, answer: Answer) -> Result<Option<Receipt>, EngineError> {
        match self.phase {
            Phase::Driving => {}
            Phase::Pausing { .. } => return Err(EngineError::Stopping),
            Phase::Ended { .. } => return Ok(None),
        }
        if self.stale {
            self.refresh();
            self.stale = true;
        }
        let Some(question) = self.shown.view.questions.iter().find(|question| question.key == key) else {
            return Ok(None);
        };
        let answer = answers::fit(question, answer)?;
        self.apply(EventKind::Input { key, answer }).await;
        Ok(Some(self.commit()))
    }

    /// The event that a call's end means.
    fn outcome(&mut self, landed: Landed) -> Option<EventKind> {
        let Landed { op, class, landing, .. } = landed;
        let (outcome, inline) = match landing {
            Landing::Called { outcome, inline } => (*outcome, inline),
            Landing::Prepared(Err(failure)) => (CallOutcome::Failed(failure), false),
            // What it allows must not begin any more; it will be asked for again.
            Landing::Prepared(Ok(_)) if self.phase != Phase::Driving => {
                self.owe();
                return None;
            }
            Landing::Prepared(Ok(prepared)) => {
                let Prepared { class, fingerprint, price, tools } = prepared;
                let tools = tools.map(|tools| self.tape.store(Arc::new(tools), &self.core.blobs));
                return Some(EventKind::Prepared { op, class, fingerprint, price, tools });
            }
            Landing::Withheld => return None,
        };
        Some(match outcome {
            CallOutcome::Done { record, usage } => {
                // Paid for, or done to the world: the sooner it is safe, the better.
                if usage.is_some() || class != EffectClass::ReadOnly {
                    self.tape.urge(Urgency::Now);
                }
                match serde_json::to_value(record) {
                    Ok(record) if inline => EventKind::Done { op, record: ValueRef::inline(record), usage },
                    Ok(record) => {
                        EventKind::Done { op, record: self.tape.store(Arc::new(record), &self.core.blobs), usage }
                    }
                    Err(error) => EventKind::Failed {
                        op,
                        kind: ErrorKind::InvalidOutput,
                        message: format!("its result can't be recorded: {error}"),
                        in_doubt: false,
                        usage,
                    },
                }
            }
            CallOutcome::Failed(CallFailure { kind, message, in_doubt }) => {
                EventKind::Failed { op, kind, message, in_doubt, usage: None }
            }
            CallOutcome::FailedAfter(CallFailure { kind, message, in_doubt }, usage) => {
                self.tape.urge(Urgency::Now);
                EventKind::Failed { op, kind, message, in_doubt, usage: Some(usage) }
            }
            CallOutcome::NeedsInput { requests, state, terms } => {
                let state = state.map(|state| self.tape.store(Arc::new(state), &self.core.blobs));
                EventKind::NeedsInput { op, requests, state, terms }
            }
            CallOutcome::Detached { handle } => {
                self.tape.urge(Urgency::Now);
                EventKind::Detached { op, handle }
            }
        })
    }

    /// Something has to be done when the run goes on.
    fn owe(&mut self) {
        if let Phase::Pausing { owing } = &mut self.phase {
            *owing = true;
        }
    }

    async fn apply(&mut self, event: EventKind) {
        let commands = self.record(event);
        self.carry_out_all(commands).await;
    }

    /// Records an event and asks the kernel what follows. After the end nothing does.
    pub(crate) fn record(&mut self, kind: EventKind) -> Vec<Command> {
        if matches!(self.phase, Phase::Ended { .. }) {
            return Vec::new();
        }
        let event = Event { at: self.core.clock().now().max(self.tape.at), kind };
        let commands = step(&self.plan.plan, &mut self.state, &event);
        self.stale = true;
        self.active_at = Instant::now();
        if let Err(error) = self.tape.note(&event) {
            self.tape.gate.close(&error.to_string());
            return Vec::new();
        }
        commands
    }

    /// Carries out commands and those that follow from them at once.
    pub(crate) async fn carry_out_all(&mut self, commands: Vec<Command>) {
        let mut commands = VecDeque::from(commands);
        while let Some(command) = commands.pop_front() {
            if let Some(event) = self.carry_out(command).await {
                commands.extend(self.record(event));
            }
        }
    }

    async fn carry_out(&mut self, command: Command) -> Option<EventKind> {
        match command {
            Command::Eval { op, jobs, scope } => match self.evaluate(&jobs, &scope).await {
                Ok(results) => return Some(EventKind::Evaluated { op, results }),
                Err(error) => self.tape.gate.close(&error.to_string()),
            },
            Command::Prepare { .. } | Command::Call { .. } if self.phase != Phase::Driving => self.owe(),
            Command::Prepare { op, call } => self.prepare(op, call),
            Command::Call { op, call, class, entry } => self.call(op, call, class, entry),
            Command::Timer { op, due } => self.timers.set(op, due),
            Command::CancelTimer { op } => self.timers.clear(&op),
            Command::Answer { op, name, answer } => {
                let receipt = self.commit();
                self.calls.answer(&op, &name, &answer, &receipt);
            }
            Command::Return { op, name, record } => {
                let receipt = self.commit();
                match self.core.value(&record).await {
                    Ok(value) => {
                        let answer = Answer { action: Action::Accept, content: Some(Arc::unwrap_or_clone(value)) };
                        self.calls.answer(&op, &name, &answer, &receipt);
                    }
                    Err(error) => self.tape.gate.close(&error.to_string()),
                }
            }
            Command::CancelCall { op } => self.calls.cancel(&op),
            // The view shows what is asked.
            Command::Ask(_) | Command::Withdraw { .. } => {}
            Command::Finish(_) => {
                self.calls.cancel_all();
                self.phase = Phase::Ended { at: self.tape.at, farewell: Instant::now() + FAREWELL };
            }
        }
        None
    }

    /// Evaluates jobs in order, up to the first that yields no value.
    async fn evaluate(&mut self, jobs: &[Job], scope: &Scope) -> Result<Vec<Evaluated>, EngineError> {
        let mut results = Vec::with_capacity(jobs.len());
        let mut fetched = Fetched::default();
        for job in jobs {
            for sha256 in expr::blobs(job, scope) {
                if let Slot::Vacant(missing) = fetched.0.entry(sha256) {
                    let value = match self.core.blobs.recent(missing.key()) {
                        Some(value) => value,
                        None => {
                            // It may be on the tape.
                            self.commit();
                            self.core.blob(missing.key()).await?
                        }
                    };
                    missing.insert(value);
                }
            }
            let result = catch_unwind(AssertUnwindSafe(|| expr::run(job, scope, &fetched))).unwrap_or_else(|_| {
                Evaluated::Error {
                    kind: ErrorKind::Template,
                    message: "an internal error of antiphon interrupted the evaluation; its log tells more".into(),
                }
            });
            match result {
                Evaluated::Value(value) => results.push(Evaluated::Value(self.out_of_line(value))),
                Evaluated::List { list, len } => results.push(Evaluated::List { list: self.out_of_line(list), len }),
                nothing => {
                    results.push(nothing);
                    break;
                }
            }
        }
        Ok(results)
    }

    fn out_of_line(&mut self, value: ValueRef) -> ValueRef {
        match value {
            ValueRef::Inline(value) => self.tape.store(value, &self.core.blobs),
            blob @ ValueRef::Blob { .. } => blob,
        }
    }

    fn prepare(&mut self, op: OpId, call: CallSpec) {
        let (core, info) = (Arc::clone(&self.core), Arc::clone(&self.info));
        if is_large(&call, &Entry::Fresh) {
            self.commit();
        }
        self.calls.start(op, EffectClass::ReadOnly, true, |_| async move {
            Landing::Prepared(match core.value(&call.args).await {
                Ok(args) => core.effects.prepare(&info, &call, args).await,
                Err(error) => {
                    Err(CallFailure { kind: ErrorKind::Unavailable, message: error.to_string(), in_doubt: false })
                }
            })
        });
    }

    fn call(&mut self, op: OpId, call: CallSpec, class: EffectClass, entry: Entry) {
        self.read_only &= class == EffectClass::ReadOnly;
        // A task that its server keeps is found again.
        let repeatable = class != EffectClass::AtMostOnce || matches!(entry, Entry::Attach { .. });
        let waits = needs_disk(class, &entry);
        // What is large may have to be read back: then it must not be on the tape.
        let after = (waits || is_large(&call, &entry)).then(|| self.commit()).filter(|_| waits);
        let dispatch = Dispatch {
            core: Arc::clone(&self.core),
            info: Arc::clone(&self.info),
            gate: Arc::clone(&self.tape.gate),
            board: Arc::clone(&self.board),
            post: self.post.clone(),
            op: op.clone(),
            call,
            entry,
            after,
        };
        self.calls.start(op, class, repeatable, |cancelled| dispatch.run(cancelled));
    }
}

/// Whether something that the call needs is kept out of line.
fn is_large(call: &CallSpec, entry: &Entry) -> bool {
    let state = match entry {
        Entry::Answers { state, .. } => state.as_ref(),
        Entry::Fresh | Entry::Cancel { .. } | Entry::Attach { .. } => None,
    };
    [Some(&call.args), call.tools.as_ref(), state].iter().any(|value| matches!(value, Some(ValueRef::Blob { .. })))
}
