//! Databases that can't be used, and what a killed owner leaves behind.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use antiphon_tests::{Era, Host, Scratch};
use rusqlite::Connection;
use serde_json::json;

use crate::{DONE, INTERNAL, NEEDS_INPUT, Seen, USAGE, only_run, run, runs, through};

/// How long anything may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// A project with one run, which waits for an answer.
fn waiting() -> (Scratch, String) {
    let scratch = Scratch::new();
    scratch.file("ask.toml", "[steps.a]\nelicit = \"Sure?\"\n");
    run(&scratch, &["run", "ask.toml"]).fails(NEEDS_INPUT, &["Sure?"]);
    let id = only_run(&scratch);
    (scratch, id)
}

/// The run is there, and goes on.
#[track_caller]
fn goes_on(scratch: &Scratch, id: &str) {
    assert_eq!(only_run(scratch), id);
    assert_eq!(run(scratch, &["answer", id, "--accept"]).succeeds(), json!({ "a": true }));
}

#[track_caller]
fn all_fail(scratch: &Scratch, id: &str, says: &[&str]) {
    let answer = ["answer", id, "--accept"];
    for args in [&["run", "ask.toml"][..], &["runs"], &["show", id], &["serve", "."], &answer] {
        run(scratch, args).fails(INTERNAL, says);
    }
}

#[test]
fn a_newer_database_is_left_alone() {
    let (scratch, id) = waiting();
    let version = |version: u32| {
        Connection::open(scratch.database()).unwrap().pragma_update(None, "user_version", version).unwrap();
    };
    version(999);
    let before = fs::read(scratch.database()).unwrap();
    all_fail(&scratch, &id, &["runs.db has version 999", "use a newer antiphon, or another database"]);
    assert_eq!(fs::read(scratch.database()).unwrap(), before);
    version(1);
    goes_on(&scratch, &id);
}

#[test]
fn a_damaged_database_is_left_alone() {
    let (scratch, id) = waiting();
    // Everything is in the one file.
    Connection::open(scratch.database()).unwrap().query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let whole = fs::read(scratch.database()).unwrap();
    let mut torn = whole.clone();
    torn[4096..].fill(0xa5);
    for damaged in [&b"this is no database, but long enough to be read as one".repeat(4)[..], &torn, &whole[..6000]] {
        fs::write(scratch.database(), damaged).unwrap();
        all_fail(&scratch, &id, &["runs.db is damaged, or no database", "restore a copy, or move it out of the way"]);
        assert_eq!(fs::read(scratch.database()).unwrap(), damaged);
    }
    fs::write(scratch.database(), whole).unwrap();
    goes_on(&scratch, &id);
}

#[test]
fn another_programs_database_is_left_alone() {
    let scratch = Scratch::new();
    scratch.file("ask.toml", "[steps.a]\nelicit = \"Sure?\"\n");
    let connection = Connection::open(scratch.database()).unwrap();
    connection.execute_batch("CREATE TABLE theirs (a); INSERT INTO theirs VALUES (7)").unwrap();
    all_fail(&scratch, "abc", &["runs.db is another program's database: choose another file"]);
    assert_eq!(connection.query_row("SELECT a FROM theirs", [], |row| row.get::<_, i64>(0)).unwrap(), 7);
    // A file that is none is not made one.
    let seen = Seen::of(&mut scratch.antiphon(&["run", "ask.toml", "--db", "ask.toml"]));
    seen.fails(INTERNAL, &["ask.toml is damaged, or no database"]);
    assert!(fs::read_to_string(scratch.path().join("ask.toml")).unwrap().starts_with("[steps.a]"));
    Seen::of(&mut scratch.antiphon(&["run", "ask.toml", "--db", "."]))
        .fails(USAGE, &["is a folder", "name a file in it"]);
}

/// Somebody else keeps others from writing to the database, until told to let go.
struct Locked {
    holder: Option<JoinHandle<()>>,
    let_go: Sender<()>,
}

impl Locked {
    fn by_another(database: PathBuf) -> Self {
        let (locked, is_locked) = channel();
        let (let_go, told) = channel::<()>();
        let holder = std::thread::spawn(move || {
            let connection = Connection::open(database).unwrap();
            connection.execute_batch("BEGIN IMMEDIATE").unwrap();
            locked.send(()).unwrap();
            let _ = told.recv();
        });
        is_locked.recv().unwrap();
        Self { holder: Some(holder), let_go }
    }

    fn ends(mut self) {
        let _ = self.let_go.send(());
        self.holder.take().unwrap().join().unwrap();
    }
}

#[test]
fn a_locked_database_is_waited_for_and_then_said_to_be_locked() {
    let (scratch, id) = waiting();
    let locked = Locked::by_another(scratch.database());
    let says = ["runs.db is locked by another process", "end that process, or use another database"];
    run(&scratch, &["answer", &id, "--accept"]).fails(INTERNAL, &says);
    let other = Seen::of(&mut scratch.antiphon(&["run", "ask.toml", "--db", "other.db"]));
    other.fails(NEEDS_INPUT, &["Sure?"]);
    locked.ends();
    goes_on(&scratch, &id);
}

#[test]
fn a_database_that_is_locked_for_a_moment_is_waited_for() {
    let (scratch, id) = waiting();
    let locked = Locked::by_another(scratch.database());
    let waits = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        locked.ends();
    });
    goes_on(&scratch, &id);
    waits.join().unwrap();
}

/// While runs are under way the lock costs them time, or freezes them; when it is gone they go on.
#[test]
fn a_lock_that_comes_later_loses_nothing() {
    let (scratch, id) = waiting();
    let mut host = Host::start(&mut scratch.with_db(&["serve", "."]), Era::Modern, antiphon_tests::extension());
    host.ask("tools/list", json!({}));
    let locked = Locked::by_another(scratch.database());
    run(&scratch, &["answer", &id, "--accept"]).fails(INTERNAL, &["runs.db is locked by another process"]);
    locked.ends();
    // The run is looked at again after a while, not at once.
    let begun = Instant::now();
    while run(&scratch, &["answer", &id, "--accept"]).code != DONE {
        assert!(begun.elapsed() < PATIENCE, "the run stays frozen");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(runs(&scratch)[0]["status"], "succeeded");
    let answer = host.call("ask", json!({}));
    assert_eq!(answer["result"]["resultType"], "task", "{answer}");
}

#[test]
fn what_a_killed_owner_leaves_is_in_nobodys_way() {
    let (scratch, id) = waiting();
    let mut host = Host::start(&mut scratch.with_db(&["serve", "."]), Era::Modern, json!({}));
    host.ask("tools/list", json!({}));
    let beside = |suffix: &str| PathBuf::from(format!("{}{suffix}", scratch.database().display()));
    let (lock, socket) = (beside(".lock"), beside(".socket"));
    assert!(socket.exists());
    host.kill();
    assert!(socket.exists() && fs::read_to_string(&lock).unwrap().contains("socket"), "it had no time to clean up");
    assert_eq!(only_run(&scratch), id);

    // Nor is what a damaged disk makes of it.
    fs::write(&lock, b"\xff\0garbage").unwrap();
    let _ = fs::remove_file(&socket);
    fs::write(&socket, b"no socket").unwrap();
    fs::set_permissions(&socket, Permissions::from_mode(0o000)).unwrap();
    goes_on(&scratch, &id);
    // The key is another matter: callers hold what it sealed.
    fs::write(beside(".key"), b"short").unwrap();
    run(&scratch, &["run", "ask.toml"]).fails(INTERNAL, &["runs.db.key is not a key", "delete it"]);
}

/// The command without root's licence to write where nobody may.
fn as_anybody(command: &Command) -> Command {
    match Command::new("id").arg("-u").output().unwrap().stdout == b"0\n" {
        true => through("setpriv", &["--bounding-set=-all", "--inh-caps=-all", "--"], command),
        false => through("env", &[], command),
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_folder_that_may_not_be_written() {
    let (scratch, id) = waiting();
    let folder = scratch.path().join("closed");
    fs::create_dir(&folder).unwrap();
    fs::copy(scratch.database(), folder.join("runs.db")).unwrap();
    let try_with = |database: &str, says: &[&str]| {
        Seen::of(&mut as_anybody(scratch.antiphon(&["run", "ask.toml"]).args(["--db", database])))
            .fails(INTERNAL, says);
    };
    set_mode(&folder, 0o555);
    try_with("closed/runs.db", &["runs.db.lock", "Permission denied", "must be writable"]);
    try_with("closed/deeper/runs.db", &["can't make", "closed/deeper", "Permission denied", "--db"]);
    set_mode(&folder, 0o755);
    set_mode(&folder.join("runs.db"), 0o444);
    try_with("closed/runs.db", &["runs.db", "Permission denied"]);
    set_mode(&folder.join("runs.db"), 0o000);
    try_with("closed/runs.db", &["runs.db", "Permission denied"]);
    set_mode(&folder.join("runs.db"), 0o644);
    try_with("ask.toml/runs.db", &["can't make", "ask.toml"]);
    goes_on(&scratch, &id);
}
