//! GGML's element types: plain numbers, or blocks of 32 small integers with a scale.

use std::fmt;
use std::ops::Range;

use half::f16;

use crate::elements::{Dtype, Elements};
use crate::file_bytes::FileBytes;

/// The type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ElementType {
    Dense(Dtype),
    Blocks(BlockFormat),
    /// One that cannot be loaded, by its number in the file.
    Other(u32),
}

/// The types that can be loaded, for messages.
pub(super) const LOADABLE: &str = "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0 and Q5_1";

/// The names of those that cannot.
const OTHERS: [(u32, &str); 27] = [
    (4, "Q4_2"),
    (5, "Q4_3"),
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (12, "Q4_K"),
    (13, "Q5_K"),
    (14, "Q6_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
];

impl ElementType {
    /// The type with this number in files.
    pub(super) fn new(number: u32) -> Self {
        match number {
            0 => Self::Dense(Dtype::F32),
            1 => Self::Dense(Dtype::F16),
            30 => Self::Dense(Dtype::BF16),
            2 => Self::Blocks(BlockFormat::Q4_0),
            3 => Self::Blocks(BlockFormat::Q4_1),
            6 => Self::Blocks(BlockFormat::Q5_0),
            7 => Self::Blocks(BlockFormat::Q5_1),
            8 => Self::Blocks(BlockFormat::Q8_0),
            other => Self::Other(other),
        }
    }

    /// The bytes of a tensor of `elements` elements in rows of `width`. `None` on overflow, if rows are not whole
    /// blocks, or if the type's size is unknown.
    pub(super) fn tensor_bytes(self, width: u64, elements: u64) -> Option<u64> {
        match self {
            Self::Dense(dtype) => elements.checked_mul(dtype.bytes() as u64),
            Self::Blocks(format) if width.is_multiple_of(BLOCK as u64) => {
                (elements / BLOCK as u64).checked_mul(format.bytes() as u64)
            }
            Self::Blocks(_) | Self::Other(_) => None,
        }
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dense(dtype) => write!(f, "{dtype:?}"),
            Self::Blocks(format) => write!(f, "{format:?}"),
            Self::Other(number) => match OTHERS.iter().find(|(other, _)| other == number) {
                Some((_, name)) => f.write_str(name),
                None => write!(f, "of the unknown type {number}"),
            },
        }
    }
}

/// Elements per block.
pub(super) const BLOCK: usize = 32;

/// A block's layout: a scale d and, if the name ends in 1, a minimum m, both f16; for five bits, the fifth bits of all
/// elements; then the integers q. An element is `d * q`, with unsigned q made signed by an offset, or `d * q + m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlockFormat {
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
}

impl BlockFormat {
    /// Bytes per block.
    fn bytes(self) -> usize {
        match self {
            Self::Q4_0 => 2 + 16,
            Self::Q4_1 => 4 + 16,
            Self::Q5_0 => 2 + 4 + 16,
            Self::Q5_1 => 4 + 4 + 16,
            Self::Q8_0 => 2 + 32,
        }
    }

    /// Decodes whole blocks.
    fn decode(self, bytes: &[u8], numbers: &mut [f32]) {
        match self {
            Self::Q4_0 => each_block(bytes, numbers, |block: &[u8; 18], numbers| {
                let d = scale(block, 0);
                nibbles(block, |i, q| numbers[i] = d * (i32::from(q) - 8) as f32);
            }),
            Self::Q4_1 => each_block(bytes, numbers, |block: &[u8; 20], numbers| {
                let (d, m) = (scale(block, 0), scale(block, 2));
                nibbles(block, |i, q| numbers[i] = d * f32::from(q) + m);
            }),
            Self::Q5_0 => each_block(bytes, numbers, |block: &[u8; 22], numbers| {
                let (d, fifth) = (scale(block, 0), fifth_bits(block, 2));
                nibbles(block, |i, q| numbers[i] = d * (i32::from(q | fifth(i)) - 16) as f32);
            }),
            Self::Q5_1 => each_block(bytes, numbers, |block: &[u8; 24], numbers| {
                let (d, m, fifth) = (scale(block, 0), scale(block, 2), fifth_bits(block, 4));
                nibbles(block, |i, q| numbers[i] = d * f32::from(q | fifth(i)) + m);
            }),
            Self::Q8_0 => each_block(bytes, numbers, |block: &[u8; 34], numbers| {
                let d = scale(block, 0);
                for (number, q) in numbers.iter_mut().zip(&block[2..]) {
                    *number = d * f32::from(q.cast_signed());
                }
            }),
        }
    }
}

fn each_block<const BYTES: usize>(bytes: &[u8], numbers: &mut [f32], decode: impl Fn(&[u8; BYTES], &mut [f32; BLOCK])) {
    for (block, numbers) in bytes.as_chunks().0.iter().zip(numbers.as_chunks_mut().0) {
        decode(block, numbers);
    }
}

fn scale(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// The fifth bit of each element, shifted to bit 4.
fn fifth_bits(block: &[u8], at: usize) -> impl Fn(usize) -> u8 {
    let bits = u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
    move |i| ((bits >> i & 1) << 4) as u8
}

/// The four low bits of each element: a block's last 16 bytes have those of the first half in their lower nibbles,
/// those of the second half in their upper ones.
fn nibbles<const BYTES: usize>(block: &[u8; BYTES], mut each: impl FnMut(usize, u8)) {
    for (i, byte) in block[BYTES - BLOCK / 2..].iter().enumerate() {
        each(i, byte & 15);
        each(i + BLOCK / 2, byte >> 4);
    }
}

/// Elements in blocks that are contiguous in a file.
pub(super) struct Blocks<'a> {
    pub(super) file: &'a FileBytes,
    pub(super) format: BlockFormat,
    /// Their bytes in the file.
    pub(super) range: Range<usize>,
}

impl Blocks<'_> {
    /// The bytes of some blocks in the file.
    fn byte_range(&self, blocks: Range<usize>) -> Range<usize> {
        let offset = |block: usize| self.range.start + block * self.format.bytes();
        offset(blocks.start)..offset(blocks.end)
    }

    fn decode_blocks(&self, blocks: Range<usize>, numbers: &mut [f32]) {
        self.format.decode(&self.file.bytes()[self.byte_range(blocks)], numbers);
    }

    /// Decodes elements of a single block.
    fn decode_part(&self, start: usize, numbers: &mut [f32]) {
        let (block, within) = (start / BLOCK, start % BLOCK);
        let mut whole = [0.0; BLOCK];
        self.decode_blocks(block..block + 1, &mut whole);
        numbers.copy_from_slice(&whole[within..within + numbers.len()]);
    }
}

impl Elements for Blocks<'_> {
    fn decode(&self, start: usize, numbers: &mut [f32]) {
        let first = (start.next_multiple_of(BLOCK) - start).min(numbers.len());
        let (head, rest) = numbers.split_at_mut(first);
        if !head.is_empty() {
            self.decode_part(start, head);
        }
        let (whole, tail) = rest.split_at_mut(rest.len() / BLOCK * BLOCK);
        let block = (start + first) / BLOCK;
        self.decode_blocks(block..block + whole.len() / BLOCK, whole);
        if !tail.is_empty() {
            self.decode_part(start + first + whole.len(), tail);
        }
    }

    fn stored_bytes(&self) -> usize {
        self.range.len()
    }

    fn release(&self, range: Range<usize>) {
        // Keeps blocks of which some elements are still needed.
        let (start, end) = (range.start.div_ceil(BLOCK), range.end / BLOCK);
        if start < end {
            self.file.release(self.byte_range(start..end));
        }
    }
}
