//! How the model is asked, and how its answer is read: also when there are tools.
//!
//! Models of this size call tools badly in the way that their templates teach, and well when they are asked for JSON
//! (README): so tools are told in the instructions, and every reply is `{"tool": …, "arguments": …}` or `{"answer": …}`.

use antiphon_models::{Message, Role, SampleRequest, Shape, ToolCall, ToolChoice, ToolResult, ToolSpec, prompt};
use serde_json::{Map, Value, json};

use crate::grammar::Grammar;
use crate::template::Turn;

/// The answer's key beside tools.
const ANSWER: &str = "answer";

/// What a model's words come to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reading {
    /// The answer: in its shape, and as text.
    Output(Value, String),
    /// It wants a tool called.
    Call(ToolCall),
}

/// The conversation as the model is to read it.
pub(crate) fn turns(request: &SampleRequest) -> Vec<Turn> {
    let tools = request.callable();
    let messages = if tools.is_empty() {
        prompt::messages(request)
    } else {
        let examples = request.examples.iter().flat_map(|example| {
            [Message::new(Role::User, &*example.input), Message::new(Role::Assistant, answer(&example.output))]
        });
        let system = [request.system.clone(), Some(instructions(request))].into_iter().flatten().collect::<Vec<_>>();
        let system = Message::new(Role::System, system.join("\n\n"));
        std::iter::once(system).chain(examples).chain(request.messages.iter().cloned()).collect()
    };
    let mut turns: Vec<Turn> = Vec::with_capacity(messages.len());
    for message in &messages {
        let turn = turn(message, !tools.is_empty());
        match turns.last_mut() {
            // Templates want the roles in turn.
            Some(last) if last.role == turn.role => last.content = format!("{}\n\n{}", last.content, turn.content),
            _ => turns.push(turn),
        }
    }
    turns
}

/// What the model's words must look like; nothing when they are free.
pub(crate) fn grammar(request: &SampleRequest) -> Option<Grammar> {
    let tools = request.callable();
    if tools.is_empty() {
        return request.shape.reply_schema().map(Grammar::Json);
    }
    let mut arms: Vec<_> = tools
        .iter()
        .map(|tool| {
            (format!(r#"{{"tool": {}, "arguments": "#, json!(tool.name)), tool.input_schema.clone(), "}".to_owned())
        })
        .collect();
    if request.tool_choice == ToolChoice::Auto {
        arms.push((format!(r#"{{"{ANSWER}": "#), answer_schema(&request.shape), "}".to_owned()));
    }
    Some(Grammar::Either(arms))
}

/// Reads what the model said.
///
/// # Errors
/// What is wrong with it, as the end of a sentence that begins with the answer.
pub(crate) fn read(request: &SampleRequest, said: &str) -> Result<Reading, String> {
    let tools = request.callable();
    if tools.is_empty() {
        return request.shape.read(said).map(|output| Reading::Output(output, said.to_owned()));
    }
    let reply = match envelope(tools, request.tool_choice)?.read(said) {
        Ok(reply) => reply,
        // Somebody who answers in plain words has answered.
        Err(_) if request.tool_choice == ToolChoice::Auto && !said.trim_start().starts_with(['{', '`']) => {
            return request.shape.read(said).map(|output| Reading::Output(output, said.to_owned()));
        }
        Err(why) => return Err(why),
    };
    if let Some(output) = reply.get(ANSWER) {
        request.shape.check(output)?;
        let text = output.as_str().map_or_else(|| output.to_string(), str::to_owned);
        return Ok(Reading::Output(output.clone(), text));
    }
    let tool = tools.iter().find(|tool| reply["tool"] == *tool.name).ok_or("names no tool that there is")?;
    let arguments = reply["arguments"].as_object().cloned().unwrap_or_default();
    check(tool, &arguments)?;
    let made: usize = request.messages.iter().map(|message| message.calls.len()).sum();
    Ok(Reading::Call(ToolCall { id: format!("call_{}", made + 1), name: tool.name.clone(), arguments }))
}

/// What the tools are, and how to reply.
fn instructions(request: &SampleRequest) -> String {
    let tools: String = request.callable().iter().map(described).collect();
    let call = r#"{"tool": "<name>", "arguments": {…}}"#;
    let answers = match &request.shape {
        Shape::Text => r#"{"answer": "<text>"}"#.to_owned(),
        Shape::Choose(labels) => {
            let meanings: String = labels.iter().map(|(label, meaning)| format!("\n- {label}: {meaning}")).collect();
            format!("{{\"answer\": \"<label>\"}}, with the one label that fits best:{meanings}")
        }
        Shape::Schema { schema, .. } => {
            format!("{{\"answer\": {{…}}}}, where the answer conforms to this JSON Schema: {schema}")
        }
    };
    let reply = match request.tool_choice {
        ToolChoice::Required => format!("Reply with JSON only, and call one of them: {call}"),
        _ => format!(
            "Reply with JSON only. To call one of them: {call}\nWhen none of them helps, or you know enough, answer: {answers}"
        ),
    };
    format!("These are your tools:\n{tools}\n{reply}")
}

fn described(tool: &ToolSpec) -> String {
    let about = tool.description.as_deref().unwrap_or_default();
    let about = if about.is_empty() { String::new() } else { format!(": {about}") };
    format!("- {}{about}\n  arguments: {}\n", tool.name, tool.input_schema)
}

fn turn(message: &Message, with_tools: bool) -> Turn {
    let role = match message.role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    let calls = message.calls.iter().map(|call| json!({ "tool": call.name, "arguments": call.arguments }).to_string());
    let results = message.results.iter().map(told);
    // What it said before is in the form in which it is to speak.
    let plain = with_tools && message.role == Role::Assistant && message.calls.is_empty();
    let said = if plain { answer(&Value::from(message.text.as_str())) } else { message.text.clone() };
    let said = (!said.is_empty()).then_some(said);
    Turn::new(role, results.chain(said).chain(calls).collect::<Vec<_>>().join("\n"))
}

fn told(result: &ToolResult) -> String {
    let ToolResult { name, text, .. } = result;
    if result.is_error { format!("{name} failed: {text}") } else { format!("{name} returned: {text}") }
}

fn answer(output: &Value) -> String {
    json!({ ANSWER: output }).to_string()
}

fn answer_schema(shape: &Shape) -> Value {
    match shape {
        Shape::Text => json!({ "type": "string" }),
        Shape::Choose(labels) => json!({ "enum": labels.keys().collect::<Vec<_>>() }),
        Shape::Schema { schema, .. } => schema.clone(),
    }
}

/// The shape of every reply when there are tools.
fn envelope(tools: &[ToolSpec], choice: ToolChoice) -> Result<Shape, String> {
    let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
    let call = json!({
        "type": "object",
        "properties": { "tool": { "enum": names }, "arguments": { "type": "object" } },
        "required": ["tool"],
    });
    let answer = json!({ "type": "object", "required": [ANSWER] });
    let arms = if choice == ToolChoice::Auto { vec![call, answer] } else { vec![call] };
    Shape::schema(json!({ "anyOf": arms })).map_err(|error| error.message)
}

/// Whether these are arguments of that tool.
fn check(tool: &ToolSpec, arguments: &Map<String, Value>) -> Result<(), String> {
    // A schema that is none forbids nothing: the tool's server will say what it wants.
    let Ok(schema) = Shape::schema(tool.input_schema.clone()) else { return Ok(()) };
    schema
        .check(&Value::Object(arguments.clone()))
        .map_err(|why| format!("has arguments for {} of which one {why}", tool.name))
}
