//! The files under a root: nothing outside of it, and nothing that tools leave lying about.

use std::fs;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use regex::Regex;

/// Directories that hold no sources of their own.
const SKIPPED: [&str; 4] = [".git", ".venv", "node_modules", "target"];

/// The longest file that is looked into, in bytes.
pub const MAX_FILE_BYTES: u64 = 8 << 20;

/// How many directory entries one walk looks at.
const MAX_ENTRIES: usize = 100_000;

/// How much of a file is searched for a zero byte, which text has not.
const SNIFFED_BYTES: usize = 8 << 10;

/// A directory, with symbolic links resolved.
#[derive(Clone, Debug)]
pub struct Tree {
    root: PathBuf,
}

/// A text file.
pub struct TextFile {
    /// Its path under the root, with slashes.
    pub path: String,
    /// What is in it; what is not UTF-8 is replaced.
    pub text: String,
    /// Its length, in bytes.
    pub bytes: u64,
}

impl Tree {
    pub fn new(root: &Path) -> io::Result<Self> {
        let root = root.canonicalize()?;
        if !root.is_dir() {
            return Err(io::Error::new(io::ErrorKind::NotADirectory, "not a directory"));
        }
        Ok(Self { root })
    }

    /// Reads the file at a path under the root.
    pub fn read(&self, path: &str) -> Result<TextFile, String> {
        let full = self.resolve(path).map_err(|why| format!("{path}: {why}"))?;
        let bytes = fs::metadata(&full).map_err(|error| format!("{path}: {error}"))?.len();
        if bytes > MAX_FILE_BYTES {
            return Err(format!("{path}: {bytes} bytes, more than the {MAX_FILE_BYTES} that this server reads"));
        }
        let text = read_text(&full).map_err(|error| format!("{path}: {error}"))?;
        let text = text.ok_or_else(|| format!("{path}: not a text file"))?;
        Ok(TextFile { path: self.name(&full), text, bytes })
    }

    /// Visits the text files whose path fits, in the order of their paths, and says how many. Files that can't be read are
    /// passed over.
    pub fn each(&self, glob: Option<&str>, mut visit: impl FnMut(TextFile)) -> Result<usize, String> {
        let pattern = glob.map(compile_glob).transpose()?;
        let (mut entries, mut visited) = (0, 0);
        let mut pending = vec![self.root.clone()];
        while let Some(path) = pending.pop() {
            // `metadata` of a link that was not followed is neither a directory nor a file.
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            if metadata.is_dir() {
                let mut children: Vec<_> = fs::read_dir(&path)
                    .map(|children| children.flatten().map(|child| child.path()).collect())
                    .unwrap_or_default();
                children
                    .retain(|child| !child.file_name().is_some_and(|name| SKIPPED.iter().any(|skip| name == *skip)));
                entries += children.len();
                if entries > MAX_ENTRIES {
                    return Err(format!("more than {MAX_ENTRIES} files and directories: serve a smaller root"));
                }
                children.sort_unstable_by(|a, b| b.cmp(a));
                pending.append(&mut children);
            } else if metadata.is_file() && metadata.len() <= MAX_FILE_BYTES {
                let name = self.name(&path);
                if pattern.as_ref().is_some_and(|pattern| !pattern.is_match(&name)) {
                    continue;
                }
                let Ok(Some(text)) = read_text(&path) else { continue };
                visited += 1;
                visit(TextFile { path: name, text, bytes: metadata.len() });
            }
        }
        Ok(visited)
    }

    /// The real path of a name, if it is under the root even after links are followed.
    fn resolve(&self, path: &str) -> Result<PathBuf, String> {
        let outside = || "outside of the served directory".to_owned();
        // Refused before the disk is asked, so that nobody learns what there is outside.
        let mut depth = 0_usize;
        for part in Path::new(path).components() {
            depth = match part {
                Component::Normal(_) => depth + 1,
                Component::CurDir => depth,
                Component::ParentDir => depth.checked_sub(1).ok_or_else(outside)?,
                Component::RootDir | Component::Prefix(_) => return Err(outside()),
            };
        }
        let full = self.root.join(path).canonicalize().map_err(|error| error.to_string())?;
        let inner = full.strip_prefix(&self.root).map_err(|_| outside())?;
        if inner.iter().any(|part| SKIPPED.iter().any(|skip| part == *skip)) {
            return Err("not served".to_owned());
        }
        if !full.is_file() {
            return Err("not a file".to_owned());
        }
        Ok(full)
    }

    fn name(&self, full: &Path) -> String {
        let inner = full.strip_prefix(&self.root).unwrap_or(full);
        inner.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/")
    }
}

/// The text in a file; `None` if it is not text.
fn read_text(path: &Path) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    let text = !bytes.iter().take(SNIFFED_BYTES).any(|byte| *byte == 0);
    Ok(text.then(|| String::from_utf8_lossy(&bytes).into_owned()))
}

/// `*` and `?` stay within a directory, `**/` spans any number of them, `{a,b}` is one or the other.
fn compile_glob(glob: &str) -> Result<Regex, String> {
    let mut pattern = String::from("^");
    let mut rest = glob;
    let mut braces = 0_u32;
    while let Some(next) = rest.chars().next() {
        let (piece, length) = match next {
            '*' if rest.starts_with("**/") => ("(?:.*/)?".to_owned(), 3),
            '*' if rest.starts_with("**") => (".*".to_owned(), 2),
            '*' => ("[^/]*".to_owned(), 1),
            '?' => ("[^/]".to_owned(), 1),
            '{' => ("(?:".to_owned(), 1),
            '}' if braces > 0 => (")".to_owned(), 1),
            ',' if braces > 0 => ("|".to_owned(), 1),
            other => (regex::escape(&other.to_string()), other.len_utf8()),
        };
        braces = match next {
            '{' => braces + 1,
            '}' => braces.saturating_sub(1),
            _ => braces,
        };
        pattern.push_str(&piece);
        rest = &rest[length..];
    }
    pattern.push('$');
    Regex::new(&pattern).map_err(|_| format!("`{glob}` is not a glob"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn globs_stay_within_a_directory_unless_they_say_so() {
        let fits = |glob: &str, path: &str| compile_glob(glob).unwrap().is_match(path);
        assert!(fits("*.rs", "main.rs"));
        assert!(!fits("*.rs", "src/main.rs"));
        assert!(fits("**/*.rs", "main.rs"));
        assert!(fits("**/*.rs", "a/b/main.rs"));
        assert!(fits("crates/*/Cargo.toml", "crates/kernel/Cargo.toml"));
        assert!(!fits("crates/*/Cargo.toml", "crates/kernel/x/Cargo.toml"));
        assert!(fits("**/*.{rs,toml}", "a/Cargo.toml"));
        assert!(fits("a+b?.txt", "a+bc.txt"));
        assert!(!fits("a.txt", "a-txt"));
        assert!(compile_glob("{a").is_err());
    }
}
