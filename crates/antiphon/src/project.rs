//! Finding a project's files and loading them.

use std::fs;
use std::path::{Path, PathBuf};

use antiphon_workflow::{Checked, Diagnostic, Project, SourceFile, Sources, Workflow};
use miette::Report;

use crate::fault::Fault;

/// The project's own file.
pub const CONFIG: &str = "antiphon.toml";

/// Where a folder of workflows is, and the project that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The project's folder: that of the nearest `antiphon.toml`, upwards from `folder`; else `folder` itself.
    pub root: PathBuf,
    /// The folder whose workflows call each other.
    pub folder: PathBuf,
    /// One workflow file in it, when that was named.
    pub file: Option<PathBuf>,
}

impl Place {
    /// The place that a path names: a workflow file, an `antiphon.toml`, or a folder.
    pub fn of(path: &Path) -> Result<Self, Fault> {
        let path = fs::canonicalize(path).map_err(|e| {
            Fault::usage(format!("can't open {}: {e}", path.display()), "name a workflow file, or a folder of them")
        })?;
        let (folder, file) = match path.parent() {
            Some(parent) if path.is_file() => (parent.to_owned(), (!is_config(&path)).then(|| path.clone())),
            _ => (path, None),
        };
        let root = folder.ancestors().find(|dir| dir.join(CONFIG).is_file()).unwrap_or(&folder).to_owned();
        Ok(Self { root, folder, file })
    }

    /// The place where the command was started: its folder, or the folder `workflows` in it when only that has workflows.
    pub fn here() -> Result<Self, Fault> {
        let here = Self::of(Path::new("."))?;
        let inner = here.folder.join("workflows");
        if workflow_files(&here.folder).is_empty() && !workflow_files(&inner).is_empty() {
            return Self::of(&inner);
        }
        Ok(here)
    }

    /// Reads and checks every workflow of the folder. One that can't be read hides no other.
    pub fn load(&self) -> Result<Checked, Fault> {
        let (configs, files): (Vec<_>, Vec<_>) = self.files().into_iter().partition(|file| is_config(file));
        let mut workflows = Vec::new();
        let mut unreadable = Vec::new();
        for file in &files {
            match read(file) {
                Ok(source) => workflows.push(source),
                Err(why) => unreadable.push(Diagnostic::unreadable(&shown(file), why)),
            }
        }
        let config = |file: &PathBuf| {
            read(file).map_err(|why| {
                Fault::usage(format!("can't read {}: {why}", shown(file)), "the workflows of its folder need it")
            })
        };
        let configs = configs.iter().map(config).collect::<Result<_, _>>()?;
        let read = |path: &str| fs::read_to_string(path).map_err(|error| error.to_string());
        let mut checked = Project::load(&Sources { workflows, configs, read: &read });
        checked.diagnostics.extend(unreadable);
        Ok(checked)
    }

    /// The files of the place: the folder's workflows, and the `antiphon.toml`s that apply, the nearest first.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = workflow_files(&self.folder);
        files.extend(self.file.iter().filter(|file| !files.contains(file)).cloned().collect::<Vec<_>>());
        files.extend(self.folder.ancestors().map(|dir| dir.join(CONFIG)).filter(|file| file.is_file()));
        files
    }

    /// The one workflow that this place names: its file's.
    pub fn load_one(&self) -> Result<Loaded, Fault> {
        let Some(file) = &self.file else {
            return Err(Fault::usage(format!("{} is not a workflow file", shown(&self.folder)), "name a file in it"));
        };
        let checked = self.load()?;
        let path = shown(file);
        let Some(workflow) = checked.project.workflows.values().find(|workflow| workflow.path == path).cloned() else {
            return Err(self.broken(&checked));
        };
        Ok(Loaded { place: self.clone(), project: checked.project, workflow })
    }

    /// What keeps its file (or, without one, its folder) from being used.
    pub fn broken(&self, checked: &Checked) -> Fault {
        let path = self.file.as_deref().map(shown);
        let errors = || checked.diagnostics.iter().filter(|diagnostic| diagnostic.is_error());
        let own: Vec<_> =
            errors().filter(|diagnostic| path.as_ref().is_none_or(|path| diagnostic.path() == path)).collect();
        // Nothing wrong with the file itself: it calls one that is broken.
        let chosen = if own.is_empty() { errors().collect() } else { own };
        if chosen.is_empty() {
            let here = shown(self.file.as_ref().unwrap_or(&self.folder));
            return Fault::usage(
                format!("there is no workflow in {here}"),
                "a workflow file has at least one [steps.ID]",
            );
        }
        Fault::check(chosen.into_iter().map(|diagnostic| Report::new(diagnostic.clone())).collect())
    }
}

/// A workflow, with the project that it was loaded from.
pub struct Loaded {
    /// Where.
    pub place: Place,
    /// Its servers and models, and the workflows beside it.
    pub project: Project,
    /// The workflow.
    pub workflow: Workflow,
}

/// Whether this is a project's own file.
pub fn is_config(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == CONFIG)
}

/// The workflow files of a folder, by name. Other TOML files (`Cargo.toml` …) have no steps and do not say that they are
/// workflows.
fn workflow_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml") && !is_config(path))
        .filter(|path| fs::read(path).is_ok_and(|bytes| says_workflow(&String::from_utf8_lossy(&bytes))))
        .collect();
    files.sort();
    files
}

fn says_workflow(text: &str) -> bool {
    text.lines().any(|line| {
        let line = line.trim_start();
        line.starts_with("[steps")
            || line.starts_with("steps.")
            || line.starts_with("#:schema") && line.contains("workflow")
    })
}

/// Reads a file; else says why it can't be.
fn read(path: &Path) -> Result<SourceFile, String> {
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let line =
            error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|&&byte| byte == b'\n').count() + 1;
        format!("line {line} is not UTF-8 text")
    })?;
    Ok(SourceFile { path: shown(path), text })
}

/// The path as people wrote it: relative to where they are, when it is below.
pub fn shown(path: &Path) -> String {
    let here = std::env::current_dir().and_then(fs::canonicalize);
    let short = here.as_ref().ok().and_then(|here| path.strip_prefix(here).ok());
    short.filter(|short| !short.as_os_str().is_empty()).unwrap_or(path).display().to_string()
}
