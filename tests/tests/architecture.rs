//! `ARCHITECTURE.md` answers questions with `path::symbol`; each must exist.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use antiphon_tests::repository;

#[test]
fn every_answer_exists() {
    let page = std::fs::read_to_string(repository().join("ARCHITECTURE.md")).unwrap();
    let mut answers = 0;
    let mut missing = Vec::new();
    for (path, symbol) in
        page.split('`').filter_map(|code| code.split_once("::")).filter(|(path, _)| path.ends_with(".rs"))
    {
        answers += 1;
        let Ok(source) = std::fs::read_to_string(repository().join(path)) else {
            missing.push(format!("{path}: no such file"));
            continue;
        };
        // `Type::method`: the type and the method are both defined there.
        for name in symbol.split("::") {
            let defined = ["fn", "struct", "enum", "trait", "const", "static", "mod", "type"].iter().any(|kind| {
                source.lines().any(|line| {
                    let rest = line.trim_start().trim_start_matches("pub").trim_start();
                    let rest = rest.trim_start_matches("(crate)").trim_start_matches("(super)").trim_start();
                    let rest = rest.trim_start_matches("async").trim_start();
                    rest.strip_prefix(kind)
                        .and_then(|rest| rest.strip_prefix(' '))
                        .and_then(|rest| rest.strip_prefix(name))
                        .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
                })
            });
            let implemented = source.contains(&format!("impl {name}")) || source.contains(&format!(" for {name}"));
            if !defined && !implemented {
                missing.push(format!("{path}: no `{name}` in it"));
            }
        }
    }
    assert!(answers >= 20, "the table has {answers} answers");
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}
