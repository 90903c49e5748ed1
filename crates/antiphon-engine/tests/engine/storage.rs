//! What the database may do to us.

use std::path::Path;
use std::time::Duration;

use crate::support::*;
use antiphon_engine::{Engine, EngineError, StartRun, Until};
use antiphon_kernel::{EffectClass, RunStatus};
use rusqlite::Connection;
use serde_json::json;

fn refusal(lab: &Lab, path: &Path) -> String {
    lab.try_open(path).err().expect("opened").to_string()
}

#[tokio::test]
async fn a_newer_database_is_refused_with_both_versions() {
    let lab = Lab::new();
    drop(lab.open());
    Connection::open(lab.database()).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let refusal = refusal(&lab, &lab.database());
    assert!(refusal.contains("version 99") && refusal.contains("up to 1"), "{refusal}");
}

#[tokio::test]
async fn a_locked_database_is_refused_after_a_while() {
    let lab = Lab::new();
    drop(lab.open());
    let other = Connection::open(lab.database()).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let refusal = refusal(&lab, &lab.database());
    assert!(refusal.contains("locked by another process"), "{refusal}");
}

#[tokio::test]
async fn what_is_no_database_of_ours_is_left_alone() {
    let lab = Lab::new();
    let text = lab.folder.path().join("notes.txt");
    std::fs::write(&text, "not a database, but rather a long text about something else altogether").unwrap();
    let message = refusal(&lab, &text);
    assert!(message.contains("notes.txt is damaged, or no database"), "{message}");
    assert!(std::fs::read_to_string(&text).unwrap().starts_with("not a database"));

    let foreign = lab.folder.path().join("music.db");
    Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE songs (name TEXT)").unwrap();
    let message = refusal(&lab, &foreign);
    assert!(message.contains("another program's database"), "{message}");

    let nowhere = lab.folder.path().join("missing").join("runs.db");
    let message = refusal(&lab, &nowhere);
    assert!(message.contains("can't create the database"), "{message}");
}

#[tokio::test]
async fn a_damaged_record_is_an_error_of_that_run_alone() {
    let lab = Lab::new();
    let engine = lab.open();
    let good = start(&engine, &plan(vec![read_only("a", "hold")])).await;
    let bad = start(&engine, &plan(vec![read_only("a", "hold")])).await;
    lab.world.until_seen(2).await;
    engine.history(&bad).await.unwrap();
    drop(engine);
    Connection::open(lab.database())
        .unwrap()
        .execute("UPDATE events SET body = '{' WHERE run = (SELECT n FROM runs WHERE id = ?1)", [&bad.0])
        .unwrap();
    lab.world.holds.add_permits(2);
    let engine = lab.open();
    assert_eq!(end(&engine, &good).await.view.status, RunStatus::Succeeded);
    let error = engine.view(&bad).await.unwrap_err().to_string();
    assert!(error.contains("can't be read"), "{error}");
}

#[tokio::test]
async fn a_run_whose_values_cant_be_read_goes_on_when_they_can() {
    let lab = Lab::new();
    let engine = lab.open();
    let measure = call_with("c", "measure", EffectClass::ReadOnly, template("{{ steps.a.output }}", &["a"], &[]));
    let id = start(&engine, &chain(vec![read_only("a", "big"), read_only("b", "hold"), measure])).await;
    lab.world.until_seen(2).await;
    engine.history(&id).await.unwrap();
    drop(engine);
    let change = |sql: &str| Connection::open(lab.database()).unwrap().execute_batch(sql).unwrap();
    change("UPDATE blobs SET sha256 = '-' || sha256");
    let engine = lab.open();
    lab.world.holds.add_permits(1);
    let error = engine.wait(&id, Until::Ended, LONG, false).await.unwrap_err().to_string();
    assert!(error.contains("is not in the database"), "{error}");
    drop(engine);
    change("UPDATE blobs SET sha256 = substr(sha256, 2)");
    let engine = lab.open();
    assert_eq!(end(&engine, &id).await.view.status, RunStatus::Succeeded);
}

#[tokio::test]
async fn a_run_of_another_kernel_version_is_left_alone() {
    let lab = Lab::new();
    let engine = lab.open();
    let id = start(&engine, &plan(vec![read_only("a", "hold")])).await;
    engine.view(&id).await.unwrap();
    drop(engine);
    Connection::open(lab.database()).unwrap().execute("UPDATE runs SET kernel = 99", []).unwrap();
    let engine = lab.open();
    let error = engine.view(&id).await.unwrap_err();
    assert!(matches!(error, EngineError::KernelVersion { found: 99, .. }), "{error}");
}

#[tokio::test]
async fn others_may_read_meanwhile() {
    let lab = Lab::new();
    let engine = lab.open();
    let reader = Connection::open(lab.database()).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM runs;").unwrap();
    let id = start(&engine, &plan(vec![read_only("a", "echo")])).await;
    assert_eq!(end(&engine, &id).await.view.status, RunStatus::Succeeded);
    reader.execute_batch("COMMIT").unwrap();
    let status: String = reader.query_row("SELECT view ->> 'status' FROM runs", [], |row| row.get(0)).unwrap();
    assert_eq!(status, "succeeded");
}

#[cfg(unix)]
#[tokio::test]
async fn the_database_is_nobody_elses_business() {
    use std::os::unix::fs::PermissionsExt;
    let lab = Lab::new();
    let engine = lab.open();
    let id = start(&engine, &plan(vec![read_only("a", "echo")])).await;
    end(&engine, &id).await;
    for name in ["runs.db", "runs.db-wal"] {
        let mode = std::fs::metadata(lab.folder.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn a_full_disk_freezes_the_run_and_it_goes_on_when_there_is_room() {
    let mut lab = Lab::new();
    lab.options.max_bytes = Some(300_000);
    let engine = lab.open();
    let small = start(&engine, &chain(vec![read_only("a", "hold"), read_only("b", "echo")])).await;
    engine.view(&small).await.unwrap();
    let large = chain(vec![
        confirm("sure"),
        read_only("a", "big"),
        call_with(
            "b",
            "echo",
            EffectClass::AtMostOnce,
            template("{{ steps.a.output }}{{ steps.a.output }}{{ steps.a.output }}", &["a"], &[]),
        ),
    ]);
    let large = start(&engine, &large).await;
    let key = question(&engine, &large).await;
    assert!(engine.input(&large, &key, accept(None)).await.unwrap());
    let error = engine.wait(&large, Until::Ended, LONG, false).await.unwrap_err().to_string();
    assert!(error.contains("no room for the database"), "{error}");
    assert_eq!(lab.world.tools(), ["hold", "big"], "what could not be recorded is not done");
    // Others go on.
    lab.world.holds.add_permits(1);
    assert_eq!(end(&engine, &small).await.view.status, RunStatus::Succeeded);
    drop(engine);

    lab.options.max_bytes = None;
    let engine = lab.open();
    let run = end(&engine, &large).await;
    assert_eq!(run.view.status, RunStatus::Succeeded);
    assert_eq!(lab.world.tools().iter().filter(|tool| *tool == "echo").count(), 2);
}

#[tokio::test]
async fn a_frozen_run_thaws_when_old_runs_make_room() {
    let time = still();
    let mut lab = Lab::new();
    lab.options.max_bytes = Some(450_000);
    let engine = lab.open();
    let old = StartRun { ttl: Duration::from_secs(100), ..request(&plan(vec![read_only("a", "big")])) };
    let old = engine.start(old).await.unwrap().id;
    end(&engine, &old).await;
    let id = engine.start(StartRun {
        input: json!({ "word": "y" }),
        ..request(&chain(vec![confirm("sure"), read_only("a", "bigger")]))
    });
    let id = id.await.unwrap().id;
    let key = question(&engine, &id).await;
    engine.input(&id, &key, accept(None)).await.unwrap();
    let error = engine.wait(&id, Until::Ended, LONG, false).await.unwrap_err().to_string();
    assert!(error.contains("no room"), "{error}");
    time.pass(Duration::from_secs(200)).await;
    while engine.view(&old).await.is_ok() {
        time.pass(Duration::from_secs(30)).await;
    }
    loop {
        time.pass(Duration::from_secs(10)).await;
        match engine.view(&id).await {
            Ok(run) if run.ended_at.is_some() => break assert_eq!(run.view.status, RunStatus::Succeeded),
            _ => {}
        }
    }
}

#[tokio::test]
async fn looking_flushes_once_and_a_read_only_run_that_ends_inline_never() {
    let lab = Lab::new();
    let engine = lab.open();
    let id = start(&engine, &chain(vec![read_only("a", "echo"), read_only("b", "echo")])).await;
    let run = engine.wait(&id, Until::Ended, LONG, true).await.unwrap();
    assert_eq!(run.view.status, RunStatus::Succeeded);
    while lab.world.released().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(engine.flushes(), 0);
    engine.view(&id).await.unwrap();
    engine.view(&id).await.unwrap();
    engine.list(antiphon_engine::Filter::default(), None, 10).await.unwrap();
    assert_eq!(engine.flushes(), 1);
}

#[tokio::test]
async fn a_run_that_could_not_be_recorded_was_never_started() {
    let mut lab = Lab::new();
    lab.options.max_bytes = Some(120_000);
    let engine = lab.open();
    let plan = plan(vec![read_only("a", "echo")]);
    let started =
        engine.start(StartRun { input: json!({ "word": "x".repeat(200_000) }), ..request(&plan) }).await.unwrap();
    let error = engine.view(&started.id).await.unwrap_err();
    assert!(matches!(error, EngineError::Storage(_) | EngineError::NotFound(_)), "{error}");
    let id = start(&engine, &plan).await;
    assert_eq!(end(&engine, &id).await.view.status, RunStatus::Succeeded);
}

#[tokio::test]
async fn ended_runs_go_when_their_time_is_over_with_what_only_they_used() {
    let time = still();
    let mut lab = Lab::new();
    lab.options.sweep_every = Duration::from_secs(60);
    let engine = lab.open();
    let big = plan(vec![read_only("a", "big")]);
    let short = StartRun { ttl: Duration::from_secs(100), ..request(&big) };
    let short = engine.start(short).await.unwrap().id;
    let year = Duration::from_secs(365 * 24 * 3_600);
    let long = engine.start(StartRun { ttl: year, ..request(&big) }).await.unwrap().id;
    let live = StartRun { ttl: Duration::ZERO, ..request(&chain(vec![confirm("sure")])) };
    let live = engine.start(live).await.unwrap().id;
    let run = end(&engine, &short).await;
    end(&engine, &long).await;
    question(&engine, &live).await;

    time.pass(Duration::from_secs(99)).await;
    assert_eq!(engine.view(&short).await.unwrap().revision, run.revision);
    while engine.view(&short).await.is_ok() {
        time.pass(Duration::from_secs(30)).await;
    }
    assert!(matches!(engine.view(&short).await, Err(EngineError::NotFound(_))));
    let run = engine.view(&long).await.unwrap();
    assert_eq!(output(&engine, &run).await["a"].as_str().unwrap().len(), 100_000, "the blob is shared");
    assert_eq!(engine.view(&live).await.unwrap().view.status, RunStatus::InputRequired);

    while engine.view(&long).await.is_ok() {
        time.pass(year / 12).await;
    }
    let database = Connection::open(lab.database()).unwrap();
    let count = |sql| database.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count("SELECT count(*) FROM blobs"), 0);
    assert_eq!(count("SELECT count(*) FROM blob_refs"), 0);
    assert_eq!(count("SELECT count(*) FROM runs"), 1);
    assert_eq!(count("SELECT count(*) FROM plans"), 1);
    assert_eq!(count("SELECT count(DISTINCT run) FROM events"), 1);
    assert_eq!(engine.view(&live).await.unwrap().view.status, RunStatus::InputRequired);
}
