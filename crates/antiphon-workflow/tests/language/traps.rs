//! TOML's own traps, and MiniJinja's: each is caught, and its innocent neighbour is left alone.

use crate::common;

const HEAD: &str = "[servers.ci]\nurl = \"http://127.0.0.1:1/mcp\"\n[steps.build]\ncall = \"ci.build\"\n";

/// The codes of a file that begins with a call.
fn said(rest: &str) -> Vec<&'static str> {
    common::codes(&common::load_text(&format!("{HEAD}{rest}")))
}

const NOTHING: [&str; 0] = [];

#[test]
fn a_step_key_after_a_child_table() {
    assert_eq!(said("[steps.build.repeat]\nmax = 2\nuntil = \"output\"\ntimeout = \"2s\"\n"), ["AP0501"]);
    assert_eq!(said("timeout = \"2s\"\n[steps.build.repeat]\nmax = 2\nuntil = \"output\"\n"), NOTHING);
    assert_eq!(said("[input]\nname = \"x\"\n"), ["AP0501"]);
    assert_eq!(said("[input]\nname = { type = \"string\" }\n"), NOTHING);
}

#[test]
fn a_modifier_among_the_arguments() {
    assert_eq!(said("[steps.build.with]\ntimeout = \"2s\"\n"), ["AP0502"]);
    assert_eq!(said("with.retry = 3\n"), ["AP0502"]);
    assert_eq!(said("with.\"retry\" = 3\n"), NOTHING);
}

#[test]
fn a_block_without_a_header() {
    assert_eq!(said("[steps.block.do.inner]\nset = 1\n"), ["AP0503"]);
    assert_eq!(said("[steps.block]\n[steps.block.do.inner]\nset = 1\n"), NOTHING);
    assert_eq!(said("[steps.block.do.inner]\nset = 1\n[steps.block]\nwhen = true\n"), NOTHING);
}

#[test]
fn both_spellings_of_one_table() {
    assert_eq!(said("with.a = 1\n[steps.build.with]\nb = 2\n"), ["AP0504"]);
    assert_eq!(said("with = { a = 1 }\n[steps.build.with]\nb = 2\n"), ["AP0504"]);
    assert_eq!(said("with.a = 1\nwith.b = 2\n"), NOTHING);
}

#[test]
fn toml_1_1_in_inline_tables() {
    assert_eq!(said("with = { a = 1,\n b = 2 }\n"), ["AP0505"]);
    assert_eq!(said("with = { a = 1, }\n"), ["AP0505"]);
    assert_eq!(said("with = { a = [\n1,\n], b = \"\"\"\nx,\n\"\"\" }\n"), NOTHING);
    assert_eq!(said("with = { a.b.c = \"x,\" }\n"), NOTHING);
}

#[test]
fn dates_and_nan() {
    assert_eq!(said("with.at = 2026-07-28\n"), ["AP0506"]);
    assert_eq!(said("with.at = [nan]\n"), ["AP0506"]);
    assert_eq!(said("timeout = inf\n"), ["AP0506"]);
    assert_eq!(said("with.at = \"2026-07-28\"\n"), NOTHING);
}

#[test]
fn braces_in_prose() {
    let sample = |text: &str| said(&format!("[steps.ask]\nsample = \"caller\"\nprompt = '''{text}'''\n"));
    assert_eq!(sample("100{% off %}"), ["AP0507"]);
    assert_eq!(sample("a heading {#intro}"), ["AP0507"]);
    assert_eq!(sample("{% raw %}100{% off %} {#intro}{% endraw %}"), NOTHING);
    assert_eq!(sample("{# a comment #}{% if run.key %}yes{% endif %}"), NOTHING);
    // A real statement with an error in it is not prose.
    assert_eq!(sample("{% if run.key %}yes"), ["AP0207"]);
}

#[test]
fn braces_in_an_expression() {
    assert_eq!(said("when = \"{{ run.key == 'x' }}\"\n"), ["AP0508"]);
    assert_eq!(said("when = \"run.key == 'x'\"\n"), NOTHING);
}

#[test]
fn steps_are_named_literally() {
    let set = |text: &str| said(&format!("[steps.last]\nset = '{{{{ {text} }}}}'\n"));
    assert_eq!(set("steps"), ["AP0207"]);
    assert_eq!(set("steps[run.key].output"), ["AP0207"]);
    assert_eq!(set("steps[\"build\"].output"), NOTHING);
}
