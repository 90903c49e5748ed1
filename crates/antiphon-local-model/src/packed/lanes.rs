//! Sixteen numbers side by side, in the registers that this processor has.
//!
//! Kernels are written once, for [`Lanes`]; each of its kinds is a proof that the processor has its instructions.

use pulp::bytemuck;
use pulp::x86::V3;
use std::arch::x86_64::{
    __m128i, __m256, __m256i, __m512, __m512i, _mm512_and_si512, _mm512_cvtepi8_epi32, _mm512_cvtepi32_ps,
    _mm512_cvtepu8_epi32, _mm512_cvtph_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_mul_ps, _mm512_or_si512,
    _mm512_set1_epi8, _mm512_set1_epi32, _mm512_set1_ps, _mm512_slli_epi16, _mm512_srli_epi16, _mm512_xor_si512,
};

/// Sixteen rows.
pub(super) const ROWS: usize = 16;

/// What kernels need of a processor. A register may hold a part of the sixteen only: then there are several parts.
pub(super) trait Lanes: Copy + Send + Sync {
    /// Four bytes of each row, or one whole number.
    type Ints: Copy;
    /// A number of each row.
    type Floats: Copy;

    /// How many registers are sixteen rows.
    const PARTS: usize;
    /// [`Lanes::dot_signed`] gives so many times the sum of its second factor too much.
    const TOO_MUCH: i32;

    /// For one of the parts.
    fn part(self, part: usize) -> Self;
    /// Does work with the instructions of this processor.
    fn run<R>(self, work: impl FnOnce() -> R) -> R;

    fn bytes(self, bytes: &[u8; 4 * ROWS]) -> Self::Ints;
    fn all(self, number: i32) -> Self::Ints;
    fn all_bytes(self, byte: i8) -> Self::Ints;
    fn and(self, a: Self::Ints, b: Self::Ints) -> Self::Ints;
    fn or(self, a: Self::Ints, b: Self::Ints) -> Self::Ints;
    /// To the left by two bits, in words of sixteen.
    fn left_2(self, a: Self::Ints) -> Self::Ints;
    fn left_4(self, a: Self::Ints) -> Self::Ints;
    fn right_2(self, a: Self::Ints) -> Self::Ints;
    fn right_4(self, a: Self::Ints) -> Self::Ints;
    /// Adds the products of four bytes each: of up to 127 without a sign, and with one.
    fn dot(self, sum: Self::Ints, unsigned: Self::Ints, signed: Self::Ints) -> Self::Ints;
    /// Adds the products of four bytes each, both with a sign, and [`Lanes::TOO_MUCH`].
    fn dot_signed(self, sum: Self::Ints, a: Self::Ints, b: Self::Ints) -> Self::Ints;

    fn floats(self, ints: Self::Ints) -> Self::Floats;
    fn floats_of_unsigned(self, bytes: &[u8; ROWS]) -> Self::Floats;
    fn floats_of_signed(self, bytes: &[u8; ROWS]) -> Self::Floats;
    /// Of half precision.
    fn floats_of_halves(self, halves: &[u8; 2 * ROWS]) -> Self::Floats;
    fn all_floats(self, number: f32) -> Self::Floats;
    fn times(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a * b + sum`.
    fn add_product(self, sum: Self::Floats, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// Puts them where they belong among the sixteen.
    fn store(self, floats: Self::Floats, to: &mut [f32; ROWS]);
}

/// Registers of 512 bits, with products of bytes (AVX-512 VNNI).
#[derive(Clone, Copy)]
pub(super) struct Wide(());

impl Wide {
    pub(super) fn try_new() -> Option<Self> {
        let there = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni")
            && is_x86_feature_detected!("fma");
        there.then_some(Self(()))
    }
}

/// An instruction that there is, because there is a [`Wide`].
macro_rules! wide {
    ($instruction:expr) => {{
        #[expect(unsafe_code, reason = "the compiler can't see that only a processor that has them makes a `Wide`")]
        // SAFETY: `Wide::try_new` has found all the features that `Wide::run` names, which are these instructions'.
        unsafe {
            $instruction
        }
    }};
}

impl Lanes for Wide {
    type Ints = __m512i;
    type Floats = __m512;

    const PARTS: usize = 1;
    const TOO_MUCH: i32 = 128;

    #[inline(always)]
    fn part(self, _: usize) -> Self {
        self
    }

    #[inline(always)]
    fn run<R>(self, work: impl FnOnce() -> R) -> R {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
        fn with<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        wide!(with(work))
    }

    #[inline(always)]
    fn bytes(self, bytes: &[u8; 64]) -> __m512i {
        // Every 64 bytes are a register.
        wide!(std::mem::transmute::<[u8; 64], __m512i>(*bytes))
    }

    #[inline(always)]
    fn all(self, number: i32) -> __m512i {
        wide!(_mm512_set1_epi32(number))
    }

    #[inline(always)]
    fn all_bytes(self, byte: i8) -> __m512i {
        wide!(_mm512_set1_epi8(byte))
    }

    #[inline(always)]
    fn and(self, a: __m512i, b: __m512i) -> __m512i {
        wide!(_mm512_and_si512(a, b))
    }

    #[inline(always)]
    fn or(self, a: __m512i, b: __m512i) -> __m512i {
        wide!(_mm512_or_si512(a, b))
    }

    #[inline(always)]
    fn left_2(self, a: __m512i) -> __m512i {
        wide!(_mm512_slli_epi16::<2>(a))
    }

    #[inline(always)]
    fn left_4(self, a: __m512i) -> __m512i {
        wide!(_mm512_slli_epi16::<4>(a))
    }

    #[inline(always)]
    fn right_2(self, a: __m512i) -> __m512i {
        wide!(_mm512_srli_epi16::<2>(a))
    }

    #[inline(always)]
    fn right_4(self, a: __m512i) -> __m512i {
        wide!(_mm512_srli_epi16::<4>(a))
    }

    #[inline(always)]
    fn dot(self, sum: __m512i, unsigned: __m512i, signed: __m512i) -> __m512i {
        wide!(_mm512_dpbusd_epi32(sum, unsigned, signed))
    }

    #[inline(always)]
    fn dot_signed(self, sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
        // 128 more has no sign.
        self.dot(sum, wide!(_mm512_xor_si512(a, _mm512_set1_epi8(i8::MIN))), b)
    }

    #[inline(always)]
    fn floats(self, ints: __m512i) -> __m512 {
        wide!(_mm512_cvtepi32_ps(ints))
    }

    #[inline(always)]
    fn floats_of_unsigned(self, bytes: &[u8; 16]) -> __m512 {
        self.floats(wide!(_mm512_cvtepu8_epi32(bytemuck::cast::<_, __m128i>(*bytes))))
    }

    #[inline(always)]
    fn floats_of_signed(self, bytes: &[u8; 16]) -> __m512 {
        self.floats(wide!(_mm512_cvtepi8_epi32(bytemuck::cast::<_, __m128i>(*bytes))))
    }

    #[inline(always)]
    fn floats_of_halves(self, halves: &[u8; 32]) -> __m512 {
        wide!(_mm512_cvtph_ps(bytemuck::cast::<_, __m256i>(*halves)))
    }

    #[inline(always)]
    fn all_floats(self, number: f32) -> __m512 {
        wide!(_mm512_set1_ps(number))
    }

    #[inline(always)]
    fn times(self, a: __m512, b: __m512) -> __m512 {
        wide!(_mm512_mul_ps(a, b))
    }

    #[inline(always)]
    fn add_product(self, sum: __m512, a: __m512, b: __m512) -> __m512 {
        wide!(_mm512_fmadd_ps(a, b, sum))
    }

    #[inline(always)]
    fn store(self, floats: __m512, to: &mut [f32; ROWS]) {
        *to = wide!(std::mem::transmute::<__m512, [f32; ROWS]>(floats));
    }
}

/// Registers of 256 bits (AVX2): eight rows.
#[derive(Clone, Copy)]
pub(super) struct Narrow {
    simd: V3,
    /// The first row.
    from: usize,
}

impl Narrow {
    pub(super) fn try_new() -> Option<Self> {
        V3::try_new().map(|simd| Self { simd, from: 0 })
    }

    /// What belongs to its rows, of so many bytes each.
    #[inline(always)]
    fn own<const BYTES: usize>(self, bytes: &[u8], each: usize) -> [u8; BYTES] {
        *bytes[self.from * each..].first_chunk().unwrap_or(&[0; BYTES])
    }
}

impl Lanes for Narrow {
    type Ints = __m256i;
    type Floats = __m256;

    const PARTS: usize = 2;
    const TOO_MUCH: i32 = 0;

    #[inline(always)]
    fn part(self, part: usize) -> Self {
        Self { from: 8 * part, ..self }
    }

    #[inline(always)]
    fn run<R>(self, work: impl FnOnce() -> R) -> R {
        self.simd.vectorize(work)
    }

    #[inline(always)]
    fn bytes(self, bytes: &[u8; 64]) -> __m256i {
        bytemuck::cast(self.own::<32>(bytes, 4))
    }

    #[inline(always)]
    fn all(self, number: i32) -> __m256i {
        self.simd.avx._mm256_set1_epi32(number)
    }

    #[inline(always)]
    fn all_bytes(self, byte: i8) -> __m256i {
        self.simd.avx._mm256_set1_epi8(byte)
    }

    #[inline(always)]
    fn and(self, a: __m256i, b: __m256i) -> __m256i {
        self.simd.avx2._mm256_and_si256(a, b)
    }

    #[inline(always)]
    fn or(self, a: __m256i, b: __m256i) -> __m256i {
        self.simd.avx2._mm256_or_si256(a, b)
    }

    #[inline(always)]
    fn left_2(self, a: __m256i) -> __m256i {
        self.simd.avx2._mm256_slli_epi16::<2>(a)
    }

    #[inline(always)]
    fn left_4(self, a: __m256i) -> __m256i {
        self.simd.avx2._mm256_slli_epi16::<4>(a)
    }

    #[inline(always)]
    fn right_2(self, a: __m256i) -> __m256i {
        self.simd.avx2._mm256_srli_epi16::<2>(a)
    }

    #[inline(always)]
    fn right_4(self, a: __m256i) -> __m256i {
        self.simd.avx2._mm256_srli_epi16::<4>(a)
    }

    #[inline(always)]
    fn dot(self, sum: __m256i, unsigned: __m256i, signed: __m256i) -> __m256i {
        let (avx, avx2) = (self.simd.avx, self.simd.avx2);
        let pairs = avx2._mm256_maddubs_epi16(unsigned, signed);
        avx2._mm256_add_epi32(sum, avx2._mm256_madd_epi16(pairs, avx._mm256_set1_epi16(1)))
    }

    #[inline(always)]
    fn dot_signed(self, sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
        // The sign changes sides.
        let avx2 = self.simd.avx2;
        self.dot(sum, avx2._mm256_abs_epi8(a), avx2._mm256_sign_epi8(b, a))
    }

    #[inline(always)]
    fn floats(self, ints: __m256i) -> __m256 {
        self.simd.avx._mm256_cvtepi32_ps(ints)
    }

    #[inline(always)]
    fn floats_of_unsigned(self, bytes: &[u8; 16]) -> __m256 {
        let bytes: __m128i = bytemuck::cast([self.own::<8>(bytes, 1), [0; 8]]);
        self.floats(self.simd.avx2._mm256_cvtepu8_epi32(bytes))
    }

    #[inline(always)]
    fn floats_of_signed(self, bytes: &[u8; 16]) -> __m256 {
        let bytes: __m128i = bytemuck::cast([self.own::<8>(bytes, 1), [0; 8]]);
        self.floats(self.simd.avx2._mm256_cvtepi8_epi32(bytes))
    }

    #[inline(always)]
    fn floats_of_halves(self, halves: &[u8; 32]) -> __m256 {
        /// 2 to the power of 112: so much do the exponents differ, also those of the smallest.
        const REBASE: f32 = f32::from_bits((112 + 127) << 23);
        let (avx, avx2) = (self.simd.avx, self.simd.avx2);
        let bits = avx2._mm256_cvtepu16_epi32(bytemuck::cast::<_, __m128i>(self.own::<16>(halves, 2)));
        let size = avx2._mm256_slli_epi32::<13>(self.and(bits, self.all(0x7fff)));
        let sign = avx2._mm256_slli_epi32::<16>(self.and(bits, self.all(0x8000)));
        let size = self.times(bytemuck::cast(size), self.all_floats(REBASE));
        avx._mm256_or_ps(size, bytemuck::cast(sign))
    }

    #[inline(always)]
    fn all_floats(self, number: f32) -> __m256 {
        self.simd.avx._mm256_set1_ps(number)
    }

    #[inline(always)]
    fn times(self, a: __m256, b: __m256) -> __m256 {
        self.simd.avx._mm256_mul_ps(a, b)
    }

    #[inline(always)]
    fn add_product(self, sum: __m256, a: __m256, b: __m256) -> __m256 {
        self.simd.fma._mm256_fmadd_ps(a, b, sum)
    }

    #[inline(always)]
    fn store(self, floats: __m256, to: &mut [f32; ROWS]) {
        let floats: [f32; 8] = bytemuck::cast(floats);
        to[self.from..self.from + 8].copy_from_slice(&floats);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts<L: Lanes>(_: L) -> usize {
        L::PARTS
    }

    fn halves_are_read_by(lanes: impl Lanes) {
        let known = [(0x3c00, 1.0), (0xc000, -2.0), (0x0001, 5.960_464_5e-8), (0x7bff, 65_504.0), (0, 0.0)];
        let mut halves = [0; 32];
        for (bytes, (bits, _)) in halves.as_chunks_mut::<2>().0.iter_mut().rev().zip(known) {
            *bytes = u16::to_le_bytes(bits);
        }
        let mut floats = [0.0; ROWS];
        for part in 0..parts(lanes) {
            let lanes = lanes.part(part);
            lanes.run(
                #[inline(always)]
                || lanes.store(lanes.floats_of_halves(&halves), &mut floats),
            );
        }
        for (float, (_, value)) in floats.iter().rev().zip(known) {
            assert_eq!(*float, value);
        }
    }

    #[test]
    fn halves_are_read() {
        if let Some(lanes) = Wide::try_new() {
            halves_are_read_by(lanes);
        }
        if let Some(lanes) = Narrow::try_new() {
            halves_are_read_by(lanes);
        }
    }
}
