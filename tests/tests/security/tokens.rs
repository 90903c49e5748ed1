//! Which tokens let somebody in, and what the others are told.

use antiphon_tests::authority::encoded;
use antiphon_tests::{Response, Served, Url};
use serde_json::{Value, json};

use crate::{AUDIENCE, Guarded, METADATA, challenged};

fn with(claims: &Value, name: &str, value: Value) -> Value {
    let mut claims = claims.clone();
    claims[name] = value;
    claims
}

fn without(claims: &Value, name: &str) -> Value {
    let mut claims = claims.clone();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

#[track_caller]
fn is_refused(response: &Response, what: &str) {
    assert_eq!(response.status, 401, "{what}");
    assert_eq!(challenged(response, "error").as_deref(), Some("invalid_token"), "{what}");
    assert_eq!(challenged(response, "resource_metadata").as_deref(), Some(METADATA), "{what}");
}

#[test]
fn good_tokens_of_every_algorithm_let_in() {
    let guarded = Guarded::start("");
    let claims = guarded.authority.claims(AUDIENCE, "ada", "");
    for key in ["rsa", "ec", "ed"] {
        let token = guarded.authority.sign(key, &claims);
        assert!(guarded.tools(&token).contains(&"echo".to_owned()), "{key}");
        // A second time it is remembered.
        assert!(guarded.tools(&token).contains(&"echo".to_owned()), "{key}");
    }
    let several = with(&claims, "aud", json!(["https://other.example", AUDIENCE]));
    assert!(!guarded.tools(&guarded.authority.sign("ec", &several)).is_empty());
    // Only two keys could have signed it, and one has.
    let unnamed = guarded.authority.sign_as("ec", &json!({ "alg": "ES256" }), &claims);
    assert!(!guarded.tools(&unnamed).is_empty());
    assert_eq!(guarded.authority.times_asked(), 1, "the keys are kept");
}

#[test]
fn other_tokens_are_refused() {
    let guarded = Guarded::start("");
    let authority = &guarded.authority;
    let good = authority.claims(AUDIENCE, "ada", "");
    let now = good["iat"].as_u64().unwrap();
    let signed = |claims: &Value| authority.sign("ec", claims);
    let as_said = |header: Value| authority.sign_as("ec", &header, &good);
    let token = signed(&good);
    let (message, signature) = token.rsplit_once('.').unwrap();
    let (header, _) = message.split_once('.').unwrap();
    let forged = format!("{header}.{}.{signature}", encoded(with(&good, "sub", json!("eve")).to_string()));
    let unsigned = encoded(json!({ "alg": "none", "typ": "JWT" }).to_string());
    let bad = [
        ("expired", signed(&with(&good, "exp", json!(now - 60)))),
        ("without an end", signed(&without(&good, "exp"))),
        ("not yet good", signed(&with(&good, "nbf", json!(now + 120)))),
        ("of another issuer", signed(&with(&good, "iss", json!("https://other.example")))),
        ("of no issuer", signed(&without(&good, "iss"))),
        ("for somebody else", signed(&with(&good, "aud", json!("https://other.example/mcp")))),
        ("for nobody", signed(&without(&good, "aud"))),
        ("for a part of the name", signed(&with(&good, "aud", json!("https://antiphon.example.com")))),
        ("for an agent alone", signed(&with(&good, "aud", json!("https://antiphon.example.com/agents/clerk/mcp")))),
        ("about nobody", signed(&without(&good, "sub"))),
        ("about an empty name", signed(&with(&good, "sub", json!("")))),
        ("about a name that looks like two", signed(&with(&good, "sub", json!("ada\u{0}x")))),
        ("unsigned", format!("{unsigned}.{}.", encoded(good.to_string()))),
        ("unsigned, with another's signature", format!("{unsigned}.{}.{signature}", encoded(good.to_string()))),
        ("without a signature", format!("{message}.")),
        ("of what was not signed", forged),
        ("of another key", as_said(json!({ "alg": "ES256", "kid": "ed" }))),
        ("of an unknown key", as_said(json!({ "alg": "ES256", "kid": "nobody's" }))),
        ("of another algorithm", as_said(json!({ "alg": "RS256", "kid": "ec" }))),
        (
            "of an algorithm that the key is not for",
            authority.sign_as("rsa", &json!({ "alg": "RS384", "kid": "rsa" }), &good),
        ),
        ("of a secret", as_said(json!({ "alg": "HS256", "kid": "ec" }))),
        ("with a key of its own", as_said(json!({ "alg": "ES256", "jwk": { "kty": "EC" }, "kid": "mine" }))),
        ("that wants more", as_said(json!({ "alg": "ES256", "kid": "ec", "crit": ["b64"], "b64": true }))),
        ("in one part", "abc".to_owned()),
        ("in too many parts", format!("{token}.{signature}")),
        ("without letters", "..".to_owned()),
        ("that is very long", format!("{token}{}", "A".repeat(20_000))),
    ];
    for (what, token) in &bad {
        is_refused(&guarded.send(Some(token), "tools/list", json!({})), what);
    }
    let missing = guarded.send(None, "tools/list", json!({}));
    assert_eq!(missing.status, 401);
    assert_eq!(challenged(&missing, "resource_metadata").as_deref(), Some(METADATA));
    assert_eq!(challenged(&missing, "error"), None, "nothing was wrong with what was not there");
    let elsewhere = guarded.send_to(&format!("/mcp?access_token={token}"), &[], None, "tools/list", json!({}));
    assert_eq!(elsewhere.status, 401, "an address is no place for a token");
    assert_eq!(guarded.send(Some(&token), "tools/list", json!({})).status, 200);
}

#[test]
fn a_new_key_is_found_and_unknown_ones_do_not_bother_the_issuer() {
    let mut guarded = Guarded::start("");
    assert!(!guarded.tools(&guarded.token("ada", "")).is_empty());
    guarded.authority.add("new");
    let claims = guarded.authority.claims(AUDIENCE, "ada", "");
    assert!(!guarded.tools(&guarded.authority.sign("new", &claims)).is_empty());
    assert_eq!(guarded.authority.times_asked(), 2);
    for number in 0..20 {
        let header = json!({ "alg": "ES256", "kid": format!("made-up-{number}") });
        let token = guarded.authority.sign_as("ec", &header, &claims);
        is_refused(&guarded.send(Some(&token), "tools/list", json!({})), "made up");
    }
    assert!(guarded.authority.times_asked() <= 3, "asked {} times", guarded.authority.times_asked());
    assert!(!guarded.tools(&guarded.token("ada", "")).is_empty());
}

#[test]
fn nobody_is_let_in_while_nobody_can_tell() {
    let guarded = Guarded::start("jwks = \"http://127.0.0.1:1/keys\"\n");
    let response = guarded.send(Some(&guarded.token("ada", "")), "tools/list", json!({}));
    assert_eq!(response.status, 503);
    assert_eq!(response.header("retry-after"), Some("10"));
}

#[test]
fn the_metadata_says_whom_to_ask() {
    let guarded = Guarded::start("required_scopes = [\"use\"]\nscopes = { read = [\"echo\"], use = [] }\n");
    let get = |path: &str| Url::parse(&guarded.served.url).at(path).get(&[]).response().unwrap();
    for path in ["", "/mcp", "/agents/clerk/mcp"] {
        let response = get(&format!("/.well-known/oauth-protected-resource{path}"));
        assert_eq!((response.status, response.header("access-control-allow-origin")), (200, Some("*")), "{path}");
        let metadata: Value = serde_json::from_str(&response.text()).unwrap();
        let agent = path.starts_with("/agents");
        let resource = if agent { "https://antiphon.example.com/agents/clerk/mcp" } else { AUDIENCE };
        assert_eq!(metadata["resource"], resource, "{path}");
        assert_eq!(metadata["authorization_servers"], json!([guarded.authority.issuer]));
        assert_eq!(metadata["scopes_supported"], json!(["use", "read"]));
        assert_eq!(metadata["bearer_methods_supported"], json!(["header"]));
    }
    assert_eq!(get("/.well-known/oauth-protected-resource/other").status, 404);

    let missing = guarded.send(None, "tools/list", json!({}));
    assert_eq!(challenged(&missing, "scope").as_deref(), Some("use"));
    let few = guarded.send(Some(&guarded.token("ada", "read")), "tools/list", json!({}));
    assert_eq!(few.status, 403);
    assert_eq!(challenged(&few, "error").as_deref(), Some("insufficient_scope"));
    assert_eq!(challenged(&few, "scope").as_deref(), Some("use"));
    // Without an issuer there is nothing to say.
    let plain = antiphon_tests::Scratch::with_tools();
    plain.file("echo.toml", "[steps.one]\nset.a = 1\n");
    let served = Served::start(&mut plain.with_db(&["serve", ".", "--trust"]));
    let response = Url::parse(&served.url).at("/.well-known/oauth-protected-resource").get(&[]).response().unwrap();
    assert_eq!(response.status, 404);
}

#[test]
fn an_agents_endpoint_is_a_resource_of_its_own() {
    let guarded = Guarded::start("");
    let own = "https://antiphon.example.com/agents/clerk/mcp";
    let token = guarded.authority.token(own, "ada", "");
    let at = |path: &str, token: Option<&str>| guarded.send_to(path, &[], token, "tools/list", json!({}));
    assert_eq!(at("/agents/clerk/mcp", Some(&token)).status, 200);
    assert_eq!(at("/agents/clerk/mcp", Some(&guarded.token("ada", ""))).status, 200);
    assert_eq!(at("/mcp", Some(&token)).status, 401);
    assert_eq!(at("/agents/other/mcp", Some(&token)).status, 401);
    let missing = at("/agents/clerk/mcp", None);
    let metadata = "https://antiphon.example.com/.well-known/oauth-protected-resource/agents/clerk/mcp";
    assert_eq!((missing.status, challenged(&missing, "resource_metadata").as_deref()), (401, Some(metadata)));
}

#[test]
fn static_tokens_go_on_beside_an_issuer() {
    let authority = antiphon_tests::Authority::start();
    let scratch = crate::project(&authority, "scopes = { read = [\"echo\"] }\n");
    let mut command = scratch.with_db(&["serve", ".", "--trust", "--token", "ci=CI"]);
    let served = Served::start(command.env("CI", "a-long-secret"));
    let guarded = Guarded { authority, scratch, served };
    assert!(guarded.tools("a-long-secret").contains(&"confirm".to_owned()), "it opens everything");
    assert!(!guarded.tools(&guarded.token("ada", "read")).contains(&"confirm".to_owned()));
    is_refused(&guarded.send(Some("a-wrong-secret"), "tools/list", json!({})), "neither");
}
