//! Sixteen rows times several vectors.

use super::format::{q4k, q6k, q8_0};
use super::lanes::Lanes;
use super::vectors::Block;

/// Weights of four bits.
#[inline(always)]
pub(super) fn q4k<L: Lanes, const T: usize>(lanes: L, rows: &[u8], vectors: &[Block<T>]) -> [L::Floats; T] {
    let low = lanes.all_bytes(0x0f);
    let mut totals = [lanes.all_floats(0.0); T];
    for (block, x) in rows.as_chunks::<{ q4k::BYTES }>().0.iter().zip(vectors) {
        let scale = lanes.floats_of_halves(field(block, q4k::SCALE));
        let offset = lanes.times(lanes.floats_of_halves(field(block, q4k::OFFSET)), lanes.all_floats(-1.0));
        for part in 0..8 {
            let mut dots = [lanes.all(0); T];
            for line in 0..4 {
                let eight = lanes.bytes(field(block, q4k::WEIGHTS + 256 * part + 64 * line));
                let fours = &x.fours[8 * part + 2 * line..][..2];
                add_dots(lanes, &mut dots, lanes.and(eight, low), &fours[0]);
                add_dots(lanes, &mut dots, lanes.and(lanes.right_4(eight), low), &fours[1]);
            }
            let scale = lanes.times(scale, lanes.floats_of_unsigned(field(block, q4k::SCALES + 16 * part)));
            let offset = lanes.times(offset, lanes.floats_of_unsigned(field(block, q4k::OFFSETS + 16 * part)));
            add_scaled(lanes, &mut totals, scale, dots, &x.scales[part]);
            for (total, long) in totals.iter_mut().zip(x.long_sums[part]) {
                *total = lanes.add_product(*total, offset, lanes.all_floats(long));
            }
        }
    }
    totals
}

/// Weights of six bits.
#[inline(always)]
pub(super) fn q6k<L: Lanes, const T: usize>(lanes: L, rows: &[u8], vectors: &[Block<T>]) -> [L::Floats; T] {
    let mut totals = [lanes.all_floats(0.0); T];
    for (block, x) in rows.as_chunks::<{ q6k::BYTES }>().0.iter().zip(vectors) {
        let scale = lanes.floats_of_halves(field(block, q6k::SCALE));
        for part in 0..16 {
            let mut dots = [lanes.all(0); T];
            for (dot, sum) in dots.iter_mut().zip(x.sums[part]) {
                *dot = lanes.all(-32 * sum);
            }
            let at = q6k::WEIGHTS + 192 * part;
            let first = lanes.bytes(field(block, at));
            let last = lanes.bytes(field(block, at + 64));
            let tops = lanes.bytes(field(block, at + 128));
            let weights = [
                six(lanes, first, lanes.left_4(tops)),
                six(lanes, lanes.right_4(first), lanes.left_2(tops)),
                six(lanes, last, tops),
                six(lanes, lanes.right_4(last), lanes.right_2(tops)),
            ];
            for (weights, fours) in weights.into_iter().zip(&x.fours[4 * part..]) {
                add_dots(lanes, &mut dots, weights, fours);
            }
            let scale = lanes.times(scale, lanes.floats_of_signed(field(block, q6k::SCALES + 16 * part)));
            add_scaled(lanes, &mut totals, scale, dots, &x.scales[part / 2]);
        }
    }
    totals
}

/// Weights of eight bits.
#[inline(always)]
pub(super) fn q8_0<L: Lanes, const T: usize>(lanes: L, rows: &[u8], vectors: &[Block<T>]) -> [L::Floats; T] {
    let mut totals = [lanes.all_floats(0.0); T];
    for (at, block) in rows.as_chunks::<{ q8_0::BYTES }>().0.iter().enumerate() {
        let (x, part) = (&vectors[at / 8], at % 8);
        let mut dots = [lanes.all(0); T];
        for (dot, (first, last)) in dots.iter_mut().zip(x.sums[2 * part].iter().zip(x.sums[2 * part + 1])) {
            *dot = lanes.all(-L::TOO_MUCH * (first + last));
        }
        for line in 0..8 {
            let weights = lanes.bytes(field(block, q8_0::WEIGHTS + 64 * line));
            for (dot, four) in dots.iter_mut().zip(x.fours[8 * part + line]) {
                *dot = lanes.dot_signed(*dot, weights, lanes.all(four));
            }
        }
        let scale = lanes.floats_of_halves(field(block, q8_0::SCALE));
        add_scaled(lanes, &mut totals, scale, dots, &x.scales[part]);
    }
    totals
}

/// Four bits of one, and above them two of another.
#[inline(always)]
fn six<L: Lanes>(lanes: L, bottom: L::Ints, top: L::Ints) -> L::Ints {
    lanes.or(lanes.and(bottom, lanes.all_bytes(0x0f)), lanes.and(top, lanes.all_bytes(0x30)))
}

#[inline(always)]
fn add_dots<L: Lanes, const T: usize>(lanes: L, dots: &mut [L::Ints; T], weights: L::Ints, fours: &[i32; T]) {
    for (dot, four) in dots.iter_mut().zip(fours) {
        *dot = lanes.dot(*dot, weights, lanes.all(*four));
    }
}

/// `scale` is of the weights, `own` of the vectors.
#[inline(always)]
fn add_scaled<L: Lanes, const T: usize>(
    lanes: L,
    totals: &mut [L::Floats; T],
    scale: L::Floats,
    dots: [L::Ints; T],
    own: &[f32; T],
) {
    for ((total, dot), own) in totals.iter_mut().zip(dots).zip(own) {
        *total = lanes.add_product(*total, lanes.times(scale, lanes.all_floats(*own)), lanes.floats(dot));
    }
}

/// A part of known size of something of known size: the compiler sees that it is there.
#[inline(always)]
fn field<const N: usize>(bytes: &[u8], at: usize) -> &[u8; N] {
    bytes[at..].first_chunk().unwrap_or(&[0; N])
}
