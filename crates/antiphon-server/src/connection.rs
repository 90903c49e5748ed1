//! One connection: MCP's requests, one by one.
#![expect(deprecated, reason = "MCP deprecates logging and legacy subscriptions, and callers use them")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use antiphon_client::CallContext;
use antiphon_engine::Owner;
use http::request::Parts;
use rmcp::model::{
    CacheScope, CallToolRequestParams, CallToolResponse, CancelTaskParams, CancelledNotificationParam,
    CompleteRequestParams, CompleteResult, CustomRequest, CustomResult, DiscoverResult, ErrorCode, Extensions,
    GetPromptRequestParams, GetPromptResponse, GetTaskParams, GetTaskResult, Implementation, InitializeRequestParams,
    InitializeResult, ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult, ListToolsResult,
    PaginatedRequestParams, ReadResourceRequestParams, ReadResourceResponse, RequestId, ServerCapabilities,
    ServerConfig, SetLevelRequestParams, SubscribeRequestParams, SubscriptionFilter, Tool, UnsubscribeRequestParams,
    UpdateTaskParams,
};
use rmcp::service::{NotificationContext, RequestContext, RoleServer, SubscriptionContext};
use rmcp::{ErrorData, ServerHandler};
use tokio_util::sync::CancellationToken;

use crate::access::{Access, Principal};
use crate::call::Call;
use crate::caller::{Caller, Origin};
use crate::catalog::Snapshot;
use crate::control::{self, Control};
use crate::pass::{self, Pass, Passing, Told};
use crate::server::Shared;
use crate::{handle, task};

/// Handles the requests of one connection; over modern HTTP, of one request.
#[derive(Clone)]
pub(crate) struct Connection {
    shared: Arc<Shared>,
    door: Door,
    calls: Calls,
    told: Arc<Told>,
}

/// Where the connection came in.
#[derive(Clone)]
pub(crate) enum Door {
    /// A pipe or socket: everything on it is this owner's.
    Stream { owner: Owner, control: Option<Arc<dyn Control>> },
    /// HTTP: each request says whose it is, see [`crate::http`].
    Http,
}

impl Connection {
    pub(crate) fn new(shared: Arc<Shared>, door: Door) -> Self {
        Self { shared, door, calls: Calls::default(), told: Arc::default() }
    }

    fn principal(&self, extensions: &Extensions) -> Result<Principal, ErrorData> {
        let principal = match &self.door {
            Door::Stream { owner, .. } => Some(Principal { owner: owner.clone(), access: Access::everything() }),
            Door::Http => extensions.get::<Parts>().and_then(|parts| parts.extensions.get::<Principal>()).cloned(),
        };
        principal.ok_or_else(|| ErrorData::internal_error("this request has no owner", None))
    }

    fn caller(&self, context: &RequestContext<RoleServer>) -> Result<Caller, ErrorData> {
        Ok(Caller::new(self.principal(&context.extensions)?, context))
    }

    /// What there is for whoever sends this.
    fn seen(&self, extensions: &Extensions) -> Result<Arc<Snapshot>, ErrorData> {
        Ok(self.shared.catalog.seen_by(&self.principal(extensions)?.access))
    }

    /// The caller of a `tasks/…` request. To a legacy caller there are no such methods, whatever it declares.
    fn task_caller(&self, method: &str, context: &RequestContext<RoleServer>) -> Result<Caller, ErrorData> {
        let caller = self.caller(context)?;
        if caller.modern { Ok(caller) } else { Err(method_not_found(method)) }
    }

    /// What is passed through to this caller; a `method` that is about nothing else is not there without it.
    fn pass(&self, method: &str, caller: &Caller) -> Result<Arc<Pass>, ErrorData> {
        self.shared.catalog.seen_by(&caller.access).pass().cloned().ok_or_else(|| method_not_found(method))
    }

    /// What the server is, as far as it shows this much of the catalogue.
    fn about(&self, now: &Snapshot) -> ServerConfig {
        let mut capabilities = ServerCapabilities::builder().enable_tools().enable_tasks().build();
        if let Some(pass) = now.pass() {
            let passed = pass.capabilities();
            capabilities.tools = passed.tools.or(capabilities.tools);
            (capabilities.prompts, capabilities.resources) = (passed.prompts, passed.resources);
            (capabilities.completions, capabilities.logging) = (passed.completions, passed.logging);
        }
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new(self.shared.name.clone(), self.shared.version.clone()))
            .with_instructions(now.instructions())
    }

    /// To ask servers what they offer, for this caller.
    fn cx(&self, context: &RequestContext<RoleServer>) -> Result<CallContext, ErrorData> {
        let caller = self.caller(context)?;
        Ok(self.passing(&caller, context).cx())
    }

    fn passing<'a>(&'a self, caller: &'a Caller, context: &'a RequestContext<RoleServer>) -> Passing<'a> {
        let session = match caller.modern {
            // Every request stands alone, so whoever owns them is all that they have in common.
            true => Arc::clone(&caller.owner.0),
            false => self.told.session(),
        };
        Passing { shared: &self.shared, caller, context, session, level: self.told.level() }
    }
}

impl ServerHandler for Connection {
    fn get_info(&self) -> ServerConfig {
        self.about(&self.shared.catalog.now())
    }

    async fn initialize(
        &self,
        request: InitializeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<InitializeResult, ErrorData> {
        let now = self.seen(&context.extensions)?;
        if let Some(pass) = now.pass() {
            pass.ready().await;
        }
        context.peer.set_peer_info(request.clone());
        let mut result = self.negotiate_initialize(&request)?;
        let about = self.about(&now);
        (result.capabilities, result.instructions) = (about.capabilities, about.instructions);
        Ok(result)
    }

    async fn discover(&self, context: RequestContext<RoleServer>) -> Result<DiscoverResult, ErrorData> {
        let now = self.seen(&context.extensions)?;
        if let Some(pass) = now.pass() {
            pass.ready().await;
        }
        Ok(DiscoverResult::from_server_info(self.supported_protocol_versions().into_owned(), self.about(&now)))
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        if let Ok(now) = self.seen(&context.extensions)
            && let Some(pass) = now.pass()
        {
            self.told.tell(Arc::clone(pass), context.peer);
        }
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        let now = self.shared.catalog.now();
        let own = now.tools().iter().find(|tool| tool.name == name).cloned();
        own.or_else(|| now.pass()?.tool(name))
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let now = self.seen(&context.extensions)?;
        let mut list = ListToolsResult::with_all_items(now.tools().to_vec());
        list.ttl_ms = Some(0);
        list.cache_scope = Some(CacheScope::Private);
        if let Some(pass) = now.pass() {
            let (mut passed, keep) = pass.list_tools(&self.cx(&context)?).await;
            if list.tools.is_empty() {
                (list.ttl_ms, list.cache_scope) = (Some(keep.ttl_ms), Some(keep.scope));
            }
            passed.retain(|tool| !list.tools.iter().any(|own| own.name == tool.name));
            list.tools.append(&mut passed);
        }
        Ok(list)
    }

    async fn call_tool(
        &self,
        mut params: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let caller = self.caller(&context)?;
        let now = self.shared.catalog.seen_by(&caller.access);
        let Some(workflow) = now.get(&params.name) else {
            if let Some(pass) = now.pass()
                && !now.tools().iter().any(|own| own.name == params.name)
            {
                let passing = self.passing(&caller, &context);
                let named = params.name.clone();
                return match pass.call_tool(&passing, params).await {
                    Some(answer) => answer,
                    None => Err(no_tool(&named)),
                };
            }
            let arguments = params.arguments.take().unwrap_or_default();
            let origin = Origin::of(&context, &self.shared.route_key)?;
            return match handle::call(&self.shared, &caller, &params.name, arguments, origin).await {
                Some(result) => result.map(Into::into),
                None => Err(no_tool(&params.name)),
            };
        };
        let watched = self.calls.watch(&context);
        let cancelled = watched.cancelled.clone();
        Call { shared: &self.shared, caller: &caller, workflow, context: &context, cancelled }.run(params).await
    }

    async fn get_task(
        &self,
        params: GetTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        let caller = self.task_caller("tasks/get", &context)?;
        if pass::is_task(&params.task_id) {
            return self.pass("tasks/get", &caller)?.get_task(&self.passing(&caller, &context), &params.task_id).await;
        }
        let task = task::get(&self.shared, &caller, &params.task_id).await?;
        Ok(GetTaskResult::new(task))
    }

    async fn update_task(
        &self,
        params: UpdateTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let caller = self.task_caller("tasks/update", &context)?;
        if pass::is_task(&params.task_id) {
            return self.pass("tasks/update", &caller)?.update_task(&self.passing(&caller, &context), params).await;
        }
        task::update(&self.shared, &caller, &params.task_id, params.input_responses).await
    }

    async fn cancel_task(
        &self,
        params: CancelTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let caller = self.task_caller("tasks/cancel", &context)?;
        if pass::is_task(&params.task_id) {
            return self
                .pass("tasks/cancel", &caller)?
                .cancel_task(&self.passing(&caller, &context), &params.task_id)
                .await;
        }
        task::cancel(&self.shared, &caller, &params.task_id).await
    }

    async fn list_prompts(
        &self,
        _page: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        match self.seen(&context.extensions)?.pass() {
            Some(pass) => Ok(pass.list_prompts(&self.cx(&context)?).await),
            None => Ok(ListPromptsResult::default()),
        }
    }

    async fn get_prompt(
        &self,
        params: GetPromptRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let caller = self.caller(&context)?;
        self.pass("prompts/get", &caller)?.get_prompt(&self.passing(&caller, &context), params).await
    }

    async fn list_resources(
        &self,
        _page: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        match self.seen(&context.extensions)?.pass() {
            Some(pass) => Ok(pass.list_resources(&self.cx(&context)?).await),
            None => Ok(ListResourcesResult::default()),
        }
    }

    async fn list_resource_templates(
        &self,
        _page: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        match self.seen(&context.extensions)?.pass() {
            Some(pass) => Ok(pass.list_templates(&self.cx(&context)?).await),
            None => Ok(ListResourceTemplatesResult::default()),
        }
    }

    async fn read_resource(
        &self,
        params: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let caller = self.caller(&context)?;
        self.pass("resources/read", &caller)?.read_resource(&self.passing(&caller, &context), params).await
    }

    async fn complete(
        &self,
        params: CompleteRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let caller = self.caller(&context)?;
        match self.shared.catalog.seen_by(&caller.access).pass() {
            Some(pass) => pass.complete(&self.passing(&caller, &context), params).await,
            None => Ok(CompleteResult::default()),
        }
    }

    async fn set_level(
        &self,
        params: SetLevelRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let caller = self.caller(&context)?;
        if caller.modern {
            return Err(method_not_found("logging/setLevel"));
        }
        self.pass("logging/setLevel", &caller)?;
        self.told.set_level(params.level);
        Ok(())
    }

    async fn subscribe(
        &self,
        params: SubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let pass = self.pass("resources/subscribe", &self.caller(&context)?)?;
        self.told.watch(&pass, params.uri, &self.cx(&context)?).await
    }

    async fn unsubscribe(
        &self,
        params: UnsubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.pass("resources/unsubscribe", &self.caller(&context)?)?;
        self.told.unwatch(&params.uri);
        Ok(())
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        self.shared.catalog.now().pass().map(|_| requested.clone())
    }

    async fn listen(&self, subscription: SubscriptionContext) -> Result<(), ErrorData> {
        let context = subscription.request_context();
        let (caller, cx) = (self.caller(context)?, self.cx(context)?);
        self.pass("subscriptions/listen", &caller)?.listen(subscription, &cx).await
    }

    async fn on_custom_request(
        &self,
        request: CustomRequest,
        _context: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        let CustomRequest { method, params, .. } = request;
        if let Door::Stream { control: Some(control), .. } = &self.door
            && method.starts_with(control::PREFIX)
        {
            return Ok(CustomResult::new(control.request(&method, params.unwrap_or_default()).await?));
        }
        // A request whose parameters do not fit its method arrives here too.
        if let Some((_, wanted)) = PARAMETERS.iter().find(|(known, _)| *known == method) {
            return Err(ErrorData::invalid_params(format!("the parameters do not fit `{method}`: {wanted}"), None));
        }
        Err(method_not_found(&method))
    }

    async fn on_cancelled(&self, params: CancelledNotificationParam, _context: NotificationContext<RoleServer>) {
        if let Some(id) = params.request_id {
            self.calls.cancel(&id);
        }
    }
}

/// What the methods want of their parameters, for those who got them wrong.
const PARAMETERS: [(&str, &str); 5] = [
    ("tools/call", "`name` must be a string, `arguments` an object"),
    ("tools/list", "`cursor` must be a string"),
    ("tasks/get", "`taskId` must be a string"),
    ("tasks/update", "`taskId` must be a string, `inputResponses` an object"),
    ("tasks/cancel", "`taskId` must be a string"),
];

/// Not -32601: over modern HTTP that would say that there is no such endpoint.
fn no_tool(name: &str) -> ErrorData {
    ErrorData::invalid_params(format!("no tool `{name}`; tools/list names them"), None)
}

fn method_not_found(method: &str) -> ErrorData {
    ErrorData::new(ErrorCode::METHOD_NOT_FOUND, format!("no method `{method}` here"), None)
}

/// The calls under way, so that a caller's `notifications/cancelled` can be told from a lost connection: rmcp's own token fires
/// for both.
#[derive(Clone, Default)]
struct Calls(Arc<Mutex<HashMap<RequestId, CancellationToken>>>);

struct Watched {
    calls: Calls,
    id: RequestId,
    cancelled: CancellationToken,
}

impl Calls {
    fn watch(&self, context: &RequestContext<RoleServer>) -> Watched {
        let cancelled = CancellationToken::new();
        self.lock().insert(context.id.clone(), cancelled.clone());
        // The notification may have been handled before this request was: then only rmcp's token tells.
        if context.ct.is_cancelled() {
            cancelled.cancel();
        }
        Watched { calls: self.clone(), id: context.id.clone(), cancelled }
    }

    fn cancel(&self, id: &RequestId) {
        if let Some(cancelled) = self.lock().get(id) {
            cancelled.cancel();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<RequestId, CancellationToken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.calls.lock().remove(&self.id);
    }
}
