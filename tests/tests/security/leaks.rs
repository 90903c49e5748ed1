//! A caller's token goes to nobody, and into nothing that is kept or logged.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use antiphon_tests::{Authority, Era, Host, Scratch, program, text_of};
use serde_json::json;

use crate::AUDIENCE;

/// The conformance server over HTTP, and before it a door that keeps what comes in by it.
struct Recording {
    child: Child,
    url: String,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Recording {
    fn start() -> Self {
        let mut command = Command::new(program("conformance-server"));
        let mut child = command.args(["--http", "0", "--lifetime", "120"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        let behind = url.trim().strip_prefix("http://").unwrap().split('/').next().unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let heard = Arc::new(Mutex::new(Vec::new()));
        let kept = heard.clone();
        thread::spawn(move || {
            for front in listener.incoming().flatten() {
                let back = TcpStream::connect(&behind).unwrap();
                let (from_back, to_front) = (back.try_clone().unwrap(), front.try_clone().unwrap());
                thread::spawn(move || carry(from_back, to_front, |_| {}));
                let kept = kept.clone();
                thread::spawn(move || carry(front, back, |bytes| kept.lock().unwrap().extend_from_slice(bytes)));
            }
        });
        Self { child, url, heard }
    }

    fn heard(&self) -> String {
        String::from_utf8_lossy(&self.heard.lock().unwrap()).into_owned()
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, mut see: impl FnMut(&[u8])) {
    let mut buffer = [0; 8192];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        see(&buffer[..length]);
        if to.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}

/// Every file below a folder.
fn files(folder: &Path, all: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => files(&path, all),
            kind if kind.is_file() => all.push((path.display().to_string(), fs::read(&path).unwrap())),
            _ => {}
        }
    }
}

#[test]
fn a_callers_token_goes_to_no_server_into_no_file_and_no_log() {
    let (authority, web) = (Authority::start(), Recording::start());
    let scratch = Scratch::new();
    let child = "env >&3; exec 3>&-; tee -a heard.stdin | \"$0\"";
    let command = format!("exec 3>>heard.env; {child}");
    scratch.file(
        "antiphon.toml",
        &format!(
            "[servers.child]\ncommand = \"sh\"\nargs = [\"-c\", '''{command}''', \"${{CONFORMANCE}}\"]\n\
             [servers.web]\nurl = \"{}\"\nheaders = {{ Authorization = \"Bearer ${{WEB_KEY}}\" }}\n\
             [serve]\nexpose = [\"child.*\", \"web.*\"]\n\
             [serve.auth]\nissuer = \"{}\"\naudience = \"{AUDIENCE}\"\n",
            web.url, authority.issuer
        ),
    );
    scratch.file(
        "both.toml",
        "[steps.child]\ncall = \"child.test_simple_text\"\neffects = \"read_only\"\n\
         [steps.web]\ncall = \"web.test_simple_text\"\neffects = \"read_only\"\n\
         [steps.sure]\nneeds = [\"child\", \"web\"]\nelicit = \"Sure?\"\n",
    );
    let mut command = scratch.with_db(&["serve", ".", "--trust", "--token", "ci=CI_SECRET"]);
    command
        .env("ANTIPHON_LOG", "trace,rmcp=trace")
        .env("WEB_KEY", "key-of-our-0wn")
        .env("CI_SECRET", "st4tic-secret-token");
    let (served, log) = antiphon_tests::Served::heard(&mut command);
    let good = authority.token(AUDIENCE, "ada", "");
    let bad = authority.token("https://other.example/mcp", "ada", "");
    let secrets = [good.as_str(), bad.as_str(), "st4tic-secret-token"];
    let answers = json!({ "elicitation": {}, "extensions": { "io.modelcontextprotocol/tasks": {} } });
    let mut refused = Host::connect(&served.url, Some(&bad), Era::Modern, answers.clone());
    assert_eq!(refused.ask("tools/list", json!({}))["http"], 401);
    for (token, era) in [(good.as_str(), Era::Modern), (&good, Era::Legacy), ("st4tic-secret-token", Era::Modern)] {
        let mut host = Host::connect(&served.url, Some(token), era, answers.clone());
        for server in ["child", "web"] {
            let said = host.call(&format!("{server}__test_simple_text"), json!({}));
            assert!(!text_of(&said["result"]).is_empty(), "{server}: {said}");
            let read = host.ask("resources/list", json!({}));
            assert!(read["result"]["resources"].is_array(), "{read}");
        }
        if era == Era::Modern {
            let made = host.call("both", json!({}));
            let task = made["result"]["taskId"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
            let waits = host.poll(&task).unwrap();
            assert_eq!(waits["status"], "input_required", "{waits}");
        }
    }
    drop(served);
    let log = log.join().unwrap();
    assert!(log.contains("a token was refused"), "the log is there: {log}");
    let heard = web.heard();
    assert!(heard.contains("key-of-our-0wn") && heard.contains("test_simple_text"), "the server has heard: {heard}");
    let mut kept = Vec::new();
    files(scratch.path(), &mut kept);
    let read = |name: &str| kept.iter().find(|(path, _)| path.ends_with(name)).map(|(_, bytes)| bytes.clone());
    let stdin = read("heard.stdin").expect("the child has heard");
    assert!(String::from_utf8_lossy(&stdin).contains("test_simple_text"));
    assert!(String::from_utf8_lossy(&read("heard.env").unwrap()).contains("PATH="));
    kept.push(("what the server over HTTP has heard".to_owned(), heard.into_bytes()));
    kept.push(("the log".to_owned(), log.into_bytes()));
    for secret in secrets {
        // A part of it would be too much, too.
        let signature = secret.rsplit('.').next().unwrap().as_bytes();
        for (place, bytes) in &kept {
            let found = bytes.windows(signature.len()).any(|part| part == signature);
            assert!(!found, "a caller's token is in {place}");
        }
    }
}
