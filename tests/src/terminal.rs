//! A person at a terminal: a command in a pseudo-terminal of its own, made by `script` of util-linux.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// How long a text may take to appear.
const PATIENCE: Duration = Duration::from_secs(30);

/// A terminal of 100 columns and 40 lines.
pub struct Terminal {
    child: Child,
    keyboard: ChildStdin,
    written: Receiver<Vec<u8>>,
    raw: Vec<u8>,
    /// How much of the text somebody has waited for.
    seen: usize,
}

impl Terminal {
    /// Runs a command in it.
    pub fn start(command: &Command) -> Self {
        Self::start_line(command, &format!("exec {}", quoted(command)))
    }

    /// Likewise, with more of a shell's command line: a redirection, or what comes next. The shell stays, and Ctrl-C ends it.
    pub fn start_then(command: &Command, rest: &str) -> Self {
        Self::start_line(command, &format!("{} {rest}", quoted(command)))
    }

    fn start_line(command: &Command, line: &str) -> Self {
        let line = format!("stty rows 40 cols 100; {line}");
        let mut script = Command::new("script");
        script.args(["-qefc", &line, "/dev/null"]).env("TERM", "xterm-256color").env("SHELL", "/bin/sh");
        if let Some(folder) = command.get_current_dir() {
            script.current_dir(folder);
        }
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => script.env(name, value),
                None => script.env_remove(name),
            };
        }
        let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("`script` is installed");
        let keyboard = child.stdin.take().expect("piped");
        let mut screen = child.stdout.take().expect("piped");
        let (send, written) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = screen.read(&mut bytes) {
                if send.send(bytes[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { child, keyboard, written, raw: Vec::new(), seen: 0 }
    }

    /// Waits until this is written, after what was waited for before.
    pub fn until(&mut self, text: &str) {
        loop {
            let all = self.text();
            if let Some(place) = all[self.seen..].find(text) {
                self.seen += place + text.len();
                return;
            }
            match self.written.recv_timeout(PATIENCE) {
                Ok(bytes) => self.raw.extend(bytes),
                Err(RecvTimeoutError::Disconnected) => panic!("it ended without {text:?}:\n{all}"),
                Err(RecvTimeoutError::Timeout) => panic!("{text:?} was not written:\n{all}"),
            }
        }
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).and_then(|()| self.keyboard.flush()).expect("somebody reads the keys");
    }

    /// Waits until the command ends: its exit code, and all that was written. The cursor must not be left hidden.
    pub fn end(mut self) -> (i32, String) {
        loop {
            match self.written.recv_timeout(PATIENCE) {
                Ok(bytes) => self.raw.extend(bytes),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end:\n{}", self.text()),
            }
        }
        let raw = String::from_utf8_lossy(&self.raw);
        assert!(raw.rfind("\u{1b}[?25l") <= raw.rfind("\u{1b}[?25h"), "the cursor is hidden:\n{}", self.text());
        let status = self.child.wait().expect("it is ours");
        (status.code().unwrap_or(-1), self.text())
    }

    /// All that was written, without what only moves the cursor or colours.
    fn text(&self) -> String {
        let raw = String::from_utf8_lossy(&self.raw);
        let mut text = String::new();
        let mut rest = raw.chars();
        while let Some(c) = rest.next() {
            match c {
                '\u{1b}' if rest.as_str().starts_with('[') => {
                    rest.next();
                    let _ = rest.find(|c| ('@'..='~').contains(c));
                }
                '\u{1b}' | '\r' => {}
                c => text.push(c),
            }
        }
        text
    }
}

/// A command as a shell's words.
fn quoted(command: &Command) -> String {
    let quote = |word: &OsStr| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"));
    let words: Vec<String> = std::iter::once(command.get_program()).chain(command.get_args()).map(quote).collect();
    words.join(" ")
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It hangs up on whatever still runs in the terminal.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
