//! `run`, `resume`, `watch`.

use std::path::PathBuf;

use clap::Args;
use miette::miette;
use uuid::Uuid;

use super::follow::Follow;
use super::{Db, Hint, Which, dry_run, find};
use crate::exit::Exit;
use crate::fault::Fault;
use crate::input;
use crate::late::{Environment, Lent};
use crate::owner::Hub;
use crate::owner::verbs::{Show, Start, Target};
use crate::project::{Loaded, Place};
use crate::trust::{self, Trust};

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The workflow file
    file: PathBuf,
    #[command(flatten)]
    input: InputArgs,
    /// Say what would happen: no server is started, nothing is called
    #[arg(long)]
    dry_run: bool,
    /// Print the output as compact JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    trust: TrustArgs,
    #[command(flatten)]
    db: Db,
}

/// The input of a run.
#[derive(Debug, Args)]
pub struct InputArgs {
    /// Input: key=value (read as the workflow's schema wants it), @file.json, or - for JSON on standard input; repeatable
    #[arg(short, long = "input", value_name = "INPUT")]
    pub inputs: Vec<String>,
}

/// Consent to commands.
#[derive(Debug, Args)]
pub struct TrustArgs {
    /// Let the commands that these files name be started, now and from now on
    #[arg(long)]
    pub trust: bool,
}

/// Arguments of `resume`.
#[derive(Debug, Args)]
pub struct ResumeArgs {
    /// The run's id, or the beginning of it
    id: String,
    /// Print the output as compact JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    which: Which,
}

/// Arguments of `watch`.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// The run's id, or the beginning of it
    id: String,
    /// Print the output as compact JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    which: Which,
}

/// Runs a workflow file.
pub async fn run(args: RunArgs) -> Result<Exit, Fault> {
    let loaded = Place::of(&args.file)?.load_one()?;
    let input = input::parse(&args.input.inputs, &loaded.workflow.input_schema)?;
    if args.dry_run {
        dry_run::print(&loaded, &input, args.json)?;
        return Ok(Exit::Ok);
    }
    start(loaded, input, &args.db, args.trust.trust, args.json).await
}

/// Starts a workflow that is loaded and follows it.
pub async fn start(
    Loaded { place, project, workflow }: Loaded,
    input: serde_json::Value,
    db: &Db,
    trusted: bool,
    json: bool,
) -> Result<Exit, Fault> {
    let store = db.store(&place)?;
    store.create()?;
    let nothing_lent = Lent::default();
    Environment::of(&place.root, &nothing_lent).check(&project, &workflow.servers_used, &workflow.models_used)?;
    let lines = trust::command_lines(&project, &workflow.servers_used);
    Trust::at(&store.trusted).obtain(lines, trusted)?;
    let hint = Hint::to(&place, db);
    let file = place.file.clone().unwrap_or_else(|| PathBuf::from(&workflow.path));
    let hub = Hub::own(store).await?;
    let lent = Lent::to(&project, &workflow.servers_used, &workflow.models_used);
    launch(&hub, Launch { target: Target::File(file), input, lent }, hint, json).await
}

/// What is started, and with what.
pub struct Launch {
    /// What runs.
    pub target: Target,
    /// Its input.
    pub input: serde_json::Value,
    /// Variables that it needs.
    pub lent: Lent,
}

/// Starts a target and follows it.
pub async fn launch(hub: &Hub, Launch { target, input, lent }: Launch, hint: Hint, json: bool) -> Result<Exit, Fault> {
    let inline = hub.owns().await;
    let key = (!inline).then(|| Uuid::new_v4().to_string());
    let start = Start { target, input, key, lent, inline };
    let done = match hub.ask(start).await {
        Ok(started) => Follow { hub, hint, json, inline, ask: true }.follow(&started.id).await,
        Err(fault) => Err(fault),
    };
    hub.close().await;
    done
}

/// Goes on with a paused run.
pub async fn resume(args: ResumeArgs) -> Result<Exit, Fault> {
    let (hub, hint) = args.which.own().await?;
    let done = match find(&hub, &args.id).await {
        Ok(run) => {
            let follow = Follow { hub: &hub, hint, json: args.json, inline: false, ask: true };
            follow.follow(&run.id.to_string()).await
        }
        Err(fault) => Err(fault),
    };
    hub.close().await;
    done
}

/// Follows a run that goes on elsewhere.
pub async fn watch(args: WatchArgs) -> Result<Exit, Fault> {
    let (hub, hint) = args.which.look().await?;
    let id = find(&hub, &args.id).await?.id.to_string();
    let shown = hub.ask(Show { id: id.clone() }).await?;
    if hub.is_at_rest().await && !shown.run.view.status.is_terminal() {
        let resume = hint.command(&format!("resume {}", args.id));
        return Err(Fault::new(
            Exit::Paused,
            miette!(help = resume, "nobody drives this project's runs: this one is paused"),
        ));
    }
    let done = Follow { hub: &hub, hint, json: args.json, inline: false, ask: false }.follow(&id).await;
    hub.close().await;
    done
}
