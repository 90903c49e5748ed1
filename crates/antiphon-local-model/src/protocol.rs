//! How the model is asked: all in words, tools included, with a grammar for what is not free.

use antiphon_models::{Message, Role, SampleRequest, Shape, ToolChoice, prompt};
use serde_json::json;

use crate::grammar::{Arm, Grammar};
use crate::template::Turn;

/// The conversation as the model is to read it.
pub(crate) fn turns(request: &SampleRequest) -> Vec<Turn> {
    let mut turns: Vec<Turn> = Vec::new();
    for message in prompt::in_words(request) {
        add(&mut turns, message);
    }
    turns
}

/// One more turn; with what the same side has just said, since templates want the sides in turn.
pub(crate) fn add(turns: &mut Vec<Turn>, message: Message) {
    let role = match message.role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    match turns.last_mut() {
        Some(last) if last.role == role => last.content = format!("{}\n\n{}", last.content, message.text),
        _ => turns.push(Turn::new(role, message.text)),
    }
}

/// What the model's words must look like; nothing when they are free.
///
/// A small model that has called the same again may do so for ever: its next turn is an answer. The tools stay in the prompt,
/// whose beginning is known that way.
pub(crate) fn grammar(request: &SampleRequest) -> Option<Grammar> {
    let must_answer = request.tool_choice == ToolChoice::Auto && request.goes_round();
    let callable = if must_answer { &[] } else { request.callable() };
    let calls = callable.iter().map(|tool| Arm {
        before: format!(r#"{{"tool": {}, "arguments": "#, json!(tool.name)),
        schema: tool.input_schema.clone(),
        after: "}",
    });
    let answer = request.answer_schema().map(|schema| Arm { before: String::new(), schema, after: "" });
    let arms: Vec<Arm> = calls.chain(answer).collect();
    (!arms.is_empty()).then_some(Grammar(arms))
}

/// Whether words are free, so that they may be chosen freely.
pub(crate) fn is_free(request: &SampleRequest) -> bool {
    request.callable().is_empty() && matches!(request.shape, Shape::Text)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used)]

    use antiphon_models::{ToolCall, ToolResult, ToolSpec};
    use serde_json::Map;

    use super::*;

    fn add_tool() -> ToolSpec {
        let input_schema = json!({ "type": "object", "properties": { "a": { "type": "integer" } } });
        ToolSpec { name: "add".to_owned(), description: Some("Adds".to_owned()), input_schema }
    }

    fn conversation() -> SampleRequest {
        let call = |id: &str| ToolCall { id: id.to_owned(), name: "add".to_owned(), arguments: Map::new() };
        let result = |id: &str, text: &str| ToolResult {
            id: id.to_owned(),
            name: "add".to_owned(),
            text: text.to_owned(),
            is_error: false,
        };
        let turns = vec![
            Message::new(Role::User, "What is 1 + 1?"),
            Message::calls("", vec![call("call_1"), call("call_2")]),
            Message::results(vec![result("call_1", "2"), result("call_2", "2")]),
            Message::new(Role::User, "And in words?"),
        ];
        SampleRequest {
            system: Some("Be brief.".to_owned()),
            tools: vec![add_tool()],
            ..SampleRequest::conversation(turns)
        }
    }

    #[test]
    fn the_sides_take_turns() {
        let turns = turns(&conversation());
        assert_eq!(turns.iter().map(|turn| turn.role).collect::<Vec<_>>(), ["system", "user", "assistant", "user"]);
        assert!(turns[0].content.starts_with("Be brief.") && turns[0].content.contains("- add: Adds"));
        assert!(turns[3].content.contains('2') && turns[3].content.ends_with("And in words?"));
    }

    #[test]
    fn a_request_for_text_is_free_and_one_with_tools_has_an_arm_for_the_answer() {
        assert_eq!(grammar(&SampleRequest::text("Hi")), None);
        let mut request = conversation();
        let arms = |request: &SampleRequest| grammar(request).unwrap().0;
        let both = arms(&request);
        let [call, answer] = &both[..] else { panic!("one tool, one answer") };
        assert!(call.before.contains("add") && answer.schema["properties"].get("answer").is_some());
        request.tool_choice = ToolChoice::Required;
        assert_eq!(arms(&request)[..], both[..1]);
        request.tool_choice = ToolChoice::None;
        assert_eq!(grammar(&request), None);
        request.shape = Shape::schema(json!({ "type": "object" })).unwrap();
        assert!(matches!(&arms(&request)[..], [Arm { before, .. }] if before.is_empty()));
    }

    #[test]
    fn who_calls_the_same_again_must_answer_next() {
        let call = |text: &str| {
            let arguments = json!({ "a": text }).as_object().unwrap().clone();
            Message::calls("", vec![ToolCall { id: text.to_owned(), name: "add".to_owned(), arguments }])
        };
        let told = || Message::results(vec![ToolResult { name: "add".to_owned(), ..ToolResult::default() }]);
        let arms = |turns: &[Message]| {
            let mut request = conversation();
            request.messages = vec![Message::new(Role::User, "What is 1 + 1?")];
            request.messages.extend(turns.iter().flat_map(|turn| [turn.clone(), told()]));
            grammar(&request).unwrap().0.len()
        };
        assert_eq!(arms(&[call("1")]), 2);
        assert_eq!(arms(&[call("1"), call("2")]), 2);
        assert_eq!(arms(&[call("1"), call("2"), call("1")]), 1);
        assert_eq!(arms(&[call("1"), call("1"), call("2")]), 2);
    }
}
