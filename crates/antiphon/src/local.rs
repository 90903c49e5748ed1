//! The embedded model: which file it is, and what people see while it is fetched.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use antiphon_local_model::{Entry, FetchError, Fetching, LocalModel, Store, Weights, find, names, size};
use antiphon_models::Model;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use crate::fault::Fault;
use crate::ui::{self, live};

/// What plans call it.
pub const NAME: &str = "local";

/// Which model is the local one. It answers in the process that owns the runs, so what counts is said there.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Local model")]
pub struct Choice {
    /// Let the local model be this GGUF file
    #[arg(long, global = true, value_name = "FILE", env = "ANTIPHON_MODEL_FILE")]
    model_file: Option<PathBuf>,
    /// Let the local model be this one of `antiphon model list`
    #[arg(long, global = true, value_name = "NAME", env = "ANTIPHON_MODEL", default_value = antiphon_local_model::DEFAULT)]
    model: String,
}

static CHOICE: OnceLock<Choice> = OnceLock::new();

/// Settles which model it is. Only the first word counts.
pub fn choose(choice: Choice) {
    // There is one command line.
    let _ = CHOICE.set(choice);
}

/// The local model. Nothing is fetched or loaded before it is asked.
///
/// # Errors
/// The name that was chosen is none, or there is no place for its file.
pub fn model() -> Result<Arc<dyn Model>, Fault> {
    let choice = CHOICE.get();
    let weights = match choice.and_then(|choice| choice.model_file.as_ref()) {
        Some(file) => Weights::File(file.clone()),
        None => Weights::Named(entry(choice.map_or(antiphon_local_model::DEFAULT, |choice| &choice.model))?, store()?),
    };
    let shown = Shown::default();
    Ok(Arc::new(LocalModel::new(NAME, weights, move |fetching| shown.tell(&fetching))))
}

/// A model of the catalogue.
///
/// # Errors
/// There is none of this name.
pub fn entry(name: &str) -> Result<&'static Entry, Fault> {
    find(name).ok_or_else(|| {
        Fault::usage(
            format!("no model is named `{name}`"),
            format!("there are {}; --model-file takes any other", names()),
        )
    })
}

/// Where models are kept.
///
/// # Errors
/// There is no such place.
pub fn store() -> Result<Store, Fault> {
    Store::open().map_err(|error| fault(&error))
}

/// A model that can't be had.
pub fn fault(error: &FetchError) -> Fault {
    match error {
        FetchError::NoCache => Fault::usage(error, "or name a file with --model-file"),
        _ => Fault::internal(error),
    }
}

/// A download on standard error: a bar on a terminal, lines elsewhere.
#[derive(Default)]
pub struct Shown(Mutex<Download>);

#[derive(Default)]
struct Download {
    bar: Option<ProgressBar>,
    bytes: u64,
    /// How many tenths were told of.
    tenths: u64,
}

impl Shown {
    /// Shows what happens.
    pub fn tell(&self, fetching: &Fetching) {
        let mut download = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match fetching {
            Fetching::Started { name, bytes } => {
                ui::above(format_args!("fetching the model `{name}`, {}; that happens once", size(*bytes)));
                *download = Download { bar: live::bar(*bytes, style()), bytes: *bytes, tenths: 0 };
            }
            Fetching::Waiting => ui::above(format_args!("another process fetches the model; waiting for it")),
            Fetching::From(source) => ui::above(format_args!("asking {source}")),
            Fetching::Failed(why) => ui::above(format_args!("{why}")),
            Fetching::Bytes(done) => download.at(*done),
            Fetching::Verifying => {
                download.end();
                ui::above(format_args!("checking its SHA-256"));
            }
            Fetching::Done => ui::above(format_args!("the model is there")),
        }
    }
}

impl Download {
    fn at(&mut self, done: u64) {
        if let Some(bar) = &self.bar {
            return bar.set_position(done);
        }
        let tenths = done * 10 / self.bytes.max(1);
        if tenths > self.tenths {
            self.tenths = tenths;
            ui::note(format_args!("{}0%", tenths));
        }
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}
