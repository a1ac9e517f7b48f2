//! The numbers of a tensor, from the formats of files to those of the GPU.

use std::ops::Range;
use std::path::Path;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::safetensors::TensorFile;
use crate::error::{Error, Result};

/// How a file stores numbers, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberFormat {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// The upper half of an F32.
    BF16,
}

impl NumberFormat {
    /// Bytes of a number.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }
}

/// A tensor as it lies in its file.
pub struct TensorView<'a> {
    name: String,
    file: &'a TensorFile,
    format: NumberFormat,
    shape: &'a [usize],
    range: Range<usize>,
}

impl<'a> TensorView<'a> {
    pub(super) fn new(
        name: &str,
        file: &'a TensorFile,
        format: NumberFormat,
        shape: &'a [usize],
        range: Range<usize>,
    ) -> Self {
        Self { name: name.to_owned(), file, format, shape, range }
    }

    /// Its name in the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that holds it.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Its sizes, outermost first.
    pub fn shape(&self) -> &[usize] {
        self.shape
    }

    /// How the file stores its numbers.
    pub fn format(&self) -> NumberFormat {
        self.format
    }

    /// Bytes in the file.
    pub fn bytes(&self) -> usize {
        self.range.len()
    }

    /// Converts the elements of `range` to f16, after what `numbers` holds already.
    ///
    /// # Errors
    /// [`Error::Tensor`] where a number is NaN or infinite, or f16 cannot hold it.
    pub fn append_f16(&self, range: Range<usize>, numbers: &mut Vec<f16>) -> Result<()> {
        let bytes = self.element_bytes(&range);
        let start = numbers.len();
        numbers.resize(start + range.len(), f16::ZERO);
        let converted = &mut numbers[start..];
        if self.format == NumberFormat::F16 {
            for (number, bytes) in converted.iter_mut().zip(bytes.chunks_exact(2)) {
                *number = f16::from_le_bytes([bytes[0], bytes[1]]);
            }
        } else {
            let mut block = [0.0; BLOCK];
            for (converted, bytes) in converted.chunks_mut(BLOCK).zip(bytes.chunks(BLOCK * self.format.bytes())) {
                let block = &mut block[..converted.len()];
                self.decode(bytes, block);
                converted.convert_from_f32_slice(block);
            }
        }
        // NaNs and infinities, those from the file and those from numbers too large, share this exponent.
        const EXPONENT: u16 = 0x7c00;
        // Without a branch in the loop it runs at the speed of memory; which number it was matters only on failure.
        let all_finite =
            converted.iter().fold(true, |finite, number| finite & (number.to_bits() & EXPONENT != EXPONENT));
        if all_finite {
            return Ok(());
        }
        let index = converted.iter().position(|number| !number.is_finite()).expect("one of them is not finite");
        let mut number = [0.0];
        self.decode(&bytes[index * self.format.bytes()..][..self.format.bytes()], &mut number);
        Err(self.refuse(range.start + index, number[0]))
    }

    /// All elements as f32.
    ///
    /// # Errors
    /// [`Error::Tensor`] where a number is NaN or infinite.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        let elements = self.range.len() / self.format.bytes();
        let mut numbers = vec![0.0; elements];
        self.decode(self.element_bytes(&(0..elements)), &mut numbers);
        match numbers.iter().position(|number| !number.is_finite()) {
            None => Ok(numbers),
            Some(index) => Err(self.refuse(index, numbers[index])),
        }
    }

    /// Says that the elements of `range` are not needed any more.
    pub fn release(&self, range: Range<usize>) {
        self.file.release(self.byte_range(&range));
    }

    fn byte_range(&self, range: &Range<usize>) -> Range<usize> {
        let start = self.range.start;
        start + range.start * self.format.bytes()..start + range.end * self.format.bytes()
    }

    fn element_bytes(&self, range: &Range<usize>) -> &'a [u8] {
        self.file.bytes(self.byte_range(range))
    }

    fn decode(&self, bytes: &[u8], numbers: &mut [f32]) {
        match self.format {
            NumberFormat::F32 => {
                for (number, bytes) in numbers.iter_mut().zip(bytes.chunks_exact(4)) {
                    *number = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                }
            }
            NumberFormat::F16 => {
                for (number, bytes) in numbers.iter_mut().zip(bytes.chunks_exact(2)) {
                    *number = f16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
                }
            }
            NumberFormat::BF16 => {
                for (number, bytes) in numbers.iter_mut().zip(bytes.chunks_exact(2)) {
                    *number = bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
                }
            }
        }
    }

    fn refuse(&self, index: usize, number: f32) -> Error {
        let reason = if number.is_finite() {
            format!("element {index} is {number}, which f16 cannot hold (at most ±65504)")
        } else {
            format!("element {index} is {number}; the file is damaged or the training diverged")
        };
        Error::tensor(&self.name, self.path(), reason)
    }
}

/// Numbers converted at a time: 16 KiB of f32, which stays in the first-level cache.
const BLOCK: usize = 4096;
