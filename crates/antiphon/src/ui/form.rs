//! A run's questions, asked on the terminal.

use antiphon_kernel::{Action, Answer, Asking, Question, expr};
use dialoguer::console::Term;
use dialoguer::{Input, MultiSelect, Select};
use serde_json::{Map, Value, json};

use crate::input;

/// What kind of answer a question takes, whoever asks it.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Fields, by their JSON Schema; none of them for a plain yes or no.
    Form(Value),
    /// A page to open, then a yes or no.
    Url(String),
    /// What a model would answer.
    Sample(Value),
    /// What to do about a call that may have happened.
    Doubt,
    /// Nothing that a person here can give.
    Other,
}

/// A question as a person sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// The question.
    pub message: String,
    /// What it takes.
    pub kind: Kind,
}

impl Shown {
    /// The question; `request` is the request of a sample.
    pub fn of(question: &Question, request: Option<&Value>) -> Self {
        let (message, kind) = match &question.ask {
            Asking::Form { message, schema } => (message.clone(), Kind::Form(schema.clone())),
            Asking::Url { message, url } => (message.clone(), Kind::Url(url.clone())),
            Asking::Doubt { message, .. } => (message.clone(), Kind::Doubt),
            Asking::Sample { .. } => {
                let request = request.cloned().unwrap_or_default();
                (
                    format!("`{}` asks you what a model would be asked:\n{}", question.path, prompt(&request)),
                    Kind::Sample(request),
                )
            }
            Asking::Relayed { server, request } => relayed(server, request),
        };
        Self { message: printable(&message), kind }
    }
}

/// Asks, and blocks until there is an answer. `None`: the person leaves it open.
pub fn ask(shown: &Shown) -> dialoguer::Result<Option<Answer>> {
    let term = Term::stderr();
    let answer = put(&term, shown);
    // A prompt that is interrupted leaves it hidden.
    let _ = term.show_cursor();
    answer
}

fn put(term: &Term, shown: &Shown) -> dialoguer::Result<Option<Answer>> {
    term.write_line("")?;
    term.write_line(&shown.message)?;
    match &shown.kind {
        Kind::Form(schema) => form(term, schema),
        Kind::Url(url) => {
            term.write_line(&format!("Open: {}", printable(url)))?;
            yes_or_no(term, "Done?")
        }
        Kind::Sample(_) => {
            let text: String = Input::new().with_prompt("Answer").allow_empty(true).interact_text_on(term)?;
            Ok((!text.is_empty()).then(|| accepted(sample_result(&text))))
        }
        Kind::Doubt => doubt(term),
        Kind::Other => {
            term.write_line("This can't be answered here.")?;
            Ok(None)
        }
    }
}

/// A `CreateMessageResult` that a person wrote.
pub fn sample_result(text: &str) -> Value {
    json!({ "role": "assistant", "content": { "type": "text", "text": text }, "model": "human", "stopReason": "endTurn" })
}

/// An answer with this content.
pub fn accepted(content: Value) -> Answer {
    Answer { action: Action::Accept, content: Some(content) }
}

fn form(term: &Term, schema: &Value) -> dialoguer::Result<Option<Answer>> {
    let fields = match schema.get("properties").and_then(Value::as_object) {
        Some(fields) if !fields.is_empty() => fields,
        _ => return yes_or_no(term, "Yes or no?"),
    };
    match Select::new()
        .with_prompt("What now?")
        .items(["Answer", "Decline", "Leave it open"])
        .default(0)
        .interact_on_opt(term)?
    {
        Some(0) => {}
        Some(1) => return Ok(Some(Answer { action: Action::Decline, content: None })),
        _ => return Ok(None),
    }
    let required: Vec<&str> =
        schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let mut content = Map::new();
    for (name, field) in fields {
        if let Some(value) = field_value(term, name, field, required.contains(&name.as_str()))? {
            content.insert(name.clone(), value);
        }
    }
    Ok(Some(accepted(Value::Object(content))))
}

fn yes_or_no(term: &Term, prompt: &str) -> dialoguer::Result<Option<Answer>> {
    let choice =
        Select::new().with_prompt(prompt).items(["Yes", "No", "Leave it open"]).default(0).interact_on_opt(term)?;
    Ok(match choice {
        Some(0) => Some(accepted(json!({}))),
        Some(1) => Some(Answer { action: Action::Decline, content: None }),
        _ => None,
    })
}

fn doubt(term: &Term) -> dialoguer::Result<Option<Answer>> {
    let items =
        ["Retry: make the call again", "Skip: go on without it", "It did happen: give its result", "Leave it open"];
    let choice = Select::new().with_prompt("What now?").items(items).default(3).interact_on_opt(term)?;
    Ok(match choice {
        Some(0) => Some(accepted(json!({ "choice": "retry" }))),
        Some(1) => Some(accepted(json!({ "choice": "skip" }))),
        Some(2) => {
            let check =
                |text: &String| serde_json::from_str::<Value>(text).map(drop).map_err(|e| format!("not JSON: {e}"));
            let text: String =
                Input::new().with_prompt("Its result, as JSON").validate_with(check).interact_text_on(term)?;
            let result = serde_json::from_str(&text).unwrap_or(Value::Null);
            Some(accepted(json!({ "choice": "result", "result": result })))
        }
        _ => None,
    })
}

/// One field; `None` when it is optional and left empty.
fn field_value(term: &Term, name: &str, field: &Value, required: bool) -> dialoguer::Result<Option<Value>> {
    let title = field.get("title").and_then(Value::as_str).unwrap_or(name);
    let mut prompt = printable(title);
    if let Some(description) = field.get("description").and_then(Value::as_str) {
        prompt.push_str(&format!(" ({})", printable(description)));
    }
    if let Some(choices) = choices(field) {
        return select(term, &prompt, &choices, field, required);
    }
    if let Some(choices) = field.get("items").and_then(choices) {
        let labels: Vec<&str> = choices.iter().map(|(_, label)| label.as_str()).collect();
        let picked = MultiSelect::new().with_prompt(prompt).items(labels).interact_on(term)?;
        return Ok(Some(
            picked.into_iter().filter_map(|place| choices.get(place)).map(|(value, _)| value.clone()).collect(),
        ));
    }
    if field.get("type").and_then(Value::as_str) == Some("boolean") {
        let boolean = [(Value::Bool(true), "Yes".to_owned()), (Value::Bool(false), "No".to_owned())];
        return select(term, &prompt, &boolean, field, required);
    }
    let default = field.get("default").map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    let check = |text: &String| match text.is_empty() && !required {
        true => Ok(()),
        false => fitting(name, text, field).map(drop),
    };
    let mut ask = Input::new().with_prompt(prompt).allow_empty(!required).validate_with(check);
    if let Some(default) = default {
        ask = ask.default(default);
    }
    let text: String = ask.interact_text_on(term)?;
    if text.is_empty() && !required {
        return Ok(None);
    }
    Ok(fitting(name, &text, field).ok())
}

/// What was typed as the value that the field takes.
fn fitting(name: &str, text: &str, field: &Value) -> Result<Value, String> {
    let value = input::typed(name, text, Some(field)).map_err(|fault| fault.message())?;
    expr::validate(field, &value)?;
    Ok(value)
}

fn select(
    term: &Term,
    prompt: &str,
    choices: &[(Value, String)],
    field: &Value,
    required: bool,
) -> dialoguer::Result<Option<Value>> {
    let default = field.get("default").and_then(|default| choices.iter().position(|(value, _)| value == default));
    let mut labels: Vec<&str> = choices.iter().map(|(_, label)| label.as_str()).collect();
    if !required {
        labels.push("(no answer)");
    }
    let picked = Select::new().with_prompt(prompt).items(labels).default(default.unwrap_or(0)).interact_on(term)?;
    Ok(choices.get(picked).map(|(value, _)| value.clone()))
}

/// The values of an `enum` (or a titled `oneOf` / `anyOf`) with what to call them.
fn choices(field: &Value) -> Option<Vec<(Value, String)>> {
    let titled = field.get("oneOf").or_else(|| field.get("anyOf")).and_then(Value::as_array);
    if let Some(options) = titled {
        let choices: Option<Vec<_>> = options
            .iter()
            .map(|option| {
                let value = option.get("const")?.clone();
                let label = option.get("title").unwrap_or(&value);
                Some((value.clone(), printable(&text_of(label))))
            })
            .collect();
        return choices;
    }
    let values = field.get("enum")?.as_array()?;
    let names = field.get("enumNames").and_then(Value::as_array);
    let label =
        |place: usize, value: &Value| names.and_then(|names| names.get(place)).map_or_else(|| text_of(value), text_of);
    Some(values.iter().enumerate().map(|(place, value)| (value.clone(), printable(&label(place, value)))).collect())
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn relayed(server: &str, request: &Value) -> (String, Kind) {
    let params = request.get("params").unwrap_or(&Value::Null);
    let text = |name: &str| params.get(name).and_then(Value::as_str);
    let message = format!("The server `{server}` asks: {}", text("message").unwrap_or("(nothing in words)"));
    match request.get("method").and_then(Value::as_str) {
        Some("elicitation/create") => match text("url") {
            Some(url) => (message, Kind::Url(url.to_owned())),
            None => (message, Kind::Form(params.get("requestedSchema").cloned().unwrap_or_default())),
        },
        Some("sampling/createMessage") => {
            let message = format!("The server `{server}` asks you what a model would be asked:\n{}", prompt(params));
            (message, Kind::Sample(params.clone()))
        }
        _ => (message, Kind::Other),
    }
}

/// The words of a sampling request.
fn prompt(request: &Value) -> String {
    if let Some(prompt) = request.get("prompt").and_then(Value::as_str) {
        return prompt.to_owned();
    }
    let messages = request.get("messages").and_then(Value::as_array).into_iter().flatten();
    messages.map(|message| content_text(message.get("content"))).collect::<Vec<_>>().join("\n")
}

fn content_text(content: Option<&Value>) -> String {
    match content {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(blocks)) => {
            blocks.iter().map(|block| content_text(Some(block))).collect::<Vec<_>>().join("\n")
        }
        Some(block) => block.get("text").and_then(Value::as_str).unwrap_or("(no text)").to_owned(),
        None => String::new(),
    }
}

/// The text without control characters: what a server or a model says must not drive the terminal.
pub fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used)]

    use antiphon_kernel::By;

    use super::*;

    fn question(ask: Asking) -> Question {
        Question { key: "q".into(), path: "approve".into(), asked_at: 0, by: By::Human, ask }
    }

    #[test]
    fn what_a_server_says_does_not_drive_the_terminal() {
        let ask = Asking::Form { message: "Deploy?\u{1b}[2J\u{7}".into(), schema: json!({}) };
        assert_eq!(Shown::of(&question(ask), None).message, "Deploy?[2J");
    }

    #[test]
    fn a_relayed_request_is_asked_as_what_it_is() {
        let request = json!({ "method": "elicitation/create", "params": { "message": "Name?", "requestedSchema": { "type": "object" } } });
        let shown = Shown::of(&question(Asking::Relayed { server: "crm".into(), request }), None);
        assert_eq!(shown.message, "The server `crm` asks: Name?");
        assert_eq!(shown.kind, Kind::Form(json!({ "type": "object" })));

        let request = json!({ "method": "sampling/createMessage", "params": { "messages": [
            { "role": "user", "content": { "type": "text", "text": "What is 6 × 7?" } },
        ] } });
        let shown = Shown::of(&question(Asking::Relayed { server: "crm".into(), request }), None);
        assert!(shown.message.ends_with("What is 6 × 7?"), "{}", shown.message);
    }

    #[test]
    fn choices_come_from_every_spelling() {
        let plain = choices(&json!({ "enum": ["a", "b"], "enumNames": ["Alpha"] })).unwrap();
        assert_eq!(plain, [(json!("a"), "Alpha".into()), (json!("b"), "b".into())]);
        let titled = choices(&json!({ "oneOf": [{ "const": 1, "title": "One" }] })).unwrap();
        assert_eq!(titled, [(json!(1), "One".into())]);
        assert_eq!(choices(&json!({ "type": "string" })), None);
    }
}
