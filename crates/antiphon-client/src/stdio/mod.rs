//! A server over the pipes of a child process.
//!
//! rmcp's own line transport drops what it can't read, and the call that waits for it hangs. This one tells that call.

mod greeting;
mod lines;
mod process;
mod salvage;

use std::future::Future;
use std::io;
use std::sync::Arc;

use rmcp::RoleClient;
use rmcp::model::{
    ClientJsonRpcMessage, ClientRequest, CustomResult, ErrorData, RequestId, ServerJsonRpcMessage, ServerNotification,
    ServerResult,
};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use tokio::io::AsyncWriteExt;
use tokio::process::ChildStdin;
use tokio::sync::Mutex;
use tokio_util::sync::DropGuard;

pub(crate) use self::greeting::is_modern;
use self::greeting::{Greeting, Next};
use self::lines::{Line, Lines};
use self::process::Output;
pub(crate) use self::process::Process;
use crate::config::ServerConfig;
use crate::wire::{Wire, number};

/// After so many unreadable lines in a row, what is at the other end is taken not to be an MCP server.
const MAX_NOISE: usize = 1_000;
/// How many unreadable lines of a connection are worth a warning.
const MAX_WARNINGS: usize = 10;
/// How much of an unreadable line is shown.
const PREVIEW: usize = 200;

/// The transport under rmcp.
pub(crate) struct Pipe {
    wire: Arc<Wire>,
    stdin: Arc<Mutex<Option<ChildStdin>>>,
    lines: Lines<Output>,
    reading: Reading,
    greeting: Greeting,
    /// Ends the process when the transport goes.
    _stop: DropGuard,
}

/// What is needed to make sense of a line.
struct Reading {
    config: Arc<ServerConfig>,
    wire: Arc<Wire>,
    /// Requests of the lifecycle, whose results rmcp must see as its own types.
    lifecycle: Vec<i64>,
    /// Unreadable lines since the last readable one, and in all.
    noise: (usize, usize),
}

/// What a message is, as far as it takes to route it.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: Option<IgnoredAny>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
}

impl Pipe {
    /// Starts the server's process. With `inquire`, an `initialize` that is sent may be answered by a version that knows none.
    ///
    /// # Errors
    /// See [`Process::spawn`].
    pub(crate) fn spawn(
        config: &Arc<ServerConfig>,
        wire: &Arc<Wire>,
        inquire: bool,
    ) -> Result<(Self, Process), String> {
        let (process, pipes) = Process::spawn(config)?;
        let pipe = Self {
            wire: Arc::clone(wire),
            stdin: Arc::new(Mutex::new(Some(pipes.stdin))),
            lines: Lines::new(pipes.stdout, config.limits.message),
            reading: Reading {
                config: Arc::clone(config),
                wire: Arc::clone(wire),
                lifecycle: Vec::new(),
                noise: (0, 0),
            },
            greeting: if inquire { Greeting::inquiring(config.limits.probe) } else { Greeting::plain() },
            _stop: process.stop.clone().drop_guard(),
        };
        Ok((pipe, process))
    }
}

impl Pipe {
    /// Whether the server has read all that was written to it. Systems that can't tell say yes.
    fn has_read(&self) -> bool {
        match self.stdin.try_lock().as_deref() {
            Ok(Some(stdin)) => rustix::io::ioctl_fionread(stdin).map_or(true, |unread| unread == 0),
            Ok(None) => true,
            Err(_) => false,
        }
    }
}

impl rmcp::transport::Transport<RoleClient> for Pipe {
    type Error = io::Error;

    fn send(&mut self, message: ClientJsonRpcMessage) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let message = self.greeting.outgoing(message);
        let id = match &message {
            Some(ClientJsonRpcMessage::Request(request)) => number(&request.id),
            _ => None,
        };
        if let (Some(ClientJsonRpcMessage::Request(request)), Some(id)) = (&message, id)
            && let ClientRequest::DiscoverRequest(_)
            | ClientRequest::InitializeRequest(_)
            | ClientRequest::SubscriptionsListenRequest(_) = request.request
        {
            self.reading.lifecycle.push(id);
        }
        let stdin = Arc::clone(&self.stdin);
        let wire = Arc::clone(&self.wire);
        async move {
            let Some(message) = message else { return Ok(()) };
            let mut line = serde_json::to_vec(&message)?;
            line.push(b'\n');
            let mut stdin = stdin.lock().await;
            let Some(stdin) = stdin.as_mut() else { return Err(io::ErrorKind::BrokenPipe.into()) };
            if let Some(id) = id {
                wire.sending(id);
            }
            let sent = stdin.write_all(&line).await;
            if let (Err(_), Some(id)) = (&sent, id) {
                // The line feed is its last byte, so what has left can't be taken for a message.
                wire.forget(id);
            }
            sent
        }
    }

    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        loop {
            let line = match self.greeting.next_look() {
                Some(at) => tokio::select! {
                    line = self.lines.next() => Some(line),
                    () = tokio::time::sleep_until(at) => None,
                },
                None => Some(self.lines.next().await),
            };
            let message = match line {
                Some(Ok(Some(Line::Whole(line)))) => self.reading.whole(line),
                Some(Ok(Some(Line::Overlong(line)))) => self.reading.overlong(&line),
                Some(Ok(None)) => return None,
                Some(Err(error)) => {
                    self.wire.broken(format!("can't be read from: {error}"));
                    return None;
                }
                None => None,
            };
            if self.reading.noise.0 > MAX_NOISE {
                self.wire.broken(format!("wrote {MAX_NOISE} lines to its standard output that are not MCP messages"));
                return None;
            }
            let next = match message {
                Some(message) => self.greeting.incoming(message),
                None => self.greeting.look(self.has_read()),
            };
            match next {
                Next::Wait => {}
                Next::Tell(message) => return Some(message),
                // Whether it has left shows in what comes back.
                Next::Send(message) => drop(self.send(message).await),
            }
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        // A write that is stuck holds the pipe; the signals that follow end that too.
        if let Ok(mut stdin) = self.stdin.try_lock() {
            stdin.take();
        }
        Ok(())
    }
}

impl Reading {
    fn whole(&mut self, line: &[u8]) -> Option<ServerJsonRpcMessage> {
        let line = line.trim_ascii();
        if line.is_empty() {
            return None;
        }
        let envelope = match serde_json::from_slice::<Envelope<'_>>(line) {
            Ok(envelope) => envelope,
            Err(error) => return self.broken(line, b"", line.len(), &format!("invalid JSON ({error})")),
        };
        let answers = match envelope.method {
            None => envelope.id.and_then(|id| serde_json::from_str(id.get()).ok()).and_then(|id| number(&id)),
            Some(_) => None,
        };
        if let Some(id) = answers
            && let Some(result) = envelope.result.filter(|_| !self.lifecycle.contains(&id))
        {
            // A large result is parsed once, and into what callers want: rmcp would try it on a dozen types.
            return match serde_json::from_str(result.get()) {
                Ok(result) => {
                    self.noise.0 = 0;
                    let result = ServerResult::CustomResult(CustomResult::new(result));
                    Some(ServerJsonRpcMessage::response(result, RequestId::Number(id)))
                }
                Err(error) => self.broken(line, b"", line.len(), &format!("a result that can't be read ({error})")),
            };
        }
        match serde_json::from_slice::<ServerJsonRpcMessage>(line) {
            Ok(message) => {
                self.noise.0 = 0;
                if let Some(id) = answers.filter(|id| self.lifecycle.contains(id)) {
                    self.wire.forget(id);
                }
                if let ServerJsonRpcMessage::Notification(told) = &message
                    && let ServerNotification::ProgressNotification(_)
                    | ServerNotification::LoggingMessageNotification(_) = told.notification
                {
                    self.wire.told();
                }
                Some(message)
            }
            Err(_) => self.broken(line, b"", line.len(), "JSON that is not an MCP message"),
        }
    }

    fn overlong(&mut self, line: &lines::Overlong) -> Option<ServerJsonRpcMessage> {
        let what = format!("a line of {} bytes, where {} are allowed", line.bytes, self.config.limits.message);
        self.broken(&line.head, &line.tail, line.bytes, &what)
    }

    /// A line that is no message: fails the call that it was meant for, if there is one.
    fn broken(&mut self, head: &[u8], tail: &[u8], bytes: usize, what: &str) -> Option<ServerJsonRpcMessage> {
        let answers = salvage::response_id(head, tail).filter(|id| self.wire.awaits(*id)).or_else(|| {
            // Too long for log output, and there is but one call that it can be for.
            self.wire.only().filter(|_| bytes > self.config.limits.message)
        });
        if let Some(id) = answers {
            self.noise.0 = 0;
            self.wire.unreadable(id, format!("answered with {what}"));
            let error = ErrorData::internal_error("unreadable", None);
            return Some(ServerJsonRpcMessage::error(error, Some(RequestId::Number(id))));
        }
        self.noise.0 += 1;
        self.noise.1 += 1;
        if self.noise.1 <= MAX_WARNINGS {
            let text: String = String::from_utf8_lossy(head).chars().take(PREVIEW).collect();
            tracing::warn!(
                server = %self.config.name,
                "wrote {what} to its standard output, which is for MCP messages only: {}",
                self.config.redact(&text),
            );
        }
        None
    }
}
