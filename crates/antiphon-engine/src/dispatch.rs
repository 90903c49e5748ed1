//! One call on its way out.

use std::sync::Arc;

use antiphon_kernel::{Action, Answer, CallSpec, Entry, OpId, ValueRef, What};
use futures::FutureExt;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::api::EngineError;
use crate::blobs::hex_sha256;
use crate::calls::Landing;
use crate::core::Core;
use crate::effects::{CallContext, CallOutcome, RunInfo};
use crate::journal::{Gate, Receipt};
use crate::registry::{Asked, Board, Mail};

/// A sample's request with what its model may call.
pub(crate) fn with_tools(request: &Value, tools: &Value) -> Value {
    let mut request = request.clone();
    request["tools"] = tools.clone();
    request
}

/// A call and what it needs.
pub(crate) struct Dispatch {
    pub core: Arc<Core>,
    pub info: Arc<RunInfo>,
    pub gate: Arc<Gate>,
    pub board: Arc<Board>,
    pub post: mpsc::UnboundedSender<Mail>,
    pub op: OpId,
    pub call: CallSpec,
    pub entry: Entry,
    /// What must be on the disk before the first byte leaves.
    pub after: Option<Receipt>,
}

impl Dispatch {
    /// Makes the call, once it may be made.
    pub(crate) async fn run(mut self, cancelled: CancellationToken) -> Landing {
        if let Some(receipt) = &self.after
            && let Err(error) = self.core.journal.durable(receipt).await
        {
            self.gate.close(&error.to_string());
            return Landing::Withheld;
        }
        if cancelled.is_cancelled() && !matches!(self.entry, Entry::Cancel { .. }) {
            return Landing::failed("cancelled before it was made", false);
        }
        match self.deliver(cancelled).await {
            Ok(outcome) => {
                let inline = matches!(self.call.what, What::Sampling { .. });
                Landing::Called { outcome: Box::new(outcome), inline }
            }
            Err(error) => Landing::failed(error.to_string(), false),
        }
    }

    async fn deliver(&mut self, cancelled: CancellationToken) -> Result<CallOutcome, EngineError> {
        let mut args = self.core.value(&self.call.args).await?;
        if let Some(tools) = &self.call.tools {
            args = Arc::new(with_tools(&args, &*self.core.value(tools).await?));
        }
        if let Entry::Answers { state: Some(state), .. } = &mut self.entry {
            *state = ValueRef::Inline(self.core.value(state).await?);
        }
        let context = self.context(cancelled);
        Ok(self.core.effects.run(&self.info, &self.call, args, self.entry.clone(), context).await)
    }

    fn context(&self, cancelled: CancellationToken) -> CallContext {
        let board = Arc::clone(&self.board);
        let (core, post, op) = (Arc::clone(&self.core), self.post.clone(), self.op.clone());
        CallContext {
            idempotency_key: hex_sha256(&[self.info.id.0.as_bytes(), self.call.key.as_bytes()]),
            cancelled,
            progress: Box::new(move |progress| board.report(progress)),
            ask: Box::new(move |name, request, terms| {
                let (reply, answer) = oneshot::channel();
                // Without an actor the reply is dropped, and the question with it.
                let _ = post.send(Mail::Asked(Box::new(Asked { op: op.clone(), name, request, terms, reply })));
                let core = Arc::clone(&core);
                async move {
                    match answer.await {
                        Ok((answer, receipt)) if core.journal.durable(&receipt).await.is_ok() => answer,
                        _ => Answer { action: Action::Cancel, content: None },
                    }
                }
                .boxed()
            }),
        }
    }
}
