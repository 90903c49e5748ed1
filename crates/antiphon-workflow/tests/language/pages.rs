//! Every code has a page in `docs/errors/`; what a page calls broken is, and what it calls mended is not.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

use antiphon_workflow::{CODES, Checked, Project, SourceFile, Sources};

use crate::common;

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors")
}

#[test]
fn codes_and_pages_are_the_same() {
    let mut pages: Vec<_> =
        fs::read_dir(docs()).unwrap().map(|page| page.unwrap().file_name().into_string().unwrap()).collect();
    pages.sort();
    let mut expected: Vec<_> =
        CODES.iter().map(|(code, ..)| format!("{code}.md")).chain(["README.md".to_owned()]).collect();
    expected.sort();
    assert_eq!(pages, expected);
}

#[test]
fn the_index_lists_all() {
    let index = fs::read_to_string(docs().join("README.md")).unwrap();
    for (code, severity, title) in CODES {
        let severity = match severity {
            miette::Severity::Error => "error",
            miette::Severity::Warning => "warning",
            miette::Severity::Advice => "information",
        };
        let line = format!("| [{code}]({code}.md) | {severity} | {title} |");
        assert!(index.contains(&line), "docs/errors/README.md lacks: {line}");
    }
}

#[test]
fn examples_are_what_they_say() {
    for (code, _, title) in CODES {
        let page = fs::read_to_string(docs().join(format!("{code}.md"))).unwrap();
        assert!(page.starts_with(&format!("# {code}: {title}\n")), "{code}: the page begins otherwise");
        let broken = load(section(&page, "## Broken"));
        assert!(
            common::codes(&broken).contains(&code.as_str()),
            "{code}: the broken example says\n{}",
            common::report(&broken)
        );
        let mended = load(section(&page, "## Mended"));
        assert!(
            !common::codes(&mended).contains(&code.as_str()),
            "{code}: the mended example says\n{}",
            common::report(&mended)
        );
        assert!(!mended.has_errors(), "{code}: the mended example says\n{}", common::report(&mended));
    }
}

/// The text under a heading.
fn section<'p>(page: &'p str, heading: &str) -> &'p str {
    let (_, rest) = page.split_once(heading).unwrap_or_else(|| panic!("no {heading} in {page}"));
    rest.split_once("\n## ").map_or(rest, |(section, _)| section)
}

/// Loads the TOML blocks of a section. One that begins with `# NAME.toml` is that file, another is `flow.toml`.
fn load(section: &str) -> Checked {
    let blocks = section.split("```toml\n").skip(1).map(|block| block.split("```").next().unwrap());
    let sources = blocks.map(|text| {
        let first = text.lines().next().and_then(|line| line.strip_prefix("# ")).filter(|name| name.ends_with(".toml"));
        SourceFile { path: first.unwrap_or("flow.toml").to_owned(), text: text.to_owned() }
    });
    let (configs, workflows) = sources.partition(|source| source.path == "antiphon.toml");
    let read = |path: &str| match path {
        "prompts/reply.md" => Ok("Reply to {{ input.text }}".to_owned()),
        _ => Err("there is no such file".to_owned()),
    };
    Project::load(&Sources { workflows, configs, read: &read })
}
