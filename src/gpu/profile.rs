//! The time that recorded work takes.
//!
//! An adapter with timestamps takes the time itself at both ends of a pass; otherwise the host's clock runs from the
//! submission until the work is done. On a software adapter the two are the same, so the host's is used.

use std::time::Duration;

use web_time::Instant;

use super::{Gpu, Plan, Readback, Sizes, Submission};
use crate::error::Result;

/// The clock that measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Clock {
    /// The GPU's, from the first dispatch to the end of the last.
    Gpu,
    /// The host's, submission and waiting included.
    Host,
}

impl Clock {
    /// Shorter samples would mostly measure the clock's resolution and, on the host, the way to the GPU.
    fn sample(self) -> Duration {
        match self {
            Self::Gpu => Duration::from_millis(2),
            Self::Host => Duration::from_millis(20),
        }
    }
}

/// The fewest samples, so that they have a median and a spread.
const FEWEST_SAMPLES: usize = 5;

/// The most samples.
const MOST_SAMPLES: usize = 25;

/// Between the two, samples are taken for this long.
const SAMPLING: Duration = Duration::from_millis(200);

/// The most runs of a sample, whatever the clock says.
const MAX_RUNS: usize = 10_000;

/// Measures on one GPU.
pub struct Profiler {
    gpu: Gpu,
    timestamps: Option<Timestamps>,
}

/// The GPU's times of the beginning and end of a pass, and their way to the host.
struct Timestamps {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    readback: Readback,
}

/// Bytes of two timestamps.
const TIMESTAMP_BYTES: u64 = 16;

impl Profiler {
    /// Uses the GPU's own clock if it has one.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory) if the GPU cannot hold two timestamps.
    pub async fn new(gpu: &Gpu) -> Result<Self> {
        let has_clock = gpu.device().features().contains(wgpu::Features::TIMESTAMP_QUERY);
        let timestamps = if has_clock && !gpu.info().is_software() { Some(Timestamps::new(gpu).await?) } else { None };
        Ok(Self { gpu: gpu.clone(), timestamps })
    }

    /// The clock that measures.
    pub fn clock(&self) -> Clock {
        if self.timestamps.is_some() { Clock::Gpu } else { Clock::Host }
    }

    /// The time of one run of `plans`, which do the same over different memory and run in turn: some samples, each the
    /// mean of enough runs for the clock. Once `stopped`, it takes no further samples.
    ///
    /// # Errors
    /// [`Error::Gpu`](crate::Error::Gpu) if the GPU failed.
    pub async fn samples(
        &self,
        plans: &[Plan],
        sizes: impl Into<Sizes>,
        stopped: impl Fn() -> bool,
    ) -> Result<Vec<Duration>> {
        assert!(!plans.is_empty(), "at least one plan is measured");
        let sizes = sizes.into();
        let mut in_turn = plans.iter().cycle();
        let mut sample = async |runs| self.sample(in_turn.by_ref().take(runs), sizes).await;
        // The first run pays for work that drivers postpone until then.
        sample(1).await?;
        let mut runs = 1;
        let mut elapsed = sample(runs).await?;
        while elapsed < self.clock().sample() && runs < MAX_RUNS {
            let growth = self.clock().sample().as_secs_f64() / elapsed.as_secs_f64().max(1e-9) * 1.2;
            runs = ((runs as f64 * growth.clamp(2.0, 16.0)) as usize).min(MAX_RUNS);
            elapsed = sample(runs).await?;
        }
        let mut samples = vec![elapsed];
        let needs_more = |samples: &[Duration]| {
            let sampled: Duration = samples.iter().sum();
            samples.len() < FEWEST_SAMPLES || (samples.len() < MOST_SAMPLES && sampled < SAMPLING)
        };
        while needs_more(&samples) && !stopped() {
            samples.push(sample(runs).await?);
        }
        Ok(samples.into_iter().map(|sample| sample / runs as u32).collect())
    }

    /// Runs plans one after another in one pass.
    async fn sample<'p>(&self, plans: impl Iterator<Item = &'p Plan>, sizes: Sizes) -> Result<Duration> {
        let mut submission = Submission::new(&self.gpu, "sample");
        {
            let timestamp_writes = self.timestamps.as_ref().map(|timestamps| wgpu::ComputePassTimestampWrites {
                query_set: &timestamps.queries,
                beginning_of_pass_write_index: Some(0),
                end_of_pass_write_index: Some(1),
            });
            let descriptor = wgpu::ComputePassDescriptor { label: Some("sample"), timestamp_writes };
            let mut pass = submission.encoder().begin_compute_pass(&descriptor);
            for plan in plans {
                plan.encode(&mut pass, sizes);
            }
        }
        if let Some(Timestamps { queries, resolved, readback }) = &self.timestamps {
            submission.encoder().resolve_query_set(queries, 0..2, resolved, 0);
            submission.read_buffer(resolved, TIMESTAMP_BYTES, readback);
        }
        let encoded = submission.encode();
        let start = Instant::now();
        let submitted = encoded.submit();
        if self.timestamps.is_none() {
            submitted.wait().await?;
            return Ok(start.elapsed());
        }
        let ticks: Vec<u64> = submitted.take().await?;
        let nanoseconds = ticks[1].saturating_sub(ticks[0]) as f64 * f64::from(self.gpu.queue().get_timestamp_period());
        Ok(Duration::from_secs_f64(nanoseconds * 1e-9))
    }
}

impl Timestamps {
    async fn new(gpu: &Gpu) -> Result<Self> {
        let descriptor =
            wgpu::QuerySetDescriptor { label: Some("timestamps"), ty: wgpu::QueryType::Timestamp, count: 2 };
        let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        Ok(Self {
            queries: gpu.device().create_query_set(&descriptor),
            resolved: gpu.create_buffer("timestamps", TIMESTAMP_BYTES, usage).await?,
            readback: Readback::new(gpu, "timestamps", TIMESTAMP_BYTES).await?,
        })
    }
}

#[cfg(test)]
mod tests {
    use pollster::block_on;

    use super::*;
    use crate::error::Error;
    use crate::gpu::{Axis, Dispatch, Dtype, GpuOptions, Pipelines, Tensor};

    const COUNT: &str = "
        @group(0) @binding(0) var<storage, read_write> counts: array<u32>;
        @compute @workgroup_size(64) fn count(@builtin(global_invocation_id) id: vec3u) {
            for (var i = 0u; i < 4096u; i++) { counts[id.x] += i ^ counts[id.x]; }
        }";

    /// Also on software adapters, whose GPU clock the profiler does not use otherwise.
    #[test]
    fn either_clock_measures() {
        let gpu = match block_on(Gpu::open(&GpuOptions::default())) {
            Ok(gpu) => gpu,
            Err(Error::Adapter(reason)) => {
                let required = std::env::var_os("GPTJ_REQUIRE_GPU").is_some_and(|value| value == "1");
                assert!(!required, "GPTJ_REQUIRE_GPU is set, but: {reason}");
                return eprintln!("SKIPPED, nothing was tested: {reason}");
            }
            Err(error) => panic!("{error}"),
        };
        let counts = block_on(Tensor::whole(&gpu, "counts", 1, 1024, Dtype::U32)).expect("room");
        let mut plan = Plan::default();
        let grid = [Axis::Fixed(16), Axis::Fixed(1), Axis::Fixed(1)];
        plan.run(vec![Dispatch::new(&Pipelines::new(&gpu), COUNT, "count", &[], &[(&counts).into()], grid)]);
        let plans = [plan];

        let host = Profiler { gpu: gpu.clone(), timestamps: None };
        let mut profilers = vec![host];
        if gpu.device().features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            let timestamps = Some(block_on(Timestamps::new(&gpu)).expect("room"));
            profilers.push(Profiler { gpu: gpu.clone(), timestamps });
        }
        for profiler in profilers {
            let samples = block_on(profiler.samples(&plans, [0; 3], || false)).expect("the GPU works");
            assert!((FEWEST_SAMPLES..=MOST_SAMPLES).contains(&samples.len()), "{:?}", profiler.clock());
            assert!(samples.iter().all(|&sample| sample > Duration::ZERO), "{:?}: {samples:?}", profiler.clock());
            let stopped = block_on(profiler.samples(&plans, [0; 3], || true)).expect("the GPU works");
            assert_eq!(stopped.len(), 1, "{:?}", profiler.clock());
        }
    }
}
