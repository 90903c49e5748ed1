//! Who is asked.

use antiphon_local_model::LocalModel;
use antiphon_models::{Model, ModelError, Reply, Role, SampleContext, SampleRequest, prompt};
use antiphon_tests::Llama;
use serde_json::{Value, json};

/// Something that answers.
pub trait Engine {
    /// An answer, or what became of it instead.
    async fn ask(&self, request: &SampleRequest) -> Result<Reply, String>;
}

/// The model in this process.
pub struct Embedded(pub LocalModel);

impl Engine for Embedded {
    async fn ask(&self, request: &SampleRequest) -> Result<Reply, String> {
        embedded(&self.0, request).await.map_err(|error| error.to_string())
    }
}

pub async fn embedded(model: &LocalModel, request: &SampleRequest) -> Result<Reply, ModelError> {
    let answer = model.sample(request, &SampleContext::default()).await?;
    Ok(if answer.calls.is_empty() { Reply::Output(answer.output) } else { Reply::Calls(answer.calls) })
}

/// llama.cpp, given what the embedded model is given: the same messages, the same schema, one repair.
pub struct Reference {
    http: reqwest::Client,
    url: String,
}

impl Reference {
    pub fn new(llama: &Llama) -> Self {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { http, url: format!("{}/chat/completions", llama.url) }
    }

    async fn say(&self, request: &SampleRequest, messages: &[Value]) -> String {
        let mut body = json!({ "messages": messages, "temperature": 0, "max_tokens": request.max_tokens });
        if let Some(schema) = request.reply_schema() {
            body["response_format"] =
                json!({ "type": "json_schema", "json_schema": { "name": "answer", "schema": schema } });
        }
        let answer = self.http.post(&self.url).json(&body).send().await.unwrap();
        let answer: Value = answer.error_for_status().unwrap().json().await.unwrap();
        answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
    }
}

impl Engine for Reference {
    async fn ask(&self, request: &SampleRequest) -> Result<Reply, String> {
        let mut messages: Vec<Value> = prompt::in_words(request).into_iter().map(message).collect();
        let said = self.say(request, &messages).await;
        let Err(why) = request.read(&said) else { return request.read(&said) };
        messages.extend(prompt::repair(&said, &why).map(message));
        let said = self.say(request, &messages).await;
        request.read(&said).map_err(|why| format!("it {why}: {said}"))
    }
}

fn message(message: antiphon_models::Message) -> Value {
    let role = match message.role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    json!({ "role": role, "content": message.text })
}
