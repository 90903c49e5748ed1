//! The local model as a [`Model`] among others.

use std::path::{Path, PathBuf};
use std::time::Duration;

use antiphon_models::{
    Model, ModelError, ModelErrorKind, Progress, Reply, SampleAnswer, SampleContext, SampleRequest, StopReason, Traits,
    Usage, prompt,
};
use async_trait::async_trait;
use tokio::sync::OnceCell;
use tokio::time::sleep_until;

use crate::asker;
use crate::catalogue::Entry;
use crate::engine::{Answered, Engine, Unanswered};
use crate::protocol;
use crate::session::{End, Order, Written};
use crate::store::{Fetching, Store};
use crate::template::Turn;

/// How freely words are chosen where nothing constrains them and nobody says.
const TEMPERATURE: f64 = 0.2;

/// How much of an unusable answer an error shows, in characters.
const SHOWN: usize = 300;

/// Where a model's weights are.
#[derive(Clone, Debug)]
pub enum Weights {
    /// In a store, or not yet: then they are fetched when the model is first asked.
    Named(&'static Entry, Store),
    /// In this file.
    File(PathBuf),
}

/// A model in this process: loaded when it is first asked, and from then on in memory.
pub struct LocalModel {
    name: String,
    /// What it says that it is: its file.
    id: String,
    weights: Weights,
    watch: Box<dyn Fn(Fetching) + Send + Sync>,
    engine: OnceCell<Engine>,
}

impl LocalModel {
    /// A model; nothing is fetched or loaded yet. `watch` is told when its weights are fetched.
    pub fn new(name: impl Into<String>, weights: Weights, watch: impl Fn(Fetching) + Send + Sync + 'static) -> Self {
        let file = match &weights {
            Weights::Named(entry, _) => Path::new(entry.file),
            Weights::File(file) => file,
        };
        let id = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Self { name: name.into(), id, weights, watch: Box::new(watch), engine: OnceCell::new() }
    }

    /// Fetched and loaded, if that hasn't been done.
    async fn engine(&self) -> Result<&Engine, ModelError> {
        self.engine
            .get_or_try_init(|| async {
                let unavailable = |why: String| self.error(ModelErrorKind::Unavailable, why);
                let file = match &self.weights {
                    Weights::File(file) => file.clone(),
                    Weights::Named(entry, store) => {
                        store.fetch(entry, &*self.watch).await.map_err(|error| unavailable(error.to_string()))?
                    }
                };
                Engine::load(file).await.map_err(unavailable)
            })
            .await
    }

    async fn answer(&self, request: &SampleRequest, context: &SampleContext) -> Result<SampleAnswer, ModelError> {
        let engine = self.engine().await?;
        let grammar = protocol::grammar(request);
        let free = if protocol::is_free(request) { TEMPERATURE } else { 0.0 };
        let mut turns = protocol::turns(request);
        let mut usage = Usage::default();
        let mut repaired = false;
        loop {
            let prompt = self.prompt(engine, &turns)?;
            let read = prompt.len() as u64;
            let order = Order {
                max_tokens: usize::try_from(request.max_tokens)
                    .unwrap_or(usize::MAX)
                    .min(engine.context() - prompt.len()),
                prompt,
                grammar: grammar.clone(),
                temperature: as_f32(request.temperature.unwrap_or(free)),
                stop: request.stop.clone(),
            };
            let progress = after(usage.completion_tokens, context.progress.clone());
            let Answered { written, waited } =
                engine.write(&asker::current(), order, progress).await.map_err(|unanswered| {
                    let kind = match unanswered {
                        Unanswered::Busy(_) | Unanswered::Ended => ModelErrorKind::Unavailable,
                        Unanswered::Failed(_) => ModelErrorKind::Model,
                    };
                    ModelError { usage, ..self.error(kind, unanswered.to_string()) }
                })?;
            usage += Usage {
                prompt_tokens: read,
                completion_tokens: written.tokens as u64,
                estimated: false,
                waited_ms: u64::try_from(waited.as_millis()).unwrap_or(u64::MAX),
            };
            self.trace(read, &written, waited);
            let why = match request.read(&written.text) {
                Ok(reply) => return Ok(self.answered(request, reply, written, usage)),
                Err(why) => why,
            };
            // An answer that was cut would be cut again.
            let cut = written.end == End::Length;
            if repaired || cut {
                let cut = if cut { format!(" (cut at max_tokens = {})", request.max_tokens) } else { String::new() };
                let error = format!("its answer{cut} {why}. It said: {}", shown(&written.text));
                return Err(ModelError { usage, ..self.error(ModelErrorKind::InvalidOutput, error) });
            }
            tracing::debug!(model = self.name, %why, "asking for a repair");
            for message in prompt::repair(&written.text, &why) {
                protocol::add(&mut turns, message);
            }
            repaired = true;
        }
    }

    /// The prompt's tokens, refused when they leave no room for an answer.
    fn prompt(&self, engine: &Engine, turns: &[Turn]) -> Result<Vec<u32>, ModelError> {
        let prompt = engine.prompt(turns).map_err(|why| self.error(ModelErrorKind::InvalidRequest, why))?;
        let context = engine.context();
        if prompt.len() >= context {
            let tokens = prompt.len();
            let why = format!(
                "the prompt has {tokens} tokens, but prompt and answer can have {context} together: shorten it"
            );
            return Err(self.error(ModelErrorKind::Model, why));
        }
        Ok(prompt)
    }

    fn answered(&self, request: &SampleRequest, reply: Reply, written: Written, usage: Usage) -> SampleAnswer {
        let answer = SampleAnswer { model: self.id.clone(), usage, ..SampleAnswer::default() };
        match reply {
            // What it said is the calls.
            Reply::Calls(calls) => SampleAnswer { calls, stop: StopReason::ToolUse, ..answer },
            Reply::Output(output) => {
                let text = request.words(written.text, &output);
                let stop = match written.end {
                    End::Turn => StopReason::EndTurn,
                    End::Stop => StopReason::StopSequence,
                    End::Length => StopReason::MaxTokens,
                };
                SampleAnswer { output, text, stop, ..answer }
            }
        }
    }

    fn trace(&self, read: u64, written: &Written, waited: Duration) {
        let Written { tokens, known, passes, reading, writing, .. } = written;
        tracing::debug!(
            model = self.name,
            ?waited,
            read,
            known,
            tokens,
            passes,
            ?reading,
            ?writing,
            "the local model answered"
        );
    }

    fn error(&self, kind: ModelErrorKind, why: impl AsRef<str>) -> ModelError {
        ModelError::new(kind, format!("model `{}` ({}): {}", self.name, self.id, why.as_ref()))
    }
}

#[async_trait]
impl Model for LocalModel {
    fn name(&self) -> &str {
        &self.name
    }

    fn id(&self) -> &str {
        &self.id
    }

    async fn sample(&self, request: &SampleRequest, context: &SampleContext) -> Result<SampleAnswer, ModelError> {
        let deadline = async {
            match context.deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        // Dropping the answer is how the model's thread learns that it can stop.
        tokio::select! {
            biased;
            () = context.cancelled.cancelled() => Err(self.error(ModelErrorKind::Cancelled, "cancelled")),
            () = deadline => Err(self.error(ModelErrorKind::Timeout, "no answer before the deadline")),
            answer = self.answer(request, context) => answer,
        }
    }

    fn traits(&self) -> Traits {
        Traits {
            cost: 1.0,
            speed: 0.4,
            intelligence: 0.1,
            context: self.engine.get().map(|engine| engine.context() as u64),
            tools: true,
            local: true,
            price: None,
        }
    }
}

/// Counts on from what an attempt before has taken.
fn after(before: u64, progress: Progress) -> Progress {
    if before == 0 { progress } else { Progress::to(move |tokens| progress.report(before + tokens)) }
}

#[expect(clippy::cast_possible_truncation, reason = "a temperature is between 0 and 2")]
fn as_f32(temperature: f64) -> f32 {
    temperature as f32
}

fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}… ({} bytes)", &text[..end], text.len()),
        None => format!("{text:?}"),
    }
}
