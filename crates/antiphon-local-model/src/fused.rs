//! What a network does to single numbers, several steps of it at once, on all threads.
//!
//! candle takes one step after the other, on one thread, with an exponential of which a processor can compute but one at a
//! time.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// Work of this size is worth a thread of its own.
const SHARE: usize = 1 << 14;

/// `silu(gate) * up`.
pub(crate) fn gated(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.apply_op2_no_bwd(up, &Gated)
}

/// The softmax of scores (heads × … × tokens before and with the rows' own): each row is of one of the last `count` tokens, in
/// order, and sees no token that comes after it.
pub(crate) fn causal_softmax(scores: &Tensor, count: usize, scale: f32) -> Result<Tensor> {
    scores.apply_op1_no_bwd(&CausalSoftmax { count, scale })
}

struct Gated;

impl CustomOp2 for Gated {
    fn name(&self) -> &'static str {
        "gated"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (gate, up) = (contiguous(s1, l1)?, contiguous(s2, l2)?);
        let mut out = vec![0.0; gate.len().min(up.len())];
        let shares = out.par_chunks_mut(SHARE).zip(gate.par_chunks(SHARE)).zip(up.par_chunks(SHARE));
        shares.for_each(|((out, gate), up)| {
            for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
                *out = gate / (1.0 + exp(-gate)) * up;
            }
        });
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }
}

struct CausalSoftmax {
    count: usize,
    scale: f32,
}

impl CustomOp1 for CausalSoftmax {
    fn name(&self) -> &'static str {
        "causal-softmax"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let scores = contiguous(storage, layout)?;
        let width = layout.dims().last().copied().unwrap_or(0);
        let Some(before) = width.checked_sub(self.count) else { bail!("{} tokens of {width}", self.count) };
        let mut out = vec![0.0; scores.len()];
        let rows = out.par_chunks_mut(width).zip(scores.par_chunks(width)).enumerate().with_min_len(SHARE / width + 1);
        rows.for_each(|(row, (out, scores))| {
            let seen = before + row % self.count + 1;
            let (out, scores) = (&mut out[..seen], &scores[..seen]);
            let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            for (out, score) in out.iter_mut().zip(scores) {
                *out = exp((score - top) * self.scale);
            }
            let whole = 1.0 / out.iter().sum::<f32>();
            out.iter_mut().for_each(|out| *out *= whole);
        });
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }
}

pub(crate) fn contiguous<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(&storage.as_slice::<f32>()?[from..to]),
        None => bail!("it must be contiguous"),
    }
}

/// `e` to the power of `x`, to six digits: without a branch or a table, so that the compiler makes one instruction of several.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    /// Adding it leaves the nearest whole number in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let whole = rounded - ROUND;
    // ln 2 in two parts: the first has so few digits that its product is exact.
    let rest = x - whole * 0.693_359_4 + whole * 2.121_944_4e-4;
    // The power series, as far as it matters: the rest is at most half of ln 2.
    let terms = [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    let series = terms.into_iter().fold(0.0, |sum, term| sum * rest + term);
    // The whole part goes where a float has its exponent.
    f32::from_bits((rounded.to_bits() << 23).wrapping_add(1.0_f32.to_bits())) * series
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used)]

    use candle_core::Device;

    use super::*;

    #[test]
    fn the_exponential_is_right_to_six_digits() {
        for step in -8_700_i16..=8_800 {
            let x = f32::from(step) / 100.0;
            let (ours, theirs) = (exp(x), x.exp());
            assert!((ours - theirs).abs() <= theirs * 1e-6, "{x}: {ours} for {theirs}");
        }
        assert!(exp(f32::NEG_INFINITY) < 1e-37);
    }

    #[test]
    fn a_gate_lets_through_what_it_should() {
        let tensor = |values: [f32; 3]| Tensor::new(&values, &Device::Cpu).unwrap();
        let out = gated(&tensor([-20.0, 0.0, 20.0]), &tensor([5.0, 5.0, 5.0])).unwrap().to_vec1::<f32>().unwrap();
        assert!(out[0].abs() < 1e-6 && out[1] == 0.0 && (out[2] - 100.0).abs() < 1e-3, "{out:?}");
    }

    #[test]
    fn nobody_sees_what_comes_after() {
        // Two heads, two tokens behind one that was there before.
        let scores = Tensor::zeros((2, 2, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        let out = causal_softmax(&scores, 2, 1.0).unwrap().to_vec3::<f32>().unwrap();
        for head in out {
            assert_eq!(head[0], [0.5, 0.5, 0.0]);
            assert!(head[1].iter().all(|weight| (weight - 1.0 / 3.0).abs() < 1e-6));
        }
    }
}
