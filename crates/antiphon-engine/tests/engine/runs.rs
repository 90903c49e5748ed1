//! Runs from start to end.

use std::time::Duration;

use crate::support::*;
use antiphon_engine::{Engine, EngineError, Filter, Owner, StartRun, Until};
use antiphon_kernel::{Action, Answer, EffectClass, EventKind, Outcome, RunStatus};
use serde_json::json;

#[tokio::test]
async fn a_chain_runs_to_its_end_and_stays_readable() {
    let lab = Lab::new();
    let engine = lab.open();
    let plan = chain(vec![read_only("a", "echo"), read_only("b", "echo"), read_only("c", "echo")]);
    let plan =
        with_output(&plan, &[("said", template("{{ input.word }} {{ steps.c.output.step }}", &["c"], &["input"]))]);
    let id = start(&engine, &plan).await;
    let run = end(&engine, &id).await;
    assert_eq!(run.view.status, RunStatus::Succeeded);
    assert_eq!(output(&engine, &run).await, json!({ "said": "hello c" }));
    assert_eq!(lab.world.seen().iter().map(|seen| seen.path.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(lab.world.prepared(), 3);

    let history = engine.history(&id).await.unwrap();
    assert!(matches!(history[0].kind, EventKind::Started { .. }));
    assert_eq!(engine.plan(&id).await.unwrap(), plan);

    drop(engine);
    let engine = lab.open();
    let again = engine.view(&id).await.unwrap();
    assert_eq!(again.view, run.view);
    assert_eq!(again.revision, run.revision);
    assert_eq!(again.ended_at, run.ended_at);
    assert_eq!(lab.world.seen().len(), 3, "nothing runs twice");
}

#[tokio::test]
async fn an_owner_hears_of_runs_that_begin_and_end() {
    let lab = Lab::new();
    let engine = lab.open();
    let mut news = engine.news();
    let plan = chain(vec![read_only("a", "echo")]);
    let ann = Owner("token:ann".into());
    let id = engine.start(StartRun { owner: ann.clone(), ..request(&plan) }).await.unwrap().id;
    assert_eq!(news.recv().await.unwrap(), ann, "it has begun");
    end(&engine, &id).await;
    assert_eq!(news.recv().await.unwrap(), ann, "it has ended");
    start(&engine, &plan).await;
    assert_ne!(news.recv().await.unwrap(), ann);
}

#[tokio::test]
async fn keys_are_stable_distinct_and_hide_the_run_id() {
    let lab = Lab::new();
    let engine = lab.open();
    let plan = chain(vec![read_only("a", "echo"), read_only("b", "echo")]);
    let plan = with_output(&plan, &[("key", template("{{ run.key }}", &["b"], &["run"]))]);
    let id = start(&engine, &plan).await;
    let run = end(&engine, &id).await;
    let seen = lab.world.seen();
    assert_ne!(seen[0].key, seen[1].key);
    assert_eq!(seen[0].key.len(), 64);
    let key = output(&engine, &run).await["key"].as_str().unwrap().to_owned();
    assert!(!key.is_empty() && !key.contains(&*id.0));
}

#[tokio::test]
async fn input_is_checked_and_completed() {
    let lab = Lab::new();
    let engine = lab.open();
    let plan = plan(vec![call_with("a", "echo", EffectClass::ReadOnly, template("{{ input }}", &[], &["input"]))]);
    let bad = StartRun { input: json!({ "count": "many" }), ..request(&plan) };
    let error = engine.start(bad).await.unwrap_err();
    assert!(matches!(&error, EngineError::InvalidInput { message, .. } if message.contains("count")), "{error}");
    let good = StartRun { input: json!({ "count": 3 }), ..request(&plan) };
    let id = engine.start(good).await.unwrap().id;
    end(&engine, &id).await;
    assert_eq!(lab.world.seen()[0].args, json!({ "count": 3, "word": "hello" }));
}

#[tokio::test]
async fn large_values_travel_by_hash() {
    let lab = Lab::new();
    let engine = lab.open();
    let plan = plan(vec![
        read_only("a", "big"),
        call_with("b", "measure", EffectClass::ReadOnly, template("{{ steps.a.output }}", &["a"], &[])),
    ]);
    let id = start(&engine, &plan).await;
    let run = end(&engine, &id).await;
    assert_eq!(output(&engine, &run).await["b"], json!(100_002));
    let longest =
        engine.history(&id).await.unwrap().iter().map(|event| serde_json::to_string(event).unwrap().len()).max();
    assert!(longest.unwrap() < 2_000);

    drop(engine);
    let engine = lab.open();
    let run = engine.view(&id).await.unwrap();
    assert_eq!(output(&engine, &run).await["a"].as_str().unwrap().len(), 100_000);
}

/// Values that are too large to be kept in memory are read back, and have been recorded by then.
#[tokio::test]
async fn huge_values_are_used_at_once() {
    let lab = Lab::new();
    let engine = lab.open();
    let pass_on = |id: &str, tool: &str| {
        call_with(id, tool, EffectClass::ReadOnly, template("{{ steps.a.output }}", &["a"], &[]))
    };
    let plan = plan(vec![read_only("a", "huge"), pass_on("b", "measure"), pass_on("c", "measure")]);
    let plan = with_output(&plan, &[("b", template("{{ steps.b.output }}", &["b"], &[]))]);
    let id = start(&engine, &plan).await;
    let run = end(&engine, &id).await;
    assert_eq!(output(&engine, &run).await, json!({ "b": 9_000_002 }));
}

#[tokio::test]
async fn a_question_waits_for_a_fitting_answer() {
    let lab = Lab::new();
    let engine = lab.open();
    let id = start(&engine, &chain(vec![read_only("a", "asks")])).await;
    let key = question(&engine, &id).await;
    let error = engine.input(&id, &key, accept(Some(json!({ "sure": "maybe" })))).await.unwrap_err();
    assert!(matches!(&error, EngineError::InvalidAnswer { key: bad, .. } if *bad == key), "{error}");
    assert!(!engine.input(&id, "no such key", accept(None)).await.unwrap());
    assert!(engine.input(&id, &key, accept(Some(json!({ "sure": true })))).await.unwrap());
    assert!(!engine.input(&id, &key, accept(Some(json!({ "sure": false })))).await.unwrap(), "answered once");
    let run = end(&engine, &id).await;
    assert_eq!(output(&engine, &run).await["a"], json!({ "action": "accept", "content": { "sure": true } }));
    assert!(!engine.input(&id, &key, accept(None)).await.unwrap(), "it has ended");
}

#[tokio::test]
async fn a_plain_yes_needs_no_content_and_a_no_skips() {
    let lab = Lab::new();
    let engine = lab.open();
    let plan = chain(vec![confirm("sure"), read_only("a", "echo")]);
    let (yes, no) = (start(&engine, &plan).await, start(&engine, &plan).await);
    let key = question(&engine, &yes).await;
    assert!(engine.input(&yes, &key, accept(None)).await.unwrap());
    let key = question(&engine, &no).await;
    assert!(engine.input(&no, &key, Answer { action: Action::Decline, content: None }).await.unwrap());
    assert_eq!(end(&engine, &yes).await.view.status, RunStatus::Succeeded);
    end(&engine, &no).await;
    assert_eq!(lab.world.seen().len(), 1);
}

#[tokio::test]
async fn a_call_that_needs_input_is_made_again_with_answers_and_state() {
    let lab = Lab::new();
    let engine = lab.open();
    let id = start(&engine, &plan(vec![call("a", "rounds", EffectClass::AtMostOnce)])).await;
    let key = question(&engine, &id).await;
    assert!(engine.input(&id, &key, accept(Some(json!({ "name": "me" })))).await.unwrap());
    let run = end(&engine, &id).await;
    let output = output(&engine, &run).await;
    assert_eq!(output["a"]["answers"]["who"]["content"], json!({ "name": "me" }));
    assert_eq!(output["a"]["state"], json!(50_000), "the state comes inline, however large");
    let seen = lab.world.seen();
    assert_eq!(seen[0].key, seen[1].key);
}

#[tokio::test]
async fn progress_is_heard_and_ends_with_the_run() {
    let lab = Lab::new();
    let engine = lab.open();
    let plan = chain(vec![confirm("ready"), read_only("a", "reports")]);
    let id = start(&engine, &plan).await;
    let key = question(&engine, &id).await;
    let mut progress = engine.progress(&id).await.unwrap();
    engine.input(&id, &key, accept(None)).await.unwrap();
    assert_eq!(progress.recv().await.unwrap().path, "a");
    lab.world.holds.add_permits(1);
    end(&engine, &id).await;
    assert!(progress.recv().await.is_err());
    assert!(engine.progress(&id).await.unwrap().recv().await.is_err());
}

#[tokio::test]
async fn cancelling_ends_calls_in_flight() {
    let lab = Lab::new();
    let engine = lab.open();
    let id = start(&engine, &chain(vec![read_only("a", "hold"), read_only("b", "echo")])).await;
    lab.world.until_seen(1).await;
    engine.cancel(&id, "enough").await.unwrap();
    let run = end(&engine, &id).await;
    assert_eq!(run.view.outcome, Some(Outcome::Cancelled { reason: "enough".into() }));
    assert_eq!(lab.world.tools(), ["hold"]);
    engine.cancel(&id, "again").await.unwrap();
    assert_eq!(engine.view(&id).await.unwrap().revision, run.revision);
}

#[tokio::test]
async fn cancelling_does_not_wait_for_a_stubborn_call() {
    let lab = Lab::new();
    let engine = lab.open();
    let id = start(&engine, &chain(vec![call("a", "stubborn", EffectClass::AtMostOnce)])).await;
    lab.world.until_seen(1).await;
    let time = still();
    engine.cancel(&id, "enough").await.unwrap();
    time.pass(LONG).await;
    let run = end(&engine, &id).await;
    assert_eq!(run.view.status, RunStatus::Cancelled);
    assert_eq!(run.view.may_have_happened, ["a"]);
}

#[tokio::test]
async fn a_panic_in_a_call_fails_that_call_alone() {
    let lab = Lab::new();
    let engine = lab.open();
    let mut panics = read_only("a", "panics");
    panics.retry = Some(antiphon_kernel::Retry { attempts: 1, backoff_ms: 0, on: Default::default() });
    let bad = start(&engine, &plan(vec![panics])).await;
    let good = start(&engine, &plan(vec![read_only("a", "echo")])).await;
    let run = end(&engine, &bad).await;
    let Some(Outcome::Failed { error, .. }) = &run.view.outcome else { panic!("{run:#?}") };
    assert!(error.message.contains("internal error"), "{}", error.message);
    assert_eq!(end(&engine, &good).await.view.status, RunStatus::Succeeded);
}

#[tokio::test]
async fn waiting_returns_on_change_on_the_end_and_after_a_while() {
    let lab = Lab::new();
    let engine = lab.open();
    let id = start(&engine, &chain(vec![read_only("a", "hold"), read_only("b", "hold")])).await;
    lab.world.until_seen(1).await;
    let first = engine.view(&id).await.unwrap();
    let same = engine.wait(&id, Until::Changed(first.revision), Duration::from_millis(1), false).await.unwrap();
    assert_eq!(same.revision, first.revision);
    lab.world.holds.add_permits(1);
    let second = engine.wait(&id, Until::Changed(first.revision), LONG, false).await.unwrap();
    assert!(second.revision > first.revision);
    lab.world.holds.add_permits(1);
    assert_eq!(end(&engine, &id).await.view.status, RunStatus::Succeeded);
}

#[tokio::test]
async fn the_same_key_and_input_give_the_same_run() {
    let lab = Lab::new();
    let engine = lab.open();
    let plan = plan(vec![read_only("a", "echo")]);
    let keyed = |input| StartRun { idempotency_key: Some("k".into()), input, ..request(&plan) };
    let first = engine.start(keyed(json!({ "word": "a", "count": 1 }))).await.unwrap();
    let second = engine.start(keyed(json!({ "count": 1, "word": "a" }))).await.unwrap();
    assert_eq!((first.existing, second.existing, &first.id), (false, true, &second.id));
    let other = engine.start(keyed(json!({ "word": "b" }))).await.unwrap_err();
    assert!(matches!(other, EngineError::KeyReused));
    let stranger = StartRun { owner: Owner("token:x".into()), ..keyed(json!({ "word": "b" })) };
    assert!(!engine.start(stranger).await.unwrap().existing);
    end(&engine, &first.id).await;
    drop(engine);
    let engine = lab.open();
    let third = engine.start(keyed(json!({ "word": "a", "count": 1 }))).await.unwrap();
    assert_eq!((third.existing, &third.id), (true, &first.id));
    assert_eq!(lab.world.seen().len(), 2);
}

#[tokio::test]
async fn lists_are_paged_and_filtered() {
    let lab = Lab::new();
    let engine = lab.open();
    let (quick, held) = (plan(vec![read_only("a", "echo")]), plan(vec![read_only("a", "hold")]));
    let mut ids = Vec::new();
    for n in 0..5 {
        let plan = if n == 3 { &held } else { &quick };
        let owner = if n == 4 { Owner("token:x".into()) } else { Owner::local() };
        ids.push(engine.start(StartRun { owner, ..request(plan) }).await.unwrap().id);
    }
    for id in [&ids[0], &ids[1], &ids[2], &ids[4]] {
        end(&engine, id).await;
    }
    let page = engine.list(Filter::default(), None, 3).await.unwrap();
    let newest: Vec<_> = page.runs.iter().map(|run| run.id.clone()).collect();
    assert_eq!(newest, [ids[4].clone(), ids[3].clone(), ids[2].clone()]);
    let rest = engine.list(Filter::default(), page.next, 3).await.unwrap();
    assert_eq!((rest.runs.len(), rest.next), (2, None));
    let mine = Filter { owner: Some(Owner::local()), ..Filter::default() };
    assert_eq!(engine.list(mine, None, 10).await.unwrap().runs.len(), 4);
    let live = Filter { live: true, ..Filter::default() };
    let live = engine.list(live, None, 10).await.unwrap().runs;
    assert_eq!(live.iter().map(|run| &run.id).collect::<Vec<_>>(), [&ids[3]]);
    let short = Filter { id_prefix: Some(ids[1].0[..8].into()), ..Filter::default() };
    assert_eq!(engine.list(short, None, 10).await.unwrap().runs[0].id, ids[1]);
    assert!(engine.list(Filter::default(), Some("nonsense".into()), 10).await.unwrap().runs.is_empty());
}

#[tokio::test]
async fn an_unknown_run_is_not_found() {
    let lab = Lab::new();
    let engine = lab.open();
    let id = antiphon_engine::RunId("nobody".into());
    assert!(matches!(engine.view(&id).await, Err(EngineError::NotFound(_))));
    assert!(matches!(engine.wait(&id, Until::Changed(0), LONG, true).await, Err(EngineError::NotFound(_))));
    assert!(matches!(engine.input(&id, "k", accept(None)).await, Err(EngineError::NotFound(_))));
    assert!(matches!(engine.cancel(&id, "").await, Err(EngineError::NotFound(_))));
    assert!(matches!(engine.history(&id).await, Err(EngineError::NotFound(_))));
    assert!(matches!(engine.progress(&id).await, Err(EngineError::NotFound(_))));
}
