//! Following a task of a server's to its end.

use std::collections::BTreeMap;
use std::time::Duration;

use rmcp::model::{
    CancelTaskParams, CancelTaskRequest, ClientRequest, GetTaskParams, GetTaskRequest, UpdateTaskParams,
    UpdateTaskRequest,
};
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::call::{CallContext, Outcome, Progress, TaskHandle};
use crate::calls::Serving;
use crate::client::Client;
use crate::error::{ClientError, ErrorKind};

/// Bounds of the time between two polls, whatever the server asks for.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(50);
const LONGEST_INTERVAL: Duration = Duration::from_secs(10);
/// Between two polls, for a server that does not say.
const USUAL_INTERVAL: Duration = Duration::from_secs(1);
/// How long a server may be away before its task is given up.
const LONGEST_ABSENCE: Duration = Duration::from_secs(300);
/// How long a task that was cancelled may take to say how it ended.
const CANCEL_GRACE: Duration = Duration::from_secs(2);

/// See [`Client::attach`].
pub(crate) async fn attach(
    client: &Client,
    task: &TaskHandle,
    mut answers: BTreeMap<String, Value>,
    cx: &CallContext,
) -> Result<Outcome, ClientError> {
    let answered: Vec<String> = answers.keys().cloned().collect();
    let mut pace = Pace::new(task.poll_interval_ms);
    let mut away_since: Option<Instant> = None;
    let mut reported = Reported::default();
    // Between the polls, too, its server may ask.
    let serving = Serving::of(cx);
    let mut attended = None;
    loop {
        if let Ok(connection) = client.connection(cx).await {
            drop(attended.replace(connection.calls.attend(cx, &serving)));
        }
        match round(client, task, &mut answers, &answered, &mut reported, cx).await {
            Ok(Step::Ended(outcome)) => return Ok(outcome),
            Ok(Step::Working { poll_interval_ms }) => {
                away_since = None;
                pace.server_wants(poll_interval_ms);
            }
            Err(error) => match error.kind {
                ErrorKind::Unavailable | ErrorKind::Timeout if !past(cx.deadline) => {
                    let since = *away_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > LONGEST_ABSENCE {
                        return Err(error.in_doubt_if(true));
                    }
                    tracing::warn!(task = task.task_id, "{error}; asking again for its task");
                }
                ErrorKind::Cancelled => return cancel(client, task, cx).await,
                _ => return Err(error),
            },
        }
        tokio::select! {
            () = tokio::time::sleep(pace.next()) => {}
            () = cx.cancelled.cancelled() => return cancel(client, task, cx).await,
        }
    }
}

/// What one poll showed.
enum Step {
    Working { poll_interval_ms: Option<u64> },
    Ended(Outcome),
}

/// Hands over answers that were not yet, then asks how the task stands.
async fn round(
    client: &Client,
    task: &TaskHandle,
    answers: &mut BTreeMap<String, Value>,
    answered: &[String],
    reported: &mut Reported,
    cx: &CallContext,
) -> Result<Step, ClientError> {
    let connection = client.connection(cx).await?;
    if !answers.is_empty() {
        let params = UpdateTaskParams::new(&task.task_id, answers.clone());
        let request = ClientRequest::UpdateTaskRequest(UpdateTaskRequest::new(params));
        connection.request(request, Map::new(), cx).await?;
        answers.clear();
    }
    let request = ClientRequest::GetTaskRequest(GetTaskRequest::new(GetTaskParams::new(&task.task_id)));
    let mut state = connection.request(request, Map::new(), cx).await.map_err(|mut error| {
        if error.kind == ErrorKind::Rpc {
            error.message = format!("does not tell what became of its task: {}", error.message);
        }
        error.in_doubt_if(true)
    })?;
    let unreadable = |what: &str| connection.error(ErrorKind::InvalidOutput, what).in_doubt_if(true);
    let status = state.get("status").and_then(Value::as_str).unwrap_or_default().to_owned();
    let working = Step::Working { poll_interval_ms: state.get("pollIntervalMs").and_then(Value::as_u64) };
    match status.as_str() {
        "working" => {
            reported.progress(&state, cx);
            Ok(working)
        }
        "input_required" => {
            let mut requests = connection.questions(state.get_mut("inputRequests").map(Value::take))?;
            // The server may not have got round to our answers yet.
            requests.retain(|key, _| !answered.contains(key));
            if requests.is_empty() {
                return Ok(working);
            }
            Ok(Step::Ended(Outcome::NeedsInput { requests, state: None }))
        }
        "completed" => match state.get_mut("result").map(Value::take) {
            Some(result) => {
                let outcome = connection.outcome(result, true)?;
                connection.served();
                Ok(Step::Ended(outcome))
            }
            None => Err(unreadable("completed its task without a result")),
        },
        "failed" => {
            let error = state.get("error");
            let code = error.and_then(|error| error.get("code")).and_then(Value::as_i64).unwrap_or_default();
            let message = error.and_then(|error| error.get("message")).and_then(Value::as_str).unwrap_or_default();
            Err(connection.error(ErrorKind::Rpc, &format!("failed its task with error {code}: {message}")))
        }
        "cancelled" => {
            let why = state.get("statusMessage").and_then(Value::as_str).map(|why| format!(": {why}"));
            let message = format!("cancelled its task{}", why.unwrap_or_default());
            Err(connection.error(ErrorKind::Rpc, &message))
        }
        other => Err(unreadable(&format!("has a task in the unknown state `{other}`"))),
    }
}

/// Asks the server to cancel the task, and for a moment whether it did.
async fn cancel(client: &Client, task: &TaskHandle, cx: &CallContext) -> Result<Outcome, ClientError> {
    let unknown = || {
        ClientError::new(&client.config().name, ErrorKind::Cancelled, "was asked to cancel its task").in_doubt_if(true)
    };
    let deadline = Instant::now() + CANCEL_GRACE;
    let cx = CallContext { run: cx.run.clone(), deadline: Some(deadline), ..CallContext::detached() };
    let connection = client.connection(&cx).await.map_err(|_| unknown())?;
    let request = ClientRequest::CancelTaskRequest(CancelTaskRequest::new(CancelTaskParams::new(&task.task_id)));
    connection.request(request, Map::new(), &cx).await.map_err(|_| unknown())?;
    loop {
        match round(client, task, &mut BTreeMap::new(), &[], &mut Reported::default(), &cx).await {
            Ok(Step::Ended(outcome @ Outcome::Done(_))) => return Ok(outcome),
            Ok(_) if past(Some(deadline)) => return Err(unknown()),
            Ok(_) => tokio::time::sleep(SHORTEST_INTERVAL).await,
            // What the server itself said about the end of the task stands.
            Err(error) if error.kind == ErrorKind::Rpc && !error.in_doubt => return Err(error),
            Err(_) => return Err(unknown()),
        }
    }
}

fn past(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| deadline <= Instant::now())
}

/// When to ask next: as often as the server wants, but sooner at first, since many tasks are short.
struct Pace {
    wanted: Duration,
    polls: u32,
}

impl Pace {
    fn new(poll_interval_ms: Option<u64>) -> Self {
        let mut pace = Self { wanted: USUAL_INTERVAL, polls: 0 };
        pace.server_wants(poll_interval_ms);
        pace
    }

    fn server_wants(&mut self, poll_interval_ms: Option<u64>) {
        if let Some(ms) = poll_interval_ms {
            self.wanted = Duration::from_millis(ms);
        }
    }

    fn next(&mut self) -> Duration {
        let shortened = self.wanted / (8_u32 >> self.polls.min(3));
        self.polls += 1;
        shortened.clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL)
    }
}

/// What was last passed on as progress: tasks have a message instead.
#[derive(Default)]
struct Reported {
    message: Option<String>,
    changes: u32,
}

impl Reported {
    fn progress(&mut self, state: &Value, cx: &CallContext) {
        let message = state.get("statusMessage").and_then(Value::as_str);
        if message.is_some() && message != self.message.as_deref() {
            self.changes += 1;
            self.message = message.map(str::to_owned);
            (cx.progress)(Progress { progress: f64::from(self.changes), total: None, message: self.message.clone() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paces(wanted: Option<u64>) -> Vec<u128> {
        let mut pace = Pace::new(wanted);
        (0..5).map(|_| pace.next().as_millis()).collect()
    }

    #[test]
    fn polls_come_sooner_at_first_and_within_bounds() {
        assert_eq!(paces(Some(5_000)), [625, 1_250, 2_500, 5_000, 5_000]);
        assert_eq!(paces(None), [125, 250, 500, 1_000, 1_000]);
        assert_eq!(paces(Some(1)), [50; 5]);
        assert_eq!(paces(Some(3_600_000)), [10_000; 5]);
    }
}
