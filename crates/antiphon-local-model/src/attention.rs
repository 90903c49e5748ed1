//! The attention of one token: for each key head, the heads that share it go over the keys and values together.
//!
//! candle's own is made for many tokens and takes a thread pool of its own for each layer.

use std::sync::Mutex;

use candle_core::utils::barrier_pool;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};

use crate::fused::{contiguous, exp};
use crate::packed::widest;

/// So many products are summed up side by side.
const LANES: usize = 16;

/// What one token (1 × heads × width) takes from all that stands in `keys` and `values` (tokens × key heads × width).
pub(crate) fn of_one(query: &Tensor, keys: &Tensor, values: &Tensor, scale: f32) -> Result<Tensor> {
    query.apply_op3_no_bwd(keys, values, &OfOne { scale })
}

struct OfOne {
    scale: f32,
}

impl CustomOp3 for OfOne {
    fn name(&self) -> &'static str {
        "attention-of-one"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (query, keys, values) = (contiguous(s1, l1)?, contiguous(s2, l2)?, contiguous(s3, l3)?);
        let ((_, heads, width), (_, kv_heads, _)) = (l1.shape().dims3()?, l2.shape().dims3()?);
        if width == 0 || kv_heads == 0 || heads % kv_heads != 0 || query.len() != heads * width {
            bail!("{heads} heads of width {width} on {kv_heads} key heads");
        }
        let mut out = vec![0.0; query.len()];
        let sharing = heads / kv_heads * width;
        // Each key head is taken by one thread, once: nobody waits for these locks.
        let parts: Vec<Mutex<&mut [f32]>> = out.chunks_exact_mut(sharing).map(Mutex::new).collect();
        barrier_pool().execute_chunked(kv_heads, |range| {
            for head in range {
                let Ok(mut out) = parts[head].lock() else { continue };
                let part = Head { width, stride: kv_heads * width, from: head * width, scale: self.scale };
                let query = &query[head * sharing..][..sharing];
                widest(
                    #[inline(always)]
                    || part.attend(query, keys, values, &mut out),
                );
            }
        });
        drop(parts);
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }
}

/// One key head.
struct Head {
    width: usize,
    /// From one token to the next.
    stride: usize,
    from: usize,
    scale: f32,
}

impl Head {
    #[inline(always)]
    fn attend(&self, query: &[f32], keys: &[f32], values: &[f32], out: &mut [f32]) {
        let tokens = keys.len() / self.stride;
        let mut weights = vec![0.0; query.len() / self.width * tokens];
        for (token, key) in self.rows(keys).enumerate() {
            for (query, weights) in query.chunks_exact(self.width).zip(weights.chunks_exact_mut(tokens)) {
                weights[token] = dot(query, key);
            }
        }
        for weights in weights.chunks_exact_mut(tokens) {
            soften(weights, self.scale);
        }
        for (token, value) in self.rows(values).enumerate() {
            for (out, weights) in out.chunks_exact_mut(self.width).zip(weights.chunks_exact(tokens)) {
                for (out, value) in out.iter_mut().zip(value) {
                    *out += value * weights[token];
                }
            }
        }
    }

    /// What it has of each token.
    #[inline(always)]
    fn rows<'a>(&self, all: &'a [f32]) -> impl Iterator<Item = &'a [f32]> {
        let (from, width) = (self.from, self.width);
        all.chunks_exact(self.stride).map(move |token| &token[from..][..width])
    }
}

#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; LANES];
    let (a, rest_a) = a.as_chunks::<LANES>();
    let (b, rest_b) = b.as_chunks::<LANES>();
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    // In halves: each of the four steps is one instruction or two.
    let mut half = LANES / 2;
    while half > 0 {
        let (low, high) = sums.split_at_mut(half);
        low.iter_mut().zip(high).for_each(|(low, high)| *low += *high);
        half /= 2;
    }
    rest_a.iter().zip(rest_b).fold(sums[0], |sum, (a, b)| sum + a * b)
}

/// The softmax of scores.
#[inline(always)]
fn soften(scores: &mut [f32], scale: f32) {
    let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    scores.iter_mut().for_each(|score| *score = exp((*score - top) * scale));
    let whole = 1.0 / scores.iter().sum::<f32>();
    scores.iter_mut().for_each(|score| *score *= whole);
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used)]

    use candle_core::Device;

    use super::*;

    #[test]
    fn it_is_what_the_formula_says() {
        for (heads, kv_heads, width, tokens) in [(12, 2, 128, 37), (4, 4, 20, 1), (9, 3, 64, 300)] {
            let random =
                |rows: usize, heads: usize| Tensor::randn(0.0_f32, 1.0, (rows, heads, width), &Device::Cpu).unwrap();
            let (query, keys, values) = (random(1, heads), random(tokens + 3, kv_heads), random(tokens + 3, kv_heads));
            // A part of what there is room for, as the cache gives it.
            let (keys, values) = (keys.narrow(0, 0, tokens).unwrap(), values.narrow(0, 0, tokens).unwrap());
            let out = of_one(&query, &keys, &values, 0.1).unwrap().to_vec3::<f32>().unwrap();
            let [query, keys, values] = [query, keys, values].map(|x| x.to_vec3::<f32>().unwrap());
            for head in 0..heads {
                let shared = head / (heads / kv_heads);
                let score = |token: usize| -> f64 {
                    let products = query[0][head].iter().zip(&keys[token][shared]);
                    (products.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() * 0.1).exp()
                };
                let whole: f64 = (0..tokens).map(score).sum();
                for at in 0..width {
                    let right: f64 =
                        (0..tokens).map(|token| score(token) / whole * f64::from(values[token][shared][at])).sum();
                    assert!((right - f64::from(out[0][head][at])).abs() < 1e-4, "{heads} {head} {at}");
                }
            }
        }
    }
}
