//! A disk that fills up under a run: a tiny file system where the system lets us mount one, and a limit on the size of files
//! everywhere.

use antiphon_tests::Scratch;
use serde_json::json;

use crate::{GOOD, INTERNAL, Seen, calls_of, only_run, run, shell, through};

/// A call that must not be repeated, a result that does not fit, and another call.
const WORKFLOW: &str = r#"
[steps.pay]
call = "good.charge"
with.id = "paid"
[steps.big]
needs = ["pay"]
call = "good.big"
with.bytes = 600_000
[steps.tell]
needs = ["big"]
call = "good.charge"
with.id = "told"
[output]
paid = "{{ steps.pay.output.charges }}"
size = "{{ steps.big.output | length }}"
told = "{{ steps.tell.output.charges }}"
"#;

fn project() -> Scratch {
    let scratch = Scratch::new();
    scratch.file("antiphon.toml", GOOD);
    scratch.file("pay.toml", WORKFLOW);
    scratch
}

/// What was paid stays paid: the run goes on after it.
#[track_caller]
fn goes_on(scratch: &Scratch) {
    let id = only_run(scratch);
    assert_eq!(calls_of(scratch, "charge"), 1);
    let output = run(scratch, &["resume", &id]).succeeds();
    assert_eq!(output, json!({ "paid": 1, "size": 600_000, "told": 1 }));
    assert_eq!(calls_of(scratch, "charge"), 2);
}

#[test]
fn files_may_not_grow_any_more() {
    let scratch = project();
    // In blocks of 512 bytes. Without the trap the system kills whoever writes more.
    let limit = "trap '' XFSZ\nulimit -f 600";
    let seen = Seen::of(&mut shell(limit, &scratch.with_db(&["run", "pay.toml", "--trust"])));
    let says = ["runs.db can't be read or written", "a file size limit", "`antiphon runs --db", "goes on with it"];
    seen.fails(INTERNAL, &says);
    goes_on(&scratch);
}

#[test]
fn no_room_for_anything() {
    let scratch = project();
    let limit = "trap '' XFSZ\nulimit -f 0";
    let seen = Seen::of(&mut shell(limit, &scratch.with_db(&["run", "pay.toml", "--trust"])));
    seen.fails(INTERNAL, &["can't use", "trusted"]);
    assert_eq!(calls_of(&scratch, "charge"), 0);
}

#[test]
fn the_disk_is_full() {
    let mount = "mount -t tmpfs -o size=8m none small";
    let alone = |script: &str, scratch: &Scratch| {
        std::fs::create_dir(scratch.path().join("small")).unwrap();
        through("unshare", &["-Urm", "sh", "-c", script], &scratch.antiphon(&["run", "pay.toml", "--trust"]))
    };
    if !alone(mount, &Scratch::new()).status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: no file system can be mounted here");
        return;
    }
    let scratch = project();
    // All but 300 KB of the small disk is taken; later it is given back. What was on it then is copied out.
    let script = format!(
        "{mount} && head -c 8088000 /dev/zero > small/filler
         \"$0\" \"$@\" --db small/runs.db; code=$?
         rm small/filler
         for file in small/*; do cp $file runs.db${{file#small/runs.db}}; done
         exit $code"
    );
    let says = ["no room for the database", "free some space", "`antiphon runs --db small/runs.db`", "goes on with it"];
    Seen::of(&mut alone(&script, &scratch)).fails(INTERNAL, &says);
    goes_on(&scratch);
}
