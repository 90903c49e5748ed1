//! What a model's own table says: how many answers at a time, how many requests a minute, how long it may be silent.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use antiphon_tests::model::says;
use antiphon_tests::{Era, Host, Model, Scratch, text_of};
use serde_json::json;

use crate::{DONE, FAILED, model, run};

fn project(url: &str, keys: &str, step: &str) -> Scratch {
    let scratch = Scratch::new();
    scratch.file("antiphon.toml", &format!("{}{keys}\n", model("m", url)));
    scratch.file("go.toml", &format!("[steps.it]\n{step}\nsample = \"m\"\nprompt = \"colour?\"\n"));
    scratch
}

#[test]
fn so_many_answers_are_under_way_at_a_time() {
    const FOUR: &str = "for_each = [1, 2, 3, 4]\nconcurrency = 4";
    // As many as there are, if it does not say: each waits for all the others.
    let all = Arc::new(Barrier::new(4));
    let thinks = Model::start(move |_| {
        all.wait();
        says("teal")
    });
    let (code, _, told) = run(&project(&thinks.url, "", FOUR), "go");
    assert_eq!(code, DONE, "{told}");

    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (count, highest) = (Arc::clone(&now), Arc::clone(&most));
    let thinks = Model::start(move |_| {
        highest.fetch_max(count.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(30));
        count.fetch_sub(1, Ordering::SeqCst);
        says("teal")
    });
    let (code, _, told) = run(&project(&thinks.url, "concurrency = 1", FOUR), "go");
    assert_eq!((code, thinks.heard().len()), (DONE, 4), "{told}");
    assert_eq!(most.load(Ordering::SeqCst), 1);
}

#[test]
fn a_minute_has_so_many_requests_whichever_run_makes_them() {
    let thinks = Model::start(|_| says("teal"));
    let scratch = project(&thinks.url, "requests_per_minute = 2", "timeout = \"20s\"");
    let mut host = Host::start(&mut scratch.with_db(&["serve", ".", "--trust"]), Era::Modern, json!({}));
    for _ in 0..2 {
        let ended = host.call("go", json!({}))["result"].clone();
        assert_eq!(ended["structuredContent"]["it"], "teal", "{ended}");
    }
    // The third would have to wait for most of a minute, and has less: it is told at once.
    let ended = host.call("go", json!({}))["result"].clone();
    assert_eq!(ended["isError"], true, "{ended}");
    assert!(text_of(&ended).contains("requests_per_minute"), "{ended}");
    assert_eq!(thinks.heard().len(), 2);
}

#[test]
fn it_may_be_silent_for_so_long() {
    let (release, held) = channel::<()>();
    let held = Mutex::new(held);
    let thinks = Model::start(move |_| {
        let _ = held.lock().unwrap().recv();
        says("too late")
    });
    let (code, _, told) = run(&project(&thinks.url, "timeout = \"200ms\"", ""), "go");
    drop(release);
    assert_eq!(code, FAILED, "{told}");
    assert!(told.contains("silent for 0.2 s"), "{told}");
}

#[test]
fn what_no_model_can_have_is_refused_with_its_place() {
    for (key, what) in [
        ("concurrency = 0", "concurrency"),
        ("requests_per_minute = 0", "requests_per_minute"),
        ("timeout = 5", "timeout"),
    ] {
        let scratch = project("http://127.0.0.1:9/v1", key, "");
        let (code, _, told) = scratch.run(&["check", "."]);
        assert_ne!(code, DONE, "{key}");
        assert!(told.contains(what) && told.contains("antiphon.toml"), "{key}: {told}");
    }
}
