//! One batch of work for the GPU: inputs to copy in, plans to replay, results to copy where the host can read them.

use futures_channel::oneshot;

use super::{Gpu, Plan, StepSize, Tensor};
use crate::error::{Error, Result};

/// Work that is being put together for the GPU.
pub struct Submission {
    gpu: Gpu,
    encoder: wgpu::CommandEncoder,
}

impl Submission {
    /// Nothing to do yet.
    pub fn new(gpu: &Gpu, label: &str) -> Self {
        let descriptor = wgpu::CommandEncoderDescriptor { label: Some(label) };
        Self { gpu: gpu.clone(), encoder: gpu.device().create_command_encoder(&descriptor) }
    }

    /// Copies `bytes` to the start of `tensor` before anything that comes after.
    ///
    /// The bytes wait in memory that is used again at every step.
    ///
    /// # Panics
    /// Where `bytes` are no multiple of four or do not fit.
    pub fn write(&mut self, tensor: &Tensor, bytes: &[u8]) {
        let size = wgpu::BufferSize::new(bytes.len() as u64).expect("something is written");
        let mut belt = self.gpu.staging();
        belt.write_buffer(&mut self.encoder, tensor.buffer(), 0, size).copy_from_slice(bytes);
    }

    /// Replays plans one after another, for a step of this size.
    pub fn run<'p>(&mut self, plans: impl IntoIterator<Item = &'p Plan>, step: StepSize) {
        let mut pass = self
            .encoder
            .begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some("plans"), timestamp_writes: None });
        for plan in plans {
            plan.encode(&mut pass, step);
        }
    }

    /// Copies the first `rows` rows of `tensor` to where the host can read them.
    pub fn read(&mut self, tensor: &Tensor, rows: usize, into: &Readback) {
        into.fill(&mut self.encoder, tensor.buffer(), (rows * tensor.row_bytes()) as u64);
    }

    /// Hands the work to the GPU, which starts on it at once.
    pub fn submit(self) {
        self.gpu.staging().finish_and_recall_on_submit(&self.encoder);
        self.gpu.queue().submit([self.encoder.finish()]);
    }
}

/// Memory through which the host reads results, allocated once.
pub struct Readback(wgpu::Buffer);

impl Readback {
    /// Room for `bytes` bytes.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] where there is no such room.
    pub async fn new(gpu: &Gpu, label: &str, bytes: u64) -> Result<Self> {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        Ok(Self(gpu.create_buffer(label, bytes, usage).await?))
    }

    /// Has `encoder` copy the first `bytes` bytes of `buffer` here.
    pub(super) fn fill(&self, encoder: &mut wgpu::CommandEncoder, buffer: &wgpu::Buffer, bytes: u64) {
        encoder.copy_buffer_to_buffer(buffer, 0, &self.0, 0, bytes);
    }

    /// Waits for the submissions that fill this memory and takes the first `bytes` bytes of it.
    ///
    /// # Errors
    /// [`Error::Gpu`] where the GPU failed before or during the read.
    pub async fn take<T: bytemuck::Pod>(&self, gpu: &Gpu, bytes: usize) -> Result<Vec<T>> {
        let (sender, receiver) = oneshot::channel();
        let range = ..bytes as u64;
        self.0.map_async(wgpu::MapMode::Read, range, move |result| {
            // The receiver is gone only where the caller gave up waiting.
            let _ = sender.send(result);
        });
        gpu.wait(None).await?;
        let mapped = receiver.await.map_err(|_| Error::Gpu("the driver dropped a read".to_owned()))?;
        mapped.map_err(|error| Error::Gpu(error.to_string()))?;
        let elements = {
            let view = self.0.get_mapped_range(range).map_err(|error| Error::Gpu(error.to_string()))?;
            bytemuck::cast_slice(&view).to_vec()
        };
        self.0.unmap();
        Ok(elements)
    }
}
