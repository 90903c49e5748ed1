//! A server's process, from its start to the end of everything that it started.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use secrecy::ExposeSecret;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::lines::{Line, Lines};
use crate::config::{ServerConfig, Transport};

/// How long a process may take to end once its input is closed, and again once it was asked by signal.
const GRACE: Duration = Duration::from_secs(2);
/// How many of its last words are kept for error messages.
const LAST_LINES: usize = 8;
/// What of one line of its words is kept.
const LINE_BYTES: usize = 4096;

/// A running server. Dropping it ends nothing: [`Process::stop`] does.
#[derive(Debug)]
pub(crate) struct Process {
    /// Ends the process when cancelled. Close its input first.
    pub(crate) stop: CancellationToken,
    /// How it ended.
    ended: Ended,
    last_words: LastWords,
}

type Ended = watch::Receiver<Option<String>>;
type LastWords = Arc<Mutex<Words>>;

/// What a process has written to its standard error.
#[derive(Debug)]
struct Words {
    last: VecDeque<String>,
    /// When it last wrote, or was started.
    at: Instant,
}

/// The pipes of a process.
pub(crate) struct Pipes {
    pub(crate) stdin: ChildStdin,
    pub(crate) stdout: Output,
}

/// A process's standard output.
///
/// When nobody wants to read it any more it is still read, until the process has ended: one whose input was closed may have
/// something left to say, and is not to stumble over a pipe that is broken.
pub(crate) struct Output {
    /// There until this is dropped.
    stdout: Option<ChildStdout>,
    ended: Ended,
}

impl AsyncRead for Output {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.stdout {
            Some(stdout) => Pin::new(stdout).poll_read(cx, buf),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // Without a runtime this program ends as well.
        if let (Some(mut stdout), Ok(runtime)) = (self.stdout.take(), Handle::try_current()) {
            let mut ended = self.ended.clone();
            runtime.spawn(async move {
                let mut nowhere = tokio::io::sink();
                tokio::select! {
                    _ = tokio::io::copy(&mut stdout, &mut nowhere) => {}
                    _ = ended.wait_for(Option::is_some) => {}
                }
            });
        }
    }
}

impl Process {
    /// Starts the server's command.
    ///
    /// # Errors
    /// When there is no such command, or the system refuses.
    pub(crate) fn spawn(config: &Arc<ServerConfig>) -> Result<(Self, Pipes), String> {
        let Transport::Stdio { command: program, args, env, cwd } = &config.transport else {
            return Err("has no command".into());
        };
        let mut command = Command::new(program);
        command
            .args(args)
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(inherited)))
            .envs(env.iter().map(|(name, value)| (name, value.expose_secret())))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Of its own, so that Ctrl-C in our terminal is for us to pass on, and so that what it starts ends with it.
            .process_group(0)
            .kill_on_drop(true);
        if let Some(cwd) = cwd {
            command.current_dir(cwd);
        }
        let mut child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => match cwd.as_ref().filter(|cwd| !cwd.is_dir()) {
                Some(cwd) => format!("did not start: its directory {} does not exist", cwd.display()),
                None if program.contains('/') => format!("did not start: there is no file `{program}`"),
                None => format!("did not start: there is no command `{program}` on the PATH; is it installed?"),
            },
            _ => format!("did not start: `{program}`: {error}"),
        })?;
        let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err("did not start: it has no pipes".into());
        };
        let last_words = Arc::new(Mutex::new(Words { last: VecDeque::new(), at: Instant::now() }));
        let listening = tokio::spawn(listen(stderr, Arc::clone(config), Arc::clone(&last_words)));
        let stop = CancellationToken::new();
        let (report, ended) = watch::channel(None);
        let stopped = stop.clone();
        tokio::spawn(async move {
            let status = tend(child, stopped).await;
            // What it said last comes before the news that it has ended; a grandchild may keep the pipe open, though.
            let _ = tokio::time::timeout(Duration::from_millis(100), listening).await;
            report.send_replace(Some(status));
        });
        let stdout = Output { stdout: Some(stdout), ended: ended.clone() };
        Ok((Self { stop, ended, last_words }, Pipes { stdin, stdout }))
    }

    /// How it ended, if it does within this time, and what it said last: "exited with exit status: 1; its last words: …".
    pub(crate) async fn obituary(&self, patience: Duration) -> Option<String> {
        let mut ended = self.ended.clone();
        let status = tokio::time::timeout(patience, ended.wait_for(Option::is_some)).await.ok()?.ok()?.clone()?;
        let words = self.last_words();
        Some(if words.is_empty() { status } else { format!("{status}; its last words: {words}") })
    }

    /// The end of what it wrote to its standard error.
    pub(crate) fn last_words(&self) -> String {
        let words = self.last_words.lock().unwrap_or_else(PoisonError::into_inner);
        words.last.iter().map(String::as_str).collect::<Vec<_>>().join(" | ")
    }

    /// When it last wrote there, or was started.
    pub(crate) fn last_heard(&self) -> Instant {
        self.last_words.lock().unwrap_or_else(PoisonError::into_inner).at
    }
}

/// Waits for the end of a process, or brings it about; says how it ended.
async fn tend(mut child: Child, stop: CancellationToken) -> String {
    let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    let signal = |signal| {
        // An error means that the group is gone, which is what was wanted.
        let _ = group.map(|group| killpg(group, signal));
    };
    let mut status = None;
    tokio::select! {
        ended = child.wait() => status = Some(ended),
        () = stop.cancelled() => {
            for last_resort in [Signal::SIGTERM, Signal::SIGKILL] {
                if let Ok(ended) = tokio::time::timeout(GRACE, child.wait()).await {
                    status = Some(ended);
                    break;
                }
                signal(last_resort);
            }
        }
    }
    let status = match status {
        Some(status) => status,
        None => child.wait().await,
    };
    // Whatever it has started and left behind.
    signal(Signal::SIGKILL);
    match status {
        Ok(status) => format!("exited with {status}"),
        Err(error) => format!("was lost: {error}"),
    }
}

/// Passes on what a server writes to its standard error.
async fn listen(stderr: impl AsyncRead + Unpin, config: Arc<ServerConfig>, last_words: LastWords) {
    let hear = |line: &[u8]| {
        let line = String::from_utf8_lossy(line);
        let line = config.redact(line.trim_end());
        if line.is_empty() {
            return;
        }
        tracing::info!(target: "antiphon::server", server = %config.name, "{line}");
        let mut words = last_words.lock().unwrap_or_else(PoisonError::into_inner);
        if words.last.len() == LAST_LINES {
            words.last.pop_front();
        }
        words.last.push_back(line.into_owned());
        words.at = Instant::now();
    };
    let mut lines = Lines::new(stderr, LINE_BYTES);
    while let Ok(Some(line)) = lines.next().await {
        match line {
            Line::Whole(line) => hear(line),
            Line::Overlong(line) => hear(&line.head),
        }
    }
    hear(lines.rest());
}

/// Whether children get this variable of ours. Everything else, above all our own keys, is for `env` to pass on by name.
fn inherited(name: &str) -> bool {
    const NAMES: [&str; 24] = [
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "TERM",
        "LANG",
        "TZ",
        "TMPDIR",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "CURL_CA_BUNDLE",
        "REQUESTS_CA_BUNDLE",
        "NODE_EXTRA_CA_CERTS",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "no_proxy",
        "NVM_DIR",
        "PYENV_ROOT",
    ];
    /// Locale, directories, and the settings of the package runners that most servers are started by.
    const PREFIXES: [&str; 6] = ["LC_", "XDG_", "NPM_CONFIG_", "npm_config_", "PIP_", "UV_"];
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}
