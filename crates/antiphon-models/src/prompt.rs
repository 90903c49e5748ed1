//! How a request is put to a model.
//!
//! What helps small models to choose are the labels' meanings and a few examples; constraining the answer guarantees its
//! shape, not its sense (figures in this crate's README).

use crate::reply::spelled;
use crate::{Message, Role, SampleRequest, Shape, ToolCall, ToolChoice, ToolResult};

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
    conversation(request, instructions).into_iter().map(worded).collect()
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
    let system = [request.system.clone(), instructions].into_iter().flatten().collect::<Vec<_>>().join("\n\n");
    let system = (!system.is_empty()).then(|| Message::new(Role::System, system));
    let examples = request.examples.iter().flat_map(|example| {
        [Message::new(Role::User, &*example.input), Message::new(Role::Assistant, request.shape.reply(&example.output))]
    });
    system.into_iter().chain(examples).chain(request.messages.iter().cloned()).collect()
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
    let call = r#"answer with JSON only, as {"tool": "<name>", "arguments": {…}}"#;
    let when = match (request.tool_choice, shape) {
        (ToolChoice::Required, _) => format!("Call the one that fits best: {call}"),
        (_, None) => format!("To call one, {call}; you are told its result next. When you need none, answer in words."),
        (_, Some(shape)) => format!("To call one, {call}; you are told its result next. When you need none: {shape}"),
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
