//! Progress and log messages, taken off the wire in the order in which they come. rmcp handles each in a task of its own, where
//! they overtake each other, and are themselves overtaken by the answer after which nobody listens.
#![expect(deprecated, reason = "MCP deprecates logging, and servers use it")]

use std::sync::Arc;

use rmcp::RoleClient;
use rmcp::model::{ClientJsonRpcMessage, NotificationMetaObject, ServerJsonRpcMessage, ServerNotification};
use rmcp::transport::Transport;

use crate::calls::Calls;
use crate::config::ServerConfig;
use crate::http;

/// A transport that hands such messages to the calls that they belong to, and passes on the rest.
pub(crate) struct Heard<T> {
    transport: T,
    config: Arc<ServerConfig>,
    calls: Arc<Calls>,
}

impl<T> Heard<T> {
    pub(crate) fn new(transport: T, config: &Arc<ServerConfig>, calls: &Arc<Calls>) -> Self {
        Self { transport, config: Arc::clone(config), calls: Arc::clone(calls) }
    }

    /// `None`: it was heard.
    fn hear(&self, message: ServerJsonRpcMessage) -> Option<ServerJsonRpcMessage> {
        let ServerJsonRpcMessage::Notification(mut envelope) = message else { return Some(message) };
        match envelope.notification {
            ServerNotification::ProgressNotification(progress) => {
                let mut params = progress.params;
                params.message = params.message.map(|message| self.config.redact(&message).into_owned());
                self.calls.progress(params);
                None
            }
            ServerNotification::LoggingMessageNotification(mut log) => {
                let mut params = log.params;
                self.config.redact_all(&mut params.data);
                let meta = params.meta.take().or_else(|| log.extensions.remove::<NotificationMetaObject>());
                let mut meta = meta.unwrap_or_default();
                let request = meta.0.0.shift_remove(http::REQUEST).and_then(|id| id.as_i64());
                params.meta = Some(meta).filter(|meta| !meta.0.0.is_empty());
                self.calls.log(request, params);
                None
            }
            other => {
                envelope.notification = other;
                Some(ServerJsonRpcMessage::Notification(envelope))
            }
        }
    }
}

impl<T: Transport<RoleClient>> Transport<RoleClient> for Heard<T> {
    type Error = T::Error;

    fn send(&mut self, message: ClientJsonRpcMessage) -> impl Future<Output = Result<(), T::Error>> + Send + 'static {
        self.transport.send(message)
    }

    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        loop {
            let message = self.transport.receive().await?;
            if let Some(message) = self.hear(message) {
                return Some(message);
            }
        }
    }

    async fn close(&mut self) -> Result<(), T::Error> {
        self.transport.close().await
    }
}
