//! The way back in for the processes that a project's servers are: one door on the loopback, opened when the first of them needs it.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use antiphon_models::{Preferences, SampleAnswer, SampleRequest};
use antiphon_router::{Guest, Router, Unanswered, WayBack};
use antiphon_server::{ModelDoor, ModelRefusal, ToolDoor, serve_back};
use serde_json::{Map, Value};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::fault::Fault;

/// The door; it closes when dropped.
#[derive(Default)]
pub struct BackDoor(Mutex<Option<(WayBack, DropGuard)>>);

impl BackDoor {
    /// Where the door is; it is opened if it is not open yet.
    pub fn open(&self, router: &Arc<Router>) -> Result<WayBack, Fault> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((back, _)) = &*open {
            return Ok(back.clone());
        }
        let (back, guard) = listen(router).map_err(|error| {
            Fault::internal(format!(
                "can't listen on the loopback, for servers that may ask models or call tools: {error}"
            ))
        })?;
        *open = Some((back.clone(), guard));
        Ok(back)
    }

    /// Closes it.
    pub fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

fn listen(router: &Arc<Router>) -> io::Result<(WayBack, DropGuard)> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let stopping = CancellationToken::new();
    let serving = serve_back(
        tokio::net::TcpListener::from_std(listener)?,
        Arc::new(Routed(Arc::downgrade(router))),
        stopping.clone(),
    );
    tokio::spawn(async move {
        if let Err(error) = serving.await {
            tracing::error!(%error, "servers can't come back in any more");
        }
    });
    let url = |path| Some(format!("http://{address}/{path}"));
    Ok((WayBack { models: url("v1"), tools: url("mcp") }, stopping.drop_guard()))
}

/// The router behind the door.
struct Routed(Weak<Router>);

impl Routed {
    fn router(&self) -> Result<Arc<Router>, String> {
        self.0.upgrade().ok_or_else(|| "antiphon is stopping".to_owned())
    }
}

impl ModelDoor for Routed {
    type Asker = Guest;

    fn authenticate(&self, token: &str) -> Option<Guest> {
        self.router().ok()?.guest(token)
    }

    fn models(&self, guest: &Guest) -> Vec<String> {
        self.router().map(|router| router.models_of(guest)).unwrap_or_default()
    }

    async fn sample(
        &self,
        guest: Guest,
        request: SampleRequest,
        preferences: Preferences,
    ) -> Result<SampleAnswer, ModelRefusal> {
        let router = self.router().map_err(ModelRefusal::Denied)?;
        router.sample_for(&guest, &request, &preferences).await.map_err(|unanswered| match unanswered {
            Unanswered::Denied(why) => ModelRefusal::Denied(why),
            Unanswered::Model(error) => ModelRefusal::Model(error),
        })
    }
}

impl ToolDoor for Routed {
    async fn tools(&self, guest: &Guest) -> Result<Vec<Value>, String> {
        self.router()?.tools_for(guest).await.map_err(|failure| failure.message)
    }

    async fn call(&self, guest: &Guest, name: &str, arguments: Map<String, Value>) -> Result<Value, String> {
        self.router()?.call_for(guest, name, arguments).await.map_err(|refused| refused.message)
    }
}
