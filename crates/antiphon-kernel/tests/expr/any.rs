//! Whatever the source and the values, nothing panics, and what is accepted before a run is parsed in it.

use crate::support::{NoBlobs, outcome, scope};
use antiphon_kernel::expr::{Kind, analyze, run, validate, with_defaults};
use antiphon_kernel::{Job, Slot, Source, ValueRef, Want};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Any JSON.
fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[a-c]", inner), 0..4)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

/// Pieces that make sources which often parse.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "input",
        "steps",
        ".a",
        ".output",
        ".bad",
        ".status",
        ".error",
        "[0]",
        "[-1]",
        "[1:]",
        "['a']",
        " | ",
        "length",
        "upper",
        "sort",
        "default(1)",
        "map('upper')",
        "join(', ')",
        "tojson",
        "from_json",
        "lines",
        "round(2)",
        "int",
        "float",
        "abs",
        "sum",
        "batch(2)",
        "slice(3)",
        "replace('a', 'b')",
        "indent(3)",
        "format(1, 'a')",
        "first",
        "unique",
        "items",
        "dictsort",
        " is ",
        "defined",
        "odd",
        "gt 3",
        " or ",
        " and ",
        " not ",
        " in ",
        " + ",
        " - ",
        " * ",
        " / ",
        " // ",
        " % ",
        " ** ",
        " ~ ",
        " < ",
        " >= ",
        " == ",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "'x'",
        "1",
        "-9223372036854775808",
        "1.5",
        "1e308",
        "none",
        "true",
        "a",
        "range(",
        ",",
        ":",
        " if ",
        " else ",
        "loop.index",
        "{{ ",
        " }}",
        "{% for a in ",
        " %}",
        "{% endfor %}",
        "{% if ",
        "{% endif %}",
        "{% else %}",
        "{% set a = ",
        "{% filter upper %}",
        "{% endfilter %}",
        "{% raw %}",
        "é",
        "\n",
        "\"",
        "#}",
        "{#",
    ]);
    prop::collection::vec(piece, 0..16).prop_map(|pieces| pieces.concat())
}

/// A value behind operators and filters.
fn operations() -> impl Strategy<Value = String> {
    let operand = prop::sample::select(vec![
        "input",
        "input.a",
        "input[0]",
        "-1",
        "0",
        "3",
        "9223372036854775807",
        "170141183460469231731687303715884105727",
        "1.5",
        "1e308",
        "'x'",
        "''",
        "[]",
        "[3, 'a']",
        "{}",
        "none",
        "true",
        "steps.bad.output",
        "steps.bad.error",
    ]);
    let operator =
        prop::sample::select(vec!["+", "-", "*", "/", "//", "%", "**", "~", "<", "==", "in", "or", "and", "if"]);
    let filters = prop::collection::vec(
        prop::sample::select(vec![
            "abs",
            "attr('a')",
            "batch(2, 'x')",
            "bool",
            "capitalize",
            "chain([1])",
            "count",
            "default(1)",
            "dictsort",
            "first",
            "float",
            "format(1)",
            "from_json",
            "groupby('a')",
            "indent",
            "int",
            "items",
            "join",
            "last",
            "lines",
            "list",
            "lower",
            "map('int')",
            "max",
            "min",
            "reject('odd')",
            "rejectattr('a')",
            "replace('', 'b')",
            "reverse",
            "round(-3)",
            "round",
            "select",
            "selectattr('a', 'lt', 1)",
            "slice(2)",
            "sort",
            "split",
            "string",
            "sum",
            "title",
            "tojson(2)",
            "trim('x')",
            "unique",
            "upper",
            "zip([1])",
            "int(base=99)",
            "split('')",
            "sort(reverse=true)",
        ]),
        0..3,
    );
    (operand.clone(), operator, operand, filters).prop_map(|(a, op, b, filters)| {
        let piped: String = filters.iter().map(|filter| format!(" | {filter}")).collect();
        format!("({a} {op} {b}){piped}")
    })
}

fn check(source: &str, kind: Kind, input: &Value) {
    if let Err(error) = analyze(source, kind) {
        assert!(source.get(error.span.clone()).is_some(), "{source:?} {error:?}");
    }
    let source = match kind {
        Kind::Template => Source::Template(source.to_owned()),
        Kind::Expression => Source::Expression(source.to_owned()),
    };
    let mut scope = scope();
    scope.vars.insert("input".to_owned(), Slot::Value(ValueRef::inline(input.clone())));
    for want in [Want::Value, Want::Bool, Want::Time] {
        let _ = outcome(run(&Job::Eval { source: source.clone(), want }, &scope, &NoBlobs));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_never_panics(source in "\\PC*", input in json_value()) {
        check(&source, Kind::Template, &input);
        check(&source, Kind::Expression, &input);
        check(&format!("{{{{ {source} }}}}"), Kind::Template, &input);
    }

    #[test]
    fn likely_text_never_panics(source in pieces(), input in json_value()) {
        check(&source, Kind::Template, &input);
        check(&source, Kind::Expression, &input);
        check(&format!("{{{{ {source} }}}}"), Kind::Template, &input);
    }

    #[test]
    fn operations_never_panic(source in operations(), input in json_value()) {
        check(&source, Kind::Expression, &input);
    }

    #[test]
    fn a_plain_path_is_the_value_itself(input in json_value()) {
        let mut scope = scope();
        scope.vars.insert("input".to_owned(), Slot::Value(ValueRef::inline(json!({ "a": input.clone() }))));
        for source in ["{{ input.a }}", " {{ input['a'] }} ", "{{ input.zz | default(input.a) }}"] {
            let job = Job::Eval { source: Source::Template(source.to_owned()), want: Want::Value };
            prop_assert_eq!(&outcome(run(&job, &scope, &NoBlobs)).unwrap(), &input);
        }
    }

    #[test]
    fn a_value_survives_being_computed_with(input in json_value()) {
        let mut scope = scope();
        scope.vars.insert("input".to_owned(), Slot::Value(ValueRef::inline(input.clone())));
        let job = Job::Eval { source: Source::Expression("[input] | list | first".to_owned()), want: Want::Value };
        prop_assert_eq!(outcome(run(&job, &scope, &NoBlobs)).unwrap(), input);
    }

    #[test]
    fn schemas_never_panic(schema in json_value(), value in json_value()) {
        let _ = validate(&schema, &value);
        let _ = with_defaults(&schema, value);
    }
}
