//! How a request is put to a model.
//!
//! What helps small models to choose are the labels' meanings and a few examples; constraining the answer guarantees its
//! shape, not its sense (figures in this crate's README).

use crate::{Message, Role, SampleRequest, Shape};

/// The conversation that asks for an answer: instructions, examples as earlier turns, then the request's own messages.
pub fn messages(request: &SampleRequest) -> Vec<Message> {
    let instructions = [request.system.clone(), shape_instructions(&request.shape)];
    let system = instructions.into_iter().flatten().collect::<Vec<_>>().join("\n\n");
    let system = (!system.is_empty()).then(|| Message::new(Role::System, system));
    let examples = request.examples.iter().flat_map(|example| {
        [Message::new(Role::User, &*example.input), Message::new(Role::Assistant, request.shape.reply(&example.output))]
    });
    system.into_iter().chain(examples).chain(request.messages.iter().cloned()).collect()
}

/// Two more turns: what the model said, and what is wrong with it.
pub fn repair(said: &str, why: &str) -> [Message; 2] {
    [
        Message::new(Role::Assistant, said),
        Message::new(Role::User, format!("That answer {why}. Answer again, with the JSON only.")),
    ]
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
