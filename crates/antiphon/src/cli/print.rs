//! What goes to standard output: data, and nothing else.

use std::io::{self, IsTerminal, Write};

use antiphon_engine::Run;
use antiphon_kernel::{Asking, Outcome, Question};
use miette::miette;
use serde_json::Value;

use super::Hint;
use super::follow::exit_of;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::owner::verbs::RunShown;

/// One piece of text on standard output, with a newline. A reader that has gone away (`| head`) is no error.
pub fn line(text: &str) -> Result<(), Fault> {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Fault::internal(format!("can't write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// JSON: pretty, or `compact`.
pub fn json(value: &impl serde::Serialize, compact: bool) -> Result<(), Fault> {
    let text = if compact { serde_json::to_string(value) } else { serde_json::to_string_pretty(value) };
    line(&text.map_err(|e| Fault::internal(format!("can't write JSON: {e}")))?)
}

/// How a run has ended: its output, or why there is none.
pub fn outcome(shown: &RunShown, compact: bool, hint: &Hint) -> Result<Exit, Fault> {
    let Some(outcome) = &shown.run.view.outcome else {
        return Err(Fault::internal("the run has ended without an outcome"));
    };
    let exit = exit_of(outcome);
    let what = match outcome {
        Outcome::Succeeded { .. } => {
            output(shown.output.as_ref().unwrap_or(&Value::Null), compact)?;
            return Ok(exit);
        }
        Outcome::Failed { path: Some(path), error } => {
            format!("the run failed: `{path}`: {} ({})", error.message, error.kind.as_str())
        }
        Outcome::Failed { path: None, error } => format!("the run failed: {} ({})", error.message, error.kind.as_str()),
        Outcome::Cancelled { reason } => format!("the run was cancelled: {reason}"),
    };
    let mut notes = Vec::new();
    let view = &shown.run.view;
    notes.extend(view.may_have_happened.iter().map(|call| format!("may have happened: {call}")));
    notes.extend(view.not_undone.iter().map(|call| format!("not undone: {call}")));
    notes.push(hint.command(&format!("show {}", short(&shown.run.id.to_string()))));
    Err(Fault::new(exit, miette!(help = notes.join("\n"), "{what}")))
}

/// An output. A person gets a lone text as text; everybody else gets JSON.
fn output(output: &Value, compact: bool) -> Result<(), Fault> {
    if !compact && io::stdout().is_terminal() {
        let alone = match output {
            Value::String(text) => Some(text),
            Value::Object(entries) if entries.len() == 1 => entries.values().next().and_then(|value| match value {
                Value::String(text) => Some(text),
                _ => None,
            }),
            _ => None,
        };
        if let Some(text) = alone {
            return line(text.trim_end());
        }
    }
    json(output, compact)
}

/// The command that answers a question.
pub fn how_to_answer(run: &Run, question: &Question, hint: &Hint) -> String {
    let key = match run.view.questions.len() {
        1 => String::new(),
        _ => format!(" '{}'", question.key),
    };
    let how = match &question.ask {
        Asking::Doubt { .. } => "--retry | --skip | --result JSON".to_owned(),
        Asking::Form { schema, .. } => fields(schema),
        Asking::Relayed { request, .. } => match request.pointer("/params/requestedSchema") {
            Some(schema) => fields(schema),
            None => "--accept | --decline".to_owned(),
        },
        Asking::Sample { .. } => "--text ANSWER".to_owned(),
        Asking::Url { .. } => "--accept | --decline".to_owned(),
    };
    hint.command(&format!("answer {}{key} {how}", short(&run.id.to_string())))
}

fn fields(schema: &Value) -> String {
    let properties = schema.get("properties").and_then(Value::as_object);
    match properties.filter(|properties| !properties.is_empty()) {
        Some(properties) => properties.keys().map(|name| format!("--field {name}=…")).collect::<Vec<_>>().join(" "),
        None => "--accept | --decline".to_owned(),
    }
}

/// As much of an id as people need to type.
pub fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}
