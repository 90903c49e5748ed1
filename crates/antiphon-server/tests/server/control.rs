//! The owner's own requests.

use std::sync::Arc;

use antiphon_server::{Control, ControlError};
use async_trait::async_trait;
use serde_json::{Value, json};

use crate::support::{Fixture, modern};

struct Echo;

#[async_trait]
impl Control for Echo {
    async fn request(&self, method: &str, params: Value) -> Result<Value, ControlError> {
        match method {
            "antiphon/runs" => Ok(json!({ "asked": params["live"] })),
            _ => Err(ControlError::unknown_method(method)),
        }
    }
}

#[tokio::test]
async fn control_requests_are_for_connections_made_with_control() {
    let fixture = Fixture::new();
    let mut owners = fixture.pipe_of("local", Some(Arc::new(Echo)));
    owners.initialize(json!({})).await;
    assert_eq!(owners.request("antiphon/runs", json!({ "live": true })).await, json!({ "asked": true }));
    assert_eq!(
        owners.refused("antiphon/nope", json!({})).await,
        json!({ "code": -32601, "message": "no method `antiphon/nope`" })
    );

    let mut others = fixture.pipe();
    let error = others.refused("antiphon/runs", modern(json!({}), &json!({}))).await;
    assert_eq!(error["code"], -32601);
}
