//! A project in a scratch folder: files, a database of its own, and nothing of the user's.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::program;

/// A folder with a project in it; it goes away with the test.
pub struct Scratch {
    folder: tempfile::TempDir,
}

impl Scratch {
    /// An empty project.
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a scratch folder") }
    }

    /// A project whose server `tools` is the fixture server.
    pub fn with_tools() -> Self {
        let scratch = Self::new();
        scratch.file("antiphon.toml", "[servers.tools]\ncommand = \"${FIXTURE}\"\nargs = [\"--log\", \"${LOG}\"]\n");
        scratch
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Where the fixture server logs its calls.
    pub fn log(&self) -> PathBuf {
        self.path().join("calls.jsonl")
    }

    /// The database of [`Self::with_db`].
    pub fn database(&self) -> PathBuf {
        self.path().join("runs.db")
    }

    /// Writes a file; `${FIXTURE}`, `${LOG}` and `${FILES}` stand for the fixture server, its log and the file server.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let text = text
            .replace("${FIXTURE}", &program("fixture-server").display().to_string())
            .replace("${CONFORMANCE}", &program("conformance-server").display().to_string())
            .replace("${MISBEHAVING}", &program("misbehaving-server").display().to_string())
            .replace("${FILES}", &program("antiphon-file-server").display().to_string())
            .replace("${LOG}", &self.log().display().to_string());
        let path = self.path().join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).unwrap();
        }
        std::fs::write(&path, text).unwrap();
        path
    }

    /// `antiphon` in this folder, with nothing of the user's.
    pub fn antiphon(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program("antiphon"));
        command
            .args(args)
            .current_dir(self.path())
            .env("XDG_DATA_HOME", self.path().join("data"))
            .env("XDG_RUNTIME_DIR", self.path())
            .env_remove("ANTIPHON_LOG");
        command
    }

    /// The same with [`Self::database`], and nothing to read.
    pub fn with_db(&self, args: &[&str]) -> Command {
        let mut command = self.antiphon(args);
        command.arg("--db").arg(self.database()).stdin(Stdio::null());
        command
    }

    /// Runs `antiphon` to its end: exit code, stdout, stderr.
    pub fn run(&self, args: &[&str]) -> (i32, String, String) {
        Self::ended(&mut self.antiphon(args))
    }

    /// Runs [`Self::with_db`] to its end: exit code, stdout, stderr.
    pub fn run_with_db(&self, args: &[&str]) -> (i32, String, String) {
        Self::ended(&mut self.with_db(args))
    }

    fn ended(command: &mut Command) -> (i32, String, String) {
        let output = command.stdin(Stdio::null()).output().expect("antiphon starts");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    }

    /// The keys of a `[servers]` table: this project, served over stdio.
    pub fn as_server(&self) -> String {
        let (antiphon, folder, database) = (program("antiphon"), self.path(), self.database());
        format!(
            "command = {antiphon:?}\nargs = [\"serve\", {folder:?}, \"--trust\", \"--db\", {database:?}]\n\
             env = {{ XDG_RUNTIME_DIR = {folder:?}, XDG_DATA_HOME = {folder:?} }}\n"
        )
    }

    /// The runs of [`Self::database`], newest first, as they are listed.
    pub fn runs(&self) -> Vec<Value> {
        let (_, out, err) = self.run_with_db(&["runs", "--json"]);
        out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}{err}"))).collect()
    }

    /// The only run, as it is shown.
    pub fn shown(&self) -> Value {
        let runs = self.runs();
        let [run] = runs.as_slice() else { panic!("{runs:?}") };
        let (_, out, err) = self.run_with_db(&["show", run["id"].as_str().unwrap(), "--json"]);
        serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}"))
    }

    /// The calls that the fixture server logged.
    pub fn calls(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}
