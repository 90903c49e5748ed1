//! Whatever a file says, checking it ends, and never panics.

use crate::common;
use antiphon_kernel::{Graph, Step, Verb};
use proptest::prelude::*;

/// Pieces of workflow files, good and bad, to be put together at random.
const PIECES: &[&str] = &[
    "[steps.a]\n",
    "[steps.b]\n",
    "[steps.a.do.b]\n",
    "[steps.a.with]\n",
    "[input]\n",
    "[output]\n",
    "[servers.s]\n",
    "[models.m]\n",
    "call = \"s.t\"\n",
    "call = \"{{ steps.b.output }}\"\n",
    "sample = [\"m\", \"caller\"]\n",
    "prompt = \"{{ steps.b.text }}\"\n",
    "prompt = { file = \"x\" }\n",
    "elicit = \"?\"\n",
    "fields.x = { type = \"string\" }\n",
    "read = \"s\"\n",
    "uri = \"{{ item }}\"\n",
    "set = \"{{ steps.a.output | default(previous) }}\"\n",
    "set = [1, \"{% if x %}\", nan, 2026-07-28]\n",
    "wait = \"2s\"\n",
    "wait.until = \"input.x\"\n",
    "when = \"steps.b.status == 'failed'\"\n",
    "needs = [\"a\", \"b\"]\n",
    "for_each = [1, \"{{ item }}\"]\n",
    "for_each = \"steps.b.output\"\n",
    "as = \"index\"\n",
    "repeat = { max = 2, until = \"output\" }\n",
    "retry = { attempts = 2, on = [\"tool\"] }\n",
    "expect = \"output.x\"\n",
    "on_error = { fallback = \"{{ steps.a.error }}\" }\n",
    "undo = { call = \"s.u\", with.x = \"{{ output }}\" }\n",
    "schema.x = { type = \"intger\", default = 3 }\n",
    "choose.b = \"c\"\n",
    "with.when = 1\n",
    "with = {\n a = 1,\n}\n",
    "command = \"${X\"\n",
    "url = \"é${Y:-z}\"\n",
    "token = \"sé",
    "\"\"\"",
    "'''",
    "{# é",
    "\r\n",
    "\u{feff}",
    "name = \"é\"\n",
    "a.b.c = 1\n",
    "[[steps]]\n",
    "= ",
    "\0",
];

/// How many steps there are, also inside blocks.
fn steps(graph: &Graph) -> usize {
    let inner = |step: &Step| match &step.verb {
        Verb::Do { body } => steps(body),
        _ => 0,
    };
    graph.steps.iter().map(|step| 1 + inner(step)).sum()
}

/// Tables inside tables, by every means that TOML has.
#[test]
fn deep_nesting() {
    let key = vec!["a"; 79].join(".");
    let deep = format!("[{key}]\nsteps.a.set = {}1{}\n", format!("{{ {key} = ").repeat(70), " }".repeat(70));
    assert_eq!(common::codes(&common::load_text(&deep)), ["AP0102"]);
    let list = format!("[steps.a]\nset = {}{}\n", "[".repeat(5_000), "]".repeat(5_000));
    assert_eq!(common::codes(&common::load_text(&list)), ["AP0102"]);
    let template = format!("[steps.a]\nset = \"{{{{ {}1{} }}}}\"\n", "(".repeat(5_000), ")".repeat(5_000));
    assert_eq!(common::codes(&common::load_text(&template)), ["AP0207"]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_pieces(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..24)) {
        let checked = common::load_text(&pieces.concat());
        common::report(&checked);
        for workflow in checked.project.workflows.values() {
            // Nothing gets lost on the way, unless it is said.
            prop_assert_eq!(steps(&workflow.plan.workflows[&workflow.name].body), workflow.graph.graph.node_count());
            antiphon_workflow::mermaid(workflow);
            antiphon_workflow::dot(workflow);
        }
    }

    #[test]
    fn any_text(text in "\\PC*") {
        common::report(&common::load_text(&text));
    }

    #[test]
    fn any_template(text in "[a-z{}%#|. ()'\\[\\]é]{0,40}") {
        let text = text.replace('\'', "’");
        common::report(&common::load_text(&format!("[steps.a]\nset = '{text}'\nwhen = '{text}'\ncall = '{{{{ {text} }}}}'\n")));
        common::report(&common::load_text(&format!("[steps.a]\nset = '{text}'\nwhen = '{text}'\n")));
    }

    /// A good file with a piece cut out of it.
    #[test]
    fn any_cut(start in 0_usize..3_000, length in 0_usize..40) {
        let text = include_str!("../good/triage.toml");
        let start = start.min(text.len());
        let end = (start + length).min(text.len());
        common::report(&common::load_text(&[&text[..start], &text[end..]].concat()));
    }
}
