//! Servers that come back in: what they ask models and call, and what they are told of both.

use antiphon_client::{CallContext, Guest, Refused};
use antiphon_engine::CallFailure;
use antiphon_kernel::{Action, Answer, ErrorKind, StepError};
use antiphon_models::{ModelError, ModelErrorKind, Preferences, SampleAnswer, SampleRequest, Usage, mcp};
use serde_json::{Map, Value, json};

use crate::choice;
use crate::router::Router;

/// The key of a result's `_meta` that tells the tokens it took.
pub(crate) const USAGE: &str = "antiphon/usage";

impl Router {
    /// Who shows this token.
    pub fn guest(&self, credential: &str) -> Option<Guest> {
        self.passes.guest(credential)
    }

    /// The models that may answer a guest.
    pub fn models_of(&self, guest: &Guest) -> Vec<String> {
        let policy = self.policy(guest.server());
        if policy.terms(&self.models()).is_some() { choice::named(&self.models(), &policy.models) } else { Vec::new() }
    }

    /// Answers a guest's sample: a call of the run's own, on the terms of the server's `sampling`.
    ///
    /// # Errors
    /// See [`Unanswered`].
    pub async fn sample_for(
        &self,
        guest: &Guest,
        request: &SampleRequest,
        preferences: &Preferences,
    ) -> Result<SampleAnswer, Unanswered> {
        let params = mcp::params_with_shape(request, preferences);
        let result = guest.create_message(params).await.map_err(|refused| match refused.denied {
            true => Unanswered::Denied(refused.message),
            false => Unanswered::Model(ModelError::new(ModelErrorKind::Model, refused.message)),
        })?;
        let answer = mcp::answer(request, &result).map_err(Unanswered::Model)?;
        Ok(SampleAnswer { usage: used(&result).unwrap_or(answer.usage), ..answer })
    }

    /// What a guest may call, as its model is told: objects of `name`, `description`, `input_schema`.
    ///
    /// # Errors
    /// A server of those granted can't be asked.
    pub async fn tools_for(&self, guest: &Guest) -> Result<Vec<Value>, CallFailure> {
        let granted = self.granted(guest.server());
        let cx = CallContext { run: guest.run(), ..CallContext::detached() };
        let mut request = self.filled(&json!({ "tools": *granted }), &cx).await?.into_owned();
        Ok(serde_json::from_value(request["tools"].take()).unwrap_or_default())
    }

    /// Makes a guest's call: one of the run's own, if it is granted.
    ///
    /// # Errors
    /// Why there is no result.
    pub async fn call_for(&self, guest: &Guest, name: &str, arguments: Map<String, Value>) -> Result<Value, Refused> {
        guest.call_tool(json!({ "name": name, "arguments": arguments })).await
    }
}

/// Why a guest gets no answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Unanswered {
    /// It may not ask: no consent, or a used-up budget.
    Denied(String),
    /// No model could.
    Model(ModelError),
}

/// The tokens that a `CreateMessageResult` of ours took.
fn used(result: &Value) -> Option<Usage> {
    let used = result.get("_meta")?.get(USAGE)?;
    let tokens = |key: &str| used.get(key).and_then(Value::as_u64);
    let estimated = used.get("estimated").is_some_and(|estimated| *estimated == true);
    Some(Usage {
        prompt_tokens: tokens("prompt_tokens")?,
        completion_tokens: tokens("completion_tokens")?,
        estimated,
        waited_ms: 0,
    })
}

/// What a call in flight was given, or why not.
pub(crate) fn given(answer: Answer) -> Result<Value, Refused> {
    match answer {
        Answer { action: Action::Accept, content: Some(content) } => Ok(content),
        Answer { content: Some(why), .. } => match serde_json::from_value(why) {
            Ok(StepError { kind, message }) => {
                Err(Refused { message, denied: matches!(kind, ErrorKind::Denied | ErrorKind::Budget) })
            }
            Err(_) => Err(Refused::failed("nobody answers")),
        },
        _ => Err(Refused::failed("the call that this is for has ended, or was cancelled")),
    }
}
