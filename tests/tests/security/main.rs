//! Who is let in over HTTP, to what, and what of them goes no further.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod doors;
mod leaks;
mod principals;
mod scopes;
mod tokens;

use std::process::Command;

use antiphon_tests::{Authority, Era, Host, Response, Scratch, Served, Url, call_params};
use serde_json::{Value, json};

/// The endpoint as the outside knows it; the tests reach it on the loopback.
const AUDIENCE: &str = "https://antiphon.example.com/mcp";

/// Where its metadata is, as the outside knows it.
const METADATA: &str = "https://antiphon.example.com/.well-known/oauth-protected-resource/mcp";

const MODERN: &str = "2026-07-28";

/// A project behind an issuer, served.
struct Guarded {
    authority: Authority,
    scratch: Scratch,
    served: Served,
}

/// Two workflows, an agent, and two servers: one is passed through. `auth` is the rest of `[serve.auth]`.
fn project(authority: &Authority, auth: &str) -> Scratch {
    let scratch = Scratch::with_tools();
    let tools = std::fs::read_to_string(scratch.path().join("antiphon.toml")).unwrap();
    scratch.file(
        "antiphon.toml",
        &format!(
            "{tools}[servers.conf]\ncommand = \"${{CONFORMANCE}}\"\n\
             [models.none]\nbase_url = \"http://127.0.0.1:1/v1\"\nmodel = \"none\"\n\
             [agents.clerk]\ninstructions = \"Answer.\"\nmodel = \"none\"\n\
             [serve]\nexpose = [\"conf.*\"]\n\
             [serve.auth]\nissuer = \"{}\"\naudience = \"{AUDIENCE}\"\n{auth}",
            authority.issuer
        ),
    );
    scratch.file("echo.toml", "[steps.say]\ncall = \"tools.echo\"\nwith.text = \"hello\"\neffects = \"read_only\"\n");
    scratch.file("confirm.toml", "[steps.sure]\nelicit = \"Sure?\"\n");
    scratch
}

impl Guarded {
    fn start(auth: &str) -> Self {
        let authority = Authority::start();
        let scratch = project(&authority, auth);
        let served = Served::start(&mut scratch.with_db(&["serve", ".", "--trust"]));
        Self { authority, scratch, served }
    }

    fn token(&self, user: &str, scope: &str) -> String {
        self.authority.token(AUDIENCE, user, scope)
    }

    fn host(&self, token: &str, era: Era) -> Host {
        let capabilities = json!({ "elicitation": {}, "extensions": { "io.modelcontextprotocol/tasks": {} } });
        Host::connect(&self.served.url, Some(token), era, capabilities)
    }

    /// A request at the usual endpoint.
    fn send(&self, token: Option<&str>, method: &str, params: Value) -> Response {
        self.send_to("/mcp", &[], token, method, params)
    }

    /// A request of the modern era, with these headers in place of the usual ones.
    fn send_to(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        token: Option<&str>,
        method: &str,
        params: Value,
    ) -> Response {
        let named = params["name"].as_str().or(params["uri"].as_str()).unwrap_or_default().to_owned();
        let bearer = token.map(|token| format!("Bearer {token}"));
        let mut all = vec![("mcp-protocol-version", MODERN), ("mcp-method", method)];
        all.extend((!named.is_empty()).then_some(("mcp-name", named.as_str())));
        all.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
        all.extend(headers);
        let message = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": call_params(params, &json!({})) });
        Url::parse(&self.served.url).at(path).post(&all, &message).response().unwrap()
    }

    /// The names that this token is shown.
    fn tools(&self, token: &str) -> Vec<String> {
        let response = self.send(Some(token), "tools/list", json!({}));
        assert_eq!(response.status, 200);
        let list: Value = serde_json::from_str(&response.text()).unwrap();
        let tools = list["result"]["tools"].as_array().unwrap();
        tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
    }
}

/// The value of a parameter of a challenge.
fn challenged(response: &Response, parameter: &str) -> Option<String> {
    let challenge = response.header("www-authenticate")?.strip_prefix("Bearer ")?.to_owned();
    let value = challenge.split(&format!("{parameter}=\"")).nth(1)?;
    Some(value.split('"').next().unwrap().to_owned())
}

/// `antiphon serve` over HTTP, which is expected to refuse: its exit code, and what it says.
fn refuses(command: &mut Command) -> (i32, String) {
    let output = command.args(["--transport", "http", "--port", "0"]).output().unwrap();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
}
