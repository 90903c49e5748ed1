//! Who calls, and what they can do. Read from each request anew: on a modern pipe nothing carries over from an earlier one.

use std::sync::Arc;

use antiphon_engine::{Owner, ROUTE, RouteKey};
use antiphon_kernel::Hop;
use rmcp::ErrorData;
use rmcp::model::{ClientCapabilities, ProgressToken, ProtocolVersion};
use rmcp::service::{RequestContext, RoleServer};

use crate::access::{Access, Principal};

/// The key under `_meta` that makes a call safe to repeat.
pub(crate) const IDEMPOTENCY_KEY: &str = "antiphon/idempotency-key";

/// The caller of one request.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) owner: Owner,
    pub(crate) access: Access,
    /// 2026-07-28 or later: every request stands alone, and the server never sends one.
    pub(crate) modern: bool,
    /// It takes task handles. Never true of a legacy caller, whatever it declares.
    pub(crate) tasks: bool,
    pub(crate) answers: Answers,
    /// What it says that it can.
    pub(crate) declared: Arc<ClientCapabilities>,
    pub(crate) progress: Option<ProgressToken>,
}

/// Which questions a caller can answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answers {
    /// `elicitation/create` in form mode.
    pub(crate) form: bool,
    /// `elicitation/create` in URL mode.
    pub(crate) url: bool,
    /// `sampling/createMessage`.
    pub(crate) sampling: bool,
    /// The same with tools.
    pub(crate) sampling_tools: bool,
    /// `roots/list`.
    pub(crate) roots: bool,
}

impl Caller {
    pub(crate) fn new(principal: Principal, context: &RequestContext<RoleServer>) -> Self {
        let Principal { owner, access } = principal;
        let modern = context.protocol_version().is_some_and(|version| version >= ProtocolVersion::V_2026_07_28);
        let declared = context.client_capabilities().unwrap_or_default();
        Self {
            owner,
            access,
            modern,
            tasks: modern && declared.supports_tasks(),
            answers: Answers::declared(&declared),
            declared: Arc::new(declared),
            progress: context.meta.get_progress_token(),
        }
    }
}

impl Answers {
    /// Whether it can answer anything.
    pub(crate) fn any(self) -> bool {
        self.form || self.url || self.sampling || self.roots
    }

    fn declared(capabilities: &ClientCapabilities) -> Self {
        let elicitation = capabilities.elicitation.as_ref();
        let url = elicitation.is_some_and(|modes| modes.url.is_some());
        // `elicitation: {}` is what clients said before there were modes.
        let form = elicitation.is_some_and(|modes| modes.form.is_some() || modes.url.is_none());
        let sampling = capabilities.sampling.as_ref();
        Self {
            form,
            url,
            sampling: sampling.is_some(),
            sampling_tools: sampling.is_some_and(|sampling| sampling.tools.is_some()),
            roots: capabilities.roots.is_some(),
        }
    }
}

/// What a call says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// The caller's own key for it.
    pub(crate) idempotency_key: Option<String>,
    /// The workflows that led to it.
    pub(crate) route: Vec<Hop>,
}

impl Origin {
    /// Reads it from `_meta`.
    pub(crate) fn of(context: &RequestContext<RoleServer>, key: &RouteKey) -> Result<Self, ErrorData> {
        let route = match context.meta.get(ROUTE) {
            Some(route) => key.read(route).map_err(|why| ErrorData::invalid_params(why, None))?,
            None => Vec::new(),
        };
        Ok(Self { idempotency_key: idempotency_key(context)?, route })
    }
}

fn idempotency_key(context: &RequestContext<RoleServer>) -> Result<Option<String>, ErrorData> {
    match context.meta.get(IDEMPOTENCY_KEY) {
        None => Ok(None),
        Some(serde_json::Value::String(key)) if !key.is_empty() && key.len() <= 256 => Ok(Some(key.clone())),
        Some(_) => Err(ErrorData::invalid_params(
            format!("_meta[\"{IDEMPOTENCY_KEY}\"] must be a string of 1 to 256 bytes"),
            None,
        )),
    }
}
