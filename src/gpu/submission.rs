//! One batch of work for the GPU: inputs to copy in, plans to replay, results to copy where the host can read them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_channel::oneshot;
use wgpu::util::StagingBelt;

use super::{Gpu, Plan, StepSize, Tensor};
use crate::error::{Error, Result};

/// Memory through which small inputs travel to the GPU, used again once they have arrived. Whoever writes inputs has
/// one of their own: what another is putting together meanwhile must not be cut short.
pub struct Staging(Arc<Mutex<StagingBelt>>);

/// Room for the inputs of the largest step.
pub(super) const STAGING_BYTES: u64 = 64 << 10;

impl Staging {
    /// Takes memory when it is first used.
    pub fn new(gpu: &Gpu) -> Self {
        Self(Arc::new(Mutex::new(StagingBelt::new(gpu.device().clone(), STAGING_BYTES))))
    }

    fn belt(&self) -> MutexGuard<'_, StagingBelt> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Work that is being put together for the GPU.
pub struct Submission {
    gpu: Gpu,
    encoder: wgpu::CommandEncoder,
    /// Where its inputs wait, if it has any.
    staging: Option<Staging>,
    read: Option<Read>,
}

/// A read that happens once what fills its memory is done.
struct Read {
    buffer: wgpu::Buffer,
    bytes: u64,
    mapped: oneshot::Receiver<Result<(), wgpu::BufferAsyncError>>,
}

impl Submission {
    /// Nothing to do yet.
    pub fn new(gpu: &Gpu, label: &str) -> Self {
        let descriptor = wgpu::CommandEncoderDescriptor { label: Some(label) };
        Self { gpu: gpu.clone(), encoder: gpu.device().create_command_encoder(&descriptor), staging: None, read: None }
    }

    /// Copies `bytes` to the start of `tensor` before anything that comes after. Until then they wait in `staging`,
    /// which is the same for all writes of a submission.
    ///
    /// # Panics
    /// Where `bytes` are no multiple of four or do not fit.
    pub fn write(&mut self, staging: &Staging, tensor: &Tensor, bytes: &[u8]) {
        let size = wgpu::BufferSize::new(bytes.len() as u64).expect("something is written");
        staging.belt().write_buffer(&mut self.encoder, tensor.buffer(), 0, size).copy_from_slice(bytes);
        self.staging = Some(Staging(Arc::clone(&staging.0)));
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

    /// Copies the first `bytes` bytes of `tensor` to where the host can read them: one read a submission, and one
    /// submission at a time for each [`Readback`].
    pub fn read(&mut self, tensor: &Tensor, bytes: u64, into: &Readback) {
        self.read_buffer(tensor.buffer(), bytes, into);
    }

    pub(super) fn read_buffer(&mut self, buffer: &wgpu::Buffer, bytes: u64, into: &Readback) {
        self.encoder.copy_buffer_to_buffer(buffer, 0, &into.0, 0, bytes);
        let (sender, mapped) = oneshot::channel();
        self.encoder.map_buffer_on_submit(&into.0, wgpu::MapMode::Read, 0..bytes, move |result| {
            // The receiver is gone only where the caller gave up waiting.
            let _ = sender.send(result);
        });
        let read = Read { buffer: into.0.clone(), bytes, mapped };
        assert!(self.read.replace(read).is_none(), "a submission reads one tensor");
    }

    pub(super) fn encoder(&mut self) -> &mut wgpu::CommandEncoder {
        &mut self.encoder
    }

    /// Does all of the host's work, so that handing the work over takes no time.
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

/// Work that is ready for the GPU.
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

/// Work that the GPU has, and perhaps a result to wait for.
pub struct Submitted {
    gpu: Gpu,
    index: wgpu::SubmissionIndex,
    read: Option<Read>,
}

impl Submitted {
    /// Waits for this submission, and not for later ones.
    ///
    /// # Errors
    /// [`Error::Gpu`] where the GPU failed.
    pub async fn wait(&self) -> Result<()> {
        self.gpu.wait(Some(self.index.clone())).await
    }

    /// Waits for this submission, and not for later ones, and takes what it read.
    ///
    /// # Errors
    /// [`Error::Gpu`] where the GPU failed before or during the read.
    ///
    /// # Panics
    /// Where it reads nothing.
    pub async fn take<T: bytemuck::Pod>(mut self) -> Result<Vec<T>> {
        self.wait().await?;
        let read = self.read.as_mut().expect("the submission reads something");
        let mapped = (&mut read.mapped).await.map_err(|_| Error::Gpu("the driver dropped a read".to_owned()))?;
        if let Err(error) = mapped {
            // Then there is nothing to unmap.
            self.read = None;
            return Err(Error::Gpu(error.to_string()));
        }
        let view = read.buffer.get_mapped_range(..read.bytes).map_err(|error| Error::Gpu(error.to_string()))?;
        Ok(bytemuck::cast_slice(&view).to_vec())
    }
}

impl Drop for Submitted {
    /// Ends the read, whether it was taken or is not wanted any more: its memory can be used again.
    fn drop(&mut self) {
        if let Some(read) = &self.read {
            read.buffer.unmap();
        }
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
}
