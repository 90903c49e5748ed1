//! A scratch project, and the binary in it.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks twice, then ends.
pub const ASKS: &str = r#"
description = "Asks for a colour"
[input]
name = { type = "string", default = "you" }
[steps.sure]
elicit = "Sure, {{ input.name }}?"
[steps.colour]
needs = ["sure"]
elicit = "Which colour?"
fields.colour = { type = "string", enum = ["red", "blue"] }
[output]
text = "{{ input.name }} likes {{ steps.colour.output.colour }}"
"#;

/// Ends by itself, after a while.
pub const WAITS: &str = r#"
description = "Waits a moment"
[steps.pause]
wait = "3s"
[steps.end]
needs = ["pause"]
set = "rested"
"#;

/// A folder of files and a data folder, both gone with the test.
pub struct Project {
    dir: TempDir,
}

/// What one command left.
#[derive(Debug)]
pub struct Done {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }
}

impl Project {
    pub fn new(files: &[(&str, &str)]) -> Self {
        let project = Self { dir: tempfile::tempdir().unwrap() };
        std::fs::create_dir(project.folder()).unwrap();
        for (name, text) in files {
            project.write(name, text);
        }
        project
    }

    pub fn folder(&self) -> PathBuf {
        self.dir.path().join("project")
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.folder().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// The folder of the project's runs, once there is one.
    pub fn data(&self) -> PathBuf {
        let all = self.dir.path().join("data/antiphon");
        std::fs::read_dir(all).unwrap().next().unwrap().unwrap().path()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_antiphon"));
        command
            .args(args)
            .current_dir(self.folder())
            .env("XDG_DATA_HOME", self.dir.path().join("data"))
            .env_remove("ANTIPHON_LOG")
            .stdin(Stdio::null());
        command
    }

    pub fn antiphon(&self, args: &[&str]) -> Done {
        let output = self.command(args).output().unwrap();
        Done {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The runs as `runs --json` lists them, newest first.
    pub fn runs(&self) -> Vec<Value> {
        let done = self.antiphon(&["runs", "--json"]).expect(0);
        done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Who owns the runs, as the lock says.
pub fn owner(data: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(data.join("lock")).ok()?;
    serde_json::from_str::<Value>(&text).ok()?["pid"].as_u64()
}

/// A host: a legacy MCP client that can be asked, over `antiphon serve`.
pub struct Host {
    pub child: Child,
    stdin: ChildStdin,
    lines: Receiver<Value>,
}

impl Host {
    /// Starts `antiphon serve` and shakes hands.
    pub fn start(project: &Project) -> Self {
        let mut child = project.command(&["serve"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let message = serde_json::from_str(&line).unwrap_or_else(|e| panic!("not JSON on stdout: {line}: {e}"));
                if sender.send(message).is_err() {
                    break;
                }
            }
        });
        let stdin = child.stdin.take().unwrap();
        let mut host = Self { child, stdin, lines };
        let params = json!({
            "protocolVersion": "2025-11-25",
            "clientInfo": { "name": "test", "version": "0" },
            "capabilities": { "elicitation": {} },
        });
        host.say(json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params }));
        assert_eq!(host.hear()["result"]["protocolVersion"], "2025-11-25");
        host.say(json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        host
    }

    pub fn say(&mut self, message: Value) {
        writeln!(self.stdin, "{message}").unwrap();
    }

    pub fn call(&mut self, id: u64, tool: &str, arguments: Value) {
        let params = json!({ "name": tool, "arguments": arguments });
        self.say(json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params }));
    }

    /// The next message.
    pub fn hear(&mut self) -> Value {
        self.lines.recv_timeout(PATIENCE).unwrap()
    }

    /// The next message with this method, or the answer to the request of this id.
    pub fn hear_until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let message = self.hear();
            if wanted(&message) {
                return message;
            }
        }
    }

    /// Tries again until it is so.
    pub fn hear_eventually(&mut self, mut is_so: impl FnMut(&mut Self) -> bool) {
        let begun = Instant::now();
        while !is_so(self) {
            assert!(begun.elapsed() < PATIENCE, "it never came");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
