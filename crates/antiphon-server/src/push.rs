//! Questions pushed to a legacy caller, while its call is open.
//!
//! Everything here stays in the task of the call: rmcp knows by the task which call a pushed request belongs to.

use std::collections::{BTreeMap, BTreeSet};

use antiphon_engine::{EngineError, Run, RunId};
use antiphon_kernel::{Action, Answer, Question};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use rmcp::model::{InputRequest, ServerRequest};
use rmcp::service::{Peer, PeerRequestOptions, RequestContext, RoleServer, ServiceError};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::caller::Caller;
use crate::question;
use crate::server::Shared;

/// How often a question is put again when its answer does not fit.
const ATTEMPTS: u32 = 3;

/// As clients spell "the user said no" to a legacy request.
const REJECTED: i32 = -1;

/// The open requests of one call.
pub(crate) struct Pushes<'a> {
    shared: &'a Shared,
    caller: &'a Caller,
    peer: &'a Peer<RoleServer>,
    run: &'a RunId,
    open: FuturesUnordered<BoxFuture<'a, Pushed>>,
    /// The questions behind `open`, and what withdraws each.
    asked: BTreeMap<String, (Question, CancellationToken)>,
    attempts: BTreeMap<String, u32>,
    /// Not to be asked here again.
    given_up: BTreeSet<String>,
}

/// What became of a request.
pub(crate) struct Pushed {
    key: String,
    /// `None` if it was withdrawn.
    response: Option<Result<Value, ServiceError>>,
}

impl<'a> Pushes<'a> {
    pub(crate) fn new(
        shared: &'a Shared,
        caller: &'a Caller,
        context: &'a RequestContext<RoleServer>,
        run: &'a RunId,
    ) -> Self {
        Self {
            shared,
            caller,
            peer: &context.peer,
            run,
            open: FuturesUnordered::new(),
            asked: BTreeMap::new(),
            attempts: BTreeMap::new(),
            given_up: BTreeSet::new(),
        }
    }

    /// Nobody is being asked.
    pub(crate) fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }

    /// Requests are under way, be it only their withdrawal.
    pub(crate) fn in_flight(&self) -> bool {
        !self.open.is_empty()
    }

    /// Asks what the run asks and this caller can answer; withdraws what it does not ask any more.
    pub(crate) async fn follow(&mut self, run: &Run) -> Result<(), EngineError> {
        self.asked.retain(|key, (_, withdrawn)| {
            let still_open = run.view.questions.iter().any(|question| question.key == *key);
            if !still_open {
                withdrawn.cancel();
            }
            still_open
        });
        for question in &run.view.questions {
            if !self.asked.contains_key(&question.key) && !self.given_up.contains(&question.key) {
                self.ask(question, None).await?;
            }
        }
        Ok(())
    }

    async fn ask(&mut self, question: &Question, note: Option<&str>) -> Result<(), EngineError> {
        let engine = &*self.shared.engine;
        let Some(request) = question::request(engine, question, self.caller.answers, note).await? else {
            self.given_up.insert(question.key.clone());
            return Ok(());
        };
        let withdrawn = CancellationToken::new();
        self.open.push(Box::pin(push(self.peer, question.key.clone(), request, withdrawn.clone())));
        self.asked.insert(question.key.clone(), (question.clone(), withdrawn));
        Ok(())
    }

    /// The next request that is over; never, if none is under way.
    pub(crate) async fn next(&mut self) -> Pushed {
        match self.open.next().await {
            Some(pushed) => pushed,
            None => std::future::pending().await,
        }
    }

    /// Gives the answer to the run. One that does not fit is asked for again, saying why.
    pub(crate) async fn take(&mut self, pushed: Pushed) -> Result<(), EngineError> {
        let Pushed { key, response: Some(response) } = pushed else { return Ok(()) };
        let Some((question, _)) = self.asked.remove(&key) else { return Ok(()) };
        let engine = &*self.shared.engine;
        let given = match response {
            Ok(response) => question::give(engine, self.run, &question, response).await,
            Err(ServiceError::McpError(error)) if error.code.0 == REJECTED => {
                engine.input(self.run, &key, Answer { action: Action::Decline, content: None }).await
            }
            Err(error) => {
                tracing::debug!(%error, %key, "the caller can't be asked");
                self.given_up.insert(key);
                return Ok(());
            }
        };
        match given {
            Err(EngineError::InvalidAnswer { message, .. }) => {
                let attempts = self.attempts.entry(key.clone()).or_insert(1);
                *attempts += 1;
                if *attempts > ATTEMPTS {
                    self.given_up.insert(key);
                    return Ok(());
                }
                self.ask(&question, Some(&message)).await
            }
            other => other.map(drop),
        }
    }

    /// Withdraws what is still asked.
    pub(crate) async fn withdraw(mut self) {
        for (_, withdrawn) in self.asked.values() {
            withdrawn.cancel();
        }
        while self.open.next().await.is_some() {}
    }
}

async fn push(peer: &Peer<RoleServer>, key: String, request: InputRequest, withdrawn: CancellationToken) -> Pushed {
    let request = match request {
        InputRequest::CreateMessage(request) => ServerRequest::CreateMessageRequest(request),
        InputRequest::Elicitation(request) => ServerRequest::ElicitRequest(request),
        InputRequest::ListRoots(request) => ServerRequest::ListRootsRequest(request),
        _ => return Pushed { key, response: Some(Err(ServiceError::UnexpectedResponse)) },
    };
    let mut handle = match peer.send_request_with_option(request, PeerRequestOptions::no_options()).await {
        Ok(handle) => handle,
        Err(error) => return Pushed { key, response: Some(Err(error)) },
    };
    tokio::select! {
        response = &mut handle.rx => {
            let response = match response {
                Ok(Ok(result)) => serde_json::to_value(result).map_err(|_| ServiceError::UnexpectedResponse),
                Ok(Err(error)) => Err(error),
                Err(_) => Err(ServiceError::TransportClosed),
            };
            Pushed { key, response: Some(response) }
        }
        () = withdrawn.cancelled() => {
            if let Err(error) = handle.cancel(Some("the question is not open any more".to_owned())).await {
                tracing::debug!(%error, "the withdrawal did not reach the caller");
            }
            Pushed { key, response: None }
        }
    }
}
