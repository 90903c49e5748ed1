//! Loading fixtures, and showing what is said about them.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use antiphon_workflow::{Checked, Project, SourceFile, Sources};
use miette::{GraphicalReportHandler, GraphicalTheme};

/// A folder of this crate's fixtures.
pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// The TOML files of a folder, in order.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "toml"))
        .collect();
    paths.sort();
    paths
}

/// Loads a fixture: the file itself, and, from the folder of the same name, further workflows, an `antiphon.toml`, and
/// what they mention.
pub fn load(file: &Path) -> Checked {
    let beside = file.with_extension("");
    let (configs, mut workflows): (Vec<_>, Vec<_>) =
        files(&beside).into_iter().partition(|path| path.ends_with("antiphon.toml"));
    workflows.insert(0, file.to_owned());
    let source = |path: PathBuf| SourceFile {
        path: path.file_name().unwrap().to_str().unwrap().to_owned(),
        text: fs::read_to_string(path).unwrap(),
    };
    let read = |path: &str| fs::read_to_string(beside.join(path)).map_err(|error| error.kind().to_string());
    Project::load(&Sources {
        workflows: workflows.into_iter().map(source).collect(),
        configs: configs.into_iter().map(source).collect(),
        read: &read,
    })
}

/// Loads one text, as `flow.toml`.
pub fn load_text(text: &str) -> Checked {
    Project::load(&Sources {
        workflows: vec![SourceFile { path: "flow.toml".to_owned(), text: text.to_owned() }],
        configs: Vec::new(),
        read: &|path| Err(format!("there is no {path}")),
    })
}

/// Everything that is said, as a terminal without colours shows it.
pub fn report(checked: &Checked) -> String {
    let theme = GraphicalTheme::unicode_nocolor();
    let handler = GraphicalReportHandler::new_themed(theme).with_width(110).with_links(false).with_urls(true);
    let mut out = String::new();
    for diagnostic in &checked.diagnostics {
        handler.render_report(&mut out, diagnostic).unwrap();
        writeln!(out).unwrap();
    }
    out.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// The codes of everything that is said, in order.
pub fn codes(checked: &Checked) -> Vec<&'static str> {
    checked.diagnostics.iter().map(|diagnostic| diagnostic.code().as_str()).collect()
}
