//! `tools`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use antiphon_workflow::Project;
use clap::Args;
use serde_json::Value;

use super::run::TrustArgs;
use super::{Db, print};
use crate::exit::Exit;
use crate::fault::Fault;
use crate::late::Lent;
use crate::owner::Hub;
use crate::owner::verbs::Catalogue;
use crate::project::Place;
use crate::trust::{self, Trust};
use crate::ui;
use crate::ui::form::printable;

/// Arguments of `tools`.
#[derive(Debug, Args)]
pub struct ToolsArgs {
    /// A workflow file, or a folder of them [default: the current folder]
    path: Option<PathBuf>,
    /// Print JSON, with the schemas
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    trust: TrustArgs,
    #[command(flatten)]
    db: Db,
}

/// Lists what the servers offer: of those that answer.
pub async fn tools(args: ToolsArgs) -> Result<Exit, Fault> {
    let place = args.path.as_deref().map_or_else(Place::here, Place::of)?;
    let project = place.load()?.project;
    let hub = connect(&place, &project, &args.db, args.trust.trust).await?;
    let lent = Lent::to(&project, &project.servers.keys().cloned().collect(), &BTreeSet::new());
    let tools = hub.ask(Catalogue { folder: place.folder.clone(), server: None, lent }).await?;
    hub.close().await;
    if args.json {
        print::json(&tools, true)?;
    } else {
        for (server, list) in &tools.servers {
            for tool in list {
                let text = |name: &str| tool.get(name).and_then(Value::as_str).unwrap_or_default();
                let about = printable(text("description").lines().next().unwrap_or_default());
                print::line(format!("{:<40}  {about}", format!("{server}.{}", text("name"))).trim_end())?;
            }
        }
    }
    for (server, why) in &tools.unavailable {
        ui::note(format_args!("not listed: {server}: {why}"));
    }
    let nothing = tools.servers.is_empty() && !tools.unavailable.is_empty();
    Ok(if nothing { Exit::Failed } else { Exit::Ok })
}

/// The way to the servers of a place, with the consent that they need. Lets no run go on.
async fn connect(place: &Place, project: &Project, db: &Db, trusted: bool) -> Result<Hub, Fault> {
    let store = db.store(place)?;
    store.create()?;
    let all = project.servers.keys().cloned().collect();
    Trust::at(&store.trusted).obtain(trust::command_lines(project, &all), trusted)?;
    Hub::look(store).await
}
