//! The files in `examples/` that are for copying.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use antiphon_tests::repository;
use antiphon_workflow::{Project, SourceFile, Sources};

#[test]
fn the_models_are_as_the_language_has_them() {
    let text = std::fs::read_to_string(repository().join("examples/models.toml")).unwrap();
    let file = SourceFile { path: "examples/models.toml".to_owned(), text };
    let read = |path: &str| Err(format!("{path}: not needed"));
    let checked = Project::load(&Sources { workflows: Vec::new(), configs: vec![file], read: &read });
    assert!(checked.diagnostics.is_empty(), "{:?}", checked.diagnostics);
    assert!(checked.project.models.len() > 10);
    assert!(checked.project.models.values().all(|model| !model.base_url.ends_with('/')));
}
