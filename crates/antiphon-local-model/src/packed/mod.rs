//! Matrices for this processor: sixteen rows side by side, times one vector or many.
//!
//! Writing a token reads every weight once, so it should take as long as the weights take to come from memory: they stay as
//! small as they are in the file, and what is left to compute is little when no register has to be summed up across. Reading a
//! prompt uses each weight for many tokens at a time.

mod format;
mod kernels;
mod lanes;
mod vectors;

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use candle_core::Result;
use candle_core::quantized::QTensor;
use candle_core::utils::barrier_pool;
use rayon::prelude::*;

use format::Format;
use lanes::{Lanes, Narrow, ROWS, Wide};
use vectors::Block;

/// Weights are read in lines of the cache.
const LINE: usize = 64;

/// A matrix as the kernels want it.
pub(crate) struct Packed {
    format: Format,
    rows: usize,
    width: usize,
    /// Sixteen rows, and the next sixteen: from `skip` on, where a line begins.
    bytes: Vec<u8>,
    skip: usize,
}

impl Packed {
    /// Of a matrix; `None` when this processor or the type of the tensor isn't known here.
    ///
    /// # Errors
    /// candle could not give the bytes of the tensor.
    pub(crate) fn of(matrix: &QTensor) -> Result<Option<Self>> {
        let (rows, width) = matrix.shape().dims2()?;
        let Some(format) = Format::of(matrix.dtype()) else { return Ok(None) };
        if Narrow::try_new().is_none() || width == 0 || !width.is_multiple_of(format.values()) {
            return Ok(None);
        }
        let file = matrix.data()?;
        let blocks = width / format.values();
        let (stride, file_stride) = (blocks * format.bytes(), blocks * format.file_bytes());
        let mut bytes = vec![0; rows.div_ceil(ROWS) * stride + LINE];
        let skip = bytes.as_ptr().align_offset(LINE).min(LINE);
        let tiles = bytes[skip..].par_chunks_exact_mut(stride).zip(file.par_chunks(ROWS * file_stride));
        tiles.for_each(|(tile, file)| {
            for (row, file) in file.chunks_exact(file_stride).enumerate() {
                for (file, block) in file.chunks_exact(format.file_bytes()).zip(tile.chunks_exact_mut(format.bytes())) {
                    format.put(file, row, block);
                }
            }
        });
        Ok(Some(Self { format, rows, width, bytes, skip }))
    }

    /// How many sixteens of rows there are, of which the last may not be full.
    fn tiles(&self) -> usize {
        self.rows.div_ceil(ROWS)
    }

    /// Sixteen rows.
    fn tile(&self, tile: usize) -> &[u8] {
        let stride = self.width / self.format.values() * self.format.bytes();
        &self.bytes[self.skip + tile * stride..][..stride]
    }

    /// Sixteen rows times several vectors.
    fn times<L: Lanes, const T: usize>(&self, lanes: L, tile: usize, vectors: &[Block<T>]) -> [[f32; ROWS]; T] {
        let mut products = [[0.0; ROWS]; T];
        for part in 0..L::PARTS {
            let lanes = lanes.part(part);
            lanes.run(
                #[inline(always)]
                || {
                    let rows = self.tile(tile);
                    let sums = match self.format {
                        Format::Q4K => kernels::q4k(lanes, rows, vectors),
                        Format::Q6K => kernels::q6k(lanes, rows, vectors),
                        Format::Q8_0 => kernels::q8_0(lanes, rows, vectors),
                    };
                    for (sum, product) in sums.into_iter().zip(&mut products) {
                        lanes.store(sum, product);
                    }
                },
            );
        }
        products
    }
}

/// Several matrices of the same width times vectors that stand one behind the other, as do the products of each.
pub(crate) fn multiply(matrices: &[&Packed], vectors: &[f32]) -> Vec<Vec<f32>> {
    match (Wide::try_new(), Narrow::try_new()) {
        (Some(lanes), _) => multiply_with::<_, 8>(lanes, matrices, vectors),
        (_, Some(lanes)) => multiply_with::<_, 4>(lanes, matrices, vectors),
        // Nobody can have a `Packed` then.
        (None, None) => Vec::new(),
    }
}

/// Does work with the widest instructions that this processor has. What is to use them must be inlined into it.
#[inline(always)]
pub(crate) fn widest<R>(work: impl FnOnce() -> R) -> R {
    match (Wide::try_new(), Narrow::try_new()) {
        (Some(lanes), _) => lanes.run(work),
        (_, Some(lanes)) => lanes.run(work),
        (None, None) => work(),
    }
}

/// `T` vectors at a time, as many as there are registers for.
fn multiply_with<L: Lanes, const T: usize>(lanes: L, matrices: &[&Packed], vectors: &[f32]) -> Vec<Vec<f32>> {
    let width = matrices.first().map_or(1, |matrix| matrix.width);
    let (groups, rest) = vectors.split_at(vectors.len() / (T * width) * (T * width));
    let groups: Vec<Vec<Block<T>>> =
        groups.par_chunks_exact(T * width).map(|group| blocks(lanes, group, width)).collect();
    let rest: Vec<Vec<Block<1>>> = rest.chunks_exact(width).map(|vector| blocks(lanes, vector, width)).collect();
    let count = T * groups.len() + rest.len();
    let parts: Vec<Part<'_>> = matrices.iter().map(|matrix| Part::new(matrix, count)).collect();
    // One meeting of the threads for all of them.
    barrier_pool().execute_chunked(parts.iter().map(|part| part.matrix.tiles()).sum(), |range| {
        let mut first = 0;
        for part in &parts {
            let last = first + part.matrix.tiles();
            for tile in range.start.max(first)..range.end.min(last) {
                part.tile(lanes, tile - first, &groups, &rest);
            }
            first = last;
        }
    });
    parts.into_iter().map(Part::products).collect()
}

#[inline(always)]
fn blocks<L: Lanes, const T: usize>(lanes: L, vectors: &[f32], width: usize) -> Vec<Block<T>> {
    lanes.run(
        #[inline(always)]
        || vectors::blocks(vectors, width),
    )
}

/// A matrix at work.
struct Part<'a> {
    matrix: &'a Packed,
    /// Threads write to them side by side.
    products: Vec<AtomicU32>,
}

impl<'a> Part<'a> {
    fn new(matrix: &'a Packed, vectors: usize) -> Self {
        Self { matrix, products: (0..matrix.rows * vectors).map(|_| AtomicU32::new(0)).collect() }
    }

    /// Sixteen rows times all vectors: while the weights are near.
    fn tile<L: Lanes, const T: usize>(&self, lanes: L, tile: usize, groups: &[Vec<Block<T>>], rest: &[Vec<Block<1>>]) {
        let rows = tile * ROWS..((tile + 1) * ROWS).min(self.matrix.rows);
        for (at, group) in groups.iter().enumerate() {
            self.put(T * at, &rows, &self.matrix.times(lanes, tile, group));
        }
        for (at, vector) in rest.iter().enumerate() {
            self.put(T * groups.len() + at, &rows, &self.matrix.times(lanes, tile, vector));
        }
    }

    fn put(&self, vector: usize, rows: &Range<usize>, products: &[[f32; ROWS]]) {
        for (at, products) in products.iter().enumerate() {
            let from = (vector + at) * self.matrix.rows;
            for (to, product) in self.products[from + rows.start..from + rows.end].iter().zip(products) {
                to.store(product.to_bits(), Ordering::Relaxed);
            }
        }
    }

    fn products(self) -> Vec<f32> {
        self.products.into_iter().map(|bits| f32::from_bits(bits.into_inner())).collect()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used)]

    use candle_core::quantized::GgmlDType;
    use candle_core::{Device, Tensor};
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    /// Types with a width that is not too narrow for them, and may be no multiple of a vector's block.
    const TYPES: [(GgmlDType, usize); 4] =
        [(GgmlDType::Q4K, 512), (GgmlDType::Q6K, 512), (GgmlDType::Q8_0, 512), (GgmlDType::Q8_0, 288)];

    fn random(dice: &mut StdRng, count: usize) -> Vec<f32> {
        (0..count).map(|_| dice.random_range(-1.0f32..1.0)).collect()
    }

    fn it_is_right(products: impl Fn(&[&Packed], &[f32]) -> Vec<Vec<f32>>) {
        let mut dice = StdRng::seed_from_u64(7);
        for (dtype, width) in TYPES {
            for vectors in [1, 2, 13] {
                let matrices = [37, 16].map(|rows| {
                    let weights =
                        Tensor::from_vec(random(&mut dice, rows * width), (rows, width), &Device::Cpu).unwrap();
                    QTensor::quantize(&weights, dtype).unwrap()
                });
                let packed = matrices.each_ref().map(|matrix| Packed::of(matrix).unwrap().unwrap());
                let x = random(&mut dice, vectors * width);
                for (matrix, products) in matrices.iter().zip(products(&packed.each_ref(), &x)) {
                    let exact = matrix.dequantize(&Device::Cpu).unwrap().to_vec2::<f32>().unwrap();
                    let exact = x.chunks(width).flat_map(|x| exact.iter().map(|row| dot(row, x)));
                    assert_eq!(products.len(), exact.clone().count());
                    for (product, exact) in products.into_iter().zip(exact) {
                        assert!((exact - product).abs() < 0.15, "{dtype:?}, {vectors}: {product} for {exact}");
                    }
                }
            }
        }
    }

    fn dot(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn wide_registers_give_what_the_weights_stand_for_times_the_vectors() {
        let Some(lanes) = Wide::try_new() else { return eprintln!("skipped: this processor has no AVX-512 VNNI") };
        it_is_right(|matrices, vectors| multiply_with::<_, 8>(lanes, matrices, vectors));
    }

    #[test]
    fn narrow_registers_give_what_the_weights_stand_for_times_the_vectors() {
        let Some(lanes) = Narrow::try_new() else { return eprintln!("skipped: this processor has no AVX2") };
        it_is_right(|matrices, vectors| multiply_with::<_, 4>(lanes, matrices, vectors));
    }

    #[test]
    fn both_give_the_same() {
        let (Some(wide), Some(narrow)) = (Wide::try_new(), Narrow::try_new()) else { return };
        let mut dice = StdRng::seed_from_u64(8);
        for (dtype, width) in TYPES {
            let weights = Tensor::from_vec(random(&mut dice, 16 * width), (16, width), &Device::Cpu).unwrap();
            let packed = Packed::of(&QTensor::quantize(&weights, dtype).unwrap()).unwrap().unwrap();
            let x = random(&mut dice, 9 * width);
            let all = [
                multiply_with::<_, 8>(wide, &[&packed], &x),
                multiply_with::<_, 8>(narrow, &[&packed], &x),
                multiply_with::<_, 4>(narrow, &[&packed], &x),
            ];
            for other in &all[1..] {
                for (a, b) in all[0][0].iter().zip(&other[0]) {
                    assert!((a - b).abs() < 1e-4, "{dtype:?}: {a} and {b}");
                }
            }
        }
    }

    #[test]
    fn what_is_not_known_is_left_to_others() {
        let weights = Tensor::zeros((2, 256), candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!(Packed::of(&QTensor::quantize(&weights, GgmlDType::Q5K).unwrap()).unwrap().is_none());
    }
}
