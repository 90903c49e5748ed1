//! One connection: MCP's requests, one by one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use antiphon_engine::Owner;
use http::request::Parts;
use rmcp::model::{
    CacheScope, CallToolRequestParams, CallToolResponse, CancelTaskParams, CancelledNotificationParam, CustomRequest,
    CustomResult, ErrorCode, GetTaskParams, GetTaskResult, Implementation, ListToolsResult, PaginatedRequestParams,
    RequestId, ServerCapabilities, ServerConfig, Tool, UpdateTaskParams,
};
use rmcp::service::{NotificationContext, RequestContext, RoleServer};
use rmcp::{ErrorData, ServerHandler};
use tokio_util::sync::CancellationToken;

use crate::call::Call;
use crate::caller::{Caller, Origin};
use crate::control::{self, Control};
use crate::server::Shared;
use crate::{handle, task};

/// Handles the requests of one connection; over modern HTTP, of one request.
#[derive(Clone)]
pub(crate) struct Connection {
    shared: Arc<Shared>,
    door: Door,
    calls: Calls,
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
        Self { shared, door, calls: Calls::default() }
    }

    fn caller(&self, context: &RequestContext<RoleServer>) -> Result<Caller, ErrorData> {
        let owner = match &self.door {
            Door::Stream { owner, .. } => Some(owner.clone()),
            Door::Http => context.extensions.get::<Parts>().and_then(|parts| parts.extensions.get::<Owner>()).cloned(),
        };
        match owner {
            Some(owner) => Ok(Caller::new(owner, context)),
            None => Err(ErrorData::internal_error("this request has no owner", None)),
        }
    }

    /// The caller of a `tasks/…` request. To a legacy caller there are no such methods, whatever it declares.
    fn task_caller(&self, method: &str, context: &RequestContext<RoleServer>) -> Result<Caller, ErrorData> {
        let caller = self.caller(context)?;
        if caller.modern { Ok(caller) } else { Err(method_not_found(method)) }
    }
}

impl ServerHandler for Connection {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().enable_tasks().build())
            .with_server_info(Implementation::new(self.shared.name.clone(), self.shared.version.clone()))
            .with_instructions(self.shared.catalog.now().instructions())
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.shared.catalog.now().tools().iter().find(|tool| tool.name == name).cloned()
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let mut list = ListToolsResult::with_all_items(self.shared.catalog.now().tools().to_vec());
        list.ttl_ms = Some(0);
        list.cache_scope = Some(CacheScope::Private);
        Ok(list)
    }

    async fn call_tool(
        &self,
        mut params: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let caller = self.caller(&context)?;
        let Some(workflow) = self.shared.catalog.get(&params.name) else {
            let arguments = params.arguments.take().unwrap_or_default();
            let origin = Origin::of(&context, &self.shared.route_key)?;
            return match handle::call(&self.shared, &caller, &params.name, arguments, origin).await {
                Some(result) => result.map(Into::into),
                // Not -32601: over modern HTTP that would say that there is no such endpoint.
                None => {
                    Err(ErrorData::invalid_params(format!("no tool `{}`; tools/list names them", params.name), None))
                }
            };
        };
        let watched = self.calls.watch(&context);
        let cancelled = watched.cancelled.clone();
        Call { shared: &self.shared, caller: &caller, workflow: &workflow, context: &context, cancelled }
            .run(params)
            .await
    }

    async fn get_task(
        &self,
        params: GetTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        let caller = self.task_caller("tasks/get", &context)?;
        let task = task::get(&self.shared, &caller, &params.task_id).await?;
        Ok(GetTaskResult::new(task))
    }

    async fn update_task(
        &self,
        params: UpdateTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let caller = self.task_caller("tasks/update", &context)?;
        task::update(&self.shared, &caller, &params.task_id, params.input_responses).await
    }

    async fn cancel_task(
        &self,
        params: CancelTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let caller = self.task_caller("tasks/cancel", &context)?;
        task::cancel(&self.shared, &caller, &params.task_id).await
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
