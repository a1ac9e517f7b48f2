//! The numbers of a tensor, from the formats of files to those of the GPU.

use std::ops::Range;
use std::path::Path;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::file::MappedFile;
use crate::error::{Error, Result};

/// The elements of a tensor, in the order of its rows, however a file stores them. Ranges lie within the tensor.
pub(super) trait Numbers: Send + Sync {
    /// Decodes the elements from `start` on, as many as `numbers` has room for.
    fn decode(&self, start: usize, numbers: &mut [f32]);

    /// The bytes of some elements, where they are stored as little-endian f16, one after another.
    fn f16_bytes(&self, _range: Range<usize>) -> Option<&[u8]> {
        None
    }

    /// A format that holds all of them exactly, where they are stored in one, or made of numbers that are.
    fn format(&self) -> Option<NumberFormat> {
        None
    }

    /// Bytes that the elements take in their file.
    fn stored_bytes(&self) -> usize;

    /// Hears that some elements are not needed any more.
    fn release(&self, _range: Range<usize>) {}
}

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

    /// Decodes neighbouring numbers.
    pub(super) fn decode(self, bytes: &[u8], numbers: &mut [f32]) {
        match self {
            Self::F32 => {
                for (number, bytes) in numbers.iter_mut().zip(bytes.chunks_exact(4)) {
                    *number = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                }
            }
            Self::F16 => {
                for (number, bytes) in numbers.iter_mut().zip(bytes.chunks_exact(2)) {
                    *number = f16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
                }
            }
            Self::BF16 => {
                for (number, bytes) in numbers.iter_mut().zip(bytes.chunks_exact(2)) {
                    *number = bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
                }
            }
        }
    }
}

/// Numbers that lie one after another in a file.
pub(super) struct Dense<'a> {
    pub(super) file: &'a MappedFile,
    pub(super) format: NumberFormat,
    /// Their bytes in the file.
    pub(super) range: Range<usize>,
}

impl Dense<'_> {
    fn byte_range(&self, range: &Range<usize>) -> Range<usize> {
        assert!(range.end <= self.range.len() / self.format.bytes(), "elements are those of the tensor");
        let [start, end] = [range.start, range.end].map(|element| self.range.start + element * self.format.bytes());
        start..end
    }
}

impl Numbers for Dense<'_> {
    fn decode(&self, start: usize, numbers: &mut [f32]) {
        let bytes = self.byte_range(&(start..start + numbers.len()));
        self.format.decode(&self.file.bytes()[bytes], numbers);
    }

    fn f16_bytes(&self, range: Range<usize>) -> Option<&[u8]> {
        (self.format == NumberFormat::F16).then(|| &self.file.bytes()[self.byte_range(&range)])
    }

    fn format(&self) -> Option<NumberFormat> {
        Some(self.format)
    }

    fn stored_bytes(&self) -> usize {
        self.range.len()
    }

    fn release(&self, range: Range<usize>) {
        self.file.release(self.byte_range(&range));
    }
}

/// A tensor as it lies in its file.
pub struct TensorView<'a> {
    name: String,
    path: &'a Path,
    shape: Vec<usize>,
    numbers: Box<dyn Numbers + 'a>,
}

impl<'a> TensorView<'a> {
    /// `numbers` are as many as `shape` says.
    pub(super) fn new(name: &str, path: &'a Path, shape: &[usize], numbers: impl Numbers + 'a) -> Self {
        Self::boxed(name, path, shape, Box::new(numbers))
    }

    pub(super) fn boxed(name: &str, path: &'a Path, shape: &[usize], numbers: Box<dyn Numbers + 'a>) -> Self {
        Self { name: name.to_owned(), path, shape: shape.to_vec(), numbers }
    }

    pub(super) fn into_numbers(self) -> Box<dyn Numbers + 'a> {
        self.numbers
    }

    /// Its name in the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that holds it.
    pub fn path(&self) -> &'a Path {
        self.path
    }

    /// Its sizes, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of its elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes in the file.
    pub fn bytes(&self) -> usize {
        self.numbers.stored_bytes()
    }

    /// A format that holds its elements exactly, where the file stores them in one, or what they are made of.
    pub fn format(&self) -> Option<NumberFormat> {
        self.numbers.format()
    }

    /// Decodes the elements from `start` on, whatever they are.
    pub(super) fn decode(&self, start: usize, numbers: &mut [f32]) {
        self.numbers.decode(start, numbers);
    }

    /// Converts the elements of `range` to f16, after what `numbers` holds already.
    ///
    /// # Errors
    /// [`Error::Tensor`] where a number is NaN or infinite, or f16 cannot hold it.
    ///
    /// # Panics
    /// Where the tensor has fewer elements.
    pub fn append_f16(&self, range: Range<usize>, numbers: &mut Vec<f16>) -> Result<()> {
        assert!(range.end <= self.elements(), "{} has {} elements", self.name, self.elements());
        let start = numbers.len();
        numbers.resize(start + range.len(), f16::ZERO);
        let converted = &mut numbers[start..];
        if let Some(bytes) = self.numbers.f16_bytes(range.clone()) {
            for (number, bytes) in converted.iter_mut().zip(bytes.chunks_exact(2)) {
                *number = f16::from_le_bytes([bytes[0], bytes[1]]);
            }
        } else {
            let mut block = [0.0; BLOCK];
            for (index, converted) in converted.chunks_mut(BLOCK).enumerate() {
                let block = &mut block[..converted.len()];
                self.numbers.decode(range.start + index * BLOCK, block);
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
        self.numbers.decode(range.start + index, &mut number);
        Err(self.refuse(range.start + index, number[0]))
    }

    /// All elements as f32.
    ///
    /// # Errors
    /// [`Error::Tensor`] where a number is NaN or infinite.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        let mut numbers = vec![0.0; self.elements()];
        self.numbers.decode(0, &mut numbers);
        match numbers.iter().position(|number| !number.is_finite()) {
            None => Ok(numbers),
            Some(index) => Err(self.refuse(index, numbers[index])),
        }
    }

    /// Says that the elements of `range` are not needed any more.
    ///
    /// # Panics
    /// Where the tensor has fewer elements.
    pub fn release(&self, range: Range<usize>) {
        assert!(range.end <= self.elements(), "{} has {} elements", self.name, self.elements());
        self.numbers.release(range);
    }

    /// Why the element of this index cannot be used.
    pub(super) fn refuse(&self, index: usize, number: f32) -> Error {
        let reason = if number.is_finite() {
            format!("element {index} is {number}, which f16 cannot hold (at most ±65504)")
        } else {
            format!("element {index} is {number}; the file is damaged or the training diverged")
        };
        Error::tensor(&self.name, self.path, reason)
    }
}

/// Numbers converted at a time: 16 KiB of f32, which stays in the first-level cache.
const BLOCK: usize = 4096;
