//! What servers offer, passed through: no run is made of it, and nothing of it is changed but names.
//!
//! ```text
//! caller ── connection.rs ── pass/ ── antiphon_client::Client ── server
//! ```
#![expect(deprecated, reason = "MCP deprecates logging, and servers use it")]

mod ask;
mod changes;
mod chosen;
mod compact;
mod known;
mod late;
mod merge;
mod names;
mod park;
mod rank;
mod reply;
mod request;
mod task;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex};

use antiphon_client::Client;
use futures::future::join_all;
use rmcp::model::{ServerCapabilities, Tool};

pub use self::chosen::{Exposure, Retold};
pub(crate) use self::compact::{Compacted, compacted, find, unknown};
use self::known::Knowledge;
use self::late::Late;
pub(crate) use self::park::Parking;
pub(crate) use self::request::Passing;
pub(crate) use self::task::is_ours as is_task;
use crate::access::Access;

fn anything() -> ServerCapabilities {
    ServerCapabilities::builder()
        .enable_tools()
        .enable_tool_list_changed()
        .enable_prompts()
        .enable_prompts_list_changed()
        .enable_resources()
        .enable_resources_list_changed()
        .enable_resources_subscribe()
        .enable_completions()
        .enable_logging()
        .build()
}

/// Finds servers.
pub trait Upstreams: Send + Sync {
    /// The server of this name, as it is configured now.
    fn upstream(&self, name: &str) -> Option<Arc<Client>>;
}

/// What is passed through.
pub struct Pass {
    upstreams: Arc<dyn Upstreams>,
    exposures: Vec<Exposure>,
    /// More tools than this are offered by two: one finds them, one calls them.
    compact_above: Option<usize>,
    knowledge: Knowledge,
    /// Tools that were named and are not there: each is told of once.
    missed: Mutex<BTreeSet<String>>,
    late: Late,
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pass").field("exposures", &self.exposures).finish_non_exhaustive()
    }
}

impl Pass {
    /// Passes through what these servers offer. None is started before it is needed.
    pub fn new(upstreams: Arc<dyn Upstreams>, exposures: Vec<Exposure>) -> Self {
        Self {
            upstreams,
            exposures,
            compact_above: None,
            knowledge: Knowledge::default(),
            missed: Mutex::default(),
            late: Late::default(),
        }
    }

    /// Offers more tools than this by two of our own, `find_tools` and `call_tool`.
    #[must_use]
    pub fn compact_above(mut self, count: Option<usize>) -> Self {
        self.compact_above = count;
        self
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.exposures.is_empty()
    }

    /// What this opens of it.
    pub(crate) fn only(&self, access: &Access) -> Self {
        let open =
            self.exposures.iter().map(|whole| Exposure { only: access.of_server(&whole.server), ..whole.clone() });
        let open = open.filter(|exposure| exposure.only.as_ref().is_none_or(|only| !only.is_empty()));
        Self::new(self.upstreams.clone(), open.collect()).compact_above(self.compact_above)
    }

    /// What all servers together can. One that has not been there yet may be able to do anything.
    pub(crate) fn capabilities(&self) -> ServerCapabilities {
        let known = self.knowledge.now();
        if known.asked.len() == self.exposures.len() { known.capabilities.clone() } else { anything() }
    }

    /// How they say that they are meant to be used.
    pub(crate) fn instructions(&self) -> Vec<String> {
        self.knowledge.now().instructions.clone()
    }

    /// A tool, by the name that callers use, if the server has listed it.
    pub(crate) fn tool(&self, name: &str) -> Option<Tool> {
        self.knowledge.now().tools.get(name).map(|(_, tool)| tool.clone())
    }

    /// Has asked every server what it is, or has given up on it for now.
    pub(crate) async fn ready(&self) {
        let known: BTreeSet<usize> = self.knowledge.now().asked.clone();
        if known.len() == self.exposures.len() {
            return;
        }
        let unknown = (0..self.exposures.len()).filter(|at| !known.contains(at));
        let asked = unknown.map(|at| async move {
            let about = self.late.about(at, &self.client(at)?).await?;
            Some((at, about))
        });
        let found = join_all(asked).await;
        self.knowledge.learn(|known| {
            for (at, about) in found.into_iter().flatten() {
                known.introduce(&self.exposures[at].server, at, about);
            }
        });
    }

    fn client(&self, at: usize) -> Option<Arc<Client>> {
        self.upstreams.upstream(&self.exposures[at].server)
    }
}
