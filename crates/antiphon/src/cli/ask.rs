//! `ask`.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};

use super::run::{Launch, TrustArgs, launch};
use super::{Hint, Which};
use crate::exit::Exit;
use crate::exposed;
use crate::fault::Fault;
use crate::late::{Environment, Lent};
use crate::owner::Hub;
use crate::owner::verbs::Target;
use crate::trust::{self, Trust};

/// Arguments of `ask`.
#[derive(Debug, Args)]
pub struct AskArgs {
    /// The agent's name
    agent: String,
    /// What it is asked; - reads it from standard input
    prompt: String,
    /// The shape of the answer: a file with a JSON Schema
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,
    /// Print the answer as compact JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    trust: TrustArgs,
    #[command(flatten)]
    which: Which,
}

/// Asks an agent, and prints what it answers.
pub async fn ask(args: AskArgs) -> Result<Exit, Fault> {
    let place = args.which.place()?;
    let checked = place.load()?;
    let agent = exposed::one_agent(&place, &checked, &args.agent)?;
    let project = checked.project;
    let mut input = Map::from_iter([("prompt".to_owned(), Value::String(prompt(args.prompt)?))]);
    if let Some(file) = &args.schema {
        input.insert("schema".to_owned(), schema(file)?);
    }
    let store = args.which.db.store(&place)?;
    store.create()?;
    let nothing_lent = Lent::default();
    Environment::of(&place.root, &nothing_lent).check(&project, &agent.servers_used, &agent.models_used)?;
    let lines = trust::command_lines(&project, &agent.servers_used);
    Trust::at(&store.trusted).obtain(lines, args.trust.trust)?;
    let hint = Hint::to(&place, &args.which.db);
    let lent = Lent::to(&project, &agent.servers_used, &agent.models_used);
    let hub = Hub::own(store).await?;
    let place = place.file.clone().unwrap_or(place.folder);
    let target = Target::Agent { place, name: args.agent };
    launch(&hub, Launch { target, input: json!(input), lent }, hint, args.json).await
}

fn prompt(text: String) -> Result<String, Fault> {
    if text != "-" {
        return Ok(text);
    }
    if std::io::stdin().is_terminal() {
        return Err(Fault::usage(
            "the prompt is to come from standard input, which is a terminal",
            "write it as an argument",
        ));
    }
    let mut text = String::new();
    let read = std::io::stdin().read_to_string(&mut text);
    read.map_err(|e| Fault::usage(format!("can't read standard input: {e}"), "it must be UTF-8 text"))?;
    Ok(text)
}

fn schema(file: &PathBuf) -> Result<Value, Fault> {
    let shown = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|e| Fault::usage(format!("can't read {shown}: {e}"), "name a file that holds a JSON Schema"))?;
    match serde_json::from_str(&text) {
        Ok(schema @ Value::Object(_)) => Ok(schema),
        Ok(_) => Err(Fault::usage(format!("{shown} is not a JSON object"), "a schema is one")),
        Err(e) => Err(Fault::usage(format!("{shown} is not JSON: {e}"), "name a file that holds a JSON Schema")),
    }
}
