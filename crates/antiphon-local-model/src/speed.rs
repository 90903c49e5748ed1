//! How fast a model reads and writes on this machine.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::session::{Listener, Order, Session, Written};

/// A loaded model, to be measured.
pub struct Meter {
    session: Session,
    load: Duration,
    seed: u32,
}

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub struct Speed {
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

impl Meter {
    /// Loads a model, and warms it up.
    ///
    /// # Errors
    /// The file can't be used, as a clause for people.
    pub fn load(file: &Path) -> Result<Self, String> {
        let began = Instant::now();
        let (session, _) = Session::load(file).map_err(|error| error.to_string())?;
        let mut meter = Self { session, load: began.elapsed(), seed: 0 };
        let prompt = meter.tokens(40);
        meter.write(prompt, 2)?;
        Ok(meter)
    }

    /// How long the model took to load.
    pub fn loading(&self) -> Duration {
        self.load
    }

    /// So many tokens that were not asked for before. They make no sense, so none of them is likely to be the last.
    pub fn tokens(&mut self, count: u32) -> Vec<u32> {
        self.seed += 1;
        // Ordinary words: ids in the low thousands.
        (0..count).map(|at| 1_000 + (self.seed * 101 + at * 37) % 4_000).collect()
    }

    /// Reads a prompt and writes so many tokens, at least two; then the same prompt with a few tokens more.
    ///
    /// # Errors
    /// The model failed, as a clause for people.
    pub fn measure(&mut self, prompt: &[u32], write: usize) -> Result<Speed, String> {
        let first = self.write(prompt.to_vec(), write)?;
        let more = self.tokens(8);
        let again = self.write([prompt, &more].concat(), 2)?;
        #[expect(clippy::cast_precision_loss, reason = "token counts are small")]
        let rate = |tokens: usize, took: Duration| tokens as f64 / took.as_secs_f64();
        Ok(Speed {
            prompt: rate(prompt.len() - first.known, first.reading),
            generation: rate(first.passes - 1, first.writing),
            first_token: again.reading,
        })
    }

    fn write(&mut self, prompt: Vec<u32>, max_tokens: usize) -> Result<Written, String> {
        let order = Order { prompt, max_tokens, ..Order::default() };
        let written = self.session.write(&order, &Nobody).map_err(|error| error.to_string())?;
        written.ok_or_else(|| "nobody listened".to_owned())
    }
}
