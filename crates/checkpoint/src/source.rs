//! The interface between a checkpoint and its file formats.

use std::path::Path;

use crate::elements::TensorView;
use crate::error::Result;

/// Tensors by their Hugging Face names: a file of some format, or the caller's own source (see
/// [`Checkpoint::from_source`](crate::Checkpoint::from_source)).
pub trait Source: Send + Sync {
    /// The file, or another name of the source for messages.
    fn path(&self) -> &Path;

    /// The names of all its tensors.
    fn names(&self) -> Vec<String>;

    /// Whether it has a tensor of this name.
    fn contains(&self, name: &str) -> bool;

    /// The tensor of this name.
    ///
    /// # Errors
    /// [`Error::Tensor`](crate::Error::Tensor) if it cannot be used.
    ///
    /// # Panics
    /// If the source does not contain it.
    fn view(&self, name: &str) -> Result<TensorView<'_>>;
}
