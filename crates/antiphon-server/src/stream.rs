//! Serving one connection that is a stream: stdio, the owner's socket, a pipe in the process.

use std::sync::Arc;

use antiphon_engine::Owner;
use futures::future::BoxFuture;
use rmcp::service::{QuitReason, ServerInitializeError, serve_server_with_ct};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::connection::{Connection, Door};
use crate::control::Control;
use crate::lines::{Lines, Reader, Writer};
use crate::server::Server;

/// Why a connection ended badly.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The peer did not begin as MCP does.
    #[error("the peer did not begin as MCP does: {0}")]
    Handshake(Box<ServerInitializeError>),
    /// The connection's task died.
    #[error("the connection's task died: {0}")]
    Task(tokio::task::JoinError),
}

impl Server {
    /// Serves this process's stdin and stdout, as owner `local`, until stdin ends or [`Server::stop`].
    ///
    /// # Errors
    /// See [`ServeError`].
    pub async fn serve_stdio(&self) -> Result<(), ServeError> {
        let (stdin, stdout) = rmcp::transport::stdio_pipes();
        self.serve_lines(Box::new(stdin), Box::new(stdout), Owner::local(), None).await
    }

    /// Serves one connection until the peer leaves or [`Server::stop`]: newline-delimited JSON-RPC, as on stdio. Everything on it
    /// belongs to `owner`. With a `control`, it also takes `antiphon/…` requests.
    ///
    /// # Errors
    /// See [`ServeError`]. A peer that leaves without a word is none.
    pub async fn serve_stream<S>(
        &self,
        stream: S,
        owner: Owner,
        control: Option<Arc<dyn Control>>,
    ) -> Result<(), ServeError>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (reader, writer) = tokio::io::split(stream);
        self.serve_lines(Box::new(reader), Box::new(writer), owner, control).await
    }

    /// Boxed: else each crate that awaits this would have a copy of all of rmcp to compile.
    fn serve_lines(
        &self,
        reader: Reader,
        writer: Writer,
        owner: Owner,
        control: Option<Arc<dyn Control>>,
    ) -> BoxFuture<'static, Result<(), ServeError>> {
        let connection = Connection::new(self.shared.clone(), Door::Stream { owner, control });
        let stopping = self.shared.stopping.child_token();
        Box::pin(async move {
            match serve_server_with_ct(connection, Lines::new(reader, writer), stopping).await {
                Ok(service) => match service.waiting().await {
                    Ok(QuitReason::JoinError(error)) | Err(error) => Err(ServeError::Task(error)),
                    Ok(_) => Ok(()),
                },
                Err(ServerInitializeError::ConnectionClosed(_) | ServerInitializeError::Cancelled) => Ok(()),
                Err(error) => Err(ServeError::Handshake(Box::new(error))),
            }
        })
    }
}
