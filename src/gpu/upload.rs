//! Large writes to the GPU at a bounded cost in host memory.

use super::{Gpu, Tensor};
use crate::error::Result;

/// Bytes that may wait for the GPU. wgpu keeps a copy of every write until the GPU has taken it.
const PENDING_BYTES: usize = 32 << 20;

/// Writes tensors and waits now and then, so that the copies under way stay few.
pub struct Uploader {
    gpu: Gpu,
    pending: usize,
    /// The batch before the one being collected; the GPU works on it meanwhile.
    submitted: Option<wgpu::SubmissionIndex>,
}

impl Uploader {
    /// Nothing under way.
    pub fn new(gpu: &Gpu) -> Self {
        Self { gpu: gpu.clone(), pending: 0, submitted: None }
    }

    /// Writes whole rows of `tensor`, padding included, from row `first_row` on.
    ///
    /// # Errors
    /// [`Error::Gpu`](crate::Error::Gpu) where the GPU failed.
    pub async fn write(&mut self, tensor: &Tensor, first_row: usize, bytes: &[u8]) -> Result<()> {
        tensor.write(&self.gpu, first_row, bytes);
        self.pending += bytes.len();
        if self.pending >= PENDING_BYTES {
            self.submit().await?;
        }
        Ok(())
    }

    /// Waits until everything written is on the GPU.
    ///
    /// # Errors
    /// [`Error::Gpu`](crate::Error::Gpu) where the GPU failed.
    pub async fn finish(mut self) -> Result<()> {
        self.submit().await?;
        self.gpu.wait(None).await
    }

    async fn submit(&mut self) -> Result<()> {
        let submission = self.gpu.queue().submit([]);
        self.pending = 0;
        match self.submitted.replace(submission) {
            Some(before) => self.gpu.wait(Some(before)).await,
            None => Ok(()),
        }
    }
}
