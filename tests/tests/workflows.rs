//! The ready workflows in `workflows/`: all pass `check`, and all that they use is there.
#![expect(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use antiphon_tests::repository;
use antiphon_workflow::{Checked, Project, SourceFile, Sources};

fn source(path: &Path) -> SourceFile {
    SourceFile { path: path.display().to_string(), text: fs::read_to_string(path).unwrap() }
}

fn load() -> Checked {
    let mut files: Vec<_> =
        fs::read_dir(repository().join("workflows")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    let workflows = files.iter().map(|file| source(file)).collect();
    let configs = vec![source(&repository().join("antiphon.toml"))];
    let read = |path: &str| fs::read_to_string(path).map_err(|error| error.to_string());
    Project::load(&Sources { workflows, configs, read: &read })
}

#[test]
fn every_workflow_passes_check() {
    let checked = load();
    let wrong: Vec<String> =
        checked.diagnostics.iter().filter(|found| found.is_error()).map(|found| format!("{found:?}")).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(!checked.project.workflows.is_empty());
}

#[test]
fn every_workflow_is_told_about() {
    let readme = fs::read_to_string(repository().join("workflows/README.md")).unwrap();
    for name in load().project.workflows.keys() {
        assert!(readme.contains(&format!("({name}.toml)")), "workflows/README.md says nothing about {name}");
    }
}
