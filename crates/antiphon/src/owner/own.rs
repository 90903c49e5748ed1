//! Being the owner: the engine, the socket, and those who attach.

use std::future::pending;
use std::io::{self, Cursor};
use std::sync::Arc;
use std::time::Duration;

use antiphon_engine::Owner;
use antiphon_server::{Catalog, ControlError, Server, ServerOptions};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::desk::{Desk, refusal};
use super::door::Attach;
use super::lock::{Holder, Lock};
use super::relay::Link;
use super::socket::Socket;
use super::until::Until;
use crate::fault::Fault;
use crate::key;
use crate::shelf::Shelf;
use crate::stop::Stop;
use crate::store::Store;

/// How long calls in flight may go on when somebody wants the owner to stop.
const GRACE: Duration = Duration::from_secs(2);

/// How long they may when it stops because its own work is done. A call that is cut off may be one of another process's run, and
/// in doubt afterwards.
const PATIENCE: Duration = Duration::from_secs(30);

/// After this long people are told what is waited for.
const SILENCE: Duration = Duration::from_secs(1);

/// The longest first line of a connection.
const MAX_GREETING: u64 = 64 * 1024;

/// A pipe in this process holds so many bytes before its writer waits.
const PIPE_BYTES: usize = 256 * 1024;

/// This process owns a project's runs.
pub struct Owning {
    reception: Arc<Reception>,
    tasks: TaskTracker,
    /// The last to go: whoever gets the lock next must find the database and the socket's path free.
    _lock: Lock,
}

/// What every connection needs.
struct Reception {
    desk: Arc<Desk>,
    seal_key: Vec<u8>,
    stopping: CancellationToken,
}

impl Owning {
    /// Opens the database (what was going on goes on) and listens.
    ///
    /// `stopping` closes every connection, and cancels nothing by that.
    pub fn open(mut lock: Lock, store: &Store, stopping: CancellationToken) -> Result<Self, Fault> {
        let desk = Arc::new(Desk::driving(store)?);
        let seal_key = key::load(&store.key)?;
        let listening = |e: io::Error| {
            Fault::internal_with(
                format!("can't listen beside {}: {e}", store.db.display()),
                "is the disk full, or read-only?",
            )
        };
        let path = store.socket_path().map_err(listening)?;
        let socket = Socket::bind(&path).map_err(listening)?;
        let holder = Holder { pid: std::process::id(), version: env!("CARGO_PKG_VERSION").to_owned(), socket: path };
        lock.announce(&holder).map_err(listening)?;

        let tasks = TaskTracker::new();
        let reception = Arc::new(Reception { desk, seal_key, stopping });
        tasks.spawn(accept(socket, reception.clone(), tasks.clone()));
        Ok(Self { reception, tasks, _lock: lock })
    }

    /// Where the command line is answered.
    pub fn desk(&self) -> &Desk {
        &self.reception.desk
    }

    /// Serves these workflows, in the way that `serve` does it, until it ends. Edits of their files show.
    pub async fn serving<T>(&self, attach: &Attach, serve: impl AsyncFnOnce(Server) -> T) -> Result<T, Fault> {
        self.reception.serving(attach, serve).await
    }

    /// A connection, within this process, to a server of these workflows.
    pub fn link(&self, attach: &Attach) -> Link {
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        let (reception, attach) = (self.reception.clone(), attach.clone());
        self.tasks.spawn(async move {
            let served =
                reception.serving(&attach, async |server| server.serve_stream(far, Owner::local(), None).await);
            match served.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "a connection ended badly"),
                Err(fault) => tracing::error!("{}", fault.message()),
            }
        });
        Link::over(near)
    }

    /// Leaves because its own work is done: hangs up, dispatches no more, waits for calls in flight, and flushes. A signal
    /// hurries it.
    pub async fn leave(&self) {
        let Ok(mut stop) = Stop::listen() else { return self.stop().await };
        let notice = async {
            sleep(SILENCE).await;
            tracing::info!("waiting for calls of other runs that are in flight; Ctrl-C stops them");
            pending::<()>().await;
        };
        tokio::select! {
            () = self.close(PATIENCE) => {}
            () = stop.requested() => self.stop().await,
            () = notice => {}
        }
    }

    /// Likewise, with a short wait only. Doing it again is no harm.
    pub async fn stop(&self) {
        self.close(GRACE).await;
    }

    async fn close(&self, grace: Duration) {
        self.reception.stopping.cancel();
        self.reception.desk.engine.pause(grace).await;
        self.tasks.close();
        // Handlers in flight may still answer; one that hangs must not keep the process.
        let _late = timeout(GRACE, self.tasks.wait()).await;
        self.reception.desk.world.shutdown().await;
    }
}

impl Reception {
    async fn serving<T>(&self, attach: &Attach, serve: impl AsyncFnOnce(Server) -> T) -> Result<T, Fault> {
        let mut shelf = self.shelf(attach)?;
        let server = self.server(shelf.catalog());
        tokio::select! {
            served = serve(server) => Ok(served),
            never = shelf.keep() => match never {},
        }
    }

    fn shelf(&self, attach: &Attach) -> Result<Shelf, Fault> {
        self.desk.world.borrow(attach.lent.clone());
        Shelf::stock(self.desk.world.clone(), attach.paths.clone(), attach.agent.clone())
    }

    fn server(&self, catalog: Catalog) -> Server {
        let options = ServerOptions { stopping: self.stopping.clone(), ..ServerOptions::new(self.seal_key.clone()) };
        Server::new(self.desk.engine.clone(), catalog, options)
    }

    /// Serves one connection. A first line of [`Attach`] says which workflows its host is to see; anything else is MCP already.
    async fn receive(&self, stream: UnixStream) -> io::Result<()> {
        #[derive(Deserialize)]
        struct Greeting {
            id: Value,
            method: String,
            params: Attach,
        }

        let (reader, writer) = stream.into_split();
        let mut writer = Until::new(writer, self.stopping.clone());
        let mut reader = BufReader::new(reader);
        let mut first = Vec::new();
        (&mut reader).take(MAX_GREETING).read_until(b'\n', &mut first).await?;
        let greeting = serde_json::from_slice::<Greeting>(&first).ok().filter(|said| said.method == Attach::METHOD);
        let Some(Greeting { id, params, .. }) = greeting else {
            // The command line: nothing but its own requests.
            let server = self.server(Catalog::default());
            return self.talk(&server, Cursor::new(first).chain(reader), writer).await;
        };
        let shelf = self.shelf(&params);
        let reply = match &shelf {
            Ok(_) => json!({ "jsonrpc": "2.0", "id": id, "result": {} }),
            Err(fault) => {
                let ControlError { code, message, data } = refusal(fault);
                json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message, "data": data } })
            }
        };
        writer.write_all(format!("{reply}\n").as_bytes()).await?;
        let Ok(mut shelf) = shelf else { return Ok(()) };
        let server = self.server(shelf.catalog());
        tokio::select! {
            served = self.talk(&server, reader, writer) => served,
            never = shelf.keep() => match never {},
        }
    }

    async fn talk(
        &self,
        server: &Server,
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
    ) -> io::Result<()> {
        let stream = tokio::io::join(reader, writer);
        server.serve_stream(stream, Owner::local(), Some(self.desk.clone())).await.map_err(io::Error::other)
    }
}

async fn accept(socket: Socket, reception: Arc<Reception>, tasks: TaskTracker) {
    loop {
        let stream = tokio::select! {
            () = reception.stopping.cancelled() => return,
            stream = socket.accept() => stream,
        };
        match stream {
            Ok(stream) => {
                let reception = reception.clone();
                tasks.spawn(async move {
                    tokio::select! {
                        () = reception.stopping.cancelled() => {}
                        received = reception.receive(stream) => if let Err(error) = received {
                            tracing::debug!(%error, "a connection ended badly");
                        }
                    }
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: wait for some to come back.
                tracing::warn!(%error, "can't accept a connection");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
