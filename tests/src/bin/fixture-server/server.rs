//! The MCP side: every request for work is logged before and after.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CancelTaskParams, DiscoverRequestMethod, DiscoverResult, ErrorData,
    GetTaskParams, GetTaskResult, ListToolsResult, PaginatedRequestParams, ProtocolVersion, ReadResourceRequestParams,
    ReadResourceResponse, ReadResourceResult, ResourceContents, ServerCapabilities, ServerConfig, UpdateTaskParams,
};
use rmcp::service::RequestContext;
use rmcp::{RoleServer, ServerHandler};
use serde_json::{Value, json};

use crate::log::CallLog;
use crate::store::{self, Store};
use crate::{many, task, tools};

/// Where callers put the key that stays the same when a call is repeated.
const IDEMPOTENCY_KEY: &str = "antiphon/idempotency-key";

/// `resources/read` of this and any text gives the text.
const ECHO_URI: &str = "fixture://echo/";

#[derive(Clone)]
pub struct Fixture {
    pub store: Arc<Store>,
    log: Arc<CallLog>,
    legacy: bool,
    /// How many tools it lists that do nothing.
    many: usize,
}

impl Fixture {
    pub fn new(log: &Path, legacy: bool, many: usize) -> std::io::Result<Self> {
        let store = Arc::new(Store::open(store::beside(log))?);
        Ok(Self { store, log: Arc::new(CallLog::open(log)?), legacy, many })
    }
}

/// Whatever goes wrong in a fixture is the fixture's fault.
pub fn internal(error: impl std::fmt::Display) -> ErrorData {
    ErrorData::internal_error(error.to_string(), None)
}

impl ServerHandler for Fixture {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder().enable_tools().enable_resources();
        let capabilities = if self.legacy { capabilities.build() } else { capabilities.enable_tasks().build() };
        let mut info = ServerConfig::new(capabilities);
        info.server_info.name = "fixture-server".to_owned();
        info.server_info.version = env!("CARGO_PKG_VERSION").to_owned();
        info
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        let newest = if self.legacy { ProtocolVersion::V_2025_11_25 } else { ProtocolVersion::V_2026_07_28 };
        Cow::Borrowed(ProtocolVersion::known_up_to(&newest))
    }

    async fn discover(&self, _context: RequestContext<RoleServer>) -> Result<DiscoverResult, ErrorData> {
        if self.legacy {
            return Err(ErrorData::method_not_found::<DiscoverRequestMethod>());
        }
        let versions = self.supported_protocol_versions().into_owned();
        Ok(DiscoverResult::from_server_info(versions, self.get_info()))
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(tools::list().into_iter().chain(many::tools(self.many)).collect()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = request.arguments.unwrap_or_default();
        let key = context.meta.0.get(IDEMPOTENCY_KEY).and_then(Value::as_str).map(str::to_owned);
        let logged =
            self.log.begin(&request.name, &Value::Object(arguments.clone()), key.as_deref()).map_err(internal)?;
        let call = tools::Call { fixture: self, arguments, key, answers: request.input_responses, context: &context };
        let answer = tokio::select! {
            biased;
            () = context.ct.cancelled() => {
                self.log.end(&logged, "cancelled").map_err(internal)?;
                return Err(ErrorData::internal_error("cancelled", None));
            }
            answer = tools::call(&request.name, &call) => answer,
        };
        let answer = answer
            .unwrap_or_else(|| Err(ErrorData::invalid_params(format!("no tool is called `{}`", request.name), None)));
        self.log.end(&logged, outcome(&answer)).map_err(internal)?;
        answer
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let logged = self.log.begin("resources/read", &json!({ "uri": request.uri }), None).map_err(internal)?;
        let answer = match request.uri.strip_prefix(ECHO_URI) {
            Some(text) => Ok(ReadResourceResult::new(vec![ResourceContents::text(text, &request.uri)]).into()),
            None => Err(ErrorData::resource_not_found(format!("resources begin with {ECHO_URI}"), None)),
        };
        self.log.end(&logged, if answer.is_ok() { "ok" } else { "rpc_error" }).map_err(internal)?;
        answer
    }

    async fn get_task(
        &self,
        request: GetTaskParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        task::get(self, &request.task_id)
    }

    async fn update_task(
        &self,
        request: UpdateTaskParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        task::update(self, &request.task_id, &request.input_responses)
    }

    async fn cancel_task(
        &self,
        request: CancelTaskParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        task::cancel(self, &request.task_id)
    }
}

fn outcome(answer: &tools::Answer) -> &'static str {
    match answer {
        Ok(CallToolResponse::InputRequired(_)) => "input_required",
        Ok(CallToolResponse::Task(_)) => "task",
        Ok(CallToolResponse::Complete(result)) if result.is_error == Some(true) => "tool_error",
        Ok(_) => "ok",
        Err(_) => "rpc_error",
    }
}
