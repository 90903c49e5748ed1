//! Hosts' files on the disk: read whole, replaced whole.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Syntax, json, yaml};
use crate::fault::Fault;
use crate::project::shown;

const BOM: &str = "\u{feff}";

/// A file's text, and what it says.
#[derive(Clone, Debug)]
pub struct Text {
    bom: bool,
    /// The text, without a byte order mark.
    pub text: String,
    /// What it says; `null` when it is empty.
    pub value: Value,
}

impl Text {
    /// The text of a file that is not there yet.
    pub fn empty() -> Self {
        Self { bom: false, text: String::new(), value: Value::Null }
    }

    /// Reads bytes; `path` is for the error.
    pub fn of(bytes: Vec<u8>, syntax: Syntax, path: &Path) -> Result<Self, Fault> {
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            broken(path, 1 + valid.iter().filter(|&&byte| byte == b'\n').count(), "this is not UTF-8 text")
        })?;
        let (bom, text) = text.strip_prefix(BOM).map_or((false, text.as_str()), |rest| (true, rest));
        let value = match syntax {
            Syntax::Json => json::parse(text),
            Syntax::Yaml => yaml::parse(text),
        };
        let value = value.map_err(|wrong| broken(path, format_args!("{}:{}", wrong.line, wrong.column), &wrong.why))?;
        Ok(Self { bom, text: text.to_owned(), value })
    }

    /// The bytes of a changed text.
    pub fn bytes(&self, text: &str) -> Vec<u8> {
        [if self.bom { BOM } else { "" }, text].concat().into_bytes()
    }
}

fn broken(path: &Path, place: impl std::fmt::Display, why: &str) -> Fault {
    Fault::usage(format!("can't read {}:{place}: {why}", shown(path)), "mend the file first; it is left as it is")
}

/// The bytes of a file; none if there is no file.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, Fault> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(path).is_err() => Ok(None),
        Err(error) => Err(Fault::usage(format!("can't read {}: {error}", shown(path)), "it is left as it is")),
    }
}

/// What a file was before Antiphon was put into it: beside it.
pub fn backup(path: &Path, name: &str) -> PathBuf {
    let mut file = path.file_name().map(OsString::from).unwrap_or_default();
    file.push(format!(".before-{name}"));
    path.with_file_name(file)
}

/// Replaces a file: whole or not at all, with its permissions, where a link leads. Nothing is written when it is no longer
/// what it was when it was read: hosts write their files too.
pub fn replace(path: &Path, before: Option<&[u8]>, after: &[u8]) -> Result<(), Fault> {
    let unwritable = |error: io::Error| {
        Fault::usage(
            format!("can't write {}: {error}", shown(path)),
            "nothing was written; `antiphon export` prints what to paste",
        )
    };
    if read(path)?.as_deref() != before {
        return Err(Fault::usage(
            format!("{} has been changed in the meantime", shown(path)),
            "nothing was written: try again, with the host closed if it goes on",
        ));
    }
    let target = match before {
        Some(_) => fs::canonicalize(path).map_err(unwritable)?,
        None => path.to_owned(),
    };
    write_whole(&target)
        .and_then(|draft| {
            let written = draft.fill(after, before.is_some().then_some(target.as_path()));
            written.and_then(|()| fs::rename(&draft.0, &target)).inspect_err(|_| {
                // The error counts; a draft that can't be removed is only litter.
                let _ = fs::remove_file(&draft.0);
            })
        })
        .map_err(unwritable)
}

/// A file that is written before it takes another's place.
struct Draft(PathBuf);

fn write_whole(target: &Path) -> io::Result<Draft> {
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    Ok(Draft(folder.join(format!(".{name}.{}", std::process::id()))))
}

impl Draft {
    fn fill(&self, bytes: &[u8], like: Option<&Path>) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(&self.0)?;
        if let Some(like) = like {
            let permissions = fs::metadata(like)?.permissions();
            if permissions.readonly() {
                return Err(io::ErrorKind::ReadOnlyFilesystem.into());
            }
            file.set_permissions(permissions)?;
        }
        file.write_all(bytes)?;
        file.sync_all()
    }
}
