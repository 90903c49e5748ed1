//! `answer`.

use antiphon_kernel::{Action, Answer, Asking, Question};
use clap::Args;
use serde_json::{Map, Value, json};

use super::follow::Follow;
use super::{Which, find};
use crate::exit::Exit;
use crate::fault::Fault;
use crate::input;
use crate::owner::Hub;
use crate::owner::verbs::{Respond, RunShown, Show};
use crate::ui;
use crate::ui::form::{self, Kind, Shown, accepted};

/// Arguments of `answer`.
#[derive(Debug, Args)]
pub struct AnswerArgs {
    /// The run's id, or the beginning of it
    id: String,
    /// The question's key, when the run has several open
    key: Option<String>,
    /// Print the output, if the run goes on to its end here, as compact JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    which: Which,
}

/// What the answer is; without any of these the question is put on the terminal.
#[derive(Debug, Args)]
#[group(multiple = true)]
struct How {
    /// Yes
    #[arg(long, conflicts_with_all = ["decline", "retry", "skip", "result", "text"])]
    accept: bool,
    /// No
    #[arg(long, conflicts_with_all = ["field", "retry", "skip", "result", "text"])]
    decline: bool,
    /// A field of the form; repeatable
    #[arg(long, value_name = "KEY=VALUE", conflicts_with_all = ["retry", "skip", "result", "text"])]
    field: Vec<String>,
    /// Of a call that may have happened: make it again
    #[arg(long, conflicts_with_all = ["skip", "result", "text"])]
    retry: bool,
    /// Of a call that may have happened: go on without it
    #[arg(long, conflicts_with_all = ["result", "text"])]
    skip: bool,
    /// Of a call that may have happened: it did, and this is its result
    #[arg(long, value_name = "JSON", conflicts_with = "text")]
    result: Option<String>,
    /// What a model would answer, to a step that samples its caller
    #[arg(long)]
    text: Option<String>,
}

/// Answers one question. If another process owns the runs, it goes on there; else here, to its end or its next question.
pub async fn answer(args: AnswerArgs) -> Result<Exit, Fault> {
    let (hub, hint) = args.which.own().await?;
    let done = match respond(&hub, &args).await {
        Ok(Some(id)) if hub.owns().await => {
            Follow { hub: &hub, hint, json: args.json, inline: false, ask: true }.follow(&id).await
        }
        Ok(Some(_)) => Ok(Exit::Ok),
        Ok(None) => Ok(Exit::NeedsInput),
        Err(fault) => Err(fault),
    };
    hub.close().await;
    done
}

/// The run's id; `None` if the person left the question open.
async fn respond(hub: &Hub, args: &AnswerArgs) -> Result<Option<String>, Fault> {
    let id = find(hub, &args.id).await?.id.to_string();
    let shown = hub.ask(Show { id: id.clone() }).await?;
    let question = choose(&shown, args.key.as_deref())?.clone();
    let request = shown.requests.get(&question.key);
    let answer = match args.how.answer(&question, request)? {
        Some(answer) => answer,
        None => match on_terminal(Shown::of(&question, request)).await? {
            Some(answer) => answer,
            None => return Ok(None),
        },
    };
    let reply = hub.ask(Respond { id: id.clone(), key: question.key, answer }).await?;
    match reply.accepted {
        true => Ok(Some(id)),
        false => {
            Err(Fault::usage("the question is not open any more", "somebody else has answered, or its time is up"))
        }
    }
}

fn choose<'a>(shown: &'a RunShown, key: Option<&str>) -> Result<&'a Question, Fault> {
    let open = &shown.run.view.questions;
    let keys = || open.iter().map(|question| format!("'{}'", question.key)).collect::<Vec<_>>().join(", ");
    match (open.as_slice(), key) {
        ([], _) => Err(Fault::usage("this run has no open question", "`antiphon show` tells where it stands")),
        ([only], None) => Ok(only),
        (_, None) => Err(Fault::usage("this run has several open questions", format!("name one: {}", keys()))),
        // People know steps rather than keys.
        (_, Some(key)) => {
            let exact = open.iter().find(|question| question.key == key);
            exact
                .or_else(|| open.iter().find(|question| question.path == key))
                .ok_or_else(|| Fault::usage(format!("no question `{key}` is open"), format!("open are: {}", keys())))
        }
    }
}

async fn on_terminal(shown: Shown) -> Result<Option<Answer>, Fault> {
    if !ui::can_ask() {
        let help = match shown.kind {
            Kind::Doubt => "--retry, --skip or --result JSON",
            Kind::Sample(_) => "--text ANSWER",
            _ => "--accept, --decline or --field key=value",
        };
        return Err(Fault::usage("no answer was given, and there is no terminal to ask on", help));
    }
    let asked = tokio::task::spawn_blocking(move || form::ask(&shown)).await;
    asked
        .map_err(|e| Fault::internal(format!("the form ended badly: {e}")))?
        .map_err(|e| Fault::internal(format!("can't ask on this terminal: {e}")))
}

impl How {
    /// The answer that the options give, if they give one.
    fn answer(&self, question: &Question, request: Option<&Value>) -> Result<Option<Answer>, Fault> {
        let kind = Shown::of(question, request).kind;
        let is_doubt = matches!(question.ask, Asking::Doubt { .. });
        if self.retry || self.skip || self.result.is_some() {
            if !is_doubt {
                return Err(Fault::usage(
                    "this question is not about a call in doubt",
                    "answer with --accept, --decline or --field",
                ));
            }
            return self.doubt().map(Some);
        }
        if let Some(text) = &self.text {
            return match kind {
                Kind::Sample(_) => Ok(Some(accepted(form::sample_result(text)))),
                _ => Err(Fault::usage("this question wants no text", "answer with --accept, --decline or --field")),
            };
        }
        if self.decline {
            return Ok(Some(Answer { action: Action::Decline, content: None }));
        }
        if !self.accept && self.field.is_empty() {
            return Ok(None);
        }
        match kind {
            Kind::Form(schema) => Ok(Some(accepted(fields(&self.field, &schema)?))),
            Kind::Url(_) => Ok(Some(Answer { action: Action::Accept, content: None })),
            Kind::Sample(_) => Err(Fault::usage("a model's answer is wanted", "give it with --text")),
            Kind::Doubt => {
                Err(Fault::usage("a call may have happened", "answer with --retry, --skip or --result JSON"))
            }
            Kind::Other => {
                Err(Fault::usage("this can't be answered here", "cancel the run, or decline with --decline"))
            }
        }
    }

    fn doubt(&self) -> Result<Answer, Fault> {
        if let Some(text) = &self.result {
            let result: Value = serde_json::from_str(text)
                .map_err(|e| Fault::usage(format!("--result is not JSON: {e}"), "quote a text: --result '\"done\"'"))?;
            return Ok(accepted(json!({ "choice": "result", "result": result })));
        }
        Ok(accepted(json!({ "choice": if self.retry { "retry" } else { "skip" } })))
    }
}

fn fields(fields: &[String], schema: &Value) -> Result<Value, Fault> {
    let nothing = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&nothing);
    let mut content = Map::new();
    for field in fields {
        let (key, text) = field
            .split_once('=')
            .ok_or_else(|| Fault::usage(format!("--field {field}: not key=value"), "write --field key=value"))?;
        let Some(property) = properties.get(key) else {
            let known: Vec<&str> = properties.keys().map(String::as_str).collect();
            let help = match known.is_empty() {
                true => "answer with --accept or --decline".to_owned(),
                false => format!("there are: {}", known.join(", ")),
            };
            return Err(Fault::usage(format!("the question has no field `{key}`"), help));
        };
        content.insert(key.to_owned(), input::typed(key, text, Some(property))?);
    }
    Ok(Value::Object(content))
}
