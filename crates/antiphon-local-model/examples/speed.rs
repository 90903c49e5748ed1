//! How fast a model reads and writes here, and beside it llama.cpp with the same file, tokens and threads, in turns:
//!
//! `cargo run --release -p antiphon-local-model --example speed -- FILE [--beside LLAMA_SERVER] [--rounds N] [--prompt TOKENS]
//! [--write TOKENS]`
//!
//! `CANDLE_NUM_THREADS` says with how many threads. Of several rounds, medians are shown.

use std::net::TcpListener;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use antiphon_local_model::Meter;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

/// llama.cpp loads a model in this time.
const PATIENCE: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    antiphon_local_model::settle(None);
    let Some(order) = Order::read(std::env::args().skip(1)) else {
        eprintln!("speed FILE [--beside LLAMA_SERVER] [--rounds N] [--prompt TOKENS] [--write TOKENS]");
        return ExitCode::from(2);
    };
    let measured = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())
        .and_then(|runtime| runtime.block_on(measure(&order)));
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{}: {why}", order.file);
            ExitCode::FAILURE
        }
    }
}

/// What is to be measured.
struct Order {
    file: String,
    beside: Option<String>,
    rounds: usize,
    prompt: u32,
    write: u32,
}

impl Order {
    fn read(mut args: impl Iterator<Item = String>) -> Option<Self> {
        let mut order = Self { file: args.next()?, beside: None, rounds: 1, prompt: 300, write: 32 };
        while let Some(arg) = args.next() {
            let value = args.next()?;
            match arg.as_str() {
                "--beside" => order.beside = Some(value),
                "--rounds" => order.rounds = value.parse().ok()?,
                "--prompt" => order.prompt = value.parse().ok()?,
                "--write" => order.write = value.parse().ok().filter(|write| *write >= 2)?,
                _ => return None,
            }
        }
        Some(order)
    }
}

async fn measure(order: &Order) -> Result<(), String> {
    let other = match &order.beside {
        Some(server) => Some(Other::start(server, &order.file).await?),
        None => None,
    };
    let mut meter = Meter::load(order.file.as_ref())?;
    eprintln!("loaded in {:.1?}; tokens a second:", meter.loading());
    let (mut ours, mut theirs, mut ratios) =
        (<[Vec<f64>; 3]>::default(), <[Vec<f64>; 2]>::default(), <[Vec<f64>; 2]>::default());
    for _ in 0..order.rounds {
        let prompt = meter.tokens(order.prompt);
        let speed = meter.measure(&prompt, order.write as usize)?;
        for (all, one) in ours.iter_mut().zip([speed.prompt, speed.generation, speed.first_token.as_secs_f64()]) {
            all.push(one);
        }
        let mut line = format!("prompt {:6.1}   generation {:5.1}", speed.prompt, speed.generation);
        if let Some(other) = &other {
            let (read, written) = other.measure(&prompt, order.write).await?;
            for (all, one) in theirs.iter_mut().zip([read, written]) {
                all.push(one);
            }
            for (all, one) in ratios.iter_mut().zip([speed.prompt / read, speed.generation / written]) {
                all.push(one);
            }
            line += &format!("   llama.cpp: prompt {read:6.1}   generation {written:5.1}");
        }
        eprintln!("{line}");
    }
    let [prompt, generation, first] = ours.map(median);
    eprintln!(
        "medians: prompt {prompt:.1}, generation {generation:.1}, first token with the prompt known {first:.3} s"
    );
    if other.is_some() {
        let ([prompt, generation], [reading, writing]) = (theirs.map(median), ratios.map(median));
        eprintln!(
            "llama.cpp: prompt {prompt:.1}, generation {generation:.1}; this is {reading:.2} and {writing:.2} times as fast"
        );
    }
    Ok(())
}

/// llama.cpp's server, which ends with this.
struct Other {
    client: reqwest::Client,
    url: String,
    _server: Child,
}

impl Other {
    async fn start(server: &str, file: &str) -> Result<Self, String> {
        let _ = rustls_graviola::default_provider().install_default();
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.map_err(|error| error.to_string())?.port().to_string();
        let threads = std::env::var("CANDLE_NUM_THREADS").unwrap_or_else(|_| "1".to_owned());
        let child = Command::new(server)
            .args([
                "-m",
                file,
                "--host",
                "127.0.0.1",
                "--port",
                &port,
                "-t",
                &threads,
                "-tb",
                &threads,
                "-c",
                "4096",
                "-np",
                "1",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{server}: {error}"))?;
        // It closes connections that wait as long as the other one measures.
        let client = reqwest::Client::builder().pool_max_idle_per_host(0).build().map_err(|error| error.to_string())?;
        let other = Self { client, url: format!("http://127.0.0.1:{port}"), _server: child };
        let began = Instant::now();
        while !other.ready().await {
            if began.elapsed() > PATIENCE {
                return Err(format!("{server} is not ready after {PATIENCE:?}"));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // What it does once it does now.
        other.measure(&[1_000; 40], 2).await?;
        Ok(other)
    }

    async fn ready(&self) -> bool {
        let answer = self.client.get(format!("{}/health", self.url)).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// Tokens a second, read and written, by its own clock.
    async fn measure(&self, prompt: &[u32], write: u32) -> Result<(f64, f64), String> {
        let order = json!({ "prompt": prompt, "n_predict": write, "cache_prompt": false, "ignore_eos": true, "temperature": 0.0 });
        let answer = self.client.post(format!("{}/completion", self.url)).json(&order).send().await;
        let answer: Value = match answer {
            Ok(answer) => answer.json().await.map_err(|error| error.to_string())?,
            Err(error) => return Err(error.to_string()),
        };
        match (answer["timings"]["prompt_per_second"].as_f64(), answer["timings"]["predicted_per_second"].as_f64()) {
            (Some(read), Some(written)) => Ok((read, written)),
            _ => Err(format!("llama.cpp said {answer}")),
        }
    }
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_unstable_by(f64::total_cmp);
    match (all.get(all.len().saturating_sub(1) / 2), all.get(all.len() / 2)) {
        (Some(low), Some(high)) => f64::midpoint(*low, *high),
        _ => f64::NAN,
    }
}
