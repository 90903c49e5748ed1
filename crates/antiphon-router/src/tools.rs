//! The tools that a sample's model is told of: a plan names those of servers, or patterns of them, and what they are is filled in
//! from what the servers offer now.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use antiphon_client::{CallContext, Catalogue};
use antiphon_engine::CallFailure;
use antiphon_kernel::{ErrorKind, fits};
use serde_json::{Value, json};

use crate::effects::failure;
use crate::router::{Router, list, nearest};

impl Router {
    /// Fills in the tools of a sample's request. A server that can't be asked fails the sample: its model would answer without what
    /// it was granted.
    pub(crate) async fn filled<'a>(&self, request: &'a Value, cx: &CallContext) -> Result<Cow<'a, Value>, CallFailure> {
        Ok(match self.tools_of(request, cx).await? {
            Some(tools) => {
                let mut request = request.clone();
                request["tools"] = tools;
                Cow::Owned(request)
            }
            None => Cow::Borrowed(request),
        })
    }

    /// The tools of a sample's request, those of servers as these describe them; `None` if there are none of servers.
    pub(crate) async fn tools_of(&self, request: &Value, cx: &CallContext) -> Result<Option<Value>, CallFailure> {
        let entries = request.get("tools").and_then(Value::as_array);
        let of_server = |entry: &Value| entry.get("server").is_some();
        let Some(entries) = entries.filter(|entries| entries.iter().any(of_server)) else { return Ok(None) };
        let mut names = BTreeSet::new();
        let mut tools = Vec::new();
        for entry in entries {
            let text = |key: &str| entry.get(key).and_then(Value::as_str);
            let specs = match (text("server"), text("tool"), text("name")) {
                (Some(server), Some(pattern), Some(name)) => self.specs(server, pattern, name, cx).await?,
                _ => vec![entry.clone()],
            };
            tools.extend(specs.into_iter().filter(|spec| names.insert(spec["name"].to_string())));
        }
        Ok(Some(tools.into()))
    }

    /// What a server says of the tools that fit a pattern.
    async fn specs(
        &self,
        server: &str,
        pattern: &str,
        name: &str,
        cx: &CallContext,
    ) -> Result<Vec<Value>, CallFailure> {
        let catalogue = match pattern.contains('*') {
            true => self.client(server)?.tools(cx).await.map_err(failure)?,
            false => self.catalogue_with(server, pattern, cx).await?,
        };
        let prefix = name.strip_suffix(pattern).unwrap_or_default();
        let fitting = catalogue.tools().filter(|tool| fits(pattern, &tool.name));
        let spec = |tool: &antiphon_client::Tool| {
            let schema = tool.input_schema().cloned().unwrap_or_else(|| json!({ "type": "object" }));
            let mut spec = json!({ "name": format!("{prefix}{}", tool.name), "input_schema": schema });
            if let Some(description) = tool.description() {
                spec["description"] = description.into();
            }
            spec
        };
        Ok(fitting.map(spec).collect())
    }

    /// A server's tools, with this one among them.
    pub(crate) async fn catalogue_with(
        &self,
        server: &str,
        tool: &str,
        cx: &CallContext,
    ) -> Result<Arc<Catalogue>, CallFailure> {
        let client = self.client(server)?;
        let mut catalogue = client.tools(cx).await.map_err(failure)?;
        if catalogue.get(tool).is_none() {
            // It may be new: not every server tells of changes.
            catalogue = client.fresh_tools(cx).await.map_err(failure)?;
        }
        if catalogue.get(tool).is_some() {
            return Ok(catalogue);
        }
        if client.config().read_only && catalogue.withheld().iter().any(|withheld| withheld == tool) {
            let why = "is marked `read_only`, and its tool";
            return Err(CallFailure {
                kind: ErrorKind::Denied,
                message: format!("server `{server}` {why} `{tool}` does not say that it changes nothing"),
                in_doubt: false,
            });
        }
        let near = nearest(tool, catalogue.tools().map(|tool| tool.name.as_str()));
        let hint = match near.as_slice() {
            [] => format!("it offers {} others", catalogue.tools().count()),
            near => format!("did you mean {}?", list(near)),
        };
        Err(CallFailure {
            kind: ErrorKind::Rpc,
            message: format!("server `{server}` is up, but has no tool `{tool}`; {hint}"),
            in_doubt: false,
        })
    }
}
