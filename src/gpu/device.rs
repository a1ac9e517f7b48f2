//! An open GPU: device and queue, its abilities, its first failure, and counters of the objects created on it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::adapter::{self, AdapterInfo, Selector};
use super::cache_dir::CacheDir;
use super::pipeline_cache::PipelineCache;
use super::specialisation::{Specialisation, Subgroups};
use crate::error::{Error, Result};

/// How to open a GPU. The default is right for everyone but tests: the best adapter with all it can do.
#[derive(Debug, Clone)]
pub struct GpuOptions {
    /// Which adapter to open.
    pub selector: Selector,
    /// Use native f16 if the adapter has it.
    pub f16: bool,
    /// Assume no more than this about the adapter's subgroups.
    pub subgroups: Subgroups,
    /// Use matrix units if the adapter has them.
    pub cooperative_matrix: bool,
    /// Check every memory access and loop of the kernels. Slow; finds mistakes in kernels.
    #[doc(hidden)]
    pub checked: bool,
    /// Pretend that no binding may be larger than this, in bytes.
    #[doc(hidden)]
    pub max_binding: u64,
    /// Pretend that no buffer may be larger than this, in bytes.
    #[doc(hidden)]
    pub max_buffer: u64,
    /// Do all of the host's work for steps but none of the GPU's: no buffer takes more memory than the inputs of a
    /// step, nothing is uploaded, and every dispatch has an empty grid. For measuring the host without memory for a
    /// model; results mean nothing, and larger ones than the inputs of a step cannot be read.
    #[doc(hidden)]
    pub dry_run: bool,
    /// The directory that keeps compiled pipelines and the like for the next process; none by default. Drivers run its
    /// contents, so nobody else must be able to write to it.
    pub cache_dir: Option<PathBuf>,
}

impl Default for GpuOptions {
    fn default() -> Self {
        Self {
            selector: Selector::Best,
            f16: true,
            subgroups: Subgroups::Of8,
            cooperative_matrix: true,
            checked: false,
            max_binding: u64::MAX,
            max_buffer: u64::MAX,
            dry_run: false,
            cache_dir: None,
        }
    }
}

/// Workgroup memory of the cooperative-matrix matmuls, in bytes, rounded up.
const COOPMAT_BYTES: u32 = 32 << 10;

/// Bytes of the largest step's inputs, rounded up.
pub(super) const STAGING_BYTES: u64 = 64 << 10;

/// A GPU that is ready to work. Clones share it.
#[derive(Clone)]
pub struct Gpu(Arc<Inner>);

struct Inner {
    info: AdapterInfo,
    device: wgpu::Device,
    queue: wgpu::Queue,
    specialisation: Specialisation,
    checked: bool,
    dry_run: bool,
    max_binding: u64,
    max_buffer: u64,
    matrix_sides: Vec<u32>,
    cache_dir: Option<CacheDir>,
    pipeline_cache: Option<PipelineCache>,
    /// The first failure that no error scope caught.
    failure: Arc<Mutex<Option<String>>>,
    created: Counters,
}

#[derive(Default)]
struct Counters {
    buffers: AtomicUsize,
    buffer_bytes: AtomicU64,
    bind_groups: AtomicUsize,
    pipelines: AtomicUsize,
}

/// Counts of the objects created on a GPU so far. Replaying a plan creates none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Created {
    /// Buffers of any kind.
    pub buffers: usize,
    /// Bytes of these buffers.
    pub buffer_bytes: u64,
    /// Bind groups.
    pub bind_groups: usize,
    /// Compute pipelines.
    pub pipelines: usize,
}

impl Gpu {
    /// Opens the adapter that `options` select, with its own limits and those optional features that it has.
    ///
    /// # Errors
    /// [`Error::Adapter`] if there is no such adapter or its driver refuses to open it.
    pub async fn open(options: &GpuOptions) -> Result<Self> {
        let (adapter, info) = adapter::select(&options.selector).await?;
        let (device, queue) = adapter
            .request_device(&Self::descriptor(&adapter, options))
            .await
            .map_err(|error| Error::Adapter(format!("cannot open {info}: {error}")))?;
        let gpu = Self::assemble(&adapter, info, device, queue, options).await;

        let uncaptured = Arc::clone(&gpu.0.failure);
        gpu.device()
            .on_uncaptured_error(Arc::new(move |error: wgpu::Error| keep_first(&uncaptured, error.to_string())));
        let lost = Arc::clone(&gpu.0.failure);
        gpu.device().set_device_lost_callback(move |reason, message| {
            if reason != wgpu::DeviceLostReason::Destroyed {
                keep_first(&lost, format!("the device was lost ({message})"));
            }
        });
        Ok(gpu)
    }

    /// Uses a device that the application already has, beside its other work. The engine uses the features and limits
    /// that the device was created with; [`Gpu::descriptor`] gives the best, and wgpu's default limits suffice.
    ///
    /// The device stays the application's: its handlers of errors and of the device's loss are left alone. Memory that
    /// runs out is an [`Error`] all the same.
    ///
    /// `options` may take features away; `options.selector` is ignored.
    ///
    /// # Errors
    /// [`Error::Adapter`] if the device was created with limits below wgpu's default ones.
    pub async fn share(
        adapter: &wgpu::Adapter,
        device: wgpu::Device,
        queue: wgpu::Queue,
        options: &GpuOptions,
    ) -> Result<Self> {
        let info = adapter::describe(0, adapter);
        let (has, needs) = (device.limits(), wgpu::Limits::default());
        for (name, has, needs) in [
            ("max_storage_buffers_per_shader_stage", has.max_storage_buffers_per_shader_stage, 8),
            (
                "max_compute_workgroup_storage_size",
                has.max_compute_workgroup_storage_size,
                needs.max_compute_workgroup_storage_size,
            ),
            (
                "max_compute_invocations_per_workgroup",
                has.max_compute_invocations_per_workgroup,
                needs.max_compute_invocations_per_workgroup,
            ),
            ("max_compute_workgroup_size_x", has.max_compute_workgroup_size_x, needs.max_compute_workgroup_size_x),
            (
                "max_compute_workgroups_per_dimension",
                has.max_compute_workgroups_per_dimension,
                needs.max_compute_workgroups_per_dimension,
            ),
        ] {
            if has < needs {
                let reason =
                    format!("the device of {info} was created with {name} {has}, and the engine needs {needs}");
                return Err(Error::Adapter(reason));
            }
        }
        Ok(Self::assemble(adapter, info, device, queue, options).await)
    }

    /// The best descriptor for a device of this adapter. An application adds the features and limits that it needs
    /// itself.
    pub fn descriptor(adapter: &wgpu::Adapter, options: &GpuOptions) -> wgpu::DeviceDescriptor<'static> {
        let features = usable_features(options) & adapter.features();
        wgpu::DeviceDescriptor {
            label: Some("gptj"),
            required_features: features,
            experimental_features: if features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX) {
                // SAFETY: an experimental feature may have bugs, so matmuls on matrix units are compared with others on
                // the device itself before they are used.
                unsafe { wgpu::ExperimentalFeatures::enabled() }
            } else {
                wgpu::ExperimentalFeatures::disabled()
            },
            required_limits: adapter.limits(),
            // Nearly every buffer is larger than a block of wgpu's own allocator; larger blocks would only leave memory
            // unused.
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..Default::default()
        }
    }

    async fn assemble(
        adapter: &wgpu::Adapter,
        info: AdapterInfo,
        device: wgpu::Device,
        queue: wgpu::Queue,
        options: &GpuOptions,
    ) -> Self {
        let (features, limits) = (usable_features(options) & device.features(), device.limits());
        let cooperative = features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX)
            && limits.max_compute_workgroup_storage_size >= COOPMAT_BYTES;
        let cache_dir = options.cache_dir.as_deref().map(|path| CacheDir::new(path, &info));
        let pipeline_cache = match &cache_dir {
            Some(directory) => PipelineCache::open(&device, &adapter.get_info(), directory).await,
            None => None,
        };

        Self(Arc::new(Inner {
            max_buffer: options.max_buffer.min(limits.max_buffer_size),
            max_binding: options.max_binding.min(limits.max_storage_buffer_binding_size),
            specialisation: Specialisation {
                f16: features.contains(wgpu::Features::SHADER_F16),
                subgroups: match info.subgroups {
                    _ if !features.contains(wgpu::Features::SUBGROUP) => Subgroups::None,
                    Some((8, 8)) => options.subgroups,
                    _ => Subgroups::OfAnySize,
                },
            },
            matrix_sides: if cooperative { adapter::matrix_sides(adapter) } else { Vec::new() },
            checked: options.checked,
            dry_run: options.dry_run,
            cache_dir,
            pipeline_cache,
            info,
            device,
            queue,
            failure: Arc::default(),
            created: Counters::default(),
        }))
    }

    /// The adapter behind this GPU.
    pub fn info(&self) -> &AdapterInfo {
        &self.0.info
    }

    /// The abilities that choose the version of each shader.
    #[doc(hidden)]
    pub fn specialisation(&self) -> Specialisation {
        self.0.specialisation
    }

    /// The sides of the square matrices of f16 that this GPU's matrix units multiply to f32 sums, largest first, tested
    /// or not.
    #[doc(hidden)]
    pub fn matrix_sides(&self) -> &[u32] {
        &self.0.matrix_sides
    }

    /// The largest part of a buffer that a kernel can see, in bytes; a larger tensor is split.
    pub fn max_binding(&self) -> u64 {
        self.0.max_binding.min(self.0.max_buffer)
    }

    /// The GPU's memory in bytes, if its driver reports it.
    pub fn memory(&self) -> Option<u64> {
        self.0.info.memory.filter(|_| !self.is_dry_run())
    }

    /// Counts of the objects created so far.
    #[doc(hidden)]
    pub fn created(&self) -> Created {
        let counters = &self.0.created;
        Created {
            buffers: counters.buffers.load(Ordering::Relaxed),
            buffer_bytes: counters.buffer_bytes.load(Ordering::Relaxed),
            bind_groups: counters.bind_groups.load(Ordering::Relaxed),
            pipelines: counters.pipelines.load(Ordering::Relaxed),
        }
    }

    /// Bytes that the allocator holds of the GPU's memory, for buffers of the engine and of wgpu itself; `None` if the
    /// API allocates by itself.
    #[doc(hidden)]
    pub fn allocated_bytes(&self) -> Option<u64> {
        self.device().generate_allocator_report().map(|report| report.total_reserved_bytes)
    }

    /// Reports the first failure since the GPU was opened, if there was one.
    ///
    /// # Errors
    /// [`Error::Gpu`] with the driver's message.
    pub fn check(&self) -> Result<()> {
        let failure = self.0.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.as_ref().map_or(Ok(()), |message| Err(Error::Gpu(message.clone())))
    }

    /// Whether an earlier process left compiled pipelines for this adapter and driver in
    /// [`GpuOptions::cache_dir`](super::GpuOptions::cache_dir).
    #[doc(hidden)]
    pub fn found_pipelines(&self) -> bool {
        self.pipeline_cache().is_some_and(PipelineCache::found)
    }

    /// Writes the compiled pipelines to [`GpuOptions::cache_dir`](super::GpuOptions::cache_dir), if some are not there
    /// yet. Does nothing if the option is `None` or the driver does not export its pipelines.
    ///
    /// # Errors
    /// [`Error::Write`](crate::checkpoint::Error::Write) if the file cannot be written. Only time is lost.
    pub fn save_pipelines(&self) -> Result<()> {
        match (self.pipeline_cache(), self.cache_dir()) {
            (Some(cache), Some(directory)) => cache.save(directory),
            _ => Ok(()),
        }
    }

    pub(super) fn device(&self) -> &wgpu::Device {
        &self.0.device
    }

    pub(super) fn queue(&self) -> &wgpu::Queue {
        &self.0.queue
    }

    pub(super) fn is_checked(&self) -> bool {
        self.0.checked
    }

    pub(crate) fn cache_dir(&self) -> Option<&CacheDir> {
        self.0.cache_dir.as_ref()
    }

    pub(super) fn pipeline_cache(&self) -> Option<&PipelineCache> {
        self.0.pipeline_cache.as_ref()
    }

    pub(super) fn is_dry_run(&self) -> bool {
        self.0.dry_run
    }

    /// Creates a buffer of zeros; an allocation that fails is an error here, not later.
    pub(super) async fn create_buffer(
        &self,
        label: &str,
        size: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer> {
        let out_of_memory = |reason: String| Error::OutOfMemory { what: label.to_owned(), bytes: size, reason };
        if size > self.0.max_buffer {
            let limit = self.0.max_buffer;
            return Err(out_of_memory(format!("{} allows buffers of at most {limit} bytes", self.0.info.name)));
        }
        let size = if self.is_dry_run() { size.min(STAGING_BYTES) } else { size };
        let descriptor = wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false };
        self.0.created.buffers.fetch_add(1, Ordering::Relaxed);
        self.0.created.buffer_bytes.fetch_add(size, Ordering::Relaxed);
        self.attempt(|| self.device().create_buffer(&descriptor)).await.map_err(out_of_memory)
    }

    /// Does some work on the device. A refusal by wgpu or the driver is returned, and does not count as a failure.
    pub(crate) async fn attempt<T>(&self, work: impl FnOnce() -> T) -> Result<T, String> {
        use wgpu::ErrorFilter::{Internal, OutOfMemory, Validation};
        // Scopes belong to this thread, which an await may leave.
        let (done, errors) = {
            let scopes = [OutOfMemory, Internal, Validation].map(|filter| self.device().push_error_scope(filter));
            let done = work();
            let [memory, internal, validation] = scopes;
            (done, [validation.pop(), internal.pop(), memory.pop()])
        };
        for error in errors {
            if let Some(error) = error.await {
                return Err(error.to_string());
            }
        }
        Ok(done)
    }

    pub(super) fn create_bind_group(
        &self,
        label: &str,
        pipeline: &wgpu::ComputePipeline,
        buffers: &[&wgpu::Buffer],
    ) -> wgpu::BindGroup {
        assert!(buffers.len() <= 8, "{label} binds {} buffers; kernels bind at most eight", buffers.len());
        let entries: Vec<_> = (0..)
            .zip(buffers)
            .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
            .collect();
        self.0.created.bind_groups.fetch_add(1, Ordering::Relaxed);
        self.device().create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(label),
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        })
    }

    pub(super) fn create_pipeline(&self, descriptor: &wgpu::ComputePipelineDescriptor<'_>) -> wgpu::ComputePipeline {
        self.0.created.pipelines.fetch_add(1, Ordering::Relaxed);
        self.device().create_compute_pipeline(descriptor)
    }

    /// Waits until the GPU has done all work up to `submission`, or all of it.
    ///
    /// On native targets it blocks, so that any executor will do.
    #[expect(clippy::unused_async, reason = "a wait for the GPU is async, so that it can run where it must not block")]
    #[cfg(not(target_family = "wasm"))]
    pub(super) async fn wait(&self, submission: Option<wgpu::SubmissionIndex>) -> Result<()> {
        self.device()
            .poll(wgpu::PollType::Wait { submission_index: submission, timeout: None })
            .map_err(|error| Error::Gpu(error.to_string()))?;
        self.check()
    }

    /// The same in a browser, which polls the device itself and forbids blocking: waits for all submitted work.
    #[cfg(target_family = "wasm")]
    pub(super) async fn wait(&self, _submission: Option<wgpu::SubmissionIndex>) -> Result<()> {
        let (sender, done) = futures_channel::oneshot::channel();
        self.queue().on_submitted_work_done(move || _ = sender.send(()));
        done.await.map_err(|_| Error::Gpu("the browser dropped a wait".to_owned()))?;
        self.check()
    }
}

/// The features that the engine can use, as far as the options allow.
fn usable_features(options: &GpuOptions) -> wgpu::Features {
    let mut features = wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::PIPELINE_CACHE;
    features.set(wgpu::Features::SHADER_F16, options.f16);
    features.set(wgpu::Features::SUBGROUP, options.subgroups > Subgroups::None);
    let cooperative = options.cooperative_matrix && options.f16 && options.subgroups > Subgroups::None;
    features.set(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX, cooperative);
    features
}

fn keep_first(failure: &Mutex<Option<String>>, message: String) {
    failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(message);
}
