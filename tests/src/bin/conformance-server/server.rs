//! The MCP side.
#![expect(deprecated, reason = "what MCP deprecates, servers use and callers must still be served")]

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CancelTaskParams, ClientCapabilities, CompleteRequestParams,
    CompleteResult, DiscoverRequestMethod, DiscoverResult, ErrorCode, ErrorData, GetPromptRequestParams,
    GetPromptResponse, GetTaskParams, GetTaskResult, InputResponses, JsonObject, ListPromptsResult,
    ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, LoggingLevel, LoggingMessageNotificationParam,
    PaginatedRequestParams, ProgressNotificationParam, ProtocolVersion, ReadResourceRequestParams,
    ReadResourceResponse, ServerCapabilities, ServerConfig, SetLevelRequestParams, SubscribeRequestParams,
    SubscriptionFilter, Tool, UnsubscribeRequestParams, UpdateTaskParams,
};
use rmcp::service::{NotificationContext, RequestContext, SubscriptionContext};
use rmcp::task_manager::TaskManager;
use rmcp::{RoleServer, ServerHandler};
use serde_json::{Value, json};

use crate::changes::{Change, Changes};
use crate::content::{self, complete, text};
use crate::rounds::{Round, Step};
use crate::{pushed, tasks, tools};

/// The server. Clones are the same one.
#[derive(Clone)]
pub struct Everything {
    legacy: bool,
    tools: Arc<Vec<Tool>>,
    changes: Changes,
    tasks: TaskManager,
    level: Arc<Mutex<LoggingLevel>>,
    signed_in: Arc<AtomicBool>,
}

/// One call of a tool.
pub struct Call<'a> {
    pub name: &'a str,
    pub arguments: JsonObject,
    pub answers: Option<InputResponses>,
    pub context: &'a RequestContext<RoleServer>,
}

impl Call<'_> {
    pub fn str(&self, name: &str) -> String {
        self.arguments.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    pub fn is_modern(&self) -> bool {
        self.context.protocol_version().is_some_and(|version| version >= ProtocolVersion::V_2026_07_28)
    }

    pub fn knows_tasks(&self) -> bool {
        self.is_modern() && self.can().supports_tasks()
    }

    pub fn answer(&self, key: &str) -> Option<Value> {
        self.answers.as_ref()?.get(key).cloned()
    }

    fn can(&self) -> ClientCapabilities {
        self.context.client_capabilities().unwrap_or_default()
    }
}

impl Everything {
    pub fn new(legacy: bool) -> Self {
        let tools = tools::list()["tools"].take();
        Self {
            legacy,
            tools: Arc::new(serde_json::from_value(tools).unwrap_or_default()),
            changes: Changes::new(),
            tasks: TaskManager::new(),
            level: Arc::new(Mutex::new(LoggingLevel::Info)),
            signed_in: Arc::default(),
        }
    }

    /// Sends log messages, where the caller wants them.
    async fn log(&self, call: &Call<'_>, messages: &[&str]) {
        let wanted = match call.is_modern() {
            true => call.context.meta.log_level(),
            false => Some(*self.level.lock().unwrap_or_else(PoisonError::into_inner)),
        };
        for message in messages {
            if matches!(wanted, Some(LoggingLevel::Debug | LoggingLevel::Info)) {
                let params = LoggingMessageNotificationParam::new(LoggingLevel::Info, json!(message))
                    .with_logger("conformance-server");
                // A caller that has gone reads nothing.
                let _ = call.context.peer.notify_logging_message(params).await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn report(&self, call: &Call<'_>) {
        for (progress, message) in [(0.0, "begun"), (50.0, "half way"), (100.0, "done")] {
            if let Some(token) = call.context.meta.get_progress_token() {
                let params = ProgressNotificationParam::new(token, progress).with_total(100.0).with_message(message);
                // A caller that has gone reads nothing.
                let _ = call.context.peer.notify_progress(params).await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn call(&self, call: &Call<'_>, state: Option<&str>) -> Result<CallToolResponse, ErrorData> {
        let says = |said: &str| complete(json!({ "content": [text(said)] })).map(CallToolResponse::Complete);
        if let Some(result) = content::plain_tool(call.name) {
            return complete(result).map(CallToolResponse::Complete);
        }
        let round = Round { answers: call.answers.as_ref(), state, can: call.can() };
        match round.tool(call.name) {
            Some(Ok(Step::Done(result))) => return complete(result).map(CallToolResponse::Complete),
            Some(Ok(Step::Asks(asks))) => return Ok(asks.into()),
            Some(Err(error)) => return Err(error),
            None => {}
        }
        if let Some(answer) = pushed::call(call).await {
            return answer;
        }
        if let Some(answer) = tasks::call(call, &self.tasks).await {
            return answer;
        }
        match call.name {
            "greet" => says(&format!("Hello, {}!", call.str("name"))),
            "test_tool_with_logging" => {
                let messages = ["Tool execution started", "Tool processing data", "Tool execution completed"];
                self.log(call, &messages).await;
                says("logged")
            }
            "test_logging_tool" => {
                self.log(call, &["a message"]).await;
                says("logged")
            }
            "test_tool_with_progress" => {
                self.report(call).await;
                says("reported")
            }
            "test_reconnection" => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                says("Reconnection test completed")
            }
            "test_custom_header" => says(&call.str("region")),
            "test_missing_capability" if call.can().sampling.is_none() => {
                let sampling = ClientCapabilities::builder().enable_sampling().build();
                Err(ErrorData::missing_required_client_capability(sampling))
            }
            "test_missing_capability" => says("sampling is there"),
            "test_trigger_tool_change" => {
                self.changes.tell(Change::Tools).await;
                says("the tools have changed")
            }
            "test_trigger_prompt_change" => {
                self.changes.tell(Change::Prompts).await;
                says("the prompts have changed")
            }
            "touch" => {
                self.changes.tell(Change::Resource(call.str("uri"))).await;
                says("touched")
            }
            "wait_to_be_cancelled" => {
                call.context.ct.cancelled().await;
                self.changes.tell(Change::Resources).await;
                says("cancelled")
            }
            "rpc_error" => {
                Err(ErrorData::new(ErrorCode(-31_999), "an error of its own", Some(json!({ "why": ["as", "asked"] }))))
            }
            "big" => {
                let bytes = call.arguments.get("bytes").and_then(Value::as_u64).unwrap_or(0);
                says(&"x".repeat(usize::try_from(bytes.min(8 << 20)).unwrap_or_default()))
            }
            "echo" => {
                let structured = json!({ "arguments": call.arguments, "meta": call.context.meta });
                let result = json!({
                    "content": [text(structured.to_string())], "structuredContent": structured,
                    "_meta": { "example.com/of-the-result": 1 },
                });
                complete(result).map(CallToolResponse::Complete)
            }
            "sign_in_first" => {
                if self.signed_in.swap(true, Ordering::Relaxed) {
                    return says("signed in");
                }
                let at = json!({ "mode": "url", "message": "Sign in", "url": "https://example.com/in", "elicitationId": "e-1" });
                Err(ErrorData::new(ErrorCode(-32042), "sign in first", Some(json!({ "elicitations": [at] }))))
            }
            unknown => Err(ErrorData::invalid_params(format!("Unknown tool: {unknown}"), None)),
        }
    }
}

impl ServerHandler for Everything {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_tool_list_changed()
            .enable_prompts()
            .enable_prompts_list_changed()
            .enable_resources()
            .enable_resources_list_changed()
            .enable_resources_subscribe()
            .enable_completions()
            .enable_logging();
        let capabilities = if self.legacy { capabilities.build() } else { capabilities.enable_tasks().build() };
        let mut info = ServerConfig::new(capabilities).with_instructions("Everything there is to test.");
        info.server_info.name = "conformance-server".to_owned();
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

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        self.changes.greet(context.peer);
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        complete(tools::list())
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.tools.iter().find(|tool| tool.name == name).cloned()
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let call = Call {
            name: &request.name,
            arguments: request.arguments.unwrap_or_default(),
            answers: request.input_responses,
            context: &context,
        };
        self.call(&call, request.request_state.as_deref()).await
    }

    async fn list_resources(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        complete(content::resources())
    }

    async fn list_resource_templates(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        complete(content::templates())
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        match content::resource(&request.uri) {
            Some(result) => complete(result).map(ReadResourceResponse::Complete),
            None => Err(ErrorData::resource_not_found("Resource not found", Some(json!({ "uri": request.uri })))),
        }
    }

    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.changes.subscribe(&context.peer, request.uri, true);
        Ok(())
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.changes.subscribe(&context.peer, request.uri, false);
        Ok(())
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(requested.clone())
    }

    async fn listen(&self, subscription: SubscriptionContext) -> Result<(), ErrorData> {
        self.changes.listen(subscription).await
    }

    async fn list_prompts(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        complete(content::prompts())
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let given = request.arguments.unwrap_or_default();
        let argument = |name: &str| given.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        if let Some(result) = content::prompt(&request.name, argument) {
            return complete(result).map(GetPromptResponse::Complete);
        }
        if request.name != "test_input_required_result_prompt" {
            return Err(ErrorData::invalid_params(format!("Unknown prompt: {}", request.name), None));
        }
        let can = context.client_capabilities().unwrap_or_default();
        let (answers, state) = (request.input_responses.as_ref(), request.request_state.as_deref());
        match (Round { answers, state, can }).prompt()? {
            Step::Done(result) => complete(result).map(GetPromptResponse::Complete),
            Step::Asks(asks) => Ok(asks.into()),
        }
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let known = ["paris", "park", "party"];
        let begun = request.argument.value;
        let values: Vec<&str> = known.into_iter().filter(|value| value.starts_with(&begun)).collect();
        complete(json!({ "completion": { "values": values, "total": values.len(), "hasMore": false } }))
    }

    async fn set_level(
        &self,
        request: SetLevelRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        *self.level.lock().unwrap_or_else(PoisonError::into_inner) = request.level;
        Ok(())
    }

    async fn get_task(
        &self,
        request: GetTaskParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        self.tasks.get_task(&request.task_id).map(GetTaskResult::new)
    }

    async fn update_task(
        &self,
        request: UpdateTaskParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.tasks.update_task(&request.task_id, request.input_responses)
    }

    async fn cancel_task(
        &self,
        request: CancelTaskParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.tasks.cancel_task(&request.task_id)
    }
}
