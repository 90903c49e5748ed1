//! What the embedded model gets right, beside a llama.cpp server with the same file, prompts and schemas, at temperature 0.
//!
//! ```console
//! $ ANTIPHON_EVAL=1 cargo test -p antiphon-tests --test evaluation -- --nocapture
//! ```
//! That takes some minutes, the default model and `llama-server` (as `llama.rs` wants them); without the variable a message
//! says so. Answers of the smallest model are looked at for their shape in any case.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![expect(clippy::print_stdout, reason = "the scores are what it is run for")]

mod cases;
mod engines;
mod score;

use std::time::{Duration, Instant};

use antiphon_local_model::{LocalModel, Store, Weights, find};
use antiphon_models::{ModelErrorKind, Reply};
use antiphon_tests::Llama;

use crate::cases::{Case, Category};
use crate::engines::{Embedded, Engine, Reference};

/// How one engine did.
struct Scores {
    right: Vec<bool>,
    took: Duration,
}

async fn ask_all(name: &str, engine: &impl Engine, cases: &[Case]) -> Scores {
    let began = Instant::now();
    let mut right = Vec::new();
    for case in cases {
        let answer = engine.ask(&case.request).await;
        let fault = match &answer {
            Ok(reply) => score::fault(case, reply),
            Err(why) => Some(why.clone()),
        };
        if let Some(fault) = &fault {
            println!("{name}: {} {:?}: {fault}", case.category, case.prompt());
        }
        right.push(fault.is_none());
    }
    Scores { right, took: began.elapsed() }
}

impl Scores {
    fn of(&self, cases: &[Case], category: Option<Category>) -> usize {
        let counted = cases.iter().zip(&self.right).filter(|(case, _)| category.is_none_or(|one| one == case.category));
        counted.filter(|(_, right)| **right).count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_model_is_as_good_as_llama_cpp() {
    if std::env::var_os("ANTIPHON_EVAL").is_none() {
        println!("skipped: it takes minutes; ANTIPHON_EVAL=1 runs it");
        return;
    }
    let cases = cases::load();
    let Some(llama) = Llama::start().await else { return };
    let theirs = ask_all("llama.cpp", &Reference::new(&llama), &cases).await;
    drop(llama);
    let weights = Weights::File(Llama::weights().unwrap());
    let ours = ask_all("embedded", &Embedded(LocalModel::new("local", weights, |_| ())), &cases).await;

    println!("\n{:12}{:>8}{:>11}{:>12}", "", "cases", "embedded", "llama.cpp");
    for category in Category::ALL.into_iter().map(Some).chain([None]) {
        let count = cases.iter().filter(|case| category.is_none_or(|one| one == case.category)).count();
        let name = category.map_or("together".to_owned(), |category| category.to_string());
        println!("{name:12}{count:>8}{:>11}{:>12}", ours.of(&cases, category), theirs.of(&cases, category));
    }
    println!("{:12}{:>8}{:>9} s{:>10} s", "", "", ours.took.as_secs(), theirs.took.as_secs());
    let (ours, theirs) = (ours.of(&cases, None), theirs.of(&cases, None));
    assert!(ours + 1 >= theirs, "{ours} right, where llama.cpp has {theirs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_have_their_shape_whatever_their_sense() {
    let _ = rustls_graviola::default_provider().install_default();
    let file = match Store::open().unwrap().fetch(find("tiny").unwrap(), &|_| ()).await {
        Ok(file) => file,
        Err(error) if std::env::var_os("CI").is_some() => panic!("{error}"),
        Err(error) => return println!("skipped: {error}"),
    };
    let engine = LocalModel::new("local", Weights::File(file), |_| ());
    let cases = cases::load();
    assert!(cases.len() >= 40, "{}", cases.len());
    let mut shaped = 0;
    for case in &cases {
        let mut request = case.request.clone();
        request.max_tokens = 100;
        match engines::embedded(&engine, &request).await {
            // A call or a value that does not conform is an error.
            Ok(Reply::Calls(calls)) => assert!(!calls.is_empty() && !request.tools.is_empty()),
            Ok(Reply::Output(output)) => request.shape.check(&output).unwrap(),
            // It likes to go on for ever.
            Err(error) => {
                let cut = error.kind == ModelErrorKind::InvalidOutput && error.message.contains("(cut at max_tokens");
                assert!(cut, "{:?}: {error}", case.prompt());
                continue;
            }
        }
        shaped += 1;
    }
    println!("{shaped} of {} answers came to their end", cases.len());
    assert!(shaped * 2 > cases.len(), "{shaped}");
}
