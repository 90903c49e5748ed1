//! What the command line asks of an owner: custom MCP requests on its socket, plain calls in its own process.

use std::collections::BTreeMap;
use std::path::PathBuf;

use antiphon_engine::{Progress, Run};
use antiphon_kernel::Answer;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::desk::Desk;
use crate::fault::Fault;
use crate::late::Lent;

/// A request of the command line. Every one may be repeated: an owner can die before its answer has arrived.
pub trait Verb: Serialize + DeserializeOwned + Clone + Send + Sync {
    /// The JSON-RPC method.
    const METHOD: &'static str;
    /// What answers it.
    type Reply: Serialize + DeserializeOwned + Send;
    /// Answers it, in the owner.
    fn answer(self, desk: &Desk) -> impl Future<Output = Result<Self::Reply, Fault>> + Send;
}

/// Starts a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Start {
    /// What runs.
    pub target: Target,
    /// Its input.
    pub input: Value,
    /// Makes repeating this request safe. Without it the request must not leave this process.
    pub key: Option<String>,
    /// Variables that its servers and models need.
    pub lent: Lent,
    /// The id stays in this process for now, so it need not be on disk yet.
    pub inline: bool,
}

/// What can be started.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The workflow of a file.
    File(PathBuf),
    /// An agent.
    Agent {
        /// The folder or file whose agents are meant.
        place: PathBuf,
        /// Its name.
        name: String,
    },
    /// One call of a server's tool.
    Tool {
        /// The folder whose files define the server.
        folder: PathBuf,
        /// The server's key.
        server: String,
        /// The tool's own name.
        tool: String,
    },
}

/// Answers [`Start`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Started {
    /// The run's id.
    pub id: String,
}

/// Lists runs, newest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Runs {
    /// Only those that have not ended.
    pub live: bool,
    /// Only those whose id starts with this.
    pub prefix: Option<String>,
    /// At most so many.
    pub limit: usize,
}

/// Answers [`Runs`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunList {
    /// The runs.
    pub runs: Vec<Run>,
    /// There are more.
    pub more: bool,
}

/// Shows one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Show {
    /// The run.
    pub id: String,
}

/// Waits for one run to change, at most `max_ms`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Wait {
    /// The run.
    pub id: String,
    /// The revision that is known already.
    pub after: u64,
    /// At most so long.
    pub max_ms: u64,
    /// As [`Start::inline`].
    pub inline: bool,
}

/// Answers [`Show`] and [`Wait`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunShown {
    /// The run.
    pub run: Run,
    /// Its output, if it has succeeded.
    pub output: Option<Value>,
    /// The requests of questions that are samples, by the questions' keys.
    pub requests: BTreeMap<String, Value>,
    /// What calls in flight reported in the meantime.
    pub progress: Vec<Progress>,
}

/// Answers a question.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Respond {
    /// The run.
    pub id: String,
    /// The question.
    pub key: String,
    /// The answer.
    pub answer: Answer,
}

/// Answers [`Respond`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Responded {
    /// False: the question is not open (any more).
    pub accepted: bool,
}

/// Asks a run to end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cancel {
    /// The run.
    pub id: String,
    /// Why.
    pub reason: String,
}

/// Shows every recorded event of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct History {
    /// The run.
    pub id: String,
}

/// Tells who answered the samples of a run, and why.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Choices {
    /// The run.
    pub id: String,
}

/// One answer to [`Choices`], as it was recorded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Chosen {
    /// The call: its step's path and attempt, and which of its server's requests.
    pub op: String,
    /// Who answered, by its own name.
    pub model: Option<String>,
    /// Tokens that it took, those of models included that failed before.
    pub tokens: u64,
    /// What they cost, in US dollars.
    pub cost_usd: f64,
    /// Who was considered, who was asked in vain.
    pub route: Value,
}

/// Lists the tools of a folder's servers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Catalogue {
    /// The folder.
    pub folder: PathBuf,
    /// Only this server's.
    pub server: Option<String>,
    /// Variables that the servers need.
    pub lent: Lent,
}

/// Answers [`Catalogue`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Tools {
    /// Tools as `tools/list` describes them, by server.
    pub servers: BTreeMap<String, Vec<Value>>,
    /// Servers whose tools are not known, and why.
    pub unavailable: BTreeMap<String, String>,
}

/// Answers a verb that has nothing to say.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Done {}
