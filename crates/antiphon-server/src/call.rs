//! `tools/call` of a workflow: one run, rendered for whoever asks.
//!
//! - A modern caller that knows tasks gets a task, unless the run ends soon.
//! - A modern caller that does not gets the end, or the questions to answer before it calls again (MRTR).
//! - A legacy caller gets the end, and is asked on the way.
//! - Whoever can't answer, or would have to wait too long, gets a handle for the `run_*` tools.

use std::collections::BTreeMap;
use std::time::Duration;

use antiphon_engine::{EngineError, Run, RunId};
use rmcp::ErrorData;
use rmcp::model::{CallToolRequestParams, CallToolResponse, InputRequiredResult};
use rmcp::service::{RequestContext, RoleServer};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::caller::{Caller, Origin};
use crate::catalog::{Exposed, TaskMode};
use crate::progress::Reporter;
use crate::push::Pushes;
use crate::seal::State;
use crate::server::Shared;
use crate::{errors, handle, outcome, task};

/// For waits that something else ends.
const LONG: Duration = Duration::from_secs(3600);

/// How a run is shown to its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rendering {
    Task,
    Rounds,
    Pushed,
}

/// Why a call stops following its run.
enum Stop {
    /// The run has ended.
    Ended(Box<Run>),
    /// It needs answers that this rendering hands out.
    Asks,
    /// It takes too long.
    Late,
    /// The caller does not want it any more.
    Unwanted,
}

/// One call and its run.
pub(crate) struct Call<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) caller: &'a Caller,
    pub(crate) workflow: &'a Exposed,
    pub(crate) context: &'a RequestContext<RoleServer>,
    /// Fires when the caller cancels the request by a notification.
    pub(crate) cancelled: CancellationToken,
}

/// The run of a call.
struct Followed {
    id: RunId,
    /// Somebody has its id: whatever is shown must be durable.
    seen: bool,
    /// The caller can get at it again, so it outlives the connection.
    kept: bool,
    /// What was wrong with answers, by key.
    notes: BTreeMap<String, String>,
}

impl Call<'_> {
    /// Starts the run, or finds the one that the request continues, and follows it as far as this caller's rendering goes.
    pub(crate) async fn run(&self, params: CallToolRequestParams) -> Result<CallToolResponse, ErrorData> {
        let origin = Origin::of(self.context, &self.shared.route_key)?;
        let state = match &params.request_state {
            Some(sealed) if self.caller.modern => {
                Some(self.shared.seal.open(&self.caller.owner, &self.workflow.name, sealed)?)
            }
            _ => None,
        };
        let reply = async {
            let run = match state {
                Some(state) => self.resume(state, params).await?,
                None => self.start(params, origin).await?,
            };
            self.reply(run).await
        };
        match reply.await {
            Ok(Some(reply)) => Ok(reply),
            // Nobody is there to read this.
            Ok(None) => Err(ErrorData::internal_error("the caller cancelled the call", None)),
            Err(error) => errors::of_call(error).map(Into::into),
        }
    }

    async fn start(&self, params: CallToolRequestParams, origin: Origin) -> Result<Followed, EngineError> {
        let keyed = origin.idempotency_key.is_some();
        let input = params.arguments.unwrap_or_default();
        let started = self.shared.start(self.caller, self.workflow, input, origin).await?;
        Ok(Followed {
            id: started.id,
            seen: started.existing,
            // A legacy disconnect means nothing, and who has given a key of their own can come back with it.
            kept: started.existing || keyed || !self.caller.modern,
            notes: BTreeMap::new(),
        })
    }

    async fn resume(&self, state: State, params: CallToolRequestParams) -> Result<Followed, EngineError> {
        let run = self.shared.run_of(&self.caller.owner, &state.run).await?;
        let mut responses = params.input_responses.unwrap_or_default();
        responses.retain(|key, _| state.keys.contains(key));
        let notes = task::give(&*self.shared.engine, &run, responses).await?;
        Ok(Followed { id: run.id, seen: true, kept: true, notes })
    }

    /// What the caller gets; `None` if they want nothing any more.
    async fn reply(&self, followed: Followed) -> Result<Option<CallToolResponse>, EngineError> {
        let engine = &*self.shared.engine;
        let rendering = self.rendering();
        let stop = match (rendering, self.workflow.task.mode) {
            (Rendering::Task, TaskMode::Always) => Stop::Late,
            _ => self.follow(&followed, rendering).await?,
        };
        match &stop {
            Stop::Ended(run) if followed.seen || succeeded(run) => {
                return Ok(Some(outcome::result(engine, run, self.caller.modern).await?.into()));
            }
            Stop::Unwanted => {
                if !self.shared.stopping.is_cancelled() {
                    engine.cancel(&followed.id, "the caller cancelled the call").await?;
                }
                return Ok(None);
            }
            _ => {}
        }
        // What follows shows the id, so the record has to be durable: that is what `view` waits for.
        let run = engine.view(&followed.id).await?;
        if rendering == Rendering::Task && !matches!(stop, Stop::Ended(_)) {
            let requests = task::requests(engine, &run, self.caller.answers, &followed.notes).await?;
            return Ok(Some(task::create(&run, &requests).into()));
        }
        if run.view.status.is_terminal() {
            return Ok(Some(outcome::result(engine, &run, self.caller.modern).await?.into()));
        }
        if rendering == Rendering::Rounds {
            let requests = task::requests(engine, &run, self.caller.answers, &followed.notes).await?;
            if !requests.is_empty() {
                let state = State { run: run.id.to_string(), keys: requests.keys().cloned().collect() };
                let sealed = self.shared.seal.seal(&self.caller.owner, &self.workflow.name, &state);
                return Ok(Some(InputRequiredResult::new(Some(requests), sealed).into()));
            }
        }
        Ok(Some(handle::handle(&run).into()))
    }

    fn rendering(&self) -> Rendering {
        match (self.caller.modern, self.caller.tasks && self.workflow.task.mode != TaskMode::Never) {
            (true, true) => Rendering::Task,
            (true, false) => Rendering::Rounds,
            (false, _) => Rendering::Pushed,
        }
    }

    async fn follow(&self, followed: &Followed, rendering: Rendering) -> Result<Stop, EngineError> {
        let mut pushes = Pushes::new(self.shared, self.caller, self.context, &followed.id);
        let stop = self.watch(followed, rendering, &mut pushes).await;
        pushes.withdraw().await;
        stop
    }

    async fn watch(
        &self,
        followed: &Followed,
        rendering: Rendering,
        pushes: &mut Pushes<'_>,
    ) -> Result<Stop, EngineError> {
        let engine = &*self.shared.engine;
        let mut reporter = Reporter::new(engine, self.caller, self.context, &followed.id).await;
        // Time spent waiting for a pushed question's answer does not count: the caller knows why.
        let mut patience = match rendering {
            Rendering::Task => self.workflow.task.inline_wait,
            Rendering::Rounds | Rendering::Pushed => self.shared.inline_limit,
        };
        let mut revision = 0;
        loop {
            let began = Instant::now();
            let asking = !pushes.is_empty();
            let max = if asking { LONG } else { patience };
            tokio::select! {
                biased;
                () = self.unwanted(followed) => return Ok(Stop::Unwanted),
                run = engine.wait(&followed.id, reporter.until(revision), max, !followed.seen) => {
                    let run = run?;
                    revision = run.revision;
                    if run.view.status.is_terminal() {
                        return Ok(Stop::Ended(Box::new(run)));
                    }
                    reporter.steps(&run.view).await;
                    if !run.view.questions.is_empty() && rendering != Rendering::Pushed {
                        return Ok(Stop::Asks);
                    }
                    let asks = !run.view.questions.is_empty();
                    // Nobody is shown a question that is not durable: that is what `view` waits for.
                    let run = if asks && !followed.seen { engine.view(&followed.id).await? } else { run };
                    pushes.follow(&run).await?;
                    if asks && pushes.is_empty() {
                        return Ok(Stop::Asks);
                    }
                }
                answered = pushes.next(), if pushes.in_flight() => {
                    pushes.take(answered).await?;
                    // Look again even if the run has not moved: the caller may have turned out not to answer at all.
                    revision = 0;
                }
                progress = reporter.next() => reporter.call(progress).await,
            }
            if !asking {
                patience = patience.saturating_sub(began.elapsed());
                if patience.is_zero() && pushes.is_empty() {
                    return Ok(Stop::Late);
                }
            }
        }
    }

    /// Returns when the caller does not want the result any more.
    async fn unwanted(&self, followed: &Followed) {
        tokio::select! {
            () = self.cancelled.cancelled() => {}
            () = self.context.ct.cancelled(), if !followed.kept => {}
        }
    }
}

fn succeeded(run: &Run) -> bool {
    matches!(run.view.outcome, Some(antiphon_kernel::Outcome::Succeeded { .. }))
}
