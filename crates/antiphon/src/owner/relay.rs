//! Passing a host's lines to the owner, whoever that is.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::transcript::Transcript;
use crate::fault::Fault;

/// A stream of lines in each direction.
pub struct Link {
    /// From the other side.
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
    /// To the other side.
    pub writer: Box<dyn AsyncWrite + Send + Unpin>,
}

impl Link {
    /// A link over one stream.
    pub fn over(stream: impl AsyncRead + AsyncWrite + Send + 'static) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self { reader: Box::new(reader), writer: Box::new(writer) }
    }
}

/// How long the owner may take to finish its answers when the host has closed its side.
const FAREWELL: Duration = Duration::from_secs(2);

/// Passes lines until the host closes its side. `connect` finds an owner; it is called again whenever one is lost.
pub async fn relay(host: Link, mut connect: impl AsyncFnMut() -> Result<Link, Fault>) -> Result<(), Fault> {
    let mut transcript = Transcript::default();
    let mut to_host = host.writer;
    let mut from_host = lines(host.reader);
    let link = connect().await?;
    let mut to_owner = link.writer;
    let mut from_owner = lines(link.reader);
    loop {
        tokio::select! {
            line = from_host.recv() => {
                let Some(line) = line else { break };
                if let Some(line) = rewrite(line, |line| transcript.host_says(line)) {
                    // A lost owner shows on its other side, where a new one is looked for; the transcript has the line.
                    let _lost = write_line(&mut to_owner, &line).await;
                }
            }
            line = from_owner.recv() => match line {
                Some(line) => {
                    if let Some(line) = rewrite(line, |line| transcript.owner_says(line)) {
                        write_line(&mut to_host, &line).await.map_err(host_gone)?;
                    }
                }
                None => {
                    tracing::info!("the owner is gone; looking for another");
                    let link = connect().await?;
                    (to_owner, from_owner) = (link.writer, lines(link.reader));
                    let replay = transcript.new_owner();
                    for line in replay.to_host {
                        write_line(&mut to_host, line.as_bytes()).await.map_err(host_gone)?;
                    }
                    for line in replay.to_owner {
                        let _lost = write_line(&mut to_owner, line.as_bytes()).await;
                    }
                }
            },
        }
    }
    let _gone = to_owner.shutdown().await;
    let rest = async {
        while let Some(line) = from_owner.recv().await {
            if let Some(line) = rewrite(line, |line| transcript.owner_says(line)) {
                write_line(&mut to_host, &line).await?;
            }
        }
        Ok::<_, io::Error>(())
    };
    let _late = timeout(FAREWELL, rest).await;
    Ok(())
}

fn host_gone(error: io::Error) -> Fault {
    Fault::internal(format!("the host reads no more: {error}"))
}

/// What is not UTF-8 is no JSON-RPC: it passes, and the owner says so.
fn rewrite(line: Vec<u8>, rewrite: impl FnOnce(String) -> Option<String>) -> Option<Vec<u8>> {
    match String::from_utf8(line) {
        Ok(text) => rewrite(text).map(String::into_bytes),
        Err(bytes) => Some(bytes.into_bytes()),
    }
}

async fn write_line(writer: &mut (dyn AsyncWrite + Send + Unpin), line: &[u8]) -> io::Result<()> {
    writer.write_all(line).await?;
    writer.write_all(b"\n").await?;
    writer.flush().await
}

/// Lines as they come, without their ends. Reading goes on while a line is being written elsewhere.
pub(super) fn lines(reader: Box<dyn AsyncRead + Send + Unpin>) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(1024);
    tokio::spawn(async move {
        let mut reader = BufReader::new(reader);
        loop {
            let mut line = Vec::new();
            match reader.read_until(b'\n', &mut line).await {
                Ok(0) | Err(_) => break,
                // An owner that was killed leaves half a line; its successor says the whole.
                Ok(_) if line.last() != Some(&b'\n') => break,
                Ok(_) => {
                    while line.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
                        line.pop();
                    }
                    if !line.is_empty() && sender.send(line).await.is_err() {
                        break;
                    }
                }
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used)]

    use serde_json::{Value, json};
    use tokio::io::{DuplexStream, Lines, ReadHalf, WriteHalf};

    use super::*;

    struct End {
        lines: Lines<BufReader<ReadHalf<DuplexStream>>>,
        writer: WriteHalf<DuplexStream>,
    }

    impl End {
        fn pair() -> (Self, Link) {
            let (near, far) = tokio::io::duplex(64 * 1024);
            let (reader, writer) = tokio::io::split(near);
            (Self { lines: BufReader::new(reader).lines(), writer }, Link::over(far))
        }

        async fn say(&mut self, message: Value) {
            write_line(&mut self.writer, message.to_string().as_bytes()).await.unwrap();
        }

        async fn hear(&mut self) -> Value {
            serde_json::from_str(&self.lines.next_line().await.unwrap().unwrap()).unwrap()
        }
    }

    #[tokio::test]
    async fn a_call_survives_its_owner() {
        let (mut host, host_link) = End::pair();
        let (mut first, first_link) = End::pair();
        let (mut second, second_link) = End::pair();
        let mut links = vec![second_link, first_link];
        let relay =
            tokio::spawn(relay(host_link, async move || links.pop().ok_or_else(|| Fault::internal("no third owner"))));

        host.say(json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "ship" } })).await;
        let mut call = first.hear().await;
        drop(first);
        call["params"]["_meta"]["antiphon/again"] = true.into();
        assert_eq!(second.hear().await, call, "the same call with the same key, and that it is heard again");
        second.say(json!({ "jsonrpc": "2.0", "id": 1, "result": { "content": [] } })).await;
        assert_eq!(host.hear().await["id"], 1);

        drop(host);
        assert!(second.lines.next_line().await.unwrap().is_none(), "the host's end is passed on");
        drop(second);
        relay.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn half_an_answer_is_kept_from_the_host() {
        let (mut host, host_link) = End::pair();
        let (mut first, first_link) = End::pair();
        let (mut second, second_link) = End::pair();
        let mut links = vec![second_link, first_link];
        tokio::spawn(relay(host_link, async move || links.pop().ok_or_else(|| Fault::internal("no third owner"))));

        host.say(json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" })).await;
        first.hear().await;
        first.writer.write_all(br#"{ "jsonrpc": "2.0", "id": 1, "res"#).await.unwrap();
        drop(first);
        second.hear().await;
        second.say(json!({ "jsonrpc": "2.0", "id": 1, "result": {} })).await;
        assert_eq!(host.hear().await, json!({ "jsonrpc": "2.0", "id": 1, "result": {} }));
    }
}
