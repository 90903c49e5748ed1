//! `model`.

use antiphon_local_model::{CATALOGUE, DEFAULT, size};
use clap::{Args, Subcommand};
use serde_json::json;

use super::print;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::local::{Shown, entry, fault, store};
use crate::ui;

/// Arguments of `model`.
#[derive(Debug, Args)]
pub struct ModelArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the models that can be had by name.
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Fetch a model, unless it is there.
    Fetch(Which),
    /// Print where a model's file is.
    Path(Which),
    /// Delete a model's file.
    Remove(Which),
}

#[derive(Debug, Args)]
struct Which {
    /// The model
    #[arg(default_value = DEFAULT)]
    name: String,
}

/// Looks after the files of local models.
pub async fn model(args: ModelArgs) -> Result<Exit, Fault> {
    match args.verb {
        Verb::List { json } => list(json),
        Verb::Fetch(which) => fetch(&which.name).await,
        Verb::Path(which) => path(&which.name),
        Verb::Remove(which) => remove(&which.name),
    }
}

fn list(json: bool) -> Result<Exit, Fault> {
    let store = store()?;
    if json {
        let models = CATALOGUE.iter().map(|entry| {
            json!({
                "name": entry.name,
                "about": entry.about,
                "bytes": entry.bytes,
                "sha256": entry.sha256,
                "license": entry.license,
                "path": store.find(entry),
            })
        });
        print::json(&models.collect::<Vec<_>>(), true)?;
    } else {
        for entry in &CATALOGUE {
            let there = if store.find(entry).is_some() { "fetched" } else { "" };
            print::line(&format!(
                "{:<8}  {:>7}  {there:<7}  {} ({})",
                entry.name,
                size(entry.bytes),
                entry.about,
                entry.license
            ))?;
        }
    }
    Ok(Exit::Ok)
}

async fn fetch(name: &str) -> Result<Exit, Fault> {
    let shown = Shown::default();
    let fetched = store()?.fetch(entry(name)?, &|fetching| shown.tell(&fetching)).await;
    let file = fetched.map_err(|error| fault(&error))?;
    print::line(&file.display().to_string())?;
    Ok(Exit::Ok)
}

fn path(name: &str) -> Result<Exit, Fault> {
    match store()?.find(entry(name)?) {
        Some(file) => {
            print::line(&file.display().to_string())?;
            Ok(Exit::Ok)
        }
        None => Err(Fault::usage(format!("the model `{name}` is not there"), format!("antiphon model fetch {name}"))),
    }
}

fn remove(name: &str) -> Result<Exit, Fault> {
    if !store()?.remove(entry(name)?).map_err(|error| fault(&error))? {
        ui::note(format_args!("the model `{name}` was not there"));
    }
    Ok(Exit::Ok)
}
