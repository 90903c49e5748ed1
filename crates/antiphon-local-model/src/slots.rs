//! What conversations have been read, so that the next turn of one reads only what is new.

use candle_core::Result;

use crate::kv::Kv;
use crate::network::Network;

/// How many conversations are remembered: agents that answer each other take turns.
const CONVERSATIONS: usize = 4;

/// A beginning that is shared is copied, rather than read again, from so many tokens on.
const WORTH_COPYING: usize = 16;

/// A conversation is gone on with if no more than this is lost: how an answer ends may be read anew.
const LOSS: usize = 64;

/// What was read of one conversation.
pub(crate) struct Slot {
    /// The tokens that are in `kv`, in order.
    tokens: Vec<u32>,
    kv: Kv,
}

impl Slot {
    /// How many tokens were read.
    pub(crate) fn len(&self) -> usize {
        self.kv.len()
    }

    /// Reads more tokens (at least one), and gives what the network makes of the last.
    pub(crate) fn read(&mut self, tokens: &[u32], network: &Network) -> Result<candle_core::Tensor> {
        let last = network.read(tokens, &mut self.kv)?;
        self.tokens.extend_from_slice(tokens);
        Ok(last)
    }

    fn cut(mut self, len: usize) -> Self {
        self.tokens.truncate(len);
        self.kv.truncate(len);
        self
    }

    /// How many tokens of a prompt are read already. Its last one is always read again: what follows is asked of it.
    fn shared(&self, prompt: &[u32]) -> usize {
        let same = self.tokens.iter().zip(prompt).take_while(|(a, b)| a == b).count();
        same.min(prompt.len().saturating_sub(1))
    }
}

/// The conversations that are remembered, the one used last at the end.
#[derive(Default)]
pub(crate) struct Slots(Vec<Slot>);

impl Slots {
    /// Takes out a conversation that begins like this prompt and has nothing else in it. [`Slots::put`] it back.
    ///
    /// # Errors
    /// No memory for it.
    pub(crate) fn take(&mut self, prompt: &[u32], network: &Network) -> Result<Slot> {
        let best = (0..self.0.len()).max_by_key(|at| self.0[*at].shared(prompt));
        let Some(best) = best else { return fresh(network) };
        let shared = self.0[best].shared(prompt);
        if self.0[best].len() - shared <= LOSS {
            return Ok(self.0.remove(best).cut(shared));
        }
        let slot = if shared >= WORTH_COPYING {
            let Slot { tokens, kv } = &self.0[best];
            Slot { tokens: tokens[..shared].to_vec(), kv: Kv::copy_of(kv, shared)? }
        } else {
            fresh(network)?
        };
        if self.0.len() >= CONVERSATIONS {
            self.0.remove(0);
        }
        Ok(slot)
    }

    /// Remembers a conversation; the ones that were not used for longest give way when all of them would have more
    /// tokens than one may have.
    pub(crate) fn put(&mut self, slot: Slot, network: &Network) {
        self.0.push(slot);
        while self.0.len() > 1 && self.0.iter().map(Slot::len).sum::<usize>() > network.context() {
            self.0.remove(0);
        }
    }
}

fn fresh(network: &Network) -> Result<Slot> {
    Ok(Slot { tokens: Vec::new(), kv: network.kv()? })
}
