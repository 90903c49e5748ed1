//! A project served over HTTP.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

/// `antiphon serve --transport http`, on a port of its own.
pub struct Served {
    child: Child,
    /// Its endpoint.
    pub url: String,
}

impl Served {
    /// Starts it and waits until it listens. The command says everything but the transport.
    pub fn start(command: &mut Command) -> Self {
        Self::heard(command).0
    }

    /// Likewise; what it says on standard error can be had once it is gone.
    pub fn heard(command: &mut Command) -> (Self, JoinHandle<String>) {
        let mut child = command
            .args(["--transport", "http", "--port", "0"])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let mut said = String::new();
        let url = lines
            .by_ref()
            .map_while(Result::ok)
            .inspect(|line| said.extend([line, "\n"]))
            .filter(|line| line.contains("listening on"))
            .find_map(|line| line.split_whitespace().find(|word| word.starts_with("http://")).map(str::to_owned))
            .unwrap_or_else(|| panic!("the server does not say where it listens: {said}"));
        let log = std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| said.extend([&line, "\n"]));
            said
        });
        (Self { child, url }, log)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
