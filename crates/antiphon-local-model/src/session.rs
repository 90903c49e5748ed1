//! A model at work: prompts in, answers out, one at a time.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::{Result, Tensor};
use llguidance::Matcher;

use crate::grammar::{Grammar, Grammars};
use crate::network::Network;
use crate::sampler;
use crate::slots::{Slot, Slots};
use crate::vocabulary::Vocabulary;
use crate::weights::Gguf;

/// So many tokens are read at a time: between them it can be cancelled.
const CHUNK: usize = 256;

/// A model in memory.
pub(crate) struct Session {
    network: Network,
    vocabulary: Arc<Vocabulary>,
    grammars: Grammars,
    slots: Slots,
}

/// What is to be written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Order {
    /// What it goes on from.
    pub(crate) prompt: Vec<u32>,
    /// What it must look like.
    pub(crate) grammar: Option<Grammar>,
    /// The most tokens to write.
    pub(crate) max_tokens: usize,
    /// How freely to choose them.
    pub(crate) temperature: f32,
    /// It ends before any of these.
    pub(crate) stop: Vec<String>,
}

/// What was written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Written {
    pub(crate) text: String,
    pub(crate) tokens: usize,
    pub(crate) end: End,
    /// How many tokens of the prompt were known from before.
    pub(crate) known: usize,
    /// How often the network was asked.
    pub(crate) passes: usize,
    /// How long it took to read the prompt.
    pub(crate) reading: Duration,
    /// How long it took to write.
    pub(crate) writing: Duration,
}

/// Why it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// All was said.
    Turn,
    /// One of `stop` was next.
    Stop,
    /// There may be no more tokens.
    Length,
}

/// Whoever waits for an answer.
pub(crate) trait Listener {
    /// Whether the answer is still wanted.
    fn listening(&self) -> bool;
    /// So many tokens are there.
    fn heard(&self, tokens: usize);
}

impl Session {
    /// Reads a model from its file. Takes seconds.
    ///
    /// # Errors
    /// The file is broken or of a kind that isn't known.
    pub(crate) fn load(path: &Path) -> Result<(Self, Gguf)> {
        let mut file = Gguf::open(path)?;
        let vocabulary = Arc::new(Vocabulary::load(&file)?);
        let grammars = Grammars::new(&vocabulary)?;
        let network = Network::load(&mut file)?;
        // candle arranges the weights for its kernels when they are first used: here nobody waits for an answer yet.
        network.predict(&network.read(&[0, 0], &mut network.kv()?)?)?;
        Ok((Self { network, vocabulary, grammars, slots: Slots::default() }, file))
    }

    pub(crate) fn vocabulary(&self) -> &Arc<Vocabulary> {
        &self.vocabulary
    }

    pub(crate) fn context(&self) -> usize {
        self.network.context()
    }

    /// Writes an answer; `None` when nobody wants it any more.
    ///
    /// # Errors
    /// The network can't be run, for want of memory or because its weights don't fit together.
    pub(crate) fn write(&mut self, order: &Order, listener: &dyn Listener) -> Result<Option<Written>> {
        let mut slot = self.slots.take(&order.prompt, &self.network)?;
        let written = self.answer(order, &mut slot, listener);
        self.slots.put(slot, &self.network);
        written
    }

    fn answer(&self, order: &Order, slot: &mut Slot, listener: &dyn Listener) -> Result<Option<Written>> {
        let started = Instant::now();
        let known = slot.len();
        let mut answer = Answer::new(order, &self.vocabulary);
        let mut matcher = order.grammar.as_ref().and_then(|grammar| self.grammars.compile(grammar));
        let mut lot = rand::rng();
        let mut passes = 0;
        let mut reading = None;
        let mut unread = order.prompt[known..].to_vec();
        let end = loop {
            // What the grammar leaves no choice about is read along with what was chosen before it.
            let forced = matcher.as_mut().map(Matcher::consume_ff_tokens).unwrap_or_default();
            if let Some(end) = answer.extend(&forced) {
                break end;
            }
            if matcher.as_ref().is_some_and(Matcher::is_stopped) {
                break End::Turn;
            }
            if answer.tokens >= order.max_tokens {
                break End::Length;
            }
            unread.extend(forced);
            let Some(last) = self.read(slot, &unread, listener)? else { return Ok(None) };
            passes += 1;
            let logits = self.network.predict(&last)?;
            reading.get_or_insert_with(|| started.elapsed());
            let allowed =
                matcher.as_mut().map(Matcher::compute_mask_or_eos).transpose().map_err(candle_core::Error::msg)?;
            let Some(token) = sampler::choose(&logits, allowed.as_ref(), order.temperature, &mut lot) else {
                break End::Turn;
            };
            if self.vocabulary.is_end(token) {
                break End::Turn;
            }
            if let Some(matcher) = &mut matcher {
                matcher.consume_token(token).map_err(candle_core::Error::msg)?;
            }
            if let Some(end) = answer.extend(&[token]) {
                break end;
            }
            listener.heard(answer.tokens);
            unread = vec![token];
        };
        let reading = reading.unwrap_or_else(|| started.elapsed());
        let writing = started.elapsed() - reading;
        let (text, tokens) = (answer.text(), answer.tokens);
        Ok(Some(Written { text, tokens, end, known, passes, reading, writing }))
    }

    /// Reads tokens, a chunk at a time; `None` when nobody listens any more.
    fn read(&self, slot: &mut Slot, tokens: &[u32], listener: &dyn Listener) -> Result<Option<Tensor>> {
        let mut last = None;
        for chunk in tokens.chunks(CHUNK) {
            if !listener.listening() {
                return Ok(None);
            }
            last = Some(slot.read(chunk, &self.network)?);
        }
        Ok(last)
    }
}

/// An answer as it grows.
struct Answer<'a> {
    order: &'a Order,
    vocabulary: &'a Vocabulary,
    bytes: Vec<u8>,
    tokens: usize,
}

impl<'a> Answer<'a> {
    fn new(order: &'a Order, vocabulary: &'a Vocabulary) -> Self {
        Self { order, vocabulary, bytes: Vec::new(), tokens: 0 }
    }

    /// Takes the next tokens, and tells whether that was the last of it.
    fn extend(&mut self, tokens: &[u32]) -> Option<End> {
        for token in tokens {
            if self.tokens == self.order.max_tokens {
                return Some(End::Length);
            }
            let before = self.bytes.len();
            self.bytes.extend_from_slice(self.vocabulary.bytes(*token));
            self.tokens += 1;
            if let Some(at) = self.stopped(before) {
                self.bytes.truncate(at);
                return Some(End::Stop);
            }
        }
        None
    }

    /// Where one of the texts that end it begins, when the bytes from `new` on complete one.
    fn stopped(&self, new: usize) -> Option<usize> {
        let found = self.order.stop.iter().filter(|stop| !stop.is_empty()).filter_map(|stop| {
            let from = new.saturating_sub(stop.len() - 1);
            self.bytes[from..].windows(stop.len()).position(|part| part == stop.as_bytes()).map(|at| from + at)
        });
        found.min()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used)]

    use antiphon_models::{SampleRequest, Shape};
    use indexmap::IndexMap;

    use super::*;
    use crate::store::Store;
    use crate::template::Template;
    use crate::vocabulary::Part;
    use crate::{catalogue, protocol};

    struct Patient;

    impl Listener for Patient {
        fn listening(&self) -> bool {
            true
        }

        fn heard(&self, _tokens: usize) {}
    }

    /// The smallest model, or `None`, with a word about it, where it can't be had. In CI that is a failure.
    async fn session() -> Option<(Session, Template)> {
        let _ = rustls_graviola::default_provider().install_default();
        match Store::open().unwrap().fetch(catalogue::find("tiny").unwrap(), &|_| ()).await {
            Ok(file) => {
                let (session, file) = Session::load(&file).unwrap();
                let template = Template::load(&file, session.vocabulary()).unwrap();
                Some((session, template))
            }
            Err(error) if std::env::var_os("CI").is_some() => panic!("{error}"),
            Err(error) => {
                eprintln!("skipped: {error}");
                None
            }
        }
    }

    #[tokio::test]
    async fn a_choice_among_200_labels_asks_the_network_once_more_than_the_label_has_tokens_at_most() {
        let Some((mut session, template)) = session().await else { return };
        let sets: [fn(usize) -> String; 3] = [
            |n| format!("label-{n}"),
            // Long beginnings that many share.
            |n| format!("billing/invoices/overdue/region-{}/account-{n}", n % 7),
            |n| format!("{} the customer's complaint about order {n}", ["escalate", "answer", "close"][n % 3]),
        ];
        for label in sets {
            let labels: IndexMap<String, String> = (0..200).map(|n| (label(n), String::new())).collect();
            let shape = Shape::choose(labels.clone()).unwrap();
            let request = SampleRequest { shape, ..SampleRequest::text("Which one is about number 150?") };
            let rendered = template.render(&protocol::turns(&request)).unwrap();
            let order = Order {
                prompt: session.vocabulary().encode(rendered.parts()).unwrap(),
                grammar: protocol::grammar(&request),
                max_tokens: 100,
                ..Order::default()
            };
            let written = session.write(&order, &Patient).unwrap().unwrap();
            let chosen: serde_json::Value = serde_json::from_str(&written.text).unwrap();
            let chosen = chosen["choice"].as_str().unwrap();
            assert!(labels.contains_key(chosen), "{written:?}");
            let count = |text| session.vocabulary().encode([Part::Content(text)]).unwrap().len();
            let tokens = count(chosen) - count("");
            assert!(written.passes <= tokens + 1, "{tokens} tokens: {written:?}");
            // What all labels begin with costs nothing.
            assert!(written.passes < written.tokens, "{written:?}");
        }
    }
}
