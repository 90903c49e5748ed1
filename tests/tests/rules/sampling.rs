//! The rows of sampling: who answers, who may ask, what it may take. Each answer takes forty tokens.

use crate::Case;

pub const CASES: &[Case] = &[
    Case {
        name: "a model answers, and its text is the output",
        file: r#"
            [steps.a]
            sample = "m"
            prompt = "?"
        "#,
        answers: &[],
        ends: r#"ok {"a":"teal"}"#,
        steps: "a=succeeded",
        calls: "sample(m)",
    },
    Case {
        name: "where no model answers, whoever called is asked",
        file: r#"
            [steps.a]
            sample = ["down", "caller"]
            prompt = "?"
        "#,
        answers: &[("a", r#"{ "content": { "type": "text", "text": "gold" } }"#)],
        ends: r#"ok {"a":"gold"}"#,
        steps: "a=succeeded",
        calls: "sample(down)",
    },
    Case {
        name: "a caller's answer is waited for",
        file: r#"
            [steps.a]
            sample = "caller"
            prompt = "?"
        "#,
        answers: &[],
        ends: "open a",
        steps: "a=asking",
        calls: "",
    },
    Case {
        name: "a caller who declines skips the step",
        file: r#"
            [steps.a]
            sample = "caller"
            prompt = "?"
        "#,
        answers: &[("a", "null")],
        ends: "ok {}",
        steps: "a=skipped",
        calls: "",
    },
    Case {
        name: "a call that asks a model goes on with its answer",
        file: r#"
            [steps.a]
            call = "t.think"
        "#,
        answers: &[],
        ends: r#"ok {"a":"teal"}"#,
        steps: "a=succeeded",
        calls: "think() sample(t)",
    },
    Case {
        name: "a server that may not ask gets no answer",
        file: r#"
            [steps.a]
            call = "t.sneak"
        "#,
        answers: &[],
        ends: "failed denied at a",
        steps: "a=failed",
        calls: "sneak()",
    },
    Case {
        name: "nobody is sampled before a person has agreed",
        file: r#"
            [steps.a]
            call = "t.polite"
        "#,
        answers: &[],
        ends: "open a#1?1.q?may.sampling",
        steps: "a=asking",
        calls: "polite()",
    },
    Case {
        name: "a person agrees once a run",
        file: r#"
            [steps.a]
            for_each = [1, 2]
            concurrency = 1
            call = "t.polite"
            with.v = "{{ item }}"
        "#,
        answers: &[("a[0]#1?1.q?may.sampling", "{}")],
        ends: r#"ok {"a":["teal","teal"]}"#,
        steps: "a=succeeded",
        calls: "polite(1) sample(t) polite(2) sample(t)",
    },
    Case {
        name: "a person who does not agree denies it",
        file: r#"
            [steps.a]
            call = "t.polite"
        "#,
        answers: &[("a#1?1.q?may.sampling", "null")],
        ends: "failed denied at a",
        steps: "a=failed",
        calls: "polite()",
    },
    Case {
        name: "a server's samples end at its own limit",
        file: r#"
            [steps.a]
            for_each = [1, 2, 3]
            concurrency = 1
            tolerate = "all"
            call = "t.poor"
            with.v = "{{ item }}"
        "#,
        answers: &[],
        ends: r#"ok {"a":["teal","teal",null]}"#,
        steps: "a=succeeded",
        calls: "poor(1) sample(t) poor(2) sample(t) poor(3)",
    },
    Case {
        name: "samples end at the run's limit",
        file: r#"
            [limits]
            tokens = 60
            [steps.a]
            sample = "m"
            max_tokens = 30
            prompt = "{{ run.key }}"
            [steps.b]
            needs = ["a"]
            sample = "m"
            max_tokens = 30
            prompt = "{{ run.key }}"
        "#,
        answers: &[],
        ends: "failed budget at b",
        steps: "a=succeeded b=failed",
        calls: "sample(m)",
    },
    Case {
        name: "a limit that is only watched ends nothing",
        file: r#"
            [limits]
            tokens = 60
            mode = "audit"
            [steps.a]
            sample = "m"
            max_tokens = 30
            prompt = "{{ run.key }}"
            [steps.b]
            needs = ["a"]
            sample = "m"
            max_tokens = 30
            prompt = "{{ run.key }}"
        "#,
        answers: &[],
        ends: r#"ok {"a":"teal","b":"teal"}"#,
        steps: "a=succeeded b=succeeded",
        calls: "sample(m) sample(m)",
    },
    Case {
        name: "what others may still use is waited for",
        file: r#"
            [limits]
            tokens = 89
            [steps.a]
            for_each = [1, 2]
            sample = "m"
            max_tokens = 40
            prompt = "{{ run.key }}"
        "#,
        answers: &[],
        ends: r#"ok {"a":["teal","teal"]}"#,
        steps: "a=succeeded",
        calls: "sample(m) sample(m)",
    },
    Case {
        name: "what whoever called answers counts",
        file: r#"
            [limits]
            tokens = 40
            [steps.a]
            sample = "caller"
            max_tokens = 20
            prompt = "{{ run.key }}"
            [steps.b]
            needs = ["a"]
            sample = "caller"
            max_tokens = 20
            prompt = "{{ run.key }}"
        "#,
        answers: &[(
            "a",
            r#"{ "content": { "type": "text", "text": "a colour between blue and green, as ducks have it" } }"#,
        )],
        ends: "failed budget at b",
        steps: "a=succeeded b=failed",
        calls: "",
    },
];
