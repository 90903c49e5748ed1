//! A project served over HTTP.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// `antiphon serve --transport http`, on a port of its own.
pub struct Served {
    child: Child,
    /// Its endpoint.
    pub url: String,
}

impl Served {
    /// Starts it and waits until it listens. The command says everything but the transport.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .args(["--transport", "http", "--port", "0"])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let url = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.split_whitespace().find(|word| word.starts_with("http://")).map(str::to_owned))
            .expect("the server says where it listens");
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, url }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
