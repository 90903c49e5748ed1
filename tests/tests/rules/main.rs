//! The rules of running and ending, as a table: what the language promises of `needs`, guards, failure, undo, `repeat`,
//! `for_each`, questions, doubt and cancelling. Real files, the real kernel, a scripted world and a clock that jumps.
//!
//! The world's tools: `t.ok` returns its arguments, `t.fail` reports an error, `t.flaky` fails once for each step, `t.lost` loses its
//! answer, `t.hang` never answers; `t.think` asks a model first, `t.polite` may once a person has agreed, `t.poor` for a hundred tokens,
//! `t.sneak` may not. The model `m` answers, `down` does not. None is annotated, so none may be repeated unasked unless the file says so.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod sampling;
mod world;

use antiphon_kernel::{EventKind, Outcome};

use world::World;

/// One row.
struct Case {
    name: &'static str,
    /// The steps (and other tables) of the file.
    file: &'static str,
    /// Answers by the question's key; `Null` declines, `"cancel"` dismisses, a question without an entry stays open.
    answers: &'static [(&'static str, &'static str)],
    /// `ok OUTPUT`, `failed KIND at PATH`, `cancelled`, or `open KEY…` if it waits for ever.
    ends: &'static str,
    /// `step=status` for each top-level step.
    steps: &'static str,
    /// Tool calls in order, `tool(v)`.
    calls: &'static str,
}

const CASES: &[Case] = &[
    Case {
        name: "a reference orders, and passes the value on",
        file: r#"
            [steps.b]
            call = "t.ok"
            with.v = "{{ steps.a.output.v + 1 }}"
            [steps.a]
            call = "t.ok"
            with.v = 1
            [output]
            sum = "{{ steps.a.output.v + steps.b.output.v }}"
        "#,
        answers: &[],
        ends: r#"ok {"sum":3}"#,
        steps: "a=succeeded b=succeeded",
        calls: "ok(1) ok(2)",
    },
    Case {
        name: "without an output table the output is the map of outputs",
        file: r#"
            [steps.a]
            set = 1
            [steps.b]
            set = "{{ steps.a.output }}"
        "#,
        answers: &[],
        ends: r#"ok {"a":1,"b":1}"#,
        steps: "a=succeeded b=succeeded",
        calls: "",
    },
    Case {
        name: "a false `when` skips, and what uses it is skipped too",
        file: r#"
            [steps.a]
            when = "false"
            set = 1
            [steps.b]
            set = "{{ steps.a.output }}"
            [steps.c]
            set = "{{ steps.b.output }}"
            [output]
            a = "{{ steps.a.output }}"
            rest = "always"
            c = "{{ steps.c.output }}"
        "#,
        answers: &[],
        ends: r#"ok {"rest":"always"}"#,
        steps: "a=skipped b=skipped c=skipped",
        calls: "",
    },
    Case {
        name: "`needs` asks for success",
        file: r#"
            [steps.a]
            when = "false"
            set = 1
            [steps.b]
            needs = ["a"]
            set = 2
        "#,
        answers: &[],
        ends: "ok {}",
        steps: "a=skipped b=skipped",
        calls: "",
    },
    Case {
        name: "a guarded use runs without the value",
        file: r#"
            [steps.a]
            when = "false"
            set = { x = 1 }
            [steps.b]
            set = "{{ steps.a.output.x | default('none') }}"
            [steps.c]
            set = "{{ steps.a.output.x or 'neither' }}"
            [steps.d]
            set = "{{ steps.a.output.x if steps.a.status == 'succeeded' else 'no' }}"
        "#,
        answers: &[],
        ends: r#"ok {"b":"none","c":"neither","d":"no"}"#,
        steps: "a=skipped b=succeeded c=succeeded d=succeeded",
        calls: "",
    },
    Case {
        name: "a template that comes to nothing because of a skipped step skips its own",
        file: r#"
            [steps.a]
            when = "false"
            set = 1
            [steps.b]
            set = "{{ steps.a.output if steps.a.output is defined }}"
        "#,
        answers: &[],
        ends: "ok {}",
        steps: "a=skipped b=skipped",
        calls: "",
    },
    Case {
        name: "a failing step fails the run; what was not started is cancelled",
        file: r#"
            [steps.a]
            call = "t.fail"
            [steps.b]
            needs = ["a"]
            set = 1
            [steps.c]
            needs = ["b"]
            set = 1
        "#,
        answers: &[],
        ends: "failed tool at a",
        steps: "a=failed b=cancelled c=cancelled",
        calls: "fail()",
    },
    Case {
        name: "running steps end, new ones do not start",
        file: r#"
            [steps.a]
            call = "t.fail"
            [steps.long]
            wait = "1s"
            [steps.b]
            call = "t.ok"
            with.v = 1
            [steps.after_b]
            call = "t.ok"
            with.v = "{{ steps.b.output.v }}"
        "#,
        answers: &[],
        ends: "failed tool at a",
        steps: "a=failed b=succeeded after_b=cancelled long=cancelled",
        calls: "fail() ok(1)",
    },
    Case {
        name: "who asks how it ended runs all the same",
        file: r#"
            [steps.a]
            call = "t.fail"
            [steps.b]
            needs = ["a"]
            set = 1
            [steps.tell]
            call = "t.ok"
            with.v = "a {{ steps.a.status }}, b {{ steps.b.status }}: {{ steps.a.error.kind }}"
        "#,
        answers: &[],
        ends: "failed tool at a",
        steps: "a=failed b=cancelled tell=succeeded",
        calls: r#"fail() ok("a failed, b cancelled: tool")"#,
    },
    Case {
        name: "while failing, asking about what went well is not enough",
        file: r#"
            [steps.good]
            set = 1
            [steps.bad]
            call = "t.fail"
            [steps.wait]
            needs = ["good"]
            wait = "1s"
            [steps.tell]
            call = "t.ok"
            with.v = "{{ steps.good.status }}{{ steps.wait.output }}"
        "#,
        answers: &[],
        ends: "failed tool at bad",
        steps: "good=succeeded bad=failed wait=cancelled tell=cancelled",
        calls: "fail()",
    },
    Case {
        name: "`on_error = continue` goes on without the value",
        file: r#"
            [steps.a]
            call = "t.fail"
            on_error = "continue"
            [steps.b]
            set = "{{ steps.a.output }}"
            [steps.c]
            set = "{{ steps.a.status }}"
        "#,
        answers: &[],
        ends: r#"ok {"c":"failed"}"#,
        steps: "a=failed b=skipped c=succeeded",
        calls: "fail()",
    },
    Case {
        name: "a fallback is the value; the error still tells",
        file: r#"
            [steps.a]
            call = "t.fail"
            on_error = { fallback = { x = 7 } }
            [steps.b]
            set = "{{ steps.a.output.x }} {{ steps.a.status }} {{ steps.a.error.kind }}"
        "#,
        answers: &[],
        ends: r#"ok {"a":{"x":7},"b":"7 succeeded tool"}"#,
        steps: "a=succeeded b=succeeded",
        calls: "fail()",
    },
    Case {
        name: "a false `expect` fails the step",
        file: r#"
            [steps.a]
            call = "t.ok"
            with.v = 1
            expect = "output.v > 1"
        "#,
        answers: &[],
        ends: "failed expect at a",
        steps: "a=failed",
        calls: "ok(1)",
    },
    Case {
        name: "undo runs in reverse order of success when the run fails",
        file: r#"
            [steps.a]
            call = "t.ok"
            with.v = 1
            undo = { call = "t.ok", with.v = "undo {{ output.v }}" }
            [steps.b]
            call = "t.ok"
            with.v = "{{ steps.a.output.v + 1 }}"
            undo = { call = "t.ok", with.v = "undo {{ output.v }}" }
            [steps.c]
            needs = ["b"]
            call = "t.fail"
            undo = { call = "t.ok", with.v = "never" }
        "#,
        answers: &[],
        ends: "failed tool at c",
        steps: "a=succeeded b=succeeded c=failed",
        calls: r#"ok(1) ok(2) fail() ok("undo 2") ok("undo 1")"#,
    },
    Case {
        name: "undo is armed by the call itself, although `expect` then fails",
        file: r#"
            [steps.a]
            call = "t.ok"
            with.v = 1
            expect = "false"
            undo = { call = "t.ok", with.v = "undo" }
        "#,
        answers: &[],
        ends: "failed expect at a",
        steps: "a=failed",
        calls: r#"ok(1) ok("undo")"#,
    },
    Case {
        name: "undo reaches each iteration, and into a nested block",
        file: r#"
            [steps.each]
            for_each = [1, 2]
            concurrency = 1
            [steps.each.do.buy]
            call = "t.ok"
            with.v = "{{ item }}"
            undo = { call = "t.ok", with.v = "return {{ item }}" }
            [steps.stop]
            needs = ["each"]
            call = "t.fail"
        "#,
        answers: &[],
        ends: "failed tool at stop",
        steps: "each=succeeded stop=failed",
        calls: r#"ok(1) ok(2) fail() ok("return 2") ok("return 1")"#,
    },
    Case {
        name: "a failing undo does not stop the others",
        file: r#"
            [steps.a]
            call = "t.ok"
            with.v = 1
            undo = { call = "t.ok", with.v = "undo 1" }
            [steps.b]
            call = "t.ok"
            with.v = "{{ steps.a.output.v + 1 }}"
            undo = { call = "t.fail" }
            [steps.c]
            needs = ["b"]
            call = "t.fail"
        "#,
        answers: &[],
        ends: "failed tool at c",
        steps: "a=succeeded b=succeeded c=failed",
        calls: r#"ok(1) ok(2) fail() fail() ok("undo 1")"#,
    },
    Case {
        name: "a succeeding run undoes nothing",
        file: r#"
            [steps.a]
            call = "t.ok"
            with.v = 1
            undo = { call = "t.ok", with.v = "undo" }
        "#,
        answers: &[],
        ends: r#"ok {"a":{"v":1}}"#,
        steps: "a=succeeded",
        calls: "ok(1)",
    },
    Case {
        name: "retry repeats what its list names",
        file: r#"
            [steps.a]
            call = "t.flaky"
            with.v = 1
            retry = { attempts = 2, backoff = "10ms", on = ["tool"] }
        "#,
        answers: &[],
        ends: r#"ok {"a":{"v":1}}"#,
        steps: "a=succeeded",
        calls: "flaky(1) flaky(1)",
    },
    Case {
        name: "retry leaves other kinds alone",
        file: r#"
            [steps.a]
            call = "t.flaky"
            with.v = 1
            retry = { attempts = 5, backoff = "10ms", on = ["timeout"] }
        "#,
        answers: &[],
        ends: "failed tool at a",
        steps: "a=failed",
        calls: "flaky(1)",
    },
    Case {
        name: "repeat goes on until it is content",
        file: r#"
            [steps.a]
            call = "t.ok"
            with.v = "{{ round }}"
            repeat = { until = "output.v >= 3", max = 5 }
        "#,
        answers: &[],
        ends: r#"ok {"a":{"v":3}}"#,
        steps: "a=succeeded",
        calls: "ok(1) ok(2) ok(3)",
    },
    Case {
        name: "repeat hands its last output on as `previous`",
        file: r#"
            [steps.a]
            call = "t.ok"
            with.v = "{{ (previous.v if previous else 0) + 10 }}"
            repeat = { until = "output.v >= 30", max = 5 }
        "#,
        answers: &[],
        ends: r#"ok {"a":{"v":30}}"#,
        steps: "a=succeeded",
        calls: "ok(10) ok(20) ok(30)",
    },
    Case {
        name: "a repeat at its bound fails",
        file: r#"
            [steps.a]
            call = "t.ok"
            with.v = "{{ round }}"
            repeat = { until = "false", max = 2 }
        "#,
        answers: &[],
        ends: "failed exhausted at a",
        steps: "a=failed",
        calls: "ok(1) ok(2)",
    },
    Case {
        name: "or yields its last round",
        file: r#"
            [steps.a]
            call = "t.ok"
            with.v = "{{ round }}"
            repeat = { until = "false", max = 2, exhausted = "last" }
        "#,
        answers: &[],
        ends: r#"ok {"a":{"v":2}}"#,
        steps: "a=succeeded",
        calls: "ok(1) ok(2)",
    },
    Case {
        name: "`within` ends a repeat by time; `every` is not before the first round",
        file: r#"
            [steps.a]
            call = "t.ok"
            with.v = "{{ round }}"
            repeat = { until = "false", every = "40s", within = "100s" }
        "#,
        answers: &[],
        ends: "failed exhausted at a",
        steps: "a=failed",
        calls: "ok(1) ok(2) ok(3)",
    },
    Case {
        name: "`within` cuts an attempt short",
        file: r#"
            [steps.a]
            call = "t.hang"
            effects = "read_only"
            repeat = { until = "true", within = "1s" }
        "#,
        answers: &[],
        ends: "failed exhausted at a",
        steps: "a=failed",
        calls: "hang()",
    },
    Case {
        name: "for_each keeps the places of its outputs",
        file: r#"
            [steps.a]
            for_each = [3, 1, 2]
            call = "t.ok"
            with.v = "{{ item }}{{ index }}"
        "#,
        answers: &[],
        ends: r#"ok {"a":[{"v":"30"},{"v":"11"},{"v":"22"}]}"#,
        steps: "a=succeeded",
        calls: r#"ok("30") ok("11") ok("22")"#,
    },
    Case {
        name: "one failing item fails the step",
        file: r#"
            [steps.a]
            for_each = [1, 2, 3]
            concurrency = 1
            call = "t.ok"
            with.v = "{{ item }}"
            expect = "output.v != 2"
        "#,
        answers: &[],
        ends: "failed expect at a[1]",
        steps: "a=failed",
        calls: "ok(1) ok(2)",
    },
    Case {
        name: "unless it is tolerated: null in its place, and told in `.errors`",
        file: r#"
            [steps.a]
            for_each = "[1, 2, 3]"
            tolerate = 1
            call = "t.ok"
            with.v = "{{ item }}"
            expect = "output.v != 2"
            [output]
            list = "{{ steps.a.output }}"
            bad = "{{ steps.a.errors | length }} {{ steps.a.errors[0].index }} {{ steps.a.errors[0].kind }}"
        "#,
        answers: &[],
        ends: r#"ok {"list":[{"v":1},null,{"v":3}],"bad":"1 1 expect"}"#,
        steps: "a=succeeded",
        calls: "ok(1) ok(2) ok(3)",
    },
    Case {
        name: "an empty list is an empty list",
        file: r#"
            [steps.a]
            for_each = "[]"
            call = "t.ok"
            with.v = 1
        "#,
        answers: &[],
        ends: r#"ok {"a":[]}"#,
        steps: "a=succeeded",
        calls: "",
    },
    Case {
        name: "a block yields the map of its steps, or its own table",
        file: r#"
            [steps.a]
            [steps.a.do.x]
            set = 1
            [steps.a.do.y]
            set = "{{ steps.x.output + 1 }}"
            [steps.b]
            [steps.b.do.z]
            set = "{{ steps.a.output.y }}"
            [steps.b.output]
            only = "{{ steps.z.output }}"
        "#,
        answers: &[],
        ends: r#"ok {"a":{"x":1,"y":2},"b":{"only":2}}"#,
        steps: "a=succeeded b=succeeded",
        calls: "",
    },
    Case {
        name: "a failing block undoes its own, then fails; forgiven, the run goes on",
        file: r#"
            [steps.before]
            call = "t.ok"
            with.v = 0
            undo = { call = "t.ok", with.v = "undo 0" }
            [steps.block]
            needs = ["before"]
            on_error = "continue"
            [steps.block.do.a]
            call = "t.ok"
            with.v = 1
            undo = { call = "t.ok", with.v = "undo 1" }
            [steps.block.do.b]
            needs = ["a"]
            call = "t.fail"
            [steps.after]
            set = "{{ steps.block.status }}"
        "#,
        answers: &[],
        ends: r#"ok {"before":{"v":0},"after":"failed"}"#,
        steps: "before=succeeded block=failed after=succeeded",
        calls: r#"ok(0) ok(1) fail() ok("undo 1")"#,
    },
    Case {
        name: "a plain yes is true",
        file: r#"
            [steps.a]
            elicit = "Go on?"
            [steps.b]
            needs = ["a"]
            set = "{{ steps.a.output }} {{ steps.a.action }}"
        "#,
        answers: &[("a", "{}")],
        ends: r#"ok {"a":true,"b":"true accept"}"#,
        steps: "a=succeeded b=succeeded",
        calls: "",
    },
    Case {
        name: "a no skips, and tells its action",
        file: r#"
            [steps.a]
            elicit = "Go on?"
            [steps.b]
            needs = ["a"]
            set = 1
            [steps.c]
            set = "{{ steps.a.status }} {{ steps.a.action }}"
        "#,
        answers: &[("a", "null")],
        ends: r#"ok {"c":"skipped decline"}"#,
        steps: "a=skipped b=skipped c=succeeded",
        calls: "",
    },
    Case {
        name: "a question that nobody answers in time fails",
        file: r#"
            [steps.a]
            elicit = "Go on?"
            timeout = "8h"
        "#,
        answers: &[],
        ends: "failed timeout at a",
        steps: "a=failed",
        calls: "",
    },
    Case {
        name: "a question without a deadline waits",
        file: r#"
            [steps.a]
            elicit = "Go on?"
        "#,
        answers: &[],
        ends: "open a",
        steps: "a=asking",
        calls: "",
    },
    Case {
        name: "a call whose answer is lost is in doubt, not repeated",
        file: r#"
            [steps.a]
            call = "t.lost"
            with.v = 1
            retry = { attempts = 5, backoff = "1ms", on = ["unavailable"] }
        "#,
        answers: &[],
        ends: "open a#1?doubt",
        steps: "a=asking",
        calls: "lost(1)",
    },
    Case {
        name: "doubt: give its result",
        file: r#"
            [steps.a]
            call = "t.lost"
            with.v = 1
        "#,
        answers: &[("a#1?doubt", r#"{"choice":"result","result":{"v":9}}"#)],
        ends: r#"ok {"a":{"v":9}}"#,
        steps: "a=succeeded",
        calls: "lost(1)",
    },
    Case {
        name: "doubt: retry asks again when it is lost again",
        file: r#"
            [steps.a]
            call = "t.lost"
            with.v = 1
        "#,
        answers: &[("a#1?doubt", r#"{"choice":"retry"}"#), ("a#2?doubt", r#"{"choice":"skip"}"#)],
        ends: "ok {}",
        steps: "a=skipped",
        calls: "lost(1) lost(1)",
    },
    Case {
        name: "doubt may be decided in the file",
        file: r#"
            [steps.a]
            call = "t.lost"
            on_doubt = "fail"
        "#,
        answers: &[],
        ends: "failed in_doubt at a",
        steps: "a=failed",
        calls: "lost()",
    },
    Case {
        name: "what changes nothing is simply repeated, and then fails",
        file: r#"
            [steps.a]
            call = "t.lost"
            effects = "read_only"
        "#,
        answers: &[],
        ends: "failed unavailable at a",
        steps: "a=failed",
        calls: "lost() lost() lost()",
    },
    Case {
        name: "a timeout of an unannotated call is a doubt",
        file: r#"
            [steps.a]
            call = "t.hang"
            timeout = "5s"
        "#,
        answers: &[("a#1?doubt", r#"{"choice":"skip"}"#)],
        ends: "ok {}",
        steps: "a=skipped",
        calls: "hang()",
    },
    Case {
        name: "a timeout of a read-only call is a failure",
        file: r#"
            [steps.a]
            call = "t.hang"
            effects = "read_only"
            timeout = "5s"
        "#,
        answers: &[],
        ends: "failed timeout at a",
        steps: "a=failed",
        calls: "hang()",
    },
    Case {
        name: "a block's timeout ends what is inside",
        file: r#"
            [steps.a]
            timeout = "5s"
            [steps.a.do.x]
            call = "t.ok"
            with.v = 1
            undo = { call = "t.ok", with.v = "undo" }
            [steps.a.do.y]
            needs = ["x"]
            wait = "1h"
        "#,
        answers: &[],
        ends: "failed timeout at a",
        steps: "a=failed",
        calls: r#"ok(1) ok("undo")"#,
    },
    Case {
        name: "the call budget is a wall",
        file: r#"
            [limits]
            calls = 2
            [steps.a]
            for_each = [1, 2, 3]
            concurrency = 1
            call = "t.ok"
            with.v = "{{ item }}"
        "#,
        answers: &[],
        ends: "failed budget at a[2]",
        steps: "a=failed",
        calls: "ok(1) ok(2)",
    },
    Case {
        name: "a call may choose among a closed set",
        file: r#"
            [steps.a]
            for_each = ["t.ok", "t.fail"]
            as = "tool"
            concurrency = 1
            tolerate = "all"
            call = "{{ tool }}"
            with.v = 1
        "#,
        answers: &[],
        ends: r#"ok {"a":[{"v":1},null]}"#,
        steps: "a=succeeded",
        calls: "ok(1) fail(1)",
    },
    Case {
        name: "an expression error fails the step with what was wrong",
        file: r#"
            [steps.a]
            set = { x = 1 }
            [steps.b]
            set = "{{ steps.a.output.y }}"
        "#,
        answers: &[],
        ends: "failed template at b",
        steps: "a=succeeded b=failed",
        calls: "",
    },
];

#[test]
fn running_and_ending() {
    let mut wrong = Vec::new();
    for case in CASES.iter().chain(sampling::CASES) {
        let mut world = World::new(case);
        world.start();
        let expected = format!("{}\n  {}\n  {}", case.ends, case.steps, case.calls);
        let found = world.tells();
        if found != expected {
            wrong.push(format!("{}\n expected {expected}\n found    {found}", case.name));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} cases differ:\n\n{}",
        wrong.len(),
        CASES.len() + sampling::CASES.len(),
        wrong.join("\n\n")
    );
}

/// Cancelling: calls in flight get a grace, what succeeded is undone, the unknown is listed.
#[test]
fn cancelling_undoes_and_lists_what_may_have_happened() {
    let case = Case {
        name: "",
        file: r#"
            [steps.a]
            call = "t.ok"
            with.v = 1
            undo = { call = "t.ok", with.v = "undo" }
            [steps.b]
            needs = ["a"]
            call = "t.hang"
            [steps.c]
            needs = ["b"]
            set = 1
        "#,
        answers: &[],
        ends: "",
        steps: "",
        calls: "",
    };
    let mut world = World::new(&case);
    world.start();
    world.feed(EventKind::Cancel { reason: "enough".to_owned() });
    world.go_on();
    let view = world.view();
    assert_eq!(view.outcome, Some(Outcome::Cancelled { reason: "enough".to_owned() }));
    assert_eq!(view.may_have_happened, ["b"]);
    assert_eq!(world.tells(), "cancelled\n  a=succeeded b=cancelled c=cancelled\n  ok(1) hang() ok(\"undo\")");
}
