//! A matrix in the layout that kernels read.

use half::f16;

use super::storage::{PANEL_FEATURES, Storage};
use crate::error::Result;
use crate::gpu::{Gpu, Segment, Tensor};

/// A matrix in panels of 32 features. It owns its layout: the size and the encoding of a panel are up to its
/// [`Storage`].
pub struct Matrix {
    panels: Tensor,
    storage: Storage,
    features: usize,
    inputs: usize,
}

impl Matrix {
    /// Allocates a matrix of zeros.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory) if the GPU cannot hold it.
    pub async fn new(gpu: &Gpu, name: &str, storage: Storage, features: usize, inputs: usize) -> Result<Self> {
        let (width, dtype) = storage.panel(inputs);
        let panels = Tensor::new(gpu, name, features.div_ceil(PANEL_FEATURES), width, dtype).await?;
        Ok(Self { panels, storage, features, inputs })
    }

    /// Bytes of a matrix of this size.
    pub fn bytes(storage: Storage, features: usize, inputs: usize) -> u64 {
        let (width, dtype) = storage.panel(inputs);
        (features.div_ceil(PANEL_FEATURES) * width) as u64 * dtype.bytes()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.panels.name()
    }

    /// How its weights are stored.
    pub fn storage(&self) -> Storage {
        self.storage
    }

    /// Output features.
    pub fn features(&self) -> usize {
        self.features
    }

    /// Inputs, with the padding between them.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Its panels, one per row.
    pub fn panels(&self) -> &Tensor {
        &self.panels
    }

    pub(crate) fn segments(&self) -> &[Segment] {
        self.panels.segments()
    }

    /// The bytes of a panel with these rows, each padded to whole octets.
    pub fn encode_panel(&self, rows: &[f16], panel: &mut Vec<u8>) {
        self.storage.encode_panel(rows, panel);
    }
}
