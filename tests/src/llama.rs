//! A real llama.cpp server, with the default local model, on a port of its own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// The default model's file, as `antiphon model fetch` leaves it.
const MODEL: &str = "antiphon/models/cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046/qwen2.5-coder-1.5b-instruct-q4_k_m.gguf";

/// How long loading may take, on a busy machine with cold disks.
const LOADING: Duration = Duration::from_secs(120);

/// Runs a program as long as this process lives, however it ends.
const UNTIL_STDIN_ENDS: &str = r#""$@" </dev/null >/dev/null 2>&1 & program=$!; cat; kill $program"#;

/// One test at a time: a model takes a gigabyte and both cores.
static ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A server with one slot of 4096 tokens; it stops when dropped.
pub struct Llama {
    /// Its base URL.
    pub url: String,
    root: String,
    _child: Child,
    _one: tokio::sync::MutexGuard<'static, ()>,
}

impl Llama {
    /// A server that is ready, or `None` with a message.
    pub async fn start() -> Option<Self> {
        let (server, model) = (program()?, Self::weights()?);
        let one = ONE.lock().await;
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new("sh");
        command.args(["-c", UNTIL_STDIN_ENDS, "sh"]).arg(server).arg("-m").arg(model);
        command.args([
            "--host",
            "127.0.0.1",
            "--port",
            &port.to_string(),
            "-c",
            "4096",
            "-np",
            "1",
            "--alias",
            "local",
        ]);
        command.args(["--jinja", "--no-webui", "--slots"]).stdin(Stdio::piped());
        let child = command.spawn().expect("the shell starts");
        let root = format!("http://127.0.0.1:{port}");
        let llama = Self { url: format!("{root}/v1"), root, _child: child, _one: one };
        let ready = async {
            while !llama.get("/health").await.is_some_and(|health| health["status"] == "ok") {
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(LOADING, ready).await.expect("llama-server loads the model");
        Some(llama)
    }

    /// Its model's file.
    pub fn weights() -> Option<PathBuf> {
        cached(MODEL, "`antiphon model fetch` gets it")
    }

    /// Returns when no slot is at work.
    pub async fn idle(&self) {
        let busy = |slots: Option<Value>| {
            slots.is_none_or(|slots| slots.as_array().unwrap().iter().any(|slot| slot["is_processing"] != false))
        };
        while busy(self.get("/slots").await) {
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn get(&self, path: &str) -> Option<Value> {
        // A second one changes nothing.
        let _ = rustls_graviola::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        client.get(format!("{}{path}", self.root)).send().await.ok()?.json().await.ok()
    }
}

fn program() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("ANTIPHON_LLAMA_SERVER") {
        let named = PathBuf::from(named);
        assert!(named.exists(), "ANTIPHON_LLAMA_SERVER: there is no {}", named.display());
        return Some(named);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&path).map(|folder| folder.join("llama-server"));
    let found = found.find(|program| program.exists());
    found.or_else(|| cached("llama-server-build/bin/llama-server", "`.ci/llama-server` builds it"))
}

fn cached(path: &str, hint: &str) -> Option<PathBuf> {
    let home = || Some(Path::new(&std::env::var_os("HOME")?).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home)?;
    let file = cache.join(path);
    if !file.exists() {
        skipped(&format!("{} is missing; {hint}", file.display()));
        return None;
    }
    Some(file)
}

#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}
