//! The table of tensors in a file's header.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use super::blocks::{BLOCK, ElementType};
use crate::config::Config;
use crate::error::{Error, Result};

/// The contents of a file's header.
pub(super) struct Header {
    pub(super) config: Config,
    pub(super) tensors: Tensors,
}

/// A tensor's type, shape and place in the file.
pub(super) struct TensorInfo {
    /// Its name in the file.
    pub(super) name: String,
    /// Outermost first.
    pub(super) shape: Vec<usize>,
    pub(super) element_type: ElementType,
    /// Its bytes in the file; empty if the type's size is unknown.
    pub(super) range: Range<usize>,
}

/// A file's tensors by their Hugging Face names.
#[derive(Default)]
pub(super) struct Tensors(pub(super) BTreeMap<String, TensorInfo>);

/// More than any model has.
pub(super) const ABSURD_TENSORS: usize = 1 << 16;

impl Tensors {
    pub(super) fn insert(&mut self, path: &Path, name: String, tensor: TensorInfo) -> Result<()> {
        if self.len() == ABSURD_TENSORS {
            return Err(Error::checkpoint(path, format!("more than {ABSURD_TENSORS} tensors; the file is damaged")));
        }
        match self.0.insert(name, tensor) {
            None => Ok(()),
            Some(other) => Err(Error::tensor(&other.name, path, "it is in the file twice; the file is damaged")),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&TensorInfo> {
        self.0.get(name)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// The shape and byte size of a tensor with these dimensions, innermost first; `None` if the type's size is unknown.
pub(super) fn byte_size(
    path: &Path,
    name: &str,
    dims: &[u64],
    element_type: ElementType,
) -> Result<(Vec<usize>, Option<u64>)> {
    let too_large = || Error::tensor(name, path, format!("its sizes are {dims:?}; the file is damaged"));
    let elements = dims.iter().try_fold(1u64, |product, dim| product.checked_mul(*dim)).ok_or_else(too_large)?;
    let shape = dims.iter().rev().map(|&dim| usize::try_from(dim));
    let shape: Vec<usize> = shape.collect::<Result<_, _>>().map_err(|_| too_large())?;
    let width = dims.first().copied().unwrap_or(1);
    match (element_type.tensor_bytes(width, elements), element_type) {
        (Some(bytes), _) => Ok((shape, Some(bytes))),
        (None, ElementType::Other(_)) => Ok((shape, None)),
        (None, ElementType::Blocks(_)) if !width.is_multiple_of(BLOCK as u64) => {
            let reason = format!("its rows of {width} numbers are not whole blocks of {BLOCK}; the file is damaged");
            Err(Error::tensor(name, path, reason))
        }
        (None, _) => Err(too_large()),
    }
}

/// GPT-J's end-of-text token, if the vocabulary is large enough to have it.
pub(super) fn end_of_text(vocab_size: usize) -> Vec<u32> {
    let ids = Config::default().eos_token_ids;
    ids.into_iter().filter(|&id| (id as usize) < vocab_size).collect()
}
