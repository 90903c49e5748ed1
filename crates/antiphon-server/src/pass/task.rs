//! Tasks of servers, under ids of ours: only their owner can use them, and nobody sees the server's.

use antiphon_engine::Owner;
use rmcp::ErrorData;
use rmcp::model::{
    CancelTaskParams, CancelTaskRequest, ClientRequest, CreateTaskResult, GetTaskParams, GetTaskRequest, GetTaskResult,
    UpdateTaskParams, UpdateTaskRequest,
};
use serde::{Deserialize, Serialize};

use super::request::Passing;
use super::{Pass, reply};
use crate::seal::Seal;

/// What ids of passed-through tasks begin with; ids of runs do not.
const MARK: &str = "passed.";

/// What such ids are sealed for.
const SUBJECT: &str = "\u{1}task";

/// Whether an id is one of a server's task.
pub(crate) fn is_ours(id: &str) -> bool {
    id.starts_with(MARK)
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    server: String,
    task: String,
}

/// The task under its id here.
pub(super) fn renamed(
    seal: &Seal,
    owner: &Owner,
    server: &str,
    mut task: CreateTaskResult,
) -> Result<CreateTaskResult, ErrorData> {
    let sealed = Sealed { server: server.to_owned(), task: task.task.task_id };
    let id = seal.keep(owner, SUBJECT, &sealed);
    let id = id.ok_or_else(|| ErrorData::internal_error("the task's id can't be sealed", None))?;
    task.task.task_id = format!("{MARK}{id}");
    Ok(task)
}

impl Pass {
    fn unsealed(&self, passing: &Passing<'_>, id: &str) -> Result<(usize, String), ErrorData> {
        let unknown = || ErrorData::invalid_params(format!("no task `{id}` here"), None);
        let sealed = id.strip_prefix(MARK).unwrap_or(id);
        let owner = &passing.caller.owner;
        let Sealed { server, task } = passing.shared.seal.open(owner, SUBJECT, sealed).map_err(|_| unknown())?;
        let at = self.exposures.iter().position(|exposure| exposure.server == server).ok_or_else(unknown)?;
        Ok((at, task))
    }

    /// `tasks/get`.
    pub(crate) async fn get_task(&self, passing: &Passing<'_>, id: &str) -> Result<GetTaskResult, ErrorData> {
        let (at, task) = self.unsealed(passing, id)?;
        let request = ClientRequest::GetTaskRequest(GetTaskRequest::new(GetTaskParams::new(task)));
        let answer = self.plain(passing, at, request).await?;
        let mut result: GetTaskResult = reply::read(answer).map_err(self.unreadable(at))?;
        result.task.task.task_id = id.to_owned();
        Ok(result)
    }

    /// `tasks/update`.
    pub(crate) async fn update_task(
        &self,
        passing: &Passing<'_>,
        mut params: UpdateTaskParams,
    ) -> Result<(), ErrorData> {
        let (at, task) = self.unsealed(passing, &params.task_id)?;
        params.task_id = task;
        let request = ClientRequest::UpdateTaskRequest(UpdateTaskRequest::new(params));
        self.plain(passing, at, request).await.map(drop)
    }

    /// `tasks/cancel`.
    pub(crate) async fn cancel_task(&self, passing: &Passing<'_>, id: &str) -> Result<(), ErrorData> {
        let (at, task) = self.unsealed(passing, id)?;
        let request = ClientRequest::CancelTaskRequest(CancelTaskRequest::new(CancelTaskParams::new(task)));
        self.plain(passing, at, request).await.map(drop)
    }
}
