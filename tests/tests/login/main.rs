//! Protected servers as a user meets them: refused, logged in to, called, renewed, revoked, logged out of.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod authority;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};

use antiphon_tests::{Era, Host, Scratch, Served, text_of};
use serde_json::json;

use authority::Authority;

const DONE: i32 = 0;
const FAILED: i32 = 1;
const USAGE: i32 = 2;

/// A project with one protected server, `vault`.
fn project(authority: &Authority, auth: &str) -> Scratch {
    let scratch = Scratch::new();
    configure(&scratch, authority, auth);
    scratch
}

fn configure(scratch: &Scratch, authority: &Authority, auth: &str) {
    scratch.file("antiphon.toml", &format!("[servers.vault]\nurl = \"{}\"\nauth = {auth}\n", authority.mcp()));
}

/// A login under way, and the address that the person is to visit.
struct Login {
    child: Child,
    rest: BufReader<std::process::ChildStderr>,
    address: String,
}

impl Login {
    fn begin(scratch: &Scratch, args: &[&str]) -> Self {
        let mut command = scratch.antiphon(&[&["login", "vault", "--no-browser"], args].concat());
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut rest = BufReader::new(child.stderr.take().unwrap());
        let (mut address, mut told) = (String::new(), String::new());
        while !address.trim().starts_with("http") {
            address.clear();
            assert_ne!(rest.read_line(&mut address).unwrap(), 0, "{told}");
            told.push_str(&address);
        }
        Self { child, rest, address: address.trim().to_owned() }
    }

    fn end(mut self) -> (i32, String) {
        let mut told = String::new();
        self.rest.read_to_string(&mut told).unwrap();
        (self.child.wait().unwrap().code().unwrap(), told)
    }
}

fn log_in(authority: &Authority, scratch: &Scratch) {
    let login = Login::begin(scratch, &[]);
    let (status, page) = authority.browse(&login.address);
    assert!(status == 200 && page.contains("You are logged in"), "{status} {page}");
    let (code, told) = login.end();
    assert!(code == DONE && told.contains("logged in to `vault`"), "{told}");
}

fn call(scratch: &Scratch) -> (i32, String, String) {
    scratch.run(&["call", "vault.greet"])
}

fn greeted(scratch: &Scratch) {
    let (code, out, err) = call(scratch);
    assert_eq!(code, DONE, "{out}{err}");
    // What the server repeats of the token is heard by nobody.
    assert!(out.contains("hello, Bearer ***"), "{out}{err}");
}

#[test]
fn a_person_logs_in_calls_and_logs_out() {
    let authority = Authority::start();
    let scratch = project(&authority, "\"oauth\"");
    let (code, out, err) = call(&scratch);
    assert_eq!(code, FAILED, "{out}{err}");
    assert!(err.contains("`vault`") && err.contains("antiphon login vault"), "{err}");
    let (_, _, err) = scratch.run(&["tools"]);
    assert!(err.contains("antiphon login vault"), "{err}");

    log_in(&authority, &scratch);
    greeted(&scratch);
    greeted(&scratch);
    assert_eq!(authority.world().log, ["register", "code"], "the token is kept");

    let kept = logins(&scratch);
    assert_eq!(kept.len(), 1, "{kept:?}");
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&kept[0]), mode(kept[0].parent().unwrap())), (0o600, 0o700));
    for file in files(&scratch.path().join("data")) {
        let text = String::from_utf8_lossy(&fs::read(&file).unwrap()).into_owned();
        assert!(kept.contains(&file) || !text.contains("access-"), "{} has the token", file.display());
    }

    let (code, _, err) = scratch.run(&["logout", "vault"]);
    assert!(code == DONE && err.contains("logged out of `vault`") && logins(&scratch).is_empty(), "{err}");
    assert_eq!(call(&scratch).0, FAILED);
    let (code, _, err) = scratch.run(&["logout", "vault"]);
    assert!(code == DONE && err.contains("there was no login"), "{err}");
}

fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn logins(scratch: &Scratch) -> Vec<std::path::PathBuf> {
    let all = files(&scratch.path().join("data"));
    all.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "json")).collect()
}

#[test]
fn a_login_is_renewed_by_itself() {
    let authority = Authority::start();
    let scratch = project(&authority, "\"oauth\"");
    // Over as soon as they are there.
    authority.world().life = 0;
    log_in(&authority, &scratch);
    greeted(&scratch);
    greeted(&scratch);
    let world = authority.world();
    assert!(world.times("refresh") >= 2, "{:?}", world.log);
    assert_eq!((world.times("code"), world.times("refused")), (1, 0), "{:?}", world.log);
}

/// Calls that find out at the same time that their token is refused do not all ask for another: a refresh token is good once.
#[test]
fn a_refused_token_is_renewed_once_for_all() {
    let authority = Authority::start();
    let scratch = project(&authority, "\"oauth\"");
    scratch.file(
        "many.toml",
        "[steps.first]\ncall = \"vault.greet\"\n[steps.revoked]\nneeds = [\"first\"]\nelicit = \"Go on?\"\nby = \"anyone\"\n\
         [steps.all]\nneeds = [\"revoked\"]\nfor_each = [1, 2, 3, 4, 5, 6, 7, 8]\ncall = \"vault.greet\"\n",
    );
    log_in(&authority, &scratch);
    let mut host = Host::start(&mut scratch.antiphon(&["serve", "."]), Era::Modern, json!({ "elicitation": {} }));
    let asked = host.call("many", json!({}));
    authority.world().revoke(false);
    let id = asked["result"]["requestState"].clone();
    let questions = asked["result"]["inputRequests"].as_object().unwrap_or_else(|| panic!("{asked}"));
    let answers: serde_json::Map<_, _> = questions
        .keys()
        .map(|key| (key.clone(), json!({ "action": "accept", "content": { "answer": true } })))
        .collect();
    let params = json!({ "name": "many", "arguments": {}, "requestState": id, "inputResponses": answers });
    let ended = host.ask("tools/call", params);
    assert_ne!(ended["result"]["isError"], true, "{ended}");
    let world = authority.world();
    assert_eq!((world.times("refresh"), world.times("refused")), (1, 0), "{:?}", world.log);
}

#[test]
fn a_login_that_was_taken_back_says_so() {
    let authority = Authority::start();
    let scratch = project(&authority, "\"oauth\"");
    log_in(&authority, &scratch);
    authority.world().revoke(true);
    for _ in 0..2 {
        let (code, out, err) = call(&scratch);
        assert_eq!(code, FAILED, "{out}{err}");
        assert!(err.contains("`vault`") && err.contains("has ended our login"), "{err}");
        assert!(err.contains("antiphon login vault"), "{err}");
    }
    assert_eq!(authority.world().times("refused"), 1, "what was refused once is not tried again");
    log_in(&authority, &scratch);
    greeted(&scratch);
}

#[test]
fn a_client_with_a_secret_needs_no_login() {
    let authority = Authority::start();
    authority.world().clients.insert("robot".to_owned(), Some("r0bot-s3cret".to_owned()));
    let auth = "{ grant = \"client_credentials\", client_id = \"robot\", client_secret = \"${ROBOT_SECRET}\", scopes = [\"greet\"] }";
    let scratch = project(&authority, auth);
    let with = |secret: &str| {
        let output =
            scratch.antiphon(&["call", "vault.greet"]).env("ROBOT_SECRET", secret).stdin(Stdio::null()).output();
        let output = output.unwrap();
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    };
    let (code, out, err) = with("r0bot-s3cret");
    assert!(code == DONE && out.contains("hello, Bearer ***"), "{out}{err}");
    assert_eq!(authority.world().log, ["client_credentials"]);

    let (code, out, err) = with("wr0ng-s3cret");
    assert!(code == FAILED && err.contains("`vault`") && err.contains("refuses our client"), "{out}{err}");
    assert!(!err.contains("wr0ng-s3cret"), "{err}");
    let (code, _, err) = call(&scratch);
    assert!(code == FAILED && err.contains("ROBOT_SECRET"), "{err}");
    assert!(logins(&scratch).is_empty());
    let output =
        scratch.antiphon(&["login", "vault"]).env("ROBOT_SECRET", "r0bot-s3cret").stdin(Stdio::null()).output();
    let err = String::from_utf8(output.unwrap().stderr).unwrap();
    assert!(err.contains("needs no login"), "{err}");
}

#[test]
fn a_person_may_decline_and_strangers_are_not_heard() {
    let authority = Authority::start();
    let scratch = project(&authority, "\"oauth\"");
    authority.world().declines = true;
    let login = Login::begin(&scratch, &[]);
    let back = authority.redirected(&login.address);
    let (status, _) = authority.browse(&back.replace("state=", "state=x"));
    assert_eq!(status, 400, "any page can send a browser there");
    let (_, page) = authority.browse(&back);
    assert!(page.contains("declined"), "{page}");
    let (code, told) = login.end();
    assert!(code == FAILED && told.contains("`vault`") && told.contains("declined"), "{told}");
    assert!(logins(&scratch).is_empty());
}

#[test]
fn an_authority_that_registers_nobody_wants_a_client_id() {
    let authority = Authority::start();
    authority.world().registers = false;
    let scratch = project(&authority, "\"oauth\"");
    let (code, _, err) = scratch.run(&["login", "vault", "--no-browser"]);
    assert!(code == FAILED && err.contains("`vault`") && err.contains("client_id"), "{err}");

    authority.world().clients.insert("known".to_owned(), None);
    configure(&scratch, &authority, "{ client_id = \"known\" }");
    log_in(&authority, &scratch);
    greeted(&scratch);
    assert_eq!(authority.world().log, ["code"]);
}

#[test]
fn what_can_not_be_logged_in_to_says_why() {
    let authority = Authority::start();
    let scratch = project(&authority, "\"oauth\"");
    authority.world().silent = true;
    let (code, _, err) = scratch.run(&["login", "vault", "--no-browser"]);
    assert!(code == FAILED && err.contains("`vault`") && err.contains("no OAuth metadata"), "{err}");
    let (code, _, err) = scratch.run(&["login", "other"]);
    assert!(code == USAGE && err.contains("no server is named `other`") && err.contains("vault"), "{err}");

    scratch.file("antiphon.toml", &format!("[servers.vault]\nurl = \"{}\"\n", authority.mcp()));
    let (code, _, err) = scratch.run(&["login", "vault"]);
    assert!(code == USAGE && err.contains("auth = \"oauth\""), "{err}");
    let (code, _, err) = call(&scratch);
    assert!(code == FAILED && err.contains("auth = \"oauth\"") && err.contains("antiphon login vault"), "{err}");
}

/// Whoever changes the address in a file does not get what was given for another one.
#[test]
fn a_login_is_for_one_address() {
    let (authority, other) = (Authority::start(), Authority::start());
    let scratch = project(&authority, "\"oauth\"");
    log_in(&authority, &scratch);
    configure(&scratch, &other, "\"oauth\"");
    let (code, _, err) = call(&scratch);
    assert!(code == FAILED && err.contains("antiphon login vault"), "{err}");
    assert!(other.world().shown.is_empty(), "{:?}", other.world().shown);
}

/// Passed through over HTTP, where the caller has a token of its own.
#[test]
fn the_callers_token_goes_no_further() {
    let authority = Authority::start();
    let scratch = project(&authority, "\"oauth\"\n[serve]\nexpose = [\"vault.*\"]");
    log_in(&authority, &scratch);
    let mut command = scratch.antiphon(&["serve", ".", "--token", "me=CALLER"]);
    let served = Served::start(command.env("CALLER", "callers-own-token"));
    for era in [Era::Modern, Era::Legacy] {
        let mut host = Host::connect(&served.url, Some("callers-own-token"), era, json!({}));
        let said = host.call("vault__greet", json!({}));
        assert_eq!(text_of(&said["result"]), "hello, Bearer ***", "{said}");
    }
    let world = authority.world();
    assert!(!world.shown.is_empty());
    assert!(world.shown.iter().all(|shown| shown.starts_with("Bearer access-")), "{:?}", world.shown);
}
