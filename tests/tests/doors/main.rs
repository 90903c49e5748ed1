//! Bad input at every door: files, input, calls, servers, the disk. Whoever stands there gets a clear error; nothing panics,
//! nothing is lost, and runs on other servers do not notice. Secrets stay secret all the while.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a failed unwrap is a failed test")]

mod calls;
mod disk;
mod files;
mod input;
mod secrets;
mod servers;
mod store;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use antiphon_tests::Scratch;
use serde_json::Value;

/// Exit codes, as the manual has them.
const DONE: i32 = 0;
const FAILED: i32 = 1;
const USAGE: i32 = 2;
const NEEDS_INPUT: i32 = 3;
const IN_DOUBT: i32 = 4;
const INTERNAL: i32 = 70;

/// A project's server that behaves.
const GOOD: &str = "[servers.good]\ncommand = \"${FIXTURE}\"\nargs = [\"--log\", \"${LOG}\"]\n";

/// What a command did, as its user sees it.
struct Seen {
    code: i32,
    out: String,
    err: String,
}

impl Seen {
    /// Runs a command to its end. Whatever went wrong, it did not panic.
    fn of(command: &mut Command) -> Self {
        Self::from(command.stdin(Stdio::null()).output().unwrap())
    }

    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let seen =
            Self { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) };
        assert!(!seen.err.contains("panicked") && !matches!(seen.code, -1 | 101), "{}\n{}", seen.code, seen.err);
        seen
    }

    /// It ended with this code, and said all of this on standard error; standard output stayed clean.
    #[track_caller]
    fn fails(self, code: i32, says: &[&str]) -> Self {
        assert_eq!((self.code, self.out.as_str()), (code, ""), "{}", self.err);
        for part in says {
            assert!(self.err.contains(part), "it does not say {part:?}:\n{}", self.err);
        }
        self
    }

    /// It succeeded; what is on standard output is JSON.
    #[track_caller]
    fn succeeds(self) -> Value {
        assert_eq!(self.code, DONE, "{}\n{}", self.out, self.err);
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}

fn run(scratch: &Scratch, args: &[&str]) -> Seen {
    Seen::of(&mut scratch.with_db(args))
}

/// The project's runs, the newest first.
#[track_caller]
fn runs(scratch: &Scratch) -> Vec<Value> {
    let listed = run(scratch, &["runs", "--json"]);
    assert_eq!(listed.code, DONE, "{}", listed.err);
    listed.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The only run of the project: its id.
#[track_caller]
fn only_run(scratch: &Scratch) -> String {
    let runs = runs(scratch);
    assert_eq!(runs.len(), 1, "{runs:?}");
    runs[0]["id"].as_str().unwrap().to_owned()
}

/// How often a tool of the good server was called.
fn calls_of(scratch: &Scratch, tool: &str) -> usize {
    scratch.calls().iter().filter(|call| call["event"] == "begin" && call["tool"] == tool).count()
}

/// The same command, started by another program, which finds it behind these arguments.
fn through(program: &str, before: &[&str], command: &Command) -> Command {
    let mut through = Command::new(program);
    through.args(before).arg(command.get_program()).args(command.get_args());
    through.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(folder) = command.get_current_dir() {
        through.current_dir(folder);
    }
    through
}

/// A shell that does something first.
fn shell(first: &str, command: &Command) -> Command {
    through("sh", &["-c", &format!("{first}\nexec \"$0\" \"$@\"")], command)
}

/// An HTTP server that answers with a status, a content type and a body, whatever it is asked; it sees the request's head. Its
/// address; it lives as long as the test process.
fn web(answer: impl Fn(&str) -> (&'static str, &'static str, String) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let lines = reader.by_ref().lines().map_while(Result::ok);
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let length = |line: &String| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok();
            let length = head.iter().find_map(length).unwrap_or(0);
            // Whoever hangs up has heard enough.
            let _ = reader.take(length).read_to_end(&mut Vec::new());
            let (status, kind, body) = answer(&head.join(" "));
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
        }
    });
    address
}
