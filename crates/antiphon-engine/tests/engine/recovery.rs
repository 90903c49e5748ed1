//! Crashes, restarts, pauses; runs that leave memory and come back.

use std::fs::OpenOptions;
use std::time::Duration;

use crate::support::*;
use antiphon_engine::{Engine, EngineError, Until};
use antiphon_kernel::{Asking, EffectClass, Entry, EventKind, Outcome, RunStatus};
use serde_json::json;

/// How often the run was brought back into memory.
async fn comebacks(engine: &antiphon_engine::SqliteEngine, id: &antiphon_engine::RunId) -> usize {
    engine.history(id).await.unwrap().iter().filter(|event| event.kind == EventKind::Resumed).count()
}

#[tokio::test]
async fn a_read_only_call_cut_off_is_made_again_with_the_same_key_and_nothing_else_is() {
    let lab = Lab::new();
    let engine = lab.open();
    let id = start(&engine, &chain(vec![read_only("a", "echo"), read_only("b", "hold"), read_only("c", "echo")])).await;
    lab.world.until_seen(2).await;
    engine.view(&id).await.unwrap();
    drop(engine);

    let engine = lab.open();
    lab.world.until_seen(3).await;
    lab.world.holds.add_permits(1);
    let run = end(&engine, &id).await;
    assert_eq!(run.view.status, RunStatus::Succeeded);
    let seen = lab.world.seen();
    assert_eq!(seen.iter().map(|seen| seen.path.as_str()).collect::<Vec<_>>(), ["a", "b", "b", "c"]);
    assert_eq!(seen[1].key, seen[2].key);
}

#[tokio::test]
async fn a_call_that_must_not_be_repeated_is_asked_about() {
    let lab = Lab::new();
    let engine = lab.open();
    let plan = chain(vec![call("a", "hold", EffectClass::AtMostOnce), read_only("b", "echo")]);
    let (retried, given) = (start(&engine, &plan).await, start(&engine, &plan).await);
    lab.world.until_seen(2).await;
    // The call has begun, so all that led to it is on the disk, though nobody has looked.
    let (_folder, path) = lab.wreck();
    drop(engine);

    let engine = lab.try_open(&path).unwrap();
    let key = question(&engine, &retried).await;
    let run = engine.view(&retried).await.unwrap();
    assert!(matches!(run.view.questions[0].ask, Asking::Doubt { .. }));
    assert_eq!(lab.world.seen().len(), 2, "not repeated unasked");
    let bad = engine.input(&retried, &key, accept(Some(json!({ "choice": "maybe" })))).await;
    assert!(matches!(bad, Err(EngineError::InvalidAnswer { .. })));
    assert!(engine.input(&retried, &key, accept(Some(json!({ "choice": "retry" })))).await.unwrap());
    lab.world.holds.add_permits(1);
    assert_eq!(end(&engine, &retried).await.view.status, RunStatus::Succeeded);

    let key = question(&engine, &given).await;
    let answer = json!({ "choice": "result", "result": "it went well" });
    assert!(engine.input(&given, &key, accept(Some(answer))).await.unwrap());
    let run = end(&engine, &given).await;
    assert_eq!(output(&engine, &run).await["a"], json!("it went well"));
    assert_eq!(lab.world.tools(), ["hold", "hold", "hold", "echo", "echo"]);
}

#[tokio::test]
async fn wherever_it_is_cut_no_call_that_must_not_be_repeated_is() {
    for cut in 1..=4 {
        let lab = Lab::new();
        let engine = lab.open();
        let steps = ["a", "b", "c", "d"].map(|id| call(id, "hold", EffectClass::AtMostOnce));
        let id = start(&engine, &chain(steps.into())).await;
        lab.world.holds.add_permits(cut - 1);
        lab.world.until_seen(cut).await;
        let (_folder, path) = lab.wreck();
        drop(engine);

        let engine = lab.try_open(&path).unwrap();
        let key = question(&engine, &id).await;
        let run = engine.view(&id).await.unwrap();
        assert_eq!(run.view.questions[0].path, ["a", "b", "c", "d"][cut - 1]);
        let answer = json!({ "choice": "result", "result": "it had happened" });
        assert!(engine.input(&id, &key, accept(Some(answer))).await.unwrap());
        lab.world.holds.add_permits(4);
        assert_eq!(end(&engine, &id).await.view.status, RunStatus::Succeeded);
        assert_eq!(lab.world.seen().iter().map(|seen| seen.path.as_str()).collect::<Vec<_>>(), ["a", "b", "c", "d"]);
    }
}

#[tokio::test]
async fn a_task_id_shown_survives_the_loss_of_everything_that_was_not_flushed() {
    let lab = Lab::new();
    let engine = lab.open();
    let plan = chain(vec![read_only("a", "hold"), read_only("b", "echo")]);
    let shown = start(&engine, &plan).await;
    engine.view(&shown).await.unwrap();
    let flushed = std::fs::metadata(lab.folder.path().join("runs.db-wal")).unwrap().len();
    let unseen = start(&engine, &plan).await;
    engine.history(&shown).await.unwrap();
    let (folder, path) = lab.wreck();
    drop(engine);

    // A power cut may take whatever was not flushed.
    let wal = OpenOptions::new().write(true).open(folder.path().join("runs.db-wal")).unwrap();
    wal.set_len(flushed).unwrap();
    let engine = lab.try_open(&path).unwrap();
    engine.view(&shown).await.unwrap();
    assert!(matches!(engine.view(&unseen).await, Err(EngineError::NotFound(_))));
    lab.world.holds.add_permits(10);
    assert_eq!(end(&engine, &shown).await.view.status, RunStatus::Succeeded);
}

#[tokio::test]
async fn a_torn_record_loses_nothing_that_was_shown() {
    let lab = Lab::new();
    let engine = lab.open();
    let id = start(&engine, &chain(vec![read_only("a", "hold")])).await;
    let before = engine.view(&id).await.unwrap();
    let flushed = std::fs::metadata(lab.folder.path().join("runs.db-wal")).unwrap().len();
    lab.world.holds.add_permits(1);
    end(&engine, &id).await;
    let (folder, path) = lab.wreck();
    drop(engine);
    let wal = OpenOptions::new().write(true).open(folder.path().join("runs.db-wal")).unwrap();
    wal.set_len(flushed + 100).unwrap();

    let engine = lab.try_open(&path).unwrap();
    let after = engine.view(&id).await.unwrap();
    assert!(after.revision >= before.revision);
    lab.world.holds.add_permits(1);
    assert_eq!(end(&engine, &id).await.view.status, RunStatus::Succeeded);
}

#[tokio::test]
async fn a_servers_task_is_polled_after_a_crash_never_called_again() {
    let lab = Lab::new();
    let engine = lab.open();
    let id = start(&engine, &plan(vec![call("a", "detaches", EffectClass::AtMostOnce)])).await;
    lab.world.until_seen(2).await;
    engine.view(&id).await.unwrap();
    drop(engine);

    let engine = lab.open();
    let seen = lab.world.until_seen(3).await;
    assert_eq!(seen.iter().filter(|seen| seen.entry == Entry::Fresh).count(), 1);
    assert!(matches!(&seen[2].entry, Entry::Attach { handle, .. } if handle["task"] == json!(7)));
    lab.world.holds.add_permits(1);
    assert_eq!(end(&engine, &id).await.view.status, RunStatus::Succeeded);
}

#[tokio::test]
async fn an_answer_given_before_a_crash_is_not_asked_for_again() {
    let lab = Lab::new();
    let engine = lab.open();
    let id = start(&engine, &chain(vec![read_only("a", "asks"), read_only("b", "hold")])).await;
    let key = question(&engine, &id).await;
    drop(engine);
    // The call asks again after the restart, and the question is still the same.
    let engine = lab.open();
    assert_eq!(question(&engine, &id).await, key);
    assert!(engine.input(&id, &key, accept(Some(json!({ "sure": true })))).await.unwrap());
    let (_folder, path) = lab.wreck();
    drop(engine);
    lab.world.holds.add_permits(1);
    let engine = lab.try_open(&path).unwrap();
    let run = end(&engine, &id).await;
    assert_eq!(output(&engine, &run).await["a"]["content"], json!({ "sure": true }));
}

#[tokio::test]
async fn runs_without_work_leave_memory_and_come_back_for_an_answer() {
    let mut lab = Lab::new();
    lab.options.park_after = Duration::ZERO;
    let engine = lab.open();
    let id = start(&engine, &chain(vec![read_only("a", "big"), confirm("sure"), read_only("b", "echo")])).await;
    let key = question(&engine, &id).await;
    // Leaving memory is what lets go of what is kept for the run.
    while lab.world.released().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(engine.view(&id).await.unwrap().view.status, RunStatus::InputRequired);
    assert!(!engine.input(&id, "another", accept(None)).await.unwrap());
    assert_eq!(comebacks(&engine, &id).await, 0, "looking does not bring it back");

    let waiting = engine.wait(&id, Until::Ended, LONG, false);
    let answering = async {
        tokio::task::yield_now().await;
        assert!(engine.input(&id, &key, accept(None)).await.unwrap());
    };
    let (run, ()) = tokio::join!(waiting, answering);
    assert_eq!(run.unwrap().view.status, RunStatus::Succeeded);
    assert_eq!(comebacks(&engine, &id).await, 1);
    assert_eq!(lab.world.tools(), ["big", "echo"]);
}

#[tokio::test]
async fn a_parked_run_can_be_cancelled_after_a_restart() {
    let lab = Lab::new();
    let engine = lab.open();
    let id = start(&engine, &chain(vec![confirm("sure")])).await;
    question(&engine, &id).await;
    drop(engine);
    let engine = lab.open();
    engine.cancel(&id, "enough").await.unwrap();
    assert_eq!(end(&engine, &id).await.view.outcome, Some(Outcome::Cancelled { reason: "enough".into() }));
}

#[tokio::test]
async fn a_long_history_comes_back_from_a_snapshot() {
    let mut lab = Lab::new();
    lab.options.park_after = Duration::ZERO;
    let engine = lab.open();
    let mut steps: Vec<_> = (0..30).map(|n| read_only(&format!("s{n}"), "echo")).collect();
    steps.push(confirm("sure"));
    let id = start(&engine, &chain(steps)).await;
    let key = question(&engine, &id).await;
    while lab.world.released().is_empty() {
        tokio::task::yield_now().await;
    }
    drop(engine);
    let database = rusqlite::Connection::open(lab.database()).unwrap();
    let covered: u64 = database.query_row("SELECT snapshot_seq FROM runs", [], |row| row.get(0)).unwrap();
    // What the snapshot covers is not needed to go on.
    database.execute("DELETE FROM events WHERE seq <= ?1", [covered]).unwrap();
    drop(database);
    let engine = lab.open();
    assert!(engine.input(&id, &key, accept(None)).await.unwrap());
    let run = end(&engine, &id).await;
    assert_eq!(run.view.status, RunStatus::Succeeded);
    assert_eq!(run.view.steps.len(), 31);
}

#[tokio::test]
async fn timers_fire_at_their_time_in_memory_and_out_of_it() {
    let time = still();
    let mut lab = Lab::new();
    lab.options.park_after = Duration::from_secs(1);
    let engine = lab.open();
    let long = start(&engine, &chain(vec![wait_for("nap", 3_600_000), read_only("a", "echo")])).await;
    let short = start(&engine, &chain(vec![wait_for("nap", 500)])).await;
    engine.view(&short).await.unwrap();
    time.pass(Duration::from_millis(499)).await;
    assert_eq!(engine.view(&short).await.unwrap().view.status, RunStatus::Working);
    time.pass(Duration::from_millis(2)).await;
    assert_eq!(end(&engine, &short).await.view.status, RunStatus::Succeeded);
    assert_eq!(comebacks(&engine, &short).await, 0, "it stayed in memory");

    time.pass(Duration::from_secs(2)).await;
    while !lab.world.released().contains(&long) {
        tokio::task::yield_now().await;
    }
    time.pass(Duration::from_secs(3_590)).await;
    assert_eq!(engine.view(&long).await.unwrap().view.status, RunStatus::Working);
    time.pass(Duration::from_secs(10)).await;
    assert_eq!(end(&engine, &long).await.view.status, RunStatus::Succeeded);
    assert_eq!(comebacks(&engine, &long).await, 1);
}

#[tokio::test]
async fn a_timer_outlives_the_process() {
    let time = still();
    let lab = Lab::new();
    let engine = lab.open();
    let id = start(&engine, &chain(vec![wait_for("nap", 3_600_000), read_only("a", "echo")])).await;
    let before = engine.view(&id).await.unwrap();
    drop(engine);
    assert_eq!(before.view.status, RunStatus::Working);
    time.pass(Duration::from_secs(2 * 3_600)).await;
    let engine = lab.open();
    assert_eq!(end(&engine, &id).await.view.status, RunStatus::Succeeded);
}

#[tokio::test]
async fn pausing_lets_calls_end_begins_nothing_and_goes_on_later() {
    let lab = Lab::new();
    let engine = lab.open();
    let plan = chain(vec![call("a", "hold", EffectClass::AtMostOnce), call("b", "echo", EffectClass::AtMostOnce)]);
    let id = start(&engine, &plan).await;
    lab.world.until_seen(1).await;
    let ((), ()) = tokio::join!(engine.pause(LONG), async {
        tokio::task::yield_now().await;
        lab.world.holds.add_permits(1);
    });
    assert_eq!(lab.world.tools(), ["hold"], "nothing new began");
    assert!(matches!(engine.start(request(&plan)).await, Err(EngineError::Stopping)));
    assert!(matches!(engine.cancel(&id, "").await, Err(EngineError::Stopping)));
    let paused = engine.view(&id).await.unwrap();
    assert_eq!(paused.view.status, RunStatus::Working);
    drop(engine);

    let engine = lab.open();
    let run = end(&engine, &id).await;
    assert_eq!(run.view.status, RunStatus::Succeeded, "no doubt: {run:#?}");
    assert_eq!(lab.world.tools(), ["hold", "echo"]);
}

#[tokio::test]
async fn a_preparation_that_ends_during_a_pause_starts_no_call_and_leaves_no_doubt() {
    let lab = Lab::new();
    let engine = lab.open();
    let id = start(&engine, &plan(vec![call("a", "slow", EffectClass::AtMostOnce)])).await;
    while lab.world.prepared() == 0 {
        tokio::task::yield_now().await;
    }
    let ((), ()) = tokio::join!(engine.pause(LONG), async {
        tokio::task::yield_now().await;
        lab.world.preparations.add_permits(1);
    });
    assert!(lab.world.seen().is_empty());
    drop(engine);
    lab.world.preparations.add_permits(1);
    let engine = lab.open();
    assert_eq!(end(&engine, &id).await.view.status, RunStatus::Succeeded);
}

#[tokio::test]
async fn pausing_gives_up_on_what_does_not_end() {
    let time = still();
    let lab = Lab::new();
    let engine = lab.open();
    let id = start(&engine, &plan(vec![read_only("a", "stubborn")])).await;
    lab.world.until_seen(1).await;
    let pass = async {
        tokio::task::yield_now().await;
        time.pass(Duration::from_secs(4)).await;
    };
    tokio::join!(engine.pause(Duration::from_secs(3)), pass);
    drop(engine);
    let engine = lab.open();
    lab.world.until_seen(2).await;
    assert_eq!(engine.view(&id).await.unwrap().view.status, RunStatus::Working);
}

#[tokio::test]
async fn a_pause_waits_long_only_for_calls_that_would_be_in_doubt() {
    let time = still();
    let lab = Lab::new();
    let engine = lab.open();
    let repeatable = start(&engine, &plan(vec![read_only("a", "stubborn")])).await;
    let other = start(&engine, &plan(vec![call("a", "hold", EffectClass::AtMostOnce)])).await;
    lab.world.until_seen(2).await;
    let pass = async {
        tokio::task::yield_now().await;
        time.pass(Duration::from_secs(10)).await;
        lab.world.holds.add_permits(1);
    };
    // The time of this pause never comes: it ends with the call that had to be waited for.
    tokio::join!(engine.pause(Duration::from_secs(3_600)), pass);
    drop(engine);
    let engine = lab.open();
    lab.world.until_seen(3).await;
    assert_eq!(lab.world.tools()[2], "stubborn", "made again");
    assert_eq!(end(&engine, &other).await.view.status, RunStatus::Succeeded);
    assert_eq!(engine.view(&repeatable).await.unwrap().view.status, RunStatus::Working);
}

#[tokio::test]
async fn many_busy_runs_are_taken_over_at_once() {
    let lab = Lab::new();
    let engine = lab.open();
    let plan = chain(vec![read_only("a", "hold"), read_only("b", "echo")]);
    let mut ids = Vec::new();
    for _ in 0..50 {
        ids.push(start(&engine, &plan).await);
    }
    lab.world.until_seen(50).await;
    engine.history(&ids[0]).await.unwrap();
    let (_folder, path) = lab.wreck();
    drop(engine);
    lab.world.holds.add_permits(50);
    let engine = lab.try_open(&path).unwrap();
    for id in &ids {
        assert_eq!(end(&engine, id).await.view.status, RunStatus::Succeeded);
    }
    assert_eq!(lab.world.tools().iter().filter(|tool| *tool == "echo").count(), 50);
}
