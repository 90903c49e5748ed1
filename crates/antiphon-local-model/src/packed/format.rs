//! How weights are stored: sixteen rows side by side, so that one register has four weights of each.

use candle_core::quantized::GgmlDType;

use super::lanes::ROWS;

/// A type of tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Four bits, with a scale and an offset of six bits for each 32.
    Q4K,
    /// Six bits, with a scale of eight bits for each 16; they stand for themselves less 32.
    Q6K,
    /// Eight bits, with a scale for each 32.
    Q8_0,
}

/// Bytes of a line: four weights of eight bits of each row.
const LINE: usize = 4 * ROWS;

/// Where things are in a block of sixteen rows.
pub(super) mod q4k {
    /// Of half precision.
    pub(crate) const SCALE: usize = 0;
    pub(crate) const OFFSET: usize = 32;
    /// Of each 32 weights, a byte: the file has six bits.
    pub(crate) const SCALES: usize = 64;
    pub(crate) const OFFSETS: usize = 192;
    /// Of each 32 weights four lines, of eight weights each: the first four in the low halves of the bytes.
    pub(crate) const WEIGHTS: usize = 320;
    pub(crate) const BYTES: usize = WEIGHTS + 8 * 256;
}

/// Where things are in a block of sixteen rows.
pub(super) mod q6k {
    /// Of each 16 weights, a byte.
    pub(crate) const SCALES: usize = 0;
    /// Of each 16 weights three lines: four bits of eight of them, of the other eight, and the two highest of all.
    pub(crate) const WEIGHTS: usize = 256;
    /// Of half precision.
    pub(crate) const SCALE: usize = WEIGHTS + 16 * 192;
    pub(crate) const BYTES: usize = SCALE + 32;
}

/// Where things are in a block of sixteen rows.
pub(super) mod q8_0 {
    /// Eight lines of four weights.
    pub(crate) const WEIGHTS: usize = 0;
    /// Of half precision.
    pub(crate) const SCALE: usize = 512;
    pub(crate) const BYTES: usize = SCALE + 32;
}

impl Format {
    pub(super) fn of(dtype: GgmlDType) -> Option<Self> {
        match dtype {
            GgmlDType::Q4K => Some(Self::Q4K),
            GgmlDType::Q6K => Some(Self::Q6K),
            GgmlDType::Q8_0 => Some(Self::Q8_0),
            _ => None,
        }
    }

    /// So many weights of a row are together.
    pub(super) fn values(self) -> usize {
        match self {
            Self::Q4K | Self::Q6K => 256,
            Self::Q8_0 => 32,
        }
    }

    /// In so many bytes of the file.
    pub(super) fn file_bytes(self) -> usize {
        match self {
            Self::Q4K => 144,
            Self::Q6K => 210,
            Self::Q8_0 => 34,
        }
    }

    /// In so many bytes here, with those of fifteen other rows.
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::Q4K => q4k::BYTES,
            Self::Q6K => q6k::BYTES,
            Self::Q8_0 => q8_0::BYTES,
        }
    }

    /// Puts a block of one row of the file among those of the others.
    pub(super) fn put(self, file: &[u8], row: usize, block: &mut [u8]) {
        match self {
            Self::Q4K => put_q4k(file, row, block),
            Self::Q6K => put_q6k(file, row, block),
            Self::Q8_0 => put_q8_0(file, row, block),
        }
    }
}

/// Half a byte, in each of four.
const LOW: u32 = 0x0f0f_0f0f;

fn put_q4k(file: &[u8], row: usize, block: &mut [u8]) {
    put(block, q4k::SCALE, row, &file[..2]);
    put(block, q4k::OFFSET, row, &file[2..4]);
    let (scales, offsets) = six_bits(&file[4..16]);
    for part in 0..8 {
        put(block, q4k::SCALES + ROWS * part, row, &scales[part..=part]);
        put(block, q4k::OFFSETS + ROWS * part, row, &offsets[part..=part]);
    }
    // Bytes have a weight of one 32 in their low half and one of the next 32 in their high half.
    for (pair, halves) in file[16..].as_chunks::<32>().0.iter().enumerate() {
        for (line, eight) in halves.as_chunks::<8>().0.iter().enumerate() {
            let (first, second) = (word(eight, 0), word(eight, 4));
            let at = q4k::WEIGHTS + 512 * pair + LINE * line;
            put(block, at, row, &(first & LOW | (second & LOW) << 4).to_le_bytes());
            put(block, at + 256, row, &(first >> 4 & LOW | second & !LOW).to_le_bytes());
        }
    }
}

fn put_q6k(file: &[u8], row: usize, block: &mut [u8]) {
    /// The lowest two bits, in each of four bytes.
    const TWO: u32 = 0x0303_0303;
    for part in 0..16 {
        put(block, q6k::SCALES + ROWS * part, row, &file[192 + part..=192 + part]);
    }
    put(block, q6k::SCALE, row, &file[208..210]);
    // Four weights at a time: their low bits, and the others as they are to be in the third line.
    let four = |four: usize| {
        let (half, quarter, at) = (four / 32, four / 8 % 4, 4 * (four % 8));
        let low = word(file, 64 * half + 32 * (quarter % 2) + at) >> (4 * (quarter / 2)) & LOW;
        let high = word(file, 128 + 32 * half + at) >> (2 * quarter) & TWO;
        (low, high << (2 * (four % 4)))
    };
    for part in 0..16 {
        let [a, b, c, d] = [0, 1, 2, 3].map(|at| four(4 * part + at));
        let at = q6k::WEIGHTS + 3 * LINE * part;
        put(block, at, row, &(a.0 | b.0 << 4).to_le_bytes());
        put(block, at + LINE, row, &(c.0 | d.0 << 4).to_le_bytes());
        put(block, at + 2 * LINE, row, &(a.1 | b.1 | c.1 | d.1).to_le_bytes());
    }
}

fn put_q8_0(file: &[u8], row: usize, block: &mut [u8]) {
    put(block, q8_0::SCALE, row, &file[..2]);
    for (line, four) in file[2..34].as_chunks::<4>().0.iter().enumerate() {
        put(block, q8_0::WEIGHTS + LINE * line, row, four);
    }
}

/// Puts what belongs to a row where the rows' things begin.
fn put(block: &mut [u8], at: usize, row: usize, bytes: &[u8]) {
    let at = at + row * bytes.len();
    block[at..at + bytes.len()].copy_from_slice(bytes);
}

/// The scales and the offsets of a block: eight of each, six bits each. The first four have bytes of their own, whose two
/// highest bits are the highest of the last four.
fn six_bits(packed: &[u8]) -> ([u8; 8], [u8; 8]) {
    let (scales, offsets, rest) = (word(packed, 0), word(packed, 4), word(packed, 8));
    let join = |first: u32, last: u32| (u64::from(first) | u64::from(last) << 32).to_le_bytes();
    let top = |word: u32| word >> 2 & 0x3030_3030;
    (join(scales & 0x3f3f_3f3f, rest & LOW | top(scales)), join(offsets & 0x3f3f_3f3f, rest >> 4 & LOW | top(offsets)))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..].first_chunk().copied().unwrap_or_default())
}
