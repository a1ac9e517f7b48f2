//! One batch of work for the GPU: inputs to copy in, plans to replay, a result to copy back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_channel::oneshot;
use wgpu::util::StagingBelt;

use super::device::{Gpu, STAGING_BYTES};
use super::plan::{Plan, Sizes};
use super::tensor::{Tensor, padded};
use crate::error::{Error, Result};

/// Memory through which small inputs travel to the GPU, reused once they have arrived. Each writer of inputs has its
/// own, since encoding a submission ends all writes that share its memory.
pub struct Staging(Arc<Mutex<StagingBelt>>);

impl Staging {
    /// Allocates at the first use.
    pub fn new(gpu: &Gpu) -> Self {
        Self(Arc::new(Mutex::new(StagingBelt::new(gpu.device().clone(), STAGING_BYTES))))
    }

    fn belt(&self) -> MutexGuard<'_, StagingBelt> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Work for the GPU, not yet encoded.
pub struct Submission {
    gpu: Gpu,
    encoder: wgpu::CommandEncoder,
    /// The memory of its inputs, if it has any.
    staging: Option<Staging>,
    read: Option<Read>,
}

/// A read that completes once the submission that fills its memory is done.
struct Read {
    buffer: wgpu::Buffer,
    bytes: u64,
    mapped: oneshot::Receiver<Result<(), wgpu::BufferAsyncError>>,
}

impl Submission {
    /// An empty submission.
    pub fn new(gpu: &Gpu, label: &str) -> Self {
        let descriptor = wgpu::CommandEncoderDescriptor { label: Some(label) };
        Self { gpu: gpu.clone(), encoder: gpu.device().create_command_encoder(&descriptor), staging: None, read: None }
    }

    /// Copies `bytes` to the start of `tensor` before any later work. Until then they wait in `staging`, which is the
    /// same for all writes of a submission.
    ///
    /// # Panics
    /// If the number of `bytes` is not a multiple of four or they do not fit.
    pub fn write(&mut self, staging: &Staging, tensor: &Tensor, bytes: &[u8]) {
        let size = wgpu::BufferSize::new(bytes.len() as u64).expect("at least one byte is written");
        staging.belt().write_buffer(&mut self.encoder, tensor.buffer(), 0, size).copy_from_slice(bytes);
        self.staging = Some(Staging(Arc::clone(&staging.0)));
    }

    /// Replays plans one after another, their grids scaled by these sizes.
    pub fn run<'p>(&mut self, plans: impl IntoIterator<Item = &'p Plan>, sizes: impl Into<Sizes>) {
        let sizes = sizes.into();
        let mut pass = self
            .encoder
            .begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some("plans"), timestamp_writes: None });
        for plan in plans {
            plan.encode(&mut pass, sizes);
        }
    }

    /// Copies the first `bytes` bytes of `tensor` to the host: one read per submission, and one submission at a time
    /// for each [`Readback`].
    pub fn read(&mut self, tensor: &Tensor, bytes: u64, into: &Readback) {
        self.read_buffer(tensor.buffer(), bytes, into);
    }

    pub(super) fn read_buffer(&mut self, buffer: &wgpu::Buffer, bytes: u64, into: &Readback) {
        self.encoder.copy_buffer_to_buffer(buffer, 0, &into.0, 0, bytes);
        let (sender, mapped) = oneshot::channel();
        self.encoder.map_buffer_on_submit(&into.0, wgpu::MapMode::Read, 0..bytes, move |result| {
            // The receiver is gone only if the caller gave up waiting.
            let _ = sender.send(result);
        });
        let read = Read { buffer: into.0.clone(), bytes, mapped };
        assert!(self.read.replace(read).is_none(), "a submission reads one tensor");
    }

    pub(super) fn encoder(&mut self) -> &mut wgpu::CommandEncoder {
        &mut self.encoder
    }

    /// Does all of the host's work, so that the submission itself takes no time.
    pub fn encode(self) -> Encoded {
        if let Some(staging) = &self.staging {
            staging.belt().finish_and_recall_on_submit(&self.encoder);
        }
        Encoded { commands: self.encoder.finish(), gpu: self.gpu, read: self.read }
    }

    /// Hands the work to the GPU, which starts on it at once.
    pub fn submit(self) -> Submitted {
        self.encode().submit()
    }
}

/// Encoded work, ready for the GPU.
pub struct Encoded {
    gpu: Gpu,
    commands: wgpu::CommandBuffer,
    read: Option<Read>,
}

impl Encoded {
    /// Hands the work to the GPU, which starts on it at once.
    pub fn submit(self) -> Submitted {
        let index = self.gpu.queue().submit([self.commands]);
        Submitted { gpu: self.gpu, index, read: self.read }
    }
}

/// Submitted work, and perhaps a result to wait for.
pub struct Submitted {
    gpu: Gpu,
    index: wgpu::SubmissionIndex,
    read: Option<Read>,
}

impl Submitted {
    /// Waits for this submission, not for later ones.
    ///
    /// # Errors
    /// [`Error::Gpu`] if the GPU failed.
    pub async fn wait(&self) -> Result<()> {
        self.gpu.wait(Some(self.index.clone())).await
    }

    /// Waits for this submission, not for later ones, and takes the result of its read.
    ///
    /// # Errors
    /// [`Error::Gpu`] if the GPU failed before or during the read.
    ///
    /// # Panics
    /// If it reads nothing.
    pub async fn take<T: bytemuck::Pod>(mut self) -> Result<Vec<T>> {
        self.wait().await?;
        let read = self.read.as_mut().expect("the submission has a read");
        let mapped = (&mut read.mapped).await.map_err(|_| Error::Gpu("the driver dropped a read".to_owned()))?;
        if let Err(error) = mapped {
            // Nothing was mapped, so there is nothing to unmap.
            self.read = None;
            return Err(Error::Gpu(error.to_string()));
        }
        let view = read.buffer.get_mapped_range(..read.bytes).map_err(|error| Error::Gpu(error.to_string()))?;
        Ok(bytemuck::cast_slice(&view).to_vec())
    }
}

impl Drop for Submitted {
    /// Ends the read, taken or not: its memory can be used again.
    fn drop(&mut self) {
        if let Some(read) = &self.read {
            read.buffer.unmap();
        }
    }
}

/// Memory for reading results back to the host, allocated once.
pub struct Readback(wgpu::Buffer);

impl Readback {
    /// Allocates `bytes` bytes.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if the GPU cannot hold them.
    pub async fn new(gpu: &Gpu, label: &str, bytes: u64) -> Result<Self> {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        Ok(Self(gpu.create_buffer(label, bytes, usage).await?))
    }
}

impl Tensor {
    /// Reads the first `rows` rows back, without padding. Allocates; for tests and inspection.
    ///
    /// # Errors
    /// [`Error::Gpu`] if the GPU failed before or during the read.
    ///
    /// # Panics
    /// If `T` is not of the element's size or the tensor has several segments.
    pub async fn read<T: bytemuck::Pod>(&self, gpu: &Gpu, rows: usize) -> Result<Vec<T>> {
        let padded_rows = self.read_padded(gpu, rows).await?;
        Ok(padded_rows.chunks(padded(self.width())).flat_map(|row| &row[..self.width()]).copied().collect())
    }

    /// The same with padding.
    ///
    /// # Errors
    /// As [`Tensor::read`].
    ///
    /// # Panics
    /// As [`Tensor::read`].
    pub async fn read_padded<T: bytemuck::Pod>(&self, gpu: &Gpu, rows: usize) -> Result<Vec<T>> {
        assert_eq!(size_of::<T>() as u64, self.format().bytes(), "elements of {} have that size", self.name());
        let bytes = (rows * self.row_bytes()) as u64;
        let readback = Readback::new(gpu, self.name(), bytes).await?;
        let mut submission = Submission::new(gpu, self.name());
        submission.read(self, bytes, &readback);
        submission.submit().take().await
    }
}
