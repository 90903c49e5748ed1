//! Streamable HTTP as it is on the wire: HTTP/1.1 over a socket of one's own, a connection for each request.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};

use serde_json::Value;

/// Where an endpoint is: `http://HOST:PORT/PATH`.
#[derive(Clone, Debug)]
pub struct Url {
    host: String,
    path: String,
}

impl Url {
    /// Reads one, such as `http://127.0.0.1:8765/mcp`.
    pub fn parse(text: &str) -> Self {
        let rest = text.strip_prefix("http://").expect("a URL of the loopback");
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        Self { host: host.to_owned(), path: format!("/{path}") }
    }

    /// Another path of the same server.
    pub fn at(&self, path: &str) -> Self {
        Self { host: self.host.clone(), path: path.to_owned() }
    }

    /// Gets what is there.
    pub fn get(&self, headers: &[(&str, &str)]) -> Exchange {
        self.send("GET", headers, b"")
    }

    /// Posts a message. These headers stand beside the usual ones, or in their place.
    pub fn post(&self, headers: &[(&str, &str)], message: &Value) -> Exchange {
        self.post_bytes(headers, message.to_string().as_bytes())
    }

    /// Posts a body, whatever it is.
    pub fn post_bytes(&self, headers: &[(&str, &str)], body: &[u8]) -> Exchange {
        self.send("POST", headers, body)
    }

    /// Sends any request.
    pub fn send(&self, method: &str, headers: &[(&str, &str)], body: &[u8]) -> Exchange {
        let mut stream = TcpStream::connect(&self.host).expect("the server listens");
        let mut head = format!("{method} {} HTTP/1.1\r\n", self.path);
        let own = [
            ("host", self.host.as_str()),
            ("accept", "application/json, text/event-stream"),
            ("content-type", "application/json"),
            ("connection", "close"),
        ];
        let is_given = |name: &str| headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name));
        for (name, value) in own.into_iter().filter(|(name, _)| !is_given(name)).chain(headers.iter().copied()) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
        stream.write_all(&[head.as_bytes(), body].concat()).expect("the server reads");
        Exchange(stream)
    }
}

/// A request that was sent.
pub struct Exchange(TcpStream);

impl Exchange {
    /// The response, once its head is there.
    pub fn response(self) -> io::Result<Response> {
        Response::read(self.0)
    }

    /// What hangs up, while the response is awaited elsewhere.
    pub fn hangup(&self) -> Hangup {
        Hangup(self.0.try_clone().expect("a socket can be shared"))
    }
}

/// See [`Exchange::hangup`].
pub struct Hangup(TcpStream);

impl Hangup {
    /// Hangs up.
    pub fn now(&self) {
        // It may be over already.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// A response whose body is still to be read.
pub struct Response {
    /// Such as 200.
    pub status: u16,
    headers: BTreeMap<String, String>,
    body: Body,
}

impl Response {
    fn read(stream: TcpStream) -> io::Result<Self> {
        let mut stream = BufReader::new(stream);
        let broken = || io::Error::new(io::ErrorKind::InvalidData, "no head of a response");
        let status = line(&mut stream)?.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(broken)?;
        let mut headers = BTreeMap::new();
        loop {
            let line = line(&mut stream)?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let chunked = headers.get("transfer-encoding").is_some_and(|how| how == "chunked");
        let left = match headers.get("content-length").and_then(|length| length.parse().ok()) {
            _ if chunked => 0,
            Some(length) => length,
            None => u64::MAX,
        };
        Ok(Self { status, headers, body: Body { stream, chunked, left } })
    }

    /// A header, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The whole body.
    pub fn text(mut self) -> String {
        let mut text = String::new();
        // A server that is killed, or hung up on, leaves half a body.
        let _ = self.body.read_to_string(&mut text);
        text
    }

    /// The messages in the body, as they come: one, or one for each event.
    pub fn messages(self, mut each: impl FnMut(Value)) {
        if !self.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")) {
            if let Ok(message) = serde_json::from_str(&self.text()) {
                each(message);
            }
            return;
        }
        for line in BufReader::new(self.body).lines().map_while(Result::ok) {
            // rmcp's events are a line each.
            if let Some(message) = line.strip_prefix("data:").and_then(|data| serde_json::from_str(data).ok()) {
                each(message);
            }
        }
    }
}

/// A body, with its chunks joined.
struct Body {
    stream: BufReader<TcpStream>,
    chunked: bool,
    /// Bytes until the end of the chunk, or of the body.
    left: u64,
}

impl Read for Body {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.chunked && self.left == 0 {
            let mut size = line(&mut self.stream)?;
            if size.is_empty() {
                size = line(&mut self.stream)?;
            }
            self.left = u64::from_str_radix(size.trim(), 16).unwrap_or(0);
            if self.left == 0 {
                self.chunked = false;
            }
        }
        let read = (&mut self.stream).take(self.left).read(into)?;
        self.left -= read as u64;
        Ok(read)
    }
}

/// A line without its end; empty at the end.
fn line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}
