//! Matrices times one vector, as they stand in the file.
//!
//! Writing a token reads every weight once, so it takes as long as the weights take to come from memory. candle spreads
//! four-bit weights out to six for its kernels, which is right for many tokens at a time and a third too much for one. Here
//! they are read in the file's own bytes.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use candle_core::Result;
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::utils::barrier_pool;
use pulp::bytemuck;
use pulp::x86::V3;
use std::arch::x86_64::{__m128i, __m256, __m256i};

/// So many numbers of the vector share a scale.
const BLOCK: usize = 256;

/// A thread takes so many rows at a time at least.
const ROWS: usize = 16;

/// The product of a row with a vector.
type Dot = fn(V3, &[u8], &Vector) -> f32;

/// Several matrices of the same width times a vector; `None` when a processor or a type of tensor isn't known here.
///
/// # Errors
/// None that is known: candle could not give the bytes of a tensor.
pub(crate) fn multiply(matrices: &[&QTensor], vector: &[f32]) -> Result<Option<Vec<Vec<f32>>>> {
    let Some(simd) = V3::try_new() else { return Ok(None) };
    let mut parts = Vec::with_capacity(matrices.len());
    for matrix in matrices {
        let (rows, width) = matrix.shape().dims2()?;
        let Some(kernel) = Kernel::of(matrix.dtype()) else { return Ok(None) };
        if width != vector.len() || !width.is_multiple_of(BLOCK) {
            return Ok(None);
        }
        let out: Vec<AtomicU32> = (0..rows).map(|_| AtomicU32::new(0)).collect();
        parts.push(Part { kernel, bytes: matrix.data()?, stride: kernel.bytes() * width / kernel.values(), out });
    }
    let vector = simd.vectorize(|| Vector::new(vector));
    // One meeting of the threads for all of them.
    let units: Vec<usize> = parts.iter().map(|part| part.out.len().div_ceil(ROWS)).collect();
    barrier_pool().execute_chunked(units.iter().sum(), |range| {
        let mut first = 0;
        for (part, units) in parts.iter().zip(&units) {
            let mine = range.start.max(first)..range.end.min(first + units);
            if !mine.is_empty() {
                let rows = (mine.start - first) * ROWS..((mine.end - first) * ROWS).min(part.out.len());
                part.rows(simd, &vector, rows);
            }
            first += units;
        }
    });
    let out =
        parts.into_iter().map(|part| part.out.into_iter().map(|bits| f32::from_bits(bits.into_inner())).collect());
    Ok(Some(out.collect()))
}

/// A matrix at work.
struct Part<'a> {
    kernel: Kernel,
    bytes: std::borrow::Cow<'a, [u8]>,
    /// Bytes of a row.
    stride: usize,
    /// A number each row: threads write to it side by side.
    out: Vec<AtomicU32>,
}

impl Part<'_> {
    fn rows(&self, simd: V3, vector: &Vector, rows: Range<usize>) {
        let dot = self.kernel.dot();
        let bytes = self.bytes[rows.start * self.stride..rows.end * self.stride].chunks_exact(self.stride);
        for (row, out) in bytes.zip(&self.out[rows]) {
            out.store(dot(simd, row, vector).to_bits(), Ordering::Relaxed);
        }
    }
}

/// A type of tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kernel {
    Q4K,
    Q6K,
    Q8_0,
}

impl Kernel {
    fn of(dtype: GgmlDType) -> Option<Self> {
        match dtype {
            GgmlDType::Q4K => Some(Self::Q4K),
            GgmlDType::Q6K => Some(Self::Q6K),
            GgmlDType::Q8_0 => Some(Self::Q8_0),
            _ => None,
        }
    }

    /// So many weights are together.
    fn values(self) -> usize {
        match self {
            Self::Q4K | Self::Q6K => BLOCK,
            Self::Q8_0 => 32,
        }
    }

    /// In so many bytes.
    fn bytes(self) -> usize {
        match self {
            Self::Q4K => 144,
            Self::Q6K => 210,
            Self::Q8_0 => 34,
        }
    }

    fn dot(self) -> Dot {
        match self {
            Self::Q4K => |simd, row, vector| {
                simd.vectorize(
                    #[inline(always)]
                    || dot_q4k(simd, row, vector),
                )
            },
            Self::Q6K => |simd, row, vector| {
                simd.vectorize(
                    #[inline(always)]
                    || dot_q6k(simd, row, vector),
                )
            },
            Self::Q8_0 => |simd, row, vector| {
                simd.vectorize(
                    #[inline(always)]
                    || dot_q8_0(simd, row, vector),
                )
            },
        }
    }
}

/// A vector in eight bits.
struct Vector(Vec<Eight>);

/// A block of it.
struct Eight {
    scale: f32,
    values: [i8; BLOCK],
    /// Of each sixteen of them: for weights that are stored with an offset.
    sums: [i16; BLOCK / 16],
}

impl Vector {
    #[inline(always)]
    fn new(values: &[f32]) -> Self {
        /// Adding it leaves the nearest whole number in the lowest bits.
        const ROUND: f32 = 12_582_912.0;
        let block = |values: &[f32]| {
            let most = values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
            let scale = most / 127.0;
            let inverse = if most > 0.0 { 127.0 / most } else { 0.0 };
            let mut eight = Eight { scale, values: [0; BLOCK], sums: [0; BLOCK / 16] };
            for (eight, value) in eight.values.iter_mut().zip(values) {
                let [low, ..] = (value * inverse + ROUND).to_bits().to_le_bytes();
                *eight = low.cast_signed();
            }
            for (sum, values) in eight.sums.iter_mut().zip(eight.values.as_chunks::<16>().0) {
                *sum = values.iter().map(|value| i16::from(*value)).sum();
            }
            eight
        };
        Self(values.chunks_exact(BLOCK).map(block).collect())
    }
}

/// Weights of four bits, with a scale and an offset of six bits for each 32 of them.
#[inline(always)]
fn dot_q4k(simd: V3, row: &[u8], vector: &Vector) -> f32 {
    let (avx, avx2) = (simd.avx, simd.avx2);
    let low = avx._mm256_set1_epi8(0x0f);
    let mut sum = avx._mm256_setzero_ps();
    for (block, x) in row.as_chunks::<144>().0.iter().zip(&vector.0) {
        let (scales, offsets) = scales_q4k(field(block, 4));
        let scales: __m128i = bytemuck::cast([scales, [0; 8]]);
        let scales = simd.sse4_1._mm_cvtepu8_epi16(scales);
        let scales = avx._mm256_set_m128i(scales, scales);
        let mut products = avx._mm256_setzero_si256();
        for pair in 0..4 {
            let four = load(field::<32>(block, 16 + 32 * pair));
            let first = avx2._mm256_and_si256(four, low);
            let second = avx2._mm256_and_si256(avx2._mm256_srli_epi16::<4>(four), low);
            for (weights, part) in [(first, 2 * pair), (second, 2 * pair + 1)] {
                let product = avx2._mm256_maddubs_epi16(weights, load(field(&x.values, 32 * part)));
                let scale = avx2._mm256_shuffle_epi8(scales, bytemuck::cast(WORD[part]));
                products = avx2._mm256_add_epi32(products, avx2._mm256_madd_epi16(product, scale));
            }
        }
        let scale = avx._mm256_set1_ps(half(field(block, 0)) * x.scale);
        sum = simd.fma._mm256_fmadd_ps(scale, avx._mm256_cvtepi32_ps(products), sum);
        // An offset counts for two sums of sixteen.
        let offsets: __m128i = bytemuck::cast([offsets, [0; 8]]);
        let twice = simd.sse2._mm_unpacklo_epi8(offsets, offsets);
        let products = avx2._mm256_madd_epi16(avx2._mm256_cvtepu8_epi16(twice), bytemuck::cast(x.sums));
        let scale = avx._mm256_set1_ps(half(field(block, 2)) * x.scale);
        sum = simd.fma._mm256_fnmadd_ps(scale, avx._mm256_cvtepi32_ps(products), sum);
    }
    total(sum)
}

/// Weights of six bits, with a scale for each 16 of them, that stand for themselves less 32.
#[inline(always)]
fn dot_q6k(simd: V3, row: &[u8], vector: &Vector) -> f32 {
    let (avx, avx2) = (simd.avx, simd.avx2);
    let low = avx._mm256_set1_epi8(0x0f);
    let high = avx._mm256_set1_epi8(0x30);
    let mut sum = avx._mm256_setzero_ps();
    for (block, x) in row.as_chunks::<210>().0.iter().zip(&vector.0) {
        let scales: __m128i = bytemuck::cast(*field::<16>(block, 192));
        // What is too much by the 32.
        let offset = avx2._mm256_madd_epi16(avx2._mm256_cvtepi8_epi16(scales), bytemuck::cast(x.sums));
        let zero = avx._mm256_setzero_si256();
        let mut products = avx2._mm256_sub_epi32(zero, avx2._mm256_slli_epi32::<5>(offset));
        for side in 0..2 {
            let near = load(field::<32>(block, 64 * side));
            let far = load(field::<32>(block, 64 * side + 32));
            let tops = load(field::<32>(block, 128 + 32 * side));
            let weights = [
                (near, avx2._mm256_slli_epi16::<4>(tops)),
                (far, avx2._mm256_slli_epi16::<2>(tops)),
                (avx2._mm256_srli_epi16::<4>(near), tops),
                (avx2._mm256_srli_epi16::<4>(far), avx2._mm256_srli_epi16::<2>(tops)),
            ];
            for (part, (bottom, top)) in weights.into_iter().enumerate() {
                let part = 4 * side + part;
                let bottom = avx2._mm256_and_si256(bottom, low);
                let six = avx2._mm256_or_si256(bottom, avx2._mm256_and_si256(top, high));
                let product = avx2._mm256_maddubs_epi16(six, load(field(&x.values, 32 * part)));
                let scale =
                    avx2._mm256_cvtepi8_epi16(simd.ssse3._mm_shuffle_epi8(scales, bytemuck::cast(HALVES[part])));
                products = avx2._mm256_add_epi32(products, avx2._mm256_madd_epi16(product, scale));
            }
        }
        let scale = avx._mm256_set1_ps(half(field(block, 208)) * x.scale);
        sum = simd.fma._mm256_fmadd_ps(scale, avx._mm256_cvtepi32_ps(products), sum);
    }
    total(sum)
}

/// Weights of eight bits, with a scale for each 32 of them.
#[inline(always)]
fn dot_q8_0(simd: V3, row: &[u8], vector: &Vector) -> f32 {
    let (avx, avx2) = (simd.avx, simd.avx2);
    let ones = avx._mm256_set1_epi16(1);
    let mut sum = avx._mm256_setzero_ps();
    for (blocks, x) in row.as_chunks::<{ 34 * 8 }>().0.iter().zip(&vector.0) {
        for (part, block) in blocks.as_chunks::<34>().0.iter().enumerate() {
            let weights = load(field::<32>(block, 2));
            // One side must be without a sign: it changes sides.
            let values = avx2._mm256_sign_epi8(load(field(&x.values, 32 * part)), weights);
            let product = avx2._mm256_maddubs_epi16(avx2._mm256_abs_epi8(weights), values);
            let products = avx._mm256_cvtepi32_ps(avx2._mm256_madd_epi16(product, ones));
            let scale = avx._mm256_set1_ps(half(field(block, 0)) * x.scale);
            sum = simd.fma._mm256_fmadd_ps(scale, products, sum);
        }
    }
    total(sum)
}

/// For each of eight words of two bytes: to have it everywhere.
const WORD: [[u8; 32]; 8] = {
    let mut picks = [[0; 32]; 8];
    let mut at = 0;
    while at < 8 * 32 {
        picks[at / 32][at % 32] = (at / 32 * 2 + at % 2) as u8;
        at += 1;
    }
    picks
};

/// For each of eight pairs of bytes: to have the first in one half and the second in the other.
const HALVES: [[u8; 16]; 8] = {
    let mut picks = [[0; 16]; 8];
    let mut at = 0;
    while at < 8 * 16 {
        picks[at / 16][at % 16] = (at / 16 * 2 + at % 16 / 8) as u8;
        at += 1;
    }
    picks
};

/// The scales and the offsets of a block: eight of each, six bits each. The first four have bytes of their own, whose two
/// highest bits are the highest of the last four.
#[inline(always)]
fn scales_q4k(packed: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
    let word = |at: usize| u32::from_le_bytes(*field(packed, at));
    let (scales, offsets, rest) = (word(0), word(4), word(8));
    let join = |first: u32, last: u32| (u64::from(first) | u64::from(last) << 32).to_le_bytes();
    let top = |word: u32| word >> 2 & 0x3030_3030;
    (
        join(scales & 0x3f3f_3f3f, rest & 0x0f0f_0f0f | top(scales)),
        join(offsets & 0x3f3f_3f3f, rest >> 4 & 0x0f0f_0f0f | top(offsets)),
    )
}

/// A part of known size of something of known size: the compiler sees that it is there.
#[inline(always)]
fn field<const N: usize>(bytes: &[impl bytemuck::Pod], at: usize) -> &[u8; N] {
    let bytes: &[u8] = bytemuck::cast_slice(bytes);
    bytes[at..].first_chunk().unwrap_or(&[0; N])
}

#[inline(always)]
fn load(bytes: &[u8; 32]) -> __m256i {
    bytemuck::cast(*bytes)
}

/// Half precision to single: exponents differ by 112, also those of the smallest.
#[inline(always)]
fn half(bytes: &[u8; 2]) -> f32 {
    /// 2 to the power of 112.
    const REBASE: f32 = f32::from_bits((112 + 127) << 23);
    let bits = u32::from(u16::from_le_bytes(*bytes));
    let size = f32::from_bits((bits & 0x7fff) << 13) * REBASE;
    f32::from_bits(size.to_bits() | (bits & 0x8000) << 16)
}

#[inline(always)]
fn total(lanes: __m256) -> f32 {
    let lanes: [f32; 8] = bytemuck::cast(lanes);
    lanes.iter().sum()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used)]

    use candle_core::{Device, Tensor};
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn it_is_what_the_weights_stand_for_times_the_vector() {
        let mut dice = StdRng::seed_from_u64(7);
        let (rows, width) = (37, 512);
        let mut random = |count: usize| (0..count).map(|_| dice.random_range(-1.0f32..1.0)).collect::<Vec<_>>();
        let weights = Tensor::from_vec(random(rows * width), (rows, width), &Device::Cpu).unwrap();
        let vector = random(width);
        let types = [GgmlDType::Q4K, GgmlDType::Q6K, GgmlDType::Q8_0];
        let matrices = types.map(|dtype| QTensor::quantize(&weights, dtype).unwrap());
        let Some(out) = multiply(&matrices.each_ref().map(|matrix| matrix), &vector).unwrap() else {
            return eprintln!("skipped: this processor has no AVX2");
        };
        for (matrix, out) in matrices.iter().zip(out) {
            let exact = matrix.dequantize(&Device::Cpu).unwrap().to_vec2::<f32>().unwrap();
            for (row, out) in exact.iter().zip(out) {
                let exact: f32 = row.iter().zip(&vector).map(|(a, b)| a * b).sum();
                assert!((exact - out).abs() < 0.15, "{:?}: {out} for {exact}", matrix.dtype());
            }
        }
    }

    #[test]
    fn what_is_not_known_is_left_to_others() {
        let weights = Tensor::zeros((2, 256), candle_core::DType::F32, &Device::Cpu).unwrap();
        let known = QTensor::quantize(&weights, GgmlDType::Q4K).unwrap();
        let unknown = QTensor::quantize(&weights, GgmlDType::Q5K).unwrap();
        assert!(multiply(&[&known, &unknown], &[0.0; 256]).unwrap().is_none());
    }

    #[test]
    fn halves_are_read() {
        for (bits, value) in [(0x3c00, 1.0), (0xc000, -2.0), (0x0001, 5.960_464_5e-8), (0x7bff, 65_504.0), (0, 0.0)] {
            assert_eq!(half(&u16::to_le_bytes(bits)), value);
        }
    }
}
