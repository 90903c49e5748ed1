//! Modern callers that do not know tasks: questions by MRTR.

use serde_json::{Value, json};

use crate::support::{Fixture, modern};

fn forms() -> Value {
    json!({ "elicitation": { "form": {} } })
}

#[tokio::test]
async fn a_question_comes_back_as_input_required_and_the_retry_goes_on_with_the_same_run() {
    let fixture = Fixture::new();
    let mut pipe = fixture.pipe();
    let asked = pipe.call("approve", json!({}), &forms()).await;
    assert_eq!(asked["resultType"], "input_required");
    assert_eq!(asked["inputRequests"]["approve#1"]["params"]["message"], "Deploy main?");
    assert!(fixture.engine.is_durable("run-1"), "the state names the run, so its record is durable");

    let retry = json!({
        "name": "approve", "arguments": {},
        "requestState": asked["requestState"],
        "inputResponses": { "approve#1": { "action": "decline" }, "extra": { "action": "accept" } },
    });
    let result = pipe.request("tools/call", modern(retry, &forms())).await;
    assert_eq!(result["structuredContent"], json!({ "action": "decline", "content": null }));
    assert_eq!(fixture.engine.count(), 1);
}

#[tokio::test]
async fn a_missing_or_unfit_answer_is_asked_for_again() {
    let fixture = Fixture::new();
    let mut pipe = fixture.pipe();
    let asked = pipe.call("pick", json!({}), &forms()).await;
    let retry = |state: &Value, responses: Value| {
        let params = json!({ "name": "pick", "arguments": {}, "requestState": state, "inputResponses": responses });
        modern(params, &forms())
    };
    let again = pipe.request("tools/call", retry(&asked["requestState"], json!({}))).await;
    assert_eq!(again["resultType"], "input_required");

    let green = json!({ "pick#1": { "action": "accept", "content": { "color": "green" } } });
    let again = pipe.request("tools/call", retry(&again["requestState"], green)).await;
    assert_eq!(
        again["inputRequests"]["pick#1"]["params"]["message"],
        "Which color?\n(The last answer did not fit: `color` must be red or blue)"
    );
    let blue = json!({ "pick#1": { "action": "accept", "content": { "color": "blue" } } });
    let result = pipe.request("tools/call", retry(&again["requestState"], blue)).await;
    assert_eq!(result["structuredContent"], json!({ "color": "blue" }));
}

#[tokio::test]
async fn a_state_that_is_not_ours_or_anothers_is_refused() {
    let fixture = Fixture::new();
    let mut mine = fixture.pipe();
    let mut theirs = fixture.pipe_of("token:eve", None);
    let asked = mine.call("approve", json!({}), &forms()).await;
    let state = asked["requestState"].as_str().unwrap();
    let retry = |tool: &str, state: &str| {
        let responses = json!({ "approve#1": { "action": "accept" } });
        modern(json!({ "name": tool, "requestState": state, "inputResponses": responses }), &forms())
    };
    for error in [
        theirs.refused("tools/call", retry("approve", state)).await,
        mine.refused("tools/call", retry("approve", &format!("{state}x"))).await,
        mine.refused("tools/call", retry("pick", state)).await,
    ] {
        assert_eq!(error["code"], -32602);
        assert!(error["message"].as_str().unwrap().starts_with("this requestState can't be used"), "{error}");
    }
}

#[tokio::test]
async fn the_callers_model_is_asked_if_it_declares_sampling() {
    let fixture = Fixture::new();
    let mut pipe = fixture.pipe();
    let sampling = json!({ "sampling": {} });
    let asked = pipe.call("sample", json!({}), &sampling).await;
    assert_eq!(
        asked["inputRequests"]["sample#1"],
        json!({
            "method": "sampling/createMessage",
            "params": {
                "messages": [{ "role": "user", "content": { "type": "text", "text": "Name a color" } }],
                "maxTokens": 5,
            },
        })
    );
    let said = json!({ "role": "assistant", "model": "m", "content": { "type": "text", "text": "teal" } });
    let retry =
        json!({ "name": "sample", "requestState": asked["requestState"], "inputResponses": { "sample#1": said } });
    let result = pipe.request("tools/call", modern(retry, &sampling)).await;
    assert_eq!(result["structuredContent"]["content"]["content"]["text"], "teal");
}

#[tokio::test]
async fn a_call_in_doubt_is_a_form_whose_result_is_read_as_json() {
    let fixture = Fixture::new();
    let mut pipe = fixture.pipe();
    let asked = pipe.call("doubt", json!({}), &forms()).await;
    let form = &asked["inputRequests"]["doubt#1"]["params"]["requestedSchema"];
    assert_eq!(form["properties"]["choice"]["enum"], json!(["retry", "skip", "result"]));

    let answer = json!({ "action": "accept", "content": { "choice": "result", "result": "{\"id\": 7}" } });
    let retry =
        json!({ "name": "doubt", "requestState": asked["requestState"], "inputResponses": { "doubt#1": answer } });
    let result = pipe.request("tools/call", modern(retry, &forms())).await;
    assert_eq!(result["structuredContent"]["content"], json!({ "choice": "result", "result": { "id": 7 } }));
}

#[tokio::test]
async fn only_what_the_request_declares_is_asked() {
    let fixture = Fixture::new();
    let mut pipe = fixture.pipe();
    let url_only = json!({ "elicitation": { "url": {} } });
    let asked = pipe.call("visit", json!({}), &url_only).await;
    assert_eq!(asked["inputRequests"]["visit#1"]["params"]["url"], "https://example.com/sign-in");
    for (tool, capabilities) in [("visit", forms()), ("approve", url_only), ("sample", forms()), ("approve", json!({}))]
    {
        let result = pipe.call(tool, json!({}), &capabilities).await;
        assert_eq!(result["resultType"], "complete", "{tool} with {capabilities}");
        assert_eq!(result["structuredContent"]["run"]["status"], "input_required");
    }
}
