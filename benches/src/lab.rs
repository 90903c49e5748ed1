//! Where the measurements happen: a scratch folder on the disk that the build is on, and the programs.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::Error;
use crate::host::Host;

/// What every measurement needs.
pub struct Lab {
    /// How many rounds a comparison has.
    pub rounds: usize,
    /// This program: as `fixture`, it is the tool server.
    pub program: PathBuf,
    antiphon: PathBuf,
    scratch: Scratch,
}

/// A folder that goes away with its owner.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Lab {
    /// Builds `antiphon` beside this program, if it is not up to date.
    pub async fn open(rounds: usize) -> Result<Self, Error> {
        let program = std::env::current_exe()?;
        let beside = program.parent().ok_or("this program is in no folder")?;
        let target = beside.parent().ok_or("this program is not in target/release")?;
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--release", "-p", "antiphon", "--manifest-path"]);
        build.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).arg("--target-dir").arg(target);
        if !build.status().await?.success() {
            return Err("antiphon does not build".into());
        }
        // Not in /tmp, which may be in memory: then nothing would wait for a disk.
        let scratch = Scratch(target.join(format!("benches-{}", std::process::id())));
        std::fs::create_dir(&scratch.0)?;
        Ok(Self { rounds, antiphon: beside.join("antiphon"), program, scratch })
    }

    /// A path in the scratch folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.0.join(name)
    }

    /// A folder with a workflow file in it.
    pub fn project(&self, name: &str, workflow: &str) -> Result<PathBuf, Error> {
        let folder = self.path(name);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("workflow.toml"), workflow)?;
        Ok(folder)
    }

    /// `antiphon serve` of a project over stdio.
    pub fn serve(&self, project: &Path) -> Command {
        self.antiphon(project, &["serve", "--trust", "."])
    }

    /// A verb of `antiphon` in a project.
    pub fn antiphon(&self, project: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(&self.antiphon);
        command.args(args).args(["--db", "runs.db"]).current_dir(project).env("ANTIPHON_LOG", "warn");
        command
    }

    /// The tool server over stdio.
    pub fn fixture(&self) -> Command {
        self.role("fixture")
    }

    /// This program in another role.
    pub fn role(&self, role: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(role);
        command
    }

    /// `antiphon serve`, started.
    pub fn host(&self, project: &Path) -> Result<Host, Error> {
        Host::start(self.serve(project))
    }

    /// The tool server over HTTP, and its URL.
    pub async fn http(&self) -> Result<(Child, String), Error> {
        let mut command = self.fixture();
        command.arg("--http");
        listening(command).await
    }
}

/// Starts a server that says on standard error where it listens; its URL.
pub async fn listening(mut command: Command) -> Result<(Child, String), Error> {
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let mut lines = BufReader::new(child.stderr.take().ok_or("no pipe from the server")?).lines();
    while let Some(line) = lines.next_line().await? {
        if let Some(url) = line.split_whitespace().find(|word| word.starts_with("http://")).map(str::to_owned) {
            // What it says later must not fill the pipe.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Ok((child, url));
        }
        eprintln!("{line}");
    }
    Err("the server does not say where it listens".into())
}
