//! Requests that want input from a modern caller: it makes them again, with the answers.

use rmcp::model::{ClientCapabilities, ErrorData, InputRequiredResult, InputResponses, RequestStateCodec};
use serde_json::{Value, json};

use crate::content::{read, text};
use crate::pushed::{form, prompted};

/// What a request that may want input has so far.
pub struct Round<'a> {
    pub answers: Option<&'a InputResponses>,
    pub state: Option<&'a str>,
    pub can: ClientCapabilities,
}

/// Done, or another round.
pub enum Step {
    Done(Value),
    Asks(InputRequiredResult),
}

/// Seals states. The key is nobody's secret.
fn codec() -> Result<RequestStateCodec, ErrorData> {
    RequestStateCodec::try_new(b"the conformance server seals with it".to_vec())
        .map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

fn asks(requests: Value, state: Option<&str>) -> Result<Step, ErrorData> {
    let codec = codec()?;
    let sealed = state.map(|state| codec.seal(state.as_bytes()));
    Ok(Step::Asks(InputRequiredResult::new(Some(read(requests)?), sealed)))
}

fn says(said: impl Into<String>) -> Result<Step, ErrorData> {
    Ok(Step::Done(json!({ "content": [text(said)] })))
}

fn field(name: &str, kind: &str) -> Value {
    json!({ "type": "object", "properties": { name: { "type": kind } }, "required": [name] })
}

fn elicit(message: &str, name: &str, kind: &str) -> Value {
    json!({ "method": "elicitation/create", "params": form(message, field(name, kind)) })
}

fn sample(prompt: &str, max_tokens: u32) -> Value {
    json!({ "method": "sampling/createMessage", "params": prompted(prompt, max_tokens) })
}

fn roots() -> Value {
    json!({ "method": "roots/list", "params": {} })
}

impl Round<'_> {
    /// The answer to a question, if it is one.
    fn answer(&self, key: &str) -> Option<&Value> {
        self.answers?.get(key).filter(|answer| answer.is_object())
    }

    /// What a person has filled in.
    fn given(&self, key: &str, name: &str) -> Option<&Value> {
        self.answer(key)?.get("content")?.get(name)
    }

    /// The state that came back.
    fn opened(&self) -> Result<Option<String>, ErrorData> {
        let Some(state) = self.state else { return Ok(None) };
        let opened = codec()?.open(state).map_err(|error| ErrorData::invalid_params(error.to_string(), None))?;
        Ok(Some(String::from_utf8_lossy(&opened).into_owned()))
    }

    /// A tool of this kind. `None`: there is no such tool.
    pub fn tool(&self, name: &str) -> Option<Result<Step, ErrorData>> {
        Some(match name.strip_prefix("test_input_required_result_") {
            Some("elicitation") => self.elicitation(),
            Some("sampling") => self.sampling(),
            Some("list_roots") => self.list_roots(),
            Some("request_state") => self.request_state(),
            Some("tampered_state") => self.request_state(),
            Some("multiple_inputs") => self.multiple_inputs(),
            Some("multi_round") => self.multi_round(),
            Some("capabilities") => self.capabilities(),
            _ if name == "test_streaming_elicitation" => self.elicitation(),
            _ => return None,
        })
    }

    /// The prompt that asks for its context.
    pub fn prompt(&self) -> Result<Step, ErrorData> {
        match self.given("user_context", "context").and_then(Value::as_str) {
            Some(context) => {
                let message = json!({ "role": "user", "content": text(format!("Use this context: {context}")) });
                Ok(Step::Done(json!({ "messages": [message] })))
            }
            None => asks(
                json!({ "user_context": elicit("What context should the prompt use?", "context", "string") }),
                None,
            ),
        }
    }

    fn elicitation(&self) -> Result<Step, ErrorData> {
        match self.given("user_name", "name").and_then(Value::as_str) {
            Some(name) => says(format!("Hello, {name}!")),
            None => asks(json!({ "user_name": elicit("What is your name?", "name", "string") }), None),
        }
    }

    fn sampling(&self) -> Result<Step, ErrorData> {
        match self.answer("capital_question") {
            Some(answer) => says(answer["content"]["text"].as_str().unwrap_or_default()),
            None => asks(json!({ "capital_question": sample("What is the capital of France?", 100) }), None),
        }
    }

    fn list_roots(&self) -> Result<Step, ErrorData> {
        match self.answer("client_roots") {
            Some(answer) => says(format!("Roots: {}", answer["roots"])),
            None => asks(json!({ "client_roots": roots() }), None),
        }
    }

    fn request_state(&self) -> Result<Step, ErrorData> {
        let state = self.opened()?;
        match (self.answer("confirm"), state.as_deref()) {
            (Some(_), Some("confirming")) => says("state-ok"),
            _ => asks(json!({ "confirm": elicit("Please confirm", "ok", "boolean") }), Some("confirming")),
        }
    }

    fn multiple_inputs(&self) -> Result<Step, ErrorData> {
        let state = self.opened()?;
        let all = ["user_name", "greeting", "client_roots"].iter().all(|key| self.answer(key).is_some());
        if all && state.as_deref() == Some("several") {
            let name = self.given("user_name", "name").and_then(Value::as_str).unwrap_or_default();
            return says(format!("{name}: state-ok"));
        }
        let requests = json!({
            "user_name": elicit("What is your name?", "name", "string"),
            "greeting": sample("Generate a greeting", 50),
            "client_roots": roots(),
        });
        asks(requests, Some("several"))
    }

    fn multi_round(&self) -> Result<Step, ErrorData> {
        let state = self.opened()?;
        let name = state.as_deref().and_then(|state| state.strip_prefix("named "));
        match (self.given("step1", "name"), self.given("step2", "color"), name) {
            (_, Some(color), Some(name)) => says(format!("{name} likes {}", color.as_str().unwrap_or_default())),
            (Some(name), _, _) => asks(
                json!({ "step2": elicit("Step 2: What is your favorite color?", "color", "string") }),
                Some(&format!("named {}", name.as_str().unwrap_or_default())),
            ),
            _ => asks(json!({ "step1": elicit("Step 1: What is your name?", "name", "string") }), Some("begun")),
        }
    }

    fn capabilities(&self) -> Result<Step, ErrorData> {
        let (samples, elicits, roots_there) =
            (self.can.sampling.is_some(), self.can.elicitation.is_some(), self.can.roots.is_some());
        if self.answers.is_some_and(|answers| !answers.is_empty()) {
            return says("answered");
        }
        let mut requests = serde_json::Map::new();
        if samples {
            requests.insert("sampled".into(), sample("Say something", 50));
        }
        if elicits {
            requests.insert("elicited".into(), elicit("Say something", "word", "string"));
        }
        if roots_there {
            requests.insert("rooted".into(), roots());
        }
        if requests.is_empty() { says("there is nothing to ask you") } else { asks(requests.into(), None) }
    }
}
