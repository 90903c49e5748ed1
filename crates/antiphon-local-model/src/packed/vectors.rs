//! What matrices are multiplied with: vectors in eight bits, as kernels read them.

/// So many numbers of a vector are together: as many as weights are.
pub(super) const BLOCK: usize = 256;
/// So many share a scale. Some numbers are a hundred times as large as most: among 256 nearly always one is, and takes the others' digits.
const SHARED: usize = 32;

/// A block of each of several vectors.
pub(super) struct Block<const T: usize> {
    /// Four neighbours at a time, as one number: kernels multiply them with four weights of a row.
    pub(super) fours: [[i32; T]; BLOCK / 4],
    /// The sum of each sixteen: for weights that are stored with an offset.
    pub(super) sums: [[i32; T]; BLOCK / 16],
    /// The sum of each thirty-two, to scale.
    pub(super) long_sums: [[f32; T]; BLOCK / SHARED],
    pub(super) scales: [[f32; T]; BLOCK / SHARED],
}

/// Puts several vectors of this width, one behind the other, into eight bits. What is missing of the last block is zeros.
#[inline(always)]
pub(super) fn blocks<const T: usize>(vectors: &[f32], width: usize) -> Vec<Block<T>> {
    let empty = || Block {
        fours: [[0; T]; BLOCK / 4],
        sums: [[0; T]; BLOCK / 16],
        long_sums: [[0.0; T]; BLOCK / SHARED],
        scales: [[0.0; T]; BLOCK / SHARED],
    };
    let mut blocks: Vec<Block<T>> = (0..width.div_ceil(BLOCK)).map(|_| empty()).collect();
    for (at, vector) in vectors.chunks_exact(width).take(T).enumerate() {
        for (block, values) in blocks.iter_mut().zip(vector.chunks(BLOCK)) {
            match values.try_into() {
                Ok(values) => block.fill(at, values),
                Err(_) => {
                    let mut full = [0.0; BLOCK];
                    full[..values.len()].copy_from_slice(values);
                    block.fill(at, &full);
                }
            }
        }
    }
    blocks
}

impl<const T: usize> Block<T> {
    #[inline(always)]
    fn fill(&mut self, at: usize, values: &[f32; BLOCK]) {
        /// Adding it leaves the nearest whole number in the lowest bits.
        const ROUND: f32 = 12_582_912.0;
        let mut eight = [0_i8; BLOCK];
        let parts = eight.as_chunks_mut::<SHARED>().0.iter_mut().zip(values.as_chunks::<SHARED>().0);
        for ((eight, values), scales) in parts.zip(&mut self.scales) {
            let mut most = [0.0_f32; 16];
            for values in values.as_chunks::<16>().0 {
                for (most, value) in most.iter_mut().zip(values) {
                    *most = if value.abs() > *most { value.abs() } else { *most };
                }
            }
            let most = most.iter().copied().fold(0.0, f32::max);
            let inverse = if most > 0.0 { 127.0 / most } else { 0.0 };
            for (eight, value) in eight.iter_mut().zip(values) {
                let [low, ..] = (value * inverse + ROUND).to_bits().to_le_bytes();
                *eight = low.cast_signed();
            }
            scales[at] = most / 127.0;
        }
        for (four, values) in self.fours.iter_mut().zip(eight.as_chunks::<4>().0) {
            four[at] = i32::from_le_bytes(values.map(i8::cast_unsigned));
        }
        for (sum, values) in self.sums.iter_mut().zip(eight.as_chunks::<16>().0) {
            sum[at] = values.iter().map(|value| i32::from(*value)).sum();
        }
        for ((long, sums), scales) in self.long_sums.iter_mut().zip(self.sums.as_chunks::<2>().0).zip(&self.scales) {
            #[expect(clippy::cast_precision_loss, reason = "at most 32 times 127")]
            let sum = (sums[0][at] + sums[1][at]) as f32;
            long[at] = sum * scales[at];
        }
    }
}
