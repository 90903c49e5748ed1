//! A tool that goes the way back: it samples and calls as the process of a server may, one thing after the other.

use antiphon_tests::Url;
use serde_json::{Map, Value, json};

use crate::server::internal;
use crate::tools::{Answer, Call, done};

/// What a process is told of its way back.
const TOLD: [&str; 4] = ["OPENAI_BASE_URL", "OPENAI_API_KEY", "ANTIPHON_MCP_URL", "ANTIPHON_MCP_TOKEN"];

/// `do`: a list of `{ sample, schema }`, `{ call, arguments }`, `{ tools }`, `{ gate }`, `{ told }`. `as`: with which token, else the one that
/// names this call. `keep`: where to leave what the process was told, for the test to see.
pub async fn come_back(call: &Call<'_>) -> Answer {
    let told: Map<String, Value> =
        TOLD.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?.into()))).collect();
    if let Some(keep) = call.arguments.get("keep").and_then(Value::as_str) {
        // The test reads it as soon as it is there: so it comes whole.
        let half = format!("{keep}.half");
        std::fs::write(&half, json!(told).to_string()).and_then(|()| std::fs::rename(&half, keep)).map_err(internal)?;
    }
    let token =
        told.get("OPENAI_API_KEY").or(told.get("ANTIPHON_MCP_TOKEN")).and_then(Value::as_str).unwrap_or_default();
    let token = match call.str("as", "") {
        "" => format!("{token}/{}", call.key.as_deref().unwrap_or_default()),
        "bare" => token.to_owned(),
        other => other.to_owned(),
    };
    let mut came = Vec::new();
    for deed in call.value("do").as_array().into_iter().flatten() {
        if let Some(path) = deed["gate"].as_str() {
            while !std::path::Path::new(path).exists() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            continue;
        }
        let (deed, told, token) = (deed.clone(), told.clone(), token.clone());
        let wait = deed["wait"] != false;
        let doing = tokio::task::spawn_blocking(move || act(&deed, &told, &token));
        if wait {
            came.push(doing.await.map_err(internal)?);
        }
    }
    done(json!({ "came": came }))
}

fn act(deed: &Value, told: &Map<String, Value>, token: &str) -> Value {
    let told_of = |name: &str| told.get(name).and_then(Value::as_str);
    // Who was told of one endpoint knows where the other one is.
    let (models, tools) = (told_of("OPENAI_BASE_URL"), told_of("ANTIPHON_MCP_URL"));
    let models = models.map(str::to_owned).or_else(|| Some(tools?.replace("/mcp", "/v1")));
    let tools = tools.map(str::to_owned).or_else(|| Some(models.as_ref()?.replace("/v1", "/mcp")));
    let (Some(models), Some(tools)) = (models, tools) else { return json!({ "told": [] }) };
    if deed["told"].is_string() {
        let names: Vec<&String> = told.keys().collect();
        return json!({ "told": names, "token": token });
    }
    if let Some(prompt) = deed["sample"].as_str() {
        let mut body = json!({ "messages": [{ "role": "user", "content": prompt }], "max_tokens": 20 });
        if deed["schema"].is_object() {
            let schema = json!({ "name": "answer", "schema": deed["schema"] });
            body["response_format"] = json!({ "type": "json_schema", "json_schema": schema });
        }
        return post(&format!("{models}/chat/completions"), token, &body);
    }
    let (method, params) = match deed["call"].as_str() {
        Some(name) => ("tools/call", json!({ "name": name, "arguments": deed["arguments"] })),
        None => ("tools/list", json!({})),
    };
    post(&tools, token, &json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }))
}

/// The status, and what came back.
fn post(url: &str, token: &str, body: &Value) -> Value {
    let authorization = format!("Bearer {token}");
    match Url::parse(url).post(&[("authorization", &authorization)], body).response() {
        Ok(response) => {
            let status = response.status;
            let mut last = Value::Null;
            response.messages(|message| last = message);
            json!({ "status": status, "body": last })
        }
        Err(error) => json!({ "status": 0, "body": error.to_string() }),
    }
}
