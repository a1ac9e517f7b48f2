//! A tensor's elements: decoded from a file's format, converted for the GPU.

use std::ops::Range;
use std::path::Path;
use std::pin::Pin;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::error::{Error, Result};
use crate::file_bytes::FileBytes;

/// A tensor's elements in row-major order, however they are stored. Ranges must lie within the tensor.
pub trait Elements: Send + Sync {
    /// Makes the elements of a range available to the other methods. Those of a mapped file always are; a source that
    /// reads over a network waits here.
    ///
    /// # Errors
    /// [`Error::Read`] or [`Error::Tensor`] if they cannot be read.
    fn fetch(&self, _range: Range<usize>) -> Fetch<'_> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Decodes elements from `start` on, until `numbers` is full.
    fn decode(&self, start: usize, numbers: &mut [f32]);

    /// The bytes of some elements, if they are stored as contiguous little-endian f16.
    fn f16_bytes(&self, _range: Range<usize>) -> Option<&[u8]> {
        None
    }

    /// A type that holds all elements exactly, if they are stored in one or are sums of such; `None` for quantized
    /// ones.
    fn format(&self) -> Option<Dtype> {
        None
    }

    /// The bytes of the elements in their file.
    fn stored_bytes(&self) -> usize;

    /// Called when some elements are not needed any more.
    fn release(&self, _range: Range<usize>) {}
}

/// The future that [`Elements::fetch`] returns.
pub type Fetch<'a> = Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

/// The type of stored numbers, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// The upper half of an F32.
    BF16,
}

impl Dtype {
    /// Bytes per number.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }

    /// Decodes contiguous numbers.
    pub(crate) fn decode(self, bytes: &[u8], numbers: &mut [f32]) {
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

/// Elements that are contiguous in a file.
pub(crate) struct Dense<'a> {
    pub(crate) file: &'a FileBytes,
    pub(crate) dtype: Dtype,
    /// Their bytes in the file.
    pub(crate) range: Range<usize>,
}

impl Dense<'_> {
    fn byte_range(&self, range: &Range<usize>) -> Range<usize> {
        assert!(range.end <= self.range.len() / self.dtype.bytes(), "the elements are in the tensor");
        let offset = |element: usize| self.range.start + element * self.dtype.bytes();
        offset(range.start)..offset(range.end)
    }
}

impl Elements for Dense<'_> {
    fn decode(&self, start: usize, numbers: &mut [f32]) {
        let bytes = self.byte_range(&(start..start + numbers.len()));
        self.dtype.decode(&self.file.bytes()[bytes], numbers);
    }

    fn f16_bytes(&self, range: Range<usize>) -> Option<&[u8]> {
        (self.dtype == Dtype::F16).then(|| &self.file.bytes()[self.byte_range(&range)])
    }

    fn format(&self) -> Option<Dtype> {
        Some(self.dtype)
    }

    fn stored_bytes(&self) -> usize {
        self.range.len()
    }

    fn release(&self, range: Range<usize>) {
        self.file.release(self.byte_range(&range));
    }
}

/// A tensor in its file.
pub struct TensorView<'a> {
    name: String,
    path: &'a Path,
    shape: Vec<usize>,
    elements: Box<dyn Elements + 'a>,
}

impl<'a> TensorView<'a> {
    /// A tensor of these elements, as many as `shape` says. `path` is the file, or the source's name for messages.
    pub fn new(name: &str, path: &'a Path, shape: &[usize], elements: impl Elements + 'a) -> Self {
        Self::boxed(name, path, shape, Box::new(elements))
    }

    pub(crate) fn boxed(name: &str, path: &'a Path, shape: &[usize], elements: Box<dyn Elements + 'a>) -> Self {
        Self { name: name.to_owned(), path, shape: shape.to_vec(), elements }
    }

    pub(crate) fn into_elements(self) -> Box<dyn Elements + 'a> {
        self.elements
    }

    /// Its name in the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its file.
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

    /// Its bytes in the file.
    pub fn bytes(&self) -> usize {
        self.elements.stored_bytes()
    }

    /// As [`Elements::format`].
    pub fn format(&self) -> Option<Dtype> {
        self.elements.format()
    }

    /// Decodes the elements from `start` on, without checking that they are finite.
    pub(crate) fn decode(&self, start: usize, numbers: &mut [f32]) {
        self.elements.decode(start, numbers);
    }

    /// Converts the elements of `range` to f16 and appends them to `numbers`.
    ///
    /// # Errors
    /// [`Error::Tensor`] if a number is NaN or infinite, or f16 cannot hold it.
    ///
    /// # Panics
    /// If `range` exceeds the tensor.
    pub fn append_f16(&self, range: Range<usize>, numbers: &mut Vec<f16>) -> Result<()> {
        assert!(range.end <= self.elements(), "{} has {} elements", self.name, self.elements());
        let start = numbers.len();
        numbers.resize(start + range.len(), f16::ZERO);
        let converted = &mut numbers[start..];
        if let Some(bytes) = self.elements.f16_bytes(range.clone()) {
            for (number, bytes) in converted.iter_mut().zip(bytes.chunks_exact(2)) {
                *number = f16::from_le_bytes([bytes[0], bytes[1]]);
            }
        } else {
            let mut block = [0.0; BLOCK];
            for (index, converted) in converted.chunks_mut(BLOCK).enumerate() {
                let block = &mut block[..converted.len()];
                self.elements.decode(range.start + index * BLOCK, block);
                converted.convert_from_f32_slice(block);
            }
        }
        // The exponent of NaN and infinity, whether from the file or from a number too large for f16.
        const EXPONENT: u16 = 0x7c00;
        // A branch-free loop runs at memory speed; the index is searched only on failure.
        let all_finite =
            converted.iter().fold(true, |finite, number| finite & (number.to_bits() & EXPONENT != EXPONENT));
        if all_finite {
            return Ok(());
        }
        let index = converted.iter().position(|number| !number.is_finite()).expect("one of them is not finite");
        let mut number = [0.0];
        self.elements.decode(range.start + index, &mut number);
        Err(self.refuse(range.start + index, number[0]))
    }

    /// All elements as f32.
    ///
    /// # Errors
    /// [`Error::Tensor`] if a number is NaN or infinite.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        let mut numbers = vec![0.0; self.elements()];
        self.elements.decode(0, &mut numbers);
        match numbers.iter().position(|number| !number.is_finite()) {
            None => Ok(numbers),
            Some(index) => Err(self.refuse(index, numbers[index])),
        }
    }

    /// Waits until the elements of `range` can be read.
    ///
    /// # Errors
    /// As [`Elements::fetch`].
    pub async fn fetch(&self, range: Range<usize>) -> Result<()> {
        self.elements.fetch(range).await
    }

    /// Tells the source that the elements of `range` are not needed any more.
    ///
    /// # Panics
    /// If `range` exceeds the tensor.
    pub fn release(&self, range: Range<usize>) {
        assert!(range.end <= self.elements(), "{} has {} elements", self.name, self.elements());
        self.elements.release(range);
    }

    /// The error for an element that cannot be used.
    pub(crate) fn refuse(&self, index: usize, number: f32) -> Error {
        let reason = if number.is_finite() {
            format!("element {index} is {number}, which f16 cannot hold (at most ±65504)")
        } else {
            format!("element {index} is {number}; the file is damaged or the training diverged")
        };
        Error::tensor(&self.name, self.path, reason)
    }
}

/// Elements converted at a time: 16 KiB of f32, which stays in the first-level cache.
const BLOCK: usize = 4096;
