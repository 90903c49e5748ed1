//! What happens to runs that are not in memory: recovered, woken, deleted.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream;
use tokio::time::sleep;

use crate::api::{EngineError, RunId};
use crate::core::Core;
use crate::journal::Sleeper;

/// How many runs are recovered at a time.
const RECOVERY: usize = 16;

/// Takes over what an earlier process left, then wakes and deletes, until the engine stops.
pub(crate) async fn keep(core: Arc<Core>, left: Vec<Sleeper>) {
    let work = async {
        recover(&core, left).await;
        let wake = async {
            loop {
                let id = core.alarm.next(core.clock()).await;
                wake(&core, id).await;
            }
        };
        let sweep = async {
            loop {
                sweep(&core).await;
                sleep(core.options.sweep_every).await;
            }
        };
        tokio::join!(wake, sweep)
    };
    tokio::select! {
        () = core.stopping.cancelled() => {}
        () = core.halt.cancelled() => {}
        _ = work => {}
    }
}

async fn recover(core: &Arc<Core>, left: Vec<Sleeper>) {
    let (busy, parked): (Vec<_>, Vec<_>) = left.into_iter().partition(|sleeper| sleeper.busy);
    for sleeper in parked {
        if let Some(due) = sleeper.wake_at {
            core.alarm.set(sleeper.id, due);
        }
    }
    stream::iter(busy).for_each_concurrent(RECOVERY, |sleeper| wake(core, sleeper.id)).await;
}

async fn wake(core: &Arc<Core>, id: RunId) {
    core.stuck.remove(&id);
    match core.activate(&id).await {
        Ok(()) | Err(EngineError::NotFound(_) | EngineError::Stopping) => {}
        Err(error @ EngineError::KernelVersion { .. }) => tracing::warn!("left alone: {error}"),
        Err(error) => {
            tracing::warn!(run = %id, "can't go on yet: {error}");
            core.alarm.again(id, core.clock());
        }
    }
}

async fn sweep(core: &Core) {
    match core.journal.sweep(core.clock().now()).await {
        Ok(0) | Err(EngineError::Stopping) => {}
        Ok(swept) => {
            core.registry.forget_quiet();
            tracing::debug!("{swept} expired runs deleted");
        }
        Err(error) => tracing::warn!("can't delete expired runs: {error}"),
    }
}
