//! `cancel`.

use clap::Args;

use super::follow::Follow;
use super::{Which, find};
use crate::exit::Exit;
use crate::fault::Fault;
use crate::owner::verbs::Cancel;

/// Arguments of `cancel`.
#[derive(Debug, Args)]
pub struct CancelArgs {
    /// The run's id, or the beginning of it
    id: String,
    /// Why: recorded, and shown to whoever waits
    #[arg(long, default_value = "cancelled on the command line")]
    reason: String,
    #[command(flatten)]
    which: Which,
}

/// Cancels a run and waits until what it has done is undone.
pub async fn cancel(args: CancelArgs) -> Result<Exit, Fault> {
    let (hub, hint) = args.which.own().await?;
    let done = match find(&hub, &args.id).await {
        Ok(run) => {
            let id = run.id.to_string();
            match hub.ask(Cancel { id: id.clone(), reason: args.reason }).await {
                Ok(_) => Follow { hub: &hub, hint, json: false, inline: false, ask: true }.follow(&id).await,
                Err(fault) => Err(fault),
            }
        }
        Err(fault) => Err(fault),
    };
    hub.close().await;
    match done {
        // That is what was asked for.
        Err(fault) if fault.exit == Exit::Cancelled => Ok(Exit::Ok),
        done => done,
    }
}
