//! Each broken file gets diagnostics that point at the place and say what to do.

use crate::common;
use antiphon_workflow::CODES;

#[test]
fn broken_files() {
    let files = common::files(&common::folder("broken"));
    assert!(files.len() >= 25, "there are {} broken files", files.len());
    for file in files {
        let checked = common::load(&file);
        let name = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        assert!(!checked.diagnostics.is_empty(), "{name}: nothing is said");
        insta::assert_snapshot!(name, common::report(&checked));
    }
}

/// No code without a file that shows it.
#[test]
fn every_code_is_shown() {
    let files = common::files(&common::folder("broken"));
    let shown: Vec<_> = files.iter().flat_map(|file| common::codes(&common::load(file))).collect();
    let missing: Vec<_> = CODES.iter().map(|(code, ..)| code.as_str()).filter(|code| !shown.contains(code)).collect();
    assert!(missing.is_empty(), "no broken file shows {missing:?}");
}
