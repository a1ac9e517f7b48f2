//! Large writes to the GPU at a bounded cost in host memory.

use wgpu::util::StagingBelt;

use super::{Gpu, Tensor};
use crate::error::Result;

/// Bytes of a batch. While the GPU copies one batch, the next is written; their memory is reused.
const BATCH_BYTES: usize = 32 << 20;

/// Writes tensors in batches and waits for the one before the last, so that at most two are in flight.
pub struct Uploader {
    gpu: Gpu,
    belt: StagingBelt,
    encoder: wgpu::CommandEncoder,
    batch_bytes: usize,
    /// The batch before the one being collected.
    submitted: Option<wgpu::SubmissionIndex>,
}

impl Uploader {
    /// An empty batch.
    pub fn new(gpu: &Gpu) -> Self {
        let belt = StagingBelt::new(gpu.device().clone(), BATCH_BYTES as u64);
        Self { gpu: gpu.clone(), belt, encoder: encoder(gpu), batch_bytes: 0, submitted: None }
    }

    /// Writes whole rows of `tensor`, padding included, from row `first_row` on.
    ///
    /// # Errors
    /// [`Error::Gpu`](crate::Error::Gpu) if the GPU failed.
    pub async fn write(&mut self, tensor: &Tensor, first_row: usize, bytes: &[u8]) -> Result<()> {
        if self.batch_bytes + bytes.len() > BATCH_BYTES {
            self.submit().await?;
        }
        self.batch_bytes += bytes.len();
        for (buffer, offset, bytes) in tensor.locate(first_row, bytes) {
            let size = wgpu::BufferSize::new(bytes.len() as u64).expect("rows are not empty");
            self.belt.write_buffer(&mut self.encoder, buffer, offset, size).copy_from_slice(bytes);
        }
        Ok(())
    }

    /// Waits until everything written is on the GPU.
    ///
    /// # Errors
    /// [`Error::Gpu`](crate::Error::Gpu) if the GPU failed.
    pub async fn finish(mut self) -> Result<()> {
        self.submit().await?;
        self.gpu.wait(None).await
    }

    async fn submit(&mut self) -> Result<()> {
        let full = std::mem::replace(&mut self.encoder, encoder(&self.gpu));
        self.belt.finish_and_recall_on_submit(&full);
        let submission = self.gpu.queue().submit([full.finish()]);
        self.batch_bytes = 0;
        match self.submitted.replace(submission) {
            Some(before) => self.gpu.wait(Some(before)).await,
            None => self.gpu.check(),
        }
    }
}

fn encoder(gpu: &Gpu) -> wgpu::CommandEncoder {
    gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("upload") })
}
