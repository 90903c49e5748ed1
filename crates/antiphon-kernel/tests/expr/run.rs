//! What expressions and templates yield.

use crate::support::{NoBlobs, OneBlob, blob, eval, expression, outcome, scope, template};
use antiphon_kernel::expr::{blobs, run};
use antiphon_kernel::{ErrorKind, Evaluated, Job, Record, Scope, Slot, Source, StepError, ValueRef, Want};
use serde_json::{Value, json};

#[test]
fn a_single_template_keeps_its_json_type_and_others_are_text() {
    let table = [
        ("plain text", json!("plain text")),
        ("{\"a\": 1}\n", json!("{\"a\": 1}\n")),
        ("{{ steps.a.output }}", scope_output()),
        ("  {{ steps.a.output.size }}\n", json!(3)),
        ("{{ input.ratio }}", json!(1.0)),
        ("{{ input.big }}", json!(18_446_744_073_709_551_615_u64)),
        ("{{ input.nothing }}", Value::Null),
        ("{{ input.yes }}", json!(true)),
        ("{{ 'a' }}", json!("a")),
        ("{{ input.ref }}!", json!("main!")),
        ("{{ steps.a.output }}.", json!(r#"{"name":"z","size":3,"tags":["x","y"],"deep":{"b":{"c":1}}}."#)),
        (
            "{{ input.nothing }} {{ input.yes }} {{ not input.yes }} {{ input.ratio }} {{ input.big }}",
            json!("null true false 1.0 18446744073709551615"),
        ),
        ("{{ [none, true, 1.5, 'q'] }} {{ {'k': none} }}", json!(r#"[null,true,1.5,"q"] {"k":null}"#)),
        ("{{ (1, 2) }}", json!([1, 2])),
        ("line\n", json!("line\n")),
        ("{{ input.ref }}\n", json!("main")),
        ("a\n{{ input.ref }}\n", json!("a\nmain\n")),
        ("{% raw %}{{ x }}{% endraw %}", json!("{{ x }}")),
        ("{# gone #}x", json!("x")),
        ("<{{ '<b>' }}>", json!("<<b>>")),
    ];
    for (source, expected) in table {
        assert_eq!(template(source), Ok(expected), "{source}");
    }
}

fn scope_output() -> Value {
    json!({ "name": "z", "size": 3, "tags": ["x", "y"], "deep": { "b": { "c": 1 } } })
}

#[test]
fn steps_have_results_and_ways_of_ending() {
    let table = [
        ("steps.a.status", json!("succeeded")),
        ("steps.bad.status", json!("failed")),
        ("steps.skip.status", json!("skipped")),
        ("steps.bad.error", json!({ "kind": "timeout", "message": "too late" })),
        ("steps.bad.error.kind == 'timeout'", json!(true)),
        ("steps.skip.action", json!("decline")),
        ("steps.a.text", json!("first\nsecond")),
        ("steps.t.text", json!("its output")),
        ("steps.m.text", json!("said")),
        ("steps.m.model", json!("smart")),
        ("steps.m.usage.tokens", json!(7)),
        ("steps.a.blocks[0].text", json!("first")),
        ("steps.a.blocks[-1].text", json!("second")),
        ("steps.t.blocks", json!([])),
        ("steps.t.errors", json!([])),
        ("steps['a'].output['name']", json!("z")),
        ("steps.a.output.tags[input.one]", json!("y")),
        ("steps.a.output[input.key]", json!("z")),
        ("steps.t", json!({ "status": "succeeded", "output": "its output" })),
        // Asking never fails.
        ("steps.a.error == none", json!(true)),
        ("steps.a.error.kind == 'timeout'", json!(false)),
        ("steps.a.error.kind in ['timeout', 'tool']", json!(false)),
        ("steps.a.error is defined", json!(false)),
        ("steps.a.error.message | default('fine')", json!("fine")),
        ("steps.a.error.message or 'fine'", json!("fine")),
        ("'bad' if steps.a.error else 'good'", json!("good")),
        ("steps.a.action is none", json!(true)),
        ("run.key", json!("k-1")),
    ];
    for (source, expected) in table {
        assert_eq!(expression(source), Ok(expected), "{source}");
    }
}

#[test]
fn a_guard_covers_the_whole_path_to_its_left() {
    let table = [
        ("steps.bad.output.b.c or 'x'", json!("x")),
        ("steps.bad.output.b.c | default('x')", json!("x")),
        ("steps.a.output.b.c or 'x'", json!("x")),
        ("steps.a.output.b.c | default('x')", json!("x")),
        ("steps.a.output.b.c | upper | d('x')", json!("x")),
        ("steps.a.output.deep.b.c | default('x')", json!(1)),
        ("(steps.a.output.no.way + 1) * 2 or 5", json!(5)),
        ("steps.a.output.b.c is defined", json!(false)),
        ("steps.a.output.b.c is undefined", json!(true)),
        ("steps.a.output.name is not undefined", json!(true)),
        ("steps.bad is defined", json!(false)),
        ("steps.a is defined", json!(true)),
        ("steps.bad.output or steps.a.output.nope or 'z'", json!("z")),
        ("steps.bad.output | default(steps.a.output.nope) | default('z')", json!("z")),
        ("input.tags[7] | default('none')", json!("none")),
        ("[] | first | default('empty')", json!("empty")),
        ("steps.bad.output | default", json!("")),
        ("'' | default('x')", json!("")),
        ("'' | default('x', true)", json!("x")),
        ("input.nothing | default('x')", Value::Null),
        ("input.nothing or 'x'", json!("x")),
        ("steps.a.output if steps.a.status == 'failed' else 'other'", json!("other")),
        ("steps.bad.status == 'succeeded' and steps.bad.output.ok", json!(false)),
        ("input.nope is defined and input.nope > 3", json!(false)),
    ];
    for (source, expected) in table {
        assert_eq!(expression(source), Ok(expected), "{source}");
    }
}

#[test]
fn what_comes_to_nothing_because_of_a_step_names_that_step() {
    for (source, step) in [
        ("{{ steps.bad.output }}", "bad"),
        ("a {{ steps.bad.output.x }} b", "bad"),
        ("{{ steps.skip.text | upper }}", "skip"),
        ("{{ steps.bad.output or steps.skip.output }}", "skip"),
        ("{{ steps.bad.output or input.nope }}", "bad"),
        ("{{ steps.bad.output | default(input.nope) }}", "bad"),
        ("{{ steps.bad.output if steps.bad.status == 'succeeded' }}", "bad"),
        ("{% if steps.bad.status == 'failed' %}{{ steps.bad.output }}{% endif %}", "bad"),
        ("{{ steps.bad }}", "bad"),
        ("{% set x = steps.bad %}", "bad"),
        ("{{ [steps.bad.output] }}", "bad"),
    ] {
        assert_eq!(template(source), Err(format!("absent {step}")), "{source}");
    }
    assert_eq!(template("{% if steps.bad.output is defined %}{{ steps.bad.output }}{% endif %}"), Ok(json!("")));
}

#[test]
fn statements() {
    let table = [
        (
            "{% for t in steps.a.output.tags %}{{ loop.index }}{{ t }}{{ '' if loop.last else ',' }}{% endfor %}",
            "1x,2y",
        ),
        ("{% for n in input.list if n > 1 %}{{ n }}/{{ loop.length }} {% else %}none{% endfor %}", "2/2 3/2 "),
        ("{% for n in [] %}x{% else %}none{% endfor %}", "none"),
        ("{% for k, v in steps.a.output.deep | items %}{{ k }}={{ v }}{% endfor %}", "b={\"c\":1}"),
        ("{% for k in steps.a.output %}{{ k }} {% endfor %}", "name size tags deep "),
        ("{% for n in range(3) %}{{ n }}{% endfor %}", "012"),
        ("{% for row in [[1, [2, 3]]] %}{% for a, b in [row] %}{{ a }}{{ b }}{% endfor %}{% endfor %}", "1[2,3]"),
        ("{% set x = 1 %}{% for n in [1, 2] %}{% set x = n %}{% endfor %}{{ x }}", "1"),
        ("{% if true %}{% set x = 5 %}{% endif %}{{ x }}", "5"),
        ("{% with a = 1, b = a + 1 %}{{ b }}{% endwith %}", "2"),
        ("{% set t %}a{{ 1 }}{% endset %}{{ t }}{{ t }}", "a1a1"),
        ("{% set t | upper %}a{% endset %}{{ t }}", "A"),
        ("{% filter upper | replace('A', 'b') %}xa{% endfilter %}", "Xb"),
        ("{% if input.nothing %}a{% elif input.yes %}b{% else %}c{% endif %}", "b"),
        ("{% if steps.a.error %}a{% endif %}.", "."),
        ("x {%- if true %} y {%- endif -%} z", "x yz"),
    ];
    for (source, expected) in table {
        assert_eq!(template(source), Ok(json!(expected)), "{source}");
    }
}

#[test]
fn operators_and_filters() {
    let table = [
        ("1 + 2 * 3 - 4", json!(3)),
        ("7 // 2 + 7 % 2 + 2 ** 3", json!(12)),
        ("6 / 4", json!(1.5)),
        ("-input.one", json!(-1)),
        ("'a' ~ 1 ~ none ~ true ~ [1.0]", json!("a1nulltrue[1.0]")),
        ("1 < 2 and 'a' < 'b'", json!(true)),
        ("1 < 2 <= 2 < 1", json!(false)),
        ("2 >= 1.5", json!(true)),
        ("1 == 1.0", json!(true)),
        ("'1' == 1", json!(false)),
        ("'x' in steps.a.output.tags", json!(true)),
        ("'q' not in steps.a.output.tags", json!(true)),
        ("input.list[1:]", json!([2, 3])),
        ("'hello'[:2]", json!("he")),
        ("input.list | length + 1", json!(4)),
        ("input.list | sum", json!(6)),
        ("input.list | select('gt', 1) | list", json!([2, 3])),
        ("input.list | map('string') | join('-')", json!("1-2-3")),
        ("[1, none, 'a', {'b': true}] | join(' ')", json!("1 null a {\"b\":true}")),
        ("[{'n': 1}, {'n': 2}] | join('+', attribute='n')", json!("1+2")),
        ("[{'n': 2}, {'n': 1}] | sort(attribute='n') | map(attribute='n') | list", json!([1, 2])),
        ("['b', 'a'] | sort", json!(["a", "b"])),
        ("[3, 1.5] | min", json!(1.5)),
        (
            "[{'n': 2, 'k': 'a'}, {'n': 1, 'k': 'b'}] | selectattr('n', '>=', 2) | map(attribute='k') | list",
            json!(["a"]),
        ),
        ("[{'g': 'x', 'n': 1}, {'g': 'x', 'n': 2}] | groupby('g') | map('first') | list", json!(["x"])),
        ("'a\\nb\\n\\n' | lines", json!(["a", "b"])),
        ("'a\\r\\nb' | lines", json!(["a", "b"])),
        ("'' | lines", json!([])),
        ("'[1, {\"b\": 2, \"a\": 3}]' | from_json", json!([1, { "b": 2, "a": 3 }])),
        ("steps.a.output.deep | tojson", json!("{\"b\":{\"c\":1}}")),
        ("'<&>' | tojson", json!("\"<&>\"")),
        ("[1] | tojson(indent=2)", json!("[\n  1\n]")),
        ("true | string", json!("true")),
        ("none | upper", json!("NULL")),
        ("'%.2f' | format(1.005)", json!("1.00")),
        ("1.6 | round | int", json!(2)),
        ("dict(a=1, b='x')", json!({ "a": 1, "b": "x" })),
        ("{'a': 1, 2: 'b'}", json!({ "a": 1, "2": "b" })),
        ("input.list | reverse | list", json!([3, 2, 1])),
        ("'a,b' | split(',')", json!(["a", "b"])),
        ("input.ref is string and input.list is sequence and input.nothing is none", json!(true)),
        ("[1, 2] + [3]", json!([1, 2, 3])),
        ("input.list | batch(2) | list", json!([[1, 2], [3]])),
        ("steps.a.output | items | list | first", json!(["name", "z"])),
        ("input.list | map('default', 0) | list", json!([1, 2, 3])),
    ];
    for (source, expected) in table {
        assert_eq!(expression(source), Ok(expected), "{source}");
    }
}

#[test]
fn errors_say_what_was_wrong() {
    let expressions = [
        "input.nope",
        "input.ref.x",
        "input.list.x",
        "input.list[9]",
        "steps.a.output.id",
        "steps.a.output.deep.b.d",
        "steps.gone.output",
        "steps.m.output.x",
        "nope",
        "nope.x",
        "[input.nope]",
        "{'a': input.nope}",
        "input.nope | upper",
        "input.nope == 1",
        "not input.nope",
        "input.nope and true",
        "input.empty.x",
        "steps.a.error",
        "steps.a.error.message | upper",
        "steps.a.output.tags['x']",
        "input.ref < 5",
        "5 > input.ref",
        "input.nothing < 5",
        "input.yes >= 1",
        "input.list < 1",
        "steps.a.error.kind < 3",
        "[1, 'a'] | sort",
        "[1, none] | max",
        "[{'n': 1}, {'n': 'x'}] | sort(attribute='n')",
        "[{'n': 1}, {}] | min(attribute='n')",
        "[1, 'a'] | select('lt', 3) | list",
        "{'a': 1, 'b': 'x'} | dictsort(by='value')",
        "[{'g': 1}, {'g': 'a'}] | groupby('g')",
        "[{'a': 1}, {}] | map(attribute='a') | list",
        "[] | first",
        "input.ref + 1",
        "1 / 0",
        "1 // 0",
        "2 ** 200",
        "10 ** 25",
        "'{' | from_json",
        "input.list | from_json",
        "'abc' | int",
        "'x' * 100000000",
        "range(1000000)",
        "range(9223372036854775807, -1, -1)",
        "'a' | indent(100000000)",
        "'%999999d' | format(1)",
        "[1] | batch(99999999, 0)",
        "input.list[9223372036854775807:]",
        "input.list[::-9223372036854775807]",
        "range",
        "steps",
        "input.list | join(1, 2, 3)",
        "'abc' | join(',')",
        "input.x.",
        "1 if input.nothing",
        "input[none]",
        "input.ref | nofilter",
        "input.ref is notest",
        "input.ref.upper()",
        "default()",
        "input.list | default(1, 2, 3)",
        "range(100000) | map('string') | map('replace', '', 'abcdefghijklmnopqrstuvwxyz' * 1000) | list",
        "range(100000) | select('in', range(100000)) | list",
    ];
    let templates = [
        "a {{ input.nope }}",
        "{{ [1][3] }} b",
        "{% for x in input.ref %}{% endfor %}",
        "{% for x in 3 %}{% endfor %}",
        "{% for a, b in [1] %}{% endfor %}",
        "{% for a, b in [[1, 2, 3]] %}{% endfor %}",
        "{{ x",
        "{% include 'a' %}",
        "{% for x in [1] %}{{ loop.nope }}{% endfor %}",
        "{% for x in [1] %}{{ loop }}{% endfor %}",
        "{% for a in range(10000) %}{% for b in range(10000) %}{% endfor %}{% endfor %}",
        "{% for a in range(100000) %}0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789{% endfor %}",
        "{% set x %}{{ 'x' * 1000000 }}{% endset %}{% set y = x ~ x ~ x ~ x %}{% set z = y ~ y ~ y ~ y %}{% set w = z ~ z %}{{ w | length }}",
        "{% if true %}{% else %}{% endif %}{{ input.nope.x }}",
    ];
    let lines: Vec<String> = expressions
        .iter()
        .map(|source| (source, expression(source)))
        .chain(templates.iter().map(|source| (source, template(source))))
        .map(|(source, result)| {
            let head: String = source.chars().take(110).collect();
            match result {
                Ok(value) => format!("{head}\n    VALUE {}", value.to_string().chars().take(80).collect::<String>()),
                Err(message) => format!("{head}\n    {message}"),
            }
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn each_want_takes_what_it_can_use() {
    let run = |source: Source, want| outcome(run(&Job::Eval { source, want }, &scope(), &NoBlobs));
    let of = |source: &str| Source::Expression(source.to_owned());
    assert_eq!(run(of("input.yes"), Want::Bool), Ok(json!(true)));
    assert_eq!(run(of("input.list"), Want::List), Ok(json!([1, 2, 3])));
    assert_eq!(run(of("input.list"), Want::String), Ok(json!("[1,2,3]")));
    assert_eq!(run(of("'2026-07-28T12:30:45.5+02:00'"), Want::Time), Ok(json!(1_785_234_645_500_u64)));
    assert_eq!(run(of("input.one"), Want::Record), Ok(json!({ "output": 1 })));
    assert_eq!(
        run(of("input.ref"), Want::Bool),
        Err("Template: `input.ref`: a condition must be true or false, and this is the string \"main\"".to_owned())
    );
    assert_eq!(
        run(of("input.one"), Want::List),
        Err("Template: `input.one`: this must be a list, and is the number 1".to_owned())
    );
    assert_eq!(
        run(Source::Template("tomorrow".to_owned()), Want::Time),
        Err("Template: `tomorrow`: this must be a time, such as \"2026-07-28T12:00:00Z\", and is the string \"tomorrow\"".to_owned())
    );
    assert_eq!(run(of("steps.bad.output.ok"), Want::Bool), Err("absent bad".to_owned()));
    let Evaluated::List { len, .. } =
        antiphon_kernel::expr::run(&Job::Eval { source: of("input.list"), want: Want::List }, &scope(), &NoBlobs)
    else {
        panic!("not a list")
    };
    assert_eq!(len, 3);
}

#[test]
fn maps_and_lists_are_evaluated_inside() {
    let source = Source::Map(
        [
            ("n".to_owned(), Source::Literal(json!({ "kept": "{{ x }}" }))),
            (
                "list".to_owned(),
                Source::List(vec![
                    Source::Template("{{ input.one }}".to_owned()),
                    Source::Template("v{{ input.one }}".to_owned()),
                ]),
            ),
        ]
        .into_iter()
        .collect(),
    );
    assert_eq!(eval(source), Ok(json!({ "n": { "kept": "{{ x }}" }, "list": [1, "v1"] })));
}

#[test]
fn outputs_leave_out_what_did_not_succeed() {
    let entry = |name: &str, source: &str| (name.to_owned(), Source::Template(source.to_owned()));
    let entries = vec![
        entry("z", "{{ steps.a.output.size }}"),
        entry("gone", "{{ steps.bad.output }}"),
        entry("a", "{{ steps.bad.output or 'x' }}"),
    ];
    let job = |schema| Job::Outputs { entries: entries.clone(), schema };
    let result = outcome(run(&job(None), &scope(), &NoBlobs)).unwrap();
    assert_eq!(result.to_string(), r#"{"output":{"z":3,"a":"x"}}"#);
    let schema = json!({ "type": "object", "properties": { "z": { "type": "string" } }, "required": ["z"] });
    let Evaluated::Error { kind, message } = run(&job(Some(schema)), &scope(), &NoBlobs) else { panic!("accepted") };
    assert_eq!((kind, message.as_str()), (ErrorKind::InvalidOutput, "the output: `/z`: 3 is not of type \"string\""));
    let wrong = Job::Outputs { entries: vec![entry("q", "{{ input.nope }}")], schema: None };
    assert_eq!(
        outcome(run(&wrong, &scope(), &NoBlobs)),
        Err("Template: output `q`: `input.nope`: the input has no `nope`; it has `ref`, `ratio`, `big`, `nothing`, `yes`, `one`, `key`, `list`, …".to_owned())
    );
}

#[test]
fn gather_and_collect_make_records() {
    let record = |output: Value| ValueRef::inline(serde_json::to_value(Record::of(output)).unwrap());
    let gather = Job::Gather {
        entries: vec![("b".to_owned(), record(json!(1))), ("a".to_owned(), record(json!("x")))],
        schema: None,
    };
    assert_eq!(
        outcome(run(&gather, &Scope::default(), &NoBlobs)).unwrap().to_string(),
        r#"{"output":{"b":1,"a":"x"}}"#
    );
    let collect = Job::Collect {
        records: vec![Some(record(json!(1))), None, Some(record(json!(3)))],
        items: ValueRef::inline(json!(["i", "j", "k"])),
        errors: [(1, StepError { kind: ErrorKind::Tool, message: "no".to_owned() })].into(),
    };
    assert_eq!(
        outcome(run(&collect, &Scope::default(), &NoBlobs)),
        Ok(json!({ "output": [1, null, 3], "errors": [{ "index": 1, "item": "j", "kind": "tool", "message": "no" }] }))
    );
}

#[test]
fn the_input_of_a_workflow_is_completed_and_checked() {
    let schema = json!({ "type": "object", "properties": { "n": { "type": "integer" }, "ref": { "type": "string", "default": "main" } }, "required": ["n"] });
    let input = |source: &str| Job::Input { source: Source::Expression(source.to_owned()), schema: schema.clone() };
    assert_eq!(outcome(run(&input("{'n': 1}"), &scope(), &NoBlobs)), Ok(json!({ "n": 1, "ref": "main" })));
    assert_eq!(
        outcome(run(&input("{'n': 'x'}"), &scope(), &NoBlobs)),
        Err("Template: the input: `/n`: \"x\" is not of type \"integer\"".to_owned())
    );
}

#[test]
fn blobs_are_named_once_and_used() {
    let mut scope = scope();
    scope.vars.insert("input".to_owned(), Slot::Item { list: blob("abc"), index: 1 });
    let facts = scope.steps.get_mut("a").unwrap();
    facts.record = Some(blob("def"));
    scope.vars.insert("previous".to_owned(), Slot::OutputOf(blob("def")));
    let job = Job::Eval { source: Source::Expression("input.x".to_owned()), want: Want::Value };
    let names: Vec<String> = blobs(&job, &scope).iter().map(ToString::to_string).collect();
    assert_eq!(names, ["abc", "def"]);
    assert_eq!(outcome(run(&job, &scope, &OneBlob("abc", json!([0, { "x": 5 }])))), Ok(json!(5)));
    assert_eq!(outcome(run(&job, &scope, &NoBlobs)), Err("Template: `input`: its value has been lost".to_owned()));
}

#[test]
fn what_is_too_large_is_refused() {
    let mut scope = scope();
    scope.vars.insert("input".to_owned(), Slot::Value(ValueRef::inline(json!({ "big": "x".repeat(20 << 20) }))));
    for source in ["{{ input.big }}", "a{{ input.big }}", "{{ [input.big] }}", "{{ input.big ~ 'a' }}"] {
        let job = Job::Eval { source: Source::Template(source.to_owned()), want: Want::Value };
        let message = outcome(run(&job, &scope, &NoBlobs)).unwrap_err();
        assert!(message.ends_with("larger than 16 MiB"), "{source}: {message}");
    }
    let job = Job::Eval { source: Source::Template("{{ input.big | length }}".to_owned()), want: Want::Value };
    assert_eq!(outcome(run(&job, &scope, &NoBlobs)), Ok(json!(20 << 20)));
}
