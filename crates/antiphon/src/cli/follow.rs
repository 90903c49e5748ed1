//! Following a run until it ends, or needs somebody who is not here.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::time::Duration;

use antiphon_engine::Run;
use antiphon_kernel::{Answer, Asking, Outcome, Question, RunStatus, RunView, StepPhase};
use miette::miette;

use super::Hint;
use super::print;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::owner::Hub;
use crate::owner::verbs::{Respond, RunShown, Show, Wait};
use crate::stop::Stop;
use crate::ui::form::{self, Shown};
use crate::ui::live::Live;
use crate::ui::{self};

/// How long one request waits for news; the times on the screen are brought up to date in between.
const NEWS: Duration = Duration::from_secs(15);

/// How often running times are redrawn.
const REDRAW: Duration = Duration::from_millis(250);

/// A view with more steps than this is not fetched anew for each change.
const MANY_STEPS: usize = 100;

/// How to follow.
pub struct Follow<'a> {
    /// Where the run is.
    pub hub: &'a Hub,
    /// How others get there.
    pub hint: Hint,
    /// Compact JSON on standard output, whatever the output is.
    pub json: bool,
    /// Nobody but this process knows the id yet.
    pub inline: bool,
    /// Questions are put to the person at the terminal, if there is one.
    pub ask: bool,
}

/// Why following ended.
enum Ending {
    Ended,
    Stuck,
    Stopped,
}

/// What came of a question on the terminal.
enum Put {
    Answered(Answer),
    LeftOpen,
    /// A signal, or Ctrl-C, which a form reads as a key.
    Interrupted,
}

impl Follow<'_> {
    /// Follows the run of this id and prints what comes of it.
    pub async fn follow(&self, id: &str) -> Result<Exit, Fault> {
        let mut live = Live::new();
        let (ending, last) = self.watch(id, &mut live).await.map_err(|fault| self.lost(id, fault))?;
        live.finish();
        match ending {
            Ending::Ended => print::outcome(&last, self.json, &self.hint),
            Ending::Stuck => {
                self.disclose(id).await?;
                Err(stuck(&last.run, &self.hint))
            }
            Ending::Stopped => {
                self.hub.stop().await;
                Err(self.stopped(id).await)
            }
        }
    }

    async fn watch(&self, id: &str, live: &mut Live) -> Result<(Ending, RunShown), Fault> {
        let mut stop = Stop::listen()?;
        let mut left_open = BTreeSet::new();
        let mut after = 0;
        loop {
            let wait = Wait { id: id.to_owned(), after, max_ms: NEWS.as_millis() as u64, inline: self.inline };
            let mut news = std::pin::pin!(self.hub.ask(wait));
            let shown = loop {
                tokio::select! {
                    shown = &mut news => break shown?,
                    () = stop.requested() => {
                        let last = self.hub.ask(Show { id: id.to_owned() }).await?;
                        return Ok((Ending::Stopped, last));
                    }
                    () = tokio::time::sleep(REDRAW) => live.redraw(),
                }
            };
            after = shown.run.revision;
            shown.progress.iter().cloned().for_each(|report| live.report(report));
            live.show(&shown.run.view);
            if shown.run.view.steps.len() > MANY_STEPS && !shown.run.view.status.is_terminal() {
                tokio::time::sleep(REDRAW).await;
            }
            if shown.run.view.status.is_terminal() {
                return Ok((Ending::Ended, shown));
            }
            let open: Vec<&Question> =
                shown.run.view.questions.iter().filter(|question| !left_open.contains(&question.key)).collect();
            match open.first() {
                Some(question) if self.ask && ui::can_ask() => {
                    self.disclose(id).await?;
                    match self.put(live, question, &shown, &mut stop).await? {
                        Put::Answered(answer) => self.respond(id, question, answer).await?,
                        Put::LeftOpen => drop(left_open.insert(question.key.clone())),
                        Put::Interrupted => return Ok((Ending::Stopped, shown)),
                    }
                    // What has changed while the form was open is asked for at once.
                    after = 0;
                }
                _ if is_stuck(&shown.run.view) => return Ok((Ending::Stuck, shown)),
                _ => {}
            }
        }
    }

    /// Puts a question on the terminal.
    async fn put(&self, live: &Live, question: &Question, shown: &RunShown, stop: &mut Stop) -> Result<Put, Fault> {
        let form = Shown::of(question, shown.requests.get(&question.key));
        live.leave();
        let before = ui::Before::prompt();
        let asked = tokio::select! {
            asked = tokio::task::spawn_blocking(move || form::ask(&form)) => Some(asked),
            () = stop.requested() => None,
        };
        live.come_back();
        let Some(asked) = asked else {
            before.restore();
            return Ok(Put::Interrupted);
        };
        match asked.map_err(|e| Fault::internal(format!("the form ended badly: {e}")))? {
            Ok(Some(answer)) => Ok(Put::Answered(answer)),
            Ok(None) => Ok(Put::LeftOpen),
            Err(dialoguer::Error::IO(error)) if error.kind() == ErrorKind::Interrupted => Ok(Put::Interrupted),
            Err(error) => Err(Fault::internal(format!("can't ask on this terminal: {error}"))),
        }
    }

    async fn respond(&self, id: &str, question: &Question, answer: Answer) -> Result<(), Fault> {
        let respond = Respond { id: id.to_owned(), key: question.key.clone(), answer };
        match self.hub.ask(respond).await {
            Ok(reply) if reply.accepted => Ok(()),
            Ok(_) => {
                tracing::warn!(
                    "`{}` is not open any more: somebody else has answered, or its time is up",
                    question.path
                );
                Ok(())
            }
            // A form that was filled in badly is asked again.
            Err(fault) if fault.exit == Exit::Usage => {
                tracing::warn!("{}", fault.message());
                Ok(())
            }
            Err(fault) => Err(fault),
        }
    }

    /// What is on disk of a run whose record could not be written goes on once the cause is gone.
    fn lost(&self, id: &str, fault: Fault) -> Fault {
        match fault.exit {
            Exit::Internal if fault.help().is_none() => {
                let (runs, resume) =
                    (self.hint.command("runs"), self.hint.command(&format!("resume {}", print::short(id))));
                Fault::internal_with(
                    fault.message(),
                    format!("`{runs}` lists what is recorded; `{resume}` goes on with it"),
                )
            }
            _ => fault,
        }
    }

    /// The id is about to be shown: it must be on disk.
    async fn disclose(&self, id: &str) -> Result<(), Fault> {
        self.hub.ask(Show { id: id.to_owned() }).await.map(drop)
    }

    async fn stopped(&self, id: &str) -> Fault {
        let id = print::short(id);
        match self.hub.owns().await {
            true => Fault::new(Exit::Paused, miette!("paused: {}", self.hint.command(&format!("resume {id}")))),
            false => {
                let watch = self.hint.command(&format!("watch {id}"));
                Fault::new(Exit::Paused, miette!("it goes on in the process that owns the runs: {watch}"))
            }
        }
    }
}

/// Whether nothing goes on but waiting: for an answer, a time, or a task of a server's that will be polled again.
fn is_stuck(view: &RunView) -> bool {
    let has_inner = |path: &str| {
        view.steps.iter().any(|step| step.path.strip_prefix(path).is_some_and(|rest| rest.starts_with(['/', '[', ':'])))
    };
    view.status == RunStatus::InputRequired
        && !view.steps.iter().any(|step| step.status == StepPhase::Running && !has_inner(&step.path))
}

/// The run waits for somebody: who, for what, and how to answer.
fn stuck(run: &Run, hint: &Hint) -> Fault {
    let questions = &run.view.questions;
    let in_doubt = questions.iter().all(|question| matches!(question.ask, Asking::Doubt { .. }));
    let lines: Vec<String> = questions
        .iter()
        .map(|question| format!("`{}`: {}", question.path, Shown::of(question, None).message))
        .collect();
    let answers: Vec<String> = questions.iter().map(|question| print::how_to_answer(run, question, hint)).collect();
    let (exit, what) = match in_doubt {
        true => (Exit::InDoubt, "the run waits: a call may have happened"),
        false => (Exit::NeedsInput, "the run waits for an answer"),
    };
    Fault::new(exit, miette!(help = answers.join("\n"), "{what}\n{}", lines.join("\n")))
}

/// Exit code of a run that has ended.
pub fn exit_of(outcome: &Outcome) -> Exit {
    match outcome {
        Outcome::Succeeded { .. } => Exit::Ok,
        Outcome::Failed { .. } => Exit::Failed,
        Outcome::Cancelled { .. } => Exit::Cancelled,
    }
}
