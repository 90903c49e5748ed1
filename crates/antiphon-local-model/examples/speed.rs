//! How fast a model reads and writes here: `cargo run --release -p antiphon-local-model --example speed -- FILE [PROMPT [WRITE]]`.
//! `CANDLE_NUM_THREADS` says with how many threads.

use std::process::ExitCode;

fn main() -> ExitCode {
    antiphon_local_model::settle(None);
    let mut args = std::env::args().skip(1);
    let Some(file) = args.next() else {
        eprintln!("speed FILE [PROMPT [WRITE]]: tokens to read, tokens to write");
        return ExitCode::from(2);
    };
    let prompt = args.next().and_then(|tokens| tokens.parse().ok()).unwrap_or(300);
    let write = args.next().and_then(|tokens| tokens.parse().ok()).unwrap_or(32);
    match antiphon_local_model::measure(file.as_ref(), prompt, write) {
        Ok(speed) => {
            eprintln!("load         {:8.2?}", speed.load);
            eprintln!("prompt       {:8.1} tokens/s", speed.prompt);
            eprintln!("generation   {:8.1} tokens/s", speed.generation);
            eprintln!("first token  {:8.2?} with the prompt known", speed.first_token);
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{file}: {why}");
            ExitCode::FAILURE
        }
    }
}
