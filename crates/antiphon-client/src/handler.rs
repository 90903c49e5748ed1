//! Our side of a connection: what a server may ask of us, and who hears what it tells.
#![expect(deprecated, reason = "MCP deprecates sampling and roots, and servers use them")]

use std::sync::Arc;

use rmcp::ClientHandler;
use rmcp::model::{
    ClientCapabilities, ClientConfig, CreateMessageRequestParams, CreateMessageResult, CustomRequest, CustomResult,
    ElicitRequestParams, ElicitResult, ElicitationCapability, ErrorCode, ErrorData, FormElicitationCapability,
    Implementation, JsonObject, ListRootsResult, ProtocolVersion, ResourceUpdatedNotificationParam, SamplingCapability,
    UrlElicitationCapability,
};
use rmcp::service::{NotificationContext, RequestContext, RoleClient};
use serde_json::Value;

use crate::call::{CREATE_MESSAGE, ELICIT, LIST_ROOTS};
use crate::calls::Calls;
use crate::change::Change;
use crate::config::ServerConfig;

/// Our side of a connection.
pub(crate) struct Handler {
    pub(crate) config: Arc<ServerConfig>,
    /// What the server is offered on this connection, where that is not what it is granted.
    pub(crate) offer: Option<Arc<ClientCapabilities>>,
    pub(crate) calls: Arc<Calls>,
}

impl Handler {
    async fn ask(
        &self,
        context: &RequestContext<RoleClient>,
        method: &'static str,
        mut params: Value,
    ) -> Result<Value, ErrorData> {
        let capabilities = self.capabilities();
        let granted = match method {
            ELICIT => capabilities.elicitation.is_some(),
            CREATE_MESSAGE => capabilities.sampling.is_some(),
            _ => capabilities.roots.is_some(),
        };
        if !granted {
            tracing::warn!(server = %self.config.name, "asked by `{method}` without being granted it; refused");
            let why = format!("{method}: this client does not grant it to you");
            return Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, why, None));
        }
        self.config.redact_all(&mut params);
        self.calls.ask(context.extensions.get(), method, params).await
    }

    fn capabilities(&self) -> ClientCapabilities {
        if let Some(offer) = &self.offer {
            return ClientCapabilities::clone(offer);
        }
        let mut capabilities = ClientCapabilities::builder().enable_tasks().build();
        capabilities.elicitation = self.config.elicitation.granted().then(|| {
            ElicitationCapability::new()
                .with_form(FormElicitationCapability::new())
                .with_url(UrlElicitationCapability::new())
        });
        capabilities.sampling = self.config.sampling.then(|| {
            let mut sampling = SamplingCapability::default();
            sampling.tools = Some(JsonObject::new());
            sampling
        });
        capabilities
    }
}

impl ClientHandler for Handler {
    fn get_info(&self) -> ClientConfig {
        let mut info =
            ClientConfig::new(self.capabilities(), Implementation::new("antiphon", env!("CARGO_PKG_VERSION")));
        // What `initialize` says. Left alone, rmcp would name a version there that has no `initialize`.
        info.protocol_version = ProtocolVersion::V_2025_11_25;
        info
    }

    async fn create_elicitation(
        &self,
        request: ElicitRequestParams,
        context: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        let params = serde_json::to_value(request).map_err(unexpected)?;
        serde_json::from_value(self.ask(&context, ELICIT, params).await?).map_err(unexpected)
    }

    async fn create_message(
        &self,
        request: CreateMessageRequestParams,
        context: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        let params = serde_json::to_value(request).map_err(unexpected)?;
        serde_json::from_value(self.ask(&context, CREATE_MESSAGE, params).await?).map_err(unexpected)
    }

    async fn list_roots(&self, context: RequestContext<RoleClient>) -> Result<ListRootsResult, ErrorData> {
        serde_json::from_value(self.ask(&context, LIST_ROOTS, JsonObject::new().into()).await?).map_err(unexpected)
    }

    /// What rmcp can't read arrives here, such as a question with a schema that it does not know; people may understand it all
    /// the same.
    async fn on_custom_request(
        &self,
        request: CustomRequest,
        context: RequestContext<RoleClient>,
    ) -> Result<CustomResult, ErrorData> {
        let method = match request.method.as_str() {
            ELICIT => ELICIT,
            CREATE_MESSAGE => CREATE_MESSAGE,
            LIST_ROOTS => LIST_ROOTS,
            _ => return Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, request.method, None)),
        };
        self.ask(&context, method, request.params.unwrap_or_default()).await.map(CustomResult::new)
    }

    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.calls.changed(Change::Tools);
    }

    async fn on_prompt_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.calls.changed(Change::Prompts);
    }

    async fn on_resource_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.calls.changed(Change::Resources);
    }

    async fn on_resource_updated(
        &self,
        params: ResourceUpdatedNotificationParam,
        _context: NotificationContext<RoleClient>,
    ) {
        self.calls.changed(Change::Resource(params.uri));
    }
}

fn unexpected(error: serde_json::Error) -> ErrorData {
    ErrorData::internal_error(error.to_string(), None)
}
