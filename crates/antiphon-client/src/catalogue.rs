//! What a server offers.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{ClientRequest, ListToolsRequest, PaginatedRequestParams};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::call::CallContext;
use crate::connection::Connection;
use crate::error::{ClientError, ErrorKind};

/// The most pages that a list may have.
pub(crate) const MAX_PAGES: usize = 1_000;
/// The most tools that a server may have; likewise of what else it lists.
pub(crate) const MAX_TOOLS: usize = 10_000;
/// A list is asked for again after this, for servers that never tell of changes.
const SHELF_LIFE: Duration = Duration::from_secs(300);

/// A server's tools.
#[derive(Debug, Default)]
pub struct Catalogue {
    tools: BTreeMap<String, Tool>,
    withheld: Vec<String>,
}

/// One tool.
#[derive(Debug)]
pub struct Tool {
    /// Its own name.
    pub name: String,
    /// All that the server says about it.
    pub definition: Value,
    /// SHA-256 of the definition, in hexadecimal.
    pub fingerprint: String,
}

impl Catalogue {
    /// The tool of this name, if there is one that may be called.
    pub fn get(&self, name: &str) -> Option<&Tool> {
        self.tools.get(name)
    }

    /// The tools that may be called, by name.
    pub fn tools(&self) -> impl Iterator<Item = &Tool> {
        self.tools.values()
    }

    /// Names of the tools that may not be called: `allow` does not cover them, or the server is marked `read_only` and they are not.
    pub fn withheld(&self) -> &[String] {
        &self.withheld
    }
}

impl Tool {
    fn new(name: String, definition: Value) -> Self {
        let hash = Sha256::digest(definition.to_string());
        let fingerprint = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { name, definition, fingerprint }
    }

    /// What it is for.
    pub fn description(&self) -> Option<&str> {
        self.definition.get("description")?.as_str()
    }

    /// JSON Schema of its arguments.
    pub fn input_schema(&self) -> Option<&Value> {
        self.definition.get("inputSchema")
    }

    /// JSON Schema of its structured result.
    pub fn output_schema(&self) -> Option<&Value> {
        self.definition.get("outputSchema")
    }

    /// Whether its annotations say that it changes nothing.
    pub fn read_only(&self) -> bool {
        self.hint("readOnlyHint")
    }

    /// Whether its annotations say that calling it again changes nothing more.
    pub fn idempotent(&self) -> bool {
        self.hint("idempotentHint")
    }

    fn hint(&self, name: &str) -> bool {
        self.definition.get("annotations").and_then(|hints| hints.get(name)) == Some(&Value::Bool(true))
    }
}

/// A connection's last list of tools, while it is good.
#[derive(Debug, Default)]
pub(crate) struct Shelf(Mutex<Option<Stock>>);

#[derive(Debug)]
struct Stock {
    generation: u64,
    since: Instant,
    catalogue: Arc<Catalogue>,
}

impl Connection {
    /// The server's tools, from the shelf or asked for.
    pub(crate) async fn tools(&self, cx: &CallContext) -> Result<Arc<Catalogue>, ClientError> {
        let mut shelf = self.tools.0.lock().await;
        let generation = self.calls.tools_generation();
        if let Some(stock) = &*shelf
            && stock.generation == generation
            && stock.since.elapsed() < SHELF_LIFE
        {
            return Ok(Arc::clone(&stock.catalogue));
        }
        let catalogue = Arc::new(self.list_tools(cx).await?);
        *shelf = Some(Stock { generation, since: Instant::now(), catalogue: Arc::clone(&catalogue) });
        Ok(catalogue)
    }

    /// Whether a tool may be called as far as its annotations decide it.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] where they don't say what the server's mark `read_only` wants.
    pub(crate) async fn admitted(&self, tool: &str, cx: &CallContext) -> Result<(), ClientError> {
        if !self.config.read_only || self.tools(cx).await?.get(tool).is_some() {
            return Ok(());
        }
        let message = format!("is marked `read_only`, and its tool `{tool}` does not say that it changes nothing");
        Err(self.error(ErrorKind::Denied, &message))
    }

    async fn list_tools(&self, cx: &CallContext) -> Result<Catalogue, ClientError> {
        let invalid = |message: &str| Err(self.error(ErrorKind::InvalidOutput, message));
        let mut catalogue = Catalogue::default();
        let mut seen = HashSet::new();
        let mut cursor: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let params = cursor.map(|cursor| PaginatedRequestParams::default().with_cursor(Some(cursor)));
            let list = ListToolsRequest { params, ..ListToolsRequest::default() };
            let mut page = self
                .request(ClientRequest::ListToolsRequest(list), Map::new(), cx)
                .await
                .map_err(|error| error.in_doubt_if(false))?;
            let Some(Value::Array(tools)) = page.get_mut("tools").map(Value::take) else {
                return invalid("answered `tools/list` without a list of tools");
            };
            for definition in tools {
                let Some(name) = definition.get("name").and_then(Value::as_str).map(str::to_owned) else {
                    tracing::warn!(server = %self.config.name, "lists a tool without a name; ignored");
                    continue;
                };
                let tool = Tool::new(name, definition);
                if self.config.admits(&tool.name, tool.read_only()) {
                    catalogue.tools.insert(tool.name.clone(), tool);
                } else {
                    catalogue.withheld.push(tool.name);
                }
            }
            if catalogue.tools.len() > MAX_TOOLS {
                return invalid(&format!("lists more than {MAX_TOOLS} tools"));
            }
            cursor = page.get("nextCursor").and_then(Value::as_str).map(str::to_owned);
            match &cursor {
                None => return Ok(catalogue),
                Some(cursor) if !seen.insert(cursor.clone()) => {
                    return invalid("answers `tools/list` with pages that lead back to each other");
                }
                Some(_) => {}
            }
        }
        invalid(&format!("answers `tools/list` with more than {MAX_PAGES} pages"))
    }
}
