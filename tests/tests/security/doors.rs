//! Pages and names that are not ours, and projects that do not say clearly who may come in.

use antiphon_tests::{Authority, Served};
use serde_json::json;

use crate::{AUDIENCE, Guarded, project, refuses};

#[test]
fn foreign_pages_and_foreign_names_are_refused_whatever_they_show() {
    let guarded = Guarded::start("");
    let token = guarded.token("ada", "");
    for (header, foreign) in [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("host", "evil.example"),
        ("host", "antiphon.example.com.evil.example"),
    ] {
        for path in ["/mcp", "/agents/clerk/mcp"] {
            let refused = guarded.send_to(path, &[(header, foreign)], Some(&token), "tools/list", json!({}));
            assert_eq!(refused.status, 403, "{path} {header}: {foreign}");
        }
    }
    // The name that the audience has is ours.
    let own = guarded.send_to("/mcp", &[("host", "antiphon.example.com")], Some(&token), "tools/list", json!({}));
    assert_eq!(own.status, 200);
}

#[test]
fn nobody_is_let_in_by_a_file_that_could_not_be_read() {
    let authority = Authority::start();
    for (auth, said) in [
        ("scops = { a = [\"*\"] }\n", "unknown key `scops`"),
        ("jwks = \"http://keys.example/jwks\"\n", "only this machine may be asked"),
        ("scopes = \n", "AP0102"),
    ] {
        let scratch = project(&authority, auth);
        let (code, err) = refuses(&mut scratch.with_db(&["serve", ".", "--trust"]));
        assert_eq!(code, 2, "{auth}: {err}");
        assert!(err.contains(said), "{auth}: {err}");
    }
    let scratch = project(&authority, "jwks = \"${KEYS}\"\n");
    let (code, err) = refuses(scratch.with_db(&["serve", ".", "--trust"]).env("KEYS", "http://keys.example/"));
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("`jwks`"), "{err}");
}

#[test]
fn an_issuer_lets_the_endpoint_be_reached_from_elsewhere() {
    let authority = Authority::start();
    let scratch = project(&authority, "");
    let open = scratch.file("open/echo.toml", "[steps.one]\nset.a = 1\n");
    scratch.file("open/antiphon.toml", "[serve]\nexpose = []\n");
    // A nearer file takes no guard away.
    let mut served =
        Served::start(scratch.with_db(&["serve", "--trust", "--host", "0.0.0.0"]).arg(open.parent().unwrap()));
    served.url = served.url.replace("0.0.0.0", "127.0.0.1");
    let guarded = Guarded { authority, scratch, served };
    assert_eq!(guarded.send(None, "tools/list", json!({})).status, 401);
    let token = guarded.authority.token(AUDIENCE, "ada", "");
    assert!(guarded.tools(&token).contains(&"echo".to_owned()));
}
