//! Many tools by two of our own: `find_tools` shows those that fit some words, `call_tool` calls one. What is called is the tool
//! itself: its answers, errors, questions and progress are as without this.

use rmcp::model::{CallToolRequestParams, CallToolResult, ContentBlock, JsonObject, Tool, ToolAnnotations};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Pass, rank};
use crate::{outcome, schema};

const FIND: &str = "find_tools";
const CALL: &str = "call_tool";

/// So many tools are shown, unless it is said how many, and at most.
const SHOWN: usize = 5;
const MOST: usize = 20;

/// So many names are shown to who asks for nothing in particular.
const NAMES: usize = 500;

/// What a call means where tools may be offered by the two.
pub(crate) enum Compacted {
    /// What it says: it is of neither.
    Itself(CallToolRequestParams),
    /// `find_tools`.
    Find(JsonObject),
    /// The call that `call_tool` stands for.
    Call(CallToolRequestParams),
    /// It can't be made out; what a model reads of it.
    Wrong(CallToolResult),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FindArgs {
    #[serde(default)]
    query: String,
    limit: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CallArgs {
    name: String,
    #[serde(default)]
    arguments: Value,
}

/// Whether this is the name of one of the two.
pub(super) fn is_one(name: &str) -> bool {
    [FIND, CALL].contains(&name)
}

/// What a call means.
pub(crate) fn compacted(mut params: CallToolRequestParams) -> Compacted {
    let arguments = match &*params.name {
        FIND => return Compacted::Find(params.arguments.unwrap_or_default()),
        CALL => params.arguments.take().unwrap_or_default(),
        _ => return Compacted::Itself(params),
    };
    let wrong = |why: &str| Compacted::Wrong(outcome::failure(format!("{why}; `{FIND}` shows what a tool takes")));
    let args: CallArgs = match serde_json::from_value(Value::Object(arguments)) {
        Ok(args) => args,
        Err(error) => return wrong(&format!("the arguments do not fit `{CALL}`: {error}")),
    };
    let arguments = match args.arguments {
        Value::Null => None,
        Value::Object(arguments) => Some(arguments),
        // Some models write JSON within JSON.
        Value::String(text) => match serde_json::from_str(&text) {
            Ok(arguments) => Some(arguments),
            Err(_) => return wrong("`arguments` must be an object"),
        },
        _ => return wrong("`arguments` must be an object"),
    };
    params.name = args.name.into();
    params.arguments = arguments;
    Compacted::Call(params)
}

/// What a model reads when it calls a tool that is not there.
pub(crate) fn unknown(name: &str) -> CallToolResult {
    outcome::failure(format!("no tool `{name}`; `{FIND}` finds tools, and shows their whole names"))
}

impl Pass {
    /// Whether tools may be offered by the two.
    pub(crate) fn may_compact(&self) -> bool {
        self.compact_above.is_some()
    }

    /// The tools as callers are to see them: as they are, or, if there are too many, the two in their place.
    pub(crate) fn compact(&self, tools: Vec<Tool>) -> Vec<Tool> {
        match self.compact_above {
            Some(most) if tools.len() > most => self.two(&tools),
            _ => tools,
        }
    }

    fn two(&self, tools: &[Tool]) -> Vec<Tool> {
        let servers: Vec<String> = self.exposures.iter().map(|exposure| format!("`{}`", exposure.server)).collect();
        let find = Tool::new(
            FIND,
            format!(
                "Finds tools by what they do, and shows how to call them. There are {} of: {}. Without a `query` it shows their names.",
                tools.len(),
                servers.join(", ")
            ),
            object(json!({
                "type": "object",
                "properties": {
                    "query": { "type": "string", "description": "A few words on what the tool should do, or its name" },
                    "limit": { "type": "integer", "minimum": 1, "maximum": MOST, "default": SHOWN },
                },
                "additionalProperties": false,
            })),
        )
        .with_annotations(ToolAnnotations::new().read_only(true).open_world(false));
        // As careful as the least harmless of them wants.
        let all = |is: fn(&ToolAnnotations) -> Option<bool>| {
            tools.iter().all(|tool| tool.annotations.as_ref().and_then(is) == Some(true))
        };
        let no = |is: fn(&ToolAnnotations) -> Option<bool>| {
            tools.iter().all(|tool| tool.annotations.as_ref().and_then(is) == Some(false))
        };
        let read_only = all(|hints| hints.read_only_hint);
        let annotations = ToolAnnotations::new()
            .read_only(read_only)
            .destructive(!read_only && !no(|hints| hints.destructive_hint))
            .idempotent(read_only || all(|hints| hints.idempotent_hint))
            .open_world(!no(|hints| hints.open_world_hint));
        let call = Tool::new(
            CALL,
            format!(
                "Calls a tool that `{FIND}` has shown, by its whole name, with arguments that fit its `inputSchema`."
            ),
            object(json!({
                "type": "object",
                "properties": {
                    "name": { "type": "string" },
                    "arguments": { "type": "object", "additionalProperties": true },
                },
                "required": ["name"],
                "additionalProperties": false,
            })),
        )
        .with_annotations(annotations);
        vec![find, call]
    }
}

/// `find_tools` among these. Only text: structured content would say it all twice to those who show both.
pub(crate) fn find(tools: &[Tool], arguments: JsonObject) -> CallToolResult {
    let args: FindArgs = match serde_json::from_value(Value::Object(arguments)) {
        Ok(args) => args,
        Err(error) => return outcome::failure(format!("the arguments do not fit `{FIND}`: {error}")),
    };
    let shown = if args.query.trim().is_empty() {
        let names: Vec<&str> = tools.iter().take(NAMES).map(|tool| &*tool.name).collect();
        json!({ "names": names, "more": tools.len() - names.len() })
    } else {
        let found = rank::best(tools, &args.query, args.limit.unwrap_or(SHOWN).clamp(1, MOST));
        if found.is_empty() {
            return outcome::failure(format!("no tool fits `{}`; without a `query` all names are shown", args.query));
        }
        json!({ "tools": found.into_iter().map(shown).collect::<Vec<_>>() })
    };
    CallToolResult::success(vec![ContentBlock::text(shown.to_string())])
}

/// What it takes to choose a tool and to call it.
fn shown(tool: &Tool) -> Value {
    let mut shown = Map::new();
    shown.insert("name".to_owned(), json!(tool.name));
    if let Some(description) = &tool.description {
        shown.insert("description".to_owned(), json!(description));
    }
    shown.insert("inputSchema".to_owned(), json!(tool.input_schema));
    if let Some(annotations) = &tool.annotations {
        shown.insert("annotations".to_owned(), json!(annotations));
    }
    Value::Object(shown)
}

fn object(value: Value) -> JsonObject {
    schema::object(&value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used)]

    use super::*;

    fn call(arguments: Value) -> Option<CallToolRequestParams> {
        match compacted(CallToolRequestParams::new(CALL).with_arguments(object(arguments))) {
            Compacted::Call(params) => Some(params),
            Compacted::Wrong(result) => {
                assert_eq!(result.is_error, Some(true));
                None
            }
            _ => panic!("it is a call"),
        }
    }

    #[test]
    fn a_call_is_the_tools_own() {
        let meant = call(json!({ "name": "files__read", "arguments": { "path": "x" } })).unwrap();
        assert_eq!((&*meant.name, meant.arguments.unwrap()), ("files__read", object(json!({ "path": "x" }))));
        assert_eq!(call(json!({ "name": "a" })).unwrap().arguments, None);
        let within = call(json!({ "name": "a", "arguments": "{\"path\":\"x\"}" })).unwrap();
        assert_eq!(within.arguments.unwrap(), object(json!({ "path": "x" })));
        for wrong in [
            json!({}),
            json!({ "name": 1 }),
            json!({ "name": "a", "arguments": [] }),
            json!({ "name": "a", "args": {} }),
        ] {
            assert!(call(wrong).is_none());
        }
        assert!(matches!(compacted(CallToolRequestParams::new("other")), Compacted::Itself(_)));
    }
}
