//! What a source refers to, and what is refused.

use antiphon_kernel::expr::{Kind, Mode, Reference, Root, analyze};

use crate::support::{expression, template};

/// `ROOT.path mode`, one a reference.
fn seen(source: &str, kind: Kind) -> Vec<String> {
    let analysis = analyze(source, kind).unwrap();
    analysis.references.iter().map(|reference| show(source, reference)).collect()
}

fn show(source: &str, reference: &Reference) -> String {
    let root = match &reference.root {
        Root::Step(id) => format!("steps.{id}"),
        Root::Var(name) => name.clone(),
    };
    let path: String = reference.path.iter().map(|key| format!(".{key}")).collect();
    let mode = match reference.mode {
        Mode::Uses => "uses",
        Mode::Guarded => "guarded",
        Mode::Asks => "asks",
    };
    assert!(source.is_char_boundary(reference.span.start) && source.is_char_boundary(reference.span.end));
    format!("{root}{path} {mode}")
}

#[test]
fn references_and_their_modes() {
    let expressions: &[(&str, &[&str])] = &[
        ("steps.a.output.id", &["steps.a.output.id uses"]),
        ("steps['a']['output']", &["steps.a.output uses"]),
        ("steps.a", &["steps.a uses"]),
        ("steps.a.text ~ steps.b.blocks[0].text", &["steps.a.text uses", "steps.b.blocks.0.text uses"]),
        ("steps.a.status == 'failed'", &["steps.a.status asks"]),
        ("steps.a.error.kind", &["steps.a.error.kind asks"]),
        ("steps.a.action", &["steps.a.action asks"]),
        ("steps.a.errors", &["steps.a.errors uses"]),
        ("steps.a.output | default('x')", &["steps.a.output guarded"]),
        (
            "steps.a.output.x.y | length | default(steps.b.output)",
            &["steps.a.output.x.y guarded", "steps.b.output uses"],
        ),
        ("steps.a.output or steps.b.output", &["steps.a.output guarded", "steps.b.output uses"]),
        ("steps.a.output is defined", &["steps.a.output guarded"]),
        ("steps.a.output is not undefined", &["steps.a.output guarded"]),
        ("steps.a.output is string", &["steps.a.output uses"]),
        ("steps.a.status == 'succeeded' and steps.a.output.ok", &["steps.a.status asks", "steps.a.output.ok guarded"]),
        ("steps.a.output and steps.a.output.ok", &["steps.a.output uses", "steps.a.output.ok uses"]),
        ("steps.a is undefined or steps.a.output.ok", &["steps.a guarded", "steps.a.output.ok guarded"]),
        ("steps.a.output.x or steps.a.output.y", &["steps.a.output.x guarded", "steps.a.output.y uses"]),
        ("steps.a.output if steps.a.status == 'succeeded' else 1", &["steps.a.status asks", "steps.a.output guarded"]),
        ("1 if steps.b.status == 'failed' else steps.a.output", &["steps.b.status asks", "steps.a.output uses"]),
        ("input.list[index].name", &["index uses", "input.list uses"]),
        ("input.x or 1", &["input.x guarded"]),
        ("run.key", &["run.key uses"]),
        ("item.a > previous.b", &["item.a uses", "previous.b uses"]),
        ("(input.a or input.b) | default(1)", &["input.a guarded", "input.b guarded"]),
    ];
    for (source, expected) in expressions {
        assert_eq!(&seen(source, Kind::Expression), expected, "{source}");
    }
    let templates: &[(&str, &[&str])] = &[
        ("plain { text }", &[]),
        ("a {{ input.ref }} b", &["input.ref uses"]),
        (
            "{% if steps.a.status == 'succeeded' %}{{ steps.a.output }}{% else %}{{ steps.a.text }}{% endif %}{{ steps.a.output }}",
            &["steps.a.status asks", "steps.a.output guarded", "steps.a.text guarded", "steps.a.output uses"],
        ),
        (
            "{% if steps.a.output is defined %}{{ steps.a.output }}{% endif %}",
            &["steps.a.output guarded", "steps.a.output guarded"],
        ),
        (
            "{% for x in steps.a.output if x.ok %}{{ x.name }}{{ loop.index }}{% else %}{{ x }}{% endfor %}",
            &["steps.a.output uses", "x uses"],
        ),
        ("{% set x = input.a %}{{ x.b }}{{ y }}", &["input.a uses", "y uses"]),
        ("{{ x }}{% set x = 1 %}{{ x }}", &["x uses"]),
        ("{% if input.a %}{% set x = 1 %}{% endif %}{{ x }}", &["input.a uses"]),
        ("{% with x = input.a, y = x.b %}{{ x }}{{ y }}{% endwith %}{{ x }}", &["input.a uses", "x uses"]),
        ("{% for k, v in input.m | items %}{{ k }}{{ v }}{% endfor %}", &["input.m uses"]),
        (
            "{% set s %}{{ input.a }}{% endset %}{% filter upper %}{{ s }}{{ input.b }}{% endfilter %}",
            &["input.a uses", "input.b uses"],
        ),
        ("{% raw %}{{ steps }}{% endraw %}{# {{ steps }} #}", &[]),
    ];
    for (source, expected) in templates {
        assert_eq!(&seen(source, Kind::Template), expected, "{source}");
    }
}

#[test]
fn spans_are_the_bytes_of_the_reference() {
    for source in ["é {{ (steps.a.output.items[0]).name | upper }}", "{{ [steps.a.output.items[0].name] }}"] {
        let analysis = analyze(source, Kind::Template).unwrap();
        let span = analysis.references[0].span.clone();
        assert!(source[span.clone()].contains("steps.a.output.items[0]"), "{:?}", &source[span]);
    }
}

#[test]
fn a_single_keeps_its_type() {
    for (source, single) in [
        ("{{ input.a }}", true),
        ("  {{ input.a }}\n", true),
        ("{{- input.a -}}", true),
        ("x{{ input.a }}", false),
        ("{{ input.a }}{{ input.b }}", false),
        ("{% set x = 1 %}{{ x }}", false),
        ("{{ '}}' }}", true),
        ("", false),
    ] {
        assert_eq!(analyze(source, Kind::Template).unwrap().single, single, "{source}");
    }
    assert!(analyze("input.a", Kind::Expression).unwrap().single);
}

#[test]
fn what_is_refused() {
    let expressions = [
        "steps",
        "steps.a.outptu",
        "steps[input.x].output",
        "steps.a[input.x]",
        "steps.a.error.msg",
        "steps | length",
        "steps[0]",
        "input.a | uper",
        "input.a is strng",
        "input.a.upper()",
        "upper(input.a)",
        "rnge(3)",
        "foo(3)",
        "run.id",
        "run",
        "input.list | map('uper')",
        "input.list | select('od')",
        "input.list | selectattr('x', 'qe', 1)",
        "{{ input.a }}",
        "input.a ==",
        "input.a = 1",
        "dict(**input)",
        "",
    ];
    let templates = [
        "{% include 'x' %}",
        "{% macro m() %}{% endmacro %}",
        "{% extends 'x' %}",
        "{% block b %}{% endblock %}",
        "{% call m() %}{% endcall %}",
        "{% import 'x' as y %}",
        "{% fro x in y %}",
        "{% endif %}",
        "{% if a %}",
        "{{ a",
        "{% set steps = 1 %}",
        "{% for input in [1] %}{% endfor %}",
        "{% set a.b = 1 %}",
        "{% for x in y recursive %}{% endfor %}",
        "100{% of people",
        "50 {% more",
        "a {# b",
        "{{ }}",
    ];
    let refused = expressions.map(|source| (source, Kind::Expression)).into_iter();
    let lines: Vec<String> = refused
        .chain(templates.map(|source| (source, Kind::Template)))
        .map(|(source, kind)| match analyze(source, kind) {
            Ok(analysis) => format!("{source}\n    ACCEPTED {analysis:?}"),
            Err(error) => format!("{source}\n    {} [{}]", error.message, &source[error.span.clone()]),
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn what_nests_too_deeply_is_refused() {
    for part in ["not ", "-", "(", "[", "1 if 1 else ", "a.", "a + ", "a | upper | ", "a[", "f(", "a and a or "] {
        for times in [150, 200, 240, 900, 100_000] {
            let source = format!("{}a", part.repeat(times));
            analyze(&source, Kind::Expression).unwrap_err();
            let in_template = format!("{{{{ {source} }}}}");
            analyze(&in_template, Kind::Template).unwrap_err();
            // What is not evaluated is not entered either.
            if !part.starts_with('1') || times >= 900 {
                expression(&source).unwrap_err();
                template(&in_template).unwrap_err();
            }
        }
    }
    for source in ["{% if a %}", "{% for a in b %}", "{% filter upper %}", "{% set x %}"] {
        for times in [200, 50_000] {
            let source = source.repeat(times);
            analyze(&source, Kind::Template).unwrap_err();
            template(&source).unwrap_err();
        }
    }
    // As deep as the bounds allow, each in another way.
    let ifs = "{% if true %}".repeat(90);
    for inner in [
        format!("{}{}a", "(".repeat(40), "not ".repeat(900)),
        format!("{}{}a", "a[".repeat(40), "-".repeat(900)),
        format!("{}a{}", "[".repeat(40), "]".repeat(40)),
        format!("a{}", "[a".repeat(40)),
        format!("{}1", "1 if false else ".repeat(240)),
        format!("a{}", " | upper".repeat(97)),
        format!("a{}", ".a".repeat(97)),
        format!("{}a{}", "{1: ".repeat(40), "}".repeat(40)),
        format!("{}3{}", "dict(a=".repeat(40), ")".repeat(40)),
        format!("{}a", "a or a and ".repeat(97)),
    ] {
        let _ = (analyze(&inner, Kind::Expression), expression(&inner));
        let inner = format!("{ifs}{{{{ {inner} }}}}{}", "{% endif %}".repeat(90));
        let _ = (analyze(&inner, Kind::Template), template(&inner));
    }
    let source = format!("{{% if a %}}{}{{% endif %}}", "{% elif a %}".repeat(50_000));
    analyze(&source, Kind::Template).unwrap_err();
    template(&source).unwrap_err();
}

#[test]
fn a_long_chain_of_texts_is_fine() {
    let source = vec!["'a'"; 60].join(" ~ ");
    analyze(&source, Kind::Expression).unwrap();
    assert_eq!(expression(&source), Ok("a".repeat(60).into()));
    let source = format!("[{}]", vec!["1"; 400].join(", "));
    assert_eq!(expression(&source).unwrap().as_array().unwrap().len(), 400);
}
