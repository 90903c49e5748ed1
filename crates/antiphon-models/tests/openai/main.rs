//! [`OpenAiModel`] against a server that answers as each test says.
#![expect(clippy::unwrap_used)]

mod answers;
mod canned;
mod limits;
mod tools;

use antiphon_models::{Model, ModelConfig, ModelError, OpenAiModel, SampleAnswer, SampleContext, SampleRequest};
use serde_json::Value;

use crate::canned::Server;

fn model(server: &Server) -> OpenAiModel {
    configured(server.config())
}

fn configured(config: ModelConfig) -> OpenAiModel {
    // A second one changes nothing.
    let _ = rustls_graviola::default_provider().install_default();
    OpenAiModel::new(config).unwrap()
}

async fn ask(model: &OpenAiModel, request: Value) -> Result<SampleAnswer, ModelError> {
    model.sample(&SampleRequest::parse(&request).unwrap(), &SampleContext::default()).await
}
