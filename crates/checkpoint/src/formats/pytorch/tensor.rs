//! Tensors as PyTorch stores them: strided views of storages of numbers.

use std::ops::Range;

use crate::elements::{Dense, Dtype, Elements, TensorView};
use crate::error::{Error, Result};
use crate::file_bytes::FileBytes;

use super::pickle;
use super::storage::Kind;

/// A tensor whose storage was found in the file.
pub(super) struct StoredTensor {
    kind: Kind,
    /// The storage's bytes in the file.
    storage: Range<usize>,
    /// The index of its first element in the storage.
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

impl StoredTensor {
    /// `storage` is the storage's bytes in the file.
    pub(super) fn new(tensor: &pickle::PickledTensor<'_>, storage: Range<usize>) -> Self {
        let pickle::PickledTensor { storage: pickle::Storage { kind, .. }, offset, shape, .. } = tensor;
        // The stride of a dimension of size 1 has no meaning.
        let strides = shape.iter().zip(&tensor.strides).map(|(&size, &stride)| if size > 1 { stride } else { 0 });
        Self { kind: *kind, storage, offset: *offset, shape: shape.clone(), strides: strides.collect() }
    }

    pub(super) fn view<'a>(&'a self, name: &str, file: &'a FileBytes) -> Result<TensorView<'a>> {
        let refuse = |reason| Error::tensor(name, file.path(), reason);
        let Some(dtype) = self.kind.dtype else {
            return Err(refuse(format!("its numbers are {}; Float, Half and BFloat16 can be loaded", self.kind.name)));
        };
        let held = self.storage.len() / dtype.bytes();
        let Some(elements) = self.elements().filter(|_| self.end().is_some_and(|end| end <= held)) else {
            let reason = format!(
                "its shape {:?}, its strides {:?} and its offset {} exceed its storage of {held} numbers; the file is \
                 damaged",
                self.shape, self.strides, self.offset
            );
            return Err(refuse(reason));
        };
        // An expanded tensor is not a parameter, and would take long to read.
        if elements > held {
            let reason = format!("its shape {:?} repeats the {held} numbers of its storage", self.shape);
            return Err(refuse(reason));
        }
        if elements == 0 || self.is_dense() {
            let start = self.storage.start + self.offset * dtype.bytes();
            let range = start..start + elements * dtype.bytes();
            return Ok(TensorView::new(name, file.path(), &self.shape, Dense { file, dtype, range }));
        }
        Ok(TensorView::new(name, file.path(), &self.shape, Strided { tensor: self, file, dtype, elements }))
    }

    /// The number of its elements; `None` if that of their bytes overflows.
    fn elements(&self) -> Option<usize> {
        let elements = self.shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size))?;
        elements.checked_mul(self.kind.bytes).map(|_| elements)
    }

    /// The index after its last element in the storage; `None` on overflow.
    fn end(&self) -> Option<usize> {
        if self.shape.contains(&0) {
            return Some(self.offset);
        }
        let last = self.shape.iter().zip(&self.strides).try_fold(self.offset, |last, (&size, &stride)| {
            (size - 1).checked_mul(stride).and_then(|step| last.checked_add(step))
        });
        last?.checked_add(1)
    }

    /// Whether its elements are contiguous in row-major order. It must not be empty.
    fn is_dense(&self) -> bool {
        let mut stride = 1;
        self.shape.iter().zip(&self.strides).rev().all(|(&size, &actual)| {
            let expected = stride;
            stride *= size;
            size <= 1 || actual == expected
        })
    }
}

/// The elements of a tensor that is not dense: transposed, expanded, or a slice of a larger one.
struct Strided<'a> {
    tensor: &'a StoredTensor,
    file: &'a FileBytes,
    dtype: Dtype,
    elements: usize,
}

impl Elements for Strided<'_> {
    fn decode(&self, start: usize, numbers: &mut [f32]) {
        let StoredTensor { storage, offset, shape, strides, .. } = self.tensor;
        let storage = &self.file.bytes()[storage.clone()];
        let (Some((&width, shape)), Some((&step, strides))) = (shape.split_last(), strides.split_last()) else {
            unreachable!("a tensor without dimensions is dense")
        };
        let mut done = 0;
        while done < numbers.len() {
            let (mut row, column) = ((start + done) / width, (start + done) % width);
            let mut element = offset + column * step;
            for (size, stride) in shape.iter().zip(strides).rev() {
                element += row % size * stride;
                row /= size;
            }
            let end = numbers.len().min(done + width - column);
            for number in &mut numbers[done..end] {
                let at = element * self.dtype.bytes();
                self.dtype.decode(&storage[at..at + self.dtype.bytes()], std::slice::from_mut(number));
                element += step;
            }
            done = end;
        }
    }

    fn format(&self) -> Option<Dtype> {
        Some(self.dtype)
    }

    fn stored_bytes(&self) -> usize {
        self.elements * self.dtype.bytes()
    }

    fn release(&self, range: Range<usize>) {
        // Consecutive elements are scattered over the storage, so its pages are released with the last element.
        if range.end == self.elements {
            self.file.release(self.tensor.storage.clone());
        }
    }
}
