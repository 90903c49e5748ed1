//! Callers of an MCP server over either transport, in either era: raw, so that they cost little beside what is measured.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::host::{Host, hello, meta};
use crate::lab::listening;
use crate::sample::Sample;
use crate::{Era, Error};

/// A server, and the way to it.
#[derive(Clone)]
pub enum Way {
    /// A pipe.
    Stdio(Arc<Host>),
    /// A pool of connections.
    Http(Arc<Web>),
}

impl Way {
    /// Starts a server over stdio.
    pub async fn stdio(command: Command, era: Era) -> Result<Self, Error> {
        let host = match era {
            Era::Legacy => Host::legacy(command).await?,
            Era::Modern => Host::start(command)?,
        };
        Ok(Self::Stdio(host.into()))
    }

    /// Starts a server over HTTP.
    pub async fn http(command: Command, era: Era) -> Result<Self, Error> {
        Ok(Self::Http(Web::start(command, era).await?.into()))
    }

    /// The server's process id.
    pub fn pid(&self) -> Result<u32, Error> {
        match self {
            Self::Stdio(host) => host.pid(),
            Self::Http(web) => Ok(web.child.id().ok_or("the server is gone")?),
        }
    }

    /// Calls a tool whose result is at least so long.
    pub async fn call(&self, tool: &str, arguments: &Value, at_least: usize) -> Result<(), Error> {
        let params = json!({ "name": tool, "arguments": arguments });
        match self {
            Self::Stdio(host) => {
                let result = host.ask("tools/call", params).await?;
                let text = result["content"][0]["text"].as_str().unwrap_or_default();
                if text.len() < at_least { Err(format!("{tool} gave {result}").into()) } else { Ok(()) }
            }
            Self::Http(web) => {
                let body = web.ask("tools/call", params).await?;
                let fine = body.len() >= at_least && contains(&body, br#""result":"#);
                if fine { Ok(()) } else { Err(format!("{tool} gave {}", String::from_utf8_lossy(&body)).into()) }
            }
        }
    }

    /// So many calls, by so many callers at a time: how long each took, and all of them in seconds.
    pub async fn calls(
        &self,
        tool: &'static str,
        arguments: &Value,
        at_least: usize,
        (calls, callers): (usize, usize),
    ) -> Result<(Sample, f64), Error> {
        let begun = Instant::now();
        let callers = (0..callers).map(|_| {
            let (way, arguments) = (self.clone(), arguments.clone());
            tokio::spawn(async move {
                let mut took = Sample::default();
                for _ in 0..calls / callers {
                    took.time(way.call(tool, &arguments, at_least)).await?;
                }
                Ok::<_, Error>(took)
            })
        });
        let mut all = Sample::default();
        for caller in callers.collect::<Vec<_>>() {
            all.extend(caller.await??);
        }
        Ok((all, begun.elapsed().as_secs_f64()))
    }
}

fn contains(body: &[u8], part: &[u8]) -> bool {
    // It comes early, whatever the result is.
    body[..body.len().min(4096)].windows(part.len()).any(|window| window == part)
}

/// An HTTP server.
pub struct Web {
    child: Child,
    url: String,
    client: reqwest::Client,
    session: Option<String>,
    era: Era,
    last_id: AtomicU64,
}

impl Web {
    async fn start(command: Command, era: Era) -> Result<Self, Error> {
        let (child, url) = listening(command).await?;
        let client = reqwest::Client::builder().tcp_nodelay(true).pool_max_idle_per_host(64).build()?;
        let mut web = Self { child, url, client, session: None, era, last_id: AtomicU64::new(0) };
        if era == Era::Legacy {
            let hello = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello() });
            let response = web.post("initialize", &hello).await?;
            let session = response.headers().get("mcp-session-id").ok_or("the server opened no session")?;
            web.session = Some(session.to_str()?.to_owned());
            response.bytes().await?;
            let done = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
            web.post("notifications/initialized", &done).await?;
        }
        Ok(web)
    }

    async fn post(&self, method: &str, message: &Value) -> Result<reqwest::Response, Error> {
        let mut request = self.client.post(&self.url).header("accept", "application/json, text/event-stream");
        if method != "initialize" {
            request = request.header("mcp-protocol-version", self.era.version().as_str());
        }
        if let Some(session) = &self.session {
            request = request.header("mcp-session-id", session);
        }
        if self.era == Era::Modern {
            let name = message["params"]["name"].as_str().unwrap_or_default();
            request = request.header("mcp-method", method).header("mcp-name", name);
        }
        Ok(request.json(message).send().await?.error_for_status()?)
    }

    async fn ask(&self, method: &str, mut params: Value) -> Result<Vec<u8>, Error> {
        if self.era == Era::Modern {
            params["_meta"] = meta();
        }
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        Ok(self.post(method, &request).await?.bytes().await?.into())
    }
}
