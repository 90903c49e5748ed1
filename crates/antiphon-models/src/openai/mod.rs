//! Models behind an OpenAI-compatible HTTP endpoint.

mod http;
mod wire;

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_openai::Client;
use async_openai::error::OpenAIError;
use async_trait::async_trait;
use futures::StreamExt;
use secrecy::SecretString;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::{sleep_until, timeout};

use self::http::{Endpoint, Refusal};
use self::wire::{Chunk, Dialect};
use crate::{
    Message, Model, ModelError, ModelErrorKind, Price, SampleAnswer, SampleContext, SampleRequest, Usage, prompt,
};

/// The longest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 4 << 20;

/// How much of an unusable answer an error shows, in characters.
const SHOWN: usize = 300;

/// What a project declares about a model.
#[derive(Clone, Debug)]
pub struct ModelConfig {
    /// The name that the project gives it.
    pub name: String,
    /// Where the server is, such as `http://127.0.0.1:11434/v1`.
    pub base_url: String,
    /// What the server calls it.
    pub model: String,
    /// Sent as a bearer token. Nothing is read from the environment.
    pub api_key: Option<SecretString>,
    /// Sent with every request, beside the key.
    pub headers: Vec<(String, SecretString)>,
    /// What went into the key and the headers in confidence: no error repeats it, even in part of a header.
    pub secrets: Vec<SecretString>,
    /// How dear it is, 0 to 1.
    pub cost: f64,
    /// How fast it is, 0 to 1.
    pub speed: f64,
    /// How clever it is, 0 to 1.
    pub intelligence: f64,
    /// What it charges.
    pub price: Option<Price>,
    /// The longest silence, before the answer begins and within it.
    pub timeout: Duration,
    /// How many samples run at a time; the rest wait.
    pub concurrency: usize,
    /// How many tokens prompt and answer may have together.
    pub max_context: Option<u64>,
}

impl ModelConfig {
    /// A model with the defaults: no key, no price, two minutes of silence, eight samples at a time.
    pub fn new(name: impl Into<String>, base_url: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            base_url: base_url.into(),
            model: model.into(),
            api_key: None,
            headers: Vec::new(),
            secrets: Vec::new(),
            cost: 0.5,
            speed: 0.5,
            intelligence: 0.5,
            price: None,
            timeout: Duration::from_secs(120),
            concurrency: 8,
            max_context: None,
        }
    }
}

/// A model behind an OpenAI-compatible endpoint.
///
/// Answers are streamed, so that a cancelled sample stops the server too. Overload and lost connections are tried again a
/// few times, as [`http`] says; what the server does not understand is left out, as [`Dialect`] says.
pub struct OpenAiModel {
    config: ModelConfig,
    client: Client<Endpoint>,
    slots: Semaphore,
    dialect: Mutex<Dialect>,
}

impl fmt::Debug for OpenAiModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenAiModel").field("config", &self.config).finish_non_exhaustive()
    }
}

/// One reply of the server.
struct Reply {
    text: String,
    model: Option<String>,
    usage: Usage,
    /// It stopped at `max_tokens`.
    cut: bool,
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
        let client = http::client(endpoint)?;
        let slots = Semaphore::new(config.concurrency.max(1));
        Ok(Self { config, client, slots, dialect: Mutex::default() })
    }

    /// What the project declares about it.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    async fn answer(&self, request: &SampleRequest) -> Result<SampleAnswer, ModelError> {
        // Never closed, so never an error.
        let _slot = self.slots.acquire().await;
        let mut messages = prompt::messages(request);
        let mut usage = Usage::default();
        let mut repaired = false;
        loop {
            self.fits(&messages, request.max_tokens)?;
            let reply = self.reply(&messages, request).await?;
            usage += reply.usage;
            let why = match request.shape.read(&reply.text) {
                Ok(output) => {
                    return Ok(SampleAnswer {
                        output,
                        text: reply.text,
                        model: reply.model.unwrap_or_else(|| self.config.model.clone()),
                        usage,
                        cost_usd: self.config.price.map_or(0.0, |price| price.of(usage)),
                        ..SampleAnswer::default()
                    });
                }
                Err(why) => why,
            };
            // An answer that was cut would be cut again.
            if repaired || reply.cut {
                let cut =
                    if reply.cut { format!(" (cut at max_tokens = {})", request.max_tokens) } else { String::new() };
                let said = shown(&reply.text);
                return Err(
                    self.error(ModelErrorKind::InvalidOutput, format!("its answer{cut} {why}. It said: {said}"))
                );
            }
            tracing::debug!(model = self.config.name, %why, "asking for a repair");
            messages.extend(prompt::repair(&reply.text, &why));
            repaired = true;
        }
    }

    /// Refuses what can't fit, rather than paying for a server to cut it in silence.
    fn fits(&self, messages: &[Message], max_tokens: u32) -> Result<(), ModelError> {
        let Some(limit) = self.config.max_context else { return Ok(()) };
        let prompt = estimate(messages.iter().map(|message| message.text.len()).sum());
        if prompt + u64::from(max_tokens) > limit {
            return Err(self.error(
                ModelErrorKind::Model,
                format!(
                    "the prompt (about {prompt} tokens) and max_tokens = {max_tokens} exceed its max_context of {limit}"
                ),
            ));
        }
        Ok(())
    }

    /// One reply; what the server refuses to understand is left out, and asked again.
    async fn reply(&self, messages: &[Message], request: &SampleRequest) -> Result<Reply, ModelError> {
        let mut dialect = self.dialect();
        loop {
            let body = wire::body(&self.config.model, messages, request, dialect);
            let error = match self.stream(messages, &body).await {
                Ok(reply) => {
                    *self.dialect.lock().unwrap_or_else(PoisonError::into_inner) = dialect;
                    return Ok(reply);
                }
                Err(error) => error,
            };
            match http::refusal(&error).and_then(|refusal| dialect.without_what_offends(refusal, &body)) {
                Some(simpler) => {
                    tracing::debug!(model = self.config.name, %error, "asking in a simpler dialect");
                    dialect = simpler;
                }
                None => return Err(self.explain(&error)),
            }
        }
    }

    fn dialect(&self) -> Dialect {
        *self.dialect.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn stream(&self, messages: &[Message], body: &Value) -> Result<Reply, OpenAIError> {
        let silence = || Refusal::silent(self.config.timeout);
        let chat = self.client.chat();
        let sent = chat.create_stream_byot::<_, Chunk>(body);
        let mut chunks = timeout(self.config.timeout, sent).await.map_err(|_| silence())??;
        let mut reply = Reply { text: String::new(), model: None, usage: Usage::default(), cut: false };
        let mut counted = None;
        let mut choices = 0;
        while let Some(chunk) = timeout(self.config.timeout, chunks.next()).await.map_err(|_| silence())? {
            let chunk = chunk?;
            if let Some(error) = chunk.error {
                return Err(Refusal::in_stream(&error).into());
            }
            reply.model = reply.model.or(chunk.model.filter(|name| !name.is_empty()));
            counted = chunk.usage.or(counted);
            for choice in chunk.choices {
                choices += 1;
                reply.cut |= choice.finish_reason.as_deref() == Some("length");
                reply.text.push_str(&choice.text());
            }
            if reply.text.len() > MAX_ANSWER_BYTES {
                return Err(Refusal::too_long(MAX_ANSWER_BYTES).into());
            }
        }
        if choices == 0 {
            return Err(Refusal::no_answer().into());
        }
        reply.usage = counted.map_or_else(
            || Usage {
                prompt_tokens: estimate(messages.iter().map(|message| message.text.len()).sum()),
                completion_tokens: estimate(reply.text.len()),
                estimated: true,
            },
            wire::Counted::usage,
        );
        Ok(reply)
    }

    fn explain(&self, error: &OpenAIError) -> ModelError {
        let (kind, message) = http::explain(error);
        self.error(kind, message)
    }

    fn error(&self, kind: ModelErrorKind, message: impl fmt::Display) -> ModelError {
        let message = format!("model `{}` at {}: {message}", self.config.name, self.config.base_url);
        ModelError::new(kind, http::redact(message, &self.config))
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

    async fn sample(&self, request: &SampleRequest, context: &SampleContext) -> Result<SampleAnswer, ModelError> {
        let deadline = async {
            match context.deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        // Dropping the answer closes the connection, which is how a server learns that it can stop.
        tokio::select! {
            biased;
            () = context.cancelled.cancelled() => Err(self.error(ModelErrorKind::Cancelled, "cancelled")),
            () = deadline => Err(self.error(ModelErrorKind::Timeout, "no answer before the deadline")),
            answer = self.answer(request) => answer,
        }
    }
}

/// Tokens in so many bytes, by the usual rule of thumb.
fn estimate(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(4)
}

fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}… ({} bytes)", &text[..end], text.len()),
        None => format!("{text:?}"),
    }
}
