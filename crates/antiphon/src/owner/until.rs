//! Hanging up on those who attached.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use tokio_util::sync::CancellationToken;

/// Writes until the owner stops. From then on nothing that it says counts: whoever asked asks its successor, and must not get
/// an error instead.
pub struct Until<W> {
    writer: W,
    stopping: CancellationToken,
}

impl<W> Until<W> {
    /// Writes until `stopping`.
    pub fn new(writer: W, stopping: CancellationToken) -> Self {
        Self { writer, stopping }
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Until<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.stopping.is_cancelled() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Pin::new(&mut self.writer).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(cx)
    }
}
