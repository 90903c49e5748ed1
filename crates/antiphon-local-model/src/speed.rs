//! How fast a model reads and writes on this machine.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::session::{Listener, Order, Session};

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub struct Speed {
    /// How long the model took to load.
    pub load: Duration,
    /// Tokens of a prompt read in a second.
    pub prompt: f64,
    /// Tokens written in a second.
    pub generation: f64,
    /// From a request to the first token of its answer, when all but a few tokens of the prompt were read before.
    pub first_token: Duration,
}

struct Nobody;

impl Listener for Nobody {
    fn listening(&self) -> bool {
        true
    }

    fn heard(&self, _tokens: usize) {}
}

/// Reads a prompt of so many tokens and writes so many (at least two), after one that warms it up. The tokens make no sense,
/// so none of them is likely to be the last.
///
/// # Errors
/// The file can't be used, as a clause for people.
pub fn measure(file: &Path, prompt: u32, write: usize) -> Result<Speed, String> {
    let began = Instant::now();
    let (mut session, _) = Session::load(file).map_err(|error| error.to_string())?;
    let load = began.elapsed();
    let mut run = |prompt: Vec<u32>, max_tokens: usize| {
        let order = Order { prompt, max_tokens, ..Order::default() };
        let written = session.write(&order, &Nobody).map_err(|error| error.to_string())?;
        written.ok_or_else(|| "nobody listened".to_owned())
    };
    // Ordinary words: ids in the low thousands.
    let tokens = |seed: u32, count: u32| (0..count).map(|at| 1_000 + (seed + at * 37) % 4_000).collect::<Vec<_>>();
    run(tokens(1, 40), 2)?;
    let first = run(tokens(2, prompt), write)?;
    let again = run([tokens(2, prompt), tokens(3, 8)].concat(), 2)?;
    #[expect(clippy::cast_precision_loss, reason = "token counts are small")]
    let rate = |tokens: usize, took: Duration| tokens as f64 / took.as_secs_f64();
    Ok(Speed {
        load,
        prompt: rate(prompt as usize - first.known, first.reading),
        generation: rate(first.passes - 1, first.writing),
        first_token: again.reading,
    })
}
