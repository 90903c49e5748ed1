//! `import`, `install`, `export`: the files of other hosts, in a scratch home.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{ASKS, Done, Project};

const HOSTS: [&str; 7] = ["claude-desktop", "claude-code", "cursor", "vscode", "windsurf", "zed", "goose"];

/// A sample of each host's file, and where the host has it in a home.
fn sample(host: &str) -> (&'static str, String) {
    let support = if cfg!(target_os = "macos") { "Library/Application Support" } else { ".config" };
    match host {
        "claude-desktop" => {
            (include_str!("hosts/claude-desktop.json"), format!("{support}/Claude/claude_desktop_config.json"))
        }
        "claude-code" => (include_str!("hosts/claude-code.json"), ".claude.json".into()),
        "cursor" => (include_str!("hosts/cursor.json"), ".cursor/mcp.json".into()),
        "vscode" => (include_str!("hosts/vscode.json"), format!("{support}/Code/User/mcp.json")),
        "windsurf" => (include_str!("hosts/windsurf.json"), ".codeium/windsurf/mcp_config.json".into()),
        "zed" => (include_str!("hosts/zed.json"), ".config/zed/settings.json".into()),
        "goose" => (include_str!("hosts/goose.yaml"), ".config/goose/config.yaml".into()),
        _ => unreachable!("no such host"),
    }
}

/// A project with one workflow, beside an empty home.
struct Desk(Project);

impl Desk {
    fn new() -> Self {
        let desk = Self(Project::new(&[("asks.toml", ASKS)]));
        fs::create_dir(desk.home()).unwrap();
        desk
    }

    /// Likewise, with the host's sample in place.
    fn with(host: &str) -> Self {
        let desk = Self::new();
        desk.put(&desk.file(host), sample(host).0);
        desk
    }

    fn home(&self) -> PathBuf {
        self.0.folder().parent().unwrap().join("home")
    }

    fn file(&self, host: &str) -> PathBuf {
        self.home().join(sample(host).1)
    }

    fn put(&self, path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text.replace("PROJECT", &fs::canonicalize(self.0.folder()).unwrap().to_string_lossy()))
            .unwrap();
    }

    fn antiphon(&self, args: &[&str]) -> Done {
        let mut command = self.0.command(args);
        command.env("HOME", self.home());
        for name in ["XDG_CONFIG_HOME", "CLAUDE_CONFIG_DIR", "API_KEY", "GITHUB_PERSONAL_ACCESS_TOKEN"] {
            command.env_remove(name);
        }
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Done { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// What was said, without what differs from test to test.
    fn plain(&self, text: &str) -> String {
        let root = fs::canonicalize(self.0.folder().parent().unwrap()).unwrap();
        text.replace(&*root.to_string_lossy(), "…")
            .replace(env!("CARGO_BIN_EXE_antiphon"), "/bin/antiphon")
            .replace("Library/Application Support", ".config")
    }

    fn config(&self) -> String {
        fs::read_to_string(self.0.folder().join("antiphon.toml")).unwrap_or_default()
    }
}

/// No secret of the samples is in a text.
#[track_caller]
fn tells_no_secret(text: &str) {
    assert!(!text.contains("s3cr3t"), "{text}");
}

#[test]
fn servers_are_imported_from_each_host() {
    for host in HOSTS {
        let desk = Desk::with(host);
        match host {
            "claude-code" => desk.0.write(".mcp.json", include_str!("hosts/claude-code-project.json")),
            "cursor" => desk.0.write(".env", include_str!("hosts/cursor.env")),
            "vscode" => {
                let settings = desk.file(host).with_file_name("settings.json");
                desk.put(&settings, include_str!("hosts/vscode-settings.json"));
            }
            _ => {}
        }
        let done = desk.antiphon(&["import", host]).expect(0);
        assert_eq!(done.stdout, "");
        let config = desk.config();
        tells_no_secret(&done.stderr);
        tells_no_secret(&config);
        insta::assert_snapshot!(format!("import_{host}"), desk.plain(&format!("{}---\n{config}", done.stderr)));
        desk.antiphon(&["check"]).expect(0);

        desk.antiphon(&["import", host]).expect(0);
        assert_eq!(desk.config(), config, "{host}: a second time");
    }
}

#[test]
fn all_hosts_at_once_and_a_broken_file_hides_no_other() {
    let desk = Desk::with("cursor");
    desk.put(&desk.file("zed"), sample("zed").0);
    desk.put(&desk.file("goose"), "extensions: [\n");
    let done = desk.antiphon(&["import"]).expect(2);
    for part in ["Cursor", "Zed", "can't read", "config.yaml:2:1", "it is left as it is"] {
        assert!(done.stderr.contains(part), "{part}: {}", done.stderr);
    }
    let config = desk.config();
    assert!(config.contains("[servers.linear]") && config.contains("[servers.older]"), "{config}");
}

#[test]
fn what_stands_in_antiphon_toml_stays_and_names_are_free() {
    let desk = Desk::with("zed");
    let before = "# my servers\n[models.remote]\nbase_url = \"http://127.0.0.1:1/v1\"\nmodel = \"m\"\n\n[servers]\nolder = { command = \"mine\" } # keep";
    desk.0.write("antiphon.toml", before);
    desk.antiphon(&["import", "zed"]).expect(0);
    let config = desk.config();
    assert!(config.starts_with(&format!("{before}\n\n[servers.some-context-server]")), "{config}");
    assert!(config.contains("[servers.older-2]") && config.contains("[servers.remote-2]"), "{config}");
    desk.antiphon(&["check"]).expect(0);
}

#[test]
fn printed_tables_are_data_and_nothing_is_written() {
    let desk = Desk::with("windsurf");
    let done = desk.antiphon(&["import", "windsurf", "--print"]).expect(0);
    assert!(done.stdout.starts_with("[servers.remote-http]"), "{}", done.stdout);
    assert_eq!(desk.config(), "");
}

#[test]
fn secrets_go_into_a_file_of_their_own_when_asked_for() {
    let desk = Desk::with("claude-desktop");
    let done = desk.antiphon(&["import", "claude-desktop", "--secrets", "../secrets.env"]).expect(0);
    tells_no_secret(&done.stderr);
    tells_no_secret(&desk.config());
    let path = desk.0.folder().join("../secrets.env");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let shell = format!(". {} && echo \"$DATABASE_URI $AUTH_HEADER\"", path.display());
    let output = Command::new("sh").args(["-c", &shell]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, "postgresql://ada:s3cr3t@localhost:5432/shop Bearer s3cr3t-of-the-wiki\n");

    // Also when the servers have been imported already.
    fs::remove_file(&path).unwrap();
    desk.antiphon(&["import", "claude-desktop", "--secrets", "../secrets.env"]).expect(0);
    assert!(fs::read_to_string(&path).unwrap().starts_with("AUTH_HEADER='Bearer s3cr3t-of-the-wiki'\n"));

    // Never over another file.
    let again = Desk::with("claude-desktop");
    again.0.write("taken", "mine");
    let done = again.antiphon(&["import", "claude-desktop", "--secrets", "taken"]).expect(2);
    assert!(done.stderr.contains("can't write taken"), "{}", done.stderr);
    assert_eq!(fs::read_to_string(again.0.folder().join("taken")).unwrap(), "mine");
    assert_eq!(again.config(), "");
}

#[test]
fn an_imported_address_with_a_secret_in_it_is_not_repeated() {
    let desk = Desk::new();
    desk.0.write("mcp.json", r#"{"mcpServers": {"search": {"url": "http://127.0.0.1:1/mcp?apiKey=s3cr3tS3cr3t"}}}"#);
    desk.antiphon(&["import", "mcp.json"]).expect(0);
    assert!(desk.config().ends_with("url = \"${SEARCH_URL}\"\n"), "{}", desk.config());
    let mut command = desk.0.command(&["tools"]);
    let output = command.env("SEARCH_URL", "http://127.0.0.1:1/mcp?apiKey=s3cr3tS3cr3t").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("not listed: search: "), "{said}");
    tells_no_secret(&said);
}

#[test]
fn a_file_can_be_named() {
    let desk = Desk::new();
    desk.0.write(
        "sub/.vscode/mcp.json",
        r#"{"servers": {"a b": {"command": "./run.sh", "args": ["${workspaceFolder}/x"]}}}"#,
    );
    desk.antiphon(&["import", "sub/.vscode/mcp.json"]).expect(0);
    let folder = fs::canonicalize(desk.0.folder()).unwrap().join("sub");
    let folder = folder.to_string_lossy();
    let wanted = format!("command = \"{folder}/./run.sh\"\nargs = [\"{folder}/x\"]\ncwd = \"{folder}\"\n");
    assert!(desk.config().ends_with(&wanted), "{}", desk.config());

    desk.0.write("none.json", "{}");
    for (from, says) in [
        ("emacs", "`emacs` is neither a host nor a file"),
        ("none.json", "there are no servers in none.json"),
        ("zed", "Zed has no servers"),
    ] {
        let done = desk.antiphon(&["import", from]).expect(2);
        assert!(done.stderr.contains(says), "{from}: {}", done.stderr);
    }
}

#[test]
fn an_entry_is_put_in_once_and_taken_out_without_a_trace() {
    for host in HOSTS {
        let desk = Desk::with(host);
        let path = desk.file(host);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let before = fs::read(&path).unwrap();

        let done = desk.antiphon(&["install", host, "--yes"]).expect(0);
        assert_eq!(done.stdout, "");
        tells_no_secret(&done.stderr);
        insta::assert_snapshot!(format!("install_{host}"), desk.plain(&done.stderr));
        let after = fs::read(&path).unwrap();
        assert_ne!(after, before, "{host}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640, "{host}");
        let backup = PathBuf::from(format!("{}.before-antiphon", path.display()));
        assert_eq!(fs::read(&backup).unwrap(), before, "{host}");
        assert_eq!(fs::metadata(&backup).unwrap().permissions().mode() & 0o777, 0o640, "{host}");

        let done = desk.antiphon(&["install", host, "--yes"]).expect(0);
        assert!(done.stderr.contains("has it already"), "{}", done.stderr);
        assert_eq!(fs::read(&path).unwrap(), after, "{host}: twice is once");
        // What was put in is known as Antiphon.
        let found = desk.antiphon(&["import", host, "--print"]);
        assert!(found.stderr.contains("- antiphon: not imported: it is Antiphon itself"), "{}", found.stderr);

        desk.antiphon(&["install", host, "--undo", "--yes"]).expect(0);
        assert_eq!(fs::read(&path).unwrap(), before, "{host}: undone");
        assert!(!backup.exists(), "{host}");
        let done = desk.antiphon(&["install", host, "--undo", "--yes"]).expect(0);
        assert!(done.stderr.contains("has no `antiphon`"), "{}", done.stderr);
    }
}

#[test]
fn odd_files_are_put_back_to_the_byte() {
    for text in [
        "",
        "{}",
        "\u{feff}{\r\n}\r\n",
        "{ \"theme\": 1 }",
        "{\n  \"mcpServers\": { } }",
        "// c\n{\"a\": [1,\n2],}\n\n",
    ] {
        let desk = Desk::new();
        let path = desk.file("cursor");
        desk.put(&path, text);
        desk.antiphon(&["install", "cursor", "--yes"]).expect(0);
        let after = fs::read_to_string(&path).unwrap();
        assert!(after.contains("\"antiphon\""), "{after}");
        assert_eq!(after.starts_with('\u{feff}'), text.starts_with('\u{feff}'));
        desk.antiphon(&["install", "cursor", "--undo", "--yes"]).expect(0);
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
}

#[test]
fn a_file_that_is_not_there_is_made_and_goes_again() {
    for host in HOSTS {
        let desk = Desk::new();
        let path = desk.file(host);
        desk.antiphon(&["install", host, "--yes"]).expect(0);
        let block = desk.antiphon(&["export", host]).expect(0).stdout;
        assert_eq!(fs::read_to_string(&path).unwrap(), block, "{host}");
        insta::assert_snapshot!(format!("export_{host}"), desk.plain(&block));
        desk.antiphon(&["install", host, "--undo", "--yes"]).expect(0);
        assert!(!path.exists(), "{host}");
    }
}

#[test]
fn what_came_after_stays_when_the_entry_is_taken_out() {
    let desk = Desk::with("zed");
    let path = desk.file("zed");
    let before = fs::read_to_string(&path).unwrap();
    desk.antiphon(&["install", "zed", "--yes"]).expect(0);
    let edit = |text: &str| text.replace("\"buffer_font_size\": 15", "\"buffer_font_size\": 16");
    fs::write(&path, edit(&fs::read_to_string(&path).unwrap())).unwrap();
    let done = desk.antiphon(&["install", "zed", "--undo", "--yes"]).expect(0);
    assert!(done.stderr.contains("the file has changed since"), "{}", done.stderr);
    assert_eq!(fs::read_to_string(&path).unwrap(), edit(&before));
}

#[test]
fn an_entry_is_changed_in_place_and_others_have_other_names() {
    let desk = Desk::with("windsurf");
    let path = desk.file("windsurf");
    let before = fs::read(&path).unwrap();
    desk.antiphon(&["install", "windsurf", "--yes"]).expect(0);
    desk.antiphon(&["install", "windsurf", "--yes", "--trust", "--name", "second", "--db", "runs.db", "asks.toml"])
        .expect(0);
    desk.antiphon(&["install", "windsurf", "--yes", "--trust"]).expect(0);
    let servers: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let args = |name: &str| servers["mcpServers"][name]["args"].as_array().unwrap().clone();
    assert_eq!(args("antiphon").last().unwrap(), "--trust");
    let root = fs::canonicalize(desk.0.folder()).unwrap();
    let whole = |file: &str| root.join(file).to_str().unwrap().to_owned();
    assert_eq!(args("second"), ["serve", &whole("asks.toml"), "--db", &whole("runs.db"), "--trust"]);
    desk.antiphon(&["install", "windsurf", "--undo", "--yes", "--name", "second"]).expect(0);
    desk.antiphon(&["install", "windsurf", "--undo", "--yes"]).expect(0);
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_project_can_have_its_own() {
    let desk = Desk::new();
    for (host, file) in [
        ("claude-code", ".mcp.json"),
        ("cursor", ".cursor/mcp.json"),
        ("vscode", ".vscode/mcp.json"),
        ("zed", ".zed/settings.json"),
    ] {
        desk.antiphon(&["install", host, "--project", "--yes"]).expect(0);
        assert!(fs::read_to_string(desk.0.folder().join(file)).unwrap().contains("\"antiphon\""), "{host}");
    }
    let done = desk.antiphon(&["install", "goose", "--project", "--yes"]).expect(2);
    assert!(done.stderr.contains("Goose has no file for a project alone"), "{}", done.stderr);
}

#[test]
fn nothing_is_written_unasked_or_into_what_cant_be_read() {
    let desk = Desk::with("cursor");
    let path = desk.file("cursor");
    let before = fs::read(&path).unwrap();
    let done = desk.antiphon(&["install", "cursor"]).expect(2);
    for part in ["+ \t\t\"antiphon\": {", "pass --yes"] {
        assert!(done.stderr.contains(part), "{part}: {}", done.stderr);
    }
    assert_eq!(fs::read(&path).unwrap(), before);

    for (bytes, says) in [
        (&b"{\n  \"mcpServers\": {,}\n}"[..], "mcp.json:2:18: "),
        (b"{\n\xff}", "mcp.json:2: this is not UTF-8 text"),
        (b"[]", "its `mcpServers` is not written as expected"),
        (b"{\"mcpServers\": 1}", "its `mcpServers` is not written as expected"),
        (b"{\"mcpServers\": {}, \"mcpServers\": {}}", "is not written as expected"),
    ] {
        fs::write(&path, bytes).unwrap();
        let done = desk.antiphon(&["install", "cursor", "--yes"]).expect(2);
        assert!(done.stderr.contains(says), "{says}: {}", done.stderr);
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let done = desk.antiphon(&["install", "cursor", "--yes"]).expect(2);
    assert!(done.stderr.contains("can't read"), "{}", done.stderr);
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no drafts are left behind");
}

#[test]
fn links_are_followed_and_what_is_protected_stays() {
    let desk = Desk::new();
    let path = desk.file("cursor");
    let real = desk.home().join("dotfiles/cursor.json");
    desk.put(&real, sample("cursor").0);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    symlink(&real, &path).unwrap();
    desk.antiphon(&["install", "cursor", "--yes"]).expect(0);
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
    assert!(fs::read_to_string(&real).unwrap().contains("\"antiphon\""));
    desk.antiphon(&["install", "cursor", "--undo", "--yes"]).expect(0);
    assert_eq!(fs::read_to_string(&real).unwrap(), sample("cursor").0);

    fs::set_permissions(&real, fs::Permissions::from_mode(0o444)).unwrap();
    let done = desk.antiphon(&["install", "cursor", "--yes"]).expect(2);
    assert!(done.stderr.contains("can't write"), "{}", done.stderr);
    assert_eq!(fs::read_to_string(&real).unwrap(), sample("cursor").0);
}

#[test]
fn what_would_keep_a_host_from_using_it_is_said() {
    let desk = Desk::new();
    let text = "[servers.x]\ncommand = \"true\"\nenv.KEY = \"${NO_SUCH_KEY}\"\n[steps.a]\ncall = \"x.y\"\n";
    desk.0.write("calls.toml", text);
    let done = desk.antiphon(&["install", "cursor", "--yes"]).expect(0);
    for part in ["`calls/x` in", "install with --trust", "from the host's environment: NO_SUCH_KEY"] {
        assert!(done.stderr.contains(part), "{part}: {}", done.stderr);
    }
    let done = desk.antiphon(&["install", "cursor", "--yes", "--trust"]).expect(0);
    assert!(!done.stderr.contains("install with --trust"), "{}", done.stderr);
}

/// The command in a host's file is one that serves, wherever it is started.
#[test]
fn the_installed_entry_serves() {
    let desk = Desk::new();
    desk.antiphon(&["install", "claude-code", "--yes"]).expect(0);
    let file: Value = serde_json::from_slice(&fs::read(desk.file("claude-code")).unwrap()).unwrap();
    let entry = &file["mcpServers"]["antiphon"];
    let args = entry["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap());
    let mut child = Command::new(entry["command"].as_str().unwrap())
        .args(args)
        .current_dir("/")
        .env("XDG_DATA_HOME", desk.home())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let params =
        json!({ "protocolVersion": "2025-11-25", "clientInfo": { "name": "t", "version": "0" }, "capabilities": {} });
    for message in [
        json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params }),
        json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }),
        json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" }),
    ] {
        writeln!(stdin, "{message}").unwrap();
    }
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let listed =
        lines.map(|line| serde_json::from_str::<Value>(&line).unwrap()).find(|message| message["id"] == 1).unwrap();
    assert!(listed["result"]["tools"].as_array().unwrap().iter().any(|tool| tool["name"] == "asks"), "{listed}");
    drop(stdin);
    assert!(child.wait().unwrap().success());
}
