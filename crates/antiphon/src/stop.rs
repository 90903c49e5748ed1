//! Ctrl-C and SIGTERM: the first asks to stop, the second does.

use std::process;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::fault::Fault;

/// The wish to stop.
pub struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    /// From here on signals no longer end the process by themselves.
    pub fn listen() -> Result<Self, Fault> {
        let listen = |kind| signal(kind).map_err(|e| Fault::internal(format!("can't listen for signals: {e}")));
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// Resolves at the first signal. The next one ends the process at once.
    pub async fn requested(&mut self) {
        self.signal().await;
        if let Ok(mut again) = Self::listen() {
            tokio::spawn(async move {
                again.signal().await;
                process::exit(130);
            });
        }
    }

    async fn signal(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
