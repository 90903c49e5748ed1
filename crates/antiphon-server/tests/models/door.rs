//! A door whose answers are known beforehand, served.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use antiphon_models::{Preferences, SampleAnswer, SampleRequest};
use antiphon_server::{ModelDoor, ModelRefusal, serve_models};
use async_openai::Client;
use async_openai::config::OpenAIConfig;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

pub const TOKEN: &str = "run-token";

type Asked = (&'static str, SampleRequest, Preferences);
type Answers = VecDeque<Result<SampleAnswer, ModelRefusal>>;

struct Script {
    answers: Mutex<Answers>,
    asked: Mutex<Vec<Asked>>,
    held: watch::Sender<bool>,
    sampling: Notify,
    dropped: Notify,
}

/// Tells when a sample was dropped before it was answered.
struct Dropped<'a>(&'a Script, bool);

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        if !self.1 {
            self.0.dropped.notify_one();
        }
    }
}

impl ModelDoor for Script {
    type Asker = &'static str;

    fn authenticate(&self, token: &str) -> Option<Self::Asker> {
        (token == TOKEN).then_some("run-1")
    }

    fn models(&self, _asker: &Self::Asker) -> Vec<String> {
        vec!["small".into()]
    }

    async fn sample(
        &self,
        asker: Self::Asker,
        request: SampleRequest,
        preferences: Preferences,
    ) -> Result<SampleAnswer, ModelRefusal> {
        let mut dropped = Dropped(self, false);
        self.asked.lock().unwrap().push((asker, request, preferences));
        self.sampling.notify_one();
        self.held.subscribe().wait_for(|held| !held).await.unwrap();
        dropped.1 = true;
        self.answers.lock().unwrap().pop_front().unwrap()
    }
}

/// The endpoint, on a port of its own; it stops when dropped.
pub struct Door {
    base: String,
    script: Arc<Script>,
    _stop: DropGuard,
}

impl Door {
    pub async fn start(answers: impl IntoIterator<Item = Result<SampleAnswer, ModelRefusal>>) -> Self {
        // A second one changes nothing.
        let _ = rustls_graviola::default_provider().install_default();
        let script = Arc::new(Script {
            answers: Mutex::new(answers.into_iter().collect()),
            asked: Mutex::default(),
            held: watch::Sender::new(false),
            sampling: Notify::new(),
            dropped: Notify::new(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/v1", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        tokio::spawn(serve_models(listener, Arc::clone(&script), stop.clone()));
        Self { base, script, _stop: stop.drop_guard() }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub fn client(&self, token: &str) -> Client<OpenAIConfig> {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let config = OpenAIConfig::new().with_api_base(&self.base).with_api_key(token);
        Client::with_config(config).with_http_client(http)
    }

    pub async fn post(&self, token: &str, body: &Value) -> reqwest::Response {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = http.post(self.url("/chat/completions")).bearer_auth(token);
        request.header("content-type", "application/json").body(body.to_string()).send().await.unwrap()
    }

    /// The last request.
    pub fn asked(&self) -> Asked {
        self.script.asked.lock().unwrap().last().unwrap().clone()
    }

    pub fn samples(&self) -> usize {
        self.script.asked.lock().unwrap().len()
    }

    /// Samples wait from now on.
    pub fn hold(&self) {
        self.script.held.send_replace(true);
    }

    pub fn release(&self) {
        self.script.held.send_replace(false);
    }

    /// Returns when a sample has begun.
    pub async fn sampling(&self) {
        self.script.sampling.notified().await;
    }

    /// Returns when a sample was dropped unanswered.
    pub async fn dropped(&self) {
        self.script.dropped.notified().await;
    }
}
