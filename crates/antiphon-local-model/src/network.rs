//! The network itself: tokens in, the likelihood of each next token out.
//!
//! Our own, over candle's quantized kernels, because candle's models can only append to what they have read or forget it all;
//! here what was read is a [`Kv`], which can be cut anywhere and belongs to a conversation.

use std::sync::Arc;

use candle_core::quantized::QTensor;
use candle_core::{Device, Result, Tensor, bail};
use candle_nn::ops::rms_norm;
use candle_nn::rotary_emb::{rope_i, rope_thd};

use crate::attention;
use crate::fused::{causal_softmax, gated};
use crate::kv::Kv;
use crate::linear::Linear;
use crate::weights::Gguf;

/// The families of networks that this one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    /// Llama, and SmolLM2, Mistral and others that say that they are.
    Llama,
    /// Qwen 2 and 2.5.
    Qwen2,
    /// Qwen 3.
    Qwen3,
}

/// A network with its weights.
pub(crate) struct Network {
    embedding: Arc<QTensor>,
    blocks: Vec<Block>,
    norm: Norm,
    head: Linear,
    rotary: Rotary,
    shape: Shape,
    context: usize,
}

#[derive(Clone, Copy)]
struct Shape {
    heads: usize,
    kv_heads: usize,
    width: usize,
}

struct Block {
    attention_norm: Norm,
    query: Linear,
    key: Linear,
    value: Linear,
    query_norm: Option<Norm>,
    key_norm: Option<Norm>,
    output: Linear,
    forward_norm: Norm,
    gate: Linear,
    up: Linear,
    down: Linear,
}

struct Norm {
    weight: Tensor,
    epsilon: f32,
}

struct Rotary {
    cos: Tensor,
    sin: Tensor,
    /// Pairs are neighbours, not halves apart.
    interleaved: bool,
}

impl Network {
    /// Reads a network out of its file.
    ///
    /// # Errors
    /// The file is broken, or of a family that this isn't.
    pub(crate) fn load(file: &mut Gguf) -> Result<Self> {
        let (name, family) = match file.meta("general.architecture")?.to_string()?.as_str() {
            name @ "llama" => (name.to_owned(), Family::Llama),
            name @ "qwen2" => (name.to_owned(), Family::Qwen2),
            name @ "qwen3" => (name.to_owned(), Family::Qwen3),
            other => bail!("it is of the family `{other}`; there are `llama`, `qwen2` and `qwen3`"),
        };
        let number = |key: &str| match file.number(&format!("{name}.{key}")) {
            Some(number) if number > 0 => Ok(number),
            _ => bail!("the file has no `{name}.{key}`"),
        };
        let real =
            |key: &str| file.meta(&format!("{name}.{key}")).and_then(candle_core::quantized::gguf_file::Value::to_f32);
        let heads = number("attention.head_count")?;
        let kv_heads = number("attention.head_count_kv").unwrap_or(heads);
        let width = number("attention.key_length")
            .or_else(|_| Ok::<_, candle_core::Error>(number("embedding_length")? / heads))?;
        let blocks = number("block_count")?;
        let context = number("context_length")?;
        let epsilon = real("attention.layer_norm_rms_epsilon")?;
        let base = real("rope.freq_base").unwrap_or(10_000.0);
        if heads % kv_heads != 0 || width % 2 != 0 {
            bail!("{heads} heads of width {width} on {kv_heads} key heads");
        }
        if file.has("rope_freqs.weight")
            || file.text(&format!("{name}.rope.scaling.type")).is_some_and(|kind| kind != "none")
        {
            bail!("it stretches its rotary embedding, which isn't known here");
        }
        let rotary = Rotary::new(width, base, context, family == Family::Llama)?;
        let blocks = (0..blocks).map(|index| Block::load(file, index, epsilon)).collect::<Result<_>>()?;
        // Small models look tokens up and predict them with the same matrix.
        let head = if file.has("output.weight") { "output" } else { "token_embd" };
        Ok(Self {
            embedding: file.table("token_embd.weight")?,
            blocks,
            norm: Norm::load(file, "output_norm", epsilon)?,
            head: Linear::load(file, head)?,
            rotary,
            shape: Shape { heads, kv_heads, width },
            context,
        })
    }

    /// How many tokens it can have before it, at most.
    pub(crate) fn context(&self) -> usize {
        self.context
    }

    /// A conversation that it hasn't read anything of.
    pub(crate) fn kv(&self) -> Result<Kv> {
        Kv::new(self.blocks.len(), self.shape.kv_heads, self.shape.width)
    }

    /// Reads tokens (at least one) behind those that are in `kv`.
    pub(crate) fn read(&self, tokens: &[u32], kv: &mut Kv) -> Result<Tensor> {
        let count = tokens.len();
        kv.reserve(count)?;
        let ids = Tensor::new(tokens, &Device::Cpu)?;
        let mut x = self.embedding.embedding(&ids)?;
        let (cos, sin) = self.rotary.at(kv.len(), count)?;
        for (layer, block) in self.blocks.iter().enumerate() {
            let attended = self.attend(layer, block, &block.attention_norm.apply(&x)?, kv, (&cos, &sin))?;
            x = (x + attended)?;
            let forward = block.forward(&block.forward_norm.apply(&x)?)?;
            x = (x + forward)?;
        }
        kv.advance(count);
        x.narrow(0, count - 1, 1)
    }

    /// The likelihood of each token to come next, as logits: of what [`Network::read`] gave.
    pub(crate) fn predict(&self, last: &Tensor) -> Result<Vec<f32>> {
        self.head.apply(&self.norm.apply(last)?)?.flatten_all()?.to_vec1()
    }

    /// What each token takes from those before it (tokens × model width, both ways).
    fn attend(
        &self,
        layer: usize,
        block: &Block,
        x: &Tensor,
        kv: &Kv,
        (cos, sin): (&Tensor, &Tensor),
    ) -> Result<Tensor> {
        let Shape { heads, kv_heads, width } = self.shape;
        let count = x.dim(0)?;
        let [query, key, value] = Linear::apply_all([&block.query, &block.key, &block.value], x)?;
        // Tokens × heads × width, normed and turned.
        let place = |x: &Tensor, heads: usize, norm: Option<&Norm>| -> Result<Tensor> {
            let x = x.reshape((1, count, heads, width))?;
            let x = if let Some(norm) = norm { norm.apply(&x)? } else { x };
            self.rotary.turn(&x, cos, sin)?.squeeze(0)
        };
        let query = place(&query, heads, block.query_norm.as_ref())?;
        let key = place(&key, kv_heads, block.key_norm.as_ref())?;
        let (keys, values) = kv.put(layer, &key, &value.reshape((count, kv_heads, width))?)?;
        let taken = match count {
            1 => attention::of_one(&query, &keys, &values, self.shape.scale())?,
            _ => self.attend_many(&query, &keys, &values)?,
        };
        block.output.apply(&taken.reshape((count, heads * width))?)
    }

    /// The attention of many tokens: two products of matrices for each key head, with the heads that share it as rows of
    /// one of them, so that no key is copied.
    fn attend_many(&self, query: &Tensor, keys: &Tensor, values: &Tensor) -> Result<Tensor> {
        let Shape { heads, kv_heads, width } = self.shape;
        let count = query.dim(0)?;
        let query = query.transpose(0, 1)?.contiguous()?.reshape((kv_heads, heads / kv_heads * count, width))?;
        let scores = query.matmul(&keys.permute((1, 2, 0))?)?;
        let taken = causal_softmax(&scores, count, self.shape.scale())?.matmul(&values.transpose(0, 1)?)?;
        taken.reshape((heads, count, width))?.transpose(0, 1)?.contiguous()
    }
}

impl Shape {
    fn scale(self) -> f32 {
        #[expect(clippy::cast_precision_loss, reason = "a head's width is small")]
        let width = self.width as f32;
        1.0 / width.sqrt()
    }
}

impl Block {
    fn load(file: &mut Gguf, index: usize, epsilon: f32) -> Result<Self> {
        let name = |part: &str| format!("blk.{index}.{part}");
        let optional = |file: &mut Gguf, part: &str| -> Result<Option<Norm>> {
            let there = file.has(&format!("{}.weight", name(part)));
            there.then(|| Norm::load(file, &name(part), epsilon)).transpose()
        };
        Ok(Self {
            attention_norm: Norm::load(file, &name("attn_norm"), epsilon)?,
            query: Linear::load(file, &name("attn_q"))?,
            key: Linear::load(file, &name("attn_k"))?,
            value: Linear::load(file, &name("attn_v"))?,
            query_norm: optional(file, "attn_q_norm")?,
            key_norm: optional(file, "attn_k_norm")?,
            output: Linear::load(file, &name("attn_output"))?,
            forward_norm: Norm::load(file, &name("ffn_norm"), epsilon)?,
            gate: Linear::load(file, &name("ffn_gate"))?,
            up: Linear::load(file, &name("ffn_up"))?,
            down: Linear::load(file, &name("ffn_down"))?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let [gate, up] = Linear::apply_all([&self.gate, &self.up], x)?;
        self.down.apply(&gated(&gate, &up)?)
    }
}

impl Norm {
    fn load(file: &mut Gguf, name: &str, epsilon: f32) -> Result<Self> {
        Ok(Self { weight: file.vector(&format!("{name}.weight"))?, epsilon })
    }

    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        rms_norm(x, &self.weight, self.epsilon)
    }
}

impl Rotary {
    fn new(width: usize, base: f32, context: usize, interleaved: bool) -> Result<Self> {
        #[expect(clippy::cast_precision_loss, reason = "positions and widths are far below 2^24")]
        let angles: Vec<f32> = (0..context)
            .flat_map(|at| (0..width / 2).map(move |pair| at as f32 / base.powf(2.0 * pair as f32 / width as f32)))
            .collect();
        let angles = Tensor::from_vec(angles, (context, width / 2), &Device::Cpu)?;
        Ok(Self { cos: angles.cos()?, sin: angles.sin()?, interleaved })
    }

    /// Turns what is tokens × heads × width, by where the tokens are.
    fn turn(&self, x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
        if self.interleaved {
            rope_i(&x.transpose(1, 2)?.contiguous()?, cos, sin)?.transpose(1, 2)?.contiguous()
        } else {
            rope_thd(x, cos, sin)
        }
    }

    fn at(&self, position: usize, count: usize) -> Result<(Tensor, Tensor)> {
        Ok((self.cos.narrow(0, position, count)?, self.sin.narrow(0, position, count)?))
    }
}
