//! What a project declares about a model.

use std::num::NonZeroU32;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use crate::{Price, Traits};

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
    /// How many requests are sent in any 60 seconds; the rest wait. Repairs and repetitions count.
    pub requests_per_minute: Option<NonZeroU32>,
    /// How many tokens prompt and answer may have together.
    pub max_context: Option<u64>,
}

impl ModelConfig {
    /// A model with the defaults: no key, no price, two minutes of silence, eight samples at a time.
    pub fn new(name: impl Into<String>, base_url: impl Into<String>, model: impl Into<String>) -> Self {
        let Traits { cost, speed, intelligence, .. } = Traits::default();
        Self {
            name: name.into(),
            base_url: base_url.into(),
            model: model.into(),
            api_key: None,
            headers: Vec::new(),
            secrets: Vec::new(),
            cost,
            speed,
            intelligence,
            price: None,
            timeout: Duration::from_secs(120),
            concurrency: 8,
            requests_per_minute: None,
            max_context: None,
        }
    }

    /// Whether the two describe the same model. One that is the same keeps what is known of it, and its pace.
    pub fn same_as(&self, other: &Self) -> bool {
        fn headers(config: &ModelConfig) -> Vec<(&str, &str)> {
            config.headers.iter().map(|(name, value)| (name.as_str(), value.expose_secret())).collect()
        }
        let key = |config: &Self| config.api_key.as_ref().map(|key| key.expose_secret().to_owned());
        self.name == other.name
            && self.base_url == other.base_url
            && self.model == other.model
            && key(self) == key(other)
            && headers(self) == headers(other)
            && (self.cost, self.speed, self.intelligence) == (other.cost, other.speed, other.intelligence)
            && self.price == other.price
            && self.timeout == other.timeout
            && self.concurrency == other.concurrency
            && self.requests_per_minute == other.requests_per_minute
            && self.max_context == other.max_context
    }
}
