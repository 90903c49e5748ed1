//! A host's way to the runs, whoever owns them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

use super::own::Owning;
use super::relay::Link;
use super::seat::{self, Seat};
use crate::fault::Fault;
use crate::late::Lent;
use crate::store::Store;

/// What a process that serves a host says first on the owner's socket: which workflows the host is to see.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Attach {
    /// Workflow files and folders.
    pub paths: Vec<PathBuf>,
    /// Only this agent.
    #[serde(default)]
    pub agent: Option<String>,
    /// Variables that their servers and models need.
    pub lent: Lent,
}

impl Attach {
    /// The JSON-RPC method.
    pub const METHOD: &'static str = "antiphon/attach";
}

/// Opens connections for one host.
pub struct Door {
    store: Store,
    attach: Attach,
    stopping: CancellationToken,
    owning: Option<Owning>,
}

impl Door {
    /// A door for a host. `stopping` closes what goes through it.
    pub fn new(store: Store, attach: Attach, stopping: CancellationToken) -> Self {
        Self { store, attach, stopping, owning: None }
    }

    /// A connection to whoever owns the runs by now, or to this process once it does.
    pub async fn open(&mut self) -> Result<Link, Fault> {
        loop {
            if let Some(owning) = &self.owning {
                return Ok(owning.link(&self.attach));
            }
            match seat::take(&self.store, &self.stopping).await? {
                Seat::Owner(owning) => self.owning = Some(owning),
                Seat::Attached(stream) => {
                    if let Some(link) = self.attach.to(stream).await? {
                        return Ok(link);
                    }
                    tokio::time::sleep(seat::PAUSE).await;
                }
            }
        }
    }

    /// Takes the seat of the owner if it is free, and says whether this process sits there.
    pub async fn owner(&mut self) -> Result<Option<&Owning>, Fault> {
        if self.owning.is_none()
            && let Seat::Owner(owning) = seat::take(&self.store, &self.stopping).await?
        {
            self.owning = Some(owning);
        }
        Ok(self.owning.as_ref())
    }

    /// Ends this process's part: because the host is gone, or because it was `told` to.
    pub async fn close(&self, told: bool) {
        match &self.owning {
            Some(owning) if told => owning.stop().await,
            Some(owning) => owning.leave().await,
            None => {}
        }
    }
}

impl Attach {
    /// Says it to an owner. `None`: the owner is gone.
    async fn to(&self, stream: UnixStream) -> Result<Option<Link>, Fault> {
        let (reader, mut writer) = stream.into_split();
        let mut reader = BufReader::new(reader);
        let request = json!({ "jsonrpc": "2.0", "id": Self::METHOD, "method": Self::METHOD, "params": self });
        if writer.write_all(format!("{request}\n").as_bytes()).await.is_err() {
            return Ok(None);
        }
        let mut reply = String::new();
        if !matches!(reader.read_line(&mut reply).await, Ok(1..)) {
            return Ok(None);
        }
        let reply: Value = serde_json::from_str(&reply)
            .map_err(|e| Fault::internal(format!("the owner's answer is not JSON: {e}")))?;
        match reply.get("error") {
            Some(error) => Err(super::client::fault_of(error)),
            None => Ok(Some(Link { reader: Box::new(reader), writer: Box::new(writer) })),
        }
    }
}
