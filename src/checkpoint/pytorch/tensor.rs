//! Tensors as PyTorch stores them: storages of numbers, and where in these the elements of a tensor are.

use std::ops::Range;

use crate::checkpoint::file::MappedFile;
use crate::checkpoint::numbers::{Dense, NumberFormat, Numbers, TensorView};
use crate::error::{Error, Result};

use super::pickle;

/// What the numbers of a storage are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    /// PyTorch's class for such storages is called so, and "Storage" after it.
    name: &'static str,
    /// Bytes of a number.
    pub(super) bytes: usize,
    /// How to read them, where a parameter may have them.
    format: Option<NumberFormat>,
}

impl Kind {
    const ALL: [Self; 10] = [
        Self { name: "Float", bytes: 4, format: Some(NumberFormat::F32) },
        Self { name: "Half", bytes: 2, format: Some(NumberFormat::F16) },
        Self { name: "BFloat16", bytes: 2, format: Some(NumberFormat::BF16) },
        Self { name: "Double", bytes: 8, format: None },
        Self { name: "Long", bytes: 8, format: None },
        Self { name: "Int", bytes: 4, format: None },
        Self { name: "Short", bytes: 2, format: None },
        Self { name: "Char", bytes: 1, format: None },
        Self { name: "Byte", bytes: 1, format: None },
        Self { name: "Bool", bytes: 1, format: None },
    ];

    /// The kind whose class has this name.
    pub(super) fn of_class(class: &str) -> Option<Self> {
        let name = class.strip_suffix("Storage")?;
        Self::ALL.into_iter().find(|kind| kind.name == name)
    }
}

/// A tensor whose storage was found in the file.
pub(super) struct StoredTensor {
    kind: Kind,
    /// The storage's bytes in the file.
    storage: Range<usize>,
    /// Its first element in the storage.
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

impl StoredTensor {
    /// `storage` is where the file has the storage.
    pub(super) fn new(tensor: &pickle::Tensor<'_>, storage: Range<usize>) -> Self {
        let pickle::Tensor { storage: pickle::Storage { kind, .. }, offset, shape, .. } = tensor;
        // How far apart the elements are of which there is one means nothing.
        let strides = shape.iter().zip(&tensor.strides).map(|(&size, &stride)| if size > 1 { stride } else { 0 });
        Self { kind: *kind, storage, offset: *offset, shape: shape.clone(), strides: strides.collect() }
    }

    pub(super) fn view<'a>(&'a self, name: &str, file: &'a MappedFile) -> Result<TensorView<'a>> {
        let refuse = |reason| Error::tensor(name, file.path(), reason);
        let Some(format) = self.kind.format else {
            return Err(refuse(format!("its numbers are {}; Float, Half and BFloat16 can be loaded", self.kind.name)));
        };
        let held = self.storage.len() / format.bytes();
        let Some(elements) = self.elements().filter(|_| self.end().is_some_and(|end| end <= held)) else {
            let reason = format!(
                "its shape {:?}, its strides {:?} and its offset {} lead out of its storage of {held} numbers; the file is \
                 damaged",
                self.shape, self.strides, self.offset
            );
            return Err(refuse(reason));
        };
        // One number in many places is no parameter, and takes a long time to read.
        if elements > held {
            let reason = format!("its shape {:?} repeats the {held} numbers of its storage", self.shape);
            return Err(refuse(reason));
        }
        if elements == 0 || self.is_dense() {
            let start = self.storage.start + self.offset * format.bytes();
            let range = start..start + elements * format.bytes();
            return Ok(TensorView::new(name, file.path(), &self.shape, Dense { file, format, range }));
        }
        Ok(TensorView::new(name, file.path(), &self.shape, Strided { tensor: self, file, format, elements }))
    }

    /// How many elements it has, where their bytes can be counted.
    fn elements(&self) -> Option<usize> {
        let elements = self.shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size))?;
        elements.checked_mul(self.kind.bytes).map(|_| elements)
    }

    /// The place after the last of its elements, in the storage.
    fn end(&self) -> Option<usize> {
        if self.shape.contains(&0) {
            return Some(self.offset);
        }
        let last = self.shape.iter().zip(&self.strides).try_fold(self.offset, |last, (&size, &stride)| {
            (size - 1).checked_mul(stride).and_then(|step| last.checked_add(step))
        });
        last?.checked_add(1)
    }

    /// Whether its elements, of which there are some, lie one after another, in the order of its rows.
    fn is_dense(&self) -> bool {
        let mut stride = 1;
        self.shape.iter().zip(&self.strides).rev().all(|(&size, &actual)| {
            let expected = stride;
            stride *= size;
            size <= 1 || actual == expected
        })
    }
}

/// The numbers of a tensor that is not dense: transposed, expanded, or cut out of a larger one.
struct Strided<'a> {
    tensor: &'a StoredTensor,
    file: &'a MappedFile,
    format: NumberFormat,
    elements: usize,
}

impl Numbers for Strided<'_> {
    fn decode(&self, start: usize, numbers: &mut [f32]) {
        let StoredTensor { storage, offset, shape, strides, .. } = self.tensor;
        let storage = &self.file.bytes()[storage.clone()];
        let (Some((&width, shape)), Some((&step, strides))) = (shape.split_last(), strides.split_last()) else {
            unreachable!("a tensor of no dimensions is dense")
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
                let at = element * self.format.bytes();
                self.format.decode(&storage[at..at + self.format.bytes()], std::slice::from_mut(number));
                element += step;
            }
            done = end;
        }
    }

    fn format(&self) -> Option<NumberFormat> {
        Some(self.format)
    }

    fn stored_bytes(&self) -> usize {
        self.elements * self.format.bytes()
    }

    fn release(&self, range: Range<usize>) {
        // Elements that follow each other are anywhere in the storage, so that its pages go with the last of them.
        if range.end == self.elements {
            self.file.release(self.tensor.storage.clone());
        }
    }
}
