//! `call`.

use clap::Args;
use serde_json::{Value, json};

use super::run::{InputArgs, Launch, TrustArgs, launch, start};
use super::{Hint, Which};
use crate::adhoc;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::input;
use crate::late::Lent;
use crate::owner::Hub;
use crate::owner::verbs::{Catalogue, Target};
use crate::project::{Loaded, Place};
use crate::trust::{self, Trust};

/// Arguments of `call`.
#[derive(Debug, Args)]
pub struct CallArgs {
    /// A server's tool (`server.tool`), or a workflow's name
    target: String,
    #[command(flatten)]
    input: InputArgs,
    /// Print the output as compact JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    trust: TrustArgs,
    #[command(flatten)]
    which: Which,
}

/// Calls a workflow of the folder, or one tool.
pub async fn call(args: CallArgs) -> Result<Exit, Fault> {
    let place = args.which.place()?;
    let mut project = place.load()?.project;
    if let Some(workflow) = project.workflows.remove(&args.target) {
        let input = input::parse(&args.input.inputs, &workflow.input_schema)?;
        let place = Place::of(workflow.path.as_ref())?;
        let loaded = Loaded { place, project, workflow };
        return start(loaded, input, &args.which.db, args.trust.trust, args.json).await;
    }
    let Some((server, tool)) = args.target.split_once('.') else {
        let known: Vec<&str> = project.workflows.keys().map(String::as_str).collect();
        let help = format!("workflows here: {}; a tool is named server.tool (see `antiphon tools`)", known.join(", "));
        return Err(Fault::usage(format!("there is no workflow `{}`", args.target), help));
    };
    let store = args.which.db.store(&place)?;
    store.create()?;
    let (servers, models) = adhoc::uses(&project, server);
    let lines = trust::command_lines(&project, &servers);
    Trust::at(&store.trusted).obtain(lines, args.trust.trust)?;
    let hint = Hint::to(&place, &args.which.db);
    let lent = Lent::to(&project, &servers, &models);
    let hub = Hub::own(store).await?;
    let catalogue = Catalogue { folder: place.folder.clone(), server: Some(server.to_owned()), lent: lent.clone() };
    let input = match arguments(&hub, catalogue, server, tool, &args.input.inputs).await {
        Ok(input) => input,
        Err(fault) => {
            hub.close().await;
            return Err(fault);
        }
    };
    let target = Target::Tool { folder: place.folder, server: server.to_owned(), tool: tool.to_owned() };
    launch(&hub, Launch { target, input, lent }, hint, args.json).await
}

/// The arguments as the tool's own schema wants them.
async fn arguments(
    hub: &Hub,
    catalogue: Catalogue,
    server: &str,
    tool: &str,
    inputs: &[String],
) -> Result<Value, Fault> {
    let listed = hub.ask(catalogue).await?;
    if let Some(why) = listed.unavailable.get(server) {
        return Err(Fault::new(Exit::Failed, miette::miette!("server `{server}` can't be used: {why}")));
    }
    let Some(tools) = listed.servers.get(server) else {
        return Err(Fault::usage(format!("no server is named `{server}`"), "`antiphon tools` lists servers and tools"));
    };
    let Some(definition) = tools.iter().find(|definition| definition["name"] == tool) else {
        let names: Vec<&str> = tools.iter().filter_map(|definition| definition["name"].as_str()).collect();
        return Err(Fault::usage(format!("`{server}` has no tool `{tool}`"), format!("it has: {}", names.join(", "))));
    };
    input::parse(inputs, definition.get("inputSchema").unwrap_or(&json!({ "type": "object" })))
}
