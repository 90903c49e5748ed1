//! The keys and values of what a model has read: what it need not read again.

use candle_core::{DType, Device, Result, Tensor};

/// Room is made for so many tokens at a time at least.
const STEP: usize = 512;

/// The keys and values of one conversation.
pub(crate) struct Kv {
    layers: Vec<(Tensor, Tensor)>,
    heads: usize,
    width: usize,
    room: usize,
    len: usize,
}

impl Kv {
    /// Empty, for a model with so many layers of key heads of this width.
    pub(crate) fn new(layers: usize, heads: usize, width: usize) -> Result<Self> {
        let empty = || Tensor::zeros((0, heads, width), DType::F32, &Device::Cpu);
        let layers = (0..layers).map(|_| Ok((empty()?, empty()?))).collect::<Result<_>>()?;
        Ok(Self { layers, heads, width, room: 0, len: 0 })
    }

    /// How many tokens are in it.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Forgets all but the first `len` tokens.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// The first `len` tokens of another conversation.
    pub(crate) fn copy_of(other: &Self, len: usize) -> Result<Self> {
        let mut copy = Self::new(other.layers.len(), other.heads, other.width)?;
        copy.reserve(len)?;
        for ((keys, values), (from_keys, from_values)) in copy.layers.iter().zip(&other.layers) {
            keys.slice_set(&from_keys.narrow(0, 0, len)?, 0, 0)?;
            values.slice_set(&from_values.narrow(0, 0, len)?, 0, 0)?;
        }
        copy.len = len;
        Ok(copy)
    }

    /// Makes room for this many tokens more.
    pub(crate) fn reserve(&mut self, more: usize) -> Result<()> {
        let wanted = self.len + more;
        if wanted <= self.room {
            return Ok(());
        }
        let room = wanted.max(self.room * 3 / 2).next_multiple_of(STEP);
        for layer in &mut self.layers {
            *layer = (grown(&layer.0, room, self.len)?, grown(&layer.1, room, self.len)?);
        }
        self.room = room;
        Ok(())
    }

    /// Puts a layer's keys and values of the next tokens (tokens × heads × width) behind what is there, and gives all
    /// of the layer's. They count once [`Kv::advance`] says so.
    pub(crate) fn put(&self, layer: usize, keys: &Tensor, values: &Tensor) -> Result<(Tensor, Tensor)> {
        let all = self.len + keys.dim(0)?;
        let (all_keys, all_values) = &self.layers[layer];
        all_keys.slice_set(keys, 0, self.len)?;
        all_values.slice_set(values, 0, self.len)?;
        Ok((all_keys.narrow(0, 0, all)?, all_values.narrow(0, 0, all)?))
    }

    /// Every layer has been given this many tokens.
    pub(crate) fn advance(&mut self, tokens: usize) {
        self.len += tokens;
    }
}

fn grown(old: &Tensor, room: usize, len: usize) -> Result<Tensor> {
    let (_, heads, width) = old.dims3()?;
    let new = Tensor::zeros((room, heads, width), DType::F32, &Device::Cpu)?;
    if len > 0 {
        new.slice_set(&old.narrow(0, 0, len)?, 0, 0)?;
    }
    Ok(new)
}
