//! How a request is put to a model.
//!
//! What helps small models to choose are the labels' meanings and a few examples; constraining the answer guarantees its
//! shape, not its sense (figures in this crate's README).

use crate::reply::spelled;
use crate::{Message, Role, SampleRequest, Shape, ToolCall, ToolChoice, ToolResult};

/// What is told before is told again at the end, where small models heed it most, if it has no more bytes than this. Of twenty
/// routings without examples, Qwen2.5-Coder-1.5B then had 17 right rather than 13.
const SAID_TWICE: usize = 1_000;

/// The conversation that asks for an answer: instructions, examples as earlier turns, then the request's own messages.
///
/// Tools are left to whoever sends it: see [`in_words`] for models that know none.
pub fn messages(request: &SampleRequest) -> Vec<Message> {
    let shape = shape_instructions(&request.shape).map(|shape| match request.callable() {
        [] => shape,
        _ => format!("When you call no tool: {shape}"),
    });
    conversation(request, shape)
}

/// The same for a model that knows no tools: they are explained in the instructions, as JSON that
/// [`SampleRequest::read`] finds again; calls and their results are turns of text.
pub fn in_words(request: &SampleRequest) -> Vec<Message> {
    let shape = shape_instructions(&request.shape);
    let instructions = match request.callable() {
        [] => shape,
        _ => Some(tool_instructions(request, shape.as_deref())),
    };
    let mut messages: Vec<Message> = conversation(request, instructions).into_iter().map(worded).collect();
    if let (Some(question), Some(last)) = (asked_before(request), messages.last_mut()) {
        last.text = format!("{}\n\nNow you know more. Answer, if you can: {question}", last.text);
    }
    messages
}

/// What the results of calls, told last, are to help with. A small model that is told a result alone goes on about the result.
fn asked_before(request: &SampleRequest) -> Option<&str> {
    let (last, before) = request.messages.split_last()?;
    let told = !last.results.is_empty() && last.text.is_empty();
    let question = before.iter().rfind(|message| message.role == Role::User && !message.text.is_empty())?;
    (told && question.text.len() <= SAID_TWICE).then_some(&*question.text)
}

/// Two more turns: what the model said, and what is wrong with it.
pub fn repair(said: &str, why: &str) -> [Message; 2] {
    [
        Message::new(Role::Assistant, said),
        Message::new(Role::User, format!("That answer {why}. Answer again, with the JSON only.")),
    ]
}

/// Two more turns: what the model called, and why that can't be done.
pub fn repair_calls(said: &str, calls: &[ToolCall], why: &str) -> [Message; 2] {
    let refused = calls.iter().map(|call| ToolResult {
        id: call.id.clone(),
        name: call.name.clone(),
        text: format!("Nothing was called: that answer {why}. Call again."),
        is_error: true,
    });
    [Message::calls(said, calls.to_vec()), Message::results(refused.collect())]
}

/// A turn with its calls and results as text.
pub fn worded(message: Message) -> Message {
    let said = (!message.text.is_empty()).then_some(message.text);
    let calls = message.calls.iter().map(spelled);
    let results = message.results.iter().map(|result| {
        let came = if result.is_error { "failed" } else { "answered" };
        format!("The tool `{}` {came}:\n{}", result.name, result.text)
    });
    let text: Vec<String> = results.chain(said).chain(calls).collect();
    Message::new(message.role, text.join("\n"))
}

fn conversation(request: &SampleRequest, instructions: Option<String>) -> Vec<Message> {
    let system = [request.system.clone(), instructions.clone()].into_iter().flatten().collect::<Vec<_>>().join("\n\n");
    let system = (!system.is_empty()).then(|| Message::new(Role::System, system));
    let examples = request.examples.iter().flat_map(|example| {
        [Message::new(Role::User, &*example.input), Message::new(Role::Assistant, request.shape.reply(&example.output))]
    });
    let mut messages: Vec<Message> =
        system.into_iter().chain(examples).chain(request.messages.iter().cloned()).collect();
    if let (Shape::Choose(_), []) = (&request.shape, request.callable())
        && let Some(labels) = instructions.filter(|labels| labels.len() <= SAID_TWICE)
        && let Some(asked) = messages.last_mut()
    {
        asked.text = format!("{}\n\n{labels}", asked.text);
    }
    messages
}

fn tool_instructions(request: &SampleRequest, shape: Option<&str>) -> String {
    let tools: String = request
        .callable()
        .iter()
        .map(|tool| {
            let description = tool.description.as_deref().unwrap_or("(no description)");
            format!("- {}: {description}\n  Schema of its arguments: {}\n", tool.name, tool.input_schema)
        })
        .collect();
    let call = r#"{"tool": "<name>", "arguments": {…}}"#;
    let or = format!(
        "Answer with JSON only: {call} to call one of them, whose result you are told next; or, when none of them helps"
    );
    let when = match (request.tool_choice, shape) {
        (ToolChoice::Required, _) => format!("Call the one that fits best: answer with JSON only, as {call}"),
        (_, None) => format!(r#"{or} any more, {{"answer": "<what you say>"}}."#),
        (_, Some(shape)) => format!("{or} any more: {shape}"),
    };
    format!("You can call these tools:\n{tools}{when}")
}

fn shape_instructions(shape: &Shape) -> Option<String> {
    match shape {
        Shape::Text => None,
        Shape::Choose(labels) => {
            let meanings: String = labels
                .iter()
                .map(|(label, meaning)| match meaning.as_str() {
                    "" => format!("- {label}\n"),
                    meaning => format!("- {label}: {meaning}\n"),
                })
                .collect();
            Some(format!(
                "Choose the one label that fits best:\n{meanings}Answer with JSON only, as {}",
                r#"{"choice": "<label>"}"#
            ))
        }
        Shape::Schema { schema, .. } => {
            Some(format!("Answer with JSON only, conforming to this JSON Schema:\n{schema}"))
        }
    }
}
