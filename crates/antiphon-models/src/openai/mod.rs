//! Models behind an OpenAI-compatible HTTP endpoint.

mod answer;
mod chunk;
mod config;
mod http;
mod meter;
mod names;
mod pace;
mod refusal;
mod wire;

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_openai::Client;
use async_openai::error::OpenAIError;
use async_trait::async_trait;
use futures::StreamExt;
use serde_json::Value;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use self::answer::Answer;
use self::chunk::Chunk;
pub use self::config::ModelConfig;
use self::http::Endpoint;
use self::meter::Meter;
use self::names::Names;
use self::pace::Pace;
use self::refusal::{Refusal, refusal};
use self::wire::Dialect;
use crate::model::tokens;
use crate::{
    Message, Model, ModelError, ModelErrorKind, Reply, SampleAnswer, SampleContext, SampleRequest, ToolCall,
    ToolChoice, Traits, Usage, prompt,
};

/// How much of an unusable answer an error shows, in characters.
const SHOWN: usize = 300;

/// A model behind an OpenAI-compatible endpoint.
///
/// Answers are streamed, so that a cancelled sample stops the server too. Overload and lost connections are tried again a
/// few times, as [`Refusal::pause`] says; what the server does not understand is left out, as [`Dialect`] says.
pub struct OpenAiModel {
    config: ModelConfig,
    client: Client<Endpoint>,
    local: bool,
    pace: Pace,
    dialect: Mutex<Dialect>,
}

impl fmt::Debug for OpenAiModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenAiModel").field("config", &self.config).finish_non_exhaustive()
    }
}

impl OpenAiModel {
    /// A model; nothing is sent yet.
    ///
    /// # Errors
    /// [`ModelErrorKind::InvalidRequest`] when `base_url` is not an HTTP URL, or the key can't be a header.
    ///
    /// # Panics
    /// When the process has not installed a default rustls crypto provider.
    pub fn new(config: ModelConfig) -> Result<Self, ModelError> {
        let endpoint = Endpoint::new(&config)?;
        let local = endpoint.local;
        let client = http::client(endpoint)?;
        let pace = Pace::new(config.concurrency, config.requests_per_minute);
        Ok(Self { config, client, local, pace, dialect: Mutex::default() })
    }

    /// What the project declares about it.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    async fn answer(
        &self,
        request: &SampleRequest,
        deadline: Option<Instant>,
        meter: &Meter,
    ) -> Result<SampleAnswer, ModelError> {
        let _slot = self.pace.slot().await;
        let names = Names::of(request);
        let mut repair = Vec::new();
        loop {
            let answer = self.ask(request, &repair, &names, deadline, meter).await?;
            let calls = answer.calls(request, &names);
            let why = match self.understand(request, &answer, calls.clone()) {
                Ok(reply) => return Ok(self.finish(request, answer, reply, meter.total())),
                Err(why) => why,
            };
            // An answer that was cut would be cut again.
            if !repair.is_empty() || answer.cut() {
                return self.give_up(request, answer, calls, &why, meter.total());
            }
            tracing::debug!(model = self.config.name, %why, "asking for a repair");
            repair = match calls {
                Ok(calls) if !calls.is_empty() => prompt::repair_calls(&answer.text, &calls, &why).to_vec(),
                _ => prompt::repair(&answer.all(), &why).to_vec(),
            };
        }
    }

    /// What an answer comes to. Calls that the server did not tell apart are found in the text, and a server that leaves
    /// that to us is not given tools again: models do better at it when it is explained to them.
    fn understand(
        &self,
        request: &SampleRequest,
        answer: &Answer,
        calls: Result<Vec<ToolCall>, String>,
    ) -> Result<Reply, String> {
        let calls = calls?;
        if !calls.is_empty() {
            return request.check_calls(&calls).map(|()| Reply::Calls(calls));
        }
        let reply = request.read(&answer.text);
        let required = request.tool_choice == ToolChoice::Required && !request.tools.is_empty();
        if required || matches!(reply, Ok(Reply::Calls(_))) {
            self.dialect().tools = false;
        }
        reply
    }

    /// What becomes of an answer that is still wrong. Whoever asked runs the tools, and can tell the model what is wrong with
    /// a call; with anything else, nobody can do anything.
    fn give_up(
        &self,
        request: &SampleRequest,
        answer: Answer,
        calls: Result<Vec<ToolCall>, String>,
        why: &str,
        usage: Usage,
    ) -> Result<SampleAnswer, ModelError> {
        let cut = if answer.cut() { format!(" (cut at max_tokens = {})", request.max_tokens) } else { String::new() };
        let calls = match calls {
            Ok(none) if none.is_empty() => request.calls_in(&answer.text),
            told_apart => told_apart,
        };
        match calls {
            Ok(calls) if !calls.is_empty() && !answer.cut() => {
                Ok(self.finish(request, answer, Reply::Calls(calls), usage))
            }
            _ => {
                let said = shown(&answer.all());
                Err(self.error(ModelErrorKind::InvalidOutput, format!("its answer{cut} {why}. It said: {said}")))
            }
        }
    }

    fn finish(&self, request: &SampleRequest, answer: Answer, reply: Reply, usage: Usage) -> SampleAnswer {
        let stop = answer.stop(&reply);
        let (output, text, calls) = match reply {
            Reply::Output(output) => {
                let text = request.words(answer.text, &output);
                (output, text, Vec::new())
            }
            // Calls that were found in the text are not its text as well.
            Reply::Calls(calls) if answer.has_calls() => (Value::Null, answer.text, calls),
            Reply::Calls(calls) => (Value::Null, String::new(), calls),
        };
        SampleAnswer {
            output,
            text,
            calls,
            model: answer.model.unwrap_or_else(|| self.config.model.clone()),
            usage,
            cost_usd: self.cost(usage),
            stop,
        }
    }

    /// One answer. What the server refuses to understand is left out, and asked again; when it can't be reached or is
    /// overloaded, it is asked again later, unless that is after the deadline.
    async fn ask(
        &self,
        request: &SampleRequest,
        repair: &[Message],
        names: &Names<'_>,
        deadline: Option<Instant>,
        meter: &Meter,
    ) -> Result<Answer, ModelError> {
        let known = *self.dialect();
        let mut dialect = known;
        let mut attempt = 1;
        loop {
            let body = wire::body(&self.config.model, request, repair, dialect, names);
            let prompt_tokens = prompt_tokens(request, repair, dialect);
            self.fits(prompt_tokens, request.max_tokens)?;
            self.pace.turn(deadline).await.map_err(|wait| self.explain(&Refusal::no_turn(wait).into()))?;
            meter.begin(prompt_tokens);
            let error = match self.stream(&body, &request.stop, meter).await {
                Ok(answer) => {
                    meter.end(answer.counted);
                    self.pace.here();
                    if dialect != known {
                        *self.dialect() = dialect;
                    }
                    return Ok(answer);
                }
                Err(error) => error,
            };
            let refusal = refusal(&error);
            if refusal.is_some_and(|refusal| refusal.free) {
                meter.refused()
            } else {
                meter.end(None)
            }
            if let Some(simpler) = refusal.and_then(|refusal| dialect.without_what_offends(refusal, &body)) {
                tracing::debug!(model = self.config.name, %error, "asking in a simpler dialect");
                dialect = simpler;
                continue;
            }
            let pause = refusal.and_then(|refusal| refusal.pause(attempt));
            let in_time = |pause| deadline.is_none_or(|deadline| Instant::now() + pause < deadline);
            match pause.filter(|pause| in_time(*pause)) {
                Some(pause) => {
                    tracing::debug!(model = self.config.name, attempt, ?pause, %error, "trying again");
                    sleep(pause).await;
                    attempt += 1;
                }
                None => {
                    let error_kind = refusal::explain(&error).0;
                    if matches!(error_kind, ModelErrorKind::Unavailable | ModelErrorKind::Timeout) {
                        self.pace.away(refusal.and_then(|refusal| refusal.retry_after));
                    }
                    return Err(self.explain(&error));
                }
            }
        }
    }

    /// Refuses what can't fit, rather than paying for a server to cut it in silence.
    fn fits(&self, prompt_tokens: u64, max_tokens: u32) -> Result<(), ModelError> {
        match self.config.max_context {
            Some(limit) if prompt_tokens + u64::from(max_tokens) > limit => Err(self.error(
                ModelErrorKind::Model,
                format!(
                    "the prompt (about {prompt_tokens} tokens) and max_tokens = {max_tokens} exceed its max_context of {limit}"
                ),
            )),
            _ => Ok(()),
        }
    }

    async fn stream(&self, body: &Value, stop: &[String], meter: &Meter) -> Result<Answer, OpenAIError> {
        let silence = || Refusal::silent(self.config.timeout);
        let chat = self.client.chat();
        let sent = chat.create_stream_byot::<_, Chunk>(body);
        let mut chunks = timeout(self.config.timeout, sent).await.map_err(|_| silence())??;
        let mut answer = Answer::default();
        while let Some(chunk) = timeout(self.config.timeout, chunks.next()).await.map_err(|_| silence())? {
            answer.take(chunk?, stop)?;
            meter.grown(answer.bytes(), answer.pieces);
            if answer.overran {
                break;
            }
        }
        if answer.began() { Ok(answer) } else { Err(Refusal::no_answer().into()) }
    }

    fn dialect(&self) -> MutexGuard<'_, Dialect> {
        self.dialect.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cost(&self, usage: Usage) -> f64 {
        self.config.price.map_or(0.0, |price| price.of(usage))
    }

    fn explain(&self, error: &OpenAIError) -> ModelError {
        let (kind, message) = refusal::explain(error);
        self.error(kind, message)
    }

    fn error(&self, kind: ModelErrorKind, message: impl fmt::Display) -> ModelError {
        let message = format!("model `{}` at {}: {message}", self.config.name, self.config.base_url);
        ModelError::new(kind, refusal::redact(message, &self.config))
    }
}

#[async_trait]
impl Model for OpenAiModel {
    fn name(&self) -> &str {
        &self.config.name
    }

    fn id(&self) -> &str {
        &self.config.model
    }

    fn traits(&self) -> Traits {
        Traits {
            cost: self.config.cost,
            speed: self.config.speed,
            intelligence: self.config.intelligence,
            context: self.config.max_context,
            tools: true,
            local: self.local,
            price: self.config.price,
        }
    }

    fn healthy(&self) -> bool {
        self.pace.healthy()
    }

    async fn sample(&self, request: &SampleRequest, context: &SampleContext) -> Result<SampleAnswer, ModelError> {
        let meter = Meter::new(context.progress.clone());
        let deadline = async {
            match context.deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        // Dropping the answer closes the connection, which is how a server learns that it can stop.
        let answer = tokio::select! {
            biased;
            () = context.cancelled.cancelled() => Err(self.error(ModelErrorKind::Cancelled, "cancelled")),
            () = deadline => Err(self.error(ModelErrorKind::Timeout, "no answer before the deadline")),
            answer = self.answer(request, context.deadline, &meter) => answer,
        };
        answer.map_err(|error| {
            let usage = meter.total();
            ModelError { usage, cost_usd: self.cost(usage), ..error }
        })
    }
}

/// About how many tokens a model reads of all this.
fn prompt_tokens(request: &SampleRequest, repair: &[Message], dialect: Dialect) -> u64 {
    let tools = request.tools.iter().filter(|_| dialect.tools);
    let tools = tools.map(|tool| tokens(tool.name.len() + tool.input_schema.to_string().len()));
    Usage::guess(&wire::messages(request, repair, dialect), "").prompt_tokens + tools.sum::<u64>()
}

fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}… ({} bytes)", &text[..end], text.len()),
        None => format!("{text:?}"),
    }
}
