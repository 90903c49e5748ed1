//! Tools that do nothing, as many as are wanted: named and described as those of a big company's systems are.

use rmcp::model::{Tool, ToolAnnotations};
use rmcp::object;

const SYSTEMS: [&str; 20] = [
    "billing",
    "calendar",
    "crm",
    "deploy",
    "docs",
    "email",
    "fleet",
    "helpdesk",
    "hr",
    "inventory",
    "issues",
    "legal",
    "metrics",
    "orders",
    "payroll",
    "repos",
    "search",
    "storage",
    "travel",
    "wiki",
];

const NOUNS: [&str; 25] = [
    "account",
    "alert",
    "approval",
    "attachment",
    "branch",
    "budget",
    "comment",
    "contact",
    "contract",
    "document",
    "event",
    "invoice",
    "label",
    "member",
    "message",
    "note",
    "permission",
    "project",
    "report",
    "schedule",
    "shipment",
    "task",
    "template",
    "ticket",
    "webhook",
];

const VERBS: [(&str, &str, bool); 10] = [
    ("get", "Returns one", true),
    ("list", "Lists all, newest first, by pages:", true),
    ("search", "Finds by words, an owner or a date any", true),
    ("create", "Creates a new", false),
    ("update", "Changes some fields of an existing", false),
    ("delete", "Removes for good a", false),
    ("archive", "Moves out of sight, where it can be brought back from, a", false),
    ("export", "Writes to a file, as CSV or JSON, each", true),
    ("assign", "Gives somebody else the responsibility for a", false),
    ("watch", "Subscribes to changes of a", false),
];

/// So many of them, in a fixed order.
pub fn tools(count: usize) -> impl Iterator<Item = Tool> {
    let all = SYSTEMS.into_iter().flat_map(|system| {
        NOUNS.into_iter().flat_map(move |noun| VERBS.into_iter().map(move |verb| tool(system, noun, verb)))
    });
    all.take(count)
}

fn tool(system: &str, noun: &str, (verb, does, reads): (&str, &str, bool)) -> Tool {
    let schema = object!({
        "type": "object",
        "properties": {
            format!("{noun}_id"): { "type": "string", "description": format!("The id of the {noun}, as `{system}_list_{noun}` gives it") },
            "fields": { "type": "array", "items": { "type": "string" }, "description": "Which fields are wanted; all, without it" },
            "dry_run": { "type": "boolean", "default": false, "description": "Only say what would be done" },
        },
        "required": [format!("{noun}_id")],
    });
    let about = format!("{does} {noun} in the {system} system, as far as the caller's role allows it.");
    Tool::new(format!("{system}_{verb}_{noun}"), about, schema)
        .with_annotations(ToolAnnotations::new().read_only(reads))
}
