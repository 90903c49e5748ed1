//! Verbs that only read files: `check`, `graph`, `schema`, `run --dry-run`.

use crate::support::{ASKS, Project};

#[test]
fn check_tells_what_is_wrong_and_where() {
    let project =
        Project::new(&[("good.toml", ASKS), ("bad.toml", "[steps.a]\nsett = 1\n"), ("Cargo.toml", "[package]\n")]);
    let done = project.antiphon(&["check"]).expect(2);
    assert_eq!(done.stdout, "");
    assert!(done.stderr.contains("bad.toml:2"), "{}", done.stderr);
    assert!(!done.stderr.contains("Cargo.toml"), "{}", done.stderr);
    project.antiphon(&["check", "good.toml"]).expect(0);

    let done = project.antiphon(&["check", "--json", "bad.toml"]).expect(2);
    let first: serde_json::Value = serde_json::from_str(done.stdout.lines().next().unwrap()).unwrap();
    assert_eq!((&first["path"], &first["line"]), (&"bad.toml".into(), &2.into()));
}

#[test]
fn check_starts_nothing_and_needs_no_variables() {
    let server = "[servers.x]\ncommand = \"touch\"\nargs = [\"touched\"]\nenv = { TOKEN = \"${NO_SUCH_TOKEN}\" }\n[steps.a]\ncall = \"x.y\"\n";
    let project = Project::new(&[("a.toml", server)]);
    project.antiphon(&["check"]).expect(0);
    assert!(!project.folder().join("touched").exists());
}

#[test]
fn graphs_and_schemas_are_data() {
    let project = Project::new(&[("a.toml", ASKS)]);
    assert!(project.antiphon(&["graph", "a.toml"]).expect(0).stdout.starts_with("flowchart"));
    assert!(project.antiphon(&["graph", "a.toml", "--format", "dot"]).expect(0).stdout.starts_with("digraph"));
    for kind in ["workflow", "project"] {
        assert!(project.antiphon(&["schema", kind]).expect(0).json()["properties"].is_object());
    }
}

#[test]
fn a_dry_run_calls_nothing_and_says_what_would_be_called() {
    let text =
        "[servers.x]\ncommand = \"touch\"\nargs = [\"touched\"]\n[steps.a]\ncall = \"x.y\"\neffects = \"read_only\"\n";
    let project = Project::new(&[("a.toml", text)]);
    let done = project.antiphon(&["run", "a.toml", "--dry-run"]).expect(0);
    for part in ["call a/x.y [read_only]", "touch touched", "1000 calls"] {
        assert!(done.stdout.contains(part), "{part}: {}", done.stdout);
    }
    assert!(!project.folder().join("touched").exists());
    assert_eq!(project.antiphon(&["run", "a.toml", "--dry-run", "--json"]).expect(0).json()["workflow"], "a");
}

#[test]
fn what_is_missing_is_named() {
    let project = Project::new(&[("a.toml", ASKS)]);
    for (args, says) in [
        (&["run", "none.toml"][..], "can't open none.toml"),
        (&["run", "."], "is not a workflow file"),
        (&["run", "a.toml", "-i", "colour=red"], "there is no input `colour`"),
        (&["show", "abc"], "this project has no run abc"),
        (&["call", "nobody"], "there is no workflow `nobody`"),
        (&["call", "no.tool"], "no server is named `no`"),
        (&["serve", "--token", "ci=NO_SUCH_VARIABLE", "--transport", "http"], "is not set"),
        (&["serve", "--host", "0.0.0.0", "--transport", "http"], "can be reached from other machines"),
    ] {
        let done = project.antiphon(args).expect(2);
        assert!(done.stderr.contains(says), "{args:?}: {}", done.stderr);
        assert_eq!(done.stdout, "", "{args:?}");
    }
}

#[test]
fn help_names_the_exit_codes() {
    let done = Project::new(&[]).antiphon(&["--help"]).expect(0);
    assert!(done.stdout.contains("   3  the run waits for an answer"), "{}", done.stdout);
}
