//! One connection: MCP's requests, one by one.
#![expect(deprecated, reason = "MCP deprecates logging and legacy subscriptions, and callers use them")]

use std::sync::Arc;

use antiphon_client::CallContext;
use antiphon_engine::Owner;
use http::request::Parts;
use rmcp::model::{
    CacheScope, CallToolRequestParams, CallToolResponse, CancelTaskParams, CancelledNotificationParam,
    CompleteRequestParams, CompleteResult, CompletionInfo, CustomRequest, CustomResult, DiscoverResult, ErrorCode,
    Extensions, GetPromptRequestParams, GetPromptResponse, GetTaskParams, GetTaskResult, Implementation,
    InitializeRequestParams, InitializeResult, ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult,
    ListToolsResult, PaginatedRequestParams, ReadResourceRequestParams, ReadResourceResponse, Reference, ServerConfig,
    SetLevelRequestParams, SubscribeRequestParams, SubscriptionFilter, Tool, UnsubscribeRequestParams,
    UpdateTaskParams,
};
use rmcp::service::{NotificationContext, RequestContext, RoleServer, SubscriptionContext};
use rmcp::{ErrorData, ServerHandler};

use crate::access::{Access, Principal};
use crate::call::Call;
use crate::caller::{Caller, Origin};
use crate::capabilities::capabilities;
use crate::catalog::Snapshot;
use crate::control::{self, Control};
use crate::pass::{self, Compacted, Pass, Passing};
use crate::server::Shared;
use crate::told::{self, Told};
use crate::under_way::Calls;
use crate::{handle, page, prompt, runs, task};

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
        ServerConfig::new(capabilities(now))
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

impl Connection {
    /// A call of a tool of a server's, by its own name or by way of `call_tool`.
    async fn call_passed(
        &self,
        pass: &Arc<Pass>,
        caller: &Caller,
        params: CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let passing = self.passing(caller, context);
        let meant = if pass.may_compact() { pass::compacted(params) } else { Compacted::Itself(params) };
        let (params, compact) = match meant {
            Compacted::Find(arguments) => {
                let (tools, _) = pass.list_tools(&passing.cx()).await;
                return Ok(pass::find(&tools, arguments).into());
            }
            Compacted::Wrong(result) => return Ok(result.into()),
            Compacted::Call(params) => (params, true),
            Compacted::Itself(params) => (params, false),
        };
        let named = params.name.clone();
        match pass.call_tool(&passing, params).await {
            Some(answer) => answer,
            None if compact => Ok(pass::unknown(&named).into()),
            None => Err(no_tool(&named)),
        }
    }
}

fn cursor(page: Option<&PaginatedRequestParams>) -> Option<&str> {
    page.and_then(|page| page.cursor.as_deref())
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
        if let Ok(principal) = self.principal(&context.extensions) {
            self.told.tell(&self.shared, &principal, context.peer);
        }
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        let now = self.shared.catalog.now();
        let own = now.tools().iter().find(|tool| tool.name == name).cloned();
        own.or_else(|| now.pass()?.tool(name))
    }

    async fn list_tools(
        &self,
        page: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let now = self.seen(&context.extensions)?;
        let mut list = ListToolsResult::with_all_items(now.tools().to_vec());
        (list.ttl_ms, list.cache_scope) = (Some(0), Some(CacheScope::Private));
        if let Some(pass) = now.pass() {
            let (passed, keep) = pass.list_tools(&self.cx(&context)?).await;
            if list.tools.is_empty() {
                (list.ttl_ms, list.cache_scope) = (Some(keep.ttl_ms), Some(keep.scope));
            }
            let passed = passed.into_iter().filter(|tool| !now.tools().iter().any(|own| own.name == tool.name));
            list.tools.append(&mut pass.compact(passed.collect()));
        }
        (list.tools, list.next_cursor) = page::of(list.tools, cursor(page.as_ref()))?;
        Ok(list)
    }

    async fn call_tool(
        &self,
        mut params: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let caller = self.caller(&context)?;
        let now = self.shared.catalog.seen_by(&caller.access);
        if let Some(workflow) = now.get(&params.name) {
            let watched = self.calls.watch(&context);
            let cancelled = watched.cancelled.clone();
            return Call { shared: &self.shared, caller: &caller, workflow, context: &context, cancelled }
                .run(params)
                .await;
        }
        if let Some(pass) = now.pass()
            && !now.tools().iter().any(|own| own.name == params.name)
        {
            return self.call_passed(pass, &caller, params, &context).await;
        }
        let arguments = params.arguments.take().unwrap_or_default();
        let origin = Origin::of(&context, &self.shared.route_key)?;
        match handle::call(&self.shared, &caller, &params.name, arguments, origin).await {
            Some(result) => result.map(Into::into),
            None => Err(no_tool(&params.name)),
        }
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
        page: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        let now = self.seen(&context.extensions)?;
        let mut list = match now.pass() {
            Some(pass) => pass.list_prompts(&self.cx(&context)?).await,
            None => ListPromptsResult::default(),
        };
        if !now.prompts().is_empty() {
            list.prompts.retain(|passed| now.prompted(&passed.name).is_none());
            list.prompts.splice(0..0, now.prompts().iter().cloned());
            (list.ttl_ms, list.cache_scope) = (Some(0), Some(CacheScope::Private));
        }
        (list.prompts, list.next_cursor) = page::of(list.prompts, cursor(page.as_ref()))?;
        Ok(list)
    }

    async fn get_prompt(
        &self,
        params: GetPromptRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let caller = self.caller(&context)?;
        if let Some(workflow) = self.shared.catalog.seen_by(&caller.access).prompted(&params.name) {
            return prompt::get(workflow, params.arguments).map(GetPromptResponse::Complete);
        }
        self.pass("prompts/get", &caller)?.get_prompt(&self.passing(&caller, &context), params).await
    }

    async fn list_resources(
        &self,
        page: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let now = self.seen(&context.extensions)?;
        let cursor = cursor(page.as_ref());
        // What servers have stands on the first page, whole; runs go on.
        let mut list = match now.pass().filter(|_| cursor.is_none() || !now.runs()) {
            Some(pass) => pass.list_resources(&self.cx(&context)?, now.runs()).await,
            None => ListResourcesResult::default(),
        };
        if now.runs() {
            let owner = self.caller(&context)?.owner;
            let (runs, next) = runs::list(&self.shared, &owner, cursor).await?;
            list.resources.splice(0..0, runs);
            (list.next_cursor, list.ttl_ms, list.cache_scope) = (next, Some(0), Some(CacheScope::Private));
        } else {
            (list.resources, list.next_cursor) = page::of(list.resources, cursor)?;
        }
        Ok(list)
    }

    async fn list_resource_templates(
        &self,
        page: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let now = self.seen(&context.extensions)?;
        let mut list = match now.pass() {
            Some(pass) => pass.list_templates(&self.cx(&context)?, now.runs()).await,
            None => ListResourceTemplatesResult::default(),
        };
        if now.runs() {
            list.resource_templates.splice(0..0, runs::templates());
        }
        (list.resource_templates, list.next_cursor) = page::of(list.resource_templates, cursor(page.as_ref()))?;
        Ok(list)
    }

    async fn read_resource(
        &self,
        params: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let caller = self.caller(&context)?;
        if let Some(named) = self.shared.catalog.seen_by(&caller.access).run_of(&params.uri) {
            let read = runs::read(&self.shared, &caller.owner, &params.uri, named).await;
            return read.map(ReadResourceResponse::Complete);
        }
        self.pass("resources/read", &caller)?.read_resource(&self.passing(&caller, &context), params).await
    }

    async fn complete(
        &self,
        params: CompleteRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let caller = self.caller(&context)?;
        let now = self.shared.catalog.seen_by(&caller.access);
        match &params.r#ref {
            Reference::Resource(resource) if now.runs() && runs::is_ours(&resource.uri) => {
                if params.argument.name != "id" {
                    return Ok(CompleteResult::default());
                }
                let begun = &params.argument.value;
                return runs::complete(&self.shared, &caller.owner, begun).await.map(CompleteResult::new);
            }
            Reference::Prompt(prompt) => {
                if let Some(workflow) = now.prompted(&prompt.name) {
                    let values = prompt::complete(workflow, &params.argument.name, &params.argument.value);
                    return Ok(CompleteResult::new(CompletionInfo::new(values).unwrap_or_default()));
                }
            }
            _ => {}
        }
        match now.pass() {
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
        let principal = self.principal(&context.extensions)?;
        let cx = self.cx(&context)?;
        self.told.watch(&self.shared, &principal, params.uri, &cx, &context.peer).await
    }

    async fn unsubscribe(
        &self,
        params: UnsubscribeRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.told.unwatch(&params.uri);
        Ok(())
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        // rmcp leaves of it what `get_info` says can be told of.
        Some(requested.clone())
    }

    async fn listen(&self, subscription: SubscriptionContext) -> Result<(), ErrorData> {
        let context = subscription.request_context();
        let (principal, cx) = (self.principal(&context.extensions)?, self.cx(context)?);
        told::listen(&self.shared, &principal, subscription, &cx).await
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
