//! Command lines found in files run only after a person has seen them.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use antiphon_workflow::{Project, ServerDef, Transport};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::fault::Fault;
use crate::ui;

/// What is trusted in one project: hashes of command lines, one a line. The file only ever grows.
#[derive(Clone, Debug)]
pub struct Trust {
    path: PathBuf,
}

/// A command line that a file wants to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// The server's key.
    pub server: String,
    /// The file that defines it.
    pub path: String,
    /// The program, its arguments, names of its variables, and its folder, as the file has them.
    pub shown: String,
    hash: String,
}

impl CommandLine {
    /// The command line of a server; none for one behind a URL.
    pub fn of(server: &str, def: &ServerDef) -> Option<Self> {
        let Transport::Stdio { command, args, env, cwd } = &def.transport else { return None };
        let mut shown = std::iter::once(command).chain(args).map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
        if !env.is_empty() {
            let names: Vec<&str> = env.keys().map(String::as_str).collect();
            shown.push_str(&format!("  (with {})", names.join(", ")));
        }
        if let Some(cwd) = cwd {
            shown.push_str(&format!("  (in {cwd})"));
        }
        // Values count too: a variable such as LD_PRELOAD changes what a program does. They are hashed as the file has
        // them, before the environment's own values are filled in.
        let identity = json!([command, args, env, cwd]).to_string();
        let hash = Sha256::digest(identity.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        Some(Self { server: server.to_owned(), path: def.path.clone(), shown, hash })
    }
}

/// The command lines of these servers.
pub fn command_lines(project: &Project, servers: &BTreeSet<String>) -> Vec<CommandLine> {
    servers.iter().filter_map(|key| CommandLine::of(key, project.servers.get(key)?)).collect()
}

impl Trust {
    /// The trust kept in this file.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Those that nobody has agreed to yet.
    fn unknown(&self, lines: impl IntoIterator<Item = CommandLine>) -> io::Result<Vec<CommandLine>> {
        let known = match fs::read_to_string(&self.path) {
            Ok(text) => text.lines().map(str::to_owned).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => HashSet::new(),
            Err(error) => return Err(error),
        };
        Ok(lines.into_iter().filter(|line| !known.contains(&line.hash)).collect())
    }

    /// Insists that all of them are agreed to.
    pub fn require(&self, lines: impl IntoIterator<Item = CommandLine>) -> Result<(), Fault> {
        let unknown = self.unknown(lines).map_err(|e| self.unusable(&e))?;
        if unknown.is_empty() {
            return Ok(());
        }
        let list: Vec<String> =
            unknown.iter().map(|line| format!("`{}` in {}: {}", line.server, line.path, line.shown)).collect();
        Err(Fault::usage(
            format!("these commands have not been agreed to:\n  {}", list.join("\n  ")),
            "run it once on a terminal, which shows and asks; or pass --trust if you know these files",
        ))
    }

    fn unusable(&self, error: &io::Error) -> Fault {
        Fault::internal(format!("can't use {}: {error}", self.path.display()))
    }

    /// Sees to it that all of them are agreed to: by `--trust`, or by a person on the terminal.
    pub fn obtain(&self, lines: impl IntoIterator<Item = CommandLine>, granted: bool) -> Result<(), Fault> {
        let unknown = self.unknown(lines).map_err(|e| self.unusable(&e))?;
        if unknown.is_empty() {
            return Ok(());
        }
        if granted || (ui::can_ask() && ui::consent::to_commands(&unknown)?) {
            return self.remember(&unknown);
        }
        self.require(unknown)
    }

    fn remember(&self, lines: &[CommandLine]) -> Result<(), Fault> {
        let text: String = lines.iter().map(|line| format!("{}\n", line.hash)).collect();
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path);
        file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|e| self.unusable(&e))
    }
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,${}".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        // Debug form: control characters of a file must not reach the terminal.
        false => format!("{word:?}"),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used)]

    use std::collections::BTreeMap;
    use std::time::Duration;

    use antiphon_workflow::Consent;

    use super::*;

    fn line(args: &[&str], env: &[(&str, &str)]) -> CommandLine {
        let def = ServerDef {
            path: "ship.toml".into(),
            transport: Transport::Stdio {
                command: "npx".into(),
                args: args.iter().map(|&arg| arg.into()).collect(),
                env: env.iter().map(|&(name, value)| (name.into(), value.into())).collect::<BTreeMap<_, _>>(),
                cwd: None,
            },
            allow: None,
            read_only: false,
            timeout: Duration::from_secs(60),
            session: None,
            sampling: None,
            elicitation: Consent::Deny,
        };
        CommandLine::of("ship/chat", &def).unwrap()
    }

    #[test]
    fn a_command_line_is_trusted_once_and_only_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let trust = Trust::at(&dir.path().join("trusted"));
        let first = line(&["-y", "chat"], &[("TOKEN", "${TOKEN}")]);
        assert_eq!(trust.unknown([first.clone()]).unwrap().len(), 1);
        trust.remember(std::slice::from_ref(&first)).unwrap();
        assert!(trust.unknown([first]).unwrap().is_empty());
        for changed in [line(&["-y", "evil"], &[("TOKEN", "${TOKEN}")]), line(&["-y", "chat"], &[("TOKEN", "x")])] {
            assert_eq!(trust.unknown([changed.clone()]).unwrap(), [changed]);
        }
    }

    #[test]
    fn it_is_shown_without_values_or_escapes() {
        let line = line(&["a b", "\u{1b}[2J"], &[("TOKEN", "secret")]);
        assert_eq!(line.shown, r#"npx "a b" "\u{1b}[2J"  (with TOKEN)"#);
    }
}
